"""Generative adversarial network: a distribution that is drawn from and never evaluated.

  x = g(z),  z ~ N(0, I);    f(x), the critic, is large where it takes x for data

f is a log-odds for losses of classification and a witness function for distances; what the two
play for is the loss (estimators.adversarial). A packed critic (Lin et al., 2018) reads m samples at
once, f(x_1, .., x_m), so that a generator without variety is seen. A class-conditional game has a
class beside every sample.

Networks that normalise do so over the batch they are given and remember nothing, see
convolutions.BatchNorm: a sample then depends on the batch it was drawn in.

Axis suffixes: B batch, Z latents, V visible, D F features, M packs = B / packing, Q classes.

Goodfellow et al. (2014); Radford, Metz & Chintala (2016).
"""

import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from gen_models import devices
from gen_models.models import networks
from gen_models.models.convolutions import BatchNorm, Decoder, Encoder, Linear, weights


class Params(NamedTuple):
  """The two players."""

  generator: Any
  critic: Any


class Model(NamedTuple):
  """The players and their networks.

  Attributes:
    generator_net: [B, Z] -> [B, V].
    critic_net: [M, packing V] -> [M, 1].
    num_latents: Z.
    num_visible: V.
    packing: samples that the critic reads at once.
  """

  generator_net: nn.Module
  critic_net: nn.Module
  num_latents: int
  num_visible: int
  packing: int = 1

  def init(self, key) -> Params:
    """Fresh players."""
    key_generator, key_critic = jax.random.split(key)
    return Params(networks.init(key_generator, self.generator_net, self.num_latents),
                  networks.init(key_critic, self.critic_net, self.packing * self.num_visible))

  def critic(self, params: Params, x_BV) -> jax.Array:
    """f(x), [M], each of `packing` consecutive samples.

    Raises:
      ValueError: the batch does not divide into packs, or x are not the vectors of this model.
    """
    return networks.apply(self.critic_net, params.critic, self._packs(x_BV))[:, 0]

  def features(self, params: Params, x_BV) -> jax.Array:
    """h(x), what the critic's last dense layer reads, [M, F]; errors as of `critic`."""
    return networks.with_last_input(self.critic_net, params.critic, self._packs(x_BV))[1]

  def _packs(self, x_BV) -> jax.Array:
    """`packing` consecutive samples as one row, [M, packing V]."""
    if x_BV.shape[-1] != self.num_visible:
      raise ValueError(f'samples of width {x_BV.shape[-1]} for a critic of {self.num_visible}')
    if len(x_BV) % self.packing:
      raise ValueError(f'{len(x_BV)} samples do not divide into packs of {self.packing}')
    return x_BV.reshape(-1, self.packing * self.num_visible)

  def decode(self, params: Params, z_BZ) -> jax.Array:
    """g(z), [B, V]."""
    return networks.apply(self.generator_net, params.generator, z_BZ)

  def generate(self, key, params: Params, num: int) -> jax.Array:
    """x = g(z), z ~ N(0, I), [num, V]."""
    return self.decode(params, devices.spread(jax.random.normal(key, (num, self.num_latents))))


def packed(model: Model, packing: int) -> Model:
  """The model whose critic reads `packing` samples at once; its network has so many times V inputs.

  Lin et al. (2018).

  Raises:
    ValueError: fewer than one.
  """
  if packing < 1:
    raise ValueError(f'a critic reads at least one sample at once, not {packing}')
  return model._replace(packing=packing)


