"""Faults done to supervised runs of one and two processes, and what must hold afterwards.

A run is `python -m launch.train --processes=N` on an experiment file of a user's (`EXPERIMENT`):
the 64-5 machine on the digits, a dispatch every 20 updates, every one saved. `trial` starts it in
an empty directory, does one thing to it at a random moment, lets it end (or starts it again, where
the fault was to end it), and raises AssertionError unless

  the run told what happened in a line, and reached its end;
  nothing of it is left running, found by a mark in its environment;
  it went on from the last save that was whole when the fault came, or from a later one;
  every leaf of the last checkpoint has the bits of the run that nothing was done to, and so have
  the metrics.

python -m tests.launch.processes.faults [number of trials] [seed]
runs many and prints a line for each.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[3]
NUM_STEPS, DISPATCH = 400, 20

EXPERIMENT = f'''
"""A user's experiment; SIGUSR1 and SIGUSR2 are the fault in its code that strikes some day."""
import signal
import time
from experiments import rbm_digits

VARIANTS = {{}}


def fail(*_):
  raise ArithmeticError('injected')  # whose, if it strikes while a checkpoint is saved, is clear


def hang(*_):
  time.sleep(3600)


signal.signal(signal.SIGUSR1, fail)
signal.signal(signal.SIGUSR2, hang)


def experiment(*, num_steps: int = {NUM_STEPS}):
  base = rbm_digits.experiment(num_hidden=5, num_steps=num_steps)
  phases = tuple(phase._replace(monitor=None) for phase in base.phases)
  return base._replace(phases=phases, steps_per_dispatch={DISPATCH}, validate_every=100,
                       pictures=None, sample=None)
