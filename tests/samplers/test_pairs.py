"""Annealing, searches and ladders between any two layers, against enumeration and integration.

An estimate may miss the exact value by 5 of its standard errors, for fewer than one key in 10^6 if
the code is right. The number of chains makes those errors a hundredth of a nat.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from gen_models.evaluation import likelihood
from gen_models.models import gibbs, units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine
from gen_models.samplers import annealing, searches, tempering

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

LAYERS = {
  'bernoulli': units.BERNOULLI, 'spin': units.SPIN, 'categorical': units.Categorical(3),
  'linear': units.LINEAR, 'gaussian': units.Gaussian(0.05, 3.0), 'rectified': units.RECTIFIED,
  'double': DoubleRectified()}
# Each layer once below and once above; all other pairs are slow.
QUICK = [('categorical', 'double'), ('spin', 'gaussian'), ('gaussian', 'bernoulli'),
         ('rectified', 'spin'), ('double', 'categorical'), ('linear', 'rectified'),
         ('bernoulli', 'linear')]
PAIRS = [pytest.param(v, h, marks=() if (v, h) in QUICK else pytest.mark.slow)
         for v in LAYERS for h in LAYERS if (v, h) != ('bernoulli', 'bernoulli')]
CHAINS = 1000


def machine_of(visible, hidden):
  """A machine of 2 x 1 groups, parameters away from every default."""
  machine = Machine(LAYERS[visible], LAYERS[hidden])
  sizes = 2 * machine.visible.group, machine.hidden.group
  draws = np.random.default_rng(7)
  params = jax.tree.map(lambda x: x + jnp.asarray(0.4 * draws.normal(size=x.shape), jnp.float32),
                        machine.init(jax.random.key(0), *sizes))
  w_VH = jnp.asarray(draws.normal(size=sizes), jnp.float32)
  if not machine.visible.levels and not machine.hidden.levels:
    w_VH *= 0.7 / machine.coupling(params._replace(w_VH=w_VH))
  return machine, params._replace(w_VH=w_VH)


def exact_log_partition(machine, params) -> float:
  if machine.visible.levels or machine.hidden.levels:
    return float(machine.log_partition(params))
  # int dh exp(log_base(c, h) + A(b, W.h)), of one hidden unit.
  low = 0.0 if machine.hidden == units.RECTIFIED else -40.0
  h_S1 = np.linspace(low, 40.0, 2**15 + 1)[:, None]
  log_p_S = (machine.hidden.log_base(params.c_H, jnp.float32(h_S1))
             + machine.visible.cumulant(params.b_V, jnp.float32(h_S1) @ params.w_VH.T))
  return float(np.log(scipy.integrate.simpson(np.exp(np.asarray(log_p_S, np.float64)),
                                              x=h_S1[:, 0])))


def draws_of(machine, params, num=CHAINS):
  return jax.jit(gibbs.sample, static_argnums=(1, 3, 4))(
    jax.random.key(4), machine, params, num, 100)[0]


@pytest.mark.parametrize('visible, hidden', PAIRS)
def test_both_directions_have_the_exact_value(visible, hidden):
  machine, params = machine_of(visible, hidden)
  v_CV = draws_of(machine, params)
  found = annealing.bracket(jax.random.key(1), params, annealing.base_of(machine, v_CV), v_CV,
                            betas=annealing.linear(12), burn_in=1, model=machine)
  exact = exact_log_partition(machine, params)
  for side in (found.lower, found.upper):
    assert side.standard_error < 0.1 and side.effective_sample_size > 100
    assert abs(side.log_partition - exact) < 5 * side.standard_error + 1e-4
  assert abs(found.log_partition - exact) < 0.1


METHODS = {'annealing': dict(betas=annealing.linear(100)),
           'ladder': dict(betas=annealing.linear(5), num_steps=200,
                          search_betas=annealing.linear(50))}


@pytest.mark.parametrize('visible, hidden, method', [
  ('gaussian', 'spin', 'annealing'),
  *(pytest.param(*pair, method, marks=pytest.mark.slow) for pair, method in (
    (('gaussian', 'spin'), 'ladder'), (('categorical', 'gaussian'), 'ladder'),
    (('categorical', 'double'), 'annealing')))])
def test_the_record_of_a_bracket_holds_the_exact_likelihood(visible, hidden, method):
  machine, params = machine_of(visible, hidden)
  v_NV = draws_of(machine, params, 100)
  weights_N = np.linspace(1, 2, 100)
  exact = np.average(-machine.free_energy(params, v_NV) - exact_log_partition(machine, params),
                     weights=weights_N)
  found = likelihood.bracket(jax.random.key(1), params, v_NV, model=machine, method=method,
                             base_V=annealing.base_of(machine, v_NV), start_CV=v_NV, burn_in=50,
                             binarisation='static', split='test', weights_N=weights_N,
                             **METHODS[method])
  slack = 5 * found['standard_error'] + 1e-4
  assert found['resolved'] and found['split'] == 'test' and found['weighted']
  assert found['lower'] - slack < exact < found['upper'] + slack, (found, exact)
  assert abs(found['test_nats'] - exact) < 0.1
  floor = found['searches']['log_partition_floor']
  assert (floor is None) == (not machine.visible.levels)


def test_the_quick_estimates_take_any_layers():
  machine, params = machine_of('categorical', 'double')
  exact = exact_log_partition(machine, params)
  v_CV = draws_of(machine, params)
  base_V = annealing.base_of(machine, v_CV)
  options = dict(betas=annealing.linear(12), model=machine)
  forward = jax.jit(lambda key: annealing.quick_log_partition(
    key, params, base_V, num_chains=CHAINS, **options))(jax.random.key(0))
  both = jax.jit(lambda key: annealing.quick_bennett(
    key, params, base_V, v_CV, burn_in=1, **options))(jax.random.key(1))
  assert abs(forward - exact) < 0.1 and abs(both - exact) < 0.05


def test_the_floor_of_a_finite_layer_is_log_z_once_every_state_was_seen():
  for visible, states in (('spin', [[-1, -1], [-1, 1], [1, -1], [1, 1]]),
                          ('categorical', np.concatenate([
                            np.repeat(np.eye(3), 3, 0), np.tile(np.eye(3), (3, 1))], axis=1))):
    machine, params = machine_of(visible, 'double')
    v_SV = np.float32(states)
    floor, num = searches.seen_log_partition(params, [v_SV, v_SV[:2]], model=machine)
    assert num == len(v_SV)
    np.testing.assert_allclose(floor, machine.log_partition(params), rtol=1e-5)
  machine, params = machine_of('gaussian', 'bernoulli')
  assert searches.seen_log_partition(params, [np.zeros((3, 2))], model=machine) == (-np.inf, 0)


@pytest.mark.parametrize('visible, hidden', [('categorical', 'double'), ('gaussian', 'gaussian')])
def test_every_machine_of_the_path_is_a_density(visible, hidden):
  # Wide, strongly coupled and with a base that is narrower or wider than the model.
  machine, params = machine_of(visible, hidden)
  params = params._replace(w_VH=params.w_VH * (0.99 / 0.7 if visible == 'gaussian' else 5.0))
  for spread in (-8.0, 8.0):
    base_V = machine.visible.init(jnp.full(len(params.w_VH), machine.visible.neutral))
    if visible == 'gaussian':
      base_V = base_V._replace(spread_D=jnp.full(2, spread))
    couplings = [float(machine.coupling(annealing.at(machine, params, base_V, beta)))
                 for beta in np.linspace(0, 1, 21)]
    assert max(couplings) <= couplings[-1] + 1e-4 < 1
    ends = [annealing.at(machine, params, base_V, beta) for beta in (0.0, 1.0)]
    jax.tree.map(np.testing.assert_array_equal, ends[0].b_V, base_V)
    jax.tree.map(np.testing.assert_array_equal, ends[1], params)


def test_a_ladder_needs_a_first_rung_of_known_z():
  machine, params = machine_of('categorical', 'double')
  with pytest.raises(ValueError, match='log Z of the first rung'):
    tempering.base_log_partition(tempering.stacked([params, params]), model=machine)
  with pytest.raises(ValueError, match=r'base biases \(5,\).*6 visible'):
    annealing.ais(jax.random.key(0), params, jnp.zeros(5), model=machine)
