"""Commands as a user types them, each in a process of its own."""

import functools
import os
import subprocess
import sys
import textwrap
import time

import numpy as np

from launch.runs import load
from tests.launch import forked

ROOT = forked.ROOT


def small(num_steps):
  """An experiment of so many updates, small enough to enumerate at once; its page takes longer."""
  return ['--experiment=rbm_digits', '--set=num_hidden=5', f'--set=num_steps={num_steps}',
          '--nopage']


SMALL = small(800)


@functools.cache
def _server():
  return forked.Server()


def run(module, *args, check=True, cwd=ROOT, **env):
  """`python -m launch.module args`; what it printed."""
  words, environment = list(map(str, args)), {**os.environ, **env}
  # Elsewhere libraries of the system forbid a fork.
  if sys.platform == 'linux' and _server().can_run(environment):
    try:
      done = _server().run(f'launch.{module}', words, environment, timeout=200, cwd=cwd)
    except BaseException:
      _server.cache_clear()  # its next answer might be of this command
      raise
  else:
    done = subprocess.run([sys.executable, '-m', f'launch.{module}', *words], cwd=cwd,
                          capture_output=True, encoding='utf-8', timeout=200,
                          env={**environment, 'PYTHONPATH': str(ROOT)})
  if check:
    assert done.returncode == 0, done.stdout + done.stderr
  return done


def command(code, **options):
  """A started process that runs `main` of this code as commands run theirs."""
  # Tests that a shell started in the background ignore SIGINT, and so would their commands.
  code = ('import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n'
          + textwrap.dedent(code) + '\nfrom launch.cli import app\napp.run(main)')
  return subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, text=True, encoding='utf-8',
                          stdout=subprocess.PIPE, **options)


def refused(module, *args, cwd=ROOT):
  """A refusal is one clear line, a non-zero status and no traceback."""
  done = run(module, *args, check=False, cwd=cwd)
  assert done.returncode != 0
  assert 'Traceback' not in done.stderr, done.stderr
  return done.stderr


def parameters(workdir):
  """(step, bits) of the last checkpoint."""
  loaded = load.run(workdir)
  return loaded.step, {k: np.asarray(v).tobytes() for k, v in loaded.params._asdict().items()}


def wait_for(path, num_lines, seconds=60):
  """Until a file has so many lines."""
  end = time.monotonic() + seconds
  while not path.exists() or path.read_bytes().count(b'\n') < num_lines:
    assert time.monotonic() < end, f'{path} did not grow'
    time.sleep(0.02)
