"""Keeps scored runs as small JSON files in experiments/results/, and makes README's tables of them.

  python -m launch.results --add=runs/mnist     # after launch.evaluate; one --add for every seed
  python -m launch.results --story=runs/story   # the table and the picture of launch.story
  python -m launch.results                      # writes the tables into README.md
"""

import json
import pathlib
import shlex

from absl import flags

from gen_models import files
from launch import errors
from launch.cli import app, registry
from launch.reports import tables
from launch.runs import result as result_lib

_ADD = flags.DEFINE_multi_string('add', [], 'Run directory whose result to keep; repeatable. '
                               'Runs that differ in their seeds alone are kept as one result.')
_STORY = flags.DEFINE_multi_string('story', [], 'Directory of a launch.story whose table and '
                                   'picture to keep; repeatable.')

def main(argv):
  app.no_arguments(argv)
  tables.RESULTS.mkdir(exist_ok=True)
  add(_ADD.value)
  for directory in _STORY.value:
    keep_story(pathlib.Path(directory))
  readme = tables.ROOT / 'README.md'
  files.write_text(readme, tables.insert(readme.read_text(encoding='utf-8')))


def add(directories) -> None:
  """Keeps the results of runs, those that differ in their seeds alone as one.

  Raises:
    UsageError: a run that was not scored.
    ValueError: runs of one variant that differ in more than their seeds.
  """
  added: dict[tuple, list[dict]] = {}
  for directory in directories:
    path = pathlib.Path(directory) / 'result.json'
    if not path.exists():
      raise errors.UsageError(f'--add={directory}: no result.json; first '
                              f'python -m launch.evaluate --workdir={shlex.quote(directory)}')
    result = json.loads(path.read_text(encoding='utf-8'))
    if result['experiment'] not in registry.names():  # it becomes the name of a file
      raise errors.UsageError(f'{path} is of {result["experiment"]}: results are kept of the '
                              'files of experiments/ alone')
    if 'estimator' in result:
      raise errors.UsageError(f'{path} is of your estimator {result["estimator"]}: results are '
                              'kept of the estimators of experiments/ alone')
    added.setdefault((result['experiment'], result['variant']), []).append(result)
  for (experiment, variant), results in added.items():
    files.write_json(tables.RESULTS / f'{experiment}-{variant}.json',
                      keep(result_lib.merge(results)))


def keep_story(directory: pathlib.Path) -> None:
  """table.json with how it was made, and story.png, under the name of the experiment."""
  rows = json.loads((directory / 'table.json').read_text(encoding='utf-8'))
  name = f'story_{rows[0]["dataset"]}'
  if name not in registry.stories():  # it becomes the name of a file
    raise errors.UsageError(f'{directory / "table.json"}: there is no {name}')
  for row in rows:
    result = json.loads((directory / row['family'] / 'result.json').read_text(encoding='utf-8'))
    row |= {'made': _made(result['trained'])}
  seeds = rows[0]['seeds']
  files.write_json(tables.RESULTS / f'{name}.json', {
    'command': f'python -m launch.story --story={name} --workdir=runs/{name} --seed={seeds[0]} '
               f'--seeds={len(seeds)}', 'rows': rows})
  files.write_bytes(tables.RESULTS / f'{name}.png', files.read_bytes(directory / 'story.png'))


def _made(trained: dict) -> dict:
  return {k: trained[k] for k in ('time', 'versions', 'platform', 'device_kind', 'num_cores',
                                  'git_commit')}


def keep(result: dict) -> dict:
  """What of a result is worth a file: the score, every seed's own, how it was made, and on what."""
  seeds = result['seeds']
  usual = registry.resolve(registry.load(result['experiment']), result['variant'])
  changed = {k: v for k, v in result['hyperparameters'].items() if v != usual.get(k)}
  command = shlex.join([
    'python', '-m', 'launch.train', f'--experiment={result["experiment"]}',
    f'--variant={result["variant"]}', *(f'--set={k}={v}' for k, v in changed.items())])
  command += (f' --seed={seeds[0]} --seeds={len(seeds)}'
              if result.get('runs', 1) == 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
              else ' with --seed=' + ', '.join(map(str, seeds)))
  score = {k: v for k, v in result.items() if k not in ('trained', 'environment', 'per_seed')}
  if 'per_seed' in result:
    score['per_seed'] = [{k: s[k] for k in ('test_nats', 'standard_error', 'effective_sample_size',
                                            'log_partition', 'train_nats', 'scores') if k in s}
                         for s in result['per_seed']]
  return {'command': command, **score, 'made': _made(result['trained'])}


if __name__ == '__main__':
  app.run(main)
