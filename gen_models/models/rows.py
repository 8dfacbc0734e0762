"""Sums over the rows of a batch, written so that their bits do not change under vmap.

Axis suffixes: B batch, R rows, D units, F features.
"""

import functools
import math

import jax
import jax.numpy as jnp

from gen_models import devices


def _sum_rows(weights_B, x_BD):
  """sum_b w_b x_bd, [D], of float32 also where the products around it are of bfloat16."""
  return jnp.matmul(weights_B, x_BD, precision='highest')


def mean_rows(x_BD: jax.Array, weights_B: jax.Array | None = None) -> jax.Array:
  """(1/B) sum_b x_bd, [D], as a product with ones; sum_b w_b x_bd / sum_b w_b of weighted rows.

  On CPU, XLA orders a reduction over rows differently under vmap but a product alike; as a product,
  a replica of a program that trains several is bitwise identical to a single run.
  """
  if weights_B is None:
    return _sum_rows(jnp.ones(len(x_BD)), x_BD) / len(x_BD)
  return _sum_rows(weights_B, x_BD) / jnp.sum(weights_B)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_rows(b_F: jax.Array, num_rows: int) -> jax.Array:
  """b in every row, [R, F]; its gradient is a product with ones."""
  return jnp.broadcast_to(b_F, (num_rows, len(b_F)))


over_rows.defvjp(lambda b_F, num_rows: (over_rows(b_F, num_rows), None),
                 lambda num_rows, _, d_RF: (_sum_rows(jnp.ones(num_rows, d_RF.dtype), d_RF),))


def over(b_F: jax.Array, lead: tuple[int, ...]) -> jax.Array:
  """b in every row, [*lead, F]; its gradient that of `over_rows`."""
  if devices.distributed():  # with all rows on one axis, they would go to other devices
    return jnp.broadcast_to(b_F, (*lead, len(b_F)))
  return over_rows(b_F, math.prod(lead)).reshape(*lead, -1)


def add_bias(x: jax.Array, b_F: jax.Array) -> jax.Array:
  """x + b, [.., F]: b added to every row of x, its gradient that of `over_rows`."""
  if devices.distributed():
    return x + over(b_F, x.shape[:-1])
  x_RF = x.reshape(-1, x.shape[-1])
  return (x_RF + over_rows(b_F, len(x_RF))).reshape(x.shape)
