"""A discrete variational autoencoder small enough to enumerate: 4 visible units, an RBM of 4 x 3.

Weights of the machine are such that 20 Gibbs steps are at it, see problems/rbm.py; the losses are
sums over all 128 states of the latents, and share no code with the model.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import estimators as v
from gen_models.models import belief_net, rbm, rbm_prior
from gen_models.problems.entry import Problem
from gen_models.problems.rbm import BURN_IN
from gen_models.problems.variational import (
  BINARY_BATCH,
  affine,
  bernoulli_sum,
  some_params,
  states,
)

NUM_VISIBLE, NUM_HIDDEN = 4, 3
NET = belief_net.model(4, (NUM_VISIBLE + NUM_HIDDEN,))._replace(learned_prior=False)
MODEL = rbm_prior.model(NET, NUM_VISIBLE)


def _machine() -> rbm.Params:
  draws = np.random.default_rng(9)
  w_VH = 1.2 * draws.normal(size=(NUM_VISIBLE, NUM_HIDDEN))
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    w_VH, -w_VH.sum(1) / 2 + 0.5 * draws.normal(size=NUM_VISIBLE),
    -w_VH.sum(0) / 2 + 0.5 * draws.normal(size=NUM_HIDDEN))))


PARAMS = rbm_prior.Params(some_params(NET, 4, 0.7, 8), _machine())


def log_terms(params, x_BV):
  """(log p(x, z), log q(z | x)), [S, B], over all states of z."""
  z_SZ = jnp.asarray(states(NUM_VISIBLE + NUM_HIDDEN))
  v_SV, h_SH = z_SZ[:, :NUM_VISIBLE], z_SZ[:, NUM_VISIBLE:]
  w_VH, b_V, c_H = params.prior
  minus_energy_S = v_SV @ b_V + h_SH @ c_H + jnp.einsum('sv,vh,sh->s', v_SV, w_VH, h_SH)
  log_p_S = minus_energy_S - jax.nn.logsumexp(minus_energy_S)
  net, z_SBZ = params.net, z_SZ[:, None]
  log_q_SB = bernoulli_sum(
    affine(net.encoder[0], x_BV - jax.lax.stop_gradient(net.center_V)), z_SBZ)
  log_x_SB = bernoulli_sum(affine(net.decoder[0], z_SBZ) + net.bias_O, x_BV)
  return log_x_SB + log_p_S[:, None], log_q_SB


def bound_loss(samples: int):
  """-mean_b E[log (1/K) sum_k exp(l_kb)], a sum over all K-tuples of z."""
  tuples_TK = np.array(list(itertools.product(
    range(2**(NUM_VISIBLE + NUM_HIDDEN)), repeat=samples)))

  def loss(params, x_BV):
    log_p_SB, log_q_SB = log_terms(params, x_BV)
    l_TKB, log_q_TKB = (log_p_SB - log_q_SB)[tuples_TK], log_q_SB[tuples_TK]
    bound_TB = jax.nn.logsumexp(l_TKB, axis=1) - np.log(samples)
    return -jnp.mean(jnp.sum(jnp.exp(jnp.sum(log_q_TKB, axis=1)) * bound_TB, axis=0))

  return loss


RBM_PRIOR = Problem(
  'rbm_prior', PARAMS, BINARY_BATCH, bound_loss(1),
  'discrete autoencoder, 4 visible units, an RBM of 4 x 3 as prior (rbm_prior.MODEL)', '-ELBO',
  BURN_IN)
RBM_PRIOR_IWAE2 = RBM_PRIOR._replace(
  name='rbm_prior_iwae2', loss=bound_loss(2), objective='-IWAE of 2 samples')
PROBLEMS = (RBM_PRIOR, RBM_PRIOR_IWAE2)


def _rule(rule):
  return lambda model: v.variational(model, rule)


def _logits(logits):
  return lambda model: v.discrete(model, logits)


def _estimator(of_model, negative=v.persistent(chains=4)):
  return v.rbm_prior(MODEL, of_model, negative)


ENTRIES = {
  'rbm_prior_rloo2_pcd1': RBM_PRIOR.entry(_estimator(_rule(v.rloo(2))), BURN_IN),
  'rbm_prior_rloo2_cd1': RBM_PRIOR.entry(_estimator(_rule(v.rloo(2)), v.reconstruction())),
  'rbm_prior_rloo2_coupled': RBM_PRIOR.entry(
    _estimator(_rule(v.rloo(2)), v.coupled(chains=4, steps=2))),
  'rbm_prior_rloo2_exact': RBM_PRIOR.entry(_estimator(_rule(v.rloo(2)), None)),
  'rbm_prior_reinforce1_pcd1': RBM_PRIOR.entry(_estimator(_rule(v.reinforce())), BURN_IN),
  'rbm_prior_vimco2_pcd1': RBM_PRIOR_IWAE2.entry(_estimator(_rule(v.vimco(2))), BURN_IN),
  'rbm_prior_disarm1_pcd1': RBM_PRIOR.entry(_estimator(_logits(v.disarm())), BURN_IN),
  'rbm_prior_gumbel_pcd1': RBM_PRIOR.entry(
    _estimator(lambda model: v.relaxed(model, v.gumbel())), BURN_IN),
  'rbm_prior_enumerated': RBM_PRIOR.entry(
    _estimator(_logits(v.enumerated()), None), deterministic=True),
}
