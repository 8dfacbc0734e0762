"""Deep belief networks, trained greedily, layer by layer (Hinton, Osindero & Teh, 2006).

  python -m launch.train --experiment=dbn --variant=mnist_500_2000 --workdir=runs/dbn
  python -m launch.evaluate --workdir=runs/dbn

One training phase for each layer, an RBM by centred PCD-1 on sampled hidden units of the one below,
the data dynamically binarised, batch 100, the learning rate falling linearly to 0. Trained on
50,000 images.

Score: the variational lower bound in test nats of all test images, binarised once, with the larger
log Z of the top layer from forward and reverse annealing, or the enumerated one where the layer is
small; in addition the importance-weighted estimate with 100 samples. Mean +- standard deviation
over seeds. mnist_500_2000 was scored with Bennett's estimate between the two sides; with the larger
side it has -87.08. Published for it (Salakhutdinov & Murray, 2008): an estimate of about -84.6.
Networks with labels add the error of the class of least free energy; Hinton, Osindero & Teh report
1.25 % for 500-500-2000 after up-down fine-tuning. With up_down_steps a phase of it follows the
greedy ones: ways up and down of their own, all layers at once (estimators.up_down).

Draws are the ends of Gibbs chains that climb through the layers (models.dbn.climb); scores say how
these chains mix (evaluation.mixing).

  mnist_500_2000   -86.99, estimate -84.96, one seed
  mnist_long       -85.80 +- 0.18, estimate -84.20, 3 seeds; 100,000 updates of each layer
  mnist_up_down    -91.64, estimate -88.11, one seed; 500-500-2000, labels at the top, 20 epochs of
                   each layer and 80 of up-down: error 3.93 %
  digits           -16.86 +- 0.05, 5 seeds; 64-64 on 8x8 digits, threshold; the
                   upper layer starts as the lower upside down: the bound starts at its exact nats
  digits_up_down   -17.04 +- 0.03, estimate -16.46, 3 seeds; the net of digits_labelled after 20,000
                   updates of up-down: error 3.56 +- 0.69 % instead of 4.56 +- 1.02 %
  digits_labelled  -17.66 +- 0.11, estimate -16.59, 3 seeds; 64-64, labels at the top

mnist_up_down is the published network with labels beside the features of its top layer, cut short:
30 epochs of each layer and 300 of up-down were published. Cost on 2 CPU cores shared with other
work: digits 20 seconds, 500-2000 30 minutes; mnist_up_down 47 minutes of one core, its score 10.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from experiments._common import binary, boltzmann, custom
from experiments._common.stacks import Layer, filters, greedy, untying
from gen_models import data, indices, inference
from gen_models.domains import (
  AtLeastTwo,
  DatasetName,
  Decay,
  Fraction,
  Layers,
  NonNegative,
  NonNegativeInt,
  NumUpdates,
  PositiveInt,
  sizes_of,
)
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.negative import reconstruction
from gen_models.estimators.up_down import up_down
from gen_models.evaluation import deep, figures, mixing
from gen_models.experiment import Experiment, Published, Samples
from gen_models.models import dbn, label_rbm, rbm, units
from gen_models.models.rows import mean_rows
from gen_models.samplers import annealing

SCORING = ('importance_samples', 'ais_chains', 'ais_temperatures')  # read only by `evaluate`
VARIANTS = {
  'mnist_500_2000': dict(layers='500-2000'),
  'mnist_long': dict(layers='500-2000', num_steps=100_000),
  'mnist_up_down': dict(layers='500-500-2000', labels=True, num_steps=10_000, up_down_steps=40_000,
                        up_down_learning_rate=0.05, up_down_gibbs=5, ais_temperatures=2000),
  'digits': dict(dataset='digits', binarisation='threshold', layers='64-64', num_steps=20_000,
                 ais_temperatures=5000),
  'digits_labelled': dict(dataset='digits', binarisation='threshold', layers='64-64', labels=True,
                          num_steps=20_000, ais_temperatures=2000),
  'digits_up_down': dict(dataset='digits', binarisation='threshold', layers='64-64', labels=True,
                         num_steps=20_000, ais_temperatures=2000, up_down_steps=20_000,
                         up_down_learning_rate=0.1, up_down_gibbs=5),
}
PUBLISHED = {
  'mnist_up_down': Published('1.25 %', 'Hinton et al., 2006', 'Salakhutdinov & Hinton, 2009'),
  'mnist_500_2000': Published('estimate −84.6', 'Salakhutdinov & Murray, 2008',
                              'a second source that quotes it'),
}


def sampler(shape, gibbs_steps: int) -> Callable:
  """Experiment.sample of a dbn.Params."""
  @functools.partial(jax.jit, static_argnames='num')
  def draw(key, params, num, label):
    v_NV, mean_NV = dbn.sample(key, params, num, gibbs_steps, label)
    return Samples(v_NV.reshape(num, *shape), mean_NV.reshape(num, *shape))

  def sample(key, params, num, label=None):
    if num_labels := dbn.num_labels_of(params):
      indices.check('label', label, num_labels, 'classes')
    return draw(key, params, num, label)

  return sample


def pictures(shape, gibbs_steps: int, num_classes: int) -> Callable:
  """Experiment.pictures: filters, what maximises units, chains, with classes samples of each."""
  sample, apart = sampler(shape, gibbs_steps), max(1, gibbs_steps // 10)

  def of_layers(key, params, dataset):
    mean_V = data.mean_image(dataset.train, dataset.about)
    grids = filters(params, shape) | {
      f'inputs that maximise layer {k + 1}': figures.maximising_inputs(
        lambda v_BV, k=k: dbn.log_odds(params, v_BV)[k], mean_V, len(layer.c_H), shape)
      for k, layer in enumerate(params.layers) if k > 0}
    _, x_SCV = mixing.followed(jax.random.fold_in(key, 1), params, 8, gibbs_steps, 10 * apart, 10)
    strips_CSV = np.swapaxes(np.asarray(x_SCV), 0, 1)
    grids[f'a chain a row, every {apart} Gibbs steps'] = figures.to_grid(
      strips_CSV.reshape(80, -1), shape, 8, 10)
    if num_classes:
      shown = min(num_classes, 20)
      keys = jax.random.split(key, num_classes)
      of_class = np.stack([np.asarray(sample(keys[y], params, 8, y).means) for y in range(shown)])
      grids['samples of each class'] = figures.to_grid(
        of_class.reshape(8 * shown, -1), shape, shown, 8)
    return grids

  return of_layers


@jax.jit
def _accuracy(params, v_NV, label_N, weights_N=None):
  return data.mean(dbn.label_given_visible(params, v_NV).argmax(-1) == label_N, weights_N)


def experiment(*, dataset: DatasetName = 'mnist',
               binarisation: Literal['dynamic', 'threshold', 'static'] = 'dynamic',
               layers: Layers = '500-2000', labels: bool = False,
               propagate: Literal['samples', 'means'] = 'samples',
               negative: Literal['cd', 'pcd'] | custom.Negative = 'pcd',
               estimator: custom.Estimator | None = None, steps: PositiveInt = 1,
               chains: PositiveInt = 100, centring: Fraction | None = 0.01,
               learning_rate: NonNegative = 0.1, upper_learning_rate: NonNegative = 0.05,
               momentum: Decay = 0.0, weight_decay: NonNegative = 0.0,
               batch_size: PositiveInt = 100, num_steps: NumUpdates = 60_000,
               gibbs_steps: NonNegativeInt = 1000, importance_samples: AtLeastTwo = 100,
               ais_chains: PositiveInt = 100, ais_temperatures: PositiveInt = 14_500,
               up_down_steps: NumUpdates | None = None,
               up_down_learning_rate: NonNegative | None = None,
               up_down_gibbs: PositiveInt | None = None) -> Experiment:
  """num_steps is of each layer; upper_learning_rate of all but the first.

  An estimator of one's own is that of each layer, an rbm.Params on the features below it.
  gibbs_steps are those behind a sample, in the top layer and before that in each layer below;
  importance_samples, ais_chains and ais_temperatures are those of the final score (the last two for
  each label). up_down_steps updates of all layers follow the greedy ones; their learning rate is
  0.01 unless given, and their negative phase CD with up_down_gibbs Gibbs steps, or, where there is
  no such number, the chains of `negative`. Longer than 45 lines because labels change batches,
  draws and scores.
  """
  spec, sizes = data.spec(dataset), sizes_of(layers)
  shape = spec.seen_shape
  num_classes = data.classes_of(spec) if labels else 0
  phase = boltzmann.negative_phase(negative, chains=chains, steps=steps)

  def layer(depth):
    num_labels = num_classes if depth == len(sizes) - 1 else 0
    model = label_rbm.model(num_labels) if num_labels else rbm
    ours = contrastive(model, phase, direction=centred(centring))
    return Layer(sizes[depth], custom.chosen(estimator, ours),
                 upper_learning_rate if depth else learning_rate, num_labels, model)

  phases = greedy([layer(depth) for depth in range(len(sizes))], spec=spec,
                  binarisation=binarisation, batch_size=batch_size, num_steps=num_steps,
                  propagate=propagate, momentum=momentum, weight_decay=weight_decay)

  if up_down_steps is None and (up_down_learning_rate, up_down_gibbs) != (None, None):
    raise ValueError('up_down_learning_rate and up_down_gibbs are of the phase that up_down_steps '
                     'asks for: give it too')
  if up_down_steps is not None:
    if len(sizes) < 2:
      raise ValueError(f'up-down unties the layers below the top, and there are none in {layers}')
    fine = phase if up_down_gibbs is None else reconstruction(up_down_gibbs)
    rate = 0.01 if up_down_learning_rate is None else up_down_learning_rate
    phases += (untying(up_down(fine, num_labels=num_classes, direction=centred(centring)), phases,
                       spec=spec, binarisation=binarisation, batch_size=batch_size,
                       num_steps=up_down_steps, learning_rate=rate, momentum=momentum,
                       labels=labels),)

  def validate(key, params, arrays):
    # One sample and a short schedule: good enough to rank the checkpoints of one phase.
    v_NV = data.fixed(arrays, binarisation, spec, split='valid')
    if dbn.num_labels_of(params):
      return {'valid_accuracy': _accuracy(params, v_NV, arrays.labels, arrays.weights)}
    key_z, key_w = jax.random.split(key)
    base_F = units.log_odds(mean_rows(dbn.feature_means(params, v_NV), arrays.weights))
    log_z = annealing.quick_log_partition(key_z, params.layers[-1], base_F, num_chains=100,
                                          betas=annealing.refined(500))
    return {'valid_bound_quick': data.mean(
      dbn.log_weights(key_w, params, v_NV), arrays.weights) - log_z}

  def evaluate(key, params, dataset, report, chains_NF=None, thorough=False):
    key_z, key_w = jax.random.split(key)
    key_mixing = jax.random.fold_in(key, 2)
    train_NV, valid_NV, test_NV = (data.fixed_split(dataset, split, binarisation)
                                   for split in ('train', 'valid', 'test'))
    z, searched = deep.bracket(
      key_z, params, train_NV, dataset.train.labels, num_chains=ais_chains,
      betas=annealing.refined(ais_temperatures), seen=[valid_NV, test_NV], thorough=thorough,
      chains_NF=chains_NF, report=report)
    scores = {'error_percent': 100 * (1 - float(_accuracy(
      params, test_NV, dataset.test.labels, dataset.test.weights)))} if labels else {}
    scores |= mixing.scores(key_mixing, params, train_NV, dataset.train.labels,
                            num_classes=spec.num_classes or 0, gibbs_steps=gibbs_steps)
    return {
      **deep.score(key_w, params, test_NV, z, searched, num_samples=importance_samples,
                   binarisation=binarisation, report=report, scores=scores,
                   weights_N=dataset.test.weights),
      'split': 'test', 'baselines': binary.baseline_scores(dataset, binarisation, search=False)}

  return Experiment(
    dataset=dataset, binarisation=binarisation, phases=phases, evaluate=evaluate,
    thorough=functools.partial(evaluate, thorough=True), validate=validate,
    headline='valid_accuracy' if labels else 'valid_bound_quick',
    pictures=pictures(shape, gibbs_steps, num_classes), sample=sampler(shape, gibbs_steps),
    steps_per_dispatch=100,
    questions=inference.dbn(labels, see=binary.seen(binarisation)),
    model=dbn,
    protocol='variational bound, log Z of the top layer by AIS or exact; trained on the training '
             'split alone, all test images')
