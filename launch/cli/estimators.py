"""Estimators from a user's file: what `--estimator=path.py:name` may name."""

from typing import Any

from gen_models.estimators import base, custom
from launch import errors


def lift(name: str, thing: Any) -> tuple[base.Estimator, bool]:
  """The estimator that `thing` is, and whether it declares its bias: a bare function does not.

  Raises:
    UsageError: it is none, see custom.as_estimator.
  """
  try:
    estimator = custom.as_estimator(thing)
  except TypeError as e:
    raise errors.UsageError(f'{name}: {e}') from e
  return estimator, isinstance(thing, base.Estimator) or custom.num_arguments(thing) == 0


def is_loss(thing: Any) -> bool:
  """Whether it is written as loss(key, params, batch)."""
  return (callable(thing) and not isinstance(thing, base.Estimator)
          and custom.num_arguments(thing) == 3)
