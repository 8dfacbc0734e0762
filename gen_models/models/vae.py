"""Variational autoencoder with any number of stochastic layers.

  p(x, z) = p(x | z_1) p(z_1 | z_2) .. p(z_L),    q(z | x) = q(z_1 | x) .. q(z_L | z_{L-1})

Each factor is a product of independent units whose parameters a network computes; what the units
are is a `Family` (families.py). The log-weight of a sample is

  l = log p(x, z) - log q(z | x),    E_q[l] <= log p(x).

Three parts may be others: p(z_L) a `Prior` (priors.py), the factors of q a `Posterior`
(posteriors.py), and q may draw from the top downwards (`Model.top_down`),

  q(z | x) = q(z_L | x) .. q(z_1 | z_2, x),    q(z_l | z_{l+1}, x) ~ N_l(z_l; x) p(z_l | z_{l+1}),

a Gaussian again, whose precision is the sum of both (Sonderby et al., 2016).

Of Q classes, `num_classes`, rows are [x, one-of-Q class], as label_rbm.attach makes them, and the
model is that of each class,

  p(x | y) = int p(x | z_1, y) p(z) dz,    q(z | x, y),

whose prior does not depend on y (Sohn, Lee & Yan, 2015).

Densities take parameters and samples as separate arguments, so an estimator may differentiate with
respect to either. The output of the first encoder for x, its code, is computed once and passed to
every function that needs it.

Axis suffixes: B batch, K samples of each, N samples, V visible, Z latent, D units of any layer, O
outputs of a network. z is a tuple of L arrays [K, B, Z]. Nats.

Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014); Burda, Grosse & Salakhutdinov (2016);
Sonderby, Raiko, Maaloe, Sonderby & Winther (2016), Ladder variational autoencoders; Sohn, Lee & Yan
(2015), Learning structured output representation using deep conditional generative models.
"""

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_models.models import networks
from gen_models.models.families import (  # noqa: F401, they are names of vae too
  BINARY,
  NORMAL,
  Divergence,
  Family,
  Follow,
  LogProb,
  Mean,
  Outputs,
  Sample,
  categorical,
  gaussian,
  product,
)
from gen_models.models.rows import over


class Prior(Protocol):
  """p(z_L) in the place of independent units; its parameters are Params.prior_O."""

  def init(self, key: jax.Array, model: 'Model', mean_V: jax.Array, rows_RV: jax.Array | None,
           /) -> Any:
    """Fresh parameters; mean_V of the data, rows_RV of the data where some are given."""
    ...

  def log_prob(self, model: 'Model', params: 'Params', z: jax.Array, /) -> jax.Array:
    """log p(z_L), [..] nats, of z_L [.., Z]; normalised."""
    ...

  def sample(self, key: jax.Array, model: 'Model', params: 'Params', num: int, /) -> jax.Array:
    """z_L ~ p(z_L), [num, Z], independent draws; the key is consumed."""
    ...


class Conditional(NamedTuple):
  """A layer given the outputs of a network, as its posterior has it; log_prob .. as of Family."""

  log_prob: LogProb
  sample: Sample
  mean: Mean

  def log_probs(self, outputs_KO, x) -> jax.Array:
    """As Family.log_probs."""
    return self.log_prob(outputs_KO, x[..., None, :])


class Posterior(Protocol):
  """The factors of q in the place of independent units. Latents are real, samples have a path."""

  def num_outputs(self, width: int, /) -> int:
    """O of a layer of `width` units."""
    ...

  def init(self, key: jax.Array, width: int, /) -> Any:
    """Fresh parameters, besides those of the network; () for none."""
    ...

  def of(self, params: Any, width: int, /) -> Conditional:
    """A layer with these parameters."""
    ...


