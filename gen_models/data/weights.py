"""Weights of rows: neighbours of sequences, and draws in proportion.

  w_n = 1 / #{m : identity(x_n, x_m) >= t}        identity: the share of equal columns

Rows are drawn by the alias method (Walker, 1977), applied to the order of an epoch: position p of
order.py gives row k, which stays with probability `accept[k]` and becomes `alias[k]` otherwise. So
P(row = n) = w_n / sum w exactly to the rounding of a float32, and with equal weights every row
stays: nothing changes. Axes: N rows, L columns, B batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_ROWS = 256  # of one block of comparisons: its counters stay in the cache of a core


class Alias(NamedTuple):
  """Tables of the alias method."""

  accept: Any  # float32 [N], in [0, 1]
  alias: Any  # int32 [N]


def alias_table(weights_N: np.ndarray) -> Alias:
  """Tables for drawing rows in proportion to weights, by Vose (1991)."""
  scaled = np.asarray(weights_N, np.float64)
  num = len(scaled)
  scaled = scaled * (num / scaled.sum())
  accept, alias = np.ones(num), np.arange(num, dtype=np.int32)
  # Rounding of the sum alone must not move equal weights.
  small = [int(i) for i in np.flatnonzero(scaled < 1 - 1e-12 * num)]
  large = [int(i) for i in np.flatnonzero(scaled > 1 + 1e-12 * num)]
  while small and large:
    low, high = small.pop(), large[-1]
    accept[low], alias[low] = scaled[low], high
    scaled[high] -= 1 - scaled[low]
    if scaled[high] < 1:
      small.append(large.pop())
  return Alias(accept.astype(np.float32), alias)


def draw(key: jax.Array, rows_B: jax.Array, table: Alias) -> jax.Array:
  """Rows in proportion to the weights, from uniform ones; int32 [B]. The key is consumed."""
  accept, alias = jnp.asarray(table.accept), jnp.asarray(table.alias)
  u_B = jax.random.uniform(key, rows_B.shape)
  return jnp.where(u_B < accept[rows_B], rows_B, alias[rows_B])


def mean(x_N: jax.Array, weights_N: Any = None) -> jax.Array:
  """sum_n w_n x_n / sum_n w_n over rows, the first axis; the plain mean where rows weigh the same.

  `weights_N` is `Arrays.weights`: None for equal ones. May be traced.
  """
  if weights_N is None:
    return jnp.mean(x_N, axis=0)
  weights_N = jnp.asarray(weights_N, jnp.float32)
  return weights_N @ jnp.asarray(x_N, jnp.float32) / jnp.sum(weights_N)


def neighbours(x_NL: np.ndarray, identity: float) -> np.ndarray:
  """#{m : identity(x_n, x_m) >= identity}, itself included; int64 [N], computed in blocks."""
  found = np.zeros(len(x_NL), np.int64)
  for first, close in _close(x_NL, identity):
    found[first:first + len(close)] += close.sum(1)
    rest = close[:, len(close):]  # pairs are compared once: the others see theirs here
    found[first + len(close):] += rest.sum(0)
  return found


def clusters(x_NL: np.ndarray, identity: float) -> np.ndarray:
  """The number of each row's cluster: rows linked by chains of such neighbours; int64 [N]."""
  parent = np.arange(len(x_NL))

  def root(i):
    while parent[i] != i:
      parent[i] = parent[parent[i]]
      i = parent[i]
    return i

  for first, close in _close(x_NL, identity):
    for i in range(len(close)):
      here = root(first + i)
      for j in np.flatnonzero(close[i, i + 1:]) + first + i + 1:
        if (there := root(j)) != here:
          parent[max(here, there)] = here = min(here, there)
  return np.unique([root(i) for i in range(len(x_NL))], return_inverse=True)[1]


def _close(x_NL: np.ndarray, identity: float):
  """(first, bool [R, N - first]): which of the rows from `first` on are neighbours of R rows."""
  x_LN = np.ascontiguousarray(x_NL.T)
  length = len(x_LN)
  # A count is whole: rounding must not decide whether 0.8 of 5 columns is 4.
  least = int(np.ceil(identity * length - 1e-9))
  dtype = np.uint8 if length < 256 else np.uint16 if length < 2**16 else np.uint32
  for first in range(0, x_LN.shape[1], _ROWS):
    same = np.zeros((min(_ROWS, x_LN.shape[1] - first), x_LN.shape[1] - first), dtype)
    for column in x_LN:
      same += column[first:first + len(same), None] == column[None, first:]
    yield first, same >= least