class ClassConditional(NamedTuple):
  """A game of each class: x = g(z, y), and the critic of a sample with its class,

    projection   f(x, y) = f(x) + e_y.h(x)
    auxiliary    f(x, y) = f(x),   p(y | x) = softmax_y(e_y.h(x))

  h(x) what the last dense layer of its network reads (Miyato & Koyama, 2018; Odena et al., 2017).
  Rows are [x, one-of-Q class], as label_rbm.attach makes them, of data and samples alike, so
  losses, penalties and augmentations see rows as they always do. The critic has no slope along the
  class.

  Attributes:
    model: the networks; the generator's has Z + Q inputs. The critic reads one sample at once.
    num_classes: Q.
    head: 'projection' or 'auxiliary', what the critic does with a class.
  """

  model: Model
  num_classes: int
  head: Literal['projection', 'auxiliary'] = 'projection'

  def init(self, key) -> Params:
    """Fresh players; the critic's fields are `net` and `class_QF`, zeros."""
    model = self.model
    if model.packing != 1:
      raise ValueError(f'a class-conditional critic reads one sample at once, not '
                       f'{model.packing}: use packing=1')
    params = model._replace(num_latents=model.num_latents + self.num_classes).init(key)
    x_BV = jax.ShapeDtypeStruct((1, model.num_visible), jnp.float32)
    features = jax.eval_shape(model.features, params, x_BV).shape[-1]
    return params._replace(critic={'net': params.critic,
                                   'class_QF': jnp.zeros((self.num_classes, features))})

  def network(self, params: Params) -> Params:
    """The parameters of `model`: of the critic those of its network, without classes."""
    return params._replace(critic=params.critic['net'])

  def critic(self, params: Params, x_BVQ) -> jax.Array:
    """f(x, y), [B], of rows [x, one-of-Q class]."""
    return self.judge(params, x_BVQ)[0]

  def judge(self, params: Params, x_BVQ) -> tuple[jax.Array, jax.Array]:
    """(f(x, y), -log p(y | x) in nats), [B] each, from one pass through the network.

    The second is that of the auxiliary classifier; it is 0 where the class is projected.
    """
    x_BV, y_BQ = x_BVQ[:, :-self.num_classes], lax.stop_gradient(x_BVQ[:, -self.num_classes:])
    f_B1, h_BF = networks.with_last_input(self.model.critic_net, params.critic['net'], x_BV)
    f_B, class_QF = f_B1[:, 0], params.critic['class_QF']
    if self.head == 'projection':
      return f_B + jnp.sum((y_BQ @ class_QF) * h_BF, axis=-1), jnp.zeros_like(f_B)
    return f_B, -jnp.sum(y_BQ * jax.nn.log_softmax(h_BF @ class_QF.T, axis=-1), axis=-1)

  def features(self, params: Params, x_BVQ) -> jax.Array:
    """h(x), [B, F]."""
    return self.model.features(self.network(params), x_BVQ[:, :-self.num_classes])

  def decode(self, params: Params, z_BZ, y_BQ) -> jax.Array:
    """g(z, y), [B, V]."""
    return self.model.decode(params, jnp.concatenate([z_BZ, y_BQ], axis=-1))

  def draw(self, key, params: Params, y_BQ) -> jax.Array:
    """x = g(z, y), z ~ N(0, I), [B, V], of one-of-Q classes."""
    return self.decode(params, jax.random.normal(key, (len(y_BQ), self.model.num_latents)), y_BQ)

  def generate(self, key, params: Params, num: int) -> jax.Array:
    """Rows [x, class], [num, V + Q], the classes in turn."""
    y_BQ = jax.nn.one_hot(jnp.arange(num) % self.num_classes, self.num_classes)
    return jnp.concatenate([self.draw(key, params, y_BQ), y_BQ], axis=-1)

  def generate_beside(self, key, params: Params, x_BVQ) -> jax.Array:
    """Rows of the classes of given rows: pairs are of one class."""
    y_BQ = x_BVQ[:, -self.num_classes:]
    return jnp.concatenate([self.draw(key, params, y_BQ), y_BQ], axis=-1)


# Networks.


class DenseGenerator(nn.Module):
  """Dense, [normalise], ReLU for each of `features`; then dense and `link`.

  Attributes:
    out: V.
    features: width of each hidden layer.
    batch_norm: whether hidden layers are normalised over the batch.
    stddev: as of convolutions.Encoder.
    link: from the last layer to x.
  """

  out: int
  features: tuple[int, ...]
  batch_norm: bool = False
  stddev: float | None = None
  link: networks.Activation = jax.nn.sigmoid

  @nn.compact
  def __call__(self, x_BD):
    for width in self.features:
      x_BD = Linear(width, not self.batch_norm, weights(self.stddev))(x_BD)
      x_BD = jax.nn.relu(BatchNorm()(x_BD) if self.batch_norm else x_BD)
    return self.link(Linear(self.out, weights=weights(self.stddev, 1.0))(x_BD))


class DenseCritic(nn.Module):
  """Dense and leaky ReLU, or the largest of `pieces` maps, for each of `features`; then dense.

  Attributes:
    features: width of each hidden layer.
    pieces: linear maps a unit (maxout: Goodfellow et al., 2013); 1: a leaky ReLU.
    stddev: as of convolutions.Encoder.
  """

  features: tuple[int, ...]
  pieces: int = 1
  stddev: float | None = None

  @nn.compact
  def __call__(self, x_BD):
    for width in self.features:
      x_BD = Linear(self.pieces * width, weights=weights(self.stddev))(x_BD)
      if self.pieces == 1:
        x_BD = jax.nn.leaky_relu(x_BD, 0.2)
      else:
        x_BD = jnp.max(x_BD.reshape(len(x_BD), self.pieces, width), axis=1)
    return Linear(1, weights=weights(self.stddev, 1.0))(x_BD)


class ConvGenerator(nn.Module):
  """A convolutional decoder with pixels in [0, 1], as vectors in the order [Y, X, C].

  The published one, tanh, has them in [-1, 1].
  """

  decoder: Decoder

  def __call__(self, z_BZ):
    return jax.nn.sigmoid(self.decoder(z_BZ)).reshape(len(z_BZ), -1)


class ConvCritic(nn.Module):
  """A convolutional encoder of pixels in [0, 1], read as [-1, 1]; vectors in the order [Y, X, C].

  The images of a pack are channels of one: first all those of the first image.

  Attributes:
    encoder: of [M, Y, X, packing C].
    shape: (Y, X), or (Y, X, C).
  """

  encoder: Encoder
  shape: networks.Shape

  def __call__(self, x_MV):
    width = math.prod(self.shape)
    # What is not a whole number of images is refused there.
    packs = x_MV if x_MV.shape[-1] % width else x_MV.reshape(-1, width)
    images = networks.as_images(packs, self.shape)
    packed = jnp.moveaxis(images.reshape(len(x_MV), -1, *images.shape[1:]), 1, -2)
    return self.encoder(2 * packed.reshape(*packed.shape[:-2], -1) - 1)
