"""Estimators for discrete latents on belief nets that are enumerated: binary units, units of three
states, two layers.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_models import estimators as v
from gen_models.models import belief_net
from gen_models.problems.entry import Problem
from gen_models.problems.variational import (
  BELIEF,
  BELIEF_NET,
  BINARY_BATCH,
  DEEP_BELIEF,
  DEEP_BELIEF_NET,
  affine,
  bernoulli_sum,
  some_params,
)

NUM_STATES = 3
CATEGORICAL = belief_net.model(4, (2,), num_states=NUM_STATES)
CATEGORICAL_PARAMS = some_params(CATEGORICAL, 4, 1.0, 7)
BURN_IN = 5  # of what is learned beside the model


def categorical_loss(params, x_BV):
  """-mean_b E_q[log p(x, z) - log q(z | x)], a sum over both units' states."""
  rows = itertools.product(np.eye(NUM_STATES), repeat=2)
  z_SUQ = jnp.asarray(np.array(list(rows)), jnp.float32)
  z_SBZ = jnp.repeat(z_SUQ.reshape(len(z_SUQ), 1, -1), len(x_BV), axis=1)

  def log_prob(logits):
    log_p = jax.nn.log_softmax(logits.reshape(*logits.shape[:-1], 2, NUM_STATES))
    return jnp.sum(log_p * z_SUQ[:, None], axis=(-2, -1))

  log_q_SB = log_prob(affine(params.encoder[0], x_BV - jax.lax.stop_gradient(params.center_V)))
  log_x_SB = bernoulli_sum(affine(params.decoder[0], z_SBZ) + params.bias_O, x_BV)
  f_SB = log_x_SB + log_prob(params.prior_O) - log_q_SB
  return -jnp.mean(jnp.sum(jnp.exp(log_q_SB) * f_SB, axis=0))


CATEGORICAL_NET = Problem(
  'categorical_net', CATEGORICAL_PARAMS, BINARY_BATCH, categorical_loss,
  'belief net, 4 visible and 2 hidden units of 3 states (discrete.CATEGORICAL)', '-ELBO', burn_in=3)
PROBLEMS = (CATEGORICAL_NET,)

RELAXATIONS = {
  'gumbel': v.gumbel(), 'straight_through': v.straight_through(),
  'gumbel_straight_through': v.straight_through_gumbel(), 'gumbel_rao': v.gumbel_rao(draws=4),
  'reinmax': v.reinmax(), 'reinmax_rao': v.reinmax_rao(draws=4),
  'reinmax_cv': v.reinmax_control_variate(draws=4)}


def _learned(make):
  return make(optax.adam(0.03))


def _entries(problem, model, prefix, chosen):
  return {prefix + name: problem.entry(
    v.discrete(model, logits), deterministic=name == 'enumerated',
    burn_in=BURN_IN if name in ('double_cv2', 'rebar1', 'relax1') else 0)
    for name, logits in chosen.items()}


_ANY = {
  'muprop1': v.muprop(),
  'double_cv2': _learned(lambda optimizer: v.double_control_variates(2, optimizer)),
  'rebar1': _learned(v.rebar),
  'relax1': _learned(lambda optimizer: v.relax(optimizer, (8,))),
  'measure_valued': v.measure_valued(),
  'enumerated': v.enumerated()}
_BINARY = {'arm1': v.arm(), 'disarm1': v.disarm(), 'arms3': v.arms(3)}
_DEEP = {name: (_ANY | _BINARY)[name] for name in ('disarm1', 'muprop1', 'relax1', 'double_cv2')}

ENTRIES = {
  **_entries(BELIEF_NET, BELIEF, '', _BINARY | _ANY),
  **{name: BELIEF_NET.entry(v.relaxed(BELIEF, how)) for name, how in RELAXATIONS.items()},
  **_entries(DEEP_BELIEF_NET, DEEP_BELIEF, 'two_layers_', _DEEP),
  'two_layers_gumbel': DEEP_BELIEF_NET.entry(v.relaxed(DEEP_BELIEF, v.gumbel())),
  **_entries(CATEGORICAL_NET, CATEGORICAL, 'categorical_', _ANY),
  **{f'categorical_{name}': CATEGORICAL_NET.entry(v.relaxed(CATEGORICAL, RELAXATIONS[name]))
     for name in ('gumbel', 'straight_through', 'gumbel_straight_through', 'reinmax_rao')},
  'categorical_rloo2': CATEGORICAL_NET.entry(v.variational(CATEGORICAL, v.rloo(2))),
}
