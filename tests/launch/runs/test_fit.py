"""Training from a script: the run of the command, whoever begins it and whoever resumes it."""

import json
import re
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

import gen_models as gm
from experiments import rbm_digits
from gen_models.training import metrics
from gen_models.training.record import Diverged
from launch import errors
from launch.runs import directory as rundir
from tests.launch.commands import run, small

WORDS = [*small(2000), '--variant=pcd']
GIVEN = dict(variant='pcd', num_hidden=5, num_steps=2000, progress=False)
MINE = '''
from experiments import rbm_digits
VARIANTS = {}
def experiment(*, num_hidden: int = 5, num_steps: int = 20):
  return rbm_digits.experiment(num_hidden=num_hidden, num_steps=num_steps)
'''


@pytest.fixture(name='commanded', scope='module')
def fixture_commanded(tmp_path_factory):
  """A run of the command; checkpoints at its two validations."""
  workdir = tmp_path_factory.mktemp('run') / 'commanded'
  run('train', *WORDS, f'--workdir={workdir}')
  return workdir


def fingerprints(workdir):
  """Step -> sha256 of the manifest: identity, metrics and all bits of the state."""
  read = gm.load(workdir)
  with rundir.open_checkpoints(workdir, read.config, read.experiment,
                               read_only=True) as checkpoints:
    return {step: checkpoints.fingerprint(step) for step in checkpoints.all_steps()}


def measured(workdir):
  """Lines of metrics.jsonl but for the time that was spent."""
  return [{k: v for k, v in line.items() if k not in ('time', 'seconds')}
          for line in metrics.read(workdir / 'metrics.jsonl')]


def same_run(workdir, other):
  assert fingerprints(workdir) == fingerprints(other)
  assert measured(workdir) == measured(other)
  config, there = (rundir.read_config(path) for path in (workdir, other))
  assert config == there


def interrupted_at(step, number=signal.SIGINT):
  """A replacement for Progress that sends a signal once so many updates were made."""
  class Progress(metrics.Progress):
    def update(self, now, values, headline=None):
      if now == step:
        signal.raise_signal(number)
  return Progress


def test_the_run_is_that_of_the_command_to_the_last_bit(commanded, tmp_path):
  made = gm.fit('rbm_digits', workdir=tmp_path / 'a', **GIVEN)
  same_run(tmp_path / 'a', commanded)
  assert made.done and made.step == 2000 and made.workdir == tmp_path / 'a'
  read = gm.load(tmp_path / 'a')
  for x, y in zip(jax.tree.leaves(made.params), jax.tree.leaves(read.params), strict=True):
    np.testing.assert_array_equal(x, y)
  # The same call again finds nothing to do, and scores come out as launch.evaluate's.
  again = gm.fit(rbm_digits.experiment, 'digits', workdir=tmp_path / 'a', **GIVEN)
  assert again.step == 2000
  score = json.loads(run('evaluate', f'--workdir={tmp_path / "a"}',
                         '--sample_space=none', '--nopage').stdout.splitlines()[-1])
  assert made.evaluate()['test_nats'] == score['test_nats']


