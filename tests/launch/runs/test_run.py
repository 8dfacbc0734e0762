"""Runs in a script: read without their data, from any directory, after they were moved."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import gen_models as gm
from gen_models.training import checkpoint
from launch import errors
from launch.runs import directory as rundir
from tests.launch.commands import ROOT, run, small
from tests.launch.standing import standing

MINE = '''
from experiments import rbm_digits
VARIANTS = {}
def experiment(*, num_hidden: int = 3, num_steps: int = 20):
  return rbm_digits.experiment(num_hidden=num_hidden, num_steps=num_steps)
'''


@pytest.fixture(name='trained', scope='module')
def fixture_trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'a'
  run('train', *small(2000), '--seeds=2', f'--workdir={workdir}')
  return workdir


def test_a_moved_run_is_read_from_any_directory_in_one_line(trained, tmp_path):
  shutil.copytree(trained, tmp_path / 'elsewhere' / 's')
  code = "import gen_models as gm; run = gm.load('s'); print(run.step)"
  done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path / 'elsewhere', timeout=100,
                        capture_output=True, text=True,
                        env={**os.environ, 'PYTHONPATH': str(ROOT)})
  assert (done.returncode, done.stdout, done.stderr) == (0, '2000\n', '')


def test_a_run_is_read_without_its_data(trained, monkeypatch):
  def load(*args):
    raise gm.data.MissingData('the data are gone')
  monkeypatch.setattr(gm.data, 'load', load)
  read = gm.load(trained)
  assert read.done and read.step == 2000 and read.model is gm.models.rbm
  assert read.config['hyperparameters']['num_hidden'] == 5
  assert read.params.w_VH.shape == (2, 64, 5) and read.params_of(1).w_VH.shape == (64, 5)
  history = read.metrics()['valid_nats']
  np.testing.assert_array_equal(history.step, [1000, 2000])
  assert history.value.shape == (2, 2)
  draws = read.sample(jax.random.key(0), 7, replica=1)
  assert draws.draws.shape == draws.means.shape == (7, 8, 8)
  with pytest.raises(ValueError, match='trained without classes'):
    read.sample(jax.random.key(0), 7, label=3)
  with pytest.raises(gm.data.MissingData, match='are gone'):
    read.dataset  # noqa: B018
  assert 'rbm_digits' in repr(read)


def test_a_run_answers_questions_about_rows(trained):
  read, rows = gm.load(trained), gm.data.load('digits').test.rows[:4]
  v_BV = gm.data.fixed(gm.data.Arrays(rows), 'threshold', 16)
  params = read.params_of(1)
  np.testing.assert_allclose(read.features(rows, replica=1),
                             gm.models.rbm.hidden_mean(params, v_BV), atol=1e-5)
  np.testing.assert_allclose(read.log_likelihood(rows, replica=1),
                             gm.models.rbm.log_likelihood(params, v_BV), atol=1e-3)
  assert len(read.reconstruction(rows)) == 4
  with pytest.raises(errors.UsageError, match='classes: '):
    read.ask('classes', rows)


def test_a_step_and_the_best_are_asked_for(trained):
  best = gm.load(trained, 'best').step
  assert best in (1000, 2000) and gm.load(trained, best).step == best
  with pytest.raises(FileNotFoundError, match='no checkpoint of step 7'):
    gm.load(trained, 7)
  with pytest.raises(errors.UsageError, match="step='newest': give a number"):
    gm.load(trained, 'newest')


def test_numbers_are_read_as_the_commands_read_them_and_jax_is_left_as_it_was(trained):
  before = jax.config.jax_default_matmul_precision
  gm.load(trained).sample(jax.random.key(0), 1)
  assert jax.config.jax_default_matmul_precision == before
  with jax.enable_x64(True), pytest.raises(errors.UsageError, match='in float32; unset it'):
    gm.load(trained)


def test_what_is_no_run_is_one_line_with_the_mend(trained, tmp_path):
  with pytest.raises(rundir.ForeignRun, match='is not a run directory'):
    gm.load(tmp_path)
  shutil.copytree(trained, tmp_path / 'a')
  config = json.loads((tmp_path / 'a' / 'config.json').read_text())
  config['hyperparameters']['num_hidden'] = 6
  (tmp_path / 'a' / 'config.json').write_text(json.dumps(config))
  with pytest.raises(checkpoint.ForeignCheckpoint, match='num_hidden is 5 there, expected 6'):
    gm.load(tmp_path / 'a')
  shutil.rmtree(tmp_path / 'a' / 'checkpoints')
  with pytest.raises(FileNotFoundError, match='has no checkpoint yet'):
    gm.load(tmp_path / 'a')


def test_a_file_that_the_user_has_not_named_does_not_run_but_one_given_does(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
  path = tmp_path / 'mine.py'
  path.write_text(MINE)
  workdir = standing(tmp_path / 'run', str(path), 20)
  assert gm.load(workdir).step == 20
  shutil.rmtree(tmp_path / 'state')  # another machine
  with pytest.raises(errors.UsageError, match='would run as code'):
    gm.load(workdir)
  path = path.rename(tmp_path / 'moved.py')
  with pytest.raises(errors.UsageError, match='no such file here'):
    gm.load(workdir)
  assert gm.load(workdir, experiment=path).step == 20


def test_a_function_of_ones_own_reads_a_run_of_its_file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(MINE)
  workdir = standing(tmp_path / 'run', str(path), 20)

  def experiment(*, num_hidden: int, num_steps: int):
    from experiments import rbm_digits
    return rbm_digits.experiment(num_hidden=num_hidden, num_steps=num_steps)

  assert gm.load(workdir, experiment=experiment).params.w_VH.shape == (64, 3)
  with pytest.raises(errors.UsageError, match='of type int: give a name'):
    gm.load(workdir, experiment=3)
