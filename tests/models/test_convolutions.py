"""Convolutions against their sums in NumPy, both ways of computing them against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import convolutions
from gen_models.models.convolutions import BatchNorm, Block, Decoder, Encoder, double, halve, keep

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

SHAPES = [(8, 8), (7, 5), (6, 9)]
FORMS = ['products', 'lax']


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def taps(shape):
  """((i, j), (k, m), place) of every tap of a kernel of 4 at stride 2 that falls on the image."""
  height, width = shape
  for i, j, k, m in itertools.product(range(-(-height // 2)), range(-(-width // 2)), range(4),
                                      range(4)):
    y, x = 2 * i + k - 1, 2 * j + m - 1
    if 0 <= y < height and 0 <= x < width:
      yield (i, j), (k, m), (y, x)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('shape', SHAPES)
def test_halve_is_the_sum_of_the_docstring(shape, form):
  x, w = normal(0, 2, *shape, 3), normal(1, 4, 4, 3, 5)
  expected = np.zeros((2, -(-shape[0] // 2), -(-shape[1] // 2), 5))
  for (i, j), (k, m), (row, column) in taps(shape):
    expected[:, i, j] += x[:, row, column] @ w[k, m]
  np.testing.assert_allclose(halve(x, w, form), expected, atol=1e-4)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('shape', SHAPES)
def test_double_is_the_sum_of_the_docstring(shape, form):
  x, w = normal(0, 2, *shape, 3), normal(1, 4, 4, 3, 5)
  big = (2 * shape[0], 2 * shape[1])
  expected = np.zeros((2, *big, 5))
  for (i, j), (k, m), (row, column) in taps(big):
    expected[:, row, column] += x[:, i, j] @ w[k, m]
  np.testing.assert_allclose(double(x, w, form), expected, atol=1e-4)


def test_keep_is_the_sum_of_the_docstring_and_blocks_start_as_the_identity():
  x, w = normal(0, 2, 6, 5, 3), normal(1, 3, 3, 3, 4)
  padded, expected = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), np.zeros((2, 6, 5, 4))
  for i, j, k, m in itertools.product(range(6), range(5), range(3), range(3)):
    expected[:, i, j] += padded[:, i + k, j + m] @ w[k, m]
  for form in FORMS:
    np.testing.assert_allclose(keep(x, w, form), expected, atol=1e-4)
  block = Block()
  params = block.init(jax.random.key(0), x)['params']
  np.testing.assert_array_equal(block.apply({'params': params}, x), x)
  slope = jax.grad(lambda p: jnp.sum(jnp.sin(block.apply({'params': p}, x))))(params)
  assert np.any(slope['second']) and not np.any(slope['first'])


@pytest.mark.parametrize('layer', [halve, double])
def test_both_forms_have_the_same_first_and_second_derivatives(layer):
  x, w = normal(0, 2, 6, 5, 3), normal(1, 4, 4, 3, 2)

  def slope(x, w, form):
    return jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(layer(x, w, form))))(x)))

  one, other = (jax.jit(jax.grad(slope, (0, 1)), static_argnums=2)(x, w, form) for form in FORMS)
  for a, b in zip(one, other, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize('batch_norm', [False, True])
@pytest.mark.parametrize('shape, start', [
  pytest.param((28, 28), 7, marks=pytest.mark.slow), ((8, 8), 2), ((10, 6), None)])
def test_shapes_and_forms_of_the_networks(shape, start, batch_norm):
  z, x = normal(0, 3, 6), normal(1, 3, *shape, 2)
  outputs = []
  for form in FORMS:
    decoder = Decoder((8, 4), shape, 3, batch_norm, form=form)
    encoder = Encoder((4, 8), 5, batch_norm, form=form)
    params = [jax.jit(net.init)(jax.random.key(0), data)['params']
              for net, data in ((decoder, z), (encoder, x))]
    # Biases start at 0: moved, so that they count.
    params = jax.tree.map(lambda p: p + 0.1, params)
    outputs.append([net.apply({'params': p}, data) for net, p, data in zip(
      (decoder, encoder), params, (z, x), strict=True)])
    if start:
      assert params[0]['in']['w_CD'].shape == (6, 8 * start**2)
  assert outputs[0][0].shape == (3, *shape, 3) and outputs[0][1].shape == (3, 5)
  for a, b in zip(*outputs, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_networks_keep_variances_at_the_start():
  # He et al. (2015), for leaky ReLUs within a few percent; pixels at the border see fewer taps.
  z, x = normal(0, 200, 64), normal(1, 50, 16, 16, 16)
  decoder, encoder = Decoder((64, 32), (16, 16), 16), Encoder((64, 128), 16)
  for net, data in ((decoder, z), (encoder, x)):
    out = net.apply(net.init(jax.random.key(2), data), data)
    assert 0.5 < float(jnp.sqrt(jnp.mean(jnp.square(out)))) < 1.8


def test_stddev_is_that_of_all_weights():
  params = Encoder((8, 16), 4, True, stddev=0.02).init(jax.random.key(0), normal(0, 2, 8, 8, 3))
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    if 'halve' in name or 'w_CD' in name:
      np.testing.assert_allclose(np.std(x), 0.02, rtol=0.1)
    else:
      assert np.all(np.asarray(x) == ('gamma' in name))


def test_batch_norm_is_the_formula_and_sees_the_whole_batch():
  x = 3 * normal(0, 5, 4, 4, 2) + normal(1, 2)
  params = {'gamma_C': jnp.float32([2, 0.5]), 'beta_C': jnp.float32([-1, 4])}
  y = BatchNorm().apply({'params': params}, x)
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(
    y, (x - mean) / np.sqrt(var + 1e-5) * params['gamma_C'] + params['beta_C'], atol=1e-5)
  assert not np.allclose(BatchNorm().apply({'params': params}, x[:2]), y[:2], atol=1e-3)


def test_replicas_of_networks_are_themselves_to_rounding():
  # Products are ordered alike, the shifted copies between them are not.
  x = normal(0, 8, 8, 8, 1)
  net = Encoder((4, 8), 1, True)

  def grad(params, x):
    return jax.grad(lambda p: jnp.sum(jnp.sin(net.apply(p, x))))(params)

  params = [jax.jit(net.init)(jax.random.key(i), x) for i in range(3)]
  together = jax.jit(jax.vmap(grad, (0, None)))(jax.tree.map(lambda *p: jnp.stack(p), *params), x)
  for i, p in enumerate(params):
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(jax.jit(grad)(p, x)), strict=True):
      np.testing.assert_allclose(a[i], b, atol=1e-5)


def test_linear_starts_without_bias_and_adds_it():
  net = convolutions.Linear(3, weights=convolutions.weights(None, 1.0))
  x = normal(0, 5, 4)
  params = jax.jit(net.init)(jax.random.key(0), x)['params']
  assert set(params) == {'w_CD', 'b_D'} and not np.any(params['b_D'])
  moved = {**params, 'b_D': jnp.float32([1, 2, 3])}
  np.testing.assert_allclose(net.apply({'params': moved}, x), x @ params['w_CD'] + moved['b_D'],
                             atol=1e-6)
