"""Losses at the best critic are the divergences between two Gaussians; distances are unbiased."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models import estimators

# Data p = N(0, 1), samples q = N(m, s^2), near enough that every divergence is finite.
M, S = 0.7, 0.9
P, Q = scipy.stats.norm(0, 1), scipy.stats.norm(M, S)
GRID = np.linspace(-8, 8, 8001)
P_G, Q_G = (law.pdf(GRID) * (GRID[1] - GRID[0]) for law in (P, Q))
RATIO = np.exp(P.logpdf(GRID) - Q.logpdf(GRID))


def total_variation():
  """Mass between the two points where the densities cross."""
  a, b, c = 1 / S**2 - 1, -2 * M / S**2, M**2 / S**2 + 2 * math.log(S)
  ends = np.sort(np.roots([a, b, c]))
  return abs(np.diff(P.cdf(ends)) - np.diff(Q.cdf(ends)))[0]


def to_middle(one):
  return np.sum(one * np.log(2 * one / (P_G + Q_G)))


CLOSED = {
  'total_variation': total_variation(),
  'kl': math.log(S) + (1 + M**2) / (2 * S**2) - 0.5,
  'reverse_kl': -math.log(S) + (S**2 + M**2) / 2 - 0.5,
  'pearson': S**2 / math.sqrt(2 * S**2 - 1) * math.exp(M**2 / (2 * S**2 - 1)) - 1,
  'neyman': math.exp(M**2 / (2 - S**2)) / (S * math.sqrt(2 - S**2)) - 1,
  'squared_hellinger': 2 - 2 * math.sqrt(2 * S / (1 + S**2)) * math.exp(-M**2 / (4 * (1 + S**2))),
  'jensen_shannon': to_middle(P_G) + to_middle(Q_G),  # has none: a sum over the grid
}


def expected(loss, v_G):
  """Both losses in expectation over p and q, of a critic that is v on the grid."""
  def of(player):
    def at(real, fake):
      return player(real[None], fake[None])

    zero, v = jnp.zeros(()), jnp.asarray(v_G, jnp.float32)
    real_G, fake_G = (jax.vmap(at, axes)(*args) for axes, args in (
      ((0, None), (v, zero)), ((None, 0), (zero, v))))
    # Every one of these losses is a term of data plus a term of samples.
    return real_G @ jnp.float32(P_G) + fake_G @ jnp.float32(Q_G) - at(zero, zero)

  return of(loss.critic), of(loss.generator)


def test_every_divergence_at_its_best_critic_is_the_closed_form():
  assert set(CLOSED) == set(estimators.DIVERGENCES)

  @jax.jit
  def values():
    found = {}
    for name, divergence in estimators.DIVERGENCES.items():
      best_G = divergence.best(jnp.asarray(RATIO, jnp.float32))
      found[name] = [expected(estimators.LOSSES[name], best_G + change)
                     for change in (0.0, 0.3 * np.sin(GRID), 0.3 * np.cos(GRID))]
    return found

  for name, ((critic, generator), *others) in values().items():
    np.testing.assert_allclose(-critic, CLOSED[name], rtol=2e-4, err_msg=name)
    # The generator's part: what of the divergence does not stand in its gradient is E_p[T].
    assert abs(generator) < 1e3
    if name != 'total_variation':  # whose best critic is a limit, where changes are not felt
      assert min(float(other) for other, _ in others) > critic + 1e-3, name


def test_conjugates_are_suprema():
  u_G = np.exp(np.linspace(-12, 12, 40_001))
  for name, divergence in estimators.DIVERGENCES.items():
    f_G = np.asarray(divergence.generator(jnp.asarray(u_G, jnp.float32)), np.float64)
    for v in (-1.2, -0.3, 0.0, 0.4, 1.1):
      t = float(divergence.activation(jnp.float32(v)))
      np.testing.assert_allclose(divergence.conjugate(jnp.float32(v)), np.max(u_G * t - f_G),
                                 atol=2e-3, err_msg=f'{name} at {v}')


def test_least_squares_at_its_best_critic():
  critic, _ = expected(estimators.least_squares, RATIO / (1 + RATIO))
  np.testing.assert_allclose(critic, np.sum(P_G * Q_G / (P_G + Q_G)) / 2, rtol=1e-4)
  # With its best critic p / (p + q), a sample where p = q costs (1 / 2 - 1)^2 / 2.
  half = estimators.least_squares.generator(jnp.zeros(1), jnp.array([0.5]))
  np.testing.assert_allclose(half, 0.125)


def over_batches(loss, num_components: int, num_batches: int = 20_000, size: int = 6):
  """Mean and standard error of the generator's loss over batches of Gaussians."""
  def one(key):
    keys = jax.random.split(key)
    shape = (size, num_components) if num_components > 1 else (size,)
    return loss.generator(jax.random.normal(keys[0], shape),
                          M + S * jax.random.normal(keys[1], shape))

  values = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), num_batches)),
                      np.float64)
  return values.mean(), values.std() / math.sqrt(num_batches)


# Errors of 4.5 standard errors are seen for one key in 10^5.


@pytest.mark.parametrize('num_components', [1, 2])
def test_mmd_is_unbiased(num_components):
  bandwidths = (0.6, 1.5)

  def kernel(mean, variance):
    return sum((b**2 / (b**2 + variance))**(num_components / 2) * math.exp(
      -num_components * mean**2 / (2 * (b**2 + variance))) for b in bandwidths)

  closed = kernel(0, 2) + kernel(0, 2 * S**2) - 2 * kernel(M, 1 + S**2)
  mean, error = over_batches(estimators.mmd(bandwidths), num_components)
  assert abs(mean - closed) < 4.5 * error and closed > 20 * error


def test_energy_distance_is_unbiased():
  def absolute(mean, variance):
    deviation = math.sqrt(variance)
    return (deviation * math.sqrt(2 / math.pi) * math.exp(-mean**2 / (2 * variance))
            + mean * (1 - 2 * scipy.stats.norm.cdf(-mean / deviation)))

  closed = 2 * absolute(M, 1 + S**2) - absolute(0, 2) - absolute(0, 2 * S**2)
  mean, error = over_batches(estimators.energy, 1)
  assert abs(mean - closed) < 4.5 * error and closed > 20 * error


def test_equal_outputs_have_a_gradient():
  gradient = jax.grad(lambda f: estimators.energy.generator(f, f + 0.0))(jnp.ones(3))
  assert np.all(np.isfinite(gradient))


def test_the_best_samples_teach_the_generator():
  fake = jnp.array([0.3, -1.0, 2.0, 0.1])
  loss = estimators.top_k(estimators.non_saturating, 0.5)
  np.testing.assert_allclose(loss.generator(jnp.zeros(4), fake),
                             estimators.non_saturating.generator(jnp.zeros(2), fake[::2]))
  np.testing.assert_array_equal(jax.grad(loss.generator, 1)(jnp.zeros(4), fake) == 0,
                                [False, True, False, True])
  assert loss.critic is estimators.non_saturating.critic and loss.biased


@pytest.mark.parametrize('make, message', [
  (lambda: estimators.top_k(estimators.hinge, 0.0), r'lies in \(0, 1\], not at 0.0'),
  (lambda: estimators.top_k(estimators.relativistic, 0.5), 'use a loss that is not relative'),
  (lambda: estimators.energy.critic(jnp.zeros(4), jnp.zeros(1)), 'use a larger batch')])
def test_what_has_no_meaning_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
