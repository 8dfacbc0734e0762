"""Feed-forward networks of logistic units, from scratch or from the weights of stacked RBMs.

  x_{l+1} = sigma(x_l W_l + b_l), the last layer linear: f(x)

A classifier reads f as log-odds, p(y | x) = softmax(f(x)). An autoencoder is two such networks, a
code z = f_enc(x) and the log-odds f_dec(z) of the pixels. The stack unrolled is the mean-field pass
up, and down again through the transposed weights; after that the two halves are trained apart.

Axis suffixes: B batch, I units in, O units out, Q classes, Z code.

Hinton & Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.models import bits, rbm
from gen_models.models.rows import add_bias


class Layer(NamedTuple):
  """x W + b."""

  w_IO: jax.Array
  b_O: jax.Array


class Params(NamedTuple):
  """A network, from the input onwards."""

  layers: tuple[Layer, ...]


class Autoencoder(NamedTuple):
  """z = f_enc(x), p(x_i = 1 | z) = sigma(f_dec(z)_i)."""

  encoder: Params
  decoder: Params


def init(key, sizes) -> Params:
  """W_ij ~ N(0, 32 / (I + O)), the last layer's N(0, 2 / (I + O)), b = 0.

  Glorot & Bengio (2010), times 4 for the slope of 1/4 that a logistic unit has at 0.
  """
  pairs = list(zip(sizes[:-1], sizes[1:]))
  gains = [4.0] * (len(pairs) - 1) + [1.0]
  return Params(tuple(
    Layer(gain * jnp.sqrt(2 / (i + o)) * jax.random.normal(key, (i, o)), jnp.zeros(o))
    for key, (i, o), gain in zip(jax.random.split(key, len(pairs)), pairs, gains, strict=True)))


def init_autoencoder(key, sizes) -> Autoencoder:
  """`init` of sizes to the code, and back."""
  key_encoder, key_decoder = jax.random.split(key)
  return Autoencoder(init(key_encoder, sizes), init(key_decoder, sizes[::-1]))


def classifier(layers: tuple[rbm.Params, ...], num_classes: int) -> Params:
  """The mean-field pass up through the RBMs, under a layer of zeros: p(y | x) is uniform."""
  up = tuple(Layer(layer.w_VH, layer.c_H) for layer in layers)
  return Params((*up, Layer(jnp.zeros((len(layers[-1].c_H), num_classes)),
                            jnp.zeros(num_classes))))


def unrolled(layers: tuple[rbm.Params, ...]) -> Autoencoder:
  """Up through the RBMs, the last one's hidden units linear, and down through the transposes."""
  up = tuple(Layer(layer.w_VH, layer.c_H) for layer in layers)
  down = tuple(Layer(layer.w_VH.T, layer.b_V) for layer in reversed(layers))
  return Autoencoder(Params(up), Params(down))


def hidden_units(params: Params, x_BI) -> tuple[jax.Array, ...]:
  """sigma(x_l W_l + b_l) of every layer but the last, [B, O] each."""
  found = []
  for layer in params.layers[:-1]:
    x_BI = jax.nn.sigmoid(_affine(layer, x_BI))
    found.append(x_BI)
  return tuple(found)


def forward(params: Params, x_BI) -> jax.Array:
  """f(x), [B, O]."""
  *hidden, last = params.layers
  for layer in hidden:
    x_BI = jax.nn.sigmoid(_affine(layer, x_BI))
  return _affine(last, x_BI)


def dropped(key, params: Params, x_BI, rate) -> jax.Array:
  """f(x) with hidden units left out at random, [B, O]: x_{l+1} = d sigma(x_l W_l + b_l) / (1 - r)

  with every d ~ Bernoulli(1 - r) drawn for itself, so that the mean over d of what a layer sees is
  what `forward` gives it. The input is seen whole.

  Args:
    key: consumed.
    params: the network.
    x_BI: rows.
    rate: r in [0, 1); may be traced.

  Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), Dropout.
  """
  *hidden, last = params.layers
  for key_layer, layer in zip(jax.random.split(key, max(1, len(hidden))), hidden):
    x_BI = jax.nn.sigmoid(_affine(layer, x_BI))
    x_BI *= bits.bernoulli(key_layer, jnp.full(x_BI.shape, 1 - rate)) / (1 - rate)
  return _affine(last, x_BI)


def hidden(params: Params, x_BI, depth: int) -> jax.Array:
  """The units of layer `depth`, 1 the first; [B, O]. The last layer is linear: f(x)."""
  for layer in params.layers[:min(depth, len(params.layers) - 1)]:
    x_BI = jax.nn.sigmoid(_affine(layer, x_BI))
  return _affine(params.layers[-1], x_BI) if depth == len(params.layers) else x_BI


def _affine(layer, x_BI):
  return add_bias(x_BI @ layer.w_IO, layer.b_O)


def class_log_probabilities(params: Params, x_BI) -> jax.Array:
  """log p(y | x), [B, Q] nats."""
  return jax.nn.log_softmax(forward(params, x_BI), axis=-1)


def pixel_log_odds(params: Autoencoder, x_BI) -> jax.Array:
  """f_dec(f_enc(x)), [B, I]; its sigmoid is the reconstruction."""
  return forward(params.decoder, forward(params.encoder, x_BI))


def cross_entropy(log_odds_BI, x_BI) -> jax.Array:
  """-sum_i x_i log m_i + (1 - x_i) log(1 - m_i), m = sigma(log-odds), x in [0, 1]; [B] nats."""
  return jnp.sum(bits.softplus(log_odds_BI) - x_BI * log_odds_BI, axis=-1)
