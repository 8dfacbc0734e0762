"""Draws of a run, as many as memory holds, computed in batches of a bounded size."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from gen_models import devices, indices, inference
from gen_models.experiment import Samples
from gen_models.training import keys
from launch import errors
from launch.runs import answers
from launch.runs.load import Run
from launch.runs.memory import free_memory

BATCH = 5000  # of a convolutional generator of 28 x 28 pixels about 1 GB


class Chains(NamedTuple):
  """Markov chains that draws end.

  Attributes:
    num_steps: Gibbs steps.
    temperature: T of the density p^(1/T).
    persistent: whether they begin where the chains of training ended.
  """

  num_steps: int = 1000
  temperature: float = 1.0
  persistent: bool = False


def draw(run: Run, num: int, *, seed: int = 0, replica: int = 0, label: int | None = None,
         chains: Chains | None = None) -> Samples:
  """Draws of the trained model.

  Up to BATCH they are one call of the model's sampler. Beyond, all batches have the size BATCH and
  batch 0 has the key of that call: so they do not depend on how many follow them.

  Args:
    run: a run of an experiment that has a sampler.
    num: how many.
    seed: of the draws.
    replica: which of the run's seeds.
    label: class to draw from, or None.
    chains: of a Boltzmann machine, instead of those of its experiment.

  Returns:
    Samples of NumPy arrays.

  Raises:
    ValueError: there is no such class.
    UsageError: the memory of this machine does not hold them; the model is not drawn from by
      chains, or has none that persist, or no such temperature.
  """
  spec = run.spec
  if label is not None and spec.num_classes is not None:
    indices.check('--label', label, spec.num_classes, f'classes in {spec.name}')
  sample = _by_chains(run, replica, chains) if chains else run.experiment.sample
  assert sample is not None  # as the caller has seen
  _require_memory(num, run.spec.seen_shape)
  with devices.all_local():
    return _drawn(sample, keys.draws(seed), devices.everywhere(run.params_of(replica)), num, label)


def _drawn(sample, key, params, num: int, label: int | None) -> Samples:
  """Draws in batches, as `draw` says."""
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


def clamped(run: Run, num: int, rows: Any, *, seed: int = 0, replica: int = 0,
            num_steps: int | None = None) -> Samples:
  """Draws of p(x | what is not missing): draw i is conditioned on row i modulo their number.

  Args:
    run: as of `draw`.
    num: how many.
    rows: launch.runs.rows.Rows, nan is free.
    seed: of the draws.
    replica: which of the run's seeds.
    num_steps: of the chains, where there are chains.

  Returns:
    Samples of NumPy arrays; means are E[x | what is not missing], as chains estimate them.

  Raises:
    UsageError: the model cannot be conditioned.
  """
  options: dict[str, Any] = {} if num_steps is None else {'num_steps': num_steps}
  found = answers.answer(run, 'imputation', rows.take(np.arange(num) % len(rows)), seed=seed,
                         replica=replica, num_draws=1, **options)
  return Samples(found['draws'][:, 0], found['mean'])


def _by_chains(run: Run, replica: int, chains: Chains):
  """A sampler as Experiment.sample is one; UsageError where the model has no such chains."""
  of_model, shape = run.experiment.questions.chains, run.spec.seen_shape
  if not callable(of_model):
    raise errors.UsageError(f'--steps, --temperature and --start: {run.config["experiment"]}: '
                            f'{of_model}')
  memory = run.memory_of(replica)
  if chains.persistent and inference.persistent_chains(memory) is None:
    raise errors.UsageError('--start=persistent: the estimator of this run keeps no chains; use '
                            '--start=fresh')

  @functools.partial(jax.jit, static_argnames=('num', 'label'))
  def drawn(key, params, memory, num, label):
    start = inference.persistent_chains(memory, num) if chains.persistent else None
    return of_model(key, params, num, label=label, num_steps=chains.num_steps,
                    temperature=chains.temperature, start=start)

  def sample(key, params, num, label):
    try:
      return Samples(*(np.asarray(x).reshape(num, *shape)
                       for x in drawn(key, params, devices.everywhere(memory), num, label)))
    except ValueError as e:
      raise errors.UsageError(str(e)) from None

  return sample


def _require_memory(num: int, shape) -> None:
  needed = num * int(np.prod(shape)) * 2 * np.dtype(np.float32).itemsize
  free = free_memory()
  if needed > 0.8 * free:
    raise errors.UsageError(
      f'--num={num}: draws and means of {" x ".join(map(str, shape))} values need '
      f'{needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free: draw fewer at a time, '
      'each with its own --seed')
