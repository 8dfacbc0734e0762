"""Test log-likelihood of a latent-variable model, bounded from below by importance sampling.

  log p(x) >= E[log (1/K) sum_k w_k],    w_k = p(x, z_k) / q(z_k | x),    z_k ~ q(z | x),

tighter with every sample (Burda, Grosse & Salakhutdinov, 2016). Samples are drawn a few hundred at
a time and discarded: for each image only running log-sum-exps of l = log w and of 2 l are kept, and
the largest weights (evaluation.weights). So memory grows as the square root of K, and, as images
are scored a few at a time, not with N.

  effective sample size of an image   (sum_k w_k)^2 / sum_k w_k^2

The standard error is the jackknife's, or that of repeats with fewer than 4 samples; Pareto k shows
whether the weights support the number at all.

Axis suffixes: N images, B images at once, K samples at once, M largest weights, V visible. Nats.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import devices
from gen_models.evaluation import likelihood, weights as weights_lib

ROWS = 1000  # samples times images at once: large products whose activations stay in the cache


class Weights(NamedTuple):
  """Of B images.

  Attributes:
    log_mean_B: log (1/K) sum_k w_k.
    sample_size_B: effective sample size.
    log_top_MB: the largest log-weights, evaluation.weights.num_top(K) of them.
    log_rest_B, log_rest_squares_B: log of the sum of the other weights, and of their squares.
  """

  log_mean_B: jax.Array
  sample_size_B: jax.Array
  log_top_MB: jax.Array
  log_rest_B: jax.Array
  log_rest_squares_B: jax.Array


def log_mean_weight(key, log_weights: Callable, params, x_BV, num_samples: int,
                    at_once: int) -> Weights:
  """The weights of K samples of each image, `at_once` samples in memory.

  Args:
    key: consumed.
    log_weights: (key, params, x_BV, K) -> l [K, B], as vae.Model.log_weights.
    params: of the model.
    x_BV: images.
    num_samples: K in all.
    at_once: samples drawn at a time.
  """
  num_top = weights_lib.num_top(num_samples)

  def body(carry, step):
    l_KB = log_weights(jax.random.fold_in(key, step), params, x_BV, at_once)
    drawn_K = step * at_once + jnp.arange(at_once)
    l_KB = jnp.where(drawn_K[:, None] < num_samples, l_KB, -jnp.inf)
    first_B, second_B, top_MB, rest_B, squares_B = carry
    sorted_KB = jnp.sort(jnp.concatenate([top_MB, l_KB]), axis=0)
    below_KB, top_MB = sorted_KB[:-num_top], sorted_KB[-num_top:]
    return (jnp.logaddexp(first_B, jax.nn.logsumexp(l_KB, axis=0)),
            jnp.logaddexp(second_B, jax.nn.logsumexp(2 * l_KB, axis=0)), top_MB,
            jnp.logaddexp(rest_B, jax.nn.logsumexp(below_KB, axis=0)),
            jnp.logaddexp(squares_B, jax.nn.logsumexp(2 * below_KB, axis=0))), None

  none_B = jnp.full(len(x_BV), -jnp.inf)
  start = (none_B, none_B, jnp.full((num_top, len(x_BV)), -jnp.inf), none_B, none_B)
  (first_B, second_B, *largest), _ = lax.scan(
    body, start, jnp.arange(-(-num_samples // at_once)))
  return Weights(first_B - math.log(num_samples), jnp.exp(2 * first_B - second_B), *largest)


@functools.partial(jax.jit, static_argnames=('log_weights', 'num_samples'))
def log_likelihoods(key, log_weights: Callable, params, x_NV, num_samples: int) -> Weights:
  """log_mean_weight of many images, a group at a time; jitted, arguments alike."""
  at_once = min(num_samples, 100)
  images = min(max(1, ROWS // at_once), len(x_NV))
  num_groups = -(-len(x_NV) // images)
  # The last group is filled up with copies of the last image.
  rows = jnp.minimum(jnp.arange(num_groups * images), len(x_NV) - 1)

  def group(of, shared):
    (key, rows_B), (params, x_NV) = of, shared
    return log_mean_weight(key, log_weights, params, x_NV[rows_B], num_samples, at_once)

  results = devices.mapped(
    group, (jax.random.split(key, num_groups), rows.reshape(num_groups, images)), (params, x_NV))
  top_MN = jnp.moveaxis(results.log_top_MB, 1, 0).reshape(-1, num_groups * images)
  flat = results._replace(log_top_MB=None)
  flat = jax.tree.map(lambda x: x.reshape(-1)[:len(x_NV)], flat)
  return flat._replace(log_top_MB=top_MN[:, :len(x_NV)])


def bound(key, model: Any, params, x_NV, *, binarisation: str, num_samples: int = 5000,
          report: Callable[[str], None] | None = None, log_partition: float | None = None,
          weights_N=None, **details) -> dict:
  """The score of a test set, kind 'bound'.

  Args:
    key: consumed.
    model: has log_weights, see above.
    params: of the model.
    x_NV: test images.
    binarisation: of x.
    num_samples: K for each image.
    report: called with a line after each tenth of the images.
    log_partition: log Z, subtracted from log-weights that leave it out, and recorded; None where
      they are whole.
    weights_N: of the images; None for equal ones. All means are weighted alike.
    **details: go into the score as they are.

  Returns:
    likelihood.score: `lower` is test_nats, `effective_sample_size` the mean over images of how many
    of the K count, `smallest_effective_sample_size` that of the worst image,
    `num_importance_samples` K, `standard_error_method` 'jackknife' or 'repeats', and from 25
    samples on `pareto_k` and `hollow` (evaluation.weights).
  """
  results = []
  for i, part_NV in enumerate(np.array_split(np.asarray(x_NV, np.float32), min(10, len(x_NV)))):
    results.append(_scored(jax.random.fold_in(key, i), model, params, part_NV, num_samples))
    if report:
      done = sum(len(r.log_mean_B) for r in results)
      report(f'importance sampling: {done} of {len(x_NV)} images')
  log_p_N, size_N = (np.concatenate([r[i] for r in results]).astype(np.float64) for i in (0, 1))
  rest_N, rest_squares_N = (np.concatenate([r[i] for r in results]) for i in (3, 4))
  weights = weights_lib.Summary(
    np.concatenate([r.log_top_MB for r in results], axis=1), rest_N, rest_squares_N, num_samples)
  few = num_samples < weights_lib.FEWEST
  variance_N = _repeated(key, model, params, x_NV, num_samples, log_p_N) if few else (
    weights_lib.log_mean_variance(weights))
  if log_partition is not None:
    log_p_N, details = log_p_N - log_partition, {'log_partition': log_partition, **details}
  share_N = likelihood.shares(weights_N, len(log_p_N))
  return likelihood.score(
    log_p_N, kind='bound', binarisation=binarisation,
    standard_error=weights_lib.error_of_mean(variance_N, share_N),
    standard_error_method='repeats' if few else 'jackknife',
    effective_sample_size=float(share_N @ size_N),
    smallest_effective_sample_size=float(size_N[share_N > 0].min()),
    num_importance_samples=num_samples, weights_N=weights_N,
    **weights_lib.remarks(weights, share_N), **details)


def _scored(key, model, params, x_NV, num_samples: int) -> Weights:
  return jax.device_get(log_likelihoods(key, model.log_weights, params,
                                        np.asarray(x_NV, np.float32), num_samples))


def _repeated(key, model, params, x_NV, num_samples: int, log_p_N) -> np.ndarray:
  """Variance of each image's bound, [N], over draws of it; 200 deviations in all at least."""
  repeats = [log_p_N]
  for i in range(-(-200 // len(x_NV))):
    repeats.append(np.concatenate([
      _scored(jax.random.fold_in(jax.random.fold_in(key, 2**31 + i), j), model, params, part_NV,
              num_samples).log_mean_B
      for j, part_NV in enumerate(np.array_split(x_NV, min(10, len(x_NV))))]).astype(np.float64))
  return np.var(repeats, axis=0, ddof=1)
