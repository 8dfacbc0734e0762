"""Grids of sweeps, kept and shown."""

import json
import shutil

import pytest

from launch import errors
from launch.reports import documents, swept
from launch.runs import directory as rundir
from tests.launch.reports.handmade import run

COMMAND = ('sweep.py --experiment=rbm_digits --variants=pcd --set=learning_rate=0.1,0.03 '
           '--set=gradient=cd,pcd --seeds=2 --workdir=/home/a/b --programs=1')


def grid(directory, rates=(0.1, 0.03), widths=(16, 32), **changes):
  """Runs at each rate and width, two seeds; nats are -10 rate - width / 16 - seed."""
  changes = {'num_steps': 1000, **changes}
  for rate in rates:
    for width in widths:
      for seed in (0, 1):
        folder = directory / f'pcd,learning_rate={rate},num_hidden={width}' / f'seed{seed}'
        run(folder, seed, -10 * rate - width / 16 - seed, learning_rate=rate, num_hidden=width,
            batch_size=width * 2, **changes)
        value = json.loads((folder / 'result.json').read_text())
        value['trained'] = value['trained'] | {'command': COMMAND}
        (folder / 'result.json').write_text(json.dumps(value))
  return directory


def test_the_axes_are_what_differs_and_is_not_determined_by_another(tmp_path):
  sweep = swept.gather(grid(tmp_path / 'rates'))
  assert sweep.axes == {'num_hidden': [16, 32], 'learning_rate': [0.03, 0.1]}  # no batch_size
  assert len(sweep.cells) == 4 and all(cell.seeds == [0, 1] for cell in sweep.cells)


def test_a_cell_is_the_mean_and_the_spread_over_seeds_and_the_best_is_bold(tmp_path):
  table = swept.cells(swept.gather(grid(tmp_path / 'rates')), 'test_nats')
  assert table == [['num_hidden', 'learning_rate 0.03', 'learning_rate 0.1'],
                   ['16', '**−1.80 ± 0.71**', '−2.50 ± 0.71'],
                   ['32', '−2.80 ± 0.71', '−3.50 ± 0.71']]


def test_nats_that_cannot_be_compared_say_so_and_are_never_the_best(tmp_path):
  grid(tmp_path / 'rates', rates=(0.1,))
  path = next(iter(sorted((tmp_path / 'rates').glob('*num_hidden=16/seed1/result.json'))))
  path.write_text(json.dumps(json.loads(path.read_text()) | {'hollow': True}))
  sweep = swept.gather(tmp_path / 'rates')
  assert [cell.remarks for cell in sweep.cells] == [['hollow'], []]
  both = sweep._replace(axes={**sweep.axes, 'dataset': ['digits']}, cells=[
    cell._replace(at={**cell.at, 'dataset': 'digits'}) for cell in sweep.cells])
  assert [row[1] for row in swept.cells(both, 'test_nats')[1:]] == [
    '−2.50 ± 0.71, hollow', '**−3.50 ± 0.71**']


def test_what_is_best_is_so_among_scores_of_the_same_data(tmp_path):
  rates = swept.gather(grid(tmp_path / 'rates'))
  easy, hard = [-1.0, -3.0], [-30.0, -10.0]
  sweep = rates._replace(axes={'gradient': ['cd', 'pcd'], 'dataset': ['easy', 'hard']}, cells=[
    swept.Cell({'dataset': name, 'gradient': gradient}, [0], {'test_nats': [value]}, 0)
    for name, values in (('easy', easy), ('hard', hard))
    for gradient, value in zip(('cd', 'pcd'), values, strict=True)])
  assert swept.cells(sweep, 'test_nats')[1:] == [['cd', '**−1.00**', '−30.00'],
                                                 ['pcd', '−3.00', '**−10.00**']]


def test_scores_of_draws_say_what_is_better_and_what_real_images_have(tmp_path):
  sweep = swept.gather(grid(tmp_path / 'rates'), ['frechet', 'error_percent'])
  assert swept.titles(sweep) == {
    'frechet': 'Fréchet distance; lower is better; training images 0.1',
    'error_percent': 'error percent'}
  # Both seeds of every point have the same scores, so every mean is the best.
  assert {c for row in swept.cells(sweep, 'frechet')[1:] for c in row[1:]} == {'**0.6 ± 0.71**'}
  assert {c for row in swept.cells(sweep, 'error_percent')[1:] for c in row[1:]} == {'2.5 ± 0.71'}


