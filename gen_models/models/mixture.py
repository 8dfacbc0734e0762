"""Mixture model: a density with a latent class.

  p(x) = sum_q pi_q p(x | z = q),    p(z = q | x) ~ pi_q p(x | z = q)

  bernoulli  p(x | z = q) = prod_i m_qi^x_i (1 - m_qi)^(1 - x_i)
  diagonal   p(x | z = q) = N(x; m_q, diag(s_q^2))
  full       p(x | z = q) = N(x; m_q, C_q)

With one Bernoulli class it is the independent-pixel model. Exact likelihood, fitted by expectation
maximisation, by gradient, or from known labels: the baselines of every other model.

EM climbs a posterior: every class is shown, besides the images, a pseudo-images that vary as the
data do as a whole, so a class to which nothing belongs falls back to the one-class model instead of
to 0 / 0, and no Gaussian collapses onto an image. log_posterior never falls. Where rows have
weights, weights_N [N], a row of weight 2 counts as two rows in every sum and mean.

Axis suffixes: N images, Q classes, V visible, K draws of each row. Likelihoods in nats.

Dempster, Laird & Rubin (1977); Fraley & Raftery (2007) for the prior; Bishop (2006), chapter 9.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import indices
from gen_models.models import bits, gaussian, units
from gen_models.models.rows import mean_rows

Components = Literal['bernoulli', 'diagonal', 'full']
_SHRINKAGE = 0.01  # of the pseudo-images of Gaussian classes: a floor where the data do not vary


class Params(NamedTuple):
  """Of Bernoulli classes: log-odds of each pixel, log-probabilities of classes up to a constant."""

  logits_QV: jax.Array
  log_pi_Q: jax.Array


class GaussianParams(NamedTuple):
  """Of Gaussian classes: every leaf of `classes` has Q in front; log-probabilities as above."""

  classes: gaussian.Diagonal | gaussian.Full
  log_pi_Q: jax.Array


def init(key, x_NV, num_classes: int, components: Components = 'bernoulli', weights_N=None):
  """Equal classes, each one's mean that of the data pulled towards a random image."""
  if not 1 <= num_classes <= len(x_NV):
    raise ValueError(f'{num_classes} classes for {len(x_NV)} images')
  picks_Q = jax.random.choice(key, len(x_NV), (num_classes,), replace=False)
  mean_V = x_NV.mean(0) if weights_N is None else mean_rows(x_NV, weights_N)
  mean_QV = 0.75 * mean_V + 0.25 * x_NV[picks_Q]
  log_pi_Q = jnp.full(num_classes, -jnp.log(num_classes))
  if components == 'bernoulli':
    return Params(units.log_odds(mean_QV), log_pi_Q)
  c_VV = gaussian.moments(x_NV, _SHRINKAGE, weights_N)[1]
  return GaussianParams(lax.map(lambda m_V: _normal(components, m_V, c_VV), mean_QV), log_pi_Q)


# Density.


def log_joint(params, x_NV) -> jax.Array:
  """log pi_q + log p(x | z = q), [N, Q]."""
  return jax.nn.log_softmax(params.log_pi_Q) + log_conditional(params, x_NV)


def log_conditional(params, x_NV) -> jax.Array:
  """log p(x | z = q), [N, Q]; of Bernoulli classes sum_i x_i l_qi - softplus(l_qi)."""
  if isinstance(params, Params):
    return x_NV @ params.logits_QV.T - jnp.sum(bits.softplus(params.logits_QV), axis=-1)
  # One class at a time: Q copies of the images would not fit.
  return lax.map(lambda one: gaussian.log_likelihood(one, x_NV), params.classes).T


def log_likelihood(params, x_NV) -> jax.Array:
  """log p(x), [N] nats, exact."""
  return jax.nn.logsumexp(log_joint(params, x_NV), axis=-1)


def log_posterior(params, x_NV, pseudo_count: float, weights_N=None) -> jax.Array:
  """sum_n w_n log p(x_n) + log_prior: what EM climbs; up to a constant, scalar nats."""
  log_p_N = log_likelihood(params, x_NV)
  total = jnp.sum(log_p_N) if weights_N is None else weights_N @ log_p_N
  return total + log_prior(params, x_NV, pseudo_count, weights_N)


