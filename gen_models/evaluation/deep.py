"""The likelihood of a deep belief network: a lower bound and a consistent estimate.

  bound     log p(v) >= (1/K) sum_k log w_k - log Z
  estimate  log p(v) ~= log (1/K) sum_k w_k - log Z,    h_k ~ q(h | v),  w as dbn.log_weights

For a known log Z, that of the top layer, both are low in expectation, the estimate by less, and it
is consistent in K. Annealing brackets log Z; the bound is one with the larger of its sides, and so
is what is called test nats here. The estimate takes Bennett's log Z between the sides where they
agree.

Axis suffixes: N images, B images at once, K samples, C chains, F features of the top layer, Q
labels. Nats.

Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation import likelihood, weights
from gen_models.models import dbn, label_rbm, units
from gen_models.samplers import annealing

_BLOCK = 500  # images at once


@partial(jax.jit, static_argnames='num_samples')
def _log_weights(key, params, v_BV, num_samples):
  """log w, [K, B]; one sample of every image at a time."""
  return lax.map(lambda key: dbn.log_weights(key, params, v_BV), jax.random.split(key, num_samples))


_feature_means = jax.jit(dbn.feature_means)
_features = jax.jit(partial(dbn.features, propagate='samples'))
_enumerated = jax.jit(dbn.log_partition)


def bracket(key, params: dbn.Params, v_NV, label_N=None, *, max_enumerated: int = 20,
            num_chains: int = 100, betas=None, burn_in: int = 1000, seen: Sequence[Any] = (),
            thorough: bool = False, chains_NF=None, report: Callable[[str], None] | None = None
            ) -> tuple[annealing.Bracket, dict]:
  """log Z of the top layer: exact where its smaller side has few units, else searches.bracket.

  Annealed forward from the mean features of the training images and in reverse from features drawn
  for the first of them. With labels, log Z = log sum_y exp(b_y) Z_y; each Z_y is estimated by
  itself, from images of class y. log Z is at least the log-sum over all distinct features drawn for
  training images and for `seen`.

  Args:
    key: consumed.
    params: the net.
    v_NV: training images.
    label_N: their classes, where the model has labels.
    max_enumerated: units of the smaller side up to which Z is summed over all states.
    num_chains: C in each direction, for each label.
    betas: as searches.bracket.
    burn_in: as searches.bracket.
    seen: further images [N, V], such as those of the other splits.
    thorough: whether with all searches of samplers.thorough.
    chains_NF: states of the persistent chains of the top layer, for the thorough ones.
    report: called with lines of progress.

  Returns:
    (annealing.Bracket, the entry of the record about the searches); exact: both sides equal,
    standard error 0, effective sample size inf, and nothing was searched.
  """
  top, num_labels = params.layers[-1], dbn.num_labels_of(params)
  if min(len(top.b_V) - num_labels, len(top.c_H)) <= max_enumerated:
    log_z = float(_enumerated(params))
    exact = annealing.Estimate(log_z, 0.0, float('inf'), np.zeros(0), 0)
    return annealing.Bracket(log_z, exact, exact), {}
  drawn_NF = _drawn(jax.random.fold_in(key, 2**31), params, [v_NV, *seen])
  options = dict(thorough=thorough, betas=betas, burn_in=burn_in, report=report)

  def one(key, machine, rows_NV, chains_NF=chains_NF):
    key_start, key_anneal = jax.random.split(key)
    means_NF = np.concatenate([_feature_means(params, jnp.asarray(block_BV))
                               for block_BV in _blocks(rows_NV)])
    starts = np.resize(np.arange(len(rows_NV)), num_chains)  # again from the first, if too few
    start_CF = _features(key_start, params, jnp.asarray(rows_NV[starts]))
    found, tour = likelihood.searched(
      key_anneal, machine, units.log_odds(means_NF.mean(0)), start_CF, chains_NV=chains_NF,
      seen=[drawn_NF], **options)
    return found.bracket, likelihood.looked_at(found) | tour

  if not num_labels:
    return one(key, top, v_NV)
  v_NV, label_N = np.asarray(v_NV), np.asarray(label_N)
  if chains_NF is not None:
    chains_NF = np.asarray(chains_NF)[:, :-num_labels]
  parts, entries = zip(*(one(
    jax.random.fold_in(key, y), label_rbm.given_label(top, num_labels, y), v_NV[label_N == y],
    chains_NF) for y in range(num_labels)))
  return given_labels(np.asarray(top.b_V[-num_labels:], np.float64), parts), {
    f'class {y}': entry for y, entry in enumerate(entries)}


def _blocks(v_NV) -> list:
  return [v_NV[i:i + 10 * _BLOCK] for i in range(0, len(v_NV), 10 * _BLOCK)]


def _drawn(key, params: dbn.Params, images) -> np.ndarray:
  """Features of the top layer drawn for all images, zeros and ones [N, F]."""
  drawn = []
  for i, block_BV in enumerate(block_BV for v_NV in images for block_BV in _blocks(v_NV)):
    drawn_BF = _features(jax.random.fold_in(key, i), params, jnp.asarray(block_BV))
    drawn.append(np.asarray(drawn_BF).astype(np.uint8))  # of all images at once they would be large
  return np.concatenate(drawn)


def given_labels(b_Q, parts) -> annealing.Bracket:
  """The bracket of log sum_y exp(b_y) Z_y from those of log Z_y."""
  return annealing.Bracket(
    float(np.logaddexp.reduce(b_Q + [z.log_partition for z in parts])),
    summed(b_Q, [z.lower for z in parts]), summed(b_Q, [z.upper for z in parts]),
    any(z.contradicted for z in parts))


def summed(b_Q, parts) -> annealing.Estimate:
  """log sum_y exp(b_y) Z_y; its error by the delta method, the effective sample size the least."""
  log_z_Q = b_Q + [z.log_partition for z in parts]
  log_z = np.logaddexp.reduce(log_z_Q)
  error = np.linalg.norm(np.exp(log_z_Q - log_z) * [z.standard_error for z in parts])
  return annealing.Estimate(float(log_z), float(error),
                            min(z.effective_sample_size for z in parts),
                            np.concatenate([z.log_weights_C for z in parts]),
                            parts[0].num_temperatures)


def score(key, params: dbn.Params, v_NV, z: annealing.Bracket, searched: dict | None = None, *,
          num_samples: int = 100, binarisation: str, weights_N=None,
          report: Callable[[str], None] | None = None, **details) -> dict:
  """A likelihood.score of kind 'bound': test_nats, and `lower`, the bound with the larger log Z.

  No image gets a probability above one: log Z is at least the log-sum of the bounds of distinct
  images, less four standard errors of each. `resolved` says whether the two sides of log Z agree
  (likelihood.resolved). standard_error joins
  those of the K samples and of log Z; effective_sample_size is that of log Z, the smaller of both
  directions, None where it is exact. `scores` gains the estimate, `importance_nats`, and
  `importance_ess`, the mean over images of its effective sample size; `importance` says what its
  weights say of themselves: standard error without that of log Z, None of fewer than 4 samples,
  and from 25 samples on Pareto k and `hollow` (evaluation.weights).

  Args:
    key: consumed.
    params: the net.
    v_NV: binary images.
    z, searched: log Z of the top layer, and the entry of the record about it, from `bracket`.
    num_samples: K.
    binarisation: recorded.
    weights_N: of the images; None for equal ones. All means are weighted alike.
    report: called with lines of progress.
    **details: recorded.

  Raises:
    ValueError: one sample, which cannot say how far off it is.
  """
  if num_samples < 2:
    raise ValueError(f'a bound with its standard error needs two samples, got {num_samples}')
  bounds, errors, estimates, sizes, variances, tails = [], [], [], [], [], []
  for i, start in enumerate(range(0, len(v_NV), _BLOCK)):
    v_BV = jnp.asarray(v_NV[start:start + _BLOCK])
    log_w_KB = np.asarray(_log_weights(jax.random.fold_in(key, i), params, v_BV, num_samples),
                          np.float64)
    top_B = log_w_KB.max(0)
    w_KB = np.exp(log_w_KB - top_B)
    bounds.append(log_w_KB.mean(0))
    errors.append(log_w_KB.var(0, ddof=1) / num_samples)
    estimates.append(top_B + np.log(w_KB.mean(0)))
    sizes.append(w_KB.sum(0) ** 2 / (w_KB**2).sum(0))
    variances.append(weights.log_mean_variance(weights.summary(log_w_KB)))
    tails.append(np.sort(log_w_KB, axis=0)[-weights.num_top(num_samples):])
    if report and (i + 1) % 5 == 0:
      report(f'{start + len(v_BV)}/{len(v_NV)} images')
  bound_N, error_N = np.concatenate(bounds), np.concatenate(errors)
  z = likelihood.raised_by_images(z, bound_N - 4 * np.sqrt(error_N), v_NV)
  sides = z.lower, z.upper
  log_z = max(side.log_partition for side in sides)
  agree = likelihood.resolved(z)
  z_error = float(np.max([side.standard_error for side in sides]))
  size = min(side.effective_sample_size for side in sides)
  mean = partial(np.average, weights=weights_N)
  share_N = likelihood.shares(weights_N, len(v_NV))
  scores = {'importance_nats': float(mean(np.concatenate(estimates))
                                     - (z.log_partition if agree else log_z)),
            'importance_ess': float(mean(np.concatenate(sizes)))}
  importance = weights.entry(np.concatenate(variances), np.concatenate(tails, axis=1), num_samples,
                             share_N)
  if searched:
    details['searches'] = searched
  return likelihood.score(
    bound_N - log_z, kind='bound', binarisation=binarisation,
    standard_error=float(np.hypot(np.sqrt(share_N**2 @ error_N), z_error)),
    effective_sample_size=size if np.isfinite(size) else None,
    resolved=agree, log_partition=log_z,
    log_partition_sides=[side.log_partition for side in sides],
    log_partition_error=z_error if np.isfinite(z_error) else None,
    num_temperatures=z.lower.num_temperatures, num_samples=num_samples,
    importance=importance, remarks=weights.warnings(importance), weights_N=weights_N,
    scores={**scores, **details.pop('scores', {})}, **details)
