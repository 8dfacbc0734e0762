"""Gradient estimators at checkpoints of a training run: noise, direction, bias and cost.

An estimator is named by what it changes in the run's experiment: a variant, or settings joined by
semicolons, such as `gradient=relax;samples=1`. Its gradient is compared with the mean of many draws
of the first one that is declared unbiased.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from gen_models.estimators.base import Estimator
from gen_models.evaluation import gradients
from launch import errors
from launch.cli import hyperparameters
from launch.cli.registry import Entry

REFERENCE_DRAWS = 8  # times the draws of an estimator


class Point(NamedTuple):
  """A checkpoint: where gradients are taken."""

  step: int
  params: Any
  batch: Any


class Row(NamedTuple):
  """An estimator at a checkpoint.

  Attributes:
    name: as it was asked for.
    biased: as it declares.
    step: of the checkpoint.
    found: moments of its gradient against the reference.
    seconds_per_step: of one gradient.
  """

  name: str
  biased: bool
  step: int
  found: gradients.Against
  seconds_per_step: float


def estimators(entry: Entry, values: dict[str, Any], names: Sequence[str],
               params: Any) -> dict[str, Estimator]:
  """Name -> the estimator of the run's experiment with that change.

  Args:
    entry: the run's experiment.
    values: its hyperparameters.
    names: variants, or settings joined by semicolons.
    params: of the run; their shapes.

  Raises:
    UsageError: no such change, or one that trains other parameters.
  """
  found = {}
  for name in names:
    changes = (hyperparameters.typed(entry, name.split(';')) if '=' in name
               else _variant(entry, name))
    changed = {**values, **changes}
    hyperparameters.check_values(entry, changed)
    try:
      phase, = entry.experiment(**changed).phases
    except ValueError as e:
      raise errors.UsageError(f'{name}: {e}') from e
    try:
      memory = jax.eval_shape(phase.estimator.init, jax.random.key(0), params)
      del memory
    except Exception as e:
      raise errors.UsageError(f'{name} is of other parameters than the run: {e}') from e
    found[name] = phase.estimator
  return found


def _variant(entry: Entry, name: str) -> dict[str, Any]:
  if name not in entry.variants:
    raise errors.UsageError(f'{entry.name} has no variant {name!r}; a setting is name=value'
                            + errors.near(name, list(entry.variants)))
  return dict(entry.variants[name])


def measure(named: dict[str, Estimator], points: Sequence[Point], num_draws: int, burn_in: int,
            seed: int = 0, report: Callable[[str], None] = lambda line: None) -> list[Row]:
  """Every estimator at every checkpoint, in this order.

  Args:
    named: what `estimators` returns.
    points: checkpoints.
    num_draws: gradients of each.
    burn_in: calls before them, for what an estimator remembers.
    seed: of all draws.
    report: called with a line for each row.

  Raises:
    UsageError: none is declared unbiased.
  """
  reference = next((name for name, e in named.items() if not e.biased and not e.target), None)
  if reference is None:
    raise errors.UsageError('none of these estimators is declared unbiased, so there is nothing '
                            'to compare with: name one more, such as gradient=rloo')
  rows = []
  for point in points:
    keys = jax.random.split(jax.random.key(seed), 2 * len(named) + 1)
    with jax.default_matmul_precision('highest'):
      mean = gradients.moments(keys[-1], named[reference], point.params, point.batch,
                               num_draws=REFERENCE_DRAWS * num_draws, burn_in=burn_in)
      for i, (name, estimator) in enumerate(named.items()):
        found = gradients.against(keys[2 * i], estimator, point.params, point.batch, mean,
                                  num_draws=num_draws, burn_in=burn_in)
        seconds = gradients.stopwatch(keys[2 * i + 1], estimator, point.params, point.batch,
                                      num_steps=20, repeats=3)()
        rows.append(Row(name, estimator.biased, point.step, found, seconds))
        report(f'step {point.step}: {name}')
  return rows