def log_prior(params, x_NV, pseudo_count: float, weights_N=None) -> jax.Array:
  """a sum_q E_0[log p(x | q)] + (a / Q) sum_q log pi_q, E_0 over images that vary as x do."""
  if isinstance(params, Params):
    expected_Q = log_conditional(params, _pseudo_mean(x_NV, weights_N)[None])[0]
  else:
    mean_V, c_VV = gaussian.moments(x_NV, _SHRINKAGE, weights_N)
    expected_Q = log_conditional(params, mean_V[None])[0]
    expected_Q -= 0.5 * lax.map(lambda one: gaussian.mahalanobis(one, c_VV), params.classes)
  return pseudo_count * (jnp.sum(expected_Q) + jnp.mean(jax.nn.log_softmax(params.log_pi_Q)))


# Conditionals.


def class_given_visible(params, x_NV) -> jax.Array:
  """p(z = q | x), [N, Q]."""
  return jax.nn.softmax(log_joint(params, x_NV), axis=-1)


def visible_mean(params, z_N) -> jax.Array:
  """E[x | z], [N, V]."""
  if isinstance(params, Params):
    return jax.nn.sigmoid(params.logits_QV[z_N])
  return params.classes.mean_V[z_N]


# Rows of which a part is missing: nan in x. What is missing is summed or integrated out, exactly.


def observed_log_joint(params, x_NV) -> jax.Array:
  """log pi_q + log p(x_seen | z = q), [N, Q], x_seen what is not nan."""
  log_pi_Q = jax.nn.log_softmax(params.log_pi_Q)
  if isinstance(params, Params):
    seen_NV = ~jnp.isnan(x_NV)
    x_NV = jnp.where(seen_NV, x_NV, 0.0)
    return log_pi_Q + x_NV @ params.logits_QV.T - (
      seen_NV.astype(x_NV.dtype) @ bits.softplus(params.logits_QV).T)
  return log_pi_Q + lax.map(
    lambda one: gaussian.observed_log_likelihood(one, x_NV), params.classes).T


def observed_log_likelihood(params, x_NV) -> jax.Array:
  """log p(x_seen), [N] nats, exact; 0 of a row without a value."""
  return jax.nn.logsumexp(observed_log_joint(params, x_NV), axis=-1)


def conditional(key, params, x_NV, num_draws: int) -> tuple[jax.Array, jax.Array]:
  """(E[x | x_seen] [N, V], draws of p(x | x_seen) [N, K, V]), exact; nan in x is missing.

    p(x_miss | x_seen) = sum_q p(z = q | x_seen) p(x_miss | x_seen, z = q)
  """
  key_z, key_x = jax.random.split(key)
  log_joint_NQ = observed_log_joint(params, x_NV)
  r_NQ = jax.nn.softmax(log_joint_NQ, axis=-1)
  num, missing_NV = len(x_NV), jnp.isnan(x_NV)
  z_NK = jax.random.categorical(key_z, log_joint_NQ, shape=(num_draws, num)).T
  if isinstance(params, Params):
    mean_NV = r_NQ @ jax.nn.sigmoid(params.logits_QV)
    draws_NKV = bits.bernoulli(key_x, visible_mean(params, z_NK))
  else:
    def add(carry, one):
      key, q, this, r_N = one
      mean_NV, draws_NKV = carry
      own_NV, own_NKV = gaussian.conditional(key, this, x_NV, num_draws)
      return (mean_NV + r_N[:, None] * own_NV,
              jnp.where((z_NK == q)[..., None], own_NKV, draws_NKV)), None

    num_classes = len(params.log_pi_Q)
    start = jnp.zeros(x_NV.shape), jnp.zeros((num, num_draws, x_NV.shape[1]))
    (mean_NV, draws_NKV), _ = lax.scan(add, start, (
      jax.random.split(key_x, num_classes), jnp.arange(num_classes), params.classes, r_NQ.T))
  return (jnp.where(missing_NV, mean_NV, x_NV),
          jnp.where(missing_NV[:, None], draws_NKV, x_NV[:, None]))


# Sampling.


def sample(key, params, num_samples: int, label: int | None = None):
  """(z, x): z_N ~ Categorical(pi), or all equal to `label`, then x_NV ~ p(x | z).

  Raises:
    ValueError: label is a number, and no class has it.
  """
  key_z, key_x = jax.random.split(key)
  z_N = jax.random.categorical(key_z, params.log_pi_Q, shape=(num_samples,))
  if label is not None:
    indices.check('label', label, len(params.log_pi_Q), 'classes')
    z_N = jnp.full_like(z_N, label)
  if isinstance(params, Params):
    return z_N, bits.bernoulli(key_x, visible_mean(params, z_N))

  def draw(image):
    key, z = image
    return gaussian.sample(key, jax.tree.map(lambda leaf: leaf[z], params.classes), 1)[0]

  return z_N, lax.map(draw, (jax.random.split(key_x, num_samples), z_N))


