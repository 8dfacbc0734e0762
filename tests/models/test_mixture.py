"""Mixtures against sums over classes in NumPy float64, from the definition, and scikit-learn.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import sklearn.mixture

from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.experiment import Phase
from gen_models.models import gaussian, mixture, units
from gen_models.training import step as step_lib
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, Q = 5, 3
STATES_AV = oracle.states(V)
em_step = jax.jit(mixture.em_step)
fit = jax.jit(mixture.fit, static_argnames=('num_classes', 'max_steps', 'components'))
maximise = jax.jit(mixture.maximise, static_argnames='components')
every_components = pytest.mark.parametrize('components', ['bernoulli', 'diagonal', 'full'])


def example(seed=0) -> mixture.Params:
  draws = np.random.default_rng(seed)
  log_pi_Q = np.log(draws.dirichlet(np.ones(Q)))
  return mixture.Params(jnp.asarray(2 * draws.normal(size=(Q, V)), jnp.float32),
                        jnp.asarray(log_pi_Q, jnp.float32))


def joint(params, x_NV):
  """pi_q prod_i m_qi^x_i (1 - m_qi)^(1 - x_i), [N, Q]."""
  logits_QV, log_pi_Q = oracle.float64(params)
  m_QV = 1 / (1 + np.exp(-logits_QV))
  return np.exp(log_pi_Q) * np.prod(np.where(x_NV[:, None] == 1, m_QV, 1 - m_QV), axis=-1)


def images(num=300, seed=1):
  """Noisy copies of three patterns, no pixel constant."""
  draws = np.random.default_rng(seed)
  p_NV = np.array([[.9, .9, .1, .1, .5], [.1, .2, .9, .8, .5], [.5, .9, .9, .1, .2]])
  return (draws.random((num, V)) < p_NV[draws.integers(3, size=num)]).astype(np.float32)


def test_log_likelihood_sums_over_classes():
  params = example()
  joint_AQ = joint(params, STATES_AV)
  x_AV = jnp.float32(STATES_AV)
  np.testing.assert_allclose(mixture.log_joint(params, x_AV), np.log(joint_AQ), atol=1e-5)
  np.testing.assert_allclose(mixture.log_likelihood(params, x_AV), np.log(joint_AQ.sum(1)),
                             atol=1e-5)
  np.testing.assert_allclose(mixture.class_given_visible(params, x_AV),
                             joint_AQ / joint_AQ.sum(1, keepdims=True), atol=1e-6)
  np.testing.assert_allclose(np.exp(mixture.log_likelihood(params, x_AV)).sum(), 1, rtol=1e-5)


def test_samples_follow_the_joint_of_class_and_image():
  params, num = example(), 2**17
  z_N, x_NV = jax.jit(mixture.sample, static_argnums=2)(jax.random.key(0), params, num)
  assert x_NV.shape == (num, V)
  cells = oracle.index(x_NV) * Q + np.asarray(z_N)
  oracle.assert_frequencies(cells, joint(params, STATES_AV).reshape(-1))


@pytest.mark.parametrize('pseudo_count', [0.0, 1.0, 20.0])
def test_em_never_lowers_the_penalised_likelihood(pseudo_count):
  # sum_n log p(x_n) + a sum_qi (p_i log m_qi + (1 - p_i) log(1 - m_qi)) + (a / Q) sum_q log pi_q;
  # without pseudo-counts the likelihood alone. 1e-3 nats of 900 is left to float32.
  x_NV = images()
  prior_V = np.asarray(jax.nn.sigmoid(units.log_odds(x_NV.mean(0))), np.float64)

  def objective(params):
    logits_QV, log_pi_Q = oracle.float64(params)
    log_prior = np.sum(prior_V * logits_QV - np.logaddexp(0, logits_QV)) + log_pi_Q.mean()
    return np.log(joint(params, x_NV).sum(1)).sum() + pseudo_count * log_prior

  params = mixture.init(jax.random.key(1), x_NV, Q)
  values = [objective(params)]
  for _ in range(40):
    params = em_step(params, x_NV, pseudo_count)
    values.append(objective(params))
  assert np.all(np.diff(values) > -1e-3), np.diff(values).min()
  assert values[-1] > values[0] + 5


def test_an_em_step_is_the_formula():
  params, x_NV, a = example(), images(), 2.0
  joint_NQ = joint(params, x_NV)
  r_NQ = joint_NQ / joint_NQ.sum(1, keepdims=True)
  p_V = 0.99 * x_NV.mean(0) + 0.005
  m_QV = (r_NQ.T @ x_NV + a * p_V) / (r_NQ.sum(0) + a)[:, None]
  pi_Q = (r_NQ.sum(0) + a / Q) / (len(x_NV) + a)
  after = em_step(params, x_NV, a)
  np.testing.assert_allclose(np.exp(after.log_pi_Q), pi_Q, rtol=1e-4)
  np.testing.assert_allclose(jax.nn.sigmoid(after.logits_QV), m_QV, rtol=1e-4)


def test_a_class_to_which_nothing_belongs_falls_back_to_independent_pixels():
  x_NV = images()
  params = example()._replace(log_pi_Q=jnp.array([-0.7, -0.7, -1e6], jnp.float32))
  after = em_step(params, x_NV, 1.0)
  assert np.all(np.isfinite(np.concatenate([after.log_pi_Q[None].T, after.logits_QV], axis=1)))
  np.testing.assert_allclose(after.logits_QV[2], units.log_odds(x_NV.mean(0)), atol=1e-5)
  np.testing.assert_allclose(np.exp(after.log_pi_Q[2]), 1 / Q / (len(x_NV) + 1), rtol=1e-4)


def test_pixels_that_never_change_stay_finite_over_many_images():
  # 1 - m of a pixel that is always on is far below the resolution of float32 beside 1.
  x_NV = np.tile(images(), (100, 1))
  x_NV[:, 0], x_NV[:, 1] = 1, 0
  params = fit(jax.random.key(2), x_NV, num_classes=Q, max_steps=20)
  assert np.all(np.isfinite(params.logits_QV))
  np.testing.assert_allclose(params.logits_QV[:, 0], -params.logits_QV[:, 1], rtol=1e-4)
  assert np.all(params.logits_QV[:, 0] > 10)


def test_one_class_is_independent_pixels():
  x_NV = images()
  params = fit(jax.random.key(3), x_NV, num_classes=1)
  mean_V = x_NV.mean(0, dtype=np.float64)
  m_V = (len(x_NV) * mean_V + 0.99 * mean_V + 0.005) / (len(x_NV) + 1)
  expected_N = np.where(x_NV == 1, np.log(m_V), np.log1p(-m_V)).sum(1)
  np.testing.assert_allclose(mixture.log_likelihood(params, x_NV), expected_N, rtol=1e-5)


def test_fit_finds_the_patterns():
  x_NV = images(3000)
  log_likelihood = jax.jit(mixture.log_likelihood)
  one, three = (log_likelihood(fit(jax.random.key(4), x_NV, num_classes=q), x_NV).mean()
                for q in (1, 3))
  truth = log_likelihood(mixture.Params(
    units.log_odds(jnp.array(
      [[.9, .9, .1, .1, .5], [.1, .2, .9, .8, .5], [.5, .9, .9, .1, .2]]), 0.0),
    jnp.full(3, -np.log(3), jnp.float32)), x_NV).mean()
  assert one + 0.2 < truth < three + 0.01


@pytest.mark.parametrize('num_classes', [0, 301])
def test_impossible_numbers_of_classes_are_refused(num_classes):
  with pytest.raises(ValueError, match='classes for 300 images'):
    mixture.init(jax.random.key(0), images(), num_classes)


# Gaussian classes.


def points(num=400, seed=5):
  """Three clusters of different shapes in the plane of the first two of V pixels."""
  draws = np.random.default_rng(seed)
  centres_QV = np.zeros((3, V))
  centres_QV[1, 0], centres_QV[2, 1] = 4, 5
  z_N = draws.integers(3, size=num)
  x_NV = draws.normal(size=(num, V)) @ (np.eye(V) + 0.5 * draws.normal(size=(V, V)))
  return np.float32(centres_QV[z_N] + x_NV * np.array([0.5, 1, 0.7])[z_N][:, None]), z_N


def laws(params):
  """scipy's density of each class."""
  classes = params.classes
  c_QVV = jax.vmap(gaussian.covariance_of)(classes)
  return [scipy.stats.multivariate_normal(np.asarray(m, np.float64), np.asarray(c, np.float64))
          for m, c in zip(classes.mean_V, c_QVV, strict=True)]


