"""Test log-likelihoods that say what they are.

  nats = (1/N) sum_n log p(x_n)

A score is a dict that is written to the run directory unchanged; evaluation.score.Score is the same
as a typed record and documents every key.

Axis suffixes: N images, V visible.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.evaluation import weights
from gen_models.models import rbm, units
from gen_models.samplers import annealing, searches, tempering, thorough as thorough_lib
from gen_models.samplers.annealing import Machine


def score(log_p_N, *, kind: str, binarisation: str, standard_error: float | None = 0.0,
          effective_sample_size: float | None = None, lower: float | None = None,
          upper: float | None = None, weights_N=None, **details) -> dict:
  """The JSON of evaluation.score.Score, from log p of each row.

  With weights the mean is sum_n w_n log p_n / sum_n w_n, and the record says so: `weighted`, and
  `effective_rows`, (sum w)^2 / sum w^2, by which the image_standard_error is divided.

  Of kind exact `lower` and `upper` are the mean, of kind bound `lower` is.

  A standard error that is not finite, such as that of one chain, is None: it is not known. So is
  the image_standard_error of a single image.

  Raises:
    FloatingPointError: a likelihood is not finite.
  """
  log_p_N = np.asarray(log_p_N, np.float64)
  if not np.all(np.isfinite(log_p_N)):
    raise FloatingPointError(f'{np.sum(~np.isfinite(log_p_N))} of {len(log_p_N)} log-likelihoods '
                             'are not finite: the parameters have diverged')
  nats, num, spread = float(log_p_N.mean()), len(log_p_N), 0.0
  if weights_N is not None:
    share_N = shares(weights_N, num)
    nats, num = float(share_N @ log_p_N), 1 / float(np.sum(share_N**2))
    spread = float(np.sqrt(share_N @ (log_p_N - nats)**2 * num / max(num - 1, 1e-12)))
    details = {**details, 'weighted': True, 'effective_rows': num}
  elif num > 1:
    spread = float(log_p_N.std(ddof=1))
  if kind in ('exact', 'bound'):
    lower = nats
  if kind == 'exact':
    upper = nats
  if standard_error is not None and not np.isfinite(standard_error):
    standard_error = None
  return {
    'test_nats': nats, 'kind': kind, 'standard_error': standard_error,
    'effective_sample_size': effective_sample_size, 'lower': lower, 'upper': upper,
    'image_standard_error': float(spread / np.sqrt(num)) if len(log_p_N) > 1 else None,
    'num_images': len(log_p_N), 'binarisation': binarisation, **details}


def shares(weights_N, num: int) -> np.ndarray:
  """Weights that sum to 1, float64, equal ones for None; ValueError unless there are `num`."""
  if weights_N is None:
    return np.full(num, 1 / num)
  weights_N = np.asarray(weights_N, np.float64)
  if weights_N.shape != (num,) or not np.all(weights_N >= 0) or not weights_N.sum() > 0:
    raise ValueError(f'{num} rows need as many weights, none negative and not all 0, got '
                     f'{weights_N.shape}')
  return weights_N / weights_N.sum()


def no_likelihood(why: str, *, num_images: int, binarisation: str, weights_N=None,
                  **details) -> dict:
  """The score of a model that has no density: no nats, and `why` there are none.

  With weights, those of the rows by which its scores are averaged, the record says `weighted`.
  """
  if weights_N is not None:
    effective = 1 / float(np.sum(shares(weights_N, num_images)**2))
    details = {**details, 'weighted': True, 'effective_rows': effective}
  return {'test_nats': None, 'kind': 'none', 'why': why, 'standard_error': None,
          'effective_sample_size': None, 'lower': None, 'upper': None,
          'image_standard_error': None, 'num_images': num_images, 'binarisation': binarisation,
          **details}


_free_energy = searches.free_energy


@functools.partial(jax.jit, static_argnums=1)
def _log_partition(params, model):
  return model.log_partition(params)


def exact(params, v_NV, *, binarisation: str, model: Any = rbm, weights_N=None) -> dict:
  """log p(v) = -F(v) - log Z with log Z enumerated; raises as log_partition and check_batch.

  `model` is gen_models.models.rbm or a Machine.
  """
  units.check_batch(model.visible, len(params.w_VH), v_NV)
  return score(-np.asarray(_free_energy(params, jnp.asarray(v_NV), model))
               - _log_partition(params, model), kind='exact', binarisation=binarisation,
               weights_N=weights_N)


def ais(key, params, v_NV, *, base_V, binarisation: str, num_chains: int = 100, betas=None,
        report: Callable[[str], None] | None = None, model: Machine = rbm) -> dict:
  """log p(v) = -F(v) - log Z with log Z by annealed importance sampling from `base_V`.

  log Z is low in expectation, hence test_nats is high: it flatters the model by about half its
  squared standard error, and by more when the effective sample size is small. The bound from the
  other side is not computed here: `lower` is None.

  log Z is at least the log-sum of exp(-F) over the distinct images, so no image has a probability
  above one; a number that would break this is `hollow`, as one whose weights do not support it is
  (evaluation.weights, from 25 chains on).
  """
  units.check_batch(model.visible, len(params.w_VH), v_NV)
  z = annealing.ais(key, params, base_V, num_chains=num_chains, betas=betas, report=report,
                    model=model)
  minus_energy = -np.asarray(_free_energy(params, jnp.asarray(v_NV), model), np.float64)
  floor, _ = searches.seen_log_partition(params, [v_NV], model=model)
  log_z = max(z.log_partition, floor)
  remarks = weights.remarks(weights.summary(z.log_weights_C[:, None]))
  if floor > z.log_partition + searches.ROUNDING:
    remarks['hollow'] = True
  return score(minus_energy - log_z, kind='ais', binarisation=binarisation,
               standard_error=z.standard_error, effective_sample_size=z.effective_sample_size,
               log_partition=log_z, num_chains=num_chains, num_temperatures=z.num_temperatures,
               **remarks)


def quick(free_N, log_z, weights_N=None) -> jax.Array:
  """-mean F - log Z of discrete rows, with log Z at least -F of each: for use inside jit; nats.

  The mean is weighted where rows are.

  A quick estimate of log Z may lack a mode that the rows show; no row gets a probability above one.
  """
  return -data.mean(free_N, weights_N) - jnp.maximum(log_z, -jnp.min(free_N))


RESOLVED_NATS = 1.0


def bracket(key, params, v_NV, *, base_V, start_CV, binarisation: str,
            method: Literal['annealing', 'ladder', 'trajectory'] = 'annealing', betas=None,
            history_R: Any = None, num_steps: int = 1000, burn_in: int = 1000,
            resolved_nats: float = RESOLVED_NATS, search_betas=None, thorough: bool = False,
            seen: Sequence[Any] = (), chains_NV=None,
            report: Callable[[str], None] | None = None, model: Machine = rbm, weights_N=None,
            **details) -> dict:
  """log p(v) = -F(v) - log Z with log Z from both sides.

  `annealing` anneals forward from the base and in reverse from the images
  (samplers.annealing.bracket); `ladder` runs chains at all temperatures, in equilibrium, which
  swap; `trajectory` does the same with snapshots of the training run as rungs, after the base
  (samplers.tempering.bracket). Where modes appear abruptly as the temperature falls, as in a
  first-order transition, the first two brackets stay wide and the third may still resolve.

  In a machine with a mode that neither the base nor the images lead to, the two sides of any of
  them agree on the wrong log Z. So a search accompanies each (samplers.searches): chains annealed
  from the uniform base look for such modes, and `lower` uses the log Z from above that includes
  what they find. log Z is moreover at least the log-sum of exp(-F) over every distinct state seen,
  v_NV among them, so no image has a probability above one. The states in which both directions end
  are compared as samples (samplers.ends).

  `upper` uses the log Z from the base's side, which is low. test_nats is Bennett's estimate where
  the bracket is resolved and the lesser of the two sides where it is not. The standard error and
  the effective sample size are those of the worse side.

  `resolved` is true where the sides are less than `resolved_nats` apart, do not cross by more than
  4 standard errors of their difference, and are not contradicted: the searches that `searches`
  names agree. A mode that none of them finds remains undetected.

  Args:
    key: consumed.
    params: of the machine.
    v_NV: images to score.
    base_V: visible parameters of the base, annealing.base_of the data: of Bernoulli units the
      log-odds of their mean.
    start_CV: training images [C, V]; C is the number of chains in each direction.
    binarisation: of v_NV.
    method: see above.
    betas: of `annealing`, default annealing.salakhutdinov_murray(); of `ladder`, from 0, default
      annealing.linear(50).
    history_R: of `trajectory`, snapshots of the training run stacked on a leading axis, earliest
      first; base and params are put before and after them.
    num_steps: Gibbs steps measured, of `ladder` and `trajectory`; samples for each chain and rung.
    burn_in: Gibbs steps.
    resolved_nats: see above; from this width on `annealing` measures its second path too.
    thorough: whether `annealing` is accompanied by all searches of samplers.thorough, at nine
      times the cost or more.
    search_betas: of the searches beside `ladder` and `trajectory`; default annealing.refined(3000).
    seen: further images for the floor of log Z, arrays [N, V], such as those of all splits.
    chains_NV: states of the persistent chains of training [N, V], from which a thorough search
      starts too.
    report: called with lines of progress.
    model: the layers; by default Bernoulli units in both.
    weights_N: of the rows to score, as for `score`; None for equal ones.
    **details: recorded.

  Returns:
    score of kind 'bracket', with `method`, `resolved`, `log_partition`, `num_chains`,
    `num_temperatures` (steps from the base to the model) and `searches`, a summary of them.

  Raises:
    ValueError: there is no such method, another than annealing is to be thorough, a
      trajectory has no history, images are not states of the model, or the sampler refuses its
      arguments.
  """
  for images_NV in (v_NV, start_CV):
    units.check_batch(model.visible, len(params.w_VH), images_NV)
  if thorough and method != 'annealing':
    raise ValueError(f'the thorough searches are of annealing, not of {method!r}')
  options = dict(burn_in=burn_in, report=report, model=model, seen=[
    v_NV, *seen, *([] if chains_NV is None else [chains_NV])])
  tour: dict = {}
  if method == 'annealing':
    found, tour = searched(key, params, base_V, start_CV, thorough=thorough, chains_NV=chains_NV,
                           betas=betas, too_wide=resolved_nats, **options)
  else:
    rungs_R = _rungs(model, params, base_V, method, betas, history_R)
    z, ends_NV = tempering.bracket_and_ends(key, rungs_R, start_CV, num_steps=num_steps,
                                            burn_in=burn_in, report=report, model=model)
    if search_betas is None:
      search_betas = annealing.refined(3000)
    found = searches.widened(key, params, base_V, start_CV, z, ends_NV, betas=search_betas,
                             **options)
  z = found.bracket
  minus_energy = -np.asarray(_free_energy(params, jnp.asarray(v_NV), model), np.float64)
  mean = float(minus_energy.mean() if weights_N is None else
               shares(weights_N, len(minus_energy)) @ minus_energy)
  lower, upper = (mean - side.log_partition for side in (z.upper, z.lower))
  agree = resolved(z, resolved_nats)
  log_z = z.log_partition if agree else max(z.lower.log_partition, z.upper.log_partition)
  return score(minus_energy - log_z, kind='bracket', binarisation=binarisation,
               standard_error=float(np.maximum(z.lower.standard_error, z.upper.standard_error)),
               effective_sample_size=min(z.lower.effective_sample_size,
                                         z.upper.effective_sample_size),
               lower=lower, upper=upper, resolved=agree, log_partition=log_z,
               num_chains=len(start_CV), num_temperatures=z.lower.num_temperatures, method=method,
               searches=looked_at(found) | tour, weights_N=weights_N, **details)


def searched(key, params, base_V, start_CV, *, thorough: bool, chains_NV=None, **options
             ) -> tuple[searches.Searched, dict]:
  """searches.bracket, or with `thorough` all searches: (what was found, what else the record says).

  The record's entry is `looked_at` of the first, with the second. The options are those of
  searches.bracket.
  """
  if not thorough:
    return searches.bracket(key, params, base_V, start_CV, **options), {}
  found, tour = thorough_lib.bracket(key, params, base_V, start_CV, chains_NV=chains_NV, **options)
  return found, {'thorough': True, 'ladder': {
    'log_partition': tour.estimate.log_partition, 'standard_error': tour.estimate.standard_error,
    'num_temperatures': tour.estimate.num_temperatures, 'num_chains': tour.num_chains,
    'num_steps': tour.num_steps, 'round_trips': tour.round_trips, 'counts': tour.counts}}


def looked_at(found: searches.Searched) -> dict:
  """The entry of the record about the searches."""
  return {'path': found.path, 'paths': found.paths, 'starts': found.starts,
          'strata': len(found.strata), 'uncovered_strata': found.uncovered,
          'modes': [{'share': stratum.share, 'found_by': list(stratum.found_by)}
                    for stratum in found.strata],
          'ends_apart': found.apart, 'contradicted': found.bracket.contradicted,
          'log_partition_floor': found.floor if np.isfinite(found.floor) else None,
          'distinct_states': found.num_states,
          'bases': {name: _estimate_entry(base) for name, base in found.bases.items()}}


def _estimate_entry(base: annealing.Estimate) -> dict:
  tail = weights.pareto_k(weights.summary(base.log_weights_C[:, None]))
  return {'log_partition': float(base.log_partition),
          'standard_error': base.standard_error if np.isfinite(base.standard_error) else None,
          'effective_sample_size': base.effective_sample_size,
          'pareto_k': float(tail[0]) if tail is not None and np.isfinite(tail[0]) else None,
          'num_chains': len(base.log_weights_C)}


def raised_by_images(z: annealing.Bracket, log_p_N, v_NV) -> annealing.Bracket:
  """The bracket that knows log Z >= log sum_n exp(log_p_n), over distinct discrete images.

  log_p_N are lower bounds of log p(v) + log Z, so no image gets a probability above one; nothing is
  changed where log Z is exact.
  """
  if not np.isfinite(z.lower.effective_sample_size):
    return z
  _, first_U = np.unique(np.packbits(np.asarray(v_NV) > 0.5, axis=1), axis=0, return_index=True)
  return searches.raised(z, float(np.logaddexp.reduce(np.asarray(log_p_N)[first_U])))


def resolved(z: annealing.Bracket, resolved_nats: float = RESOLVED_NATS) -> bool:
  """-4 sd < upper - lower < resolved_nats, sd that of the difference, and not contradicted.

  Three standard errors of either side must be less than `resolved_nats` too, because sides may
  agree by chance where a few weights decide both. A single chain has no standard error, so its
  bracket is never resolved.
  """
  width = z.upper.log_partition - z.lower.log_partition
  errors = z.lower.standard_error, z.upper.standard_error
  noise = 4 * np.hypot(*errors) + searches.ROUNDING
  return bool(abs(width) < resolved_nats and width > -noise and 3 * max(errors) < resolved_nats
              and not z.contradicted)


def _rungs(model: Machine, params, base_V, method, betas, history_R):
  """The machines of a ladder or a trajectory, from the base to the model."""
  if method == 'ladder':
    return tempering.scaled(params, base_V, annealing.linear(50) if betas is None else betas,
                            model=model)
  if method != 'trajectory':
    raise ValueError(f"no method {method!r}: 'annealing', 'ladder' or 'trajectory'")
  if history_R is None:
    raise ValueError('a trajectory needs history_R, snapshots of the training run')
  annealing.require_base(params, base_V)
  first = tempering.independent(base_V, params.w_VH.shape[1], model=model)
  return jax.tree.map(lambda a, past_R, b: jnp.concatenate([a[None], past_R, b[None]]),
                      first, history_R, params)
