"""The machine against enumeration of p(v, h) from its energy (tests/oracle.py).

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import gibbs, rbm
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')


def machine(num_visible, num_hidden, scale, seed=0) -> rbm.Params:
  """All parameters normal, so b and c matter as much as W."""
  draws = np.random.default_rng(seed)
  return rbm.Params(*(jnp.asarray(scale * draws.normal(size=shape), jnp.float32)
                      for shape in ((num_visible, num_hidden), num_visible, num_hidden)))


PARAMS = machine(4, 3, 1.0)


def moments(joint: oracle.Joint) -> rbm.Params:
  """E[v h], E[v], E[h]."""
  return rbm.Params(joint.v_AV.T @ joint.p_AS @ joint.h_SH, joint.p_AS.sum(1) @ joint.v_AV,
                    joint.p_AS.sum(0) @ joint.h_SH)


# Density.


def test_energy_is_minus_log_of_the_joint_up_to_log_z():
  joint = oracle.rbm_joint(PARAMS)
  for s, h_H in enumerate(joint.h_SH):
    h_AH = np.tile(h_H, (16, 1)).astype(np.float32)
    np.testing.assert_allclose(
      -rbm.energy(PARAMS, jnp.float32(joint.v_AV), h_AH) - joint.log_partition,
      np.log(joint.p_AS[:, s]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('scale', [0.1, 1.0, 30.0])
@pytest.mark.parametrize('num_visible, num_hidden', [(3, 5), (5, 3)])
def test_free_energy_and_log_partition(num_visible, num_hidden, scale):
  params = machine(num_visible, num_hidden, scale)
  joint = oracle.rbm_joint(params)
  v_AV = jnp.float32(joint.v_AV)
  assert rbm.log_partition(params).shape == ()
  np.testing.assert_allclose(rbm.log_partition(params), joint.log_partition, rtol=2e-6)
  log_p_A = np.log(joint.p_AS.sum(1))
  tolerance = 2e-6 * (1 + np.abs(log_p_A).max() + abs(joint.log_partition))
  np.testing.assert_allclose(-rbm.free_energy(params, v_AV), log_p_A + joint.log_partition,
                             rtol=0, atol=tolerance)
  np.testing.assert_allclose(rbm.log_likelihood(params, v_AV), log_p_A, rtol=0, atol=tolerance)
  np.testing.assert_allclose(np.exp(rbm.log_likelihood(params, v_AV)).sum(), 1, rtol=1e-4)


@pytest.mark.parametrize('num_visible, num_hidden', [(1, 1), (3, 5), (5, 3), (15, 14), (13, 15)])
def test_log_partition_and_its_gradient_are_the_moments(num_visible, num_hidden):
  # The last two enumerate 2^14 hidden and 2^13 visible states, four blocks and two; the oracle
  # sums over the visible ones with the hidden summed one by one.
  params = machine(num_visible, num_hidden, 0.5)
  w_VH, b_V, c_H = oracle.float64(params)
  v_AV = oracle.states(num_visible)
  x_AH = c_H + v_AV @ w_VH
  log_f_A = v_AV @ b_V + np.logaddexp(0, x_AH).sum(1)
  log_z = np.logaddexp.reduce(log_f_A)
  p_A, mean_AH = np.exp(log_f_A - log_z), 1 / (1 + np.exp(-x_AH))
  value, grads = jax.jit(jax.value_and_grad(rbm.log_partition))(params)
  np.testing.assert_allclose(value, log_z, rtol=2e-6)
  expected = rbm.Params((v_AV * p_A[:, None]).T @ mean_AH, p_A @ v_AV, p_A @ mean_AH)
  for ours, theirs in zip(grads, expected, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=5e-6)
  if num_visible < 6:
    for ours, theirs in zip(grads, moments(oracle.rbm_joint(params)), strict=True):
      np.testing.assert_allclose(ours, theirs, atol=5e-6)


def test_all_states_lists_each_state_once_lowest_bit_first():
  np.testing.assert_array_equal(rbm.all_states(2), [[0, 0], [1, 0], [0, 1], [1, 1]])
  np.testing.assert_array_equal(rbm.all_states(6), oracle.states(6))
  assert rbm.all_states(0).shape == (1, 0)


def test_too_large_to_enumerate_says_what_to_do():
  params = jax.eval_shape(lambda: rbm.init(jax.random.key(0), 29, 40))
  with pytest.raises(ValueError, match='2\\^29.*AIS'):
    jax.eval_shape(rbm.log_partition, params)
  assert jax.eval_shape(rbm.log_partition, jax.eval_shape(
    lambda: rbm.init(jax.random.key(0), 784, 28))).shape == ()


# Parameters.


def test_visible_biases_start_at_the_log_odds_of_the_data():
  mean_V = np.array([0.0, 0.3, 0.5, 1.0])  # float64, as NumPy means are
  params = rbm.init(jax.random.key(1), 4, 1000, mean_V)
  np.testing.assert_allclose(jax.nn.sigmoid(params.b_V), 0.99 * mean_V + 0.005, rtol=1e-5)
  assert not np.any(params.c_H) and {x.dtype for x in params} == {np.dtype('float32')}
  # 4000 normal deviates of sd 0.01: their sd lies this near for all but 1 key in 10^8.
  assert abs(np.std(params.w_VH) / 0.01 - 1) < 0.065
  assert not np.any(rbm.init(jax.random.key(2), 4, 3).b_V)


def test_impossible_sizes_are_refused():
  with pytest.raises(ValueError, match='at least one unit'):
    rbm.init(jax.random.key(0), 4, 0)
  with pytest.raises(ValueError, match=r'data mean has shape \(3,\)'):
    rbm.init(jax.random.key(0), 4, 2, jnp.zeros(3))


# Conditionals.


def enumerated_conditionals(joint):
  """p(h_j = 1 | v) for every v, p(v_i = 1 | h) for every h."""
  return (joint.p_AS @ joint.h_SH / joint.p_AS.sum(1)[:, None],
          joint.p_AS.T @ joint.v_AV / joint.p_AS.sum(0)[:, None])


def test_conditionals_are_those_of_the_joint_and_not_with_b_and_c_exchanged():
  params = machine(3, 3, 1.0)  # square, so that the exchange is at least well-shaped
  joint = oracle.rbm_joint(params)
  hidden_AH, visible_SV = enumerated_conditionals(joint)
  v_AV, h_SH = jnp.float32(joint.v_AV), jnp.float32(joint.h_SH)
  np.testing.assert_allclose(rbm.hidden_mean(params, v_AV), hidden_AH, atol=1e-6)
  np.testing.assert_allclose(rbm.visible_mean(params, h_SH), visible_SV, atol=1e-6)
  exchanged = rbm.Params(params.w_VH, params.c_H, params.b_V)
  assert np.abs(rbm.hidden_mean(exchanged, v_AV) - hidden_AH).max() > 0.1
  assert np.abs(rbm.visible_mean(exchanged, h_SH) - visible_SV).max() > 0.1


def test_conditionals_of_a_machine_that_is_not_square():
  joint = oracle.rbm_joint(PARAMS)
  hidden_AH, visible_SV = enumerated_conditionals(joint)
  np.testing.assert_allclose(rbm.hidden_mean(PARAMS, jnp.float32(joint.v_AV)), hidden_AH, atol=1e-6)
  np.testing.assert_allclose(rbm.visible_mean(PARAMS, jnp.float32(joint.h_SH)), visible_SV,
                             atol=1e-6)


# Sampling.


NUM_CHAINS = 2**17


def cells(chains, joint):
  """Which (v, h) each chain is in, as an index into p_AS.reshape(-1)."""
  return oracle.index(chains.v_CV) * len(joint.h_SH) + oracle.index(chains.h_CH)


def test_a_gibbs_step_draws_v_given_h_then_h_given_v():
  # From one h, all (v', h') are drawn with p(v' | h) p(h' | v'): the order, both conditionals.
  joint = oracle.rbm_joint(PARAMS)
  start = 5
  h_CH = jnp.tile(jnp.float32(joint.h_SH[start]), (NUM_CHAINS, 1))
  chains = jax.jit(gibbs.step, static_argnums=1)(
    jax.random.key(3), rbm, PARAMS, gibbs.Chains(jnp.zeros((NUM_CHAINS, 4)), h_CH))
  v_A = joint.p_AS[:, start] / joint.p_AS[:, start].sum()
  h_given_v_AS = joint.p_AS / joint.p_AS.sum(1, keepdims=True)
  oracle.assert_frequencies(cells(chains, joint), (v_A[:, None] * h_given_v_AS).reshape(-1))


def test_chains_start_at_the_visible_biases():
  joint = oracle.rbm_joint(PARAMS)
  chains = jax.jit(gibbs.init_chains, static_argnums=(1, 3))(
    jax.random.key(4), rbm, PARAMS, NUM_CHAINS)
  p_V = 1 / (1 + np.exp(-np.asarray(PARAMS.b_V, np.float64)))
  v_A = np.prod(np.where(joint.v_AV == 1, p_V, 1 - p_V), axis=1)
  h_given_v_AS = joint.p_AS / joint.p_AS.sum(1, keepdims=True)
  oracle.assert_frequencies(cells(chains, joint), (v_A[:, None] * h_given_v_AS).reshape(-1))


def test_gibbs_reaches_the_joint():
  # Independent chains, 40 Gibbs steps each, forget their start: second eigenvalue^40 < 1e-6.
  joint = oracle.rbm_joint(PARAMS)
  assert np.sort(np.abs(np.linalg.eigvals(oracle.gibbs_kernel(joint))))[-2]**40 < 1e-6

  def sample(key):
    key_init, key_gibbs = jax.random.split(key)
    return gibbs.run(key_gibbs, rbm, PARAMS,
                     gibbs.init_chains(key_init, rbm, PARAMS, NUM_CHAINS), 40)

  oracle.assert_frequencies(cells(jax.jit(sample)(jax.random.key(5)), joint),
                            joint.p_AS.reshape(-1))


def test_sample_follows_the_visible_marginal_and_shows_its_mean():
  joint = oracle.rbm_joint(PARAMS)
  v_CV, mean_CV = gibbs.sample(jax.random.key(3), rbm, PARAMS, 20_000, 30)
  oracle.assert_frequencies(oracle.index(v_CV), joint.p_AS.sum(1))
  assert set(np.unique(v_CV)) == {0.0, 1.0}
  # E[v - E[v | h]] = 0 for each unit, and v is drawn from that very mean.
  assert oracle.mean_p_value(v_CV - mean_CV, np.zeros(4)) > oracle.SIGNIFICANCE
  assert np.mean((np.asarray(v_CV) - np.asarray(mean_CV))**2) < np.mean(
    (np.asarray(v_CV)[1:] - np.asarray(mean_CV)[:-1])**2)


def test_successive_gibbs_steps_use_keys_of_their_own():
  # Without weights every Gibbs step is a fresh draw: (v after one, v after two) is uniform.
  params = rbm.Params(*map(jnp.zeros_like, PARAMS))
  start = gibbs.Chains(jnp.zeros((2**12, 4)), jnp.zeros((2**12, 3)))
  keys = jax.random.split(jax.random.key(6), 2)
  step = jax.jit(gibbs.step, static_argnums=1)
  one = step(keys[0], rbm, params, start)
  two = step(keys[1], rbm, params, one)
  both = jax.jit(gibbs.run, static_argnums=(1, 4))(jax.random.key(6), rbm, params, start, 2)
  np.testing.assert_array_equal(both.v_CV, two.v_CV)
  np.testing.assert_array_equal(both.h_CH, two.h_CH)
  pairs = oracle.index(one.v_CV) * 16 + oracle.index(two.v_CV)
  oracle.assert_frequencies(pairs, np.full(256, 1 / 256))


def test_the_key_is_consumed():
  key, start = jax.random.key(7), gibbs.Chains(jnp.zeros((8, 4)), jnp.zeros((8, 3)))
  gibbs.run(key, rbm, PARAMS, start, 2)
  with pytest.raises(jax.errors.KeyReuseError):
    gibbs.run(key, rbm, PARAMS, start, 2)