@pytest.mark.slow
def test_begun_in_a_script_interrupted_and_resumed_by_the_command(
    commanded, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(metrics, 'Progress', interrupted_at(600))
  half = gm.fit('rbm_digits', workdir=tmp_path / 'a', **(GIVEN | dict(progress=True)))
  assert not half.done and 600 <= half.step < 2000
  assert f'stopped at step {half.step}; the same call resumes' in capsys.readouterr().err
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  done = run('train', *WORDS, f'--workdir={tmp_path / "a"}')
  assert f'resuming {tmp_path / "a"} at step {half.step}' in done.stdout
  same_run(tmp_path / 'a', commanded)


def test_begun_by_the_command_and_resumed_in_a_script(commanded, tmp_path, capsys):
  shutil.copytree(commanded, tmp_path / 'a')
  shutil.rmtree(tmp_path / 'a' / 'checkpoints' / '2000')
  gm.fit('rbm_digits', workdir=tmp_path / 'a', **GIVEN)
  assert 'at step 1000' in capsys.readouterr().err
  same_run(tmp_path / 'a', commanded)


def test_in_memory_the_numbers_are_the_same_and_a_stopped_run_is_continued(
    commanded, monkeypatch, capsys):
  whole = gm.load(commanded)
  monkeypatch.setattr(metrics, 'Progress', interrupted_at(600))
  half = gm.fit('rbm_digits', **(GIVEN | dict(progress=True)))
  assert not half.done and 'start= with this run continues it' in capsys.readouterr().err
  made = gm.fit('rbm_digits', start=half, **GIVEN)
  assert made.done and made.workdir is None
  for x, y in zip(jax.tree.leaves(made.params), jax.tree.leaves(whole.params), strict=True):
    np.testing.assert_array_equal(x, y)
  history = made.metrics()
  np.testing.assert_array_equal(history['valid_nats'].value,
                                whole.metrics()['valid_nats'].value)
  assert history['seconds'].value[-1] > 0
  assert made.sample(jax.random.key(0), 3).draws.shape == (3, 8, 8)
  with pytest.raises(errors.UsageError, match='cannot begin with .* has made 2000 updates'):
    gm.fit('rbm_digits', start=made, **(GIVEN | dict(num_steps=200)))


def test_a_run_of_a_directory_is_continued_in_memory_with_another_rate(commanded):
  made = gm.fit('rbm_digits', start=gm.load(commanded), learning_rate=0.01,
                **(GIVEN | dict(num_steps=2200)))
  assert made.step == 2200 and made.metrics()['valid_nats'].step.tolist() == [2200]
  with pytest.raises(errors.UsageError, match='nothing is left to do'):
    gm.fit('rbm_digits', start=commanded, **GIVEN)


@pytest.mark.slow
def test_seeds_are_replicas(tmp_path):
  given = GIVEN | dict(num_steps=20)
  with jax.debug_key_reuse(False):
    made = gm.fit('rbm_digits', seed=[7, 3], **given)
    gm.fit('rbm_digits', seed=range(2), workdir=tmp_path, **given)
  assert made.seeds == (7, 3) and made.params_of(1).w_VH.shape == (64, 5)
  single = gm.fit('rbm_digits', seed=3, **given)
  np.testing.assert_allclose(made.params_of(1).w_VH, single.params.w_VH, atol=1e-5)
  assert rundir.read_config(tmp_path)['seeds'] == 2


def test_values_functions_and_files_are_trained(tmp_path):
  value = rbm_digits.experiment(num_hidden=5, num_steps=20)
  made = gm.fit(value, progress=False)
  assert made.step == 20 and made.experiment is value
  path = tmp_path / 'mine.py'
  path.write_text(MINE)
  made = gm.fit(path, workdir=tmp_path / 'run', num_hidden=np.int64(5), progress=False)
  assert gm.load(tmp_path / 'run').params.w_VH.shape == (64, 5) and 'mine.py' in made.code

  def mine(*, rate: float = 0.1):
    return rbm_digits.experiment(num_hidden=5, num_steps=20, learning_rate=rate)

  # 1 is 1.0 for a float, as on a command line.
  made = gm.fit(mine, gm.data.load('digits'), rate=1, progress=False)
  assert made.config['hyperparameters'] == {'rate': 1.0}
  assert isinstance(made.config['hyperparameters']['rate'], float)


def nameless(*, num_hidden: int = 3):
  return rbm_digits.experiment(num_hidden=num_hidden, num_steps=20)


DIGITS = gm.data.load('digits')


@pytest.mark.parametrize('experiment, given, message', [
  ('rbm_digit', {}, "unknown experiment 'rbm_digit'; did you mean rbm_digits"),
  ('rbm_digits', dict(num_hiden=3), "no hyperparameter 'num_hiden'; did you mean num_hidden"),
  ('rbm_digits', dict(num_hidden=2.5), 'num_hidden is 2.5, not int'),
  ('rbm_digits', dict(learning_rate=np.nan), 'which config.json cannot hold'),
  ('rbm_digits', dict(seed=1.5), 'seed=1.5: give a whole number'),
  ('rbm_digits', dict(seed=[1, 1]), 'each once'),
  ('rbm_digits', dict(seed=-1), 'seeds are 0 to 4294967295'),
  ('rbm_digits', dict(seed=[1, 5], workdir='a'), 'seeds follow each other'),
  ('rbm_digits', dict(start='nowhere', workdir='a'), 'nowhere is not a run directory'),
  (nameless, dict(workdir='a'), 'not the `experiment` of any file: save it in one'),
  (nameless(), dict(workdir='a'), 'an Experiment has its hyperparameters and no name'),
  (nameless(), dict(num_hidden=3), 'an Experiment has its hyperparameters and no name'),
  (3, {}, 'experiment is of type int: give a name'),
  ('rbm_digits', dict(data=DIGITS._replace(test=DIGITS.valid), workdir='a'),
   'a run directory names its data'),
  ('rbm_digits', dict(data=DIGITS._replace(train=gm.data.Arrays(DIGITS.train.images[:, :4]))),
   'phase rbm')])
def test_what_does_not_go_together_is_one_line_and_writes_nothing(
    experiment, given, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=re.escape(message)) as caught:
    gm.fit(experiment, **given)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'a' / 'config.json').exists()


def test_another_run_in_the_directory_is_refused(commanded):
  with pytest.raises(rundir.ForeignRun, match='learning_rate is 0.1 there, 0.2 here'):
    gm.fit('rbm_digits', workdir=commanded, learning_rate=0.2, **GIVEN)


