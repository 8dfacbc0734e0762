"""Random features are the network they say they are: linear stages against NumPy, and laws."""

import jax
import numpy as np
import pytest

from gen_models.evaluation import features

pytestmark = pytest.mark.usefixtures('strict_promotion')

_features = jax.jit(features.random_features, static_argnames=('shape', 'num_features'))


def images(shape, num=6, seed=0):
  return np.random.default_rng(seed).random((num, int(np.prod(shape))), np.float32)


def layer(x_NYXC, w):
  """Correlation with zeros around, negative values cut, cells of 2 x 2 summed and halved."""
  num, height, width, _ = x_NYXC.shape
  padded = np.pad(x_NYXC, ((0, 0), (1, 1), (1, 1), (0, 0)))
  out = np.zeros((num, -(-height // 2), -(-width // 2), w.shape[-1]))
  for y in range(height):
    for x in range(width):
      patch = padded[:, y:y + 3, x:x + 3]
      out[:, y // 2, x // 2] += np.maximum(np.tensordot(patch, w, 3), 0) / 2
  return out


@pytest.mark.parametrize('shape', [(8, 8), (5, 7), (8, 6, 3)])
def test_against_numpy(shape):
  x_ND = images(shape)
  key, *keys = jax.random.split(jax.random.key(0), 3)  # two layers for up to 8 pixels
  x = x_ND.reshape(6, *shape[:2], -1).astype(np.float64)
  for filters, key_layer in zip((16, 32), keys, strict=True):
    w = np.asarray(jax.nn.initializers.he_normal()(key_layer, (3, 3, x.shape[-1], filters)))
    x = layer(x, w.astype(np.float64) - w.mean((0, 1, 2), dtype=np.float64))
  assert x.shape == (6, 2, 2, 32)
  p = np.asarray(jax.nn.initializers.orthogonal()(key, (128, 64)), np.float64)
  np.testing.assert_allclose(p.T @ p, np.eye(64), atol=1e-5)
  np.testing.assert_allclose(_features(x_ND, shape), x.reshape(6, -1) @ p, atol=1e-4)


@pytest.mark.parametrize('shape, most', [((8, 8), 128), ((28, 28), 512), ((2, 2), 4)])
def test_as_many_as_the_last_layer_holds(shape, most):
  def shape_of(num_features):
    return jax.eval_shape(lambda x_ND: features.random_features(x_ND, shape, num_features),
                          images(shape)).shape

  assert shape_of(most) == (6, most)
  with pytest.raises(ValueError, match=f'at most {most} random features'):
    shape_of(most + 1)


def test_scale_goes_through():
  x_ND = images((28, 28))
  phi_NF = np.asarray(_features(x_ND, (28, 28)))
  np.testing.assert_allclose(_features(x_ND / 2, (28, 28)), phi_NF / 2, rtol=1e-4, atol=1e-5)
  # Pooling keeps the scale, within a few: features are neither lost in rounding nor huge.
  assert 0.01 < phi_NF.std() < 10


def test_features_see_edges_and_where_they_are():
  """A stroke is nearer to itself a pixel further than across or aside; even grey has no edges."""
  x_NYX = np.zeros((6, 28, 28), np.float32)
  x_NYX[0, 4:24, 13:15] = x_NYX[1, 4:24, 14:16] = x_NYX[2, 13:15, 4:24] = x_NYX[3, 4:24, 3:5] = 1
  x_NYX[4], x_NYX[5] = 1, images((28, 28), 1).reshape(28, 28)
  phi_NF = np.asarray(_features(x_NYX.reshape(6, -1), (28, 28)))
  moved, across, aside = np.linalg.norm(phi_NF[1:4] - phi_NF[0], axis=1)
  assert moved < 0.7 * across and moved < 0.7 * aside
  grey, noise = np.linalg.norm(phi_NF[4:], axis=1)  # noise has half the brightness of the grey
  assert grey < noise
