"""Writes what a run has learnt for use without this library.

  python -m launch.export --workdir=runs/digits --out=model.safetensors
  python -m launch.export --workdir=runs/digits --out=sampler.jax --what=sample --num=64

A .safetensors has the parameters under their names; a .jax has a function as a program, which
jax.export.deserialize reads and runs wherever JAX is installed. gen_models/export.py describes
both.
"""

import pathlib

from absl import flags

import gen_models as gm
from gen_models import indices
from launch import errors, runs
from launch.cli import app, flags as shared

_WORKDIR = shared.workdir('Run directory made by launch.train.')
_OUT = flags.DEFINE_string('out', None, 'A .safetensors: the parameters of all seeds. A .jax: the '
                           'function --what.', required=True)
_WHAT = flags.DEFINE_enum('what', 'sample', ['sample', 'features', 'reconstruction', 'classes'],
                          'The function of a .jax: key -> draws, or (key, rows) -> answers.')
_NUM = flags.DEFINE_integer('num', 64, 'Number of draws, and of rows where a model has to '
                            'know how many, as a variational autoencoder does.', lower_bound=1)
_LABEL = flags.DEFINE_integer('label', None, 'Class to draw from, for models with classes.')
_REPLICA = flags.DEFINE_integer('replica', 0, 'Of a .jax: which seed of a --seeds run, from 0.',
                                lower_bound=0)
_CHECKPOINT = shared.checkpoint()
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value)
  if out.suffix not in ('.safetensors', '.jax'):
    raise errors.UsageError(f'--out={out}: name a .safetensors (parameters) or a .jax (a function)')
  given = [name for name in ('what', 'num', 'label', 'replica') if flags.FLAGS[name].present]
  if out.suffix == '.safetensors' and given:
    raise errors.UsageError(f'--{given[0]} is of a .jax: a .safetensors has the parameters of all '
                            'seeds; leave it out')
  run = runs.load.run(_WORKDIR.value, _CHECKPOINT.value, _DATA_DIR.value)
  if out.suffix == '.safetensors':
    gm.export.to_safetensors(run, out)
  else:
    indices.check('--replica', _REPLICA.value, len(run.seeds), 'seeds in this run')
    platforms = gm.export.to_jax(run, out, _WHAT.value, num=_NUM.value, replica=_REPLICA.value,
                                 label=_LABEL.value)
    print(f'{_WHAT.value} for {", ".join(platforms)}')
  print(out)


if __name__ == '__main__':
  app.run(main)
