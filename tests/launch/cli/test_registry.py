"""Names of experiments: resolved strictly, refused helpfully."""

import pytest

from launch import errors
from launch.cli import hyperparameters, registry


def test_an_unknown_experiment_lists_near_matches():
  with pytest.raises(errors.UsageError, match='did you mean rbm_digits'):
    registry.load('rbm_digit')
  with pytest.raises(errors.UsageError, match='unknown experiment'):
    registry.load('os')


def test_files_and_packages_that_begin_with_an_underscore_are_no_experiments():
  assert not [name for name in registry.names() if name.startswith('_') or '.' in name]
  with pytest.raises(errors.UsageError, match="unknown experiment '_common'"):
    registry.load('_common')


def test_an_experiment_may_be_a_file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('"""Mine."""\ndef experiment(*, size: int = 3):\n  return size\n')
  entry = registry.load(str(path))
  assert entry.experiment(**hyperparameters.resolve(entry, overrides=['size=4'])) == 4
  with pytest.raises(errors.UsageError, match='no experiment file'):
    registry.load(str(tmp_path / 'other.py'))
  empty = tmp_path / 'empty.py'
  empty.write_text('')
  with pytest.raises(errors.UsageError, match='no function'):
    registry.load(str(empty))