def normals(components, seed=6) -> mixture.GaussianParams:
  draws = np.random.default_rng(seed)
  shape = (Q, V, V) if components == 'full' else (Q, V)
  of_class = gaussian.Full if components == 'full' else gaussian.Diagonal
  return mixture.GaussianParams(
    of_class(*(jnp.asarray(0.5 * draws.normal(size=s), jnp.float32) for s in ((Q, V), shape))),
    jnp.asarray(draws.normal(size=Q), jnp.float32))  # not normalised


@pytest.mark.parametrize('components', ['diagonal', 'full'])
def test_gaussian_classes_are_summed_over(components):
  params, x_NV = normals(components), points(50)[0]
  log_pi_Q = np.asarray(jax.nn.log_softmax(params.log_pi_Q), np.float64)
  joint_NQ = log_pi_Q + np.stack([law.logpdf(x_NV) for law in laws(params)], 1)
  np.testing.assert_allclose(mixture.log_joint(params, x_NV), joint_NQ, rtol=1e-4)
  np.testing.assert_allclose(mixture.log_likelihood(params, x_NV),
                             np.logaddexp.reduce(joint_NQ, axis=1), rtol=1e-4)


@pytest.mark.parametrize('components', ['diagonal', 'full'])
def test_gaussian_classes_are_sampled(components):
  params, num = normals(components), 2**14
  z_N, x_NV = jax.jit(mixture.sample, static_argnums=2)(jax.random.key(7), params, num)
  oracle.assert_frequencies(z_N, jax.nn.softmax(params.log_pi_Q))
  for q, law in enumerate(laws(params)):
    y_NV = np.asarray(x_NV, np.float64)[np.asarray(z_N) == q] - law.mean
    square_N = np.sum(y_NV * np.linalg.solve(law.cov, y_NV.T).T, axis=1)
    cells = np.minimum(scipy.stats.chi2(V).cdf(square_N) * 20, 19).astype(int)
    oracle.assert_frequencies(cells, np.full(20, 1 / 20))
    assert oracle.mean_p_value(y_NV, np.zeros(V)) > oracle.SIGNIFICANCE


