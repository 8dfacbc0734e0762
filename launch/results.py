"""Keeps scored runs as small JSON files in experiments/results/, and makes README's tables of them.

  python -m launch.results --add=runs/mnist     # after launch.evaluate
  python -m launch.results --story=runs/story   # the table and the picture of launch.story
  python -m launch.results                      # writes the tables into README.md
"""

import json
import pathlib
import shlex
import shutil

from absl import flags

from launch import registry, rundir, runtime, tables

_ADD = flags.DEFINE_multi_string('add', [], 'Run directory whose result to keep; repeatable.')
_STORY = flags.DEFINE_multi_string('story', [], 'Directory of a launch.story whose table and '
                                   'picture to keep; repeatable.')

def main(argv):
  runtime.no_arguments(argv)
  tables.RESULTS.mkdir(exist_ok=True)
  for directory in _ADD.value:
    path = pathlib.Path(directory) / 'result.json'
    result = json.loads(path.read_text())
    if result['experiment'] not in registry.names():  # it becomes the name of a file
      raise registry.UsageError(f'{path} is of {result["experiment"]}: results are kept of the '
                                'files of experiments/ alone')
    result = keep(result)
    rundir.write_json(tables.RESULTS / f'{result["experiment"]}-{result["variant"]}.json', result)
  for directory in _STORY.value:
    keep_story(pathlib.Path(directory))
  readme = tables.ROOT / 'README.md'
  readme.write_text(tables.insert(readme.read_text()))


def keep_story(directory: pathlib.Path) -> None:
  """table.json with how it was made, and story.png, under the name of the experiment."""
  rows = json.loads((directory / 'table.json').read_text())
  name = f'story_{rows[0]["dataset"]}'
  if name not in registry.stories():  # it becomes the name of a file
    raise registry.UsageError(f'{directory / "table.json"}: there is no {name}')
  for row in rows:
    result = json.loads((directory / row['family'] / 'result.json').read_text())
    row |= {'made': _made(result['trained'])}
  seeds = rows[0]['seeds']
  rundir.write_json(tables.RESULTS / f'{name}.json', {
    'command': f'python -m launch.story --story={name} --workdir=runs/{name} --seed={seeds[0]} '
               f'--seeds={len(seeds)}', 'rows': rows})
  shutil.copy(directory / 'story.png', tables.RESULTS / f'{name}.png')


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
    f'--variant={result["variant"]}', *(f'--set={k}={v}' for k, v in changed.items()),
    f'--seed={seeds[0]}', f'--seeds={len(seeds)}'])
  score = {k: v for k, v in result.items() if k not in ('trained', 'environment', 'per_seed')}
  if 'per_seed' in result:
    score['per_seed'] = [{k: s[k] for k in ('test_nats', 'standard_error', 'effective_sample_size',
                                            'log_partition', 'train_nats', 'scores') if k in s}
                         for s in result['per_seed']]
  return {'command': command, **score, 'made': _made(result['trained'])}


if __name__ == '__main__':
  runtime.run(main)
