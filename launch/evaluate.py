"""Scores a run on the test split; the last line printed is one JSON object, kept as result.json.

  python -m launch.evaluate --workdir=runs/digits
  python -m launch.evaluate --workdir=runs/mnist --set=ais_temperatures=30000
  python -m launch.evaluate --workdir=runs/mnist --thorough
  python -m launch.evaluate --workdir=runs/gan --sample_space=inception:weights.pth
"""

import json
import pathlib

from absl import flags

from launch import reports, runs
from launch.cli import app, flags as shared

_WORKDIR = shared.workdir('Run directory made by launch.train.')
_SET = shared.overrides('name=value: a hyperparameter that only the score reads, such as '
                        'ais_temperatures; repeatable.')
_THOROUGH = flags.DEFINE_bool(
  'thorough', False, 'Search for what the score may have missed by all means that there are, at '
  'several times the cost: of brackets, and of decoders from both sides.')
_CHECKPOINT = shared.checkpoint()
_DATA_DIR = shared.data_dir()
_PAGE = shared.page()
_SPACES = ('own', 'real', 'dynamic', 'threshold', 'none')
_SAMPLE_SPACE = flags.DEFINE_string(
  'sample_space', 'own', 'Binarisation under which draws are compared with test images: '
  f'{", ".join(_SPACES)}; own: that of the training data. Or a network with weights of yours in '
  'whose features they are compared: inception:FILE, dinov2:FILE.')
flags.register_validator('sample_space', lambda value: value in _SPACES or ':' in value,
                         message=f'it is one of {", ".join(_SPACES)}, inception:FILE, dinov2:FILE')


def main(argv):
  app.no_arguments(argv)
  workdir = pathlib.Path(_WORKDIR.value)
  result = runs.score.score(workdir, _CHECKPOINT.value, _DATA_DIR.value, _SAMPLE_SPACE.value,
                            lambda line: print(line, flush=True), _SET.value, _THOROUGH.value)
  print(reports.tables.of_result(result), flush=True)
  if page := _PAGE.value and app.extra('the page of the run', _page, workdir):
    print(f'page: {page}', flush=True)
  print(json.dumps(result.to_json()), flush=True)


def _page(workdir):
  return reports.report.of_run(workdir, _DATA_DIR.value)


if __name__ == '__main__':
  app.run(main)