@every_components
def test_a_class_can_be_asked_for(components):
  params = example() if components == 'bernoulli' else normals(components)
  sample = jax.jit(mixture.sample, static_argnums=2)
  for label in range(Q):
    z_N, x_NV = sample(jax.random.key(label), params, 2**12, label)
    assert np.all(z_N == label)
    mean_V = mixture.visible_mean(params, z_N)[0]
    assert oracle.mean_p_value(x_NV, np.asarray(mean_V)) > oracle.SIGNIFICANCE


@every_components
@pytest.mark.parametrize('pseudo_count', [0.0, 1.0, 20.0])
def test_em_never_lowers_the_posterior(components, pseudo_count):
  # Without pseudo-counts, that is the likelihood. Of 2000 nats, float32 leaves 0.005.
  x_NV = images() if components == 'bernoulli' else points()[0]
  params = mixture.init(jax.random.key(8), x_NV, Q, components)
  log_posterior = jax.jit(mixture.log_posterior)
  values = [log_posterior(params, x_NV, pseudo_count)]
  for _ in range(40):
    params = em_step(params, x_NV, pseudo_count)
    values.append(log_posterior(params, x_NV, pseudo_count))
  assert np.all(np.diff(values) > -5e-3), np.diff(values).min()
  assert values[-1] > values[0] + 5
  if pseudo_count == 0:
    np.testing.assert_allclose(values[-1], mixture.log_likelihood(params, x_NV).sum(), rtol=1e-6)


