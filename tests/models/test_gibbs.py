"""Clamped Gibbs chains against enumeration, of every kind of unit in either layer.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models.models import gibbs, label_rbm, units
from gen_models.models.machine import Machine, Params
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

NUM, STEPS = 2**13, 24
STATES = {units.BERNOULLI: [[0.0], [1.0]], units.SPIN: [[-1.0], [1.0]],
          units.Categorical(3): np.eye(3).tolist()}
CONTINUOUS = (units.LINEAR, units.Gaussian(), units.RECTIFIED)
_impute = jax.jit(gibbs.conditional, static_argnums=(1, 4, 5))


def all_states(layer, size):
  groups = itertools.product(STATES[layer], repeat=size // layer.group)
  return np.asarray([sum(g, []) for g in groups])


def noisy(visible, hidden, num_visible, num_hidden=2):
  """A machine coupled so that a Gibbs step forgets about half."""
  machine, draws = Machine(visible, hidden), np.random.default_rng(3)
  params = machine.init(jax.random.key(0), num_visible, num_hidden, scale=0.5)
  return machine, jax.tree.map(
    lambda x: x + jnp.asarray(0.4 * draws.normal(size=x.shape), jnp.float32), params)


def imputed(machine, params, row_V, num=NUM):
  """(mean, draws) of one row, by as many chains as tests need."""
  mean_BV, draws_BKV = _impute(jax.random.key(7), machine, params,
                               jnp.asarray(row_V, jnp.float32)[None], num, STEPS)
  return np.asarray(mean_BV[0]), np.asarray(draws_BKV[0])


def assert_conditional(machine, params, draws_KV, row_V, states_AV):
  """Draws against p(v | v_seen) over the states that agree with what was seen; these, and p."""
  seen_V = ~np.isnan(row_V)
  fits_AV = states_AV[np.all(states_AV[:, seen_V] == row_V[seen_V], axis=1)]
  p_A = scipy.special.softmax(-np.asarray(
    machine.free_energy(params, jnp.float32(fits_AV)), np.float64))
  distance_KA = np.abs(draws_KV[:, None] - fits_AV).sum(-1)
  assert np.all(distance_KA.min(1) == 0)
  oracle.assert_frequencies(np.argmin(distance_KA, axis=1), p_A)
  return fits_AV, p_A


@pytest.mark.parametrize('visible, hidden', [
  (units.BERNOULLI, units.BERNOULLI), (units.SPIN, units.SPIN), (units.BERNOULLI, units.LINEAR),
  (units.Categorical(3), units.BERNOULLI), (units.BERNOULLI, units.RECTIFIED),
  (units.BERNOULLI, units.Gaussian())])
def test_discrete_units_follow_the_conditional(visible, hidden):
  machine, params = noisy(visible, hidden, 4 * visible.group)
  states_AV = all_states(visible, 4 * visible.group)
  missing_V = np.repeat([False, True, True, False], visible.group)
  row_V = np.where(missing_V, np.nan, states_AV[len(states_AV) // 3])
  mean_V, draws_KV = imputed(machine, params, row_V)
  fits_AV, p_A = assert_conditional(machine, params, draws_KV, row_V, states_AV)
  # The mean is over 15 steps of 2^13 chains and without the noise of the last half step.
  np.testing.assert_allclose(mean_V, p_A @ fits_AV, atol=0.01)


@pytest.mark.parametrize('visible', CONTINUOUS)
def test_continuous_units_follow_the_conditional(visible):
  """p(v_i | v_seen) = sum_h p(h | v_seen) p(v_i | h): its CDF at the draws is uniform."""
  machine, params = noisy(visible, units.BERNOULLI, 3)
  row_V = np.array([0.7, np.nan, np.nan])
  mean_V, draws_KV = imputed(machine, params, row_V)
  h_SH = all_states(units.BERNOULLI, 2)
  y_SV = h_SH @ np.asarray(params.w_VH, np.float64).T
  at = [jax.tree.map(lambda t, i=i: t[i:i + 1], params.b_V) for i in range(3)]
  log_p_S = h_SH @ np.asarray(params.c_H, np.float64) + 0.7 * y_SV[:, 0] + sum(
    np.asarray(visible.cumulant(at[i], jnp.float32(y_SV[:, i:i + 1])), np.float64) for i in (1, 2))
  p_S = scipy.special.softmax(log_p_S)
  for i in (1, 2):
    theta = at[i].bias_D if hasattr(at[i], 'bias_D') else at[i]
    precision = visible.precision(at[i]) if hasattr(visible, 'precision') else np.ones(1)
    centre_S = (float(theta[0]) + y_SV[:, i]) / float(precision[0])
    scale = float(precision[0])**-0.5
    law_S = (scipy.stats.truncnorm(-centre_S / scale, np.inf, centre_S, scale)
             if visible == units.RECTIFIED else scipy.stats.norm(centre_S, scale))
    u_K = law_S.cdf(draws_KV[:, i, None]) @ p_S
    oracle.assert_frequencies(np.minimum((20 * u_K).astype(int), 19), np.full(20, 0.05))
    np.testing.assert_allclose(mean_V[i], p_S @ law_S.mean(), atol=0.02)


def test_a_label_and_pixels_are_imputed_together():
  draws = np.random.default_rng(5)
  params = Params(*(jnp.asarray(draws.normal(size=s), jnp.float32) for s in ((6, 2), 6, 2)))
  model = label_rbm.model(3)
  row_V = np.array([1.0, np.nan, 0.0, np.nan, np.nan, np.nan])
  _, draws_KV = imputed(model, params, row_V)
  states_AV = np.concatenate([np.repeat(oracle.states(3), 3, axis=0), np.tile(np.eye(3), (8, 1))],
                             axis=1)
  assert_conditional(model, params, draws_KV, row_V, states_AV)


def test_a_whole_row_and_an_empty_one():
  machine, params = noisy(units.BERNOULLI, units.BERNOULLI, 4)
  mean_V, draws_KV = imputed(machine, params, [1, 0, 0, 1], num=3)
  np.testing.assert_array_equal(np.vstack([draws_KV, mean_V]), np.tile([1, 0, 0, 1], (4, 1)))
  _, free_KV = imputed(machine, params, [np.nan] * 4)
  assert_conditional(machine, params, free_KV, np.full(4, np.nan), oracle.states(4))


def test_too_few_steps_are_seen_by_these_tests():
  machine, params = noisy(units.BERNOULLI, units.BERNOULLI, 4)
  params = params._replace(w_VH=3 * params.w_VH)
  _, draws_BKV = _impute(jax.random.key(7), machine, params, jnp.full((1, 4), jnp.nan), NUM, 1)
  with pytest.raises(AssertionError, match='do not follow'):
    assert_conditional(machine, params, np.asarray(draws_BKV[0]), np.full(4, np.nan),
                       oracle.states(4))


@pytest.mark.parametrize('num_draws, num_steps', [(0, 5), (5, 0)])
def test_nothing_to_draw_is_refused(num_draws, num_steps):
  machine, params = noisy(units.BERNOULLI, units.BERNOULLI, 4)
  with pytest.raises(ValueError, match='need draws and steps'):
    gibbs.conditional(jax.random.key(0), machine, params, jnp.zeros((1, 4)), num_draws, num_steps)
