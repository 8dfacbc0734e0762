"""Rules on log-weights for several samples of latents that have no path, and wake-sleep.

  w = softmax(l) over the K samples of an image,    L = log (1/K) sum_k exp(l_k)

As in variational.py, a rule says the multiples of d log p(x, z_k) and of the score
d log q(z_k | x). That of L itself is L - w_k: all that follows is what is subtracted from it, or
another bound in its place. They need no path, so latents may be discrete or continuous, in any
number of layers.

Axis suffixes: B batch, J K samples.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from gen_models.estimators import base, baselines
from gen_models.estimators.variational import (
  Coefficients,
  Model,
  Rule,
  reinforce,
  variational,
)


def vimco(samples: int, mean: Literal['geometric', 'arithmetic'] = 'geometric') -> Rule:
  """score: L - L_-k - w_k,  L_-k = log (1/K) (sum_{j != k} exp(l_j) + m_k) (Mnih & Rezende, 2016).

  m_k stands for the weight that is left out: the geometric or the arithmetic mean of the others.
  """
  _require_two(samples, 'leaving one out')

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, _bound(l_KB) - _left_out(l_KB, mean) - w_KB)

  return Rule(samples, coefficients)


def ovis(samples: int, gamma: float = 0.0) -> Rule:
  """score: -log(1 - w_k) + gamma log(1 - 1/K) - (1 - gamma) w_k (Lievin et al., 2020, OVIS~).

  It is L - w_k - c_k with c_k = L_-k - gamma w_k + (1 - gamma) log(1 - 1/K), L_-k the bound of the
  other K - 1 samples: the control variate that has the least variance as K grows, for weights of
  which many matter (gamma = 1) or one (gamma = 0). The first contains w_k, so it is biased.

  Args:
    samples: K, at least two.
    gamma: in [0, 1].
  """
  _require_two(samples, 'leaving one out')
  if not 0 <= gamma <= 1:
    raise ValueError(f'gamma is in [0, 1], got {gamma}')

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    others_KB = _bound(l_KB) - _left_out(l_KB, 'arithmetic')
    return Coefficients(
      w_KB, others_KB - (1 - gamma) * (w_KB + math.log(1 - 1 / samples)))

  return Rule(samples, coefficients, biased=gamma > 0)


def ovis_monte_carlo(samples: int, auxiliary: int = 1) -> Rule:
  """score: d_k - (1/S) sum_s d_k(l_s in the place of l_k),  d_k = L - w_k (Lievin et al., 2020).

  Args:
    samples: K.
    auxiliary: S, drawn in addition; they serve the control variate alone.
  """
  _require_two(samples, 'a control variate of the other samples')
  if auxiliary < 1:
    raise ValueError(f'the control variate needs at least one more sample, got {auxiliary}')

  def coefficients(l_SB):
    l_KB, more_SB = l_SB[:samples], l_SB[samples:]
    own = jnp.eye(samples, dtype=bool)[:, :, None]

    def exchanged(new_B):  # d_k where new_B stands in the place of l_k
      l_KJB = jnp.where(own, new_B, l_KB[None])
      w_KB = jnp.sum(jnp.where(own, jax.nn.softmax(l_KJB, axis=1), 0.0), axis=1)
      return jax.nn.logsumexp(l_KJB, axis=1) - math.log(samples) - w_KB

    w_KB = jax.nn.softmax(l_KB, axis=0)
    score_KB = _bound(l_KB) - w_KB - jnp.mean(jax.vmap(exchanged)(more_SB), axis=0)
    rest_SB = jnp.zeros_like(more_SB)
    return Coefficients(*(jnp.concatenate([c_KB, rest_SB]) for c_KB in (w_KB, score_KB)))

  return Rule(samples + auxiliary, coefficients)


def tvo(samples: int, parts: int = 2, first: float = 0.1) -> Rule:
  """sum_j (b_{j+1} - b_j) E_{pi_j}[l],  pi_b ~ q(z | x)^(1 - b) p(x, z)^b (Masrani et al., 2019).

  A lower Riemann sum of log p(x), the integral of E_{pi_b}[l] over b from 0 to 1. With
  v = softmax(b l), the gradient of one term is

    sum_k v_k (1 + b s_k) d log p(x, z_k) + v_k ((1 - b) s_k - 1) d log q(z_k | x),
    s_k = l_k - sum_j v_j l_j,

  biased, since v is normalised by the samples themselves.

  Args:
    samples: K, at least two.
    parts: terms of the sum. One is the ELBO, with its own mean as baseline.
    first: b_1; b_0 is 0, the others lie evenly between b_1 and 1 on a logarithmic scale.
  """
  _require_two(samples, 'a covariance')
  b_J, widths_J = tvo_partition(parts, first)

  def coefficients(l_KB):
    a_KB = c_KB = jnp.zeros_like(l_KB)
    for b, width in zip(b_J, widths_J, strict=True):
      v_KB = jax.nn.softmax(b * l_KB, axis=0)
      s_KB = l_KB - jnp.sum(v_KB * l_KB, axis=0)
      a_KB += width * v_KB * (1 + b * s_KB)
      c_KB += width * v_KB * ((1 - b) * s_KB - 1)
    return Coefficients(a_KB, c_KB)

  return Rule(samples, coefficients, biased=True)


def tvo_partition(parts: int, first: float) -> tuple[list[float], list[float]]:
  """(b_0, .., b_{J-1}) of `tvo`, and the width of each part."""
  if parts < 1 or not 0 < first < 1:
    raise ValueError(f'a partition of [0, 1] has at least one part and a first point inside, got '
                     f'{parts} and {first}')
  b_J = [0.0] + [first**(1 - j / (parts - 1)) for j in range(parts - 1)]
  return b_J, [above - below for below, above in zip(b_J, [*b_J[1:], 1.0], strict=True)]


def rws(samples: int, wake: float = 1.0) -> Rule:
  """log p: w,  score: wake w: both wake phases of reweighted wake-sleep.

  Bornschein & Bengio (2015). Along p the gradient of -log p(x), along q that of
  KL(p(z | x) || q(z | x)), where expectations under p(z | x) are taken with the weights w: biased,
  less so with more samples. The sleep phase may be added:
  weighted((variational(model, rws(5, 0.5)), 1), (sleep(model), 0.5)).
  """
  _require_two(samples, 'a weight among samples')

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, wake * w_KB)

  return Rule(samples, coefficients, biased=True)


def sleep(model: Model) -> base.Estimator:
  """grads of -E[log q(z | x)], (x, z) ~ p held: the sleep phase, as many dreams as images.

  Hinton, Dayan, Frey & Neal (1995). Parameters of p get no gradient.

  Raises:
    ValueError: a model in which some parameters are of p and of q.
  """
  if getattr(model, 'shares_parameters', False):
    raise ValueError('the sleep phase moves q and holds p, and in this model they share parameters '
                     '(a VampPrior has those of the encoder, inference from the top those of the '
                     'decoder): use a rule on log-weights')

  def loss(key, params, x_BV):
    key_z, key_x = jax.random.split(key)
    z = jax.lax.stop_gradient(model.sample_prior(key_z, params, len(x_BV)))
    dream_BV = jax.lax.stop_gradient(model.sample_visible(key_x, params, z[0]))
    log_q_B = model.log_posterior(params, model.encode(params, dream_BV), z)
    return -jnp.mean(log_q_B), {'sleep': jnp.mean(log_q_B)}

  return base.from_loss(loss)


def wake_sleep(model: Model, samples: int = 1) -> base.Estimator:
  """Wake: -E_q[log p(x, z)] along p, q held. Sleep: -E_p[log q(z | x)] along q, p held.

  Hinton, Dayan, Frey & Neal (1995), The wake-sleep algorithm. Unbiased for both, which are not the
  gradient of one function.
  """
  if samples < 1:
    raise ValueError(f'the wake phase needs at least one sample, got {samples}')
  wake = Rule(samples, lambda l_KB: Coefficients(jnp.full_like(l_KB, 1 / samples)))
  return base.weighted((variational(model, wake), 1.0), (sleep(model), 1.0))


def nvil(model: Model, num_visible: int, optimizer: baselines.Optimizer, samples: int = 1,
         hidden: tuple[int, ...] = (100,), rate: float = 0.01) -> base.Estimator:
  """score: l - c - C(x), c a running mean and C a network of its own optimizer.

  Mnih & Gregor (2014), Neural variational inference and learning in belief networks. For several
  layers l is the whole log-weight at each of them.

  Args: see baselines.learned.
  """
  return variational(model, reinforce(samples),
                     baseline=baselines.learned(num_visible, optimizer, hidden, rate))


def _bound(l_KB):
  return jax.nn.logsumexp(l_KB, axis=0) - math.log(len(l_KB))


def _left_out(l_KB, mean: str):
  """The bound of all samples where a mean of the others stands in the place of l_k, [K, B]."""
  own = jnp.eye(len(l_KB), dtype=bool)[:, :, None]
  others_KJB = jnp.where(own, -jnp.inf, l_KB[None])
  if mean == 'arithmetic':
    return jax.nn.logsumexp(others_KJB, axis=1) - math.log(len(l_KB) - 1)
  if mean != 'geometric':
    raise ValueError(f"the mean is 'geometric' or 'arithmetic', got {mean!r}")
  geometric_KB = (jnp.sum(l_KB, axis=0) - l_KB) / (len(l_KB) - 1)
  filled_KJB = jnp.where(own, geometric_KB[:, None], l_KB[None])
  return jax.nn.logsumexp(filled_KJB, axis=1) - math.log(len(l_KB))


def _require_two(samples: int, what: str):
  if samples < 2:
    raise ValueError(f'{what} needs at least two samples, got {samples}')
