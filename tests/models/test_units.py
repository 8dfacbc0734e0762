"""Layers of units against integration, differentiation and the moments of their draws.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from gen_models.models import joined, tails, units
from gen_models.models.double_rectified import DoubleRectified
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

LAYERS = {
  'bernoulli': units.BERNOULLI, 'spin': units.SPIN, 'categorical': units.Categorical(3),
  'linear': units.LINEAR, 'gaussian': units.Gaussian(0.05, 3.0), 'rectified': units.RECTIFIED,
  'double': DoubleRectified(), 'labelled': joined.Labelled(4)}
every_layer = pytest.mark.parametrize('name', LAYERS)
DISCRETE = {
  'bernoulli': np.array([[0.0], [1.0]]), 'spin': np.array([[-1.0], [1.0]]),
  'categorical': np.eye(3), 'labelled': np.concatenate([np.eye(6)[2:], np.eye(6)[2:]])}
for i, x in enumerate(DISCRETE['labelled']):
  x[:2] = 0, i // 4
NUM = 6


def theta_of(name, size=NUM):
  draws = np.random.default_rng(3)
  theta = LAYERS[name].init(jnp.full(size, LAYERS[name].neutral))
  return jax.tree.map(lambda t: t + jnp.asarray(draws.normal(size=t.shape), jnp.float32), theta)


def inputs(num_rows=5, size=NUM):
  return jnp.asarray(np.random.default_rng(4).normal(size=(num_rows, size)) * 1.5, jnp.float32)


@pytest.mark.parametrize('name', ['bernoulli', 'spin', 'categorical'])
def test_cumulants_sum_over_states(name):
  # One group alone, its states listed.
  layer, x_SD = LAYERS[name], jnp.asarray(DISCRETE[name], jnp.float32)
  theta, y_BD = theta_of(name, x_SD.shape[1]), inputs(size=x_SD.shape[1])
  expected_B = jax.nn.logsumexp(layer.log_base(theta, x_SD) + y_BD @ x_SD.T, axis=-1)
  np.testing.assert_allclose(layer.cumulant(theta, y_BD), expected_B, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['linear', 'gaussian', 'rectified', 'double'])
@pytest.mark.parametrize('y', [-9.0, -2.0, 0.3, 4.0])
def test_cumulants_are_integrals(name, y):
  layer, theta = LAYERS[name], theta_of(name, 1)

  centre = float(layer.mean(theta, jnp.full(1, y))[0])
  x_S = np.linspace(0.0 if name == 'rectified' else centre - 20, centre + 20, 2**16 + 1)
  log_p_S = np.asarray(layer.log_base(theta, jnp.float32(x_S)[:, None]) + jnp.float32(x_S * y))
  area, moment, square = (
    scipy.integrate.simpson(x_S**power * np.exp(log_p_S.astype(np.float64)), x=x_S)
    for power in range(3))
  y_D = jnp.full((1, 1), y, jnp.float32)
  np.testing.assert_allclose(layer.cumulant(theta, y_D)[0], np.log(area), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(layer.mean(theta, y_D)[0, 0], moment / area, rtol=1e-3)
  np.testing.assert_allclose(layer.square(theta, y_D)[0, 0], square / area, rtol=1e-3, atol=1e-4)


@every_layer
def test_moments_are_derivatives_of_the_cumulant(name):
  layer, theta, y_BD = LAYERS[name], theta_of(name), inputs()
  mean_BD = jax.grad(lambda y: jnp.sum(layer.cumulant(theta, y)))(y_BD)
  np.testing.assert_allclose(layer.mean(theta, y_BD), mean_BD, rtol=1e-4, atol=1e-5)
  for y_D in y_BD:
    expected = jax.grad(lambda t, y: layer.cumulant(t, y))(theta, y_D)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                 layer.expected_statistics(theta, y_D), expected)


@every_layer
def test_statistics_are_derivatives_of_the_base(name):
  layer, theta = LAYERS[name], theta_of(name)
  x_BD = layer.sample(jax.random.key(0), theta, inputs())
  for x_D in x_BD:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
                 layer.statistics(theta, x_D), jax.grad(layer.log_base)(theta, x_D))


@every_layer
def test_draws_have_the_mean_and_the_square(name):
  layer, theta, y_BD = LAYERS[name], theta_of(name), inputs(1)
  rows_ND = jnp.broadcast_to(y_BD, (2**15, NUM))
  x_ND = np.asarray(jax.jit(layer.sample)(jax.random.key(1), theta, rows_ND), np.float64)
  layer.check(x_ND)
  assert oracle.mean_p_value(x_ND, layer.mean(theta, y_BD)[0]) > oracle.SIGNIFICANCE
  if name != 'spin':  # its square is 1 without chance
    assert oracle.mean_p_value(x_ND**2, layer.square(theta, y_BD)[0]) > oracle.SIGNIFICANCE


def test_categories_are_drawn_independently_and_as_often_as_they_should():
  layer, theta, y_BD = LAYERS['categorical'], theta_of('categorical'), inputs(1)
  x_ND = layer.sample(jax.random.key(2), theta, jnp.broadcast_to(y_BD, (2**14, NUM)))
  p_GQ = np.asarray(layer.mean(theta, y_BD)).reshape(2, 3)
  cells = np.asarray(jnp.argmax(x_ND[:, :3], -1) * 3 + jnp.argmax(x_ND[:, 3:], -1))
  oracle.assert_frequencies(cells, np.outer(p_GQ[0], p_GQ[1]).reshape(-1))


@pytest.mark.parametrize('m', [-80.0, -20.0, -12.5, -11.5, -5.0, 0.0, 9.0])
def test_rectified_units_keep_their_digits_in_the_tail(m):
  layer, theta_D = units.RECTIFIED, jnp.zeros(1)
  y = jnp.full((2**14, 1), m)
  # E[x] = sqrt(2 / pi) / erfcx(-m / sqrt 2) + m; the sum cancels, so in more digits by its series.
  exact = (m + np.sqrt(2 / np.pi) / scipy.special.erfcx(-m / np.sqrt(2)) if m > -50
           else (1 - 2 / m**2 + 10 / m**4) / -m)
  np.testing.assert_allclose(layer.mean(theta_D, y)[0, 0], exact, rtol=3e-3)
  x_N = np.asarray(layer.sample(jax.random.key(3), theta_D, y), np.float64)
  assert np.all(np.isfinite(x_N)) and x_N.min() >= 0
  np.testing.assert_allclose(x_N.mean(), exact, rtol=6 / np.sqrt(2**14))


@pytest.mark.parametrize('m', [-300.0, -30.0, -3.5, -2.5, 0.0, 8.0])
@pytest.mark.parametrize('gap', [0.0, 2.0])
def test_double_rectified_units_keep_their_digits_on_both_sides(m, gap):
  layer = DoubleRectified(0.5, 4.0)
  theta = layer.init(jnp.zeros(1))._replace(
    gap_D=jnp.full(1, gap), spread_above_D=jnp.full(1, 1.0), spread_below_D=jnp.full(1, -2.0))
  above, below = (float(p[0]) for p in layer.precisions(theta))

  def side(slope, precision, power):
    """log int_0^inf h^power exp(slope h - precision h^2 / 2) dh, by scale and in float64."""
    scale = max(np.sqrt(precision), -slope)
    peak = max(slope / precision, 0.0)
    top = slope * peak - precision * peak**2 / 2
    u = np.linspace(0, scale * peak + 40, 2**18 + 1)
    h = u / scale
    y = h**power * np.exp(slope * h - precision * h**2 / 2 - top)
    return top + np.log(scipy.integrate.simpson(y, x=h))

  sides = [(side(m - gap, above, k), side(-m - gap, below, k)) for k in range(3)]
  log_z = np.logaddexp(*sides[0])
  y = jnp.full((1, 1), m, jnp.float32)
  np.testing.assert_allclose(layer.cumulant(theta, y)[0], log_z, rtol=2e-6, atol=2e-5)
  mean = np.exp(sides[1][0] - log_z) - np.exp(sides[1][1] - log_z)
  np.testing.assert_allclose(layer.mean(theta, y)[0, 0], mean, rtol=1e-4, atol=1e-6)
  square = np.exp(np.logaddexp(*sides[2]) - log_z)
  np.testing.assert_allclose(layer.square(theta, y)[0, 0], square, rtol=3e-4)
  expected = layer.expected_statistics(theta, y)
  np.testing.assert_allclose(expected.gap_D[0, 0], -np.exp(np.logaddexp(*sides[1]) - log_z),
                             rtol=1e-4)


def test_double_rectified_units_are_drawn_from_their_density():
  # Kolmogorov-Smirnov, two very different sides with a gap between.
  layer = DoubleRectified(0.5, 4.0)
  theta = layer.init(jnp.full(1, 0.7))._replace(
    gap_D=jnp.full(1, 1.0), spread_above_D=jnp.full(1, 3.0), spread_below_D=jnp.full(1, -3.0))
  x_N = np.asarray(layer.sample(jax.random.key(5), theta, jnp.full((2**14, 1), -0.4)), np.float64)
  h_S = np.linspace(-30, 30, 2**15 + 1)
  p_S = np.exp(np.asarray(layer.log_base(theta, jnp.float32(h_S)[:, None]), np.float64)
               - 0.4 * h_S)
  cdf_S = scipy.integrate.cumulative_simpson(p_S, x=h_S, initial=0)
  test = scipy.stats.kstest(x_N[:, 0], lambda x: np.interp(x, h_S, cdf_S / cdf_S[-1]))
  assert test.pvalue > oracle.SIGNIFICANCE


def test_gaussian_units_are_double_rectified_ones_without_a_gap():
  layer, theta, y_BD = DoubleRectified(0.1, 10.0), theta_of('gaussian'), inputs()
  of_gaussian = units.Gaussian(0.1, 10.0)
  double = layer.init(jnp.zeros(NUM))._replace(
    bias_D=theta.bias_D, spread_above_D=theta.spread_D, spread_below_D=theta.spread_D)
  for name in ('cumulant', 'mean', 'square'):
    np.testing.assert_allclose(getattr(layer, name)(double, y_BD),
                               getattr(of_gaussian, name)(theta, y_BD), rtol=1e-4, atol=1e-5)


class _Zeros:
  """Stands for jax.random where the smallest number is drawn."""

  @staticmethod
  def uniform(key, shape, minval=0.0):
    return jnp.full(shape, minval, jnp.float32)


@pytest.mark.parametrize('m', [-11.9, -5.0, 0.0])
def test_the_rarest_draw_of_rectified_units_is_finite(m, monkeypatch):
  # One uniform number in 2^23 is the least there is.
  monkeypatch.setattr(tails.jax, 'random', _Zeros)
  x = tails.truncated_normal(None, jnp.full(3, m, jnp.float32))
  assert np.all(np.isfinite(x)) and np.all(x > 0)


@pytest.mark.parametrize('name', ['gaussian', 'double'])
def test_between_two_layers_bases_are_mixed(name):
  layer, theta_0, theta_1 = LAYERS[name], theta_of(name), theta_of(name)
  theta_1 = jax.tree.map(lambda t: 1.5 - t, theta_1)
  x_BD = inputs()
  for beta in (0.0, 0.3, 0.9, 1.0):
    found = layer.log_base(units.between(layer, theta_0, theta_1, beta), x_BD)
    expected = (1 - beta) * layer.log_base(theta_0, x_BD) + beta * layer.log_base(theta_1, x_BD)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['bernoulli', 'spin', 'categorical'])
def test_finite_units_without_bias_are_uniform(name):
  theta = units.unbiased(LAYERS[name], NUM)
  np.testing.assert_array_equal(theta, jnp.zeros(NUM))


@pytest.mark.parametrize('m', [-12.5, -80.0])
def test_rectified_units_far_below_zero_are_no_exponentials(m):
  # An exponential of rate -m has a mean 1.3 % and a square 3 % too large at -12.
  layer, theta_D = units.RECTIFIED, jnp.zeros(1)
  x_G = np.linspace(0, 30 / -m, 200_001)
  p_G = np.exp(m * x_G - x_G**2 / 2)
  mean, square = (p_G @ x_G**k / p_G.sum() for k in (1, 2))
  y = jnp.full((1, 1), m)
  np.testing.assert_allclose(layer.mean(theta_D, y)[0, 0], mean, rtol=1e-3)
  np.testing.assert_allclose(layer.square(theta_D, y)[0, 0], square, rtol=1e-3)
  x_N = np.asarray(layer.sample(jax.random.key(4), theta_D, jnp.full((2**19, 1), m)), np.float64)
  np.testing.assert_allclose(x_N.mean(), mean, rtol=5 / 2**9.5)  # 5 standard errors: 0.7 %
  np.testing.assert_allclose((x_N**2).mean(), square, rtol=5 * 5**0.5 / 2**9.5)


def test_the_variance_of_gaussian_units_stays_within_bounds():
  layer = units.Gaussian(0.05, 3.0)
  for spread, variance in ((-1e4, 3.0), (1e4, 0.05)):
    theta = units.Precise(jnp.zeros(2), jnp.full(2, spread))
    np.testing.assert_allclose(1 / layer.precision(theta), variance, rtol=1e-5)
  np.testing.assert_allclose(layer.precision(layer.init(jnp.zeros(2))), 1.0, rtol=1e-5)


@every_layer
def test_the_mean_that_was_asked_for_is_had(name):
  layer = LAYERS[name]
  mean_D = jnp.asarray([0.2, 0.5, 0.3, 0.4, 0.1, 0.5])
  mean_D = mean_D.at[2:].set(0.25) if name == 'labelled' else mean_D
  if name == 'rectified':
    pytest.skip('its parameter is a bias, not a mean')
  np.testing.assert_allclose(layer.mean(layer.init(mean_D), jnp.zeros(NUM)), mean_D, atol=0.01)


@pytest.mark.parametrize('name, bad, message', [
  ('bernoulli', 0.5, 'are 0 or 1.*0.5.*binarise'), ('spin', 0.0, '-1 or 1'),
  ('categorical', 1.0, 'one-of-3'), ('linear', np.nan, 'finite'), ('gaussian', np.inf, 'finite'),
  ('rectified', -0.5, '>= 0'), ('double', np.nan, 'finite'), ('labelled', 2.0, 'one-of-4|0 or 1')])
def test_what_are_no_states_is_refused(name, bad, message):
  x_BD = np.asarray(LAYERS[name].sample(jax.random.key(0), theta_of(name), inputs()))
  LAYERS[name].check(x_BD)
  x_BD = x_BD.copy()
  x_BD[2] = bad
  with pytest.raises(ValueError, match=message):
    LAYERS[name].check(x_BD)


def test_log_odds_are_finite_and_undone_by_the_sigmoid():
  mean_D = jnp.array([0.0, 0.2, 0.5, 1.0])
  odds_D = units.log_odds(mean_D)
  np.testing.assert_allclose(jax.nn.sigmoid(odds_D), [0.005, 0.203, 0.5, 0.995], rtol=1e-5)
  np.testing.assert_allclose(units.log_odds(mean_D[1:3], smoothing=0.0), [np.log(0.25), 0],
                             rtol=1e-6)
