"""Pictures as arrays: grids of images in [0, 1], [rows, columns, height, width]."""


import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation.samples import squared_distances
from gen_models.experiment import Pictures


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
  return np.asarray(groups.reshape(rows, columns, *samples_NYX.shape[1:]))


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
