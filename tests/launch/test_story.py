"""launch.story on two small families of a user's own file."""

import json

import pytest

from tests.launch.commands import refused, run

TWO = """
'''Two families of a user.'''
from experiments import rbm_digits
from gen_models.evaluation import likelihood

VARIANTS = {'few': {}, 'no_density': dict(density=False)}  # which share all of their programs
FAMILIES = {name: (__file__, name) for name in VARIANTS}
SPACE = 'threshold'


def experiment(*, num_hidden: int = 3, num_steps: int = 100, density: bool = True):
  made = rbm_digits.experiment(num_hidden=num_hidden, num_steps=num_steps)
  if not density:
    return made._replace(evaluate=lambda key, params, dataset, report: likelihood.no_likelihood(
      'it was taken away', num_images=300, binarisation='threshold'))
  return made
"""


@pytest.fixture(name='workdir', scope='module')
def fixture_workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp('story')
  (path / 'two.py').write_text(TWO)
  run('story', f'--story={path / "two.py"}', f'--workdir={path / "run"}', '--seeds=2')
  return path / 'run'


def test_the_table_is_a_list_with_an_object_a_family(workdir):
  few, none = json.loads((workdir / 'table.json').read_text())
  assert (few['family'], none['family']) == ('few', 'no_density')
  assert few['kind'] == 'exact' and few['test_nats'] < 0 and few['seed_spread'] > 0
  assert none['kind'] == 'none' and none['test_nats'] is None and none['why'] == 'it was taken away'
  for row in (few, none):
    assert row['num_images'] == 300 and row['binarisation'] == row['sample_space'] == 'threshold'
    assert row['train_seconds'] > 0 and row['seeds'] == [0, 1]
    assert row['samples']
    assert all({'value', 'floor', 'n'} <= set(score) for score in row['samples'].values())
  assert few['num_parameters'] == 64 * 3 + 64 + 3


def test_the_page_and_the_picture(workdir):
  page = (workdir / 'report.html').read_text()
  assert 'http' not in page.replace('http-equiv', '')
  assert '>few</th>' in page and '>no_density</th>' in page
  # Test images once, and of both families samples, neighbours, filters.
  assert page.count('data:image/png;base64,') == 1 + 2 * 3
  run = (workdir / 'few' / 'report.html').read_text()
  assert 'Two families of a user.' in run and 'valid_nats' in run
  assert 'Two families of a user.' in page
  assert (workdir / 'story.png').stat().st_size > 1000


@pytest.mark.slow
def test_the_same_command_again_resumes(workdir):
  before = (workdir / 'few' / 'metrics.jsonl').read_text()
  done = run('story', f'--story={workdir.parent / "two.py"}', f'--workdir={workdir}',
             '--seeds=2', '--only=few')
  assert 'resuming' in done.stdout and 'no_density: train' not in done.stdout
  assert (workdir / 'few' / 'metrics.jsonl').read_text() == before
  assert len(json.loads((workdir / 'table.json').read_text())) == 2


def test_an_unknown_family_is_refused_before_anything_is_trained(tmp_path):
  (tmp_path / 'two.py').write_text(TWO)
  error = refused('story', f'--story={tmp_path / "two.py"}', f'--workdir={tmp_path / "run"}',
                  '--only=feww')
  assert 'few' in error and not (tmp_path / 'run' / 'feww').exists()


def test_what_is_no_story_is_refused(tmp_path):
  assert 'story_digits' in refused('story', '--story=story_digit', f'--workdir={tmp_path}')
  assert 'launch.story' in refused('train', '--experiment=story_digits', f'--workdir={tmp_path}')
  (tmp_path / 'none.py').write_text('FAMILIES = {}')
  assert 'SPACE' in refused('story', f'--story={tmp_path / "none.py"}', f'--workdir={tmp_path}')
