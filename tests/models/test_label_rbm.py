"""The machine with a one-of-Q label against enumeration; error rates as in tests/oracle.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gen_models.models import gibbs, label_rbm
from tests import oracle
from tests.models import deep

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

Q = 3
MODEL, PARAMS = label_rbm.model(Q), deep.machine(3 + Q, 4, 0.7, 1)
V_AV = np.concatenate([np.repeat(oracle.states(3), Q, axis=0), np.tile(np.eye(Q), (8, 1))], axis=1)
H_SH = oracle.states(4)


def minus_energy_AS():
  w_VH, b_V, c_H = oracle.float64(PARAMS)
  return (V_AV @ b_V)[:, None] + H_SH @ c_H + V_AV @ w_VH @ H_SH.T


def cell(v_CV):
  """Row of V_AV: features times Q plus label; a label that is not one-of-Q is an error."""
  v_CV = np.asarray(v_CV)
  np.testing.assert_array_equal(v_CV[:, 3:].sum(1), 1)
  return oracle.index(v_CV[:, :3]) * Q + v_CV[:, 3:].argmax(1)


def test_log_weights_of_labels_and_log_partition():
  log_p_AS = minus_energy_AS()
  ours_BQ = label_rbm.label_log_weights(PARAMS, Q, jnp.float32(oracle.states(3)))
  np.testing.assert_allclose(ours_BQ, scipy.special.logsumexp(log_p_AS, axis=1).reshape(8, Q),
                             rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(label_rbm.log_partition(PARAMS, Q),
                             scipy.special.logsumexp(log_p_AS), rtol=2e-6)


def test_attach():
  np.testing.assert_array_equal(
    label_rbm.attach(jnp.float32(oracle.states(3)).repeat(Q, axis=0),
                     jnp.tile(jnp.arange(Q), 8), Q), V_AV)


def test_given_a_label_it_is_an_ordinary_machine():
  p_AS = np.exp(minus_energy_AS()).reshape(8, Q, 16)
  for y in range(Q):
    joint = oracle.rbm_joint(label_rbm.given_label(PARAMS, Q, y))
    np.testing.assert_allclose(joint.p_AS, p_AS[:, y] / p_AS[:, y].sum(), atol=1e-7)


def test_visible_units_given_hidden():
  p_AS = np.exp(minus_energy_AS())
  s, num = 11, 2**16
  h_CH = jnp.tile(jnp.float32(H_SH[s]), (num, 1))
  v_CV = jax.jit(MODEL.sample_visible)(jax.random.key(0), PARAMS, h_CH)
  p_A = p_AS[:, s] / p_AS[:, s].sum()
  oracle.assert_frequencies(cell(v_CV), p_A)
  np.testing.assert_allclose(MODEL.visible_mean(PARAMS, h_CH[:2])[1], p_A @ V_AV, rtol=1e-5)


def test_gibbs_reaches_the_joint_and_chains_start_at_the_biases():
  p_AS = np.exp(minus_energy_AS())
  start = gibbs.init_chains(jax.random.key(0), MODEL, PARAMS, 2**15)
  b_V = np.asarray(PARAMS.b_V, np.float64)
  start_A = np.exp(V_AV @ b_V)
  h_given_v_AS = p_AS / p_AS.sum(1, keepdims=True)
  oracle.assert_frequencies(cell(start.v_CV) * 16 + oracle.index(start.h_CH),
                            ((start_A / start_A.sum())[:, None] * h_given_v_AS).reshape(-1))
  chains = jax.jit(gibbs.run, static_argnums=(1, 4))(jax.random.key(1), MODEL, PARAMS, start, 30)
  assert isinstance(chains, gibbs.Chains)
  oracle.assert_frequencies(cell(chains.v_CV) * 16 + oracle.index(chains.h_CH),
                            (p_AS / p_AS.sum()).reshape(-1))
