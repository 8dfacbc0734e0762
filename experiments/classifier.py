"""The benefit of unsupervised pretraining for a classifier: 784-500-500-2000-10.

  python -m launch.train --experiment=classifier --variant=pretrained --workdir=runs/pretrained
  python -m launch.evaluate --workdir=runs/pretrained

Layers of logistic units are pretrained greedily as RBMs (CD-1, means passed up, one training phase
for each layer), then all weights are fine-tuned by backpropagation of the softmax's cross-entropy
with Adam, batch 100, the learning rate falling linearly to 0. Pretraining sees every training image
and no label. Pixels are real values in [0, 1] in pretraining and scoring; in fine-tuning they are
by default drawn afresh as bits at every step, a noise that reduces overfitting. Without pretraining
the weights are initialised as by Glorot & Bengio (2010), times 4 for logistic units.

Score: error in % on all test images (a classifier has no likelihood of images), mean +- standard
deviation over seeds. Published (Hinton et al., 2006, as Salakhutdinov & Hinton, 2009, quote it):
1.2 % for a fine-tuned deep belief network, 1.6 % for backpropagation from random weights.

  pretrained              1.29 %, one seed; 50,000 labels, --set=pretrain_steps=10000
                          --set=num_steps=15000
  random_init             1.38 %, one seed; the same length
  digits                  3.33 %, one seed; 64-128-128-10 on 8x8 digits, 1,297 labels; 300 images
  digits_random           2.00 %, one seed; without pretraining
  digits_labels_100       7.89 +- 0.19 %, 3 seeds; the first 10 of each class
  digits_labels_100_random  7.78 +- 0.19 %, 3 seeds; without pretraining

Whether pretraining pays at few labels is asked with dropout and weight decay chosen for either side
by the error on all validation images, mean over seeds, and the first of equals:

  python -m launch.sweep --experiment=classifier --seeds=3 --workdir=runs/few \\
      --variants=digits_labels_100,digits_labels_100_random \\
      --set=dropout=0.0,0.3,0.6 --set=weight_decay=0.0,0.3

On MNIST pretraining pays where labels are few (few_labels in RESULTS.md, three seeds, dropout
chosen on validation): 100 labels 18.5 % against 21.1 %, 1,000 7.7 against 8.7, 10,000 3.05 against
3.70.

  python -m launch.sweep --experiment=classifier --seeds=3 --workdir=runs/few_labels \\
      --set=num_labelled=100,1000,10000 --set=pretrain=true,false --set=dropout=0.0,0.5 \\
      --set=num_steps=3000 --set=pretrain_steps=3000

Cost on 2 CPU cores shared with other work: digits 30 seconds, pretrained 25 minutes, the sweep of
MNIST two hours of one.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import custom
from experiments._common.stacks import filters, pixels, pretraining
from gen_models import data, inference
from gen_models.domains import (
  DatasetName,
  Decay,
  Fraction,
  Layers,
  NonNegative,
  NumUpdates,
  PositiveInt,
  Share,
  sizes_of,
)
from gen_models.estimators.base import from_loss
from gen_models.evaluation import figures, likelihood, monitors
from gen_models.experiment import Experiment, Phase, Published
from gen_models.models import dbn, feedforward, rbm
from gen_models.models.rows import mean_rows

_DIGITS = dict(dataset='digits', layers='128-128', num_steps=4000)
VARIANTS = {
  'pretrained': {},
  'random_init': dict(pretrain=False),
  'digits': _DIGITS,
  'digits_random': dict(_DIGITS, pretrain=False),
  'digits_labels_100': dict(_DIGITS, num_labelled=100),
  'digits_labels_100_random': dict(_DIGITS, num_labelled=100, pretrain=False),
}
_QUOTED = 'Salakhutdinov & Hinton, 2009, who quote them'
PUBLISHED = {
  'pretrained': Published('1.2 %', 'Hinton et al., 2006', _QUOTED),
  'random_init': Published('1.6 %', 'Hinton et al., 2006', _QUOTED),
}


def balanced_rows(label_N, num_rows: int, num_classes: int) -> jax.Array:
  """The first num_rows / Q rows of each class, int32 [num_rows].

  In order of rank within the class, so when a class runs out the others fill in.
  """
  label_N = jnp.asarray(label_N)
  member_NQ = jax.nn.one_hot(label_N, num_classes, dtype=jnp.int32)
  rank_N = jnp.sum(jnp.cumsum(member_NQ, axis=0) * member_NQ, axis=1)
  return jnp.argsort(rank_N * num_classes + label_N)[:num_rows].astype(jnp.int32)


def labelled_batches(batch_size: int, binarisation: str, spec: data.Spec,
                     num_labelled: int | None):
  """data.batches with labels, of all rows or only of `balanced_rows`."""
  every = data.batches(batch_size, binarisation, spec, with_labels=True)
  if num_labelled is None:
    return every
  if num_labelled > spec.rows['train']:
    raise ValueError(f'num_labelled={num_labelled}, and {spec.name} has {spec.rows["train"]} '
                     'training rows: give fewer, or leave it out')

  def batch_at(key, arrays, step):
    if isinstance(arrays, data.Window):
      raise ValueError('a few labelled rows are picked from resident data: train without --stream')
    if arrays.weights is not None:
      raise ValueError('a few labelled rows are picked among rows that weigh the same: leave '
                       'num_labelled out, or the weights of the data')
    rows = balanced_rows(arrays.labels, num_labelled, spec.num_classes)
    few = data.Arrays(jnp.asarray(arrays.rows)[rows], jnp.asarray(arrays.labels)[rows])
    return every(key, few, step)

  return batch_at


def cross_entropy(dropout=None):
  """The loss (key, params, (x, y)) -> -mean log p(y | x), nats; `dropout` as feedforward.dropped.

  None computes no mask at all.
  """
  def loss(key, params, batch):
    x_BV, y_B = batch
    f_BQ = (feedforward.forward(params, x_BV) if dropout is None else
            feedforward.dropped(key, params, x_BV, dropout))
    log_p_BQ = jax.nn.log_softmax(f_BQ, axis=-1)
    picked_BQ = jax.nn.one_hot(y_B, log_p_BQ.shape[-1])
    wrong_B = log_p_BQ.argmax(-1) != y_B
    return -mean_rows(jnp.sum(log_p_BQ * picked_BQ, axis=-1)), {
      'train_error_percent': 100 * jnp.mean(wrong_B)}

  return loss


_log_p = jax.jit(feedforward.class_log_probabilities)


def log_p_of(params, dataset: data.Dataset, binarisation: str,
             split: Literal['test', 'valid'] = 'test') -> tuple[np.ndarray, np.ndarray]:
  """log p(y | x) of every class for every image of a split, [N, Q], and their labels, [N]."""
  x_NV = data.fixed_split(dataset, split, binarisation)
  return np.asarray(_log_p(params, x_NV)), np.asarray(getattr(dataset, split).labels)


def error_percent(log_p_NQ, y_N, weights_N=None) -> float:
  """Rows whose likeliest class is not theirs, in %; weighted where rows are."""
  return 100 * float(np.average(log_p_NQ.argmax(-1) != y_N, weights=weights_N))


def scored(params, dataset: data.Dataset, binarisation: str) -> dict:
  """Errors and cross-entropy of test rows, the error of validation rows; weighted as they are."""
  log_p_NQ, y_N = log_p_of(params, dataset, binarisation)
  weights_N = dataset.test.weights
  return likelihood.no_likelihood(
    'a classifier', num_images=len(y_N), binarisation=binarisation, split='test',
    weights_N=weights_N, scores={
      'error_percent': error_percent(log_p_NQ, y_N, weights_N),
      'valid_error_percent': error_percent(
        *log_p_of(params, dataset, binarisation, 'valid'), dataset.valid.weights),
      'cross_entropy': -float(np.average(
        log_p_NQ[np.arange(len(y_N)), y_N], weights=weights_N))})


def reconstruction_error(key, params: dbn.Params, x_NV, weights_N=None) -> jax.Array:
  """While a layer is pretrained: the squared reconstruction error of its input, for each row."""
  v_NV = dbn.feature_means(params, x_NV)
  h_NH = rbm.sample_hidden(key, params.layers[-1], v_NV)
  gap_NV = v_NV - rbm.visible_mean(params.layers[-1], h_NH)
  return data.mean(jnp.sum(gap_NV**2, axis=-1), weights_N)


def pictures(binarisation: str, key, params, dataset) -> dict:
  """The images that the net is most wrong about, and the filters of its first layer."""
  del key
  shape = dataset.about.seen_shape
  log_p_NQ, y_N = log_p_of(params, dataset, binarisation)
  worst = np.argsort(log_p_NQ[np.arange(len(y_N)), y_N])[:64]
  first, *_ = params.layers
  stack = dbn.Params((rbm.Params(first.w_IO, jnp.zeros(len(first.w_IO)), first.b_O),))
  images = pixels(data.Arrays(dataset.test.rows[worst]), dataset.about)
  shown = figures.to_grid(images, shape, -(-len(worst) // 8), 8)
  return {'test images it is most wrong about': shown, **filters(stack, shape)}


def experiment(*, dataset: DatasetName = 'mnist',
               binarisation: Literal['real', 'dynamic', 'threshold', 'static'] = 'dynamic',
               layers: Layers = '500-500-2000', pretrain: bool = True,
               num_labelled: PositiveInt | None = None, steps: PositiveInt = 1,
               centring: Fraction | None = 0.01, pretrain_learning_rate: NonNegative = 0.1,
               pretrain_momentum: Decay = 0.5, pretrain_weight_decay: NonNegative = 2e-4,
               learning_rate: NonNegative = 1e-3, weight_decay: NonNegative = 0.0,
               batch_size: PositiveInt = 100, num_steps: NumUpdates = 25_000,
               pretrain_steps: NumUpdates | None = None,
               dropout: Share | None = None,
               estimator: custom.Estimator | None = None) -> Experiment:
  """num_steps is that of each phase, unless pretrain_steps is given for the RBMs.

  binarisation is that of the images fine-tuning sees; num_labelled None means all. weight_decay is
  that of Adam (decoupled, on the weights); dropout leaves out hidden units while fine-tuning, for
  which an estimator of one's own may stand.
  """
  spec, sizes = data.spec(dataset), sizes_of(layers)
  real = 'static' if spec.kind == 'binary' else 'real'
  phases = pretraining(
    [(rbm, size, pretrain_learning_rate) for size in sizes], steps=steps, centring=centring,
    spec=spec, binarisation=real, batch_size=batch_size,
    num_steps=num_steps if pretrain_steps is None else pretrain_steps,
    momentum=pretrain_momentum, weight_decay=pretrain_weight_decay) if pretrain else ()

  def init(key, arrays, previous_params):
    if previous_params is None:
      return feedforward.init(key, [arrays.rows[0].size, *sizes, spec.num_classes])
    return feedforward.classifier(previous_params.layers, spec.num_classes)

  optimizer = optax.adamw(optax.linear_schedule(learning_rate, 0.0, num_steps),
                          weight_decay=weight_decay, mask=lambda params: jax.tree.map(
                            lambda x: x.ndim == 2, params))
  ours = from_loss(cross_entropy(dropout))
  finetune = Phase('finetune', init, custom.chosen(estimator, ours), optimizer,
                   labelled_batches(batch_size, binarisation, spec, num_labelled), num_steps,
                   batch_size, alarms=monitors.UNIT_ALARMS,
                   monitor=monitors.of_network(
                     lambda params, arrays, split: feedforward.hidden_units(
                       params, data.fixed(arrays, real, spec, split=split))))

  def validate(key, params, arrays):
    x_NV = data.fixed(arrays, real, spec, split='valid')
    if isinstance(params, dbn.Params):
      return {'valid_reconstruction_error': reconstruction_error(key, params, x_NV, arrays.weights)}
    right_N = feedforward.class_log_probabilities(params, x_NV).argmax(-1) == arrays.labels
    return {'valid_accuracy': data.mean(right_N, arrays.weights)}

  def evaluate(key, params, dataset, report):
    del key, report
    return scored(params, dataset, real)

  return Experiment(
    dataset=dataset, binarisation=binarisation, phases=(*phases, finetune), evaluate=evaluate,
    validate=validate, headline='valid_accuracy', pictures=functools.partial(pictures, real),
    steps_per_dispatch=100, questions=inference.classifier(), model=feedforward,
    protocol='error on all test images, last parameters, hyperparameters chosen on validation')
