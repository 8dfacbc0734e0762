"""Commands in processes that are forked from one in which the libraries are imported already.

To import JAX, orbax and matplotlib takes a command seconds, and the tests run more than a hundred
commands. Nothing of this project is imported before the fork, and no device is touched.
"""

import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).parents[2]
_LIBRARIES = ('jax', 'flax.linen', 'optax', 'orbax.checkpoint', 'matplotlib.pyplot', 'absl.flags',
              'tensorboardX.event_file_writer', 'sklearn', 'PIL.Image')
# Variables that no library reads while it is imported; with others changed a process is started.
_LATE = ('GEN_MODELS_', 'XDG_', 'TFDS_', 'PYTEST_')


class Server:
  """A process with the libraries, from which those of commands are forked."""

  def __init__(self):
    self._environment = dict(os.environ)
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'tests.launch.forked'], cwd=ROOT, encoding='utf-8',
      stdin=subprocess.PIPE, stdout=subprocess.PIPE)

  def can_run(self, environment: dict[str, str]) -> bool:
    """Whether a command in this environment may be forked from what was imported in another."""
    changed = {k for k, _ in environment.items() ^ self._environment.items()}
    return all(name.startswith(_LATE) for name in changed)

  def run(self, module: str, words: list[str], environment: dict[str, str], timeout: float,
          cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    """As subprocess.run of `python -m module words`, by default from the root of the project."""
    with tempfile.TemporaryDirectory() as folder:
      out, err = os.path.join(folder, 'out'), os.path.join(folder, 'err')
      task = dict(module=module, words=words, environment=environment, out=out, err=err,
                  cwd=str(cwd))
      print(json.dumps(task), file=self._process.stdin, flush=True)
      pid = int(self._process.stdout.readline())
      ready, _, _ = select.select([self._process.stdout], [], [], timeout)
      if not ready:
        os.killpg(pid, signal.SIGKILL)
      status = int(self._process.stdout.readline())
      stdout, stderr = (pathlib.Path(p).read_text(encoding='utf-8') for p in (out, err))
    if not ready:
      raise subprocess.TimeoutExpired([module, *words], timeout, stdout, stderr)
    return subprocess.CompletedProcess([module, *words], status, stdout, stderr)


def _serve() -> dict | None:
  """Forks a process for each line of standard input: its task there, None here at the end."""
  for name in _LIBRARIES:
    importlib.import_module(name)
  warnings.filterwarnings('ignore', message=r'os.fork\(\) was called')  # before any device is there
  while line := sys.stdin.readline():
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
      return json.loads(line)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
  return None


def _become(task: dict) -> None:
  """Gives this process the streams, arguments and variables of a command."""
  os.setpgid(0, 0)  # so that it can be ended with its children
  for descriptor, path in ((0, os.devnull), (1, task['out']), (2, task['err'])):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, descriptor)
    os.close(file)
  os.chdir(task['cwd'])
  os.environ.clear()
  os.environ.update(task['environment'])
  sys.argv = ['-m', *task['words']]


if __name__ == '__main__':
  if (given := _serve()) is not None:
    _become(given)
    runpy.run_module(given['module'], run_name='__main__', alter_sys=True)
