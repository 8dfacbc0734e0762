"""Restricted Boltzmann machine with binary units.

  E(v, h) = -b.v - c.h - v.W.h,    p(v, h) = exp(-E(v, h)) / Z,    v, h in {0, 1}

so that, with sigma(x) = 1 / (1 + exp(-x)),

  p(h_j = 1 | v) = sigma(c_j + sum_i W_ij v_i)
  p(v_i = 1 | h) = sigma(b_i + sum_j W_ij h_j).

b belongs to the visible units and c to the hidden ones. Some texts write the two
conditionals with b and c exchanged; that contradicts the energy above, and the tests
hold the pair written here against enumeration of p(v, h).

Axis suffixes: B batch, C chains, V visible, H hidden, S enumerated states.
Energies, log-partitions and likelihoods are in nats.

Smolensky (1986); Hinton (2002), Training products of experts by minimizing contrastive
divergence.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models import bits, units

MAX_ENUMERATED_UNITS = 28
visible = hidden = units.BERNOULLI

_STATES_AT_ONCE = 12  # 2^12 states a block: fits the cache, keeps the loop short


class Params(NamedTuple):
  """Parameters of p(v, h)."""

  w_VH: jax.Array
  b_V: jax.Array
  c_H: jax.Array


def init(key, num_visible: int, num_hidden: int, data_mean_V=None, scale: float = 0.01) -> Params:
  """W_ij ~ N(0, scale^2), c = 0, b = log-odds of the data's mean (0 without data).

  Starting b at the data's log-odds makes the untrained model the independent-pixel
  model, so no learning is spent on the mean (Hinton, 2012, A practical guide).
  """
  if num_visible < 1 or num_hidden < 1:
    raise ValueError(f'an RBM needs at least one unit a layer, got {num_visible} x {num_hidden}')
  b_V = jnp.zeros(num_visible) if data_mean_V is None else units.log_odds(data_mean_V)
  if b_V.shape != (num_visible,):
    raise ValueError(f'data mean has shape {b_V.shape}, the model {num_visible} visible units')
  w_VH = scale * jax.random.normal(key, (num_visible, num_hidden))
  return Params(w_VH, b_V, jnp.zeros(num_hidden))


# Density.


def energy(params: Params, v_BV, h_BH) -> jax.Array:
  """E(v, h) = -b.v - c.h - v.W.h, [B] nats."""
  return -v_BV @ params.b_V - h_BH @ params.c_H - jnp.sum(v_BV @ params.w_VH * h_BH, axis=-1)


def free_energy(params: Params, v_BV) -> jax.Array:
  """F(v) = -log sum_h exp(-E(v, h)) = -b.v - sum_j softplus(c_j + (v.W)_j), [B] nats."""
  return -v_BV @ params.b_V - jnp.sum(bits.softplus(hidden_input(params, v_BV)), axis=-1)


def log_partition(params: Params) -> jax.Array:
  """log Z = log sum_{v,h} exp(-E(v, h)), scalar nats, by enumerating the smaller layer.

  The other layer is summed in closed form. Cost 2^min(V, H) * max(V, H); the states are
  visited 2^12 at a time, as a sum of a low and a high half, so memory stays small and the
  gradient recomputes each block instead of keeping it.

  Raises:
    ValueError: the smaller layer has more than 28 units (use
      gen_models.evaluation.likelihood.ais).
  """
  w_VH, b_V, c_H = params
  w_EO, b_E, c_O = (w_VH.T, c_H, b_V) if len(c_H) <= len(b_V) else (w_VH, b_V, c_H)
  if len(b_E) > MAX_ENUMERATED_UNITS:
    raise ValueError(f'exact log Z would enumerate 2^{len(b_E)} states; at most '
                     f'2^{MAX_ENUMERATED_UNITS} are allowed: estimate it by AIS instead')
  num_low = min(len(b_E), _STATES_AT_ONCE)
  low_SE, high_SE = all_states(num_low), all_states(len(b_E) - num_low)
  low_S, low_SO = low_SE @ b_E[:num_low], low_SE @ w_EO[:num_low] + c_O
  high_S, high_SO = high_SE @ b_E[num_low:], high_SE @ w_EO[num_low:]

  @jax.checkpoint
  def block(high):
    weight, input_O = high
    return jax.nn.logsumexp(low_S + weight + jnp.sum(bits.softplus(low_SO + input_O), axis=-1))

  return jax.nn.logsumexp(lax.map(block, (high_S, high_SO)))


def log_likelihood(params: Params, v_BV) -> jax.Array:
  """log p(v) = -F(v) - log Z, [B] nats, exact; raises as log_partition."""
  return -free_energy(params, v_BV) - log_partition(params)


def all_states(num_units: int) -> jax.Array:
  """Every binary vector, [2^n, n]; row s holds the bits of s, lowest first."""
  s_S = jnp.arange(2**num_units, dtype=jnp.uint32)
  return ((s_S[:, None] >> jnp.arange(num_units, dtype=jnp.uint32)) & 1).astype(jnp.float32)


# Conditionals.


def hidden_input(params: Params, v_BV) -> jax.Array:
  """c + v.W, [B, H]: the log-odds of each hidden unit."""
  return v_BV @ params.w_VH + params.c_H


def visible_input(params: Params, h_BH) -> jax.Array:
  """b + W.h, [B, V]: the log-odds of each visible unit."""
  return h_BH @ params.w_VH.T + params.b_V


def hidden_mean(params: Params, v_BV) -> jax.Array:
  """p(h_j = 1 | v) = sigma(c_j + sum_i W_ij v_i), [B, H]."""
  return jax.nn.sigmoid(hidden_input(params, v_BV))


def visible_mean(params: Params, h_BH) -> jax.Array:
  """p(v_i = 1 | h) = sigma(b_i + sum_j W_ij h_j), [B, V]."""
  return jax.nn.sigmoid(visible_input(params, h_BH))


# Sampling. Chains that alternate between these two are gen_models.models.gibbs.


def sample_hidden(key, params: Params, v_BV) -> jax.Array:
  """h ~ p(h | v), [B, H]."""
  return bits.bernoulli(key, hidden_mean(params, v_BV))


def sample_visible(key, params: Params, h_BH) -> jax.Array:
  """v ~ p(v | h), [B, V]."""
  return bits.bernoulli(key, visible_mean(params, h_BH))