@every_components
def test_the_prior_is_what_the_pseudo_images_would_have_scored(components):
  # Up to a constant: so differences between two parameters are compared.
  x_NV = images() if components == 'bernoulli' else points()[0]
  pair = [fit(jax.random.key(seed), x_NV, num_classes=Q, components=components, max_steps=3)
          for seed in (0, 1)]

  def expected(params):
    log_pi = np.asarray(jax.nn.log_softmax(params.log_pi_Q), np.float64).mean()
    if components == 'bernoulli':
      p_V = 0.99 * x_NV.mean(0) + 0.005
      logits_QV = np.asarray(params.logits_QV, np.float64)
      return np.sum(p_V * logits_QV - np.logaddexp(0, logits_QV)) + log_pi
    m_V, c_VV = (np.asarray(a, np.float64) for a in gaussian.moments(x_NV, 0.01))
    return log_pi + sum(law.logpdf(m_V) - 0.5 * np.trace(np.linalg.solve(law.cov, c_VV))
                        for law in laws(params))

  found = [mixture.log_prior(params, x_NV, 2.0) for params in pair]
  np.testing.assert_allclose(found[0] - found[1], 2 * (expected(pair[0]) - expected(pair[1])),
                             rtol=1e-3, atol=1e-3)
  assert abs(found[0] - found[1]) > 0.01


@pytest.mark.parametrize('components, theirs', [('diagonal', 'diag'), ('full', 'full')])
def test_an_em_step_on_gaussian_classes_is_scikit_learns(components, theirs):
  x_NV = points()[0]
  params = mixture.init(jax.random.key(9), x_NV, Q, components)
  c_QVV = np.asarray(jax.vmap(gaussian.covariance_of)(params.classes), np.float64)
  precision = np.linalg.inv(c_QVV) if components == 'full' else 1 / np.diagonal(c_QVV, 0, 1, 2)
  sk = sklearn.mixture.GaussianMixture(
    Q, covariance_type=theirs, reg_covar=0, max_iter=1, weights_init=np.full(Q, 1 / Q),
    means_init=np.asarray(params.classes.mean_V), precisions_init=precision)
  with pytest.warns(Warning, match='did not converge'):
    sk.fit(x_NV.astype(np.float64))
  after = em_step(params, x_NV, 0.0)
  np.testing.assert_allclose(np.exp(after.log_pi_Q), sk.weights_, rtol=1e-3)
  np.testing.assert_allclose(after.classes.mean_V, sk.means_, atol=2e-3)
  c_QVV = jax.vmap(gaussian.covariance_of)(after.classes)
  if components == 'diagonal':
    c_QVV = np.diagonal(c_QVV, 0, 1, 2)
  np.testing.assert_allclose(c_QVV, sk.covariances_, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize('components', ['diagonal', 'full'])
def test_gaussian_classes_find_the_clusters(components):
  x_NV, z_N = points(3000)
  params = fit(jax.random.key(12), x_NV, num_classes=3, components=components)
  one = fit(jax.random.key(12), x_NV, num_classes=1, components=components)
  nats, alone = (mixture.log_likelihood(p, x_NV).mean() for p in (params, one))
  assert nats > alone + 0.3
  if components == 'full':
    guess_N = np.asarray(jnp.argmax(mixture.class_given_visible(params, x_NV), axis=1))
    table = np.zeros((3, 3))
    np.add.at(table, (z_N, guess_N), 1)
    assert sorted(table.argmax(1)) == [0, 1, 2] and table.max(1).sum() > 0.9 * len(x_NV)


@pytest.mark.parametrize('components', ['diagonal', 'full'])
def test_a_gaussian_class_with_no_image_or_one_is_the_data_as_a_whole(components):
  x_NV = points()[0]
  r_NQ = np.zeros((len(x_NV), Q), np.float32)
  r_NQ[1:, 0], r_NQ[0, 1] = 1, 1
  params = maximise(r_NQ, x_NV, 1.0, components=components)
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))
  mean_V, c_VV = (np.asarray(a, np.float64) for a in gaussian.moments(x_NV, 0.01))
  half_V = (x_NV[0] - mean_V) / 2  # one image, one pseudo-image
  for q, law in enumerate(laws(params)[1:], start=1):
    shift_V = half_V if q == 1 else 0 * half_V
    expected = c_VV / (2 if q == 1 else 1) + np.outer(shift_V, shift_V)
    np.testing.assert_allclose(law.mean, mean_V + shift_V, atol=1e-4)
    where = np.eye(V) == 1 if components == 'diagonal' else np.ones((V, V), bool)
    np.testing.assert_allclose(law.cov[where], expected[where], rtol=1e-3, atol=1e-3)


