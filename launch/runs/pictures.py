"""Pictures of a run: its draws beside test images, and what its experiment shows."""

import math
import pathlib
from typing import Any

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
    if not spec.is_image:
      test_ND = data.fixed_split(run.dataset, 'test', experiment.binarisation, missing=True)
      draws = experiment.sample(keys.draws(run.config['seed']), run.params_of(0), 64, None).draws
      found = {'data': chart(np.asarray(test_ND)[:64], spec, 'test rows'),
               'samples': chart(draws, spec, 'independent draws of the model')}
      return found | (experiment.pictures(key, run.params_of(0), run.dataset)
                      if experiment.pictures else {})
    test_ND = data.fixed_split(run.dataset, 'test', experiment.binarisation)
    found['data'] = figures.to_grid(test_ND, spec.seen_shape, 8, 8)
    means = np.asarray(experiment.sample(keys.draws(run.config['seed']), run.params_of(0), 64,
                                         None).means)
    found['samples'] = figures.to_grid(means, means.shape[1:], 8, 8)
    view = 'real' if spec.kind in ('binary', 'real') else spec.kind
    train = np.asarray(data.fixed(run.dataset.train, view, spec)).reshape(-1, *spec.seen_shape)
    found['samples and their nearest training images'] = figures.neighbours(means, train)
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


def chart(x_ND, spec: Any, title: str) -> np.ndarray:
  """Rows that are not images, as a grid of one picture in colour.

  Zeros and ones are a raster, letters a logo with sequences below it, other numbers colours.

  Args:
    x_ND: rows as a model sees them; nan is missing.
    spec: of their data set.
    title: of the chart.
  """
  from gen_models.evaluation import charts
  x_ND = np.asarray(x_ND).reshape(len(x_ND), -1)
  if spec.kind == 'categorical':
    v_NLQ = np.nan_to_num(x_ND.reshape(-1, *spec.seen_shape))
    alphabet = spec.alphabet or tuple(map(str, range(spec.levels)))
    return charts.alignment(v_NLQ, alphabet, title)
  if spec.kind == 'binary':
    return charts.raster(np.nan_to_num(x_ND), title, x_label='row', y_label='column')
  return charts.heat(x_ND, title)


def square(images, columns: int | None = None):
  """[rows, columns, y, x] of images [N, ...], mid-grey where the last row is not full."""
  from gen_models.evaluation import figures
  columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
  return figures.to_grid(images, images.shape[1:], -(-len(images) // columns), columns)
