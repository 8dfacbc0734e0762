"""The tail of a Gaussian: x ~ N(m, 1) given x >= 0, where m may lie far below zero.

With m below -12, float32 runs out in quotients of densities and probabilities, and series in
1 / m^2 take their place. Abramowitz & Stegun (1964), 26.2.12.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri

FAR = 12.0  # the series below are right to 2e-4 where m < -12


def truncated_normal(key, m: jax.Array) -> jax.Array:
  """x ~ N(m, 1) given x >= 0, of the shape of m; the key is consumed."""
  tiny = jnp.finfo(m.dtype).tiny
  u = jax.random.uniform(key, m.shape, minval=tiny)
  near = jnp.maximum(m, -FAR)
  # z = -Phi^-1(u Phi(m)) lies above -m; x = m + z. A product below the smallest number would be 0
  # and x infinite.
  x = near - ndtri(jnp.maximum(u * jnp.exp(log_ndtr(near)), tiny))
  # Far below zero z^2 / 2 + log z exceeds its value at -m by e, exponential: one step towards that.
  far, e = jnp.minimum(m, -FAR), -jnp.log(u)
  e = 2 * e - jnp.log1p(2 * e / far**2)
  x = jnp.where(m < -FAR, e / (jnp.sqrt(far**2 + e) - far), x)
  return jnp.maximum(x, 0)


def scaled_mean(m):
  """-m E[x] of x ~ N(m, 1) given x >= 0, m far below zero: 1 - 2 / m^2 + 10 / m^4 - ..."""
  return 1 - square(m)


def square(m):
  """E[x^2] of x ~ N(m, 1) given x >= 0, m far below zero: 2 / m^2 - 10 / m^4 + 74 / m^6 - ..."""
  s = 1 / m**2
  return s * (2 - s * (10 - s * (74 - s * 706)))
