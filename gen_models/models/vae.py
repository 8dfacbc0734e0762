"""Variational autoencoder with any number of stochastic layers.

  p(x, z) = p(x | z_1) p(z_1 | z_2) .. p(z_L),    q(z | x) = q(z_1 | x) .. q(z_L | z_{L-1})

Each factor is a product of independent units whose parameters a network computes; what the units
are is a `Family`. The log-weight of a sample is

  l = log p(x, z) - log q(z | x),    E_q[l] <= log p(x).

Densities take parameters and samples as separate arguments, so an estimator may differentiate with
respect to either. The output of the first encoder for x, its code, is computed once and passed to
every function that needs it.

Axis suffixes: B batch, K samples of each, N samples, V visible, Z latent, D units of any layer, O
outputs of a network. z is a tuple of L arrays [K, B, Z]. Nats.

Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014); Burda, Grosse & Salakhutdinov (2016).
"""

import math
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_models.models import bits, networks, units
from gen_models.models.rows import over


class LogProb(Protocol):
  """The density of a family."""

  def __call__(self, outputs: jax.Array, x: jax.Array, /) -> jax.Array:
    """log p(x), [..] nats, of outputs [.., O] and x [.., D]; leading axes broadcast."""
    ...


class Divergence(Protocol):
  """The divergence of two members of a family."""

  def __call__(self, q_outputs: jax.Array, p_outputs: jax.Array, /) -> jax.Array:
    """KL(q || p), [..] nats."""
    ...


class Sample(Protocol):
  """Draws of a family."""

  def __call__(self, key: jax.Array, outputs: jax.Array, /) -> jax.Array:
    """x ~ p, [.., D]; differentiable in the outputs where units are continuous."""
    ...


class Mean(Protocol):
  """Means of a family."""

  def __call__(self, outputs: jax.Array, /) -> jax.Array:
    """E[x], [.., D]."""
    ...


class Follow(Protocol):
  """A draw seen as one of a family, its noise held."""

  def __call__(self, outputs: jax.Array, x: jax.Array, /) -> jax.Array:
    """x again; its derivative along the outputs is that of a sample with the noise of x."""
    ...


class Outputs(Protocol):
  """Outputs for an untrained network."""

  def __call__(self, mean_D: jax.Array, /) -> jax.Array:
    """Outputs [O] of which the mean is mean_D."""
    ...


class Family(NamedTuple):
  """Independent units given the outputs of a network, `num_outputs` numbers for each unit.

  Attributes:
    num_outputs: O / D.
    log_prob: (outputs [.., O], x [.., D]) -> [..] nats; leading axes broadcast.
    kl: (outputs of q, outputs of p) -> KL(q || p), [..] nats.
    sample: (key, outputs) -> [.., D], differentiable in the outputs where units are continuous.
    mean: outputs -> E[x], [.., D].
    outputs: mean_D -> outputs [O] with that mean, for an untrained network.
    has_path: whether samples can be differentiated in the outputs: units are continuous.
    follow: (outputs, x) -> x, which moves with the outputs as a sample does; None without a path.
    num_states: of a discrete unit; one of more than two is that many numbers, one of them 1.
  """

  num_outputs: int
  log_prob: LogProb
  kl: Divergence
  sample: Sample
  mean: Mean
  outputs: Outputs
  has_path: bool = True
  follow: Follow | None = None
  num_states: int | None = None


@jax.custom_jvp
def _softplus(x):
  """log(1 + exp(x)); without the care for nan and inf of jax.nn's, a third of its cost."""
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


# Its pieces have no derivative at 0, it has one half.
_softplus.defjvps(lambda dx, y, x: jax.nn.sigmoid(x) * dx)


def _bernoulli() -> Family:
  def log_prob(logits, x):
    return jnp.sum(x * logits - _softplus(logits), axis=-1)

  def kl(q_logits, p_logits):
    q = jax.nn.sigmoid(q_logits)
    return jnp.sum(q * (q_logits - p_logits) + _softplus(p_logits) - _softplus(q_logits), axis=-1)

  def sample(key, logits):
    return bits.bernoulli(key, jax.nn.sigmoid(logits))

  return Family(1, log_prob, kl, sample, jax.nn.sigmoid,
                lambda mean_D: units.log_odds(mean_D, 0.002), has_path=False, num_states=2)


