"""Machines of any two layers: with Bernoulli units they are rbm; the others against enumeration.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from gen_models.models import gibbs, rbm, units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine
from gen_models.problems import machine as problems
from tests import oracle
from tests.models import deep

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

STATES = {units.BERNOULLI: [[0.0], [1.0]], units.SPIN: [[-1.0], [1.0]],
          units.Categorical(3): np.eye(3).tolist()}


def all_states(layer, size):
  groups = itertools.product(STATES[layer], repeat=size // layer.group)
  return jnp.asarray([sum(g, []) for g in groups], jnp.float32)


def noisy(machine, num_visible, num_hidden, scale=0.8):
  params = machine.init(jax.random.key(0), num_visible, num_hidden, scale=scale)
  draws = np.random.default_rng(1)
  return jax.tree.map(lambda x: x + jnp.asarray(0.4 * draws.normal(size=x.shape), jnp.float32),
                      params)


BINARY = Machine(units.BERNOULLI, units.BERNOULLI)


def test_with_bernoulli_units_it_is_the_rbm():
  params = noisy(BINARY, 5, 4)
  same = rbm.Params(*params)
  v_BV, h_BH = all_states(units.BERNOULLI, 5), all_states(units.BERNOULLI, 4)[:1]
  h_BH = jnp.broadcast_to(h_BH, (len(v_BV), 4))
  for fn in ('free_energy', 'log_likelihood', 'hidden_mean'):
    np.testing.assert_allclose(getattr(BINARY, fn)(params, v_BV), getattr(rbm, fn)(same, v_BV),
                               rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(BINARY.energy(params, v_BV, h_BH), rbm.energy(same, v_BV, h_BH),
                             rtol=1e-5, atol=1e-5)
  ends = [gibbs.run(jax.random.key(1), model, p, gibbs.init_chains(jax.random.key(2), model, p, 8),
                    3) for model, p in ((BINARY, params), (rbm, same))]
  for chains in zip(*ends, strict=True):
    np.testing.assert_array_equal(*chains)


CODES, CODE_PARAMS = Machine(units.BERNOULLI, units.LINEAR), deep.machine(4, 2, 0.7, 5)


def test_the_free_energy_integrates_linear_hidden_units():
  # Also of parameters that are rbm.Params, as a stack of layers has them.
  w_VH, b_V, c_H = oracle.float64(CODE_PARAMS)
  v_AV, grid = oracle.states(4), np.linspace(-14, 14, 561)
  h_SH = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
  minus_energy_AS = ((v_AV @ b_V)[:, None] + h_SH @ c_H - 0.5 * np.sum(h_SH**2, axis=1)
                     + v_AV @ w_VH @ h_SH.T)
  log_A = np.log(np.exp(minus_energy_AS).sum(1) * (grid[1] - grid[0])**2)
  np.testing.assert_allclose(-CODES.free_energy(CODE_PARAMS, jnp.float32(v_AV)), log_A, rtol=1e-5)


def test_gibbs_reaches_the_marginal_with_linear_hidden_units():
  v_AV = oracle.states(4)
  log_p_A = -np.asarray(CODES.free_energy(CODE_PARAMS, jnp.float32(v_AV)), np.float64)
  p_A = np.exp(log_p_A - log_p_A.max())
  start = gibbs.init_chains(jax.random.key(0), CODES, CODE_PARAMS, 2**16)
  b_V = np.asarray(CODE_PARAMS.b_V, np.float64)
  oracle.assert_frequencies(oracle.index(start.v_CV), deep.product(
    deep.sigmoid(b_V)[None], v_AV)[0])
  chains = jax.jit(gibbs.run, static_argnums=(1, 4))(
    jax.random.key(1), CODES, CODE_PARAMS, start, 60)
  oracle.assert_frequencies(oracle.index(chains.v_CV), p_A / p_A.sum())
  mean_CH = np.asarray(chains.h_CH - CODES.hidden_mean(CODE_PARAMS, chains.v_CV))
  assert oracle.mean_p_value(mean_CH, np.zeros(2)) > oracle.SIGNIFICANCE


@pytest.mark.parametrize('visible, hidden, sizes', [
  (units.SPIN, units.SPIN, (3, 4)), (units.Categorical(3), units.BERNOULLI, (6, 4)),
  (units.BERNOULLI, units.Categorical(3), (4, 6)), (units.SPIN, units.BERNOULLI, (14, 3)),
  (units.BERNOULLI, units.BERNOULLI, (13, 13))])
def test_log_partition_sums_over_all_states(visible, hidden, sizes):
  machine = Machine(visible, hidden)
  params = noisy(machine, *sizes)
  if max(sizes) < 13:
    v_SV, h_SH = all_states(visible, sizes[0]), all_states(hidden, sizes[1])
    pairs = jnp.repeat(v_SV, len(h_SH), 0), jnp.tile(h_SH, (len(v_SV), 1))
    expected = jax.nn.logsumexp(-machine.energy(params, *pairs))
  else:  # more than one block of states
    expected = jax.nn.logsumexp(-machine.free_energy(params, all_states(visible, sizes[0])))
  np.testing.assert_allclose(machine.log_partition(params), expected, rtol=1e-5)


@pytest.mark.parametrize('visible', [units.LINEAR, units.Gaussian(0.1, 4.0), units.RECTIFIED,
                                     DoubleRectified(0.2, 3.0)])
def test_log_partition_integrates_continuous_units(visible):
  machine = Machine(visible, units.BERNOULLI)
  params = noisy(machine, 1, 3)

  x_S = np.linspace(0.0 if visible == units.RECTIFIED else -30.0, 30.0, 2**14 + 1)
  log_p_S = -machine.free_energy(params, jnp.float32(x_S)[:, None])
  area = scipy.integrate.simpson(np.exp(np.asarray(log_p_S, np.float64)), x=x_S)
  np.testing.assert_allclose(machine.log_partition(params), np.log(area), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('machine, problem', [
  (problems.SPINS, problems.SPIN), (problems.POTTS, problems.POTTS_PROBLEM)])
def test_gibbs_leaves_the_model_where_it_is(machine, problem):
  params = problem.params
  v_SV = all_states(machine.visible, len(params.w_VH))
  p_S = np.asarray(jax.nn.softmax(-machine.free_energy(params, v_SV)), np.float64)
  key_start, key_hidden, key_gibbs = jax.random.split(jax.random.key(5), 3)
  v_CV = v_SV[jax.random.categorical(key_start, jnp.log(p_S.astype(np.float32)), shape=(2**14,))]
  chains = gibbs.Chains(v_CV, machine.sample_hidden(key_hidden, params, v_CV))
  v_CV = jax.jit(gibbs.run, static_argnums=(1, 4))(key_gibbs, machine, params, chains, 3).v_CV
  cells = np.argmax(np.all(np.asarray(v_CV)[:, None] == np.asarray(v_SV), axis=-1), axis=1)
  oracle.assert_frequencies(cells, p_S)
  # And it moves.
  assert np.mean(np.any(np.asarray(v_CV) != np.asarray(chains.v_CV), axis=1)) > 0.3


def test_chains_of_a_gaussian_machine_have_its_moments():
  machine, problem = problems.GAUSSIAN, problems.GAUSSIAN_PROBLEM
  params = problem.params
  h_SH = all_states(units.BERNOULLI, params.w_VH.shape[1])
  flipped = Machine(machine.hidden, machine.visible)
  log_p_S = -flipped.free_energy(type(params)(params.w_VH.T, params.c_H, params.b_V), h_SH)
  p_S = np.asarray(jax.nn.softmax(log_p_S), np.float64)
  mean_V = p_S @ np.asarray(machine.visible_mean(params, h_SH), np.float64)
  v_NV, _ = jax.jit(gibbs.sample, static_argnums=(1, 3, 4))(
    jax.random.key(6), machine, params, 2**14, 60)
  assert oracle.mean_p_value(np.asarray(v_NV, np.float64), mean_V) > oracle.SIGNIFICANCE


@pytest.mark.parametrize('hidden', [units.BERNOULLI, units.Gaussian(0.1, 4.0), DoubleRectified()])
def test_the_zero_sum_gauge_is_the_same_density(hidden):
  machine = Machine(units.Categorical(3), hidden)
  params = noisy(machine, 6, 2)
  gauged = machine.zero_sum(params)
  np.testing.assert_allclose(gauged.w_VH.reshape(2, 3, 2).sum(1), 0, atol=1e-6)
  np.testing.assert_allclose(gauged.b_V.reshape(2, 3).sum(1), 0, atol=1e-6)
  assert np.abs(params.w_VH.reshape(2, 3, 2).sum(1)).max() > 0.5
  v_SV = all_states(units.Categorical(3), 6)
  np.testing.assert_allclose(machine.log_likelihood(gauged, v_SV),
                             machine.log_likelihood(params, v_SV), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(machine.hidden_mean(gauged, v_SV), machine.hidden_mean(params, v_SV),
                             rtol=1e-4, atol=1e-5)


def test_coupling_says_where_there_is_no_density():
  machine = Machine(units.LINEAR, units.LINEAR)
  params = noisy(machine, 4, 3)
  w_VH = np.asarray(params.w_VH, np.float64)
  norm = np.linalg.norm(w_VH, 2)
  np.testing.assert_allclose(machine.coupling(params), norm, rtol=1e-5)
  assert machine.coupling(params._replace(w_VH=params.w_VH * 0.9 / norm)) < 1
  assert Machine(units.LINEAR, units.BERNOULLI).coupling(params) == 0
  # Beyond it the energy falls without end along the leading singular vectors.
  left, _, right = np.linalg.svd(w_VH)
  beyond = params._replace(w_VH=params.w_VH * 1.5 / norm)
  far = [machine.energy(beyond, jnp.float32(r * left[:, :1].T), jnp.float32(r * right[:1]))[0]
         for r in (10.0, 20.0, 40.0)]
  assert far[0] > far[1] > far[2]


@pytest.mark.parametrize('make, message', [
  (lambda: BINARY.init(jax.random.key(0), 0, 3), 'at least one unit'),
  (lambda: Machine(units.Categorical(3), units.BERNOULLI).init(jax.random.key(0), 7, 3),
   'groups of 3'),
  (lambda: BINARY.init(jax.random.key(0), 4, 3, jnp.zeros(5)), 'data mean has shape'),
  (lambda: Machine(units.LINEAR, units.LINEAR).log_partition(
    Machine(units.LINEAR, units.LINEAR).init(jax.random.key(0), 4, 3)), 'continuous units'),
  (lambda: BINARY.log_partition(BINARY.init(jax.random.key(0), 40, 30)), r'2\^30 states')])
def test_impossible_machines_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
