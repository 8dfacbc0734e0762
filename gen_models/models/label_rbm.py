"""Restricted Boltzmann machine whose last Q visible units are one-of-Q: a label.

  E(x, y, h) = -b.x - b_y - c.h - x.W.h - W_y.h,    x, h in {0, 1}, y in {1, .., Q}

is the energy of rbm.py on v = [x, onehot(y)]; only the states differ. The label's conditional is a
softmax, and with the label held what remains is an ordinary machine, so

  p(y | h) ~ exp(b_y + W_y.h),    Z = sum_y exp(b_y) Z_y,    Z_y that of rbm(W, b, c + W_y).

Parameters are rbm.Params with the label's weights in the last Q rows.

Axis suffixes: B batch, C chains, F features (without the label), V = F + Q, H hidden, Q labels.
Nats. Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models import rbm, units


def attach(x_BF, y_B, num_labels: int) -> jax.Array:
  """v = [x, onehot(y)], [B, F + Q]."""
  return jnp.concatenate([x_BF, jax.nn.one_hot(y_B, num_labels, dtype=x_BF.dtype)], axis=-1)


# Density.


def given_label(params: rbm.Params, num_labels: int, y) -> rbm.Params:
  """The machine of p(x, h | y): W and b of the features, c + W_y. y may be traced."""
  num_features = len(params.b_V) - num_labels
  return rbm.Params(params.w_VH[:num_features], params.b_V[:num_features],
                    params.c_H + params.w_VH[num_features + y])


def label_log_weights(params: rbm.Params, num_labels: int, x_BF) -> jax.Array:
  """log sum_h exp(-E(x, y, h)) for every y, [B, Q] nats; its softmax over y is p(y | x)."""
  def one(y):
    machine = given_label(params, num_labels, y)
    return params.b_V[len(machine.b_V) + y] - rbm.free_energy(machine, x_BF)
  return lax.map(one, jnp.arange(num_labels)).T  # one label at a time: [B, Q, H] would not fit


def log_partition(params: rbm.Params, num_labels: int) -> jax.Array:
  """log Z = log sum_y exp(b_y) Z_y, scalar nats, enumerated; raises as rbm.log_partition."""
  log_z_Q = lax.map(lambda y: rbm.log_partition(given_label(params, num_labels, y)),
                    jnp.arange(num_labels))
  return jax.nn.logsumexp(params.b_V[-num_labels:] + log_z_Q)


# Conditionals and sampling.


class LabelRbm(NamedTuple):
  """Reads like gen_models.models.rbm, for the estimators that take a model."""

  num_labels: int

  Params = rbm.Params
  Chains = rbm.Chains
  hidden = units.BERNOULLI

  @property
  def visible(self):
    return units.Labelled(self.num_labels)

  hidden_mean = staticmethod(rbm.hidden_mean)
  sample_hidden = staticmethod(rbm.sample_hidden)

  def visible_mean(self, params: rbm.Params, h_BH) -> jax.Array:
    """[sigma(b_x + W_x.h), softmax(b_y + W_y.h)], [..., F + Q]."""
    log_odds_BV = rbm.visible_input(params, h_BH)
    return jnp.concatenate([jax.nn.sigmoid(log_odds_BV[..., :-self.num_labels]),
                            jax.nn.softmax(log_odds_BV[..., -self.num_labels:])], axis=-1)

  def sample_visible(self, key, params: rbm.Params, h_BH) -> jax.Array:
    """x_i ~ Bernoulli(sigma(b_i + W_i.h)), y ~ softmax(b_y + W_y.h), [B, F + Q]."""
    key_x, key_y = jax.random.split(key)
    log_odds_BV = rbm.visible_input(params, h_BH)
    x_BF = units.bernoulli(key_x, jax.nn.sigmoid(log_odds_BV[:, :-self.num_labels]))
    y_B = jax.random.categorical(key_y, log_odds_BV[:, -self.num_labels:])
    return attach(x_BF, y_B, self.num_labels)

  def init_chains(self, key, params: rbm.Params, num_chains: int) -> rbm.Chains:
    """v from the visible biases alone, h ~ p(h | v)."""
    key_v, key_h = jax.random.split(key)
    v_CV = self.sample_visible(key_v, params, jnp.zeros((num_chains, len(params.c_H))))
    return rbm.Chains(v_CV, rbm.sample_hidden(key_h, params, v_CV))

  def gibbs(self, key, params: rbm.Params, chains: rbm.Chains, num_steps: int) -> rbm.Chains:
    """`num_steps` sweeps, v ~ p(v | h) then h ~ p(h | v), as one lax.scan."""
    def body(chains, key):
      key_v, key_h = jax.random.split(key)
      v_CV = self.sample_visible(key_v, params, chains.h_CH)
      return rbm.Chains(v_CV, rbm.sample_hidden(key_h, params, v_CV)), None
    return lax.scan(body, chains, jax.random.split(key, num_steps))[0]
