"""Functions of many rows, a block of rows at a time: memory does not grow with their number.

Axis suffixes: N rows, R rows of a block.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gen_models import devices

CELLS = 2**24  # numbers of one intermediate array that are held at once, 64 MiB of float32


def rows_at_once(cells_a_row: int) -> int:
  """Rows of a block whose intermediate array [R, cells a row] has at most CELLS numbers."""
  return max(1, CELLS // max(1, cells_a_row))


def by_rows(fn: Callable[[Any], Any], rows_N: Any, at_once: int) -> Any:
  """fn(rows_N), where what fn makes of a row does not depend on the other rows.

  Args:
    fn: tree of arrays [R, ..] -> tree of arrays [R, ..]; jit-able.
    rows_N: a tree of arrays with N rows.
    at_once: rows of a block. Where there are no more, this is fn(rows_N) itself.
  """
  num = len(jax.tree.leaves(rows_N)[0])
  if num <= at_once:
    return fn(rows_N)
  num_blocks = -(-num // at_once)
  # The last block is filled up with copies of the last row.
  index_BR = jnp.minimum(jnp.arange(num_blocks * at_once), num - 1).reshape(num_blocks, at_once)
  made = devices.mapped(lambda index_R, rows_N: fn(jax.tree.map(lambda x: x[index_R], rows_N)),
                        index_BR, rows_N)
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], made)
