"""Importance-weighted bounds against likelihoods that are known: of a linear-Gaussian model, whose
x is Gaussian, and of a belief net, whose z are summed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models.evaluation import importance
from gen_models.models import vae
from gen_models.problems import variational as problems

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

MODEL, PARAMS = problems.ONE, problems.ONE_PARAMS
IMAGES = np.asarray(np.random.default_rng(0).normal(size=(30, 2)), np.float32)


def exact(params, x_NV):
  """log N(x; b, w w^T + SCALE^2 I)."""
  w_V = np.asarray(params.decoder[0]['Dense_0']['w_DF'], np.float64)[0]
  cov_VV = np.outer(w_V, w_V) + problems.SCALE**2 * np.eye(2)
  return scipy.stats.multivariate_normal(np.asarray(params.bias_O), cov_VV).logpdf(x_NV)


def with_exact_posterior(params) -> vae.Params:
  """The same decoder with the encoder that inverts it."""
  w_V, b_V = (np.asarray(x, np.float64) for x in (
    params.decoder[0]['Dense_0']['w_DF'][0], params.bias_O))
  precision = 1 + w_V @ w_V / problems.SCALE**2
  gain_V = w_V / problems.SCALE**2 / precision
  layer = {'w_DF': np.stack([gain_V, np.zeros(2)], axis=1),
           'b_F': np.array([-gain_V @ b_V, -0.5 * np.log(precision)])}
  return params._replace(encoder=({'Dense_0': jax.tree.map(jnp.float32, layer)},))


def bound(seed=0, params=PARAMS, **options):
  return importance.bound(jax.random.key(seed), MODEL, params, IMAGES, binarisation='real',
                          **options)


def test_with_the_exact_posterior_one_sample_is_enough():
  params = with_exact_posterior(PARAMS)
  score = bound(params=params, num_samples=3)
  np.testing.assert_allclose(score['test_nats'], exact(params, IMAGES).mean(), rtol=1e-4)
  np.testing.assert_allclose(score['effective_sample_size'], 3, rtol=1e-4)
  np.testing.assert_allclose(score['smallest_effective_sample_size'], 3, rtol=1e-3)
  assert score['standard_error'] < 1e-3


class HalfExact:
  """Log-weights that are 0 for rows that begin positive, and have a spread of 5 for others."""

  @staticmethod
  def log_weights(key, params, x_BV, num_samples):
    del params
    noise_KB = 5 * jax.random.normal(key, (num_samples, len(x_BV)))
    return jnp.where(x_BV[:, 0] > 0, 0.0, noise_KB)


def test_rows_without_weight_are_no_part_of_a_score_or_of_its_errors():
  weights_N = (IMAGES[:, 0] > 0).astype(np.float32)
  scores = [importance.bound(jax.random.key(0), HalfExact, None, IMAGES, binarisation='real',
                             num_samples=200, weights_N=w) for w in (weights_N, None)]
  heavy, plain = scores
  assert heavy['test_nats'] == heavy['lower']
  assert abs(heavy['test_nats']) < 1e-6 and heavy['standard_error'] < 1e-6
  np.testing.assert_allclose(heavy['effective_sample_size'], 200, rtol=1e-5)
  np.testing.assert_allclose(heavy['smallest_effective_sample_size'], 200, rtol=1e-5)
  assert plain['standard_error'] > 0.1 and plain['hollow'] and not heavy.get('hollow')
  some = np.full(len(IMAGES), 2.0)
  assert importance.bound(jax.random.key(0), HalfExact, None, IMAGES, binarisation='real',
                          num_samples=200, weights_N=some)['standard_error'] == pytest.approx(
                            plain['standard_error'])


def test_many_samples_find_the_likelihood_of_a_wrong_posterior():
  score = bound(num_samples=5000)
  truth = exact(PARAMS, IMAGES).mean()
  assert score['kind'] == 'bound' and score['upper'] is None
  assert score['lower'] == score['test_nats'] and score['num_importance_samples'] == 5000
  assert score['binarisation'] == 'real' and score['num_images'] == 30
  assert 0 < score['standard_error'] < 0.05
  assert abs(score['test_nats'] - truth) < 5 * score['standard_error'], (score, truth)
  assert 1 <= score['smallest_effective_sample_size'] < score['effective_sample_size'] < 5000


def test_bounds_rise_with_the_samples_towards_the_likelihood():
  # Averages over 20 keys, so that their order is not luck.
  means = [np.mean([bound(seed, num_samples=k)['test_nats'] for seed in range(20)])
           for k in (1, 5, 50)]
  assert means[0] + 0.1 < means[1] and means[1] + 0.01 < means[2]
  assert means[2] < exact(PARAMS, IMAGES).mean() + 0.01


def test_the_standard_error_is_the_spread_over_keys():
  scores = [bound(seed, num_samples=300) for seed in range(50)]
  spread = np.std([s['test_nats'] for s in scores], ddof=1)
  # A spread over 50 keys is known to 10 percent.
  assert 0.7 < np.mean([s['standard_error'] for s in scores]) / spread < 1.4


@pytest.mark.parametrize('num_samples, method', [
  (1, 'repeats'), pytest.param(2, 'repeats', marks=pytest.mark.slow), (5, 'jackknife')])
def test_few_samples_have_a_standard_error_too(num_samples, method):
  """The delta method has 0 with one sample, half the spread over keys with two."""
  scores = [bound(seed, num_samples=num_samples) for seed in range(50)]
  spread = np.std([s['test_nats'] for s in scores], ddof=1)
  found = np.mean([s['standard_error'] for s in scores])
  assert 0.7 < found / spread < 1.4, found / spread  # the spread is known to 10 percent
  assert scores[0]['standard_error_method'] == method and 'hollow' not in scores[0]


def test_a_bound_says_when_its_weights_do_not_carry_it():
  """An encoder far too narrow: some weights are never drawn that would be most of the mean."""
  layer = PARAMS.encoder[0]['Dense_0']
  narrow = PARAMS._replace(encoder=({'Dense_0': {**layer, 'b_F': layer['b_F'] - jnp.array(
    [0.0, 3.0])}},))
  sound, hollow = bound(num_samples=1000), bound(params=narrow, num_samples=1000)
  assert sound['hollow'] is False and hollow['hollow'] is True
  assert hollow['pareto_k']['median'] > 0.7 > sound['pareto_k']['median']
  assert hollow['test_nats'] < exact(PARAMS, IMAGES).mean() - 0.1


@pytest.mark.parametrize('num_samples, at_once', [(20, 7), (21, 7), (5, 5), (3, 8)])
def test_streaming_is_the_sum_over_all_samples(num_samples, at_once):
  key, x_BV = jax.random.key(3), jnp.asarray(IMAGES[:4])
  log_mean, size, *_ = jax.jit(importance.log_mean_weight, static_argnums=(1, 4, 5))(
    key, MODEL.log_weights, PARAMS, x_BV, num_samples, at_once)
  log_weights = jax.jit(MODEL.log_weights, static_argnums=3)
  chunks = [log_weights(jax.random.fold_in(key, i), PARAMS, x_BV, at_once)
            for i in range(-(-num_samples // at_once))]
  l_KB = np.concatenate(chunks)[:num_samples].astype(np.float64)
  np.testing.assert_allclose(
    log_mean, scipy.special.logsumexp(l_KB, axis=0) - math.log(num_samples), rtol=1e-5)
  w_KB = np.exp(l_KB - l_KB.max(0))
  np.testing.assert_allclose(size, w_KB.sum(0)**2 / (w_KB**2).sum(0), rtol=1e-4)


def test_every_image_gets_its_own_number(monkeypatch):
  # Groups of 4 images, the last not full.
  monkeypatch.setattr(importance, 'ROWS', 400)
  log_p_N, size_N, *_ = importance.log_likelihoods(
    jax.random.key(4), MODEL.log_weights, PARAMS, IMAGES[:10], 4000)
  assert log_p_N.shape == size_N.shape == (10,)
  error_N = np.sqrt(1 / np.asarray(size_N) - 1 / 4000)
  assert np.all(np.abs(log_p_N - exact(PARAMS, IMAGES[:10])) < 5.5 * error_N + 1e-4)


@pytest.mark.parametrize('model, params, num_units', [
  (problems.BELIEF, problems.BELIEF_PARAMS, (3,)),
  (problems.DEEP_BELIEF, problems.DEEP_PARAMS, (3, 2))], ids=['one layer', 'two layers'])
def test_a_belief_net_scores_its_enumerated_likelihood(model, params, num_units):
  x_NV = problems.BINARY_BATCH
  log_p_SN, _ = problems.belief_terms(params, x_NV, num_units)
  lines = []
  score = importance.bound(jax.random.key(5), model, params, x_NV, binarisation='static',
                           num_samples=4000, report=lines.append, scores={'elbo': -1.0})
  truth = scipy.special.logsumexp(np.asarray(log_p_SN, np.float64), axis=0).mean()
  assert abs(score['test_nats'] - truth) < 5 * score['standard_error'] < 0.1
  assert score['scores'] == {'elbo': -1.0}
  assert lines[-1] == 'importance sampling: 4 of 4 images'


def test_a_bound_that_is_not_finite_is_no_score():
  broken = PARAMS._replace(bias_O=PARAMS.bias_O * jnp.nan)
  with pytest.raises(FloatingPointError, match='30 of 30 log-likelihoods are not finite'):
    bound(params=broken, num_samples=10)
