"""Networks: functions from vectors to vectors, with parameters.

  MLP:       x -> W_n f( .. f(W_1 x + b_1) .. ) + b_n
  Residual:  h -> h + W_2 f(W_1 f(h) + b_1) + b_2, one after another, W_2 = 0 at the start

The model that owns a network defines what its outputs mean. A vector that is an image is one in
the order [Y, X, C], rows, columns, channels, everywhere.

Axis suffixes: R rows, D inputs, F features, Y X pixels, C channels.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from gen_models import devices
from gen_models.models.rows import add_bias

Activation = Callable[[jax.Array], jax.Array]


def leaky_relu(x: jax.Array) -> jax.Array:
  """max(x, 0.3 x)."""
  return nn.leaky_relu(x, 0.3)


class Dense(nn.Module):
  """x -> x.W + b, b = 0 at the start.

  Attributes:
    features: outputs.
    bias: whether there is a b.
    weights: initialiser of W; uniform with variance 2 / (D + F) (Glorot & Bengio, 2010).
    names: of the two parameters, as checkpoints have them.
  """

  features: int
  bias: bool = True
  weights: Initializer = nn.initializers.glorot_uniform()
  names: tuple[str, str] = ('w_DF', 'b_F')

  @nn.compact
  def __call__(self, x_RD):
    name_w, name_b = self.names
    y_RF = x_RD @ self.param(name_w, self.weights, (x_RD.shape[-1], self.features))
    if not self.bias:
      return y_RF
    return add_bias(y_RF, self.param(name_b, nn.initializers.zeros, (self.features,)))


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
  activation: Activation = jnp.tanh
  output_bias: bool = True

  @nn.compact
  def __call__(self, x_RD):
    for width in self.features:
      x_RD = self.activation(Dense(width)(x_RD))
    return Dense(self.out, self.output_bias)(x_RD)


class Ladder(nn.Module):
  """Hidden layers in groups, one above the other, and linear outputs of every group side by side.

  Attributes:
    outs: outputs of each group.
    groups: widths of the hidden layers of each.
    activation: of all hidden layers.
  """

  outs: tuple[int, ...]
  groups: tuple[tuple[int, ...], ...]
  activation: Activation = jnp.tanh

  @nn.compact
  def __call__(self, x_RD):
    y_RO = []
    for out, widths in zip(self.outs, self.groups, strict=True):
      for width in widths:
        x_RD = self.activation(Dense(width)(x_RD))
      y_RO.append(Dense(out)(x_RD))
    return jnp.concatenate(y_RO, axis=-1)


class Residual(nn.Module):
  """Residual blocks in groups, one above the other, and linear outputs of every group side by side.

  A block stands for each width, before it a linear map where what comes from below is of another,
  and always before the first; outputs are W f(h) + b. At the start blocks are the identity (He,
  Zhang, Ren & Sun, 2016, Identity mappings in deep residual networks; Zhang, Dauphin & Ma, 2019).

  Attributes:
    outs: outputs of each group.
    groups: widths of the blocks of each; without any width in a first group its outputs are linear.
    activation: f.
    output_bias: whether outputs have one.
  """

  outs: tuple[int, ...]
  groups: tuple[tuple[int, ...], ...]
  activation: Activation = jnp.tanh
  output_bias: bool = True

  @nn.compact
  def __call__(self, x_RD):
    h, seen, y_RO = x_RD, x_RD, []
    for i, (out, widths) in enumerate(zip(self.outs, self.groups, strict=True)):
      for j, width in enumerate(widths):
        if seen is x_RD or h.shape[-1] != width:
          h = Dense(width, name=f'to_{i}_{j}')(seen)
        inner = Dense(width, name=f'first_{i}_{j}')(self.activation(h))
        h = h + Dense(width, weights=nn.initializers.zeros, name=f'second_{i}_{j}')(
          self.activation(inner))
        seen = self.activation(h)
      y_RO.append(Dense(out, self.output_bias, name=f'out_{i}')(seen))
    return jnp.concatenate(y_RO, axis=-1)


class Stacked(nn.Module):
  """x -> above(below(x))."""

  below: nn.Module
  above: nn.Module

  def __call__(self, x_RD):
    return self.above(self.below(x_RD))


Shape = tuple[int, int] | tuple[int, int, int]  # (Y, X), which is one channel, or (Y, X, C)


def as_images(x_RD: jax.Array, shape: Shape) -> jax.Array:
  """Vectors as images [R, Y, X, C].

  Raises:
    ValueError: vectors of another width: reshaped they would be other images, and more of them.
  """
  *sides, channels = shape if len(shape) == 3 else (*shape, 1)
  if x_RD.shape[-1] != math.prod(shape):
    raise ValueError(f'vectors of width {x_RD.shape[-1]} are not images of {math.prod(shape)} '
                     f'values, {sides[0]} x {sides[1]} pixels of {channels} channels: say '
                     'shape=(Y, X, C) as the data are')
  return x_RD.reshape(-1, *sides, channels)


class FromPixels(nn.Module):
  """A network of images [R, Y, X, C] as one of vectors [R, Y X C]; shape as of `as_images`."""

  network: nn.Module
  shape: Shape

  def __call__(self, x_RD):
    return self.network(as_images(x_RD, self.shape))


class ToPixels(nn.Module):
  """A network that ends in images [R, Y, X, n C] as one that ends in n of C channels, [R, n Y X C].

  The n numbers that a family of units wants of each value, a mean and a scale say, are blocks of
  channels of the network and blocks of the vector.
  """

  network: nn.Module
  channels: int = 1

  def __call__(self, x_RD):
    y = self.network(x_RD)
    y = y.reshape(*y.shape[:-1], -1, self.channels)
    return jnp.moveaxis(y, -2, 1).reshape(len(x_RD), -1)


def is_network(thing) -> bool:
  """Whether an object is a flax module, or a class or function that may make one."""
  return isinstance(thing, nn.Module) or callable(thing)


def custom(thing, num_inputs: int, num_outputs: int, **options) -> nn.Module:
  """A network of a user's that maps vectors [R, num_inputs] to vectors [R, num_outputs].

  Args:
    thing: a flax module, or a class or function that makes one; it is given by name what it asks
      for of num_inputs, num_outputs and `options`, and must have defaults for the rest.
    num_inputs: width of what it sees.
    num_outputs: width of what it must return.
    options: what else is known, such as the shape of an image.

  Raises:
    ValueError: it makes no module, or one that does not map so, has no parameters, or needs more
      than parameters.
  """
  name = getattr(thing, '__name__', type(thing).__name__)
  known = {'num_inputs': num_inputs, 'num_outputs': num_outputs, **options}
  if not isinstance(thing, nn.Module):
    asked = inspect.signature(thing).parameters
    if missing := [k for k, p in asked.items() if p.default is p.empty and k not in known
                   and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]:
      raise ValueError(f'{name} wants {", ".join(missing)}: a network is given '
                       f'{", ".join(known)}, so give the rest a default')
    thing = thing(**{k: v for k, v in known.items() if k in asked})
  if not isinstance(thing, nn.Module):
    raise ValueError(f'{name} makes an object of type {type(thing).__name__}, not a flax module')

  def run(key, x_RD):
    variables = thing.init(key, x_RD)
    if set(variables) != {'params'}:
      raise ValueError(f'its variables are {", ".join(sorted(variables)) or "none"}: a network has '
                       'params, and nothing else that persists')
    return thing.apply(variables, x_RD)

  try:
    y = jax.eval_shape(run, jax.random.key(0), jax.ShapeDtypeStruct((3, num_inputs), jnp.float32))
  except Exception as e:  # whatever the user's code raises
    line = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
    raise ValueError(f'{name} on vectors of width {num_inputs}: {line}') from e
  if getattr(y, 'shape', None) != (3, num_outputs):
    raise ValueError(f'{name} maps [3, {num_inputs}] to {list(getattr(y, "shape", ()))}, expected '
                     f'[3, {num_outputs}]')
  return thing


def init(key, network: nn.Module, num_inputs: int):
  """Fresh parameters of a network of vectors."""
  return network.init(key, jnp.zeros((1, num_inputs)))['params']


def apply(network: nn.Module, params, x: jax.Array, dtype: Any = None) -> jax.Array:
  """The network along the last axis of x [.., D], all leading axes as rows of one product.

  Args:
    network: of vectors.
    params: of it.
    x: what it sees.
    dtype: that the network is computed in, of parameters and x that are rounded to it; its outputs
      have the dtype of x again. None for theirs.
  """
  if devices.distributed() and x.ndim > 2:  # with all rows on one axis, they would move
    return jax.vmap(lambda x: apply(network, params, x, dtype))(x)
  given = x.dtype
  if dtype is not None:
    params, x = jax.tree.map(lambda v: v.astype(dtype), (params, x))
  y_RF = cast(jax.Array, network.apply({'params': params}, x.reshape(-1, x.shape[-1])))
  y_RF = y_RF if dtype is None else y_RF.astype(given)
  return y_RF.reshape(*x.shape[:-1], y_RF.shape[-1])


def with_last_input(network: nn.Module, params: Any,
                    x_BD: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The network's outputs [B, O], and the inputs of its last dense layer [B, F].

  Raises:
    ValueError: it has no layer that is a `Dense`.
  """
  seen: list = []

  def watch(call, args, kwargs, context):
    if isinstance(context.module, Dense) and context.method_name == '__call__':
      seen.append(args[0])
    return call(*args, **kwargs)

  with nn.intercept_methods(watch):
    y_BO = apply(network, params, x_BD)
  if not seen:
    raise ValueError(f'{type(network).__name__} has no layer of type networks.Dense, whose input '
                     'would be its features')
  return y_BO, seen[-1]
