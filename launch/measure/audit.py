"""Audits of estimators by name or from a user's file; reports/audit.py prints and draws them.

A reference is a name of the catalogue, or `path.py:name` of an Estimator, of a function of no
arguments that returns one, of grad(key, params, memory, batch) -> (grads, memory, metrics) with
nothing to remember, or of loss(key, params, batch) -> (scalar, metrics), whose gradient is taken.
Bare functions declare nothing, which counts as unbiased.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import optax

from gen_models.evaluation import gradients
from gen_models.problems import catalogue as problems
from gen_models.problems.entry import Entry, Problem
from launch import errors
from launch.cli import estimators, references

ERROR_RATE = 1e-4  # of one audit: an unbiased estimator is called biased for one seed in so many


class Case(NamedTuple):
  """An estimator to be audited.

  Attributes:
    name: as it was asked for.
    entry: the estimator on its problem.
    problem: the loss whose gradient is enumerated.
    asked: whether the user asked for it, or it stands beside for comparison.
    says: whether it declares its bias itself; a bare function does not.
  """

  name: str
  entry: Entry
  problem: Problem
  asked: bool = True
  says: bool = True


class Row(NamedTuple):
  """The audit of a case, and its cost."""

  case: Case
  found: gradients.Audit
  seconds_per_step: float

  @property
  def agrees(self) -> bool:
    return self.found.biased == self.case.entry.estimator.biased

  @property
  def finite(self) -> bool:
    return math.isfinite(self.found.bias_z)


def cases(references: Sequence[str], name: str | None, everything: bool = False,
          compare: bool = True, burn_in: int | None = None) -> list[Case]:
  """The cases to be audited, problem by problem.

  Args:
    references: names of the catalogue or path.py:name.
    name: the problem of estimators from files, also path.py:name, rbm if None; without references,
      all estimators of that problem.
    everything: every estimator of the catalogue.
    compare: in addition to what was asked for, the catalogue's estimators of the same problems.
    burn_in: of estimators from files; None is the problem's own.

  Raises:
    UsageError: nothing to audit, or an estimator, file or problem that does not exist.
  """
  problem = None if name is None else problem_of(name)
  if everything:
    if references or problem:
      raise errors.UsageError('--all is every estimator: leave out --estimator and --problem')
    asked = [_known(name) for name in problems.ENTRIES]
  elif references:
    asked = [case(reference, problem, burn_in) for reference in dict.fromkeys(references)]
  elif problem:
    asked = _registered(problem.name)
    if not asked:
      raise errors.UsageError(f'--problem={name} has no estimator of ours: '
                              '--estimator=path.py:name')
  else:
    raise errors.UsageError('name what to audit: --estimator=name or --estimator=path.py:name, '
                            '--problem=name or --all' + errors.near('', list(problems.ENTRIES)))
  names = {c.name for c in asked}
  order = dict.fromkeys(c.entry.problem for c in asked)
  return [c for problem in order for c in (
    *(c for c in asked if c.entry.problem == problem),
    *(c._replace(asked=False) for c in _registered(problem) if compare and c.name not in names))]


def head(problem: Problem) -> str:
  """The small model and the loss, for the head of a table."""
  return f'{problem.name}: {problem.description}; the gradient of {problem.objective}'


def _registered(problem: str) -> list[Case]:
  return [_known(name) for name, entry in problems.ENTRIES.items() if entry.problem == problem]


def _known(name: str) -> Case:
  entry = problems.ENTRIES[name]
  return Case(name, entry, problems.PROBLEMS[entry.problem])


def problem_of(name: str) -> Problem:
  """The problem of the catalogue, or `path.py:name` of a Problem of the user's.

  Raises:
    UsageError: there is none, or its loss cannot be enumerated as it stands.
  """
  if '.py' not in name:
    if name not in problems.PROBLEMS:
      raise errors.UsageError(f'unknown problem {name!r}; one in a file is path.py:name'
                              + errors.near(name, list(problems.PROBLEMS)))
    return problems.PROBLEMS[name]
  thing = references.typed(name, 'problem').thing
  if not isinstance(thing, Problem):
    raise errors.UsageError(f'{name} is of type {type(thing).__name__}; a problem is a '
                            'gen_models.problems.entry.Problem')
  problem = thing._replace(name=name)
  with _in_one_line(f'{name}: its loss of its parameters and batch'):
    gradient = jax.eval_shape(jax.grad(problem.loss), problem.params, problem.batch)
  if not jax.tree.leaves(gradient):
    raise errors.UsageError(f'{name} has no parameters')
  return problem


@contextlib.contextmanager
def _in_one_line(what: str):
  """Reports an error of a user's code, such as shapes that do not fit, in a line led by `what`."""
  try:
    yield
  except errors.UsageError:
    raise
  except gradients.ContractError as e:
    raise errors.UsageError(f'{what}: {e}') from e
  except Exception as e:
    message = next(iter(str(e).splitlines()), '')
    raise errors.UsageError(f'{what}: {type(e).__name__}: {message}') from e


