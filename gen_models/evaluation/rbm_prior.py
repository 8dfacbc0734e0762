"""The likelihood of a latent-variable model whose prior is a Boltzmann machine: a lower bound.

  log p(x) >= E[log (1/K) sum_k w_k] - log Z,    log w = log p(x | z) - E(z) - log q(z | x)

The first term is the importance-weighted bound of log-weights that leave log Z out. log Z is
enumerated where the machine's smaller side has few units; else annealing brackets it, and its upper
side is subtracted, so that what is left is a bound; both sides are in the record.

Axis suffixes: N images, C chains, V visible side of the machine, Z latents. Nats.

Burda, Grosse & Salakhutdinov (2015), Accurate and conservative estimates of MRF log-likelihood
using reverse annealing; (2016), Importance weighted autoencoders.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation import importance, likelihood
from gen_models.models import rbm, rbm_prior, units
from gen_models.samplers import annealing

_BLOCK = 5000  # images at once


@functools.partial(jax.jit, static_argnames='model')
def _encoded(key, model: rbm_prior.Model, params, x_NV):
  """(E_q[v | ..], v ~ q(v | x)) of the machine's visible side, [N, V] each."""
  code_NO = model.encode(params, x_NV)
  z = tuple(z_KNZ[0] for z_KNZ in model.sample_posterior(key, params, code_NO, 1))
  means = model.posterior_means(params, code_NO, z)
  return model.sides(means[-1])[0], model.sides(z[-1])[0]


def bracket(key, model: rbm_prior.Model, params, x_NV, *, max_enumerated: int = 20,
            num_chains: int = 100, betas=None, burn_in: int = 1000, seen: Sequence[Any] = (),
            thorough: bool = False, chains_NV=None, report: Callable[[str], None] | None = None
            ) -> tuple[annealing.Bracket, dict]:
  """log Z of the prior: exact where its smaller side has few units, else searches.bracket.

  Annealed forward from the mean of the posterior over training images, and in reverse from latents
  drawn for them. log Z is at least the log-sum over all distinct latents drawn for training images
  and for `seen`.

  Args:
    key: consumed.
    model: with its encoder.
    params: of the model.
    x_NV: training images.
    max_enumerated: units of the smaller side up to which Z is summed over all states.
    num_chains: C in each direction.
    betas: as searches.bracket.
    burn_in: as searches.bracket.
    seen: further images [N, V], such as those of the other splits.
    thorough: whether with all searches of samplers.thorough.
    chains_NV: visible states of the persistent chains of training, for the thorough ones.
    report: called with a line of progress.

  Returns:
    (annealing.Bracket, the entry of the record about the searches); exact: both sides equal,
    standard error 0, effective sample size inf, and nothing was searched.
  """
  if min(params.prior.w_VH.shape) <= max_enumerated:
    log_z = float(jax.jit(rbm.log_partition)(params.prior))
    exact = annealing.Estimate(log_z, 0.0, float('inf'), np.zeros(0), 0)
    return annealing.Bracket(log_z, exact, exact), {}
  key_encode, key_anneal = jax.random.split(key)
  blocks = [x_NV[i:i + _BLOCK] for x_NV in (x_NV, *seen) for i in range(0, len(x_NV), _BLOCK)]
  found = [_encoded(jax.random.fold_in(key_encode, i), model, params, jnp.asarray(x_BV))
           for i, x_BV in enumerate(blocks)]
  mean_NV, drawn_NV = (np.concatenate(parts) for parts in zip(*found, strict=True))
  rows = np.linspace(0, len(x_NV) - 1, num_chains).astype(int)
  searched, tour = likelihood.searched(
    key_anneal, params.prior, units.log_odds(mean_NV[:len(x_NV)].mean(0)), drawn_NV[rows],
    thorough=thorough, chains_NV=chains_NV, betas=betas, burn_in=burn_in, seen=[drawn_NV],
    report=report)
  return searched.bracket, likelihood.looked_at(searched) | tour


def score(key, model: rbm_prior.Model, params, x_NV, z: annealing.Bracket,
          searched: dict | None = None, *, binarisation: str, num_samples: int = 5000,
          report: Callable[[str], None] | None = None, **details) -> dict:
  """importance.bound less the upper side of log Z, a likelihood.score of kind 'bound'.

  `log_partition` is that side, `log_partition_sides` are both and `log_partition_error` is the
  standard error of the worse one, which joins the score's own. `resolved` says whether the sides
  agree (likelihood.resolved).

  Args:
    key: consumed.
    model: log Z is left out of its log-weights.
    params: of the model.
    x_NV: images to score.
    z, searched: log Z and the entry of the record about it, from `bracket`.
    binarisation: of the images.
    num_samples: K.
    report: called with lines of progress.
    **details: as of importance.bound; they go into the record.
  """
  sides = [side.log_partition for side in (z.lower, z.upper)]
  error = float(np.maximum(z.lower.standard_error, z.upper.standard_error))
  record = importance.bound(
    key, model._replace(log_partition=rbm_prior.left_out), params, x_NV, log_partition=max(sides),
    binarisation=binarisation, num_samples=num_samples, report=report,
    resolved=likelihood.resolved(z), log_partition_sides=sides,
    log_partition_error=error if np.isfinite(error) else None,
    **({'searches': searched, 'num_temperatures': z.lower.num_temperatures} if searched else {}),
    **details)
  if record['standard_error'] is not None:
    total = float(np.hypot(record['standard_error'], error))
    record['standard_error'] = total if np.isfinite(total) else None
  return record
