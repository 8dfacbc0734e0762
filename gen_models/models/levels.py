"""Families of levels x = k / n, k = 0 .. n, such as grey values, for the visible layer of a model.

  discretised_logistic   p(k) = sum_c pi_c [F_c(k + 1/2) - F_c(k - 1/2)],
                         F_c(t) = sigma((t/n - m_c) / s_c), but F_c(-1/2) = 0, F_c(n + 1/2) = 1:
                         the lowest and the highest level take the tails
  beta_binomial          p(k) = (n over k) B(k + a, n - k + b) / B(a, b),

the second a binomial distribution whose probability is itself drawn from Beta(a, b). Both are
probabilities of whole levels, not densities, and have no KL in closed form. The channels of a pixel
share the component of the mixture, and within it the mean of a channel depends on the values of
those before it, that of green on red, that of blue on both:

  m_ci = m0_ci + sum_{j < i} a_cij (x_j - 1/2),    -1 < a_cij < 1.

Scales of logistics lie between exp(-7) / 2 and exp(7) / 2, and log a and log b between -7 and 9, so
that nothing an untrained network says overflows.

Salimans, Karpathy, Chen & Kingma (2017), PixelCNN++; Townsend, Bird & Barber (2019), Practical
lossless compression with latent variables using bits back coding, has the second.

Axis suffixes: D values, P pixels of C channels each, K components, O outputs, S states of some
channels. Nats.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln

from gen_models.models.families import Family

COMPONENTS = 5  # of a mixture where nothing is said; more are hardly better (Salimans et al.)
_SCALES, _FIRST_SCALE, _SPREAD = 7.0, -2.0, 0.5
_LEAST_LOG, _MOST_LOG = -7.0, 9.0  # of a and b
_LEAST_MEAN = 2e-3  # of the outputs of an untrained network
_STIRLING = 8.0
_MOST_STATES = 1000  # of the channels before the last, up to which E[x] sums over them


def discretised_logistic(levels: int, components: int = COMPONENTS, channels: int = 1,
                         coupled: bool = True) -> Family:
  """A mixture of logistic distributions, each cut into levels.

  3 K outputs a value: K log-odds, K means, as in the paper of x in [-1, 1], and K log-scales; the
  log-odds of a pixel are the sums of those of its channels. Coupled channels have K (C - 1) / 2
  more a value, rounded up, whose tanh are the a_cij of a pixel in the order of the rows of a; of an
  even C some are left over. One channel is the same with and without.

  E[x] of coupled channels is a sum over all values of the earlier channels where there are few, as
  of 17 levels in three colours. Of 256 levels `mean` is the centre of the draws: it sets earlier
  channels to their expectations, channel by channel within each component. That is E[x] so far as
  the expected level is linear in m: where neither tail of a logistic reaches below 0 or above 1.

  Args:
    levels: n, the largest level.
    components: K.
    channels: C; values of one pixel are consecutive.
    coupled: whether later channels depend on earlier ones within a component.

  Raises:
    ValueError: any number is less than 1.
  """
  for name, least in (('levels', levels), ('components', components), ('channels', channels)):
    if least < 1:
      raise ValueError(f'{name} must be at least 1, got {least}')
  mixture = _Logistics(levels, components, channels, coupled and channels > 1)
  return Family(mixture.blocks * components, mixture.log_prob, _no_kl('discretised logistic'),
                mixture.sample, mixture.mean, mixture.start, has_path=False)


class _Logistics(NamedTuple):
  """The functions of `discretised_logistic`; its arguments."""

  levels: int
  components: int
  channels: int
  coupled: bool

  @property
  def blocks(self) -> int:
    """Outputs of a value and component."""
    return 3 + (self.channels // 2 if self.coupled else 0)

  def split(self, outputs):
    """log pi [.., K, P, 1], m0 and log s [.., K, P, C], in the units of x, and a [.., K, P, C, C].

    a is None where channels are not coupled.
    """
    if outputs.shape[-1] % (self.blocks * self.components * self.channels):
      raise ValueError(f'{outputs.shape[-1]} outputs are no whole pixels of {self.channels} '
                       f'channels, {self.blocks} x {self.components} for each')
    logits, m, t, *rest = jnp.moveaxis(outputs.reshape(
      *outputs.shape[:-1], self.blocks, self.components, -1, self.channels), -4, 0)
    log_pi = jax.nn.log_softmax(jnp.sum(logits, axis=-1, keepdims=True), axis=-3)
    m, log_s = (1 + m) / 2, jnp.clip(t, -_SCALES, _SCALES) - math.log(2)
    if not self.coupled:
      return log_pi, m, log_s, None
    rows, columns = np.tril_indices(self.channels, -1)
    a = jnp.zeros((*m.shape, self.channels)).at[..., rows, columns].set(
      jnp.tanh(jnp.concatenate(rest, axis=-1)[..., :len(rows)]))
    return log_pi, m, log_s, a

  def log_levels(self, m, log_s, x):
    """log p(x) of each value given its component."""
    half = 0.5 / self.levels
    above, below = ((x + side * half - m) * jnp.exp(-log_s) for side in (1, -1))
    lowest, highest = x < half, x > 1 - half
    # sigma(u) - sigma(v) = sigma(u) sigma(-v) (1 - exp(v - u)), and u - v depends on s only.
    between = jnp.log(-jnp.expm1(-2 * half * jnp.exp(-log_s)))
    return (jnp.where(highest, 0.0, jax.nn.log_sigmoid(above))
            + jnp.where(lowest, 0.0, jax.nn.log_sigmoid(-below))
            + jnp.where(lowest | highest, 0.0, between))

  def log_prob(self, outputs, x):
    """See families.LogProb."""
    log_pi, m, log_s, a = self.split(outputs)
    x = x.reshape(*x.shape[:-1], 1, -1, self.channels)
    if a is not None:
      m = m + jnp.einsum('...ij,...j->...i', a, x - 0.5)
    of_components = log_pi[..., 0] + jnp.sum(self.log_levels(m, log_s, x), axis=-1)
    return jnp.sum(jax.nn.logsumexp(of_components, axis=-2), axis=-1)

  def expected(self, m, log_s):
    """E[k] = P(k > 0) + .. + P(k > n - 1) of single logistics."""
    def add(i, total):
      edge = (jnp.float32(i) + 0.5) / self.levels
      return total + jax.nn.sigmoid((m - edge) * jnp.exp(-log_s))

    return lax.fori_loop(0, self.levels, add, jnp.zeros_like(m))

  def expected_by_states(self, m, log_s, a, i: int):
    """E[k_i] in each component, [.., K, P]: the sum over all values of the channels before it."""
    def add(total, x_i):
      x = jnp.broadcast_to(x_i, (*m.shape[:-1], i))
      means = m[..., :i + 1] + jnp.stack(
        [_shift(a[..., j, :], x[..., :j]) for j in range(i + 1)], axis=-1)
      p = jnp.exp(jnp.sum(self.log_levels(means[..., :i], log_s[..., :i], x), axis=-1))
      return total + p * self.expected(means[..., i], log_s[..., i]), None

    states_iS = np.indices((self.levels + 1,) * i).reshape(i, (self.levels + 1)**i)
    states_Si = np.float32(states_iS.T / self.levels)
    return lax.scan(add, jnp.zeros_like(m[..., 0]), states_Si)[0]

  def mean(self, outputs):
    """See families.Mean, and discretised_logistic."""
    log_pi, m, log_s, a = self.split(outputs)
    if a is None:
      k = self.expected(m, log_s)
    elif (self.levels + 1)**(self.channels - 1) <= _MOST_STATES:
      k = jnp.stack([self.expected_by_states(m, log_s, a, i) for i in range(self.channels)],
                    axis=-1)
    else:
      k = m[..., :0]
      for i in range(self.channels):
        k_i = self.expected(m[..., i] + _shift(a[..., i, :], k / self.levels), log_s[..., i])
        k = jnp.concatenate([k, k_i[..., None]], axis=-1)
    return jnp.sum(jnp.exp(log_pi) * k / self.levels, axis=-3).reshape(*outputs.shape[:-1], -1)

  def sample(self, key, outputs):
    """See families.Sample."""
    key_component, key_x = jax.random.split(key)
    log_pi, m, log_s, a = self.split(outputs)
    component = jax.random.categorical(key_component, log_pi[..., 0], axis=-2)[..., None, :, None]
    m, log_s = (jnp.take_along_axis(v, component, axis=-3)[..., 0, :, :] for v in (m, log_s))
    noise = jnp.exp(log_s) * jax.random.logistic(key_x, m.shape)
    if a is None:
      x = self.nearest(m + noise)
    else:
      a = jnp.take_along_axis(a, component[..., None], axis=-4)[..., 0, :, :, :]
      x = m[..., :0]
      for i in range(self.channels):
        x_i = self.nearest(m[..., i] + _shift(a[..., i, :], x) + noise[..., i])
        x = jnp.concatenate([x, x_i[..., None]], axis=-1)
    return x.reshape(*outputs.shape[:-1], -1)

  def nearest(self, x):
    """The nearest level."""
    return jnp.clip(jnp.round(self.levels * x), 0, self.levels) / self.levels

  def start(self, mean_D):
    """Components side by side, moved together until their mean is the one that is asked for."""
    if self.coupled:  # with all a at 0 channels are not
      alone = self._replace(coupled=False).start(mean_D)
      return jnp.concatenate(
        [alone, jnp.zeros((self.blocks - 3) * self.components * len(mean_D))])
    e_K1 = jnp.linspace(-_SPREAD, _SPREAD, self.components)[:, None] if self.components > 1 else (
      jnp.zeros((1, 1)))
    mean_D = jnp.clip(mean_D, _LEAST_MEAN, 1 - _LEAST_MEAN)
    zero_KD = jnp.zeros((self.components, len(mean_D)))

    def outputs(shift_D):
      return jnp.concatenate([zero_KD, e_K1 + shift_D, zero_KD + _FIRST_SCALE]).reshape(-1)

    def halve(_, ends):
      middle_D = (ends[0] + ends[1]) / 2
      low_D = self.mean(outputs(middle_D)) < mean_D
      return jnp.where(low_D, middle_D, ends[0]), jnp.where(low_D, ends[1], middle_D)

    low_D, high_D = lax.fori_loop(0, 30, halve, (zero_KD[0] - 4, zero_KD[0] + 4))
    return outputs((low_D + high_D) / 2)


def _shift(a_i: jax.Array, x: jax.Array) -> jax.Array:
  """What the channels before i, x [.., i], add to the mean of i; a_i [.., C] is its row of a."""
  return jnp.sum(a_i[..., :x.shape[-1]] * (x - 0.5), axis=-1)


def beta_binomial(levels: int) -> Family:
  """Beta-binomial values; two outputs each, log a then log b.

  Args:
    levels: n.

  Raises:
    ValueError: n is less than 1.
  """
  if levels < 1:
    raise ValueError(f'levels must be at least 1, got {levels}')

  def split(outputs):
    return jnp.split(jnp.clip(outputs, _LEAST_LOG, _MOST_LOG), 2, axis=-1)

  def log_prob(outputs, x):
    log_a, log_b = split(outputs)
    k = levels * x
    choices = gammaln(levels + 1.0) - gammaln(k + 1) - gammaln(levels - k + 1)
    a, b = jnp.exp(log_a), jnp.exp(log_b)
    return jnp.sum(choices + _log_rising(a, k) + _log_rising(b, levels - k)
                   - _log_rising(a + b, jnp.float32(levels)), axis=-1)

  def mean(outputs):
    log_a, log_b = split(outputs)
    return jax.nn.sigmoid(log_a - log_b)

  def sample(key, outputs):
    """Polya's urn of a and b balls, drawn from n times; each draw adds a ball of its kind."""
    a, b = map(jnp.exp, split(outputs))

    def draw(i, k):
      u = jax.random.uniform(jax.random.fold_in(key, i), k.shape)
      return jnp.where(u * (a + b + jnp.float32(i)) < a + k, k + 1, k)

    return lax.fori_loop(0, levels, draw, jnp.zeros_like(a)) / levels

  def start(mean_D):
    m_D = jnp.clip(mean_D, _LEAST_MEAN, 1 - _LEAST_MEAN)
    return jnp.log(2 * jnp.concatenate([m_D, 1 - m_D]))  # a + b = 2, flat where m is one half

  return Family(2, log_prob, _no_kl('beta-binomial'), sample, mean, start, has_path=False)


def _log_rising(a: jax.Array, k: jax.Array) -> jax.Array:
  """log Gamma(a + k) - log Gamma(a), whose terms cancel where a is large; k >= 0."""
  def tail(x):
    return 1 / (12 * x) - 1 / (360 * x**3)

  large = jnp.maximum(a, _STIRLING)
  by_stirling = ((large - 0.5) * jnp.log1p(k / large) + k * (jnp.log(large + k) - 1)
                 + tail(large + k) - tail(large))
  small = jnp.minimum(a, _STIRLING)
  return jnp.where(a > _STIRLING, by_stirling, gammaln(small + k) - gammaln(small))


def _no_kl(name: str):
  def kl(q_outputs, p_outputs):
    raise ValueError(f'the KL of {name} units has no closed form')
  return kl
