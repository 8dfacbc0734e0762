"""Rows as densities: dequantised images on [0, 1]^V, or real values as they are; exact scores.

An image of integers x is seen as the reals (x + u) / (levels + 1), u uniform on [0, 1). Rows of
real values have no noise added: their density is that of what the model sees, in its units.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import kept
from experiments._common.holes import whole_rows
from gen_models import data
from gen_models.data.binarise import Split
from gen_models.evaluation import baselines, likelihood
from gen_models.models import gaussian

BINARISATION = 'real, dequantised'
PROTOCOL = 'exact density of test images in [0, 1], dequantised once by uniform noise'


def is_continuous(spec: data.Spec) -> bool:
  """Whether rows are real values already."""
  return spec.kind == 'real' and spec.low is not None


def binarisation(spec: data.Spec) -> str:
  """How a score names what was seen."""
  return 'real' if is_continuous(spec) else BINARISATION


def fixed(arrays, spec: data.Spec, split: Split, *, missing: bool = False) -> jax.Array:
  """A split as vectors [N, V]: the one draw on which every number is reported.

  Args:
    arrays, spec: of the data.
    split: name of the split.
    missing: whether the model takes nan for what is missing.
  """
  data.check_view('real', spec, missing=missing)
  if is_continuous(spec):
    return data.fixed(arrays, 'real', spec, missing=missing)
  images = jnp.asarray(arrays.rows).reshape(len(arrays.rows), -1)
  if spec.missing:  # then stored as reals in [0, 1]
    images = spec.levels * images
  return gaussian.dequantise(data.split_key(split), images, spec.levels)


def seen_whole(arrays, spec: data.Spec, split: Split) -> tuple[jax.Array, np.ndarray | None]:
  """(`fixed` rows, their weights or None) of the rows without holes.

  Raises:
    ValueError: values are missing from every row.
  """
  x_NV, weights_N = fixed(arrays, spec, split, missing=True), arrays.weights
  return whole_rows(x_NV, weights_N, spec, split)


def batches(batch_size: int, spec: data.Spec, *, missing: bool = False) -> Callable:
  """Phase.batch_at: noise is drawn afresh at every step; `missing` as of `fixed`."""
  plain = data.batches(batch_size, 'real', spec, missing=missing)
  if is_continuous(spec):
    return plain

  def batch_at(key, arrays, step):
    x_BV = spec.levels * plain(key, arrays, step)
    return gaussian.dequantise(jax.random.fold_in(key, step), x_BV, spec.levels)

  return batch_at


def seen(spec: data.Spec) -> Callable:
  """Questions.see: rows in [0, 1] dequantised once; real values as they are."""
  if is_continuous(spec):
    return lambda key, x_ND: x_ND
  levels = spec.levels
  return lambda key, x_ND: gaussian.dequantise(key, levels * x_ND, levels)


def nats(log_density: Callable, params, dataset: data.Dataset) -> tuple[dict, float]:
  """The exact score of test images under log_density(params, x_NV), the mean of training images.

  Of rows without holes.
  """
  log_p, spec = jax.jit(log_density), dataset.about
  (test_NV, test_N), (train_NV, train_N) = (
    seen_whole(getattr(dataset, split), spec, split) for split in ('test', 'train'))
  score = likelihood.score(log_p(params, test_NV), kind='exact', binarisation=binarisation(spec),
                           weights_N=test_N)
  if spec.missing:
    score = {**score, 'remarks': ['values are missing from rows: the whole ones are scored']}
  return score, float(data.mean(log_p(params, train_NV), train_N))


def evaluate(log_density: Callable, params, dataset: data.Dataset) -> dict:
  """Experiment.evaluate: `nats`, beside one full Gaussian."""
  test, train_nats = nats(log_density, params, dataset)
  return {**test, 'split': 'test', 'train_nats': train_nats, 'baselines': baseline_scores(dataset)}


@kept.of_data
def baseline_scores(dataset: data.Dataset) -> dict:
  """The baseline of densities: one full Gaussian, its shrinkage chosen on validation images."""
  spec = dataset.about
  rows, weights = zip(*(seen_whole(getattr(dataset, split), spec, split)
                        for split in ('train', 'valid', 'test')))
  return {'full Gaussian, shrunk': baselines.full_gaussian(
    *rows, binarisation=binarisation(spec), weights=baselines.Weights(*weights))}
