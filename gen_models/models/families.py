"""Families of units: what the layers of an autoencoder are, given the outputs of a network.

  p(x | outputs) = prod_i p(x_i | outputs of unit i)

A `Family` says how many numbers a unit is made of, and its density, KL, draws and mean. Outputs are
blocks, one for each number of a unit: [.., O], O = num_outputs D. The families of counts are in
counts.py, those of levels such as grey values in levels.py.

Axis suffixes: D units of a layer, O outputs of a network, Q states. Leading axes are free. Nats.
"""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gen_models.models import bits, units


class LogProb(Protocol):
  """The density of a family."""

  def __call__(self, outputs: jax.Array, x: jax.Array, /) -> jax.Array:
    """log p(x), [..] nats, of outputs [.., O] and x [.., D]; leading axes broadcast."""
    ...


class Divergence(Protocol):
  """The divergence of two members of a family."""

  def __call__(self, q_outputs: jax.Array, p_outputs: jax.Array, /) -> jax.Array:
    """KL(q || p), [..] nats."""
    ...


class Sample(Protocol):
  """Draws of a family."""

  def __call__(self, key: jax.Array, outputs: jax.Array, /) -> jax.Array:
    """x ~ p, [.., D]; differentiable in the outputs where units are continuous."""
    ...


class Mean(Protocol):
  """Means of a family."""

  def __call__(self, outputs: jax.Array, /) -> jax.Array:
    """E[x], [.., D]."""
    ...


class Follow(Protocol):
  """A draw seen as one of a family, its noise held."""

  def __call__(self, outputs: jax.Array, x: jax.Array, /) -> jax.Array:
    """x again; its derivative along the outputs is that of a sample with the noise of x."""
    ...


class Outputs(Protocol):
  """Outputs for an untrained network."""

  def __call__(self, mean_D: jax.Array, /) -> jax.Array:
    """Outputs [O] of which the mean is mean_D."""
    ...


class Family(NamedTuple):
  """Independent units given the outputs of a network, `num_outputs` numbers for each unit.

  Attributes:
    num_outputs: O / D.
    log_prob: (outputs [.., O], x [.., D]) -> [..] nats; leading axes broadcast.
    kl: (outputs of q, outputs of p) -> KL(q || p), [..] nats.
    sample: (key, outputs) -> [.., D], differentiable in the outputs where units are continuous.
    mean: outputs -> E[x], [.., D].
    outputs: mean_D -> outputs [O] with that mean, for an untrained network.
    has_path: whether samples can be differentiated in the outputs: units are continuous.
    follow: (outputs, x) -> x, which moves with the outputs as a sample does; None without a path.
    num_states: of a discrete unit; one of more than two is that many numbers, one of them 1.
    each: a faster `log_probs`; None to use log_prob.
  """

  num_outputs: int
  log_prob: LogProb
  kl: Divergence
  sample: Sample
  mean: Mean
  outputs: Outputs
  has_path: bool = True
  follow: Follow | None = None
  num_states: int | None = None
  each: LogProb | None = None

  def log_probs(self, outputs_KO, x) -> jax.Array:
    """log p(x) given each of K rows of outputs, [.., K] nats, of x [.., D]."""
    if self.each is not None:
      return self.each(outputs_KO, x)
    return self.log_prob(outputs_KO, x[..., None, :])


def _bernoulli() -> Family:
  def log_prob(logits, x):
    return jnp.sum(x * logits - bits.softplus(logits), axis=-1)

  def kl(q_logits, p_logits):
    q = jax.nn.sigmoid(q_logits)
    return jnp.sum(q * (q_logits - p_logits) + bits.softplus(p_logits)
                   - bits.softplus(q_logits), axis=-1)

  def log_probs(logits_KD, x):
    return (jnp.matmul(x, logits_KD.T, precision='highest')
            - jnp.sum(bits.softplus(logits_KD), axis=-1))

  def sample(key, logits):
    return bits.bernoulli(key, jax.nn.sigmoid(logits))

  return Family(1, log_prob, kl, sample, jax.nn.sigmoid,
                lambda mean_D: units.log_odds(mean_D, 0.002), has_path=False, num_states=2,
                each=log_probs)