def test_what_was_kept_reads_back_and_is_a_section(tmp_path):
  sweep = swept.gather(grid(tmp_path / 'rates'), ['frechet'])
  path = tmp_path / 'sweep_rates.json'
  path.write_text(json.dumps(swept.to_json(sweep)))
  assert swept.cells(swept.read(path), 'frechet') == swept.cells(sweep, 'frechet')
  text = documents.of_sweep(swept.read(path))
  assert '| num_hidden | learning_rate 0.03 | learning_rate 0.1 |' in text
  assert '8 runs, 80 seconds of training' in text
  assert '--workdir=runs/rates' in text and '/home' not in text


def test_frozen_runs_are_counted_and_not_averaged(tmp_path):
  directory = grid(tmp_path / 'rates')
  for seed in (0, 1):
    folder = directory / 'pcd,learning_rate=0.1,num_hidden=32' / f'seed{seed}'
    (folder / 'result.json').unlink()
    (folder / rundir.FAILED).write_text('loss is nan\n')
  one = directory / 'pcd,learning_rate=0.1,num_hidden=16' / 'seed1'
  (one / 'result.json').unlink()
  (one / rundir.FAILED).write_text('loss is nan\n')
  table = swept.cells(swept.gather(directory), 'test_nats')
  assert table[1][2] == '−2.00, 1 of 2 frozen' and table[2][2] == '2 of 2 frozen'


def test_one_axis_has_its_scores_side_by_side(tmp_path):
  sweep = swept.gather(grid(tmp_path / 'rates', widths=(16,)), ['test_nats', 'error_percent'])
  assert swept.scores_cells(sweep)[0] == ['learning_rate', 'test nats', 'error percent']
  assert len(swept.scores_cells(sweep)) == 3


@pytest.mark.parametrize('spoil, words', [
  (lambda d: (next(d.glob('*/seed1/result.json'))).unlink(), 'is not scored'),
  (lambda d: [p.unlink() for p in d.glob('*/seed*/config.json')], 'no run of a launch.sweep'),
])
def test_what_is_no_scored_sweep_is_refused(spoil, words, tmp_path):
  directory = grid(tmp_path / 'rates', widths=(16,))
  spoil(directory)
  with pytest.raises(errors.UsageError, match=words):
    swept.gather(directory)


def test_a_score_that_is_not_there_is_named_with_those_that_are(tmp_path):
  with pytest.raises(errors.UsageError, match=r"no score 'kid'; it has error_percent, frechet"):
    swept.gather(grid(tmp_path / 'rates', widths=(16,)), ['kid'])


def test_a_point_and_seed_in_two_directories_count_once_or_are_refused(tmp_path):
  directory = grid(tmp_path / 'rates', widths=(16,))
  there, = directory.glob('*rate=0.1,*/seed0')
  shutil.copytree(there, directory / 'defaults' / 'seed0')
  assert [cell.seeds for cell in swept.gather(directory).cells] == [[0, 1], [0, 1]]
  path = directory / 'defaults' / 'seed0' / 'result.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'test_nats': -99.0}))
  with pytest.raises(errors.UsageError, match='two runs of one point and seed 0 whose scores'):
    swept.gather(directory)


def test_what_was_asked_for_is_an_axis_though_points_are_drawn_at_random(tmp_path):
  directory = tmp_path / 'search'
  for seed, (rate, width) in enumerate([(0.037, 8), (0.033, 10), (0.085, 11)]):
    folder = directory / f'defaults,learning_rate={rate},num_hidden={width}' / 'seed0'
    run(folder, 0, -8.0 - seed, learning_rate=rate, num_hidden=width, batch_size=width * 2,
        num_steps=1000)
    value = json.loads((folder / 'result.json').read_text())
    value['trained'] = value['trained'] | {'command': (
      'sweep.py --experiment=rbm_digits --set=learning_rate=0.001..0.1:log --set=num_hidden=4..12 '
      '--set=num_steps=1000 --search=random --trials=3')}
    (folder / 'result.json').write_text(json.dumps(value))
  assert set(swept.gather(directory).axes) == {'learning_rate', 'num_hidden'}


def test_results_on_data_of_the_users_are_not_kept(tmp_path):
  directory = grid(tmp_path / 'rates', widths=(16,))
  for path in directory.glob('*/seed*/result.json'):
    path.write_text(path.read_text().replace('"dataset": "digits"', '"dataset": "npz:mine.npz"'))
  with pytest.raises(errors.UsageError, match='is of your data npz:mine.npz'):
    swept.gather(directory)


def test_a_point_that_was_scored_halfway_is_refused(tmp_path):
  with pytest.raises(errors.UsageError, match='was scored after 1,000 of its 2,000 updates'):
    swept.gather(grid(tmp_path / 'rates', widths=(16,), num_steps=2000))


def test_one_point_is_no_grid(tmp_path):
  with pytest.raises(errors.UsageError, match='all runs are of one point'):
    swept.gather(grid(tmp_path / 'rates', rates=(0.1,), widths=(16,)))
