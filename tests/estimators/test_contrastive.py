"""Contrastive divergence against the algorithm as the textbook has it, step by step in NumPy, and
against the exact expectation of its negative phase.

Two-sample comparisons of means fail for one key in a million if the code is right
(oracle.SIGNIFICANCE, Bonferroni over coordinates).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.estimators import base
from gen_models.estimators.contrastive import (
  Normalised,
  contrastive,
  measured,
  normalised,
  sparse_groups,
  sparsity,
)
from gen_models.estimators.directions import Offsets, centred
from gen_models.estimators.negative import Drawn, Negative, persistent, reconstruction
from gen_models.models import gibbs, linear_rbm, rbm, units
from gen_models.models.machine import Machine
from gen_models.problems.machine import GAUSSIAN, GAUSSIAN_PROBLEM
from gen_models.problems.rbm import BATCH, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

NUM_DRAWS = 2**14


def flat(params):
  """[..., D] of leading axis and all coordinates."""
  return np.concatenate([np.reshape(x, (len(x), -1)) for x in params], axis=1).astype(np.float64)


def draws_of(estimator, memory=None):
  """Many gradients from one memory, [NUM_DRAWS, D], and the memories after."""
  memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS) if memory is None else memory
  keys = jax.random.split(jax.random.key(1), NUM_DRAWS)
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    draw = jax.jit(jax.vmap(estimator.grad, (0, None, None, None)))
    grads, memory, _ = draw(keys, PARAMS, memory, BATCH)
  return flat(grads), memory


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def textbook(num_draws, k, last_half_step='probabilities'):
  """CD-k, literally (Hinton, 2002; Fischer & Igel, 2012), `num_draws` runs beside each other."""
  draws = np.random.default_rng(k)
  w_VH, b_V, c_H = oracle.float64(PARAMS)
  v_1 = np.broadcast_to(np.asarray(BATCH, np.float64), (num_draws, *BATCH.shape))
  p_1 = sigmoid(c_H + v_1 @ w_VH)
  positive = np.einsum('nbi,nbj->nij', v_1, p_1), v_1.sum(1), p_1.sum(1)
  v, p = v_1, p_1
  for _ in range(k):
    h = (draws.random(p.shape) < p).astype(float)     # h_t ~ p(h | v_t)
    q = sigmoid(b_V + h @ w_VH.T)
    v = (draws.random(q.shape) < q).astype(float)     # v_{t+1} ~ p(v | h_t)
    p = sigmoid(c_H + v @ w_VH)                       # p(h_{t+1} | v_{t+1})
  if last_half_step == 'samples':
    p = (draws.random(p.shape) < p).astype(float)
  negative = np.einsum('nbi,nbj->nij', v, p), v.sum(1), p.sum(1)
  return flat([(n - m) / len(BATCH) for m, n in zip(positive, negative, strict=True)])


def same_mean(a_ND, b_ND) -> float:
  """p-value of two sets of independent rows having the same mean."""
  z_D = (a_ND.mean(0) - b_ND.mean(0)) / np.sqrt(a_ND.var(0) / len(a_ND) + b_ND.var(0) / len(b_ND))
  return min(1.0, 2 * scipy.stats.norm.sf(np.abs(z_D).max()) * len(z_D))


@pytest.mark.parametrize('k', [1, 2, 3])
def test_cd_k_is_the_textbook_algorithm(k):
  ours, theirs = draws_of(contrastive(rbm, reconstruction(k)))[0], textbook(NUM_DRAWS, k)
  assert same_mean(ours, theirs) > oracle.SIGNIFICANCE
  # The fluctuations agree too: a variance from 2^14 draws is known to 1% or, heavy-tailed, a few.
  np.testing.assert_allclose(ours.var(0), theirs.var(0), rtol=0.1)
  # And the comparison would see one alternation more or less.
  assert same_mean(ours, textbook(NUM_DRAWS, k + 1)) < 1e-9


def test_samples_in_the_last_half_step_are_the_textbook_variant():
  ours = draws_of(contrastive(rbm, reconstruction(2), last_half_step='samples'))[0]
  theirs = textbook(NUM_DRAWS, 2, 'samples')
  assert same_mean(ours, theirs) > oracle.SIGNIFICANCE
  np.testing.assert_allclose(ours.var(0), theirs.var(0), rtol=0.1)


@pytest.mark.parametrize('k', [1, 2, 3])
def test_pcd_k_takes_k_gibbs_steps_and_remembers_where_it_is(k):
  # From chains held at one state: E[v p(h | v)] after k Gibbs steps by powers of the exact kernel.
  joint = oracle.rbm_joint(PARAMS)
  start, chains = 3, 4
  held = gibbs.Chains(jnp.zeros((chains, 5)),
                    jnp.tile(jnp.float32(joint.h_SH[start]), (chains, 1)))
  estimator = contrastive(rbm, persistent(chains, k))
  memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)
  grads_ND, after = draws_of(estimator, memory._replace(chains=held))

  h_S = np.linalg.matrix_power(oracle.gibbs_kernel(joint), k - 1)[start]
  v_A = h_S @ (joint.p_AS / joint.p_AS.sum(0)).T
  joint_AS = v_A[:, None] * joint.p_AS / joint.p_AS.sum(1, keepdims=True)
  w_VH, _, c_H = oracle.float64(PARAMS)
  v_BV = np.asarray(BATCH, np.float64)
  p_BH = sigmoid(c_H + v_BV @ w_VH)
  expected = flat([x[None] for x in (
    joint.v_AV.T @ joint_AS @ joint.h_SH - v_BV.T @ p_BH / len(BATCH),
    joint_AS.sum(1) @ joint.v_AV - v_BV.mean(0), joint_AS.sum(0) @ joint.h_SH - p_BH.mean(0))])[0]
  assert oracle.mean_p_value(grads_ND, expected) > oracle.SIGNIFICANCE
  # The chains go on from the last v with an h of its own, not from where they were.
  cells = (oracle.index(after.chains.v_CV) * 16 + oracle.index(after.chains.h_CH)).reshape(-1)
  oracle.assert_frequencies(cells, joint_AS.reshape(-1))


def test_chains_persist_from_call_to_call():
  # Held params: after 10 calls from one corner, chains are at p(v, h), whatever the batch.
  joint = oracle.rbm_joint(PARAMS)
  estimator = contrastive(rbm, persistent(chains=2**14, steps=2))

  @jax.jit
  def after(key):
    corner = gibbs.Chains(jnp.ones((2**14, 5)), jnp.ones((2**14, 4)))
    memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)._replace(chains=corner)

    def call(memory, key):
      return estimator.grad(key, PARAMS, memory, BATCH)[1], None

    return jax.lax.scan(call, memory, jax.random.split(key, 15))[0].chains

  chains = after(jax.random.key(2))
  cells = oracle.index(chains.v_CV) * 16 + oracle.index(chains.h_CH)
  oracle.assert_frequencies(cells, joint.p_AS.reshape(-1))


def fixed(v_CV, p_CH):
  """A negative phase without chance."""
  y_CH = np.log(p_CH / (1 - p_CH)) - PARAMS.c_H
  return Negative(lambda key, model, params: base.Memory(),
                  lambda key, model, params, memory, y_BH: (Drawn(v_CV, y_CH), memory), biased=True)


@pytest.fixture(name='negative', scope='module')
def fixture_negative():
  draws = np.random.default_rng(3)
  return (draws.random((9, 5)) < 0.4).astype(np.float32), draws.random((9, 4)).astype(np.float32)


def test_the_plain_gradient_is_the_difference_of_moments(negative):
  v_CV, p_CH = negative
  estimator = contrastive(rbm, fixed(v_CV, p_CH))
  memory = jax.jit(estimator.init)(jax.random.key(1), PARAMS)
  grads, _, metrics = jax.jit(estimator.grad)(jax.random.key(0), PARAMS, memory, BATCH)
  v_BV = np.asarray(BATCH, np.float64)
  p_BH = sigmoid(np.asarray(PARAMS.c_H) + v_BV @ np.asarray(PARAMS.w_VH))
  np.testing.assert_allclose(grads.w_VH, v_CV.T @ p_CH / 9 - v_BV.T @ p_BH / 6, atol=1e-6)
  np.testing.assert_allclose(grads.b_V, v_CV.mean(0) - v_BV.mean(0), atol=1e-6)
  np.testing.assert_allclose(grads.c_H, p_CH.mean(0) - p_BH.mean(0), atol=1e-6)
  np.testing.assert_allclose(metrics['moment_error'],
                             np.abs(v_CV.mean(0) - v_BV.mean(0)).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['hidden_activity'], p_BH.mean(), rtol=1e-5)


def test_the_centred_gradient_is_the_literal_formula(negative):
  # <(v - mu)(h - lambda)>, row by row, through two calls that move the offsets.
  v_CV, p_CH = negative
  rate = 0.25
  estimator = contrastive(rbm, fixed(v_CV, p_CH), direction=centred(rate))
  memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)
  w_VH, b_V, c_H = oracle.float64(PARAMS)
  mu_V, lambda_H = sigmoid(b_V), sigmoid(c_H)
  for seed, v_BV in enumerate((BATCH, BATCH[::-1][:3])):
    grads, memory, _ = jax.jit(estimator.grad)(jax.random.key(seed), PARAMS, memory, v_BV)
    v_BV = np.asarray(v_BV, np.float64)
    p_BH = sigmoid(c_H + v_BV @ w_VH)
    d_VH = (np.mean([np.outer(v - mu_V, h - lambda_H) for v, h in zip(v_BV, p_BH, strict=True)], 0)
            - np.mean([np.outer(v - mu_V, h - lambda_H) for v, h in zip(v_CV, p_CH, strict=True)],
                      0))
    np.testing.assert_allclose(grads.w_VH, -d_VH, atol=1e-6)
    np.testing.assert_allclose(
      grads.b_V, -(v_BV.mean(0) - v_CV.mean(0) - d_VH @ lambda_H), atol=1e-6)
    np.testing.assert_allclose(
      grads.c_H, -(p_BH.mean(0) - p_CH.mean(0) - mu_V @ d_VH), atol=1e-6)
    # The offsets of the next call: what a batch says of them it does not say to itself.
    mu_V = (1 - rate) * mu_V + rate * v_BV.mean(0)
    lambda_H = (1 - rate) * lambda_H + rate * p_BH.mean(0)
    np.testing.assert_allclose(memory.shared.direction.v_V, mu_V, atol=1e-6)
    np.testing.assert_allclose(memory.shared.direction.h_H, lambda_H, atol=1e-6)


def test_the_centred_gradient_is_that_of_the_centred_energy():
  # E(v - mu, h - lambda) has biases b' = b + W lambda, c' = c + mu W: descend in (W, b', c') and
  # map back. To first order in the step that is the centred update of (W, b, c).
  mu_V, lambda_H = np.linspace(0.1, 0.9, 5), np.linspace(0.2, 0.6, 4)
  grads = rbm.Params(*(np.random.default_rng(4).normal(size=np.shape(x)) for x in PARAMS))
  w_VH, b_V, c_H = oracle.float64(PARAMS)
  # log p as a function of (W, b', c') through b = b' - W lambda, c = c' - mu W.
  d_w = grads.w_VH - np.outer(grads.b_V, lambda_H) - np.outer(mu_V, grads.c_H)
  step = 1e-3
  w_new = w_VH - step * d_w
  b_new = (b_V + w_VH @ lambda_H - step * grads.b_V) - w_new @ lambda_H
  c_new = (c_H + mu_V @ w_VH - step * grads.c_H) - mu_V @ w_new
  estimator = contrastive(rbm, reconstruction(), direction=centred(0.5))
  memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)
  memory = memory._replace(shared=memory.shared._replace(
    direction=Offsets(jnp.float32(mu_V), jnp.float32(lambda_H))))
  mapped = estimator.target(rbm.Params(*map(jnp.float32, grads)), PARAMS, memory)
  for g, new, old in zip(mapped, (w_new, b_new, c_new), (w_VH, b_V, c_H), strict=True):
    np.testing.assert_allclose(g, (old - new) / step, rtol=1e-4, atol=1e-5)


# The price of units that are on too often.


def test_the_gradient_of_a_sparsity_target_is_the_chain_rule():
  # d/dq of KL(level || q) is (q - level) / (q (1 - q)); dq_j/dc_j is the mean of p (1 - p).
  level, weight = 0.2, 0.7
  value, grads = jax.value_and_grad(sparsity(rbm, level, weight))(PARAMS, BATCH)
  w_VH, _, c_H = oracle.float64(PARAMS)
  v_BV = np.asarray(BATCH, np.float64)
  p_BH = sigmoid(c_H + v_BV @ w_VH)
  q_H = p_BH.mean(0)
  np.testing.assert_allclose(value, weight * np.sum(
    level * np.log(level / q_H) + (1 - level) * np.log((1 - level) / (1 - q_H))), rtol=1e-5)
  slope_BH = weight * (q_H - level) / (q_H * (1 - q_H)) * p_BH * (1 - p_BH) / len(v_BV)
  np.testing.assert_allclose(grads.c_H, slope_BH.sum(0), rtol=1e-4)
  np.testing.assert_allclose(grads.w_VH, v_BV.T @ slope_BH, rtol=1e-4, atol=1e-6)
  assert not np.any(grads.b_V)


@pytest.mark.parametrize('start', [-200.0, -8.0, 8.0, 30.0, 200.0])
def test_a_sparsity_target_pulls_activity_to_its_level(start):
  # Also of units that are on, or off, for all data to the last bit of float32.
  params = PARAMS._replace(c_H=jnp.full(4, start))
  slope = jax.jit(jax.grad(sparsity(rbm, 0.2, 1.0)))
  grads = slope(params, BATCH)
  assert all(np.all(np.isfinite(g)) for g in grads)
  assert np.all(np.sign(grads.c_H) == np.sign(start))
  for _ in range(300 if abs(start) < 10 else 0):
    params = jax.tree.map(lambda p, g: p - g, params, slope(params, BATCH))
  if abs(start) < 10:
    np.testing.assert_allclose(rbm.hidden_mean(params, BATCH).mean(0), 0.2, atol=0.01)


def test_a_sparsity_target_in_training_is_its_gradient_added(negative):
  penalty = sparsity(rbm, 0.1, 0.5)
  plain, priced = (contrastive(rbm, fixed(*negative), penalty=p) for p in (None, penalty))
  grads = [jax.jit(e.grad)(jax.random.key(0), PARAMS, jax.jit(e.init)(jax.random.key(1), PARAMS),
                           BATCH)[0] for e in (plain, priced)]
  for a, b, c in zip(*grads, jax.grad(penalty)(PARAMS, BATCH), strict=True):
    np.testing.assert_allclose(a + c, b, atol=1e-6)


def test_the_price_of_groups_is_the_square_of_each_units_sum_in_the_zero_sum_gauge():
  # Two columns of three letters, two hidden units: written out.
  w_VH = np.random.default_rng(8).normal(size=(6, 2))
  params = rbm.Params(jnp.float32(w_VH), jnp.zeros(6), jnp.zeros(2))
  expected = 0.0
  for m in range(2):
    total = sum(abs(w_VH[3 * i + a, m] - w_VH[3 * i:3 * i + 3, m].mean())
                for i in range(2) for a in range(3))
    expected += 0.7 / (2 * 2 * 3) * total**2
  penalty = sparse_groups(2, 0.7)
  np.testing.assert_allclose(penalty(params, None), expected, rtol=1e-5)
  # Neither the value nor the gradient depends on the gauge, and the gradient stays in it.
  moved = params._replace(w_VH=params.w_VH + jnp.repeat(jnp.float32([[1.0, -2.0], [0.5, 3.0]]),
                                                        3, axis=0))
  np.testing.assert_allclose(penalty(moved, None), expected, rtol=1e-5)
  slope, slope_moved = (jax.grad(penalty)(p, None).w_VH for p in (params, moved))
  np.testing.assert_allclose(slope, slope_moved, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(slope.reshape(2, 3, 2).sum(1), 0, atol=1e-5)
  # Units of one state are groups by themselves.
  np.testing.assert_allclose(
    sparse_groups(6, 1.0)(params, None), np.sum(np.abs(w_VH).sum(0)**2) / 12, rtol=1e-5)


# A machine behind a normalisation.


def test_normalised_data_are_what_the_machine_sees():
  draws = np.random.default_rng(6)
  mean_V, scale_V = draws.normal(size=4), 1 + draws.random(4)
  params = Normalised(jnp.float32(mean_V), jnp.float32(scale_V), GAUSSIAN_PROBLEM.params)
  x_BV = jnp.float32(mean_V + scale_V * np.asarray(GAUSSIAN_PROBLEM.batch))
  inner = contrastive(GAUSSIAN, persistent(4), direction=centred(0.1))
  outer = normalised(inner)
  memory = jax.jit(outer.init)(jax.random.key(0), params)
  grads, after, _ = jax.jit(outer.grad)(jax.random.key(1), params, memory, x_BV)
  expected, inner_after, _ = jax.jit(inner.grad)(
    jax.random.key(1), params.machine, memory, GAUSSIAN_PROBLEM.batch)
  for a, b in zip(jax.tree.leaves((grads.machine, after)),
                  jax.tree.leaves((expected, inner_after)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)
  assert not np.any(grads.mean_V) and not np.any(grads.scale_V)
  # The target is the machine's, with what the machine's estimator remembers.
  mapped = outer.target(grads, params, memory).machine
  for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(
      inner.target(grads.machine, params.machine, memory)), strict=True):
    np.testing.assert_array_equal(a, b)
  assert normalised(contrastive(GAUSSIAN, persistent(4))).target is None


@pytest.mark.parametrize('make, message', [
  (lambda: reconstruction(0), 'steps >= 1, got 0'),
  (lambda: persistent(10, steps=0), 'steps >= 1, got 0'),
  (lambda: persistent(chains=0), 'chains >= 1, got 0'),
  (lambda: contrastive(rbm, reconstruction(), last_half_step='means'), "not 'means'"),
  (lambda: sparsity(Machine(units.BERNOULLI, units.SPIN), 0.1), 'Bernoulli hidden units')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_direction_is_refused_where_it_would_not_be_one_of_the_parameters():
  estimator = contrastive(linear_rbm, reconstruction(), direction=centred())
  with pytest.raises(ValueError, match='direction=PLAIN'):
    measured(estimator, linear_rbm)
