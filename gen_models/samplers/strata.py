"""Strata of states by hidden activity, and log Z from above by what chains did in them.

  log Z <= log Z_0 + log sum_m P_m / r_m,    P_m = P(a forward run ends in R_m),
                                             r_m = E_{v ~ p(v | R_m)}[w_reverse(v)].

gen_models.samplers.searches says why, and what else looks for mass that was missed.

Axis suffixes: C chains, N states, V visible, H hidden, M strata. Nats.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import rbm
from gen_models.samplers import annealing
from gen_models.samplers.annealing import Machine

NUM_STRATA = 12


def stratified(log_z0: float, forward_C, ended_C, reverse_C, began_C,
               num_strata: int) -> tuple[annealing.Estimate, int]:
  """log Z from above: log Z_0 + log sum_m P_m / r_m, and how many strata no forward chain ended in.

  P_m = (n_m + 1/2) / (C + M/2) where n_m forward chains ended in stratum m (Jeffreys' prior); r_m
  is the mean weight of the reverse chains that began there. A stratum in which no reverse chain
  began contributes the weights of the forward chains that ended there. The standard error accounts
  for the noise of P_m and of r_m, by the delta method.

  Args:
    log_z0: log Z_0 of the base.
    forward_C: log-weights of Z / Z_0, one for each forward chain.
    ended_C: strata in which the forward chains ended, integers in [0, M).
    reverse_C: log-weights of Z_0 / Z, one for each reverse chain; any number of them.
    began_C: strata in which the reverse chains began.
    num_strata: M.
  """
  return terms_of(log_z0, forward_C, ended_C, reverse_C, began_C, num_strata).total(reverse_C)


class Terms(NamedTuple):
  """Strata in which any chain was: index, log Z_0 + log P_m / r_m, its variance, P_m, chains."""

  index_M: np.ndarray
  log_z_M: np.ndarray
  variance_M: np.ndarray  # of the term over its square: that of P_m and that of r_m
  of_mean_M: np.ndarray  # the part of it that r_m has
  share_M: np.ndarray
  num_forward: float
  num_uncovered: int

  def total(self, reverse_C) -> tuple[annealing.Estimate, int]:
    """(estimate of log Z from above, number of strata in which no forward chain ended)."""
    log_sum = np.logaddexp.reduce(self.log_z_M)
    part_M = np.exp(self.log_z_M - log_sum)  # of Z, by stratum
    variance = (part_M**2 @ self.of_mean_M
                + (np.sum(part_M**2 / self.share_M) - 1) / self.num_forward)
    return annealing.Estimate(float(log_sum), float(np.sqrt(max(variance, 0.0))),
                              annealing.effective_sample_size(reverse_C), reverse_C,
                              0), self.num_uncovered


def terms_of(log_z0, forward_C, ended_C, reverse_C, began_C, num_strata) -> Terms:
  """The terms of `stratified`."""
  kept = [m for m in range(num_strata) if np.any(ended_C == m) or np.any(began_C == m)]
  total = len(forward_C) + len(kept) / 2
  spread = _relative_spread(reverse_C)  # over all reverse chains, for strata that have only one
  log_z, of_mean, shares = [], [], []
  for m in kept:
    here_C, there_C = forward_C[ended_C == m], reverse_C[began_C == m]
    share = (len(here_C) + 0.5) / total
    if len(there_C):
      log_z.append(log_z0 + np.log(share) - _log_mean(there_C))
      cv = _relative_spread(there_C) if len(there_C) > 1 else spread
      of_mean.append(cv**2 / len(there_C))
    else:
      log_z.append(log_z0 + np.logaddexp.reduce(here_C) - np.log(len(forward_C)))
      of_mean.append(0.0)
    shares.append(share)
  share_M, of_mean_M = np.array(shares), np.array(of_mean)
  return Terms(np.array(kept), np.array(log_z), of_mean_M + (1 - share_M) / (share_M * total),
                of_mean_M, share_M, total, sum(not np.any(ended_C == m) for m in kept))


def _log_mean(log_w_C) -> float:
  return float(np.logaddexp.reduce(log_w_C) - np.log(len(log_w_C)))


def _relative_spread(log_w_C) -> float:
  """Standard deviation over mean of the weights."""
  w_C = np.exp(log_w_C - np.max(log_w_C))
  return float(w_C.std(ddof=1) / w_C.mean()) if len(w_C) > 1 else 1.0


class Partition(NamedTuple):
  """Assigns states to strata: the index of the centre nearest to E[h | v]."""

  params: Any
  centre_MH: np.ndarray
  model: Machine = rbm

  @property
  def num(self) -> int:
    return len(self.centre_MH)

  def __call__(self, v_NV) -> np.ndarray:
    return _nearest(np.asarray(_hidden_mean(self.params, jnp.asarray(v_NV), self.model)),
                    self.centre_MH)


def partition(params, states, num_strata: int = NUM_STRATA, *,
              model: Machine = rbm) -> Partition:
  """k-means on the hidden means of all states; the first centres are farthest from each other.

  Gonzalez (1985), Clustering to minimize the maximum intercluster distance; Lloyd (1982).
  """
  x_NH = np.concatenate([np.asarray(_hidden_mean(params, jnp.asarray(v_NV), model))
                         for v_NV in states])
  centres = [x_NH[np.argmax(np.sum((x_NH - x_NH.mean(0)) ** 2, axis=1))]]
  nearest_N = np.full(len(x_NH), np.inf)
  while len(centres) < num_strata:
    nearest_N = np.minimum(nearest_N, np.sum((x_NH - centres[-1]) ** 2, axis=1))
    if nearest_N.max() < 1e-6:
      break
    centres.append(x_NH[np.argmax(nearest_N)])
  centre_MH = np.stack(centres)
  for _ in range(10):
    label_N = _nearest(x_NH, centre_MH)
    centre_MH = np.stack([x_NH[label_N == m].mean(0) if np.any(label_N == m) else centre_MH[m]
                          for m in range(len(centre_MH))])
  return Partition(params, centre_MH, model)


def _nearest(x_NH, centre_MH) -> np.ndarray:
  distance_NM = np.sum(centre_MH**2, axis=1) - 2 * x_NH @ centre_MH.T
  return np.argmin(distance_NM, axis=1)


@functools.partial(jax.jit, static_argnums=2)
def _hidden_mean(params, v_NV, model: Machine) -> jax.Array:
  return model.hidden_mean(params, v_NV)
