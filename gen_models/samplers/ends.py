"""Whether the ends of forward and reverse chains are samples of one distribution.

  z_g = (mean_F g - mean_R g) / sqrt(var_F + var_R),    apart = max_g |z_g|

mean_F the mean over states at which forward chains end, mean_R over those from which reverse chains
start, both weighted so that they estimate the mean under the model; g the free energy, and the
hidden activity E[h | v] along its first principal axes. Of each of them g is the rank among all
states of both samples, so that no outlier decides. Two directions may agree on log Z by luck while
they have seen different states: then they are apart.

With many states of equal weight each z is normal, and beyond LIMIT in 6 of 10^5 cases, so one of
the five is in less than one case of 3,000 if both directions have reached the model.

Wilcoxon (1945), Individual comparisons by ranking methods; Mann & Whitney (1947), On a test of
whether one of two random variables is stochastically larger than the other.

Axis suffixes: N states, V visible, H hidden, G functions, M strata.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import rbm
from gen_models.samplers.annealing import Machine

LIMIT = 4.0  # standard errors
NUM_AXES = 4  # principal axes of the hidden activity
FEWEST = 8  # states of either sample with which variances are known well enough
_DIGITS = 2  # of nats and of activities: free energies of one state differ in their last bits


class Sample(NamedTuple):
  """States with weights that make them a sample of the model.

  Attributes:
    v_NV: states.
    weight_N: their weights, of any sum.
    stratum_N: stratum of each state; None where there is one.
    variance_M: variance of the weight of each stratum over its square; None where it is 0.
  """

  v_NV: jax.Array
  weight_N: np.ndarray
  stratum_N: np.ndarray | None = None
  variance_M: np.ndarray | None = None


def apart(params, first: Sample, second: Sample, *, model: Machine = rbm) -> float:
  """The largest difference of two samples in standard errors; 0 of fewer than FEWEST states."""
  sizes = len(first.v_NV), len(second.v_NV)
  if min(sizes) < FEWEST:
    return 0.0
  v_NV = jnp.concatenate([jnp.asarray(sample.v_NV, jnp.float32) for sample in (first, second)])
  free_N, hidden_NH = (np.asarray(x, np.float64) for x in _seen(params, v_NV, model))
  hidden_NH -= hidden_NH.mean(0)
  axes_GH = np.linalg.svd(hidden_NH, full_matrices=False)[2][:NUM_AXES]
  g_NG = ranks(np.round(np.column_stack([free_N, hidden_NH @ axes_GH.T]), _DIGITS))
  (mean_G, variance_G), (other_G, other_variance_G) = (
    moments(sample, part_NG) for sample, part_NG in zip(
      (first, second), np.split(g_NG, [sizes[0]])))
  difference_G, error_G = np.abs(mean_G - other_G), np.sqrt(variance_G + other_variance_G)
  # Samples of the same single state have no variance, and do not differ.
  return float(np.max(difference_G / np.maximum(error_G, 1e-6)))


def ranks(x_NG) -> np.ndarray:
  """Ranks along the first axis over the number of rows, in (0, 1]; those of ties are their mean."""
  def of(x_N):
    _, which_N, count_U = np.unique(x_N, return_inverse=True, return_counts=True)
    return (np.cumsum(count_U) - (count_U - 1) / 2)[which_N] / len(x_N)

  return np.stack([of(x_N) for x_N in np.asarray(x_NG).T], axis=1)


def moments(sample: Sample, g_NG) -> tuple[np.ndarray, np.ndarray]:
  """(weighted mean of g, its variance), [G].

    var = sum_n w_n^2 (g_n - mean)^2 / (1 - sum_n w_n^2) + sum_m W_m^2 r_m (mean_m - mean)^2,

  w the weights over their sum, W_m their sum in stratum m, and r_m the stratum's relative variance.
  """
  w_N = np.asarray(sample.weight_N, np.float64)
  w_N = w_N / w_N.sum()
  mean_G = w_N @ g_NG
  size = max(1 - float(w_N @ w_N), 1e-12)
  variance_G = w_N**2 @ (g_NG - mean_G) ** 2 / size
  if sample.stratum_N is not None and sample.variance_M is not None:
    for m in np.unique(sample.stratum_N):
      here_N = sample.stratum_N == m
      total = w_N[here_N].sum()
      if total > 0:
        centre_G = w_N[here_N] @ g_NG[here_N] / total
        variance_G = variance_G + total**2 * sample.variance_M[m] * (centre_G - mean_G) ** 2
  return mean_G, variance_G


@functools.partial(jax.jit, static_argnums=2)
def _seen(params, v_NV, model: Machine):
  """(F(v), E[h | v])."""
  return model.free_energy(params, v_NV), model.hidden_mean(params, v_NV)
