"""Values of hyperparameters: resolved strictly, refused helpfully, whatever side they come from."""

import re
from typing import Annotated, Literal

import pytest

from gen_models import domains
from launch import errors
from launch.cli import hyperparameters, registry


def toy(*, learning_rate: float = 0.1, num_steps: int = 5, rule: Literal['cd', 'pcd'] = 'cd',
        centring: float | None = None, verbose: bool = False):
  return learning_rate, num_steps, rule, centring, verbose


ENTRY = registry.Entry('toy', toy, {'fast': {'learning_rate': 1.0}}, 'Toy.')


def test_defaults_then_variant_then_overrides():
  assert hyperparameters.resolve(ENTRY)['learning_rate'] == 0.1
  assert hyperparameters.resolve(ENTRY, 'fast')['learning_rate'] == 1.0
  values = hyperparameters.resolve(
    ENTRY, 'fast', ['learning_rate=0.5', 'rule=pcd', 'centring=0.01'])
  assert values == dict(learning_rate=0.5, num_steps=5, rule='pcd', centring=0.01, verbose=False)


@pytest.mark.parametrize('text, name, value', [
  ('num_steps=1e4', 'num_steps', 10_000), ('centring=none', 'centring', None),
  ('centring=2', 'centring', 2.0), ('verbose=True', 'verbose', True),
  ('learning_rate=1', 'learning_rate', 1.0)])
def test_values_take_the_annotated_type(text, name, value):
  found = hyperparameters.resolve(ENTRY, overrides=[text])[name]
  assert found == value and type(found) is type(value)


@pytest.mark.parametrize('overrides, message', [
  (['learnin_rate=1'], 'did you mean learning_rate'), (['num_steps=many'], 'not int'),
  (['num_steps=1.5'], 'not int'), (['rule=pdc'], 'did you mean'), (['verbose=maybe'], 'not bool'),
  (['learning_rate'], 'name=value'), (['centring=x'], 'not float')])
def test_mistakes_are_answered_with_what_was_meant(overrides, message):
  with pytest.raises(errors.UsageError, match=message):
    hyperparameters.resolve(ENTRY, overrides=overrides)


def test_an_unknown_variant_lists_near_matches():
  with pytest.raises(errors.UsageError, match='did you mean fast'):
    hyperparameters.resolve(ENTRY, 'fats')


class Even:
  """A domain of a user's own file."""

  def holds(self, value):
    return value % 2 == 0

  def __str__(self):
    return 'that is even'


def bounded(*, num_hidden: domains.Width = 4, learning_rate: domains.NonNegative = 0.1,
            centring: domains.Fraction | None = None, layers: domains.Layers = '8-4',
            rule: Literal['cd', 'pcd'] = 'cd', chains: Annotated[int, Even()] = 2,
            pair: tuple[domains.PositiveInt, ...] = (1, 2)):
  return num_hidden, learning_rate, centring, layers, rule, chains, pair


BOUNDED = registry.Entry('bounded', bounded, {
  'good': {'centring': 1.0}, 'rule': {'rule': 'pdc'}, 'rate': {'learning_rate': -1.0},
  'layers': {'layers': '8,4'}}, 'Bounded.')

OUTSIDE = ['learning_rate=-1', 'learning_rate=nan', 'learning_rate=inf', 'centring=1.5',
           'num_hidden=0', 'num_hidden=1e9', 'layers=', 'layers=8-0', 'chains=3', 'pair=1,0']


def test_values_inside_their_domains_keep_their_types():
  values = hyperparameters.resolve(BOUNDED, 'good', ['num_hidden=1e3', 'layers=5', 'centring=none',
                                              'pair=3,4'])
  assert values == dict(num_hidden=1000, learning_rate=0.1, centring=None, layers='5', rule='cd',
                        chains=2, pair=(3, 4))
  assert hyperparameters.recorded_values(BOUNDED, values | {'pair': [3, 4]}, 'here') == values


@pytest.mark.parametrize('text', OUTSIDE)
def test_values_outside_are_refused_in_one_line(text):
  with pytest.raises(errors.UsageError, match=text.split('=')[0] + r'=.*: not ') as caught:
    hyperparameters.resolve(BOUNDED, overrides=[text])
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('variant, message', [
  ('rule', "bounded: rule is 'pdc', not cd | pcd"),
  ('rate', 'bounded: learning_rate is -1.0, not float at least 0'),
  ('layers', "bounded: layers is '8,4', not str of layer sizes")])
def test_what_a_variant_sets_is_checked_as_what_a_user_sets(variant, message):
  with pytest.raises(errors.UsageError, match=re.escape(message)):
    hyperparameters.resolve(BOUNDED, variant)


@pytest.mark.parametrize('name, value', [
  ('learning_rate', -1), ('num_hidden', 10**9), ('centring', 2.0), ('layers', 'x')])
def test_what_a_file_holds_is_checked_as_what_a_user_sets(name, value):
  with pytest.raises(errors.UsageError, match=f'config.json: {name} is .*, not '):
    hyperparameters.recorded_values(BOUNDED, hyperparameters.resolve(BOUNDED) | {name: value},
                             'config.json')


def test_a_default_outside_its_domain_is_refused():
  def wrong(*, chains: domains.PositiveInt = 0):
    return chains
  with pytest.raises(errors.UsageError, match='chains is 0, not int at least 1'):
    hyperparameters.resolve(registry.Entry('wrong', wrong, {}, ''))


@pytest.mark.parametrize('name, text', [
  ('num_hidden', 'int at least 1 and at most 65,536'),
  ('centring', 'float at least 0 and at most 1 | None'), ('chains', 'int that is even')])
def test_the_list_shows_domains(name, text):
  assert hyperparameters.describe(hyperparameters.of(BOUNDED)[name].annotation) == text


def test_what_only_the_score_reads_may_change_when_a_run_is_scored():
  """Everything else was trained with, and the values must be those that training would take."""
  entry = registry.load('dbn')
  trained = hyperparameters.resolve(entry, 'digits')
  found = hyperparameters.rescored(entry, trained, ['ais_chains=7', 'importance_samples=3'])
  assert found == trained | {'ais_chains': 7, 'importance_samples': 3}
  for words, message in {'num_steps=3': 'trained with it.* reads importance_samples, ais_chains',
                         'ais_chains=0': 'ais_chains=0: not int', 'ais_chans=3': 'did you mean',
                         'ais_chains=1 ais_chains=2': 'twice'}.items():
    with pytest.raises(errors.UsageError, match=message):
      hyperparameters.rescored(entry, trained, words.split())
  with pytest.raises(errors.UsageError, match='reads no hyperparameter'):
    hyperparameters.rescored(registry.load('mixture'), {}, ['num_steps=3'])


def test_what_is_declared_to_be_of_the_score_is_a_hyperparameter():
  for name in registry.names():
    entry = registry.load(name)
    assert set(entry.scoring) <= set(hyperparameters.of(entry))
    likely = {p for p in hyperparameters.of(entry) if p.startswith(('ais_', 'importance_'))}
    assert likely <= set(entry.scoring)
