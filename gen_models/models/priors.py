"""Priors of the top layer of a latent-variable model, `vae.Model.prior`.

  Mixture    p(z) = sum_k pi_k p_k(z), independent units in each component
  Vamp       p(z) = (1/K) sum_k q(z | u_k), the posterior at K learned inputs
  Flow       p(z) = N(f(z); 0, I) |det df / dz|, f affine couplings

The best prior of an encoder, for the ELBO, is the average of its posteriors over the data, which a
standard normal is not (Hoffman & Johnson, 2016); these can come near. All are normalised and drawn
from exactly, so that samples, bounds and annealing read them as any other. None has a KL in closed
form.

Tomczak & Welling (2018), VAE with a VampPrior; Dinh, Sohl-Dickstein & Bengio (2017), Real NVP;
Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel (2017), Variational lossy
autoencoder.

Axis suffixes: K components, N samples, Z latents, O outputs, V visible, R rows. Leading axes of z
are free.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.models import flows, vae

_NEAR = 0.1  # standard deviation of untrained pseudo-inputs around the data's mean


class MixtureParams(NamedTuple):
  """logits_K of the components, and the outputs that their units are made of."""

  logits_K: jax.Array
  outputs_KO: jax.Array


class Mixture(NamedTuple):
  """A mixture of layers of independent units: Gaussians with learned scales, or discrete ones.

  Untrained, components have equal probabilities; means of Gaussians are draws of N(0, I), their
  scales 1.
  """

  num_components: int

  def __str__(self):
    return f'a prior that is a mixture of {self.num_components} components'

  def init(self, key, model: vae.Model, mean_V, rows_RV) -> MixtureParams:
    """See vae.Prior."""
    del mean_V, rows_RV
    mean_KZ = jax.random.normal(key, (self.num_components, model.widths[-1]))
    if not model.has_path:
      mean_KZ = jax.nn.sigmoid(mean_KZ)
    return MixtureParams(jnp.zeros(self.num_components), jax.vmap(model.latent.outputs)(mean_KZ))

  def log_prob(self, model: vae.Model, params: vae.Params, z) -> jax.Array:
    """log sum_k pi_k p_k(z), [..]."""
    prior = params.prior_O
    return jax.nn.logsumexp(jax.nn.log_softmax(prior.logits_K) + model.latent.log_probs(
      prior.outputs_KO, z), axis=-1)

  def sample(self, key, model: vae.Model, params: vae.Params, num: int) -> jax.Array:
    """A component for each draw, then its units, [num, Z]."""
    key_component, key_z = jax.random.split(key)
    prior = params.prior_O
    component_N = jax.random.categorical(key_component, prior.logits_K, shape=(num,))
    return model.latent.sample(key_z, prior.outputs_KO[component_N])


class Vamp(NamedTuple):
  """Variational mixture of posteriors: its components are q at K pseudo-inputs (Tomczak & Welling).

  p shares the encoder with q, whose gradient has a part from either. A pseudo-input is what the
  encoder of the top sees: a row x of one stochastic layer, or where q draws from the top; else
  z_{L-1}. Rows start at rows of the data that are given, or near the data's mean, and need not
  stay within its range.
  """

  num_components: int

  @property
  def uses_encoder(self) -> bool:
    """Parameters of q are parameters of p too."""
    return True

  def __str__(self):
    return f'a VampPrior of {self.num_components} pseudo-inputs'

  def sees_rows(self, model: vae.Model) -> bool:
    """Whether pseudo-inputs are rows of data."""
    return len(model.widths) == 1 or model.top_down

  def init(self, key, model: vae.Model, mean_V, rows_RV) -> jax.Array:
    """Pseudo-inputs [K, V]; rows are drawn from those given without replacement if they suffice."""
    if not self.sees_rows(model):
      return jax.random.normal(key, (self.num_components, model.widths[-2]))
    if rows_RV is None:
      return mean_V + _NEAR * jax.random.normal(key, (self.num_components, len(mean_V)))
    return jax.random.choice(key, rows_RV, (self.num_components,),
                             replace=len(rows_RV) < self.num_components)

  def log_prob(self, model: vae.Model, params: vae.Params, z) -> jax.Array:
    """log (1/K) sum_k q(z | u_k), [..]."""
    code_KO = model.top_outputs(params, params.prior_O)
    layer = model.layer(params, len(model.widths) - 1)
    log_q = layer.log_probs(code_KO, z)
    return jax.nn.logsumexp(log_q, axis=-1) - jnp.log(jnp.float32(self.num_components))

  def sample(self, key, model: vae.Model, params: vae.Params, num: int) -> jax.Array:
    """A pseudo-input for each draw, then its posterior, [num, Z]."""
    key_component, key_z = jax.random.split(key)
    code_KO = model.top_outputs(params, params.prior_O)
    component_N = jax.random.randint(key_component, (num,), 0, self.num_components)
    return model.layer(params, len(model.widths) - 1).sample(key_z, code_KO[component_N])


class Flow(NamedTuple):
  """A standard normal seen through couplings; untrained it is the standard normal.

  The flow goes from z to the normal, so that the density is the single pass.

  Attributes:
    num_steps: of the flow.
    features: widths of the hidden layers of each step's network.
  """

  num_steps: int
  features: tuple[int, ...] = (64,)

  def __str__(self):
    return f'a prior that is a flow of {self.num_steps} steps'

  def init(self, key, model: vae.Model, mean_V, rows_RV) -> tuple:
    """See vae.Prior.

    Raises:
      ValueError: discrete latents.
    """
    del mean_V, rows_RV
    if not model.has_path:
      raise ValueError(f'{self} is one of real latents, and those of this model are discrete: use '
                       'a mixture')
    return self._flow(model).init(key)

  def log_prob(self, model: vae.Model, params: vae.Params, z) -> jax.Array:
    """log N(f(z); 0, I) + log |det df / dz|, [..]."""
    e, log_det = self._flow(model).forward(params.prior_O, z)
    return _NORMAL.log_prob(jnp.zeros(e.shape[-1]), e) + log_det

  def sample(self, key, model: vae.Model, params: vae.Params, num: int) -> jax.Array:
    """f^-1(e), e ~ N(0, I), [num, Z]."""
    flow = self._flow(model)
    return flow.inverse(params.prior_O, jax.random.normal(key, (num, flow.num_units)))[0]

  def _flow(self, model):
    return flows.coupling(model.widths[-1], self.num_steps, self.features)


_NORMAL = vae.gaussian(1.0)
