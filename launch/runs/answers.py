"""Questions to a run about rows: gen_models.inference with what the run directory knows of it.

log Z of a Boltzmann machine is what launch.evaluate has written down of this very checkpoint, with
both sides of its bracket; where nothing is written, it is enumerated if it can be.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gen_models.evaluation import score as record
from gen_models.inference import asking
from gen_models.inference.asking import LogPartition
from gen_models.training import keys
from launch import errors
from launch.cli import jax_setup
from launch.runs import result as result_lib, rows as rows_lib
from launch.runs.memory import free_memory


def check(run: Any, what: str, replica: int = 0, **options) -> None:
  """Raises UsageError, with near matches, unless the run can answer this question."""
  questions = run.experiment.questions
  if what not in asking.WHAT:
    able = ', '.join(asking.answered(questions)) or 'nothing'
    raise errors.UsageError(f'no question {what!r}{errors.near(what, asking.WHAT)}. '
                            f'{run.config["experiment"]} answers: {able}')
  try:
    asking.check(questions, what, run.params_of(replica), **options)
  except asking.Unanswered as e:
    raise errors.UsageError(str(e)) from None


def answer(run: Any, what: str, rows: Any, *, seed: int = 0, replica: int = 0,
           unnormalised: bool = False, batch_size: int = asking.BATCH,
           report: Callable[[int], None] | None = None, **options) -> dict[str, np.ndarray]:
  """The answers of a trained model about rows, as arrays.

  Args:
    run: load.Run, which imports this module for its own answers.
    what: 'features', 'log_likelihood', 'reconstruction', 'imputation', 'classes' or 'mutations'.
    rows: launch.runs.rows.Rows, or an array [N, *shape] in which nan is missing.
    seed: of what is drawn.
    replica: which of the run's seeds.
    unnormalised: of a Boltzmann machine, its free energy instead of its likelihood.
    batch_size: rows at once.
    report: called with the number of rows done.
    **options: of the question, inference.asking.OPTIONS.

  Returns:
    As inference.ask; reconstructions and imputed rows have the shape and the units of the data.

  Raises:
    UsageError: the run cannot answer this about these rows; the message says why.
  """
  check(run, what, replica, **options)
  spec = run.spec
  if not isinstance(rows, rows_lib.Rows):
    rows = rows_lib.check(rows, None, spec, 'rows')
  questions, params = run.experiment.questions, run.params_of(replica)
  log_z = (recorded_log_partition(run, replica)
           if what == 'log_likelihood' and questions.log_partition and not unnormalised else None)
  try:
    with jax_setup.numerics():
      found = asking.ask(questions, what, keys.answers(seed), params, rows, log_partition=log_z,
                         unnormalised=unnormalised, batch_size=batch_size, report=report,
                         allocate=_allocate, **options)
  except asking.Incomplete as e:
    raise errors.UsageError(f'{rows.where}: {e}') from None
  except asking.Unanswered as e:
    raise errors.UsageError(str(e)) from None
  except asking.NotEnumerated as e:
    raise errors.UsageError(
      f'log_likelihood needs log Z, and {e}. launch.evaluate --workdir={run.workdir} brackets it; '
      '--unnormalised gives only the free energy') from None
  like_data = {'reconstruction': ('reconstruction',), 'imputation': ('mean', 'draws')}.get(what, ())
  return {name: rows_lib.shown(name, x, spec) if name in like_data else x
          for name, x in found.items()}


def recorded_log_partition(run: Any, replica: int = 0) -> LogPartition | None:
  """log Z as result.json has it of this checkpoint; None where it was not scored."""
  if run.workdir is None:
    return None
  try:
    result = result_lib.read(run.workdir / 'result.json')
  except (OSError, record.Malformed):
    return None
  of_seed = result.score.per_seed[replica] if result.score.per_seed else result.score
  log_z = of_seed.details.get('log_partition')
  if result.step != run.step or log_z is None or of_seed.test_nats is None:
    return None
  sides = of_seed.details.get('log_partition_sides')
  if sides is None and None not in (of_seed.lower, of_seed.upper):
    # nats = mean(-F) - log Z on either side.
    sides = [log_z + of_seed.test_nats - side for side in (of_seed.lower, of_seed.upper)]
  return LogPartition(log_z, *(min(sides), max(sides)) if sides else (None, None))


def _allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
  needed, free = float(np.prod(shape)) * np.dtype(dtype).itemsize, free_memory()
  if needed > 0.8 * free:
    raise errors.UsageError(f'the answers about {shape[0]} rows need {needed / 1e9:,.1f} GB of '
                            f'memory, and {free / 1e9:,.1f} GB are free: ask about fewer rows at a '
                            'time')
  return np.empty(shape, dtype)
