"""Deep belief network: a directed net whose prior is a restricted Boltzmann machine.

  p(v, h_1, .., h_L) = p(v | h_1) p(h_1 | h_2) .. p(h_{L-1}, h_L),

the last factor the RBM at the top, the others p(x_i = 1 | h) = sigma(b_i + (W h)_i) with the
weights of the RBM trained there. Going up, q(h_l | h_{l-1}) is that RBM's own factorial p(h | v).

With F_l(x) the free energy of layer l in its visible units and G_l(h) that in its hidden ones,
log p(x | h) - log q(h | x) = G_l(h) - F_l(x), so h_l ~ q has the log-weight

  log w = -F_1(v) + sum_{l<L} (G_l(h_l) - F_{l+1}(h_l)),
  log p(v) >= E_q[log w] - log Z_L    and    p(v) = E_q[w] / Z_L:

layer l + 1 takes the place of the prior G_l that layer l had put on h_l. A new layer that is the
old one upside down has F_{l+1} = G_l: the bound stays where it was.

`Untied` has weights U of its own for the way up, q(h_l = 1 | h_{l-1}) = sigma(c_l + h_{l-1} U_l).
Every function below takes it too; its log-weight is written out,

  log w = -F_L(h_{L-1}) + sum_{l<L} (log p(h_{l-1} | h_l) - log q(h_l | h_{l-1})).

The top layer may see a label beside the features: its last Q visible units, see label_rbm.py.

Axis suffixes: B batch, N samples, V visible, F visible units of the top layer without the label, H
hidden, Q labels. Nats.

Hinton, Osindero & Teh (2006); Salakhutdinov & Murray (2008).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gen_models.models import bits, gibbs, label_rbm, rbm, units
from gen_models.models.rows import mean_rows

Propagate = Literal['samples', 'means']


class Params(NamedTuple):
  """One RBM a layer, from the data upwards."""

  layers: tuple[rbm.Params, ...]


class Untied(NamedTuple):
  """A net whose way up is not its way down transposed, as up-down training leaves it.

  Attributes:
    layers: as of Params; of a layer below the top W and b are read, p(x | h) = sigma(b + W h).
    up: for each of those, W and c are read, q(h | x) = sigma(c + x W).
  """

  layers: tuple[rbm.Params, ...]
  up: tuple[rbm.Params, ...]


AnyParams = Params | Untied


def untied(params: Params) -> Untied:
  """The same net, its two ways free to differ from now on."""
  return Untied(params.layers, params.layers[:-1])


def recognition(params: AnyParams) -> tuple[rbm.Params, ...]:
  """For each layer below the top, what q(h | x) reads."""
  return params.up if isinstance(params, Untied) else params.layers[:-1]


def grow(key, params: Params | None, v_NV, num_hidden: int, *, num_labels: int = 0,
         scale: float = 0.01) -> Params:
  """`params` with one more layer on top; None is the empty stack.

  Where sizes fit (n -> m -> n) the new layer is the one below upside down, which leaves the bound
  unchanged; else as rbm.init, the visible biases at the log-odds of the mean of what it sees.

  Args:
    key: consumed.
    params: what stands already.
    v_NV: some data, of which the mean is taken.
    num_hidden: units of the new layer.
    num_labels: Q, one-of-Q visible units of the new layer beside the features.
    scale: of the random weights.

  Raises:
    ValueError: labels in the first layer, or below a layer.
  """
  layers = () if params is None else params.layers
  if num_labels and not layers:
    raise ValueError('labels are joined to features: they need a layer below')
  if params is not None and num_labels_of(params):
    raise ValueError('the top layer sees labels: no layer fits above it')
  if layers and not num_labels and num_hidden == len(layers[-1].b_V):
    return Params((*layers, upside_down(layers[-1])))
  mean_V = mean_rows(_means(layers, v_NV))
  new = rbm.init(key, len(mean_V) + num_labels, num_hidden, scale=scale)
  b_V = jnp.concatenate([units.log_odds(mean_V), jnp.zeros(num_labels)])
  return Params((*layers, new._replace(b_V=b_V)))


def upside_down(layer: rbm.Params) -> rbm.Params:
  """The same machine with visible and hidden units exchanged."""
  return rbm.Params(layer.w_VH.T, layer.c_H, layer.b_V)


def num_labels_of(params: AnyParams) -> int:
  """Q: what the top layer sees beside the units of the layer below."""
  if len(params.layers) == 1:
    return 0
  return len(params.layers[-1].b_V) - len(params.layers[-2].c_H)


# Density.


def log_weights(key, params: AnyParams, v_BV) -> jax.Array:
  """log w = -F_1(v) + sum_{l<L} (G_l(h_l) - F_{l+1}(h_l)), h ~ q(. | v); [B] nats.

  Without log Z_L: subtract the top layer's log-partition.
  """
  return log_weights_at(params, v_BV, sample_posterior(key, params, v_BV))


def log_weights_at(params: AnyParams, v_BV, h: tuple) -> jax.Array:
  """`log_weights` at states h_1, .., h_{L-1} that are given, [B] nats."""
  if isinstance(params, Untied):
    return _untied_log_weights(params, (v_BV, *h))
  x_BV, log_w_B = v_BV, 0.0
  for layer, h_BH in zip(params.layers[:-1], h, strict=True):
    log_w_B += rbm.free_energy(upside_down(layer), h_BH) - rbm.free_energy(layer, x_BV)
    x_BV = h_BH
  return log_w_B - top_free_energy(params, x_BV)


def _untied_log_weights(params: Untied, x: tuple) -> jax.Array:
  log_w_B = -top_free_energy(params, x[-1])
  for layer, up, x_BV, h_BH in zip(
      params.layers[:-1], params.up, x[:-1], x[1:], strict=True):
    log_w_B += (bernoulli_log_prob(rbm.visible_input(layer, h_BH), x_BV)
                - bernoulli_log_prob(rbm.hidden_input(up, x_BV), h_BH))
  return log_w_B


def bernoulli_log_prob(y_BD, x_BD) -> jax.Array:
  """sum_d x_d y_d - softplus(y_d): log p(x) of bits whose log-odds are y, [B] nats."""
  return jnp.sum(x_BD * y_BD - bits.softplus(y_BD), axis=-1)


def top_free_energy(params: AnyParams, x_BF) -> jax.Array:
  """F_L(x), the label summed over where there is one; [B] nats."""
  num_labels = num_labels_of(params)
  if not num_labels:
    return rbm.free_energy(params.layers[-1], x_BF)
  return -jax.nn.logsumexp(label_rbm.label_log_weights(params.layers[-1], num_labels, x_BF),
                           axis=-1)


def log_partition(params: AnyParams) -> jax.Array:
  """log Z_L of the top layer, scalar nats, enumerated; raises as rbm.log_partition."""
  num_labels = num_labels_of(params)
  if num_labels:
    return label_rbm.log_partition(params.layers[-1], num_labels)
  return rbm.log_partition(params.layers[-1])


# Conditionals.


def features(key, params: AnyParams, v_BV, propagate: Propagate) -> jax.Array:
  """The top layer's input for v: h_{L-1} ~ q(. | v), or `feature_means`; [B, F].

  Only 'samples' consumes the key.
  """
  if propagate == 'means':
    return feature_means(params, v_BV)
  return (v_BV, *sample_posterior(key, params, v_BV))[-1]


def sample_posterior(key, params: AnyParams, v_BV) -> tuple:
  """h_1, .., h_{L-1} ~ q(. | v), each [B, H]; of a single layer ()."""
  h, up = [], recognition(params)
  for key_h, layer in zip(_keys(key, up), up):
    h.append(rbm.sample_hidden(key_h, layer, h[-1] if h else v_BV))
  return tuple(h)


def feature_means(params: AnyParams, v_BV) -> jax.Array:
  """The mean-field pass up to the top layer's input, h_l = sigma(c + h_{l-1} W); [B, F]."""
  return _means(recognition(params), v_BV)


