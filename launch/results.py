"""Keeps scored runs as small JSON files in experiments/results/, and makes README's tables of them.

  python -m launch.results --add=runs/mnist     # after launch.evaluate
  python -m launch.results --picture=runs/mnist # its pictures side by side, for README
  python -m launch.results                      # writes the tables into README.md
"""

import json
import pathlib

from absl import flags

from launch import rundir, runtime

_ADD = flags.DEFINE_multi_string('add', [], 'Run directory whose result to keep; repeatable.')
_PICTURE = flags.DEFINE_string('picture', None, 'Run directory whose figures README shows.')

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / 'experiments' / 'results'
_BEGIN, _END = '<!-- {}: python -m launch.results -->', '<!-- end -->'
_PUBLISHED = {  # nats, source; of the same test set under the same binarisation
  ('rbm_mnist', 'cd1'): '−125.53 (S&M 2008, from memory)',
  ('rbm_mnist', 'cd3'): '−105.50 (S&M 2008, from memory)',
  ('rbm_mnist', 'cd25'): '−86.34 (S&M 2008)'}


def main(argv):
  runtime.no_arguments(argv)
  RESULTS.mkdir(exist_ok=True)
  for directory in _ADD.value:
    result = keep(json.loads((pathlib.Path(directory) / 'result.json').read_text()))
    rundir.write_json(RESULTS / f'{result["experiment"]}-{result["variant"]}.json', result)
  if _PICTURE.value:
    side_by_side(pathlib.Path(_PICTURE.value) / 'figures', RESULTS / 'rbm.png')
  readme = ROOT / 'README.md'
  readme.write_text(insert(readme.read_text()))


def side_by_side(figures: pathlib.Path, path: pathlib.Path, gap: int = 20) -> None:
  """Data, samples and filters of a run in one picture."""
  from PIL import Image
  names = ['data.png', *(p.name for p in figures.glob('samples*.png')), 'filters.png']
  images = [Image.open(figures / name) for name in names]
  width = sum(image.width for image in images) + gap * (len(images) - 1)
  picture = Image.new('L', (width, max(image.height for image in images)), 255)
  left = 0
  for image in images:
    picture.paste(image, (left, 0))
    left += image.width + gap
  picture.save(path, optimize=True)


def keep(result: dict) -> dict:
  """What of a result is worth a file: the score, every seed's own, how it was made, and on what."""
  made = {k: result['trained'][k] for k in ('time', 'versions', 'platform', 'device_kind',
                                            'num_cores', 'git_commit')}
  seeds = result['seeds']
  command = (f'python -m launch.train --experiment={result["experiment"]} '
             f'--variant={result["variant"]} --seed={seeds[0]} --seeds={len(seeds)}')
  score = {k: v for k, v in result.items() if k not in ('trained', 'environment', 'per_seed')}
  if 'per_seed' in result:
    score['per_seed'] = [{k: s[k] for k in ('test_nats', 'standard_error', 'effective_sample_size',
                                            'log_partition', 'train_nats') if k in s}
                         for s in result['per_seed']]
  return {'command': command, **score, 'made': made}


def load() -> list[dict]:
  """Every committed result, best first within an experiment."""
  results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob('*.json'))]
  return sorted(results, key=lambda r: (r['experiment'], -r['test_nats']))


def table(experiment: str, results: list[dict]) -> str:
  """Markdown: a row for each variant, then the baselines."""
  mine = [r for r in results if r['experiment'] == experiment]
  if not mine:
    return ''
  published = any((experiment, r['variant']) in _PUBLISHED for r in mine)
  head = ['model', 'test nats', 'kind', 'seeds', 'standard error', 'ESS', 'updates', 'seconds']
  rows = [[r['variant'], _nats(r), r['kind'], str(len(r['seeds'])),
           f'{r["standard_error"]:.2f}' if r['kind'] != 'exact' else '0',
           f'{r["effective_sample_size"]:.0f}' if r['effective_sample_size'] else '–',
           f'{r["step"]:,}', f'{r["train_seconds"]:.0f}'] for r in mine]
  rows += [[f'*{name}*', _nats(b), b['kind'], '–', '0', '–', '–', '–']
           for name, b in mine[0].get('baselines', {}).items()]
  if published:
    head.append('published')
    for row in rows:
      row.append(_PUBLISHED.get((experiment, row[0]), ''))
  lines = ['| ' + ' | '.join(cells) + ' |' for cells in (head, ['---'] * len(head), *rows)]
  first = mine[0]
  made = first['made']
  note = (f'{first["dataset"]}, {first["binarisation"]} binarisation, all {first["num_images"]:,} '
          f'test images; {made["num_cores"]} {made["platform"]} cores, jax '
          f'{made["versions"]["jax"]}; seconds are wall time for all seeds in one program, on '
          'cores shared with other work.')
  return '\n'.join([*lines, '', note])


def _nats(r) -> str:
  spread = f' ± {r["seed_spread"]:.2f}' if 'seed_spread' in r else ''
  return f'{r["test_nats"]:.2f}{spread}'.replace('-', '−')


def insert(readme: str) -> str:
  """README with every marked table made anew."""
  results = load()
  for experiment in sorted({r['experiment'] for r in results}):
    begin = _BEGIN.format(experiment)
    if begin in readme:
      before, rest = readme.split(begin, 1)
      after = rest.split(_END, 1)[1]
      readme = f'{before}{begin}\n{table(experiment, results)}\n{_END}{after}'
  return readme


if __name__ == '__main__':
  runtime.run(main)
