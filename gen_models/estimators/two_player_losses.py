"""Losses of two players, each a pair of functions of the critic's outputs f(x) and f(x~).

x data, x~ = g(z); s the sigmoid; <> the mean over a batch.

  minimax         L_f = -<log s(f(x))> - <log s(-f(x~))>,   L_g = <log s(-f(x~))>
  non_saturating  L_f the same,                              L_g = -<log s(f(x~))>
  hinge           L_f = <max(0, 1 - f(x))> + <max(0, 1 + f(x~))>,  L_g = -<f(x~)>
  wasserstein     L_f = <f(x~)> - <f(x)>,                    L_g = -<f(x~)>
  least_squares   L_f = <(f(x) - 1)^2> / 2 + <f(x~)^2> / 2,  L_g = <(f(x~) - 1)^2> / 2
  relativistic    L_f = -<log s(f(x) - f(x~))>,              L_g = -<log s(f(x~) - f(x))>, in pairs
  relativistic_average  L_f = -<log s(f(x) - <f(x~)>)> - <log s(<f(x)> - f(x~))>,
                  L_g the same with x and x~ exchanged
  DIVERGENCES     L_f = <f*(T(x~))> - <T(x)>,  L_g = -<f*(T(x~))>,  T = a(f) the output activation,
                  f* the convex conjugate of the divergence's generator (Nowozin et al., 2016)
  mmd, energy     L_g = D^2(f(x), f(x~)),  L_f = -L_g,  unbiased over pairs (U-statistics):
                  D^2 = E k(a, a') + E k(b, b') - 2 E k(a, b),  of energy k(a, b) = -|a - b|

At the best critic, L_f of minimax is 2 log 2 - 2 JS(p, q), of hinge 2 - 2 TV(p, q), of wasserstein
(critics of slope 1) -W1(p, q), of least_squares int p q / (p + q) / 2, of relativistic
log 2 - JS of the pairs (data, sample) and (sample, data), and of a divergence -D(p || q).

Axis suffixes: M outputs of the critic, K components of an output that is a vector (mmd and energy
take [M] or [M, K]).

Goodfellow et al. (2014); Lim & Ye (2017); Arjovsky, Chintala & Bottou (2017); Mao et al. (2017);
Nowozin, Cseke & Tomioka (2016); Li et al. (2017); Bellemare et al. (2017); Jolicoeur-Martineau
(2019).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, relu, softplus

from gen_models.models.rows import mean_rows as mean


class PlayerLoss(Protocol):
  """One player's loss."""

  def __call__(self, real_M: jax.Array, fake_M: jax.Array, /) -> jax.Array:
    """Scalar, of f(x) at data and at samples."""
    ...


class Loss(NamedTuple):
  """Both players' losses: (f(x) [M], f(x~) [M]) -> scalar.

  Attributes:
    critic, generator: each player's own.
    biased: whether their mean over batches differs from their value on the two distributions,
      because a mean over the batch stands inside a function that is not linear.
  """

  critic: PlayerLoss
  generator: PlayerLoss
  biased: bool = False


def _classification(real_M, fake_M):
  return mean(softplus(-real_M)) + mean(softplus(fake_M))


def _pairs(real_M, fake_M):
  return mean(softplus(fake_M - real_M))


def _averages(real_M, fake_M):
  return mean(softplus(mean(fake_M) - real_M)) + mean(softplus(fake_M - mean(real_M)))


minimax = Loss(_classification, lambda real_M, fake_M: -mean(softplus(fake_M)))
non_saturating = Loss(_classification, lambda real_M, fake_M: mean(softplus(-fake_M)))
hinge = Loss(lambda real_M, fake_M: mean(relu(1 - real_M)) + mean(relu(1 + fake_M)),
             lambda real_M, fake_M: -mean(fake_M))
wasserstein = Loss(lambda real_M, fake_M: mean(fake_M) - mean(real_M),
                   lambda real_M, fake_M: -mean(fake_M))
least_squares = Loss(
  lambda real_M, fake_M: mean(jnp.square(real_M - 1)) / 2 + mean(jnp.square(fake_M)) / 2,
  lambda real_M, fake_M: mean(jnp.square(fake_M - 1)) / 2)
relativistic = Loss(_pairs, lambda real_M, fake_M: _pairs(fake_M, real_M))
relativistic_average = Loss(_averages, lambda real_M, fake_M: _averages(fake_M, real_M),
                            biased=True)


# The f-divergences D(p || q) = int q f(p / q).


class Divergence(NamedTuple):
  """An f-divergence in its variational form, D(p || q) = sup_T E_p[T] - E_q[f*(T)].

  Attributes:
    activation: T = a(v), from the critic's output v to where f* is finite.
    conjugate: v -> f*(a(v)), composed, because the parts overflow where the whole does not.
    generator: f, convex with f(1) = 0.
    best: u = p / q -> the output v of the best critic, a(v) = f'(u).
  """

  activation: Callable[[jax.Array], jax.Array]
  conjugate: Callable[[jax.Array], jax.Array]
  generator: Callable[[jax.Array], jax.Array]
  best: Callable[[jax.Array], jax.Array]


