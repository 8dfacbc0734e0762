"""Two players, one optimizer: who moves when.

  generator's turn:  g <- g + u_g(dL_g/dg),   f and its optimizer's state stay;   else the reverse

A gradient of zero does not suffice: Adam would decay its moments and keep moving by them.

Both may also move at once, each against the other's last parameters (simultaneous), or by one of

  extragradient  p' = p + u(dL(p)),  then  p + u(dL(p')): an update looks ahead, the next one moves
  optimistic     p + 2 u_t - u_{t-1}, u_t the update of an ordinary optimizer

On a game whose field turns around its equilibrium, such as the Dirac GAN's, simultaneous moves
spiral outwards, turns keep their distance, and these two spiral inwards.

Korpelevich (1976); Gidel et al. (2019); Daskalakis et al. (2018).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


class Halfway(NamedTuple):
  """The state of `extragradient`: whether the next update moves, and from where."""

  inner: Any
  moves: jax.Array
  origin: Any


def extragradient(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """p' = p + u(dL(p)) at even updates, p + u(dL(p')) at odd ones (Korpelevich, 1976).

  Both halves pass through the optimizer, as in ExtraAdam (Gidel et al., 2019), and each sees its
  own batch. Training should end after a whole number of pairs; p' is what is saved in between.
  """

  def init(params):
    return Halfway(optimizer.init(params), jnp.zeros((), bool), jax.tree.map(jnp.copy, params))

  def update(updates, state, params=None):
    _require(params, 'extragradient')
    updates, inner = optimizer.update(updates, state.inner, params)
    origin = jax.tree.map(lambda old, p: jnp.where(state.moves, old, p), state.origin, params)
    updates = jax.tree.map(lambda u, old, p: u + (old - p), updates, origin, params)
    return updates, Halfway(inner, ~state.moves, origin)

  return optax.GradientTransformation(init, update)


def optimistic(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """p + 2 u_t - u_{t-1}, u_0 = 0 (Daskalakis et al., 2018); state: (the optimizer's, u_{t-1})."""

  def init(params):
    return optimizer.init(params), jax.tree.map(jnp.zeros_like, params)

  def update(updates, state, params=None):
    updates, inner = optimizer.update(updates, state[0], params)
    return jax.tree.map(lambda u, last: 2 * u - last, updates, state[1]), (inner, updates)

  return optax.GradientTransformation(init, update)


def clipped(optimizer: optax.GradientTransformation, bound: Any) -> optax.GradientTransformation:
  """Every parameter is held in [-bound, bound] after each move (Arjovsky et al., 2017)."""

  def update(updates, state, params=None):
    _require(params, 'clipped')
    updates, state = optimizer.update(updates, state, params)
    return jax.tree.map(lambda u, p: jnp.clip(p + u, -bound, bound) - p, updates, params), state

  return optax.GradientTransformation(optimizer.init, update)


def _require(params: Any, name: str) -> None:
  if params is None:
    raise ValueError(f'{name} moves parameters: give them to update(updates, state, params)')