# Fitting.


def em_step(params, x_NV, pseudo_count: float, weights_N=None):
  """One round of EM: r_nq = p(z = q | x_n), then `maximise`."""
  return maximise(class_given_visible(params, x_NV), x_NV, pseudo_count, _components(params),
                  weights_N)


def maximise(r_NQ, x_NV, pseudo_count: float, components: Components = 'bernoulli',
             weights_N=None):
  """The parameters of largest log_posterior were the classes known to be q with weight r_nq.

    N_q = sum_n r_nq + a,    pi_q ~ sum_n r_nq + a / Q,    m_q = (sum_n r_nq x_n + a p) / N_q,

  p the mean of the pseudo-images and a the pseudo-count; covariances alike, about m_q. With
  weights r_nq is w_n r_nq.
  """
  r_NQ = _weighted(r_NQ, weights_N)
  count_Q = jnp.ones(len(r_NQ)) @ r_NQ
  weight_Q = count_Q + pseudo_count / r_NQ.shape[1]
  log_pi_Q = jnp.log(weight_Q / weight_Q.sum())
  if components == 'bernoulli':
    mean_V = _pseudo_mean(x_NV, weights_N)
    # On and off are counted apart: log(1 - m) would cancel to nan where a pixel is always on.
    on_QV = r_NQ.T @ x_NV + pseudo_count * mean_V
    off_QV = r_NQ.T @ (1 - x_NV) + pseudo_count * (1 - mean_V)
    return Params(jnp.log(on_QV) - jnp.log(off_QV), log_pi_Q)
  mean_V, c_VV = gaussian.moments(x_NV, _SHRINKAGE, weights_N)

  def moments(one):
    r_N, count = one
    shift_V = r_N @ (x_NV - mean_V) / count
    # About the class's own mean: a difference of second moments about the common one would cancel
    # where classes lie far apart.
    y_NV = x_NV - (mean_V + shift_V)
    if components == 'diagonal':
      second = jnp.diag(r_N @ y_NV**2)
    else:
      second = jnp.matmul(y_NV.T, r_N[:, None] * y_NV, precision='highest')
    pseudo = pseudo_count * (c_VV + jnp.outer(shift_V, shift_V))
    return _normal(components, mean_V + shift_V, (second + pseudo) / count)

  return GaussianParams(lax.map(moments, (r_NQ.T, count_Q + pseudo_count)), log_pi_Q)


def fit(key, x_NV, num_classes: int, *, components: Components = 'bernoulli',
        pseudo_count: float = 1.0, max_steps: int = 200, tolerance: float = 1e-4,
        weights_N=None):
  """EM from `init` until log_posterior gains less than `tolerance` nats an image, or max_steps.

  Raises:
    ValueError: what was found is not finite (outside jit): a class has no density of its own.
  """
  x_NV = jnp.asarray(x_NV)

  def objective(params):
    total = len(x_NV) if weights_N is None else jnp.sum(weights_N)
    return log_posterior(params, x_NV, pseudo_count, weights_N) / total

  def going_on(carry):
    _, gain, _, i = carry
    return (i < max_steps) & (gain > tolerance)

  def body(carry):
    params, _, before, i = carry
    params = em_step(params, x_NV, pseudo_count, weights_N)
    after = objective(params)
    return params, after - before, after, i + 1

  start = (init(key, x_NV, num_classes, components, weights_N), jnp.inf, -jnp.inf, 0)
  return _finite(lax.while_loop(going_on, body, start)[0], pseudo_count)


def fit_labelled(x_NV, z_N, num_classes: int, *, components: Components = 'bernoulli',
                 pseudo_count: float = 1.0, weights_N=None):
  """The classes are the labels z: pi_q their proportions, p(x | z = q) from the images of each.

  Raises:
    ValueError: as `fit`.
  """
  r_NQ = jax.nn.one_hot(z_N, num_classes)
  return _finite(maximise(r_NQ, x_NV, pseudo_count, components, weights_N), pseudo_count)


