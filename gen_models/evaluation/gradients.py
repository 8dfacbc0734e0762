"""Bias, variance and signal-to-noise of a gradient estimator, against the exact gradient.

  bias = E[g] - target(grad L),    variance = sum_i Var[g_i],    snr = |grad L| / sqrt(variance)

on a model small enough to enumerate, at fixed parameters and batch. `audit` runs many independent
copies of the estimator side by side and lets the memory of each forget its start.

Axis suffixes: N draws, D coordinates of all parameters.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gen_models.estimators.base import ContractError, Estimator, check, leaf_name

__all__ = ['Against', 'Audit', 'ContractError', 'Coordinate', 'Moments', 'against', 'audit',
           'check', 'coordinates', 'moments', 'stopwatch', 'timed_audit']


class Audit(NamedTuple):
  """The result of an audit.

  Attributes:
    biased: whether the bias is significant at the error rate asked for.
    bias_z: largest |mean error| / standard error over coordinates.
    threshold: the |z| that an unbiased estimator exceeds with probability `error_rate`.
    bias_norm: |mean error| over all coordinates; contains noise of about sqrt(variance / draws).
    bias_interval: (low, high) of |bias|: the least and the greatest norm in the box of all
      coordinates' intervals. low > 0 where the estimator is found biased, else 0.
    variance: sum over coordinates of the variance of one draw.
    snr: |target gradient| / sqrt(variance).
    num_draws: independent draws.
    mean: the mean gradient, structure of params.
    target: what it should be.
    bias: the mean error, structure of params.
    standard_error: of it; the interval of a coordinate is bias -+ threshold * standard_error, and
      all of them hold at once with probability 1 - error_rate.
    variances: of one draw, a coordinate each.
  """

  biased: bool
  bias_z: float
  threshold: float
  bias_norm: float
  bias_interval: tuple[float, float]
  variance: float
  snr: float
  num_draws: int
  mean: object
  target: object
  bias: object
  standard_error: object
  variances: object


class Coordinate(NamedTuple):
  """The audit of one coordinate of the gradient; low and high bound its bias."""

  name: str
  target: float
  bias: float
  low: float
  high: float
  z: float
  variance: float


_REPEATS = 4  # gradients of a copy after its burn-in, which costs much more than they


def audit(key, estimator: Estimator, params, batch, exact_grads, *, num_draws: int = 4096,
          burn_in: int = 0, error_rate: float = 1e-3) -> Audit:
  """Measures an estimator at fixed params and batch.

  Args:
    key: consumed.
    estimator: to be measured.
    params: where.
    batch: the batch every draw sees.
    exact_grads: gradient of the loss, by enumeration; mapped through estimator.target.
    num_draws: gradients, of independent copies that are vmapped; after a burn-in, four in a row of
      each copy, whose mean then counts as one observation.
    burn_in: calls made first, for memory (chains, baselines, averages) to forget its start.
    error_rate: probability that an unbiased estimator is called biased (Bonferroni over
      coordinates, normal approximation).

  Returns:
    Audit.

  Raises:
    ContractError: gradient, memory or metrics are not shaped as base.Estimator says.
  """
  check(estimator, params, batch)

  repeats = _REPEATS if burn_in else 1

  def draw(key):
    return _draw(key, estimator, params, batch, exact_grads, burn_in, repeats)

  # It runs once, and optimising it takes longer than it gains.
  options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else {}
  grads_NRD, target_NRD = jax.jit(jax.vmap(draw), compiler_options=options)(
    jax.random.split(key, -(-num_draws // repeats)))
  return _judged(grads_NRD, target_NRD, params, error_rate)


def _draw(key, estimator: Estimator, params, batch, exact_grads, burn_in: int, repeats: int):
  """(gradients, what their mean should be), [R, D] each: R in a row after `burn_in` calls."""
  key_init, key_burn, key_draw = jax.random.split(key, 3)

  def aim(memory):
    grads = estimator.target(exact_grads, params, memory) if estimator.target else exact_grads
    return ravel_pytree(grads)[0]

  def body(carry, x):
    memory, grads_RD, target_RD = carry
    i, key = x
    grads, after, _ = estimator.grad(key, params, memory, batch)
    # The last R calls are the draws: in one loop the gradient is compiled once.
    kept = (grads_RD.at[i % repeats].set(ravel_pytree(grads)[0]),
            target_RD.at[i % repeats].set(aim(memory)) if estimator.target else target_RD)
    return (after, *kept), None

  keys = jnp.concatenate([jax.random.split(key_burn, burn_in + repeats - 1), key_draw[None]])
  memory = estimator.init(key_init, params)
  target_RD = jnp.broadcast_to(aim(memory), (repeats, len(ravel_pytree(params)[0])))
  (_, *found), _ = jax.lax.scan(
    body, (memory, jnp.zeros_like(target_RD), target_RD), (jnp.arange(len(keys)), keys))
  return tuple(found)


def _judged(grads_NRD, target_NRD, params, error_rate: float) -> Audit:
  """The audit of N independent series of R draws."""
  error_NRD = np.asarray(grads_NRD, np.float64) - np.asarray(target_NRD, np.float64)
  error_ND = error_NRD.mean(1)  # draws of one series depend on each other
  bias_D, target_D = error_ND.mean(0), np.asarray(target_NRD, np.float64).mean((0, 1))
  # A deterministic estimator has no noise to divide by: its rounding stands in for it.
  floor = 1e-6 * (1 + np.abs(target_D))
  error_D = np.maximum(error_ND.std(0, ddof=1) / np.sqrt(len(error_ND)), floor)
  bias_z = float(np.max(np.abs(bias_D) / error_D))
  threshold = -statistics.NormalDist().inv_cdf(error_rate / (2 * len(bias_D)))
  num_draws = error_NRD.shape[0] * error_NRD.shape[1]
  variance_D = error_NRD.reshape(num_draws, -1).var(0, ddof=1)
  variance = float(np.sum(variance_D))
  excess_D = np.maximum(np.abs(bias_D) - threshold * error_D, 0)  # nan stays nan
  interval = (float(np.linalg.norm(excess_D)),
              float(np.linalg.norm(np.abs(bias_D) + threshold * error_D)))
  norm = float(np.linalg.norm(target_D))

  def unravel(x_D):
    return ravel_pytree(params)[1](jnp.asarray(x_D, jnp.float32))

  # Not `bias_z > threshold`: that would pass a gradient of nan as unbiased.
  return Audit(not bias_z <= threshold, bias_z, threshold, float(np.linalg.norm(bias_D)), interval,
               variance, norm / max(np.sqrt(variance), 1e-12), num_draws,
               *map(unravel, (jnp.asarray(grads_NRD).mean((0, 1)), target_D, bias_D, error_D,
                              variance_D)))


_BLOCK = 512  # draws one after another in one call


def timed_audit(key, estimator: Estimator, params, batch, exact_grads, *, num_draws: int = 4096,
                burn_in: int = 0, error_rate: float = 1e-3) -> tuple[Audit, Callable[[], float]]:
  """`audit` and `stopwatch`, of one program where the estimator remembers nothing.

  Such an estimator has its draws one after another, in a loop that is a stopwatch as it stands:
  to compile it is most of the work of either. The draws are those of `audit`, up to rounding.

  Arguments and errors as of `audit`.
  """
  key_audit, key_time = jax.random.split(key)
  if burn_in or jax.tree.leaves(jax.eval_shape(estimator.init, key_audit, params)):
    return (audit(key_audit, estimator, params, batch, exact_grads, num_draws=num_draws,
                  burn_in=burn_in, error_rate=error_rate),
            stopwatch(key_time, estimator, params, batch))
  check(estimator, params, batch)

  def body(params, key):
    grads_RD, target_RD = _draw(key, estimator, params, batch, exact_grads, 0, 1)
    return _dependent(params, ravel_pytree(params)[1](grads_RD[0])), (grads_RD, target_RD)

  num_blocks = -(-num_draws // _BLOCK)
  keys_N = jax.random.split(key_audit, num_draws)
  # The last block is filled up with draws that are not counted.
  keys_MB = keys_N[np.arange(num_blocks * _BLOCK) % num_draws].reshape(num_blocks, _BLOCK)
  loop = jax.jit(functools.partial(jax.lax.scan, body)).lower(params, keys_MB[0]).compile()
  blocks = [jax.device_get(loop(params, keys_B)[1]) for keys_B in keys_MB]
  grads_NRD, target_NRD = (np.concatenate(parts)[:num_draws] for parts in zip(*blocks, strict=True))
  return (_judged(grads_NRD, target_NRD, params, error_rate),
          _timer(loop, [(params, keys_B) for keys_B in keys_MB[:9]], _BLOCK))


def _dependent(params, grads):
  """params, so that the next gradient needs this one: else the compiler would drop or hoist it."""
  return jax.tree.map(lambda x, g: x - 1e-30 * g, params, grads)


def _timer(loop: Callable, calls: Sequence[tuple], num_steps: int) -> Callable[[], float]:
  """() -> seconds a step: the median wall time of the calls of a compiled loop / num_steps."""
  def measure():
    seconds = []
    for arguments in calls:
      start = time.perf_counter()
      jax.block_until_ready(loop(*arguments))
      seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / num_steps

  return measure


def coordinates(found: Audit) -> list[Coordinate]:
  """Every number of the gradient by name (field and index), in the order of the leaves."""
  columns = [np.asarray(ravel_pytree(tree)[0], np.float64) for tree in (
    found.target, found.bias, found.standard_error, found.variances)]
  return [Coordinate(name, target, bias, bias - found.threshold * error,
                     bias + found.threshold * error, bias / error, variance)
          for name, target, bias, error, variance in zip(
            _names(found.target), *(column.tolist() for column in columns), strict=True)]


def _names(tree) -> list[str]:
  """w_VH[0, 3], encoder.0.b_F[1], ...: one for each number."""
  return [leaf_name(path) + (str(list(index)) if index else '')
          for path, x in jax.tree_util.tree_leaves_with_path(tree)
          for index in np.ndindex(np.shape(x))]


class Moments(NamedTuple):
  """The mean gradient [D] of many draws, and the sum over coordinates of the variance of one."""

  mean_D: jax.Array
  variance: float
  num_draws: int


class Against(NamedTuple):
  """Moments of an estimator against the mean of many draws of an unbiased one.

  Attributes:
    bias_norm: |mean - reference|, the noise of both taken off, never below 0.
    bias_noise: the norm that the noise of both has by itself.
    variance: sum over coordinates of the variance of one draw.
    snr: |reference| / sqrt(variance).
    cosine: the mean cosine of one draw and the reference.
    num_draws: draws.
  """

  bias_norm: float
  bias_noise: float
  variance: float
  snr: float
  cosine: float
  num_draws: int


def moments(key, estimator: Estimator, params, batch, *, num_draws: int,
            burn_in: int = 0) -> Moments:
  """Mean and variance of successive gradients at fixed params and batch, streamed.

  Args:
    key: consumed.
    estimator: to be measured; what it remembers moves on from call to call.
    params: where.
    batch: what every draw sees.
    num_draws: gradients, at least two.
    burn_in: calls before them.
  """
  sums = _stream(key, estimator, params, batch, None, num_draws, burn_in)
  return Moments(sums[0], float(sums[1]), num_draws)


def against(key, estimator: Estimator, params, batch, reference: Moments, *, num_draws: int,
            burn_in: int = 0) -> Against:
  """The same, compared with the mean of another's draws; arguments as of `moments`."""
  mean_D, variance, cosine = _stream(key, estimator, params, batch, reference.mean_D, num_draws,
                                     burn_in)
  noise = float(variance) / num_draws + reference.variance / reference.num_draws
  distance = float(jnp.sum(jnp.square(mean_D - reference.mean_D)))
  norm = float(jnp.linalg.norm(reference.mean_D))
  return Against(max(distance - noise, 0.0)**0.5, noise**0.5, float(variance),
                 norm / max(float(variance)**0.5, 1e-12), float(cosine), num_draws)


