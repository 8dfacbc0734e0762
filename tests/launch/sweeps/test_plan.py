"""What a sweep runs: points, their names, the programs that hold them, what searches draw."""

from typing import Literal

import numpy as np
import pytest

from gen_models import domains
from launch import errors
from launch.cli import registry
from launch.sweeps import plan


def toy(*, learning_rate: float = 0.1, num_steps: int = 5, rule: Literal['cd', 'pcd'] = 'cd',
        note: str = ''):
  return learning_rate, num_steps, rule, note


ENTRY = registry.Entry('toy', toy, {'fast': {'learning_rate': 1.0}}, 'Toy.')


@pytest.mark.parametrize('overrides, found', [
  (['learning_rate=1e-3,0.1', 'num_steps=1e2'], {'learning_rate': [1e-3, 0.1], 'num_steps': [100]}),
  (['rule=cd,pcd'], {'rule': ['cd', 'pcd']}),
])
def test_values_are_separated_by_commas(overrides, found):
  assert plan.axes(ENTRY, overrides) == found


@pytest.mark.parametrize('override, hint', [
  ('learnrate=1', 'learning_rate'), ('learning_rate', 'name=value'), ('rule=cd,pd', 'pcd'),
  ('num_steps=1.5,2', 'int'), ('learning_rate=1e-3..1', 'search=random'),
  ('learning_rate=0.1,1e-1', 'twice')])
def test_bad_values_name_the_fix(override, hint):
  with pytest.raises(errors.UsageError, match=hint):
    plan.axes(ENTRY, [override])


def test_bad_ranges_name_the_fix():
  for override in ('learning_rate=1..0.1', 'learning_rate=0..1:log'):
    with pytest.raises(errors.UsageError, match='lower end'):
      plan.axes(ENTRY, [override], ranges=True)
  with pytest.raises(errors.UsageError, match='twice'):
    plan.axes(ENTRY, ['rule=cd', 'rule=pcd'])


def test_points_are_variants_by_choices_by_seeds_and_no_two_share_a_directory():
  choices = list(plan.grid({'learning_rate': [0.1, 0.2], 'rule': ['cd', 'pcd']}))
  points = plan.points(ENTRY, [None, 'fast'], choices, range(3, 5), {'num_steps': 7})
  assert len(points) == len({p.name for p in points}) == 2 * 4 * 2
  assert points[0].name == 'defaults,learning_rate=0.1,rule=cd/seed3'
  assert all(p.values['num_steps'] == 7 for p in points)
  # What is swept counts, whatever the variant says.
  assert [p.values['learning_rate'] for p in points if p.variant == 'fast'] == [0.1] * 4 + [0.2] * 4


def test_swept_values_and_ranges_stay_inside_their_domains():
  def bounded(*, chains: domains.PositiveInt = 5, rate: domains.Fraction = 0.1):
    return chains, rate

  entry = registry.Entry('bounded', bounded, {}, 'Bounded.')
  found = plan.axes(entry, ['chains=1..9', 'rate=0.1..1'], ranges=True)
  assert found == {'chains': plan.Range(1, 9, False, True),
                   'rate': plan.Range(0.1, 1, False, False)}
  for override in ('chains=5,0', 'chains=0..9', 'rate=0.5..2'):
    with pytest.raises(errors.UsageError, match='not (int|float) at least'):
      plan.axes(entry, [override], ranges=True)
  with pytest.raises(errors.UsageError, match='rate is 1.5, not'):
    plan.points(entry, [None], [{'rate': 1.5}], [0])


@pytest.mark.parametrize('text', ['../../etc', 'a/b', '$(touch x)', 'a b', '\n', '..', 'é;rm'])
def test_a_name_is_one_harmless_component(text):
  point, = plan.points(ENTRY, [None], [{'note': text}], [0])
  directory, seed = point.name.split('/')
  assert seed == 'seed0' and '..' not in directory
  assert not set(directory) & set(' $();\n\'"`|&<>*?\\')


