"""Estimators from a user's file: what `--estimator=path.py:name` may name.

An Estimator, a function of no arguments that returns one, grad(key, params, memory, batch) ->
(grads, memory, metrics) with nothing to remember, or loss(key, params, batch) -> (scalar, metrics),
whose gradient is taken.
"""

import inspect
from collections.abc import Callable
from typing import Any

from gen_models.estimators import base
from launch import errors


def lift(name: str, thing: Any) -> tuple[base.Estimator, bool]:
  """The estimator that `thing` is, and whether it declares its bias: a bare function does not.

  Raises:
    UsageError: it is none.
  """
  if isinstance(thing, base.Estimator):
    return thing, True
  wanted = ('an estimator is an Estimator, a function of no arguments that returns one, '
            'grad(key, params, memory, batch) or loss(key, params, batch)')
  if not callable(thing):
    raise errors.UsageError(f'{name} is of type {type(thing).__name__}; {wanted}')
  num_arguments = _num_arguments(thing)
  if num_arguments == 0:
    made = thing()
    if not isinstance(made, base.Estimator):
      raise errors.UsageError(f'{name}() returns a {type(made).__name__}; {wanted}')
    return made, True
  if num_arguments == 4:
    return base.Estimator(lambda key, params: base.Memory(), thing), False
  if is_loss(thing):
    return base.from_loss(thing), False
  raise errors.UsageError(f'{name} takes {num_arguments} arguments; {wanted}')


def is_loss(thing: Any) -> bool:
  """Whether it is written as loss(key, params, batch)."""
  return (callable(thing) and not isinstance(thing, base.Estimator)
          and _num_arguments(thing) == 3)


def _num_arguments(function: Callable) -> int:
  """How many positional arguments it must be given."""
  return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
             for p in inspect.signature(function).parameters.values())
