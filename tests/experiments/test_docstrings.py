"""The tables in experiments' docstrings repeat committed results: here they are compared.

A row is `  variant  value +- spread  [lower, upper]  seeds  words`, whatever of it there is. Its
numbers are those of experiments/results/EXPERIMENT-VARIANT.json, or of a story where a variant was
scored only there.
"""

import itertools
import json
import re

import pytest

from launch.cli import registry
from launch.reports import tables
from launch.runs.result import Result

NUMBER = r'-?[\d,]+\.\d+'
ROW = re.compile(rf'(?P<value>{NUMBER})(?: \+- +(?P<spread>[\d.]+))?(?: %)?'
                 rf'(?:,? +\[(?P<lower>{NUMBER}), (?P<upper>{NUMBER})\])?')
SEEDS = re.compile(r'\b(one|\d+) seeds?\b')
HEADLINES = {'class_rbm': 'error_percent', 'classifier': 'error_percent',
             'dbm_classifier': 'error_percent',
             'autoencoder': 'squared_error', 'gan_grid': 'modes'}  # where there are no nats
# Further numbers of a row: experiment -> (pattern, the scores that its groups are).
FURTHER = {
  'dbn': (r'estimate (-[\d.]+)', ['importance_nats']),
  'autoencoder': (r'PCA ([\d.]+), logistic(?: PCA)? ([\d.]+)',
                  ['squared_error_pca', 'squared_error_logistic_pca']),
  'gan_grid': (r'modes, ([\d.]+), ([\d.]+)', ['high_quality', 'reverse_kl']),
  'linear_rbm': (r'([\d.]+) \+- ([\d.]+) degrees', ['largest_angle', 'largest_angle ±']),
  'vae': (r'([\d.]+) bits per dimension', ['bits_per_dimension']),
  'rbm_time': (r'\] +(\d+) \+- +(\d+) +([\d,]+) of ([\d,]+)',
               ['seconds_to_target', 'seconds_to_target ±', 'updates_to_target', 'step'])}
# Variants whose row begins with no headline of their experiment: pattern, scores, their unit.
OF_VARIANT = {
  ('gan', 'conditional'): (r'([\d.]+) % of draws', ['class_accuracy'], 100),
  ('gan', 'conditional_dense'): (r'([\d.]+) % of draws', ['class_accuracy'], 100),
  ('vae', 'digits_conditional'): (r'([\d.]+) % of draws', ['class_accuracy'], 100),
  **{('gan', f'stacked_digits{name}'): (r'(\d+) modes, reverse KL ([\d.]+)', ['modes', 'mode_kl'],
                                        1) for name in ('', '_gan', '_pacgan4')}}


def committed() -> dict[tuple[str, str], dict]:
  """(experiment, variant) -> its result; of a story where there is no other.

  `test_nats` and `seed_spread` are what tables print: where the sides of a bracket cross, the
  lower one, without a spread.
  """
  stories, runs = ([json.loads(path.read_text(encoding='utf-8')) for path in sorted(
    tables.RESULTS.glob(pattern))] for pattern in ('story_*.json', '*-*.json'))
  found = {}
  for result in (*(row for story in stories for row in story['rows']), *runs):
    score = Result.from_json(result).score
    found[result['experiment'], result['variant']] = result | {
      'test_nats': score.headline, 'seed_spread': score.headline_spread}
  return found


RESULTS = committed()


def rows(doc: str, variants) -> dict[str, str]:
  """Variant -> what stands behind its name in its row, with the lines that continue it."""
  found, last = {}, None
  for line in doc.split('\n'):
    name, _, rest = line.strip().partition(' ')
    if line.startswith('  ') and not line.startswith('   ') and name in variants:
      found[name], last = rest.strip(), name
    elif line.startswith('     ') and last:
      found[last] += ' ' + line.strip()
    else:
      last = None
  return found


