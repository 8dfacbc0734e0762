"""The step: a pure function, the same however its steps are grouped or vmapped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.training import parallel, step as step_lib
from tests.training import toy


def run(phase, state, sizes):
  for size in sizes:
    state, metrics = jax.jit(step_lib.train_steps, static_argnums=(0, 3))(
      phase, state, toy.arrays(), size)
  return state, metrics


@pytest.mark.parametrize('estimator', toy.ESTIMATORS)
def test_any_split_of_the_steps_gives_the_same_bits(estimator):
  phase = toy.phase(estimator, average=0.9)
  state = parallel.init_states(phase, jax.random.key(1), toy.arrays())
  whole, _ = run(phase, state, [12])
  parts, _ = run(phase, state, [1, 4, 7])
  assert int(whole.step) == 12
  assert toy.same_bits(whole, parts)
  assert not toy.same_bits(whole.params, state.params)


def test_step_draws_fresh_keys():
  phase = toy.phase('pcd')
  state = parallel.init_states(phase, jax.random.key(1), toy.arrays())
  one, _ = run(phase, state, [1])
  again = one._replace(params=state.params, memory=state.memory, opt_state=state.opt_state)
  two, _ = run(phase, again, [1])
  assert not np.array_equal(one.memory.chains.v_CV, two.memory.chains.v_CV)


def test_average_is_the_mean_then_exponential():
  phase = toy.phase('cd', average=0.75)
  state = parallel.init_states(phase, jax.random.key(1), toy.arrays())
  seen = []
  expected = None
  for i in range(8):
    state, _ = run(phase, state, [1])
    seen.append(np.asarray(state.params.w_VH))
    decay = min(0.75, i / (i + 1))
    expected = seen[0] if i == 0 else decay * expected + (1 - decay) * seen[-1]
    if i == 3:  # up to 1 / (1 - 0.75) steps it is the plain mean
      np.testing.assert_allclose(state.average.w_VH, np.mean(seen, 0), atol=1e-6)
  np.testing.assert_allclose(state.average.w_VH, expected, atol=1e-6)


def test_non_finite_is_found_at_its_step():
  phase = toy.phase('exact', learning_rate=1.0)
  state = parallel.init_states(phase, jax.random.key(1), toy.arrays())
  _, metrics = run(phase, state, [5])
  assert bool(metrics['all_finite'])
  rates = toy.phase('exact', learning_rate=lambda count: jnp.where(count < 3, 0.1, jnp.inf))
  state = parallel.init_states(rates, jax.random.key(1), toy.arrays())
  _, metrics = run(rates, state, [6])
  assert not bool(metrics['all_finite'])
  assert int(metrics['first_bad_step']) in (3, 4)


def test_an_estimator_need_not_report_metrics():
  phase = toy.phase('cd')
  silent = phase.estimator._replace(
    grad=lambda *args: (*phase.estimator.grad(*args)[:2], {}))
  state = parallel.init_states(phase, jax.random.key(1), toy.arrays())
  (ours, metrics), (same, _) = (run(p, state, [5]) for p in (
    phase._replace(estimator=silent), phase))
  assert toy.same_bits(ours, same)
  assert bool(metrics['all_finite']) and set(metrics) == {'all_finite', 'first_bad_step'}


def test_replicas_are_their_own_runs_bit_for_bit():
  phase = toy.phase('centred')
  keys = jax.vmap(jax.random.key)(jnp.arange(3))
  states = parallel.init_states(phase, keys, toy.arrays())
  together = jax.jit(jax.vmap(
    lambda s: step_lib.train_steps(phase, s, toy.arrays(), 30)[0]))(states)
  for i in range(3):
    alone, _ = run(phase, parallel.init_states(phase, jax.random.key(i), toy.arrays()), [30])
    assert toy.same_bits(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_learning_rates_vmap_bit_for_bit():
  # The data are an argument: closed over, they would be folded at compile time, in other bits.
  def train(learning_rate, key, arrays):
    phase = toy.phase('centred', learning_rate=learning_rate)
    state = step_lib.init_state(key, phase, arrays)
    return step_lib.train_steps(phase, state, arrays, 30)[0].params

  rates = jnp.array([0.01, 0.1])
  arrays = jax.device_put(toy.arrays())
  keys = jax.vmap(jax.random.key)(jnp.array([4, 5]))
  together = jax.jit(jax.vmap(train, (0, 0, None)))(rates, keys, arrays)
  for i in range(2):
    alone = jax.jit(train)(rates[i], keys[i], arrays)
    assert toy.same_bits(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_a_phase_may_begin_with_what_the_one_before_has_left():
  def inherit(key, params, memory, arrays, previous_params):
    assert previous_params is not None and len(arrays.rows) == 40
    off = jnp.full_like(memory.chains.v_CV, previous_params.b_V[0]) + jax.random.uniform(key)
    return memory._replace(chains=memory.chains._replace(v_CV=off))

  phase, key = toy.phase('pcd'), jax.random.key(1)
  previous = phase.init(key, toy.arrays(), None)
  plain = parallel.init_states(phase, key, toy.arrays(), previous)
  handed = parallel.init_states(phase._replace(inherit=inherit), key, toy.arrays(), previous)
  drawn = jax.random.uniform(jax.random.fold_in(key, jnp.uint32(2**32 - 6)))
  np.testing.assert_allclose(handed.memory.chains.v_CV, previous.b_V[0] + drawn, rtol=1e-6)
  assert toy.same_bits(plain._replace(memory=()), handed._replace(memory=()))
  assert toy.same_bits(plain.memory.chains.h_CH, handed.memory.chains.h_CH)
