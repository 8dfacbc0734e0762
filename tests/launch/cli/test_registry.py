"""Names and values from the command line: resolved strictly, refused helpfully."""

from typing import Literal

import pytest

from launch import errors
from launch.cli import registry


def toy(*, learning_rate: float = 0.1, num_steps: int = 5, rule: Literal['cd', 'pcd'] = 'cd',
        centring: float | None = None, verbose: bool = False):
  return learning_rate, num_steps, rule, centring, verbose


ENTRY = registry.Entry('toy', toy, {'fast': {'learning_rate': 1.0}}, 'Toy.')


def test_defaults_then_variant_then_overrides():
  assert registry.resolve(ENTRY)['learning_rate'] == 0.1
  assert registry.resolve(ENTRY, 'fast')['learning_rate'] == 1.0
  values = registry.resolve(ENTRY, 'fast', ['learning_rate=0.5', 'rule=pcd', 'centring=0.01'])
  assert values == dict(learning_rate=0.5, num_steps=5, rule='pcd', centring=0.01, verbose=False)


@pytest.mark.parametrize('text, name, value', [
  ('num_steps=1e4', 'num_steps', 10_000), ('centring=none', 'centring', None),
  ('centring=2', 'centring', 2.0), ('verbose=True', 'verbose', True),
  ('learning_rate=1', 'learning_rate', 1.0)])
def test_values_take_the_annotated_type(text, name, value):
  found = registry.resolve(ENTRY, overrides=[text])[name]
  assert found == value and type(found) is type(value)


@pytest.mark.parametrize('overrides, message', [
  (['learnin_rate=1'], 'did you mean learning_rate'), (['num_steps=many'], 'not int'),
  (['num_steps=1.5'], 'not int'), (['rule=pdc'], 'did you mean'), (['verbose=maybe'], 'not bool'),
  (['learning_rate'], 'name=value'), (['centring=x'], 'not float')])
def test_mistakes_are_answered_with_what_was_meant(overrides, message):
  with pytest.raises(errors.UsageError, match=message):
    registry.resolve(ENTRY, overrides=overrides)


def test_unknown_variant_and_experiment_list_near_matches():
  with pytest.raises(errors.UsageError, match='did you mean fast'):
    registry.resolve(ENTRY, 'fats')
  with pytest.raises(errors.UsageError, match='did you mean rbm_digits'):
    registry.load('rbm_digit')
  with pytest.raises(errors.UsageError, match='unknown experiment'):
    registry.load('os')


def test_an_experiment_may_be_a_file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('"""Mine."""\ndef experiment(*, size: int = 3):\n  return size\n')
  entry = registry.load(str(path))
  assert entry.experiment(**registry.resolve(entry, overrides=['size=4'])) == 4
  with pytest.raises(errors.UsageError, match='no experiment file'):
    registry.load(str(tmp_path / 'other.py'))
  empty = tmp_path / 'empty.py'
  empty.write_text('')
  with pytest.raises(errors.UsageError, match='no function'):
    registry.load(str(empty))
