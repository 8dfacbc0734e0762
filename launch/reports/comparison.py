"""A story: several families of models compared, as a table, a page and a picture."""

import io
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from gen_models import files
from launch.reports import markup, run_page, tables, words
from launch.reports.markup import tag
from launch.runs import numbers
from launch.runs.result import Result

# Of a result; what table.json has besides is the family, its scores and those of its draws.
_FIELDS = ('experiment', 'variant', 'test_nats', 'kind', 'lower', 'upper', 'resolved', 'hollow',
           'standard_error', 'seed_spread', 'effective_sample_size', 'why', 'num_images',
           'binarisation', 'num_parameters', 'train_seconds', 'seeds', 'step', 'dataset',
           'sample_space', 'memorised', 'protocol')
# Scores of draws that tell which family is best at what, and of these the columns of the table of
# families; the others are folded.
_COMPARED = ('frechet_features', 'sliced_w2_pixels', 'mmd2_features', 'precision_features',
             'recall_features', 'coverage_features', 'nearest_train_z')
_FIRST = ('frechet_features', 'precision_features', 'recall_features')
_LARGEST_PICTURE = 4_000_000  # bytes


def row(family: str, result: Result) -> dict:
  """One object of table.json: likelihood, size, cost, and the sample scores with their floors."""
  value = result.to_json()
  return {'family': family, **{k: value[k] for k in _FIELDS if k in value},
          **value.get('scores', {}), 'samples': value.get('samples', {})}


def write(workdir: pathlib.Path, name: str, lines: Sequence[tables.Line],
          doc: str = '') -> pathlib.Path:
  """Writes report.html and returns its path; doc is the docstring of the story."""
  path = workdir / 'report.html'
  files.write_text(path, report(workdir, name, lines, doc))
  return path


def report(workdir: pathlib.Path, name: str, lines: Sequence[tables.Line], doc: str = '') -> str:
  """One self-contained page: samples of all families, what each is best at, then each in full."""
  seeds = len(lines[0].result.seeds)
  body = [
    tag('h1', f'{markup.plural(len(lines), "family", "families")} on {lines[0].result.dataset}'),
    tag('p', first) if (first := markup.first_paragraph(doc)) else None,
    tag('p', f'Every family was trained on the same images, {markup.plural(seeds, "seed")} each, '
        'and scored on the same test images.', class_='soft'),
    tag('h2', 'Samples side by side'), _glance(workdir, lines),
    tag('h2', 'Which family is best at what'), best(lines),
    tag('h2', 'All families'), side_by_side(lines),
    [_family(workdir, i, *line) for i, line in enumerate(lines)]]
  return markup.page(name, body)


def _glance(workdir: pathlib.Path, lines: Sequence[tables.Line]) -> markup.Node:
  """Test images and samples of every family, small and together."""
  shown = []
  for line in lines:
    if files.is_regular(path := workdir / line.name / 'figures' / 'data.png'):
      shown.append(_picture(path, 'test images', tag('span', 'real test images')))
      break
  for i, line in enumerate(lines):
    if files.is_regular(path := workdir / line.name / 'figures' / 'samples.png'):
      shown.append(_picture(path, f'samples of {line.name}', tag('a', line.name, href=f'#f{i}')))
  return tag('div', shown, class_='pictures glance')


def _picture(path: pathlib.Path, caption: str, title: markup.Node = None) -> markup.Node:
  return markup.image_of(path, 'pixels', caption, title, _LARGEST_PICTURE)


def _family(workdir: pathlib.Path, i: int, name: str, result: Result) -> markup.Node:
  """One family in full."""
  paths = sorted(path for path in (workdir / name / 'figures').glob('*.png')
                 if not path.stem.startswith(('curves', 'data')) and path.stem != 'samples')
  variant = f', variant {result.variant}' if result.variant else ''
  return tag('section', tag('h2', name),
             tag('p', f'{result.experiment}{variant}. Score: {result.protocol}.', class_='soft'),
             tag('div', [_picture(path, path.stem.replace('_', ' ')) for path in paths],
                 class_='pictures') if paths else None,
             markup.folded('All scores', run_page.scores(name, result)), id=f'f{i}')


def side_by_side(lines: Sequence[tables.Line]) -> markup.Node:
  """The table of all families, the best of each column marked; its many scores folded."""
  cells = tables.story_cells(lines, every=True)
  head = cells[0]
  scored = [name for name in head if any(name in line.result.samples for line in lines)]
  first = [i for i, name in enumerate(head) if name not in scored or name in _FIRST]
  marked = _marked(lines, head)
  note = ('Nats per test image are exact, a bracket or a lower bound, as the kind of number says; '
          'a dash stands where a model has no likelihood. They can be compared only under the same '
          'binarisation. A star marks the best. ' + tables.story_notes(lines))
  shown = [markup.table(run_page.in_words([[line[i] for i in first] for line in cells]), note,
                        best={(r, first.index(c)) for r, c in marked if c in first})]
  if len(first) < len(head):
    shown.append(markup.folded(f'All {len(scored)} scores of draws', markup.table(
      run_page.in_words(cells), 'Draws compared with test images.', best=marked)))
  return shown


