"""Pictures of a run: its draws beside test images, and what its experiment shows."""

import math
import pathlib

import numpy as np

from gen_models import files
from gen_models.training import keys
from launch.runs.load import Run


def grids(run: Run) -> dict:
  """Name -> grid: draws beside what they resemble most, then what the experiment itself shows."""
  from gen_models import data
  from gen_models.evaluation import figures
  key = keys.evaluation(run.config['seed'] + run.config['seeds'])
  found, experiment = {}, run.experiment
  if experiment.sample:
    test_ND = data.fixed_split(run.dataset, 'test', experiment.binarisation)
    found['data'] = figures.to_grid(test_ND, run.dataset.test.images.shape[1:3], 8, 8)
    means = np.asarray(experiment.sample(keys.draws(run.config['seed']), run.params_of(0), 64,
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
  with files.replacing(path, binary=True) as file:
    Image.fromarray(pixels).save(file, 'PNG')
  return path


def square(images_NYX, columns: int | None = None):
  """[rows, columns, y, x], mid-grey where the last row is not full."""
  columns = min(columns or math.ceil(math.sqrt(len(images_NYX))), len(images_NYX))
  rows = -(-len(images_NYX) // columns)
  empty = np.full((rows * columns - len(images_NYX), *images_NYX.shape[1:]), 0.5)
  return np.concatenate([images_NYX, empty]).reshape(rows, columns, *images_NYX.shape[1:])
