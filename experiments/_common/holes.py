"""Rows of which no value is missing: those that can be scored where holes are not summed out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data


def whole_rows(x_NV, weights_N, spec: data.Spec, split: str
               ) -> tuple[jax.Array, np.ndarray | None]:
  """The whole rows among x [N, V], and their weights or None.

  Raises:
    ValueError: values are missing from every row; `split` names them in the message.
  """
  if not spec.missing:
    return x_NV, weights_N
  whole_N = ~np.isnan(np.asarray(x_NV)).any(1)
  if not whole_N.any():
    raise ValueError(f'values are missing from every row of {split} of {spec.name}: only whole '
                     'rows can be scored')
  return x_NV[whole_N], None if weights_N is None else np.asarray(weights_N)[whole_N]


def mean_whole(value: Callable, x_NV, spec: data.Spec, weights_N=None) -> jax.Array:
  """Mean of value(x) [N] over rows without holes, weighted where rows are; scalar, traceable."""
  if not spec.missing:
    return data.mean(value(x_NV), weights_N)
  whole_N = ~jnp.isnan(x_NV).any(-1)  # the others have no value
  value_N = jnp.where(whole_N, value(jnp.where(whole_N[:, None], x_NV, 0.0)), 0.0)
  if weights_N is None:
    return jnp.sum(value_N) / jnp.sum(whole_N)
  return data.mean(value_N, jnp.where(whole_N, weights_N, 0.0))
