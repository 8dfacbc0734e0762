"""CONTRIBUTING.md and what stands around it: what the checklists claim is so."""

import ast
import inspect
import pathlib
import re
import tomllib

import pytest
import yaml

from gen_models.estimators import base
from gen_models.problems import catalogue, entry
from tests.estimators import test_battery

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
EXPERIMENTS = sorted(p for p in (ROOT / 'experiments').glob('[!_]*.py') if p.stem[:6] != 'story_')


def checklist(title: str) -> str:
  """The section `## title`."""
  return re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', TEXT, flags=re.M | re.S)[1]


def test_every_path_named_exists():
  rooms = 'gen_models|experiments|launch|tests|benchmarks|docs'
  named = re.findall(rf'[`(]((?:{rooms})/[\w/.]*)[`)]', TEXT)
  assert len(named) > 15
  assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_make_target_named_exists():
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), flags=re.M))
  assert set(re.findall(r'^make ([a-z-]+)', TEXT, flags=re.M)) <= targets


def test_the_battery_holds_every_estimator_of_the_catalogue():
  # Add an estimator: "From then on test_battery.py holds it", with no list of its own to forget.
  in_battery = {p.values[0] for p in test_battery.every_estimator.args[1]}
  assert in_battery == set(catalogue.ENTRIES)
  families = set(re.findall(r'`(gen_models/problems)/', checklist('Add an estimator')))
  assert families == {'gen_models/problems'}


def test_the_contract_has_the_fields_that_the_checklists_name():
  assert {'biased', 'target'} <= set(base.Estimator._fields)
  assert {'name', 'params', 'batch', 'loss'} <= set(entry.Problem._fields)


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda p: p.stem)
def test_an_experiment_says_its_command_cost_and_score(path):
  doc = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
  assert 'python -m launch.' in doc, 'the command that trains it'
  assert re.search(r'\b(cost|second|minute|hour)', doc, flags=re.I), 'what the run costs'
  assert re.search(r'\b(score|nats|error)', doc, flags=re.I), 'the score to be expected'


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda p: p.stem)
def test_an_experiment_has_typed_keyword_hyperparameters(path):
  from launch.cli import hyperparameters, registry as experiments_registry
  loaded = experiments_registry.load(path.stem)
  assert loaded.variants
  for parameter in hyperparameters.of(loaded).values():
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.annotation is not inspect.Parameter.empty, parameter.name
    assert parameter.default is not inspect.Parameter.empty, parameter.name


def test_every_backend_has_its_tests_and_its_section():
  places = re.search(r'_PLACES = \{(.*?)\}', (ROOT / 'launch/backends/__init__.py').read_text())[1]
  modules = re.findall(r': (\w+)', places)
  assert len(modules) == 3
  page = (ROOT / 'docs/howto/clusters.md').read_text(encoding='utf-8')
  for module in modules:
    assert (ROOT / f'launch/backends/{module}.py').exists()
    assert (ROOT / f'tests/launch/backends/test_{module}.py').exists()
    assert re.search(rf'^## .*{module}', page, flags=re.M | re.I), module


def test_citation_is_complete_and_of_this_version():
  cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
  # The keys that the schema of the format, 1.2.0, requires.
  assert {'cff-version', 'message', 'title', 'authors'} <= set(cited)
  assert cited['cff-version'] == '1.2.0' and cited['type'] == 'software'
  assert all(set(author) == {'name'} for author in cited['authors'])
  setup = (ROOT / 'setup.cfg').read_text(encoding='utf-8')
  assert re.search(rf'^version = {cited["version"]}$', setup, flags=re.M)
  assert re.search(rf'^license = {cited["license"]}$', setup, flags=re.M)
  assert f'author = {cited["authors"][0]["name"]}' in setup


@pytest.mark.parametrize('path', sorted((ROOT / '.github').rglob('*.yml')), ids=lambda p: p.stem)
def test_github_files_are_yaml_and_run_what_is_there(path):
  loaded = yaml.safe_load(path.read_text(encoding='utf-8'))
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), flags=re.M))
  for job in loaded.get('jobs', {}).values():
    for step in job['steps']:
      command = step.get('run', '')
      assert set(re.findall(r'\bmake ([a-z-]+)', command)) <= targets
      for script in re.findall(r'\bbash (\S+)', command):
        assert (ROOT / script).exists(), script


def test_continuous_integration_covers_the_versions_that_are_promised():
  tests = yaml.safe_load((ROOT / '.github/workflows/tests.yml').read_text(encoding='utf-8'))
  versions = tests['jobs']['test']['strategy']['matrix']['python']
  assert versions == ['3.11', '3.12', '3.13']
  setup = (ROOT / 'setup.cfg').read_text(encoding='utf-8')
  assert f'python_requires = >={versions[0]}' in setup
  ruff = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['tool']['ruff']
  assert ruff['target-version'] == 'py' + versions[0].replace('.', '')


def test_pre_commit_runs_what_make_lint_runs():
  hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text(encoding='utf-8'))
  entries = {hook['id']: hook['entry'] for repo in hooks['repos'] for hook in repo['hooks']
             if 'entry' in hook}
  recipe = re.search(r'^lint:.*\n((?:\t.*\n)+)', (ROOT / 'Makefile').read_text(), flags=re.M)[1]
  for line in recipe.strip().splitlines():
    tool = line.strip().removeprefix('$(BIN)/').split()[0]
    assert any(entry.split()[0].endswith(tool) for entry in entries.values()), tool