class Params(NamedTuple):
  """Parameters of p and q.

  Attributes:
    encoder: parameters of the networks of q, then those of the `Posterior` of each layer, if any.
    decoder: parameters of p(x | z_1), p(z_1 | z_2), ..
    bias_O: added to the outputs of the first decoder; starts at the data's mean.
    prior_O: outputs that p(z_L) is made of, () for zeros, which is N(0, 1) of Gaussian units; or
      the parameters of a `Prior`.
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
    encoders: networks of q, from x upwards; one for all layers where q draws from the top.
    decoders: networks of p, from x upwards: the first maps z_1 to x.
    likelihood: Family of x.
    latent: Family of every z.
    widths: units of z_1, .., z_L.
    learned_prior: whether p(z_L) has parameters.
    centred: whether the encoder sees x minus the data's mean.
    prior: p(z_L); None for independent units.
    posterior: the factors of q; None for independent units.
    top_down: whether q draws z_L first; see the top of the file.
    dtype: that encoders and decoders are computed in, such as jnp.bfloat16; parameters, samples,
      densities and log-weights are float32 all the same. None for float32.
    num_classes: Q; the first encoder has V + Q inputs, the first decoder Z + Q. 0 for none.
  """

  encoders: tuple[nn.Module, ...]
  decoders: tuple[nn.Module, ...]
  likelihood: Family
  latent: Family
  widths: tuple[int, ...]
  learned_prior: bool = False
  centred: bool = False
  prior: Prior | None = None
  posterior: Posterior | None = None
  top_down: bool = False
  dtype: Any = None
  num_classes: int = 0

  @property
  def has_path(self) -> bool:
    """Whether samples of the posterior can be differentiated: latents are continuous."""
    return self.latent.has_path

  def with_latent(self, latent: Family) -> 'Model':
    """The same networks over other latents, such as some whose samples have a derivative."""
    return self._replace(latent=latent)

  @property
  def shares_parameters(self) -> bool:
    """Whether parameters of p are parameters of q too."""
    return self.top_down or getattr(self.prior, 'uses_encoder', False)

  # Parameters.

  def init(self, key, mean_V: jax.Array, rows_RV: jax.Array | None = None) -> Params:
    """Fresh networks; p(x | z) starts near the data's mean.

    Args:
      key: consumed.
      mean_V: of the data.
      rows_RV: of the data, for a prior that starts from some.

    Raises:
      ValueError: parts that do not go together.
    """
    self.check()
    layers, prior = (), None
    if self.prior is not None or self.posterior is not None:
      key, key_prior, key_q = jax.random.split(key, 3)
      if self.prior is not None:
        prior = self.prior.init(key_prior, self, mean_V, rows_RV)
      if self.posterior is not None:
        layers = tuple(map(self.posterior.init, jax.random.split(key_q, len(self.widths)),
                           self.widths))
    keys = iter(jax.random.split(key, 2 * len(self.widths)))
    encoder = tuple(networks.init(next(keys), net, width) for net, width in zip(
      self.encoders, (len(mean_V) + self.num_classes, *self.widths), strict=False))
    decoder = tuple(networks.init(next(keys), net, width) for net, width in zip(
      self.decoders, (self.widths[0] + self.num_classes, *self.widths[1:]), strict=True))
    if self.learned_prior:
      prior = jnp.zeros(self.latent.num_outputs * self.widths[-1])
    return Params((*encoder, *layers), decoder, self.likelihood.outputs(mean_V),
                  () if prior is None else prior, mean_V if self.centred else ())

  def check(self) -> None:
    """Raises ValueError, with the reason, where parts of the model do not go together."""
    if self.learned_prior and self.prior is not None:
      raise ValueError('p(z_L) is of independent learned units or a prior of its own, not both')
    if self.posterior is not None and not self.has_path:
      raise ValueError('flows and mixtures are posteriors of real latents, and those of this model '
                       'are discrete')
    if self.num_classes and getattr(self.prior, 'uses_encoder', False):
      raise ValueError(f'{self.prior} has the encoder see rows without a class: '
                       'leave prior out, or take mixture or flow')
    if not self.top_down:
      return
    if len(self.widths) < 2:
      raise ValueError('inference from the top adds what comes from above to what comes from x, '
                       'and of one stochastic layer nothing is above: give it several layers, '
                       'such as latents 16-8 with hidden 64-64,32-32')
    if self.latent is not NORMAL or self.posterior is not None:
      raise ValueError('inference from the top multiplies Gaussians of learned scale, and the '
                       'layers of this model are others')

  # Density.

  def log_likelihood(self, params: Params, x_BV, z) -> jax.Array:
    """log p(x | z_1), [K, B]; of rows with a class log p(x | z_1, y)."""
    z_1 = z[0]
    if self.num_classes:
      x_BV, y_BQ = x_BV[..., :-self.num_classes], x_BV[..., -self.num_classes:]
      z_1 = self.with_class(z_1, y_BQ)
    return self.likelihood.log_prob(self._visible(params, z_1), x_BV)

  def with_class(self, z_1, y_BQ) -> jax.Array:
    """[z_1, one-of-Q class], [.., Z + Q], what the first decoder of a model of classes sees."""
    y = jnp.broadcast_to(y_BQ, (*z_1.shape[:-1], self.num_classes))
    return jnp.concatenate([z_1, y.astype(z_1.dtype)], axis=-1)

  def log_prior(self, params: Params, z) -> jax.Array:
    """log p(z_1 | z_2) + .. + log p(z_L), [K, B]."""
    if self.prior is None:
      return sum(map(self.latent.log_prob, self.prior_outputs(params, z), z), jnp.zeros(()))
    return sum(map(self.latent.log_prob, self._given_above(params, z), z[:-1]),
               self.prior.log_prob(self, params, z[-1]))

  def log_posterior(self, params: Params, code_BO, z) -> jax.Array:
    """log q(z | x), the sum over layers, [K, B]."""
    return sum((self.layer(params, i).log_prob(self._outputs(params, code_BO, i, z), z_KBZ)
                for i, z_KBZ in enumerate(z)), jnp.zeros(()))

  def log_weights(self, key, params: Params, x_BV, num_samples: int) -> jax.Array:
    """l = log p(x, z) - log q(z | x) at z ~ q(z | x), [K, B]."""
    code_BO = self.encode(params, x_BV)
    z = self.sample_posterior(key, params, code_BO, num_samples)
    return (self.log_likelihood(params, x_BV, z) + self.log_prior(params, z)
            - self.log_posterior(params, code_BO, z))

  def kl(self, params: Params, code_BO) -> jax.Array:
    """KL(q(z | x) || p(z)), [B], in closed form.

    Raises:
      ValueError: it has none: several stochastic layers, a `Prior` or a `Posterior`.
    """
    self._require_closed_form()
    return self.latent.kl(code_BO, self._top(params, (len(code_BO),)))

  def kl_by_unit(self, params: Params, code_BO) -> jax.Array:
    """KL(q(z_i | x) || p(z_i)) of every latent, [B, Z]; raises as `kl`."""
    self._require_closed_form()
    top = jnp.broadcast_to(self._top(params, (len(code_BO),)), code_BO.shape)
    # Outputs are blocks, one for each number of a unit: to families of a single unit.
    q, p = (jnp.moveaxis(x.reshape(len(x), self.latent.num_outputs, -1), 1, -1)
            for x in (code_BO, top))
    return self.latent.kl(q, p)

  def _require_closed_form(self):
    if len(self.widths) > 1:
      raise ValueError(f'the KL of {len(self.widths)} stochastic layers has no closed form')
    for part in (self.prior, self.posterior):
      if part is not None:
        raise ValueError(f'the KL of {part} has no closed form: use a bound that samples it, '
                         'bound=elbo or another rule on log-weights')

  # Conditionals.

  def encode(self, params: Params, x_BV) -> jax.Array:
    """The outputs that q(z_1 | x) is made of, [B, O]; from the top, those of all layers' N_l."""
    if self.centred:
      center_V = params.center_V
      if self.num_classes:
        center_V = jnp.pad(center_V, (0, self.num_classes))
      x_BV = x_BV - jax.lax.stop_gradient(center_V)
    return self._encode(params, 0, x_BV)

  def prior_outputs(self, params: Params, z) -> list[jax.Array]:
    """The outputs that p(z_1 | z_2), .., p(z_L) are made of.

    Raises:
      ValueError: p(z_L) is a `Prior`, which is not made of outputs.
    """
    if self.prior is not None:
      raise ValueError(f'{self.prior} is not made of outputs, one for each number of a unit')
    return [*self._given_above(params, z), self._top(params, z[-1].shape[:-1])]

  def _given_above(self, params, z):
    """The outputs that p(z_1 | z_2), .., p(z_{L-1} | z_L) are made of."""
    return [self._decode(params, i, z_KBZ) for i, z_KBZ in enumerate(z) if i]

  def visible_mean(self, params: Params, z_1) -> jax.Array:
    """E[x | z_1], [.., V]; of a model of classes z_1 is that of `with_class`."""
    return self.likelihood.mean(self._visible(params, z_1))

  def posterior_means(self, params: Params, code_BO, z) -> tuple:
    """E_q[z_1 | x], E_q[z_2 | z_1], .., each [.., Z]; from the top E_q[z_L | x], .. likewise."""
    return tuple(self.layer(params, i).mean(self._outputs(params, code_BO, i, z))
                 for i in range(len(self.widths)))

  def mean_path(self, params: Params, code_BO) -> tuple:
    """E_q[z_l | ..] of all layers [B, Z], those on which a layer depends at their own means."""
    z: list = [None] * len(self.widths)
    for i in self._order:
      z[i] = self.layer(params, i).mean(self._outputs(params, code_BO, i, z))
    return tuple(z)

  def layer(self, params: Params, i: int) -> Conditional | Family:
    """The units of z_{i + 1} under q, given their outputs."""
    if self.posterior is None:
      return self.latent
    return self.posterior.of(params.encoder[len(self.encoders) + i], self.widths[i])

  def top_outputs(self, params: Params, inputs) -> jax.Array:
    """The outputs that q(z_L | ..) is made of, of what the top is encoded from: x, or z_{L-1}."""
    if len(self.widths) == 1 or self.top_down:
      return self._outputs(params, self.encode(params, inputs), len(self.widths) - 1, ())
    return self._encode(params, len(self.widths) - 1, inputs)

  @property
  def _order(self) -> range:
    """Layers as q draws them."""
    num = len(self.widths)
    return range(num - 1, -1, -1) if self.top_down else range(num)

  def _outputs(self, params, code_BO, i, z):
    """The outputs that layer i of q is made of, given the layer of z that q draws before it."""
    if not self.top_down:
      return code_BO if i == 0 else self._encode(params, i, z[i - 1])
    ends = [self.latent.num_outputs * sum(self.widths[:j]) for j in (i, i + 1)]
    own_BO = code_BO[..., ends[0]:ends[1]]
    if i == self._order[0]:
      return own_BO
    return product(own_BO, self._decode(params, i + 1, z[i + 1]))

  def _visible(self, params, z_1):
    return self._decode(params, 0, z_1) + self._over(params.bias_O, z_1.shape[:-1])

  def encode_layer(self, params: Params, layer: int, below) -> jax.Array:
    """The outputs that q(z_{layer + 1} | z_layer) is made of; layer is at least 1."""
    return self._encode(params, layer, below)

  def _decode(self, params, i, above):
    return networks.apply(self.decoders[i], params.decoder[i], above, self.dtype)

  def _encode(self, params, i, below):
    return networks.apply(self.encoders[i], params.encoder[i], below, self.dtype)

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
    z: list = [None] * len(self.widths)
    for i in self._order:
      outputs = self._outputs(params, code_BO, i, z)
      if i == self._order[0]:
        outputs = jnp.broadcast_to(outputs, (num_samples, *outputs.shape))
      z[i] = self.layer(params, i).sample(keys[i], outputs)
    return tuple(z)

  def sample_prior(self, key, params: Params, num_samples: int) -> tuple:
    """z ~ p(z), a tuple of [N, Z]."""
    keys = jax.random.split(key, len(self.widths))
    if self.prior is not None:
      z = [self.prior.sample(keys[0], self, params, num_samples)]
    else:
      z = [self.latent.sample(keys[0], jnp.broadcast_to(self._top(params, (num_samples,)), (
        num_samples, self.latent.num_outputs * self.widths[-1])))]
    for i in range(len(self.widths) - 1, 0, -1):
      z.insert(0, self.latent.sample(keys[i], self._decode(params, i, z[0])))
    return tuple(z)

  def sample_visible(self, key, params: Params, z_1) -> jax.Array:
    """x ~ p(x | z_1), [.., V]; z_1 as of `visible_mean`."""
    return self.likelihood.sample(key, self._visible(params, z_1))


