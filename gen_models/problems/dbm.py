"""Deep Boltzmann machines small enough to enumerate: the likelihood, its bound, pretraining.

The posterior of these machines is correlated enough that mean field is visibly not the likelihood:
the estimators that follow the bound have a problem of their own.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.deep import (
  coupled_posterior,
  deep,
  duplicated,
  mean_field_posterior,
)
from gen_models.estimators.directions import centred
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.negative import coupled, persistent
from gen_models.estimators.tempered import tempered
from gen_models.models import dbm, rbm
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(17)
BURN_IN = 30  # second eigenvalues lie below 0.72, held by tests/estimators/test_deep.py
NUM_LABELS = 3
PASSES = 60


def _balanced(model: dbm.DBM, scale: float) -> dbm.Params:
  """Biases undo the weights, so units are on about half the time."""
  weights = [scale * _draws.normal(size=pair) for pair in zip(model.sizes, model.sizes[1:])]
  biases = [0.5 * _draws.normal(size=size) for size in model.sizes]
  for k, w in enumerate(weights):
    biases[k] -= w.sum(1) / 2
    biases[k + 1] -= w.sum(0) / 2
  return dbm.Params(*(tuple(jnp.asarray(x, jnp.float32) for x in part)
                      for part in (weights, biases)))


MODEL = dbm.model((4, 3, 2))
DEEP = dbm.model((3, 2, 2, 2))
LABELLED = dbm.model((3, 3, 2), num_labels=NUM_LABELS)
PARAMS, DEEP_PARAMS = _balanced(MODEL, 1.5), _balanced(DEEP, 1.2)
LABELLED_PARAMS = _balanced(LABELLED, 1.2)
BATCH = jnp.asarray(_draws.random((6, 4)) < 0.6, jnp.float32)
DEEP_BATCH = BATCH[:, :3]
LABELLED_BATCH = (BATCH[:, :3], jnp.asarray([0, 1, 2, 2, 0, 2], jnp.int32))


def all_states(model: dbm.DBM):
  """Every state of every layer above the data, each [S, D_l]."""
  each = [np.eye(size) if layer.group > 1
          else np.array(list(itertools.product((0, 1), repeat=size)))
          for layer, size in zip(model.layers, model.sizes)]
  rows = np.array(list(itertools.product(*(range(len(x)) for x in each))))
  return [jnp.asarray(x[rows[:, k]], jnp.float32) for k, x in enumerate(each)]


def minus_energy(params, x):
  """-E of the states of all layers, written once more; [..]."""
  return sum(x_l @ b for x_l, b in zip(x, params.biases)) + sum(
    jnp.sum(below @ w * above, axis=-1) for below, w, above in zip(x, params.weights, x[1:]))


def log_partition(model, params):
  """log Z over all states."""
  return jax.nn.logsumexp(minus_energy(params, all_states(model)))


def likelihood_loss(model: dbm.DBM):
  """(params, v_BV) -> -mean log p(v), enumerated."""
  x_SD = all_states(dbm.DBM(model.sizes[1:], model.layers[1:]))

  def loss(params, v_BV):
    above = dbm.Params(params.weights[1:], params.biases[1:])
    log_p_BS = (v_BV @ params.biases[0])[:, None] + minus_energy(above, x_SD) + (
      v_BV @ params.weights[0] @ x_SD[0].T)
    return log_partition(model, params) - jnp.mean(jax.nn.logsumexp(log_p_BS, axis=1))

  return loss


def bound_loss(model: dbm.DBM):
  """(params, batch) -> -mean of the bound of the best q; its gradient, with q held still.

  q is found by passes over all layers, from means of 1/2; labels of a batch are held.
  """
  def means(params, v_BV, y_BQ):
    last = len(model.sizes) - 1

    def one_pass(_, m):
      m = list(m)
      for k in [*range(1, last + 1, 2), *range(2, last + 1, 2)]:
        y = params.biases[k] + m[k - 1] @ params.weights[k - 1]
        y = y + (m[k + 1] @ params.weights[k].T if k < last else 0)
        m[k] = jax.nn.sigmoid(y) if y_BQ is None or k < last else y_BQ
      return tuple(m)

    start = (v_BV, *(jnp.full((len(v_BV), size), 0.5) for size in model.sizes[1:]))
    return jax.lax.fori_loop(0, PASSES, one_pass, start)

  def loss(params, batch):
    v_BV, y_B = batch if isinstance(batch, tuple) else (batch, None)
    y_BQ = None if y_B is None else jax.nn.one_hot(y_B, model.sizes[-1])
    m = means(jax.lax.stop_gradient(params), v_BV, y_BQ)
    free = m[1:] if y_B is None else m[1:-1]
    entropy_B = -sum(jnp.sum(jax.scipy.special.xlogy(x, x) + jax.scipy.special.xlogy(1 - x, 1 - x),
                             axis=1) for x in free)
    return log_partition(model, params) - jnp.mean(minus_energy(params, m) + entropy_B)

  return loss


def duplicated_loss(visible: int, hidden: int):
  """(params, v_BV) -> -mean log p(v, .., v) of the RBM with copies of its sides, enumerated."""
  def loss(params, v_BV):
    wide = rbm.Params(jnp.tile(params.w_VH, (visible, hidden)), jnp.tile(params.b_V, visible),
                      jnp.tile(params.c_H, hidden))
    return -jnp.mean(rbm.log_likelihood(wide, jnp.tile(v_BV, (1, visible))))

  return loss


DBM = Problem('dbm', PARAMS, BATCH, likelihood_loss(MODEL),
              'deep Boltzmann machine of 4, 3 and 2 units', '-log p(v)', BURN_IN)
DBM_BOUND = DBM._replace(name='dbm_bound', loss=bound_loss(MODEL),
                         objective='minus the mean-field bound')
DBM_DEEP = Problem('dbm_deep_bound', DEEP_PARAMS, DEEP_BATCH, bound_loss(DEEP),
                   'deep Boltzmann machine of 3, 2, 2 and 2 units', 'minus the mean-field bound',
                   BURN_IN)
DBM_LABELLED = Problem('dbm_labelled_bound', LABELLED_PARAMS, LABELLED_BATCH, bound_loss(LABELLED),
                       'deep Boltzmann machine of 3, 3 and 2 units under a label of 3 classes',
                       'minus the mean-field bound of v and y', BURN_IN)
_small = rbm.Params(PARAMS.weights[1] / 1.5, PARAMS.biases[1], PARAMS.biases[2])
DBM_PRETRAINING = Problem('dbm_pretraining', _small, BATCH[:, :3], duplicated_loss(2, 2),
                          'RBM of 3 and 2 units, each there twice', '-log p(v, v)', BURN_IN)
PROBLEMS = (DBM, DBM_BOUND, DBM_DEEP, DBM_LABELLED, DBM_PRETRAINING)

_chains = persistent(chains=4)
_exact_q = dict(tolerance=1e-4, max_iterations=60)


def _variational(model, negative=_chains, **options):
  return deep(model, mean_field_posterior(model, **_exact_q), negative, **options)


ENTRIES = {
  'dbm_exact': DBM.entry(maximum_likelihood(MODEL.log_likelihood), deterministic=True),
  'dbm_coupled': DBM.entry(deep(
    MODEL, coupled_posterior(MODEL, steps=2), coupled(chains=4, steps=2))),
  'dbm_coupled_posterior_pcd': DBM.entry(deep(MODEL, coupled_posterior(MODEL), _chains), BURN_IN),
  'dbm_pcd': DBM_BOUND.entry(_variational(MODEL), BURN_IN),
  'dbm_pcd_centred': DBM_BOUND.entry(_variational(MODEL, direction=centred(0.1)), BURN_IN),
  'dbm_pt': DBM_BOUND.entry(_variational(MODEL, tempered(chains=4, rungs=4)), BURN_IN),
  'dbm_deep_pcd_centred': DBM_DEEP.entry(_variational(DEEP, direction=centred(0.1)), BURN_IN),
  'dbm_labelled_pcd': DBM_LABELLED.entry(_variational(LABELLED), BURN_IN),
  'dbm_pretraining_pcd_centred': DBM_PRETRAINING.entry(
    duplicated(contrastive(rbm, _chains, direction=centred(0.1)), 2, 2), BURN_IN),
}
