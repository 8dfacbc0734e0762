"""Deep belief networks, trained greedily, layer by layer (Hinton, Osindero & Teh, 2006).

  python -m launch.train --experiment=dbn --variant=mnist_500_2000 --workdir=runs/dbn
  python -m launch.evaluate --workdir=runs/dbn

One phase a layer, each an RBM by centred PCD-1 on sampled hidden units of the one below, the data
dynamically binarised, batch 100, the learning rate falling linearly to 0. Trained on 50,000 images.

Score: the variational lower bound in test nats of all test images, binarised once, with log Z of
the top layer annealed from both sides (`lower` takes the one that is high in expectation) or, where
small, enumerated; beside it the importance-weighted estimate with 100 samples. Mean +- standard
deviation over seeds. Published for 500-2000 (Salakhutdinov & Murray, 2008): bound -86.22 (from
memory), estimate about -84.6. Networks with labels add the error of the class of least free energy;
Hinton, Osindero & Teh report 1.25 % for 500-500-2000 after up-down fine-tuning, not done here.

  mnist_500_2000   -86.99, estimate -84.96, one seed
  labelled         –   500-500-2000, labels beside the features of the top layer
  digits           -16.86 +- 0.05, estimate -16.78, 5 seeds; 64-64 on 8x8 digits, threshold; the
                   upper layer starts as the lower upside down: the bound starts at its exact nats
  digits_labelled  –

Cost on 2 CPU cores shared with other work: digits 20 seconds, 500-2000
30 minutes. A dash is not measured.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_models import data
from gen_models.estimators.base import Estimator
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.greedy import on_top
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.evaluation import baselines, deep, figures
from gen_models.experiment import Experiment, Phase, Samples
from gen_models.models import dbn, label_rbm, rbm, units
from gen_models.samplers import annealing

NUM_CLASSES = 10
ROWS_FOR_MEANS = 5000  # images whose mean activations a new layer's visible biases start at

VARIANTS = {
  'mnist_500_2000': dict(layers='500-2000'),
  'labelled': dict(layers='500-500-2000', labels=True, ais_temperatures=2000),
  'digits': dict(dataset='digits', binarisation='threshold', layers='64-64', num_steps=20_000,
                 ais_temperatures=5000),
  'digits_labelled': dict(dataset='digits', binarisation='threshold', layers='64-64', labels=True,
                          num_steps=20_000, ais_temperatures=2000),
}


class Layer(NamedTuple):
  """One layer of a stack to be trained greedily."""

  num_hidden: int
  estimator: Estimator
  learning_rate: float
  num_labels: int = 0


def sizes_of(layers: str) -> list[int]:
  """'500-2000' -> [500, 2000].

  Raises:
    ValueError: not numbers joined by dashes.
  """
  try:
    return [int(size) for size in layers.split('-')]
  except ValueError as error:
    raise ValueError(f'layers are sizes joined by dashes, 500-2000, not {layers!r}') from error


def image_shape(dataset: str) -> tuple[int, int]:
  """Height and width."""
  return (8, 8) if dataset == 'digits' else (28, 28)


def pixels(arrays, levels: int, rows: int | None = None) -> jax.Array:
  """The first rows as vectors [N, V] in [0, 1]."""
  return data.fixed(data.Arrays(arrays.images[:rows]), 'real', levels)


def greedy(layers: list[Layer], *, levels: int, binarisation: str, batch_size: int, num_steps: int,
           propagate: dbn.Propagate, momentum: float = 0.0,
           weight_decay: float = 0.0) -> tuple[Phase, ...]:
  """A phase for each layer of a dbn.Params, the ones below held still.

  The learning rate falls linearly to 0; weight decay is on the top layer's W alone.
  """
  def phase(depth: int, layer: Layer) -> Phase:
    def init(key, arrays, previous_params):
      params, v_NV = previous_params, pixels(arrays, levels, ROWS_FOR_MEANS)
      keys = jax.random.split(key, depth + 1)
      # Whatever is missing below starts untrained.
      for i in range(len(params.layers) if params else 0, depth + 1):
        params = dbn.grow(keys[i], params, v_NV, layers[i].num_hidden,
                          num_labels=layers[i].num_labels)
      return params

    def only(top):
      return dbn.Params((*[False] * depth, top))

    optimizer = optax.masked(optax.chain(
      optax.add_decayed_weights(weight_decay, mask=only(rbm.Params(True, False, False))),
      optax.sgd(optax.linear_schedule(layer.learning_rate, 0.0, num_steps), momentum)), only(True))
    return Phase(f'layer{depth + 1}', init, on_top(layer.estimator, dbn, propagate), optimizer,
                 data.batches(batch_size, binarisation, levels, with_labels=layer.num_labels > 0),
                 num_steps, batch_size)

  return tuple(phase(depth, layer) for depth, layer in enumerate(layers))


def filters(params: dbn.Params, shape, rows: int = 8, columns: int = 8) -> dict:
  """For each layer, what its strongest units project to through the weights below, in [0, 1]."""
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


def sampler(shape, gibbs_steps: int) -> Callable:
  """Experiment.sample of a dbn.Params."""
  def sample(key, params, num, label=None):
    v_NV, mean_NV = dbn.sample(key, params, num, gibbs_steps, label)
    return Samples(v_NV.reshape(num, *shape), mean_NV.reshape(num, *shape))
  return jax.jit(sample, static_argnames='num')


@jax.jit
def _accuracy(params, v_NV, label_N):
  return jnp.mean(dbn.label_given_visible(params, v_NV).argmax(-1) == label_N)


def experiment(*, dataset: Literal['mnist', 'fashion_mnist', 'binarized_mnist', 'digits'] = 'mnist',
               binarisation: Literal['dynamic', 'threshold', 'static'] = 'dynamic',
               layers: str = '500-2000', labels: bool = False,
               propagate: Literal['samples', 'means'] = 'samples',
               negative: Literal['cd', 'pcd'] = 'pcd', steps: int = 1, chains: int = 100,
               centring: float | None = 0.01, learning_rate: float = 0.1,
               upper_learning_rate: float = 0.05, momentum: float = 0.0,
               weight_decay: float = 0.0, batch_size: int = 100, num_steps: int = 60_000,
               gibbs_steps: int = 1000, importance_samples: int = 100, ais_chains: int = 100,
               ais_temperatures: int = 14_500) -> Experiment:
  """num_steps is of each layer; upper_learning_rate of all but the first.

  gibbs_steps are the sweeps in the top layer behind a sample; importance_samples, ais_chains and
  ais_temperatures are those of the final score (the last two for each label).
  """
  levels, shape = data.levels(dataset), image_shape(dataset)
  sizes = sizes_of(layers)
  phase = reconstruction(steps) if negative == 'cd' else persistent(chains, steps)

  def layer(depth):
    num_labels = NUM_CLASSES if labels and depth == len(sizes) - 1 else 0
    model = label_rbm.LabelRbm(num_labels) if num_labels else rbm
    return Layer(sizes[depth], contrastive(model, phase, direction=centred(centring)),
                 upper_learning_rate if depth else learning_rate, num_labels)

  phases = greedy([layer(depth) for depth in range(len(sizes))], levels=levels,
                  binarisation=binarisation, batch_size=batch_size, num_steps=num_steps,
                  propagate=propagate, momentum=momentum, weight_decay=weight_decay)

  def validate(key, params, arrays):
    # One sample and a short schedule: good enough to rank the checkpoints of one phase.
    v_NV = data.fixed(arrays, binarisation, levels)
    if dbn.num_labels_of(params):
      return {'valid_accuracy': _accuracy(params, v_NV, arrays.labels)}
    key_z, key_w = jax.random.split(key)
    base_F = units.log_odds(units.mean_rows(dbn.feature_means(params, v_NV)))
    log_z = annealing.quick_log_partition(key_z, params.layers[-1], base_F, num_chains=100,
                                          betas=annealing.refined(500))
    return {'valid_bound_quick': jnp.mean(dbn.log_weights(key_w, params, v_NV)) - log_z}

  def evaluate(key, params, dataset, report):
    key_z, key_w = jax.random.split(key)
    train_NV, valid_NV, test_NV = (data.fixed(split, binarisation, levels) for split in (
      dataset.train, dataset.valid, dataset.test))
    z = deep.bracket(key_z, params, train_NV, dataset.train.labels, num_chains=ais_chains,
                     betas=annealing.refined(ais_temperatures), report=report)
    scores = {}
    if labels:
      scores['error_percent'] = 100 * (1 - float(_accuracy(params, test_NV, dataset.test.labels)))
    return {
      **deep.score(key_w, params, test_NV, z, num_samples=importance_samples,
                   binarisation=binarisation, report=report, scores=scores),
      'split': 'test',
      'baselines': {
        'independent pixels': baselines.independent_pixels(
          train_NV, test_NV, binarisation=binarisation),
        'mixture of Bernoullis': baselines.bernoulli_mixture(
          train_NV, valid_NV, test_NV, binarisation=binarisation, num_classes=(100,),
          pseudo_counts=(1.0,))}}

  sample = sampler(shape, gibbs_steps)

  def pictures(key, params, dataset):
    del dataset
    grids = filters(params, shape)
    if labels:
      keys = jax.random.split(key, NUM_CLASSES)
      grids['samples of each class'] = np.stack([
        np.asarray(sample(keys[y], params, 8, y).means) for y in range(NUM_CLASSES)])
    return grids

  steps_per_dispatch = 100
  return Experiment(
    dataset=dataset, binarisation=binarisation, phases=phases, evaluate=evaluate,
    validate=validate, headline='valid_accuracy' if labels else 'valid_bound_quick',
    pictures=pictures, sample=sample, steps_per_dispatch=steps_per_dispatch,
    validate_every=steps_per_dispatch * max(1, num_steps // (10 * steps_per_dispatch)),
    protocol='variational bound, log Z of the top layer by AIS or exact; trained on the training '
             'split alone, all test images')
