"""Diagnostics of importance weights: the standard error of their mean, and whether it is reliable.

  standard error  of log (1/K) sum_k w_k, by the jackknife:
                  var = (K-1)/K sum_k (a_k - mean a)^2,    a_k = log(1 - w_k / sum_j w_j)
  Pareto k        shape of the generalised Pareto distribution fitted to the largest weights; above
                  0.7, K samples cannot estimate the error of their mean (Vehtari et al., 2024)

The delta method's error, var = 1/S - 1/K with S the effective sample size, is too small wherever S
is small: measured on Gaussian proposals of 1 to 50 dimensions it is 0.24 to 0.9 of the standard
deviation over keys, and 0 with one sample, while the root mean square of the jackknife's is 0.92 to
1.03 of it with 4 samples or more.

Only the largest weights are kept one by one; sums are enough for the others, so weights can be
streamed.

Efron & Stein (1981), The jackknife estimate of variance; Zhang & Stephens (2009), A new and
efficient estimation method for the generalized Pareto distribution; Vehtari, Simpson, Gelman, Yao &
Gabry (2024), Pareto smoothed importance sampling.

Axis suffixes: K samples, N images, M largest weights. Nats.
"""

import math
from typing import NamedTuple

import numpy as np

FEWEST = 4  # samples from which the jackknife is right
HOLLOW_K = 0.7  # above it a mean of weights is not to be trusted
HOLLOW_SHARE = 0.25  # of images with such a k; of k = 0.5 itself an eighth is estimated above 0.7


class Summary(NamedTuple):
  """Weights of N images, K each.

  Attributes:
    log_top_MN: logarithms of the largest weights, in any order.
    log_rest_N: log of the sum of all others; -inf where there are none.
    log_rest_squares_N: log of the sum of their squares.
    num_samples: K.
  """

  log_top_MN: np.ndarray
  log_rest_N: np.ndarray
  log_rest_squares_N: np.ndarray
  num_samples: int


def summary(log_w_KN) -> Summary:
  """Of weights that are all at hand."""
  log_w_KN = np.asarray(log_w_KN, np.float64)
  none_N = np.full(log_w_KN.shape[1], -np.inf)
  return Summary(log_w_KN, none_N, none_N, len(log_w_KN))


def num_tail(num_samples: int) -> int:
  """min(K / 5, 3 sqrt K) weights are the tail; 0 where that would be fewer than 5."""
  tail = int(min(0.2 * num_samples, 3 * math.sqrt(num_samples)))
  return tail if tail >= 5 else 0


def num_top(num_samples: int) -> int:
  """The weights that have to be kept one by one: the tail and the one below it, all of a few."""
  return num_tail(num_samples) + 1 if num_tail(num_samples) else num_samples


def log_mean_variance(weights: Summary) -> np.ndarray:
  """The jackknife's variance of log (1/K) sum_k w_k, [N]; inf from fewer than FEWEST samples.

  Of the weights that are not kept one by one, a is taken linear in their shares.
  """
  if weights.num_samples < FEWEST:
    return np.full(len(weights.log_rest_N), np.inf)
  top_MN = np.sort(np.asarray(weights.log_top_MN, np.float64), axis=0)[::-1]
  rest_N = np.asarray(weights.log_rest_N, np.float64)
  with np.errstate(invalid='ignore'):  # weights that are not finite have no variance: nan
    all_N = np.logaddexp(np.logaddexp.reduce(top_MN, axis=0), rest_N)
    a_MN = np.log1p(-np.minimum(np.exp(top_MN - all_N), 1 - 1e-16))
    # The largest may be nearly all: what is left is summed without it.
    left_N = np.logaddexp(np.logaddexp.reduce(top_MN[1:], axis=0), rest_N)
    a_MN[0] = np.maximum(left_N - all_N, -1e6)
    k, others = weights.num_samples, weights.num_samples - len(top_MN)
    p_N = np.exp(rest_N - all_N) / max(others, 1)  # their mean
    a_N = np.log1p(-p_N)
    variance_N = np.maximum(np.exp(weights.log_rest_squares_N - 2 * all_N) - others * p_N**2, 0)
    sum_N = a_MN.sum(0) + others * a_N
    squares_N = (a_MN**2).sum(0) + others * a_N**2 + variance_N / (1 - p_N)**2
    return (k - 1) / k * np.maximum(squares_N - sum_N**2 / k, 0)