# Labels, gradients, the loop.


@every_components
def test_labels_give_proportions_and_the_moments_of_each_class(components):
  x_NV, z_N = (images(), np.arange(300) % 7 % 3) if components == 'bernoulli' else points()
  params = mixture.fit_labelled(x_NV, z_N, Q, components=components, pseudo_count=1e-3)
  np.testing.assert_allclose(np.exp(params.log_pi_Q), np.bincount(z_N) / len(z_N), atol=1e-5)
  mean_QV = mixture.visible_mean(params, jnp.arange(Q))
  for q in range(Q):
    np.testing.assert_allclose(mean_QV[q], x_NV[z_N == q].mean(0), atol=1e-3)
    if components != 'bernoulli':
      c_VV = np.cov(x_NV[z_N == q].T.astype(np.float64), bias=True)
      c_VV = c_VV if components == 'full' else np.diag(np.diagonal(c_VV))
      np.testing.assert_allclose(laws(params)[q].cov, c_VV, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize('components', ['diagonal', 'full'])
@pytest.mark.parametrize('pseudo_count', [0.0, 1e-6])
def test_classes_may_lie_far_apart(components, pseudo_count):
  # 10,000 standard deviations: second moments about the common mean are 10^8 times a class's own.
  draws = np.random.default_rng(12)
  z_N = np.arange(200) % 2
  x_NV = (draws.normal(size=(200, 3)) + 1e4 * z_N[:, None]).astype(np.float32)
  params = mixture.fit_labelled(x_NV, z_N, 2, components=components, pseudo_count=pseudo_count)
  every_NV = x_NV.astype(np.float64)
  common_VV = np.cov(every_NV.T, bias=True)
  common_VV = 0.99 * common_VV + 0.01 * np.trace(common_VV) / 3 * np.eye(3)
  for q, law in enumerate(laws(params)):
    own_NV = every_NV[z_N == q]
    off_V = own_NV.mean(0) - every_NV.mean(0)
    pseudo_VV = pseudo_count * (common_VV + np.outer(off_V, off_V))
    c_VV = (100 * np.cov(own_NV.T, bias=True) + pseudo_VV) / (100 + pseudo_count)
    where = np.eye(3) == 1 if components == 'diagonal' else np.ones((3, 3), bool)
    np.testing.assert_allclose(law.cov[where], c_VV[where], atol=0.01)


def test_a_class_without_a_density_is_refused():
  # Two points in three dimensions span no volume, and without pseudo-images nothing else does.
  x_NV, z_N = np.float32([[0, 0, 0], [1, 2, 3], [5, 5, 5], [6, 5, 4]]), np.array([0, 0, 1, 1])
  with pytest.raises(ValueError, match='no density: at a pseudo-count of 0 .* pseudo_count, 1 say'):
    mixture.fit_labelled(x_NV, z_N, 2, components='full', pseudo_count=0.0)
  with pytest.raises(ValueError, match='no density'):
    mixture.fit(jax.random.key(0), jnp.asarray(x_NV), 2, components='full', pseudo_count=0.0)
  assert np.all(np.isfinite(mixture.fit_labelled(x_NV, z_N, 2, components='full').log_pi_Q))


@every_components
def test_the_gradient_is_zero_where_em_stays(components):
  x_NV = images() if components == 'bernoulli' else points()[0]
  params = fit(jax.random.key(10), x_NV, num_classes=Q, components=components, max_steps=3000,
               tolerance=0.0)
  gradient = jax.jit(jax.grad(lambda params: mixture.log_posterior(params, x_NV, 1.0) / len(x_NV)))
  start = gradient(mixture.init(jax.random.key(10), x_NV, Q, components))
  sizes = [max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(g))
           for g in (gradient(params), start)]
  assert sizes[0] < 2e-3 < 0.05 * sizes[1], sizes


