"""Normalising flows: invertible maps of vectors whose Jacobian is triangular.

  z = f(e; h),    z_i = m_i + exp(t_i) e_i,    log |det dz / de| = sum_i t_i

m_i and t_i are outputs of one network with masked weights, functions of the context h and of those
e_j whose degree is below that of i. Degrees 0 .. D - 1 make an autoregressive flow, of which one
direction is a single pass; two degrees make a coupling, in which one half of the units decides how
the other is scaled and shifted. A flow is several such steps, each with other degrees.

The inverse e_i = (z_i - m_i) exp(-t_i) is a fixed point that is reached from any start after as
many rounds as there are degrees, in practice after a few; its derivative is that of the implicit
function, so rounds are not differentiated through.

Last layers start at zero: an untrained flow is the identity.

Germain, Gregor, Murray & Larochelle (2015), MADE; Kingma, Salimans, Jozefowicz, Chen, Sutskever &
Welling (2016), Inverse autoregressive flow; Dinh, Sohl-Dickstein & Bengio (2017), Real NVP; Song,
Meng, Liao & Ermon (2021), Nonlinear equation solving for feedforward computation.

Axis suffixes: R rows, D units, C numbers of context, F features. Leading axes are free.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import networks
from gen_models.models.rows import add_bias

_STEEPEST = 2.0  # |t| of one step: scales of one unit lie within exp(-2) and exp(2)
_CLOSE = 1e-6  # change of a unit at which a round was the last, relative to 1 + |e|


class Masked(nn.Module):
  """(m, t) [R, 2 D] of e [R, D] and context [R, C] side by side; see the top of the file.

  A hidden unit of degree g sees units of degree at most g, and all of the context; outputs of
  degree d see hidden units of degree below d (Germain et al., 2015).

  Attributes:
    degrees: of each unit, from 0.
    features: widths of the hidden layers.
    num_context: C.
    activation: between layers.
  """

  degrees: tuple[int, ...]
  features: tuple[int, ...]
  num_context: int = 0
  activation: networks.Activation = jnp.tanh

  @nn.compact
  def __call__(self, x_RD):
    # Context has degree -1: outputs of degree 0 see it, and it only.
    degrees_D = np.array([*self.degrees, *[-1] * self.num_context])
    lowest = -1 if self.num_context else 0
    for i, width in enumerate(self.features):
      degrees_F = lowest + np.arange(width) % max(1, max(self.degrees) - lowest)
      x_RD = self.activation(self._dense(i, x_RD, degrees_D[:, None] <= degrees_F))
      degrees_D = degrees_F
    out_F = np.tile(self.degrees, 2)
    return self._dense(len(self.features), x_RD, degrees_D[:, None] < out_F,
                       nn.initializers.zeros)

  def _dense(self, i, x_RD, mask_DF, weights=nn.initializers.glorot_uniform()):
    w_DF = self.param(f'w_{i}', weights, mask_DF.shape)
    return add_bias(x_RD @ (w_DF * jnp.asarray(mask_DF, w_DF.dtype)),
                    self.param(f'b_{i}', nn.initializers.zeros, mask_DF.shape[1:]))


class Flow(NamedTuple):
  """The steps of a flow, the first one next to e. Build it with `autoregressive` or `coupling`."""

  steps: tuple[Masked, ...]

  @property
  def num_units(self) -> int:
    """D."""
    return len(self.steps[0].degrees)

  def init(self, key: jax.Array) -> tuple:
    """Parameters of each step, with which f is the identity."""
    return tuple(networks.init(k, step, self.num_units + step.num_context)
                 for k, step in zip(jax.random.split(key, len(self.steps)), self.steps,
                                    strict=True))

  def forward(self, params: tuple, e: jax.Array,
              h: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(z = f(e; h) [.., D], log |det dz / de| [..]) of e [.., D] and context [.., C]."""
    log_det = jnp.zeros(e.shape[:-1])
    for step, p in zip(self.steps, params, strict=True):
      m, t = _affine(step, p, e, h)
      e, log_det = m + jnp.exp(t) * e, log_det + jnp.sum(t, axis=-1)
    return e, log_det

  def inverse(self, params: tuple, z: jax.Array,
              h: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """(e, log |det dz / de|) with z = f(e; h); arguments as of `forward`."""
    log_det = jnp.zeros(z.shape[:-1])
    for step, p in zip(reversed(self.steps), reversed(params), strict=True):
      z = _solved(step, p, z, h)
      log_det += jnp.sum(_affine(step, p, z, h)[1], axis=-1)
    return z, log_det


def autoregressive(num_units: int, num_steps: int, features: tuple[int, ...],
                   num_context: int = 0) -> Flow:
  """A degree for each unit, their order turned round from step to step (Kingma et al., 2016)."""
  _require(num_steps, features)
  degrees = tuple(range(num_units))
  return Flow(tuple(Masked(degrees[::1 if i % 2 == 0 else -1], tuple(features), num_context)
                    for i in range(num_steps)))


def coupling(num_units: int, num_steps: int, features: tuple[int, ...],
             num_context: int = 0) -> Flow:
  """Units of even and of odd index move each other in turn (Dinh et al., 2017).

  Both directions cost about the same. Units that decide are scaled and shifted too, by functions of
  the context alone.
  """
  _require(num_steps, features)
  return Flow(tuple(Masked(tuple((i + j) % 2 for j in range(num_units)) if num_units > 1 else (0,),
                           tuple(features), num_context) for i in range(num_steps)))


def _require(num_steps: int, features: tuple[int, ...]) -> None:
  if num_steps < 1 or not features:
    raise ValueError(f'a flow has at least one step and one hidden layer in each, got {num_steps} '
                     f'steps and layers {features}')


def _affine(step: Masked, params, e, h) -> tuple[jax.Array, jax.Array]:
  """(m, t), [.., D] each."""
  if h is not None:
    e = jnp.concatenate([e, jnp.broadcast_to(h, (*e.shape[:-1], h.shape[-1]))], axis=-1)
  m, raw = jnp.split(networks.apply(step, params, e), 2, axis=-1)
  return m, _STEEPEST * jnp.tanh(raw / _STEEPEST)


def _solved(step: Masked, params, z, h) -> jax.Array:
  """e with m(e) + exp(t(e)) e = z; its derivative is that of the implicit function."""
  rounds = max(step.degrees) + 1

  def residual(e):
    m, t = _affine(step, params, e, h)
    return m + jnp.exp(t) * e - z

  def solve(_, start):
    def again(e):
      m, t = _affine(step, params, e, h)
      return (z - m) * jnp.exp(-t)
    return _fixed_point(again, start, rounds)

  def solve_tangent(linear, y):
    # `linear` is triangular in the order of the degrees, with the diagonal exp(t).
    scale = lax.stop_gradient(jnp.exp(_affine(step, params, held, h)[1]))

    def of(product, y):
      return _fixed_point(lambda v: v - (product(v) - y) / scale, y / scale, rounds)
    return lax.custom_linear_solve(linear, y, of, of)

  held = lax.stop_gradient(solve(None, z))
  return lax.custom_root(residual, held, lambda f, start: start, solve_tangent)


def _fixed_point(again: Callable[[jax.Array], jax.Array], start: jax.Array,
                 rounds: int) -> jax.Array:
  """x = again(x), which `rounds` rounds reach; rows [.., D] that no longer move are left alone."""
  def moves(x, old):
    # One that is not finite does not settle, and is not waited for.
    return jnp.any(jnp.abs(x - old) > _CLOSE * (1 + jnp.abs(x)), axis=-1, keepdims=True)

  def body(state):
    i, x, moving = state
    new = jnp.where(moving, again(x), x)
    return i + 1, new, moves(new, x)

  def unsettled(state):
    i, _, moving = state
    return (i < rounds) & jnp.any(moving)

  moving = jnp.ones((*start.shape[:-1], 1), bool)
  return lax.while_loop(unsettled, body, (jnp.int32(0), start, moving))[1]
