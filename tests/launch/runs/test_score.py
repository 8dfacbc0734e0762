"""When a run first reached its target, and how many seconds of training that took."""

import json
import types

import pytest

from launch.runs import score as score_lib

TRAIN, LOOK, COMPILE = 2.0, 5.0, 30.0  # seconds: of a dispatch, of a look, before the first


def written(directory, nats, every=4):
  """metrics.jsonl of dispatches of 100 updates, the `every`-th of which end in a look."""
  seconds, looks = COMPILE, iter(nats)
  with open(directory / 'metrics.jsonl', 'w') as file:
    for i in range(1, every * len(nats) + 1):
      seconds += TRAIN + (LOOK if i % every == 0 else 0)
      line = {'step': 100 * i, 'seconds': seconds, 'moment_error': 0.1}
      file.write(json.dumps({**line, 'nats': next(looks)} if i % every == 0 else line) + '\n')


def run(target):
  return types.SimpleNamespace(experiment=types.SimpleNamespace(target=target, headline='nats'))


def test_seconds_to_a_target_are_those_of_training(tmp_path):
  written(tmp_path, [-95.0, -91.0, -89.9, -92.0, -80.0])
  scores = [{'test_nats': -84.0, 'scores': {'other': 1.0}}]
  score_lib.reached(run(-90.0), tmp_path, scores)
  assert scores[0]['scores'] == {'other': 1.0, 'updates_to_target': 1200,
                                 'seconds_to_target': pytest.approx(COMPILE + 12 * TRAIN)}


def test_every_seed_of_one_program_has_its_own(tmp_path):
  written(tmp_path, [[-95.0, -89.0], [-91.0, -95.0], [-90.0, -95.0]])
  scores = [{}, {}]
  score_lib.reached(run(-90.0), tmp_path, scores)
  assert [s['scores']['updates_to_target'] for s in scores] == [1200, 400]


def test_a_target_that_one_seed_never_reached_is_no_score(tmp_path):
  written(tmp_path, [[-95.0, -89.0], [-91.0, -95.0]])
  scores = [{}, {}]
  score_lib.reached(run(-90.0), tmp_path, scores)
  score_lib.reached(run(None), tmp_path, scores)
  assert scores == [{}, {}]


def test_where_every_dispatch_ends_in_a_look_seconds_are_of_both(tmp_path):
  written(tmp_path, [-95.0, -80.0], every=1)
  scores = [{}]
  score_lib.reached(run(-90.0), tmp_path, scores)
  assert scores[0]['scores']['seconds_to_target'] == COMPILE + 2 * (TRAIN + LOOK)
