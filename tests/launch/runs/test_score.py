"""Scoring a run: the number comes first, and when a run reached its target in how many seconds."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data
from gen_models.estimators.base import Memory
from gen_models.evaluation import json_fields
from gen_models.experiment import EXACT, Samples
from gen_models.models.gibbs import Chains
from launch import errors
from launch.reports import documents, tables
from launch.runs import load, result as result_lib, score as score_lib

TRAIN, LOOK, COMPILE = 2.0, 5.0, 30.0  # seconds: of a dispatch, of a look, before the first


def written(directory, nats, every=4):
  """metrics.jsonl of dispatches of 100 updates, the `every`-th of which end in a look."""
  seconds, looks = COMPILE, iter(nats)
  with open(directory / 'metrics.jsonl', 'w') as file:
    for i in range(1, every * len(nats) + 1):
      seconds += TRAIN + (LOOK if i % every == 0 else 0)
      line = {'step': 100 * i, 'seconds': seconds, 'moment_error': 0.1}
      file.write(json.dumps({**line, 'nats': next(looks)} if i % every == 0 else line) + '\n')


def run(target, seeds=1):
  experiment = types.SimpleNamespace(target=target, headline_metric='nats')
  return types.SimpleNamespace(experiment=experiment, config={'seeds': seeds})


def test_seconds_to_a_target_are_those_of_training(tmp_path):
  written(tmp_path, [-95.0, -91.0, -89.9, -92.0, -80.0])
  assert score_lib.reached(run(-90.0), tmp_path) == [
    {'updates_to_target': 1200, 'seconds_to_target': pytest.approx(COMPILE + 12 * TRAIN)}]


def test_every_seed_of_one_program_has_its_own(tmp_path):
  written(tmp_path, [[-95.0, -89.0], [-91.0, -95.0], [-90.0, -95.0]])
  scores = score_lib.reached(run(-90.0, 2), tmp_path)
  assert [s['updates_to_target'] for s in scores] == [1200, 400]


def test_a_target_that_one_seed_never_reached_is_no_score(tmp_path):
  written(tmp_path, [[-95.0, -89.0], [-91.0, -95.0]])
  assert score_lib.reached(run(-90.0, 2), tmp_path) == score_lib.reached(run(None), tmp_path) == []


def test_seconds_include_validation_where_every_dispatch_ends_in_one(tmp_path):
  written(tmp_path, [-95.0, -80.0], every=1)
  score, = score_lib.reached(run(-90.0), tmp_path)
  assert score['seconds_to_target'] == COMPILE + 2 * (TRAIN + LOOK)


# The likelihood is written first; what fails after it is a remark.


def scored(monkeypatch, workdir, evaluate, num_test=300, sample=None, environment='[]',
           lines=None, thorough=None, wanted=False, chains=False):
  """The result of a run that was never trained, and the lines that were reported."""
  digits = data.load('digits')
  dataset = digits._replace(test=data.Arrays(digits.test.images[:num_test]))
  experiment = types.SimpleNamespace(
    evaluate=lambda *args: evaluate, thorough=thorough, dataset='digits', protocol='',
    sample=sample, binarisation='threshold', target=None, headline=None)
  memory = Memory(chains=Chains(np.ones((2, 64)), np.zeros((2, 3))) if chains else ())
  config = {'experiment': 'rbm_digits', 'variant': None, 'hyperparameters': {}, 'seed': 0,
            'seeds': 1}
  state = types.SimpleNamespace(params={'w': np.zeros(3)}, average=(), memory=memory)
  monkeypatch.setattr(load, 'run', lambda *args: load.Run(
    config, experiment, state, 7, dataset=dataset))
  (workdir / 'metrics.jsonl').write_text('{"step": 7, "seconds": 1.5}\n')
  if environment is not None:
    (workdir / 'environment.json').write_text(environment)
  lines = [] if lines is None else lines
  score_lib.score(workdir, report=lines.append, thorough=wanted)
  return result_lib.read(workdir / 'result.json'), lines


def of_steps(num):
  return types.SimpleNamespace(phases=[types.SimpleNamespace(num_steps=num)],
                               binarisation='threshold', sample=lambda *args: None)


SCORE = {'test_nats': -20.0, 'kind': 'ais', 'num_images': 3, 'binarisation': 'threshold',
         'standard_error': float('nan'), 'effective_sample_size': 1.0, 'scores': {'x': np.inf}}


def test_a_standard_error_that_is_not_a_number_costs_no_likelihood(monkeypatch, tmp_path):
  result, lines = scored(monkeypatch, tmp_path, SCORE)
  assert result.score.test_nats == -20 and result.score.standard_error is None
  assert result.score.scores == {'x': None}
  assert any('standard_error was nan' in line for line in result.score.remarks)
  assert any('scores.x was inf' in line for line in lines)
  assert 'nan' not in tables.of_result(result).replace('standard_error was nan', '')


def test_a_thorough_score_is_the_one_that_the_experiment_has(monkeypatch, tmp_path):
  found = {wanted: scored(monkeypatch, tmp_path, SCORE, wanted=wanted,
                          thorough=lambda *args: {**SCORE, 'test_nats': -21.0})[0]
           for wanted in (False, True)}
  assert found[False].score.test_nats == -20 and found[True].score.test_nats == -21
  # The command that a table prints for the row makes it again.
  assert [' --thorough' in documents.commands(found[w]) for w in (False, True)] == [False, True]
  for why, says in ((None, 'nothing$'), (EXACT, r'nothing \(the likelihood is exact\)$')):
    with pytest.raises(errors.UsageError,
                       match=f'leave out --thorough: the score of rbm_digits .* {says}'):
      scored(monkeypatch, tmp_path, SCORE, wanted=True, thorough=why)


@pytest.mark.parametrize('chains', [False, True])
def test_a_thorough_score_begins_from_the_chains_of_training(monkeypatch, tmp_path, chains):
  given = []

  def thorough(key, params, dataset, report, chains_NV):
    given.append(chains_NV)
    return SCORE

  scored(monkeypatch, tmp_path, SCORE, wanted=True, thorough=thorough, chains=chains)
  assert given[0].shape == (2, 64) if chains else given == [None]


@pytest.mark.parametrize('environment', [
  None, '', '3', '{}', '[]', '[3]', '[{}]', '[{"platform": 3, "device_kind": "cpu"}]'])
def test_no_or_a_damaged_environment_is_a_remark(monkeypatch, tmp_path, environment):
  result, _ = scored(monkeypatch, tmp_path, SCORE, environment=environment)
  assert result.score.test_nats == -20 and result.machine is None
  assert sum('where it was trained' in line for line in result.score.remarks) == 1
  assert result.train_seconds == 1.5
  assert 'a machine not recorded' in tables.notes([tables.Line('it', result)])


def test_too_few_images_for_the_scores_of_draws_are_a_remark(monkeypatch, tmp_path):
  def sample(key, params, num, label):
    return Samples(jnp.zeros((num, 8, 8)), jnp.zeros((num, 8, 8)))

  result, _ = scored(monkeypatch, tmp_path, SCORE, num_test=3, sample=sample)
  assert result.score.test_nats == -20 and not result.samples
  assert any('scores of draws' in line and '5 other neighbours' in line
             for line in result.score.remarks)
  assert score_lib.is_scored(tmp_path, of_steps(result.step), 'own')  # again would not help
  assert not score_lib.is_scored(tmp_path, of_steps(result.step), 'dynamic')  # was not tried
  assert not score_lib.is_scored(tmp_path, of_steps(result.step + 1), 'none')


def test_a_run_that_has_not_come_to_its_last_phase_is_told_to_train_on(monkeypatch, tmp_path):
  def evaluate(key, params, dataset, report):
    return params.decoder

  monkeypatch.setattr(load, 'run', lambda *args: load.Run(
    {'experiment': 'autoencoder', 'variant': None, 'hyperparameters': {}, 'seed': 0, 'seeds': 1},
    types.SimpleNamespace(evaluate=evaluate, sample=None, phases=[
      types.SimpleNamespace(name=name, num_steps=4) for name in ('layer1', 'finetune')]),
    types.SimpleNamespace(params={'w': np.zeros(3)}, average=(), memory=Memory()), step,
    dataset=data.load('digits')))
  for step in (3, 4):
    with pytest.raises(errors.UsageError, match=f'made {step} updates .* its phase finetune yet'):
      score_lib.score(tmp_path, report=lambda line: None)
  step = 5
  with pytest.raises(AttributeError):  # a fault of the experiment is its own
    score_lib.score(tmp_path, report=lambda line: None)


def test_draws_that_were_compared_in_another_space_do_not_count(monkeypatch, tmp_path):
  result, _ = scored(monkeypatch, tmp_path, SCORE)

  def kept(**fields):
    whole = dataclasses.replace(result, **fields).to_json()
    (tmp_path / 'result.json').write_text(json.dumps(whole))
    return [space for space in ('none', 'own', 'threshold', 'dynamic', 'inception:a/w.npz',
                                'inception:b.npz', 'dinov2:w.npz')
            if score_lib.is_scored(tmp_path, of_steps(result.step), space)]

  assert kept() == ['none']
  assert kept(sample_space='threshold') == ['none', 'own', 'threshold']
  assert kept(sample_space='dynamic') == ['none', 'dynamic']
  assert kept(sample_space='threshold', sample_network={
    'network': 'inception', 'weights': 'w.npz'}) == ['none', 'inception:a/w.npz']


def test_a_kill_while_draws_are_scored_leaves_the_likelihood_and_says_so(monkeypatch, tmp_path):
  def sample(*args):
    raise SystemExit(143)

  with pytest.raises(SystemExit):
    scored(monkeypatch, tmp_path, SCORE, sample=sample)
  result = result_lib.read(tmp_path / 'result.json')
  assert result.score.test_nats == -20 and score_lib.UNFINISHED in result.score.remarks
  assert not score_lib.is_scored(tmp_path, of_steps(result.step), 'none')  # a sweep scores it again


def test_what_is_no_score_is_refused_by_name_and_reported(monkeypatch, tmp_path):
  lines = []
  with pytest.raises(json_fields.Malformed, match='rbm_digits returned no score: kind is missing'):
    scored(monkeypatch, tmp_path, {'test_nats': -3.0}, lines=lines)
  assert lines == ['{"test_nats": -3.0}']


@pytest.mark.parametrize('text, line', [
  ('', 'not JSON'), ('[]', 'not an object'), ('{"experiment": 3}', 'experiment is 3'),
  ('[' * 100_000, 'not JSON')])
def test_a_result_that_is_none_names_its_file_and_field(tmp_path, text, line):
  (tmp_path / 'result.json').write_text(text)
  with pytest.raises(json_fields.Malformed, match=line) as caught:
    result_lib.read(tmp_path / 'result.json')
  assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)


def without_nulls(value):
  if isinstance(value, dict):
    return {k: without_nulls(v) for k, v in value.items() if v is not None}
  return [without_nulls(v) for v in value] if isinstance(value, list) else value


def test_every_committed_result_is_a_record_and_is_written_as_it_was():
  paths = sorted(tables.RESULTS.glob('*-*.json'))
  assert len(paths) > 50
  for path in paths:
    value = json.loads(path.read_text(encoding='utf-8'))
    assert without_nulls(result_lib.read(path).to_json()) == without_nulls(value), path