def gaussian(scale: float | None = None, floor: float = 0.0) -> Family:
  """N(m, s^2). Two outputs a unit, m then t with s = floor + exp(t); or, with `scale`, only m.

  A floor bounds the density where data hardly vary: without it, a pixel that is always 0 is worth
  as many nats as s allows.
  """
  def split(outputs):
    if scale is not None:
      return outputs, jnp.full((1,), scale)
    m, t = jnp.split(outputs, 2, axis=-1)
    return m, floor + jnp.exp(t)

  def log_prob(outputs, x):
    m, s = split(outputs)
    return -jnp.sum(jnp.square((x - m) / s) / 2 + jnp.log(s) + math.log(2 * math.pi) / 2, axis=-1)

  def log_probs(outputs_KO, x):
    m_KD, s_KD = split(outputs_KO)
    r_KD = jnp.broadcast_to(1 / s_KD, m_KD.shape)
    return -squares(x, m_KD, r_KD) / 2 - jnp.sum(
      jnp.log(s_KD) + jnp.full_like(m_KD, math.log(2 * math.pi) / 2), axis=-1)

  def kl(q_outputs, p_outputs):
    (m, s), (mp, sp) = split(q_outputs), split(p_outputs)
    return jnp.sum((jnp.square(s / sp) + jnp.square((m - mp) / sp) - 1) / 2 + jnp.log(sp / s),
                   axis=-1)

  def sample(key, outputs):
    m, s = split(outputs)
    return m + s * jax.random.normal(key, m.shape)

  def follow(outputs, x):
    m, s = split(outputs)
    return m + s * jax.lax.stop_gradient((x - m) / s)

  def start(mean_D):
    return mean_D if scale is not None else jnp.concatenate([mean_D, jnp.zeros_like(mean_D)])

  return Family(1 if scale is not None else 2, log_prob, kl, sample,
                lambda outputs: split(outputs)[0], start, follow=follow, each=log_probs)


@jax.custom_jvp
def squares(x, m_KD, r_KD) -> jax.Array:
  """sum_i ((x_i - m_ki) r_ki)^2 for each of K rows, [.., K], of x [.., D].

  Its value is that sum. Automatic differentiation of the sum would pass over [.., K, D] several
  times, so the derivative is expanded into matrix products: of 500 Gaussians of 40 units at 100
  points it takes a fiftieth of the time. Rounding then gives the derivative in r an error of about
  eps (x_i r_ki)^2 in units of 1 / r_ki, half a per cent of float32 where rows are spread over 300
  standard deviations. Of real numbers only: integers have no derivative.
  """
  return jnp.sum(jnp.square((x[..., None, :] - m_KD) * r_KD), axis=-1)


@squares.defjvp
def _squares_jvp(primals, tangents):
  (x, m_KD, r_KD), (dx, dm_KD, dr_KD) = primals, tangents
  # Coordinates are taken from the mean of the rows, which keeps numbers, and so rounding, small.
  origin_D = jnp.mean(m_KD, axis=0)
  x, m_KD, q_KD = x - origin_D, m_KD - origin_D, jnp.square(r_KD)

  def product(x, w_KD):
    return jnp.einsum('...d,kd->...k', x, w_KD, precision='highest')

  by_points = product(x * dx, q_KD) - product(dx, m_KD * q_KD)
  by_rows = jnp.sum(m_KD * q_KD * dm_KD, axis=-1) - product(x, q_KD * dm_KD)
  turn_KD = r_KD * dr_KD
  by_scales = (product(jnp.square(x), turn_KD) - 2 * product(x, m_KD * turn_KD)
               + jnp.sum(jnp.square(m_KD) * turn_KD, axis=-1))
  return squares(*primals), 2 * (by_points + by_rows + by_scales)


def categorical(num_states: int) -> Family:
  """Units of Q states, each Q numbers of which one is 1: p = softmax(Q outputs)."""
  if num_states < 2:
    raise ValueError(f'a categorical unit has at least two states, got {num_states}')

  def split(x):
    if x.shape[-1] % num_states:
      raise ValueError(f'{x.shape[-1]} numbers are no whole units of {num_states} states')
    return x.reshape(*x.shape[:-1], -1, num_states)

  def log_prob(outputs, x):
    return jnp.sum(split(x) * jax.nn.log_softmax(split(outputs)), axis=(-2, -1))

  def kl(q_outputs, p_outputs):
    log_q, log_p = jax.nn.log_softmax(split(q_outputs)), jax.nn.log_softmax(split(p_outputs))
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=(-2, -1))

  def sample(key, outputs):
    states = jax.random.categorical(key, split(outputs))
    return jax.nn.one_hot(states, num_states).reshape(outputs.shape)

  def mean(outputs):
    return jax.nn.softmax(split(outputs)).reshape(outputs.shape)

  return Family(1, log_prob, kl, sample, mean, lambda mean_D: jnp.log(jnp.maximum(mean_D, 0.002)),
                has_path=False, num_states=num_states)


