"""Adversarial estimators on a game of numbers: g(z) = a + b z, f(x) = c_0 tanh(c_1 x + c_2).

What each player's loss is in expectation over z (and, in penalties, over a place between data and
sample) is a quadrature. The sum below has the two gradients in one: each player's own loss, with
the other player's parameters held.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import estimators
from gen_models.models.gan import Params
from gen_models.problems.entry import Problem

_z, _weight = np.polynomial.hermite_e.hermegauss(40)
Z_K, W_K = jnp.float32(_z), jnp.float32(_weight / _weight.sum())
_u, _weight = np.polynomial.legendre.leggauss(20)
U_Q, W_Q = jnp.float32((_u + 1) / 2), jnp.float32(_weight / 2)

PARAMS = Params(jnp.float32([0.4, 0.8]), jnp.float32([1.2, 0.9, -0.3]))
# The hinge has corners, where a Gauss rule is off: a sum over a fine grid is not.
FINE_K = np.linspace(-8, 8, 16_001)
FINE_W_K = jnp.float32(np.exp(-FINE_K**2 / 2) / np.exp(-FINE_K**2 / 2).sum())
FINE_K = jnp.float32(FINE_K)

BATCH = jnp.float32([[-1.3], [-0.2], [0.6], [0.9], [1.7], [0.1]])


class Numbers:
  """The model: packs of `packing` numbers are read by their sum."""

  def __init__(self, packing=1):
    self.packing = packing

  def generate(self, key, params, num):
    a, b = params.generator
    return a + b * jax.random.normal(key, (num, 1))

  def critic(self, params, x_BV):
    return f(params.critic, jnp.sum(x_BV.reshape(-1, self.packing), axis=1))


def f(c, x):
  return c[0] * jnp.tanh(c[1] * x + c[2])


def slope(c, x):
  return c[0] * c[1] / jnp.cosh(c[1] * x + c[2])**2


def over_z(fn, generator):
  """E[fn(g(z))] of fn on arrays, its last axis being z."""
  return fn(generator[0] + generator[1] * FINE_K) @ FINE_W_K


def log_sigmoid(x):
  return -jnp.log1p(jnp.exp(-x))


def game(critic_loss, generator_loss):
  """The entry's loss from (generator, critic, x_B) -> each player's."""
  def loss(params, x_BV):
    fixed = jax.lax.stop_gradient(params)
    return (critic_loss(fixed.generator, params.critic, x_BV[:, 0])
            + generator_loss(params.generator, fixed.critic, x_BV[:, 0]))
  return loss


def classification(g, c, x_B):
  return -jnp.mean(log_sigmoid(f(c, x_B))) - over_z(lambda x: log_sigmoid(-f(c, x)), g)


def non_saturating(g, c, x_B):
  del x_B
  return -over_z(lambda x: log_sigmoid(f(c, x)), g)


def witness(g, c, x_B):
  return over_z(lambda x: f(c, x), g) - jnp.mean(f(c, x_B))


def critic_mean(g, c, x_B):
  del x_B
  return -over_z(lambda x: f(c, x), g)


def hinge_margins(g, c, x_B):
  return (jnp.mean(jnp.maximum(0, 1 - f(c, x_B)))
          + over_z(lambda x: jnp.maximum(0, 1 + f(c, x)), g))


def pairs(sign):
  def loss(g, c, x_B):
    return -jnp.mean(over_z(lambda x: log_sigmoid(sign * (f(c, x_B)[:, None] - f(c, x))), g))
  return loss


def slopes(g, c, x_B):
  return 0.7 / 2 * jnp.mean(slope(c, x_B)**2) + 0.4 / 2 * over_z(lambda x: slope(c, x)**2, g)


def slopes_between(g, c, x_B):
  x_K = g[0] + g[1] * Z_K
  between_BQK = x_B[:, None, None] + U_Q[:, None] * (x_K - x_B[:, None, None])
  return 2.0 * jnp.mean(W_Q @ (jnp.abs(slope(c, between_BQK)) - 1)**2 @ W_K)


def packed(g, c, x_B):
  x_K = g[0] + g[1] * Z_K
  sums_KK = x_K[:, None] + x_K
  return (-jnp.mean(log_sigmoid(f(c, x_B.reshape(-1, 2).sum(1))))
          - W_K @ log_sigmoid(-f(c, sums_KK)) @ W_K)


def packed_non_saturating(g, c, x_B):
  del x_B
  x_K = g[0] + g[1] * Z_K
  return -W_K @ log_sigmoid(f(c, x_K[:, None] + x_K)) @ W_K


def plus(one, other):
  return lambda *args: one(*args) + other(*args)


def saturated(g, c, x_B):
  del x_B
  return over_z(lambda x: log_sigmoid(-f(c, x)), g)


def _game(name, critic_loss, generator_loss):
  return Problem(f'gan_{name}', PARAMS, BATCH, game(critic_loss, generator_loss),
                 'adversarial game of numbers',
                 f"each player's own loss, {name.replace('_', ' ')}")


MINIMAX = _game('minimax', classification, saturated)
NON_SATURATING = _game('non_saturating', classification, non_saturating)
HINGE = _game('hinge', hinge_margins, critic_mean)
WASSERSTEIN = _game('wasserstein', witness, critic_mean)
WASSERSTEIN_GP = _game('wasserstein_gp', plus(witness, slopes_between), critic_mean)
RELATIVISTIC = _game('relativistic', pairs(1), pairs(-1))
RELATIVISTIC_R1_R2 = _game('relativistic_r1_r2', plus(pairs(1), slopes), pairs(-1))
PACKED = _game('packed', packed, packed_non_saturating)
PROBLEMS = (MINIMAX, NON_SATURATING, HINGE, WASSERSTEIN, WASSERSTEIN_GP, RELATIVISTIC,
            RELATIVISTIC_R1_R2, PACKED)


def _of(loss, penalties=(), turn=None, packing=1):
  return estimators.adversarial(Numbers(packing), estimators.LOSSES[loss], penalties, turn)


SLOPES = (estimators.r1(0.7), estimators.r2(0.4))
TURNS = _of('relativistic', SLOPES, estimators.turns(2))

ENTRIES = {
  'gan_minimax': MINIMAX.entry(_of('minimax')),
  'gan_non_saturating': NON_SATURATING.entry(_of('non_saturating')),
  'gan_hinge': HINGE.entry(_of('hinge')),
  'gan_wasserstein': WASSERSTEIN.entry(_of('wasserstein')),
  'gan_wasserstein_gp': WASSERSTEIN_GP.entry(
    _of('wasserstein', (estimators.gradient_penalty(2.0),))),
  'gan_relativistic': RELATIVISTIC.entry(_of('relativistic')),
  'gan_relativistic_r1_r2': RELATIVISTIC_R1_R2.entry(_of('relativistic', SLOPES)),
  'gan_packed': PACKED.entry(_of('non_saturating', packing=2)),
  # Of three turns the second is the generator's; the audit's target is masked as the gradient is.
  'gan_critics_turn': RELATIVISTIC_R1_R2.entry(TURNS),
  'gan_generators_turn': RELATIVISTIC_R1_R2.entry(TURNS, burn_in=1),
}
