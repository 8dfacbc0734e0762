"""Convolutional encoder and decoder: each layer halves or doubles both sides of an image.

  halve:   y[i, j, :] = sum_{k,l < 4} x[2i + k - 1, 2j + l - 1, :] . w[k, l]      (zero outside)
  double:  the transpose of it, y[2i + k - 1, 2j + l - 1, :] += x[i, j, :] . w[k, l]
  keep:    y[i, j, :] = sum_{k,l < 3} x[i + k - 1, j + l - 1, :] . w[k, l]        (zero outside)

the 4x4 kernels with stride 2 of Radford, Metz & Chintala (2016), and the 3x3 ones of residual
blocks (He et al., 2016), which may stand between them. They are written two ways with the
same parameters. `products`: a kernel of stride 2 is a 2x2 kernel over blocks of 2x2 pixels, so a
layer is one matrix product and a few shifted copies. `lax`: XLA's own convolutions, which its CPU
compiler runs 50 times slower inside a loop (training loops over updates) than outside it; what is
best on an accelerator is for the experiment to say.

Axis suffixes: B batch, Y rows, X columns, C channels in, D channels out, Z latents, K outputs;
M = Y / 2, N = X / 2, R rows of a matrix, all axes but the last.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer

from gen_models.models import networks
from gen_models.models.rows import add_bias, mean_rows, over_rows

Form = Literal['products', 'lax']
_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def halve(x_BYXC, w_44CD, form: Form = 'products') -> jax.Array:
  """4x4 convolution of stride 2, [B, Y, X, C] -> [B, Y/2, X/2, D], odd sides rounded up."""
  batch, height, width, channels = x_BYXC.shape
  odd_Y, odd_X = height % 2, width % 2
  padding = ((1, 1 + odd_Y), (1, 1 + odd_X))
  if form == 'lax':
    return lax.conv_general_dilated(x_BYXC, w_44CD, (2, 2), padding, dimension_numbers=_DIMENSIONS)
  rows, columns = (height + odd_Y) // 2, (width + odd_X) // 2
  x = jnp.pad(x_BYXC, ((0, 0), *padding, (0, 0)))
  x = x.reshape(batch, rows + 1, 2, columns + 1, 2, channels).swapaxes(2, 3)
  x = x.reshape(batch, rows + 1, columns + 1, 4 * channels)
  x = jnp.concatenate([x[:, i:rows + i, j:columns + j] for i in (0, 1) for j in (0, 1)], axis=-1)
  # Transposed, because XLA's CPU products are faster so, here and in the gradient of the kernel.
  w = w_44CD.reshape(2, 2, 2, 2, channels, -1).transpose(5, 0, 2, 1, 3, 4)
  return (x.reshape(-1, 16 * channels) @ w.reshape(-1, 16 * channels).T).reshape(
    batch, rows, columns, -1)


def double(x_BMNC, w_44CD, form: Form = 'products') -> jax.Array:
  """Transposed 4x4 convolution of stride 2, [B, M, N, C] -> [B, 2M, 2N, D]."""
  batch, rows, columns, channels = x_BMNC.shape
  if form == 'lax':
    # Zeros between the pixels of x, then an ordinary convolution with the kernel turned around.
    return lax.conv_general_dilated(x_BMNC, w_44CD[::-1, ::-1], (1, 1), ((2, 2), (2, 2)),
                                    lhs_dilation=(2, 2), dimension_numbers=_DIMENSIONS)
  w = w_44CD.reshape(2, 2, 2, 2, channels, -1).transpose(4, 0, 2, 1, 3, 5)
  y = (x_BMNC.reshape(-1, channels) @ w.reshape(channels, -1)).reshape(batch, rows, columns, -1)
  # Every pixel of x wrote four blocks of 2x2 pixels: add those that fall on the same place.
  y = sum((jnp.pad(block, ((0, 0), (k // 2, 1 - k // 2), (k % 2, 1 - k % 2), (0, 0)))
          for k, block in enumerate(jnp.split(y, 4, axis=-1))), jnp.zeros(()))
  y = y.reshape(batch, rows + 1, columns + 1, 2, 2, -1).swapaxes(2, 3)
  return y.reshape(batch, 2 * rows + 2, 2 * columns + 2, -1)[:, 1:-1, 1:-1]


def keep(x_BYXC, w_33CD, form: Form = 'products') -> jax.Array:
  """3x3 convolution of stride 1, [B, Y, X, C] -> [B, Y, X, D]."""
  if form == 'lax':
    return lax.conv_general_dilated(x_BYXC, w_33CD, (1, 1), ((1, 1), (1, 1)),
                                    dimension_numbers=_DIMENSIONS)
  batch, rows, columns, channels = x_BYXC.shape
  x = jnp.pad(x_BYXC, ((0, 0), (1, 1), (1, 1), (0, 0)))
  x = jnp.concatenate([x[:, i:rows + i, j:columns + j] for i in range(3) for j in range(3)],
                      axis=-1)
  return (x.reshape(-1, 9 * channels) @ w_33CD.reshape(9 * channels, -1)).reshape(
    batch, rows, columns, -1)


class Block(nn.Module):
  """x -> x + keep(f(keep(f(x)) + b)) + c, f leaky ReLU; the second kernel is 0 at the start.

  Attributes: as of Encoder.
  """

  stddev: float | None = None
  form: Form = 'products'

  @nn.compact
  def __call__(self, x_BYXC):
    size = x_BYXC.shape[-1]
    h = keep(jax.nn.leaky_relu(x_BYXC, 0.2),
             self.param('first', weights(self.stddev), (3, 3, size, size)), self.form)
    h = jax.nn.leaky_relu(shift(self, 'bias_0', h), 0.2)
    h = keep(h, self.param('second', nn.initializers.zeros, (3, 3, size, size)), self.form)
    return x_BYXC + shift(self, 'bias_1', h)


class Linear(networks.Dense):
  """x -> x.W + b of [R, C], W drawn by `weights`, b = 0."""

  names: tuple[str, str] = ('w_CD', 'b_D')


class BatchNorm(nn.Module):
  """gamma (x - m) / sqrt(v + 1e-5) + beta, m and v of each channel over this very batch.

  There are no running averages: a network is a pure function of parameters and batch, in training
  and when samples are drawn alike, so one draws in batches no smaller than those trained on.
  """

  @nn.compact
  def __call__(self, x):
    x_RC = x.reshape(-1, x.shape[-1])
    x_RC = x_RC - over_rows(mean_rows(x_RC), len(x_RC))
    gamma_C = self.param('gamma_C', nn.initializers.ones, x.shape[-1:])
    scale_C = gamma_C * lax.rsqrt(mean_rows(jnp.square(x_RC)) + 1e-5)
    return shift(self, 'beta_C', x_RC * over_rows(scale_C, len(x_RC))).reshape(x.shape)


class Encoder(nn.Module):
  """[B, Y, X, C] -> [B, K]: halve, [normalise, blocks], leaky ReLU for each of `features`; dense.

  Attributes:
    features: channels after each halving.
    out: K; None for no dense layer, and all values of the last image.
    batch_norm: whether all layers but the first are normalised over the batch.
    stddev: weights start as N(0, stddev^2); None: scaled to keep variances (He et al., 2015).
    form: how convolutions are computed, see above.
    blocks: `Block`s after each halving.
  """

  features: tuple[int, ...] = (64, 128)
  out: int | None = 1
  batch_norm: bool = False
  stddev: float | None = None
  form: Form = 'products'
  blocks: int = 0

  @nn.compact
  def __call__(self, x_BYXC):
    x = x_BYXC
    for i, size in enumerate(self.features):
      x = halve(x, self.param(f'halve_{i}', weights(self.stddev), (4, 4, x.shape[-1], size)),
                self.form)
      if self.batch_norm and i:
        x = BatchNorm(name=f'norm_{i}')(x)
      else:
        x = shift(self, f'bias_{i}', x)
      x = with_blocks(x, self, i)
      x = jax.nn.leaky_relu(x, 0.2)
    if self.out is None:
      return x.reshape(len(x), -1)
    return Linear(self.out, weights=weights(self.stddev, 1.0), name='out')(x.reshape(len(x), -1))


class Decoder(nn.Module):
  """[B, Z] -> [B, Y, X, K]: dense; [normalise, blocks], leaky ReLU, double for each of `features`.

  The first image has shape / 2^len(features), rounded up; the last is cropped to `shape`.

  Attributes:
    features: channels before each doubling.
    shape: (Y, X).
    out: K.
    batch_norm, stddev, form: as of Encoder, but every layer except the last is normalised.
    blocks: `Block`s before each doubling.
  """

  features: tuple[int, ...] = (128, 64)
  shape: tuple[int, int] = (28, 28)
  out: int = 1
  batch_norm: bool = False
  stddev: float | None = None
  form: Form = 'products'
  blocks: int = 0

  @nn.compact
  def __call__(self, z_BZ):
    rows, columns = (-(-side // 2**len(self.features)) for side in self.shape)
    x = Linear(rows * columns * self.features[0], not self.batch_norm, weights(self.stddev),
               name='in')(z_BZ).reshape(-1, rows, columns, self.features[0])
    for i, size in enumerate((*self.features[1:], self.out)):
      if self.batch_norm:
        x = BatchNorm(name=f'norm_{i}')(x)
      elif i:
        x = shift(self, f'bias_{i}', x)
      x = with_blocks(x, self, i)
      # Each pixel sees 4 of the 16 taps: the fan-in is a quarter of that of the kernel's shape.
      w_44CD = self.param(f'double_{i}', weights(self.stddev, 8.0), (4, 4, x.shape[-1], size))
      x = double(jax.nn.leaky_relu(x, 0.2), w_44CD, self.form)
    return shift(self, 'bias', x)[:, :self.shape[0], :self.shape[1]]


def with_blocks(x: jax.Array, net: Encoder | Decoder, i: int) -> jax.Array:
  """The residual blocks of stage i; within a call of the net."""
  for j in range(net.blocks):
    x = Block(net.stddev, net.form, name=f'block_{i}_{j}')(x)
  return x


def weights(stddev: float | None, scale: float = 2.0) -> Initializer:
  """Initialiser: N(0, stddev^2), or variance scale / fan-in where stddev is None."""
  if stddev is not None:
    return nn.initializers.normal(stddev)
  return nn.initializers.variance_scaling(scale, 'fan_in', 'truncated_normal')


def shift(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
  """x + b, b a parameter of `module` for each channel, 0 at the start."""
  return add_bias(x, module.param(name, nn.initializers.zeros, x.shape[-1:]))
