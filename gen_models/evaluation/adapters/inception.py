"""Inception-v3 in the variant of the Frechet inception distance: pool3 and log-odds.

  unit(x) = relu((x * w - m) / sqrt(v + 0.001) gamma + beta),    * a convolution

It differs from the classifier of torchvision where TensorFlow's graph of 2015 does: average
pooling inside a block divides by the pixels there are, not by nine; the last block pools by the
maximum; 1008 classes. Names of parameters are those of pytorch-fid and torch-fidelity. m, v, gamma
and beta are folded into w and a shift when weights are read.

Szegedy et al. (2016); Heusel et al. (2017). Log-odds are without their bias, as in the original
inception score (Salimans et al., 2016).

Axis suffixes: N images, Y X pixels, C channels, F features, Q classes.
"""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation.adapters import weights

SIDE, FEATURES, CLASSES = 299, 2048, 1008
_FOLDED = ('bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var')
# name, shape (rows, columns, in, out) -> (kernel, shift)
Lookup = Callable[[str, tuple[int, int, int, int]], tuple[jax.Array, jax.Array]]


def apply(params: Mapping, x_NYXC) -> tuple[jax.Array, jax.Array]:
  """Pixels in [0, 255], [N, 299, 299, 3] -> features [N, 2048], log-odds [N, 1008].

  Args:
    params: of `convert`.
    x_NYXC: at least 75 pixels high and wide.
  """
  pool_NF = _pool3(lambda name, shape: params[name], (x_NYXC - 128) / 128)
  return pool_NF, jnp.matmul(pool_NF, params['fc'], precision='highest')


def convert(arrays: Mapping[str, np.ndarray]) -> dict:
  """Parameters of `apply` from those of torch.

  Raises:
    Unreadable: one is missing or of another shape.
  """
  weights.check(arrays, shapes())
  params: dict = {'fc': np.asarray(arrays['fc.weight'], np.float32).T}
  for name in _units():
    kernel, gamma, beta, mean, variance = (
      np.asarray(arrays[f'{name}.{part}'], np.float64) for part in ('conv.weight', *_FOLDED))
    scale = gamma / np.sqrt(variance + 0.001)
    params[name] = ((kernel.transpose(2, 3, 1, 0) * scale).astype(np.float32),
                    (beta - mean * scale).astype(np.float32))
  return params


def shapes() -> dict[str, tuple[int, ...]]:
  """Name -> shape of every parameter of torch."""
  found: dict[str, tuple[int, ...]] = {}
  for name, (rows, columns, inputs, outputs) in _units().items():
    found[f'{name}.conv.weight'] = (outputs, inputs, rows, columns)
    found.update({f'{name}.{part}': (outputs,) for part in _FOLDED})
  return {**found, 'fc.weight': (CLASSES, FEATURES), 'fc.bias': (CLASSES,)}


@functools.cache
def _units() -> dict[str, tuple[int, int, int, int]]:
  """Name -> shape of the kernel of every convolution, in order."""
  found = {}

  def lookup(name, shape):
    found[name] = shape
    return jnp.zeros(shape), jnp.zeros(shape[-1])

  jax.eval_shape(functools.partial(_pool3, lookup),
                 jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))
  return found


def _pool3(lookup: Lookup, x) -> jax.Array:
  """The network up to its features, [N, 2048]."""
  unit = functools.partial(_unit, lookup)
  x = unit('Conv2d_1a_3x3', x, 32, 3, stride=2, same=False)
  x = unit('Conv2d_2a_3x3', x, 32, 3, same=False)
  x = _largest(unit('Conv2d_2b_3x3', x, 64, 3))
  x = unit('Conv2d_3b_1x1', x, 80)
  x = _largest(unit('Conv2d_4a_3x3', x, 192, 3, same=False))
  for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
    x = _block_a(unit, f'Mixed_{name}.', x, pooled)
  x = _block_b(unit, 'Mixed_6a.', x)
  for name, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
    x = _block_c(unit, f'Mixed_{name}.', x, width)
  x = _block_d(unit, 'Mixed_7a.', x)
  x = _block_e(unit, 'Mixed_7b.', x, _average)
  x = _block_e(unit, 'Mixed_7c.', x, lambda x: _largest(x, 1, 'SAME'))
  return jnp.mean(x, axis=(1, 2))


