"""Moments of draws against those of data: the first, the second and third connected ones.

  m_i = <x_i>,    c_ij = <(x_i - m_i)(x_j - m_j)>,    t_ijk = <(x_i - m_i)(x_j - m_j)(x_k - m_k)>

over units of different groups (columns of letters; a unit is a group by itself otherwise), compared
by Pearson's correlation over all i, all pairs i < j, and triples drawn at random with a fixed seed.
The same correlation between two halves of data says how far that can go with so few rows.

Axis suffixes: N rows, D units, T triples.

Tkacik, Marre, Amodei, Schneidman, Bialek & Berry (2014), Searching for collective behavior in a
large network of sensory neurons (third moments and the number of active neurons as tests of a
model that was fitted to others).
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
  """Moments of rows: of every unit, of pairs and of triples of units."""

  first: np.ndarray
  second: np.ndarray
  third: np.ndarray


ORDERS = ('first', 'second', 'third')


def moments(x_ND, weights_N=None, *, group: int = 1, num_triples: int = 20_000) -> Moments:
  """Moments of rows, in an order that depends on D, `group` and `num_triples` only.

  Args:
    x_ND: rows.
    weights_N: of rows; None for equal ones.
    group: units of one column, which exclude each other.
    num_triples: T at most.
  """
  x_ND = np.asarray(x_ND, np.float32)
  share_N = np.full(len(x_ND), 1 / len(x_ND)) if weights_N is None else (
    np.asarray(weights_N, np.float64) / np.sum(weights_N))
  mean_D = share_N @ x_ND
  about_ND = (x_ND - mean_D).astype(np.float32)
  pair_DD = about_ND.T @ (about_ND * share_N[:, None].astype(np.float32))
  column_D = np.arange(x_ND.shape[1]) // group
  i, j = np.triu_indices(x_ND.shape[1], 1)
  apart = column_D[i] != column_D[j]
  triples = _triples(column_D, num_triples)
  about_DN = np.ascontiguousarray(about_ND.T)  # gathered by rows, which is several times quicker
  third_T = np.concatenate([
    (about_DN[a] * about_DN[b] * about_DN[c]) @ share_N
    for a, b, c in (part.T for part in np.array_split(triples, len(triples) // 500 + 1))])
  return Moments(mean_D, pair_DD[i[apart], j[apart]], third_T)


def _triples(column_D, num: int) -> np.ndarray:
  """Units of three different columns, [T, 3], the same for the same columns; each row once."""
  rng = np.random.default_rng(0)
  drawn_T3 = np.sort(rng.integers(0, len(column_D), (2 * num, 3)), axis=1)
  a, b, c = column_D[drawn_T3.T]
  good_T3 = np.unique(drawn_T3[(a != b) & (b != c) & (a != c)], axis=0)
  return rng.permutation(good_T3)[:num]


def agreement(of_model: Moments, of_data: Moments) -> dict[str, float]:
  """Pearson's correlation of the moments of each order; 0 where one of both does not vary."""
  found = {}
  for order in ORDERS:
    x, y = getattr(of_model, order), getattr(of_data, order)
    spread = np.std(x) * np.std(y)
    found[f'{order}_moment_correlation'] = float(
      np.mean((x - x.mean()) * (y - y.mean())) / spread if spread > 0 else 0.0)
  return found


def active(x_ND) -> np.ndarray:
  """p(k units are on), k = 0 .. D, [D + 1], of rows of zeros and ones."""
  x_ND = np.asarray(x_ND)
  return np.bincount(x_ND.sum(1).astype(int), minlength=x_ND.shape[1] + 1) / len(x_ND)


def total_variation(p_K, q_K) -> float:
  """sum_k |p_k - q_k| / 2, between 0 and 1."""
  return float(np.abs(np.asarray(p_K) - np.asarray(q_K)).sum() / 2)
