"""launch.sample as a user types it."""

import numpy as np
import pytest
from PIL import Image

from launch import errors
from launch.runs import draws, load, pictures
from tests.launch.commands import refused, run, small


@pytest.fixture(name='trained', scope='module')
def fixture_trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'a'
  run('train', *small(100), '--seeds=2', f'--workdir={workdir}')
  return workdir


def test_a_grid_and_arrays(trained, tmp_path):
  png, npz = tmp_path / 'new' / 'grid.png', tmp_path / 'draws.npz'
  done = run('sample', f'--workdir={trained}', '--num=10', f'--out={png}')
  assert done.stdout.splitlines()[-1] == str(png)
  # 4 columns of 8 pixels and a gap of 1 around each; 3 rows.
  assert Image.open(png).size == (37, 28)
  run('sample', f'--workdir={trained}', '--num=10', f'--out={npz}')
  arrays = np.load(npz)
  assert arrays['draws'].shape == arrays['means'].shape == (10, 8, 8)
  assert set(np.unique(arrays['draws'])) == {0.0, 1.0}
  assert np.all((arrays['means'] > 0) & (arrays['means'] < 1))


def test_draws_of_several_batches_do_not_depend_on_how_many_follow(trained, monkeypatch):
  run = load.run(str(trained))
  whole = draws.draw(run, 12, seed=3, replica=1)
  monkeypatch.setattr(draws, 'BATCH', 12)
  few, more, most = (draws.draw(run, num, seed=3, replica=1) for num in (12, 25, 36))
  for one, *others in zip(whole, few, more, most, strict=True):
    np.testing.assert_array_equal(one, others[0])
    np.testing.assert_array_equal(one, others[1][:12])
    np.testing.assert_array_equal(others[1], others[2][:25])
  # batches are drawn independently of each other
  assert np.any(most.means[:12] != most.means[12:24])
  assert np.any(most.means[12:24] != most.means[24:])


def test_more_draws_than_memory_holds_are_refused_before_any_is_made(trained, monkeypatch):
  run = load.run(trained)
  monkeypatch.setattr(draws, 'free_memory', lambda: 100e9)
  with pytest.raises(errors.UsageError, match=r'--num=1000000000: .* 512.0 GB of memory'):
    draws.draw(run, 10**9)
  monkeypatch.setattr(draws, 'free_memory', lambda: 1000.0)
  with pytest.raises(errors.UsageError, match='draw fewer at a time'):
    draws.draw(run, 2)


@pytest.mark.slow
def test_the_seed_and_the_replica_decide(trained, tmp_path):
  def draws(*flags):
    path = tmp_path / 'draws.npz'
    run('sample', f'--workdir={trained}', '--num=8', f'--out={path}', *flags)
    return np.load(path)['means']

  plain = draws()
  np.testing.assert_array_equal(draws('--seed=0', '--replica=0'), plain)
  assert np.any(draws('--seed=1') != plain)
  assert np.any(draws('--replica=1') != plain)


@pytest.mark.parametrize('flags, hint', [
  (['--out=a.jpg'], '.npz'), (['--out=a.png', '--label=3'], 'without classes'),
  (['--out=a.png', '--replica=2'], '2 seeds'), (['--out=a.png', '--num=0'], 'num')])
def test_what_cannot_be_drawn_is_refused(trained, tmp_path, flags, hint):
  assert hint in refused('sample', f'--workdir={trained}', *flags)
  assert not (tmp_path / 'a.png').exists()


def test_a_last_row_that_is_not_full_is_grey():
  grid = pictures.square(np.zeros((5, 2, 2)), columns=3)
  assert grid.shape == (2, 3, 2, 2)
  assert np.all(grid[1, 2] == 0.5) and np.all(grid.reshape(6, 4)[:5] == 0)
