"""Running the programs of a sweep: every replica a run in a directory of its own."""

import contextlib
import functools
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from gen_models import files
from launch.cli import app, hyperparameters, jax_setup, registry
from launch.runs import directory as rundir, result as result_lib
from launch.sweeps import plan


class AllFailed(ValueError):
  """No run of a sweep finished."""


class Sweep:
  """The points of one experiment below one directory.

  Args:
    entry: the experiment.
    workdir: gets <point>/seed<k>, each an ordinary run directory.
    data_dir: of prepared data.
    sequential: see training.parallel.Layout.
    max_replicas: of one program.
    save_minutes: between checkpoints.
    sample_space: of launch.evaluate; None for no scoring.
    accept_code: see runs.directory.claim.
  """

  def __init__(self, entry: registry.Entry, workdir: pathlib.Path, *, data_dir: str | None = None,
               sequential: bool | None = None, max_replicas: int | None = None,
               save_minutes: float = 5.0, sample_space: str | None = 'none',
               accept_code: bool = False):
    from gen_models import data
    self.entry, self.workdir = entry, workdir
    self._sequential, self._max_replicas = sequential, max_replicas
    self._save_minutes = save_minutes
    self._sample_space, self._accept_code = sample_space, accept_code
    self._data_dir = data_dir
    def read(name):
      dataset = data.load(name, data_dir)
      for line in dataset.remarks:
        print(f'note: {line}', flush=True)
      return dataset

    self._dataset = functools.cache(read)
    jax_setup.setup()

  def programs(self, points: Sequence[plan.Point]) -> list[plan.Program]:
    """The programs of these points.

    Raises:
      ForeignRun: the directory of one of them holds a run with another configuration; or one that
        is not finished was begun with other code of the user.
    """
    for point in points:
      directory = self.directory(point)
      if (directory / 'config.json').exists():
        rundir.compare(directory, self.config(point))
        if self.state_of(point) == 'open':
          rundir.claim(directory, self.config(point), self._accept_code)
    return plan.programs(self.entry, points, self._dataset, self._max_replicas, _memory())

  def describe(self, programs: Sequence[plan.Program]) -> str:
    """The plan, and what of it is done."""
    states = [self.state_of(p) for program in programs for p in program.points]
    text = plan.describe(programs, jax.device_count())
    done, failed = states.count('done'), sum(s.startswith('failed') for s in states)
    if done or failed:
      text += f'\n{done} of {len(states)} runs are done, {failed} failed'
    return text

  def directory(self, point: plan.Point) -> pathlib.Path:
    """Of a point's run."""
    return self.workdir / point.name

  def state_of(self, point: plan.Point) -> str:
    """'done', 'failed: why' or 'open'."""
    directory = self.directory(point)
    if (directory / rundir.FAILED).exists():
      reason = (directory / rundir.FAILED).read_text(encoding='utf-8').strip()
      return f'failed: {reason}'
    if self._sample_space is not None:
      from launch.runs import score as score_lib
      return 'done' if score_lib.is_scored(
        directory, self.entry.experiment(**point.values), self._sample_space) else 'open'
    return 'done' if self._trained(point) else 'open'

  def _trained(self, point: plan.Point) -> bool:
    """Whether its last checkpoint was saved: one appears whole or not at all."""
    steps = sum(phase.num_steps for phase in self.entry.experiment(**point.values).phases)
    return (self.directory(point) / 'checkpoints' / str(steps)).is_dir()

  def run(self, programs: Sequence[tuple[int, plan.Program]]) -> bool:
    """Trains and scores what is not done yet; False when it was asked to stop before the end."""
    self.workdir.mkdir(parents=True, exist_ok=True)
    points = [p for _, program in programs for p in program.points]
    with app.StopOnSignal() as should_stop:
      for number, program in programs:
        rest = [p for p in program.points if self.state_of(p) == 'open']
        if not rest:
          continue
        print(f'program {number}: {len(rest)} replicas', flush=True)
        untrained = [p for p in rest if not self._trained(p)]
        if untrained and not self._train(program._replace(points=untrained), should_stop):
          return False
        if self._sample_space is not None and not self._score(
            rest, self._sample_space, should_stop):
          return False
    print(self.table(points), flush=True)
    return True

  def _train(self, program: plan.Program, should_stop) -> bool:
    """Trains replicas, from wherever each of them stands, to their ends; False when stopped."""
    from gen_models.training import keys, position, replicas
    points = program.points
    configs = [self.config(p) for p in points]
    with contextlib.ExitStack() as stack:
      begun, locks = False, []
      for point, config in zip(points, configs, strict=True):
        locks.append(stack.enter_context(rundir.lock(self.directory(point))))
        begun |= rundir.claim(self.directory(point), config)
      first = self.entry.experiment(**points[0].values)
      dataset = self._dataset(first.dataset)
      children = [stack.enter_context(rundir.open_checkpoints(
        self.directory(p), config, first, require=lock, save_interval_minutes=self._save_minutes))
        for p, config, lock in zip(points, configs, locks, strict=True)]
      if (self.directory(points[0]) / 'checkpoints').exists() and begun:
        print('resuming what is there', flush=True)

      def restore(child, step):
        return position.restore(first, child, keys.of_run(0), dataset.train, step)

      total = sum(phase.num_steps for phase in first.phases)
      for cohort in replicas.cohorts(children, restore):
        if cohort.step == total:
          continue
        for i in cohort.members:
          rundir.record_start(self.directory(points[i]))
        mine = program._replace(points=[points[i] for i in cohort.members])
        if not self._fit(mine, [children[i] for i in cohort.members], cohort.start, dataset, total,
                         should_stop):
          return False
    return True

  def _fit(self, program, children, start, dataset, total, should_stop) -> bool:
    """One call of the loop for replicas that stand at the same step."""
    from gen_models.training import hyper, keys, loop, metrics, parallel, replicas
    from gen_models.training.hooks import Hooks
    from gen_models.training.record import Diverged
    points = program.points
    directories = [self.directory(p) for p in points]
    experiment = hyper.bind(self.entry.experiment, program.values(), dataset.train, dataset.valid,
                            program.floats)
    key = keys.of_seeds([p.seed for p in points])
    fan, step = replicas.Fan(children), start[1] if start else 0
    # A replica's seconds are its share of those of the program.
    before = [metrics.spent(d / 'metrics.jsonl', step) for d in directories]
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
      writers = [stack.enter_context(metrics.Metrics(d, resume_step=step)) for d in directories]
      progress = stack.enter_context(metrics.Progress(total))

      def on_metrics(step, values):
        share = (time.monotonic() - began) / len(points)
        for i, writer in enumerate(writers):
          if i not in fan.frozen:
            writer.write(step, {**{k: v[i] for k, v in values.items()},
                                'seconds': before[i] + share})
        living = [i for i in range(len(points)) if i not in fan.frozen]
        progress.update(step, {k: v[living] for k, v in values.items()}, experiment.headline)

      def on_alarm(step, message, replica):
        line = f'warning: step {step}: {message}'
        files.append_line(directories[replica] / 'warnings.txt', line)
        _say(f'{points[replica].name}: {line}')

      def on_diverged(replica, message):
        fan.frozen.add(replica)
        message = message.replace(f'replica {replica} and ', '')
        files.write_text(directories[replica] / rundir.FAILED, message + '\n')
        _say(f'{points[replica].name}: frozen: {message}')

      try:
        result = loop.fit(
          experiment, dataset.train, dataset.valid, key, start=start, separate=True,
          layout=parallel.Layout('replicas', self._sequential), checkpoints=fan,
          hooks=Hooks(on_metrics, on_alarm, on_diverged, _say, should_stop))
      except Diverged:  # all of them, each with its line
        return True
      finally:
        fan.wait()
    return result.done

  def _score(self, points, space: str, should_stop) -> bool:
    from launch.runs import score as score_lib
    for point in points:
      if should_stop():
        return False
      if self.state_of(point) == 'open':
        score_lib.score(self.directory(point), data_dir=self._data_dir, space=space,
                        report=lambda line, name=point.name: print(f'{name}: {line}', flush=True))
    return True

  def config(self, point: plan.Point) -> dict:
    """As launch.train would write it: the same command resumes the single run."""
    return rundir.configuration(self.entry, point.variant, point.values, point.seed)

  def table(self, points: Sequence[plan.Point]) -> str:
    """A line for each point over its seeds: final headline or score, and what failed."""
    rows: dict[str, list[plan.Point]] = {}
    for point in points:
      rows.setdefault(point.row, []).append(point)
    lines, width = [], max(map(len, rows))
    for row, members in rows.items():
      values = [v for v in map(self.value, members) if v is not None]
      failed = sum((self.directory(p) / rundir.FAILED).exists() for p in members)
      text = f'{np.mean(values):.4g}' if values else '–'
      if len(values) > 1:
        text += f' +- {np.std(values, ddof=1):.2g} over {len(values)} seeds'
      lines.append(f'  {row:{width}}  {text}' + (f', {failed} frozen' if failed else ''))
    return '\n'.join([f'{self.entry.name}: {self.objective(points)}', *lines])

  def objective(self, points: Sequence[plan.Point]) -> str:
    """The name of the quantity that `value` measures of these points."""
    if any(self._nats(point) is not None for point in points):
      return 'mean test nats'
    headline = self.entry.experiment(**hyperparameters.resolve(self.entry)).headline_metric
    return headline or 'nothing'

  def _nats(self, point: plan.Point) -> float | None:
    """Test nats of a point that was scored and has some."""
    path = self.directory(point) / 'result.json'
    return result_lib.read(path).score.headline if path.exists() else None

  def value(self, point: plan.Point, headline: bool = False) -> float | None:
    """Test nats where it was scored and has them, else the last value of the headline metric."""
    from gen_models.training import metrics
    if not headline and (nats := self._nats(point)) is not None:
      return nats
    name = self.entry.experiment(**point.values).headline_metric
    history = metrics.history(self.directory(point) / 'metrics.jsonl')
    return float(history[name].value[-1]) if name in history else None

  def require_some(self, points: Sequence[plan.Point]) -> None:
    """Raises AllFailed where every one of these points failed."""
    failed = [p for p in points if self.state_of(p).startswith('failed')]
    if points and len(failed) == len(points):
      raise AllFailed(f'all {len(failed)} runs failed, the first with: '
                      f'{self.state_of(failed[0]).removeprefix("failed: ")}')


def _memory() -> int | None:
  """Bytes of the smallest device, where it says so."""
  limits = [(d.memory_stats() or {}).get('bytes_limit') for d in jax.local_devices()]
  known = [limit for limit in limits if limit]
  return min(known) if len(known) == len(limits) else None


def _say(line: str) -> None:
  print('\n' + line if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