def top_input(key, params: AnyParams, batch, propagate: Propagate) -> jax.Array:
  """The top layer's visible units for a batch v_BV, or (v_BV, y_B) where it sees labels."""
  num_labels = num_labels_of(params)
  if not num_labels:
    return features(key, params, batch, propagate)
  v_BV, y_B = batch
  return label_rbm.attach(features(key, params, v_BV, propagate), y_B, num_labels)


def _keys(key, layers):
  return jax.random.split(key, max(1, len(layers)))


def _means(layers, x_BV):
  for layer in layers:
    x_BV = rbm.hidden_mean(layer, x_BV)
  return x_BV


def label_given_visible(params: AnyParams, v_BV) -> jax.Array:
  """p(y | h_{L-1}) at the mean-field h_{L-1}, [B, Q]: softmax of minus each label's F_L."""
  x_BF = feature_means(params, v_BV)
  log_w_BQ = label_rbm.label_log_weights(params.layers[-1], num_labels_of(params), x_BF)
  return jax.nn.softmax(log_w_BQ, axis=-1)


def means(params: AnyParams, v_BV) -> tuple:
  """The mean-field pass up to the top, h_l = sigma(c + h_{l-1} W) for l = 1 .. L, each [B, H].

  The top layer sees p(y | v), `label_given_visible`, in the place of a label.
  """
  return tuple(jax.nn.sigmoid(y_BH) for y_BH in log_odds(params, v_BV))


def log_odds(params: AnyParams, v_BV) -> tuple:
  """c + h_{l-1} W of `means`, the log-odds of the units of every layer, each [B, H]."""
  found, x_BV = [], v_BV
  for layer in recognition(params):
    found.append(rbm.hidden_input(layer, x_BV))
    x_BV = jax.nn.sigmoid(found[-1])
  if num_labels_of(params):
    x_BV = jnp.concatenate([x_BV, label_given_visible(params, v_BV)], axis=-1)
  return (*found, rbm.hidden_input(params.layers[-1], x_BV))


