"""A restricted Boltzmann machine small enough to enumerate.

Five visible and four hidden units, coupled strongly enough that one or three Gibbs steps are
far from equilibrium, so that CD-1 and CD-3 are visibly biased, and weakly enough that 20 Gibbs
steps are at it (second eigenvalue 0.6, held by test_battery.py). Biases undo the weights, so units
are on about half the time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.anchored import anchored
from gen_models.estimators.contrastive import contrastive, sparsity
from gen_models.estimators.directions import centred, enhanced, natural, standardised
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.missing import imputed
from gen_models.estimators.negative import (
  coupled,
  fast_persistent,
  mean_field,
  persistent,
  reconstruction,
  tap,
)
from gen_models.estimators.sampling_free import pseudo_likelihood, ratio_matching
from gen_models.estimators.tempered import tempered, trajectory
from gen_models.models import rbm
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(2)
_w_VH = 1.5 * _draws.normal(size=(5, 4))
PARAMS = rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
  _w_VH, -_w_VH.sum(1) / 2 + 0.5 * _draws.normal(size=5),
  -_w_VH.sum(0) / 2 + 0.5 * _draws.normal(size=4))))
BATCH = jnp.asarray(_draws.random((6, 5)) < 0.7, jnp.float32)
BURN_IN = 20


def rbm_loss(params, v_BV):
  """-mean log p(v), enumerated."""
  return -jnp.mean(rbm.log_likelihood(params, v_BV))


RBM = Problem('rbm', PARAMS, BATCH, rbm_loss,
              'restricted Boltzmann machine, 5 visible and 4 hidden units', '-log p(v)', BURN_IN)

SPARSE = sparsity(rbm, level=0.2, weight=0.5)


def sparse_loss(params, v_BV):
  """-mean log p(v) + the price of units that are on too often."""
  return rbm_loss(params, v_BV) + SPARSE(params, v_BV)


SPARSE_RBM = Problem('sparse_rbm', PARAMS, BATCH, sparse_loss,
                     RBM.description, '-log p(v) and a sparsity target', BURN_IN)
# Two rows whole, two with a hole or two, one empty.
HOLES = jnp.where(jnp.asarray([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0],
                               [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool), jnp.nan, BATCH)


def observed_loss(params, v_BV):
  """-mean log p(v_seen): the sum over all states that agree with what is not nan."""
  v_AV = rbm.all_states(v_BV.shape[1])
  agrees_BA = jnp.all((v_BV[:, None] == v_AV) | jnp.isnan(v_BV[:, None]), axis=-1)
  log_p_A = rbm.log_likelihood(params, v_AV)
  return -jnp.mean(jax.nn.logsumexp(jnp.where(agrees_BA, log_p_A, -jnp.inf), axis=-1))


MISSING_RBM = Problem('missing_rbm', PARAMS, HOLES, observed_loss, RBM.description,
                      '-log p(v_seen), values missing', BURN_IN)
PROBLEMS = (RBM, SPARSE_RBM, MISSING_RBM)

ENTRIES = {
  'exact': RBM.entry(maximum_likelihood(rbm.log_likelihood), deterministic=True),
  'cd1': RBM.entry(contrastive(rbm, reconstruction())),
  'cd1_samples': RBM.entry(contrastive(rbm, reconstruction(), last_half_step='samples')),
  'cd3': RBM.entry(contrastive(rbm, reconstruction(steps=3))),
  'cd1_centred': RBM.entry(contrastive(rbm, reconstruction(), direction=centred(0.5)), burn_in=3),
  'pcd1': RBM.entry(contrastive(rbm, persistent(chains=4)), BURN_IN),
  'pcd1_samples': RBM.entry(
    contrastive(rbm, persistent(chains=4), last_half_step='samples'), BURN_IN),
  'pcd5': RBM.entry(contrastive(rbm, persistent(chains=4, steps=5)), BURN_IN // 5),
  'pcd1_centred': RBM.entry(
    contrastive(rbm, persistent(chains=4), direction=centred(0.1)), BURN_IN),
  'pcd1_enhanced': RBM.entry(
    contrastive(rbm, persistent(chains=4), direction=enhanced(0.02)), BURN_IN),
  'pcd1_standardised': RBM.entry(
    contrastive(rbm, persistent(chains=4), direction=standardised(0.1)), BURN_IN),
  'pcd1_natural': RBM.entry(
    contrastive(rbm, persistent(chains=4), direction=natural(0.02, damping=0.1)), BURN_IN),
  'pt': RBM.entry(contrastive(rbm, tempered(chains=4, rungs=4)), BURN_IN),
  'ptt': RBM.entry(contrastive(rbm, trajectory(chains=4, rungs=3)), BURN_IN),
  'ptt_anchored': RBM.entry(
    contrastive(rbm, anchored(chains=4, rungs=3, rank=1, size=2)), BURN_IN),
  'fpcd1': RBM.entry(contrastive(rbm, fast_persistent(chains=4, fast_rate=0.2)), BURN_IN),
  'mean_field': RBM.entry(contrastive(rbm, mean_field()), BURN_IN, deterministic=True),
  'tap': RBM.entry(contrastive(rbm, tap()), BURN_IN, deterministic=True),
  'coupled': RBM.entry(contrastive(rbm, coupled(chains=4, steps=2))),
  'pseudo_likelihood': RBM.entry(pseudo_likelihood(rbm), deterministic=True),
  'ratio_matching': RBM.entry(ratio_matching(rbm), deterministic=True),
  'missing_pcd1': MISSING_RBM.entry(
    imputed(contrastive(rbm, persistent(chains=4)), rbm, steps=1), BURN_IN),
  'sparse_pcd1': SPARSE_RBM.entry(contrastive(rbm, persistent(chains=4), penalty=SPARSE), BURN_IN),
}
