"""Gaussians against scipy and scikit-learn, in float64.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import sklearn.decomposition

from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.experiment import Phase
from gen_models.models import gaussian
from gen_models.training import step as step_lib
from launch.runs import score
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, R = 5, 2
KINDS = ('full', 'diagonal', 'low_rank')
every_kind = pytest.mark.parametrize('kind', KINDS)


def example(kind, seed=0):
  """Every parameter normal; above the diagonal of a whitener stands what must not be read."""
  draws = np.random.default_rng(seed)
  shape = gaussian.init(jax.random.key(0), V, kind, R)
  return jax.tree.map(lambda x: jnp.asarray(0.7 * draws.normal(size=x.shape), jnp.float32), shape)


def covariance(params):
  """From the definitions."""
  params = oracle.float64(params)
  if isinstance(params, gaussian.Full):
    a_VV = np.tril(params.whitener_VV, -1) + np.diag(np.exp(np.diagonal(params.whitener_VV)))
    return np.linalg.inv(a_VV.T @ a_VV)
  if isinstance(params, gaussian.Diagonal):
    return np.diag(np.exp(2 * params.log_scale_V))
  return params.w_VR @ params.w_VR.T + np.diag(np.exp(2 * params.log_noise_V))


def law(params):
  return scipy.stats.multivariate_normal(np.asarray(params.mean_V, np.float64), covariance(params))


def correlated(num=400, seed=1):
  """Images with a mean, scales that differ and correlations."""
  draws = np.random.default_rng(seed)
  mix_VV = draws.normal(size=(V, V)) * [1, 2, 0.5, 1, 1] / 3
  return np.float32(draws.normal(size=(num, V)) @ mix_VV + [0.5, -1, 0, 2, 0.1])


@every_kind
def test_log_likelihood_is_scipys(kind):
  params, x_NV = example(kind), correlated(50)
  np.testing.assert_allclose(gaussian.covariance_of(params), covariance(params), rtol=1e-4,
                             atol=1e-5)
  np.testing.assert_allclose(jax.jit(gaussian.log_likelihood)(params, x_NV),
                             law(params).logpdf(x_NV), rtol=2e-5)


@pytest.mark.parametrize('lead', [(), (3,)])
def test_parameters_are_counted_as_they_are_read(lead):
  # What is read has a gradient, whatever the parameters.
  params = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(0).normal(size=lead + x.shape)),
                        gaussian.init(jax.random.key(0), 5, 'full'))

  def total(params):
    density = jax.vmap(gaussian.log_likelihood, (0, None)) if lead else gaussian.log_likelihood
    return density(params, jnp.ones((1, 5))).sum()

  read = sum(int(jnp.sum(g != 0)) for g in jax.tree.leaves(jax.grad(total)(params)))
  assert params.num_parameters == score.num_parameters({'a': params}) == read


def test_low_rank_stays_exact_where_noise_is_small():
  # Woodbury's difference of two squares would be off by whole nats here.
  params = example('low_rank')._replace(log_noise_V=jnp.full(V, -7.0))
  draws = np.random.default_rng(2)
  x_NV = np.asarray(params.mean_V + draws.normal(size=(20, R)) @ params.w_VR.T
                    + np.exp(-7) * draws.normal(size=(20, V)))
  np.testing.assert_allclose(gaussian.log_likelihood(params, jnp.float32(x_NV)),
                             law(params).logpdf(np.float32(x_NV)), atol=0.02)


@pytest.mark.parametrize('kind', ['full', 'diagonal'])
def test_mahalanobis_is_the_mean_square_of_what_is_whitened(kind):
  params, c_VV = example(kind), np.cov(correlated().T)
  expected = np.trace(np.linalg.solve(covariance(params), c_VV))
  np.testing.assert_allclose(gaussian.mahalanobis(params, jnp.float32(c_VV)), expected, rtol=1e-5)


@every_kind
def test_samples_follow_the_density(kind):
  params, num = example(kind), 2**16
  x_NV = np.asarray(jax.jit(gaussian.sample, static_argnums=2)(jax.random.key(0), params, num),
                    np.float64)
  y_NV, c_VV = x_NV - np.asarray(params.mean_V), covariance(params)
  assert oracle.mean_p_value(y_NV, np.zeros(V)) > oracle.SIGNIFICANCE
  pairs = (y_NV[:, :, None] * y_NV[:, None])[:, *np.tril_indices(V)]
  assert oracle.mean_p_value(pairs, c_VV[np.tril_indices(V)]) > oracle.SIGNIFICANCE
  # Gaussian, not only of these moments: Mahalanobis distances are chi-square.
  square_N = np.sum(y_NV * np.linalg.solve(c_VV, y_NV.T).T, axis=1)
  cells = np.minimum(scipy.stats.chi2(V).cdf(square_N) * 20, 19).astype(int)
  oracle.assert_frequencies(cells, np.full(20, 1 / 20))


def test_hidden_mean_is_that_of_the_joint_gaussian():
  params, x_NV = example('low_rank'), correlated(30)
  w_VR = np.asarray(params.w_VR, np.float64)
  expected = (x_NV - np.asarray(params.mean_V)) @ np.linalg.solve(covariance(params), w_VR)
  np.testing.assert_allclose(gaussian.hidden_mean(params, x_NV), expected, rtol=1e-4, atol=1e-4)


# Fitting.


@pytest.mark.parametrize('shrinkage', [0.0, 0.3, 1.0])
def test_closed_forms_have_the_moments_of_the_data(shrinkage):
  x_NV = correlated()
  s_VV = np.cov(x_NV.T.astype(np.float64), bias=True)
  s_VV = (1 - shrinkage) * s_VV + shrinkage * np.trace(s_VV) / V * np.eye(V)
  full, diagonal = (gaussian.fit(x_NV, kind, shrinkage) for kind in ('full', 'diagonal'))
  np.testing.assert_allclose(full.mean_V, x_NV.mean(0, dtype=np.float64), atol=1e-5)
  np.testing.assert_allclose(covariance(full), s_VV, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(covariance(diagonal), np.diag(np.diagonal(s_VV)), rtol=1e-4)


def test_low_rank_closed_form_is_probabilistic_pca():
  x_NV = correlated()
  # scikit-learn divides by N - 1, the maximum of the likelihood by N.
  theirs = sklearn.decomposition.PCA(R).fit(x_NV).get_covariance() * (len(x_NV) - 1) / len(x_NV)
  params = gaussian.fit(x_NV, 'low_rank', rank=R)
  np.testing.assert_allclose(covariance(params), theirs, rtol=1e-3, atol=1e-4)
  assert np.ptp(params.log_noise_V) == 0


def trained(kind, estimator, optimizer, x_NV, num_steps):
  """Parameters after `num_steps` of the shared step on the full batch."""
  phase = Phase('gaussian', lambda key, arrays, previous: gaussian.init(key, V, kind, R),
                estimator, optimizer, lambda key, arrays, step: arrays, num_steps, len(x_NV))

  @jax.jit
  def run(key, x_NV):
    state = step_lib.init_state(key, phase, x_NV)
    return step_lib.train_steps(phase, state, x_NV, num_steps)

  with jax.numpy_dtype_promotion('standard'):  # optax relies on it
    state, metrics = run(jax.random.key(0), jnp.asarray(x_NV))
  assert metrics['all_finite']
  return state.params


@pytest.mark.parametrize('kind', ['full', 'diagonal'])
def test_the_gradient_reaches_the_closed_form(kind):
  x_NV = correlated()
  params = trained(kind, maximum_likelihood(gaussian.log_likelihood),
                   optax.adam(optax.linear_schedule(0.03, 0.0, 6000)), x_NV, 6000)
  closed = gaussian.fit(x_NV, kind)
  np.testing.assert_allclose(covariance(params), covariance(closed), rtol=0.01, atol=0.002)
  np.testing.assert_allclose(params.mean_V, closed.mean_V, atol=0.002)
  # And it could not have started there.
  start = gaussian.init(jax.random.key(0), V, kind)
  gain = law(closed).logpdf(x_NV).mean() - law(start).logpdf(x_NV).mean()
  assert gain > 1 > 1e4 * abs(law(closed).logpdf(x_NV).mean() - law(params).logpdf(x_NV).mean())


def test_factor_analysis_by_gradient_is_scikit_learns():
  draws = np.random.default_rng(4)
  x_NV = np.float32(draws.normal(size=(600, R)) @ draws.normal(size=(R, V))
                    + draws.normal(size=(600, V)) * [0.3, 0.5, 1, 0.4, 0.8])
  params = trained('low_rank', maximum_likelihood(gaussian.log_likelihood),
                   optax.adam(optax.linear_schedule(0.03, 0.0, 8000)), x_NV, 8000)
  theirs = sklearn.decomposition.FactorAnalysis(R, tol=1e-3, max_iter=5000).fit(x_NV)
  np.testing.assert_allclose(law(params).logpdf(x_NV).mean(), theirs.score(x_NV), atol=1e-3)
  # Probabilistic PCA, with one noise for all, is worse.
  assert law(gaussian.fit(x_NV, 'low_rank', rank=R)).logpdf(x_NV).mean() < theirs.score(x_NV) - 0.1


@every_kind
def test_a_closed_form_is_one_step_of_the_loop(kind):
  x_NV = correlated()
  params = trained(kind, fixed_point(lambda _, x_NV: gaussian.fit(x_NV, kind, rank=R),
                                     gaussian.log_likelihood), optax.sgd(1.0), x_NV, 1)
  np.testing.assert_allclose(covariance(params), covariance(gaussian.fit(x_NV, kind, rank=R)),
                             rtol=1e-3, atol=1e-5)


# What has no density.


def constant_pixel(x_NV):
  x_NV[:, 2] = 0.25
  return x_NV


def sum_of_others(x_NV):
  x_NV[:, 4] = x_NV[:, 0] - 2 * x_NV[:, 3]
  return x_NV


@pytest.mark.parametrize('x_NV, kind, null', [
  (constant_pixel(correlated()), 'full', 1), (constant_pixel(correlated()), 'diagonal', 1),
  (sum_of_others(correlated()), 'full', 1),
  (sum_of_others(constant_pixel(correlated())), 'full', 2), (correlated(3), 'full', 3),
  (correlated(2), 'low_rank', 4)])
def test_a_singular_covariance_is_refused_and_shrinkage_heals_it(x_NV, kind, null):
  with pytest.raises(ValueError, match=f'{len(x_NV)} images is singular.* {null} of 5.*shrinkage'):
    gaussian.fit(x_NV, kind, rank=R)
  healed = gaussian.fit(x_NV, kind, 0.01, R)
  assert np.all(np.isfinite(gaussian.log_likelihood(healed, x_NV)))


def test_inside_jit_a_singular_covariance_is_not_finite():
  params = jax.jit(lambda x_NV: gaussian.fit(x_NV, 'full'))(constant_pixel(correlated()))
  assert not np.all(np.isfinite(params.whitener_VV))


def test_a_low_rank_needs_variance_only_outside_its_components():
  params = gaussian.fit(constant_pixel(correlated()), 'low_rank', rank=R)
  assert np.all(np.isfinite(params.w_VR)) and np.all(np.isfinite(params.log_noise_V))


@pytest.mark.parametrize('make, message', [
  (lambda: gaussian.fit(correlated(), 'full', 1.5), 'shrinkage lies between 0 and 1, got 1.5'),
  (lambda: gaussian.fit(correlated(), 'low_rank', rank=5), 'between 1 and 4, got 5'),
  (lambda: gaussian.init(jax.random.key(0), V, 'low_rank', 0), 'between 1 and 4, got 0')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_dequantised_integers_are_uniform_within_their_cell():
  draws = np.random.default_rng(5)
  x_NV = draws.integers(0, 17, (4000, V), dtype=np.uint8)
  y_NV = np.asarray(gaussian.dequantise(jax.random.key(0), x_NV, 16), np.float64) * 17 - x_NV
  assert np.all((y_NV > -1e-5) & (y_NV < 1 + 1e-5))
  oracle.assert_frequencies(np.clip(y_NV.reshape(-1) * 20, 0, 19).astype(int), np.full(20, 1 / 20))


def test_the_uniform_pixel_is_where_training_starts():
  params = gaussian.init(jax.random.key(0), V)
  np.testing.assert_allclose(covariance(params), np.eye(V) / 12, atol=1e-6)
  np.testing.assert_allclose(params.mean_V, 0.5)


HOLES = np.array([[0.3, np.nan, 1.0, np.nan, np.nan], [np.nan] * 5, [0.1, 0.2, 0.3, 0.4, 0.5],
                  [np.nan, -1.0, 0.5, 0.0, 2.0]])


def given(params, x_V):
  """(mean, covariance) of what is missing given what is not, from the joint covariance."""
  c_VV, mean_V, miss = covariance(params), np.asarray(params.mean_V, np.float64), np.isnan(x_V)
  gain = c_VV[np.ix_(miss, ~miss)] @ np.linalg.inv(c_VV[np.ix_(~miss, ~miss)])
  return (mean_V[miss] + gain @ (x_V[~miss] - mean_V[~miss]),
          c_VV[np.ix_(miss, miss)] - gain @ c_VV[np.ix_(~miss, miss)])


@every_kind
def test_what_is_missing_is_integrated_out(kind):
  params = example(kind)
  found_N = gaussian.observed_log_likelihood(params, jnp.float32(HOLES))
  for found, x_V in zip(found_N, HOLES, strict=True):
    seen = ~np.isnan(x_V)
    expected = scipy.stats.multivariate_normal(
      np.asarray(params.mean_V, np.float64)[seen], covariance(params)[np.ix_(seen, seen)]).logpdf(
        x_V[seen]) if seen.any() else 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  whole = gaussian.log_likelihood(params, jnp.float32(HOLES[2:3]))
  np.testing.assert_allclose(found_N[2], whole[0], rtol=1e-5)


@every_kind
def test_what_is_missing_has_its_conditional_mean_and_covariance(kind):
  params = example(kind)
  mean_NV, draws_NKV = jax.jit(gaussian.conditional, static_argnums=3)(
    jax.random.key(2), params, jnp.float32(HOLES), 20_000)
  for x_V, mean_V, draws_KV in zip(HOLES, mean_NV, draws_NKV, strict=True):
    missing = np.isnan(x_V)
    np.testing.assert_array_equal(mean_V[~missing], np.float32(x_V[~missing]))
    np.testing.assert_array_equal(draws_KV[:, ~missing], np.tile(
      np.float32(x_V[~missing]), (20_000, 1)))
    if missing.any():
      centre, spread = given(params, x_V)
      np.testing.assert_allclose(mean_V[missing], centre, rtol=2e-4, atol=2e-4)
      assert oracle.mean_p_value(draws_KV[:, missing], centre) > oracle.SIGNIFICANCE
      # Second moments of whitened draws, each a mean of 20,000.
      white = np.linalg.solve(np.linalg.cholesky(spread), (np.asarray(draws_KV)[:, missing]
                                                           - centre).T)
      np.testing.assert_allclose(white @ white.T / 20_000, np.eye(len(centre)), atol=0.06)


@every_kind
def test_a_row_of_weight_two_counts_as_two_rows(kind):
  x_NV, times_N = correlated(60), np.random.default_rng(2).integers(1, 4, 60)
  weighted = gaussian.fit(x_NV, kind, 0.1, 2, jnp.float32(times_N))
  repeated = gaussian.fit(np.repeat(x_NV, times_N, axis=0), kind, 0.1, 2)
  np.testing.assert_allclose(weighted.mean_V, repeated.mean_V, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(covariance(weighted), covariance(repeated), rtol=1e-4, atol=1e-5)
  assert np.abs(covariance(weighted) - covariance(gaussian.fit(x_NV, kind, 0.1, 2))).max() > 1e-3
