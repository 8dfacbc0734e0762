"""Networks against matrix products in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import convolutions, networks

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')


def some(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize('bias', [True, False])
def test_an_mlp_is_affine_maps_with_an_activation_between(bias):
  network = networks.MLP(3, (5, 4), output_bias=bias)
  fresh = networks.init(jax.random.key(0), network, 6)
  params = jax.tree.map(lambda x: some(x.shape, x.size), fresh)
  x = np.asarray(some((7, 6)), np.float64)
  for i in range(3):
    layer = params[f'Dense_{i}']
    x = x @ np.asarray(layer['w_DF']) + np.asarray(layer.get('b_F', 0))
    x = np.tanh(x) if i < 2 else x
  assert ('b_F' in params['Dense_2']) == bias
  np.testing.assert_allclose(networks.apply(network, params, some((7, 6))), x, rtol=1e-4, atol=1e-5)


def test_weights_start_with_variance_two_over_all_units_and_biases_at_zero():
  params = networks.init(jax.random.key(1), networks.MLP(300, (200,)), 400)
  for name, units in (('Dense_0', 600), ('Dense_1', 500)):
    # The variance of 80,000 uniform numbers is known to 0.3 percent.
    np.testing.assert_allclose(np.var(params[name]['w_DF']), 2 / units, rtol=0.02)
    assert np.max(np.abs(params[name]['w_DF'])) <= np.sqrt(6 / units)
    np.testing.assert_array_equal(params[name]['b_F'], 0)


def test_residual_blocks_start_as_the_identity_and_groups_have_outputs_of_their_own():
  net = networks.Residual((3, 2), ((5, 5), (4,)))
  x_RD = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
  params = jax.tree.map(np.array, networks.init(jax.random.key(0), net, 7))

  def affine(name, x):
    return x @ params[name]['w_DF'] + params[name]['b_F']

  def block(name, h):
    return h + affine(f'second_{name}', np.tanh(affine(f'first_{name}', np.tanh(h))))

  assert not params['second_0_1']['w_DF'].any()
  for start in (True, False):
    low = affine('to_0_0', x_RD)
    if not start:
      for name in ('0_0', '0_1', '1_0'):
        params[f'second_{name}']['w_DF'] += 0.3
      low = block('0_1', block('0_0', low))
    high = affine('to_1_0', np.tanh(low))
    high = high if start else block('1_0', high)
    expected = np.concatenate([affine('out_0', np.tanh(low)), affine('out_1', np.tanh(high))], -1)
    np.testing.assert_allclose(networks.apply(net, params, x_RD), expected, atol=1e-5)
  linear = networks.Residual((3,), ((),), output_bias=False)
  assert jax.tree.map(np.shape, networks.init(jax.random.key(0), linear, 7)) == {
    'out_0': {'w_DF': (7, 3)}}


def test_leading_axes_are_rows():
  network = networks.MLP(3, (4,), networks.leaky_relu)
  params = networks.init(jax.random.key(2), network, 5)
  x_KBD = some((2, 3, 5))
  y = networks.apply(network, params, x_KBD)
  assert y.shape == (2, 3, 3)
  np.testing.assert_allclose(y[1, 2], networks.apply(network, params, x_KBD[1, 2][None])[0],
                             rtol=1e-5, atol=1e-6)


def test_leaky_relu():
  np.testing.assert_allclose(networks.leaky_relu(jnp.array([-2.0, 0.0, 3.0])), [-0.6, 0, 3])


def test_colours_pass_through_as_the_last_axis():
  shape = (6, 4, 3)
  encoder = networks.FromPixels(convolutions.Encoder((4,), 8), shape)
  x_RD = some((4, 72))
  params = networks.init(jax.random.key(4), encoder, 72)
  code_RF = networks.apply(encoder, params, x_RD)
  np.testing.assert_allclose(code_RF, convolutions.Encoder((4,), 8).apply(
    {'params': params['network']}, x_RD.reshape(4, *shape)), rtol=1e-6)
  # Two numbers a value: first the three channels of all pixels of one, then those of the other.
  decoder = networks.ToPixels(convolutions.Decoder((4,), shape[:2], 6), channels=3)
  params = networks.init(jax.random.key(5), decoder, 7)
  image = convolutions.Decoder((4,), shape[:2], 6).apply(
    {'params': params['network']}, some((3, 7)))
  mean, scale = networks.apply(decoder, params, some((3, 7))).reshape(3, 2, *shape).swapaxes(0, 1)
  np.testing.assert_allclose(mean, image[..., :3], rtol=1e-6)
  np.testing.assert_allclose(scale, image[..., 3:], rtol=1e-6)


def test_images_of_another_shape_are_refused():
  # Four images of three channels would be twelve of one, and their codes of twice four numbers.
  grey = networks.FromPixels(convolutions.Encoder((4,), 8), (6, 4))
  params = networks.init(jax.random.key(4), grey, 24)
  with pytest.raises(ValueError, match=r'width 72 are not images of 24 .* shape=\(Y, X, C\)'):
    networks.apply(grey, params, some((4, 72)))


def test_images_pass_through_as_vectors():
  shape = (8, 6)
  encoder = networks.FromPixels(convolutions.Encoder((4,), 5), shape)
  x_RD = some((3, 48))
  params = networks.init(jax.random.key(4), encoder, 48)
  np.testing.assert_allclose(
    networks.apply(encoder, params, x_RD),
    convolutions.Encoder((4,), 5).apply({'params': params['network']}, x_RD.reshape(3, 8, 6, 1)),
    rtol=1e-6)
  # Two numbers a pixel come out as two vectors, one after the other: mean and scale.
  decoder = networks.ToPixels(convolutions.Decoder((4,), shape, 2))
  params = networks.init(jax.random.key(5), decoder, 7)
  image = convolutions.Decoder((4,), shape, 2).apply({'params': params['network']}, some((3, 7)))
  np.testing.assert_allclose(
    networks.apply(decoder, params, some((3, 7))),
    np.concatenate([image[..., 0].reshape(3, 48), image[..., 1].reshape(3, 48)], axis=1), rtol=1e-6)
