"""Layers of several kinds of units side by side, as one layer (units.Layer).

Axis suffixes: B batch or chains, D units, S states.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import units


@dataclasses.dataclass(frozen=True)
class Labelled(units.OneBias):
  """Bernoulli units of which the last `num_labels` are one-of-Q: features beside a label."""

  num_labels: int

  levels, group, neutral = 0, 1, 0.5  # no single level: label_rbm enumerates
  discrete = True

  def _both(self, fn, *args):
    """fn(layer, args) of features and of the label."""
    first, last = ([a[..., part] for a in args] for part in (
      slice(None, -self.num_labels), slice(-self.num_labels, None)))
    return fn(units.BERNOULLI, *first), fn(units.Categorical(self.num_labels), *last)

  def cumulant(self, theta_D, y):
    features, label = self._both(lambda layer, t, y: layer.cumulant(t, y), theta_D, y)
    return features + label

  def mean(self, theta_D, y):
    return jnp.concatenate(self._both(lambda layer, t, y: layer.mean(t, y), theta_D, y), axis=-1)

  def sample(self, key, theta_D, y):
    keys = iter(jax.random.split(key))
    return jnp.concatenate(self._both(
      lambda layer, t, y: layer.sample(next(keys), t, y), theta_D, y), axis=-1)

  def square(self, theta_D, y):
    return self.mean(theta_D, y)

  def init(self, mean_D):
    return jnp.concatenate(self._both(lambda layer, m: layer.init(m), mean_D))

  def unit_of(self, size: int) -> np.ndarray:
    return np.minimum(np.arange(size), size - self.num_labels)

  def check(self, x):
    self._both(lambda layer, x: layer.check(x), np.asarray(x))


@dataclasses.dataclass(frozen=True)
class Joined:
  """Layers side by side as one: their units are independent of each other.

  Attributes:
    layers: their kinds; there may be none.
    sizes: units of each.
  """

  layers: tuple[units.Layer, ...]
  sizes: tuple[int, ...]

  levels, group, neutral = 0, 1, 0.0  # no single level: `states` enumerates

  def _each(self, name: str, theta: units.Parts, *args) -> list:
    """What the function `name` of each layer makes of its part of theta and of the arrays."""
    cuts = np.cumsum(self.sizes, dtype=int)[:-1]
    arrays = [jnp.split(x, cuts, axis=-1) for x in args]
    return [getattr(layer, name)(*of) for layer, *of in zip(self.layers, theta.parts, *arrays)]

  def _sum(self, name, theta, x):
    return sum(self._each(name, theta, x), jnp.zeros(x.shape[:-1]))

  def _concatenated(self, name, theta, y):
    return jnp.concatenate(self._each(name, theta, y), axis=-1) if self.layers else y

  def log_base(self, theta, x):
    return self._sum('log_base', theta, x)

  def cumulant(self, theta, y):
    return self._sum('cumulant', theta, y)

  def mean(self, theta, y):
    return self._concatenated('mean', theta, y)

  def square(self, theta, y):
    return self._concatenated('square', theta, y)

  def sample(self, key, theta, y):
    if not self.layers:
      return y
    keys = jax.random.split(key, len(self.layers))
    parts = jnp.split(y, np.cumsum(self.sizes, dtype=int)[:-1], axis=-1)
    return jnp.concatenate([layer.sample(k, t, part) for layer, k, t, part in zip(
      self.layers, keys, theta.parts, parts)], axis=-1)

  def statistics(self, theta, x):
    return units.Parts(tuple(self._each('statistics', theta, x)))

  def expected_statistics(self, theta, y):
    return units.Parts(tuple(self._each('expected_statistics', theta, y)))

  def init(self, mean_D):
    parts = jnp.split(mean_D, np.cumsum(self.sizes, dtype=int)[:-1])
    return units.Parts(tuple(layer.init(part) for layer, part in zip(self.layers, parts)))

  def between(self, theta_0: units.Parts, theta_1: units.Parts, beta) -> units.Parts:
    """That of each layer."""
    return units.Parts(tuple(units.between(layer, a, b, beta) for layer, a, b in zip(
      self.layers, theta_0.parts, theta_1.parts)))

  def check(self, x):
    cuts = np.cumsum(self.sizes, dtype=int)[:-1]
    for layer, part in zip(self.layers, np.split(x, cuts, axis=-1)):
      layer.check(part)

  def unit_of(self, size: int) -> np.ndarray:
    units_of = [units.unit_of(layer, part) for layer, part in zip(self.layers, self.sizes)]
    before = np.cumsum([0, *(int(of.max()) + 1 if len(of) else 0 for of in units_of)])
    return np.concatenate([*(of + first for of, first in zip(units_of, before)),
                           np.zeros(0, int)]).astype(int)

  @property
  def discrete(self) -> bool:
    return all(units.is_discrete(layer) for layer in self.layers)

  @property
  def log2_states(self) -> float:
    """log2 of the number of states; inf with continuous units."""
    return sum((size // layer.group * math.log2(layer.levels) if layer.levels else math.inf)
               for layer, size in zip(self.layers, self.sizes))

  def states(self) -> jax.Array:
    """Every state, [S, D]; with none of the units continuous."""
    x = np.zeros((1, 0), np.float32)
    for layer, size in zip(self.layers, self.sizes):
      new = units.states_of(layer, size)
      x = np.concatenate([np.tile(x, (len(new), 1)), np.repeat(new, len(x), axis=0)], axis=-1)
    return jnp.asarray(x)
