"""The baselines against their formulas in NumPy."""

import json

import jax
import numpy as np
import pytest
import scipy.stats

from gen_models.evaluation import baselines
from gen_models.models import gaussian, mixture


def images(seed, num=300):
  """Four pixels that agree, but for one in ten, and a coin."""
  draws = np.random.default_rng(seed)
  x_NV = np.repeat(draws.random((num, 1)) < 0.6, 5, axis=1) ^ (draws.random((num, 5)) < 0.1)
  x_NV[:, 4] = draws.random(num) < 0.5
  return x_NV.astype(np.float32)


def opposed(x_NV):
  """Pixels that disagree: worse than independent for who has learned that they agree."""
  return np.where(np.arange(5) % 2, 1 - x_NV, x_NV)


TRAIN, VALID, TEST = images(0, 400), images(1), images(2)


def test_independent_pixels_are_the_training_means():
  test = opposed(TEST)
  score = baselines.independent_pixels(TRAIN, test, binarisation='static')
  mean_V = TRAIN.mean(0, dtype=np.float64)
  m_V = (400 * mean_V + 0.99 * mean_V + 0.005) / 401  # with the one pseudo-image
  expected = np.where(test == 1, np.log(m_V), np.log1p(-m_V)).sum(1)
  np.testing.assert_allclose(score['test_nats'], expected.mean(), rtol=1e-5)
  assert (score['kind'], score['num_images'], score['num_classes'],
          score['binarisation']) == ('exact', 300, 1, 'static')
  assert json.loads(json.dumps(score)) == score


@pytest.fixture(name='fits', scope='module')
def fixture_fits():
  """The candidates, fitted as the baseline says it fits them."""
  fit = jax.jit(mixture.fit, static_argnames='num_classes')
  return {(q, a): fit(jax.random.key(0), TRAIN, num_classes=q, pseudo_count=a)
          for q in (1, 3) for a in (0.1, 30.0)}


def nats(params, x_NV):
  return float(jax.jit(mixture.log_likelihood)(params, x_NV).mean())


@pytest.mark.parametrize('valid, test, best', [
  (VALID, opposed(TEST), (3, 0.1)), (opposed(VALID), TEST, (1, 30.0))])
def test_the_mixture_is_chosen_on_validation_and_scored_on_test(fits, valid, test, best):
  chosen = max(fits, key=lambda choice: nats(fits[choice], valid))
  assert chosen == best != max(fits, key=lambda choice: nats(fits[choice], test))
  score = baselines.bernoulli_mixture(TRAIN, valid, test, binarisation='static',
                                      num_classes=(1, 3), pseudo_counts=(0.1, 30.0))
  assert (score['num_classes'], score['pseudo_count']) == chosen
  np.testing.assert_allclose(score['test_nats'], nats(fits[chosen], test), rtol=1e-4)
  assert (score['kind'], score['num_images'], score['standard_error']) == ('exact', 300, 0.0)
  assert json.loads(json.dumps(score)) == score


def test_the_mixture_is_better_than_independent_pixels_that_agree():
  mixed = baselines.bernoulli_mixture(TRAIN, VALID, TEST, binarisation='static',
                                      num_classes=(1, 3), pseudo_counts=(0.1, 30.0))
  alone = baselines.independent_pixels(TRAIN, TEST, binarisation='static')
  assert mixed['test_nats'] > alone['test_nats'] + 0.2


@pytest.mark.parametrize('valid, best', [(0, 0.001), (1, 0.9)])
def test_shrinkage_is_chosen_on_validation_and_scored_on_test(valid, best):
  # The first validation set is like the training set; in the second no two pixels agree.
  draws = np.random.default_rng(3)
  train, like, test = (np.float32(draws.normal(size=(n, 2)) @ [[1, 1, 1], [0, 0.3, -0.3]]
                                  + 0.05 * draws.normal(size=(n, 3))) for n in (400, 300, 300))
  valid = (like, np.float32(draws.normal(size=(300, 3))))[valid]
  score = baselines.full_gaussian(train, valid, test, binarisation='real',
                                  shrinkages=(0.001, 0.9))
  expected = gaussian.log_likelihood(gaussian.fit(train, 'full', best), test)
  assert (score['shrinkage'], score['kind'], score['num_images']) == (best, 'exact', 300)
  np.testing.assert_allclose(score['test_nats'], expected.mean(), rtol=1e-4)
  assert json.loads(json.dumps(score)) == score


