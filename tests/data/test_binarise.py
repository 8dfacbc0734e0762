import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.data import Arrays, Dataset, fixed, fixed_split
from gen_models.data.binarise import KINDS, binarise, binarise_real, check_binarisation, split_key

KEY = jax.random.key(0)


@pytest.mark.parametrize('levels', [1, 16, 255])
def test_real_divides_by_levels(levels):
  x_BD = jnp.arange(levels + 1, dtype=jnp.uint8)[None]
  y_BD = binarise(KEY, x_BD, 'real', levels)
  assert y_BD.dtype == jnp.float32
  np.testing.assert_allclose(y_BD[0], np.arange(levels + 1) / levels, rtol=1e-6)
  assert y_BD[0, -1] == 1.0


def test_threshold_turns_one_half_on():
  x_BD = jnp.array([[7, 8, 9]], jnp.uint8)
  np.testing.assert_array_equal(binarise(KEY, x_BD, 'threshold', 16), [[0, 1, 1]])
  x_BD = jnp.array([[0, 127, 128, 255]], jnp.uint8)
  np.testing.assert_array_equal(binarise(KEY, x_BD, 'threshold', 255), [[0, 0, 1, 1]])


@pytest.mark.parametrize('levels', [16, 255])
def test_dynamic_draws_each_level_with_its_own_probability(levels):
  num_draws = 20_000
  x_BD = jnp.tile(jnp.arange(levels + 1, dtype=jnp.uint8), (num_draws, 1))
  y_BD = np.asarray(binarise(jax.random.key(1), x_BD, 'dynamic', levels))
  assert y_BD.dtype == np.float32
  assert set(np.unique(y_BD)) == {0.0, 1.0}
  p_D = np.arange(levels + 1) / levels
  assert np.all(y_BD[:, 0] == 0) and np.all(y_BD[:, -1] == 1)  # certain, not nearly so
  z_D = (y_BD.mean(0) - p_D)[1:-1] / np.sqrt(p_D * (1 - p_D) / num_draws)[1:-1]
  assert np.abs(z_D).max() < 5.5  # 254 normal deviates: a correct draw fails for 1 key in 10^5
  assert abs(np.sum(z_D)) / np.sqrt(len(z_D)) < 5


def test_dynamic_pixels_are_uncorrelated():
  x_BD = jnp.full((4096, 64), 128, jnp.uint8)
  y_BD = np.asarray(binarise(jax.random.key(2), x_BD, 'dynamic', 255))
  z = np.corrcoef(y_BD.T)[np.triu_indices(64, 1)] * np.sqrt(4096)
  assert np.abs(z).max() < 5.5  # 2016 deviates: 1 key in 10^4
  rows = np.corrcoef(y_BD[:64])[np.triu_indices(64, 1)] * np.sqrt(64)
  assert np.abs(rows).max() < 6


def test_dynamic_depends_on_the_key_and_not_on_the_image_shape():
  x_BD = jnp.full((10, 784), 100, jnp.uint8)
  y_BD = binarise(jax.random.key(3), x_BD, 'dynamic', 255)
  image = binarise(jax.random.key(3), x_BD.reshape(10, 28, 28, 1), 'dynamic', 255)
  assert image.shape == (10, 28, 28, 1)
  np.testing.assert_array_equal(image.reshape(10, 784), y_BD)
  assert np.any(y_BD != binarise(jax.random.key(4), x_BD, 'dynamic', 255))


@pytest.mark.parametrize('kind', KINDS)
def test_zeros_and_ones_stay_what_they_are(kind):
  x_BD = jnp.array([[0, 1, 1, 0, 1]], jnp.uint8)
  np.testing.assert_array_equal(binarise(KEY, x_BD, kind, 1), x_BD.astype(jnp.float32))


def test_what_makes_no_sense_is_refused():
  with pytest.raises(ValueError, match='binarized_mnist'):
    check_binarisation('static', 255)
  with pytest.raises(ValueError, match='known: static, dynamic'):
    binarise(KEY, jnp.zeros((1, 4), jnp.uint8), 'binary', 255)
  with pytest.raises(ValueError, match='levels'):
    check_binarisation('real', 0)


def test_real_draws_are_seen_as_the_data_are():
  x_BD = jnp.tile(jnp.array([0.0, 0.25, 0.5, 1.0]), (20_000, 1))
  np.testing.assert_array_equal(binarise_real(KEY, x_BD, 'real'), x_BD)
  np.testing.assert_array_equal(binarise_real(KEY, x_BD, 'static'), x_BD)
  np.testing.assert_array_equal(binarise_real(KEY, x_BD, 'threshold')[0], [0, 0, 1, 1])
  y_BD = np.asarray(binarise_real(jax.random.key(1), x_BD, 'dynamic'))
  assert set(np.unique(y_BD)) == {0.0, 1.0}
  # 5 standard errors of a mean of 20,000 draws are 0.018.
  np.testing.assert_allclose(y_BD.mean(0), [0, 0.25, 0.5, 1], atol=0.018)
  with pytest.raises(ValueError, match='unknown binarisation'):
    binarise_real(KEY, x_BD, 'other')


def grey(num_images: int):
  """Images whose pixels are fair coins once binarised."""
  images = np.full((num_images, 8, 8, 1), 8, np.uint8)
  return Dataset('grey', *[Arrays(images)] * 3, levels=16)


def test_splits_share_no_noise():
  # 64,000 pixels a split: a correlation of independent draws has a standard deviation of 0.004.
  train, valid, test = (np.asarray(fixed_split(grey(1000), split, 'dynamic')).ravel()
                        for split in ('train', 'valid', 'test'))
  for a, b in ((train, test), (valid, test), (train, valid)):
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_test_images_are_drawn_as_they_have_always_been():
  # Committed scores are of these bits.
  dataset = grey(3)
  x_ND = dataset.test.images.reshape(3, -1)
  np.testing.assert_array_equal(fixed_split(dataset, 'test', 'dynamic'),
                                binarise(jax.random.key(0), x_ND, 'dynamic', 16))
  assert split_key('test') == jax.random.key(0)


def test_what_is_drawn_needs_its_split():
  arrays = grey(3).train
  with pytest.raises(ValueError, match="no split None; known: train, valid, test"):
    fixed(arrays, 'dynamic', 16)
  np.testing.assert_array_equal(fixed(arrays, 'threshold', 16), np.ones((3, 64)))
