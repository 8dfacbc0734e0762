"""Fixed random convolutional features: a space to compare images in that needs no download.

  phi(x) = P^T flatten(layer_L(.. layer_1(x))),    layer(x) = pool_2x2(relu(conv_3x3(x)))

with as many layers as bring the image to 2 x 2 cells, of 16, 32, 64, .. channels. Filters are
Gaussian (He) with their mean subtracted: they respond to edges, which distinguish digits better
than brightness does. Pooling sums four cells and halves, which keeps the scale. No biases, so
phi(a x) = a phi(x) for a > 0. P has orthonormal columns. All of it comes from one fixed key: scores
of one image shape compare across runs and models, those of different shapes do not. Unlike trained
features, these know nothing of classes.

Axis suffixes: N images, D pixels, Y X C height, width and channels, F features.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.evaluation import blocks


def random_features(x_ND, shape, num_features: int = 64) -> jax.Array:
  """phi(x), [N, F]; holds 64 Y X bytes an image while it computes, of some 1,300 at 28 x 28.

  Args:
    x_ND: images as vectors, in the space of those they will be compared with.
    shape: (Y, X) or (Y, X, C) of one image.
    num_features: F.

  Raises:
    ValueError: more features than the last layer has values (128 for 8 x 8, 512 for 28 x 28), or
      rows that are no images.
  """
  if len(shape) not in (2, 3):
    raise ValueError(f'rows of shape {tuple(shape)} are no images, which random features are of')
  num_layers = max(0, math.ceil(math.log2(max(shape[:2]))) - 1)
  key, *keys = jax.random.split(jax.random.key(0), num_layers + 1)

  channels = [x_ND.shape[1] // (shape[0] * shape[1]), *(16 * 2**i for i in range(num_layers))]
  filters = [_filters(*args) for args in zip(keys, channels[:-1], channels[1:], strict=True)]

  def layers(x_ND):
    x_NYXC = jnp.reshape(x_ND, (len(x_ND), *shape[:2], -1)).astype(jnp.float32)
    for w in filters:
      x_NYXC = _layer(w, x_NYXC)
    return x_NYXC.reshape(len(x_NYXC), -1)

  x_ND = blocks.by_rows(layers, x_ND, blocks.rows_at_once(16 * shape[0] * shape[1]))
  if num_features > x_ND.shape[1]:
    raise ValueError(f'images {tuple(shape)} have at most {x_ND.shape[1]} random features, '
                     f'not {num_features}')
  p_DF = jax.nn.initializers.orthogonal()(key, (x_ND.shape[1], num_features))
  return jnp.matmul(x_ND, p_DF, precision='highest')


def _filters(key, num_channels: int, num_filters: int) -> jax.Array:
  w = jax.nn.initializers.he_normal()(key, (3, 3, num_channels, num_filters))
  return w - w.mean((0, 1, 2))


def _layer(filters, x_NYXC):
  x_NYXC = jax.nn.relu(lax.conv_general_dilated(
    x_NYXC, filters, (1, 1), 'SAME', precision='highest',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC')))
  return lax.reduce_window(x_NYXC, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), 'SAME') / 2
