"""How commands end: by signals and by errors."""

import signal
import subprocess

import pytest

from tests.launch.commands import command


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_heeded_where_python_loses_its_exception(number):
  process = command(f'''
    import os, sys, time
    class Loses:
      def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
    def main(argv):
      Loses()
      print('lost', flush=True)
      time.sleep(60)
    ''', stderr=subprocess.PIPE)
  out, error = process.communicate(timeout=30)
  assert process.returncode == 128 + number and out == 'lost\n'
  assert f'stopped by {number.name}' in error


def test_an_error_waits_for_no_thread():
  process = command('''
    import threading, time
    def main(argv):
      threading.Thread(target=time.sleep, args=[200]).start()
      raise PermissionError(13, 'Permission denied', 'checkpoints')
    ''', stderr=subprocess.PIPE)
  _, error = process.communicate(timeout=60)
  assert process.returncode == 1
  assert error.startswith('error: Permission denied: checkpoints; use a directory that you may')