def best(lines: Sequence[tables.Line]) -> markup.Node:
  """For each measure the best family, its value, and those that do not differ significantly."""
  cells = [['measure', 'best family', 'value', 'not clearly worse', 'real training images']]
  for measure, standing in _standings(lines).items():
    first, *others = standing.ranked
    alike = [name for name, low, high, _ in others if low <= first[2] and high >= first[1]]
    cells.append([measure, first[0], first[3], ', '.join(alike) or numbers.NONE, standing.floor])
  if len(cells) == 1:
    return tag('p', 'No measure was taken of two families under the same conditions.',
               class_='soft')
  return markup.table(cells, 'A family is not clearly worse than the best where their intervals '
                      'overlap: the least to the greatest over sets of draws, or one standard '
                      'deviation over seeds around a likelihood.', sorts=False)


class _Standing(NamedTuple):
  """Families by one measure, the best first: (name, low, high, value as text)."""

  ranked: list[tuple[str, float, float, str]]
  floor: str = numbers.NONE


def _standings(lines: Sequence[tables.Line]) -> dict[str, _Standing]:
  """Measure in words -> its standing; only what two families have under the same conditions."""
  found = {}
  for binarisation, group in _comparable(lines).items():
    ranked = [(name, _nats(r) - (spread := r.score.headline_spread or 0.0),
               _nats(r) + spread, f'{numbers.nats(r.score)}, {numbers.kind(r.score)}')
              for name, r in sorted(group, key=lambda line: -_nats(line.result))]
    found[f'nats per test image, {binarisation} binarisation'] = _Standing(ranked)
  for score in _COMPARED:
    ranked = _ranked(lines, score)
    if len(ranked) > 1:
      samples = {line.name: line.result.samples[score] for line in ranked}
      found[f'{words.score(score)} ({words.better(samples[ranked[0].name].better)})'] = _Standing(
        [(name, s.value if s.low is None else s.low, s.value if s.high is None else s.high,
          numbers.significant(s.value, 3)) for name, s in samples.items() if s.value is not None],
        numbers.significant(samples[ranked[0].name].floor, 3))
  for what, field in (('trained parameters, fewest', 'num_parameters'),
                      ('training seconds, fewest', 'train_seconds')):
    known = sorted((getattr(r, field), name) for name, r in lines if getattr(r, field) is not None)
    if len(known) > 1:
      found[what] = _Standing([(name, x, x, f'{x:,.0f}') for x, name in known])
  return found


def _nats(result) -> float:
  """The headline of a result that is compared by it; worse than any where there is none."""
  return -math.inf if result.score.headline is None else result.score.headline


def _comparable(lines: Sequence[tables.Line]) -> dict[str, list[tables.Line]]:
  """Families with a likelihood of the same images, by binarisation; only of two or more."""
  groups = {}
  for line in lines:
    if line.result.score.headline is not None:
      groups.setdefault(line.result.score.binarisation, []).append(line)
  return {binarisation: group for binarisation, group in groups.items() if len(group) > 1}


def _ranked(lines: Sequence[tables.Line], score: str) -> list[tables.Line]:
  """Families by a score of draws, the best first."""
  def badness(line):
    s = line.result.samples[score]
    if s.better == 'floor':
      return abs(s.value - (s.floor or 0.0))
    return s.value if s.better == 'lower' else -s.value

  return sorted((line for line in lines if score in line.result.samples
                 and line.result.samples[score].value is not None), key=badness)


def _marked(lines: Sequence[tables.Line], head: Sequence[str]) -> set[tuple[int, int]]:
  """(row, column) of the best cell of each column of the table of families."""
  places = {line.name: i for i, line in enumerate(lines, 1)}
  found = {(places[max(group, key=lambda line: _nats(line.result)).name], 1)
           for group in _comparable(lines).values()}
  for column, name in enumerate(head):
    if len(ranked := _ranked(lines, name)) > 1:
      found.add((places[ranked[0].name], column))
  return found


def picture(workdir: pathlib.Path, families: list[str],
            path: pathlib.Path) -> pathlib.Path | None:
  """Samples of every family in a row of grids, real images first; None where there are none."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  grids = [(family, workdir / family / 'figures' / 'samples.png') for family in families]
  real = [workdir / family / 'figures' / 'data.png' for family in families]
  grids = [('test images', file) for file in real if files.is_regular(file)][:1] + [
    (family, file) for family, file in grids if files.is_regular(file)]
  if not grids:
    return None
  figure, axes = plt.subplots(1, len(grids), figsize=(2.2 * len(grids), 2.5), squeeze=False,
                              layout='constrained')
  for axis, (name, file) in zip(axes.flat, grids):
    content = io.BytesIO(files.read_bytes(file, _LARGEST_PICTURE))
    axis.imshow(plt.imread(content, format='png'), cmap='gray', vmin=0, vmax=1,
                interpolation='nearest')
    axis.set_title(name, fontsize=10, parse_math=False)
    axis.axis('off')
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=110, format='png')
  plt.close(figure)
  return path