'''

# name: (signal, to whom, least number of processes)
FAULTS = {
  'kill': (signal.SIGKILL, 'any', 1),
  'exception': (signal.SIGUSR1, 'any', 1),
  'sleep': (signal.SIGUSR2, 'any', 1),
  'stopped': (signal.SIGSTOP, 'any', 1),
  'sigterm': (signal.SIGTERM, 'supervisor', 1),
  'supervisor': (signal.SIGKILL, 'supervisor', 1),
  'coordinator': (signal.SIGKILL, 0, 2),
}
AT_ANY_TIME = ('kill', 'sigterm', 'supervisor', 'coordinator')  # the others need the user's code
HANG_MINUTES = 0.2  # a dispatch takes a tenth of a second, on a busy machine some


class Trial(NamedTuple):
  """What happened: when it struck, where the run went on, how long all took."""

  fault: str
  num_processes: int
  struck_at: int
  resumed_at: int
  seconds: float
  lines: list[str]


class Run:
  """A run in a directory; `start` again as often as needed."""

  def __init__(self, folder: pathlib.Path, num_processes: int, **environment):
    self.workdir, self.mark = folder / 'run', uuid.uuid4().hex
    self.num_processes = num_processes
    path = folder / 'faulty.py'
    path.write_text(EXPERIMENT)
    self.command = [sys.executable, '-m', 'launch.train', f'--experiment={path}',
                    f'--workdir={self.workdir}', f'--processes={num_processes}',
                    '--save_every_minutes=0', f'--hang_minutes={HANG_MINUTES}']
    self._log = folder / 'log'
    self.environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'TRIAL_MARK': self.mark,
                        'PYTHONPATH': str(ROOT), **environment}
    self.process = None

  def start(self):
    with open(self._log, 'a') as log:
      self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.environment, stdout=log,
                                      stderr=subprocess.STDOUT, start_new_session=True)

  def wait(self, seconds: float = 240) -> int:
    """Exit status; AssertionError, and nothing left, when it takes longer."""
    try:
      return self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      self.process.kill()
      raise AssertionError(f'not at its end after {seconds} s:\n{self.output()}') from None

  def output(self) -> str:
    return self._log.read_text()

  def lines(self) -> list[str]:
    """The supervisor's output."""
    return [x for x in self.output().splitlines() if x.startswith('supervisor: ')]

  def metrics(self) -> list[dict]:
    """The whole lines of metrics.jsonl."""
    path = self.workdir / 'metrics.jsonl'
    text = path.read_text() if path.exists() else ''
    return [json.loads(line) for line in text[:text.rfind('\n') + 1].splitlines()]

  def reached(self) -> int:
    return max((line['step'] for line in self.metrics()), default=0)

  def workers(self) -> dict[int, int]:
    """Number of each worker -> process id."""
    found = {}
    for pid, environment in marked(self.mark).items():
      if environment.get('GEN_MODELS_WORKER_OF') == str(self.process.pid):
        found[int(environment.get('GEN_MODELS_PROCESS', 0))] = pid
    return found

  def final_bits(self) -> dict[str, str]:
    """sha256 of every leaf of the last checkpoint."""
    path = self.workdir / 'checkpoints' / str(NUM_STEPS) / 'manifest' / 'metadata'
    manifest = json.loads(path.read_text())
    return {leaf: x['sha256'] for leaf, x in manifest['leaves'].items()}

  def curves(self) -> list[dict]:
    """The metrics less the clock's."""
    return [{k: v for k, v in line.items() if k not in ('time', 'seconds')}
            for line in self.metrics()]


def marked(mark: str) -> dict[int, dict[str, str]]:
  """Living processes that were started with this mark: process id -> environment."""
  found = {}
  for path in pathlib.Path('/proc').iterdir():
    if not path.name.isdigit():
      continue
    try:
      raw = (path / 'environ').read_bytes()
      state = (path / 'stat').read_text().rpartition(')')[2].split()[0]
    except OSError:  # it has ended, or is another user's
      continue
    if f'TRIAL_MARK={mark}'.encode() in raw and state != 'Z':
      entries = (x.decode(errors='replace').partition('=') for x in raw.split(b'\0') if x)
      found[int(path.name)] = {name: value for name, _, value in entries}
  return found


def unbroken(folder: pathlib.Path, num_processes: int, **environment) -> Run:
  """The run that nothing is done to."""
  folder.mkdir(parents=True, exist_ok=True)
  run = Run(folder, num_processes, **environment)
  run.start()
  assert run.wait() == 0, run.output()
  assert not run.lines() and run.reached() == NUM_STEPS, run.output()
  return run


def trial(folder: pathlib.Path, fault: str, num_processes: int, rng: random.Random,
          reference: Run) -> Trial:
  """Does one fault to a run at a random moment.

  Raises:
    AssertionError: something of the module's list does not hold; nothing of it runs any more.
  """
  folder.mkdir(parents=True, exist_ok=True)
  run, began = Run(folder, num_processes), time.monotonic()
  run.start()
  try:
    struck_at = _strike(run, fault, rng)
    status = run.wait()
    _nothing_left(run)
    again = fault in ('sigterm', 'supervisor')
    assert status == {'sigterm': 143, 'supervisor': -9}.get(fault, 0), (status, run.output())
    if again:
      said = re.findall('the same command resumes', run.output())
      assert fault == 'supervisor' or said or struck_at == 0, run.output()
      run.start()
      assert run.wait() == 0, run.output()
      _nothing_left(run)
    else:
      assert any('started again' in line for line in run.lines()), run.output()
    resumed = [int(step) for step in re.findall(r'resuming .* at step (\d+)', run.output())]
    # The save before the last may still have been under way.
    assert struck_at <= 2 * DISPATCH or max(resumed, default=0) >= struck_at - 2 * DISPATCH, (
      struck_at, resumed, run.output())
    assert run.final_bits() == reference.final_bits(), run.output()
    assert run.curves() == reference.curves(), run.output()
    return Trial(fault, num_processes, struck_at, max(resumed, default=0),
                 time.monotonic() - began, run.lines())
  finally:
    for pid in marked(run.mark):
      os.kill(pid, signal.SIGKILL)
    run.process.wait()


def _strike(run: Run, fault: str, rng: random.Random) -> int:
  """Waits for a random moment and does it; the last step that was on record before."""
  number, whom, _ = FAULTS[fault]
  any_time = fault in AT_ANY_TIME and rng.random() < 0.2
  until, delay = rng.randrange(1, NUM_STEPS // DISPATCH - 4), rng.uniform(0, 0.15)
  end = time.monotonic() + 120
  while len(run.workers()) < run.num_processes and run.process.poll() is None:
    time.sleep(0.02)
  if any_time:
    delay = rng.uniform(0, 6)
  else:
    while run.reached() < until * DISPATCH:
      assert run.process.poll() is None and time.monotonic() < end, run.output()
      time.sleep(0.01)
  time.sleep(delay)
  who = rng.randrange(run.num_processes) if whom == 'any' else whom
  pid = run.process.pid if whom == 'supervisor' else run.workers().get(who)
  step = run.reached()
  assert pid and run.process.poll() is None and step < NUM_STEPS, (
    f'it ended before the fault:\n{run.output()}')
  os.kill(pid, number)
  return step


def _nothing_left(run: Run):
  end = time.monotonic() + 5
  while (left := marked(run.mark)) and time.monotonic() < end:
    time.sleep(0.05)
  assert not left, f'still running: {list(left)}\n{run.output()}'


def plan(num_trials: int, seed: int) -> list[tuple[str, int, random.Random]]:
  """(fault, number of processes, random numbers) of each trial: all kinds in turn."""
  kinds = [(fault, n) for n in (1, 2) for fault, (_, _, least) in FAULTS.items() if n >= least]
  return [(*kinds[i % len(kinds)], random.Random(f'{seed}/{i}')) for i in range(num_trials)]


def main(num_trials: int, seed: int) -> int:
  """Runs them all; returns how many failed."""
  failed, began = 0, time.monotonic()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    references = {n: unbroken(folder / f'unbroken{n}', n) for n in (1, 2)}
    for i, (fault, num_processes, rng) in enumerate(plan(num_trials, seed)):
      try:
        done = trial(folder / str(i), fault, num_processes, rng, references[num_processes])
        print(f'{i:2} {fault:11} {num_processes} struck at {done.struck_at:3} went on at '
              f'{done.resumed_at:3} {done.seconds:5.1f} s  {" | ".join(done.lines)}', flush=True)
      except AssertionError as e:
        failed += 1
        print(f'{i:2} {fault:11} {num_processes} FAILED: {e}', flush=True)
      shutil.rmtree(folder / str(i), ignore_errors=True)
  print(f'{num_trials - failed} of {num_trials} held, {time.monotonic() - began:.0f} s')
  return failed


if __name__ == '__main__':
  sys.exit(main(*map(int, sys.argv[1:] or (50, 0))) > 0)
