"""Contacts of a protein from couplings between the columns of an alignment.

Couplings J_ij(a, b) between the letters of two columns are compared as

  F_ij = sqrt(sum_ab J_ij(a, b)^2)                         of the zero-sum gauge, in which
                                                           sum_a J_ij(a, b) = sum_b J_ij(a, b) = 0,
  S_ij = F_ij - F_i. F_.j / F_..                           average product correction,

and the pairs |i - j| >= 5 with the largest S are predicted to touch. `mean_field` is the model
behind every number of this kind that has been published first: J = -C^-1, C the covariance of the
letters. `effective` are the couplings of a Boltzmann machine with categorical visible units.

Axis suffixes: N sequences, L columns, Q letters, D = L Q, H hidden, P pairs.

Morcos, Pagnani, Lunt, Bertolino, Marks, Sander, Zecchina, Onuchic, Hwa & Weigt (2011),
Direct-coupling analysis of residue coevolution captures native contacts across many protein
families; Ekeberg, Loevkvist, Lan, Weigt & Aurell (2013), Improved contact prediction in proteins
(the Frobenius norm); Dunn, Wahl & Gloor (2008), Mutual information without the influence of
phylogeny or entropy dramatically improves residue contact prediction (the correction); Tubiana,
Cocco & Monasson (2019), Learning protein constitutive motifs from sequence data.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

SEPARATION = 5  # columns; nearer pairs touch along the chain


def frequencies(v_ND, weights_N=None, pseudo_count: float = 0.0,
                num_letters: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """(f_i(a) [D], f_ij(a, b) [D, D]) of one-of-Q rows, float64.

  Args:
    v_ND: one-of-Q columns side by side.
    weights_N: of rows; None for equal ones.
    pseudo_count: x in f <- (1 - x) f + x / Q for each letter and x / Q^2 for each pair.
    num_letters: Q.
  """
  v_ND = np.asarray(v_ND, np.float64)
  share_N = np.full(len(v_ND), 1 / len(v_ND)) if weights_N is None else (
    np.asarray(weights_N, np.float64) / np.sum(weights_N))
  f_D, f_DD = share_N @ v_ND, (v_ND * share_N[:, None]).T @ v_ND
  f_DD = (1 - pseudo_count) * f_DD + pseudo_count / num_letters**2
  f_D = (1 - pseudo_count) * f_D + pseudo_count / num_letters
  for i in range(0, len(f_D), num_letters):  # a column with itself
    f_DD[i:i + num_letters, i:i + num_letters] = np.diag(f_D[i:i + num_letters])
  return f_D, f_DD


def mean_field(v_ND, weights_N, num_letters: int, pseudo_count: float = 0.5) -> np.ndarray:
  """J = -C^-1 of one-of-Q rows, [L, Q, L, Q]; C is over all letters but the last, whose J is 0."""
  f_D, f_DD = frequencies(v_ND, weights_N, pseudo_count, num_letters)
  num_columns = len(f_D) // num_letters
  free = np.arange(len(f_D)).reshape(num_columns, num_letters)[:, :-1].ravel()
  covariance = (f_DD - np.outer(f_D, f_D))[np.ix_(free, free)]
  j = np.zeros((num_columns, num_letters, num_columns, num_letters))
  j[:, :-1, :, :-1] = -np.linalg.inv(covariance).reshape(
    num_columns, num_letters - 1, num_columns, num_letters - 1)
  return j


def effective(machine: Any, params, v_ND, weights_N=None) -> np.ndarray:
  """J_ij(a, b) = sum_m w_im(a) w_jm(b) Var(h_m | v), the variance averaged over data, [L, Q, L, Q].

  -d^2 F / dv_i(a) dv_j(b) of a machine with categorical visible units, averaged over its data.
  """
  y_NH = jnp.asarray(v_ND) @ params.w_VH
  hidden = machine.hidden
  variance_NH = hidden.square(params.c_H, y_NH) - hidden.mean(params.c_H, y_NH)**2
  variance_H = np.average(np.asarray(variance_NH, np.float64), axis=0, weights=weights_N)
  w_DH = np.asarray(params.w_VH, np.float64)
  num_letters = machine.visible.group
  num_columns = len(w_DH) // num_letters
  return ((w_DH * variance_H) @ w_DH.T).reshape(num_columns, num_letters, num_columns, num_letters)


def scores(j_LQLQ, gap: int | None = None) -> np.ndarray:
  """S [L, L] of couplings in any gauge, 0 on the diagonal.

  `gap` is the number of the letter that stands for no residue, where that one is left out of the
  norm, as Ekeberg et al. do because gaps come in stretches; Tubiana et al. count all letters.
  """
  j = np.asarray(j_LQLQ, np.float64)
  j = j - j.mean(1, keepdims=True)
  j = j - j.mean(3, keepdims=True)
  square_LQLQ = j**2
  if gap is not None:
    square_LQLQ = np.delete(np.delete(square_LQLQ, gap, 1), gap, 3)
  f_LL = np.sqrt(square_LQLQ.sum((1, 3)))
  np.fill_diagonal(f_LL, 0.0)
  s_LL = f_LL - np.outer(f_LL.mean(0), f_LL.mean(0)) / f_LL.mean()
  np.fill_diagonal(s_LL, 0.0)
  return s_LL


def agreement(s_LL, contact_LL, separation: int = SEPARATION) -> dict[str, float]:
  """Precision of the L/2, L and 2 L pairs with the largest scores, and average precision.

  Args:
    s_LL: scores, larger for pairs more likely to touch.
    contact_LL: which do.
    separation: least |i - j| of the pairs that count.

  Raises:
    ValueError: the shapes differ, or no pair touches.
  """
  s_LL, contact_LL = np.asarray(s_LL), np.asarray(contact_LL, bool)
  if s_LL.shape != contact_LL.shape or s_LL.ndim != 2:
    raise ValueError(f'scores of {s_LL.shape} pairs and contacts of {contact_LL.shape}: give the '
                     'contacts of the columns of this alignment')
  i_P, j_P = np.triu_indices(len(s_LL), separation)
  touch_P = contact_LL[i_P, j_P][np.argsort(-s_LL[i_P, j_P], kind='stable')]
  if not touch_P.any():
    raise ValueError(f'no two columns {separation} or more apart touch: give the contacts of this '
                     'family')
  precision_P = np.cumsum(touch_P) / np.arange(1, len(touch_P) + 1)
  at = {'half_L': len(s_LL) // 2, 'L': len(s_LL), '2L': 2 * len(s_LL)}
  return {**{f'contact_precision_{name}': float(precision_P[min(k, len(precision_P)) - 1])
             for name, k in at.items()},
          'contact_average_precision': float(precision_P[touch_P].mean())}
