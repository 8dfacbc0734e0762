"""Pictures are the arrays they say they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data
from gen_models.evaluation import figures
from gen_models.models import rbm


def test_tile_puts_every_image_in_its_place():
  grid = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) + 10.0
  image = figures.tile(grid, gap=2, background=-1.0)
  assert image.shape == (2 * 6 + 2, 3 * 7 + 2)
  for row in range(2):
    for column in range(3):
      top, left = 2 + 6 * row, 2 + 7 * column
      np.testing.assert_array_equal(image[top:top + 4, left:left + 5], grid[row, column])
  assert np.sum(image == -1.0) == image.size - grid.size


def test_to_grid_takes_the_first_images_row_by_row():
  x_NV = np.arange(7 * 6)
  grid = figures.to_grid(x_NV.reshape(7, 6), (2, 3), 2, 3)
  assert grid.shape == (2, 3, 2, 3)
  np.testing.assert_array_equal(grid.reshape(-1), x_NV[:36])


@pytest.fixture(name='dataset', scope='module')
def fixture_dataset():
  draws = np.random.default_rng(0)
  split = data.Arrays(draws.integers(0, 17, (20, 2, 3), dtype=np.uint8), np.zeros(20, np.int32))
  other = data.Arrays(np.zeros((20, 2, 3), np.uint8), np.zeros(20, np.int32))
  return data.Dataset('digits', train=other, valid=other, test=split, levels=16)


def test_pictures_of_an_rbm(dataset):
  # Visible units all but certain given their biases, so samples are known without chance.
  w_VH = jnp.array([[0.0, 3.0, 1.0, 0.0], [0.0, -4.0, 0.0, 0.0]] + 4 * [4 * [0.0]])
  params = rbm.Params(w_VH, jnp.array([-60.0, 60.0, -60.0, 60.0, -60.0, 60.0]), jnp.zeros(4))
  make = figures.rbm_pictures('threshold', 16, (2, 3), rows=2, columns=3, gibbs_steps=5)
  pictures = make(jax.random.key(0), params, dataset)
  assert list(pictures) == ['data', 'samples after 5 Gibbs sweeps', 'filters']
  np.testing.assert_array_equal(pictures['data'].reshape(6, 6),
                                dataset.test.images[:6].reshape(6, 6) >= 8)
  samples = pictures['samples after 5 Gibbs sweeps']
  assert samples.shape == (2, 3, 2, 3)
  np.testing.assert_allclose(samples, np.broadcast_to([[0, 1, 0], [1, 0, 1]], (2, 3, 2, 3)),
                             atol=1e-6)
  # Four filters in rows of three: one row, the strongest first, zero mid-grey.
  filters = pictures['filters']
  assert filters.shape == (1, 3, 2, 3)
  scale = 2 * np.percentile(np.abs(np.asarray(w_VH)), 99.5)
  expected = np.full((3, 6), 0.5)
  expected[0, :2] = np.clip([0.5 + 3 / scale, 0.5 - 4 / scale], 0, 1)
  expected[1, 0] = 0.5 + 1 / scale
  np.testing.assert_allclose(filters.reshape(3, 6), expected, atol=1e-6)
  assert filters.min() == 0 and expected[0, 0] > expected[1, 0]


def test_samples_are_probabilities_after_mixing(dataset):
  # Far from its biases: one hidden unit, nearly always on, turns everything on.
  params = rbm.Params(jnp.full((6, 1), 40.0), jnp.full(6, -20.0), jnp.full(1, 30.0))
  make = figures.rbm_pictures('threshold', 16, (2, 3), rows=2, columns=3, gibbs_steps=2)
  samples = make(jax.random.key(1), params, dataset)['samples after 2 Gibbs sweeps']
  np.testing.assert_allclose(samples, 1, atol=1e-6)


def test_fewer_filters_than_columns_make_one_short_row(dataset):
  params = rbm.init(jax.random.key(2), 6, 2)
  make = figures.rbm_pictures('real', 16, (2, 3), rows=2, columns=3, gibbs_steps=2)
  pictures = make(jax.random.key(3), params, dataset)
  assert pictures['filters'].shape == (1, 2, 2, 3)
  assert all(np.all((grid >= 0) & (grid <= 1)) for grid in pictures.values())
  np.testing.assert_allclose(pictures['data'].reshape(6, 6),
                             dataset.test.images[:6].reshape(6, 6) / 16, rtol=1e-6)
