"""How good an encoder is: gaps, rate and distortion, mutual information, active units.

  log p(x) - ELBO(q)  =  [log p(x) - ELBO(q*)]  +  [ELBO(q*) - ELBO(q)]
                         approximation gap         amortisation gap

q is the encoder's, q* the best member of its family for this x, found by gradient steps on its
parameters (Cremer, Li & Duvenaud, 2018). Over images

  -ELBO = rate + distortion,    rate = E[KL(q(z | x) || p(z))],    distortion = -E[log p(x | z)]
  rate  = I_q(x; z) + KL(q(z) || p(z)),    q(z) = (1/N) sum_n q(z | x_n)

I_q is of x drawn from the N images themselves, and at most log N (Hoffman & Johnson, 2016; Alemi et
al., 2018). A unit is active where Var_x[E_q[z | x]] > 0.01 (Burda, Grosse & Salakhutdinov, 2016).

Axis suffixes: N images, B batch, K samples of each, O outputs of the encoder, Z latents. Nats.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gen_models.models import vae

ACTIVE = 0.01
_STEP, _TRIES = 0.03, 8  # of Adam on the outputs of the encoder; samples for a gradient


def active_units(key, model: vae.Model, params, x_NV) -> list[jax.Array]:
  """Var_x[E_q[z | below]] of every unit, [Z] for each layer; above 0.01 it counts as active."""
  code_NO = model.encode(params, x_NV)
  z = model.sample_posterior(key, params, code_NO, 1)
  return [jnp.var(mean.reshape(-1, mean.shape[-1]), axis=0)
          for mean in model.posterior_means(params, code_NO, z)]


class Terms(NamedTuple):
  """Expectations under q for each image: E[log p(x | z)], E[log q(z | x) - log p(z)], [N]."""

  log_likelihood_N: jax.Array
  divergence_N: jax.Array

  @property
  def elbo_N(self) -> jax.Array:
    return self.log_likelihood_N - self.divergence_N


def _terms(key, model: vae.Model, params, x_BV, code_BO, num_samples: int) -> Terms:
  z = model.sample_posterior(key, params, code_BO, num_samples)
  divergence_KB = model.log_posterior(params, code_BO, z) - model.log_prior(params, z)
  return Terms(model.log_likelihood(params, x_BV, z).mean(0), divergence_KB.mean(0))


@functools.partial(jax.jit, static_argnames=('model', 'num_samples'))
def terms(key, model: vae.Model, params, x_NV, code_NO, num_samples: int) -> Terms:
  """The terms of the ELBO for q's of the given outputs [N, O], an image at a time."""
  def of_image(args):
    key, x_V, code_O = args
    found = _terms(key, model, params, x_V[None], code_O[None], num_samples)
    return jax.tree.map(lambda x_B: x_B[0], found)

  return lax.map(of_image, (jax.random.split(key, len(x_NV)), x_NV, code_NO), batch_size=16)


@functools.partial(jax.jit, static_argnames=('model', 'num_steps'))
def optimised(key, model: vae.Model, params, x_NV, num_steps: int = 500) -> jax.Array:
  """Outputs of q* of each image, [N, O]: Adam on the ELBO from those of the encoder.

  The gradient is that of samples whose score is left out (Roeder, Wu & Duvenaud, 2017): it has no
  noise where q is the posterior. Of several layers, those above z_1 stay the encoder's, unless q
  draws from the top; of a flow its base and its context move.
  """
  optimizer = optax.adam(optax.cosine_decay_schedule(_STEP, num_steps))

  def loss(code_NO, key):
    z = model.sample_posterior(key, params, code_NO, _TRIES)
    log_q_KN = model.log_posterior(params, lax.stop_gradient(code_NO), z)
    return -jnp.sum(jnp.mean(model.log_likelihood(params, x_NV, z) + model.log_prior(params, z)
                             - log_q_KN, axis=0))

  def step(carry, key):
    code_NO, state = carry
    updates, state = optimizer.update(jax.grad(loss)(code_NO, key), state)
    return (optax.apply_updates(code_NO, updates), state), None

  code_NO = model.encode(params, x_NV)
  return lax.scan(step, (code_NO, optimizer.init(code_NO)), jax.random.split(key, num_steps))[0][0]


@functools.partial(jax.jit, static_argnames=('model', 'num_samples'))
def mutual_information(key, model: vae.Model, params, x_NV, num_samples: int = 10) -> jax.Array:
  """E_q[log q(z_1 | x) - log q(z_1)] of each image, [N]; their mean is I_q(x; z_1).

  Where q draws from the top, z_L stands for z_1: the layer that depends on x alone.
  """
  i, code_NO = model.first(params, model.encode(params, x_NV))
  layer = model.layer(params, i)

  def of_image(args):
    key, code_O = args
    z_KZ = layer.sample(key, jnp.broadcast_to(code_O, (num_samples, *code_O.shape)))
    log_q_KN = layer.log_prob(code_NO, z_KZ[:, None])
    log_mean_K = jax.nn.logsumexp(log_q_KN, axis=-1) - jnp.log(len(x_NV))
    return jnp.mean(layer.log_prob(code_O, z_KZ) - log_mean_K)

  return lax.map(of_image, (jax.random.split(key, len(x_NV)), code_NO))


def record(key, model: vae.Model, params, x_NV, log_p: float, *, num_samples: int = 1000,
           num_steps: int = 500) -> dict[str, Any]:
  """The entry of a record about q; `log_p` is the mean log p(x) of the same images, or a bound.

  Standard errors are over images. The gaps are of continuous latents only: no gradient leads
  through samples of discrete ones. Of a lower bound of log p(x) the approximation gap is one too.

  Args:
    key: consumed.
    model: with its encoder.
    params: of the model.
    x_NV: images.
    log_p: nats.
    num_samples: of every expectation under q.
    num_steps: of the local optimisation.
  """
  key_terms, key_best, key_mutual, key_units = jax.random.split(key, 4)
  x_NV = jnp.asarray(x_NV, jnp.float32)
  code_NO = model.encode(params, x_NV)
  found = terms(key_terms, model, params, x_NV, code_NO, num_samples)
  mutual_N = mutual_information(key_mutual, model, params, x_NV)
  units = active_units(key_units, model, params, x_NV)
  entry = {
    'elbo': _mean(found.elbo_N), 'rate': _mean(found.divergence_N),
    'distortion': -_mean(found.log_likelihood_N), 'mutual_information': _mean(mutual_N),
    'mutual_information_error': _error(mutual_N), 'mutual_information_at_most':
    float(np.log(len(x_NV))), 'active_units': [int(jnp.sum(v_Z > ACTIVE)) for v_Z in units]}
  if not model.has_path:
    return entry
  best_NO = optimised(key_best, model, params, x_NV, num_steps)
  # The same noise for both: what is compared is the parameters.
  best = terms(jax.random.clone(key_terms), model, params, x_NV, best_NO, num_samples)
  gain_N = best.elbo_N - found.elbo_N
  return entry | {
    'amortisation_gap': _mean(gain_N), 'amortisation_gap_error': _error(gain_N),
    'approximation_gap': log_p - _mean(best.elbo_N)}


def _mean(value_N) -> float:
  return float(np.mean(np.asarray(value_N, np.float64)))


def _error(value_N) -> float | None:
  return (float(np.std(np.asarray(value_N, np.float64), ddof=1) / np.sqrt(len(value_N)))
          if len(value_N) > 1 else None)
