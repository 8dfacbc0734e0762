"""Objectives without samples, against p(v) enumerated in NumPy and derivatives of log p(v).

And at p_data = p_model, where each has its minimum. Chance decides nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gen_models.estimators import base
from gen_models.estimators.sampling_free import (
  discriminative,
  pseudo_likelihood,
  ratio_matching,
  score_matching,
)
from gen_models.models import label_rbm, rbm, units
from gen_models.models.machine import Machine
from gen_models.problems.machine import (
  GAUSSIAN,
  GAUSSIAN_PROBLEM,
  LABELS_BATCH,
  LABELS_PARAMS,
  NUM_LABELS,
  SPIN,
  SPINS,
)
from gen_models.problems.rbm import PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')


def evaluated(estimator, params, batch):
  """(loss, gradient) that an estimator gives."""
  grads, _, metrics = jax.jit(estimator.grad)(jax.random.key(0), params, base.Memory(), batch)
  return metrics['loss'], grads


# Conditionals from the joint: p(v_i | v_-i) = p(v) / (p(v) + p(v^i)).

OF_CONDITIONALS = {
  'pseudo_likelihood': (pseudo_likelihood, lambda p: -np.log(p)),
  'ratio_matching': (ratio_matching, lambda p: (1 - p)**2)}  # g(p / p^i) = p^i / (p + p^i)


@pytest.mark.parametrize('num_visible', [1, 16, 19])
@pytest.mark.parametrize('name', OF_CONDITIONALS)
def test_flips_of_binary_units_are_conditionals_of_the_joint(name, num_visible):
  # Less than a block of 16, one to the last unit, and one that is not full.
  make, of_conditional = OF_CONDITIONALS[name]
  draws = np.random.default_rng(num_visible)
  params = rbm.Params(draws.normal(size=(num_visible, 3)), draws.normal(size=num_visible),
                      draws.normal(size=3))
  v_BV = (draws.random((5, num_visible)) < 0.5).astype(float)
  v_AV, h_SH = oracle.states(num_visible), oracle.states(3)
  log_p_A = v_AV @ params.b_V + scipy.special.logsumexp(
    v_AV @ params.w_VH @ h_SH.T + h_SH @ params.c_H, axis=1)
  p_A = np.exp(log_p_A - scipy.special.logsumexp(log_p_A))
  here_B = oracle.index(v_BV)
  there_BV = here_B[:, None] ^ (1 << np.arange(num_visible))
  conditional_BV = p_A[here_B, None] / (p_A[here_B, None] + p_A[there_BV])
  expected = of_conditional(conditional_BV).sum(1).mean()
  params = rbm.Params(*map(jnp.float32, params))
  loss, grads = evaluated(make(rbm), params, jnp.float32(v_BV))
  np.testing.assert_allclose(loss, expected, rtol=2e-6)

  def whole_flips(params):
    """The same from free energies of whole flipped vectors."""
    other_VBV = jnp.abs(jnp.float32(v_BV) - jnp.eye(num_visible)[:, None])
    gap_VB = jax.vmap(lambda u: rbm.free_energy(params, u))(other_VBV) - rbm.free_energy(
      params, jnp.float32(v_BV))
    p_VB = jax.nn.sigmoid(gap_VB)
    return jnp.mean(jnp.sum(-jnp.log(p_VB) if name == 'pseudo_likelihood' else (1 - p_VB)**2, 0))

  for ours, theirs in zip(grads, jax.jit(jax.grad(whole_flips))(params), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize('name', OF_CONDITIONALS)
def test_flips_of_spins_change_their_sign(name):
  make, of_conditional = OF_CONDITIONALS[name]
  params, v_BV = SPIN.params, SPIN.batch
  w_VH, b_V, c_H = oracle.float64(params)
  h_SH = 2 * oracle.states(3) - 1

  def p(v_BV):
    return np.exp(v_BV @ b_V + scipy.special.logsumexp(v_BV @ w_VH @ h_SH.T + h_SH @ c_H, axis=1))

  here_B, v_BV = p(np.asarray(v_BV, np.float64)), np.asarray(v_BV, np.float64)
  expected = sum(of_conditional(here_B / (here_B + p(v_BV * (1 - 2 * np.eye(4)[i])))).mean()
                 for i in range(4))
  np.testing.assert_allclose(evaluated(make(SPINS), params, SPIN.batch)[0], expected, rtol=1e-5)


@pytest.mark.parametrize('visible', [units.Gaussian(), units.LINEAR])
def test_score_matching_is_made_of_derivatives_of_log_p(visible):
  machine = Machine(visible, units.BERNOULLI)
  params = GAUSSIAN_PROBLEM.params
  if visible == units.LINEAR:
    params = params._replace(b_V=params.b_V.bias_D)

  def literal(params, v_BV):
    def log_p(v_V):
      return machine.log_likelihood(params, v_V[None])[0]
    first_BV, second_BVV = (jax.vmap(d(log_p))(v_BV) for d in (jax.grad, jax.hessian))
    return jnp.mean(jnp.sum(first_BV**2, 1) / 2 + jnp.trace(second_BVV, axis1=1, axis2=2))

  loss, grads = evaluated(score_matching(machine), params, GAUSSIAN_PROBLEM.batch)
  expected, by_hand = jax.jit(jax.value_and_grad(literal))(params, GAUSSIAN_PROBLEM.batch)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(by_hand), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_discriminative_loss_is_p_of_the_label_by_enumeration():
  joint = oracle.rbm_joint(LABELS_PARAMS)
  p_A = joint.p_AS.sum(1)
  x_BF, y_BQ = (np.asarray(x, np.float64) for x in (
    LABELS_BATCH[:, :-NUM_LABELS], LABELS_BATCH[:, -NUM_LABELS:]))
  p_BQ = np.stack([p_A[oracle.index(np.hstack([x_BF, np.tile(row, (len(x_BF), 1))]))]
                   for row in np.eye(NUM_LABELS)], axis=1)
  p_BQ /= p_BQ.sum(1, keepdims=True)
  grads, _, metrics = jax.jit(discriminative(NUM_LABELS).grad)(
    jax.random.key(0), LABELS_PARAMS, base.Memory(), LABELS_BATCH)
  np.testing.assert_allclose(metrics['loss'], -np.log((p_BQ * y_BQ).sum(1)).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['error'], np.mean(p_BQ.argmax(1) != y_BQ.argmax(1)), rtol=1e-6)
  # The biases of features cancel.
  np.testing.assert_allclose(grads.b_V[:-NUM_LABELS], 0, atol=1e-6)


# With the data's distribution the model's own, every objective is at its minimum.


def at_the_model(estimator, params, v_AV, p_A):
  """(loss, largest slope) on data v_AV with probabilities p_A, row by row."""
  def of_row(v_V):
    grads, _, metrics = estimator.grad(jax.random.key(0), params, base.Memory(), v_V[None])
    return metrics['loss'], grads

  losses_A, grads_A = jax.jit(jax.vmap(of_row))(jnp.asarray(v_AV, jnp.float32))
  grads = [np.tensordot(p_A, np.asarray(g, np.float64), 1) for g in jax.tree.leaves(grads_A)]
  return p_A @ np.asarray(losses_A, np.float64), max(np.abs(g).max() for g in grads)


def visible_table(params):
  joint = oracle.rbm_joint(params)
  return joint.v_AV, joint.p_AS.sum(1)


def gaussian_table():
  """Nodes and weights of p(v), a mixture of a Gaussian for each h, by Gauss-Hermite quadrature."""
  params = jax.tree.map(lambda x: x[:2] if x.shape[:1] == (4,) else x, GAUSSIAN_PROBLEM.params)
  precision_V = np.asarray(GAUSSIAN.visible.precision(params.b_V), np.float64)
  bias_V, w_VH, c_H = (np.asarray(x, np.float64) for x in (
    params.b_V.bias_D, params.w_VH, params.c_H))
  h_SH = oracle.states(len(c_H))
  mean_SV = (bias_V + h_SH @ w_VH.T) / precision_V
  log_S = h_SH @ c_H + np.sum(precision_V * mean_SV**2, 1) / 2
  p_S = np.exp(log_S - scipy.special.logsumexp(log_S))
  node, weight = np.polynomial.hermite_e.hermegauss(24)
  weight = weight / weight.sum()
  z_NV = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)
  v_AV = (mean_SV[:, None] + z_NV / np.sqrt(precision_V)).reshape(-1, 2)
  return params, v_AV, (p_S[:, None] * np.outer(weight, weight).reshape(-1)).reshape(-1)


def label_table():
  v_AV, p_A = visible_table(LABELS_PARAMS)
  one = v_AV[:, -NUM_LABELS:].sum(1) == 1
  return LABELS_PARAMS, v_AV[one], p_A[one] / p_A[one].sum()


TABLES = {
  'pseudo_likelihood': (pseudo_likelihood(rbm), lambda: (PARAMS, *visible_table(PARAMS))),
  'ratio_matching': (ratio_matching(rbm), lambda: (PARAMS, *visible_table(PARAMS))),
  'score_matching': (score_matching(GAUSSIAN), gaussian_table),
  'discriminative': (discriminative(NUM_LABELS), label_table)}


@pytest.mark.parametrize('name', TABLES)
def test_the_model_is_the_minimum_on_its_own_data(name):
  estimator, table = TABLES[name]
  params, v_AV, p_A = table()
  np.testing.assert_allclose(p_A.sum(), 1, atol=1e-9)
  loss, steepest = at_the_model(estimator, params, v_AV, p_A)
  assert steepest < 2e-5
  draws = np.random.default_rng(0)
  for _ in range(3):
    away = jax.tree.map(
      lambda x: x + jnp.asarray(0.3 * draws.normal(size=x.shape), jnp.float32), params)
    elsewhere, slope = at_the_model(estimator, away, v_AV, p_A)
    assert elsewhere > loss + 1e-3 and slope > 0.01


@pytest.mark.parametrize('make, message', [
  (lambda: pseudo_likelihood(GAUSSIAN), 'use score_matching'),
  (lambda: ratio_matching(label_rbm.model(3)), 'needs two states'),
  (lambda: score_matching(rbm), 'Gaussian visible and Bernoulli hidden'),
  (lambda: score_matching(Machine(units.Gaussian(), units.SPIN)), 'Bernoulli hidden units')])
def test_units_that_an_objective_is_not_for_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
