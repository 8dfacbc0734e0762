"""Deep Boltzmann machines small enough to enumerate, in NumPy float64, from the definition."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from gen_models.models import dbm
from tests import oracle


class Exact(NamedTuple):
  """A: states of the data. S: states of all layers above them, one row of each layer's array."""

  v_AV: np.ndarray
  x_SD: tuple[np.ndarray, ...]
  minus_energy_AS: np.ndarray
  log_partition: float

  @property
  def log_p_A(self):
    return scipy.special.logsumexp(self.minus_energy_AS, axis=1) - self.log_partition

  @property
  def p_AS(self):
    return np.exp(self.minus_energy_AS - self.log_partition)

  @property
  def posterior_AS(self):
    return np.exp(self.minus_energy_AS - scipy.special.logsumexp(
      self.minus_energy_AS, axis=1, keepdims=True))


def params_of(model: dbm.DBM, scale=1.0, seed=0) -> dbm.Params:
  """All numbers normal, so biases matter as much as weights."""
  draws = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(scale * draws.normal(size=x.shape), jnp.float32),
                      jax.jit(model.init)(jax.random.key(0)))


def states_of(layer, size):
  """States of `size` units: 0 or 1, -1 or 1, or one of Q."""
  if layer.group > 1:
    return np.eye(size)
  return oracle.states(size) if layer.neutral == 0.5 else 2 * oracle.states(size) - 1


def exact(model: dbm.DBM, params: dbm.Params) -> Exact:
  """exp(-E) of every state of every layer, whose units have a bias and nothing else."""
  weights, biases = ([np.asarray(x, np.float64) for x in part] for part in params)
  v_AV, *above = [states_of(layer, size) for layer, size in zip(model.layers, model.sizes)]
  rows = np.array(list(itertools.product(*(range(len(x)) for x in above))))
  x_SD = tuple(x[rows[:, i]] for i, x in enumerate(above))
  minus_energy_S = sum(x @ b for x, b in zip(x_SD, biases[1:]))
  minus_energy_S = minus_energy_S + sum(
    np.sum(below @ w * above, axis=1) for below, w, above in zip(x_SD, weights[1:], x_SD[1:]))
  minus_energy_AS = (v_AV @ biases[0])[:, None] + minus_energy_S + v_AV @ weights[0] @ x_SD[0].T
  return Exact(v_AV, x_SD, minus_energy_AS, float(scipy.special.logsumexp(minus_energy_AS)))


def mean_field(model: dbm.DBM, params: dbm.Params, v_AV, passes=400):
  """(means of the layers above, the bound without log Z [A]) of Bernoulli units, by the definition:

  each mean is sigma of what its neighbours' means say, and the bound is E_q[-E] + H(q).
  """
  weights, biases = ([np.asarray(x, np.float64) for x in part] for part in params)
  num = len(biases) - 1
  m, up = [np.asarray(v_AV, np.float64)], np.asarray(v_AV, np.float64)
  for k in range(1, num + 1):
    up = scipy.special.expit(biases[k] + (1 if k == num else 2) * up @ weights[k - 1])
    m.append(up)
  for _ in range(passes):
    for k in [*range(1, num + 1, 2), *range(2, num + 1, 2)]:
      y = biases[k] + m[k - 1] @ weights[k - 1]
      if k < num:
        y = y + m[k + 1] @ weights[k].T
      m[k] = scipy.special.expit(y)
  bound_A = sum(x @ b for x, b in zip(m, biases)) + sum(
    np.sum(below @ w * above, axis=1) for below, w, above in zip(m, weights, m[1:]))
  entropy_A = sum(np.sum(scipy.special.entr(x) + scipy.special.entr(1 - x), axis=1) for x in m[1:])
  return m[1:], bound_A + entropy_A
