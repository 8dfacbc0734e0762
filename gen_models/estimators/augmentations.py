"""Augmentations: what the critic sees of data and samples, pure functions of key and batch.

  f(t(x)) in the place of f(x),  f(t(g(z))) in the place of f(g(z)),  t drawn for each sample

A generator that is trained so learns the data and not t, as long as t can be undone in law (Karras
et al., 2020). All are differentiable in the samples, which the generator's gradient passes.

`diff_augment` applies every transformation to every sample (Zhao et al., 2020). `adaptive` applies
each with a probability that a controller raises while the critic is sure of its training data:

  r <- moving average of <sign f(x)>;   p <- p + sign(r - target) B / images, held in [0, 1]

Images are rows in the order [Y, X, C], of values in [0, 1]; what moves in from outside is 0.

Axis suffixes: B batch, V visible, Y rows, X columns, C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models.networks import Shape, as_images


class Augmentation(Protocol):
  """Samples as the critic sees them."""

  def __call__(self, key: jax.Array, x_BV: jax.Array, /) -> jax.Array:
    """t(x), [B, V], t drawn for each row; the key is consumed."""
    ...


class Adaptive(NamedTuple):
  """An augmentation whose strength follows training.

  Attributes:
    init: () -> its memory.
    apply: (key, memory, x_BV) -> t(x).
    update: (memory, f(x) [M] at augmented data, B) -> its memory after a move of the critic.
    probability: memory -> how likely a transformation is, a metric.
  """

  init: Callable[[], Any]
  apply: Callable[[jax.Array, Any, jax.Array], jax.Array]
  update: Callable[[Any, jax.Array, int], Any]
  probability: Callable[[Any], jax.Array]


def as_adaptive(augment: Augmentation | Adaptive) -> Adaptive:
  """Any augmentation as one that remembers, perhaps nothing."""
  if isinstance(augment, Adaptive):
    return augment
  return Adaptive(lambda: (), lambda key, memory, x_BV: augment(key, x_BV),
                  lambda memory, real_M, num: memory, lambda memory: jnp.ones(()))


class Controller(NamedTuple):
  """What `adaptive` remembers: the probability p, and the average r of the critic's signs."""

  probability: jax.Array
  sign: jax.Array


def adaptive(transformations: Sequence[Augmentation], target: float = 0.6,
             images: float = 500_000, start: float = 0.0, decay: float = 0.75) -> Adaptive:
  """Each transformation of each sample with probability p, which follows the critic (ADA).

  Args:
    transformations: applied in order.
    target: of r, the moving average of <sign f(x)>; 0 is a critic that cannot tell.
    images: data that the critic sees while p goes from 0 to 1.
    start: p before the first update.
    decay: of the average, 0.75 for about four batches.
  """

  def init():
    return Controller(jnp.full((), start, jnp.float32), jnp.full((), target, jnp.float32))

  def apply(key, memory, x_BV):
    for key_one, transform in zip(jax.random.split(key, len(transformations)), transformations,
                                  strict=True):
      key_choice, key_change = jax.random.split(key_one)
      chosen_B1 = jax.random.uniform(key_choice, (len(x_BV), 1)) < memory.probability
      x_BV = jnp.where(chosen_B1, transform(key_change, x_BV), x_BV)
    return x_BV

  def update(memory, real_M, num):
    sign = jnp.mean(jnp.sign(real_M)) + decay * (memory.sign - jnp.mean(jnp.sign(real_M)))
    moved = memory.probability + jnp.sign(sign - target) * (num / images)
    return Controller(jnp.clip(moved, 0.0, 1.0), sign)

  return Adaptive(init, apply, update, lambda memory: memory.probability)


def composed(*transformations: Augmentation) -> Augmentation:
  """One after another."""
  def augment(key, x_BV):
    for key_one, transform in zip(jax.random.split(key, len(transformations)), transformations,
                                  strict=True):
      x_BV = transform(key_one, x_BV)
    return x_BV
  return augment


def diff_augment(shape: Shape) -> Augmentation:
  """Colour, translation by an eighth and a cut of half the sides (Zhao et al., 2020)."""
  return composed(colour(shape), translation(shape), cutout(shape))


def colour(shape: Shape) -> Augmentation:
  """Brightness + U(-1/4, 1/4), then saturation times U(0, 2), contrast times U(1/2, 3/2).

  Saturation and contrast are the distances from the pixel's and from the image's mean. (Zhao et
  al. have pixels in [-1, 1], and so twice the brightness.)
  """

  def augment(key, x_BV):
    x_BYXC = as_images(x_BV, shape)
    bright, saturation, contrast = jax.random.uniform(key, (3, len(x_BV), 1, 1, 1))
    x_BYXC = x_BYXC + (bright - 0.5) / 2
    pixel_BYX1 = jnp.mean(x_BYXC, axis=3, keepdims=True)
    x_BYXC = pixel_BYX1 + 2 * saturation * (x_BYXC - pixel_BYX1)
    image_B111 = jnp.mean(x_BYXC, axis=(1, 2, 3), keepdims=True)
    return (image_B111 + (0.5 + contrast) * (x_BYXC - image_B111)).reshape(x_BV.shape)

  return augment


def translation(shape: Shape, ratio: float = 0.125) -> Augmentation:
  """Moved by whole pixels, uniformly up to `ratio` of either side (rounded) to either direction."""

  def augment(key, x_BV):
    x_BYXC = as_images(x_BV, shape)
    sides = x_BYXC.shape[1:3]
    most = jnp.array([round(ratio * side) for side in sides])
    places_B2 = jax.random.randint(key, (len(x_BV), 2), 0, 2 * most + 1)
    padding = [(0, 0), *((round(ratio * side),) * 2 for side in sides), (0, 0)]

    def moved(x_YXC, place_2):
      return lax.dynamic_slice(x_YXC, (*place_2, 0), x_BYXC.shape[1:])

    return jax.vmap(moved)(jnp.pad(x_BYXC, padding), places_B2).reshape(x_BV.shape)

  return augment


def cutout(shape: Shape, ratio: float = 0.5) -> Augmentation:
  """0 in a rectangle of `ratio` of either side, whose centre is anywhere in the image."""

  def augment(key, x_BV):
    x_BYXC = as_images(x_BV, shape)
    inside = jnp.ones((1, 1, 1, 1), bool)
    for axis, key_axis in zip((1, 2), jax.random.split(key), strict=True):
      side = x_BYXC.shape[axis]
      centre_B = jax.random.randint(key_axis, (len(x_BV),), 0, side)
      first_B = centre_B - round(ratio * side) // 2
      places = jnp.arange(side).reshape([-1 if i == axis else 1 for i in range(4)])
      first = first_B.reshape(-1, 1, 1, 1)
      inside = inside & (places >= first) & (places < first + round(ratio * side))
    return jnp.where(inside, 0.0, x_BYXC).reshape(x_BV.shape)

  return augment


def flips(shape: Shape) -> Augmentation:
  """Left and right exchanged in half of the images."""

  def augment(key, x_BV):
    x_BYXC = as_images(x_BV, shape)
    turned = jax.random.bernoulli(key, shape=(len(x_BV), 1, 1, 1))
    return jnp.where(turned, x_BYXC[:, :, ::-1], x_BYXC).reshape(x_BV.shape)

  return augment


def jitter(stddev: float) -> Augmentation:
  """x + stddev e, e ~ N(0, I): of rows of any kind (instance noise: Sonderby et al., 2017)."""
  return lambda key, x_BV: x_BV + stddev * jax.random.normal(key, x_BV.shape)
