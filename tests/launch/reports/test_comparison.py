"""Families side by side: which is best at what, and no row twice."""

import json

import numpy as np

from launch.reports import collect, comparison, markup, tables
from launch.runs import pictures
from launch.runs.result import Result
from tests.launch.reports import handmade
from tests.launch.reports.test_markup import Parsed


def sample(value, better, spread=0.0, floor=0.1):
  return {'value': value, 'low': value - spread, 'high': value + spread, 'floor': floor,
          'floor_low': floor, 'floor_high': floor, 'better': better, 'n': 300, 'num_sets': 5}


def family(name, nats, distance, recall, z, binarisation='threshold', spread=0.0, **changes):
  """A line of a story."""
  config = {'experiment': 'rbm_digits', 'variant': name, 'hyperparameters': {}, 'seeds': [0]}
  value = {**handmade.result(0, nats or 0.0, config), 'test_nats': nats, 'kind': 'exact',
           'binarisation': binarisation, 'samples': {
             'frechet_features': sample(distance, 'lower', spread),
             'recall_features': sample(recall, 'higher'),
             'nearest_train_z': sample(z, 'floor', floor=0.5)}, **changes}
  if nats is None:
    value |= {'kind': 'none', 'why': 'it has none', 'lower': None, 'upper': None, 'resolved': None}
  return tables.Line(name, Result.from_json(json.loads(json.dumps(value))))


LINES = [family('near', -20.0, 0.5, 0.2, 9.0, spread=0.1), family('likely', -18.0, 0.55, 0.4, 3.0),
         family('real-valued', 50.0, 2.0, 0.9, -1.0, binarisation='real'),
         family('no density', None, 3.0, 0.1, 0.6)]


def rows(node):
  """{first cell: the others} of a table of a page."""
  def text(node):
    return node if isinstance(node, str) else ''.join(
      map(text, node.children if isinstance(node, markup.Element) else node or ()))

  def lines(node):
    if isinstance(node, markup.Element) and node.name == 'tr':
      yield [text(cell) for cell in flat(node.children)]
    elif not isinstance(node, str) and node is not None:
      for child in (node.children if isinstance(node, markup.Element) else node):
        yield from lines(child)

  def flat(nodes):
    for node in nodes:
      if isinstance(node, markup.Element):
        yield node
      elif not isinstance(node, str) and node is not None:
        yield from flat(node)

  return {first: others for first, *others in lines(node)}


def test_each_measure_names_its_best_and_those_that_are_not_clearly_worse():
  found = rows(comparison.best(LINES))
  assert found['nats per test image, threshold binarisation'][0] == 'likely'
  best, value, alike, real = found['Fréchet distance, features (lower is better)']
  assert (best, value, alike, real) == ('near', '0.5', 'likely', '0.1')
  assert found['recall, features (higher is better)'][0] == 'real-valued'
  nearest, = (others for name, others in found.items() if name.startswith('z of'))
  assert nearest[0] == 'no density' and nearest[2] == '–'
  assert not any('real binarisation' in name for name in found)  # one family has no rival


def test_one_family_is_best_at_nothing():
  shown = markup.render(comparison.best(LINES[:1]))
  assert '<table' not in shown and 'No measure' in shown


def test_stars_stand_at_the_best_of_each_column():
  head = tables.story_cells(LINES, every=True)[0]
  marked = comparison._marked(LINES, head)
  assert marked == {(2, 1), (1, head.index('frechet_features')), (3, head.index('recall_features')),
                    (4, head.index('nearest_train_z'))}
  page = markup.render(comparison.side_by_side(LINES))
  assert 'Fréchet distance, features' in page and 'frechet_features' not in page
  assert '<details><summary>All 3 scores of draws' in page


def test_a_model_that_is_its_own_baseline_is_one_row():
  line = family('independent', -25.19, 1.0, 0.1, 1.0)
  names = [first for first, *_ in tables.likelihood_cells(*line)]
  assert names == ['model', 'independent']
  assert [first for first, *_ in tables.cells([line])] == ['model', 'independent']
  other = [first for first, *_ in tables.cells([LINES[0]])]
  assert other == ['model', 'near', '*independent pixels*']


def test_a_story_shows_samples_then_who_is_best_then_details(tmp_path):
  for line in LINES:
    (tmp_path / line.name / 'figures').mkdir(parents=True)
    for name in ('data', 'samples', 'filters', 'curves'):
      pictures.write_png(np.zeros((2, 2, 4, 4)), tmp_path / line.name / 'figures' / f'{name}.png')
  (tmp_path / 'near' / 'figures' / 'filters.png').unlink()
  (tmp_path / 'near' / 'figures' / 'filters.png').symlink_to('/dev/zero')
  page = comparison.write(tmp_path, 'story', LINES).read_text()
  places = [page.index(text) for text in (
    'real test images', 'samples of near', 'samples of no density', 'Which family is best',
    'All families', 'id="f0"', 'id="f3"')]
  assert places == sorted(places)
  pictures_of = [a['alt'] for name, a in Parsed(page).elements if name == 'img']
  assert pictures_of.count('test images') == 1 and pictures_of.count('filters') == 3
  assert 'filters: the picture is left out' in page
  assert comparison.picture(tmp_path, [r'$\frac{$', 'near'], tmp_path / 'story.png').exists()


def test_what_has_no_likelihood_comes_last():
  found = [collect._committed(line.result)._replace(name=line.name) for line in LINES]
  assert [row.name for row in sorted(found, key=collect._order)][-1] == 'no density'