def through_the_loop(estimator, optimizer, x_NV, num_steps):
  phase = Phase('mixture', lambda key, x_NV, previous: mixture.init(key, x_NV, Q), estimator,
                optimizer, lambda key, x_NV, step: x_NV, num_steps, len(x_NV))

  @jax.jit
  def run(key, x_NV):
    state = step_lib.init_state(key, phase, x_NV)
    return state.params, step_lib.train_steps(phase, state, x_NV, num_steps)[0].params

  with jax.numpy_dtype_promotion('standard'):  # optax relies on it
    return run(jax.random.key(11), jnp.asarray(x_NV))


def test_a_step_of_the_loop_is_a_round_of_em():
  x_NV = images()
  start, after = through_the_loop(
    fixed_point(lambda params, x_NV: mixture.em_step(params, x_NV, 1.0), mixture.log_likelihood),
    optax.sgd(1.0), x_NV, 3)
  for _ in range(3):
    start = em_step(start, x_NV, 1.0)
  np.testing.assert_allclose(after.logits_QV, start.logits_QV, atol=1e-4)
  np.testing.assert_allclose(after.log_pi_Q, start.log_pi_Q, atol=1e-4)


def test_training_by_gradient_reaches_what_em_reaches():
  x_NV = images()
  start, after = through_the_loop(maximum_likelihood(mixture.log_likelihood), optax.adam(
    optax.linear_schedule(0.05, 0.0, 2000)), x_NV, 2000)
  by_em = start
  for _ in range(300):
    by_em = em_step(by_em, x_NV, 1e-3)
  nats = [float(mixture.log_likelihood(p, x_NV).mean()) for p in (start, after, by_em)]
  assert nats[0] + 0.1 < nats[2] - 0.02 < nats[1]


def filled(x_V):
  """Every completion of a binary row."""
  return STATES_AV[np.all((x_V == STATES_AV) | np.isnan(x_V), axis=1)]


def test_missing_pixels_are_summed_out_and_imputed_exactly():
  params = example()
  holes_NV = np.where(np.arange(V) % 2 == 1, np.nan, np.float32(images(3)))
  holes_NV[1] = np.nan
  found_N = mixture.observed_log_likelihood(params, jnp.float32(holes_NV))
  mean_NV, draws_NKV = mixture.conditional(
    jax.random.key(1), params, jnp.float32(holes_NV), 20_000)
  for x_V, found, mean_V, draws_KV in zip(holes_NV, found_N, mean_NV, draws_NKV, strict=True):
    fits_AV = filled(x_V)
    p_A = joint(params, fits_AV).sum(1)
    np.testing.assert_allclose(found, np.log(p_A.sum()), rtol=1e-5, atol=1e-5)
    p_A /= p_A.sum()
    np.testing.assert_allclose(mean_V, p_A @ fits_AV, rtol=1e-4, atol=1e-5)
    cells_K = np.argmin(np.abs(np.asarray(draws_KV)[:, None] - fits_AV).sum(-1), axis=1)
    oracle.assert_frequencies(cells_K, p_A)