def _unit(lookup: Lookup, name: str, x, features: int, kernel: int | tuple[int, int] = 1, *,
          stride: int = 1, same: bool = True) -> jax.Array:
  sides = (kernel, kernel) if isinstance(kernel, int) else kernel
  w, shift = lookup(name, (*sides, x.shape[-1], features))
  y = lax.conv_general_dilated(x, w, (stride, stride), 'SAME' if same else 'VALID',
                               dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest')
  return jax.nn.relu(y + shift)


def _chain(unit, prefix: str, x, layers) -> jax.Array:
  """Units one after another, of (name, features, kernel)."""
  for name, *size in layers:
    x = unit(prefix + name, x, *size)
  return x


def _block_a(unit, at: str, x, pooled: int) -> jax.Array:
  return jnp.concatenate([
    unit(f'{at}branch1x1', x, 64),
    _chain(unit, f'{at}branch5x5_', x, (('1', 48), ('2', 64, 5))),
    _chain(unit, f'{at}branch3x3dbl_', x, (('1', 64), ('2', 96, 3), ('3', 96, 3))),
    unit(f'{at}branch_pool', _average(x), pooled)], axis=-1)


def _block_b(unit, at: str, x) -> jax.Array:
  deep = _chain(unit, f'{at}branch3x3dbl_', x, (('1', 64), ('2', 96, 3)))
  return jnp.concatenate([unit(f'{at}branch3x3', x, 384, 3, stride=2, same=False),
                          unit(f'{at}branch3x3dbl_3', deep, 96, 3, stride=2, same=False),
                          _largest(x)], axis=-1)


def _block_c(unit, at: str, x, width: int) -> jax.Array:
  across, down = (1, 7), (7, 1)
  return jnp.concatenate([
    unit(f'{at}branch1x1', x, 192),
    _chain(unit, f'{at}branch7x7_', x, (('1', width), ('2', width, across), ('3', 192, down))),
    _chain(unit, f'{at}branch7x7dbl_', x, (('1', width), ('2', width, down), ('3', width, across),
                                           ('4', width, down), ('5', 192, across))),
    unit(f'{at}branch_pool', _average(x), 192)], axis=-1)


def _block_d(unit, at: str, x) -> jax.Array:
  wide = unit(f'{at}branch3x3_1', x, 192)
  deep = _chain(unit, f'{at}branch7x7x3_', x, (('1', 192), ('2', 192, (1, 7)), ('3', 192, (7, 1))))
  return jnp.concatenate([unit(f'{at}branch3x3_2', wide, 320, 3, stride=2, same=False),
                          unit(f'{at}branch7x7x3_4', deep, 192, 3, stride=2, same=False),
                          _largest(x)], axis=-1)


def _block_e(unit, at: str, x, pool) -> jax.Array:
  def split(name, y):
    return [unit(f'{name}a', y, 384, (1, 3)), unit(f'{name}b', y, 384, (3, 1))]

  deep = _chain(unit, f'{at}branch3x3dbl_', x, (('1', 448), ('2', 384, 3)))
  return jnp.concatenate([
    unit(f'{at}branch1x1', x, 320),
    *split(f'{at}branch3x3_2', unit(f'{at}branch3x3_1', x, 384)),
    *split(f'{at}branch3x3dbl_3', deep),
    unit(f'{at}branch_pool', pool(x), 192)], axis=-1)


def _largest(x, stride: int = 2, padding: str = 'VALID') -> jax.Array:
  return lax.reduce_window(x, -math.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _average(x) -> jax.Array:
  """The mean of the pixels that there are of 3 x 3 around each."""
  def total(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), 'SAME')

  return total(x) / total(jnp.ones((1, *x.shape[1:3], 1)))
