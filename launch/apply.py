"""Asks a trained model about rows: features, likelihoods, what is missing, classes, mutations.

  python -m launch.apply --workdir=runs/digits --what=features --data=npz:rows.npz --out=f.npz
  python -m launch.apply --workdir=runs/digits --what=log_likelihood --data=npz:rows.npz --out=l.npz
  python -m launch.apply --workdir=runs/digits --what=imputation --data=npz:holes.npz --out=i.npz

The arrays of --out are named as the question: `features`; `log_likelihood` in nats, with `lower`,
`upper` and `standard_error` where there are some; `reconstruction`; of an imputation `mean` and
`draws`; `classes` and `probabilities`; of sequences `mutations`, [rows, columns, letters] nats. The
data that the run was trained on are not needed.
"""

import pathlib

import numpy as np
from absl import flags

from gen_models import files, indices, inference, training
from launch import errors, runs
from launch.cli import app, flags as shared

_WORKDIR = shared.workdir('Run directory made by launch.train.')
_WHAT = flags.DEFINE_string('what', None, 'features, log_likelihood, reconstruction, imputation, '
                            'classes or mutations.', required=True)
_DATA = flags.DEFINE_string('data', None, 'npz:PATH, a file with an array `x` of rows, or any '
                            'other name of data; nan is missing, and so is what a bool array '
                            '`mask` marks. Of named sets the rows are those of test.',
                            required=True)
_OUT = flags.DEFINE_string('out', None, 'A .npz for the answers.', required=True)
_LAYER = flags.DEFINE_integer('layer', None, 'Of features: which layer, counted from 1 at the '
                              "data; default: the model's own choice, its top or its code.",
                              lower_bound=1)
_DRAWS = flags.DEFINE_integer('draws', None, 'Draws of each row: of an imputation (default 10), or '
                              'of random features (default none).', lower_bound=0)
_STEPS = flags.DEFINE_integer('steps', None, 'Of an imputation: steps of its chains, default 200.',
                              lower_bound=2)
_SAMPLES = flags.DEFINE_integer('samples', None, 'Of a likelihood by importance sampling: samples '
                                'of each row, default 1000.', lower_bound=2)
_UNNORMALISED = flags.DEFINE_bool('unnormalised', False, 'Of a Boltzmann machine: the array '
                                  '`free_energy`, without log Z.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 512, 'Rows at once. Another number gives other '
                                   'random draws.', lower_bound=1)
_SEED = shared.seed('Seed of what is drawn; the same seed gives the same answers.')
_REPLICA = flags.DEFINE_integer('replica', 0, 'Which seed of a --seeds run, from 0.', lower_bound=0)
_CHECKPOINT = shared.checkpoint()
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value)
  if out.suffix != '.npz':
    raise errors.UsageError(f'--out={out}: name a .npz for the answers')
  run = runs.load.run(_WORKDIR.value, _CHECKPOINT.value, _DATA_DIR.value)
  indices.check('--replica', _REPLICA.value, run.config['seeds'], 'seeds in this run')
  options = _options(_WHAT.value)
  runs.answers.check(run, _WHAT.value, _REPLICA.value, **options)
  rows = runs.rows.read(_DATA.value, run.spec, data_dir=_DATA_DIR.value)
  with training.metrics.Progress(len(rows), unit='rows') as progress:
    found = runs.answers.answer(
      run, _WHAT.value, rows, seed=_SEED.value, replica=_REPLICA.value,
      unnormalised=_UNNORMALISED.value, batch_size=_BATCH_SIZE.value,
      report=lambda num: progress.update(num, {}), **options)
  out.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(out, binary=True) as file:
    np.savez(file, allow_pickle=False, **found)
  print(f'{out}: ' + ', '.join(f'{name} {list(x.shape)}' for name, x in found.items()))


def _options(what: str) -> dict[str, int]:
  """The options that were given; raises UsageError where the question does not take one."""
  given = {'layer': _LAYER, 'num_draws': _DRAWS, 'num_steps': _STEPS, 'num_samples': _SAMPLES}
  options = {name: flag.value for name, flag in given.items() if flag.value is not None}
  takes = inference.asking.OPTIONS.get(what, given)
  for name in options:
    if name not in takes:
      able = ', '.join(f'--{given[other].name}' for other in takes) or 'none'
      raise errors.UsageError(f'--{given[name].name} is not an option of {what}, '
                              f'which takes: {able}')
  return options


if __name__ == '__main__':
  app.run(main)