def _continuous_bernoulli() -> Family:
  """p(x) = exp(e x - A(e)) on [0, 1], A(e) = log((exp(e) - 1) / e); one output, the log-odds e.

  Without A the density of values between 0 and 1 does not integrate to 1. A and its derivative, the
  mean, are 0 / 0 at e = 0, near which series stand for them; -e is the mirror of e.

  Loaiza-Ganem & Cunningham (2019), The continuous Bernoulli.
  """
  near_zero, tiny = 0.5, 1e-2  # below which series stand for differences of large numbers

  def log_norm(e):
    """A(e) = log((exp(e) - 1) / e)."""
    h, near = jnp.abs(e), jnp.clip(e, -near_zero, near_zero)
    far = jnp.maximum(h, near_zero)
    return jnp.where(h < near_zero, near * (1 / 2 + near * (1 / 24 - near**2 / 2880)),
                     jnp.maximum(e, 0) + jnp.log(-jnp.expm1(-far)) - jnp.log(far))

  def mean(e):
    """A'(e)."""
    h, near = jnp.abs(e), jnp.clip(e, -near_zero, near_zero)
    far = jnp.maximum(h, near_zero)
    above = -1 / jnp.expm1(-far) - 1 / far
    series = 1 / 2 + near * (1 / 12 + near**2 * (-1 / 720 + near**2 / 30240))
    return jnp.where(h < near_zero, series, jnp.where(e < 0, 1 - above, above))

  def log_prob(e, x):
    return jnp.sum(e * x - log_norm(e), axis=-1)

  def kl(q, p):
    return jnp.sum((q - p) * mean(q) - log_norm(q) + log_norm(p), axis=-1)

  def follow(e, x):
    # dx/de = -(dF/de) / p(x), F the distribution function, written for the side that cannot
    # overflow: F(y) = y exp(A(h y) - A(h)).
    e_held, x = jax.lax.stop_gradient(e), jax.lax.stop_gradient(x)
    h = jnp.abs(e_held)
    y = jnp.where(e_held < 0, 1 - x, x)
    slope = y * jnp.exp(log_norm(-h * y)) * (mean(h) - y * mean(h * y))
    return x + slope * (e - e_held)

  def sample(key, e):
    h = jnp.abs(e)
    u = jax.random.uniform(key, e.shape, e.dtype)
    far = jnp.maximum(h, tiny)
    y = jnp.where(h < tiny, u + h * u * (1 - u) / 2,
                  1 + jnp.log(u + (1 - u) * jnp.exp(-far)) / far)
    return follow(e, jnp.clip(jnp.where(e < 0, 1 - y, y), 0, 1))

  def start(mean_D):
    """The inverse of `mean`: that of Langevin's function by Cohen (1991), then Newton's steps."""
    mean_D = jnp.clip(mean_D, 0.002, 0.998)
    y_D = 2 * mean_D - 1

    def step(_, e_D):
      found_D, slope_D = jax.jvp(mean, (e_D,), (jnp.ones_like(e_D),))
      return e_D - (found_D - mean_D) / slope_D

    return jax.lax.fori_loop(0, 5, step, 2 * y_D * (3 - y_D**2) / (1 - y_D**2))

  return Family(1, log_prob, kl, sample, mean, start, follow=follow)


BINARY = _bernoulli()
NORMAL = gaussian()
CONTINUOUS_BERNOULLI = _continuous_bernoulli()


def product(outputs: jax.Array, others: jax.Array) -> jax.Array:
  """Outputs of the normalised product of two of `NORMAL`, whose precisions add, [.., 2 D]."""
  (m, t), (n, u) = jnp.split(outputs, 2, axis=-1), jnp.split(others, 2, axis=-1)
  log_s = -jnp.logaddexp(-2 * t, -2 * u) / 2
  return jnp.concatenate([m * jnp.exp(2 * (log_s - t)) + n * jnp.exp(2 * (log_s - u)),
                          jnp.broadcast_to(log_s, jnp.broadcast_shapes(t.shape, u.shape))], -1)