def num_outputs(latent: Family, posterior: Posterior | None, width: int) -> int:
  """Outputs of the network that a layer of `width` units of q is made of."""
  return latent.num_outputs * width if posterior is None else posterior.num_outputs(width)


def model(num_visible: int, widths: tuple[int, ...], hidden: tuple[tuple[int, ...], ...], *,
          likelihood: Family = BINARY, latent: Family = NORMAL,
          activation: networks.Activation = jnp.tanh, residual: bool = False,
          **options) -> Model:
  """Dense networks, mirrored: hidden[l] between layer l and layer l + 1, widest end first.

  widths=(100, 50), hidden=((200, 200), (100, 100)) is x - 200 - 200 - z_1 - 100 - 100 - z_2, and
  back. With top_down the way up is one network, x - 200 - 200 - 100 - 100, whose hidden layers of
  each group give the N_l of z_l. `residual`: each hidden layer is a block of networks.Residual.
  `options` are those of Model.

  Raises:
    ValueError: not one tuple of hidden layers for each stochastic layer; parts that do not go
      together.
  """
  if not widths or len(widths) != len(hidden):
    raise ValueError(f'{len(widths)} stochastic layers, but hidden layers for {len(hidden)}: give '
                     'some for each')
  outs = tuple(num_outputs(latent, options.get('posterior'), width) for width in widths)

  def net(out: int, features: tuple[int, ...], bias: bool = True) -> nn.Module:
    return (networks.Residual((out,), (features,), activation, bias) if residual
            else networks.MLP(out, features, activation, bias))

  if options.get('top_down'):
    ladder = networks.Residual if residual else networks.Ladder
    encoders: tuple[nn.Module, ...] = (ladder(outs, tuple(hidden), activation),)
  else:
    encoders = tuple(net(out, features) for out, features in zip(outs, hidden, strict=True))
  below = (likelihood.num_outputs * num_visible, *(latent.num_outputs * w for w in widths[:-1]))
  decoders = tuple(net(out, features[::-1], i > 0)
                   for i, (out, features) in enumerate(zip(below, hidden, strict=True)))
  built = Model(encoders, decoders, likelihood, latent, tuple(widths), **options)
  built.check()
  return built
