"""Deep belief networks against enumeration of every layer (tests/models/deep.py).

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import dbn, rbm, units
from tests import oracle
from tests.models import deep

pytestmark = pytest.mark.usefixtures('strict_promotion')

STACKS = {'one layer': ((4, 3), 0), 'two layers': ((4, 3, 4), 0), 'three layers': ((3, 4, 3, 2), 0),
          'labels': ((3, 4, 3), 3)}
every_stack = pytest.mark.parametrize('sizes, num_labels', STACKS.values(), ids=STACKS)


def weights(params, v_AV, num_draws, seed=0):
  """log w of every v, [K, A], float64."""
  draw = jax.jit(jax.vmap(dbn.log_weights, (0, None, None)))
  keys = jax.random.split(jax.random.key(seed), num_draws)
  return np.asarray(draw(keys, params, jnp.float32(v_AV)), np.float64)


# Density.


@every_stack
def test_log_weights_are_unbiased_for_p_and_their_mean_is_the_bound(sizes, num_labels):
  params = deep.stack(*sizes, num_labels=num_labels)
  exact = deep.exact(params, num_labels)
  assert dbn.num_labels_of(params) == num_labels
  np.testing.assert_allclose(dbn.log_partition(params), exact.log_partition, rtol=2e-6)
  log_w_KA = weights(params, exact.v_AV, 2**14) - exact.log_partition
  p_A = exact.p_AQ.sum(1)
  assert oracle.mean_p_value(np.exp(log_w_KA) / p_A, np.ones(len(p_A))) > oracle.SIGNIFICANCE
  bound_A = deep.bound(params, num_labels)
  assert np.all(bound_A <= np.log(p_A) + 1e-9)
  if len(sizes) > 2:
    assert np.all(bound_A < np.log(p_A) - 1e-3)
  assert oracle.mean_p_value(log_w_KA, bound_A) > oracle.SIGNIFICANCE


@every_stack
def test_the_law_is_normalised(sizes, num_labels):
  exact = deep.exact(deep.stack(*sizes, num_labels=num_labels), num_labels)
  np.testing.assert_allclose(exact.p_AQ.sum(), 1, rtol=1e-12)


# Parameters.


def test_a_layer_upside_down_leaves_the_bound_at_the_exact_likelihood():
  # Every sample's weight, not only their mean: the prior that is replaced is the one put in.
  layer = deep.machine(4, 3, 1.0, 0)
  params = dbn.grow(jax.random.key(0), dbn.Params((layer,)), jnp.zeros((2, 4)), 4)
  joint = oracle.rbm_joint(layer)
  log_p_A = np.log(joint.p_AS.sum(1))
  log_z = float(dbn.log_partition(params))
  np.testing.assert_allclose(weights(params, joint.v_AV, 16) - log_z,
                             np.tile(log_p_A, (16, 1)), atol=2e-5)
  np.testing.assert_allclose(deep.bound(params), log_p_A, atol=2e-5)
  np.testing.assert_allclose(deep.exact(params).p_AQ[:, 0], joint.p_AS.sum(1), atol=1e-6)
  # A third layer that fits does not lower it either.
  third = dbn.grow(jax.random.key(1), params, jnp.zeros((2, 4)), 3)
  np.testing.assert_allclose(deep.bound(third), log_p_A, atol=2e-5)


def test_a_layer_of_random_weights_lowers_the_bound():
  # Strong weights below, so that the units of h_1 depend on each other under the prior replaced.
  layer = deep.machine(4, 3, 2.0, 3)
  joint = oracle.rbm_joint(layer)
  params = dbn.grow(jax.random.key(0), dbn.Params((layer,)), jnp.float32(joint.v_AV), 5)
  p_A = joint.p_AS.sum(1)
  assert deep.bound(params) @ p_A < np.log(p_A) @ p_A - 0.05


def test_training_the_layer_upside_down_raises_the_bound():
  layer = deep.machine(4, 3, 2.0, 3)
  params = dbn.grow(jax.random.key(0), dbn.Params((layer,)), jnp.zeros((2, 4)), 4)
  v_BV = jnp.float32([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
  rows = oracle.index(v_BV)
  before = deep.bound(params)[rows].mean()
  q_S = jnp.float32(deep.posterior(layer, v_BV).mean(0))
  h_SH = rbm.all_states(3)

  @jax.jit
  def ascend(top):
    grads = jax.grad(lambda top: q_S @ rbm.log_likelihood(top, h_SH))(top)
    return jax.tree.map(lambda p, g: p + 0.1 * g, top, grads)

  top = params.layers[1]
  for _ in range(100):
    top = ascend(top)
  assert deep.bound(dbn.Params((layer, top)))[rows].mean() > before + 0.01


def test_visible_biases_of_a_new_layer_start_at_the_mean_of_what_it_sees():
  params = deep.stack(4, 3)
  v_NV = jnp.float32(np.random.default_rng(0).random((50, 4)))
  above = dbn.grow(jax.random.key(0), params, v_NV, 6, num_labels=2).layers[1]
  layer = oracle.float64(params.layers[0])
  mean_H = deep.sigmoid(layer.c_H + np.asarray(v_NV, np.float64) @ layer.w_VH).mean(0)
  np.testing.assert_allclose(above.b_V[:3], units.log_odds(mean_H), rtol=1e-4)
  assert above.w_VH.shape == (5, 6) and not np.any(above.b_V[3:]) and not np.any(above.c_H)
  assert 0.002 < np.std(above.w_VH) < 0.02
  first = dbn.grow(jax.random.key(0), None, v_NV, 5).layers[0]
  np.testing.assert_allclose(first.b_V, units.log_odds(np.asarray(v_NV).mean(0)), rtol=1e-4)
  assert above.w_VH.dtype == above.b_V.dtype == np.float32


def test_labels_need_a_layer_below_and_none_above():
  v_NV = jnp.zeros((2, 3))
  with pytest.raises(ValueError, match='need a layer below'):
    dbn.grow(jax.random.key(0), None, v_NV, 4, num_labels=2)
  with pytest.raises(ValueError, match='no layer fits above'):
    dbn.grow(jax.random.key(0), deep.stack(3, 4, 3, num_labels=3), v_NV, 4)
  with pytest.raises(ValueError, match='no labels to hold'):
    dbn.sample(jax.random.key(0), deep.stack(3, 4, 3), 2, 1, label=0)


# Conditionals.


def test_features_are_the_posterior_layer_by_layer():
  params = deep.stack(3, 4, 3, 2)
  v_V = np.array([1, 0, 1.0])
  q_S = deep.posterior(params.layers[0], v_V[None]) @ deep.posterior(
    params.layers[1], oracle.states(4))
  v_BV = jnp.tile(jnp.float32(v_V), (2**15, 1))
  x_BF = jax.jit(dbn.features, static_argnums=3)(jax.random.key(0), params, v_BV, 'samples')
  oracle.assert_frequencies(oracle.index(x_BF), q_S[0])
  layers = [oracle.float64(layer) for layer in params.layers]
  mean_F = deep.sigmoid(layers[1].c_H + deep.sigmoid(layers[0].c_H + v_V @ layers[0].w_VH)
                        @ layers[1].w_VH)
  for means in (dbn.feature_means(params, v_BV[:1]),
                dbn.features(jax.random.key(1), params, v_BV[:1], 'means')):
    np.testing.assert_allclose(means[0], mean_F, rtol=1e-5)


def test_the_top_layer_sees_features_and_label():
  params, v_BV = deep.stack(3, 4, 3, num_labels=3), jnp.float32([[1, 0, 1], [0, 0, 1]])
  x_BV = dbn.top_input(jax.random.key(0), params, (v_BV, jnp.int32([2, 0])), 'means')
  np.testing.assert_array_equal(x_BV[:, 4:], [[0, 0, 1], [1, 0, 0]])
  np.testing.assert_array_equal(x_BV[:, :4], dbn.feature_means(params, v_BV))


def test_label_given_visible():
  # Saturated units below: their means are their states, and p(y | h) is that of the enumeration.
  params = deep.stack(3, 4, 3, num_labels=3)
  lower = params.layers[0]._replace(w_VH=60 * jnp.eye(3, 4), c_H=jnp.full(4, -30.0))
  params = dbn.Params((lower, params.layers[1]))
  v_AV = oracle.states(3)
  top = oracle.float64(params.layers[1])
  seen_AQV = np.stack([np.concatenate([v_AV, np.zeros((8, 1)), np.tile(np.eye(3)[y], (8, 1))], 1)
                       for y in range(3)], axis=1)
  input_AQH = top.c_H + seen_AQV @ top.w_VH
  p_AQ = np.exp((seen_AQV @ top.b_V)[..., None] + input_AQH @ oracle.states(3).T).sum(-1)
  np.testing.assert_allclose(dbn.label_given_visible(params, jnp.float32(v_AV)),
                             p_AQ / p_AQ.sum(1, keepdims=True), rtol=1e-4)


# Sampling.


def test_chains_climb_from_layer_to_layer():
  # Machines that are nearly certain: where each chain has to end is known after one step.
  up = rbm.Params(60 * jnp.eye(4), jnp.full(4, 30.0), jnp.full(4, -30.0))  # h = v, all on
  down = rbm.Params(-60 * jnp.eye(4), jnp.full(4, 30.0), jnp.full(4, 30.0))  # h = not v
  x_CV = dbn.climb(jax.random.key(0), dbn.Params((up, up, up)), 6, 2)
  np.testing.assert_array_equal(x_CV, np.ones((6, 4)))
  top = rbm.Params(jnp.zeros((4, 3)), jnp.full(4, -30.0), jnp.zeros(3))  # its biases say all off
  for layers, expected in (((up, top), 1), ((up, down, top), 0)):
    start = dbn.top_chains(jax.random.key(1), dbn.Params(layers), 6, 2)
    np.testing.assert_array_equal(start.v_CV, np.full((6, 4), expected))
  alone = dbn.top_chains(jax.random.key(1), dbn.Params((top,)), 6, 2)
  np.testing.assert_array_equal(alone.v_CV, np.zeros((6, 4)))


@pytest.mark.parametrize('steps', [0, 1])
def test_draws_are_near_the_law_before_the_top_layer_has_moved(steps):
  # A top layer that is the lower one upside down: its law is where the climb ends, exactly in the
  # limit of many steps, so that no step at the top is needed. From the biases it would be.
  lower = deep.machine(4, 3, 1.5, 3)
  params = dbn.Params((lower, dbn.upside_down(lower)))

  @jax.jit
  def ends(key):
    key_start, key_gibbs = jax.random.split(key)
    start = dbn.top_chains(key_start, params, NUM_SAMPLES, 40)
    return dbn.gibbs.run(key_gibbs, rbm, params.layers[1], start, steps).v_CV

  joint = oracle.rbm_joint(dbn.upside_down(lower))
  p_S = joint.p_AS.sum(1)
  oracle.assert_frequencies(oracle.index(ends(jax.random.key(4))), p_S)
  with pytest.raises(AssertionError):
    start = jax.jit(dbn.gibbs.init_chains, static_argnums=(1, 3))(
      jax.random.key(5), rbm, params.layers[1], NUM_SAMPLES)
    oracle.assert_frequencies(oracle.index(start.v_CV), p_S)


NUM_SAMPLES = 2**16


def drawn(params, label=None, num_steps=40):
  """Gibbs steps enough for chains of these sizes to forget their start."""
  return jax.jit(dbn.sample, static_argnums=(2, 3))(
    jax.random.key(0), params, NUM_SAMPLES, num_steps, label)


@every_stack
def test_samples_follow_the_exact_law(sizes, num_labels):
  params = deep.stack(*sizes, num_labels=num_labels, scale=0.7)
  p_A = deep.exact(params, num_labels).p_AQ.sum(1)
  v_NV, mean_NV = drawn(params)
  oracle.assert_frequencies(oracle.index(v_NV), p_A)
  expected_V = p_A @ oracle.states(sizes[0])
  assert oracle.mean_p_value(mean_NV, expected_V) > oracle.SIGNIFICANCE
  # The draw is that of its own mean: v - p(v | h) averages to 0 against p(v | h) too.
  centred_NV = np.asarray(v_NV - mean_NV, np.float64) * np.asarray(mean_NV)
  assert oracle.mean_p_value(centred_NV, np.zeros(sizes[0])) > oracle.SIGNIFICANCE


@pytest.mark.parametrize('label', [0, 2])
def test_a_held_label_conditions_the_samples(label):
  # Labels and what lies below made strong, so that classes differ.
  lower, top = deep.stack(3, 4, 3, num_labels=3, seed=3).layers
  params = dbn.Params((lower._replace(w_VH=2 * lower.w_VH),
                       top._replace(w_VH=top.w_VH * jnp.float32([[1.5]] * 4 + [[4]] * 3))))
  p_AQ = deep.exact(params, 3).p_AQ
  v_NV, _ = drawn(params, label, num_steps=80)
  oracle.assert_frequencies(oracle.index(v_NV), p_AQ[:, label] / p_AQ[:, label].sum())
  with pytest.raises(AssertionError):
    oracle.assert_frequencies(oracle.index(v_NV), p_AQ[:, 1] / p_AQ[:, 1].sum())
