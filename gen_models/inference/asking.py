"""Asks a trained model: rows in batches, over all devices, answers as NumPy arrays.

Rows are answered in batches of a fixed size, each with a key of its own, the last filled up with
copies of its last row. So the answers about the first rows do not depend on how many follow, nor on
the number of devices. While one batch is computed, the one before it is copied to the host.

Axis suffixes: N rows, B rows of a batch, K samples, D values of a row. Nats.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation import weights
from gen_models.experiment import Questions
from gen_models.training import keys, parallel

WHAT = ('features', 'log_likelihood', 'reconstruction', 'imputation', 'classes', 'mutations')
BATCH = 512
# Of each question: its options, and what they are where nothing is said.
OPTIONS: dict[str, dict[str, Any]] = {
  'features': dict(layer=None, num_draws=0), 'log_likelihood': dict(num_samples=1000),
  'imputation': dict(num_draws=10, num_steps=200), 'reconstruction': {}, 'classes': {},
  'mutations': {}}


class LogPartition(NamedTuple):
  """log Z of a model, nats: the estimate, and its two sides, None where they are not known."""

  value: float
  lower: float | None = None
  upper: float | None = None


class Unanswered(ValueError):
  """The model cannot answer this question about these rows; the message says why."""


class Incomplete(Unanswered):
  """Values of a row are missing where the question takes whole rows; the message names the row."""


class NotEnumerated(ValueError):
  """log Z was not given, and the states are too many to be summed over."""


def answered(questions: Questions) -> tuple[str, ...]:
  """The questions that can be asked of a model."""
  return tuple(what for what in WHAT if callable(getattr(questions, what)))


def check(questions: Questions, what: str, params: Any = None, **options) -> Callable:
  """The function that answers `what`.

  Raises:
    Unanswered: there is no such question, this model cannot answer it, an option is none of it, or
      the layer is out of range.
  """
  if what not in WHAT:
    raise Unanswered(f'no question {what!r}: {", ".join(WHAT)}')
  function = getattr(questions, what)
  if not callable(function):
    others = ', '.join(answered(questions)) or 'nothing'
    raise Unanswered(f'{what}: {function}. What this model answers: {others}')
  if unknown := sorted(set(options) - set(OPTIONS[what])):
    raise Unanswered(f'{what} takes {", ".join(OPTIONS[what]) or "no options"}, not '
                     f'{", ".join(unknown)}')
  layer = options.get('layer')
  if layer is not None and params is not None and not (
      1 <= layer <= questions.num_layers(params)):
    raise Unanswered(f'layer {layer}: this model has layers 1 to '
                     f'{questions.num_layers(params)}')
  return function


def ask(questions: Questions, what: str, key: jax.Array, params: Any, rows_ND: Any, *,
        log_partition: LogPartition | None = None, unnormalised: bool = False,
        batch_size: int = BATCH, devices: Any = None,
        report: Callable[[int], None] | None = None,
        allocate: Callable[[tuple[int, ...], Any], np.ndarray] = np.empty,
        **options) -> dict[str, np.ndarray]:
  """The answers of a model to one question about each row.

  Args:
    questions: of its experiment.
    what: one of WHAT.
    key: consumed.
    params: of the model.
    rows_ND: rows as vectors, anything of which slices are arrays; nan is missing. 1.0 stands for
      the largest value of pictures.
    log_partition: log Z, of models whose density is not normalised; None: enumerated.
    unnormalised: of those, the free energy alone.
    batch_size: rows at once; another number gives other random draws.
    devices: jax devices; None for all of this process.
    report: called with the number of rows that have been answered.
    allocate: (shape, dtype) -> an array that the answers are written to.
    **options: of the question, see OPTIONS.

  Returns:
    Arrays whose first axis is that of the rows: `features` (and `draws` of them); `log_likelihood`
    with `lower` and `upper` where log Z has two sides and `standard_error` where there are
    importance samples, or `free_energy`; `reconstruction`; `mean` and `draws`; `classes` and
    `probabilities`; `mutations`.

  Raises:
    Unanswered: see `check`; values are missing where the question takes none.
    NotEnumerated: log Z was not given and cannot be enumerated.
    FloatingPointError: an answer is not finite: the parameters have diverged.
  """
  function = check(questions, what, params, **options)
  if what == 'log_likelihood':
    log_partition = _log_partition(questions, params, log_partition, unnormalised)
  elif unnormalised:
    raise Unanswered(f'unnormalised is an option of log_likelihood, not of {what}')
  program = parallel.by_rows(
    partial(_seen, questions, function, {**OPTIONS[what], **options}), devices)
  num, made, waiting = len(rows_ND), {}, None

  def collect(first: int, found: Mapping[str, Any]) -> None:
    here = _finished({name: np.asarray(x) for name, x in found.items()}, log_partition,
                     unnormalised, questions)
    last = min(first + batch_size, num)
    for name, x in here.items():
      if name not in made:
        made[name] = allocate((num, *x.shape[1:]), x.dtype)
      made[name][first:last] = x[:last - first]
    _require_finite(what, made, first, last)
    if report:
      report(last)

  # Accelerators round float32 products to 10 bits by default; answers must not be rounded so.
  with jax.default_matmul_precision('highest'):
    for index, first in enumerate(range(0, num, batch_size)):
      rows_BD = np.asarray(rows_ND[first:first + batch_size], np.float32)
      _require_takes(questions, what, rows_BD, first)
      rows_BD = _filled_up(rows_BD, batch_size, devices)
      found = program(keys.batch_of_answers(key, index), params, rows_BD)
      if waiting:
        collect(*waiting)
      waiting = first, found
    if waiting:
      collect(*waiting)
  return made


def _seen(questions: Questions, function: Callable, options: Mapping[str, Any], key, params,
          rows_BD):
  """The answers about a batch of rows as the data are, shown as the data are."""
  key_see, key_answer = jax.random.split(key)
  missing_BD = jnp.isnan(rows_BD)
  x_BD = questions.see(key_see, jnp.where(missing_BD, 0.0, rows_BD))
  if questions.takes_missing:  # then a model sees rows value by value
    x_BD = jnp.where(missing_BD, jnp.nan, x_BD)
  found = function(key_answer, params, x_BD, **options)
  shown = {name: questions.show(x) for name, x in found.items()
           if name in ('reconstruction', 'mean') or name == 'draws' and 'mean' in found}
  return {**found, **shown}


def _finished(found: dict[str, np.ndarray], log_partition: LogPartition | None,
              unnormalised: bool, questions: Questions) -> dict[str, np.ndarray]:
  """Answers as they are given: importance samples averaged, log Z subtracted, classes named."""
  if 'log_weights' in found:
    log_w_KB = found.pop('log_weights').T.astype(np.float64)
    found['log_likelihood'] = np.logaddexp.reduce(log_w_KB, axis=0) - np.log(len(log_w_KB))
    found['standard_error'] = np.sqrt(weights.log_mean_variance(weights.summary(log_w_KB)))
    if log_partition:
      most = log_partition.value if log_partition.upper is None else log_partition.upper
      found['lower'] = log_w_KB.mean(0) - most
  if 'log_likelihood' in found:
    value = found['log_likelihood'].astype(np.float64)
    if unnormalised:
      found = {**found, 'free_energy': -value}
      del found['log_likelihood']
    elif log_partition:
      found['log_likelihood'] = value - log_partition.value
      lower, upper = log_partition.lower, log_partition.upper
      if 'standard_error' not in found and lower is not None and upper is not None:
        found |= {'lower': value - upper, 'upper': value - lower}
    else:
      found['log_likelihood'] = value
  if 'probabilities' in found and 'mean' not in found:
    found['classes'] = np.argmax(found['probabilities'], axis=-1).astype(np.int32)
  return found


def _log_partition(questions: Questions, params: Any, given: LogPartition | None,
                   unnormalised: bool) -> LogPartition | None:
  """log Z to subtract; None where there is nothing to subtract."""
  if questions.log_partition is None:
    if unnormalised:
      raise Unanswered('unnormalised: the density of this model is normalised, so it has no free '
                       'energy; ask without')
    return None
  if unnormalised or given is not None:
    return None if unnormalised else given
  try:
    with jax.default_matmul_precision('highest'):
      log_z = float(jax.jit(questions.log_partition)(params))
  except ValueError as e:
    raise NotEnumerated(str(e)) from None
  return LogPartition(log_z, log_z, log_z)


def _filled_up(rows_BD: np.ndarray, batch_size: int, devices: Any) -> np.ndarray:
  """The last batch with copies of its last row, to a whole number for every device."""
  count = len(jax.local_devices() if devices is None else devices)
  size = -(-batch_size // count) * count
  return rows_BD[np.minimum(np.arange(size), len(rows_BD) - 1)]


def _require_takes(questions: Questions, what: str, rows_BD: np.ndarray, first: int) -> None:
  """Raises Incomplete where values are missing that must not be."""
  missing_BD = np.isnan(rows_BD)
  if not missing_BD.any():
    return
  row = first + int(np.argmax(missing_BD.any(1)))
  if what not in questions.takes_missing:
    able = ', '.join(questions.takes_missing)
    raise Incomplete(f'row {row} has missing values (nan), and {what} of this model is of whole '
                     'rows: ' + (f'ask for {able}' if able else 'fill them in first'))
  if (groups := questions.groups) > 1:
    of_group_BG = missing_BD.reshape(len(rows_BD), -1, groups).sum(-1)
    partly_B = np.any((of_group_BG > 0) & (of_group_BG < groups), axis=1)
    if partly_B.any():
      raise Incomplete(f'row {first + int(np.argmax(partly_B))}: the {groups} values of a one-of-'
                       f'{groups} unit must be missing together or not at all')


def _require_finite(what: str, made: Mapping[str, np.ndarray], first: int, last: int) -> None:
  for name, x in made.items():
    if name != 'standard_error' and not np.all(np.isfinite(x[first:last])):
      row = first + int(np.argmax(~np.isfinite(x[first:last]).reshape(last - first, -1).all(1)))
      raise FloatingPointError(f'{what} of row {row}: `{name}` is not finite: look for values out '
                               'of range in the row, or for parameters that have diverged')
