"""README and WORKSPACE.md keep their word: their commands run, their tables are not stale."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from launch.cli import registry
from launch.reports import documents, tables

ROOT = pathlib.Path(__file__).parents[1]


def blocks(name: str, language: str) -> list[str]:
  """Fenced code blocks of a document."""
  text = (ROOT / name).read_text()
  return re.findall(rf'```{language}\n(.*?)```', text, flags=re.S)


def commands(name: str) -> list[str]:
  """Lines of the shell blocks, continuation lines joined, comments dropped."""
  lines = '\n'.join(blocks(name, 'sh')).replace('\\\n', ' ').splitlines()
  return [line.split('  #')[0].strip() for line in lines if line.strip() and line[0] != '#']


def test_readme_tables_are_made_from_the_committed_results():
  readme = (ROOT / 'README.md').read_text()
  assert tables.load(), 'no committed results'
  assert documents.insert(readme) == readme, 'README is stale: run python -m launch.results'


def test_every_make_target_named_exists():
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), flags=re.M))
  named = {c.split()[1] for c in commands('README.md') if c.startswith('make ')}
  assert named and named <= targets


def test_readme_commands_run(tmp_path):
  """Each launch command, in order, on a shortened run; those on MNIST only have to parse."""
  lines = [c for c in commands('README.md') if c.startswith('python -m launch')]
  assert any('launch.train' in c for c in lines) and any('launch.evaluate' in c for c in lines)
  for line in lines:
    words = shlex.split(line)
    if 'mnist' in line:
      flags = dict(w[2:].split('=', 1) for w in words if w.startswith('--') and w[:5] != '--set')
      if 'experiment' in flags:
        overrides = [w[6:] for w in words if w.startswith('--set=')]
        registry.resolve(registry.load(flags['experiment']), flags.get('variant'), overrides)
      if 'story' in flags:
        registry.load_story(flags['story'])
      continue
    if 'launch.audit' in line:
      continue  # below, with the file it is about
    if '--where=' in line:
      continue  # in tests/launch/backends/test_backends.py
    words = [sys.executable, *words[1:]]
    if 'launch.train' in line:
      words += ['--set=num_steps=200', '--set=num_hidden=4']
    if 'launch.sweep' in line:
      words += ['--set=num_steps=20', '--set=num_hidden=4', '--seeds=1', '--noevaluate']
    if 'launch.story' in line:
      words += ['--set=num_steps=2', '--only=independent pixels']
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, line + done.stdout + done.stderr


def test_readme_estimator_is_audited_as_readme_shows(tmp_path):
  """The file and the command of README: what is found, and CD-1 with CD-1's bias."""
  text = (ROOT / 'README.md').read_text()
  source, = blocks('README.md', 'python')
  assert len(source.strip().splitlines()) < 15
  line, = [c for c in commands('README.md') if 'launch.audit' in c]
  name, = re.findall(r'--estimator=(\w+\.py):', line)
  (tmp_path / name).write_text(source)
  words = [sys.executable, *shlex.split(line)[1:], '--nocompare', '--estimator=cd1']
  done = subprocess.run(words, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                        capture_output=True, text=True, timeout=250)
  assert done.returncode == 1 and 'declared unbiased by default' in done.stderr, done.stderr
  assert (tmp_path / 'runs' / 'audit.png').exists()

  def found(output):
    """Name -> (declared and found, |bias|, variance)."""
    rows = re.findall(r'^ +(\S*cd1) +(\D+?) +([\d.]+) +\[.*?\] +\S+ of \S+ +([\d.]+)', output,
                      flags=re.M)
    return {row[0]: (row[1].split(), float(row[2]), float(row[3])) for row in rows}

  shown, printed = found(text), found(done.stdout)
  assert set(printed) == {f'{name}:cd1', 'cd1'} <= set(shown)
  for key, (verdict, bias, variance) in printed.items():
    assert verdict == shown[key][0]
    # Of 2^14 draws |bias| has noise of some 0.005, the variance of some 0.005.
    np.testing.assert_allclose((bias, variance), shown[key][1:], atol=0.03)
  np.testing.assert_allclose(*(x[1:] for x in printed.values()), atol=0.04)


def test_workspace_examples_run(tmp_path):
  """Both walks of WORKSPACE.md: the estimator is audited, the experiment trained and scored."""
  estimator, experiment = blocks('WORKSPACE.md', 'python')
  env = {**os.environ, 'PYTHONPATH': str(ROOT)}

  def run(*words):
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True,
                          text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  (tmp_path / 'estimator.py').write_text(estimator)
  assert run('estimator.py').startswith('biased True')
  lines = [shlex.split(c) for c in commands('WORKSPACE.md')]
  path, = {w.split('=')[1] for words in lines for w in words if w.startswith('--experiment=')}
  (tmp_path / path).write_text(experiment)
  for words in lines:
    output = run(*words[1:])
  assert '"kind": "exact"' in output.splitlines()[-1]


@pytest.mark.parametrize('name', ['README.md', 'WORKSPACE.md', 'CHANGELOG.md'])
def test_files_named_in_documents_exist(name):
  text = (ROOT / name).read_text()
  rooms = 'gen_models|experiments|launch|tests|benchmarks'
  for path in re.findall(rf'`((?:{rooms})/[\w/.]+\.\w+)`', text):
    assert (ROOT / path).exists(), path
