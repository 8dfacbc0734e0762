"""One score against another: which runs are joined, in which order, and what is refused."""

import csv
import json

import numpy as np
import pytest

from launch import errors
from launch.reports import collect, report, tradeoff
from launch.runs.result import Result
from tests.launch.reports import handmade


def row(name, rate, distortion, **hyperparameters):
  """A row of as many seeds as there are rates."""
  value = handmade.result(0, -18.0, dict(experiment='vae', variant='digits', hyperparameters={}))
  of_seeds = [{'rate': x, 'distortion': y} for x, y in zip(rate, distortion)]
  value |= {'seeds': list(range(len(rate))), 'scores': of_seeds[0],
            'per_seed': [{'scores': scores} for scores in of_seeds]}
  config = {'variant': 'digits', 'hyperparameters': hyperparameters}
  return collect.Row('vae', name, config, value['seeds'], Result.from_json(value),
                     value['seeds'], [], [])


def test_rows_are_joined_in_the_order_of_what_was_swept():
  rows = [row('digits, beta=4, nets=conv', [1.0], [20.0], beta=4, nets='conv'),
          row('digits, beta=10', [0.5, 0.7], [25.0, 24.0], beta=10, nets='dense'),
          row('digits, beta=0.5', [8.0, 8.2], [12.0, 11.0], beta=0.5, nets='dense'),
          row('digits, beta=2', [3.0, 3.2], [16.0, 15.0], beta=2, nets='dense')]
  alone, joined = tradeoff.lines(rows, 'rate', 'distortion')
  assert alone.swept is None and alone.name == 'digits, beta=4, nets=conv'
  assert (joined.name, joined.swept) == ('digits', 'beta')
  assert [point.value for point in joined.points] == [0.5, 2, 10]
  np.testing.assert_array_equal(joined.points[0].x_S, [8.0, 8.2])
  np.testing.assert_array_equal(joined.points[0].y_S, [12.0, 11.0])
  assert tradeoff.is_curve([joined]) and not tradeoff.is_curve([alone])
  assert tradeoff.lines(rows, 'rate', 'error_percent') == []
  huge = [row(str(i), [1.0], [2.0], beta=10**400 + i) for i in range(3)]
  assert [line.swept for line in tradeoff.lines(huge, 'rate', 'distortion')] == [None] * 3


@pytest.mark.slow
def test_a_page_has_the_curve_of_a_sweep(tmp_path):
  for i, rate in enumerate((0.1, 0.2, 0.3)):
    directory = handmade.run(tmp_path / 'runs' / str(i), learning_rate=rate)
    result = json.loads((directory / 'result.json').read_text())
    result['scores'] |= {'rate': 3.0 - i, 'distortion': 15.0 + 2 * i}
    (directory / 'result.json').write_text(json.dumps(result))
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'a.html', pictures=0).read_text()
  assert 'distortion against rate.' in page and 'pale dot' not in page
  with open(tmp_path / 'a_files' / 'rbm_digits_distortion_against_rate.csv', newline='') as file:
    head, *body = csv.reader(file)
  assert head == ['row', 'hyperparameter', 'value', 'rate', 'distortion']
  assert [line[1:] for line in body] == [['learning_rate', '0.1', '3', '15'], [
    'learning_rate', '0.2', '2', '17'], ['learning_rate', '0.3', '1', '19']]


def test_scores_are_two_that_some_run_has():
  rows = [row('digits', [1.0], [20.0], beta=4)]
  assert tradeoff.pair([], rows) is None
  assert tradeoff.pair(['rate', 'test_nats'], rows) == ('rate', 'test_nats')
  for words, message in ((['rate', 'bits'], 'no run has the score bits; .*distortion'),
                         (['rate'], 'name two scores'), (['rate', 'rate'], 'name two scores')):
    with pytest.raises(errors.UsageError, match=message):
      tradeoff.pair(words, rows)
