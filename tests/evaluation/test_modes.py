"""Mode coverage of samples whose coverage is known."""

import numpy as np
import pytest

from gen_models.evaluation import modes

MODES = np.array([(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)], float)
SIGMA = 0.05


def draw(num, owners=25, sigma=SIGMA, seed=0):
  rng = np.random.default_rng(seed)
  return MODES[rng.integers(owners, size=num)] + sigma * rng.normal(size=(num, 2))


def test_the_mixture_itself():
  found = modes.coverage(draw(100_000), MODES, SIGMA)
  assert found['modes'] == 25
  # Binomial error 0.0003; the divergence is 24 / 2N in expectation.
  np.testing.assert_allclose(found['high_quality'], 1 - np.exp(-4.5), atol=0.002)
  np.testing.assert_allclose(found['reverse_kl'], 24 / 2 / 100_000, atol=2e-4)


def test_lost_modes_are_counted_and_cost_their_share():
  found = modes.coverage(draw(50_000, owners=10), MODES, SIGMA)
  assert found['modes'] == 10
  np.testing.assert_allclose(found['reverse_kl'], np.log(2.5), atol=1e-3)


def test_samples_between_modes_own_none():
  # On the way from one mode to the next: assigned to the nearer, of no quality.
  x = np.concatenate([draw(900, owners=1), np.tile(MODES[1] - [0, 0.6], (100, 1))])
  found = modes.coverage(x, MODES, SIGMA)
  assert found['modes'] == 1
  assert 0.87 < found['high_quality'] < 0.9
  q = np.array([0.9, 0.1])
  np.testing.assert_allclose(found['reverse_kl'], np.sum(q * np.log(25 * q)), rtol=1e-6)


def test_the_border_of_quality_is_three_sigma():
  x = MODES[:2] + [[2.99 * SIGMA, 0], [3.01 * SIGMA, 0]]
  found = modes.coverage(x, MODES, SIGMA)
  assert found['high_quality'] == 0.5 and found['modes'] == 1


def test_diverged_samples_are_refused():
  with pytest.raises(FloatingPointError, match='diverged'):
    modes.coverage(np.array([[np.nan, 0]]), MODES, SIGMA)


def test_histogram_shows_points_where_they_are():
  x = np.array([[3.5, 4.5]] * 3 + [[-4.5, -4.5]])
  image = modes.histogram(x, -5, 5, bins=10)
  # The first axis to the right, the second up.
  assert image.shape == (10, 10) and image[0, 8] == image.max() == 1
  assert 0 < image[9, 0] < 1 and np.sum(image > 0) == 2
  assert np.all(modes.histogram(np.array([[9.0, 9.0]]), -5, 5) == 0)
