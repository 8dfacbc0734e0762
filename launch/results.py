"""Keeps scored runs as small JSON files in experiments/results/, and makes RESULTS.md of them.

  python -m launch.results --add=runs/mnist     # after launch.evaluate; one --add for every seed
  python -m launch.results --story=runs/story   # the table and the picture of launch.story
  python -m launch.results --sweep=runs/losses --score=frechet_pixels  # of a scored launch.sweep
  python -m launch.results                      # writes RESULTS.md and README's marked tables
"""

import dataclasses
import pathlib
import re
import shlex

from absl import flags

from gen_models import files
from launch import errors, reports
from launch.cli import app, registry
from launch.runs import result as result_lib
from launch.runs.result import Result

_ADD = flags.DEFINE_multi_string('add', [], 'Run directory whose result to keep; repeatable. '
                               'Runs that differ only in their seeds are kept as one result.')
_STORY = flags.DEFINE_multi_string('story', [], 'Directory of a launch.story whose table and '
                                   'picture to keep; repeatable.')

_SWEEP = flags.DEFINE_string('sweep', None, 'Directory of a scored launch.sweep whose grid to '
                             'keep, under the name of the directory.')
_SCORE = flags.DEFINE_multi_string('score', [], 'A score to keep of every point of --sweep; '
                                 'repeatable. Default: test_nats.')


def main(argv):
  app.no_arguments(argv)
  if not (reports.tables.ROOT / 'setup.cfg').exists():
    raise errors.UsageError(f'{reports.tables.ROOT} is not a checkout of the repository, in which '
                            'results are kept')
  reports.tables.RESULTS.mkdir(exist_ok=True)
  if _SCORE.value and not _SWEEP.value:
    raise errors.UsageError('--score is of the points of a --sweep=DIR')
  add(_ADD.value)
  for directory in _STORY.value:
    keep_story(pathlib.Path(directory))
  if _SWEEP.value:
    keep_sweep(pathlib.Path(_SWEEP.value), _SCORE.value)
  files.write_text(reports.tables.ROOT / 'RESULTS.md', reports.documents.results())
  print('wrote RESULTS.md')
  readme = reports.tables.ROOT / 'README.md'
  files.write_text(readme, reports.documents.insert(files.read_text(readme)))


def add(directories) -> None:
  """Keeps the results of runs; those that differ only in their seeds become one.

  Raises:
    UsageError: a run that was not scored.
    ValueError: runs of one variant that differ in more than their seeds.
  """
  added: dict[tuple, list[Result]] = {}
  for directory in directories:
    path = pathlib.Path(directory) / 'result.json'
    if not path.exists():
      raise errors.UsageError(f'--add={directory}: no result.json; first '
                              f'python -m launch.evaluate --workdir={shlex.quote(directory)}')
    result = result_lib.read(path)
    if result.experiment not in registry.names():  # it becomes the name of a file
      raise errors.UsageError(f'{path} is of {result.experiment}: only results of files '
                              'of experiments/ are kept')
    if result.estimator:
      raise errors.UsageError(f'{path} is of your estimator {result.estimator}: only '
                              'results of the estimators of experiments/ are kept')
    reports.tables.require_public(path, result.dataset)
    if result.code:  # --set=encoder=path.py:Net: nobody else has that file
      raise errors.UsageError(f'{path} is of code in your {", ".join(result.code)}: only results '
                              'of code of the repository are kept')
    reports.tables.require_whole(directory, result)
    added.setdefault((result.experiment, result.variant), []).append(result)
  for (experiment, variant), results in added.items():
    kept = keep(result_lib.merge(results))  # refuses a variant that does not exist
    _write(f'{experiment}-{variant or "defaults"}.json', kept.to_json())


def keep_story(directory: pathlib.Path) -> None:
  """table.json with how it was made, and story.png, under the name of the experiment."""
  rows = files.read_json(directory / 'table.json')
  lines = reports.tables.story_lines(rows)
  name = f'story_{lines[0].result.dataset}'
  if name not in registry.stories():  # it becomes the name of a file
    raise errors.UsageError(f'{directory / "table.json"}: there is no {name}')
  for row, line in zip(rows, lines, strict=True):
    scored = result_lib.read(directory / line.name / 'result.json')
    reports.tables.require_whole(directory / line.name, scored)
    row |= {'made': _made(scored)}
  seeds = lines[0].result.seeds
  _write(f'{name}.json', {
    'command': f'python -m launch.story --story={name} --workdir=runs/{name} --seed={seeds[0]} '
               f'--seeds={len(seeds)}', 'rows': rows})
  files.write_bytes(reports.tables.RESULTS / f'{name}.png',
                    files.read_bytes(directory / 'story.png'))


def keep_sweep(directory: pathlib.Path, scores) -> None:
  """The grid of a sweep, under the name of its directory.

  Raises:
    UsageError: as swept.gather; or the name is that of an experiment, a story, or no name.
  """
  name = directory.resolve().name
  if name in (*registry.names(), *registry.stories()) or not re.fullmatch('[a-z0-9_]+', name):
    raise errors.UsageError(f'--sweep={directory}: a sweep is kept under the name of its '
                            'directory, which has small letters, digits and _ and is no '
                            f'experiment: {name!r}')
  _write(f'sweep_{name}.json', reports.swept.to_json(reports.swept.gather(directory, scores)))


def _write(name: str, value: dict) -> None:
  path = reports.tables.RESULTS / name
  files.write_json(path, value)
  print(f'kept in {path}', flush=True)


def _made(result: Result) -> dict:
  """Where a result was trained; raises UsageError where that was not recorded."""
  if result.trained is None:
    raise errors.UsageError(
      f'the result of {result.experiment} does not say on what machine it was trained: its '
      'environment.json could not be read when it was scored')
  return {k: result.trained.get(k) for k in ('time', 'versions', 'platform', 'device_kind',
                                             'num_cores', 'git_commit')}


def keep(result: Result) -> Result:
  """The part of a result that is committed: the score, every seed's own, how and on what it ran."""
  score = dataclasses.replace(result.score, per_seed=tuple(
    dataclasses.replace(seed, details={k: v for k, v in seed.details.items() if k in _OF_A_SEED})
    for seed in result.score.per_seed))
  return dataclasses.replace(
    result, score=score, made=_made(result), trained=None, environment=None,
    command=reports.tables.train_command(result))


# What is kept of a seed besides its likelihood and its other scores.
_OF_A_SEED = ('log_partition', 'train_nats', 'searches')


if __name__ == '__main__':
  app.run(main)
