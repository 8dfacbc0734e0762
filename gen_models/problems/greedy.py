"""The top of a stack, and other relatives of the RBM, on problems small enough to enumerate."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.greedy import on_top
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.models import dbn, label_rbm, rbm, units
from gen_models.models.machine import Machine
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(5)
BURN_IN = 20  # the top layers' second eigenvalues lie below 0.6, held by test_greedy.py


def _balanced(num_visible, num_hidden, scale):
  """Biases undo the weights, so units are on about half the time."""
  w_VH = scale * _draws.normal(size=(num_visible, num_hidden))
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    w_VH, -w_VH.sum(1) / 2 + 0.5 * _draws.normal(size=num_visible),
    -w_VH.sum(0) / 2 + 0.5 * _draws.normal(size=num_hidden))))


NUM_LABELS = 3
STACK = dbn.Params((_balanced(4, 5, 2.0), _balanced(5, 4, 1.2)))
LABELLED = dbn.Params((STACK.layers[0], _balanced(5 + NUM_LABELS, 4, 1.0)))
V_BV = jnp.asarray(_draws.random((6, 4)) < 0.6, jnp.float32)
Y_B = jnp.asarray([0, 1, 2, 2, 0, 2], jnp.int32)
CODES_MODEL = Machine(units.BERNOULLI, units.LINEAR)
CODE = _balanced(4, 2, 1.5)


def posterior(layer, v_BV):
  """q(h | v) of all states of h, [B, S]."""
  layer = jax.lax.stop_gradient(layer)
  p_BH, h_SH = rbm.hidden_mean(layer, v_BV), rbm.all_states(len(layer.c_H))
  return jnp.prod(jnp.where(h_SH == 1, p_BH[:, None], 1 - p_BH[:, None]), axis=-1)


def stack_loss(params, v_BV):
  """-mean_b E_q(h | v_b)[log p_top(h)], the layer below held still."""
  log_p_S = rbm.log_likelihood(params.layers[1], rbm.all_states(5))
  return -jnp.mean(posterior(params.layers[0], v_BV) @ log_p_S)


def labelled_loss(params, batch):
  """-mean_b E_q(h | v_b)[log p_top(h, y_b)]."""
  v_BV, y_B = batch
  top = params.layers[1]
  log_p_SQ = (label_rbm.label_log_weights(top, NUM_LABELS, rbm.all_states(5))
              - label_rbm.log_partition(top, NUM_LABELS))
  return -jnp.mean(jnp.sum(posterior(params.layers[0], v_BV) * log_p_SQ[:, y_B].T, axis=-1))


def code_loss(params, v_BV):
  """-mean log p(v) of the machine with linear hidden units, the visible ones enumerated."""
  log_z = jax.nn.logsumexp(-CODES_MODEL.free_energy(params, rbm.all_states(4)))
  return jnp.mean(CODES_MODEL.free_energy(params, v_BV)) + log_z


STACKED = Problem('stack', STACK, V_BV, stack_loss,
                  'deep belief network 4-5-4, its top layer', '-E_q(h | v) log p(h)', BURN_IN)
STACKED_LABELS = Problem('stack_labels', LABELLED, (V_BV, Y_B), labelled_loss,
                         'deep belief network 4-(5 + 3 labels)-4', '-E_q(h | v) log p(h, y)',
                         BURN_IN)
CODES = Problem('code_rbm', CODE, V_BV, code_loss,
                'Boltzmann machine, 4 binary visible and 2 Gaussian hidden units', '-log p(v)', 60)
PROBLEMS = (STACKED, STACKED_LABELS, CODES)


def _stack(estimator, burn_in=0, deterministic=False,
           propagate: dbn.Propagate = 'samples'):
  return STACKED.entry(on_top(estimator, dbn, propagate), burn_in, deterministic)


_exact = maximum_likelihood(rbm.log_likelihood)

ENTRIES = {
  'greedy_exact': _stack(_exact),
  'greedy_means': _stack(_exact, deterministic=True, propagate='means'),
  'greedy_cd1': _stack(contrastive(rbm, reconstruction())),
  'greedy_pcd1': _stack(contrastive(rbm, persistent(chains=4)), BURN_IN),
  'greedy_pcd1_centred': _stack(
    contrastive(rbm, persistent(chains=4), direction=centred(0.1)), BURN_IN),
  'greedy_labels': STACKED_LABELS.entry(
    on_top(contrastive(label_rbm.model(NUM_LABELS), persistent(chains=4)), dbn), BURN_IN),
  'code_cd1': CODES.entry(contrastive(CODES_MODEL, reconstruction())),
  'code_pcd1': CODES.entry(contrastive(CODES_MODEL, persistent(chains=4)), CODES.burn_in),
}
