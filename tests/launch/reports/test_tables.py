"""Tables of committed results."""

import dataclasses
import json

import pytest

from gen_models.evaluation.score import SampleScore, Score
from launch.reports import tables
from launch.runs import numbers
from launch.runs.result import Result


def rows(*changes):
  """Lines of the committed result of an RBM, changed."""
  row = json.loads((tables.RESULTS / 'rbm_mnist-pcd1.json').read_text())
  made = row['made'] | {'num_cores': 2, 'platform': 'cpu', 'device_kind': 'cpu'}
  results = [Result.from_json(row | {'made': made} | change(row | {'made': made}))
             for change in changes]
  return [tables.Line(result.variant, result) for result in results]


def same(row):
  return {}


def on_gpu(row):
  return {'made': row['made'] | {'platform': 'gpu', 'device_kind': 'NVIDIA H200', 'num_cores': 16}}


def column(table, name):
  head, *body = table
  return [r[head.index(name)] for r in body]


def test_where_machines_differ_every_row_names_its_own():
  table = tables.cells(rows(same, on_gpu))
  assert column(table, 'on')[:2] == ['2 CPU cores', 'NVIDIA H200']
  notes = tables.notes(rows(same, on_gpu))
  assert '2 CPU cores, jax' in notes and 'NVIDIA H200, jax' in notes and 'gpu' not in notes


@pytest.mark.parametrize('where, name', [(same, '2 CPU cores'), (on_gpu, 'NVIDIA H200')])
def test_where_they_do_not_the_note_does(where, name):
  mine = rows(where, where)
  assert 'on' not in tables.cells(mine)[0]
  assert tables.notes(mine).count(name) == 1


def test_what_was_published_comes_last():
  table = tables.cells(rows(lambda row: {'variant': 'cd25_decay'}, on_gpu))
  assert table[0][-1] == 'published' and '−86.34' in table[1][-1] and table[2][-1] == '–'


def test_every_data_set_has_its_own_baselines():
  table = tables.cells(rows(same, lambda row: {'dataset': 'digits'}))
  beside = [row for row in table[1:] if row[0].startswith('*')]
  assert [row[table[0].index('data')] for row in beside] == ['mnist'] * 2 + ['digits'] * 2
  assert len([row for row in tables.cells(rows(same, same)) if row[0].startswith('*')]) == 2


def test_every_view_of_a_data_set_has_its_own_baselines_and_is_named():
  first, second = rows(same, lambda row: {'binarisation': 'levels'})
  table = tables.cells([first, second])
  assert column(table, 'seen') == [
    first.result.score.binarisation, 'levels', *[first.result.score.binarisation] * 2,
    *['levels'] * 2]
  assert 'seen' not in tables.cells([first])[0]


def test_a_sample_size_says_of_how_many_chains():
  mine = rows(lambda row: {'effective_sample_size': 12.3, 'num_chains': 100},
              lambda row: {'effective_sample_size': 12.3, 'num_chains': 1000})
  assert column(tables.cells(mine), 'ESS')[:2] == ['12 of 100', '12 of 1,000']


def test_a_run_that_never_wrote_its_seconds_has_a_dash():
  table = tables.cells(rows(same, lambda row: {'train_seconds': None}))
  assert column(table, 'seconds')[:2] == ['38', '–']


def test_where_sides_cross_the_lower_one_is_printed_without_a_spread():
  crossed = {'lower': -86.6, 'upper': -112.25, 'test_nats': -92.92, 'resolved': False}
  table = tables.cells(rows(same, lambda row: crossed))
  assert column(table, 'test nats')[:2] == ['−92.92 ± 11.24', '−112.25']


def bound(**changes):
  return Score.from_json({
    'test_nats': -90.0, 'kind': 'bound', 'num_images': 300, 'binarisation': 'dynamic',
    'standard_error': 0.004, 'standard_error_method': 'jackknife', 'effective_sample_size': 16.2,
    'num_importance_samples': 5000, **changes})


def test_seeds_that_agree_have_no_spread_from_rounding():
  score = bound(scores={'accuracy': 0.9799}, scores_spread={'accuracy': 1.4e-16})
  assert numbers.other(score, 'accuracy') == '0.9799 ± 0'


def test_a_hollow_bound_is_marked_as_an_unresolved_bracket_is():
  assert numbers.kind(bound()) == 'bound' and 'HOLLOW' not in tables.remark(bound())
  assert numbers.kind(bound(hollow=True)) == 'bound, hollow'
  assert 'HOLLOW' in tables.remark(bound(hollow=True))
  assert numbers.kind(bound(resolved=False)) == 'bound, not resolved'
  assert numbers.sample_size(bound()) == '16 of 5,000'


def test_an_error_is_never_rounded_to_nothing():
  assert numbers.error(bound()) == '0.004' and numbers.error(bound(standard_error=None)) == '–'
  assert numbers.error(bound(standard_error=0.123)) == '0.12'
  # Of before: the delta method's, where one weight is all there is of some image.
  old = bound(standard_error_method=None, smallest_effective_sample_size=1.001)
  old = dataclasses.replace(old, details={'smallest_effective_sample_size': 1.001})
  assert numbers.error(old) == '–'


@pytest.mark.parametrize('value, num, text', [
  (12345.6, 2, '12,346'), (577.4, 2, '577'), (577.4, 4, '577.4'), (1234.4, 4, '1,234'),
  (0.012345, 2, '0.012'), (-3.14159, 3, '−3.14'), (None, 3, '–')])
def test_digits(value, num, text):
  assert numbers.significant(value, num) == text


def test_a_decoder_has_a_row_for_each_estimate_and_whatever_is_not_a_number_is_a_dash():
  result = rows(same)[0].result
  assert len(tables.decoder_cells(result)) == 1
  sides = {'lower': -81.0, 'upper': -80.5, 'gap': 0.5, 'standard_error': 0.04}
  for found, cells in (
      ({'importance': {'nats': -86.0, 'standard_error': 0.1},
        'from_prior': {'nats': -85.5, 'standard_error': None},
        'drawn': {'importance': {'nats': -81.5}, 'from_prior': sides}},
       [['importance-weighted bound', '−86.00', '0.10', '−81.50', '–', '–', '–'],
        ['annealed from the prior', '−85.50', '–', '−81.00', '−80.50', '0.50', '0.04']]),
      ({'from_prior': ['<b>'], 'drawn': 3}, [['annealed from the prior', *['–'] * 6]]),
      ('<b>', [])):
    changed = dataclasses.replace(result, score=dataclasses.replace(
      result.score, details={'decoder': found}))
    assert tables.decoder_cells(changed)[1:] == cells


@pytest.mark.parametrize('cause, words', [
  ('gap_z', 'copies of training images'), ('gap_grey_z', 'copies of training images'),
  ('nearest_train_z', 'nearer to training images than test images are'),
  ('copies', 'nearer to training images than test images are')])
def test_what_is_said_of_copies_follows_their_cause(cause, words):
  def score(value, floor=0.0):
    return SampleScore.from_json({
      'value': value, 'low': value, 'high': value, 'floor': floor, 'floor_low': floor,
      'floor_high': floor, 'better': 'floor', 'n': 300, 'num_sets': 5}, 'it')

  samples = {'nearest_train_z': score(0.0), 'copies': score(0.01, 0.01), 'gap_z': score(-0.1),
             cause: score(0.2, 0.01) if cause == 'copies' else score(-6.0)}
  line, = rows(same)
  result = dataclasses.replace(line.result, samples=samples, memorised=True)
  assert f'WARNING: draws are {words}' in tables.of_result(result)
