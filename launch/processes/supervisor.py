"""Runs a command in supervised processes of this host: `--processes=N`.

N workers run the same command as one program, joined over the loopback interface. When one crashes,
is killed or hangs, the others are ended and all are started again from the last checkpoint, up to
--restarts times. An error whose message names the remedy (a bad flag, a full disk, a divergence) is
final. --processes=1 does the same for a run in one process.

Worker 0 writes to this process's standard output and error; lines of the others are shown on
standard error behind their number. Workers never outlive this process, not even after kill -9.

Exit status: 0 done; 1 an error with a message; 143 stopped by a signal, saved; 70 given up.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, NamedTuple

from absl import flags

from launch.processes import distributed

_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'Supervised processes on this host that train as one program; 1 supervises a '
  'single one. Default: this process, unsupervised.', lower_bound=1)
_RESTARTS = flags.DEFINE_integer('restarts', 3, 'How often supervised processes are started again '
                                 'after a crash or a hang.', lower_bound=0)
_HANG_MINUTES = flags.DEFINE_float('hang_minutes', 15.0, 'Supervised processes that finish no '
                                   'dispatch for so long are ended and started again.',
                                   lower_bound=0.0)
_GRACE_SECONDS = flags.DEFINE_float('grace_seconds', 60.0, 'Time for supervised processes to save '
                                    'and leave after SIGTERM, before SIGKILL.', lower_bound=0.0)

STOPPED = 128 + signal.SIGTERM
GAVE_UP = distributed.CRASHED
_POLL = 0.05
_SETTLE = 2.0  # for those that notice by themselves that another is gone
_HUNG_GRACE = 10.0
_START_MINUTES = 10.0  # importing, compiling, restoring: no dispatch can be expected
_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0
# Statuses that only follow from the end of another process: ours, and that of JAX's abort.
_CONSEQUENCES = (distributed.LOST, -signal.SIGABRT)
_PAGES = re.compile(rb'[IWEF]\d{4} \d\d:|\*\*\* Check|    @ |RPC: /|Additional GRPC|:UNKNOWN:')
_FORCED = re.compile(r'xla_force_host_platform_device_count=(\d+)')


def wanted() -> bool:
  """Whether this process is to supervise others instead of doing the work itself.

  Raises:
    ValueError: --processes where a launcher has already started several.
  """
  if _PROCESSES.value is None or distributed.is_awaited():
    return False
  if not distributed.is_single():
    raise ValueError('--processes starts processes on this host, but the environment '
                     '(GEN_MODELS_DISTRIBUTED or GEN_MODELS_COORDINATOR) says that this is one of '
                     'several already: leave out one of the two')
  return True


def run(module: str, args: list[str]) -> int:
  """python -m module args in supervised processes, as the flags say; returns the exit status.

  Raises:
    ValueError: the host's accelerators do not divide over the processes.
  """
  return Supervisor([sys.executable, '-m', module, *args], _PROCESSES.value or 1,
                    restarts=_RESTARTS.value, hang_seconds=60 * _HANG_MINUTES.value,
                    grace_seconds=_GRACE_SECONDS.value).run()


class Failure(NamedTuple):
  """Why an attempt ended: the message, the worker's exit status, the last step it reported."""

  message: str
  status: int
  step: str


