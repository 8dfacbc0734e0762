"""Units: the random variables of which layers are made.

Axis suffixes: B batch or chains, D units.
"""

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from gen_models.models import bits, tails

LOG_2_PI = math.log(2 * math.pi)


def log_odds(mean: jax.Array, smoothing: float = 0.01) -> jax.Array:
  """log(m / (1 - m)) of means pulled towards 1/2, m = (1 - s) mean + s / 2, so finite."""
  m = (1 - smoothing) * mean + smoothing / 2
  return jnp.log(m) - jnp.log1p(-m)


class Layer(Protocol):
  """D independent units of one kind:

    p(x | y) = exp(log_base(theta, x) + x.y - cumulant(theta, y)),

  theta the layer's own parameters (an array theta_D, or a NamedTuple of them), y [.., D] the input
  from the other layer. Any two layers make a machine (gen_models.models.machine). To write one:
  gen_models.models.units.Spin is the shortest.
  """

  @property
  def levels(self) -> int:
    """States of a group of units; 0 where they are continuous."""
    ...

  @property
  def group(self) -> int:
    """Units that are drawn together: 1, or the categories of a one-of-Q unit."""
    ...

  @property
  def neutral(self) -> float:
    """The mean of a unit without bias."""
    ...

  def log_base(self, theta: Any, x: jax.Array, /) -> jax.Array:
    """log of the base measure, summed over units, [..]."""
    ...

  def cumulant(self, theta: Any, y: jax.Array, /) -> jax.Array:
    """log sum_x exp(log_base + x.y), an integral where units are continuous, [..]."""
    ...

  def mean(self, theta: Any, y: jax.Array, /) -> jax.Array:
    """E[x | y] = d cumulant / dy, [.., D]."""
    ...

  def sample(self, key: jax.Array, theta: Any, y: jax.Array, /) -> jax.Array:
    """x ~ p(x | y), [.., D]; the key is consumed."""
    ...

  def square(self, theta: Any, y: jax.Array, /) -> jax.Array:
    """E[x^2 | y], [.., D]."""
    ...

  def statistics(self, theta: Any, x: jax.Array, /) -> Any:
    """d log_base / d theta, the tree of theta, each leaf [.., D]."""
    ...

  def expected_statistics(self, theta: Any, y: jax.Array, /) -> Any:
    """E[statistics | y] = d cumulant / d theta, likewise."""
    ...

  def init(self, mean_D, /) -> Any:
    """theta of which the mean at y = 0 is about mean_D."""
    ...

  def check(self, x, /) -> None:
    """Raises ValueError, with the remedy, where x are not states of these units."""
    ...


class OneBias:
  """A layer whose only parameter is a bias: its statistic is x."""

  def log_base(self, theta_D, x):
    return x @ theta_D

  def statistics(self, theta_D, x):
    return x

  def expected_statistics(self: Layer, theta_D, y):
    return self.mean(theta_D, y)


@dataclasses.dataclass(frozen=True)
class Bernoulli(OneBias):
  """x in {0, 1}, log_base = theta.x; cumulant softplus(theta + y), mean sigma(theta + y)."""

  levels, group, neutral = 2, 1, 0.5

  def cumulant(self, theta_D, y):
    return jnp.sum(bits.softplus(theta_D + y), axis=-1)

  def mean(self, theta_D, y):
    return jax.nn.sigmoid(y + theta_D)

  def sample(self, key, theta_D, y):
    return bits.bernoulli(key, self.mean(theta_D, y))

  def square(self, theta_D, y):
    return self.mean(theta_D, y)

  def init(self, mean_D):
    return log_odds(mean_D)

  def check(self, x):
    _require(np.isin(x, (0, 1)), x, 'Bernoulli units are 0 or 1',
             "binarise the data (binarisation='threshold' or 'dynamic'), or use Gaussian units")


@dataclasses.dataclass(frozen=True)
class Spin(OneBias):
  """x in {-1, 1}, log_base = theta.x; cumulant log 2 cosh(theta + y), mean tanh(theta + y)."""

  levels, group, neutral = 2, 1, 0.0

  def cumulant(self, theta_D, y):
    m = jnp.abs(theta_D + y)
    return jnp.sum(m + jnp.log1p(jnp.exp(-2 * m)), axis=-1)

  def mean(self, theta_D, y):
    return jnp.tanh(theta_D + y)

  def sample(self, key, theta_D, y):
    return 2 * bits.bernoulli(key, jax.nn.sigmoid(2 * (theta_D + y))) - 1

  def square(self, theta_D, y):
    return jnp.ones_like(y)

  def init(self, mean_D):
    return log_odds((1 + mean_D) / 2) / 2

  def check(self, x):
    _require(np.isin(x, (-1, 1)), x, 'spins are -1 or 1', 'map zeros and ones by 2 x - 1')


