"""Boltzmann machines by name: negative phase, direction, optimizer, the check of the data."""

from typing import Literal

import optax

from experiments._common import custom
from gen_models.estimators import directions
from gen_models.estimators.custom import as_direction, as_negative
from gen_models.estimators.negative import (
  coupled,
  fast_persistent,
  mean_field,
  persistent,
  reconstruction,
  tap,
)
from gen_models.estimators.tempered import tempered, trajectory
from gen_models.models import rbm, units

NegativeName = Literal['cd', 'pcd', 'fpcd', 'pt', 'ptt', 'coupled', 'mean_field', 'tap']
DirectionName = Literal['plain', 'centred', 'enhanced', 'standardised', 'natural']
AnyNegative = NegativeName | custom.Negative
AnyDirection = DirectionName | custom.Direction


def negative_phase(name: AnyNegative, *, chains: int, steps: int, rungs: int = 0,
                   fast_rate: float = 0.0):
  """The negative phase of this name, gen_models.estimators.negative and tempered; or a user's."""
  if not isinstance(name, str):
    return as_negative(name)
  return {
    'cd': lambda: reconstruction(steps),
    'pcd': lambda: persistent(chains, steps),
    'fpcd': lambda: fast_persistent(chains, steps, fast_rate),
    'pt': lambda: tempered(chains, rungs, steps),
    'ptt': lambda: trajectory(chains, rungs, steps),
    'coupled': lambda: coupled(chains, steps),
    'mean_field': lambda: mean_field(chains, steps),
    'tap': lambda: tap(chains, steps),
  }[name]()


def direction_of(name: AnyDirection, rate: float) -> directions.Direction:
  """The direction of this name, gen_models.estimators.directions; or a user's."""
  if not isinstance(name, str):
    return as_direction(name)
  return directions.PLAIN if name == 'plain' else getattr(directions, name)(rate)


def descent(learning_rate: float, momentum: float, weight_decay: float, num_steps: int,
            schedule: Literal['linear', 'constant'] = 'linear',
            on=rbm.Params(True, False, False), warmup: int = 0) -> optax.GradientTransformation:
  """Gradient descent whose rate falls linearly to 0 or stays; weight decay is on W only.

  `on` says by True which parameters decay: a tree of them, or a prefix of it. In the first `warmup`
  updates the rate rises from 0.
  """
  rate = (optax.linear_schedule(learning_rate, 0.0, num_steps) if schedule == 'linear'
          else learning_rate)
  if warmup:
    later = rate if callable(rate) else optax.constant_schedule(rate)
    rate = optax.join_schedules(
      [optax.linear_schedule(0.0, learning_rate, warmup),
       lambda step: later(step + warmup)], [warmup])
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=on),
    optax.sgd(rate, momentum))


def check(params: rbm.Params, v_BV) -> None:
  """Phase.check of binary machines: raises ValueError unless the batch is of their units."""
  units.check_batch(rbm.visible, len(params.b_V), v_BV)
