"""The top of a stack gets the gradient of its own estimator, on what the layers below pass up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.greedy import on_top
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.models import dbn, label_rbm, rbm
from gen_models.problems import greedy as problems
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')


@pytest.mark.parametrize('propagate', ['samples', 'means'])
def test_the_gradient_is_that_of_the_inner_estimator_and_zero_below(propagate):
  inner = contrastive(rbm, persistent(chains=4), direction=centred(0.1))
  estimator = on_top(inner, dbn, propagate)
  memory = jax.jit(estimator.init)(jax.random.key(0), problems.STACK)
  grads, after, metrics = estimator.grad(jax.random.key(1), problems.STACK, memory, problems.V_BV)
  key_up, key_grad = jax.random.split(jax.random.key(1))
  h_BV = dbn.features(key_up, problems.STACK, problems.V_BV, propagate)
  expected, memory, same = inner.grad(key_grad, problems.STACK.layers[1], memory, h_BV)
  for ours, theirs in zip(jax.tree.leaves((grads.layers[1], after, metrics)),
                          jax.tree.leaves((expected, memory, same)), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert not any(np.any(x) for x in grads.layers[0])
  assert grads.layers[0].w_VH.shape == problems.STACK.layers[0].w_VH.shape


def test_declarations():
  for negative, biased in ((persistent(4), False), (reconstruction(), True)):
    inner = contrastive(rbm, negative)
    assert on_top(inner, dbn).biased == biased and on_top(inner, dbn, 'means').biased
    assert on_top(inner, dbn).target is None
  with pytest.raises(ValueError, match="not 'mean'"):
    on_top(inner, dbn, 'mean')


def second_eigenvalue(kernel_SS):
  return np.sort(np.abs(np.linalg.eigvals(kernel_SS)))[-2]


def test_burn_in_is_long_enough():
  # What the burn-in leaves of the start, against the noise of an audit, some 0.01.
  stack = oracle.gibbs_kernel(oracle.rbm_joint(problems.STACK.layers[1]))
  assert 0.1 < second_eigenvalue(stack) < 0.6 and 0.6**problems.BURN_IN < 1e-4
  # With labels: of all states of the visible units those with exactly one label remain.
  joint = oracle.rbm_joint(problems.LABELLED.layers[1])
  allowed_A = joint.v_AV[:, -problems.NUM_LABELS:].sum(1) == 1
  joint = joint._replace(p_AS=joint.p_AS[allowed_A] / joint.p_AS[allowed_A].sum())
  assert 0.1 < second_eigenvalue(oracle.gibbs_kernel(joint)) < 0.6
  # With linear units: over v, the integral over h of p(v' | h) p(h | v) by a fine grid.
  w_VH, b_V, c_H = oracle.float64(problems.CODE)
  v_AV, grid = oracle.states(4), np.linspace(-7, 7, 141)
  noise_SH = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
  weight_S = np.exp(-0.5 * np.sum(noise_SH**2, axis=1))
  weight_S /= weight_S.sum()
  h_ASH = (c_H + v_AV @ w_VH)[:, None] + noise_SH
  log_p_ASV = -np.logaddexp(0, -(b_V + h_ASH @ w_VH.T))
  log_1_p_ASV = -np.logaddexp(0, b_V + h_ASH @ w_VH.T)
  p_ASA = np.exp(log_p_ASV @ v_AV.T + log_1_p_ASV @ (1 - v_AV).T)
  kernel_AA = np.einsum('s,ast->at', weight_S, p_ASA)
  np.testing.assert_allclose(kernel_AA.sum(1), 1, rtol=1e-6)
  assert second_eigenvalue(kernel_AA)**problems.ENTRIES['code_pcd1'].burn_in < 1e-4


def test_labels_reach_the_top():
  estimator = on_top(contrastive(label_rbm.model(3), reconstruction()), dbn)
  memory = jax.jit(estimator.init)(jax.random.key(0), problems.LABELLED)
  one, other = (estimator.grad(jax.random.key(1), problems.LABELLED, memory,
                               (problems.V_BV, y_B))[0].layers[1]
                for y_B in (jnp.zeros(6, jnp.int32), jnp.ones(6, jnp.int32)))
  assert np.any(one.b_V[-3:] != other.b_V[-3:])
