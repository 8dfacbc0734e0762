"""Bits: draws in one pass over memory, the same on any number of devices; their log-normaliser.

Axis suffixes: D units, R rows.
"""

import jax
import jax.numpy as jnp
from jax import lax

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _threefry(k0, k1, x0, x1):
  """Threefry-2x32 with 20 rounds, unrolled (Salmon, Moraes, Dror & Shaw, 2011)."""
  # jax.random runs the same cipher as a rolled loop on CPU, five passes over memory;
  # written out, all of it fuses into one.
  keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
  x0, x1 = x0 + k0, x1 + k1
  for group in range(5):
    for rotation in _ROTATIONS[group % 2]:
      x0 = x0 + x1
      x1 = x0 ^ ((x1 << rotation) | (x1 >> (32 - rotation)))
    x0 = x0 + keys[(group + 1) % 3]
    x1 = x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
  return x0, x1


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
  """log(1 + exp(x)), the log-normaliser of a bit whose log-odds are x; nats, any shape.

  jax.nn.softplus without its care for differences of infinities, at a quarter of its cost.
  """
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


# Its pieces have no derivative at 0, it has one half.
softplus.defjvps(lambda dx, y, x: jax.nn.sigmoid(x) * dx)


def bernoulli(key: jax.Array, p: jax.Array) -> jax.Array:
  """x_i = 1[u_i < p_i], u_i uniform on [0, 1): a unit is on when the draw falls below.

  Four draws come from one block of the cipher. u_i = (a_i + r) / 2^16 with a_i 16
  random bits of its own and r one fraction of 8 bits shared by the whole call, so each
  u_i is uniform on a grid of 2^-24 (the grid of float32 itself: P(x_i = 1) is p_i to
  within 2^-24) and two units of one call covary by at most 2^-34. Counters are the
  global row and column: the same key draws the same samples on any number of devices.

  Args:
    key: typed random key, consumed.
    p: probabilities [..., D], float32.

  Returns:
    zeros and ones [..., D] in the dtype of p.
  """
  *lead, num_units = p.shape or (1,)
  p_RD = p.reshape(-1, num_units)
  k0, k1, k2 = jax.random.bits(key, (3,), jnp.uint32)
  counters = (p_RD.shape[0], -(-num_units // 4))
  x0, x1 = _threefry(k0, k1, lax.broadcasted_iota(jnp.uint32, counters, 0),
                     lax.broadcasted_iota(jnp.uint32, counters, 1))
  words = jnp.concatenate([x0, x1], axis=-1)
  a_RD = lax.bitcast_convert_type(words, jnp.uint16).reshape(p_RD.shape[0], -1)
  r = (k2 >> 24).astype(jnp.float32) / 256
  on_RD = a_RD[:, :num_units].astype(jnp.float32) + r < p_RD * 65536
  return on_RD.astype(p.dtype).reshape(p.shape)
