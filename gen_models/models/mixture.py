"""Mixture of products of Bernoullis: a density with a latent class.

  p(x) = sum_q pi_q prod_i m_qi^x_i (1 - m_qi)^(1 - x_i),    p(z = q | x) ~ pi_q p(x | z = q)

With one class it is the independent-pixel model. Exact likelihood, fitted by expectation
maximisation: the two baselines every other model is printed beside.

Axis suffixes: N images, Q classes, V visible. Likelihoods in nats.

Dempster, Laird & Rubin (1977); Bishop (2006), section 9.3.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models import units


class Params(NamedTuple):
  """Parameters of p(x): class log-probabilities (normalised) and log-odds of each pixel."""

  log_pi_Q: jax.Array
  logits_QV: jax.Array


def init(key, x_NV, num_classes: int) -> Params:
  """Equal classes, each pixel's mean perturbed towards a random image of the data."""
  if not 1 <= num_classes <= len(x_NV):
    raise ValueError(f'{num_classes} classes for {len(x_NV)} images')
  picks_Q = jax.random.choice(key, len(x_NV), (num_classes,), replace=False)
  mean_QV = 0.75 * x_NV.mean(0) + 0.25 * x_NV[picks_Q]
  return Params(jnp.full(num_classes, -jnp.log(num_classes)), units.log_odds(mean_QV))


# Density.


def log_joint(params: Params, x_NV) -> jax.Array:
  """log pi_q + sum_i x_i l_qi - softplus(l_qi), [N, Q], l the log-odds of the pixels."""
  return (params.log_pi_Q + x_NV @ params.logits_QV.T
          - jnp.sum(jax.nn.softplus(params.logits_QV), axis=-1))


def log_likelihood(params: Params, x_NV) -> jax.Array:
  """log p(x), [N] nats, exact."""
  return jax.nn.logsumexp(log_joint(params, x_NV), axis=-1)


# Conditionals.


def class_given_visible(params: Params, x_NV) -> jax.Array:
  """p(z = q | x), [N, Q]."""
  return jax.nn.softmax(log_joint(params, x_NV), axis=-1)


# Sampling.


def sample(key, params: Params, num_samples: int) -> tuple[jax.Array, jax.Array]:
  """(z, x): z_N ~ Categorical(pi), x_NV ~ prod_i Bernoulli(sigma(l_zi))."""
  key_z, key_x = jax.random.split(key)
  z_N = jax.random.categorical(key_z, params.log_pi_Q, shape=(num_samples,))
  return z_N, units.bernoulli(key_x, jax.nn.sigmoid(params.logits_QV[z_N]))


# Fitting.


def em_step(params: Params, x_NV, pseudo_count: float) -> Params:
  """One round of EM under a Beta(1 + a p_i, 1 + a (1 - p_i)) prior on each pixel's mean.

    r_nq = p(z = q | x_n),  N_q = sum_n r_nq,  m_qi = (sum_n r_nq x_ni + a p_i) / (N_q + a),

  p the data's own (smoothed) mean and a the pseudo-count, so a class nothing belongs to falls back
  to the independent-pixel model instead of to 0 / 0; pi_q ~ N_q + a / Q.
  """
  r_NQ = class_given_visible(params, x_NV)
  prior_V = jax.nn.sigmoid(units.log_odds(x_NV.mean(0)))
  # On and off are counted apart: log(1 - m) would cancel to nan where a pixel is always on.
  on_QV = r_NQ.T @ x_NV + pseudo_count * prior_V
  off_QV = r_NQ.T @ (1 - x_NV) + pseudo_count * (1 - prior_V)
  weight_Q = r_NQ.sum(0) + pseudo_count / r_NQ.shape[1]
  return Params(jnp.log(weight_Q / weight_Q.sum()), jnp.log(on_QV) - jnp.log(off_QV))


def fit(key, x_NV, num_classes: int, *, pseudo_count: float = 1.0, max_steps: int = 200,
        tolerance: float = 1e-4) -> Params:
  """EM from `init` until the mean log-likelihood gains less than `tolerance` nats, or max_steps."""
  x_NV = jnp.asarray(x_NV)

  def going_on(carry):
    _, gain, _, i = carry
    return (i < max_steps) & (gain > tolerance)

  def body(carry):
    params, _, before, i = carry
    params = em_step(params, x_NV, pseudo_count)
    after = log_likelihood(params, x_NV).mean()
    # The prior may cost likelihood in the first rounds, so early losses are no reason to stop.
    return params, jnp.where(i < 10, jnp.inf, after - before), after, i + 1

  start = (init(key, x_NV, num_classes), jnp.inf, -jnp.inf, 0)
  return lax.while_loop(going_on, body, start)[0]
