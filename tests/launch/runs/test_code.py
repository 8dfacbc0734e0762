"""The code of a user's file is part of a run: an edited one does not resume it unawares."""

import pathlib
import textwrap

import pytest

from launch import errors, results
from launch.cli import hyperparameters, registry
from launch.reports import collect
from launch.runs import directory as rundir, load, score
from launch.sweeps import plan, runner
from tests.launch.commands import refused, run

EXPERIMENT = '''
  """Eight units on the digits."""
  import optax
  import helper
  from gen_models import data
  from gen_models.evaluation import likelihood
  from gen_models.experiment import Experiment, Phase
  from gen_models.models import rbm

  def experiment(*, rate: float = 0.05, sizes: tuple[int, ...] = (4,), num_steps: int = 20):
    def init(key, arrays, previous_params):
      return rbm.init(key, 64, sizes[0], arrays.images.reshape(-1, 64).mean(0) / 16)

    def evaluate(key, params, dataset, report):
      return likelihood.exact(params, data.fixed(dataset.test, 'threshold', 16),
                              binarisation='threshold')

    phase = Phase('rbm', init, helper.estimator(), optax.sgd(rate),
                  data.batches(50, 'threshold', 16), num_steps, batch_size=50)
    return Experiment(dataset='digits', binarisation='threshold', phases=(phase,),
                      evaluate=evaluate)
'''
HELPER = '''
  from gen_models.estimators.contrastive import contrastive
  from gen_models.estimators.negative import reconstruction
  from gen_models.models import rbm

  def estimator():
    return contrastive(rbm, reconstruction(1))
'''


@pytest.fixture(autouse=True)
def nothing_is_trusted(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))


@pytest.fixture
def mine(tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'helper.py').write_text(textwrap.dedent(HELPER))
  path = tmp_path / 'mine' / 'chains.py'
  path.write_text(textwrap.dedent(EXPERIMENT))
  return path


def config(path, **options):
  entry = registry.load(str(path), **options)
  return rundir.configuration(entry, None, hyperparameters.resolve(entry))


def edit(path):
  path.write_text(path.read_text() + '\n# edited\n')


def test_a_configuration_has_the_code_of_users_and_no_other(mine):
  assert set(config(mine)['code']) == {'chains.py', 'helper.py'}
  ours = registry.load('rbm_digits')
  assert set(rundir.configuration(ours, 'pcd', hyperparameters.resolve(ours, 'pcd'))) == {
    'experiment', 'variant', 'hyperparameters', 'seed', 'seeds'}


@pytest.mark.parametrize('name', ['chains.py', 'helper.py'])
def test_an_edited_file_is_refused_until_it_is_accepted(mine, tmp_path, name):
  workdir, said = tmp_path / 'run', []
  workdir.mkdir()
  before = config(mine)
  assert not rundir.claim(workdir, before, say=said.append)
  assert rundir.claim(workdir, before, say=said.append)
  edit(mine.with_name(name))
  (workdir / 'checkpoints' / '30').mkdir(parents=True)
  with pytest.raises(rundir.ForeignRun, match=f'other code: {name} .*--from=.*--accept_code'):
    rundir.claim(workdir, config(mine), say=said.append)
  assert rundir.read_config(workdir) == rundir._as_recorded(before)
  assert rundir.claim(workdir, config(mine), accept_code=True, say=said.append)
  recorded = rundir.read_config(workdir)
  accepted, = recorded['accepted_code']
  assert recorded['code'] == before['code'] and accepted['code'] == config(mine)['code']
  assert accepted['step'] == 30 and accepted['time']
  assert rundir.claim(workdir, config(mine), say=said.append)  # said once, it holds
  assert rundir.read_config(workdir) == recorded and not said
  mine.with_name(name).write_text(textwrap.dedent(EXPERIMENT if name == 'chains.py' else HELPER))
  with pytest.raises(rundir.ForeignRun, match='other code'):
    rundir.claim(workdir, config(mine))  # back to what it was: that is not what it was last


def test_unknown_code_of_an_old_run_is_reported_once(mine, tmp_path):
  old = {k: v for k, v in config(mine).items() if k != 'code'} | {'experiment': 'chains.py'}
  said = []
  assert not rundir.claim(tmp_path, old, say=said.append)
  assert rundir.claim(tmp_path, config(mine), say=said.append)
  assert rundir.claim(tmp_path, config(mine), say=said.append)
  line, = said
  assert 'nothing is known of the code' in line
  edit(mine)
  with pytest.raises(rundir.ForeignRun, match='other code'):
    rundir.claim(tmp_path, config(mine), say=said.append)


def test_the_file_may_lie_elsewhere_but_not_be_another(mine, tmp_path):
  assert not rundir.claim(tmp_path, config(mine))
  moved = mine.parent.rename(tmp_path / 'moved') / 'chains.py'
  assert rundir.claim(tmp_path, config(moved))
  other = moved.rename(moved.with_name('other.py'))
  with pytest.raises(rundir.ForeignRun, match="experiment is 'chains.py' there, 'other.py' here"):
    rundir.claim(tmp_path, config(other))


