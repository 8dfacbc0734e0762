"""Pictures as arrays: grids of images in [0, 1], [rows, columns, height, width]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.models import rbm


def tile(grid, gap: int = 1, background: float = 0.5) -> np.ndarray:
  """One image [R (Y + gap) + gap, K (X + gap) + gap] of a grid [R, K, Y, X]."""
  grid = np.asarray(grid)
  rows, columns, height, width = grid.shape
  padded = np.full((rows, columns, height + gap, width + gap), background, np.float32)
  padded[:, :, gap:, gap:] = grid
  image = padded.transpose(0, 2, 1, 3).reshape(rows * (height + gap), columns * (width + gap))
  return np.pad(image, ((0, gap), (0, gap)), constant_values=background)


def to_grid(x_NV, shape, rows: int, columns: int) -> np.ndarray:
  """The first rows * columns vectors as images of `shape`."""
  return np.asarray(x_NV)[:rows * columns].reshape(rows, columns, *shape)


def rbm_pictures(binarisation: str, levels: int, shape, *, rows: int = 8, columns: int = 8,
                 gibbs_steps: int = 1000) -> Callable:
  """(key, params, dataset) -> data, samples and filters of an RBM.

  Samples are p(v | h) after `gibbs_steps` sweeps from the visible biases. Filters are columns of W,
  those with the largest norm first, scaled together so that 0 is mid-grey.
  """
  num = rows * columns

  @jax.jit
  def sample(key, params):
    key_init, key_gibbs = jax.random.split(key)
    chains = rbm.init_chains(key_init, params, num)
    return rbm.visible_mean(params, rbm.gibbs(key_gibbs, params, chains, gibbs_steps).h_CH)

  def pictures(key, params, dataset):
    strongest = jnp.argsort(-jnp.linalg.norm(params.w_VH, axis=0))[:num]
    filters = params.w_VH[:, strongest].T
    filters = 0.5 + filters / (2 * jnp.percentile(jnp.abs(filters), 99.5))
    filter_columns = min(columns, len(filters))
    samples = sample(key, params)
    return {
      'data': to_grid(data.fixed(dataset.test, binarisation, levels), shape, rows, columns),
      f'samples after {gibbs_steps} Gibbs sweeps': to_grid(samples, shape, rows, columns),
      'filters': np.clip(to_grid(filters, shape, len(filters) // filter_columns, filter_columns),
                         0, 1)}

  return pictures
