"""Tables of the committed results, experiments/results/*.json, beside what was published."""

import json
import pathlib

from gen_models.experiment import Published
from launch.cli import registry
from launch.reports import markup

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / 'experiments' / 'results'
_BEGIN, _END = '<!-- {}: python -m launch.results -->', '<!-- end -->'


def load() -> list[dict]:
  """Every committed result of a run, best first within an experiment."""
  results = [json.loads(path.read_text(encoding='utf-8'))
             for path in sorted(RESULTS.glob('*-*.json'))]
  return sorted(results, key=lambda r: (
    r['experiment'], r['dataset'], 0 if r['test_nats'] is None else -r['test_nats']))


def cells(experiment: str, mine: list[dict]) -> list[list[str]]:
  """A row for each variant, then the baselines, after the head; empty columns left out."""
  rows = [_row(experiment, r) for r in mine]
  if len({_machine(r) for r in mine}) > 1:
    rows = [row | {'on': _machine(r)} for row, r in zip(rows, mine, strict=True)]
  for name, b in mine[0].get('baselines', {}).items():
    rows.append({'model': f'*{name}*', 'test nats': _nats(b), 'kind': b['kind'],
                 'standard error': '0' if b['kind'] == 'exact' else f'{b["standard_error"]:.2f}'})
  if len({r['dataset'] for r in mine}) == 1:
    for row in rows:
      row.pop('data', None)
  head = [name for name in dict.fromkeys(k for row in rows for k in row)
          if any(row.get(name) for row in rows)]
  head.sort(key=lambda column: column == 'published')  # it comes last
  body = [[row.get(name, '' if name == 'published' else '–') or '–' for name in head]
          for row in rows]
  return [head, *body]


def of_experiment(experiment: str, results: list[dict]) -> list[dict]:
  """Those of one experiment."""
  return [r for r in results if r['experiment'] == experiment]


def table(experiment: str, results: list[dict]) -> str:
  """`cells` as Markdown, and what the numbers are of."""
  mine = of_experiment(experiment, results)
  if not mine:
    return ''
  return (f'{markup.markdown(cells(experiment, mine))}\n\n{notes(mine)}, on machines shared with '
          'other work.')


def notes(mine: list[dict]) -> str:
  """What the numbers of `cells` are of."""
  return (' '.join(f'{r["dataset"]}, {r["binarisation"]} binarisation, {r["num_images"]:,} test '
                   'images;' for r in _first_of_each(mine))
          + ' ' + ' and '.join(sorted({_machine_and_jax(r) for r in mine})) + '.'
          + ' Seconds are wall time of training, all seeds together')


def _row(experiment: str, r: dict) -> dict:
  """Column -> cell of one result."""
  row = {'model': r.get('shown', r['variant']), 'data': r['dataset']}
  if r['test_nats'] is not None:
    row |= {'test nats': _nats(r), 'kind': r['kind'],
            'standard error': f'{r["standard_error"]:.2f}' if r['kind'] != 'exact' else '0',
            'bracket': _bracket(r),
            'ESS': _sample_size(r)}
  spread = r.get('scores_spread', {})
  row |= {name.replace('_', ' '): _digits(value, 4) + (
    f' ± {_digits(spread[name], 2)}' if name in spread else '')
    for name, value in r.get('scores', {}).items()}
  row |= {'seeds': str(len(r['seeds'])), 'updates': f'{r["step"]:,}',
          'seconds': f'{r["train_seconds"]:.0f}'}
  if (found := published(experiment)).get(r['variant']):
    row['published'] = str(found[r['variant']])
  return row


def published(experiment: str) -> dict[str, Published]:
  """Variant -> what the literature reports for it; nothing for a user's file, which is not run."""
  return registry.load(experiment).published if experiment in registry.names() else {}


def _first_of_each(results):
  """One result of each pair of data set and binarisation."""
  return {(r['dataset'], r['binarisation']): r for r in reversed(results)}.values()


