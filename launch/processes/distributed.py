"""Several processes that run one program: joining, stopping and leaving together.

Environment variables, set by a launcher or by the user, say which processes join. They are the same
in all of them, except for the last one:

  GEN_MODELS_DISTRIBUTED=auto       ask the cluster: Slurm under srun, a TPU pod
  GEN_MODELS_COORDINATOR=host:port  or name them: where process 0 listens,
  GEN_MODELS_PROCESSES=N            how many there are, and
  GEN_MODELS_PROCESS=i              which of 0 .. N - 1 this one is

With neither, a process runs by itself. Each waits GEN_MODELS_PEER_SECONDS (120) for the others.

A process that fails ends through `leave`: JAX ends a process by waiting for the others, which would
keep them waiting for minutes. A worker of launch/processes/supervisor.py also reports its steps to
the supervisor (`heartbeat`), and does not outlive it.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

# Exit statuses besides 1, an error that names its remedy (sysexits.h names these two).
CRASHED = 70  # any other error, after its traceback
LOST = 75  # another process is gone: it was not this one's fault

HEARTBEAT_SECONDS = 30
SUPERVISOR, HEARTBEAT = 'GEN_MODELS_WORKER_OF', 'GEN_MODELS_HEARTBEAT_FD'

_COORDINATOR, _PROCESSES, _PROCESS = (
  f'GEN_MODELS_{name}' for name in ('COORDINATOR', 'PROCESSES', 'PROCESS'))
# By what it says: jax raises it as RuntimeError, ValueError or its own class, as it happens.
_GONE = re.compile(r'^[A-Z_]+: .*(gloo|nccl|connection (closed|reset|refused)|coordination|'
                   r'heartbeat|preempt|barrier|socket)', re.IGNORECASE | re.DOTALL)


class CannotJoin(ValueError):
  """The environment does not say which processes belong together."""


class _Process:
  """The place of this process among the others."""

  index, count = 0, 1
  supervised = False
  heartbeat_fd = None


def end_with_supervisor() -> None:
  """Makes a worker end when its supervisor does, however that ended; call first of all."""
  # Taken out of the environment: what a worker starts is no worker.
  parent, fd = os.environ.pop(SUPERVISOR, None), os.environ.pop(HEARTBEAT, None)
  if parent is None:
    return
  _Process.supervised, _Process.heartbeat_fd = True, int(fd) if fd else None
  if sys.platform == 'linux':
    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2): works on a stopped process as well
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
  else:
    threading.Thread(target=_end_when_gone, args=(int(parent),), daemon=True).start()
  if os.getppid() != int(parent):  # it was gone before
    os._exit(LOST)


def _end_when_gone(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(0.5)
  os._exit(LOST)


def is_single() -> bool:
  """Whether the environment names no other processes."""
  return not (os.environ.get('GEN_MODELS_DISTRIBUTED') or os.environ.get(_COORDINATOR))


def join() -> None:
  """Joins the processes the environment names; call before anything touches jax's devices.

  Raises:
    CannotJoin: it names them badly, or the coordinator's port is taken.
  """
  if is_single():
    return
  seconds = _seconds()
  options: dict[str, Any]
  if os.environ.get(_COORDINATOR):
    where, options = _explicit()
  elif os.environ['GEN_MODELS_DISTRIBUTED'] == 'auto':
    where, options = 'of the cluster', {}
  else:
    raise CannotJoin("GEN_MODELS_DISTRIBUTED is 'auto' or not set; "
                     'GEN_MODELS_COORDINATOR=host:port names the processes')
  import jax

  # jax would abort with pages of C++ when it has waited long enough: this reports it in a line.
  waiting = threading.Timer(seconds, _give_up, [where, options.get('process_id'), seconds])
  waiting.daemon = True
  waiting.start()
  try:
    # It takes SIGTERM for itself, and orbax asks it by other numbers than a loop could: of two
    # that ask differently none is ever answered. StopTogether agrees without it.
    jax.config.update('jax_enable_preemption_service', False)
    jax.distributed.initialize(**options, initialization_timeout=seconds + 30,
                               heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
  except (ValueError, RuntimeError) as e:
    hint = '' if options else ' (GEN_MODELS_DISTRIBUTED=auto works under srun and on TPU pods; ' \
                              'elsewhere set GEN_MODELS_COORDINATOR)'
    raise CannotJoin(f'cannot join the processes {where}: {_first_line(e)}{hint}') from e
  finally:
    waiting.cancel()
  _Process.index, _Process.count = jax.process_index(), jax.process_count()
  with _quiet_stdout():
    wait_for_all('joined')


@contextlib.contextmanager
def _quiet_stdout():
  """Gloo greets its peers on standard output, from C++, when they first meet."""
  sys.stdout.flush()
  kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nothing, 1)
  try:
    yield
  finally:
    os.dup2(kept, 1)
    os.close(kept)
    os.close(nothing)


def _seconds() -> int:
  text = os.environ.get('GEN_MODELS_PEER_SECONDS', '120')
  if not text.isdigit() or not int(text):
    raise CannotJoin(f'GEN_MODELS_PEER_SECONDS is a number of seconds, not {text!r}')
  return int(text)


def _explicit() -> tuple[str, dict[str, Any]]:
  """(where, arguments of jax.distributed.initialize) from the environment."""
  address = os.environ[_COORDINATOR]
  host, _, port = address.rpartition(':')
  if not host or not port.isdigit():
    raise CannotJoin(f'{_COORDINATOR} is host:port, not {address!r}')
  numbers = []
  for name in (_PROCESSES, _PROCESS):
    if not os.environ.get(name, '').isdigit():
      raise CannotJoin(f'{_COORDINATOR} is set, so {name} must be a number, '
                       f'not {os.environ.get(name)!r}')
    numbers.append(int(os.environ[name]))
  count, index = numbers
  if index >= count:
    raise CannotJoin(f'{_PROCESS}={index}, but of {_PROCESSES}={count} the last is {count - 1}')
  options = dict(coordinator_address=address, num_processes=count, process_id=index)
  if host in ('127.0.0.1', 'localhost'):  # else jax listens on all interfaces
    options['coordinator_bind_address'] = address
  if index == 0:
    _require_free(host, int(port))
  return f'at {address}', options


def _require_free(host: str, port: int) -> None:
  with contextlib.suppress(socket.gaierror), socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind((host if host in ('127.0.0.1', 'localhost') else '', port))
    except socket.gaierror:
      raise
    except OSError as e:
      raise CannotJoin(f'process 0 cannot listen on port {port} ({e.strerror}): '
                       f'choose another in {_COORDINATOR}') from None


def _give_up(where, index, seconds) -> None:
  missing = 'process 0 does not answer' if index else 'not all of the other processes came'
  print(f'error: {missing} {where} within {seconds} s: are all started? '
        'GEN_MODELS_PEER_SECONDS waits longer', file=sys.stderr, flush=True)
  os._exit(LOST)


def is_first() -> bool:
  """Whether this process writes files and output for all."""
  return _Process.index == 0


def count() -> int:
  """How many processes have joined; 1 when none has."""
  return _Process.count


def wait_for_all(what: str) -> None:
  """Returns when every process is here."""
  if _Process.count > 1:
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices(what)


def heartbeat(step: int | None) -> None:
  """Tells the supervisor that this step is done; None: the rest may take any time."""
  if _Process.heartbeat_fd is not None:
    os.pwrite(_Process.heartbeat_fd, f'{"" if step is None else step:<20}'.encode(), 0)


def stop_signals() -> list[signal.Signals]:
  """The signals that ask a process to save and leave: SIGTERM, SIGINT, SIGHUP.

  SIGHUP says that the terminal is gone; it is not among them where it is ignored, as under nohup.
  """
  return [signal.SIGTERM, signal.SIGINT,
          *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else [])]


class StopTogether:
  """Context in which a signal to stop, to any process, makes all stop after the same dispatch.

  All must call what is returned equally often: they exchange which signals they have received.
  """

  def __enter__(self):
    from jax.experimental import multihost_utils
    asked = False

    def ask(*_):
      nonlocal asked
      asked = True

    def should_stop():
      return bool(np.any(multihost_utils.process_allgather(np.asarray(asked))))

    self._previous = {s: signal.signal(s, ask) for s in stop_signals()}
    return should_stop

  def __exit__(self, *exception):
    for number, handler in self._previous.items():
      signal.signal(number, handler)


def disconnect() -> None:
  """Leaves the other processes; afterwards this process must not run a JAX program."""
  if _Process.count > 1:
    import jax
    jax.distributed.shutdown()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _Process.count = 1


def run_separately(module: str, *args: str) -> None:
  """Runs `python -m module` on the CPU, in a process that does not join the others.

  Raises:
    OSError: it failed; its own output says why.
  """
  ours = ('GEN_MODELS_DISTRIBUTED', _COORDINATOR, _PROCESSES, _PROCESS)
  environment = {k: v for k, v in os.environ.items() if k not in ours}
  environment |= {'JAX_PLATFORMS': 'cpu', SUPERVISOR: str(os.getpid())}
  done = subprocess.run([sys.executable, '-m', module, *args], env=environment,
                        stdout=subprocess.DEVNULL, check=False)
  if done.returncode:
    raise OSError(f'python -m {module} {" ".join(args)} ended with status {done.returncode}')


def lost_peer(error: Exception) -> str | None:
  """The error message where an error only shows that another process is gone; else None."""
  if _Process.count < 2 or not _GONE.search(str(error)):
    return None
  return f'process {_Process.index} has lost contact with another process ({_first_line(error)})'


def leave(status: int):
  """Ends this process at once: without waiting for other processes or for threads of libraries."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def is_awaited() -> bool:
  """Whether a supervisor or other processes wait for this process."""
  return _Process.supervised or _Process.count > 1


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