def gaussian(scale: float | None = None, floor: float = 0.0) -> Family:
  """N(m, s^2). Two outputs a unit, m then t with s = floor + exp(t); or, with `scale`, only m.

  A floor bounds the density where data hardly vary: without it, a pixel that is always 0 is worth
  as many nats as s allows.
  """
  def split(outputs):
    if scale is not None:
      return outputs, jnp.full((1,), scale)
    m, t = jnp.split(outputs, 2, axis=-1)
    return m, floor + jnp.exp(t)

  def log_prob(outputs, x):
    m, s = split(outputs)
    return -jnp.sum(jnp.square((x - m) / s) / 2 + jnp.log(s) + math.log(2 * math.pi) / 2, axis=-1)

  def kl(q_outputs, p_outputs):
    (m, s), (mp, sp) = split(q_outputs), split(p_outputs)
    return jnp.sum((jnp.square(s / sp) + jnp.square((m - mp) / sp) - 1) / 2 + jnp.log(sp / s),
                   axis=-1)

  def sample(key, outputs):
    m, s = split(outputs)
    return m + s * jax.random.normal(key, m.shape)

  def follow(outputs, x):
    m, s = split(outputs)
    return m + s * jax.lax.stop_gradient((x - m) / s)

  def start(mean_D):
    return mean_D if scale is not None else jnp.concatenate([mean_D, jnp.zeros_like(mean_D)])

  return Family(1 if scale is not None else 2, log_prob, kl, sample,
                lambda outputs: split(outputs)[0], start, follow=follow)


def categorical(num_states: int) -> Family:
  """Units of Q states, each Q numbers of which one is 1: p = softmax(Q outputs)."""
  if num_states < 2:
    raise ValueError(f'a categorical unit has at least two states, got {num_states}')

  def split(x):
    if x.shape[-1] % num_states:
      raise ValueError(f'{x.shape[-1]} numbers are no whole units of {num_states} states')
    return x.reshape(*x.shape[:-1], -1, num_states)

  def log_prob(outputs, x):
    return jnp.sum(split(x) * jax.nn.log_softmax(split(outputs)), axis=(-2, -1))

  def kl(q_outputs, p_outputs):
    log_q, log_p = jax.nn.log_softmax(split(q_outputs)), jax.nn.log_softmax(split(p_outputs))
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=(-2, -1))

  def sample(key, outputs):
    states = jax.random.categorical(key, split(outputs))
    return jax.nn.one_hot(states, num_states).reshape(outputs.shape)

  def mean(outputs):
    return jax.nn.softmax(split(outputs)).reshape(outputs.shape)

  return Family(1, log_prob, kl, sample, mean, lambda mean_D: jnp.log(jnp.maximum(mean_D, 0.002)),
                has_path=False, num_states=num_states)


BINARY = _bernoulli()
NORMAL = gaussian()


class Params(NamedTuple):
  """Parameters of p and q.

  Attributes:
    encoder: parameters of q(z_1 | x), q(z_2 | z_1), ..
    decoder: parameters of p(x | z_1), p(z_1 | z_2), ..
    bias_O: added to the outputs of the first decoder; starts at the data's mean.
    prior_O: outputs that p(z_L) is made of; () for zeros, which is N(0, 1) of Gaussian units.
    center_V: subtracted from x before it is encoded, not trained; () for nothing.
  """

  encoder: tuple
  decoder: tuple
  bias_O: jax.Array
  prior_O: Any = ()
  center_V: Any = ()


