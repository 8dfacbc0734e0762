"""Images as densities on [0, 1]^V: dequantised batches, splits and exact scores.

An image of integers x is seen as the reals (x + u) / (levels + 1), u uniform on [0, 1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gen_models import data
from gen_models.data.binarise import Split
from gen_models.evaluation import baselines, likelihood
from gen_models.models import gaussian

BINARISATION = 'real, dequantised'
PROTOCOL = 'exact density of test images in [0, 1], dequantised once by uniform noise'


def fixed(arrays, levels: int, split: Split) -> jax.Array:
  """A split as vectors [N, V]: the one draw on which every number is reported."""
  images = jnp.asarray(arrays.images)
  return gaussian.dequantise(data.split_key(split), images.reshape(len(images), -1), levels)


def batches(batch_size: int, levels: int) -> Callable:
  """Phase.batch_at: noise is drawn afresh at every step."""
  plain = data.batches(batch_size, 'real', levels)

  def batch_at(key, arrays, step):
    x_BV = levels * plain(key, arrays, step)
    return gaussian.dequantise(jax.random.fold_in(key, step), x_BV, levels)

  return batch_at


def seen(levels: int) -> Callable:
  """Questions.see: rows in [0, 1] dequantised once."""
  return lambda key, x_ND: gaussian.dequantise(key, levels * x_ND, levels)


def nats(log_density: Callable, params, dataset: data.Dataset) -> tuple[dict, float]:
  """The exact score of test images under log_density(params, x_NV), the mean of training images."""
  log_p = jax.jit(log_density)
  test = log_p(params, fixed(dataset.test, dataset.levels, 'test'))
  train = log_p(params, fixed(dataset.train, dataset.levels, 'train'))
  return likelihood.score(test, kind='exact', binarisation=BINARISATION), float(train.mean())


def evaluate(log_density: Callable, params, dataset: data.Dataset) -> dict:
  """Experiment.evaluate: `nats`, beside one full Gaussian."""
  test, train_nats = nats(log_density, params, dataset)
  return {**test, 'split': 'test', 'train_nats': train_nats, 'baselines': beside(dataset)}


def beside(dataset: data.Dataset) -> dict:
  """The baseline of densities: one full Gaussian, its shrinkage chosen on validation images."""
  splits = (fixed(getattr(dataset, split), dataset.levels, split)
            for split in ('train', 'valid', 'test'))
  return {'full Gaussian, shrunk': baselines.full_gaussian(*splits, binarisation=BINARISATION)}
