"""Draws of a run, as many as memory holds, computed in batches of a bounded size."""

from typing import Any

import numpy as np

from gen_models import data, indices
from gen_models.experiment import Samples
from gen_models.training import keys
from launch import errors
from launch.runs.load import Run
from launch.runs.memory import free_memory

BATCH = 5000  # of a convolutional generator of 28 x 28 pixels about 1 GB


def draw(run: Run, num: int, *, seed: int = 0, replica: int = 0,
         label: int | None = None) -> Samples:
  """Draws of the trained model.

  Up to BATCH they are one call of the model's sampler. Beyond, all batches have the size BATCH and
  batch 0 has the key of that call: so they do not depend on how many follow them.

  Args:
    run: a run of an experiment that has a sampler.
    num: how many.
    seed: of the draws.
    replica: which of the run's seeds.
    label: class to draw from, or None.

  Returns:
    Samples of NumPy arrays.

  Raises:
    ValueError: there is no such class.
    UsageError: the memory of this machine does not hold them.
  """
  if label is not None and run.dataset.train.labels is not None:
    indices.check('--label', label, 1 + int(np.max(run.dataset.train.labels)),
                  f'classes in {run.dataset.name}')
  sample, key, params = run.experiment.sample, keys.draws(seed), run.params_of(replica)
  assert sample is not None  # as the caller has seen
  _require_memory(num, data.shape(run.experiment.dataset))
  if num <= BATCH:
    return Samples(*map(np.asarray, sample(key, params, num, label)))
  made: Any = None
  for i, first in enumerate(range(0, num, BATCH)):
    batch = sample(keys.batch_of_draws(key, i), params, BATCH, label)
    if made is None:
      made = Samples(*(np.empty((num, *x.shape[1:]), x.dtype) for x in batch))
    for there, here in zip(made, batch, strict=True):
      there[first:first + BATCH] = np.asarray(here)[:num - first]
  return made


def _require_memory(num: int, shape) -> None:
  needed = num * int(np.prod(shape)) * 2 * np.dtype(np.float32).itemsize
  free = free_memory()
  if needed > 0.8 * free:
    raise errors.UsageError(
      f'--num={num}: draws and means of {shape[0]} x {shape[1]} pixels need {needed / 1e9:,.1f} GB '
      f'of memory, and {free / 1e9:,.1f} GB are free: draw fewer at a time, each with its own '
      '--seed')
