"""--from: a position in the phases of the new run, with something left to do, or refused."""

import pathlib

import pytest

from gen_models import data
from launch import errors
from launch.cli import hyperparameters, registry
from launch.runs import warm_start
from tests.launch.standing import standing

DBN = dict(variant='digits', layers='8-4', ais_temperatures=50)


def find(old: pathlib.Path, experiment: str, variant: str | None = None, **changes):
  """What launch.train makes of --from=old with these hyperparameters."""
  entry = registry.load(experiment)
  values = hyperparameters.resolve(entry, variant, [f'{k}={v}' for k, v in changes.items()])
  config = {'experiment': experiment, 'variant': variant, 'hyperparameters': values, 'seed': 0,
            'seeds': 1}
  built = entry.experiment(**values)
  return warm_start.find(old, old / 'new', config, built, data.load(built.dataset).train)


@pytest.fixture(name='stack', scope='module')
def fixture_stack(tmp_path_factory):
  """A stack of two layers of 200 updates each: {step: run directory that stands there}."""
  folder = tmp_path_factory.mktemp('stack')
  return {step: standing(folder / str(step), 'dbn', step, num_steps=200, **DBN)
          for step in (100, 300, 400)}


@pytest.fixture(name='single', scope='module')
def fixture_single(tmp_path_factory):
  return standing(tmp_path_factory.mktemp('single') / 'old', 'rbm_digits', 400, 'pcd',
                           num_hidden=5, num_steps=400)


@pytest.mark.parametrize('step, num_steps, message', [
  (400, 300, r'phase layer1 had 200 updates there .* phase layer1 has 300'),
  (300, 250, r'phase layer1 had 200 updates there'),
  (100, 50, r'has made 100 updates of phase layer1, and this run asks for 50'),
  (400, 200, r'has made all 400 updates .* ask for more updates of phase layer2')])
def test_phases_that_do_not_align_are_refused(stack, step, num_steps, message):
  with pytest.raises(errors.UsageError, match=message) as caught:
    find(stack[step], 'dbn', num_steps=num_steps, **DBN)
  assert '\n' not in str(caught.value) and '--from' in str(caught.value)


@pytest.mark.parametrize('step, num_steps', [(100, 300), (300, 200)])
def test_the_phase_at_hand_may_be_longer_and_later_ones_anything(stack, step, num_steps):
  assert find(stack[step], 'dbn', num_steps=num_steps, **DBN)['step'] == step


def test_a_run_with_nothing_left_to_do_is_refused(single):
  with pytest.raises(errors.UsageError, match='nothing is left to do; ask for more updates'):
    find(single, 'rbm_digits', 'pcd', num_hidden=5, num_steps=400, learning_rate=0.01)
  assert find(single, 'rbm_digits', 'pcd', num_hidden=5, num_steps=600)['step'] == 400


def test_the_state_itself_is_asked_where_the_code_of_the_old_run_is_not_known(stack, monkeypatch):
  """As of a run from another machine: 400 is 100 updates of layer 2 here, the state says 200."""
  def unknown(*args):
    raise errors.UsageError('not named yet')

  monkeypatch.setattr(warm_start.registry, 'load_recorded', unknown)
  with pytest.raises(errors.UsageError, match='the state has made 200 updates .* after 100 of 300'):
    find(stack[400], 'dbn', num_steps=300, **DBN)