def test_random_search_draws_the_same_from_the_same_seed_and_continues_with_more():
  axes = plan.axes(ENTRY, ['learning_rate=1e-4..1e-1:log', 'num_steps=1..1000', 'rule=cd,pcd'],
                   ranges=True)
  few, many = (list(plan.draws(axes, n, 3)) for n in (5, 400))
  assert many[:5] == few and few != list(plan.draws(axes, 5, 4))
  rates = np.log10([p['learning_rate'] for p in many])
  # Uniform in the logarithm: mean -2.5 +- 0.043 (one standard error), tested at 4.
  assert rates.min() >= -4 and rates.max() <= -1 and abs(rates.mean() + 2.5) < 0.18
  assert {type(p['num_steps']) for p in many} == {int}
  assert abs(np.mean([p['num_steps'] for p in many]) - 500.5) < 4 * 289 / 20
  assert abs(np.mean([p['rule'] == 'cd' for p in many]) - 0.5) < 4 * 0.5 / 20


def test_random_search_says_when_there_are_not_so_many_points():
  axes = plan.axes(ENTRY, ['rule=cd,pcd', 'num_steps=1..2'], ranges=True)
  assert len(list(plan.draws(axes, 4, 0))) == 4
  with pytest.raises(errors.UsageError, match='only 4'):
    list(plan.draws(axes, 5, 0))


class Digits:
  """Programs of rbm_digits."""

  def __init__(self, **options):
    self.entry, self.options = registry.load('rbm_digits'), options

  def programs(self, variants, choices, seeds=range(2)):
    from gen_models import data
    points = plan.points(self.entry, variants, plan.grid(choices), seeds, {'num_steps': 10})
    return plan.programs(self.entry, points, data.load, **self.options)


def test_seeds_and_floats_share_a_program_and_nothing_else_does():
  found = Digits().programs(['pcd', 'centred', 'cd1'],
                            {'learning_rate': [0.1, 0.2], 'num_hidden': [4, 5]})
  assert [len(p.points) for p in found] == [4] * 6  # 3 variants that compute other things, 2 widths
  for program in found:
    assert {'learning_rate', 'momentum', 'weight_decay'} <= set(program.floats)
    assert len({(p.variant, p.values['num_hidden']) for p in program.points}) == 1
    values = program.values()
    np.testing.assert_array_equal(values['learning_rate'], [0.1, 0.1, 0.2, 0.2])
    assert isinstance(values['num_hidden'], int)


def test_variants_that_differ_only_in_floats_share_a_program():
  entry = registry.load('rbm_digits')
  entry = entry._replace(variants={'slow': {'learning_rate': 0.01}, 'fast': {'learning_rate': 0.3}})
  digits = Digits()
  digits.entry = entry
  program, = digits.programs(['slow', 'fast'], {})
  assert [p.variant for p in program.points] == ['slow', 'slow', 'fast', 'fast']


def test_programs_are_split_by_number_and_by_memory():
  choices = {'learning_rate': [0.1, 0.2, 0.3]}
  sizes = [len(p.points) for p in Digits(max_replicas=4).programs(['pcd'], choices)]
  assert sizes == [4, 2]
  whole, = Digits().programs(['pcd'], choices)
  memory = int((whole.data_bytes + 2.5 * whole.num_bytes) / 0.8)
  assert [len(p.points) for p in Digits(memory=memory).programs(['pcd'], choices)] == [2, 2, 2]


def test_a_program_needs_what_its_state_needs():
  """Twice the state and once the gradients, counted by hand for CD-1: no chains, no momentum."""
  program, = Digits().programs(['cd1'], {'num_hidden': [5]}, [0])
  num_params = 64 * 5 + 64 + 5
  least, most = 3 * 4 * num_params, 4 * 4 * num_params
  assert least < program.num_bytes < 2 * most


def test_a_float_that_decides_what_is_computed_is_another_program():
  entry = registry.load('linear_rbm')
  from gen_models import data
  points = plan.points(entry, ['pcd'], plan.grid({'average': [0.9, 0.99]}), [0], {'num_steps': 10})
  found = plan.programs(entry, points, data.load)
  assert [len(p.points) for p in found] == [1, 1] and 'average' not in found[0].floats


def test_the_plan_reads_well():
  text = plan.describe(Digits().programs(['pcd'], {'learning_rate': [0.1, 0.2]}, range(5)), 2)
  assert '1 program, 10 runs, 2 devices' in text
  assert 'seeds 0 to 4' in text and 'pcd,learning_rate=0.2' in text and 'kB a device' in text
