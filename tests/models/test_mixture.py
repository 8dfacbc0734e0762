"""The mixture against sums over classes in NumPy float64, from the definition.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import mixture, units
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, Q = 5, 3
STATES_AV = oracle.states(V)
em_step = jax.jit(mixture.em_step)
fit = jax.jit(mixture.fit, static_argnames=('num_classes', 'max_steps'))


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
