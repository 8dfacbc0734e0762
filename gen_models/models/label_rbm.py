"""Restricted Boltzmann machine whose last Q visible units are one-of-Q: a label.

  E(x, y, h) = -b.x - b_y - c.h - x.W.h - W_y.h,    x, h in {0, 1}, y in {1, .., Q}

is the energy of rbm.py on v = [x, onehot(y)]; only the states differ. The label's conditional is a
softmax, and with the label held what remains is an ordinary machine, so

  p(y | h) ~ exp(b_y + W_y.h),    Z = sum_y exp(b_y) Z_y,    Z_y that of rbm(W, b, c + W_y).

Parameters are rbm.Params with the label's weights in the last Q rows.

Axis suffixes: B batch, C chains, F features (without the label), V = F + Q, H hidden, Q labels.
Nats. Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.
"""


import jax
import jax.numpy as jnp
from jax import lax

from gen_models import indices
from gen_models.models import joined, rbm, units
from gen_models.models.machine import Machine


def attach(x_BF, y_B, num_labels: int) -> jax.Array:
  """v = [x, onehot(y)], [B, F + Q]."""
  return jnp.concatenate([x_BF, jax.nn.one_hot(y_B, num_labels, dtype=x_BF.dtype)], axis=-1)


# Density.


def given_label(params: rbm.Params, num_labels: int, y) -> rbm.Params:
  """The machine of p(x, h | y): W and b of the features, c + W_y. y may be traced.

  Raises:
    ValueError: y is a number, and no class has it.
  """
  indices.check('label', y, num_labels, 'classes')
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


def model(num_labels: int) -> Machine:
  """The machine of features beside a label, p(x_i = 1 | h) = sigma(b_i + W_i.h) and

    p(y | h) = softmax(b_y + W_y.h).
  """
  return Machine(joined.Labelled(num_labels), units.BERNOULLI)
