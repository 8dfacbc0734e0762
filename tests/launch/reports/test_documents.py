"""RESULTS.md is what the committed results say, and says how each row is made again."""

import re
import shlex

import pytest

from launch.cli import hyperparameters, registry
from launch.reports import documents, tables
from launch.runs import result as result_lib


def committed(name):
  return result_lib.read(tables.RESULTS / f'{name}.json')


def test_results_are_not_stale():
  text = (tables.ROOT / 'RESULTS.md').read_text(encoding='utf-8')
  assert text == documents.results(), 'RESULTS.md is stale: run python -m launch.results'


def test_every_committed_result_has_its_row_and_every_section_a_table():
  sections = dict(part.split('\n', 1) for part in documents.results().split('\n## ')[1:])
  for name, result in tables.load():
    assert f'\n| {name} |' in sections[result.experiment]
  assert all('| --- |' in section for section in sections.values())
  assert set(tables.stories()) <= set(sections)


def test_the_command_of_every_row_trains_what_was_trained():
  for name, result in tables.load():
    lines = documents.commands(result).splitlines()
    train, = [shlex.split(line) for line in lines if 'launch.train' in line]
    flags = [word[2:].split('=', 1) for word in train if word.startswith('--')]
    values = hyperparameters.resolve(
      registry.load(dict(flags)['experiment']), dict(flags).get('variant'),
      [value for flag, value in flags if flag == 'set'])
    for k, v in result.hyperparameters.items():
      if k in values:
        assert values[k] == v, (result.experiment, name, k)
    score, = [line for line in lines if 'launch.evaluate' in line]
    assert dict(flags)['workdir'] in score


def test_seeds_of_one_program_are_one_command_and_those_of_several_runs_a_loop():
  assert '--seed=0 --seeds=5 --workdir=runs/rbm_digits/pcd\n' in documents.commands(
    committed('rbm_digits-pcd'))
  assert documents.commands(committed('rbm_time-cd25_decay')).splitlines() == [
    'for seed in 0 1; do',
    '  python -m launch.train --experiment=rbm_time --variant=cd25_decay --seed=$seed '
    '--workdir=runs/rbm_time/cd25_decay/seed$seed',
    '  python -m launch.evaluate --sample_space=none '
    '--workdir=runs/rbm_time/cd25_decay/seed$seed', 'done']


@pytest.mark.parametrize('section, name, numbers', [
  ('rbm_mnist', 'rbm_mnist-cd25', lambda s: [s.lower, s.upper]),  # reverse, forward
  ('dbn', 'dbn-mnist_500_2000', lambda s: [
    s.details['log_partition'], max(s.details['log_partition_sides']),
    s.test_nats + s.details['log_partition'] - max(s.details['log_partition_sides'])])])
def test_numbers_in_the_words_are_those_of_the_rows(section, name, numbers):
  words = documents.results().split(f'\n## {section}\n')[1].split('| --- |')[0]
  said = re.findall(r'[−\d]\d*\.\d+', words)
  for number in numbers(committed(name).score):
    assert f'{number:.2f}'.replace('-', '−') in said


def test_which_side_flatters_is_stated_as_in_the_committed_file():
  score = committed('rbm_mnist-cd25').score
  assert score.lower > score.upper + 20  # reverse annealing above forward
  assert score.headline == score.upper
  words = ' '.join(documents.results().split())
  assert ('−86.60 by reverse annealing from training images, and −112.25 by forward annealing, '
          'the published protocol') in words
