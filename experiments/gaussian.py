"""Gaussians of dequantised images: closed forms, and the same by gradient.

  python -m launch.train --experiment=gaussian --variant=full --workdir=runs/gaussian
  python -m launch.evaluate --workdir=runs/gaussian

An image of integers x is seen as the reals (x + u) / (levels + 1), u uniform on [0, 1): drawn from
the run's key for training, afresh at every step, and once for scoring. A closed form is one step of
the loop on all training images. Shrinkage is towards the scaled identity.

Score: exact test nats of a density on [0, 1]^V, of all test images, mean +- standard deviation over
seeds. They are of another space than the nats of binary images and not comparable with them;
the uniform density scores 0. Cost: 2 seconds a closed form on digits, 20 on MNIST; by gradient 10
seconds on digits (2 CPU cores shared with other work).

  full                49.69  one seed; the maximum of the likelihood
  shrunk              49.80 +- 0.02  5 seeds (of the dequantisation); shrinkage 0.001, chosen on
                      digits' validation split
  mnist               1316.42  one seed; shrunk, on MNIST
  diagonal            29.91  one seed
  low_rank            35.35  one seed; rank 30, probabilistic PCA
  full_gradient       50.02  one seed; Adam on batches of 100 from the moments of a uniform pixel
  diagonal_gradient   29.90  one seed
  factor_analysis     49.58  one seed; rank 30, each pixel its own noise, by gradient
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from experiments._common import custom, dequantised, whole
from gen_models import data, inference
from gen_models.domains import DatasetName, Fraction, NonNegative, NumUpdates, PositiveInt
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.evaluation import figures
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gaussian

VARIANTS = {
  'full': dict(covariance='full'),
  'shrunk': dict(covariance='full', shrinkage=0.001),
  'mnist': dict(dataset='mnist', covariance='full', shrinkage=0.001),
  'diagonal': dict(covariance='diagonal'),
  'low_rank': dict(covariance='low_rank'),
  'full_gradient': dict(covariance='full', method='gradient', num_steps=20_000),
  'diagonal_gradient': dict(covariance='diagonal', method='gradient', num_steps=20_000),
  'factor_analysis': dict(covariance='low_rank', method='gradient', num_steps=20_000),
}


def directions(key, params, dataset) -> dict:
  """The mean, and two standard deviations along each of seven principal directions."""
  del key
  u_VR, variance_R, _ = gaussian.eigenbasis(gaussian.covariance_of(params), 7)
  steps_S = jnp.linspace(-2, 2, 8)[:, None]
  spec = dataset.about
  x_RSV = params.mean_V + steps_S * jnp.sqrt(variance_R)[:, None, None] * u_VR.T[:, None]
  return {'principal directions': figures.to_grid(
    data.clipped(x_RSV, spec).reshape(56, -1), spec.seen_shape, 7, 8)}


def experiment(*, dataset: DatasetName = 'digits',
               covariance: Literal['full', 'diagonal', 'low_rank'] = 'full', rank: PositiveInt = 30,
               method: Literal['closed', 'gradient'] = 'closed', shrinkage: Fraction = 0.0,
               learning_rate: NonNegative = 0.01, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 1,
               estimator: custom.Estimator | None = None) -> Experiment:
  """Shrinkage is of the closed form; learning rate (falling linearly to 0) and batch size are of
  the gradient, for which an estimator of one's own may stand.

  Longer than 45 lines because the closed form and the gradient are two ways of training.
  """
  if estimator is not None and method != 'gradient':
    raise ValueError(f'an estimator is for method=gradient, not {method}')
  spec = data.spec(dataset)
  shape = spec.seen_shape
  data.check_view('real', spec)

  def every_image(key, arrays, step):
    if isinstance(arrays, data.Window):
      raise ValueError('a closed form needs all images at once: run it without streaming')
    x_NV = arrays.rows.reshape(len(arrays.rows), -1)
    if dequantised.is_continuous(spec):
      return whole.Rows(data.seen(None, x_NV, 'real', spec), weights_N=arrays.weights)
    return whole.Rows(gaussian.dequantise(jax.random.fold_in(key, step), x_NV, spec.levels),
                      weights_N=arrays.weights)

  if method == 'gradient':
    batch_at = dequantised.batches(batch_size, spec)
    ours = maximum_likelihood(gaussian.log_likelihood)
    optimizer = optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps))
  else:
    batch_at, optimizer = every_image, optax.sgd(1.0)
    ours = whole.fixed_point(lambda _, rows: gaussian.fit(
      rows.x_NV, covariance, shrinkage, rank, rows.weights_N), gaussian.log_likelihood)

  def init(key, arrays, previous_params):
    del arrays, previous_params
    return gaussian.init(key, math.prod(shape), covariance, rank)

  def validate(key, params, arrays):
    del key
    x_NV = dequantised.fixed(arrays, spec, 'valid')
    return {'valid_nats': data.mean(gaussian.log_likelihood(params, x_NV), arrays.weights)}

  def evaluate(key, params, dataset, report):
    del key, report
    return dequantised.evaluate(gaussian.log_likelihood, params, dataset)

  unanswered = {} if covariance == 'low_rank' else {
    'reconstruction': 'only a covariance of low rank has directions to project on'}

  def draw(key, params, num):
    x_NV = data.clipped(gaussian.sample(key, params, num), spec)
    return x_NV, x_NV

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('gaussian', init, custom.chosen(estimator, ours), optimizer, batch_at, num_steps,
                  batch_size),),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats',
    pictures=directions,
    sample=unlabelled(draw, shape), steps_per_dispatch=200, validate_every=1000,
    questions=inference.gaussian(see=dequantised.seen(spec), **unanswered),
    model=gaussian,
    protocol=dequantised.PROTOCOL)
