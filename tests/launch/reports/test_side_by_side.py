"""The page of all estimators is made from the committed audit, which has all of them."""

import json

from gen_models.problems import catalogue
from launch.reports import side_by_side

STALE = 'stale: run python -m launch.audit --keep --estimator={}'


def test_the_page_is_made_from_the_record_and_the_record_has_the_catalogue():
  rows = side_by_side.load()
  found, there = [row['name'] for row in rows], list(catalogue.ENTRIES)
  missing = [name for name in there if name not in found]
  assert not missing and set(found) == set(there), STALE.format(','.join(missing))
  wrong = [row['name'] for row in rows if (
    row['problem'] != catalogue.ENTRIES[row['name']].problem
    or row['declared_biased'] != catalogue.ENTRIES[row['name']].estimator.biased
    or row['declared_biased'] != row['biased'])]
  assert not wrong, STALE.format(','.join(wrong))
  assert side_by_side.PAGE.read_text(encoding='utf-8') == side_by_side.page(rows), (
    'the page is not made from docs/audit.json: ' + STALE.format(there[0]))


def test_rows_are_put_in_the_place_of_those_recorded(tmp_path, monkeypatch):
  monkeypatch.setattr(side_by_side, 'RECORD', tmp_path / 'audit.json')
  monkeypatch.setattr(side_by_side, 'PAGE', tmp_path / 'page.md')
  row = {'name': 'disarm1', 'problem': 'belief_net', 'declared_biased': False, 'biased': False,
         'bias_norm': 0.0123456, 'bias_interval': [0.0, 0.2], 'variance': 0.25,
         'gradient_norm': 1.0, 'num_draws': 100, 'error_rate': 1e-4, 'seconds_per_step': 1.5e-5,
         'threshold': 4.7}
  gone = row | {'name': 'an estimator that was taken out'}
  constant = row | {'name': 'cd1', 'problem': 'rbm', 'variance': 0.0}
  side_by_side.write(side_by_side.record([row, constant, gone]))
  side_by_side.write(side_by_side.record([row | {'variance': 4.0, 'biased': True,
                                                 'gradient_norm': 2.0}]))
  rows = json.loads((tmp_path / 'audit.json').read_text(encoding='utf-8'))
  assert [(row['name'], row['variance']) for row in rows] == [('cd1', 0.0), ('disarm1', 4.0)]
  assert rows[1]['bias_norm'] == 0.01235 and 'threshold' not in rows[1]
  page = (tmp_path / 'page.md').read_text(encoding='utf-8')
  assert '| `cd1` | unbiased | below 0.2 | 0 | 15 |' in page
  assert '| `disarm1` | unbiased | 0.0062 (0 to 0.1) | 1 | 15 |' in page
