"""What the tests believe: enumeration in NumPy float64, from definitions, sharing no code with the
models; and the statistical tests, whose error rate is stated once, here.

A correct sampler fails a test of this file for one key in a million (SIGNIFICANCE); keys are
fixed, so a test passes or fails for ever.
"""

import itertools
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats

SIGNIFICANCE = 1e-6


class Joint(NamedTuple):
  """Of an RBM, by enumeration. A: visible states, S: hidden states."""

  v_AV: np.ndarray
  h_SH: np.ndarray
  p_AS: np.ndarray
  log_partition: float


def float64(tree):
  """The same NamedTuple of float64 arrays."""
  return type(tree)(*(np.asarray(x, np.float64) for x in tree))


def states(num_units: int) -> np.ndarray:
  """Every binary vector, [2^n, n], the first unit changing fastest."""
  rows = itertools.product((0.0, 1.0), repeat=num_units)
  return np.array([row[::-1] for row in rows]).reshape(2**num_units, num_units)


def index(x) -> np.ndarray:
  """The row of `states` that each binary vector is."""
  return np.asarray(x).astype(int) @ (1 << np.arange(x.shape[-1]))


def rbm_joint(params) -> Joint:
  """p(v, h) = exp(b.v + c.h + v.W.h) / Z for every v and h."""
  w_VH, b_V, c_H = float64(params)
  v_AV, h_SH = states(len(b_V)), states(len(c_H))
  x_AS = (v_AV @ b_V)[:, None] + (h_SH @ c_H)[None] + v_AV @ w_VH @ h_SH.T
  log_z = scipy.special.logsumexp(x_AS)
  return Joint(v_AV, h_SH, np.exp(x_AS - log_z), float(log_z))


def gibbs_kernel(joint: Joint) -> np.ndarray:
  """P(h -> h') of one Gibbs step, v ~ p(v | h) then h' ~ p(h' | v); [S, S]."""
  v_given_h_SA = (joint.p_AS / joint.p_AS.sum(0)).T
  h_given_v_AS = joint.p_AS / joint.p_AS.sum(1, keepdims=True)
  return v_given_h_SA @ h_given_v_AS


def assert_frequencies(cells, p_S):
  """Pearson chi-square of independent draws `cells` against probabilities p_S.

  Cells that expect fewer than 10 draws are pooled, so that the chi-square approximation holds.
  """
  observed = np.bincount(np.asarray(cells), minlength=len(p_S)).astype(float)
  expected = np.asarray(p_S, np.float64) * len(cells)
  rare = expected < 10
  if rare.any():
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
  p_value = scipy.stats.chisquare(observed, expected, sum_check=False).pvalue
  assert p_value > SIGNIFICANCE, f'draws do not follow the distribution: p = {p_value:.1e}'


def mean_p_value(x_ND, mean_D) -> float:
  """p-value of the means of independent rows being mean_D: largest |z|, Bonferroni over columns."""
  x_ND = np.asarray(x_ND, np.float64)
  error_D = np.maximum(x_ND.std(0, ddof=1) / np.sqrt(len(x_ND)), 1e-7)
  z = np.max(np.abs(x_ND.mean(0) - mean_D) / error_D)
  return min(1.0, x_ND.shape[1] * 2 * scipy.stats.norm.sf(z))