@dataclasses.dataclass(frozen=True)
class Categorical(OneBias):
  """Groups of `num_states` units of which one is 1, the others 0 (Potts); log_base = theta.x.

  The cumulant is a logsumexp over each group, the mean its softmax.
  """

  num_states: int

  @property
  def levels(self):
    return self.num_states

  @property
  def group(self):
    return self.num_states

  @property
  def neutral(self):
    return 1 / self.num_states

  def _groups(self, x):
    return x.reshape(*x.shape[:-1], -1, self.num_states)

  def cumulant(self, theta_D, y):
    return jnp.sum(jax.nn.logsumexp(self._groups(theta_D + y), axis=-1), axis=-1)

  def mean(self, theta_D, y):
    return jax.nn.softmax(self._groups(theta_D + y), axis=-1).reshape(y.shape)

  def sample(self, key, theta_D, y):
    x = jax.random.categorical(key, self._groups(theta_D + y))
    return jax.nn.one_hot(x, self.num_states, dtype=y.dtype).reshape(y.shape)

  def square(self, theta_D, y):
    return self.mean(theta_D, y)

  def init(self, mean_D):
    return jnp.log((1 - 0.01) * mean_D + 0.01 / self.num_states)

  def check(self, x):
    ones = self._groups(np.asarray(x)).sum(-1, keepdims=True) == 1
    _require(np.isin(x, (0, 1)) & np.repeat(ones, self.num_states, -1).reshape(np.shape(x)), x,
             f'categorical units are one-of-{self.num_states}',
             'encode categories by jax.nn.one_hot')


@dataclasses.dataclass(frozen=True)
class Linear(OneBias):
  """Gaussian x of variance 1, log_base = theta.x - |x|^2 / 2; mean theta + y."""

  levels, group, neutral = 0, 1, 0.0

  def log_base(self, theta_D, x):
    return super().log_base(theta_D, x) - jnp.sum(x**2, axis=-1) / 2

  def cumulant(self, theta_D, y):
    return jnp.sum((theta_D + y)**2 + LOG_2_PI, axis=-1) / 2

  def mean(self, theta_D, y):
    return y + theta_D

  def sample(self, key, theta_D, y):
    return self.mean(theta_D, y) + jax.random.normal(key, y.shape)

  def square(self, theta_D, y):
    return self.mean(theta_D, y)**2 + 1

  def init(self, mean_D):
    return jnp.asarray(mean_D)

  def check(self, x):
    _require(np.isfinite(x), x, 'Gaussian units are finite', 'look for nan in the data')


