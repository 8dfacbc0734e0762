"""The baselines against their formulas in NumPy."""

import json

import jax
import numpy as np
import pytest

from gen_models.evaluation import baselines
from gen_models.models import mixture

PATTERNS = np.array([[.9, .9, .1, .1, .5], [.1, .2, .9, .8, .5], [.5, .9, .9, .1, .2]])


def images(num, seed, weights):
  """Noisy copies of the patterns, mixed with the weights."""
  draws = np.random.default_rng(seed)
  x_NV = draws.random((num, 5)) < PATTERNS[draws.choice(3, num, p=weights)]
  return x_NV.astype(np.float32)


TRAIN = images(400, 0, [0.4, 0.4, 0.2])
VALID = images(300, 1, [0.4, 0.4, 0.2])


def test_independent_pixels_are_the_training_means():
  test = images(100, 2, [0.2, 0.2, 0.6])
  score = baselines.independent_pixels(TRAIN, test, binarisation='static')
  mean_V = TRAIN.mean(0, dtype=np.float64)
  m_V = (400 * mean_V + 0.99 * mean_V + 0.005) / 401  # with the one pseudo-image
  expected = np.where(test == 1, np.log(m_V), np.log1p(-m_V)).sum(1)
  np.testing.assert_allclose(score['test_nats'], expected.mean(), rtol=1e-5)
  assert (score['kind'], score['num_images'], score['num_classes'],
          score['binarisation']) == ('exact', 100, 1, 'static')
  assert json.loads(json.dumps(score)) == score


@pytest.fixture(name='fits', scope='module')
def fixture_fits():
  """The candidates, fitted as the baseline says it fits them."""
  return {(q, a): mixture.fit(jax.random.key(0), TRAIN, q, pseudo_count=a)
          for q in (1, 3) for a in (0.1, 1000.0)}


def nats(params, x_NV):
  return float(mixture.log_likelihood(params, x_NV).mean())


@pytest.mark.parametrize('valid, best', [
  (VALID, (3, 0.1)),
  # Coins: far from every pattern, so what is smoothed towards the mean does best.
  ((np.random.default_rng(3).random((300, 5)) < 0.5).astype(np.float32), (1, 0.1))])
def test_the_mixture_is_chosen_on_validation_and_scored_on_test(fits, valid, best):
  # The two test sets are such that the choice on them would be the other one.
  test = VALID if best[0] == 1 else 1 - VALID
  chosen = max(fits, key=lambda choice: nats(fits[choice], valid))
  assert chosen[0] == best[0] and chosen != max(
    fits, key=lambda choice: nats(fits[choice], test))
  score = baselines.bernoulli_mixture(TRAIN, valid, test, binarisation='static',
                                      num_classes=(1, 3), pseudo_counts=(0.1, 1000.0))
  assert (score['num_classes'], score['pseudo_count']) == chosen
  np.testing.assert_allclose(score['test_nats'], nats(fits[chosen], test), rtol=1e-4)
  assert (score['kind'], score['num_images'], score['standard_error']) == ('exact', 300, 0.0)
  assert json.loads(json.dumps(score)) == score


def test_the_mixture_beats_independent_pixels_on_patterns():
  test = images(300, 4, [0.4, 0.4, 0.2])
  mixed = baselines.bernoulli_mixture(TRAIN, VALID, test, binarisation='static',
                                      num_classes=(1, 3), pseudo_counts=(0.1, 1000.0))
  alone = baselines.independent_pixels(TRAIN, test, binarisation='static')
  assert mixed['test_nats'] > alone['test_nats'] + 0.2
