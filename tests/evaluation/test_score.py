"""The record of a score: what is written is read back, and what is no record is refused by name."""

import dataclasses
import json
import math

import pytest

from gen_models.evaluation import score as record
from gen_models.evaluation.json_fields import Malformed
from gen_models.evaluation.score import Score

BRACKET = {'test_nats': -84.0, 'kind': 'bracket', 'standard_error': 0.1,
           'effective_sample_size': 50.0, 'lower': -84.2, 'upper': -83.9,
           'image_standard_error': 0.2, 'num_images': 300, 'binarisation': 'dynamic',
           'resolved': True, 'num_chains': 100, 'method': 'annealing', 'scores': {'error': 2.0}}


def bracket(**changes) -> Score:
  return Score.from_json({**BRACKET, **changes})


def test_what_is_written_is_read_back_with_keys_that_are_not_known():
  value = {**BRACKET, 'from_the_future': {'deep': [1, {'er': None}]}, 'baselines': {
    'pixels': {'test_nats': -206, 'kind': 'exact', 'num_images': 300, 'binarisation': 'dynamic'}}}
  score = Score.from_json(value)
  assert score.num_chains == 100 and score.details['method'] == 'annealing'
  assert score.baselines['pixels'].test_nats == -206
  written = json.loads(json.dumps(score.to_json()))
  assert {k: written[k] for k in value if k != 'baselines'} == {
    k: v for k, v in value.items() if k != 'baselines'}
  assert Score.from_json(written) == score


@pytest.mark.parametrize('changes, line', [
  ({'test_nats': '-84'}, "test_nats is '-84', not a number"),
  ({'test_nats': True}, 'test_nats is True, not a number'),
  ({'upper': math.nan}, 'upper is nan, not finite'),
  ({'lower': -math.inf}, 'lower is -inf, not finite'),
  ({'num_images': 3.5}, 'num_images is 3.5, not a count'),
  ({'num_images': 10**30}, f'num_images is {10**30}, not a count'),
  ({'kind': None}, 'kind is None, not text'),
  ({'resolved': 'yes'}, "resolved is 'yes', neither true nor false"),
  ({'scores': [1]}, r'scores is \[1\], not an object'),
  ({'scores': {'a': 'b'}}, "scores.a is 'b', not a number"),
  ({'baselines': {'x': {'kind': 'exact'}}}, 'baselines.x.test_nats is missing'),
  ({'per_seed': {}}, 'per_seed is {}, not a list'),
  ({'per_seed': [{'test_nats': 'x'}]}, r"per_seed\[0\].test_nats is 'x'"),
  ({'why': 'w' * 30_000}, 'why has 30000 characters'),
  ({'scores': dict.fromkeys(map(str, range(20_000)), 1.0)}, 'scores has 20000 entries'),
  ({'unknown': math.nan}, 'unknown is nan, not finite'),
  ({'lower': None}, 'lower or upper of a bracket is missing')])
def test_what_is_no_score_is_refused_in_one_line_that_names_the_field(changes, line):
  with pytest.raises(Malformed, match=line) as caught:
    bracket(**changes)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize('sides, resolved, headline', [
  ((-84.2, -83.9), True, -84.0), ((-84.2, -83.9), False, -84.0),
  ((-83.75, -83.82), True, -84.0),  # crossed by noise alone
  ((-80.0, -95.0), False, -95.0), ((-80.0, -82.0), False, -84.0)])
def test_where_sides_cross_the_headline_is_the_conservative_end(sides, resolved, headline):
  score = bracket(lower=sides[0], upper=sides[1], resolved=resolved, seed_spread=0.3)
  assert score.headline == headline
  assert score.headline_spread == (0.3 if headline == -84.0 else None)


def test_seeds_are_merged_once_and_keep_their_own():
  scores = [bracket(test_nats=-84.0 - i, effective_sample_size=50.0 - i, resolved=i < 2,
                    scores={'error': 1.0 + i, **({'late': 1.0} if i else {})}) for i in range(3)]
  merged = record.combine(scores)
  assert merged.test_nats == -85 and merged.seed_spread == 1
  assert merged.standard_error == pytest.approx(0.1 / math.sqrt(3))
  assert merged.effective_sample_size == 48 and merged.resolved is False
  assert merged.scores == {'error': 2.0} and merged.scores_spread == {'error': 1.0}
  assert [(s.test_nats, s.lower, s.resolved) for s in merged.per_seed] == [
    (-84, -84.2, True), (-85, -84.2, True), (-86, -84.2, False)]
  assert record.combine(scores[:1]) is scores[0]


@pytest.mark.parametrize('field', ['standard_error', 'lower', 'effective_sample_size'])
def test_what_one_seed_does_not_know_all_do_not(field):
  unknown = dataclasses.replace(bracket(), **{field: None})
  assert getattr(record.combine([bracket(), unknown]), field) is None


def test_a_score_of_draws_is_read_checked_and_merged():
  value = {'value': 0.2, 'low': 0.1, 'high': 0.3, 'floor': 0.1, 'floor_low': 0.1,
           'floor_high': 0.2, 'better': 'lower', 'n': 300, 'num_sets': 5}
  one = record.SampleScore.from_json(value)
  assert one.to_json() == value
  merged = record.combine_samples([one, dataclasses.replace(one, value=0.4, high=0.9)])
  assert (merged.value, merged.low, merged.high) == (pytest.approx(0.3), 0.1, 0.9)
  assert merged.num_sets == 10
  for changes, line in (({'better': '<b>'}, 'not lower, higher or floor'),
                        ({'n': '<script>'}, 'n is .*not a count')):
    with pytest.raises(Malformed, match=line):
      record.SampleScore.from_json({**value, **changes})


def test_further_entries_of_seeds_are_those_of_all():
  one = {'binarisation': 'threshold', 'split': 'test', 'smallest_effective_sample_size': 3.0,
         'pareto_k': {'median': 0.2, 'largest': 0.6, 'share_above_0.7': 0.0},
         'importance': {'hollow': False, 'standard_error': None}, 'sides': [1.0, 3.0],
         'only': 1.0, 'note': 'a'}
  other = {**one, 'smallest_effective_sample_size': 2.0, 'note': 'b', 'sides': [2.0, 5.0],
           'pareto_k': {'median': 0.4, 'largest': 0.9, 'share_above_0.7': 0.5},
           'importance': {'hollow': True, 'standard_error': None}}
  del other['only']
  assert record.together([one, other]) == {
    'binarisation': 'threshold', 'split': 'test', 'smallest_effective_sample_size': 2.0,
    'pareto_k': {'median': pytest.approx(0.3), 'largest': 0.9, 'share_above_0.7': 0.25},
    'importance': {'hollow': True, 'standard_error': None}, 'sides': [1.5, 4.0]}
