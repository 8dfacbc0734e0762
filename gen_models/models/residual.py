"""Residual networks of adversarial games, for images whose sides are a power of two.

  SN-ResNet  normalise, ReLU, convolve, twice a block; sums of two branches (Miyato et al., 2018)
  BigGAN     the same generator, normalised with scales and shifts that depend on class and latents
             (Brock, Donahue & Simonyan, 2019)
  R3GAN      h <- h + C a(G a(E h)) with 1 x 1 expansion E, grouped 3 x 3 G, 1 x 1 C that starts at
             0, biased leaky ReLU a; nothing is normalised (Huang et al., 2024)

All end in pixels in [0, 1] in the order [Y, X, C]; R3GAN's, as published, through no sigmoid, so
that they may lie outside a little. Convolutions are XLA's own, whose CPU compiler is slow inside
loops: these are networks for accelerators (`convolutions` has those for CPUs). With `dtype`
bfloat16 convolutions are computed in it; parameters, normalisation and outputs are float32.

Axis suffixes: B batch, Z latents, V pixels of an image, Y X rows and columns, C D channels, F
features, K conditions, Q classes.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import Initializer

from gen_models.models import networks
from gen_models.models.convolutions import BatchNorm, Linear
from gen_models.models.rows import mean_rows, over_rows

DType = Any
_GLOROT = nn.initializers.glorot_uniform()
_GLOROT_2 = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')


def num_stages(shape: networks.Shape, smallest: int = 4) -> int:
  """How many doublings lead from `smallest` pixels a side to those of an image.

  Raises:
    ValueError: the sides differ, or are no power of two times `smallest`.
  """
  height, width = shape[:2]
  stages = max(0, round(math.log2(height / smallest)))
  if height != width or height != smallest * 2**stages:
    raise ValueError(f'images of {height} x {width} pixels: residual networks are of squares whose '
                     f'sides are {smallest} times a power of two; use nets=conv')
  return stages


def channels_of(shape: networks.Shape) -> int:
  return shape[2] if len(shape) == 3 else 1


class Conv(nn.Module):
  """A convolution of stride 1 that keeps the sides, [B, Y, X, C] -> [B, Y, X, D].

  Attributes:
    features: D.
    kernel: its side.
    groups: of channels that do not see each other.
    bias: whether there is one.
    weights: initialiser.
    dtype: of the computation.
  """

  features: int
  kernel: int = 3
  groups: int = 1
  bias: bool = True
  weights: Initializer = _GLOROT_2
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x_BYXC):
    w = self.param('w_KKCD', self.weights, (self.kernel, self.kernel,
                                            x_BYXC.shape[-1] // self.groups, self.features))
    y = lax.conv_general_dilated(
      x_BYXC.astype(self.dtype), w.astype(self.dtype), (1, 1), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=self.groups)
    if not self.bias:
      return y
    return y + self.param('b_D', nn.initializers.zeros, (self.features,)).astype(self.dtype)


class ConditionalNorm(nn.Module):
  """(1 + W c) (x - m) / sqrt(v + 1e-5) + U c, m and v over the batch and c [B, K] conditions."""

  @nn.compact
  def __call__(self, x_BYXC, c_BK):
    channels = x_BYXC.shape[-1]
    x_RC = x_BYXC.reshape(-1, channels)
    x_RC = x_RC - over_rows(mean_rows(x_RC), len(x_RC))
    x_RC = x_RC * over_rows(lax.rsqrt(mean_rows(jnp.square(x_RC)) + 1e-5), len(x_RC))
    scale, shift = (Linear(channels, False, nn.initializers.normal(0.02), name=name)(
      c_BK)[:, None, None] for name in ('scale', 'shift'))
    return (1 + scale) * x_RC.reshape(x_BYXC.shape) + shift


def doubled(x_BYXC) -> jax.Array:
  """Each pixel four times."""
  return jnp.repeat(jnp.repeat(x_BYXC, 2, axis=1), 2, axis=2)


def halved(x_BYXC) -> jax.Array:
  """The mean of each 2 x 2 pixels."""
  batch, height, width, channels = x_BYXC.shape
  return x_BYXC.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


# SN-ResNet and BigGAN.


class UpBlock(nn.Module):
  """Twice the sides: convolve(relu(norm(..))) after doubling, and again, plus a 1 x 1 of x."""

  features: int
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x, c_BK=None):
    def normalised(x, name):
      x = x.astype(jnp.float32)
      x = BatchNorm(name=name)(x) if c_BK is None else ConditionalNorm(name=name)(x, c_BK)
      return jax.nn.relu(x)

    conv = functools.partial(Conv, self.features, dtype=self.dtype)
    h = conv(name='first')(doubled(normalised(x, 'norm_0')))
    h = conv(name='second')(normalised(h, 'norm_1'))
    return h + conv(1, weights=_GLOROT, name='beside')(doubled(x))


class ResidualGenerator(nn.Module):
  """[B, Z] -> [B, V]; dense to 4 x 4, an UpBlock for each doubling, norm, ReLU, 3 x 3.

  Attributes:
    shape: of an image.
    width: channels, the same at all sides; 256 published.
    num_classes: one-of-Q inputs behind the latents that scale and shift the normalised channels; 0:
      none, and scales and shifts are parameters.
    hierarchical: whether each block has a part of the latents as conditions, too.
    dtype: of convolutions.
  """

  shape: networks.Shape
  width: int = 256
  num_classes: int = 0
  hierarchical: bool = False
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x_BD):
    stages = num_stages(self.shape)
    z_BZ, y_BQ = jnp.split(x_BD, [x_BD.shape[-1] - self.num_classes], axis=-1)
    parts = [z_BZ[:, :0]] * stages
    if self.hierarchical:
      part = z_BZ.shape[-1] // (stages + 1)
      parts = [z_BZ[:, part * (i + 1):part * (i + 2)] for i in range(stages)]
      z_BZ = z_BZ[:, :part]
    x = Linear(16 * self.width, weights=_GLOROT, name='in')(z_BZ).reshape(-1, 4, 4, self.width)
    for i, part_BK in enumerate(parts):
      c_BK = jnp.concatenate([part_BK, y_BQ], axis=-1)
      x = UpBlock(self.width, self.dtype, name=f'block_{i}')(x, c_BK if c_BK.size else None)
    x = jax.nn.relu(BatchNorm(name='norm')(x.astype(jnp.float32)))
    x = Conv(channels_of(self.shape), weights=_GLOROT, name='out')(x)
    return jax.nn.sigmoid(x).reshape(len(x), -1)


class DownBlock(nn.Module):
  """convolve(relu(..)) twice plus x, by 1 x 1 where it changes; then halved.

  Attributes:
    features: channels after it.
    half: whether the sides are halved.
    first: of pixels, which are not rectified.
    dtype: of convolutions.
  """

  features: int
  half: bool = True
  first: bool = False
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x):
    conv = functools.partial(Conv, self.features, dtype=self.dtype)
    h = conv(name='first')(x if self.first else jax.nn.relu(x))
    h = conv(name='second')(jax.nn.relu(h))
    if self.half or x.shape[-1] != self.features:
      x = conv(1, weights=_GLOROT, name='beside')(x)
    return halved(h + x) if self.half else h + x


class ResidualCritic(nn.Module):
  """[M, V] -> [M, 1]; halved to 8 x 8, two blocks more, ReLU, sum over pixels, dense.

  Attributes:
    shape: of an image.
    width: channels; 128 published.
    dtype: of convolutions.
  """

  shape: networks.Shape
  width: int = 128
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x_MV):
    x = 2 * _as_pack(x_MV, self.shape) - 1
    halvings = num_stages(self.shape, 8)
    for i in range(halvings + 2):
      x = DownBlock(self.width, i < halvings, i == 0, self.dtype, name=f'block_{i}')(x)
    h_MF = jax.nn.relu(x).astype(jnp.float32).sum((1, 2))
    return Linear(1, weights=_GLOROT, name='out')(h_MF)


# R3GAN.


def _normal(gain: float) -> Initializer:
  """N(0, gain^2 / fan-in); zeros where the gain is 0."""
  return (nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal') if gain
          else nn.initializers.zeros)


ACTIVATION_GAIN = math.sqrt(2 / (1 + 0.2**2))


class GroupedBlock(nn.Module):
  """h + C a(G a(E h)); E widens twice, C is 0 at the start (fix-up: Zhang, Dauphin & Ma, 2019).

  Attributes:
    groups: of G.
    depth: L, residual blocks of the whole network; E and G start smaller by L^(-1/4).
    dtype: of convolutions.
  """

  groups: int
  depth: int
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, h):
    width = h.shape[-1]
    start = _normal(ACTIVATION_GAIN * self.depth**-0.25)

    def activated(x, name):
      b_C = self.param(name, nn.initializers.zeros, x.shape[-1:])
      return jax.nn.leaky_relu(x + b_C.astype(self.dtype), 0.2)

    conv = functools.partial(Conv, bias=False, dtype=self.dtype)
    x = activated(conv(2 * width, 1, weights=start, name='expand')(h), 'bias_0')
    x = activated(conv(2 * width, 3, self.groups, weights=start, name='grouped')(x), 'bias_1')
    return h + conv(width, 1, weights=_normal(0), name='contract')(x)


def _bilinear(channels: int, dtype) -> jax.Array:
  """[1, 3, 3, 1] / 8 along both axes, for each channel apart."""
  filter_4 = jnp.array([1, 3, 3, 1]) / 8
  return jnp.broadcast_to((filter_4[:, None] * filter_4)[..., None, None],
                          (4, 4, 1, channels)).astype(dtype)


def bilinear_doubled(x_BYXC) -> jax.Array:
  """Twice the sides by bilinear interpolation, zero outside."""
  channels = x_BYXC.shape[-1]
  return lax.conv_general_dilated(
    x_BYXC, 4 * _bilinear(channels, x_BYXC.dtype), (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=channels)


def bilinear_halved(x_BYXC) -> jax.Array:
  """Half the sides by the transpose of it, over 4."""
  channels = x_BYXC.shape[-1]
  return lax.conv_general_dilated(
    x_BYXC, _bilinear(channels, x_BYXC.dtype), (2, 2), ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=channels)


def _staged(x_BYXC, resample, net: 'GroupedGenerator | GroupedCritic') -> jax.Array:
  """Blocks at each side of the images, resampled in between; within a call of the net."""
  stages = num_stages(net.shape) + 1
  for i in range(stages):
    x_BYXC = resample(x_BYXC) if i else x_BYXC
    for j in range(net.blocks):
      x_BYXC = GroupedBlock(net.groups, stages * net.blocks, net.dtype,
                            name=f'block_{i}_{j}')(x_BYXC)
  return x_BYXC


class GroupedGenerator(nn.Module):
  """[B, Z] -> [B, V] of R3GAN: learned 4 x 4 basis, blocks, doubled, blocks, .., 1 x 1 to pixels.

  Attributes:
    shape: of an image.
    width: channels; 768 published for 32 x 32.
    groups: of grouped convolutions; 96 published.
    blocks: at each side.
    dtype: of convolutions.
  """

  shape: networks.Shape
  width: int = 768
  groups: int = 96
  blocks: int = 2
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, z_BZ):
    basis = self.param('basis_YXC', nn.initializers.normal(1.0), (4, 4, self.width))
    x = Linear(self.width, False, _normal(1), name='in')(z_BZ)[:, None, None] * basis
    x = x.astype(self.dtype)
    x = _staged(x, bilinear_doubled, self)
    x = Conv(channels_of(self.shape), 1, bias=False, weights=_normal(1), name='out')(
      x.astype(jnp.float32))
    return (x.reshape(len(x), -1) + 1) / 2


class GroupedCritic(nn.Module):
  """[M, V] -> [M, 1] of R3GAN: its generator turned around, with a depthwise 4 x 4 at the end.

  Attributes: as of GroupedGenerator.
  """

  shape: networks.Shape
  width: int = 768
  groups: int = 96
  blocks: int = 2
  dtype: DType = jnp.float32

  @nn.compact
  def __call__(self, x_MV):
    x = 2 * _as_pack(x_MV, self.shape) - 1
    x = Conv(self.width, 1, bias=False, weights=_normal(1), dtype=self.dtype, name='in')(x)
    x = _staged(x, bilinear_halved, self)
    w_YXC = self.param('basis_YXC', nn.initializers.normal(1 / 4), (4, 4, self.width))
    h_MF = jnp.einsum('myxc,yxc->mc', x.astype(jnp.float32), w_YXC)
    return Linear(1, False, _normal(1), name='out')(h_MF)


def _as_pack(x_MV, shape: networks.Shape) -> jax.Array:
  """Images of a pack as channels of one, [M, Y, X, packing C]."""
  width = math.prod(shape)
  packs = x_MV if x_MV.shape[-1] % width else x_MV.reshape(-1, width)
  images = networks.as_images(packs, shape)
  packed = jnp.moveaxis(images.reshape(len(x_MV), -1, *images.shape[1:]), 1, -2)
  return packed.reshape(*packed.shape[:-2], -1)
