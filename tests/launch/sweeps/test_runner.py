"""What a sweep and a search read of their runs."""

import json
import types

import pytest

from launch.cli import registry
from launch.runs import directory as rundir
from launch.sweeps import plan, runner
from tests.launch.reports import handmade

ENTRY = registry.load('dbn')
STACK = dict(layers='8-4', num_steps=20)


def points(*rates):
  return plan.points(ENTRY, ['digits'], [{'learning_rate': rate} for rate in rates], [0], STACK)


def write(sweep, point, **line):
  directory = sweep.directory(point)
  directory.mkdir(parents=True)
  (directory / 'metrics.jsonl').write_text(json.dumps({'step': 40, **line}) + '\n')


def test_the_headline_of_a_run_with_phases_is_that_of_the_last(tmp_path):
  sweep = runner.Sweep(ENTRY, tmp_path, sample_space=None)
  one, two = points(0.1, 0.2)
  write(sweep, one, **{'layer1/valid_bound_quick': -1.0, 'layer2/valid_bound_quick': -30.0})
  write(sweep, two, **{'layer1/valid_bound_quick': -1.0})  # stopped in the first
  assert sweep.value(one, headline=True) == -30.0
  assert sweep.value(two, headline=True) is None
  table = sweep.table([one, two])
  assert 'dbn: layer2/valid_bound_quick' in table and '-30' in table
  scored = runner.Sweep(ENTRY, tmp_path)  # a score without nats, as of a classifier
  value = handmade.result(0, -18.0, {'experiment': 'dbn', 'variant': 'digits',
                                     'hyperparameters': {}})
  path = scored.directory(one) / 'result.json'
  path.write_text(json.dumps(value | {'test_nats': None, 'kind': 'none', 'lower': None,
                                      'upper': None, 'standard_error': None}))
  assert 'dbn: layer2/valid_bound_quick' in scored.table([one]) and '-30' in scored.table([one])
  path.write_text(json.dumps(value))
  assert 'dbn: mean test nats' in scored.table([one]) and '-18' in scored.table([one])


def test_a_sweep_in_which_all_fail_is_an_error(tmp_path):
  sweep = runner.Sweep(ENTRY, tmp_path, sample_space=None)
  one, two = points(0.1, 0.2)
  write(sweep, one)
  (sweep.directory(one) / rundir.FAILED).write_text('not finite at step 3\n')
  sweep.require_some([one, two])
  write(sweep, two)
  (sweep.directory(two) / rundir.FAILED).write_text('not finite at step 5\n')
  with pytest.raises(runner.AllFailed, match='all 2 runs failed.*not finite at step 3'):
    sweep.require_some([one, two])


@pytest.mark.parametrize('value', [None, -30.0])
def test_a_search_in_which_all_fail_is_an_error(tmp_path, capsys, value):
  pytest.importorskip('optuna', reason='optuna is an extra')
  from launch.sweeps import search
  sweep = types.SimpleNamespace(
    entry=ENTRY, workdir=tmp_path, programs=list, describe=lambda programs: 'plan',
    run=lambda programs: True, state_of=lambda point: 'done',
    value=lambda point, headline: value)
  axes = plan.axes(ENTRY, ['learning_rate=1e-3..1:log'], ranges=True)
  options = dict(trials=3, batch=2, seed=0, dry_run=False)
  if value is None:
    with pytest.raises(runner.AllFailed, match='all 3 trials failed.*layer2/valid_bound_quick'):
      search.run(sweep, ['digits'], axes, STACK, [0], **options)
  else:
    assert search.run(sweep, ['digits'], axes, STACK, [0], **options)
    assert 'best of 3: layer2/valid_bound_quick -30 with' in capsys.readouterr().out
