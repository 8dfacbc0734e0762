"""Rows of a data set that are typical of it: instance selection.

  keep the rows of largest  -(h - m)' (S + e I)^-1 (h - m),   m and S mean and covariance of h

h are features of the rows, or the rows themselves. A generator that need not cover what is rare
spends its capacity on the rest (DeVries, Drozdzal & Taylor, 2020).

Axis suffixes: N rows, D features.
"""

import numpy as np


def densest_rows(features_ND, share: float, ridge: float = 1e-3) -> np.ndarray:
  """The `share` of the rows that are most likely under a Gaussian, as increasing indices.

  Args:
    features_ND: of every row.
    share: to keep, in (0, 1]; at least one row is kept.
    ridge: e in units of the mean variance, for features that do not vary.

  Raises:
    ValueError: another share, or features that are no finite matrix.
  """
  h_ND = np.asarray(features_ND, np.float64)
  if h_ND.ndim != 2 or not len(h_ND) or not np.all(np.isfinite(h_ND)):
    raise ValueError(f'features are finite numbers [N, D], not an array {list(h_ND.shape)}')
  if not 0 < share <= 1:
    raise ValueError(f'a share of the rows lies in (0, 1], not at {share}')
  h_ND = h_ND - h_ND.mean(0)
  covariance_DD = h_ND.T @ h_ND / len(h_ND)
  noise = ridge * max(np.trace(covariance_DD) / len(covariance_DD), 1e-12)
  solved_DN = np.linalg.solve(covariance_DD + noise * np.eye(len(covariance_DD)), h_ND.T)
  distance_N = np.sum(h_ND * solved_DN.T, axis=1)
  return np.sort(np.argsort(distance_N, kind='stable')[:max(1, round(share * len(h_ND)))])