def test_independent_columns_are_the_product_of_their_letters():
  v_ND = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
  found = baselines.independent_columns(v_ND, v_ND[:2], 2, train_weights_N=[2, 1, 1],
                                        test_weights_N=[3, 1])
  f = (np.array([3, 1, 1, 3]) + 0.5) / 5
  log_p = np.log([f[0] * f[3], f[0] * f[2]])
  assert found['test_nats'] == pytest.approx(0.75 * log_p[0] + 0.25 * log_p[1])
  assert found['weighted'] and found['effective_rows'] == pytest.approx(16 / 10)


def test_weighted_rows_are_repeated_rows():
  train, valid, test = images(0, 60), images(1, 30), images(2, 30)
  times = [np.random.default_rng(i).integers(1, 4, len(x)) for i, x in enumerate((
    train, valid, test))]
  again = [np.repeat(x, k, axis=0) for x, k in zip((train, valid, test), times, strict=True)]
  weights = baselines.Weights(*times)
  for fit, options in ((baselines.bernoulli_mixture, dict(num_classes=(1, 3), binarisation='static',
                                                          pseudo_counts=(1.0,))),
                       (baselines.full_gaussian, dict(binarisation='real', shrinkages=(.1, .3)))):
    weighted, repeated = fit(train, valid, test, weights=weights, **options), fit(*again, **options)
    # Classes begin at random rows, so a mixture of repeated ones may end elsewhere.
    tolerance = 1e-4 if fit is baselines.full_gaussian else 0.02
    assert weighted['test_nats'] == pytest.approx(repeated['test_nats'], rel=tolerance)
    assert weighted['weighted']
  alone = baselines.independent_pixels(train, test, binarisation='static', weights=weights)
  assert alone['test_nats'] == pytest.approx(baselines.independent_pixels(
    again[0], again[2], binarisation='static')['test_nats'], rel=1e-5)


def test_independent_counts_are_poisson_with_the_training_means():
  train, test = (np.random.default_rng(i).poisson([1.0, 5.0, 0.0], (40, 3)) for i in range(2))
  score = baselines.independent_counts(train, test)
  mean = (train.sum(0) + train.mean()) / 41
  assert score['test_nats'] == pytest.approx(
    scipy.stats.poisson(mean).logpmf(test).sum(1).mean(), rel=1e-6)
  twice = baselines.independent_counts(train, test, weights=baselines.Weights(np.full(40, 2.0)))
  assert score['test_nats'] != twice['test_nats'] == pytest.approx(baselines.independent_counts(
    np.repeat(train, 2, axis=0), test)['test_nats'], rel=1e-6)


def test_independent_levels_are_the_shares_of_each_level():
  train, test = (np.random.default_rng(i).integers(0, 4, (40, 3)) for i in range(2))
  weights = baselines.Weights(np.arange(1.0, 41), None, np.arange(40.0) % 3)
  score = baselines.independent_levels(train / 3, test / 3, 3, weights=weights)
  share_3Q = (np.einsum('n,niq->iq', weights.train, np.eye(4)[train]) + 0.25) / (
    weights.train.sum() + 1)
  log_p = np.einsum('niq,iq->n', np.eye(4)[test], np.log(share_3Q))
  assert score['test_nats'] == pytest.approx(np.average(log_p, weights=weights.test), rel=1e-6)
  assert score['binarisation'] == 'levels' and score['kind'] == 'exact'
