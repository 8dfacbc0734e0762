"""Up-down training of nets whose layers are all enumerated: both of its losses."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.directions import centred
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.estimators.up_down import up_down
from gen_models.models import dbn, label_rbm, rbm
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(23)
BURN_IN = 30  # the top layers' second eigenvalues lie below 0.65, held by test_up_down.py
NUM_LABELS = 3


def _balanced(num_visible, num_hidden, scale):
  """Biases undo the weights, so units are on about half the time."""
  w_VH = scale * _draws.normal(size=(num_visible, num_hidden))
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    w_VH, -w_VH.sum(1) / 2 + 0.5 * _draws.normal(size=num_visible),
    -w_VH.sum(0) / 2 + 0.5 * _draws.normal(size=num_hidden))))


def _apart(*sizes, num_labels=0) -> dbn.Untied:
  """Ways up and down that share nothing."""
  pairs = list(zip(sizes, sizes[1:]))
  down = [_balanced(*pair, 1.5) for pair in pairs[:-1]]
  up = [_balanced(*pair, 1.5) for pair in pairs[:-1]]
  visible, hidden = pairs[-1]
  return dbn.Untied((*down, _balanced(visible + num_labels, hidden, 1.5)), tuple(up))


NET = _apart(3, 4, 3, 2)
LABELLED = _apart(4, 3, 3, num_labels=NUM_LABELS)
V_BV = jnp.asarray(_draws.random((6, 4)) < 0.6, jnp.float32)
Y_B = jnp.asarray([0, 1, 2, 2, 0, 2], jnp.int32)


def _log_table(y_SD, x_TD):
  """log prob of every state x under log-odds y, [S, T]."""
  return y_SD @ x_TD.T - jnp.sum(jax.nn.softplus(y_SD), axis=-1, keepdims=True)


def wake_loss(params: dbn.Untied, v_BV, y_B=None, num_labels: int = 0):
  """-mean_b E_q[log p(v_b, h, y_b)], q held still."""
  *lower, top = params.layers
  weight_BS, below_SD, total = jnp.eye(len(v_BV)), v_BV, 0.0
  for layer, up in zip(lower, params.up, strict=True):
    above_TD = rbm.all_states(len(up.c_H))
    q_ST = jnp.exp(jax.lax.stop_gradient(_log_table(rbm.hidden_input(up, below_SD), above_TD)))
    log_p_ST = _log_table(rbm.visible_input(layer, above_TD), below_SD).T
    total -= jnp.sum(weight_BS @ (q_ST * log_p_ST)) / len(v_BV)
    weight_BS, below_SD = weight_BS @ q_ST, above_TD
  if not num_labels:
    return total - jnp.sum(weight_BS @ rbm.log_likelihood(top, below_SD)) / len(v_BV)
  log_p_SQ = (label_rbm.label_log_weights(top, num_labels, below_SD)
              - label_rbm.log_partition(top, num_labels))
  return total - jnp.sum(weight_BS * log_p_SQ[:, y_B].T) / len(v_BV)


def sleep_loss(params: dbn.Untied, num_labels: int = 0):
  """-E_p[log q(h | v)], p held still."""
  *lower, top = jax.lax.stop_gradient(params.layers)
  above_TD, total = rbm.all_states(len(top.b_V) - num_labels), 0.0
  if num_labels:
    log_w_TQ = label_rbm.label_log_weights(top, num_labels, above_TD)
    log_z = label_rbm.log_partition(top, num_labels)
    weight_T = jnp.exp(jax.nn.logsumexp(log_w_TQ, axis=1) - log_z)
  else:
    weight_T = jnp.exp(rbm.log_likelihood(top, above_TD))
  for layer, up in zip(reversed(lower), reversed(params.up), strict=True):
    below_SD = rbm.all_states(len(layer.b_V))
    p_TS = jnp.exp(_log_table(rbm.visible_input(layer, above_TD), below_SD))
    log_q_TS = _log_table(rbm.hidden_input(up, below_SD), above_TD).T
    total -= weight_T @ jnp.sum(p_TS * log_q_TS, axis=1)
    weight_T, above_TD = weight_T @ p_TS, below_SD
  return total


def loss(params, v_BV):
  """Both, each for what it moves."""
  return wake_loss(params, v_BV) + sleep_loss(params)


def labelled_loss(params, batch):
  """Both with the label at the top."""
  v_BV, y_B = batch
  return wake_loss(params, v_BV, y_B, NUM_LABELS) + sleep_loss(params, NUM_LABELS)


UP_DOWN = Problem('up_down', NET, V_BV[:, :3], loss,
                  'deep belief network 3-4-3-2, its two ways apart',
                  '-E_q log p(v, h) and -E_p log q(h | v)', BURN_IN)
UP_DOWN_LABELS = Problem('up_down_labels', LABELLED, (V_BV, Y_B), labelled_loss,
                         'deep belief network 4-(3 + 3 labels)-3, its two ways apart',
                         '-E_q log p(v, h, y) and -E_p log q(h | v)', BURN_IN)
PROBLEMS = (UP_DOWN, UP_DOWN_LABELS)

_chains = persistent(chains=4)

ENTRIES = {
  'up_down_pcd1': UP_DOWN.entry(up_down(_chains), BURN_IN),
  'up_down_pcd1_centred': UP_DOWN.entry(up_down(_chains, direction=centred(0.1)), BURN_IN),
  'up_down_labels_cd1': UP_DOWN_LABELS.entry(up_down(reconstruction(), num_labels=NUM_LABELS)),
  'up_down_labels': UP_DOWN_LABELS.entry(up_down(_chains, num_labels=NUM_LABELS), BURN_IN),
}
