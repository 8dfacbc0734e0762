"""Monitors of chains, against what is known of the chains, and alarms that ring once.

Error rates are stated where chance decides; keys are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data
from gen_models.estimators.base import Estimator, Memory
from gen_models.evaluation import monitors
from gen_models.experiment import Alarm
from gen_models.models import gibbs, joined, rbm, units
from gen_models.problems.rbm import PARAMS
from gen_models.training import checks, loop
from gen_models.training.hooks import Hooks
from tests import oracle
from tests.training import toy

pytestmark = pytest.mark.usefixtures('strict_promotion')


def at_equilibrium(num_chains):
  joint = oracle.rbm_joint(PARAMS)
  cells = np.random.default_rng(0).choice(joint.p_AS.size, num_chains, p=joint.p_AS.reshape(-1))
  return joint, gibbs.Chains(jnp.asarray(joint.v_AV[cells // 16], jnp.float32),
                           jnp.asarray(joint.h_SH[cells % 16], jnp.float32))


def exact_rho(joint, lag):
  """sum_i cov(v_i(0), v_i(t)) / sum_i var(v_i) of Gibbs chains at equilibrium."""
  p_A, p_S = joint.p_AS.sum(1), joint.p_AS.sum(0)
  h_given_v_AS = joint.p_AS / p_A[:, None]
  v_given_h_SA = (joint.p_AS / p_S).T
  kernel_AA = h_given_v_AS @ np.linalg.matrix_power(
    v_given_h_SA @ h_given_v_AS, lag - 1) @ v_given_h_SA
  mean_V = p_A @ joint.v_AV
  moved = (p_A[:, None] * joint.v_AV).T @ kernel_AA @ joint.v_AV
  return np.trace(moved - np.outer(mean_V, mean_V)) / np.sum(p_A @ joint.v_AV**2 - mean_V**2)


def test_autocorrelation_is_that_of_the_kernel():
  # 2^15 chains: a correlation is known to about 1 / sqrt(5 * 2^15) = 0.0025; 0.015 is six of those.
  joint, chains = at_equilibrium(2**15)
  rho_T = jax.jit(monitors.autocorrelation, static_argnums=(1, 4))(
    jax.random.key(1), rbm, PARAMS, chains, 6)
  exact_T = [exact_rho(joint, lag) for lag in range(1, 7)]
  np.testing.assert_allclose(rho_T, exact_T, atol=0.015)
  assert exact_T[0] > 0.2  # there is something to see


def test_monitors_weigh_rows_as_training_does():
  draws = np.random.default_rng(1)
  v_BV = draws.integers(0, 2, (12, len(PARAMS.b_V))).astype(np.float32)
  w_B = np.float32(draws.integers(1, 4, 12))
  train, valid = (data.Arrays(rows, weights=w) for rows, w in ((v_BV, w_B), (1 - v_BV, w_B[::-1])))
  _, chains = at_equilibrium(20)
  found = jax.jit(monitors.of_machine(
    rbm, lambda params, arrays, split: (params, jnp.asarray(arrays.rows)), num_steps=2))(
      jax.random.key(0), PARAMS, Memory(chains, ()), train, valid)
  free_NB = np.asarray(rbm.free_energy(PARAMS, jnp.asarray(np.stack([v_BV, 1 - v_BV]))))
  of_train, of_valid = (np.average(free, weights=w) for free, w in zip(free_NB, (w_B, w_B[::-1])))
  np.testing.assert_allclose(found['free_energy_gap'], of_valid - of_train, rtol=1e-4, atol=1e-5)
  apart_V = np.abs(np.mean(chains.v_CV, axis=0) - np.average(v_BV, axis=0, weights=w_B))
  np.testing.assert_allclose(found['chain_moment_error'], apart_V.mean(), rtol=1e-4)
  drawn_B = monitors.drawn(jnp.arange(12, dtype=jnp.int32), w_B)
  assert np.all(np.abs(np.bincount(drawn_B, minlength=12) - 12 * w_B / w_B.sum()) < 1)


def test_chains_that_do_not_move_have_the_longest_time():
  # Two modes far apart, and no way between them.
  stuck = rbm.Params(jnp.full((6, 6), 9.0), jnp.full(6, -27.0), jnp.full(6, -27.0))
  start = gibbs.Chains(*(jnp.repeat(jnp.asarray([[0.0], [1.0]]), 20, axis=0)
                       * jnp.ones((40, 6)) for _ in range(2)))
  rho_T = monitors.autocorrelation(jax.random.key(0), rbm, stuck, start, 30)
  assert monitors.autocorrelation_time(rho_T) > 60
  free = jax.tree.map(jnp.zeros_like, stuck)
  rho_T = monitors.autocorrelation(jax.random.key(0), rbm, free, start, 30)
  assert monitors.autocorrelation_time(rho_T) < 3


def test_autocorrelation_time_of_a_geometric_decay():
  rho_T = jnp.asarray([0.5**t for t in range(1, 40)])
  np.testing.assert_allclose(monitors.autocorrelation_time(rho_T), 3.0, rtol=1e-6)
  # What comes back after a zero is noise.
  assert monitors.autocorrelation_time(jnp.asarray([0.5, -0.1, 0.4])) == 2.0


def gap_of(params, v_BV):
  """interaction_gap as the monitor has it."""
  monitor = monitors.of_machine(rbm, lambda params, v_BV, split: (params, v_BV))
  return monitor(jax.random.key(0), params, Memory(), v_BV, v_BV)['interaction_gap']


def test_the_interaction_gap_bounds_what_a_model_gains_over_independent_pixels():
  _, chains = at_equilibrium(2**12)
  v_BV, states_AV = chains.v_CV, jnp.asarray(oracle.states(len(PARAMS.b_V)), jnp.float32)
  mean_V = v_BV.mean(0)

  def log_q(v_NV):
    return jnp.sum(jnp.where(v_NV > 0.5, jnp.log(mean_V), jnp.log1p(-mean_V)), axis=1)

  f_A, q_A = rbm.free_energy(PARAMS, states_AV), jnp.exp(log_q(states_AV))
  exact = jnp.sum(q_A * f_A) - jnp.mean(rbm.free_energy(PARAMS, v_BV))
  spread = float(jnp.sqrt(jnp.sum(q_A * f_A**2) - jnp.sum(q_A * f_A)**2))
  gap = float(gap_of(PARAMS, v_BV))
  assert abs(gap - exact) < 4 * spread / 2**6  # 4 standard errors: of 16,000 orders of rows, one
  gain = float(jnp.mean(rbm.log_likelihood(PARAMS, v_BV)) - jnp.mean(log_q(v_BV)))
  assert 0.02 < gain < exact


@pytest.mark.parametrize('layer', [units.Categorical(3), joined.Labelled(3), joined.Joined(
  (units.BERNOULLI, units.Categorical(3)), (3, 6))])
def test_rows_from_other_images_are_states_of_every_layer(layer):
  rng = np.random.default_rng(0)
  letters = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (40, 3))].reshape(40, 9)
  bits = (rng.random((40, 9)) < 0.4).astype(np.float32)
  unit = units.unit_of(layer, 9)
  single = np.bincount(unit)[unit] == 1
  v_BV = np.where(single, bits, letters)
  x = np.asarray(monitors.shuffled(v_BV, unit))
  layer.check(x)
  np.testing.assert_array_equal(x.sum(0), v_BV.sum(0))
  assert not np.array_equal(x, v_BV)


@pytest.mark.parametrize('bias, metric', [(-30.0, 'dead_units'), (30.0, 'saturated_units')])
def test_a_machine_of_constant_units_is_independent_pixels(bias, metric):
  _, chains = at_equilibrium(200)
  constant = PARAMS._replace(c_H=jnp.full_like(PARAMS.c_H, bias))
  assert abs(gap_of(constant, chains.v_CV)) < 1e-4
  shares = monitors.constant_units(rbm, constant, chains.v_CV)
  assert {name for name, share in shares.items() if share == 1.0} == {metric}
  assert set(map(float, monitors.constant_units(rbm, PARAMS, chains.v_CV).values())) == {0.0}
  rung = [a.metric for a in monitors.ALARMS if a.metric in (metric, 'interaction_gap')]
  assert sorted(rung) == sorted((metric, 'interaction_gap'))


def watched(estimator, alarms=monitors.ALARMS):
  return toy.phase(estimator, num_steps=40)._replace(
    monitor=monitors.of_chains(rbm, 'threshold', 255, num_steps=10), alarms=alarms)


def fitted(phase, seeds=None):
  lines, warnings = [], []
  key = jax.random.key(0) if seeds is None else jax.random.split(jax.random.key(0), seeds)
  loop.fit(toy.experiment(phase), toy.arrays(), toy.arrays(16), key, hooks=Hooks(
    on_metrics=lambda step, m: lines.append((step, m)),
    on_alarm=lambda step, message, replica: warnings.append((step, message))))
  return lines, warnings


@pytest.mark.parametrize('estimator, seeds', [('pcd', None), ('pcd', 2), ('cd', None)])
def test_monitors_are_recorded_where_the_run_is_validated(estimator, seeds):
  with jax.debug_key_reuse(seeds is None):  # see tests/conftest.py
    lines, _ = fitted(watched(estimator), seeds)
  assert [step for step, m in lines if 'free_energy_gap' in m] == [20, 40]
  last = lines[-1][1]
  assert ('autocorrelation_time' in last) == (estimator == 'pcd')
  assert np.shape(last['free_energy_gap']) == (() if seeds is None else (seeds,))


def test_chains_that_cannot_be_followed_are_refused_before_training():
  alien = Memory(chains={'x': jnp.zeros((4, 3))})
  estimator = Estimator(lambda key, params: alien,
                        lambda key, params, memory, batch: (params, memory, {}))
  phase = watched('pcd')._replace(estimator=estimator)
  with pytest.raises(checks.Unfit, match='the monitor of phase .*chains is a dict: monitors follow '
                     'chains that have v_CV and h_CH') as caught:
    checks.check(toy.experiment(phase), toy.arrays(), toy.arrays(16))
  assert '\n' not in str(caught.value)


def test_constant_units_of_a_network_are_counted_over_all_of_its_layers():
  layers = [jnp.float32([[0.0, 0.5], [0.001, 0.5]]), jnp.float32([[1.0, 0.2], [0.995, 0.9]])]
  monitor = monitors.of_network(lambda params, arrays, split: layers)
  found = monitor(None, None, Memory(), None, None)
  assert {name: float(share) for name, share in found.items()} == {
    'dead_units': 0.25, 'saturated_units': 0.25}


def test_monitoring_changes_no_bit_of_the_run():
  states = [loop.fit(toy.experiment(phase), toy.arrays(), toy.arrays(16), jax.random.key(0)).state
            for phase in (toy.phase('pcd', num_steps=40), watched('pcd'))]
  assert toy.same_bits(*states)


def test_an_alarm_rings_once_and_says_what_to_try():
  alarms = (Alarm('autocorrelation_time', above=0.5, advice='try this'),
            Alarm('autocorrelation_time', above=1e9, advice='never'),
            Alarm('moment_error', below=10.0, advice='and that'))
  _, warnings = fitted(watched('pcd', alarms))
  assert [step for step, _ in warnings] == [10, 20]
  assert 'moment_error is' in warnings[0][1] and 'below 10: and that' in warnings[0][1]
  assert 'autocorrelation_time is' in warnings[1][1] and 'above 0.5: try this' in warnings[1][1]


@pytest.mark.parametrize('data_of, message', [
  ('real', 'are 0 or 1'), ('threshold', None)])
def test_data_are_checked_before_anything_is_compiled(data_of, message):
  from gen_models.models import units

  def check(params, batch):
    units.check_batch(rbm.visible, len(params.b_V), batch)

  phase = toy.phase('pcd', num_steps=10)._replace(
    check=check, batch_at=data.batches(8, data_of, 255))
  if message is None:
    fitted(phase)
  else:
    with pytest.raises(ValueError, match=message):
      fitted(phase)
