"""How good an encoder is: gaps, rate and distortion, mutual information, active units.

  log p(x) - ELBO(q)  =  [log p(x) - ELBO(q*)]  +  [ELBO(q*) - ELBO(q)]
                         approximation gap         amortisation gap

q is the encoder's, q* the best member of its family for this x, found by gradient steps on its
parameters (Cremer, Li & Duvenaud, 2018). Over images

  -ELBO = rate + distortion,    rate = E[KL(q(z | x) || p(z))],    distortion = -E[log p(x | z)]
  rate  = I_q(x; z) + KL(q(z) || p(z)),    q(z) = E[q(z | x)]

so the rate is at least the mutual information I_q (Hoffman & Johnson, 2016; Alemi et al., 2018).
q(z) is an average over all data, of which N images x_n are at hand. With their mean in its place,
E[log q(z | x_n) - log q(z)] is low in expectation, and at most log N, where x_n is among the images
averaged over; it is high in expectation where x_n is left out (Poole, Ozair, van den Oord, Alemi &
Tucker, 2019, On variational bounds of mutual information). A unit is active where
Var_x[E_q[z | x]] > 0.01 (Burda, Grosse & Salakhutdinov, 2016).

Axis suffixes: N images, B batch, K samples of each, O outputs of the encoder, Z latents. Nats.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gen_models import devices
from gen_models.evaluation import importance
from gen_models.models import vae

ACTIVE = 0.01
_MOST_IMAGES, _DRAWS = 2000, 3000  # of mutual information: images, and draws of all together
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


class Information(NamedTuple):
  """E_q[log q(z | x) - log q(z)] of each image, [N], whose mean is I_q(x; z), from two sides.

  Attributes:
    least_N: q(z) is the mean of q(z | x_n) over all N images: exact for x drawn from these images,
      low in expectation for the distribution that they are draws of; the mean is at most log N.
    most_N: the mean over the N - 1 others: high in expectation, and far too high where the codes of
      images lie apart. nan of a single image.
  """

  least_N: jax.Array
  most_N: jax.Array


@functools.partial(jax.jit, static_argnames=('model', 'num_samples'))
def mutual_information(key, model: vae.Model, params, x_NV, num_samples: int = 10,
                       weights_N=None) -> Information:
  """Mutual information of images and the latents of all layers; time grows as N^2.

  Args:
    key: consumed.
    model: with its encoder.
    params: of the model.
    x_NV: images.
    num_samples: draws from q(z | x) of each image.
    weights_N: of the images in q(z); None for equal ones.
  """
  code_NO = model.encode(params, x_NV)
  num = len(x_NV)
  p_N = jnp.full(num, 1 / num) if weights_N is None else weights_N / jnp.sum(weights_N)

  def of_image(args):
    key, i = args
    z = model.sample_posterior(key, params, code_NO[i][None], num_samples)
    log_q_KN = model.log_posterior(params, code_NO, z)
    log_others_KN = jnp.where(jnp.arange(num) == i, -jnp.inf, log_q_KN)
    return (jnp.mean(log_q_KN[:, i] - jax.nn.logsumexp(log_q_KN, axis=-1, b=p_N)),
            jnp.mean(log_q_KN[:, i] - jax.nn.logsumexp(log_others_KN, axis=-1, b=p_N)
                     + jnp.log1p(-p_N[i])))

  return Information(*lax.map(of_image, (jax.random.split(key, num), jnp.arange(num))))


@functools.partial(jax.jit, static_argnames='model')
def _one_sample(key, model, params, x_NV) -> Terms:
  """The terms of the ELBO with the samples of importance.log_likelihoods(.., num_samples=1)."""
  images = min(importance.ROWS, len(x_NV))
  num_groups = -(-len(x_NV) // images)
  rows = jnp.minimum(jnp.arange(num_groups * images), len(x_NV) - 1).reshape(num_groups, images)

  def group(of, shared):
    (key, rows_B), (params, x_NV) = of, shared
    x_BV = x_NV[rows_B]
    return _terms(jax.random.fold_in(key, 0), model, params, x_BV, model.encode(params, x_BV), 1)

  found = devices.mapped(group, (jax.random.split(key, num_groups), rows), (params, x_NV))
  return jax.tree.map(lambda x: x.reshape(-1)[:len(x_NV)], found)


def scores(key, model: Any, params, x_NV, weights_N=None,
           log_partition: float = 0.0) -> dict[str, float]:
  """What else is known of a model with an encoder: named scores of test images, nats.

  One sample of each image gives the ELBO and its parts, so that elbo = -(rate + distortion) to
  rounding. The mutual information is that of at most 2000 images, evenly from the first to the
  last, because its time grows with their square.

  Args:
    key: consumed; `elbo` is what importance.log_likelihoods has for it with one sample.
    model: a vae.Model, or one of its kind, such as a rbm_prior.Model.
    params: of the model.
    x_NV: test images.
    weights_N: of the images; None for equal ones.
    log_partition: log Z where the model's log p(z) leaves it out, or its upper side.

  Returns:
    'elbo', 'rate', 'distortion'; 'mutual_information' from below, and 'mutual_information_upper',
    the lesser of the rate and of the estimate from above.
  """
  x_NV = jnp.asarray(x_NV, jnp.float32)
  found = _one_sample(key, model, params, x_NV)
  rate = _mean(found.divergence_N, weights_N) + log_partition
  distortion = -_mean(found.log_likelihood_N, weights_N)
  some = np.unique(np.linspace(0, len(x_NV) - 1, min(len(x_NV), _MOST_IMAGES)).astype(int))
  weights_N = None if weights_N is None else np.asarray(weights_N, np.float32)[some]
  mutual = mutual_information(jax.random.fold_in(key, 2**31), model, params, x_NV[some],
                              max(1, _DRAWS // len(some)), weights_N)
  most = [rate] if len(some) == 1 else [rate, _mean(mutual.most_N, weights_N)]
  return {'elbo': -(rate + distortion), 'rate': rate, 'distortion': distortion,
          'mutual_information': _mean(mutual.least_N, weights_N),
          'mutual_information_upper': min(most)}


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
  mutual_N = mutual_information(key_mutual, model, params, x_NV).least_N
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


def _mean(value_N, weights_N=None) -> float:
  return float(np.average(np.asarray(value_N, np.float64), weights=weights_N))


def _error(value_N) -> float | None:
  return (float(np.std(np.asarray(value_N, np.float64), ddof=1) / np.sqrt(len(value_N)))
          if len(value_N) > 1 else None)
