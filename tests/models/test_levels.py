"""Families of levels against sums over all of them, and their draws.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.models import levels
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

# Of one pixel: family, its levels, its channels.
CASES = {'grey': (levels.discretised_logistic(16, 3), 16, 1),
         'colour': (levels.discretised_logistic(3, 2, 3), 3, 3),
         'two_channels': (levels.discretised_logistic(4, 2, 2), 4, 2),
         'beta_binomial': (levels.beta_binomial(16), 16, 1)}
every_family = pytest.mark.parametrize('name', [
  pytest.param(name, marks=pytest.mark.slow) if name == 'two_channels' else name for name in CASES])


def states(n: int, channels: int) -> np.ndarray:
  """All values of a pixel, [(n + 1)^C, C]."""
  return np.array(list(itertools.product(np.arange(n + 1) / n, repeat=channels)), np.float32)


def some_outputs(family, channels: int, scale=1.0, rows=6) -> np.ndarray:
  return scale * np.random.default_rng(0).normal(
    size=(rows, family.num_outputs * channels)).astype(np.float32)


@every_family
def test_probabilities_sum_to_one_and_give_the_mean_at_any_outputs(name):
  """Of mild outputs, and of outputs so large that all limits are reached."""
  family, n, channels = CASES[name]
  x_SC = states(n, channels)
  outputs_RO = np.concatenate([some_outputs(family, channels, s) for s in (1.0, 30.0, 300.0)])

  @jax.jit
  def both(outputs_RO):
    log_p_RS = family.log_prob(outputs_RO[:, None], x_SC)
    slope_RSO = jax.vmap(jax.vmap(jax.grad(family.log_prob), (None, 0)), (0, None))(
      outputs_RO, x_SC)
    return log_p_RS, family.mean(outputs_RO), slope_RSO

  log_p_RS, mean_RC, slope_RSO = map(np.asarray, both(outputs_RO))
  p_RS = np.exp(log_p_RS.astype(np.float64))
  assert np.isfinite(log_p_RS).all() and np.isfinite(slope_RSO).all()
  np.testing.assert_allclose(p_RS.sum(1), 1, rtol=2e-4)
  np.testing.assert_allclose(p_RS @ x_SC, mean_RC, atol=1e-4)
  # The slope of log sum p is zero: the expected score.
  np.testing.assert_allclose(np.einsum('rs,rso->ro', p_RS, slope_RSO)[:6], 0, atol=1e-4)


@pytest.mark.parametrize('coupled', [False, True])
def test_a_mixture_is_made_of_differences_of_logistics(coupled):
  """Within a component a channel's mean moves with tanh times those before it, x in [-1, 1]."""
  n, channels, blocks = 3, 3, 3 + coupled
  family, x_SC = levels.discretised_logistic(n, 2, channels, coupled), states(n, channels)
  outputs_RO = some_outputs(family, channels)
  logits_RKC, m_RKC, t_RKC, *more = np.moveaxis(
    np.float64(outputs_RO).reshape(-1, blocks, 2, channels), 1, 0)
  m_RSKC = np.repeat(m_RKC[:, None], len(x_SC), axis=1)
  if coupled:
    a, b, c = np.moveaxis(np.tanh(more[0]), -1, 0)[:, :, None]  # green by red; blue by red, green
    red_S1, green_S1, _ = np.float64(2 * x_SC.T[..., None] - 1)
    m_RSKC[..., 1] += a * red_S1
    m_RSKC[..., 2] += b * red_S1 + c * green_S1
  law = scipy.stats.logistic((1 + m_RSKC) / 2, np.exp(t_RKC[:, None]) / 2)
  edges = np.where(x_SC < 0.1, -np.inf, x_SC - 0.5 / n), np.where(x_SC > 0.9, np.inf,
                                                                  x_SC + 0.5 / n)
  p_RSKC = law.cdf(edges[1][:, None]) - law.cdf(edges[0][:, None])
  pi_RK = scipy.special.softmax(logits_RKC.sum(-1), axis=-1)  # one component of all channels
  np.testing.assert_allclose(jax.jit(family.log_prob)(outputs_RO[:, None], x_SC), np.log(
    np.einsum('rk,rsk->rs', pi_RK, p_RSKC.prod(-1))), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_of_many_levels_the_mean_is_the_centre_of_the_draws(monkeypatch):
  """Equal to E[x] between the ends, and not where a tail goes beyond them."""
  logits_3, m_3, a_3 = np.float32([0.3, -0.2, 0.1]), np.float32([0.2, -0.1, 0.15]), np.ones(3)

  def outputs(log_scale, m_3):
    return np.concatenate([logits_3, -logits_3, m_3, -m_3, np.full(6, log_scale), a_3,
                           -a_3]).astype(np.float32)

  inside_and_outside_2O = np.stack([outputs(-3.0, m_3), outputs(-0.5, 4 * m_3)])
  family = levels.discretised_logistic(16, 2, 3)
  exact_2C = jax.jit(lambda outputs: family.mean(outputs))(inside_and_outside_2O)
  monkeypatch.setattr(levels, '_MOST_STATES', 0)
  centre_2C = jax.jit(lambda outputs: family.mean(outputs))(inside_and_outside_2O)
  np.testing.assert_allclose(centre_2C[0], exact_2C[0], atol=1e-4)
  assert np.abs(centre_2C[1] - exact_2C[1]).max() > 3e-3


@pytest.mark.parametrize('n', [16, 255])
def test_beta_binomials_are_those_of_scipy(n):
  log_a, log_b = np.meshgrid([-6.9, -1.0, 2.0, 2.2, 5.0, 8.9], [-6.9, 0.5, 3.0, 8.9])
  outputs_RO = np.stack([log_a.ravel(), log_b.ravel()], axis=-1).astype(np.float32)
  k_S = np.arange(0, n + 1, max(1, n // 16))
  found = jax.jit(levels.beta_binomial(n).log_prob)(outputs_RO[:, None],
                                                    np.float32(k_S / n)[:, None])
  np.testing.assert_allclose(found, scipy.stats.betabinom(
    n, *np.exp(np.float64(outputs_RO.T))[:, :, None]).logpmf(k_S), rtol=2e-4, atol=2e-3)


def test_scores_of_256_levels_of_a_sharp_mixture_keep_their_digits():
  """Where a bin's two cumulative values round to the same float32."""
  family = levels.discretised_logistic(255, 1)
  x_S = np.float32(np.arange(256) / 255)
  outputs = np.float32([0.0, 2 * x_S[9] - 1, -9.0])  # its scale is held at exp(-7) / 2
  found = jax.jit(family.log_prob)(outputs, x_S[:, None])
  s, d = np.exp(-7) / 2, (np.arange(256) - 9) / 255
  above, below = (d + 0.5 / 255) / s, (d - 0.5 / 255) / s
  expected = (-np.logaddexp(0, -above) - np.logaddexp(0, below)
              + np.log(-np.expm1(-1 / (255 * s))))
  expected[0] = -np.logaddexp(0, -above[0])
  expected[-1] = -np.logaddexp(0, below[-1])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@every_family
def test_an_untrained_network_has_the_mean_and_draws_follow_the_density(name):
  family, n, channels = CASES[name]
  num, x_SC = 20_000, states(n, channels)
  mean_C = np.float32([0.3, 0.95, 0.004][:channels])
  others_O = some_outputs(family, channels)[0]

  @jax.jit
  def both(key):
    outputs_2O = jnp.stack([family.outputs(mean_C), jnp.asarray(others_O)])
    draws = family.sample(key, jnp.broadcast_to(outputs_2O[:, None], (2, num, len(others_O))))
    return family.mean(outputs_2O), family.log_prob(outputs_2O[:, None], x_SC), draws

  mean_2C, log_p_2S, draws_2NC = map(np.asarray, both(jax.random.key(0)))
  np.testing.assert_allclose(mean_2C[0], mean_C, atol=1e-4)
  for log_p_S, x_NC in zip(log_p_2S, draws_2NC):
    cells = np.rint(n * x_NC).astype(int) @ (n + 1)**np.arange(channels)[::-1]
    expected = np.exp(np.float64(log_p_S)) * num
    seen, often = np.bincount(cells, minlength=len(x_SC)), expected > 10
    table = np.append(seen[often], seen[~often].sum()), np.append(
      expected[often], num - expected[often].sum())
    table = [part[table[1] > 1e-6] for part in table]
    assert scipy.stats.chisquare(*table).pvalue > oracle.SIGNIFICANCE


def test_what_makes_no_sense_is_refused():
  for family, _, _ in CASES.values():
    with pytest.raises(ValueError, match='no closed form'):
      family.kl(jnp.zeros(6), jnp.zeros(6))
  with pytest.raises(ValueError, match='components must be at least 1, got 0'):
    levels.discretised_logistic(255, 0)
  with pytest.raises(ValueError, match='levels must be at least 1'):
    levels.beta_binomial(0)
  with pytest.raises(ValueError, match='no whole pixels of 3 channels, 4 x 2 for each'):
    CASES['colour'][0].mean(jnp.zeros(12))