@pytest.mark.parametrize('there', [
  {'code': []}, {'accepted_code': {}}, {'accepted_code': []}, {'accepted_code': [3]},
  {'accepted_code': [{}]}, {'estimator': 3}])
def test_code_that_makes_no_sense_is_damage(mine, tmp_path, there):
  rundir.claim(tmp_path, config(mine) | there)
  with pytest.raises(rundir.ForeignRun, match='does not describe'):
    rundir.read_config(tmp_path)


ESTIMATORS = '''
  from helper import estimator

  def mine():
    return estimator()

  def grad(key, params, memory, batch):
    return params, memory, {}
'''


def test_a_users_estimator_is_in_the_configuration_by_its_name(mine, tmp_path):
  path = mine.with_name('estimators.py')
  path.write_text(textwrap.dedent(ESTIMATORS))
  entry = registry.load('rbm_digits', estimator=f'{path}:mine')
  made = rundir.configuration(entry, 'pcd', hyperparameters.resolve(entry, 'pcd'))
  assert made['estimator'] == f'{path}:mine'
  assert set(made['code']) == {'estimators.py', 'helper.py'}
  phase, = entry.experiment(**made['hyperparameters']).phases
  usual, = registry.load('rbm_digits').experiment(**made['hyperparameters']).phases
  assert phase.estimator != usual.estimator and phase.name == usual.name
  assert registry.load('rbm_digits', f'{path}:grad').experiment().phases[0].estimator
  assert not rundir.claim(tmp_path, made)
  bare = registry.load('rbm_digits')
  with pytest.raises(rundir.ForeignRun, match="estimator is 'estimators.py:mine' there, 'absent'"):
    rundir.claim(tmp_path, rundir.configuration(bare, 'pcd', made['hyperparameters']))
  read = registry.load_recorded('rbm_digits', tmp_path, made['estimator'])
  assert (read.code, read.estimator) == (entry.code, entry.estimator)
  edit(path)
  with pytest.raises(errors.UsageError, match=r'launch.audit --estimator=.*estimators.py:mine'):
    registry.load_recorded('rbm_digits', tmp_path, made['estimator'])
  with pytest.raises(errors.UsageError, match='one phase, and .* has layer1, layer2'):
    registry.load('dbn', f'{path}:mine').experiment()
  row, = collect.gather([tmp_path]).rows
  assert 'estimators.py:mine' in row.name


def test_helpers_of_one_name_in_two_folders_are_both_recorded(mine, tmp_path):
  (tmp_path / 'other').mkdir()
  path = tmp_path / 'other' / 'estimators.py'
  path.write_text(textwrap.dedent(ESTIMATORS))
  path.with_name('helper.py').write_text(textwrap.dedent(HELPER) + '# another\n')
  entry = registry.load(str(mine), f'{path}:mine')
  assert set(entry.code) == {'chains.py', 'helper.py', 'estimators.py', 'other/helper.py'}
  assert entry.experiment(**hyperparameters.resolve(entry)).phases


def test_a_sweep_leaves_what_is_finished_and_refuses_the_rest(mine, tmp_path):
  def sweep(**options):
    entry = registry.load(str(mine))
    found = runner.Sweep(entry, tmp_path / 'sweep', sample_space=None, **options)
    return found, plan.points(entry, [None], [{}], [0, 1])
  found, points = sweep()
  for point in points:
    found.directory(point).mkdir(parents=True)
    rundir.claim(found.directory(point), found.config(point))
  (found.directory(points[0]) / 'checkpoints' / '20').mkdir(parents=True)
  assert [found.state_of(p) for p in points] == ['done', 'open']
  edit(mine)
  found, points = sweep()
  with pytest.raises(rundir.ForeignRun, match='seed1 was trained with other code'):
    found.programs(points)
  found, points = sweep(accept_code=True)
  assert len(found.programs(points)) == 1
  assert ['accepted_code' in rundir.read_config(found.directory(p)) for p in points] == [
    False, True]


@pytest.mark.slow
def test_a_users_files_from_training_to_a_score(mine, tmp_path):
  """Resumed from another folder, refused when edited, accepted, scored under its own name."""
  path = mine.with_name('estimators.py')
  path.write_text(textwrap.dedent(ESTIMATORS))
  words = [f'--experiment={mine}', f'--estimator={path}:mine', f'--workdir={tmp_path / "run"}']
  run('train', *words, '--nopage')
  assert 'resuming' in run('train', *words, '--nopage').stdout
  edit(mine.with_name('helper.py'))
  assert 'other code: helper.py' in refused('train', *words)
  run('train', *words, '--accept_code', '--nopage')
  found = run('evaluate', f'--workdir={tmp_path / "run"}', '--sample_space=none')
  assert 'chains.py estimators.py:mine' in found.stdout
  result = score.json.loads(found.stdout.splitlines()[-1])
  assert result['estimator'] == f'{path}:mine' and len(result['code']) == 3
  assert load.run(tmp_path / 'run').step == 20
  rundir.files.write_json(tmp_path / 'run' / 'result.json', result | {'experiment': 'rbm_digits'})
  with pytest.raises(errors.UsageError, match='of your estimator'):
    results.add([str(tmp_path / 'run')])
  assert pathlib.Path(tmp_path / 'run' / 'report.html').exists()
