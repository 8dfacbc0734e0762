"""A batch is a pure function of the step.

  batch(t) = seen(fold_in(key_b, t), x[row(t B)], .., x[row(t B + B - 1)])

`row` is the epoch order of order.py under key_o, through the alias tables of weights.py where rows
are weighted; key_o and key_b are derived from the run's data key. Nothing about the position is
saved: a resumed run reads what the unbroken one would have.

The rows are gathered from the whole data set on the device, or are those that stream.py fetched for
a few steps. At the same step both give the same bits. Axes: B batch, D pixels, T steps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gen_models.data.binarise import Levels, check_view, classes_of, seen
from gen_models.data.order import rows_from
from gen_models.data.sources import Window
from gen_models.data.specs import Spec
from gen_models.data.weights import Alias, draw

_ORDER, _BINARISE, _WEIGHTS = 1, 2, 3  # the uses of the data key


def rows_of_step(key: jax.Array, step: jax.Array, batch_size: int, num_rows: int,
                 alias: Alias | None = None) -> jax.Array:
  """Rows read at `step`: int32 [B], in proportion to weights where there are some.

  key: the run's data key.
  """
  step = jnp.asarray(step).astype(jnp.uint32)
  rows_B = rows_from(jax.random.fold_in(key, _ORDER), step * jnp.uint32(batch_size), batch_size,
                     num_rows)
  if alias is None:
    return rows_B
  return draw(jax.random.fold_in(jax.random.fold_in(key, _WEIGHTS), step), rows_B, alias)


def check_horizon(num_steps: int, batch_size: int) -> None:
  """Raises ValueError if a run numbers more than 2^32 examples: the order would start again."""
  if num_steps * batch_size > 2**32:
    raise ValueError(f'{num_steps} steps of {batch_size} examples pass 2^32 = {2**32} examples; '
                     f'at this batch size a phase may last {2**32 // batch_size} steps')


def batches(batch_size: int, binarisation: str, levels: Levels, *, flat: bool = True,
            with_labels: bool = False,
            missing: bool = False) -> Callable[[jax.Array, Any, Any], Any]:
  """Batches of a data set, resident on the device or streamed to it.

  Args:
    batch_size: B; may exceed the number of rows, a batch then straddles epochs.
    binarisation: one of binarise.KINDS.
    levels: the Spec of the data; or, of uint8 images, the value that stands for 1.
    flat: rows as [B, D]; otherwise [B, *shape].
    with_labels: batches are (x, y), y int32 [B]; otherwise just x.
    missing: whether the model takes nan for what is missing.

  Returns:
    batch_at(key, arrays, step) -> float32 [B, D], pure; key is the run's data key, the same at
    every step. arrays is the whole data set (`Arrays`), or the `Window` that stream.py fetched for
    the steps being run, uint8 [T, B, ...]; a step outside the window reads its nearest end.

  Raises:
    ValueError: the binarisation does not fit the data, or values are missing in them that the model
      cannot take; from batch_at: a window of another batch size, or labels asked of data that have
      none.
  """
  check_view(binarisation, levels, missing=missing)
  if with_labels and isinstance(levels, Spec):
    classes_of(levels)

  def batch_at(key, arrays, step):
    if isinstance(arrays, Window):
      if arrays.rows.shape[1] != batch_size:
        raise ValueError(f'batches of {batch_size}, but the window has {arrays.rows.shape[1]}')
      index = step - arrays.first
    else:
      index = rows_of_step(key, step, batch_size, len(arrays.rows), arrays.alias)
    rows_B = jnp.asarray(arrays.rows)[index]
    y_B = _labels(arrays)[index] if with_labels else None
    return _finish(key, step, rows_B, y_B, binarisation, levels, flat)

  return batch_at


def _labels(arrays):
  if arrays.labels is None:
    raise ValueError('batches with labels, but the data have no labels')
  return jnp.asarray(arrays.labels)


def _finish(key, step, rows_B, y_B, binarisation, levels, flat):
  x_BD = rows_B.reshape(rows_B.shape[0], -1) if flat else rows_B
  step_key = jax.random.fold_in(jax.random.fold_in(key, _BINARISE), step)
  x_BD = seen(step_key, x_BD, binarisation, levels)
  return x_BD if y_B is None else (x_BD, y_B)
