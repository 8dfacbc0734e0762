"""Writes report.html of a run: score beside baselines, curves, samples, filters. Prints its path.

  python -m launch.report --workdir=runs/digits
"""

import pathlib

from absl import flags

from launch import page, runtime

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory made by launch.train.')
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Prepared tfds data; default $TFDS_DATA_DIR.')
flags.mark_flag_as_required('workdir')


def main(argv):
  runtime.no_arguments(argv)
  print(page.write(pathlib.Path(_WORKDIR.value), _DATA_DIR.value))


if __name__ == '__main__':
  runtime.run(main)
