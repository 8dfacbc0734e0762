"""Objects of a user's as hyperparameters: named in words, recorded as words, used as objects."""

import json

import jax
import pytest

import gen_models as gm
from gen_models import data
from gen_models.training import checks, hyper
from launch import errors
from launch.cli import hyperparameters, references, registry
from launch.runs import directory as rundir
from launch.sweeps import plan
from tests.launch.commands import refused, run

FILE = '''
import flax.linen as nn
import jax.numpy as jnp
import gen_models as gm

rbm = gm.models.rbm
seven = 7
cd = gm.estimators.contrastive(rbm, gm.estimators.reconstruction(1))

def pcd():
  return gm.estimators.persistent(20, 1)

def narrow(key, params, memory, v_BV):
  return params._replace(b_V=jnp.zeros(())), memory, {}

def slope(key, critic, real_BV, fake_BV):
  return jnp.mean(critic(real_BV)**2)

class Net(nn.Module):
  num_outputs: int

  @nn.compact
  def __call__(self, x_BD):
    return nn.Dense(self.num_outputs)(x_BD)
'''
SMALL = ('num_hidden=4', 'num_steps=20')


@pytest.fixture
def mine(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
  path = tmp_path / 'mine.py'
  path.write_text(FILE)
  return path


def resolved(name, *overrides):
  entry = registry.load(name)
  return entry, hyperparameters.resolve(entry, None, overrides)


def test_the_words_are_recorded_and_the_object_is_used(mine):
  entry, values = resolved('rbm_digits', f'estimator={mine}:cd', f'negative={mine}:pcd', *SMALL)
  assert json.loads(json.dumps(values))['estimator'] == f'{mine}:cd' == values['estimator']
  assert entry.experiment(**values).phases[0].estimator is values['estimator'].thing
  config = rundir.configuration(entry, None, values)
  assert set(config['code']) == {'mine.py'} and 'estimator' not in config
  again = hyperparameters.recorded_values(entry, json.loads(json.dumps(values)), mine)
  assert again == values and again['negative'].thing().sample


@pytest.mark.parametrize('override, message', [
  ('estimator={}:cs', "has no 'cs'; did you mean cd"), ('estimator={}', '--set=estimator=.*:name'),
  ('estimator=no.py:cd', 'no estimator file no.py'), ('estimator=cd', 'not path.py:name'),
  ('estimator={}:seven', 'of type int; expected an Estimator'),
  ('negative={}:cd', 'of type Estimator; expected a Negative'),
  ('direction={}:slope', 'takes 4 arguments; expected a Direction')])
def test_mistakes_are_one_line(mine, override, message):
  with pytest.raises(errors.UsageError, match=message) as caught:
    resolved('rbm_digits', override.format(mine))
  assert '\n' not in str(caught.value)


def test_gradients_of_other_shapes_are_refused_before_training(mine):
  entry, values = resolved('rbm_digits', f'estimator={mine}:narrow', *SMALL)
  digits = data.load('digits')
  with pytest.raises(checks.Unfit, match=r'the gradient at b_V is float32\[\], expected.*\[64\]'):
    hyper.bind(entry.experiment, values, digits.train, digits.valid)


def test_what_a_run_directory_names_runs_only_as_it_was_named(mine):
  entry, values = resolved('vae', f'encoder={mine}:Net', 'dataset=digits')
  words = {'encoder': str(values['encoder'])}
  assert hyperparameters.recorded_values(entry, words, mine)['encoder'].thing.__name__ == 'Net'
  mine.write_text(FILE + 'raise SystemExit("ran")\n')
  with pytest.raises(errors.UsageError, match='would run as code.*launch.list --experiment=vae '
                     f'--set=encoder={mine}:Net'):
    hyperparameters.recorded_values(entry, words, mine)
  mine.unlink()
  with pytest.raises(errors.UsageError, match='no such file here'):
    hyperparameters.recorded_values(entry, words, mine)


def test_a_run_resumes_where_the_file_lies_elsewhere_and_not_with_another_or_an_edited_one(
    mine, tmp_path):
  def config(path):
    entry, values = resolved('rbm_digits', f'estimator={path}:cd')
    return rundir.configuration(entry, None, values)
  assert not rundir.claim(tmp_path, config(mine))
  (tmp_path / 'moved').mkdir()
  moved = mine.rename(tmp_path / 'moved' / 'mine.py')
  assert rundir.claim(tmp_path, config(moved))
  moved.write_text(FILE + '# edited\n')
  with pytest.raises(rundir.ForeignRun, match='other code: mine.py .*--accept_code'):
    rundir.claim(tmp_path, config(moved))
  assert rundir.claim(tmp_path, config(moved), accept_code=True)
  other = moved.rename(moved.with_name('other.py'))
  with pytest.raises(rundir.ForeignRun, match="estimator is 'mine.py:cd' there, 'other.py"):
    rundir.claim(tmp_path, config(other))


def test_a_run_from_before_a_hyperparameter_with_the_default_none_is_the_same_run(tmp_path):
  entry, values = resolved('rbm_digits')
  config = rundir.configuration(entry, None, values)
  old = {k: v for k, v in values.items() if k != 'estimator'}
  rundir.claim(tmp_path, config | {'hyperparameters': old})
  assert rundir.claim(tmp_path, config)
  checkpoints = rundir.open_checkpoints(tmp_path, config, entry.experiment(**values))
  assert checkpoints._identity['hyperparameters'] == old


def test_a_sweep_over_objects_has_programs_and_directories_for_each(mine, tmp_path):
  entry = registry.load('rbm_digits')
  axes = plan.axes(entry, [f'estimator={mine}:cd,none', 'num_hidden=4'])
  points = plan.points(entry, [None], plan.grid(axes), [0, 1])
  assert [p.name for p in points[:3:2]] == [
    'defaults,estimator=mine.cd,num_hidden=4/seed0', 'defaults,estimator=None,num_hidden=4/seed0']
  programs = plan.programs(entry, points, data.load)
  assert [len(p.points) for p in programs] == [2, 2]
  (tmp_path / 'b').mkdir()
  twin = tmp_path / 'b' / 'mine.py'
  twin.write_text(FILE)
  axes = plan.axes(entry, [f'estimator={mine}:cd,{twin}:cd'])
  with pytest.raises(errors.UsageError, match='one directory, defaults,estimator=mine.cd'):
    plan.points(entry, [None], plan.grid(axes), [0])


def test_two_estimators_are_refused(mine):
  entry = registry.load('rbm_digits', f'{mine}:cd')
  with pytest.raises(errors.UsageError, match='two estimators: give one'):
    entry.experiment(**hyperparameters.resolve(entry, None, [f'estimator={mine}:cd']))


@pytest.mark.parametrize('name, overrides', [
  ('gan', ('dataset=digits', 'nets=dense', 'width=8', 'penalty={}:slope', 'generator={}:Net',
           'critic={}:Net')),
  ('vae', ('dataset=digits', 'binarisation=threshold', 'encoder={}:Net', 'decoder={}:Net',
           'latents=3'))])
def test_networks_and_penalties_fit_into_every_program(mine, name, overrides):
  entry, values = resolved(name, *(word.format(mine) for word in overrides), 'num_steps=10')
  digits = data.load('digits')
  bound = hyper.bind(entry.experiment, values, digits.train, digits.valid)
  params = jax.eval_shape(lambda key: bound.phases[0].init(key, digits.train, None),
                          jax.random.key(0))
  assert 'Dense_0' in str(jax.tree_util.tree_structure(params))


def test_the_list_shows_and_checks_values(mine):
  assert f'path.py:name of a flax module | None = {mine}:Net' in run(
    'list', '--experiment=vae', f'--set=encoder={mine}:Net').stdout
  assert 'give --experiment' in refused('list', '--set=encoder=x.py:y')


def test_words_of_a_reference_are_short_in_names():
  assert references.short('/a/b/mine.py:cd') == 'mine.py:cd' and references.short(0.1) == 0.1
  assert not references.is_one('pcd') and references.is_one('mine.py')


def test_from_python_an_object_is_itself_and_a_run_directory_wants_its_name(mine, tmp_path):
  entry = registry.load('rbm_digits')
  values = hyperparameters.resolve(entry, None, {'negative': gm.estimators.persistent(20)})
  assert values['negative'].file is None and entry.experiment(**values).phases
  with pytest.raises(errors.UsageError, match='expected a Negative'):
    hyperparameters.resolve(entry, None, {'negative': 7})
  words = {'negative': f'{mine}:pcd', 'estimator': None}
  assert hyperparameters.resolve(entry, None, words)['negative'].thing().sample
  with pytest.raises(errors.UsageError, match="negative='mine.py:name', or train without"):
    gm.fit('rbm_digits', workdir=tmp_path / 'run', negative=gm.estimators.persistent(20))
  run = gm.fit('rbm_digits', negative=gm.estimators.persistent(20), num_hidden=4, num_steps=2,
               progress=False)
  assert run.step == 2
