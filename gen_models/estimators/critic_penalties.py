"""Terms that are added to the critic's loss.

  r1                weight / 2 <|df/dx|^2> at the data                 (Mescheder et al., 2018)
  r2                the same at the samples
  gradient_penalty  weight <(|df/dx| - slope)^2> between data and samples (Gulrajani et al., 2017)
  zero_centred      weight <|df/dx|^2> between data and samples        (Thanh-Tung et al., 2019)
  dragan            weight <(|df/dx| - slope)^2> around the data       (Kodali et al., 2017)
  consistency       weight <(f(x) - f(t(x)))^2>, t an augmentation     (Zhang et al., 2020)
  balanced_consistency  the same at data and at samples                (Zhao et al., 2021)
  lecam             weight (<(f(x) - a_q)^2> + <(f(x~) - a_p)^2>), a_p and a_q moving averages of
                    f at data and at samples                           (Tseng et al., 2021)
  lazy              another one, n-fold, at every n-th move            (Karras et al., 2020)

A penalty is a function of a key, the critic with its parameters held, data and samples. One that
remembers something between updates is a `Remembering`.

Axis suffixes: B batch, V visible, M outputs of the critic (B of them, or packs), R what is left of
a gradient's axes when its norm has been taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.estimators.augmentations import Augmentation
from gen_models.models.rows import mean_rows as mean


class Critic(Protocol):
  """The critic with its parameters held, of which penalties are functions."""

  def __call__(self, x_BV: jax.Array, /) -> jax.Array:
    """f(x), [M]."""
    ...


class Penalty(Protocol):
  """A term of the critic's loss."""

  def __call__(self, key: jax.Array, critic: Critic, real_BV: jax.Array, fake_BV: jax.Array,
               /) -> jax.Array:
    """Scalar; the key is consumed."""
    ...


class Remembering(NamedTuple):
  """A term of the critic's loss that remembers something from one move of the critic to the next.

  Attributes:
    init: key -> what it remembers before the first; leaves as of base.Memory.shared.
    value: (key, critic, real_BV, fake_BV, remembered) -> (scalar, remembered).
  """

  init: Callable[[jax.Array], Any]
  value: Callable[..., tuple[jax.Array, Any]]


def remembering(penalty: 'Penalty | Remembering') -> Remembering:
  """Any penalty as one that remembers, perhaps nothing."""
  if isinstance(penalty, Remembering):
    return penalty
  return Remembering(lambda key: (), lambda *args: (penalty(*args[:-1]), args[-1]))


def scaled(weight: Any, penalty: 'Penalty | Remembering') -> 'Penalty | Remembering':
  """weight times a penalty."""
  if not isinstance(penalty, Remembering):
    return lambda key, critic, real_BV, fake_BV: weight * penalty(key, critic, real_BV, fake_BV)

  def value(key, critic, real_BV, fake_BV, kept):
    found, kept = penalty.value(key, critic, real_BV, fake_BV, kept)
    return weight * found, kept

  return penalty._replace(value=value)


# Gradients of the critic.


def r1(weight: float) -> Penalty:
  """weight / 2 <|df/dx|^2> at the data (Mescheder et al., 2018)."""
  return lambda key, critic, real_BV, fake_BV: weight / 2 * mean(_squared_slope(critic, real_BV))


def r2(weight: float) -> Penalty:
  """weight / 2 <|df/dx|^2> at the samples."""
  return lambda key, critic, real_BV, fake_BV: weight / 2 * mean(_squared_slope(critic, fake_BV))


def gradient_penalty(weight: float = 10.0, slope: float = 1.0, *,
                     shape: tuple[int, ...] | None = None, axes: tuple[int, ...] | None = None,
                     one_sided: bool = False) -> Penalty:
  """weight <(|df/dx| - slope)^2> at x + u (x~ - x), u ~ U(0, 1) of each pair (WGAN-GP).

  Args:
    weight: of the penalty.
    slope: of the critic that is not penalised.
    shape: of what the critic reads at once, such as (Y, X, C); None: one vector.
    axes: those of `shape` that the norm is over, the mean is over the others; None: over all, as
      the Lipschitz bound that the penalty stands for has it.
    one_sided: whether only larger slopes are penalised (Petzka et al., 2018).
  """

  def penalty(key, critic, real_BV, fake_BV):
    between_BV = _between(key, critic, real_BV, fake_BV)
    return weight * mean(_excess(_squared_slope(critic, between_BV, shape, axes), slope, one_sided))

  return penalty


def zero_centred(weight: float = 10.0) -> Penalty:
  """weight <|df/dx|^2> at x + u (x~ - x), u ~ U(0, 1) of each pair (Thanh-Tung et al., 2019)."""
  return lambda key, critic, real_BV, fake_BV: weight * mean(
    _squared_slope(critic, _between(key, critic, real_BV, fake_BV)))