def _stream(key, estimator, params, batch, reference_D, num_draws, burn_in):
  """(mean [D], summed variance, mean cosine with the reference) of draws one after another."""
  def call(memory, key):
    grads, memory, _ = estimator.grad(key, params, memory, batch)
    return ravel_pytree(grads)[0], memory

  def run(key):
    key_init, key_burn, key_draw = jax.random.split(key, 3)
    memory = estimator.init(key_init, params)
    memory, _ = jax.lax.scan(lambda memory, key: (call(memory, key)[1], None), memory,
                             jax.random.split(key_burn, burn_in))

    def body(carry, key):  # Welford's update
      memory, mean_D, squares, cosine, count = carry
      grad_D, memory = call(memory, key)
      before_D = grad_D - mean_D
      mean_D = mean_D + before_D / (count + 1)
      squares = squares + jnp.sum(before_D * (grad_D - mean_D))
      if reference_D is not None:
        cosine = cosine + grad_D @ reference_D / jnp.maximum(
          jnp.linalg.norm(grad_D) * jnp.linalg.norm(reference_D), 1e-30)
      return (memory, mean_D, squares, cosine, count + 1), None

    zeros_D = jnp.zeros_like(ravel_pytree(params)[0])
    start = memory, zeros_D, jnp.zeros(()), jnp.zeros(()), jnp.zeros(())
    (_, mean_D, squares, cosine, _), _ = jax.lax.scan(
      body, start, jax.random.split(key_draw, num_draws))
    return mean_D, squares / (num_draws - 1), cosine / num_draws

  return jax.jit(run)(key)


def stopwatch(key, estimator: Estimator, params, batch, *, num_steps: int = 50,
              repeats: int = 9) -> Callable[[], float]:
  """Compiles and warms up a loop of gradients, to be timed when called.

  Returns:
    () -> seconds a gradient: median wall time of `repeats` loops / num_steps.
  """
  def body(carry, key):
    params, memory = carry
    grads, memory, _ = estimator.grad(key, params, memory, batch)
    return (_dependent(params, grads), memory), ravel_pytree(grads)[0]

  def steps(key, carry):
    return jax.lax.scan(body, carry, jax.random.split(key, num_steps))

  key_init, *keys = jax.random.split(key, repeats + 2)
  carry = params, estimator.init(key_init, params)
  # Ahead of time, or a call from another thread or context could compile anew.
  loop = jax.jit(steps).lower(keys[0], carry).compile()
  jax.block_until_ready(loop(keys[0], carry))
  return _timer(loop, [(key, carry) for key in keys[1:]], num_steps)
