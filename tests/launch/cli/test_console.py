"""Output meant for people ends no command: closed pipes and terminals, encodings."""

import contextlib
import os
import pty
import signal
import subprocess
import sys

import pytest

from launch.cli import console
from tests.launch.commands import ROOT, command, run, small, wait_for


@pytest.fixture(name='recorded')
def fixture_recorded(tmp_path, monkeypatch):
  monkeypatch.setattr(console._Record, 'path', None)
  console.record(tmp_path)
  return lambda: (tmp_path / 'log.txt').read_text(encoding='utf-8').splitlines()[1:]


@contextlib.contextmanager
def writer(descriptor, encoding='utf-8'):
  """A Console over a descriptor."""
  console.install()  # only registers what stands for characters: pytest has replaced the streams
  with open(descriptor, 'w', encoding=encoding, buffering=1) as stream:
    made = console.Console(stream)
    yield made
    made.flush()


@pytest.mark.parametrize('ends', [os.pipe, pty.openpty])
def test_what_nobody_reads_any_more_is_written_to_the_record(ends, recorded):
  reader, end = ends()
  with writer(end) as out:
    print('read', file=out, flush=True)
    os.close(reader)
    for word in ('not', 'read'):
      print(word, 'any more', file=out, flush=True)
    os.write(end, b'nor does what a library writes fail')
  assert recorded() == ['read', 'not any more', 'read any more']


def test_a_full_disk_loses_lines_and_no_more():
  # /dev/full is a disk that is always full.
  with open('/dev/full', 'w', encoding='utf-8') as full, writer(os.dup(full.fileno())) as out:
    print('lost', file=out, flush=True)
    assert os.readlink(f'/proc/self/fd/{out.fileno()}') == '/dev/full'


@pytest.mark.parametrize('encoding, shown', [
  ('utf-8', '−1.5 ± 0.1 λ'), ('iso-8859-1', '-1.5 ± 0.1 \\u03bb'),
  ('ascii', '-1.5 +- 0.1 \\u03bb')])
def test_every_console_gets_what_it_can_show(encoding, shown, recorded):
  reader, end = os.pipe()
  with writer(end, encoding) as out:
    print('−1.5 ± 0.1 λ', file=out)
  with open(reader, encoding=encoding) as file:
    assert file.read() == shown + '\n'
  assert recorded() == ['−1.5 ± 0.1 λ']


def test_of_a_line_that_is_rewritten_in_place_the_last_state_is_recorded(recorded):
  reader, end = os.pipe()
  with writer(end) as out:
    for text in ('\r 1/2   ', '\r 2/2   ', '\n', 'done\n'):
      out.write(text)
  os.close(reader)
  assert recorded() == [' 2/2', 'done']


def test_closed_standard_streams_are_no_files_of_the_command(tmp_path):
  process = command(f'''
    import os, sys
    def main(argv):
      with open({str(tmp_path / 'file')!r}, 'w') as file:
        print('for people', flush=True)
        print('for people', file=sys.stderr, flush=True)
        os.write(2, b'of a library')
        file.write('content')
    ''', preexec_fn=lambda: [os.close(i) for i in range(3)])
  assert process.wait(30) == 0
  assert (tmp_path / 'file').read_text(encoding='utf-8') == 'content'


def test_a_list_that_is_not_read_to_its_end():
  done = subprocess.run(['bash', '-o', 'pipefail', '-c',
                         f'{sys.executable} -m launch.list | head -c 1'], cwd=ROOT,
                        capture_output=True, text=True, encoding='utf-8', timeout=100)
  assert (done.returncode, len(done.stdout), done.stderr) == (0, 1, '')


def test_a_run_outlives_its_terminal_and_saves_at_hangup(tmp_path):
  terminal, end = pty.openpty()
  workdir = tmp_path / 'run'
  words = [*small(1000000), f'--workdir={workdir}']
  process = subprocess.Popen([sys.executable, '-m', 'launch.train', *words], cwd=ROOT,
                             stdin=end, stdout=end, stderr=end)
  os.close(end)
  wait_for(workdir / 'metrics.jsonl', 1)
  os.close(terminal)
  seen = (workdir / 'metrics.jsonl').read_bytes().count(b'\n')
  wait_for(workdir / 'metrics.jsonl', seen + 3)
  process.send_signal(signal.SIGHUP)
  assert process.wait(60) == 143
  log = (workdir / 'log.txt').read_text(encoding='utf-8').splitlines()
  assert log[0].startswith('# ') and 'train --experiment=rbm_digits' in log[0]
  assert '/1000000  ' in log[-2]
  step = log[-1].removeprefix('stopped at step ').split(',')[0]
  assert (workdir / 'checkpoints' / step).is_dir()


@pytest.mark.slow
def test_a_run_where_the_locale_has_only_ascii(tmp_path):
  locale = dict(LC_ALL='POSIX', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
  run('train', *small(20), '--page', f'--workdir={tmp_path / "run"}', **locale)
  assert '−' in (tmp_path / 'run' / 'report.html').read_text(encoding='utf-8')
