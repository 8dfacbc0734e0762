"""Discrete variational autoencoder: binary latents whose prior is a restricted Boltzmann machine.

  p(x, z) = p(x | z_1) p(z_1 | z_2) .. p(z_L),    p(z_L) = exp(b.v + c.h + v.W.h) / Z,

z_L = (v, h): the first latents of the top layer are the machine's visible side, the others its
hidden side, and the decoder sees both. A directed decoder with an undirected prior: latents that
are independent under a factorial prior may here exclude or require each other, at the price of a
log Z. With one layer of latents it is a discrete variational autoencoder; with several a belief
network that ends in a machine, trained with an encoder. Networks, posterior and likelihood are
those of a gen_models.models.vae.Model with binary latents, of which only the top is replaced.

log Z is a constant of the log-weights: of every sample of every image the same. So it is left out
of them unless `log_partition` says otherwise (`enumerated`), and they are

  l = log p(x | z) - E(z) - log q(z | x) = log p(x, z) - log q(z | x) + log Z.

Axis suffixes: B batch, K samples of each, N samples, C chains, V visible, H hidden, Z latents, O
outputs of a network. z is a tuple of L arrays [K, B, Z]. Nats.

Rolfe (2017), Discrete variational autoencoders; Vahdat, Macready, Bian, Khoshaman & Andriyash
(2018), DVAE++; Khoshaman & Amin (2018), GumBolt; Vahdat, Andriyash & Macready (2018), DVAE#. Those
smooth the latents so that gradients pass through them; here latents stay binary.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.models import gibbs, networks, rbm, vae


class Params(NamedTuple):
  """Parameters of the networks, and of the machine over the top layer."""

  net: vae.Params
  prior: rbm.Params


def left_out(prior: rbm.Params) -> jax.Array:
  """0 in the place of log Z: the constant of all log-weights that is left out of them."""
  del prior
  return jnp.zeros(())


class Model(NamedTuple):
  """Networks with a machine at the top. Build it with `model`.

  Attributes:
    net: encoders, decoders, likelihood and latents; it has no prior of its own.
    num_visible: V, how many of the top layer's latents are the visible side of the machine.
    log_partition: prior -> log Z, subtracted from log p(z); `left_out`, or rbm.log_partition.
  """

  net: vae.Model
  num_visible: int
  log_partition: Callable[[rbm.Params], jax.Array] = left_out

  @property
  def widths(self) -> tuple[int, ...]:
    """Units of z_1, .., z_L."""
    return self.net.widths

  @property
  def latent(self) -> vae.Family:
    """The family of every latent."""
    return self.net.latent

  @property
  def has_path(self) -> bool:
    """Whether samples of the posterior can be differentiated: they cannot, they are binary."""
    return self.net.has_path

  def with_latent(self, latent: vae.Family) -> 'Model':
    """The same networks over other latents, such as some whose samples have a derivative."""
    return self._replace(net=self.net.with_latent(latent))

  @property
  def enumerated(self) -> 'Model':
    """The same model with log Z summed over the states of the machine's smaller side."""
    return self._replace(log_partition=rbm.log_partition)

  # Parameters.

  def init(self, key, mean_V: jax.Array) -> Params:
    """Fresh networks, and a machine of small weights, near which every z is equally probable."""
    key_net, key_prior = jax.random.split(key)
    prior = rbm.init(key_prior, self.num_visible, self.widths[-1] - self.num_visible)
    return Params(self.net.init(key_net, mean_V), prior)

  # Density.

  def sides(self, top) -> tuple[jax.Array, jax.Array]:
    """(v, h) of the top layer's latents [.., Z]."""
    return top[..., :self.num_visible], top[..., self.num_visible:]

  def energy(self, prior: rbm.Params, top) -> jax.Array:
    """E(v, h) of the top layer's latents [.., Z], [..]; also where they lie between states."""
    return rbm.energy(prior, *self.sides(top))

  def log_likelihood(self, params: Params, x_BV, z) -> jax.Array:
    """log p(x | z_1), [K, B]."""
    return self.net.log_likelihood(params.net, x_BV, z)

  def log_prior(self, params: Params, z) -> jax.Array:
    """log p(z_1 | z_2) + .. - E(z_L), [K, B], less log Z unless that is left out."""
    *directed, _ = self.net.prior_outputs(params.net, z)
    log_p = -self.energy(params.prior, z[-1]) - self.log_partition(params.prior)
    return sum(map(self.latent.log_prob, directed, z[:-1]), log_p)

  def log_posterior(self, params: Params, code_BO, z) -> jax.Array:
    """log q(z_1 | x) + .. + log q(z_L | z_{L-1}), [K, B]."""
    return self.net.log_posterior(params.net, code_BO, z)

  def log_weights(self, key, params: Params, x_BV, num_samples: int) -> jax.Array:
    """l = log p(x, z) - log q(z | x) at z ~ q(z | x), [K, B], plus log Z where it is left out."""
    code_BO = self.encode(params, x_BV)
    z = self.sample_posterior(key, params, code_BO, num_samples)
    return (self.log_likelihood(params, x_BV, z) + self.log_prior(params, z)
            - self.log_posterior(params, code_BO, z))

  # Conditionals.

  def encode(self, params: Params, x_BV) -> jax.Array:
    """The outputs that q(z_1 | x) is made of, [B, O]."""
    return self.net.encode(params.net, x_BV)

  def encode_layer(self, params: Params, layer: int, below) -> jax.Array:
    """The outputs that q(z_{layer + 1} | z_layer) is made of; layer is at least 1."""
    return self.net.encode_layer(params.net, layer, below)

  def posterior_means(self, params: Params, code_BO, z) -> tuple:
    """E_q[z_1 | x], E_q[z_2 | z_1], .., each [.., Z]."""
    return self.net.posterior_means(params.net, code_BO, z)

  def mean_path(self, params: Params, code_BO) -> tuple:
    """E_q[z_l | ..] of all layers [B, Z], those below at their own means."""
    return self.net.mean_path(params.net, code_BO)

  def visible_mean(self, params: Params, z_1) -> jax.Array:
    """E[x | z_1], [.., V]."""
    return self.net.visible_mean(params.net, z_1)

  # Sampling.

  def sample_posterior(self, key, params: Params, code_BO, num_samples: int) -> tuple:
    """z ~ q(z | x), `num_samples` of each image."""
    return self.net.sample_posterior(key, params.net, code_BO, num_samples)

  def sample_prior(self, key, params: Params, num_samples: int, num_steps: int = 1000,
                   chains: gibbs.Chains | None = None) -> tuple:
    """z ~ p(z), a tuple of [N, Z], by Gibbs chains of the machine and then downwards.

    Args:
      key: consumed.
      params: of the model.
      num_samples: N.
      num_steps: Gibbs steps.
      chains: N chains to begin with, such as those of training; None for the visible biases.
    """
    key_start, key_gibbs, *keys = jax.random.split(key, 1 + len(self.widths))
    if chains is None:
      chains = gibbs.init_chains(key_start, rbm, params.prior, num_samples)
    chains = gibbs.run(key_gibbs, rbm, params.prior, chains, num_steps)
    z = [jnp.concatenate([chains.v_CV, chains.h_CH], axis=-1)]
    for i in range(len(self.widths) - 1, 0, -1):
      outputs = networks.apply(self.net.decoders[i], params.net.decoder[i], z[0])
      z.insert(0, self.latent.sample(keys[i - 1], outputs))
    return tuple(z)

  def sample_visible(self, key, params: Params, z_1) -> jax.Array:
    """x ~ p(x | z_1), [.., V]."""
    return self.net.sample_visible(key, params.net, z_1)


def model(net: vae.Model, num_visible: int | None = None) -> Model:
  """A machine over the top latents of `net`, such as belief_net.model(.., learned_prior=False).

  Args:
    net: with binary latents and without a prior of its own.
    num_visible: V of the machine; half of the top layer unless given.

  Raises:
    ValueError: latents that are not binary, a learned prior, or a side without units.
  """
  if net.latent.num_states != 2:
    raise ValueError('the prior is a machine of binary units, and the latents of this model are '
                     'not binary: use vae.BINARY')
  if net.learned_prior or net.prior is not None:
    raise ValueError('the machine is the prior, and this model has one of its own: build it with '
                     'learned_prior=False')
  num_visible = net.widths[-1] // 2 if num_visible is None else num_visible
  if not 0 < num_visible < net.widths[-1]:
    raise ValueError(f'{net.widths[-1]} latents are no two sides of a machine of which one has '
                     f'{num_visible} units')
  return Model(net, num_visible)