def differences(words: str, experiment: str, result: dict) -> list[str]:
  """The differences between a row and the result."""
  scores = {**result.get('scores', {}), 'step': result['step']}
  scores |= {f'{name} ±': x for name, x in result.get('scores_spread', {}).items()}
  name = HEADLINES.get(experiment)
  value = scores.get(name) if name else result['test_nats']
  spread = scores.get(f'{name} ±') if name else result.get('seed_spread')
  if value is None:
    return []
  row = ROW.match(words)
  if not row:
    return [f'no value, and {value} is committed']
  said = [(row['value'], value), (row['spread'], spread if spread else None),
          (row['lower'], result['lower'] if row['lower'] else None),
          (row['upper'], result['upper'] if row['upper'] else None)]
  if seeds := SEEDS.search(words):
    said.append((seeds[1].replace('one', '1'), len(result['seeds'])))
  pattern, names = FURTHER.get(experiment, ('', []))
  if further := names and re.search(pattern, words):
    said += [(text, scores.get(name)) for text, name in zip(further.groups(), names, strict=True)]
  return [f'{text} for {number}' for text, number in said if not same(text, number)]


def same(text: str | None, number: float | None) -> bool:
  """Whether a number reads so with as many decimals."""
  if text is None or number is None:
    return text is None and number is None
  text = text.replace(',', '')
  return text == f'{number:.{len(text.partition(".")[2])}f}'


@pytest.mark.parametrize('experiment, variant', OF_VARIANT)
def test_scores_of_a_variant_are_the_committed_ones(experiment, variant):
  pattern, names, unit = OF_VARIANT[experiment, variant]
  entry, result = registry.load(experiment), RESULTS[experiment, variant]
  words = rows(entry.doc, entry.variants)[variant]
  said = re.search(pattern, words)
  assert said and SEEDS.search(words)[1].replace('one', '1') == str(len(result['seeds']))
  for text, name in zip(said.groups(), names, strict=True):
    assert same(text, unit * result['scores'][name]), (text, name)


def test_every_variant_has_a_committed_number():
  missing = {name: absent for name in registry.names()
             if (absent := [v for v in registry.load(name).variants if (name, v) not in RESULTS])}
  assert set(missing) <= {'gan_cifar10'}, 'measure them, or make them settings of the docstring'


@pytest.mark.parametrize('name', registry.names())
def test_tables_in_docstrings_are_the_committed_results(name):
  entry = registry.load(name)
  found = rows(entry.doc, entry.variants)
  wrong = {variant: said for variant, words in found.items() if (name, variant) in RESULTS
           and (said := differences(words, name, RESULTS[name, variant]))}
  assert not wrong
  unknown = {variant: words for variant, words in found.items()
             if (name, variant) not in RESULTS and ROW.match(words)}
  assert not unknown, 'these values are in no committed result'
  if name != 'rbm_bias':  # its table has variants as columns, see below
    assert not {variant for experiment, variant in RESULTS if experiment == name} - set(found)
  assert not re.search(r'^  \S+ +–', entry.doc, re.MULTILINE), 'a dash where a number could be'


def test_the_table_of_rbm_bias_is_the_committed_results():
  entry = registry.load('rbm_bias')
  results = [RESULTS['rbm_bias', variant] for variant in entry.variants]
  scores = [{**result['scores'], **{f'{k} ±': x for k, x in result['scores_spread'].items()},
             'nats': result['test_nats'], 'nats ±': result['seed_spread']} for result in results]
  table = entry.doc[entry.doc.index('  chains  '):]
  cells = re.findall(rf'({NUMBER}) \+- ([\d.]+)', table[:table.index('\n\n')])
  names = ['nats', 'bias_cd1', 'bias_cd25', 'floor_pcd', 'noise_cd25', 'noise_pcd']
  assert len(cells) == len(names) * len(results)
  for (value, spread), (name, score) in zip(cells, itertools.product(names, scores), strict=True):
    assert same(value, score[name]), (name, value, score[name])
    assert same(spread, score[f'{name} ±']), (name, spread, score[f'{name} ±'])


@pytest.mark.parametrize('words, wrong', [
  ('-18.22 +- 0.18   the same', ['-18.22 for -18.2145']), ('-18.21 +- 0.18', []),
  ('-18.21 +- 0.19  5 seeds', ['0.19 for 0.181']), ('-18.21 +- 0.18  4 seeds', ['4 for 5']),
  ('-18.21 +- 0.18  [-18.20, -18.21]', ['-18.20 for -18.2145']),
  ('–', ['no value, and -18.2145 is committed'])])
def test_what_differs_is_seen(words, wrong):
  result = {'test_nats': -18.2145, 'seed_spread': 0.181, 'lower': -18.2145, 'upper': -18.2145,
            'seeds': [0, 1, 2, 3, 4], 'step': 10}
  assert differences(words, 'rbm_digits', result) == wrong
