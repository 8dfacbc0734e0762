"""Objects of a user's as estimators, and as the parts of which estimators are made.

Wherever an experiment names an estimator, a negative phase, a direction, a loss, a penalty or a
rule, an object of one's own may stand instead of the name. It is taken as it is, or made by a
function of no arguments; the forms of an estimator are in `as_estimator`. An object of another kind
is a TypeError whose one line says what was expected.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from gen_models.estimators import base
from gen_models.estimators.critic_penalties import Penalty, Remembering
from gen_models.estimators.directions import Direction
from gen_models.estimators.negative import Negative
from gen_models.estimators.two_player_losses import Loss
from gen_models.estimators.variational import Rule

ESTIMATOR = ('an Estimator, a function of no arguments that returns one, '
             'grad(key, params, memory, batch) or loss(key, params, batch)')
NEGATIVE = 'a Negative, or a function of no arguments that returns one'
DIRECTION = 'a Direction, or a function of no arguments that returns one'
RULE = 'a Rule, or a function of no arguments that returns one'
LOSS = 'a Loss of two players, or a function of no arguments that returns one'
PENALTY = ('a function penalty(key, critic, real_BV, fake_BV) -> scalar, or a Remembering penalty')

_T = TypeVar('_T')


def as_estimator(thing: Any) -> base.Estimator:
  """The estimator that an object is.

  Args:
    thing: an Estimator, a function of no arguments that returns one, a function grad(key, params,
      memory, batch) -> (grads, memory, metrics) with nothing to remember, or a function loss(key,
      params, batch) -> (scalar, metrics), whose gradient is taken. Bare functions count as
      unbiased.

  Raises:
    TypeError: it is none of these.
  """
  if isinstance(thing, base.Estimator) or not callable(thing):
    return _as(base.Estimator, thing, ESTIMATOR)
  num = num_arguments(thing)
  if num == 4:
    return base.Estimator(lambda key, params: base.Memory(), thing)
  if num == 3:
    return base.from_loss(thing)
  return _as(base.Estimator, thing, ESTIMATOR)


def as_negative(thing: Any) -> Negative:
  """The negative phase that an object is, see NEGATIVE; raises TypeError where it is none."""
  return _as(Negative, thing, NEGATIVE)


def as_direction(thing: Any) -> Direction:
  """The direction that an object is, see DIRECTION; raises TypeError where it is none."""
  return _as(Direction, thing, DIRECTION)


def as_rule(thing: Any) -> Rule:
  """The variational rule that an object is, see RULE; raises TypeError where it is none."""
  return _as(Rule, thing, RULE)


def as_loss(thing: Any) -> Loss:
  """The losses of two players that an object is, see LOSS; raises TypeError where it is none."""
  return _as(Loss, thing, LOSS)


def as_penalty(thing: Any) -> Penalty | Remembering:
  """The penalty that an object is, see PENALTY; raises TypeError where it is none."""
  if isinstance(thing, Remembering):
    return thing
  if callable(thing) and num_arguments(thing) == 4:
    return thing
  raise TypeError(f'{_what(thing)}; expected {PENALTY}')


def num_arguments(function: Callable) -> int:
  """The number of positional arguments that it must be given."""
  return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
             for p in inspect.signature(function).parameters.values())


def _as(kind: type[_T], thing: Any, expected: str) -> _T:
  if isinstance(thing, kind):
    return thing
  if callable(thing) and num_arguments(thing) == 0:
    made = thing()
    if isinstance(made, kind):
      return made
    raise TypeError(f'it returns an object of type {type(made).__name__}; expected {expected}')
  raise TypeError(f'{_what(thing)}; expected {expected}')


def _what(thing) -> str:
  return (f'it takes {num_arguments(thing)} arguments' if callable(thing)
          else f'it is of type {type(thing).__name__}')
