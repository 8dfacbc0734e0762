"""Restricted Boltzmann machine of any two layers of units (gen_models.models.units).

  p(v, h) = exp(log_base(b, v) + log_base(c, h) + v.W.h) / Z

so that p(v | h) is the visible layer at y = W.h, p(h | v) the hidden one at y = v.W, and with A
the cumulant of the hidden layer, F(v) = -log_base(b, v) - A(c, v.W). With Bernoulli units in both
layers it is gen_models.models.rbm, the page to read first; a Machine reads like that module.

With unbounded units in both layers Z may be infinite: of Gaussian or rectified ones it is finite
while every singular value of Lambda_V^-1/2 W Lambda_H^-1/2 is below 1 (Lambda the precisions);
`coupling` measures it. A layer of finitely many states beside any other is always a density.

Axis suffixes: B batch, C chains, V visible, H hidden, E the enumerated layer, O the other, S
states. Energies, log-partitions and likelihoods are in nats.

Welling, Rosen-Zvi & Hinton (2005), Exponential family harmoniums with an application to information
retrieval.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models import units
from gen_models.models.double_rectified import DoubleRectified

MAX_ENUMERATED_STATES = 2**28
_STATES_AT_ONCE = 2**12


class Params(NamedTuple):
  """Parameters of p(v, h): W [V, H], and what each layer has of its own (an array, or a tree)."""

  w_VH: jax.Array
  b_V: Any
  c_H: Any


@dataclasses.dataclass(frozen=True)
class Machine:
  """Functions of Params, as those of gen_models.models.rbm.

  Attributes:
    visible, hidden: layers.
  """

  visible: units.Layer
  hidden: units.Layer

  Params = Params

  def init(self, key, num_visible: int, num_hidden: int, data_mean_V=None,
           scale: float = 0.01) -> Params:
    """W_ij ~ N(0, scale^2); the visible layer's mean is the data's, hidden biases are 0."""
    if num_visible < 1 or num_hidden < 1:
      raise ValueError(f'an RBM needs at least one unit a layer, got {num_visible} x {num_hidden}')
    for layer, size, name in ((self.visible, num_visible, 'visible'),
                              (self.hidden, num_hidden, 'hidden')):
      if size % layer.group:
        raise ValueError(f'{size} {name} units are not groups of {layer.group}')
    if data_mean_V is not None and jnp.shape(data_mean_V) != (num_visible,):
      raise ValueError(f'data mean has shape {jnp.shape(data_mean_V)}, the model {num_visible} '
                       'visible units')
    mean_V = jnp.full(num_visible, self.visible.neutral) if data_mean_V is None else data_mean_V
    return Params(scale * jax.random.normal(key, (num_visible, num_hidden)),
                  self.visible.init(mean_V),
                  self.hidden.init(jnp.full(num_hidden, self.hidden.neutral)))

  # Density.

  def energy(self, params: Params, v_BV, h_BH) -> jax.Array:
    """E(v, h) = -log_base(b, v) - log_base(c, h) - v.W.h, [B] nats."""
    return (-self.visible.log_base(params.b_V, v_BV) - self.hidden.log_base(params.c_H, h_BH)
            - jnp.sum(v_BV @ params.w_VH * h_BH, axis=-1))

  def free_energy(self, params: Params, v_BV) -> jax.Array:
    """F(v) = -log_base(b, v) - A(c, v.W), [B] nats."""
    return (-self.visible.log_base(params.b_V, v_BV)
            - self.hidden.cumulant(params.c_H, v_BV @ params.w_VH))

  def log_partition(self, params: Params) -> jax.Array:
    """log Z, scalar nats, by enumerating the layer with fewer states, 2^12 of them at a time.

    The other layer is summed, or integrated, in closed form.

    Raises:
      ValueError: neither layer has finitely many states, or more than 2^28.
    """
    sizes = params.w_VH.shape
    count_V, count_H = (_log2_states(layer, size) for layer, size in zip(
      (self.visible, self.hidden), sizes))
    fewest = min(count_V, count_H)
    if fewest > math.log2(MAX_ENUMERATED_STATES):
      what = 'continuous units' if fewest == math.inf else f'2^{fewest:.0f} states'
      raise ValueError(f'exact log Z would enumerate {what}; at most 2^28 states are allowed: '
                       'estimate it by annealing instead')
    w_EO, of_E, of_O, enumerated, other = (
      (params.w_VH.T, params.c_H, params.b_V, self.hidden, self.visible) if count_H <= count_V else
      (params.w_VH, params.b_V, params.c_H, self.visible, self.hidden))
    num_low = enumerated.group * min(
      len(w_EO) // enumerated.group, int(math.log(_STATES_AT_ONCE, enumerated.levels)))
    low, high = (jnp.asarray(units.states_of(enumerated, n))
                 for n in (num_low, len(w_EO) - num_low))
    of_low = jax.tree.map(lambda t: t[:num_low], of_E)
    of_high = jax.tree.map(lambda t: t[num_low:], of_E)
    low_S, low_SO = enumerated.log_base(of_low, low), low @ w_EO[:num_low]
    high_S, high_SO = enumerated.log_base(of_high, high), high @ w_EO[num_low:]

    @jax.checkpoint
    def block(high):
      weight, y_O = high
      return jax.nn.logsumexp(low_S + weight + other.cumulant(of_O, low_SO + y_O))

    return jax.nn.logsumexp(lax.map(block, (high_S, high_SO)))

  def log_likelihood(self, params: Params, v_BV) -> jax.Array:
    """log p(v) = -F(v) - log Z, [B] nats, exact; raises as log_partition."""
    return -self.free_energy(params, v_BV) - self.log_partition(params)

  def coupling(self, params: Params) -> jax.Array:
    """Largest singular value of Lambda_V^-1/2 W Lambda_H^-1/2: below 1, Z is finite; scalar.

    0 where a layer has finitely many states, with which every W is a density.
    """
    if self.visible.levels or self.hidden.levels:
      return jnp.zeros(())
    w_VH = (params.w_VH * _deviation(self.visible, params.b_V)[..., None]
            * _deviation(self.hidden, params.c_H))
    return jnp.linalg.norm(w_VH, 2)

  def zero_sum(self, params: Params) -> Params:
    """The same density with sum_a w_im(a) = 0 and sum_a b_i(a) = 0 for every categorical visible i.

    One letter of each column is on, so a number subtracted from all its weights to h_m is one that
    c_m has to gain: c_m + sum_i mean_a w_im(a). p(v, h) stays as it is.
    """
    num_states = self.visible.group
    w_LQH = params.w_VH.reshape(-1, num_states, params.w_VH.shape[1])
    b_LQ = units.bias_of(params.b_V).reshape(-1, num_states)
    mean_LH = w_LQH.mean(1)
    return params._replace(
      w_VH=(w_LQH - mean_LH[:, None]).reshape(params.w_VH.shape),
      b_V=units.with_bias(params.b_V, (b_LQ - b_LQ.mean(1, keepdims=True)).reshape(-1)),
      c_H=units.with_bias(params.c_H, units.bias_of(params.c_H) + mean_LH.sum(0)))

  # Conditionals.

  def hidden_mean(self, params: Params, v_BV) -> jax.Array:
    """E[h | v], [B, H]."""
    return self.hidden.mean(params.c_H, v_BV @ params.w_VH)

  def visible_mean(self, params: Params, h_BH) -> jax.Array:
    """E[v | h], [B, V]."""
    return self.visible.mean(params.b_V, h_BH @ params.w_VH.T)

  # Sampling; chains: gen_models.models.gibbs.

  def sample_hidden(self, key, params: Params, v_BV) -> jax.Array:
    """h ~ p(h | v), [B, H]."""
    return self.hidden.sample(key, params.c_H, v_BV @ params.w_VH)

  def sample_visible(self, key, params: Params, h_BH) -> jax.Array:
    """v ~ p(v | h), [B, V]."""
    return self.visible.sample(key, params.b_V, h_BH @ params.w_VH.T)


def _log2_states(layer, size: int) -> float:
  return size // layer.group * math.log2(layer.levels) if layer.levels else math.inf


def _deviation(layer, theta):
  """Lambda^-1/2 of Gaussian or rectified units, of double rectified ones the wider side's."""
  if isinstance(layer, units.Gaussian):
    return layer.precision(theta)**-0.5
  if isinstance(layer, DoubleRectified):
    return jnp.minimum(*layer.precisions(theta))**-0.5
  return jnp.ones(len(theta))
