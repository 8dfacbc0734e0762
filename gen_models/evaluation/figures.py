"""Pictures as arrays: grids in [0, 1], [rows, columns, height, width], of colour [.., 3].

Images of other numbers of channels have these side by side. Vectors are no images: the grid of some
of them is one picture, a raster with a line for each.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation.samples import squared_distances
from gen_models.experiment import Pictures
from gen_models.models import gibbs, rbm


def tile(grid, gap: int = 1, background: float = 0.5) -> np.ndarray:
  """One image [R (Y + gap) + gap, K (X + gap) + gap] of a grid [R, K, Y, X]; [.., 3] of colour."""
  grid = np.asarray(grid)
  rows, columns, height, width, *colour = grid.shape
  padded = np.full((rows, columns, height + gap, width + gap, *colour), background, np.float32)
  padded[:, :, gap:, gap:] = grid
  image = padded.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), *colour)
  return np.pad(image, ((0, gap), (0, gap), *[(0, 0)] * len(colour)), constant_values=background)


def as_shown(x_NV, shape) -> np.ndarray:
  """Vectors as images [N, Y, X] or, of three channels, [N, Y, X, 3]; of `shape` (V,), [N, 1, V]."""
  x_NV = np.asarray(x_NV).reshape(-1, *shape)
  if len(shape) == 1:
    return x_NV[:, None]
  if len(shape) == 2 or shape[2] == 3:
    return x_NV
  return np.moveaxis(x_NV, 3, 2).reshape(len(x_NV), shape[0], -1)


def to_grid(x_NV, shape, rows: int, columns: int, empty: float = 0.5) -> np.ndarray:
  """The first rows * columns vectors as a grid of images of `shape`; of vectors, as one raster.

  Cells of `empty` fill the grid where there are fewer.
  """
  x_NV = np.asarray(x_NV)[:rows * columns]
  x_NV = x_NV.reshape(len(x_NV), -1)
  if len(shape) == 1:
    return x_NV[None, None]
  shown = as_shown(x_NV, shape)
  lacking = np.full((rows * columns - len(shown), *shown.shape[1:]), empty, shown.dtype)
  return np.concatenate([shown, lacking]).reshape(rows, columns, *shown.shape[1:])


def neighbours(samples_NYX, train_MYX, rows: int = 8, columns: int = 8,
               nearest: int = 1) -> np.ndarray:
  """A grid of samples, each followed in its row by the training images nearest to it.

  Distances are Euclidean, on pixels, so both should be of one kind: draws beside binary images,
  means beside grey ones. They are computed for 256 samples at a time.

  Args:
    samples_NYX: the first of these are shown.
    train_MYX: all training images.
    rows: of the grid.
    columns: of the grid.
    nearest: training images to each sample, the nearest first.

  Raises:
    ValueError: columns do not divide into groups of one sample and its neighbours; too few samples
      or training images.
  """
  samples_NYX, train_MYX = (jnp.asarray(x, jnp.float32) for x in (samples_NYX, train_MYX))
  num = rows * columns // (1 + nearest)
  if columns % (1 + nearest) or len(samples_NYX) < num or len(train_MYX) < nearest:
    raise ValueError(f'{rows} x {columns} cells for a sample and its {nearest} nearest each do not '
                     f'fit {len(samples_NYX)} samples and {len(train_MYX)} training images')
  train_MD = train_MYX.reshape(len(train_MYX), -1)
  index_NK = jax.lax.map(
    lambda x_D: jax.lax.top_k(-squared_distances(x_D[None], train_MD)[0], nearest)[1],
    samples_NYX[:num].reshape(num, -1), batch_size=256)
  groups = jnp.concatenate([samples_NYX[:num, None], train_MYX[index_NK]], axis=1)
  return to_grid(groups.reshape(rows * columns, -1), samples_NYX.shape[1:], rows, columns)


def maximising_inputs(respond, mean_V, num_units: int, shape, *, rows: int = 8, columns: int = 8,
                      radius: float = 3.0, num_steps: int = 10) -> np.ndarray:
  """Inputs to which units answer most, at a given distance from the mean image, as a grid.

  Maximises y_j(v) over |v - mean| = radius by stepping to the end of the gradient's direction. The
  units are those whose answer rises the most; grey is no difference from the mean.

  Args:
    respond: v_BV -> the answers y [B, num_units]; differentiable.
    mean_V: the mean image.
    num_units: of the layer.
    shape: of an image.
    rows, columns: of the grid.
    radius: of the sphere.
    num_steps: of the ascent.
  """
  @jax.jit
  def ascend(mean_V):
    def answers(v_BV):
      return jnp.trace(respond(v_BV))

    def step(v_BV, _):
      d_BV = jax.grad(answers)(v_BV)
      return mean_V + radius * d_BV / (jnp.linalg.norm(d_BV, axis=1, keepdims=True) + 1e-12), None

    start_BV = jnp.broadcast_to(mean_V, (num_units, len(mean_V)))
    v_BV, _ = jax.lax.scan(step, start_BV, None, length=num_steps)
    return v_BV - mean_V, jnp.diagonal(respond(v_BV) - respond(start_BV))

  v_BV, gain_B = ascend(jnp.asarray(mean_V, jnp.float32))
  strongest = np.argsort(-np.asarray(gain_B))[:rows * columns]
  shown = 0.5 + v_BV[strongest] / (2 * jnp.percentile(jnp.abs(v_BV[strongest]), 99.5))
  across = min(columns, len(shown))
  return np.clip(to_grid(shown, shape, len(shown) // across, across), 0, 1)


def rbm_filters(shape, *, rows: int = 8, columns: int = 8) -> Pictures:
  """(key, params, dataset) -> the filters of an RBM.

  They are columns of W, those with the largest norm first, scaled together so that 0 is mid-grey.
  """
  def pictures(key, params, dataset):
    del key, dataset
    strongest = jnp.argsort(-jnp.linalg.norm(params.w_VH, axis=0))[:rows * columns]
    filters = params.w_VH[:, strongest].T
    filters = 0.5 + filters / (2 * jnp.percentile(jnp.abs(filters), 99.5))
    across = min(columns, len(filters))
    return {'filters': np.clip(to_grid(filters, shape, len(filters) // across, across), 0, 1)}

  return pictures


def strips(key, model: gibbs.Model, params, chains: gibbs.Chains, shape, *, every: int = 100,
           columns: int = 10) -> np.ndarray:
  """A grid with a chain in each row: E[v | h] of its states, `every` Gibbs steps apart.

  Where a row changes from one kind of image to another the chain mixes; the first column is where
  the chains begin. Of machines whose visible layer is wider than an image, its first units.
  """
  size = int(np.prod(shape))

  @jax.jit
  def follow(key, params, chains):
    def body(chains, key):
      mean_CV = model.visible_mean(params, chains.h_CH)[:, :size]
      return gibbs.run(key, model, params, chains, every), mean_CV
    return jax.lax.scan(body, chains, jax.random.split(key, columns))[1]

  x_SCV = np.asarray(follow(key, params, chains))
  rows = x_SCV.shape[1]
  return to_grid(np.swapaxes(x_SCV, 0, 1).reshape(rows * columns, size), shape, rows, columns)


def rbm_pictures(shape, *, every: int = 100) -> Pictures:
  """(key, params, dataset) -> the filters of an RBM, and eight chains from its visible biases."""
  def pictures(key, params, dataset):
    key_start, key_chains = jax.random.split(key)
    chains = gibbs.init_chains(key_start, rbm, params, 8)
    return {**rbm_filters(shape)(key, params, dataset), f'a chain a row, every {every} Gibbs steps':
            strips(key_chains, rbm, params, chains, shape, every=every)}

  return pictures
