"""Draws from a trained model, as a picture or as an array.

  python -m launch.sample --workdir=runs/digits --num=64 --out=grid.png
  python -m launch.sample --workdir=runs/mixture --num=64 --out=threes.png --label=3
  python -m launch.sample --workdir=runs/digits --num=10000 --out=draws.npz
  python -m launch.sample --workdir=runs/protein --num=1000 --out=designs.fasta
  python -m launch.sample --workdir=runs/digits --clamp=mask.npz --out=given.npz

--clamp holds values: draws of p(x | what is not nan in the array `x` of mask.npz). Draws of a
Boltzmann machine are the ends of --steps Gibbs steps, from its biases or, with --start=persistent,
from the chains that its training kept. Those of a deep belief network climb: as many steps in every
layer below the top one come first, each layer beginning where the one below ended.
"""

import pathlib

import numpy as np
from absl import flags

from gen_models import files, indices
from launch import errors, runs
from launch.cli import app, flags as shared

_WORKDIR = shared.workdir('Run directory made by launch.train.')
_NUM = flags.DEFINE_integer('num', 64, 'Number of draws. Of more than 5000 the first ones do '
                            'not depend on the number.', lower_bound=1)
_OUT = flags.DEFINE_string('out', None, 'A .png: a grid of the mean images p(x | latent); of '
                           'zeros and ones a raster, of letters a sequence logo, of other rows '
                           'colours. A .npz: arrays `draws` and `means`, [num, y, x] in '
                           '[0, 1], [num, y, x, channels] of colour, [num, values] of vectors, '
                           '[num, columns, letters] of sequences, with their `alphabet`. A '
                           '.fasta: draws of sequences as letters.',
                           required=True)
_LABEL = flags.DEFINE_integer('label', None, 'Class to draw from, for models with classes.')
_CLAMP = flags.DEFINE_string('clamp', None, 'A .npz with an array `x` of one or several rows: '
                             'draws keep its values; nan is free, and so is what a bool array '
                             '`mask` marks. Draw i keeps those of row i, in turn.')
_STEPS = flags.DEFINE_integer('steps', None, 'Gibbs steps behind a draw of a Boltzmann machine; '
                              'steps of the chains of --clamp, default 200.', lower_bound=1)
_TEMPERATURE = flags.DEFINE_float('temperature', 1.0, 'Of a Boltzmann machine of discrete units: '
                                  'draws of p^(1 / temperature).')
_START = flags.DEFINE_enum('start', 'fresh', ['fresh', 'persistent'], 'Where the chains of a '
                           'Boltzmann machine begin: at its biases, or where those of its training '
                           'ended.')
_SEED = shared.seed('Seed of the draws; the same seed gives the same draws.')
_REPLICA = flags.DEFINE_integer('replica', 0, 'Which seed of a --seeds run, from 0.', lower_bound=0)
_COLUMNS = flags.DEFINE_integer('columns', None, 'Columns of the grid; default: about square.',
                                lower_bound=1)
_CHECKPOINT = shared.checkpoint()
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value)
  if out.suffix not in ('.png', '.npz', '.fasta'):
    raise errors.UsageError(f'--out={out}: name a .png (a grid), a .npz (arrays) or a .fasta '
                            '(sequences)')
  run = runs.load.run(_WORKDIR.value, _CHECKPOINT.value, _DATA_DIR.value)
  indices.check('--replica', _REPLICA.value, run.config['seeds'], 'seeds in this run')
  if run.experiment.sample is None:
    raise errors.UsageError(f'{run.config["experiment"]} trains no model that draws')
  alphabet = run.spec.alphabet
  if out.suffix == '.fasta' and {len(letter) for letter in alphabet} != {1}:
    raise errors.UsageError(f'--out={out}: rows of {run.spec.name} are no sequences of letters: '
                            'name a .png or a .npz')
  samples = _samples(run)
  out.parent.mkdir(parents=True, exist_ok=True)
  if out.suffix == '.npz':
    arrays = dict(draws=samples.draws, means=samples.means)
    if alphabet:
      arrays['alphabet'] = np.array(alphabet)
    with files.replacing(out, binary=True) as file:
      np.savez_compressed(file, **arrays)
  elif out.suffix == '.fasta':
    files.write_text(out, runs.rows.fasta(np.asarray(samples.draws), run.spec))
  else:
    runs.pictures.write_png(_picture(samples, run.spec), out)
  print(out)


def _picture(samples, spec):
  """A grid of images; of other rows a raster, a sequence logo or colours."""
  if spec.is_image:
    return runs.pictures.square(samples.means, _COLUMNS.value)
  if _COLUMNS.value is not None:
    raise errors.UsageError(f'--columns are those of a grid of images, and rows of {spec.name} are '
                            'none: leave it out')
  return runs.pictures.chart(samples.draws, spec, 'draws of the model')


def _samples(run):
  """The draws that the flags describe."""
  options = dict(seed=_SEED.value, replica=_REPLICA.value)
  persistent = _START.value == 'persistent'
  if _CLAMP.value is not None:
    given = {'--label': _LABEL.value is not None, '--start': persistent,
             '--temperature': _TEMPERATURE.value != 1}
    if wrong := [name for name, was_given in given.items() if was_given]:
      raise errors.UsageError(f'--clamp and {wrong[0]}: a draw is conditioned on values alone; '
                              'give one of the two')
    rows = runs.rows.read(f'npz:{_CLAMP.value}', run.spec, '--clamp')
    return runs.draws.clamped(run, _NUM.value, rows, num_steps=_STEPS.value, **options)
  chains = None
  if _STEPS.value is not None or _TEMPERATURE.value != 1 or persistent:
    chains = runs.draws.Chains(_STEPS.value or 1000, _TEMPERATURE.value, persistent)
    start = 'the chains of training' if persistent else 'the biases'
    print(f'{chains.num_steps} Gibbs steps from {start}'
          + (f' at temperature {chains.temperature:g}' if chains.temperature != 1 else ''))
  return runs.draws.draw(run, _NUM.value, label=_LABEL.value, chains=chains, **options)


if __name__ == '__main__':
  app.run(main)
