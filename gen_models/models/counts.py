"""Families of counts, 0, 1, 2, .., for the visible layer of a vae.Model.

  POISSON             p(x) = m^x exp(-m) / x!,                              one output, log m
  NEGATIVE_BINOMIAL   p(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x,
                      of mean m and variance m + m^2 / r,                   two, log m then log r

The second is a Poisson distribution whose rate is itself drawn, from a gamma distribution of mean m
and shape r; as r grows it becomes the first. Means are at most exp(15), shapes between exp(-7) and
exp(7), so that nothing an untrained network says overflows.

Axis suffixes: D units, O outputs. Nats.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from gen_models.models.families import Family

_MOST, _SHAPES = 15.0, 7.0
_LEAST_MEAN = 1e-3  # of the outputs of an untrained network


def _log_mean(outputs):
  return jnp.minimum(outputs, _MOST)


def _log_of(mean_D):
  return jnp.log(jnp.maximum(mean_D, _LEAST_MEAN))


def _poisson() -> Family:
  def log_prob(outputs, x):
    t = _log_mean(outputs)
    return jnp.sum(x * t - jnp.exp(t) - gammaln(x + 1), axis=-1)

  def kl(q_outputs, p_outputs):
    q, p = _log_mean(q_outputs), _log_mean(p_outputs)
    return jnp.sum(jnp.exp(q) * (q - p) - jnp.exp(q) + jnp.exp(p), axis=-1)

  def mean(outputs):
    return jnp.exp(_log_mean(outputs))

  def sample(key, outputs):
    return jax.random.poisson(key, mean(outputs)).astype(outputs.dtype)

  return Family(1, log_prob, kl, sample, mean, _log_of, has_path=False)


def _negative_binomial() -> Family:
  def split(outputs):
    t, s = jnp.split(outputs, 2, axis=-1)
    return _log_mean(t), jnp.clip(s, -_SHAPES, _SHAPES)

  def log_prob(outputs, x):
    t, s = split(outputs)
    r, log_sum = jnp.exp(s), jnp.logaddexp(s, t)
    return jnp.sum(gammaln(x + r) - gammaln(r) - gammaln(x + 1) + r * (s - log_sum)
                   + x * (t - log_sum), axis=-1)

  def kl(q_outputs, p_outputs):
    raise ValueError('the KL of negative binomial units has no closed form')

  def mean(outputs):
    return jnp.exp(split(outputs)[0])

  def sample(key, outputs):
    key_rate, key_x = jax.random.split(key)
    t, s = split(outputs)
    rate = jax.random.gamma(key_rate, jnp.exp(s)) * jnp.exp(t - s)
    return jax.random.poisson(key_x, rate).astype(outputs.dtype)

  return Family(2, log_prob, kl, sample, mean,
                lambda mean_D: jnp.concatenate([_log_of(mean_D), jnp.zeros_like(mean_D)]),
                has_path=False)


POISSON = _poisson()
NEGATIVE_BINOMIAL = _negative_binomial()


class OfCounts(nn.Module):
  """A network that sees log(1 + x): counts span orders of magnitude.

  Attributes:
    network: of vectors.
  """

  network: nn.Module

  def __call__(self, x_RD):
    return self.network(jnp.log1p(x_RD))
