"""Which checkpoint is the best: of the last phase, and of none where nothing is compared."""

import pytest

from launch import errors
from launch.runs import load
from tests.launch.standing import standing


def test_best_is_refused_where_nothing_says_which(tmp_path):
  workdir = standing(tmp_path / 'game', 'gan_grid', 1000, nets='small', width=4,
                              num_steps=1000)
  assert load.run(workdir).step == 1000
  with pytest.raises(errors.UsageError, match='no headline metric .* use --checkpoint=last'):
    load.run(workdir, 'best')


def test_best_is_of_the_last_phase(tmp_path):
  stack = dict(variant='digits', layers='8-4', ais_temperatures=50, num_steps=200)
  for step, bound in ((200, -10.0), (300, -30.0)):
    standing(tmp_path / 'two', 'dbn', step, metrics={'valid_bound_quick': bound}, **stack)
  standing(tmp_path / 'one', 'dbn', 200, metrics={'valid_bound_quick': -10.0}, **stack)
  assert load.run(tmp_path / 'two', 'best').step == 300
  with pytest.raises(errors.UsageError, match='no checkpoint with layer2/valid_bound_quick yet'):
    load.run(tmp_path / 'one', 'best')
