"""Mixtures: the baselines that every other model is printed beside.

  python -m launch.train --experiment=mixture --variant=em_100 --workdir=runs/mixture
  python -m launch.evaluate --workdir=runs/mixture

A round of EM, or counting with known labels, is one step of the loop on all training images, binary
images drawn once; the gradient climbs the same posterior by batches of 100, drawn afresh (Adam, the
rate falling linearly to 0). Gaussian classes see images dequantised as in experiments/gaussian.py:
their nats are of a density on [0, 1]^V, not comparable with those of binary images.

Score: exact test nats of all test images, binarised once, mean +- standard deviation over seeds.
No published protocol is followed. Cost: a second for a closed form on digits, 5 seconds for EM, 18
for 5 seeds of it (2 CPU cores shared with other work). A dash is not measured.

  independent   –  one class: independent pixels
  em_10         –
  em_100        –
  gradient      –  100 classes by gradient
  labelled      –  the ten digits as classes, p(z) their proportions
  diagonal      –  100 Gaussian classes
  full          –  10 Gaussian classes, the digits: a quadratic classifier
  digits        -17.42 +- 0.07  5 seeds, 80 classes by EM on 8x8 digits, threshold
  digits_independent -25.19
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from gen_models import data
from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.evaluation import baselines, figures, likelihood
from gen_models.experiment import Experiment, Phase, Samples
from gen_models.models import gaussian, mixture

DIGITS = dict(dataset='digits', binarisation='threshold')
VARIANTS = {
  'independent': dict(num_classes=1, num_steps=1),
  'em_10': dict(num_classes=10),
  'em_100': dict(num_classes=100),
  'gradient': dict(num_classes=100, method='gradient', num_steps=10_000),
  'labelled': dict(num_classes=10, method='labelled', num_steps=1),
  'diagonal': dict(num_classes=100, components='diagonal'),
  'full': dict(num_classes=10, components='full', method='labelled', pseudo_count=30.0,
               num_steps=1),
  'digits': dict(DIGITS, num_classes=80),
  'digits_independent': dict(DIGITS, num_classes=1, num_steps=1),
}


def experiment(*, dataset: Literal['mnist', 'fashion_mnist', 'binarized_mnist', 'digits'] = 'mnist',
               binarisation: Literal['dynamic', 'threshold', 'static'] = 'dynamic',
               components: Literal['bernoulli', 'diagonal', 'full'] = 'bernoulli',
               num_classes: int = 100, method: Literal['em', 'gradient', 'labelled'] = 'em',
               pseudo_count: float = 1.0, learning_rate: float = 0.02, batch_size: int = 100,
               num_steps: int = 100) -> Experiment:
  """Binarisation is of Bernoulli classes; learning_rate and batch_size are of the gradient."""
  levels, side = data.levels(dataset), 8 if dataset == 'digits' else 28
  binary, labelled = components == 'bernoulli', method == 'labelled'
  binarisation = binarisation if binary else 'real'

  def images(key, x_NYX):
    """Whole images as the classes see them."""
    if binary:
      return data.binarise(key, x_NYX.reshape(len(x_NYX), -1), binarisation, levels)
    return gaussian.dequantise(key, x_NYX.reshape(len(x_NYX), -1), levels)

  def fixed(arrays):
    """The one draw on which every number is reported."""
    return images(jax.random.key(0), jnp.asarray(arrays.images))

  def batch_at(key, arrays, step):
    if method == 'gradient':
      x_BV = data.batches(batch_size, binarisation, levels)(key, arrays, step)
      step_key = jax.random.fold_in(key, step)
      return x_BV if binary else gaussian.dequantise(step_key, levels * x_BV, levels)
    if isinstance(arrays, data.Window):
      raise ValueError(f'{method} reads all images at every step: run it without streaming')
    return (fixed(arrays), arrays.labels) if labelled else fixed(arrays)

  num_images = 1297 if dataset == 'digits' else 50_000  # of the training split, one prior for all

  def log_posterior(params, x_BV):
    return mixture.log_likelihood(params, x_BV) + (
      mixture.log_prior(params, x_BV, pseudo_count) / num_images)

  estimator, optimizer = maximum_likelihood(log_posterior), optax.adam(
    optax.linear_schedule(learning_rate, 0.0, num_steps))
  if method == 'em':
    estimator, optimizer = fixed_point(
      lambda params, x_NV: mixture.em_step(params, x_NV, pseudo_count),
      mixture.log_likelihood), optax.sgd(1.0)
  elif labelled:
    estimator, optimizer = fixed_point(
      lambda _, batch: mixture.fit_labelled(*batch, num_classes, components=components,
                                            pseudo_count=pseudo_count),
      lambda params, batch: mixture.log_likelihood(params, batch[0])), optax.sgd(1.0)

  def init(key, arrays, previous_params):
    del previous_params
    return mixture.init(key, fixed(arrays), num_classes, components)

  def validate(key, params, arrays):
    del key
    return {'valid_nats': jnp.mean(mixture.log_likelihood(params, fixed(arrays)))}

  def evaluate(key, params, dataset, report):
    del key, report
    train, valid, test = map(fixed, (dataset.train, dataset.valid, dataset.test))
    log_p, kind = jax.jit(mixture.log_likelihood), binarisation if binary else 'real, dequantised'
    score = {**likelihood.score(log_p(params, test), kind='exact', binarisation=kind),
             'split': 'test', 'train_nats': float(log_p(params, train).mean())}
    if labelled:
      guess_N = jnp.argmax(mixture.log_joint(params, test), axis=-1)
      score['scores'] = {'test_error': float(jnp.mean(guess_N != dataset.test.labels))}
    return score | {'baselines': {
      'independent pixels': baselines.independent_pixels(train, test, binarisation=kind)}
      if binary else {
        'full Gaussian, shrunk': baselines.full_gaussian(train, valid, test, binarisation=kind)}}

  @functools.partial(jax.jit, static_argnames=('num', 'label'))
  def draw(key, params, num, label):
    z_N, x_NV = mixture.sample(key, params, num, label)
    shown = (jnp.clip(x, 0, 1).reshape(num, side, side)
             for x in (x_NV, mixture.visible_mean(params, z_N)))
    return Samples(*shown)

  def sample(key, params, num, label):
    if label is not None and not (labelled and 0 <= label < num_classes):
      raise ValueError(f'no class {label}: ' + (f'there are {num_classes}' if labelled else (
        'classes found without labels have no names; train the variant labelled')))
    return draw(key, params, num, label)

  def pictures(key, params, dataset):
    """The mean image of each class, the most probable first."""
    del key, dataset
    order_Q = jnp.argsort(-params.log_pi_Q)
    columns = min(10, num_classes)
    return {'classes': figures.to_grid(
      jnp.clip(mixture.visible_mean(params, order_Q), 0, 1), (side, side),
      min(10, num_classes // columns), columns)}

  return Experiment(
    dataset=dataset, binarisation=binarisation,
    phases=(Phase('mixture', init, estimator, optimizer, batch_at, num_steps, batch_size),),
    evaluate=evaluate, validate=validate, headline='valid_nats', pictures=pictures, sample=sample,
    steps_per_dispatch=200 if method == 'gradient' else 10,
    validate_every=1000 if method == 'gradient' else 10,
    protocol='exact log-likelihood of all test images')
