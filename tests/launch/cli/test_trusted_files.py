"""A run directory, a checkpoint or a result from elsewhere is data: nothing in it runs."""

import ast
import dataclasses
import hashlib
import os
import pathlib
import py_compile
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data, files
from gen_models.data import cache
from gen_models.training import checkpoint, keys, position
from launch import errors, results
from launch.cli import app, hyperparameters, registry
from launch.runs import directory as rundir, load, result as result_lib
from tests.launch.commands import ROOT, SMALL, refused, run, small

EVIL = '''
import pathlib
pathlib.Path({marker!r}).touch()
VARIANTS = {{}}
def experiment(*, num_hidden: int = 5):
  raise SystemExit('ran')
'''
COMMITTED = ROOT / 'experiments' / 'results' / 'rbm_digits-pcd.json'
CONFIG = {'experiment': 'rbm_digits', 'variant': None, 'hyperparameters': {}, 'seed': 0, 'seeds': 1}


@pytest.fixture(autouse=True)
def nothing_is_trusted(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))


@pytest.fixture
def marker(tmp_path):
  """A file that exists if and only if foreign code has run."""
  return tmp_path / 'ran'


class Payload:
  """Unpickled, it touches a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def foreign_run(directory, **config):
  directory.mkdir(exist_ok=True)
  files.write_json(directory / 'config.json', CONFIG | config)
  return directory


def test_nothing_turns_data_into_code():
  """No pickle, marshal, eval, exec; NumPy files are loaded without pickles."""
  for place in ('gen_models', 'launch', 'experiments'):
    for path in (ROOT / place).rglob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
          roots = {a.name.split('.')[0] for a in node.names} | {
            (getattr(node, 'module', None) or '').split('.')[0]}
          assert not roots & {'pickle', 'cloudpickle', 'dill', 'marshal', 'shelve', 'joblib'}, path
        if not isinstance(node, ast.Call):
          continue
        name = ast.unparse(node.func)
        assert name not in ('eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen'), path
        if name == 'importlib.import_module':
          # a table of names in code, and the names of files of experiments/
          assert path in (ROOT / 'gen_models' / '_lazy.py', ROOT / 'launch' / 'cli' / 'registry.py')
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert keywords.get('shell', 'False') == 'False', f'{path}: a shell reads a string'
        assert keywords.get('allow_pickle', 'False') == 'False', path
        if name == 'np.load':
          assert keywords.get('allow_pickle') == 'False', path


@pytest.mark.parametrize('name', [
  '../evil', 'os.path', 'experiments.rbm_digits', 'rbm_digits/../evil', '/tmp/evil', 'evil.pyc',
  'evil.py/', '_private', '__init__', '', '.', 'rbm_digits\n', 'rbm_digits; touch x', 'https://x/y'])
def test_only_names_of_experiments_and_paths_of_files_resolve(name, tmp_path, monkeypatch, marker):
  monkeypatch.chdir(tmp_path)
  for path in ('evil.py', 'evil.pyc', '../evil.py'):
    pathlib.Path(path).write_text(EVIL.format(marker=str(marker)))
  for read in (registry.load, lambda name: registry.load_recorded(name, tmp_path)):
    with pytest.raises(errors.UsageError, match='unknown experiment'):
      read(name)
  assert not marker.exists()


def test_a_file_named_by_a_foreign_config_does_not_run(tmp_path, marker):
  path = tmp_path / 'it$(touch x).py'
  path.write_text(EVIL.format(marker=str(marker)))
  workdir = foreign_run(tmp_path / 'theirs', experiment=str(path))
  with pytest.raises(errors.UsageError, match='would run as code') as caught:
    load.run(workdir)
  assert not marker.exists()
  # The command that is offered can be pasted: a shell finds one word with nothing to expand.
  assert f"python -m launch.list '--experiment={path}'" in str(caught.value)
  registry.load(str(path))  # the user names it
  assert marker.exists()
  with pytest.raises(SystemExit, match='ran'):
    load.run(workdir)


def test_a_file_that_has_changed_has_to_be_named_again(tmp_path, marker):
  path = tmp_path / 'mine.py'
  path.write_text('def experiment(*, size: int = 3):\n  return size\n')
  registry.load(str(path))
  assert registry.load_recorded(str(path), tmp_path).experiment() == 3
  shutil.move(path, tmp_path / 'other.py')  # the bytes count, not the name
  assert registry.load_recorded(str(tmp_path / 'other.py'), tmp_path).experiment() == 3
  path.write_text(EVIL.format(marker=str(marker)))
  with pytest.raises(errors.UsageError, match='as it is now'):
    registry.load_recorded(str(path), tmp_path)
  assert not marker.exists()


def test_compiled_code_next_to_a_known_file_does_not_run(tmp_path, marker):
  """Python would run a .pyc whose header has the size and time of the file."""
  path, evil = tmp_path / 'mine.py', tmp_path / 'evil.py'
  text = EVIL.format(marker=str(marker))
  evil.write_text(text)
  good = 'def experiment(*, size: int = 3):\n  return size\n'
  path.write_text(good + '#' * (len(text) - len(good)))
  os.utime(path, (1e9, 1e9))
  os.utime(evil, (1e9, 1e9))
  compiled = pathlib.Path(py_compile.compile(str(evil), dfile=str(path)))
  compiled.rename(compiled.with_name(compiled.name.replace('evil', 'mine')))
  assert registry.load(str(path)).experiment() == 3
  assert registry.load_recorded(str(path), tmp_path).experiment() == 3
  assert not marker.exists()


def test_where_nothing_can_be_remembered_the_command_continues(tmp_path, monkeypatch):
  (tmp_path / 'state').write_text('')
  path = tmp_path / 'mine.py'
  path.write_text('def experiment():\n  return 1\n')
  assert registry.load(str(path)).experiment() == 1
  with pytest.raises(errors.UsageError, match='have not named'):
    registry.load_recorded(str(path), tmp_path)


@pytest.mark.parametrize('config, message', [
  ({'hyperparameters': {'num_hidden': '5'}}, "num_hidden is '5', not int"),
  ({'hyperparameters': {'num_hidden': True}}, 'not int'),
  ({'hyperparameters': {'negative': 'os.system'}}, 'negative is'),
  ({'hyperparameters': {'__class__': 1}}, 'no hyperparameter'),
  ({'hyperparameters': [1]}, 'does not describe'), ({'seeds': 0}, 'does not describe'),
  ({'seed': '0'}, 'does not describe'), ({'experiment': ['os']}, 'does not describe'),
  ({'experiment': 'gone.py'}, 'no such file here')])
def test_a_config_that_makes_no_sense_is_refused_in_one_line(tmp_path, config, message):
  with pytest.raises(ValueError, match=message) as caught:
    load.run(foreign_run(tmp_path / 'theirs', **config))
  assert '\n' not in str(caught.value) and app._expected(caught.value)


def test_a_foreign_result_names_no_file_and_runs_none(tmp_path, marker):
  path = tmp_path / 'evil.py'
  path.write_text(EVIL.format(marker=str(marker)))
  for name in (str(path), '../../evil', 'story_digits'):
    assert name not in registry.names()
  result = dataclasses.replace(
    result_lib.read(COMMITTED), trained={}, hyperparameters={'binarisation': 'x; touch y'})
  assert "'--set=binarisation=x; touch y'" in results.keep(result).command


def test_pickles_in_a_cache_are_damage(tmp_path, marker):
  np.save(tmp_path / 'train-images.npy', np.array([Payload(marker)], object), allow_pickle=True)
  digest = hashlib.sha256((tmp_path / 'train-images.npy').read_bytes()).hexdigest()
  files.write_json(tmp_path / 'manifest.json',
                    {'origin': None, 'sha256': {'train-images': digest}})
  assert cache.read(tmp_path, None) is None
  assert not marker.exists()
  np.load(tmp_path / 'train-images.npy', allow_pickle=True)
  assert marker.exists()  # it would have run


def test_pickles_and_code_in_a_run_directory_do_not_run(tmp_path, marker):
  """Every file of a checkpoint replaced by a pickle, and files that Python or orbax might load."""
  entry = registry.load('rbm_digits')
  values = hyperparameters.resolve(entry, None, ['num_hidden=5', 'num_steps=10'])
  workdir = foreign_run(tmp_path / 'theirs', hyperparameters=values)
  experiment = entry.experiment(**values)
  config = rundir.read_config(workdir)
  state = position.abstract_state(experiment, 10, keys.of_run(config['seed']),
                                  data.load('digits').train)
  with rundir.open_checkpoints(workdir, config, experiment) as checkpoints:
    checkpoints.save(10, jax.tree.map(zeros, state))
  assert load.run(workdir).step == 10
  np.save(tmp_path / 'payload.npy', np.array([Payload(marker)], object), allow_pickle=True)
  payload = (tmp_path / 'payload.npy').read_bytes()
  payload = payload[payload.index(b'\x80'):]  # the pickle alone
  for folder in (workdir, workdir / 'checkpoints', workdir / 'checkpoints' / '10'):
    (folder / 'state.pkl').write_bytes(payload)
    (folder / '__init__.py').write_text(EVIL.format(marker=str(marker)))
    (folder / 'conftest.py').write_text(EVIL.format(marker=str(marker)))
  assert load.run(workdir).step == 10
  for path in sorted((workdir / 'checkpoints' / '10').rglob('*')):
    if path.is_file():
      path.write_bytes(payload)
  with pytest.raises(checkpoint.DamagedCheckpoint, match='no good') as caught:
    load.run(workdir)
  assert '\n' not in str(caught.value) and app._expected(caught.value)
  assert not marker.exists()


def zeros(leaf):
  """Of an abstract leaf."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.key(0)
  return jnp.zeros(leaf.shape, leaf.dtype)


