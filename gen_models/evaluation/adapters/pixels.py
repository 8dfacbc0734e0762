"""Images in [0, 1] as the pixels that a trained network sees.

  p_i = sum_j w_ij x_j / sum_j w_ij,    w_ij = c((j + 1/2 - (i + 1/2) s) / max(s, 1))

along both axes, s old pixels for a new one and c Keys' cubic with a = -1/2: Pillow's BICUBIC,
which widens the filter where it shrinks an image. Applied in float, then clipped to [0, 255], as
clean-fid does; filters without this change FID by as much as models do (Parmar et al., 2022).

Axis suffixes: N images, D values of an image, Y X C rows, columns and channels, I J new and old
pixels along one axis.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import networks


@functools.partial(jax.jit, static_argnames=('shape', 'side'))
def seen(x_ND, shape, side: int) -> jax.Array:
  """Images in [0, 1] as [N, side, side, 3] in [0, 255]: rounded to 8 bits, then resized.

  Raises:
    ValueError: they have neither one channel nor three.
  """
  x_NYXC = networks.as_images(x_ND, shape)
  if x_NYXC.shape[-1] not in (1, 3):
    raise ValueError(f'images of {x_NYXC.shape[-1]} channels; a network of photographs sees grey '
                     'or red, green and blue')
  x_NYXC = jnp.round(255 * jnp.clip(x_NYXC, 0, 1))
  return jnp.broadcast_to(resize(x_NYXC, side), (len(x_ND), side, side, 3))


def resize(x_NYXC, side: int) -> jax.Array:
  """Images [N, side, side, C] by the filter above, clipped to [0, 255]."""
  rows, columns = (jnp.asarray(bicubic(n, side)) for n in x_NYXC.shape[1:3])
  # Pillow takes the columns first; in float the order matters in rounding only.
  y = jnp.einsum('nyxc,ix->nyic', x_NYXC, columns, precision='highest')
  return jnp.clip(jnp.einsum('nyic,jy->njic', y, rows, precision='highest'), 0, 255)


def bicubic(old: int, new: int) -> np.ndarray:
  """The filter as a matrix [new, old], float32; its rows sum to 1."""
  scale = old / new
  wide = max(scale, 1.0)
  w_IJ = np.zeros((new, old))
  for i in range(new):
    centre = (i + 0.5) * scale
    low = max(0, math.floor(centre - 2 * wide + 0.5))
    high = min(old, math.floor(centre + 2 * wide + 0.5))
    w_IJ[i, low:high] = cubic((np.arange(low, high) + 0.5 - centre) / wide, -0.5)
  return (w_IJ / w_IJ.sum(1, keepdims=True)).astype(np.float32)


def cubic(t, a: float) -> np.ndarray:
  """Keys' cubic c(t), with slope a at |t| = 1; Pillow has a = -1/2, torch -3/4."""
  t = np.abs(t)
  return np.where(t < 1, ((a + 2) * t - (a + 3)) * t * t + 1,
                  np.where(t < 2, a * (((t - 5) * t + 8) * t - 4), 0.0))
