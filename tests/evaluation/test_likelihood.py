"""Scores against enumeration, and what they say of themselves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import likelihood
from gen_models.models import rbm
from gen_models.samplers import annealing
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

FIELDS = {'test_nats', 'kind', 'standard_error', 'lower', 'upper', 'effective_sample_size',
          'image_standard_error', 'num_images', 'binarisation'}

_draws = np.random.default_rng(0)
PARAMS = rbm.Params(*(jnp.asarray(_draws.normal(size=shape), jnp.float32)
                      for shape in ((6, 5), 6, 5)))
V_NV = (_draws.random((40, 6)) < 0.4).astype(np.float32)


@pytest.fixture(name='log_p_N', scope='module')
def fixture_log_p_N():
  return np.log(oracle.rbm_joint(PARAMS).p_AS.sum(1))[oracle.index(V_NV)]


def test_exact_is_enumeration(log_p_N):
  score = likelihood.exact(PARAMS, V_NV, binarisation='static')
  assert set(score) == FIELDS and json.loads(json.dumps(score)) == score
  np.testing.assert_allclose(score['test_nats'], log_p_N.mean(), rtol=1e-6)
  np.testing.assert_allclose(score['image_standard_error'], log_p_N.std(ddof=1) / np.sqrt(40),
                             rtol=1e-5)
  assert score['lower'] == score['upper'] == score['test_nats']
  assert (score['kind'], score['standard_error'], score['effective_sample_size'],
          score['num_images'], score['binarisation']) == ('exact', 0.0, None, 40, 'static')


def test_ais_is_within_its_error_of_exact(log_p_N):
  # 4 standard errors: a correct estimate fails for one key in 10^4.
  score = likelihood.ais(jax.random.key(0), PARAMS, V_NV, base_V=PARAMS.b_V, num_chains=200,
                         betas=annealing.refined(500), binarisation='dynamic')
  assert set(score) == FIELDS | {'log_partition', 'num_chains', 'num_temperatures', 'pareto_k',
                                 'hollow'}
  assert not score['hollow']
  assert json.loads(json.dumps(score)) == score
  error = score['test_nats'] - log_p_N.mean()
  assert abs(error) < 4 * score['standard_error'] and 0 < score['standard_error'] < 0.05
  # The error is that of log Z, with its sign turned.
  np.testing.assert_allclose(
    error, oracle.rbm_joint(PARAMS).log_partition - score['log_partition'], atol=1e-5)
  assert 100 < score['effective_sample_size'] <= 200
  assert (score['kind'], score['num_chains'], score['num_temperatures']) == ('ais', 200, 500)
  assert score['lower'] is None and score['upper'] is None  # an estimate is no bound


def test_a_bracket_is_resolved_or_says_that_it_is_not(log_p_N):
  start_CV = V_NV[np.arange(200) % len(V_NV)]
  fine, coarse = (likelihood.bracket(
    jax.random.key(0), params, V_NV, base_V=jnp.zeros(6), start_CV=start_CV[:chains], burn_in=100,
    betas=annealing.linear(steps), binarisation='dynamic')
    for params, chains, steps in (
      (PARAMS, 200, 300), (jax.tree.map(lambda x: 6 * x, PARAMS), 4, 2)))
  assert json.loads(json.dumps(fine)) == fine and fine['kind'] == 'bracket'
  assert fine['resolved'] and not coarse['resolved']
  assert coarse['upper'] - coarse['lower'] > likelihood.RESOLVED_NATS
  for side in ('lower', 'test_nats', 'upper'):
    assert abs(fine[side] - log_p_N.mean()) < 5 * fine['standard_error']
  assert fine['standard_error'] < 0.05 and 100 < fine['effective_sample_size'] <= 200


def test_no_likelihood_says_why():
  score = likelihood.no_likelihood('no density', num_images=3, binarisation='real')
  assert score['test_nats'] is None and score['kind'] == 'none' and score['why'] == 'no density'
  assert set(score) >= FIELDS


def test_ais_reports_progress():
  lines = []
  likelihood.ais(jax.random.key(0), PARAMS, V_NV, base_V=PARAMS.b_V, num_chains=200,
                 betas=annealing.refined(500), binarisation='dynamic', report=lines.append)
  assert len(lines) == 1 and '500/500' in lines[0]


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_likelihood_that_is_not_finite_raises(bad):
  with pytest.raises(FloatingPointError, match='1 of 3 log-likelihoods'):
    likelihood.score([-1.0, bad, -2.0], kind='exact', binarisation='static')


def test_diverged_parameters_raise():
  params = PARAMS._replace(b_V=PARAMS.b_V.at[0].set(jnp.nan))
  with pytest.raises(FloatingPointError, match='40 of 40.*diverged'):
    likelihood.exact(params, V_NV, binarisation='static')
  with pytest.raises(FloatingPointError, match='40 of 40.*diverged'):
    likelihood.ais(jax.random.key(0), params, V_NV, base_V=PARAMS.b_V, num_chains=200,
                   betas=annealing.refined(500), binarisation='static')


def test_too_large_to_enumerate_raises():
  params = rbm.Params(jnp.zeros((30, 29)), jnp.zeros(30), jnp.zeros(29))
  with pytest.raises(ValueError, match='AIS'):
    likelihood.exact(params, np.zeros((2, 30), np.float32), binarisation='static')


def test_details_and_bounds_pass_through():
  score = likelihood.score([-1.0, -3.0], kind='bracket', binarisation='real', lower=-2.5,
                           upper=-1.5, standard_error=0.1, effective_sample_size=3.0, seeds=2)
  assert score == {'test_nats': -2.0, 'kind': 'bracket', 'standard_error': 0.1, 'lower': -2.5,
                   'upper': -1.5, 'effective_sample_size': 3.0, 'image_standard_error': 1.0,
                   'num_images': 2, 'binarisation': 'real', 'seeds': 2}


@pytest.mark.parametrize('num_chains', [1, 3])
def test_so_few_chains_have_no_standard_error_and_resolve_nothing(num_chains):
  options = dict(betas=annealing.linear(20), binarisation='static')
  scores = [likelihood.ais(jax.random.key(0), PARAMS, V_NV, base_V=PARAMS.b_V,
                           num_chains=num_chains, **options),
            likelihood.bracket(jax.random.key(0), PARAMS, V_NV, base_V=PARAMS.b_V,
                               start_CV=V_NV[:num_chains], burn_in=5, **options)]
  for score in scores:
    json.dumps(score, allow_nan=False)
    assert score['standard_error'] is None and np.isfinite(score['test_nats'])
  assert scores[1]['resolved'] is False


def test_weights_of_rows_are_those_of_the_mean_and_of_its_error():
  log_p_N, weights_N = np.array([-3.0, -1.0, -2.0]), np.array([2.0, 1.0, 0.0])
  found = likelihood.score(log_p_N, kind='exact', binarisation='static', weights_N=weights_N)
  assert found['test_nats'] == found['lower'] == pytest.approx(-7 / 3)
  assert found['weighted'] and found['effective_rows'] == pytest.approx(9 / 5)
  equal = likelihood.score(log_p_N, kind='exact', binarisation='static', weights_N=np.ones(3))
  plain = likelihood.score(log_p_N, kind='exact', binarisation='static')
  assert equal['test_nats'] == pytest.approx(plain['test_nats'])
  assert equal['image_standard_error'] == pytest.approx(plain['image_standard_error'])
  for bad in (np.ones(2), np.array([1.0, -1.0, 1.0]), np.zeros(3)):
    with pytest.raises(ValueError, match='3 rows need as many weights'):
      likelihood.score(log_p_N, kind='exact', binarisation='static', weights_N=bad)
