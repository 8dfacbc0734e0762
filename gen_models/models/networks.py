"""Networks: functions from vectors to vectors, with parameters.

  MLP:  x -> W_n f( .. f(W_1 x + b_1) .. ) + b_n

What a network's outputs mean is said by the model that owns it.

Axis suffixes: R rows, D inputs, F features, Y X pixels.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_rows(b_F: jax.Array, num_rows: int) -> jax.Array:
  """b in every row, [R, F]; its gradient is a product with ones, as in units.mean_rows."""
  return jnp.broadcast_to(b_F, (num_rows, len(b_F)))


over_rows.defvjp(lambda b_F, num_rows: (over_rows(b_F, num_rows), None),
                 lambda num_rows, _, d_RF: (jnp.ones(num_rows) @ d_RF,))


def leaky_relu(x: jax.Array) -> jax.Array:
  """max(x, 0.3 x)."""
  return nn.leaky_relu(x, 0.3)


class Dense(nn.Module):
  """x -> x.W + b, W uniform with variance 2 / (D + F), b = 0 (Glorot & Bengio, 2010)."""

  features: int
  bias: bool = True

  @nn.compact
  def __call__(self, x_RD):
    shape = (x_RD.shape[-1], self.features)
    y_RF = x_RD @ self.param('w_DF', nn.initializers.glorot_uniform(), shape)
    if not self.bias:
      return y_RF
    return y_RF + over_rows(self.param('b_F', nn.initializers.zeros, shape[1:]), len(x_RD))


class MLP(nn.Module):
  """Dense layers with an activation between them; without `features`, one linear layer.

  Attributes:
    out: outputs.
    features: width of each hidden layer.
    activation: between layers, not after the last.
    output_bias: whether the last layer has one; a model that adds its own says no.
  """

  out: int
  features: tuple[int, ...] = ()
  activation: Callable = jnp.tanh
  output_bias: bool = True

  @nn.compact
  def __call__(self, x_RD):
    for width in self.features:
      x_RD = self.activation(Dense(width)(x_RD))
    return Dense(self.out, self.output_bias)(x_RD)


class FromPixels(nn.Module):
  """A network of images [R, Y, X, 1] as one of vectors [R, Y X]."""

  network: nn.Module
  shape: tuple[int, int]

  def __call__(self, x_RD):
    return self.network(x_RD.reshape(-1, *self.shape, 1))


class ToPixels(nn.Module):
  """A network that ends in images [R, Y, X, n] as one that ends in n vectors, [R, n Y X]."""

  network: nn.Module

  def __call__(self, x_RD):
    y_RYXN = self.network(x_RD)
    return jnp.moveaxis(y_RYXN, -1, 1).reshape(len(x_RD), -1)


def init(key, network: nn.Module, num_inputs: int):
  """Fresh parameters of a network of vectors."""
  return network.init(key, jnp.zeros((1, num_inputs)))['params']


def apply(network: nn.Module, params, x: jax.Array) -> jax.Array:
  """The network along the last axis of x [.., D], all leading axes as rows of one product."""
  y_RF = network.apply({'params': params}, x.reshape(-1, x.shape[-1]))
  return y_RF.reshape(*x.shape[:-1], -1)