class Model(NamedTuple):
  """The layers and their networks. Build it with `model` or belief_net.model.

  Attributes:
    encoders: networks of q, from x upwards.
    decoders: networks of p, from x upwards: the first maps z_1 to x.
    likelihood: Family of x.
    latent: Family of every z.
    widths: units of z_1, .., z_L.
    learned_prior: whether p(z_L) has parameters.
    centred: whether the encoder sees x minus the data's mean.
  """

  encoders: tuple[nn.Module, ...]
  decoders: tuple[nn.Module, ...]
  likelihood: Family
  latent: Family
  widths: tuple[int, ...]
  learned_prior: bool = False
  centred: bool = False

  @property
  def has_path(self) -> bool:
    """Whether samples of the posterior can be differentiated: latents are continuous."""
    return self.latent.has_path

  def with_latent(self, latent: Family) -> 'Model':
    """The same networks over other latents, such as some whose samples have a derivative."""
    return self._replace(latent=latent)

  # Parameters.

  def init(self, key, mean_V: jax.Array) -> Params:
    """Fresh networks; p(x | z) starts near the data's mean."""
    keys = iter(jax.random.split(key, 2 * len(self.widths)))
    encoder = tuple(networks.init(next(keys), net, width) for net, width in zip(
      self.encoders, (len(mean_V), *self.widths), strict=False))
    decoder = tuple(networks.init(next(keys), net, width) for net, width in zip(
      self.decoders, self.widths, strict=True))
    prior_O = jnp.zeros(self.latent.num_outputs * self.widths[-1])
    return Params(encoder, decoder, self.likelihood.outputs(mean_V),
                  prior_O if self.learned_prior else (), mean_V if self.centred else ())

  # Density.

  def log_likelihood(self, params: Params, x_BV, z) -> jax.Array:
    """log p(x | z_1), [K, B]."""
    return self.likelihood.log_prob(self._visible(params, z[0]), x_BV)

  def log_prior(self, params: Params, z) -> jax.Array:
    """log p(z_1 | z_2) + .. + log p(z_L), [K, B]."""
    return sum(map(self.latent.log_prob, self.prior_outputs(params, z), z), jnp.zeros(()))

  def log_posterior(self, params: Params, code_BO, z) -> jax.Array:
    """log q(z_1 | x) + .. + log q(z_L | z_{L-1}), [K, B]."""
    above = [self._encode(params, i + 1, z_KBZ) for i, z_KBZ in enumerate(z[:-1])]
    return sum(map(self.latent.log_prob, [code_BO, *above], z), jnp.zeros(()))

  def log_weights(self, key, params: Params, x_BV, num_samples: int) -> jax.Array:
    """l = log p(x, z) - log q(z | x) at z ~ q(z | x), [K, B]."""
    code_BO = self.encode(params, x_BV)
    z = self.sample_posterior(key, params, code_BO, num_samples)
    return (self.log_likelihood(params, x_BV, z) + self.log_prior(params, z)
            - self.log_posterior(params, code_BO, z))

  def kl(self, params: Params, code_BO) -> jax.Array:
    """KL(q(z | x) || p(z)), [B], in closed form.

    Raises:
      ValueError: more than one stochastic layer, where it has none.
    """
    if len(self.widths) > 1:
      raise ValueError(f'the KL of {len(self.widths)} stochastic layers has no closed form')
    return self.latent.kl(code_BO, self._top(params, (len(code_BO),)))

  def kl_by_unit(self, params: Params, code_BO) -> jax.Array:
    """KL(q(z_i | x) || p(z_i)) of every latent, [B, Z]; raises as `kl`."""
    if len(self.widths) > 1:
      return self.kl(params, code_BO)
    top = jnp.broadcast_to(self._top(params, (len(code_BO),)), code_BO.shape)
    # Outputs are blocks, one for each number of a unit: to families of a single unit.
    q, p = (jnp.moveaxis(x.reshape(len(x), self.latent.num_outputs, -1), 1, -1)
            for x in (code_BO, top))
    return self.latent.kl(q, p)

  # Conditionals.

  def encode(self, params: Params, x_BV) -> jax.Array:
    """The outputs that q(z_1 | x) is made of, [B, O]."""
    if self.centred:
      x_BV = x_BV - jax.lax.stop_gradient(params.center_V)
    return self._encode(params, 0, x_BV)

  def prior_outputs(self, params: Params, z) -> list[jax.Array]:
    """The outputs that p(z_1 | z_2), .., p(z_L) are made of."""
    above = [networks.apply(net, p, z_KBZ) for net, p, z_KBZ in zip(
      self.decoders[1:], params.decoder[1:], z[1:], strict=True)]
    return [*above, self._top(params, z[-1].shape[:-1])]

  def visible_mean(self, params: Params, z_1) -> jax.Array:
    """E[x | z_1], [.., V]."""
    return self.likelihood.mean(self._visible(params, z_1))

  def posterior_means(self, params: Params, code_BO, z) -> tuple:
    """E_q[z_1 | x], E_q[z_2 | z_1], .., each [.., Z]."""
    above = [self._encode(params, i + 1, z_KBZ) for i, z_KBZ in enumerate(z[:-1])]
    return tuple(map(self.latent.mean, [code_BO, *above]))

  def _visible(self, params, z_1):
    outputs = networks.apply(self.decoders[0], params.decoder[0], z_1)
    return outputs + self._over(params.bias_O, z_1.shape[:-1])

  def encode_layer(self, params: Params, layer: int, below) -> jax.Array:
    """The outputs that q(z_{layer + 1} | z_layer) is made of; layer is at least 1."""
    return self._encode(params, layer, below)

  def _encode(self, params, i, below):
    return networks.apply(self.encoders[i], params.encoder[i], below)

  def _top(self, params, lead):
    if not self.learned_prior:
      return jnp.zeros(self.latent.num_outputs * self.widths[-1])
    return self._over(params.prior_O, lead)

  def _over(self, b_O, lead):
    return over(b_O, lead)

  # Sampling.

  def sample_posterior(self, key, params: Params, code_BO, num_samples: int) -> tuple:
    """z ~ q(z | x), `num_samples` of each image; differentiable where units are continuous."""
    keys = jax.random.split(key, len(self.widths))
    z = [self.latent.sample(keys[0], jnp.broadcast_to(code_BO, (num_samples, *code_BO.shape)))]
    for i in range(1, len(self.widths)):
      z.append(self.latent.sample(keys[i], self._encode(params, i, z[-1])))
    return tuple(z)

  def sample_prior(self, key, params: Params, num_samples: int) -> tuple:
    """z ~ p(z), a tuple of [N, Z]."""
    keys = jax.random.split(key, len(self.widths))
    top_NO = jnp.broadcast_to(self._top(params, (num_samples,)), (
      num_samples, self.latent.num_outputs * self.widths[-1]))
    z = [self.latent.sample(keys[0], top_NO)]
    for i in range(len(self.widths) - 1, 0, -1):
      outputs = networks.apply(self.decoders[i], params.decoder[i], z[0])
      z.insert(0, self.latent.sample(keys[i], outputs))
    return tuple(z)

  def sample_visible(self, key, params: Params, z_1) -> jax.Array:
    """x ~ p(x | z_1), [.., V]."""
    return self.likelihood.sample(key, self._visible(params, z_1))


def model(num_visible: int, widths: tuple[int, ...], hidden: tuple[tuple[int, ...], ...], *,
          likelihood: Family = BINARY, latent: Family = NORMAL,
          activation: networks.Activation = jnp.tanh, **options) -> Model:
  """Dense networks, mirrored: hidden[l] between layer l and layer l + 1, widest end first.

  widths=(100, 50), hidden=((200, 200), (100, 100)) is x - 200 - 200 - z_1 - 100 - 100 - z_2, and
  back. `options` are those of Model.

  Raises:
    ValueError: not one tuple of hidden layers for each stochastic layer.
  """
  if not widths or len(widths) != len(hidden):
    raise ValueError(f'{len(widths)} stochastic layers, but hidden layers for {len(hidden)}')
  encoders = tuple(networks.MLP(latent.num_outputs * width, features, activation)
                   for width, features in zip(widths, hidden, strict=True))
  below = (likelihood.num_outputs * num_visible, *(latent.num_outputs * w for w in widths[:-1]))
  decoders = tuple(networks.MLP(out, features[::-1], activation, output_bias=i > 0)
                   for i, (out, features) in enumerate(zip(below, hidden, strict=True)))
  return Model(encoders, decoders, likelihood, latent, tuple(widths), **options)