def case(reference: str, problem: Problem | None = None, burn_in: int | None = None) -> Case:
  """The case of one reference.

  Args:
    reference: a name of the catalogue, or path.py:name.
    problem: of an estimator from a file; rbm if None.
    burn_in: of an estimator from a file; None is the problem's own.

  Raises:
    UsageError: no such estimator, file or name, or something that is no estimator.
  """
  if '.py' not in reference:
    entry = problems.ENTRIES.get(reference)
    if entry is None:
      raise errors.UsageError(
        f'unknown estimator {reference!r}; one in a file is path.py:name'
        + errors.near(reference, list(problems.ENTRIES)))
    if problem is not None and problem.name != entry.problem:
      raise errors.UsageError(
        f'{reference} is an estimator of {entry.problem}, not of {problem.name}')
    return _known(reference)
  problem = problem or problems.PROBLEMS['rbm']
  thing = references.typed(reference, 'estimator').thing
  with _in_one_line(reference if problem.name == 'rbm' else f'{reference} on {problem.name}'):
    if estimators.is_loss(thing):
      _check_loss(reference, thing, problem.params, problem.batch)
    estimator, says = estimators.lift(reference, thing)
    gradients.check(estimator, problem.params, problem.batch)
  entry = problem.entry(estimator, problem.burn_in if burn_in is None else burn_in)
  return Case(reference, entry, problem, says=says)


def others(problem: Problem) -> list[Problem]:
  """Problems of the catalogue with the same model and batch, and another loss."""
  return [other for other in problems.PROBLEMS.values() if other.loss is not problem.loss
          and other.params is problem.params and other.batch is problem.batch]


def _check_loss(name: str, loss: Callable, params, batch) -> None:
  returned = jax.eval_shape(loss, jax.random.key(0), params, batch)
  if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
    raise errors.UsageError(f'{name} takes three arguments, as a loss does, but returns no '
                            '(scalar, metrics): metrics is a dict, {} will do')
  if getattr(returned[0], 'shape', None) != ():
    raise errors.UsageError(f'{name}: the loss has shape {getattr(returned[0], "shape", None)}, '
                            'expected a scalar')


def measure(cases: Sequence[Case], num_draws: int, seed: int = 0,
            report: Callable[[str], None] = lambda line: None) -> list[Row]:
  """Audits all cases, as many at a time as there are cores, then times one after the other."""
  def prepare(case):
    entry = case.entry
    # Accelerators round float32 products to 10 bits by default: that would be a bias.
    with jax.default_matmul_precision('highest'):
      found, stopwatch = gradients.timed_audit(
        jax.random.key(seed), entry.estimator, entry.params, entry.batch,
        problems.exact_grads(entry), num_draws=num_draws, burn_in=entry.burn_in,
        error_rate=ERROR_RATE)
    report(f'audited {case.name}')
    return found, stopwatch

  # Most of the time is spent in the compiler, which lets other threads run.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    prepared = list(pool.map(prepare, cases))
  return [Row(case, found, stopwatch()) for case, (found, stopwatch) in zip(cases, prepared)]


def as_dict(row: Row, coordinates: bool = False) -> dict:
  """The object of --json; a number that is not finite is null."""
  found, entry = row.found, row.case.entry
  result: dict[str, Any] = {
    'name': row.case.name, 'problem': entry.problem,
    'objective': row.case.problem.objective, 'biased': found.biased,
    'declared_biased': entry.estimator.biased, 'declared_by_default': not row.case.says,
    'bias_z': found.bias_z, 'threshold': found.threshold, 'num_draws': found.num_draws,
    'error_rate': ERROR_RATE, 'bias_norm': found.bias_norm,
    'bias_interval': list(found.bias_interval), 'variance': found.variance, 'snr': found.snr,
    'gradient_norm': float(optax.tree.norm(found.target)),
    'seconds_per_step': row.seconds_per_step, 'finite': row.finite}
  if coordinates:
    result['coordinates'] = [c._asdict() for c in gradients.coordinates(found)]
  return jax.tree.map(lambda x: None if isinstance(x, float) and not math.isfinite(x) else x,
                      result)


def as_json(row: Row, coordinates: bool = False) -> str:
  return json.dumps(as_dict(row, coordinates), allow_nan=False)


def _against(case: Case) -> str:
  """The loss that an estimator from a file was compared with, and which others there are."""
  if case.name in problems.ENTRIES:
    return ''
  known = ', '.join(f'--problem={p.name} ({p.objective})' for p in others(case.problem))
  return (f', against {case.problem.objective}; if it estimates another loss, say so: '
          + (f'{known} or ' if known else '') + '--problem=path.py:name')


def disagreements(rows: Sequence[Row]) -> list[str]:
  """One line for each estimator asked for that is not what it declares."""
  lines = []
  for row in rows:
    if row.agrees or not row.case.asked:
      continue
    found, says = row.found, 'unbiased' if row.found.biased else 'biased'
    by_default = '' if row.case.says else ' by default (an Estimator can declare biased=True)'
    if not row.finite:
      why = 'its gradient is nan or infinite'
    elif found.biased:
      why = (f'|z| {found.bias_z:.1f} at {worst_coordinates(found)[0].name} is above '
             f'{found.threshold:.1f} ({found.num_draws} draws)' + _against(row.case))
    else:
      why = (f'no bias is found: |z| {found.bias_z:.1f} is below {found.threshold:.1f} '
             f'({found.num_draws} draws; more may find it)')
    lines.append(f'{row.case.name} is declared {says}{by_default}, but {why}')
  return lines


def worst_coordinates(found: gradients.Audit) -> list[gradients.Coordinate]:
  """Coordinates by |z|, the largest first; nan counts as largest."""
  return sorted(gradients.coordinates(found),
                key=lambda c: math.inf if math.isnan(c.z) else abs(c.z), reverse=True)
