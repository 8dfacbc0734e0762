"""Pictures are the arrays they say they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import charts, figures
from gen_models.models import gibbs, rbm


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


@pytest.mark.parametrize('nearest', [1, 2])
def test_neighbours_are_shown_next_to_their_sample(nearest):
  draws = np.random.default_rng(0)
  samples_NYX = draws.random((9, 2, 3), np.float32)
  train_MYX = draws.random((30, 2, 3), np.float32)
  train_MYX[7] = samples_NYX[3]
  columns = 2 * (1 + nearest)
  grid = figures.neighbours(samples_NYX, train_MYX, rows=3, columns=columns, nearest=nearest)
  assert grid.shape == (3, columns, 2, 3)
  distance_NM = np.square(samples_NYX[:, None] - train_MYX).sum((2, 3))
  for sample, group in enumerate(grid.reshape(6, 1 + nearest, 2, 3)):
    order = np.argsort(distance_NM[sample])[:nearest]
    np.testing.assert_array_equal(group, np.stack([samples_NYX[sample], *train_MYX[order]]))
  np.testing.assert_array_equal(grid[1, 2 + nearest], samples_NYX[3])  # the copy gives itself away


@pytest.mark.parametrize('rows, columns, nearest', [(2, 3, 1), (5, 4, 1), (1, 32, 31)])
def test_neighbours_that_do_not_fit_raise(rows, columns, nearest):
  images = np.zeros((9, 2, 3), np.float32), np.zeros((30, 2, 3), np.float32)
  with pytest.raises(ValueError, match=f'{rows} x {columns} cells'):
    figures.neighbours(*images, rows=rows, columns=columns, nearest=nearest)


def test_filters_of_an_rbm():
  # Four filters in rows of three: one row, the strongest first, zero mid-grey.
  w_VH = jnp.array([[0.0, 3.0, 1.0, 0.0], [0.0, -4.0, 0.0, 0.0]] + 4 * [4 * [0.0]])
  params = rbm.Params(w_VH, jnp.zeros(6), jnp.zeros(4))
  make = figures.rbm_filters((2, 3), rows=2, columns=3)
  pictures = make(jax.random.key(0), params, None)
  assert list(pictures) == ['filters']
  filters = pictures['filters']
  assert filters.shape == (1, 3, 2, 3)
  scale = 2 * np.percentile(np.abs(np.asarray(w_VH)), 99.5)
  expected = np.full((3, 6), 0.5)
  expected[0, :2] = np.clip([0.5 + 3 / scale, 0.5 - 4 / scale], 0, 1)
  expected[1, 0] = 0.5 + 1 / scale
  np.testing.assert_allclose(filters.reshape(3, 6), expected, atol=1e-6)
  assert filters.min() == 0 and expected[0, 0] > expected[1, 0]


def test_fewer_filters_than_columns_make_one_short_row():
  params = rbm.init(jax.random.key(2), 6, 2)
  make = figures.rbm_filters((2, 3), rows=2, columns=3)
  filters = make(jax.random.key(3), params, None)['filters']
  assert filters.shape == (1, 2, 2, 3)
  assert np.all((filters >= 0) & (filters <= 1))


def test_strips_show_what_chains_do():
  # Units that never leave their state, beside ones without input: the first two pixels stay.
  params = rbm.Params(jnp.array([[40.0], [40.0], [0.0], [0.0]]), jnp.array([-20.0, -20.0, 0, 0]),
                      jnp.array([-40.0]))
  h_CH = jnp.array([[0.0], [1.0], [1.0]])
  chains = gibbs.Chains(jnp.zeros((3, 4)), h_CH)
  grid = figures.strips(jax.random.key(0), rbm, params, chains, (2, 2), every=3, columns=5)
  assert grid.shape == (3, 5, 2, 2)
  np.testing.assert_allclose(grid[:, :, 0], np.broadcast_to(h_CH[:, None], (3, 5, 2)), atol=1e-6)
  np.testing.assert_allclose(grid[:, :, 1], 0.5)
  # Of a wider machine, the first pixels.
  narrow = figures.strips(jax.random.key(0), rbm, params, chains, (1, 2), every=3, columns=5)
  np.testing.assert_allclose(narrow, grid[:, :, :1], atol=1e-6)


def test_codes_are_drawn_for_classes_and_without():
  z_N2 = np.random.default_rng(0).normal(size=(30, 2))
  for label_N in (np.arange(30) % 3, None):
    picture = charts.codes({'a': z_N2, 'b': 2 * z_N2}, label_N)
    assert picture.shape[:2] == (1, 1) and picture.shape[4] == 3
    assert picture.min() >= 0 and picture.max() == 1 and picture.min() < 0.5