def dragan(weight: float = 10.0, slope: float = 1.0, noise: float = 0.5,
           num_visible: int | None = None) -> Penalty:
  """weight <(|df/dx| - slope)^2> at x + noise s e, e ~ N(0, I), s the batch's standard deviation.

  s is over all values of the batch. Of rows with something behind their first num_visible values,
  such as a class, the rest stays as it is. Kodali et al. (2017).
  """

  def penalty(key, critic, real_BV, fake_BV):
    del fake_BV
    x_BV, rest_BR = jnp.split(real_BV, [real_BV.shape[1] if num_visible is None else num_visible],
                              axis=1)
    around_BV = jnp.concatenate(
      [x_BV + noise * jnp.std(x_BV) * jax.random.normal(key, x_BV.shape), rest_BR], axis=1)
    return weight * mean(_excess(_squared_slope(critic, around_BV), slope))

  return penalty


def _between(key, critic, real_BV, fake_BV):
  """x + u (x~ - x), one u ~ U(0, 1) for all that the critic reads at once."""
  num = jax.eval_shape(critic, real_BV).shape[0]
  u_BV = jnp.repeat(jax.random.uniform(key, (num, 1)), len(real_BV) // num, axis=0)
  return real_BV + u_BV * (fake_BV - real_BV)


def _excess(squared_M, slope, one_sided: bool = False):
  """(norm - slope)^2 of squared norms; one-sided: 0 where the norm is smaller."""
  # The root has no derivative at 0, where a critic may well start.
  norm_M = jnp.where(squared_M > 0, jnp.sqrt(jnp.where(squared_M > 0, squared_M, 1.0)), 0.0)
  gap_M = norm_M - slope
  return jnp.square(jnp.maximum(gap_M, 0) if one_sided else gap_M)


def _squared_slope(critic, x_BV, shape=None, axes=None):
  """|df/dx|^2 of each output, [M]; with axes: of each output and place along the others, [M R]."""
  f_M, pull = jax.vjp(critic, x_BV)
  slope_BV, = pull(jnp.ones_like(f_M))
  if axes is None:
    return jnp.sum(jnp.square(slope_BV.reshape(len(f_M), -1)), axis=-1)
  slopes = slope_BV.reshape(len(f_M), *shape)
  return jnp.sum(jnp.square(slopes), axis=tuple(axis + 1 for axis in axes)).reshape(-1)


# Outputs of the critic.


def consistency(weight: float, augment: Augmentation) -> Penalty:
  """weight <(f(x) - f(t(x)))^2> at the data, t an augmentation (Zhang et al., 2020)."""
  return lambda key, critic, real_BV, fake_BV: weight * _changes(key, critic, real_BV, augment)


def balanced_consistency(weight: float, augment: Augmentation) -> Penalty:
  """weight (<(f(x) - f(t(x)))^2> + <(f(x~) - f(t(x~)))^2>) (Zhao et al., 2021)."""

  def penalty(key, critic, real_BV, fake_BV):
    key_real, key_fake = jax.random.split(key)
    return weight * (_changes(key_real, critic, real_BV, augment)
                     + _changes(key_fake, critic, fake_BV, augment))

  return penalty


def _changes(key, critic, x_BV, augment):
  return mean(jnp.square(critic(x_BV) - critic(augment(key, x_BV))))


class Averages(NamedTuple):
  """The critic's outputs so far: how many batches, and moving averages at data and samples."""

  count: jax.Array
  real: jax.Array
  fake: jax.Array


def lecam(weight: float, decay: float = 0.99) -> Remembering:
  """weight (<(f(x) - a_q)^2> + <(f(x~) - a_p)^2>), 0 at the first move (Tseng et al., 2021).

  a_p and a_q are moving averages of <f(x)> and <f(x~)> over the batches before this one: a plain
  mean at first, then with the given decay.
  """

  def init(key):
    del key
    return Averages(*jnp.zeros(3))

  def value(key, critic, real_BV, fake_BV, before):
    del key
    real_M, fake_M = critic(real_BV), critic(fake_BV)
    found = mean(jnp.square(real_M - before.fake)) + mean(jnp.square(fake_M - before.real))
    keep = jnp.minimum(decay, before.count / (before.count + 1))
    after = Averages(before.count + 1, *(
      new + keep * (old - new) for old, new in ((before.real, mean(real_M)),
                                                (before.fake, mean(fake_M)))))
    return jnp.where(before.count > 0, weight * found, 0.0), lax.stop_gradient(after)

  return Remembering(init, value)


def lazy(penalty: Penalty | Remembering, every: int) -> Remembering:
  """every times the penalty at every `every`-th move of the critic, else 0 (Karras et al., 2020).

  The first of these moves is drawn with the initial memory, so the mean over starts is the penalty.

  Raises:
    ValueError: every is less than 1.
  """
  if every < 1:
    raise ValueError(f'a lazy penalty is taken at every n-th move, n at least 1, not {every}')
  inner = remembering(penalty)

  def init(key):
    key_first, key_inner = jax.random.split(key)
    return jax.random.randint(key_first, (), 0, every), inner.init(key_inner)

  def value(key, critic, real_BV, fake_BV, kept):
    countdown, kept = kept

    def taken():
      found, after = inner.value(key, critic, real_BV, fake_BV, kept)
      return every * found, after

    found, kept = lax.cond(countdown == 0, taken, lambda: (jnp.zeros(()), kept))
    return found, (jnp.where(countdown == 0, every - 1, countdown - 1), kept)

  return Remembering(init, value)
