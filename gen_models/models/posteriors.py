"""Posteriors of a layer of real latents, `vae.Model.posterior`, beyond independent Gaussians.

  Flow       z = f(e; h), e ~ N(m, s^2):  log q(z) = log N(e; m, s^2) - log |det dz / de|
  Mixture    q(z) = sum_c pi_c N(z; m_c, s_c^2)

m, s, pi and the context h are outputs of the encoder. Densities are exact at every z, and draws of
both can be differentiated without bias, so each is read by every rule on log-weights. Neither has
a KL in closed form.

A draw of a mixture has a path although its component has none: with F_i the distribution function
of z_i given z_1 .. z_{i-1}, u = F(z) is uniform whatever the parameters are, hence

  dz / dparams = -(dF / dz)^-1 dF / dparams,

dF / dz triangular (Graves, 2016; Figurnov, Mohamed & Mnih, 2018, Implicit reparameterization
gradients). It is unbiased; its variance grows where components are far apart.

Rezende & Mohamed (2015), Variational inference with normalizing flows; Kingma et al. (2016),
Inverse autoregressive flow; Morningstar, Vikram, Ham, Gallagher & Dillon (2021), Automatic
differentiation variational inference with mixtures, whose stratified draws are another way.

Axis suffixes: C components, Z latents, M draws of fixed noise. Leading axes are free.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.models import flows, vae

_MEAN_DRAWS = 64  # of the mean of a flow, in pairs e, -e
_TINY = 1e-30


class Flow(NamedTuple):
  """A Gaussian, then a flow that sees a context of as many numbers as there are units.

  The mean of such a layer has no closed form: it is an average over 64 draws of the same noise for
  all x. Untrained flows are the identity.

  Attributes:
    make: flows.autoregressive (IAF) or flows.coupling.
    num_steps: of the flow.
    features: widths of the hidden layers of each step's network.
  """

  make: Callable[..., flows.Flow] = flows.autoregressive
  num_steps: int = 2
  features: tuple[int, ...] = (64,)

  def __str__(self):
    return f'a posterior that is a flow of {self.num_steps} steps'

  def num_outputs(self, width: int) -> int:
    """m, log s and h of each unit."""
    return 3 * width

  def init(self, key, width: int) -> tuple:
    """See vae.Posterior."""
    return self._flow(width).init(key)

  def of(self, params, width: int) -> vae.Conditional:
    """See vae.Posterior."""
    flow = self._flow(width)

    def split(outputs):
      return outputs[..., :2 * width], outputs[..., 2 * width:]

    def log_prob(outputs, z):
      lead = jnp.broadcast_shapes(outputs.shape[:-1], z.shape[:-1])
      base, h = split(outputs)
      e, log_det = flow.inverse(params, jnp.broadcast_to(z, (*lead, width)), h)
      return vae.NORMAL.log_prob(base, e) - log_det

    def sample(key, outputs):
      base, h = split(outputs)
      return flow.forward(params, vae.NORMAL.sample(key, base), h)[0]

    def mean(outputs):
      base, h = split(outputs)
      half = jax.random.normal(jax.random.key(0), (_MEAN_DRAWS // 2, width))
      noise = jnp.concatenate([half, -half]).reshape(-1, *[1] * (outputs.ndim - 1), width)
      m, t = jnp.split(base, 2, axis=-1)
      return jnp.mean(flow.forward(params, m + jnp.exp(t) * noise, h)[0], axis=0)

    return vae.Conditional(log_prob, sample, mean)

  def _flow(self, width):
    return self.make(width, self.num_steps, self.features, num_context=width)


class Mixture(NamedTuple):
  """Gaussians with diagonal covariance and weights, all of them outputs of the encoder."""

  num_components: int

  def __str__(self):
    return f'a posterior that is a mixture of {self.num_components} components'

  def num_outputs(self, width: int) -> int:
    """A logit, means and log-scales of each component."""
    return self.num_components * (1 + 2 * width)

  def init(self, key, width: int) -> tuple:
    """Nothing: see vae.Posterior."""
    del key, width
    return ()

  def of(self, params, width: int) -> vae.Conditional:
    """See vae.Posterior."""
    del params

    def log_prob(outputs, z):
      logits_C, outputs_CO = self._split(outputs, width)
      return jax.nn.logsumexp(jax.nn.log_softmax(logits_C) + vae.NORMAL.log_prob(
        outputs_CO, z[..., None, :]), axis=-1)

    def sample(key, outputs):
      key_component, key_z = jax.random.split(key)
      logits_C, outputs_CO = self._split(outputs, width)
      component = jax.random.categorical(key_component, logits_C)
      z = vae.NORMAL.sample(key_z, jnp.take_along_axis(
        outputs_CO, component[..., None, None], axis=-2)[..., 0, :])
      return _with_path(jax.lax.stop_gradient(z), logits_C, outputs_CO)

    def mean(outputs):
      logits_C, outputs_CO = self._split(outputs, width)
      return jnp.sum(jax.nn.softmax(logits_C)[..., None] * vae.NORMAL.mean(outputs_CO), axis=-2)

    return vae.Conditional(log_prob, sample, mean)

  def _split(self, outputs, width):
    """(logits [.., C], outputs of the components [.., C, 2 Z])."""
    num = self.num_components
    return outputs[..., :num], outputs[..., num:].reshape(*outputs.shape[:-1], num, 2 * width)


def _with_path(z, logits_C, outputs_CO):
  """z of a mixture, held, with the derivative along the parameters of a draw; z is [.., Z]."""
  held = jax.lax.stop_gradient

  def distribution(logits_C, outputs_CO):
    """F, [.., Z], and what its Jacobian is made of, [.., C, Z]."""
    m_CZ, t_CZ = jnp.split(outputs_CO, 2, axis=-1)
    e_CZ = (z[..., None, :] - m_CZ) * jnp.exp(-t_CZ)
    log_p_CZ = jax.scipy.stats.norm.logpdf(e_CZ) - t_CZ
    # Weights of the components given the units before this one.
    before_CZ = jnp.cumsum(log_p_CZ, axis=-1) - log_p_CZ
    w_CZ = jax.nn.softmax(logits_C[..., None] + before_CZ, axis=-2)
    below_CZ = jax.scipy.special.ndtr(e_CZ)
    return jnp.sum(w_CZ * below_CZ, axis=-2), (w_CZ, below_CZ, log_p_CZ, -e_CZ * jnp.exp(-t_CZ))

  f, (w_CZ, below_CZ, log_p_CZ, slope_CZ) = distribution(logits_C, outputs_CO)
  density = jnp.maximum(jnp.sum(w_CZ * jnp.exp(log_p_CZ), axis=-2), _TINY)
  # dF_i / dz_j = sum_c w_ci (F_ci - F_i) d log p_cj / d z_j below the diagonal.
  lower = jnp.einsum('...ci,...cj->...ij', w_CZ * (below_CZ - f[..., None, :]), slope_CZ)
  jacobian = jnp.tril(lower, -1) / density[..., None] + jnp.eye(z.shape[-1])
  moved = (f - held(f)) / held(density)
  return z - jax.scipy.linalg.solve_triangular(held(jacobian), moved[..., None], lower=True,
                                               unit_diagonal=True)[..., 0]
