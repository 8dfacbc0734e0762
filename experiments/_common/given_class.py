"""Autoencoders of each class: batches, draws, scores and pictures of a vae.Model with num_classes.

Axis suffixes: N rows, V values of a row, Q classes, R rows of a picture, Z latents.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments._common import judged
from experiments._common.latent import grid
from gen_models import data
from gen_models.data.binarise import Split
from gen_models.experiment import Sampler
from gen_models.models import label_rbm, vae

UNSCORED = 'a class-conditional decoder has a density for each class, which only the bound scores'


def batches(batch_size: int, binarisation: str, spec: data.Spec) -> Callable:
  """Phase.batch_at: rows with their one-of-Q class behind them."""
  with_labels = data.batches(batch_size, binarisation, spec, with_labels=True)
  num_classes = data.classes_of(spec)
  return lambda key, arrays, step: label_rbm.attach(*with_labels(key, arrays, step), num_classes)


def fixed(arrays, binarisation: str, spec: data.Spec, split: Split) -> jax.Array:
  """data.fixed, each row with its one-of-Q class, [N, V + Q]."""
  x_NV = data.fixed(arrays, binarisation, spec, split=split)
  return label_rbm.attach(x_NV, jnp.asarray(arrays.labels), data.classes_of(spec))


def draw(model: vae.Model, spec: data.Spec) -> judged.Draw:
  """(key, params, y_NQ) -> (x ~ p(x | y), E[x | z_1, y])."""
  def drawn(key, params, y_NQ):
    key_z, key_x = jax.random.split(key)
    z_1 = model.with_class(model.sample_prior(key_z, params, len(y_NQ))[0], y_NQ)
    return (data.clipped(model.sample_visible(key_x, params, z_1), spec),
            data.clipped(model.visible_mean(params, z_1), spec))

  return drawn


def pictures(key, model: vae.Model, params, dataset: data.Dataset, rows: int = 8) -> dict:
  """E[x | z_1, y], one z in each row, one class in each column."""
  z_1 = model.sample_prior(key, params, rows)[0]
  z_RQZ = jnp.repeat(z_1[:, None], model.num_classes, axis=1)
  means = model.visible_mean(params, model.with_class(z_RQZ, jnp.eye(model.num_classes)))
  return {'a z in each row, a class in each column': grid(
    means.reshape(-1, means.shape[-1]), dataset, model.num_classes)}


def sampler(model: vae.Model, spec: data.Spec) -> Sampler:
  """Experiment.sample: of one class or, where none is asked for, of all classes in turn."""
  return judged.of_class(draw(model, spec), model.num_classes, spec.seen_shape)


def judged_score(key, score: dict, model: vae.Model, params, dataset: data.Dataset,
                 report: Callable[[str], None]) -> dict:
  """The score of log p(x | y), with the share of draws that a classifier finds in their class.

  Its binarisation says so, and it has no baselines: those of other scores are of log p(x).
  """
  shares = judged.class_scores(key, draw(model, dataset.about), model.num_classes, params, dataset,
                               report, score['binarisation'])
  return {**score, 'binarisation': f'{score["binarisation"]}, given the class',
          'scores': {**score['scores'], **shares}}
