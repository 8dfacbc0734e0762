"""Double rectified linear units (dReLU): two half-Gaussians that meet at zero.

  log_base(h) = -(gamma+ h+^2 / 2 + gamma- h-^2 / 2 + theta+ h+ + theta- h-),
  h+ = max(h, 0), h- = min(h, 0)

is the potential of Tubiana, Cocco & Monasson. The two slopes are written here as a bias and a gap,

  theta+ = gap - bias, theta- = -gap - bias,    so  -theta+ h+ - theta- h- = bias h - gap |h|,

because the bias multiplies h as that of every other layer does, and centring moves it. Gaussian
units are the case of equal precisions without a gap, rectified units the limit gamma- -> infinity;
a positive gap makes units sparse, a negative one makes them bimodal.

With an input y each side is a Gaussian cut off at zero,

  Z+ = int_0^inf exp(...) dh = sqrt(2 pi / gamma+) exp(m+^2 / 2) Phi(m+),
  m+ = (y - theta+) / sqrt(gamma+),    likewise Z- with m- = (theta- - y) / sqrt(gamma-),

and the cumulant is log(Z+ + Z-). Far below zero exp(m^2 / 2) Phi(m) is a small number made of a
huge and a tiny one; there its continued fraction is used, which loses no digits.

Axis suffix: D units. Nats.

Tubiana, Cocco & Monasson (2019), Learning protein constitutive motifs from sequence data, eLife 8;
Laplace's continued fraction: Abramowitz & Stegun (1964), 26.2.14.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from gen_models.models import tails, units

_TAIL = -3.0  # below it the continued fraction has all digits of float32
_FRACTIONS = 11  # with the rest estimated: 2e-7


class TwoSided(NamedTuple):
  """Parameters of double rectified units.

  Attributes:
    bias_D: multiplies h.
    gap_D: multiplies -|h|.
    spread_above_D, spread_below_D: numbers that a sigmoid maps to gamma+ and gamma-.
  """

  bias_D: jax.Array
  gap_D: jax.Array
  spread_above_D: jax.Array
  spread_below_D: jax.Array


class _Half(NamedTuple):
  """A standard Gaussian of mean m, cut off at zero: what is left, its mean and mean square."""

  log_area: jax.Array  # log(exp(m^2 / 2) Phi(m) sqrt(2 pi))
  mean: jax.Array
  square: jax.Array


def _half(m) -> _Half:
  """log area, E[x] and E[x^2] of x >= 0 with density exp(m x - x^2 / 2) / area."""
  # With x = -m: E[x] = 1 / (x + t), E[x^2] = t / (x + t), t = 2 / (x + 3 / (x + 4 / (x + ...))).
  x = jnp.maximum(-m, -_TAIL)
  t = (jnp.sqrt(x**2 + 4 * (_FRACTIONS + 1)) - x) / 2  # of t = k / (x + t)
  for k in range(_FRACTIONS, 1, -1):
    t = k / (x + t)
  near = jnp.maximum(m, _TAIL)
  log_phi = log_ndtr(near)
  mean = near + jnp.exp(-near**2 / 2 - units.LOG_2_PI / 2 - log_phi)
  log_area = near**2 / 2 + log_phi + units.LOG_2_PI / 2
  far = m < _TAIL
  return _Half(jnp.where(far, -jnp.log(x + 1 / (x + t)), log_area),
               jnp.where(far, 1 / (x + t), mean), jnp.where(far, t / (x + t), 1 + near * mean))


@dataclasses.dataclass(frozen=True)
class DoubleRectified:
  """Real h, two half-Gaussians that meet at zero; see the module.

  Attributes:
    min_variance, max_variance: bounds of 1 / gamma+ and 1 / gamma-, whatever the parameters are.
  """

  min_variance: float = 0.1
  max_variance: float = 10.0

  levels, group, neutral = 0, 1, 0.0

  def precisions(self, theta: TwoSided) -> tuple[jax.Array, jax.Array]:
    """(gamma+, gamma-), each [D]."""
    above_D, below_D = (self._bounded.precision(units.Precise(theta.bias_D, s_D))
                        for s_D in (theta.spread_above_D, theta.spread_below_D))
    return above_D, below_D

  @property
  def _bounded(self) -> units.Gaussian:
    return units.Gaussian(self.min_variance, self.max_variance)

  def log_base(self, theta, x):
    above_D, below_D = self.precisions(theta)
    return (x @ theta.bias_D - jnp.abs(x) @ theta.gap_D
            - (jnp.maximum(x, 0)**2 @ above_D + jnp.minimum(x, 0)**2 @ below_D) / 2)

  def _sides(self, theta, y):
    """Of either side: sqrt(gamma), the half-Gaussian of sqrt(gamma) |h|, and log Z."""
    sides = []
    for sign, precision_D in zip((1, -1), self.precisions(theta)):
      root_D = jnp.sqrt(precision_D)
      half = _half((sign * (y + theta.bias_D) - theta.gap_D) / root_D)
      sides.append((root_D, half, half.log_area - jnp.log(root_D)))
    return sides

  def cumulant(self, theta, y):
    (_, _, log_above), (_, _, log_below) = self._sides(theta, y)
    return jnp.sum(jnp.logaddexp(log_above, log_below), axis=-1)

  def _moments(self, theta, y):
    """(P(h > 0), E[|h|; h > 0], E[h^2; h > 0]) and the same below zero."""
    (root_a, a, log_a), (root_b, b, log_b) = self._sides(theta, y)
    p = jax.nn.sigmoid(log_a - log_b)
    q = jax.nn.sigmoid(log_b - log_a)
    return ((p, p * a.mean / root_a, p * a.square / root_a**2),
            (q, q * b.mean / root_b, q * b.square / root_b**2))

  def mean(self, theta, y):
    (_, above, _), (_, below, _) = self._moments(theta, y)
    return above - below

  def sample(self, key, theta, y):
    key_side, key_size = jax.random.split(key)
    (root_a, _, log_a), (root_b, _, log_b) = self._sides(theta, y)
    above = jax.random.uniform(key_side, y.shape) < jax.nn.sigmoid(log_a - log_b)
    x = y + theta.bias_D
    m = jnp.where(above, (x - theta.gap_D) / root_a, (-x - theta.gap_D) / root_b)
    size = tails.truncated_normal(key_size, m)
    return jnp.where(above, size / root_a, -size / root_b)

  def square(self, theta, y):
    (_, _, above), (_, _, below) = self._moments(theta, y)
    return above + below

  def statistics(self, theta, x):
    return self._statistics(theta, x, jnp.abs(x), jnp.maximum(x, 0)**2, jnp.minimum(x, 0)**2)

  def expected_statistics(self, theta, y):
    (_, above, above_2), (_, below, below_2) = self._moments(theta, y)
    return self._statistics(theta, above - below, above + below, above_2, below_2)

  def _statistics(self, theta, x, size, above_2, below_2):
    slope_above, slope_below = (self._bounded.slope(units.Precise(theta.bias_D, s_D))
                                for s_D in (theta.spread_above_D, theta.spread_below_D))
    return TwoSided(x, -size, -above_2 / 2 * slope_above, -below_2 / 2 * slope_below)

  def init(self, mean_D):
    mean_D = jnp.asarray(mean_D)
    spread_D = self._bounded.init(mean_D).spread_D
    return TwoSided(mean_D, jnp.zeros_like(mean_D), spread_D, spread_D)

  def between(self, theta_0, theta_1, beta):
    """The parameters of (1 - beta) log_base_0 + beta log_base_1; beta may be traced."""
    spreads = [self._bounded.between(units.Precise(theta_0.bias_D, a), units.Precise(
      theta_1.bias_D, b), beta).spread_D for a, b in (
        (theta_0.spread_above_D, theta_1.spread_above_D),
        (theta_0.spread_below_D, theta_1.spread_below_D))]
    return TwoSided(*(units.mixed(a, b, beta) for a, b in zip(theta_0[:2], theta_1[:2])), *spreads)

  def check(self, x):
    units.LINEAR.check(x)


DOUBLE_RECTIFIED = DoubleRectified()
