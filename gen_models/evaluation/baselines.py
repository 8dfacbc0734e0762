"""Baselines for every model: exact densities that need no network and no sampling."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation import likelihood
from gen_models.models import gaussian, mixture


class Weights(NamedTuple):
  """Weights of the rows of each split, [N]; None where all are equal.

  Densities are fitted to weighted rows, chosen by the weighted mean and scored by it.
  """

  train: Any = None
  valid: Any = None
  test: Any = None


_log_likelihood = jax.jit(mixture.log_likelihood)
_log_density = jax.jit(gaussian.log_likelihood)
_fit = jax.jit(mixture.fit, static_argnames='num_classes')


def independent_pixels(train_NV, test_NV, *, binarisation: str,
                       weights: Weights = Weights()) -> dict:
  """p(x) = prod_i m_i^x_i (1 - m_i)^(1 - x_i), m the training means (one pseudo-image added)."""
  params = _fit(jax.random.key(0), jnp.asarray(train_NV), num_classes=1,
                weights_N=_array(weights.train))
  return likelihood.score(_log_likelihood(params, jnp.asarray(test_NV)), kind='exact',
                          binarisation=binarisation, weights_N=weights.test, num_classes=1)


def independent_columns(train_ND, test_ND, num_letters: int, *, train_weights_N=None,
                        test_weights_N=None, pseudo_rows: float = 1.0) -> dict:
  """p(x) = prod_i f_i(x_i), f_i the share of each letter in column i of the training rows.

  Args:
    train_ND, test_ND: one-of-Q columns side by side.
    num_letters: Q.
    train_weights_N, test_weights_N: of rows; None for equal ones.
    pseudo_rows: rows of evenly shared letters that are added to the training rows' weight.
  """
  train_ND = np.asarray(train_ND, np.float64)
  weights_N = np.ones(len(train_ND)) if train_weights_N is None else np.asarray(
    train_weights_N, np.float64)
  counts_D = weights_N @ train_ND + pseudo_rows / num_letters
  log_f_D = np.log(counts_D / (weights_N.sum() + pseudo_rows))
  return likelihood.score(np.asarray(test_ND, np.float64) @ log_f_D, kind='exact',
                          binarisation='categorical', weights_N=test_weights_N)


def independent_counts(train_NV, test_NV, *, weights: Weights = Weights(),
                       pseudo_rows: float = 1.0) -> dict:
  """p(x) = prod_i m_i^x_i exp(-m_i) / x_i!, m the training means.

  Args:
    train_NV, test_NV: counts.
    weights: of rows.
    pseudo_rows: rows of the mean count of all columns that are added to the training rows.
  """
  import scipy.special  # slow to import, and used for counts only
  train_NV, test_NV = (np.asarray(x, np.float64) for x in (train_NV, test_NV))
  weights_N = np.ones(len(train_NV)) if weights.train is None else np.asarray(weights.train)
  typical = max(float(np.average(train_NV.mean(1), weights=weights_N)), 1e-6)
  m_V = (weights_N @ train_NV + pseudo_rows * typical) / (weights_N.sum() + pseudo_rows)
  log_p_N = (test_NV * np.log(m_V) - m_V - scipy.special.gammaln(test_NV + 1)).sum(1)
  return likelihood.score(log_p_N, kind='exact', binarisation='counts', weights_N=weights.test)


def independent_levels(train_NV, test_NV, levels: int, *, weights: Weights = Weights(),
                       pseudo_rows: float = 1.0) -> dict:
  """p(x) = prod_i f_i(x_i), f_i the share of each level in column i of the training rows.

  Args:
    train_NV, test_NV: k / n, k = 0 .. n.
    levels: n.
    weights: of rows.
    pseudo_rows: rows of evenly shared levels that are added to the training rows.
  """
  train_VN, test_VN = (np.rint(levels * np.asarray(x)).astype(int).T for x in (train_NV, test_NV))
  weights_N = np.ones(train_VN.shape[1]) if weights.train is None else np.asarray(weights.train)
  log_p_N = np.zeros(test_VN.shape[1])
  for train_N, test_N in zip(train_VN, test_VN, strict=True):
    counts = np.bincount(train_N, weights_N, levels + 1) + pseudo_rows / (levels + 1)
    log_p_N += np.log(counts / counts.sum())[test_N]
  return likelihood.score(log_p_N, kind='exact', binarisation='levels', weights_N=weights.test)


def bernoulli_mixture(train_NV, valid_NV, test_NV, *, binarisation: str,
                      num_classes=(20, 40, 80), pseudo_counts=(0.3, 1.0, 3.0),
                      weights: Weights = Weights()) -> dict:
  """The mixture of Bernoullis that does best on validation images, of those fitted by EM.

  Classes and pseudo-count are chosen on the validation split, the score is of the test split.
  """
  train_NV, valid_NV = jnp.asarray(train_NV), jnp.asarray(valid_NV)
  train_N = _array(weights.train)
  fits = [(q, a, _fit(jax.random.key(0), train_NV, num_classes=q, pseudo_count=a,
                      weights_N=train_N))
          for q in num_classes for a in pseudo_counts]
  classes, pseudo_count, params = max(
    fits, key=lambda fit: _mean(_log_likelihood(fit[2], valid_NV), weights.valid))
  return likelihood.score(_log_likelihood(params, jnp.asarray(test_NV)), kind='exact',
                          binarisation=binarisation, weights_N=weights.test, num_classes=classes,
                          pseudo_count=pseudo_count)


def full_gaussian(train_NV, valid_NV, test_NV, *, binarisation: str,
                  shrinkages=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
                  weights: Weights = Weights()) -> dict:
  """The Gaussian of full covariance, of real-valued images; shrinkage chosen on validation."""
  train_N = _array(weights.train)
  fits = [(s, gaussian.fit(jnp.asarray(train_NV), 'full', s, weights_N=train_N))
          for s in shrinkages]
  shrinkage, params = max(
    fits, key=lambda fit: _mean(_log_density(fit[1], jnp.asarray(valid_NV)), weights.valid))
  return likelihood.score(_log_density(params, jnp.asarray(test_NV)), kind='exact',
                          binarisation=binarisation, weights_N=weights.test, shrinkage=shrinkage)


def _array(weights_N) -> jax.Array | None:
  return None if weights_N is None else jnp.asarray(weights_N, jnp.float32)


def _mean(log_p_N, weights_N) -> float:
  if weights_N is None:
    return float(log_p_N.mean())
  return float(np.average(np.asarray(log_p_N, np.float64), weights=weights_N))
