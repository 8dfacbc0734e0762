"""Text of source files: made again when one of them changes, and only then."""

import re
import subprocess
import sys

import experiments
import gen_models
import launch
from launch.cli import text_cache
from tests.launch.commands import ROOT


def test_the_text_is_made_again_when_a_source_changes_and_only_then(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  sources, made = tmp_path / 'sources', []
  (sources / 'below').mkdir(parents=True)
  (sources / 'a.py').write_text('a')

  def text():
    return text_cache.text('list', [str(sources)], lambda: made.append(1) or f'made {len(made)}')

  assert [text(), text()] == ['made 1', 'made 1']
  (sources / 'a.py').write_text('b')
  assert [text(), text()] == ['made 2', 'made 2']
  (sources / 'below' / 'c.py').write_text('')
  assert text() == 'made 3'
  (sources / 'below' / 'c.py').rename(sources / 'below' / 'd.py')
  assert text() == 'made 4'
  (sources / 'notes.txt').write_text('')
  (sources / '.#a.py').symlink_to('someone@somewhere')  # a lock of Emacs
  assert text() == 'made 4'


def test_a_damaged_cache_or_none_costs_the_time_and_no_more(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  path = tmp_path / 'gen_models' / 'list.json'
  assert text_cache.text('list', [], lambda: 'right') == 'right'
  whole = path.read_text()
  for damaged in ('', '{', '[]', 'null', '{}', whole.replace('"right"', '3')):
    path.write_text(damaged)
    assert text_cache.text('list', [], lambda: 'right') == 'right'
  assert path.read_text() == whole
  monkeypatch.setenv('XDG_CACHE_HOME', str(path))  # a file, below which nothing can be written
  assert text_cache.text('list', [], lambda: 'again') == 'again'


def test_launch_list_reads_the_text_without_jax(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  text_cache.text('list', [*experiments.__path__, *gen_models.__path__, *launch.__path__],
                  lambda: 'all experiments')
  done = subprocess.run([sys.executable, '-X', 'importtime', '-m', 'launch.list'], cwd=ROOT,
                        capture_output=True, text=True, timeout=60, check=True)
  loaded = set(re.findall(r'\| +(\S+)$', done.stderr, re.MULTILINE))
  assert done.stdout == 'all experiments\n'
  assert 'launch.cli.text_cache' in loaded and not loaded & {'jax', 'flax', 'optax'}
