"""Runs read back from their directories."""

import math
import pathlib

import jax
import numpy as np

from launch import registry, rundir, runtime


class Run:
  """A run read back: its configuration, experiment, data and parameters."""

  def __init__(self, config, experiment, dataset, params, step):
    self.config, self.experiment, self.dataset = config, experiment, dataset
    self.params, self.step = params, step

  def params_of(self, replica: int):
    """Parameters of one seed."""
    if self.config['seeds'] == 1:
      return self.params
    return jax.tree.map(lambda x: x[replica], self.params)


def load(workdir: pathlib.Path, which: str = 'last', data_dir: str | None = None) -> Run:
  """Reads a run; raises ForeignRun, ForeignCheckpoint, DamagedCheckpoint or FileNotFoundError.

  And UsageError where its config.json names code that is not known as the user's.
  """
  config, path = rundir.read_config(workdir), workdir / 'config.json'
  entry = registry.load_recorded(config['experiment'], path)
  experiment = entry.experiment(
    **registry.recorded_values(entry, config['hyperparameters'], path))
  runtime.setup()
  from gen_models import data
  from gen_models.training import loop
  dataset = data.load(experiment.dataset, data_dir)
  with runtime.open_checkpoints(workdir, config, experiment, read_only=True) as checkpoints:
    step = checkpoints.best_step() if which == 'best' else None
    restored = checkpoints.restore(
      lambda step: loop.abstract_state(experiment, step, runtime.keys(config), dataset.train,
                                       config['seeds'] > 1), step)
  if restored is None:
    raise FileNotFoundError(f'{workdir} has no checkpoint yet; train first with the same --workdir')
  state, step = restored
  return Run(config, experiment, dataset, loop.final_params(state), step)


def grids(run: Run) -> dict:
  """Name -> grid: draws beside what they resemble most, then what the experiment itself shows."""
  from gen_models import data
  from gen_models.evaluation import figures
  key = runtime.evaluation_key(run.config['seed'] + run.config['seeds'])
  found, experiment = {}, run.experiment
  if experiment.sample:
    test_ND = data.fixed(run.dataset.test, experiment.binarisation, run.dataset.levels)
    found['data'] = figures.to_grid(test_ND, run.dataset.test.images.shape[1:3], 8, 8)
    means = np.asarray(experiment.sample(runtime.draw_key(run.config['seed']), run.params_of(0), 64,
                                         None).means)
    train = run.dataset.train.images[..., 0] / np.float32(run.dataset.levels)
    found['samples'] = means.reshape(8, 8, *means.shape[1:])
    found['samples and their nearest training images'] = figures.neighbours(means, train)
  if experiment.pictures:
    found |= experiment.pictures(key, run.params_of(0), run.dataset)
  return found


def write_png(grid, path: pathlib.Path) -> pathlib.Path:
  """A grid of images [rows, columns, y, x] in [0, 1] as one grey picture."""
  from PIL import Image

  from gen_models.evaluation import figures
  pixels = np.clip(255 * figures.tile(grid), 0, 255).astype(np.uint8)
  Image.fromarray(pixels).save(path)
  return path


def square(images_NYX, columns: int | None = None):
  """[rows, columns, y, x], mid-grey where the last row is not full."""
  columns = min(columns or math.ceil(math.sqrt(len(images_NYX))), len(images_NYX))
  rows = -(-len(images_NYX) // columns)
  empty = np.full((rows * columns - len(images_NYX), *images_NYX.shape[1:]), 0.5)
  return np.concatenate([images_NYX, empty]).reshape(rows, columns, *images_NYX.shape[1:])
