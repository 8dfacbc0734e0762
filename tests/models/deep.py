"""Deep belief networks small enough to enumerate, in NumPy float64, from the definition."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.special

from gen_models.models import dbn, rbm
from tests import oracle


class Exact(NamedTuple):
  """A: visible states. Q: labels, one where there is none."""

  v_AV: np.ndarray
  p_AQ: np.ndarray      # p(v, y)
  log_partition: float  # of the top layer


def machine(num_visible, num_hidden, scale, seed) -> rbm.Params:
  """All parameters normal, so b and c matter as much as W."""
  draws = np.random.default_rng(seed)
  return rbm.Params(*(jnp.asarray(scale * draws.normal(size=shape), jnp.float32)
                      for shape in ((num_visible, num_hidden), num_visible, num_hidden)))


def stack(*sizes, num_labels=0, scale=1.0, seed=0) -> dbn.Params:
  """sizes: visible, h_1, .., h_L."""
  pairs = [list(pair) for pair in zip(sizes[:-1], sizes[1:])]
  pairs[-1][0] += num_labels
  return dbn.Params(tuple(machine(*pair, scale, 10 * seed + i) for i, pair in enumerate(pairs)))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def product(p_SD, x_AD):
  """prod_d p_d^x_d (1 - p_d)^(1 - x_d) of every x under every p, [S, A]."""
  return np.exp(np.log(p_SD) @ x_AD.T + np.log1p(-p_SD) @ (1 - x_AD).T)


def exact(params: dbn.Params, num_labels: int = 0) -> Exact:
  """p(v, y) by summing over all states of all layers."""
  *lower, top = (oracle.float64(layer) for layer in params.layers)
  num_features = len(top.b_V) - num_labels
  x_SF, y_QQ = oracle.states(num_features), np.eye(max(1, num_labels), num_labels)
  h_TH = oracle.states(len(top.c_H))
  seen_SQV = np.concatenate([np.broadcast_to(a, (len(x_SF), len(y_QQ), a.shape[-1])) for a in (
    x_SF[:, None], y_QQ[None])], axis=-1)
  minus_energy_SQT = (seen_SQV @ top.b_V)[..., None] + h_TH @ top.c_H + seen_SQV @ top.w_VH @ h_TH.T
  log_z = scipy.special.logsumexp(minus_energy_SQT)
  p_SQ = np.exp(minus_energy_SQT - log_z).sum(-1)
  for layer in reversed(lower):
    h_SH, x_AV = oracle.states(len(layer.c_H)), oracle.states(len(layer.b_V))
    p_SQ = product(sigmoid(layer.b_V + h_SH @ layer.w_VH.T), x_AV).T @ p_SQ
  return Exact(oracle.states(len(params.layers[0].b_V)), p_SQ, float(log_z))


def posterior(layer: rbm.Params, x_AV):
  """q(h | x) of every x for every h, [A, S]."""
  layer = oracle.float64(layer)
  return product(sigmoid(layer.c_H + np.asarray(x_AV, np.float64) @ layer.w_VH),
                 oracle.states(len(layer.c_H)))


def bound(params: dbn.Params, num_labels: int = 0):
  """E_q[log p(v, h_1, .., h_{L-1}) - log q(h_1, .., h_{L-1} | v)] of every v, enumerated; [A]."""
  *lower, _ = params.layers
  if not lower:
    return np.log(exact(params, num_labels).p_AQ.sum(1))
  above = bound(dbn.Params(params.layers[1:]), num_labels)
  layer = oracle.float64(lower[0])
  x_AV, h_SH = oracle.states(len(layer.b_V)), oracle.states(len(layer.c_H))
  q_AS = posterior(lower[0], x_AV)
  log_p_AS = np.log(product(sigmoid(layer.b_V + h_SH @ layer.w_VH.T), x_AV)).T
  return np.sum(q_AS * (log_p_AS - np.log(q_AS) + above), axis=1)
