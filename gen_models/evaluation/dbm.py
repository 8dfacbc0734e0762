"""The likelihood of a deep Boltzmann machine: exact, or between bounds.

  bound       log p(v) >= E_q[log p*(v, x) - log q(x)] - log Z,    q mean field, p* = exp(-E)
  importance  log p(v) >= E[log (1/K) sum_k w_k] - log Z,          x_k ~ q,  w as dbm.log_weights
  upper       log p(v) <= E[log (1/K) (w_0 + sum_{k<K} w_k)] - log Z,    x_0 ~ p(x | v) instead

each at a known log Z. In w one half of the layers is drawn and the other is summed out, so the
importance bound lies above the first one with a single sample already, and rises with K; the upper
one falls with K (Sobolev & Vetrov, 2019), and is one as far as Gibbs steps with the data held have
reached p(x | v).

log Z is that of the folded machine, annealed over all layers at once: the even layers are the
chain, the odd ones are summed out of every weight. The lower bounds take the larger side of its
bracket and the upper one the smaller; in between they take Bennett's estimate where the sides
agree.

Axis suffixes: N images, B images at once, K samples, C chains, V even side of the folded machine.
Nats.

Salakhutdinov & Hinton (2009), Deep Boltzmann machines; Salakhutdinov & Murray (2008), On the
quantitative analysis of deep belief networks; Sobolev & Vetrov (2019), Importance weighted
hierarchical variational inference.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation import deep, likelihood, weights
from gen_models.models import dbm, units
from gen_models.samplers import annealing

TOLERANCE, MAX_ITERATIONS = 1e-4, 500  # of mean field, when a machine is scored
_BLOCK = 500  # images at once


def bracket(key, model: dbm.DBM, params: dbm.Params, v_NV, label_N=None, *,
            max_enumerated: float = 20, num_chains: int = 100, betas=None, burn_in: int = 1000,
            seen: Sequence[Any] = (), thorough: bool = False, chains_NV=None,
            report: Callable[[str], None] | None = None) -> tuple[annealing.Bracket, dict]:
  """log Z, exact where the even or the odd layers are few units, else by searches.bracket.

  Annealed forward from the mean of training images beside that of their posteriors, and in reverse
  from training images beside draws of theirs. With a label log Z = log sum_y exp(b_y) Z_y, and each
  Z_y is annealed by itself, from images of class y. log Z is at least the log-sum of the mean-field
  bounds of all distinct images seen.

  Args:
    key: consumed.
    model: of Bernoulli units under a label or none, unless log Z is enumerated.
    params: the machine.
    v_NV: training images.
    label_N: their classes, where the model has labels.
    max_enumerated: log2 of the states of one side of the folded machine up to which they are
      summed.
    num_chains: C in each direction.
    betas, burn_in: as of searches.bracket.
    seen: further images [N, V], such as those of the other splits.
    thorough: whether with all searches of samplers.thorough.
    chains_NV: states of the persistent chains of training, of the folded machine's visible side;
      for the thorough ones, of models without labels.
    report: called with lines of progress.

  Returns:
    (bracket, what was searched); exact: both sides equal, and nothing was.

  Raises:
    ValueError: log Z is neither small enough to enumerate nor that of Bernoulli units.
  """
  if min(model.log2_states) <= max_enumerated:
    log_z = float(jax.jit(model.log_partition)(params))
    exact = annealing.Estimate(log_z, 0.0, float('inf'), np.zeros(0), 0)
    return annealing.Bracket(log_z, exact, exact), {}
  options = dict(num_chains=num_chains, betas=betas, burn_in=burn_in, seen=seen,
                 thorough=thorough, report=report)
  if model.num_labels:
    v_NV, label_N = np.asarray(v_NV), np.asarray(label_N)
    found = [bracket(jax.random.fold_in(key, y), *model.given_label(params, y), v_NV[label_N == y],
                     max_enumerated=0, **options) for y in range(model.num_labels)]
    b_Q = np.asarray(params.biases[-1], np.float64)
    return deep.given_labels(b_Q, [z for z, _ in found]), {
      f'class {y}': searched for y, (_, searched) in enumerate(found)}
  if not model.binary:
    raise ValueError('log Z is annealed for machines of Bernoulli units; of others it can only be '
                     f'enumerated, up to 2^{max_enumerated} states of one side')
  key_start, key_anneal = jax.random.split(key)
  v_NV = np.asarray(v_NV)
  mean_V, bound_N = _of_images(model, params, v_NV)
  bounds = [bound_N, *(_of_images(model, params, np.asarray(more_NV))[1] for more_NV in seen)]
  rows = np.resize(np.arange(len(v_NV)), num_chains)  # again from the first, if too few
  start_CV = _joined(key_start, model, params, jnp.asarray(v_NV[rows]))
  found, tour = likelihood.searched(
    key_anneal, model.fold(params), units.log_odds(jnp.asarray(mean_V)), start_CV,
    thorough=thorough, chains_NV=chains_NV, betas=betas, burn_in=burn_in, report=report)
  z = likelihood.raised_by_images(found.bracket, np.concatenate(bounds),
                                  np.concatenate([v_NV, *seen]))
  return z, likelihood.looked_at(found._replace(bracket=z)) | tour


def _of_images(model, params, v_NV):
  """(mean over images of [v, m_E] [V], the mean-field bound of log p(v) + log Z of each [N])."""
  total, bounds = 0.0, []
  for i in range(0, len(v_NV), 10 * _BLOCK):
    row_BV, bound_B = _completed(model, params, jnp.asarray(v_NV[i:i + 10 * _BLOCK]))
    total = total + np.asarray(row_BV, np.float64).sum(0)
    bounds.append(np.asarray(bound_B, np.float64))
  return total / len(v_NV), np.concatenate(bounds)


@functools.partial(jax.jit, static_argnums=0)
def _completed(model, params, v_BV):
  q = model.posterior(params, v_BV)
  return model.complete(params, v_BV, q), model.bound(params, v_BV, q)


@functools.partial(jax.jit, static_argnums=1)
def _joined(key, model, params, v_CV):
  """Images beside the even layers of a draw from p(x | v), zeros and ones [C, V]."""
  q = model.posterior(params, v_CV)
  return jnp.concatenate([v_CV, model.sample_posterior(key, params, q, 100)[0]], axis=-1)


@functools.partial(jax.jit, static_argnums=(1, 4, 5))
def _sides(key, model, params, v_BV, num_samples: int, posterior_steps: int):
  """(bound [B], log w of q [K, B], log w of p(x | v) [B]), without log Z."""
  key_q, key_p = jax.random.split(key)
  q = model.posterior(params, v_BV, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)

  def one(key):
    return model.log_weights(params, v_BV, q, model.sample_mean_field(key, params, q, 1))[0]

  log_w_KB = lax.map(one, jax.random.split(key_q, num_samples))
  x = model.sample_posterior(key_p, params, q, posterior_steps)[model.sampled_side]
  return (model.bound(params, v_BV, q), log_w_KB, model.log_weights(params, v_BV, q, x[None])[0])


_log_unnormalised = jax.jit(dbm.DBM.log_unnormalised, static_argnums=0)


def score(key, model: dbm.DBM, params: dbm.Params, v_NV, z: annealing.Bracket, searched: dict, *,
          num_samples: int, binarisation: str, posterior_steps: int = 200, exact: bool = False,
          weights_N=None, report: Callable[[str], None] | None = None, **details) -> dict:
  """The score of images: kind 'bound', or 'exact' with the bounds beside it.

  Args:
    key: consumed.
    model, params: the machine.
    v_NV: images.
    z, searched: log Z, from `bracket`.
    num_samples: K.
    binarisation: recorded.
    posterior_steps: Gibbs steps with the data held, behind the upper bound.
    exact: whether log p(v) is enumerated too, log Z being exact.
    weights_N: of the images; None for equal ones. All means are weighted alike.
    report: called with lines of progress.
    **details: recorded.

  Returns:
    likelihood.score; `scores` has `importance_nats`, and where test_nats is exact `bound_nats`.

  Raises:
    ValueError: one sample, which cannot say how far off it is.
  """
  if num_samples < 2:
    raise ValueError(f'an importance bound with its error needs two samples, got {num_samples}')
  units.check_batch(model.layers[0], model.sizes[0], v_NV)
  parts, exact_N = [], []
  for i, start in enumerate(range(0, len(v_NV), _BLOCK)):
    v_BV = jnp.asarray(v_NV[start:start + _BLOCK])
    parts.append(_summary(*(np.asarray(x, np.float64) for x in _sides(
      jax.random.fold_in(key, i), model, params, v_BV, num_samples, posterior_steps))))
    if exact:
      exact_N.append(np.asarray(_log_unnormalised(model, params, v_BV), np.float64))
    if report and (i + 1) % 5 == 0:
      report(f'{start + len(v_BV)}/{len(v_NV)} images')
  bound_N, importance_N, upper_N, size_N, variance_N = (
    np.concatenate([part[i] for part in parts]) for i in range(5))
  top_MN = np.concatenate([part[5] for part in parts], axis=1)
  if not exact:
    z = likelihood.raised_by_images(z, bound_N, v_NV)
  agree = likelihood.resolved(z)
  sides = [float(side.log_partition) for side in (z.lower, z.upper)]
  mean = functools.partial(np.average, weights=weights_N)
  scores = {'importance_nats': float(mean(importance_N)
                                     - (z.log_partition if agree else max(sides))),
            'importance_ess': float(mean(size_N)), **details.pop('scores', {})}
  common: dict[str, Any] = dict(binarisation=binarisation, num_samples=num_samples,
                posterior_steps=posterior_steps, log_partition_sides=sides,
                weights_N=weights_N, **details)
  if exact:
    scores['bound_nats'] = float(mean(bound_N)) - z.log_partition
    return likelihood.score(np.concatenate(exact_N) - z.log_partition, kind='exact',
                            scores=scores, **common)
  z_error = float(np.max([side.standard_error for side in (z.lower, z.upper)]))
  importance = weights.entry(variance_N, top_MN, num_samples,
                             likelihood.shares(weights_N, len(variance_N)))
  if searched:
    common['searches'] = searched
  size = min(side.effective_sample_size for side in (z.lower, z.upper))
  return likelihood.score(
    bound_N - max(sides), kind='bound', standard_error=z_error,
    effective_sample_size=size if np.isfinite(size) else None,
    upper=float(mean(upper_N)) - min(sides),
    resolved=agree, log_partition=max(sides), num_temperatures=z.lower.num_temperatures,
    importance=importance, remarks=weights.warnings(importance),
    scores=scores, **common)


def _summary(bound_B, log_w_KB, log_w_B):
  """(bound, importance, upper, effective sample size, variance [B], largest log-weights [M, B])."""
  num_samples = len(log_w_KB)
  first_B, second_B = (np.logaddexp.reduce(power * log_w_KB, axis=0) for power in (1, 2))
  with_one_B = np.logaddexp(np.logaddexp.reduce(log_w_KB[1:], axis=0), log_w_B)
  return (bound_B, first_B - np.log(num_samples), with_one_B - np.log(num_samples),
          np.exp(2 * first_B - second_B),
          weights.log_mean_variance(weights.summary(log_w_KB)),
          np.sort(log_w_KB, axis=0)[-weights.num_top(num_samples):])