class Precise(NamedTuple):
  """Parameters of Gaussian units: bias, and a number that a sigmoid maps to the precision."""

  bias_D: jax.Array
  spread_D: jax.Array


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Gaussian x with a learned variance that stays within bounds whatever the parameters are.

    log_base = a.x - sum_i lambda_i x_i^2 / 2,    E[x | y] = (a + y) / lambda,    Var = 1 / lambda,
    log lambda = (1 - s) log(1 / max_variance) + s log(1 / min_variance),    s = sigma(spread).

  Without the bound, a pixel that never changes sends its precision to infinity and with it the
  likelihood and every step. Cho, Ilin & Raiko (2011), Improved learning of Gaussian-Bernoulli RBMs.

  Attributes:
    min_variance, max_variance: of normalised data, whose variance is 1 at the start.
  """

  min_variance: float = 0.01
  max_variance: float = 4.0

  levels, group, neutral = 0, 1, 0.0

  def precision(self, theta: Precise) -> jax.Array:
    """lambda_D."""
    low, high = -jnp.log(self.max_variance), -jnp.log(self.min_variance)
    return jnp.exp(low + (high - low) * jax.nn.sigmoid(theta.spread_D))

  def log_base(self, theta, x):
    return x @ theta.bias_D - (x**2) @ self.precision(theta) / 2

  def cumulant(self, theta, y):
    precision_D = self.precision(theta)
    return jnp.sum((theta.bias_D + y)**2 / precision_D + LOG_2_PI - jnp.log(precision_D),
                   axis=-1) / 2

  def mean(self, theta, y):
    return (theta.bias_D + y) / self.precision(theta)

  def sample(self, key, theta, y):
    return self.mean(theta, y) + jax.random.normal(key, y.shape) * self.precision(theta)**-0.5

  def statistics(self, theta, x):
    return Precise(x, -x**2 / 2 * self.slope(theta))

  def expected_statistics(self, theta, y):
    return Precise(self.mean(theta, y), -self.square(theta, y) / 2 * self.slope(theta))

  def square(self, theta, y):
    return self.mean(theta, y)**2 + 1 / self.precision(theta)

  def slope(self, theta: Precise) -> jax.Array:
    """d lambda / d spread, [D]."""
    s_D = jax.nn.sigmoid(theta.spread_D)
    return self.precision(theta) * jnp.log(self.max_variance / self.min_variance) * s_D * (1 - s_D)

  def init(self, mean_D):
    high = jnp.log(self.max_variance)
    s = high / (high - jnp.log(self.min_variance))  # variance 1
    return Precise(jnp.asarray(mean_D), jnp.full(jnp.shape(mean_D), jnp.log(s) - jnp.log1p(-s)))

  def between(self, theta_0: Precise, theta_1: Precise, beta) -> Precise:
    """The parameters of (1 - beta) log_base_0 + beta log_base_1: biases and precisions are linear.

    beta in [0, 1] may be traced.
    """
    low, high = -jnp.log(self.max_variance), -jnp.log(self.min_variance)
    lambda_D = mixed(self.precision(theta_0), self.precision(theta_1), beta)
    s_D = jnp.clip((jnp.log(lambda_D) - low) / (high - low), 1e-6, 1 - 1e-6)
    spread_D = jnp.log(s_D) - jnp.log1p(-s_D)
    ends = jnp.where(beta > 0.5, theta_1.spread_D, theta_0.spread_D)
    return Precise(mixed(theta_0.bias_D, theta_1.bias_D, beta),
                   jnp.where((beta == 0) | (beta == 1), ends, spread_D))

  def check(self, x):
    LINEAR.check(x)


@dataclasses.dataclass(frozen=True)
class Rectified(OneBias):
  """x >= 0, log_base = theta.x - |x|^2 / 2: a Gaussian cut off at zero.

  With m = theta + y: cumulant m^2 / 2 + log Phi(m) + log(2 pi) / 2, mean m + phi(m) / Phi(m).
  Su, Liao, Chen & Carin (2016), Nonlinear statistical learning with truncated Gaussian graphical
  models.
  """

  levels, group, neutral = 0, 1, 0.0

  def log_base(self, theta_D, x):
    return LINEAR.log_base(theta_D, x)

  def cumulant(self, theta_D, y):
    return LINEAR.cumulant(theta_D, y) + jnp.sum(log_ndtr(theta_D + y), axis=-1)

  def mean(self, theta_D, y):
    m = theta_D + y
    # Far below zero the two terms cancel; there the series of Mills' ratio is used.
    far = jnp.minimum(m, -tails.FAR)
    near = jnp.maximum(m, -tails.FAR)
    hazard = jnp.exp(-near**2 / 2 - LOG_2_PI / 2 - log_ndtr(near))
    return jnp.where(m < -tails.FAR, -tails.scaled_mean(far) / far, near + hazard)

  def sample(self, key, theta_D, y):
    return tails.truncated_normal(key, theta_D + y)

  def square(self, theta_D, y):
    m = theta_D + y
    far = jnp.minimum(m, -tails.FAR)
    return jnp.where(m < -tails.FAR, tails.square(far), 1 + m * self.mean(theta_D, y))

  def init(self, mean_D):
    return jnp.asarray(mean_D)

  def check(self, x):
    _require(np.isfinite(x) & (np.asarray(x) >= 0), x, 'rectified units are finite and >= 0',
             'shift the data, or use Gaussian units')


def unit_of(layer: Layer, size: int) -> np.ndarray:
  """The number of the unit that each of a layer's `size` columns belongs to, [D].

  The columns of a one-of-Q unit have one number; layers of several kinds have a method of this
  name.
  """
  own = getattr(layer, 'unit_of', None)
  return own(size) if own else np.arange(size) // layer.group


def states_of(layer: Layer, size: int) -> np.ndarray:
  """Every state of `size` units of one kind with finitely many levels, [S, size]."""
  num_groups = size // layer.group
  digit_SG = (np.arange(layer.levels**num_groups)[:, None]
              // layer.levels**np.arange(num_groups)) % layer.levels
  if layer.group > 1:
    return (np.eye(layer.group, dtype=np.float32)[digit_SG].reshape(-1, size)
            if size else np.zeros((1, 0), np.float32))
  low = -1 if layer == SPIN else 0
  return (low + (1 - low) * digit_SG).astype(np.float32)


class Parts(NamedTuple):
  """Parameters of joined layers, those of one after another."""

  parts: tuple[Any, ...]


BERNOULLI, SPIN, LINEAR, RECTIFIED = Bernoulli(), Spin(), Linear(), Rectified()


def bias_of(theta: Any) -> jax.Array:
  """The part of a layer's parameters (or of their gradient) that multiplies x, [D].

  It is the field bias_D where a layer has several parameters.
  """
  if isinstance(theta, Parts):
    return jnp.concatenate([bias_of(part) for part in theta.parts])
  fields: Any = theta
  return fields.bias_D if isinstance(theta, tuple) else theta


def with_bias(theta: Any, bias_D):
  """theta with another bias."""
  if isinstance(theta, Parts):
    cuts = np.cumsum([len(bias_of(part)) for part in theta.parts])[:-1]
    return Parts(tuple(map(with_bias, theta.parts, jnp.split(bias_D, cuts))))
  fields: Any = theta
  return fields._replace(bias_D=bias_D) if isinstance(theta, tuple) else bias_D


def mixed(a, b, beta):
  """(1 - beta) a + beta b."""
  return (1 - beta) * a + beta * b


def between(layer: Layer, theta_0, theta_1, beta):
  """The layer's parameters at beta in [0, 1] of a path from theta_0 to theta_1; beta may be traced.

  (1 - beta) theta_0 + beta theta_1, which is the geometric path (1 - beta) log_base_0 + beta
  log_base_1 where log_base is linear in the parameters; a layer for which it is not has a method
  `between` of its own.
  """
  if hasattr(layer, 'between'):
    return layer.between(theta_0, theta_1, beta)
  return jax.tree.map(lambda a, b: mixed(a, b, beta), theta_0, theta_1)


def is_discrete(layer: Layer) -> bool:
  """Whether the units have finitely many states, so that their probabilities are at most 1."""
  return getattr(layer, 'discrete', bool(layer.levels))


def unbiased(layer: Layer, size: int):
  """Parameters of `size` units without bias: uniform where states are finitely many."""
  return with_bias(layer.init(jnp.full(size, layer.neutral)), jnp.zeros(size))


def check_batch(layer, num_units: int, x_BD, missing: bool = False) -> None:
  """Raises ValueError where a batch is not one of states of `num_units` units of this layer.

  With `missing`, nan is a value that is missing; units drawn together are missing together.
  """
  if jnp.ndim(x_BD) != 2 or x_BD.shape[1] != num_units:
    raise ValueError(f'data of shape {jnp.shape(x_BD)} for a model with {num_units} visible units: '
                     'build the model for this data set, or load the one it was built for')
  if missing and (nan_BD := np.isnan(x_BD)).any():
    nan_BG = nan_BD.reshape(len(nan_BD), -1, layer.group)
    if np.any(nan_BG.any(-1) != nan_BG.all(-1)):
      raise ValueError(f'the {layer.group} values of a one-of-{layer.group} unit are missing '
                       'together or not at all')
    # Any state will do in their place.
    drawn_BD = layer.sample(jax.random.key(0), layer.init(jnp.full(num_units, layer.neutral)),
                            jnp.zeros(x_BD.shape))
    x_BD = np.where(nan_BD, drawn_BD, x_BD)
  if not np.all(np.isfinite(x_BD)):
    raise ValueError(f'{np.sum(~np.isfinite(x_BD))} of {np.size(x_BD)} values of the data are not '
                     'finite: look for nan where the data are made')
  layer.check(x_BD)


def _require(good, x, law: str, fix: str):
  """ValueError with the first invalid value of x."""
  bad = np.asarray(x)[~np.asarray(good)]
  if bad.size:
    raise ValueError(f'{law}, but {bad.size} of {np.size(x)} values are not, {bad.flat[0]:g} for '
                     f'one: {fix}')
