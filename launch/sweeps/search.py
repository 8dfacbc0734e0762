"""Adaptive search: optuna proposes points, and batches of them train together.

The objective is the last value of the experiment's headline metric, a mean over seeds; larger is
better. The study is optuna.log in the sweep's directory: the same command resumes it. What is
drawn depends only on the search seed and the trials before, so a search that was interrupted asks
for the same points as one that was not.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from launch import errors
from launch.cli import hyperparameters
from launch.sweeps import plan, runner


def run(sweep: runner.Sweep, variants: Sequence[str | None], axes: Mapping, fixed: Mapping,
        seeds: Sequence[int], *, trials: int, batch: int, seed: int, dry_run: bool) -> bool:
  """Asks for `trials` points, `batch` at a time; False when it was asked to stop before the end.

  Raises:
    UsageError: optuna is not installed, several variants, or an experiment without a headline.
    AllFailed: every trial.
  """
  try:
    import optuna
  except ImportError:
    raise errors.UsageError("--search=optuna needs optuna: pip install 'gen_models[optuna]'; "
                            '--search=random needs nothing') from None
  if len(variants) > 1:
    raise errors.UsageError('optuna compares points of one variant; give one, or --search=random')
  values = hyperparameters.resolve(sweep.entry, variants[0])
  headline = sweep.entry.experiment(**values).headline_metric
  if headline is None:
    raise errors.UsageError(f'{sweep.entry.name} has no headline metric to search by')
  first = next(plan.draws(axes, 1, seed))
  text = sweep.describe(sweep.programs(plan.points(sweep.entry, variants, [first], seeds, fixed)))
  print(f'optuna: {trials} trials by {headline}, {batch} at once; the plan of one:\n{text}',
        flush=True)
  if dry_run:
    return True
  study = _study(sweep, optuna)
  while asked := _ask(study, axes, batch, trials, seed):
    points = plan.points(sweep.entry, variants, [point for _, point in asked], seeds, fixed)
    unique = list({p.name: p for p in points}.values())
    if not sweep.run(list(enumerate(sweep.programs(unique)))):
      return False
    for number, point in asked:
      _tell(study, number, sweep, plan.points(sweep.entry, variants, [point], seeds, fixed))
  num = len(study.get_trials(deepcopy=False))
  if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
    raise runner.AllFailed(f'all {num} trials failed, none has a last value of {headline}: '
                           f'failed.txt and metrics.jsonl of the runs in {sweep.workdir} show why')
  best = study.best_trial
  print(f'best of {num}: {headline} {best.value:.4g} with '
        + ' '.join(f'--set={k}={v}' for k, v in best.user_attrs['point'].items()))
  return True


def _study(sweep: runner.Sweep, optuna):
  """The study of the sweep's directory, begun or resumed."""
  from optuna.storages import JournalStorage
  from optuna.storages.journal import JournalFileBackend
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  sweep.workdir.mkdir(parents=True, exist_ok=True)
  backend = JournalFileBackend(str(sweep.workdir / 'optuna.log'))
  return optuna.create_study(storage=JournalStorage(backend), study_name=sweep.entry.name,
                             direction='maximize', load_if_exists=True)


def _ask(study, axes: Mapping, batch: int, trials: int, seed: int) -> list[tuple[int, dict]]:
  """(number, point) of the next trials; [] when all are done.

  Those that an interrupted search had asked for come first.
  """
  from optuna.samplers import TPESampler
  from optuna.trial import TrialState
  asked = [(t.number, {name: _as_typed(value, axes.get(name))
                       for name, value in t.user_attrs['point'].items()})
           for t in study.get_trials(states=[TrialState.RUNNING]) if 'point' in t.user_attrs]
  finished = len(study.get_trials(deepcopy=False)) - len(asked)
  while len(asked) < min(batch, trials - finished):
    study.sampler = TPESampler(seed=seed + finished + len(asked), constant_liar=True)
    trial = study.ask()
    point = {name: _suggest(trial, name, axis) for name, axis in axes.items()}
    trial.set_user_attr('point', point)
    asked.append((trial.number, point))
  return asked


def _tell(study, number: int, sweep: runner.Sweep, points: Sequence[plan.Point]) -> None:
  """The mean over seeds, or that the trial failed, where one of them diverged."""
  from optuna.trial import TrialState
  values = [sweep.value(p, headline=True) for p in points if sweep.state_of(p) == 'done']
  if len(values) < len(points) or None in values:
    study.tell(number, state=TrialState.FAIL)
  else:
    study.tell(number, float(np.mean(np.asarray(values, float))))


def _as_typed(value, axis):
  """The value as --set has it: optuna keeps of a reference to a user's file only its words."""
  return next((v for v in axis if v == value), value) if isinstance(axis, list) else value


def _suggest(trial, name: str, axis):
  if not isinstance(axis, plan.Range):
    return _as_typed(trial.suggest_categorical(name, axis), axis)
  if axis.whole:
    return trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
  return float(f'{trial.suggest_float(name, axis.low, axis.high, log=axis.log):.3g}')