def _machine(r) -> str:
  made = r.get('made') or r['trained']
  return f'{made["num_cores"]} CPU cores' if made['platform'] == 'cpu' else made['device_kind']


def _machine_and_jax(r) -> str:
  return f'{_machine(r)}, jax {(r.get("made") or r["trained"])["versions"]["jax"]}'


def _sample_size(r) -> str | None:
  """The effective sample size and, of annealing, of how many chains."""
  size = r['effective_sample_size']
  if not size:
    return None
  return f'{size:.0f}' + (f' of {r["num_chains"]:,}' if 'num_chains' in r else '')


def _bracket(r) -> str | None:
  if r['kind'] != 'bracket':
    return None
  sides = f'{r["lower"]:.2f} … {r["upper"]:.2f}'.replace('-', '−')
  return sides + ('' if r['resolved'] else ', not resolved')


def _digits(value: float, num: int) -> str:
  """That many significant digits, thousands and what is before the point in full."""
  whole = abs(value) >= min(1000, 10**num)
  return (f'{value:,.0f}' if whole else f'{value:.{num}g}').replace('-', '−')


def _minus(value: float) -> str:
  return f'{value:.3g}'.replace('-', '−')


def _nats(r) -> str:
  spread = f' ± {r["seed_spread"]:.2f}' if 'seed_spread' in r else ''
  return f'{r["test_nats"]:.2f}{spread}'.replace('-', '−')


def insert(readme: str) -> str:
  """README with every marked table made anew."""
  results = load()
  tables = {name: table(name, results) for name in {r['experiment'] for r in results}}
  for path in RESULTS.glob('story_*.json'):
    tables[path.stem] = story_table(json.loads(path.read_text(encoding='utf-8')))
  for name, text in tables.items():
    begin = _BEGIN.format(name)
    if begin in readme:
      before, rest = readme.split(begin, 1)
      after = rest.split(_END, 1)[1]
      readme = f'{before}{begin}\n{text}\n{_END}{after}'
  return readme


_STORY_SCORES = {  # name in table.json -> head of its column in README
  'frechet_features': 'Fréchet', 'sliced_w2_pixels': 'sliced W2', 'mmd2_features': 'MMD²',
  'precision_features': 'precision', 'recall_features': 'recall', 'coverage_features': 'coverage',
  'nearest_train_z': 'nearest z'}


def story_table(story: dict) -> str:
  """`story_cells` as Markdown, and what the numbers are of."""
  return f'{markup.markdown(story_cells(story))}\n\n{story_notes(story)}'


def story_cells(story: dict) -> list[list[str]]:
  """The head, a row a family, and what real training images score."""
  rows = story['rows']
  names = [n for n in _STORY_SCORES if any(n in r['samples'] for r in rows)]
  head = ['family', 'test nats', 'kind', 'binarisation', 'parameters', 'seconds',
          *(_STORY_SCORES[n] for n in names)]
  body = [[r['family'], _nats(r) if r['test_nats'] is not None else '–', r['kind'],
           r['binarisation'], f'{r["num_parameters"]:,}', f'{r["train_seconds"]:.0f}',
           *(_minus(r['samples'][n]['value']) if n in r['samples'] else '–' for n in names)]
          for r in rows]
  scored = next((r['samples'] for r in rows if r['samples']), {})
  body.append(['*real training images*', '–', '–', '–', '–', '–',
               *(_minus(scored[n]['floor']) for n in names)])
  return [head, *body]


def story_notes(story: dict) -> str:
  """What the numbers of a story are of."""
  rows = story['rows']
  seeds = len(rows[0]['seeds'])
  return (f'{rows[0]["dataset"]}, {rows[0]["num_images"]:,} test images, '
          f'{seeds} {"seeds" if seeds > 1 else "seed"}; {_machine_and_jax(rows[0])}; draws '
          f'compared under {rows[0]["sample_space"]} binarisation.')
