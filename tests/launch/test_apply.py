"""Questions to a trained run, as a user types them and from Python."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import gen_models as gm
from gen_models import data
from gen_models.models import rbm
from launch import errors
from launch.runs import answers, draws, load, rows as rows_lib
from tests.launch.commands import refused, run
from tests.launch.standing import standing

SPEC = data.spec('digits')


@pytest.fixture(name='workdir', scope='module')
def fixture_workdir(tmp_path_factory):
  return standing(tmp_path_factory.mktemp('run') / 'a', 'rbm_digits', 3, num_hidden=5, num_steps=3)


@pytest.fixture(name='digits', scope='module')
def fixture_digits():
  return data.load('digits').test.images[:5, ..., 0]


@pytest.fixture(name='files', scope='module')
def fixture_files(tmp_path_factory, digits):
  folder = tmp_path_factory.mktemp('rows')
  np.savez(folder / 'X.npz', x=digits)
  holes = np.float32(digits) / 16
  holes[:, :4] = np.nan
  np.savez(folder / 'holes.npz', x=holes)
  return folder


@pytest.mark.slow
def test_the_commands_of_the_page(workdir, files, digits, tmp_path):
  common = f'--workdir={workdir}', f'--data=npz:{files / "X.npz"}'
  done = run('apply', *common, '--what=features', f'--out={tmp_path / "new" / "f.npz"}')
  assert done.stdout.splitlines()[-1].endswith('f.npz: features [5, 5]')
  loaded = gm.load(workdir)
  v_NV = (digits.reshape(5, -1) >= 8).astype(np.float32)
  np.testing.assert_allclose(np.load(tmp_path / 'new' / 'f.npz')['features'],
                             rbm.hidden_mean(loaded.params, v_NV), rtol=1e-5)
  run('apply', *common, '--what=log_likelihood', f'--out={tmp_path / "l.npz"}')
  np.testing.assert_allclose(np.load(tmp_path / 'l.npz')['log_likelihood'],
                             rbm.log_likelihood(loaded.params, v_NV), rtol=1e-5)
  run('apply', f'--workdir={workdir}', f'--data=npz:{files / "holes.npz"}', '--what=imputation',
      '--steps=4', '--draws=3', f'--out={tmp_path / "i.npz"}')
  found = np.load(tmp_path / 'i.npz')
  assert found['mean'].shape == (5, 8, 8) and found['draws'].shape == (5, 3, 8, 8)
  np.testing.assert_array_equal(found['draws'][:, 0, 4:], v_NV.reshape(5, 8, 8)[:, 4:])
  assert set(np.unique(found['draws'])) == {0.0, 1.0}
  with pytest.raises(errors.UsageError, match='^rows: row 0 has missing.*ask for imputation'):
    loaded.ask('features', np.load(files / 'holes.npz')['x'])


def test_a_run_that_was_moved_answers_without_its_data(workdir, digits, tmp_path, monkeypatch):
  moved = shutil.copytree(workdir, tmp_path / 'elsewhere')
  monkeypatch.setattr(data, 'load', None)
  loaded = load.load(moved)
  found = answers.answer(loaded, 'reconstruction', digits)
  assert found['reconstruction'].shape == (5, 8, 8)


@pytest.mark.parametrize('flags, hint', [
  (['--what=feature'], 'did you mean features? Known: features, log_likelihood'),
  (['--what=classes'], 'no label units. What this model answers: features'),
  (['--what=features', '--layer=2'], 'layer 2: this model has layers 1 to 1'),
  (['--what=features', '--steps=3'], '--steps is not an option of features, which takes: --layer'),
  (['--what=features', '--replica=1'], '1 seeds'),
  (['--what=features', '--out=f.png'], 'name a .npz'),
  (['--what=features', '--data=npz:nowhere.npz'], 'nowhere.npz'),
  (['--what=features', '--data=digit'], 'did you mean digits'),
  (['--what=features', '--unnormalised'], 'is an option of log_likelihood')])
def test_what_cannot_be_asked_is_refused(workdir, files, tmp_path, flags, hint):
  given = [f'--workdir={workdir}', f'--data=npz:{files / "X.npz"}', f'--out={tmp_path / "f.npz"}']
  assert hint in refused('apply', *given, *flags)
  assert not list(tmp_path.iterdir())


def test_a_missing_run_is_named(files, tmp_path):
  assert 'is not a run directory' in refused(
    'apply', f'--workdir={tmp_path / "none"}', '--what=features',
    f'--data=npz:{files / "X.npz"}', '--out=f.npz')


@pytest.mark.parametrize('x, mask, hint', [
  (np.zeros((2, 7)), None, r'rows of shape 7, but those of digits are 8 x 8 x 1'),
  (np.zeros(3), None, 'rows of shape 1'), (np.zeros((0, 8, 8)), None, 'no row'),
  (np.full((2, 8, 8), 17), None, 'row 0 has the value 17, but values of digits are integers from 0 '
   'to 16'), (np.full((2, 8, 8), -0.5), None, 'row 0 has the value -0.5'),
  (np.full((2, 8, 8), 'a'), None, 'not numbers'),
  (np.zeros((2, 8, 8)), np.zeros((2, 8), bool), '`mask` is bool of shape')])
def test_rows_of_another_kind_are_refused(x, mask, hint):
  with pytest.raises(errors.UsageError, match=hint):
    rows_lib.check(x, mask, SPEC, 'rows')


def test_grey_rows_of_a_model_of_bits_are_refused():
  spec = data.Spec('bits', (2,), 'binary', 1)
  rows_lib.check(np.array([[0, 1], [1, 1]]), None, spec, 'rows')
  rows_lib.check(np.array([[0, np.nan]]), None, spec, 'rows')
  with pytest.raises(errors.UsageError, match='row 1 has the value 0.5, .* zeros and ones'):
    rows_lib.check(np.array([[0, 1], [1, 0.5]]), None, spec, 'rows')


def test_rows_are_read_as_the_data_have_them(digits):
  stored, real, flat = (rows_lib.check(x, None, SPEC, 'rows')[:5] for x in (
    digits, np.float64(digits) / 16, digits.reshape(5, -1)))
  np.testing.assert_array_equal(stored, real)
  np.testing.assert_array_equal(stored, flat)
  mask = np.zeros(digits.shape, bool)
  mask[:, 0] = True
  masked = rows_lib.check(digits, mask, SPEC, 'rows')[1:3]
  assert np.all(np.isnan(masked[:, :8])) and not np.any(np.isnan(masked[:, 8:]))


def test_letters_become_one_of_q_and_come_back():
  spec = data.Spec('family', (2,), 'categorical', 3, ('A', 'C', '-'))
  rows = rows_lib.check(np.array([[0, 2], [1, 3]]), None, spec, 'rows')[:2]
  np.testing.assert_array_equal(rows, [[1, 0, 0, 0, 0, 1], [0, 1, 0] + [np.nan] * 3])
  np.testing.assert_array_equal(rows_lib.shown('draws', rows[:1], spec), [[0, 2]])
  assert rows_lib.shown('mean', rows[:1], spec).shape == (1, 2, 3)
  draws = np.eye(3)[np.array([[0, 2], [1, 0]])]
  assert rows_lib.fasta(draws, spec) == rows_lib.fasta(draws.argmax(-1), spec) == (
    '>draw1\nA-\n>draw2\nCA\n')
  with pytest.raises(errors.UsageError, match='row 1 has the value 4, .* letters, 0 to 2'):
    rows_lib.check(np.array([[0, 2], [4, 3]]), None, spec, 'rows')


def test_rows_are_read_from_a_folder_of_pictures(tmp_path):
  pictures_NHWC = np.random.RandomState(0).randint(0, 256, (3, 4, 4, 3)).astype(np.uint8)
  for i, picture in enumerate(pictures_NHWC):
    Image.fromarray(picture).save(tmp_path / f'{i}.png')
  spec = data.Spec('colour', (4, 4, 3), 'real', levels=255)
  rows = rows_lib.read(f'folder:{tmp_path}', spec)
  np.testing.assert_allclose(rows[:2], pictures_NHWC[:2].reshape(2, -1) / 255, rtol=1e-6)
  np.testing.assert_array_equal(rows.take(np.array([2, 0]))[:], rows[np.array([2, 0])])
  with pytest.raises(errors.UsageError, match='rows of shape 4 x 4 x 3, but those of grey'):
    rows_lib.read(f'folder:{tmp_path}', spec._replace(name='grey', shape=(4, 4, 1)))


def test_real_columns_come_back_in_their_units():
  spec = data.Spec('heights', (2,), 'real', low=-5.0, high=5.0, offset=(1.0, 0.0), scale=(2.0, 1.0))
  rows = rows_lib.check(np.array([[3.0, np.nan]]), None, spec, 'rows')[:1]
  np.testing.assert_array_equal(rows, [[1.0, np.nan]])
  np.testing.assert_array_equal(rows_lib.shown('mean', rows, spec), [[3.0, np.nan]])


# log Z as the run has it.


def scored(workdir, tmp_path, **score):
  moved = shutil.copytree(workdir, tmp_path / 'scored')
  (moved / 'result.json').write_text(json.dumps({
    'experiment': 'rbm_digits', 'variant': None, 'dataset': 'digits', 'seeds': [0], 'step': 3,
    'num_images': 300, 'binarisation': 'threshold', 'kind': 'bracket', **score}))
  return load.load(moved)


def test_the_bracket_of_the_score_is_that_of_each_row(workdir, digits, tmp_path):
  scores = dict(test_nats=-20.0, lower=-20.5, upper=-19.75, log_partition=40.0)
  loaded = scored(workdir, tmp_path, **scores)
  assert answers.recorded_log_partition(loaded) == (40.0, 39.75, 40.5)
  found = answers.answer(loaded, 'log_likelihood', digits)
  np.testing.assert_allclose(found['lower'], found['log_likelihood'] - 0.5, rtol=1e-6)
  np.testing.assert_allclose(found['upper'], found['log_likelihood'] + 0.25, rtol=1e-6)


def test_the_score_of_another_checkpoint_is_not_used(workdir, tmp_path):
  loaded = scored(workdir, tmp_path, step=2, test_nats=-20.0, lower=-20.5, upper=-19.75,
                  log_partition=40.0)
  assert answers.recorded_log_partition(loaded) is None


def test_without_a_score_of_many_states_the_remedy_is_named(digits, tmp_path):
  loaded = load.load(standing(tmp_path / 'wide', 'rbm_digits', 1, num_hidden=40, num_steps=1))
  with pytest.raises(errors.UsageError, match='launch.evaluate --workdir=.*--unnormalised'):
    answers.answer(loaded, 'log_likelihood', digits)
  assert set(answers.answer(loaded, 'log_likelihood', digits, unnormalised=True)) == {'free_energy'}


def test_answers_that_memory_does_not_hold_are_refused(workdir, digits, monkeypatch):
  monkeypatch.setattr(answers, 'free_memory', lambda: 10.0)
  with pytest.raises(errors.UsageError, match='ask about fewer rows'):
    answers.answer(load.load(workdir), 'features', digits)


# launch.sample.


def test_clamped_draws_keep_what_was_given(workdir, files, tmp_path):
  out = tmp_path / 'c.npz'
  run('sample', f'--workdir={workdir}', f'--clamp={files / "holes.npz"}', '--num=7', '--steps=3',
      f'--out={out}')
  found, given = np.load(out), np.load(files / 'holes.npz')['x']
  assert found['draws'].shape == (7, 8, 8)
  np.testing.assert_array_equal(found['draws'][:, 4:],
                                (given[np.arange(7) % 5, 4:] >= 0.5).astype(np.float32))


def test_draws_may_begin_at_the_chains_of_training(workdir):
  loaded = load.load(workdir)
  frozen = draws.Chains(num_steps=1, persistent=True)
  found = draws.draw(loaded, 130, chains=frozen)
  assert found.draws.shape == (130, 8, 8)
  chains = gm.inference.persistent_chains(loaded.memory_of(0))
  # The means are those given h after one Gibbs step, so each lies near its chain's.
  assert len(chains.h_CH) == 100
  other = draws.draw(loaded, 130, chains=draws.Chains(num_steps=1))
  assert np.any(found.means != other.means)


@pytest.mark.parametrize('flags, hint', [
  (['--clamp=holes.npz', '--label=3'], '--clamp and --label'),
  (['--clamp=nowhere.npz'], 'nowhere.npz'), (['--temperature=0'], 'is positive')])
def test_what_cannot_be_drawn_is_refused(workdir, tmp_path, flags, hint):
  assert hint in refused('sample', f'--workdir={workdir}', f'--out={tmp_path / "a.npz"}', *flags)
  assert not list(tmp_path.iterdir())


def test_a_model_without_chains_says_so(tmp_path):
  loaded = load.load(standing(tmp_path / 'm', 'gaussian', 1))
  with pytest.raises(errors.UsageError, match='gaussian: it is drawn from exactly'):
    draws.draw(loaded, 2, chains=draws.Chains())
  found = draws.clamped(loaded, 2, rows_lib.check(np.full((1, 8, 8), np.nan), None, SPEC, 'rows'))
  assert found.draws.shape == (2, 8, 8)


def test_an_estimator_without_chains_says_so(tmp_path):
  loaded = load.load(standing(tmp_path / 'c', 'rbm_digits', 1, negative='cd', num_steps=1))
  with pytest.raises(errors.UsageError, match='keeps no chains'):
    draws.draw(loaded, 2, chains=draws.Chains(persistent=True))