def reconstruct(params: AnyParams, v_BV) -> jax.Array:
  """The mean-field pass up to the top and down again to E[v | h_1], [B, V]."""
  *lower, top = params.layers
  num_features = len(top.b_V) - num_labels_of(params)
  x_BV = rbm.visible_mean(top, means(params, v_BV)[-1])[:, :num_features]
  for layer in reversed(lower):
    x_BV = rbm.visible_mean(layer, x_BV)
  return x_BV


# Sampling.


def sample(key, params: AnyParams, num_samples: int, gibbs_steps: int,
           label=None, start: gibbs.Chains | None = None) -> tuple[jax.Array, jax.Array]:
  """(v, p(v | h_1)): Gibbs in the top layer from where `climb` leads, one ancestral pass down.

  Args:
    key: consumed.
    params: the net.
    num_samples: N, independent chains.
    gibbs_steps: in the top layer; and before that, in each layer below.
    label: class held through all Gibbs steps of the top layer, or None; may be traced.
    start: chains of the top layer [N, ..] to begin with, or None.

  Returns:
    two arrays [N, V].

  Raises:
    ValueError: a label, and a model without.
  """
  *lower, top = params.layers
  num_labels = num_labels_of(params)
  if label is not None and not num_labels:
    raise ValueError('this deep belief network has no labels to hold')
  model: gibbs.Model = rbm
  if label is not None:
    if start is not None:
      start = start._replace(v_CV=start.v_CV[:, :-num_labels])
    top, num_labels = label_rbm.given_label(top, num_labels, label), 0
  elif num_labels:
    model = label_rbm.model(num_labels)
  key_init, key_gibbs, *keys = jax.random.split(key, 3 + len(lower))
  if start is None:
    start = top_chains(key_init, params, num_samples, gibbs_steps, label)
  chains = gibbs.run(key_gibbs, model, top, start, gibbs_steps)
  x_NH = chains.h_CH
  mean_NV = rbm.visible_mean(top, x_NH)[:, :len(top.b_V) - num_labels]
  x_NV = bits.bernoulli(keys[0], mean_NV)
  for key_x, layer in zip(keys[1:], reversed(lower), strict=True):
    mean_NV = rbm.visible_mean(layer, x_NV)
    x_NV = bits.bernoulli(key_x, mean_NV)
  return x_NV, mean_NV


def top_chains(key, params: AnyParams, num_chains: int, gibbs_steps: int,
               label=None) -> gibbs.Chains:
  """Chains of the top layer before their first Gibbs step, its visible units from `climb`.

  A label is drawn from p(y | h_{L-1}), or is the one that is held, and then no part of the chains.
  A stack of one layer starts at its biases, gibbs.init_chains.
  """
  top, num_labels = params.layers[-1], num_labels_of(params)
  if len(params.layers) == 1:
    return gibbs.init_chains(key, rbm, top, num_chains)
  key_climb, key_y, key_h = jax.random.split(key, 3)
  x_CV = climb(key_climb, params, num_chains, gibbs_steps)
  if label is not None:
    top = label_rbm.given_label(top, num_labels, label)
  elif num_labels:
    log_w_CQ = label_rbm.label_log_weights(top, num_labels, x_CV)
    x_CV = label_rbm.attach(x_CV, jax.random.categorical(key_y, log_w_CQ), num_labels)
  return gibbs.Chains(x_CV, rbm.sample_hidden(key_h, top, x_CV))


def climb(key, params: AnyParams, num_chains: int, gibbs_steps: int) -> jax.Array:
  """h_{L-1} by Gibbs chains in the machine of each layer below the top, in turn; [C, F].

  Those of the first layer begin at its visible biases; the hidden units with which chains of layer
  l end are the visible units with which those of layer l + 1 begin. Each layer was trained to take
  the place of the prior that the layer below puts on its hidden units, so these starts are near the
  top layer's own distribution, and they come from the parameters alone. The visible biases of a top
  layer are no such start: they are the log-odds of units that nothing else drives, and a machine of
  sharp modes takes thousands of Gibbs steps to forget where it began.
  """
  *lower, _ = params.layers
  lower = [layer._replace(c_H=up.c_H) for layer, up in zip(lower, recognition(params), strict=True)]
  chains = None
  for key_layer, layer in zip(jax.random.split(key, len(lower)), lower, strict=True):
    key_start, key_gibbs = jax.random.split(key_layer)
    if chains is None:
      chains = gibbs.init_chains(key_start, rbm, layer, num_chains)
    else:
      chains = gibbs.Chains(chains.h_CH, rbm.sample_hidden(key_start, layer, chains.h_CH))
    chains = gibbs.run(key_gibbs, rbm, layer, chains, gibbs_steps)
  assert chains is not None
  return chains.h_CH
