"""Negative phases against their algorithms written out, and against enumeration.

Chance decides only in chi-square tests (oracle.SIGNIFICANCE); all else is given the same keys.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators import base
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import (
  coupled,
  fast_persistent,
  mean_field,
  persistent,
  reconstruction,
  tap,
)
from gen_models.models import bits, gibbs, rbm, units
from gen_models.models.machine import Machine
from gen_models.problems.rbm import BATCH, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def gradients(estimator, num_updates, learning_rate=0.2):
  """Gradients, the parameters that they were taken at, and the memory after, of plain descent."""
  params, memory = PARAMS, jax.jit(estimator.init)(jax.random.key(0), PARAMS)
  grad, found = jax.jit(estimator.grad), []
  for t in range(num_updates):
    grads, memory, _ = grad(jax.random.key(t + 1), params, memory, BATCH)
    found.append((params, grads, memory))
    params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grads)
  return found


# Persistent chains driven by fast weights.


@pytest.mark.parametrize('steps', [1, 3])
def test_fast_weights_are_the_published_algorithm(steps):
  # Tieleman & Hinton (2009), update by update in NumPy; only the random numbers are shared.
  rate, decay, chains = 0.3, 0.8, 6
  estimator = contrastive(rbm, fast_persistent(chains, steps, rate, decay))
  h_CH = np.asarray(estimator.init(jax.random.key(0), PARAMS).chains.h_CH)
  fast = [np.zeros(x.shape) for x in PARAMS]
  for t, (params, grads, memory) in enumerate(gradients(estimator, 4)):
    w_VH, b_V, c_H = oracle.float64(params)
    driven_VH, driven_V, driven_H = (p + f for p, f in zip((w_VH, b_V, c_H), fast, strict=True))
    key_gibbs, *last = jax.random.split(jax.random.split(jax.random.key(t + 1))[0], 3)
    first = [jax.random.split(k) for k in jax.random.split(key_gibbs, steps - 1)]
    for key_v, key_h in [*first, last]:  # one Gibbs step of the driven machine
      v_CV = np.asarray(bits.bernoulli(
        key_v, jnp.float32(sigmoid(driven_V + h_CH @ driven_VH.T))))
      h_CH = np.asarray(bits.bernoulli(key_h, jnp.float32(sigmoid(driven_H + v_CV @ driven_VH))))
    v_BV = np.asarray(BATCH, np.float64)
    p_BH, p_CH = sigmoid(c_H + v_BV @ w_VH), sigmoid(c_H + v_CV @ w_VH)
    expected = (v_CV.T @ p_CH / chains - v_BV.T @ p_BH / len(v_BV),
                v_CV.mean(0) - v_BV.mean(0), p_CH.mean(0) - p_BH.mean(0))
    fast = [decay * f - rate * g for f, g in zip(fast, expected, strict=True)]
    np.testing.assert_array_equal(memory.chains.h_CH, h_CH)
    for ours, theirs in zip((*grads, *memory.shared.negative), (*expected, *fast), strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-6)
  assert max(np.abs(f).max() for f in fast) > 0.1  # fast enough to matter


def test_without_a_rate_fast_weights_are_persistent_chains():
  fast, plain = (gradients(contrastive(rbm, negative), 3) for negative in (
    fast_persistent(5, 2, fast_rate=0.0), persistent(5, 2)))
  for (_, ours, memory), (_, theirs, of_plain) in zip(fast, plain, strict=True):
    for a, b in zip((*ours, *memory.chains), (*theirs, *of_plain.chains), strict=True):
      np.testing.assert_array_equal(a, b)


# Fixed points.


def scaled(scale):
  """A machine of coupling `scale` W and biases that keep units away from 1/2."""
  return rbm.Params(scale * PARAMS.w_VH, jnp.linspace(-1.5, 1.0, 5), jnp.linspace(-1.2, 0.9, 4))


def settled(negative, params):
  """(m_v, m_h, <v h>) of the fixed point, from many iterations."""
  memory = jax.jit(negative.init, static_argnums=1)(jax.random.key(0), rbm, params)
  drawn, memory = negative.sample(jax.random.key(1), rbm, params, memory, None)
  assert drawn.metrics['fixed_point_change'] < 1e-6
  v_CV, h_CH = (np.asarray(x, np.float64) for x in memory.chains)
  np.testing.assert_allclose(rbm.hidden.mean(params.c_H, drawn.y_CH), h_CH, atol=1e-6)
  joint_VH = v_CV.T @ h_CH / len(v_CV)
  if drawn.correction is not None:
    joint_VH += np.asarray(drawn.correction[0])
  return v_CV, h_CH, joint_VH


@pytest.mark.parametrize('second_order', [False, True])
def test_fixed_points_satisfy_their_equations(second_order):
  params = scaled(0.5)
  make = tap if second_order else mean_field
  v_CV, h_CH, joint_VH = settled(make(chains=3, iterations=300), params)
  w_VH, b_V, c_H = oracle.float64(params)
  s_CV, s_CH = v_CV * (1 - v_CV), h_CH * (1 - h_CH)
  back = float(second_order)
  np.testing.assert_allclose(v_CV, sigmoid(
    b_V + h_CH @ w_VH.T - back * (v_CV - 0.5) * (s_CH @ w_VH.T**2)), atol=2e-6)
  np.testing.assert_allclose(h_CH, sigmoid(
    c_H + v_CV @ w_VH - back * (h_CH - 0.5) * (s_CV @ w_VH**2)), atol=2e-6)
  expected = np.mean([np.outer(v, h) + back * w_VH * np.outer(s, t)
                      for v, h, s, t in zip(v_CV, h_CH, s_CV, s_CH, strict=True)], axis=0)
  np.testing.assert_allclose(joint_VH, expected, atol=2e-6)
  # The gradient holds just these moments.
  estimator = contrastive(rbm, make(chains=3, iterations=300))
  grads, _, _ = jax.jit(estimator.grad)(
    jax.random.key(1), params, jax.jit(estimator.init)(jax.random.key(0), params), BATCH)
  v_BV = np.asarray(BATCH, np.float64)
  data_VH = v_BV.T @ sigmoid(c_H + v_BV @ w_VH) / len(v_BV)
  np.testing.assert_allclose(grads.w_VH, expected - data_VH, atol=5e-6)


def test_errors_of_the_expansion_have_their_orders():
  # <v h> of Plefka's expansion is wrong by O(W) at first order, by O(W^2) at second.
  error = {}
  for scale in (0.4, 0.1, 0.025):
    params = scaled(scale)
    joint = oracle.rbm_joint(params)
    exact_VH = joint.v_AV.T @ joint.p_AS @ joint.h_SH
    for make in (mean_field, tap):
      joint_VH = settled(make(iterations=100), params)[2]
      error[make, scale] = np.linalg.norm(joint_VH - exact_VH)
    assert error[tap, scale] < 0.1 * error[mean_field, scale]
  # A quarter of the coupling: 4 times, 16 times less, with what is left of higher orders.
  assert 3.5 < error[mean_field, 0.1] / error[mean_field, 0.025] < 4.5
  assert 10 < error[tap, 0.1] / error[tap, 0.025] < 20


def test_saturated_units_leave_fixed_points_finite():
  params = PARAMS._replace(b_V=jnp.full(5, 200.0), c_H=jnp.full(4, -200.0))
  for make in (mean_field, tap):
    estimator = contrastive(rbm, make(iterations=50))
    grads, _, _ = jax.jit(estimator.grad)(
      jax.random.key(1), params, jax.jit(estimator.init)(jax.random.key(0), params), BATCH)
    assert all(np.all(np.isfinite(g)) for g in grads)


# Coupled chains.


@functools.partial(jax.jit, static_argnums=(2, 3))
def trajectories(key, params, chains, num_steps):
  """x_1, x_2, .. and y_0, y_1, .. of pairs of chains, [T, C, ...], one random number for both."""
  key_x, key_y, key_first, key_run = jax.random.split(key, 4)
  x = gibbs.step(key_first, rbm, params, gibbs.init_chains(key_x, rbm, params, chains))
  y = gibbs.init_chains(key_y, rbm, params, chains)

  def both(pair, t):
    k = jax.random.fold_in(key_run, t)
    pair = tuple(gibbs.step(jax.random.clone(k), rbm, params, c) for c in pair)
    return pair, pair

  _, later = jax.lax.scan(both, (x, y), jnp.arange(1, num_steps))
  return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), (x, y), later)


def literal_pairs(key, params, chains, steps):
  """(x_k, tau, sum_{t=k+1}^{tau-1} f(x_t) - f(y_{t-1})), from whole trajectories of both chains.

  f is (v p(h | v), v, p(h | v)), averaged over pairs; random numbers are those of `coupled`.
  """
  x, y = (gibbs.Chains(*(np.asarray(a, np.float64) for a in c)) for c in trajectories(
    key, params, chains, 200))  # row t - 1: x_t, y_{t-1}
  same_TC = np.all(x.v_CV == y.v_CV, -1) & np.all(x.h_CH == y.h_CH, -1)
  assert np.all(np.diff(same_TC.astype(int), axis=0) >= 0), 'a pair that had met came apart'
  tau_C = 1 + np.argmax(same_TC, axis=0)
  assert same_TC[-1].all()
  w_VH, _, c_H = oracle.float64(params)
  total = [np.zeros(p.shape) for p in params]
  for c in range(chains):
    for t in range(steps + 1, tau_C[c]):
      for v, sign in ((x.v_CV[t - 1, c], 1), (y.v_CV[t - 1, c], -1)):
        p = sigmoid(c_H + v @ w_VH)
        total = [s + sign * f / chains for s, f in zip(total, (np.outer(v, p), v, p), strict=True)]
  return x.v_CV[steps - 1], tau_C, total


@pytest.mark.parametrize('steps', [1, 3])
def test_coupled_chains_are_the_sum_over_their_trajectories(steps):
  chains, key = 64, jax.random.key(steps)
  drawn, _ = coupled(chains, steps).sample(
    jax.random.clone(key), rbm, PARAMS, base.Memory(), jnp.zeros((1, 4)))
  v_CV, tau_C, correction = literal_pairs(key, PARAMS, chains, steps)
  assert tau_C.max() > steps + 3  # some pairs do take their time
  np.testing.assert_array_equal(drawn.v_CV, v_CV)
  for ours, theirs in zip(drawn.correction, correction, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
  assert drawn.metrics['met'] == 1
  # Gibbs steps that y took; a pair found met at the start shows it after one.
  np.testing.assert_allclose(
    drawn.metrics['sweeps_to_meet'], np.mean(np.maximum(tau_C, 2) - 1), rtol=1e-5)


def test_pairs_that_are_given_up_are_counted():
  chains, key = 64, jax.random.key(5)
  drawn, _ = coupled(chains, 1, max_steps=3).sample(
    jax.random.clone(key), rbm, PARAMS, base.Memory(), jnp.zeros((1, 4)))
  _, tau_C, _ = literal_pairs(key, PARAMS, chains, 1)
  assert drawn.metrics['met'] == np.mean(tau_C <= 3) and 0 < drawn.metrics['met'] < 1


@pytest.mark.parametrize('steps', [1, 4])
def test_what_counts_first_is_the_chain_after_so_many_gibbs_steps(steps):
  joint = oracle.rbm_joint(PARAMS)
  drawn, _ = jax.jit(lambda key: coupled(2**14, steps).sample(
    key, rbm, PARAMS, base.Memory(), jnp.zeros((1, 4))))(jax.random.key(6))
  p_A = np.prod(np.where(joint.v_AV == 1, *(sigmoid(s * oracle.float64(PARAMS).b_V)
                                            for s in (1, -1))), axis=1)
  h_given_v_AS = joint.p_AS / joint.p_AS.sum(1, keepdims=True)
  v_given_h_SA = (joint.p_AS / joint.p_AS.sum(0)).T
  kernel_AA = h_given_v_AS @ v_given_h_SA
  oracle.assert_frequencies(oracle.index(drawn.v_CV),
                            p_A @ np.linalg.matrix_power(kernel_AA, steps))


SPINS = Machine(units.SPIN, units.SPIN)


@pytest.mark.parametrize('make, message', [
  (lambda: fast_persistent(4, steps=0), 'steps >= 1, got 0'),
  (lambda: fast_persistent(0), 'chains >= 1, got 0'),
  (lambda: mean_field(chains=0), 'chains >= 1, got 0'),
  (lambda: tap(iterations=0), 'steps >= 1, got 0'),
  (lambda: coupled(0), 'chains >= 1, got 0'),
  (lambda: coupled(4, steps=0), 'steps >= 1, got 0'),
  (lambda: coupled(4, steps=5, max_steps=5), 'max_steps > steps, got 5 and 5'),
  (lambda: reconstruction(-1), 'steps >= 1, got -1')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('negative', [mean_field(), tap(), coupled(4)])
def test_what_is_written_for_zeros_and_ones_refuses_other_units(negative):
  params = SPINS.init(jax.random.key(0), 4, 3)
  with pytest.raises(ValueError, match='Bernoulli units in both layers'):
    contrastive(SPINS, negative).init(jax.random.key(1), params)