# The best critic of total variation is the limit of steep ones, and jensen_shannon is KL(p || m) +
# KL(q || m) with m = (p + q) / 2, as Nowozin et al. (2016) have it.
DIVERGENCES = {
  'total_variation': Divergence(
    lambda v: jnp.tanh(v) / 2, lambda v: jnp.tanh(v) / 2, lambda u: jnp.abs(u - 1) / 2,
    lambda u: 20 * jnp.sign(u - 1)),
  'kl': Divergence(lambda v: v, lambda v: jnp.exp(v - 1), lambda u: u * jnp.log(u),
                   lambda u: 1 + jnp.log(u)),
  'reverse_kl': Divergence(lambda v: -jnp.exp(-v), lambda v: v - 1, lambda u: -jnp.log(u),
                           jnp.log),
  'pearson': Divergence(lambda v: v, lambda v: jnp.square(v) / 4 + v,
                        lambda u: jnp.square(u - 1), lambda u: 2 * (u - 1)),
  'neyman': Divergence(lambda v: 1 - jnp.exp(v), lambda v: 2 - 2 * jnp.exp(v / 2),
                       lambda u: jnp.square(u - 1) / u, lambda u: -2 * jnp.log(u)),
  'squared_hellinger': Divergence(lambda v: 1 - jnp.exp(v), lambda v: jnp.exp(-v) - 1,
                                  lambda u: jnp.square(jnp.sqrt(u) - 1),
                                  lambda u: -jnp.log(u) / 2),
  'jensen_shannon': Divergence(
    lambda v: jnp.log(2.0) + log_sigmoid(v), lambda v: softplus(v) - jnp.log(2.0),
    lambda u: u * jnp.log(u) - (u + 1) * jnp.log((u + 1) / 2), jnp.log),
}


def f_divergence(divergence: Divergence) -> Loss:
  """L_f = <f*(T(x~))> - <T(x)>, L_g = -<f*(T(x~))>: both play for the same number."""
  return Loss(
    lambda real_M, fake_M: mean(divergence.conjugate(fake_M)) - mean(divergence.activation(real_M)),
    lambda real_M, fake_M: -mean(divergence.conjugate(fake_M)))


# Distances between the laws of f(x) and f(x~), by kernels of pairs.


def kernel_distance(kernel: Callable[[jax.Array], jax.Array]) -> Loss:
  """L_g = E k(a, a') + E k(b, b') - 2 E k(a, b), a and b of f(x) and f(x~); L_f = -L_g.

  Args:
    kernel: of the squared distance |a - b|^2, element by element, with a derivative at 0.

  Raises:
    ValueError: from the losses, a batch of fewer than two outputs, which has no pairs.
  """
  def squared(real_M, fake_M):
    num = min(len(real_M), len(fake_M))
    if num < 2:
      raise ValueError(f'a kernel distance is of pairs, of which a batch with {num} output of the '
                       'critic has none: use a larger batch')
    cross = jnp.mean(kernel(_squared_distances(real_M, fake_M)))
    return _among(kernel, real_M) + _among(kernel, fake_M) - 2 * cross

  return Loss(lambda real_M, fake_M: -squared(real_M, fake_M), squared)


def mmd(bandwidths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)) -> Loss:
  """The kernel distance of k(a, b) = sum_s exp(-|a - b|^2 / 2 s^2) (Li et al., 2017)."""
  return kernel_distance(
    lambda squared: sum((jnp.exp(-squared / (2 * s**2)) for s in bandwidths), jnp.zeros(())))


def _squared_distances(a, b):
  """|a_i - b_j|^2, of [M] or [M, K]."""
  a_MK, b_NK = (x.reshape(len(x), -1) for x in (a, b))
  return jnp.sum(jnp.square(a_MK[:, None] - b_NK), axis=-1)


def _among(kernel, a):
  """The mean of k(a_i, a_j) over i != j."""
  k_MM = kernel(_squared_distances(a, a))
  return (jnp.sum(k_MM) - jnp.trace(k_MM)) / (len(a) * (len(a) - 1))


def _minus_distance(squared):
  # The root has no derivative at 0, which the diagonal is.
  return jnp.where(squared > 0, -jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


energy = kernel_distance(_minus_distance)


def top_k(loss: Loss, share: float) -> Loss:
  """The loss whose generator learns from the `share` of its samples that the critic likes best.

  Sinha et al. (2020). The k best of a batch are not the best share of all samples, hence biased.

  Raises:
    ValueError: a share outside of (0, 1]; from the generator's loss, one that pairs its samples
      with data, whose partners would be lost.
  """
  if not 0 < share <= 1:
    raise ValueError(f'a share of the samples lies in (0, 1], not at {share}')
  if loss in (relativistic, relativistic_average):
    raise ValueError('the best samples have no data beside them: use a loss that is not relative')

  def generator(real_M, fake_M):
    return loss.generator(real_M, jax.lax.top_k(fake_M, max(1, round(share * len(fake_M))))[0])

  return Loss(loss.critic, generator, biased=True)


LOSSES = {'minimax': minimax, 'non_saturating': non_saturating, 'hinge': hinge,
          'wasserstein': wasserstein, 'relativistic': relativistic,
          'least_squares': least_squares, 'relativistic_average': relativistic_average,
          **{name: f_divergence(divergence) for name, divergence in DIVERGENCES.items()},
          'mmd': mmd(), 'energy': energy}
