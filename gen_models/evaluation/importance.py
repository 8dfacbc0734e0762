"""Test log-likelihood of a latent-variable model, bounded from below by importance sampling.

  log p(x) >= E[log (1/K) sum_k w_k],    w_k = p(x, z_k) / q(z_k | x),    z_k ~ q(z | x),

tighter with every sample (Burda, Grosse & Salakhutdinov, 2016). Samples are drawn some hundred at a
time and forgotten: of each image a running log-sum-exp of l and of 2 l is kept, so memory does not
grow with K, and images are scored some at a time, so neither with N.

  effective sample size of an image   (sum_k w_k)^2 / sum_k w_k^2  =: S
  Monte Carlo variance of its bound   1 / S - 1 / K, to first order (delta method).

Axis suffixes: N images, B images at once, K samples at once, V visible. Nats.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation import likelihood

_ROWS = 1000  # samples times images at once: large products whose activations stay in the cache


def log_mean_weight(key, log_weights: Callable, params, x_BV, num_samples: int,
                    at_once: int) -> tuple[jax.Array, jax.Array]:
  """(log (1/K) sum_k w_k, effective sample size), [B] each, `at_once` samples in memory.

  Args:
    key: consumed.
    log_weights: (key, params, x_BV, K) -> l [K, B], as vae.Model.log_weights.
    params: of the model.
    x_BV: images.
    num_samples: K in all.
    at_once: samples drawn at a time.
  """
  def body(carry, step):
    l_KB = log_weights(jax.random.fold_in(key, step), params, x_BV, at_once)
    drawn_K = step * at_once + jnp.arange(at_once)
    l_KB = jnp.where(drawn_K[:, None] < num_samples, l_KB, -jnp.inf)
    first_B, second_B = carry
    return (jnp.logaddexp(first_B, jax.nn.logsumexp(l_KB, axis=0)),
            jnp.logaddexp(second_B, jax.nn.logsumexp(2 * l_KB, axis=0))), None

  start = (jnp.full(len(x_BV), -jnp.inf),) * 2
  (first_B, second_B), _ = lax.scan(body, start, jnp.arange(-(-num_samples // at_once)))
  return first_B - math.log(num_samples), jnp.exp(2 * first_B - second_B)


@functools.partial(jax.jit, static_argnames=('log_weights', 'num_samples'))
def log_likelihoods(key, log_weights: Callable, params, x_NV,
                    num_samples: int) -> tuple[jax.Array, jax.Array]:
  """log_mean_weight of many images, [N] each, a group at a time; jitted, arguments alike."""
  at_once = min(num_samples, 100)
  images = min(max(1, _ROWS // at_once), len(x_NV))
  num_groups = -(-len(x_NV) // images)
  # The last group is filled up with copies of the last image.
  rows = jnp.minimum(jnp.arange(num_groups * images), len(x_NV) - 1)

  def group(of):
    key, rows_B = of
    return log_mean_weight(key, log_weights, params, x_NV[rows_B], num_samples, at_once)

  results = lax.map(group, (jax.random.split(key, num_groups), rows.reshape(num_groups, images)))
  return tuple(x.reshape(-1)[:len(x_NV)] for x in results)


def bound(key, model: Any, params, x_NV, *, binarisation: str, num_samples: int = 5000,
          report: Callable[[str], None] | None = None, **details) -> dict:
  """The score of a test set, kind 'bound'.

  Args:
    key: consumed.
    model: has log_weights, see above.
    params: of the model.
    x_NV: test images.
    binarisation: of x.
    num_samples: K for each image.
    report: called with a line after each tenth of the images.
    **details: go into the score as they are.

  Returns:
    likelihood.score: `lower` is test_nats, `effective_sample_size` the mean over images of how many
    of the K count, `smallest_effective_sample_size` that of the worst image, and
    `num_importance_samples` K.
  """
  results = []
  for i, part_NV in enumerate(np.array_split(np.asarray(x_NV, np.float32), min(10, len(x_NV)))):
    results.append(jax.device_get(log_likelihoods(
      jax.random.fold_in(key, i), model.log_weights, params, part_NV, num_samples)))
    if report:
      report(f'importance sampling: {sum(len(r[0]) for r in results)} of {len(x_NV)} images')
  log_p_N, size_N = (np.concatenate(r).astype(np.float64) for r in zip(*results, strict=True))
  variance_N = np.maximum(1 / size_N - 1 / num_samples, 0)
  return likelihood.score(
    log_p_N, kind='bound', binarisation=binarisation, lower=float(log_p_N.mean()),
    standard_error=float(np.sqrt(variance_N.sum()) / len(log_p_N)),
    effective_sample_size=float(size_N.mean()),
    smallest_effective_sample_size=float(size_N.min()), num_importance_samples=num_samples,
    **details)