@pytest.mark.parametrize('components', ['diagonal', 'full'])
def test_missing_values_of_gaussian_classes(components):
  params, x_V = normals(components), np.array([0.4, np.nan, np.nan][:2] + [np.nan] * (V - 2))
  x_NV = jnp.float32(x_V)[None]
  # What was seen is one value: each class has a normal density of it, and conditional moments.
  of_class = [jax.tree.map(lambda leaf, q=q: leaf[q], params.classes) for q in range(
    len(params.log_pi_Q))]
  log_p_Q = np.asarray(jax.nn.log_softmax(params.log_pi_Q), np.float64) + [
    scipy.stats.norm(float(one.mean_V[0]), float(gaussian.covariance_of(one)[0, 0])**0.5).logpdf(
      0.4) for one in of_class]
  np.testing.assert_allclose(mixture.observed_log_likelihood(params, x_NV)[0],
                             scipy.special.logsumexp(log_p_Q), rtol=1e-4)
  mean_NV, draws_NKV = mixture.conditional(jax.random.key(1), params, x_NV, 20_000)
  means_QV = np.stack([gaussian.conditional(jax.random.key(0), one, x_NV, 1)[0][0]
                       for one in of_class])
  expected_V = scipy.special.softmax(log_p_Q) @ means_QV
  np.testing.assert_allclose(mean_NV[0], expected_V, rtol=1e-3, atol=1e-4)
  assert oracle.mean_p_value(draws_NKV[0][:, 1:], expected_V[1:]) > oracle.SIGNIFICANCE


def test_em_on_rows_with_holes_never_lowers_the_posterior_of_what_was_seen():
  x_NV = images()
  holes_NV = jnp.asarray(np.where(np.random.default_rng(3).random(x_NV.shape) < 0.3, np.nan, x_NV))
  for components in ('bernoulli', 'diagonal'):
    params = mixture.init(jax.random.key(0), mixture.filled(holes_NV), 3, components)
    step = jax.jit(lambda params: mixture.observed_em_step(params, holes_NV, 1.0))

    def posterior(params):
      return float(jnp.sum(mixture.observed_log_likelihood(params, holes_NV))
                   + mixture.log_prior(params, mixture.filled(holes_NV), 1.0))

    values = [posterior(params)]
    for _ in range(10):
      params = step(params)
      values.append(posterior(params))
    assert np.all(np.diff(values) > -1e-2) and values[-1] > values[0] + 10, values


def test_em_without_holes_is_em():
  x_NV = jnp.asarray(images())
  params = mixture.init(jax.random.key(0), x_NV, 3)
  for ours, plain in zip(mixture.observed_em_step(params, x_NV, 1.0),
                         mixture.em_step(params, x_NV, 1.0), strict=True):
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)


def test_em_of_full_covariances_refuses_holes():
  with pytest.raises(ValueError, match='train by gradient, or take diagonal'):
    mixture.observed_em_step(normals('full'), jnp.full((2, V), jnp.nan), 1.0)


@pytest.mark.parametrize('components', ['bernoulli', 'diagonal', 'full'])
def test_a_row_of_weight_two_counts_as_two_rows(components):
  # Rows repeated k times against the same rows once, with weights k.
  x_NV, times_N = images(40), np.random.default_rng(3).integers(1, 4, 40)
  x_NV = x_NV if components == 'bernoulli' else x_NV + np.random.default_rng(4).normal(
    0, 0.3, x_NV.shape).astype(np.float32)
  again_MV, z_N = np.repeat(x_NV, times_N, axis=0), np.arange(40) % Q
  holes_NV = np.where(np.random.default_rng(5).random(x_NV.shape) < 0.2, np.nan, x_NV)
  weights_N = jnp.float32(times_N)

  @jax.jit
  def both(start):
    rounds = [(mixture.em_step, x_NV, again_MV)]
    if components != 'full':
      rounds.append((mixture.observed_em_step, holes_NV, np.repeat(holes_NV, times_N, axis=0)))
    pairs = [(step(start, x, 1.0, weights_N), step(start, y, 1.0)) for step, x, y in rounds]
    pairs.append((mixture.fit_labelled(x_NV, z_N, Q, components=components, weights_N=weights_N),
                  mixture.fit_labelled(again_MV, np.repeat(z_N, times_N), Q,
                                       components=components)))
    pairs.append((mixture.log_posterior(start, x_NV, 2.0, weights_N),
                  mixture.log_posterior(start, again_MV, 2.0)))
    return pairs

  start = mixture.init(jax.random.key(0), x_NV, Q, components, weights_N)
  for weighted, repeated in both(start):
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
