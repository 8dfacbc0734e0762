"""Standard errors of log-mean-weights against their spread, Pareto k against known shapes."""

import numpy as np
import pytest
import scipy.stats

from gen_models.evaluation import weights


def gaussian(rng, num_dimensions, variance, num_samples, num_images):
  """log N(z; 0, 1) / N(z; 0, variance), z from the latter: the mean weight is 1 exactly."""
  square_KN = rng.chisquare(num_dimensions, (num_samples, num_images)) * variance
  return (square_KN / variance - square_KN + num_dimensions * np.log(variance)) / 2


def log_mean(log_w_KN):
  top_N = log_w_KN.max(0)
  return top_N + np.log(np.exp(log_w_KN - top_N).mean(0))


@pytest.mark.parametrize('num_samples', [4, 5, 24, 25, 300])
@pytest.mark.parametrize('spread', [0.1, 3.0, 60.0])
def test_the_streamed_jackknife_is_that_of_all_weights(num_samples, spread):
  """Each weight left out in turn, and only the largest kept beside sums."""
  l_KN = spread * np.random.default_rng(0).normal(size=(num_samples, 7))
  left_KN = np.stack([log_mean(np.delete(l_KN, k, 0)) for k in range(num_samples)])
  expected_N = (num_samples - 1) * left_KN.var(0)
  l_KN = np.sort(l_KN, axis=0)
  top = weights.num_top(num_samples)
  rest_KN = l_KN[:-top] if top < num_samples else l_KN[:0]
  kept = weights.Summary(l_KN[-top:], np.logaddexp.reduce(rest_KN, axis=0),
                         np.logaddexp.reduce(2 * rest_KN, axis=0), num_samples)
  for found in (weights.summary(l_KN), kept):
    np.testing.assert_allclose(weights.log_mean_variance(found), expected_N, rtol=0.02)


@pytest.mark.parametrize('num_dimensions, variance', [(1, 0.8), (5, 0.6), (20, 0.7), (20, 0.5)])
@pytest.mark.parametrize('num_samples', [4, 20, 200])
def test_the_jackknife_is_the_spread_and_the_delta_method_is_less(num_dimensions, variance,
                                                                 num_samples):
  l_KN = gaussian(np.random.default_rng(1), num_dimensions, variance, num_samples, 4000)
  spread = log_mean(l_KN).std()
  found = np.sqrt(weights.log_mean_variance(weights.summary(l_KN)).mean())
  assert 0.88 < found / spread < 1.12  # of 4000 images, known to some 3 %
  w_KN = np.exp(l_KN - l_KN.max(0))
  size_N = w_KN.sum(0)**2 / (w_KN**2).sum(0)
  delta = np.sqrt(np.mean(1 / size_N - 1 / num_samples))
  assert delta < found * 1.01
  if size_N.mean() < num_samples / 4:
    assert delta < 0.8 * spread


def test_too_few_samples_have_no_jackknife():
  assert np.isinf(weights.log_mean_variance(weights.summary(np.zeros((3, 2))))).all()
  assert weights.log_mean_variance(weights.summary(np.zeros((4, 2)))).max() < 1e-15


@pytest.mark.parametrize('shape', [-0.3, 0.2, 0.5, 0.9])
def test_pareto_k_is_the_shape_of_the_tail(shape):
  """Against the shape that was drawn from, and against maximum likelihood."""
  rng = np.random.default_rng(2)
  x_MN = np.sort(scipy.stats.genpareto.rvs(shape, size=(200, 300), random_state=rng), axis=0)
  k_N = weights.generalised_pareto_k(x_MN)
  # The prior draws 200 observations towards 0.5 by a twentieth of the way; sd (1 + k) / sqrt M.
  expected = (200 * shape + 5) / 210
  assert abs(k_N.mean() - expected) < 5 * (1 + shape) / np.sqrt(200 * 300) + 0.02
  assert k_N.std() < 1.3 * (1 + shape) / np.sqrt(200) + 0.02
  for n in range(3):
    fitted, _, _ = scipy.stats.genpareto.fit(x_MN[:, n], floc=0)
    assert abs(k_N[n] - (200 * fitted + 5) / 210) < 0.05


def test_pareto_k_is_free_of_scale_and_depends_on_the_largest_only():
  l_KN = gaussian(np.random.default_rng(3), 5, 0.6, 1000, 20)
  whole, top = weights.summary(l_KN), np.sort(l_KN, axis=0)[-weights.num_top(1000):]
  k_N = weights.pareto_k(whole)
  shifted = whole._replace(log_top_MN=l_KN + 800)
  np.testing.assert_allclose(weights.pareto_k(shifted), k_N, rtol=1e-6)
  np.testing.assert_allclose(weights.pareto_k(whole._replace(log_top_MN=top)), k_N)
  assert weights.pareto_k(weights.summary(l_KN[:24])) is None


@pytest.mark.parametrize('variance, hollow', [(0.8, False), (0.6, False), (0.1, True)])
def test_weights_are_hollow_where_the_error_of_their_mean_is_unknown(variance, hollow):
  """k = 1 - variance of one-dimensional Gaussian weights: above 0.7 there is no second moment
  to speak of."""
  l_KN = gaussian(np.random.default_rng(4), 1, variance, 5000, 300)
  said = weights.remarks(weights.summary(l_KN))
  assert said['hollow'] is hollow
  assert abs(said['pareto_k']['median'] - (1 - variance)) < 0.15


def test_weights_that_are_all_alike_say_nothing():
  assert weights.remarks(weights.summary(np.zeros((100, 3)))) == {}
