"""The sigmoid belief network against enumeration of all (x, z_1, z_2) in NumPy float64.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import belief_net
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, WIDTHS = 3, (3, 2)
MODEL = belief_net.model(V, WIDTHS)


def example(seed=0):
  rng = np.random.default_rng(seed)
  fresh = jax.jit(MODEL.init)(jax.random.key(0), jnp.full(V, 0.5))
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), fresh)


def every_state():
  """x, z_1, z_2 of each of the 2^8 joint states, [A, ..]."""
  rows = itertools.product(*(range(2**n) for n in (V, *WIDTHS)))
  rows = np.array(list(rows))
  return [oracle.states(n)[rows[:, i]] for i, n in enumerate((V, *WIDTHS))]


def probability(logits, x):
  p = 1 / (1 + np.exp(-logits))
  return np.prod(np.where(x == 1, p, 1 - p), axis=-1)


def affine(layer, x):
  layer, = layer.values()
  return x @ np.asarray(layer['w_DF'], np.float64) + np.asarray(layer.get('b_F', 0.0))


def joint(params):
  """p(x, z_1, z_2) of every state, [A]."""
  x, z_1, z_2 = every_state()
  return (probability(np.asarray(params.prior_O, np.float64), z_2)
          * probability(affine(params.decoder[1], z_2), z_1)
          * probability(affine(params.decoder[0], z_1) + np.asarray(params.bias_O), x))


def test_the_densities_are_the_enumerated_ones():
  params = example()
  x, z_1, z_2 = every_state()
  z, x_AV = (jnp.float32(z_1)[None], jnp.float32(z_2)[None]), jnp.float32(x)
  log_p_A = (MODEL.log_likelihood(params, x_AV, z) + MODEL.log_prior(params, z))[0]
  np.testing.assert_allclose(log_p_A, np.log(joint(params)), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(log_p_A).sum(), 1, rtol=1e-5)

  centred = x - np.asarray(params.center_V, np.float64)
  q_A = probability(affine(params.encoder[0], centred), z_1) * probability(
    affine(params.encoder[1], z_1), z_2)
  log_q_A = MODEL.log_posterior(params, MODEL.encode(params, x_AV), z)[0]
  np.testing.assert_allclose(log_q_A, np.log(q_A), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(log_q_A).reshape(2**V, -1).sum(1), 1, rtol=1e-5)


def test_samples_follow_the_joint():
  params, num = example(), 2**17

  @jax.jit
  def draw(key):
    key_z, key_x = jax.random.split(key)
    z = MODEL.sample_prior(key_z, params, num)
    return MODEL.sample_visible(key_x, params, z[0]), *z

  x, z_1, z_2 = draw(jax.random.key(1))
  cells = (oracle.index(x) * 2**3 + oracle.index(z_1)) * 2**2 + oracle.index(z_2)
  oracle.assert_frequencies(cells, joint(params))


def test_posterior_samples_follow_the_posterior():
  params, x_BV, num = example(1), jnp.array([[1.0, 0.0, 1.0]]), 2**16
  code_BO = MODEL.encode(params, x_BV)
  z = jax.jit(MODEL.sample_posterior, static_argnums=3)(jax.random.key(2), params, code_BO, num)
  rows = np.array(list(itertools.product(range(8), range(4))))
  states = tuple(jnp.float32(oracle.states(n)[rows[:, i]])[:, None] for i, n in enumerate(WIDTHS))
  q_S = np.exp(np.asarray(MODEL.log_posterior(params, code_BO, states), np.float64))[:, 0]
  cells = oracle.index(z[0][:, 0]) * 4 + oracle.index(z[1][:, 0])
  oracle.assert_frequencies(cells, q_S / q_S.sum())


def test_the_centre_is_not_trained_and_the_prior_is():
  params, x_BV = example(), jnp.float32(oracle.states(V))

  def loss(params):
    return jnp.mean(MODEL.log_weights(jax.random.key(3), params, x_BV, 2))

  grads = jax.grad(loss)(params)
  np.testing.assert_array_equal(grads.center_V, 0)
  assert np.all(grads.prior_O != 0)


def test_the_untrained_encoder_does_not_see_the_mean():
  mean_V = jnp.array([0.2, 0.9, 0.5])
  params = jax.jit(MODEL.init)(jax.random.key(4), mean_V)
  np.testing.assert_allclose(MODEL.encode(params, mean_V[None]), 0, atol=1e-6)
  np.testing.assert_allclose(MODEL.visible_mean(params, jnp.zeros((1, 3)))[0], mean_V, atol=1e-3)


def test_nonlinear_networks_have_their_hidden_layers_between_each_two():
  model = belief_net.model(V, (4, 2), (6, 5))
  params = jax.jit(model.init)(jax.random.key(5), jnp.full(V, 0.5))
  sizes = [[layer['w_DF'].shape for layer in net.values()]
           for net in (*params.encoder, *params.decoder)]
  assert sizes == [[(3, 6), (6, 5), (5, 4)], [(4, 6), (6, 5), (5, 2)],
                   [(4, 5), (5, 6), (6, 3)], [(2, 5), (5, 6), (6, 4)]]
