"""Two players, one optimizer: who moves when.

  generator's turn:  g <- g + u_g(dL_g/dg),   f and its optimizer's state stay;   else the reverse

An update that is zero is not rest: Adam would decay its moments and go on moving by them.
"""

from collections.abc import Callable

import optax
from optax import transforms


def players(generator: optax.GradientTransformation, critic: optax.GradientTransformation,
            generators_turn: Callable | None = None) -> optax.GradientTransformation:
  """The optimizer of params that have fields `generator` and `critic`.

  Args:
    generator: its optimizer; schedules count its own moves.
    critic: likewise.
    generators_turn: step -> bool, the rule that the estimator has; None: both move at every update.

  Returns:
    a GradientTransformation.
  """
  if generators_turn is not None:
    generator = transforms.conditionally_mask(generator, generators_turn)
    critic = transforms.conditionally_mask(critic, lambda step: ~generators_turn(step))
  return optax.partition({'generator': generator, 'critic': critic},
                         lambda params: type(params)(generator='generator', critic='critic'))