def pareto_k(weights: Summary) -> np.ndarray | None:
  """k of each image, [N], from the tail of its weights; None where there are too few samples.

  nan where the tail is constant.
  """
  m = num_tail(weights.num_samples)
  if not m:
    return None
  top_MN = np.sort(np.asarray(weights.log_top_MN, np.float64), axis=0)[-(m + 1):]
  w_MN = np.exp(top_MN - top_MN[-1])
  return generalised_pareto_k(w_MN[1:] - w_MN[0])


def generalised_pareto_k(x_MN) -> np.ndarray:
  """k of exceedances that are sorted upwards along the first axis, [N].

  The posterior mean of Zhang & Stephens, drawn towards 0.5 as by ten more observations.
  """
  m = len(x_MN)
  num = 30 + int(math.sqrt(m))
  quarter_N, last_N = x_MN[int(m / 4 + 0.5) - 1], x_MN[-1]
  with np.errstate(all='ignore'):
    b_B = 1 - np.sqrt(num / (np.arange(1, num + 1) - 0.5))
    b_BN = b_B[:, None] / (3 * quarter_N) + 1 / last_N
    k_BN = np.stack([np.log1p(-b_N * x_MN).mean(0) for b_N in b_BN])
    log_p_BN = m * (np.log(-b_BN / k_BN) - k_BN - 1)
    p_BN = np.exp(log_p_BN - np.logaddexp.reduce(log_p_BN, axis=0))
    k_N = np.log1p(-(p_BN * b_BN).sum(0) * x_MN).mean(0)
  return (m * k_N + 10 * 0.5) / (m + 10)


def remarks(weights: Summary, share_N=None) -> dict:
  """The entries of a record for Pareto k: {'pareto_k': quantiles, 'hollow': ..}, {} if unknown.

  hollow is true where more than HOLLOW_SHARE of the images have a k above HOLLOW_K. share_N [N] are
  the shares of the images in what is averaged, which those without a share are left out of; None
  for equal ones.
  """
  k_N = pareto_k(weights)
  if k_N is None or not np.isfinite(k_N).any():
    return {}
  share_N = np.full(len(k_N), 1 / len(k_N)) if share_N is None else share_N
  known_N = k_N[np.isfinite(k_N) & (share_N > 0)]
  if not len(known_N):
    return {}
  share = float(np.sum(share_N, where=np.isfinite(k_N) & (k_N > HOLLOW_K)))
  return {'pareto_k': {'median': float(np.median(known_N)), 'largest': float(known_N.max()),
                       'share_above_0.7': share},
          'hollow': share > HOLLOW_SHARE}


def warnings(importance: dict) -> list[str]:
  """Lines for the remarks of a record that has `importance_nats`, of its `entry`."""
  return ['importance_nats is hollow: too few importance weights carry it for its standard error '
          'to be known'] if importance.get('hollow') else []


def error_of_mean(variance_N, share_N) -> float:
  """Standard error of sum_n share_n x_n; what has no share has no part in it, were it unbounded."""
  return float(np.sqrt(np.asarray(share_N)**2 @ np.where(share_N > 0, variance_N, 0)))


def entry(variance_N, log_top_MN, num_samples: int, share_N=None) -> dict:
  """The entry of a record about importance weights: the error of a mean over images, `remarks`.

  Args:
    variance_N: `log_mean_variance` of each image.
    log_top_MN: the largest log-weights, num_top(K) of them.
    num_samples: K.
    share_N: of the images in the mean, which sum to 1; None for equal ones.
  """
  share_N = np.full(len(variance_N), 1 / len(variance_N)) if share_N is None else share_N
  error = error_of_mean(variance_N, share_N)
  none_N = np.full(len(variance_N), -np.inf)
  return {'standard_error': error if np.isfinite(error) else None,
          **remarks(Summary(log_top_MN, none_N, none_N, num_samples), share_N)}