class Worker:
  """One process, and the unnamed file into which it writes the step it has reached."""

  def __init__(self, command, index: int, count: int, port: int):
    self.index = index
    self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
    environment = {'TF_CPP_MIN_LOG_LEVEL': '2', **os.environ,
                   distributed.SUPERVISOR: str(os.getpid()),
                   distributed.HEARTBEAT: str(self._file.fileno())} | _devices(index, count)
    if count > 1:
      environment |= {'GEN_MODELS_COORDINATOR': f'127.0.0.1:{port}',
                      'GEN_MODELS_PROCESSES': str(count), 'GEN_MODELS_PROCESS': str(index)}
    output: dict[str, Any] = {} if index == 0 else {
      'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    # A session of its own: Ctrl-C reaches the workers only through the supervisor.
    self.process: subprocess.Popen[bytes] = subprocess.Popen(
      command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[self._file.fileno()],
      start_new_session=True, **output)
    self.muted, self._held = False, []
    self._seen: int | None = None
    self._at = time.monotonic()
    if index:
      self._reader = threading.Thread(target=self._pass_on, args=(self.process.stdout,),
                                      daemon=True)
      self._reader.start()

  def _pass_on(self, output):
    for line in output:
      # Errors are held back: most of them only repeat the error of another worker.
      if self._held or line.startswith(b'error: '):
        self._held.append(line)
      elif not _PAGES.match(line):
        self._show(line)

  def _show(self, line):
    if not self.muted:
      sys.stderr.write(f'[{self.index}] {line.decode(errors="replace")}')
      sys.stderr.flush()

  @property
  def status(self) -> int | None:
    return self.process.poll()

  @property
  def step(self) -> str:
    """The last step it has reported, '' where there is none."""
    return os.pread(self._file.fileno(), 20, 0).decode().strip()

  def silent_for(self) -> float:
    """Seconds since it last reported a step; a clock that jumps does not matter."""
    seen = os.fstat(self._file.fileno()).st_mtime_ns
    if seen != self._seen:
      self._seen, self._at = seen, time.monotonic()
    return time.monotonic() - self._at

  def signal(self, number):
    if self.status is None:
      self.process.send_signal(number)

  def close(self):
    """Waits for its end, shows the errors that were held back, and closes its file."""
    self.process.wait()
    if self.index:
      self._reader.join(timeout=1)
      for line in self._held:
        self._show(line)
    if self.process.stdout is not None:
      self.process.stdout.close()
    self._file.close()


class Supervisor:
  """Starts workers, passes signals on, and starts them again; `run` does it all."""

  def __init__(self, command, count: int, *, restarts: int, hang_seconds: float,
               grace_seconds: float):
    self._command, self._count = command, count
    self._restarts, self._hang, self._grace = restarts, hang_seconds, grace_seconds
    self._asked = self._insisted = False
    _devices(0, count)

  def run(self) -> int:
    """Until the work is done, stopped or given up; returns the exit status."""
    before = {number: signal.signal(number, self._ask) for number in distributed.stop_signals()}
    try:
      return self._attempts()
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def _ask(self, number, frame):
    del number, frame
    self._insisted, self._asked = self._asked, True

  def _attempts(self) -> int:
    last = None
    for attempt in range(self._restarts + 1):
      end = self._attempt()
      if isinstance(end, int):
        return end
      if self._asked:
        say('ended before all was saved; the same command resumes from the last checkpoint')
        return STOPPED
      if end.status == 1:
        return 1
      if end.status == distributed.CRASHED and last == end:
        say(f'{end.message}, the second time in the same place: not started again')
        return GAVE_UP
      last = end
      if attempt == self._restarts:
        say(f'{end.message}; gave up after {attempt} restarts: the same command resumes from the '
            'last checkpoint')
        return GAVE_UP
      pause = min(_BACKOFF * 2**attempt, _LONGEST_BACKOFF)
      whom = 'it is' if self._count == 1 else f'all {self._count} are'
      say(f'{end.message}; {whom} started again from the last checkpoint in {pause:g} s '
          f'(restart {attempt + 1} of {self._restarts})')
      until = time.monotonic() + pause
      while time.monotonic() < until:
        time.sleep(_POLL)
        if self._asked:
          return STOPPED
    raise AssertionError('every attempt returns or is repeated')

  def _attempt(self) -> int | Failure:
    """Starts all workers and watches them to their end: the exit status, or why there is none."""
    port, workers = _free_port(), []
    try:
      for index in range(self._count):
        workers.append(Worker(self._command, index, self._count, port))
      return self._watch(workers)
    finally:
      for worker in workers:
        worker.signal(signal.SIGKILL)
        worker.close()

  def _watch(self, workers) -> int | Failure:
    deadline = None
    while True:
      time.sleep(_POLL)
      statuses = [worker.status for worker in workers]
      if failed := [w for w, s in zip(workers, statuses) if s not in (None, 0, STOPPED)]:
        return self._failure(workers, failed)
      if None not in statuses:
        return STOPPED if STOPPED in statuses else 0
      if self._insisted:
        return Failure('insisted', -signal.SIGKILL, '')
      if deadline is None and (self._asked or STOPPED in statuses):
        deadline = time.monotonic() + self._grace
        for worker in workers:
          worker.signal(signal.SIGTERM)
      if deadline is not None and time.monotonic() > deadline:
        return Failure(f'not saved within {self._grace:g} s', -signal.SIGKILL, '')
      if deadline is None and (hung := self._hung(workers)):
        return hung

  def _hung(self, workers) -> Failure | None:
    for worker in workers:
      # Without a step: it is starting up, or it draws the page.
      limit = self._hang if worker.step else max(self._hang, 60 * _START_MINUTES)
      if worker.status is None and worker.silent_for() > limit:
        failure = Failure(f'{self._name(worker)} has done nothing for {limit / 60:.3g} minutes '
                          f'{_place(worker)}', -signal.SIGKILL, worker.step)
        for other in workers:
          other.signal(signal.SIGTERM)
        _wait(workers, _HUNG_GRACE)
        return failure
    return None

  def _failure(self, workers, failed) -> Failure:
    """The failure that came first; the other workers are ended and their messages not shown."""
    if all(w.status in _CONSEQUENCES for w in failed):  # the cause may end, too, in a moment
      _wait(workers, _SETTLE)
      failed = [w for w in workers if w.status not in (None, 0, STOPPED)]
    cause = min(failed, key=lambda w: (w.status in _CONSEQUENCES, w.status == 1))
    for worker in workers:
      worker.muted = worker is not cause
    # With one of several gone the rest can save nothing: they would wait for it.
    _wait(workers, _SETTLE)
    if cause.status == workers[0].status == 1:  # all refuse the same: one message is enough
      cause.muted, cause = True, workers[0]
    status = cause.status
    how = 'ended with an error' if status == distributed.CRASHED else f'ended with status {status}'
    if status in _CONSEQUENCES and self._count > 1:
      how = 'lost another, which no longer answers,'
    elif status < 0:
      how = f'was killed by {signal.Signals(-status).name}'
    return Failure(f'{self._name(cause)} {how} {_place(cause)}', status, cause.step)

  def _name(self, worker) -> str:
    return 'the process' if self._count == 1 else f'process {worker.index}'


def say(line: str) -> None:
  """A line of the supervisor's own."""
  print(f'supervisor: {line}', file=sys.stderr, flush=True)


def _place(worker) -> str:
  return f'after step {worker.step}' if worker.step else 'before its first dispatch was done'


def _wait(workers, seconds: float) -> None:
  end = time.monotonic() + seconds
  while time.monotonic() < end and any(worker.status is None for worker in workers):
    time.sleep(_POLL)


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def _devices(index: int, count: int) -> dict[str, str]:
  """Environment that gives a worker its devices: its share of cores and of GPUs.

  Raises:
    ValueError: the GPUs do not divide over the workers.
  """
  environment = {}
  virtual = [int(os.environ.get('JAX_NUM_CPU_DEVICES') or 1),
             *map(int, _FORCED.findall(os.environ.get('XLA_FLAGS', '')))]
  if (count > 1 or max(virtual) > 1) and 'PJRT_NPROC' not in os.environ:
    # jax's threads: fewer than twice its devices can wait for each other for ever. Not an affinity:
    # pinned to one core, a worker and the thread that serves its sockets wait for each other.
    share = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else (
      os.cpu_count() or 1)
    environment['PJRT_NPROC'] = str(max(2 * max(virtual), share // count))
  if count == 1 or os.environ.get('JAX_PLATFORMS') == 'cpu':
    return environment
  gpus = _gpus()
  if not gpus:
    return environment
  if len(gpus) % count:
    raise ValueError(f'{len(gpus)} GPUs do not divide over --processes={count}: use another '
                     'number, or JAX_PLATFORMS=cpu')
  share = len(gpus) // count
  return environment | {'CUDA_VISIBLE_DEVICES': ','.join(gpus[index * share:(index + 1) * share])}


def _gpus() -> list[str]:
  """The NVIDIA GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
  there = sorted((path.name.removeprefix('nvidia')
                  for path in pathlib.Path('/dev').glob('nvidia[0-9]*')), key=int)
  named = os.environ.get('CUDA_VISIBLE_DEVICES')
  return there if named is None or not there else [name for name in named.split(',') if name]
