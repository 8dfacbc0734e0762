"""Deep Boltzmann machines: the phases that train them, their monitor and validation."""

import jax
import jax.numpy as jnp
import optax

from experiments._common import boltzmann
from experiments._common.stacks import Layer, greedy
from gen_models import data
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.deep import duplicated
from gen_models.estimators.directions import centred
from gen_models.estimators.negative import reconstruction
from gen_models.evaluation import monitors
from gen_models.experiment import Phase
from gen_models.models import dbm, dbn, rbm, units
from gen_models.samplers import annealing

MOST_ENUMERATED = 16  # log2 of the states of the odd layers up to which every likelihood is exact


def pretraining(sizes, *, spec: data.Spec, binarisation: str, batch_size: int, num_steps: int,
                learning_rate: float, centring) -> tuple[Phase, ...]:
  """A phase for each RBM of the stack, by CD-1 with the copies that its place asks for."""
  stack = dbm.Stack(len(sizes))
  layers = [Layer(size, duplicated(
    contrastive(rbm, reconstruction(), direction=centred(centring)),
    *dbm.copies(depth, len(sizes))), learning_rate) for depth, size in enumerate(sizes)]
  return greedy(layers, spec=spec, binarisation=binarisation, batch_size=batch_size,
                num_steps=num_steps, propagate='samples', model=stack)


def beginning(model: dbm.DBM, spec: data.Spec, upper_scale: float = 0.1):
  """Phase.init: the composed stack; where there is none, small weights.

  Those of the first layer are N(0, 0.01^2), those above it N(0, upper_scale^2 / D_{k-1}).
  """
  def init(key, arrays, previous_params):
    if previous_params is not None:
      params = dbm.compose(previous_params.layers)
      return _with_label(key, model, params) if model.num_labels else params
    params = model.init(key, data.mean_image(arrays, spec), scale=1.0)
    first, *upper = params.weights
    return params._replace(weights=(
      0.01 * first, *(upper_scale / len(w)**0.5 * w for w in upper)))
  return init


def descent(learning_rate: float, upper_rate: float, momentum: float, weight_decay: float,
            num_steps: int, warmup: int) -> optax.GradientTransformation:
  """boltzmann.descent; W_k, k > 1, and the biases above them move by upper_rate times that.

  A step in W_k moves the input of unit j for image b by rate sum_i x_ib x_ib' h_jb', so training is
  stable while the rate times the variance of the layer below, summed over its units, is not large.
  That sum is 52 for MNIST's pixels and up to a quarter of the units for a hidden layer: at one rate
  for all, the upper layers of 784-500-1000 drive every unit to 0 or 1 within hundreds of updates.
  The warm-up lets chains and offsets of a pretrained machine find where they belong.
  """
  def upper(updates, params):
    del params
    first, *weights = updates.weights
    below = updates.biases[:2]
    return dbm.Params((first, *(upper_rate * w for w in weights)),
                      (*below, *(jax.tree.map(lambda b: upper_rate * b, b)
                                 for b in updates.biases[2:])))

  return optax.chain(
    boltzmann.descent(learning_rate, momentum, weight_decay, num_steps,
                      on=dbm.Params(True, False), warmup=warmup), optax.stateless(upper))


def _with_label(key, model: dbm.DBM, params: dbm.Params) -> dbm.Params:
  """The composed stack under a label of small weights."""
  fresh = model.init(key)
  return dbm.Params((*params.weights, fresh.weights[-1]), (*params.biases, fresh.biases[-1]))


def monitor(model: dbm.DBM, binarisation: str, spec: data.Spec):
  """Phase.monitor: that of the folded machine, data beside a draw of their even layers."""
  def see(params, arrays, split):
    v_BV = data.fixed(arrays, binarisation, spec, split=split)
    q = model.posterior(params, v_BV, max_iterations=30)
    x_BE, _ = model.sample_posterior(data.split_key(split), params, q, 1)
    return model.fold(params), jnp.concatenate([v_BV, x_BE], axis=-1)

  return monitors.of_machine(model.machine, see)


def validator(model: dbm.DBM, binarisation: str, spec: data.Spec):
  """Experiment.validate: the bound with a short schedule; while RBMs are trained, their errors.

  Weighted where rows are.
  """
  def validate(key, params, arrays):
    v_NV = data.fixed(arrays, binarisation, spec, split='valid')
    if isinstance(params, dbn.Params):
      return {'valid_reconstruction_error': _reconstruction_error(
        key, model, params, v_NV, arrays.weights)}
    q = model.posterior(params, v_NV, max_iterations=50)
    bound = data.mean(model.bound(params, v_NV, q), arrays.weights)
    accuracy = {'valid_accuracy': data.mean(
      model.features(params, q)[-1].argmax(-1) == arrays.labels, arrays.weights)
                } if model.num_labels else {}
    if model.log2_states[1] <= MOST_ENUMERATED:
      return {'valid_bound_quick': bound - model.log_partition(params), **accuracy}
    if not model.binary:
      return accuracy
    base_V = units.log_odds(data.mean(model.complete(params, v_NV, q), arrays.weights))
    return {'valid_bound_quick': bound - annealing.quick_log_partition(
      key, model.fold(params), base_V, num_chains=100, betas=annealing.refined(500))}

  return validate


def _reconstruction_error(key, model, stack: dbn.Params, v_NV, weights_N=None):
  """Of the top RBM's data by its means, squared, for each image."""
  num_layers, depth = len(model.sizes) - 1 - (model.num_labels > 0), len(stack.layers) - 1
  x_NV = dbm.Stack(num_layers).top_input(key, stack, v_NV, 'means')
  (visible, hidden), top = dbm.copies(depth, num_layers), stack.layers[-1]
  h_NH = jax.nn.sigmoid(top.c_H + visible * (x_NV @ top.w_VH))
  back_NV = jax.nn.sigmoid(top.b_V + hidden * (h_NH @ top.w_VH.T))
  return data.mean(jnp.sum((x_NV - back_NV)**2, axis=-1), weights_N)


def check(params: dbm.Params, batch) -> None:
  """Phase.check: raises ValueError unless the data are binary and as wide as the machine."""
  v_BV = batch[0] if isinstance(batch, tuple) else batch
  units.check_batch(units.BERNOULLI, len(params.biases[0]), v_BV)