def test_the_commands_refuse_a_foreign_file(tmp_path, marker):
  path = tmp_path / 'evil.py'
  path.write_text(EVIL.format(marker=str(marker)))
  workdir = foreign_run(tmp_path / 'theirs', experiment=str(path))
  error = refused('evaluate', f'--workdir={workdir}')
  assert 'would run as code' in error and not marker.exists()
  files.write_json(workdir / 'result.json', {**files.read_json(COMMITTED), 'experiment': str(path)})
  error = refused('results', f'--add={workdir}')
  assert 'only results of files of experiments/ are kept' in error and not marker.exists()


@pytest.mark.slow
def test_train_report_and_sample_run_no_foreign_file(tmp_path, marker):
  path = tmp_path / 'evil.py'
  path.write_text(EVIL.format(marker=str(marker)))
  workdir = foreign_run(tmp_path / 'theirs', experiment=str(path))
  run('report', f'--workdir={workdir}')  # the page shows what it can, and says why not the rest
  assert 'would run as code' in (workdir / 'report.html').read_text() and not marker.exists()
  assert 'would run as code' in refused('sample', f'--workdir={workdir}', f'--out={workdir}/x.png')
  assert 'another run' in refused('train', *SMALL, f'--workdir={workdir}')
  assert not marker.exists()


@pytest.mark.slow
def test_a_directory_whose_name_is_a_command_is_quoted(tmp_path):
  workdir = tmp_path / 'a; touch b'
  done = run('train', *small(10), f'--workdir={workdir}')
  assert f"'--workdir={workdir}'" in done.stdout
