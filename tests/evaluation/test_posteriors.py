"""Gaps, rate, distortion and mutual information of encoders: of the linear-Gaussian autoencoder all
are known in closed form or by quadrature over its one latent.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models.evaluation import decoders, importance, posteriors
from gen_models.evaluation.decoders import Settings
from gen_models.problems import variational as problems

MODEL, PARAMS, NUM = problems.ONE, problems.ONE_PARAMS, 20
IMAGES = np.asarray(np.random.default_rng(0).normal(size=(NUM, 2)) * 0.3, np.float32)


def known() -> dict:
  """(log p, posterior mean and variance, q's mean and scale, weights), in float64."""
  def f64(x):
    return np.asarray(x, np.float64)

  w_V, b_V = f64(PARAMS.decoder[0]['Dense_0']['w_DF'][0]), f64(PARAMS.bias_O)
  variance = 1 / (1 + w_V @ w_V / problems.SCALE**2)
  mean_N = variance * (IMAGES - b_V) @ w_V / problems.SCALE**2
  m_N, t_N = f64(problems.affine(PARAMS.encoder[0], IMAGES)).T
  log_p_N = scipy.stats.multivariate_normal(
    b_V, np.outer(w_V, w_V) + problems.SCALE**2 * np.eye(2)).logpdf(IMAGES)
  return dict(log_p_N=log_p_N, m_N=m_N, s_N=np.exp(t_N), mean_N=mean_N, variance=variance)


def divergence(m, v, m2, v2):
  """KL of normals of these means and variances."""
  return 0.5 * (v / v2 + (m - m2)**2 / v2 - 1 + np.log(v2 / v))


def mutual_information(m_N, s_N) -> float:
  """(1/N) sum_n KL(q(z | x_n) || q(z)) on a fine grid."""
  z_G = np.linspace(m_N.min() - 12 * s_N.max(), m_N.max() + 12 * s_N.max(), 40_001)
  log_q_NG = scipy.stats.norm(m_N[:, None], s_N[:, None]).logpdf(z_G)
  log_mean_G = scipy.special.logsumexp(log_q_NG, axis=0) - np.log(len(m_N))
  return float(np.mean(np.sum(np.exp(log_q_NG) * (log_q_NG - log_mean_G), axis=1))
               * (z_G[1] - z_G[0]))


def test_the_parts_of_the_bound_are_those_of_the_linear_gaussian_model():
  exact = known()
  entry = posteriors.record(jax.random.key(0), MODEL, PARAMS, IMAGES,
                            float(exact['log_p_N'].mean()), num_samples=4000, num_steps=300)
  m_N, v_N = exact['m_N'], exact['s_N']**2
  gap = divergence(m_N, v_N, exact['mean_N'], exact['variance']).mean()
  rate = divergence(m_N, v_N, 0.0, 1.0).mean()
  assert entry['elbo'] == pytest.approx(exact['log_p_N'].mean() - gap, abs=0.05)
  assert entry['rate'] == pytest.approx(rate, abs=0.02)
  assert entry['elbo'] == pytest.approx(-entry['rate'] - entry['distortion'], abs=1e-4)
  # One Gaussian latent: the best q is the posterior, and the whole gap is the encoder's.
  assert entry['amortisation_gap'] == pytest.approx(gap, abs=0.05)
  assert abs(entry['approximation_gap']) < 0.01
  assert entry['mutual_information'] == pytest.approx(
    mutual_information(exact['m_N'], exact['s_N']), abs=0.2)
  assert entry['mutual_information'] < entry['rate'] + 0.1
  assert entry['mutual_information_at_most'] == pytest.approx(np.log(NUM))
  assert entry['active_units'] == [1]


def test_scores_of_images_bracket_what_the_encoder_says_of_their_distribution():
  """Of a linear encoder with one scale and normal data everything is known of q(z), too."""
  w_D = np.array([1.2, -0.5])
  params = PARAMS._replace(encoder=({'Dense_0': {
    'w_DF': jnp.stack([jnp.asarray(w_D, jnp.float32), jnp.zeros(2)], axis=1),
    'b_F': jnp.array([0.2, -1.0])}},))
  rng, mean_V, cov_VV = np.random.default_rng(1), np.array([0.3, -0.1]), np.array(
    [[1.0, 0.4], [0.4, 0.8]])
  x_NV = np.float32(rng.multivariate_normal(mean_V, cov_VV, 400))
  found = posteriors.scores(jax.random.key(0), MODEL, params, x_NV)
  assert found['elbo'] == pytest.approx(-found['rate'] - found['distortion'], abs=1e-9)
  log_l_1N = importance.log_likelihoods(jax.random.key(0), MODEL.log_weights, params, x_NV, 1)[0]
  assert found['elbo'] == pytest.approx(float(np.mean(log_l_1N)), abs=1e-5)
  between, within = w_D @ cov_VV @ w_D, np.exp(-2.0)
  information = 0.5 * np.log1p(between / within)
  rate = information + divergence(w_D @ mean_V + 0.2, between + within, 0.0, 1.0)
  assert found['rate'] == pytest.approx(rate, abs=0.15)  # of 400 draws; 4 standard errors
  # Within 0.1 of the truth from either side: two standard errors, and what 400 images leave open.
  assert information - 0.1 < found['mutual_information'] < information + 0.07
  assert found['mutual_information'] < found['mutual_information_upper'] < information + 0.1
  part = posteriors.scores(jax.random.key(0), MODEL, params, x_NV, log_partition=2.0)
  assert part['rate'] == pytest.approx(found['rate'] + 2)


@pytest.mark.slow
def test_mutual_information_agrees_with_quadrature_and_with_separate_codes_is_log_n():
  exact = known()
  found_N = posteriors.mutual_information(jax.random.key(1), MODEL, PARAMS, IMAGES,
                                          5000).least_N
  assert float(found_N.mean()) == pytest.approx(mutual_information(exact['m_N'], exact['s_N']),
                                                abs=0.02)
  # Weights count images: of weight 0 they are not there.
  weighted_N = posteriors.mutual_information(jax.random.key(1), MODEL, PARAMS, IMAGES, 5000,
                                             jnp.repeat(jnp.array([2.0, 0.0]), NUM // 2))
  some_N = posteriors.mutual_information(jax.random.key(2), MODEL, PARAMS, IMAGES[:NUM // 2], 5000)
  for one_N, other_N in zip(weighted_N, some_N, strict=True):
    np.testing.assert_allclose(one_N[:NUM // 2], other_N, atol=0.1)
  layer = PARAMS.encoder[0]['Dense_0']
  apart = PARAMS._replace(encoder=({'Dense_0': {
    'w_DF': layer['w_DF'], 'b_F': layer['b_F'] - jnp.array([0.0, 12.0])}},))
  found_N = posteriors.mutual_information(jax.random.key(1), MODEL, apart, IMAGES).least_N
  assert float(found_N.mean()) == pytest.approx(np.log(NUM), abs=0.01)


@pytest.mark.slow
def test_everything_of_one_record_agrees_on_the_linear_gaussian_model():
  entry = decoders.record(jax.random.key(2), MODEL, PARAMS, IMAGES, num_samples=4000,
                          settings=Settings(100, 16, 4))
  exact = float(known()['log_p_N'].mean())
  for name in ('importance', 'from_prior', 'from_encoder'):
    assert abs(entry[name]['nats'] - exact) < 4.5 * entry[name]['standard_error'] + 1e-3, name
  for name in ('from_prior', 'from_encoder'):
    sides = entry['drawn'][name]
    assert -4.5 * sides['standard_error'] < sides['gap'] < 0.5
    # The same mean: entropy of the model, over the same draws only within each entry.
    assert sides['lower'] < -0.5 * np.linalg.slogdet(
      2 * np.pi * np.e * problems.SCALE**2 * np.eye(2))[1] + 3
  assert abs(entry['posterior']['approximation_gap']) < 0.05
  assert entry['num_images'] == NUM and entry['num_samples'] == 4000


@pytest.mark.slow
def test_discrete_latents_have_no_gaps_and_all_the_rest():
  entry = posteriors.record(jax.random.key(3), problems.BELIEF, problems.BELIEF_PARAMS,
                            problems.BINARY_BATCH, -2.0, num_samples=2000)
  log_p, log_q = (np.asarray(x, np.float64) for x in problems.belief_terms(
    problems.BELIEF_PARAMS, problems.BINARY_BATCH, (3,)))
  assert entry['elbo'] == pytest.approx(np.mean(np.sum(np.exp(log_q) * (log_p - log_q), axis=0)),
                                        abs=0.1)
  assert 'amortisation_gap' not in entry and 'approximation_gap' not in entry
