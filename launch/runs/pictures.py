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
    spec = run.dataset.about
    test_ND = data.fixed_split(run.dataset, 'test', experiment.binarisation)
    found['data'] = figures.to_grid(test_ND, spec.seen_shape, 8, 8)
    means = np.asarray(experiment.sample(keys.draws(run.config['seed']), run.params_of(0), 64,
                                         None).means)
    found['samples'] = figures.to_grid(means, means.shape[1:], 8, 8)
    view = 'real' if spec.kind in ('binary', 'real') else spec.kind
    train = np.asarray(data.fixed(run.dataset.train, view, spec)).reshape(-1, *spec.seen_shape)
    name = 'samples and their nearest training ' + ('images' if spec.is_image else 'rows')
    found[name] = figures.neighbours(means, train)
    if not spec.unit_interval:
      low, high = np.percentile(test_ND, [1, 99])
      found = {k: np.clip((grid - low) / max(high - low, 1e-6), 0, 1) for k, grid in found.items()}
  if experiment.pictures:
    found |= experiment.pictures(key, run.params_of(0), run.dataset)
  return found


def write_png(grid, path: pathlib.Path) -> pathlib.Path:
  """A grid of images [rows, columns, y, x], or [.., 3] of colour, in [0, 1] as one picture."""
  from PIL import Image

  from gen_models.evaluation import figures
  pixels = np.clip(255 * figures.tile(grid), 0, 255).astype(np.uint8)
  with files.replacing(path, binary=True) as file:
    Image.fromarray(pixels).save(file, 'PNG')
  return path


def square(images, columns: int | None = None):
  """[rows, columns, y, x] of images [N, ...], mid-grey where the last row is not full."""
  from gen_models.evaluation import figures
  columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
  return figures.to_grid(images, images.shape[1:], -(-len(images) // columns), columns)
