"""Two players, one optimizer: who moves when.

  generator's turn:  g <- g + u_g(dL_g/dg),   f and its optimizer's state stay;   else the reverse

A gradient of zero does not suffice: Adam would decay its moments and keep moving by them.
"""

from collections.abc import Callable
from typing import Any

import optax
from optax import transforms


def players(generator: optax.GradientTransformation, critic: optax.GradientTransformation,
            generators_turn: Callable[[Any], Any] | None = None) -> optax.GradientTransformation:
  """The optimizer of params that have fields `generator` and `critic`.

  Args:
    generator: its optimizer; schedules count its own moves.
    critic: likewise.
    generators_turn: step -> bool, the rule that the estimator has; None: both move at every update.

  Returns:
    a GradientTransformation.
  """
  if generators_turn is not None:
    generator, critic = _in_turn(generator, critic, generators_turn)
  return optax.partition({'generator': generator, 'critic': critic},
                         lambda params: type(params)(generator='generator', critic='critic'))


def _in_turn(generator, critic, generators_turn: Callable[[Any], Any]):
  """Both transformations, each inactive, its state unchanged, while the other player moves."""
  return (transforms.conditionally_mask(generator, lambda step, **extra: generators_turn(step)),
          transforms.conditionally_mask(critic, lambda step, **extra: ~generators_turn(step)))