def filled(x_NV, weights_N=None) -> jax.Array:
  """Rows made whole: the mean of its column for each missing value (nan), for `init` and priors.

  A column without a value is 0.
  """
  seen_NV = ~jnp.isnan(x_NV)
  share_NV = _weighted(seen_NV.astype(jnp.float32), weights_N)
  count_V = jnp.sum(share_NV, axis=0)
  mean_V = jnp.sum(share_NV * jnp.where(seen_NV, x_NV, 0.0), axis=0) / jnp.where(
    count_V > 0, count_V, 1.0)
  return jnp.where(seen_NV, x_NV, mean_V)


def observed_em_step(params, x_NV, pseudo_count: float, weights_N=None):
  """One round of EM on rows of which values are missing (nan): r_nq = p(z = q | x_seen).

  Units are independent given the class, so what is missing from a row counts nowhere:

    m_qi = (sum_{n: x_ni seen} r_nq x_ni + a p_i) / (sum_{n: x_ni seen} r_nq + a),

  and alike the variances of diagonal classes; p and the pseudo-images are those of `filled` rows.
  With weights r_nq is w_n r_nq.

  Raises:
    ValueError: classes with full covariances, whose values are not independent.
  """
  if _components(params) == 'full':
    raise ValueError('EM of full covariances takes no missing values: train by gradient, or take '
                     'diagonal components')
  r_NQ = _weighted(jax.nn.softmax(observed_log_joint(params, x_NV), axis=-1), weights_N)
  seen_NV, whole_NV = (~jnp.isnan(x_NV)).astype(x_NV.dtype), filled(x_NV, weights_N)
  weight_Q = jnp.ones(len(r_NQ)) @ r_NQ + pseudo_count / r_NQ.shape[1]
  log_pi_Q = jnp.log(weight_Q / weight_Q.sum())
  if isinstance(params, Params):
    mean_V = _pseudo_mean(whole_NV, weights_N)
    on_QV = r_NQ.T @ (seen_NV * whole_NV) + pseudo_count * mean_V
    off_QV = r_NQ.T @ (seen_NV * (1 - whole_NV)) + pseudo_count * (1 - mean_V)
    return Params(jnp.log(on_QV) - jnp.log(off_QV), log_pi_Q)
  mean_V, c_VV = gaussian.moments(whole_NV, _SHRINKAGE, weights_N)
  count_QV = r_NQ.T @ seen_NV + pseudo_count
  shift_QV = r_NQ.T @ (seen_NV * (whole_NV - mean_V)) / count_QV

  def squares(one):
    r_N, shift_V = one
    return r_N @ (seen_NV * (whole_NV - mean_V - shift_V)**2)

  pseudo_QV = pseudo_count * (jnp.diagonal(c_VV) + shift_QV**2)
  variance_QV = (lax.map(squares, (r_NQ.T, shift_QV)) + pseudo_QV) / count_QV
  return GaussianParams(gaussian.Diagonal(mean_V + shift_QV, 0.5 * jnp.log(variance_QV)), log_pi_Q)


def _finite(params, pseudo_count: float):
  """params; raises ValueError where they hold nan, and says nothing inside jit."""
  leaves = jax.tree.leaves(params)
  if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
    return params
  if any(np.any(np.isnan(leaf)) for leaf in leaves):
    raise ValueError(
      f'a class of this mixture has no density: at a pseudo-count of {float(pseudo_count):g} its '
      'images do not vary in every direction, as far as float32 sees. Give a larger pseudo_count, '
      '1 say, fewer classes, or diagonal components')
  return params


def _components(params) -> Components:
  if isinstance(params, Params):
    return 'bernoulli'
  return 'full' if isinstance(params.classes, gaussian.Full) else 'diagonal'


def _weighted(x_ND, weights_N):
  """w_n x_nd; x itself without weights."""
  return x_ND if weights_N is None else weights_N[:, None] * x_ND


def _pseudo_mean(x_NV, weights_N=None):
  """The mean of the pseudo-images of Bernoulli classes, off 0 and 1."""
  return jax.nn.sigmoid(units.log_odds(mean_rows(x_NV, weights_N)))


def _normal(components: Components, mean_V, c_VV):
  if components == 'full':
    return gaussian.from_covariance(mean_V, c_VV)
  return gaussian.Diagonal(mean_V, 0.5 * jnp.log(jnp.diagonal(c_VV)))