def test_a_diverging_run_says_how_to_continue(tmp_path):
  with pytest.raises(Diverged, match=r'not finite .*gm.fit\(..., learning_rate=1e\+29, start='):
    gm.fit('rbm_digits', workdir=tmp_path / 'a', learning_rate=1e30, **GIVEN)
  assert not list((tmp_path / 'a').glob('checkpoints/*'))
  with pytest.raises(Diverged, match='not finite'):
    gm.fit('rbm_digits', learning_rate=1e30, **GIVEN)


def test_a_file_that_trains_when_it_is_imported_is_refused(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(MINE + 'import gen_models as gm\ngm.fit("rbm_digits", num_steps=20)\n')
  with pytest.raises(errors.UsageError, match=r"mine.py calls gm.fit wherever .* '__main__'"):
    gm.fit(path)


def test_a_file_that_changed_since_its_import_is_not_taken_for_what_was_imported(
    tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  path = tmp_path / 'imported_once.py'
  path.write_text(MINE)
  import imported_once
  gm.fit(imported_once.experiment, workdir=tmp_path / 'a', progress=False)
  assert rundir.read_config(tmp_path / 'a')['experiment'] == str(path)
  path.write_text(MINE.replace('num_hidden=num_hidden', 'num_hidden=num_hidden + 1'))
  with pytest.raises(errors.UsageError, match='has changed since its function'):
    gm.fit(imported_once.experiment, workdir=tmp_path / 'b')


def test_sigterm_saves_and_is_handed_on(tmp_path, monkeypatch):
  received = []
  monkeypatch.setattr(metrics, 'Progress', interrupted_at(600, signal.SIGTERM))
  before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
  try:
    gm.fit('rbm_digits', workdir=tmp_path, **(GIVEN | dict(progress=True)))
  finally:
    signal.signal(signal.SIGTERM, before)
  assert received == [signal.SIGTERM] and 600 <= gm.load(tmp_path).step < 2000


def test_another_thread_than_the_main_one_trains():
  made = []
  thread = threading.Thread(target=lambda: made.append(
    gm.fit('rbm_digits', **(GIVEN | dict(num_steps=20)))))
  thread.start()
  thread.join()
  assert made[0].done


def test_arrays_in_memory_are_trained_on_resumed_and_gone(tmp_path):
  x_NV = np.random.default_rng(0).integers(0, 2, (80, 6))
  data = gm.data.from_arrays(x_NV, directory=tmp_path / 'kept', seed=1)
  assert data.name == gm.data.from_arrays({'x': x_NV}, directory=tmp_path / 'kept', seed=1).name
  given = dict(binarisation='static', method='em', num_steps=20, num_classes=2, progress=False)
  made = gm.fit('mixture', data, workdir=tmp_path / 'run', **given)
  assert made.config['hyperparameters']['dataset'] == data.name
  assert gm.fit('mixture', data, workdir=tmp_path / 'run', **given).step == made.step
  with pytest.raises(errors.UsageError, match='data of type ndarray: .* gm.data.from_arrays'):
    gm.fit('mixture', x_NV, **given)
  with pytest.raises(errors.UsageError, match="dataset='digits', and the data given are npz:"):
    gm.fit('mixture', data, dataset='digits', **given)
  with pytest.raises(errors.UsageError, match='a part of this path is a file'):
    gm.fit('mixture', data, workdir=next((tmp_path / 'kept').iterdir()), **given)
  with pytest.raises(errors.UsageError, match='save_every_minutes=-1: give minutes'):
    gm.fit('mixture', data, save_every_minutes=-1, **given)
  with pytest.raises(errors.UsageError, match='num=0: draw at least 1'):
    made.sample(jax.random.key(0), 0)
  with pytest.raises(errors.UsageError, match=r'key=0: give jax.random.key\(0\)'):
    made.sample(0, 3)
  with pytest.raises(ValueError, match='replica=1: there are 1 seeds in this run'):
    made.sample(jax.random.key(0), 3, replica=1)
  with pytest.raises(errors.UsageError, match='give them a name with gm.data.from_arrays'):
    gm.fit('mixture', data._replace(test=data.valid), workdir=tmp_path / 'other', **given)
  shutil.rmtree(tmp_path / 'kept')
  (tmp_path / 'run').rename(tmp_path / 'moved')
  read = gm.load(tmp_path / 'moved')
  assert read.sample(jax.random.key(0), 3).draws.shape == (3, 6)
  with pytest.raises(FileNotFoundError):
    read.dataset  # noqa: B018
  with pytest.raises(gm.data.BadData, match='Python objects'):
    gm.data.from_arrays(np.array([[1], [1, 2]], object))
