"""How good is a gradient estimator: bias, variance and signal-to-noise, against the exact gradient.

  bias = E[g] - target(grad L),    variance = sum_i Var[g_i],    snr = |grad L| / sqrt(variance)

on a model small enough to enumerate, at fixed parameters and batch. `audit` runs many independent
copies of the estimator side by side and lets the memory of each forget its start.
"""

import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gen_models.estimators.base import Estimator


class Audit(NamedTuple):
  """What was found.

  Attributes:
    biased: whether the bias is significant at the error rate asked for.
    bias_z: largest |mean error| / standard error over coordinates.
    threshold: the |z| that an unbiased estimator exceeds with probability `error_rate`.
    bias_norm: |mean error| over all coordinates; contains noise of about sqrt(variance / draws).
    variance: sum over coordinates of the variance of one draw.
    snr: |target gradient| / sqrt(variance).
    num_draws: independent draws.
    mean: the mean gradient, structure of params.
    target: what it should be.
  """

  biased: bool
  bias_z: float
  threshold: float
  bias_norm: float
  variance: float
  snr: float
  num_draws: int
  mean: object
  target: object


def audit(key, estimator: Estimator, params, batch, exact_grads, *, num_draws: int = 4096,
          burn_in: int = 0, error_rate: float = 1e-3) -> Audit:
  """Measures an estimator at fixed params and batch.

  Args:
    key: consumed.
    estimator: to be measured.
    params: where.
    batch: the batch every draw sees.
    exact_grads: gradient of the loss, by enumeration; mapped through estimator.target.
    num_draws: independent copies, vmapped.
    burn_in: calls made first, for memory (chains, baselines, averages) to forget its start.
    error_rate: probability that an unbiased estimator is called biased (Bonferroni over
      coordinates, normal approximation).

  Returns:
    Audit.
  """
  def draw(key):
    key_init, key_burn, key_draw = jax.random.split(key, 3)

    def body(memory, key):
      return estimator.grad(key, params, memory, batch)[1], None

    memory, _ = jax.lax.scan(body, estimator.init(key_init, params),
                             jax.random.split(key_burn, burn_in))
    grads, memory, _ = estimator.grad(key_draw, params, memory, batch)
    target = estimator.target(exact_grads, params, memory) if estimator.target else exact_grads
    return ravel_pytree(grads)[0], ravel_pytree(target)[0]

  grads_ND, target_ND = jax.jit(jax.vmap(draw))(jax.random.split(key, num_draws))
  error_ND = np.asarray(grads_ND, np.float64) - np.asarray(target_ND, np.float64)
  bias_D, target_D = error_ND.mean(0), np.asarray(target_ND, np.float64).mean(0)
  # A deterministic estimator has no noise to divide by: its rounding stands in for it.
  floor = 1e-6 * (1 + np.abs(target_D))
  error_D = np.maximum(error_ND.std(0, ddof=1) / np.sqrt(num_draws), floor)
  bias_z = float(np.max(np.abs(bias_D) / error_D))
  threshold = -statistics.NormalDist().inv_cdf(error_rate / (2 * len(bias_D)))
  variance = float(np.sum(error_ND.var(0, ddof=1)))
  norm = float(np.linalg.norm(target_D))
  unravel = ravel_pytree(params)[1]
  # Not `bias_z > threshold`: that would pass a gradient of nan as unbiased.
  return Audit(not bias_z <= threshold, bias_z, threshold, float(np.linalg.norm(bias_D)), variance,
               norm / max(np.sqrt(variance), 1e-12), num_draws,
               unravel(jnp.asarray(grads_ND).mean(0)), unravel(jnp.asarray(target_D, jnp.float32)))
