"""Scores of copies against loops, SciPy and planted copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models import data
from gen_models.evaluation import copies


def gaussian(seed, num, dim, shift=0.0):
  return np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32) + np.float32(shift)


def distances(x_ND, y_MD):
  x_ND, y_MD = np.asarray(x_ND, np.float64), np.asarray(y_MD, np.float64)
  return np.linalg.norm(x_ND[:, None] - y_MD[None], axis=-1)


def test_nearest_against_loops():
  x_ND, train_MD = gaussian(0, 300, 3), gaussian(1, 70, 3)  # more rows than are held at a time
  expected = np.sort(distances(x_ND, train_MD), axis=1)
  for found_N, expected_N in zip(copies.nearest(x_ND, train_MD), expected.T[:2]):
    np.testing.assert_allclose(found_N, expected_N, atol=2e-3)
  rows_N = np.arange(0, 70, 3)
  d = distances(train_MD[rows_N], train_MD)
  d[np.arange(len(rows_N)), rows_N] = np.inf
  for found_N, expected_N in zip(copies.nearest(train_MD[rows_N], train_MD, rows_N),
                                 np.sort(d, axis=1).T[:2]):
    np.testing.assert_allclose(found_N, expected_N, atol=2e-3)
  # A second copy is a neighbour at distance 0.
  twice = (np.concatenate([train_MD, train_MD]) > 0).astype(np.float32)
  np.testing.assert_array_equal(copies.nearest(twice[:5], twice, np.arange(5)).first_N, 0)
  with pytest.raises(ValueError, match='two nearest of 2'):
    copies.nearest(x_ND, train_MD[:2], np.zeros(300, int))


@pytest.mark.parametrize('levels', [1000, 7, 2])
def test_mann_whitney_against_scipy(levels):
  draws = np.random.default_rng(levels)
  a_N, b_M = draws.integers(0, levels, 40), draws.integers(0, levels, 60) + levels // 5
  _, p_value = scipy.stats.mannwhitneyu(a_N, b_M, use_continuity=False, method='asymptotic',
                                        alternative='less')
  np.testing.assert_allclose(scipy.stats.norm.cdf(copies.mann_whitney_z(a_N, b_M)), p_value,
                             rtol=1e-9)
  assert copies.mann_whitney_z(a_N, b_M) == pytest.approx(-copies.mann_whitney_z(b_M, a_N))


def test_mann_whitney_of_equal_values_is_no_evidence():
  assert copies.mann_whitney_z(np.ones(5), np.ones(9)) == 0


def near(first_N, second_N=None) -> dict[str, copies.Near]:
  first_N = np.asarray(first_N, float)
  return {'gap_z': copies.Near(first_N, 2 * first_N if second_N is None else second_N)}


def test_copies_are_counted_where_one_held_out_image_in_a_hundred_is():
  near_y = near(np.arange(1.0, 201.0))  # 1 % quantile: 2.99
  assert copies.scores(near([0.0, 2.9, 3.0, 50.0]), near_y)['copies'] == 0.5
  assert copies.scores(near_y, near_y) == {'nearest_train_z': 0.0, 'copies': 0.01, 'gap_z': 0.0}


def test_a_gap_is_seen_where_distances_are_alike():
  first_N = np.linspace(1, 2, 100)
  found = copies.scores(near(first_N, 2 * first_N), near(first_N, 1.1 * first_N))
  assert found['nearest_train_z'] == 0 and found['gap_z'] < -10


def entry(value, floor=0.0, n=300, num_sets=5):
  return {'value': value, 'low': value, 'high': value, 'floor': floor, 'floor_low': floor,
          'floor_high': floor, 'n': n, 'num_sets': num_sets}


@pytest.mark.parametrize('changes, says', [
  ({}, False), ({'gap_z': entry(-6.0)}, True), ({'gap_z': entry(-4.9)}, False),
  ({'gap_grey_z': entry(-5.1)}, True), ({'nearest_train_z': entry(40.0)}, False),
  # 5 % in 1,500 draws where 1 % is expected: z = 6.6; 3 %: 3.9.
  ({'copies': entry(0.05, 0.01)}, True), ({'copies': entry(0.03, 0.01)}, False)])
def test_any_score_of_copies_is_enough(changes, says):
  table = {'nearest_train_z': entry(0.0), 'copies': entry(0.01, 0.01), 'gap_z': entry(0.0)}
  assert copies.memorised({**table, **changes}) is says


@pytest.mark.parametrize('changes, cause', [
  ({'gap_z': entry(-6.0)}, 'gap_z'), ({'gap_grey_z': entry(-6.0)}, 'gap_grey_z'),
  ({'nearest_train_z': entry(-6.0)}, 'nearest_train_z'), ({'copies': entry(0.05, 0.01)}, 'copies')])
def test_the_cause_is_named(changes, cause):
  table = {'nearest_train_z': entry(0.0), 'copies': entry(0.01, 0.01), 'gap_z': entry(-0.1)}
  assert copies.causes({**table, **changes}) == [cause]


def test_draws_near_the_mean_of_noise_are_not_said_to_be_copies():
  rng = np.random.default_rng(0)
  train_MD, test_ND = rng.random((2, 200, 64))
  blurred_ND = np.clip(0.5 + 0.05 * rng.standard_normal((200, 64)), 0, 1)
  of = copies.references(jnp.asarray(train_MD))
  found = copies.scores(*(copies.nearest_of(x, of) for x in (blurred_ND, test_ND)))
  assert found['nearest_train_z'] < -5 and found['copies'] == 1 and found['gap_z'] > 0


# Power, on digits.


@pytest.fixture(name='power', scope='module', params=['threshold', 'dynamic'])
def fixture_power(request):
  dataset = data.load('digits')
  train, test = (np.asarray(data.fixed_split(dataset, split, request.param))
                 for split in ('train', 'test'))
  grey = np.asarray(dataset.train.images, np.float32).reshape(len(train), -1) / dataset.levels
  return request.param, copies.power(jax.random.key(0), test, train, grey)


def test_planted_copies_are_found_as_far_as_can_be(power):
  _, found = power
  assert list(found) == ['0 pixels changed', '2 pixels changed', '4 pixels changed',
                         'binarised anew']
  assert all(list(row) == ['5%', '30%', '100%'] for row in found.values())
  # Of 150 draws a set. Two changed pixels in 30 % and images binarised anew need more; whether 7
  # exact copies are found depends on the draw of the training images.
  assert all(found[f'{count} pixels changed']['100%'] for count in (0, 2, 4)), found
  assert found['0 pixels changed']['30%'], found
  assert not found['4 pixels changed']['5%'], found  # the record says what is not seen


def test_fresh_images_are_not_called_copies():
  """No false alarm among 20 halves of the test images, at 5 standard deviations."""
  dataset = data.load('digits')
  train, test = (np.asarray(data.fixed_split(dataset, split, 'dynamic'))
                 for split in ('train', 'test'))
  against = copies.references(jnp.asarray(train))
  for seed in range(20):
    order = np.random.default_rng(seed).permutation(300)
    found = copies.scores(*(copies.nearest_of(test[rows], against)
                            for rows in (order[:150], order[150:])))
    assert found['gap_z'] > -5 and found['nearest_train_z'] > -5


def test_planted_copies_are_seen_by_cells_and_by_authenticity():
  """Two clusters; copies, exact and moved by a fifth of the noise, in none, 30 % or all of one.

  Fresh draws give |C_T| < 3.9, once in 10,000 times more; AuthPct of fresh draws is near a half.
  """
  rng = np.random.default_rng(0)

  def fresh(num):
    return rng.normal(size=(num, 6)) + 8 * rng.integers(0, 2, (num, 1))

  train, held_out, draws = fresh(400), fresh(300), fresh(300)
  assert abs(copies.c_t(draws, held_out, train)) < 3.9
  clean = copies.auth_pct(draws, train)
  assert 0.3 < clean < 0.8
  for shift in (0.0, 0.2):
    for share, below in ((0.3, -1.0), (1.0, -4.0)):
      mixed = draws.copy()
      count = round(share * 300)
      mixed[:count] = train[:count] + shift * rng.normal(size=(count, 6))
      assert copies.c_t(mixed, held_out, train) < below
      assert copies.auth_pct(mixed, train) < clean * (1 - 0.8 * share)
  # By loops, of a few.
  few, some = draws[:5], train[:9]
  expected = []
  for x in few:
    t = min(range(9), key=lambda k: np.linalg.norm(x - some[k]))
    other = min(np.linalg.norm(some[t] - some[k]) for k in range(9) if k != t)
    expected.append(np.linalg.norm(x - some[t]) > other)
  assert copies.auth_pct(few, some) == np.mean(expected)
  assert np.isnan(copies.c_t(few, few, some))
