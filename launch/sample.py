"""Draws from a trained model, as a grid of images or as an array.

  python -m launch.sample --workdir=runs/digits --num=64 --out=grid.png
  python -m launch.sample --workdir=runs/mixture --num=64 --out=threes.png --label=3
  python -m launch.sample --workdir=runs/digits --num=10000 --out=draws.npz
"""

import pathlib

import numpy as np
from absl import flags

from gen_models import files, indices
from launch import errors
from launch.cli import app, flags as shared
from launch.runs import draws, load, pictures

_WORKDIR = shared.workdir('Run directory made by launch.train.')
_NUM = flags.DEFINE_integer('num', 64, 'Number of draws. Of more than 5000 the first ones do '
                            'not depend on the number.', lower_bound=1)
_OUT = flags.DEFINE_string('out', None, 'A .png: a grid of the mean images p(x | latent). A .npz: '
                           'arrays `draws` and `means`, [num, y, x] in [0, 1].', required=True)
_LABEL = flags.DEFINE_integer('label', None, 'Class to draw from, for models with classes.')
_SEED = shared.seed('Seed of the draws; the same seed gives the same draws.')
_REPLICA = flags.DEFINE_integer('replica', 0, 'Which seed of a --seeds run, from 0.', lower_bound=0)
_COLUMNS = flags.DEFINE_integer('columns', None, 'Columns of the grid; default: about square.',
                                lower_bound=1)
_CHECKPOINT = shared.checkpoint()
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value)
  if out.suffix not in ('.png', '.npz'):
    raise errors.UsageError(f'--out={out}: name a .png (a grid) or a .npz (arrays)')
  run = load.run(_WORKDIR.value, _CHECKPOINT.value, _DATA_DIR.value)
  indices.check('--replica', _REPLICA.value, run.config['seeds'], 'seeds in this run')
  if run.experiment.sample is None:
    raise errors.UsageError(f'{run.config["experiment"]} trains no model that draws images')
  samples = draws.draw(run, _NUM.value, seed=_SEED.value, replica=_REPLICA.value,
                       label=_LABEL.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  if out.suffix == '.npz':
    with files.replacing(out, binary=True) as file:
      np.savez_compressed(file, draws=samples.draws, means=samples.means)
  else:
    pictures.write_png(pictures.square(samples.means, _COLUMNS.value), out)
  print(out)


if __name__ == '__main__':
  app.run(main)
