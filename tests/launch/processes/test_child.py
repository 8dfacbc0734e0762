"""A command that runs another is ended: the other saves."""

import os
import signal
import time

import pytest

from tests.launch.commands import ROOT, command

CHILD = '''
import signal, sys, time
def save(*_):
  time.sleep(0.3)
  open(sys.argv[1] + '/saved', 'x').close()
  sys.exit(143)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1] + '/started', 'x').close()
time.sleep(60)
'''


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_child_of_a_command_that_is_ended_saves(tmp_path, number):
  (tmp_path / 'saves.py').write_text(CHILD)
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])}
  process = command(f'''
    import sys
    from launch.processes import child
    def main(argv):
      sys.exit(child.run('saves', [{str(tmp_path)!r}]))
    ''', env=environment)
  end = time.monotonic() + 30
  while not (tmp_path / 'started').exists():
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.02)
  process.send_signal(number)
  assert process.wait(20) == 128 + number
  while not (tmp_path / 'saved').exists():
    assert time.monotonic() < end
    time.sleep(0.02)
