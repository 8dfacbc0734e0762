"""Mixtures: the baselines of every other model.

  python -m launch.train --experiment=mixture --variant=em_100 --workdir=runs/mixture
  python -m launch.evaluate --workdir=runs/mixture

A round of EM, or counting with known labels, is one step of the loop on all training images, binary
images drawn once; the gradient climbs the same posterior by batches of 100, drawn afresh (Adam, the
rate falling linearly to 0). Gaussian classes see images dequantised as in experiments/gaussian.py:
their nats are of a density on [0, 1]^V, not comparable with those of binary images.

Score: exact test nats of all test images, binarised once, mean +- standard deviation over seeds.
No published protocol is followed. Cost: a second for a closed form on digits, 5 seconds for EM, 18
for 5 seeds of it (2 CPU cores shared with other work). --set=components=diagonal has Gaussian
classes of independent pixels.

  independent   -205.85, one seed; one class: independent pixels
  em_10         -167.67, one seed; ten classes by EM
  em_100        -137.03, one seed; a hundred
  gradient      -137.07, one seed; a hundred classes by gradient
  labelled      -170.84, one seed; the ten digits as classes, p(z) their proportions
  full          1939.40, one seed; ten Gaussian classes, the digits: a quadratic classifier
  digits        -17.42 +- 0.07  5 seeds; 80 classes by EM on 8x8 digits, threshold
  digits_independent -25.19     5 seeds, the same number each
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from experiments._common import binary as binary_lib, custom, dequantised, whole
from gen_models import data, indices, inference
from gen_models.domains import DatasetName, NonNegative, NumUpdates, PositiveInt
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.evaluation import baselines, figures, likelihood
from gen_models.experiment import EXACT, Experiment, Phase, Samples
from gen_models.models import mixture

DIGITS = dict(dataset='digits', binarisation='threshold')
VARIANTS = {
  'independent': dict(num_classes=1, num_steps=1),
  'em_10': dict(num_classes=10),
  'em_100': dict(num_classes=100),
  'gradient': dict(num_classes=100, method='gradient', num_steps=10_000),
  'labelled': dict(num_classes=10, method='labelled', num_steps=1),
  'full': dict(num_classes=10, components='full', method='labelled', pseudo_count=30.0,
               num_steps=1),
  'digits': dict(DIGITS, num_classes=80),
  'digits_independent': dict(DIGITS, num_classes=1, num_steps=1),
}


def experiment(*, dataset: DatasetName = 'mnist',
               binarisation: Literal['dynamic', 'threshold', 'static'] = 'dynamic',
               components: Literal['bernoulli', 'diagonal', 'full'] = 'bernoulli',
               num_classes: PositiveInt = 100, method: Literal['em', 'gradient', 'labelled'] = 'em',
               pseudo_count: NonNegative = 1.0, learning_rate: NonNegative = 0.02,
               batch_size: PositiveInt = 100, num_steps: NumUpdates = 100,
               estimator: custom.Estimator | None = None) -> Experiment:
  """Binarisation is of Bernoulli classes; learning_rate and batch_size are of the gradient.

  Longer than 45 lines because there are three ways of training, binary and real-valued data, and
  data with missing values.
  """
  if estimator is not None and method != 'gradient':
    raise ValueError(f'an estimator is for method=gradient, not {method}')
  spec = data.spec(dataset)
  shape = spec.seen_shape
  binary = components == 'bernoulli'
  if method == 'labelled':
    data.classes_of(spec)
  binarisation = binarisation if binary else 'real'

  def fixed(arrays, split):
    """The one draw on which every number is reported."""
    return (data.fixed(arrays, binarisation, spec, split=split, missing=True) if binary
            else dequantised.fixed(arrays, spec, split, missing=True))

  def every_row(key, arrays, step):
    """All images at every step, with their labels where those are the classes, and weights."""
    if isinstance(arrays, data.Window):
      raise ValueError(f'{method} reads all images at every step: run it without streaming')
    return whole.Rows(fixed(arrays, 'train'), arrays.labels if method == 'labelled' else None,
                      arrays.weights)

  batch_at = every_row if method != 'gradient' else (
    data.batches(batch_size, binarisation, spec, missing=True) if binary
    else dequantised.batches(batch_size, spec, missing=True))
  of_missing = with_missing(components, method, pseudo_count, spec) if spec.missing else None
  ours = of_missing or estimators(
    num_classes, components, pseudo_count, spec.rows['train'])[method]()
  log_likelihood = (mixture.observed_log_likelihood if spec.missing else mixture.log_likelihood)
  optimizer = optax.sgd(1.0) if method != 'gradient' else optax.adam(
    optax.linear_schedule(learning_rate, 0.0, num_steps))

  def init(key, arrays, previous_params):
    del previous_params
    x_NV = fixed(arrays, 'train')
    return mixture.init(
      key, mixture.filled(x_NV, arrays.weights) if spec.missing else x_NV, num_classes, components,
      arrays.weights)

  def validate(key, params, arrays):
    del key
    return {'valid_nats': data.mean(log_likelihood(params, fixed(arrays, 'valid')),
                                    arrays.weights)}

  def evaluate(key, params, dataset, report):
    del key, report
    if spec.missing:
      return likelihood.score(
        jax.jit(log_likelihood)(params, fixed(dataset.test, 'test')), kind='exact', split='test',
        binarisation=binarisation, weights_N=dataset.test.weights,
        remarks=['values are missing from rows: nats of what was seen'])
    return scores(params, *(fixed(getattr(dataset, s), s) for s in ('train', 'valid', 'test')),
                  binarisation if binary else dequantised.binarisation(spec),
                  dataset.test.labels if method == 'labelled' else None,
                  binary_lib.weights_of(dataset))

  return Experiment(
    dataset=dataset, binarisation=binarisation,
    phases=(Phase('mixture', init, custom.chosen(estimator, ours), optimizer, batch_at, num_steps,
                  batch_size),),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats',
    pictures=pictures(shape),
    sample=sampler(spec, num_classes if method == 'labelled' else None),
    steps_per_dispatch=200 if method == 'gradient' else 10,
    validate_every=1000 if method == 'gradient' else 10,
    questions=inference.mixture(
      see=binary_lib.seen(binarisation) if binary else dequantised.seen(spec)),
    model=mixture,
    protocol='exact log-likelihood of all test images')


def with_missing(components: str, method: str, pseudo_count, spec: data.Spec):
  """The estimator of rows of which values are missing: they are summed or integrated out.

  Raises:
    ValueError: the method takes none.
  """
  def log_posterior(params, x_BV):
    prior = mixture.log_prior(params, mixture.filled(x_BV), pseudo_count)
    return mixture.observed_log_likelihood(params, x_BV) + prior / spec.rows['train']

  if method == 'gradient':
    return maximum_likelihood(log_posterior)
  if method == 'labelled' or components == 'full':
    raise ValueError(f'values are missing in {spec.name}: EM of diagonal and Bernoulli classes '
                     'takes them, and --set=method=gradient of any')
  return whole.fixed_point(lambda params, rows: mixture.observed_em_step(
    params, rows.x_NV, pseudo_count, rows.weights_N), mixture.observed_log_likelihood)


def estimators(num_classes: int, components: str, pseudo_count,
               num_images: int) -> dict[str, Callable]:
  """method -> the estimator of that name. One prior for all num_images of the training split."""
  def log_posterior(params, x_BV):
    return mixture.log_likelihood(params, x_BV) + (
      mixture.log_prior(params, x_BV, pseudo_count) / num_images)

  def by_label(params, rows):
    del params
    return mixture.fit_labelled(rows.x_NV, rows.label_N, num_classes, components=components,
                                pseudo_count=pseudo_count, weights_N=rows.weights_N)

  return {
    'gradient': lambda: maximum_likelihood(log_posterior),
    'em': lambda: whole.fixed_point(lambda params, rows: mixture.em_step(
      params, rows.x_NV, pseudo_count, rows.weights_N), mixture.log_likelihood),
    'labelled': lambda: whole.fixed_point(by_label, mixture.log_likelihood)}


def scores(params, train_NV, valid_NV, test_NV, binarisation: str, label_N=None,
           weights: baselines.Weights = baselines.Weights()) -> dict:
  """Exact test nats beside the baseline; with labels, the error of the most probable class."""
  log_p = jax.jit(mixture.log_likelihood)
  score = {**likelihood.score(log_p(params, test_NV), kind='exact', binarisation=binarisation,
                              weights_N=weights.test),
           'split': 'test', 'train_nats': float(data.mean(log_p(params, train_NV), weights.train))}
  if label_N is not None:
    guess_N = jnp.argmax(mixture.log_joint(params, test_NV), axis=-1)
    score['scores'] = {'test_error': float(data.mean(guess_N != label_N, weights.test))}
  return score | {'baselines': {
    'full Gaussian, shrunk': baselines.full_gaussian(
      train_NV, valid_NV, test_NV, binarisation=binarisation, weights=weights)}
    if binarisation.startswith('real') else {
      'independent pixels': baselines.independent_pixels(
        train_NV, test_NV, binarisation=binarisation, weights=weights)}}


def sampler(spec: data.Spec, num_labels: int | None) -> Callable:
  """Experiment.sample: of all classes together or, where labels gave them, of one."""
  @functools.partial(jax.jit, static_argnames=('num', 'label'))
  def draw(key, params, num, label):
    z_N, x_NV = mixture.sample(key, params, num, label)
    shown = (data.clipped(x, spec).reshape(num, *spec.seen_shape)
             for x in (x_NV, mixture.visible_mean(params, z_N)))
    return Samples(*shown)

  def sample(key, params, num, label):
    if label is not None and num_labels is None:
      raise ValueError(f'no class {label}: classes found without labels have no names; '
                       'train the variant labelled')
    if label is not None:
      indices.check('label', label, num_labels, 'classes')
    return draw(key, params, num, label)

  return sample


def pictures(shape) -> Callable:
  """Experiment.pictures: the mean image of each class, the most probable first."""
  def classes(key, params, dataset):
    del key, dataset
    order_Q = jnp.argsort(-params.log_pi_Q)
    columns = min(10, len(order_Q))
    return {'classes': figures.to_grid(
      jnp.clip(mixture.visible_mean(params, order_Q), 0, 1), shape,
      min(10, len(order_Q) // columns), columns)}
  return classes
