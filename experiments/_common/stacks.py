"""Stacks of layers trained greedily: the phases of dbn, classifier and autoencoder, filters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_models import data
from gen_models.estimators.base import Estimator
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.greedy import Stack, on_top
from gen_models.estimators.negative import reconstruction
from gen_models.evaluation import figures, monitors
from gen_models.experiment import Phase
from gen_models.models import dbn, rbm

ROWS_FOR_MEANS = 5000  # images whose mean activations a new layer's visible biases start at


class Layer(NamedTuple):
  """One layer of a stack to be trained greedily; `model` is what its monitor watches."""

  num_hidden: int
  estimator: Estimator
  learning_rate: float
  num_labels: int = 0
  model: Any = rbm


def require_unit_interval(spec: data.Spec) -> None:
  """Raises BadData where rows are seen outside [0, 1], as logistic units cannot give them."""
  if spec.kind == 'counts':
    raise data.BadData(f'data set {spec.name}: its values are counts, and logistic units end at 1: '
                       'kind=real in its name scales them to [0, 1]')
  if not spec.unit_interval:
    raise data.BadData(f'data set {spec.name}: its values are seen outside [0, 1], where logistic '
                       'units end: leave out scale= in its name')


def pixels(arrays, spec: data.Spec, rows: int | None = None) -> jax.Array:
  """The first rows as vectors [N, V] in [0, 1]."""
  return data.fixed(data.Arrays(arrays.rows[:rows]), 'real', spec)


def greedy(layers: list[Layer], *, spec: data.Spec, binarisation: str, batch_size: int,
           num_steps: int, propagate: dbn.Propagate, momentum: float = 0.0,
           weight_decay: float = 0.0, model: Stack = dbn) -> tuple[Phase, ...]:
  """A phase for each layer of a dbn.Params, the ones below held still.

  The learning rate falls linearly to 0; weight decay is on the top layer's W only. `model` says
  what the layers below make of the data.
  """
  def phase(depth: int, layer: Layer) -> Phase:
    def init(key, arrays, previous_params):
      params, v_NV = previous_params, pixels(arrays, spec, ROWS_FOR_MEANS)
      keys = jax.random.split(key, depth + 1)
      # Whatever is missing below starts untrained.
      for i in range(len(params.layers) if params else 0, depth + 1):
        params = dbn.grow(keys[i], params, v_NV, layers[i].num_hidden,
                          num_labels=layers[i].num_labels)
      return params

    def only(top):
      return dbn.Params((*[False] * depth, top))

    def see(params, arrays, split):
      v_NV = data.fixed(arrays, binarisation, spec, split=split)
      return params.layers[-1], dbn.top_input(
        jax.random.fold_in(data.split_key(split), depth + 1), params,
        (v_NV, arrays.labels) if layer.num_labels else v_NV, propagate)

    optimizer = optax.masked(optax.chain(
      optax.add_decayed_weights(weight_decay, mask=only(rbm.Params(True, False, False))),
      optax.sgd(optax.linear_schedule(layer.learning_rate, 0.0, num_steps), momentum)), only(True))
    return Phase(f'layer{depth + 1}', init, on_top(layer.estimator, model, propagate), optimizer,
                 data.batches(batch_size, binarisation, spec, with_labels=layer.num_labels > 0),
                 num_steps, batch_size,
                 # Another stack of the same layers trains other machines.
                 monitor=monitors.of_machine(layer.model, see) if model is dbn else None,
                 alarms=alarms if model is dbn else ())

  # The gap to independent units is a bound for states of units, not for their means.
  alarms = tuple(a for a in monitors.ALARMS
                 if propagate == 'samples' or a.metric != 'interaction_gap')
  return tuple(phase(depth, layer) for depth, layer in enumerate(layers))


def untying(estimator: Estimator, greedily: tuple[Phase, ...], *, spec: data.Spec,
            binarisation: str, batch_size: int, num_steps: int, learning_rate: float,
            momentum: float, labels: bool) -> Phase:
  """A phase that trains all layers of a dbn.Untied, from the stack that `greedily` leaves.

  The learning rate falls linearly to 0; there is no weight decay.
  """
  def init(key, arrays, previous_params):
    if previous_params is None:  # as in the other phases: an untrained stack
      previous_params = greedily[-1].init(key, arrays, None)
    return dbn.untied(previous_params)

  return Phase('up_down', init, estimator,
               optax.sgd(optax.linear_schedule(learning_rate, 0.0, num_steps), momentum),
               data.batches(batch_size, binarisation, spec, with_labels=labels), num_steps,
               batch_size)


def pretraining(layers: list[tuple], *, steps: int, centring: float | None, spec: data.Spec,
                binarisation: str, batch_size: int, num_steps: int, momentum: float,
                weight_decay: float) -> tuple[Phase, ...]:
  """`greedy` by centred CD that propagates means, as pretraining for backpropagation.

  layers: (model, num_hidden, learning_rate) of each.

  Raises:
    BadData: the rows are seen outside [0, 1].
  """
  require_unit_interval(spec)
  return greedy(
    [Layer(size, contrastive(model, reconstruction(steps), direction=centred(centring)), rate,
           model=model)
     for model, size, rate in layers], spec=spec, binarisation=binarisation,
    batch_size=batch_size, num_steps=num_steps, propagate='means', momentum=momentum,
    weight_decay=weight_decay)


def filters(params: dbn.Params, shape, rows: int = 8, columns: int = 8) -> dict:
  """For each layer, its strongest units projected through the weights below, in [0, 1]."""
  grids, w_VH = {}, None
  for depth, layer in enumerate(params.layers, 1):
    w_XH = layer.w_VH if w_VH is None else layer.w_VH[:w_VH.shape[1]]  # without the label's rows
    strongest = jnp.argsort(-jnp.linalg.norm(w_XH, axis=0))[:rows * columns]
    w_VH = w_XH if w_VH is None else w_VH @ w_XH
    w_KV = np.asarray(w_VH[:, strongest].T)
    w_KV = np.clip(0.5 + w_KV / (2 * np.percentile(np.abs(w_KV), 99.5)), 0, 1)
    across = min(columns, len(w_KV))
    grids[f'filters of layer {depth}'] = figures.to_grid(w_KV, shape, len(w_KV) // across, across)
  return grids
