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
  mnist               shrunk on MNIST
  diagonal            29.91  one seed
  low_rank            35.35  one seed; rank 30, probabilistic PCA
  full_gradient       50.03  one seed; Adam on batches of 100 from the moments of a uniform pixel
  diagonal_gradient   29.91  one seed
  factor_analysis     49.58  one seed; rank 30, each pixel its own noise, by gradient
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from gen_models import data
from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.evaluation import baselines, likelihood
from gen_models.experiment import Experiment, Phase, Samples
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
BINARISATION = 'real, dequantised'


def experiment(*, dataset: Literal['mnist', 'fashion_mnist', 'digits'] = 'digits',
               covariance: Literal['full', 'diagonal', 'low_rank'] = 'full', rank: int = 30,
               method: Literal['closed', 'gradient'] = 'closed', shrinkage: float = 0.0,
               learning_rate: float = 0.01, batch_size: int = 100,
               num_steps: int = 1) -> Experiment:
  """Shrinkage is of the closed form; learning rate (falling linearly to 0) and batch size are of
  the gradient."""
  levels, side = data.levels(dataset), 8 if dataset == 'digits' else 28

  def batch_at(key, arrays, step):
    if method == 'gradient':
      x_BV = levels * data.batches(batch_size, 'real', levels)(key, arrays, step)
    elif isinstance(arrays, data.Window):
      raise ValueError('a closed form needs all images at once: run it without streaming')
    else:
      x_BV = arrays.images.reshape(len(arrays.images), -1)
    return gaussian.dequantise(jax.random.fold_in(key, step), x_BV, levels)

  estimator, optimizer = maximum_likelihood(gaussian.log_likelihood), optax.adam(
    optax.linear_schedule(learning_rate, 0.0, num_steps))
  if method == 'closed':
    estimator, optimizer = fixed_point(
      lambda _, x_NV: gaussian.fit(x_NV, covariance, shrinkage, rank),
      gaussian.log_likelihood), optax.sgd(1.0)

  def init(key, arrays, previous_params):
    del arrays, previous_params
    return gaussian.init(key, side**2, covariance, rank)

  def fixed(arrays):
    """The one draw on which every number is reported."""
    images = jnp.asarray(arrays.images)
    return gaussian.dequantise(jax.random.key(0), images.reshape(len(images), -1), levels)

  def validate(key, params, arrays):
    del key
    return {'valid_nats': jnp.mean(gaussian.log_likelihood(params, fixed(arrays)))}

  def evaluate(key, params, dataset, report):
    del key, report
    train, valid, test = map(fixed, (dataset.train, dataset.valid, dataset.test))
    log_p = jax.jit(gaussian.log_likelihood)
    return {
      **likelihood.score(log_p(params, test), kind='exact', binarisation=BINARISATION),
      'split': 'test', 'train_nats': float(log_p(params, train).mean()),
      'baselines': {'full Gaussian, shrunk': baselines.full_gaussian(
        train, valid, test, binarisation=BINARISATION)}}

  @functools.partial(jax.jit, static_argnames='num')
  def draw(key, params, num):
    x_NV = gaussian.sample(key, params, num)
    return jnp.clip(x_NV, 0, 1).reshape(num, side, side)

  def sample(key, params, num, label):
    if label is not None:
      raise ValueError('a Gaussian has no classes to condition on')
    x_NYX = draw(key, params, num)
    return Samples(x_NYX, x_NYX)

  def pictures(key, params, dataset):
    """The mean, and two standard deviations along each of seven principal directions."""
    del key, dataset
    u_VR, variance_R, _ = gaussian.eigenbasis(gaussian.covariance_of(params), 7)
    steps_S = jnp.linspace(-2, 2, 8)[:, None]
    x_RSV = params.mean_V + steps_S * jnp.sqrt(variance_R)[:, None, None] * u_VR.T[:, None]
    return {'principal directions': jnp.clip(x_RSV, 0, 1).reshape(7, 8, side, side)}

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('gaussian', init, estimator, optimizer, batch_at, num_steps, batch_size),),
    evaluate=evaluate, validate=validate, headline='valid_nats', pictures=pictures, sample=sample,
    steps_per_dispatch=200, validate_every=1000,
    protocol='exact density of test images in [0, 1], dequantised once by uniform noise')
