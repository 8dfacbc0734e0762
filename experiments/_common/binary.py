"""Binary images: exact scores and baselines, rows as a model sees them."""

from collections.abc import Callable

import jax.numpy as jnp

from experiments._common import kept
from gen_models import data
from gen_models.evaluation import baselines, likelihood
from gen_models.models import rbm


def exact(params: rbm.Params, train_NV, test_NV, binarisation: str, weights_N=None,
          train_weights_N=None) -> dict:
  """Exact test nats of a machine, and the mean of training images; weights of either's rows."""
  train = likelihood.exact(params, train_NV, binarisation=binarisation, weights_N=train_weights_N)
  test = likelihood.exact(params, test_NV, binarisation=binarisation, weights_N=weights_N)
  return {**test, 'split': 'test', 'train_nats': train['test_nats']}


def weights_of(dataset: data.Dataset) -> baselines.Weights:
  """The weights of the rows of a data set."""
  return baselines.Weights(*(getattr(dataset, s).weights for s in ('train', 'valid', 'test')))


def seen(binarisation: str, levels: int = 1) -> Callable:
  """Questions.see: rows in [0, 1] binarised as training images are, zeros and ones as they are.

  Of binarisation 'levels' the nearest of `levels` + 1 levels.
  """
  if binarisation == 'levels':
    return lambda key, x_ND: jnp.round(levels * x_ND) / levels
  return lambda key, x_ND: data.binarise_real(key, x_ND, binarisation)


@kept.of_data
def baseline_scores(dataset: data.Dataset, binarisation: str, search: bool = True) -> dict:
  """Independent pixels and a mixture of Bernoullis; none for real-valued images.

  Of counts independent Poisson columns; of levels and letters their shares in each column.

  The mixture's size is chosen on validation images of digits, which takes seconds; elsewhere it
  would take minutes, and with search=False it is 100 classes too, or one for ten rows of fewer.
  """
  if binarisation == 'real':
    return {}
  train, valid, test = (data.fixed_split(dataset, split, binarisation)
                        for split in ('train', 'valid', 'test'))
  weights, levels = weights_of(dataset), dataset.about.levels
  if binarisation == 'counts':
    return {'independent Poisson columns': baselines.independent_counts(
      train, test, weights=weights)}
  if binarisation == 'levels':
    return {'independent pixels': baselines.independent_levels(
      train, test, levels, weights=weights)}
  if binarisation == 'categorical':
    return {'independent columns': baselines.independent_columns(
      train, test, levels, train_weights_N=weights.train, test_weights_N=weights.test)}
  sizes = {} if search and dataset.name == 'digits' else dict(
    num_classes=(min(100, max(1, len(train) // 10)),), pseudo_counts=(1.0,))
  return {
    'independent pixels': baselines.independent_pixels(
      train, test, binarisation=binarisation, weights=weights),
    'mixture of Bernoullis': baselines.bernoulli_mixture(
      train, valid, test, binarisation=binarisation, weights=weights, **sizes)}
