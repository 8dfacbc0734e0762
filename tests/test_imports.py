"""Imports point one way. The law is the table below; the imports are read, not run."""

import ast
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
OURS = ('gen_models', 'experiments', 'launch', 'benchmarks', 'tests')

# Who may import what of ours: a module, or a room with all that is in it.
MAY_IMPORT = {
  'gen_models/models': {'gen_models.models', 'gen_models.indices', 'gen_models.devices',
                        'gen_models._lazy'},
  'gen_models/samplers': {'gen_models.models', 'gen_models.samplers', 'gen_models.devices',
                          'gen_models._lazy'},
  'gen_models/estimators': {'gen_models.models', 'gen_models.samplers', 'gen_models.devices',
                            'gen_models.estimators'},
  'gen_models/evaluation': {'gen_models.models', 'gen_models.samplers', 'gen_models.data',
                            'gen_models.devices', 'gen_models.files',
                            'gen_models.estimators.base', 'gen_models.experiment',
                            'gen_models.evaluation', 'gen_models._lazy'},
  'gen_models/inference': {'gen_models.models', 'gen_models.samplers', 'gen_models.evaluation',
                           'gen_models.experiment', 'gen_models.training', 'gen_models.inference',
                           'gen_models._lazy'},
  'gen_models/problems': {'gen_models.models', 'gen_models.samplers', 'gen_models.estimators',
                          'gen_models.problems', 'gen_models._lazy'},
  'gen_models/data': {'gen_models.models.bits', 'gen_models.devices', 'gen_models.data',
                      'gen_models.files'},
  'gen_models/training': {'gen_models.estimators.base', 'gen_models.experiment', 'gen_models.data',
                          'gen_models.devices', 'gen_models.files', 'gen_models.training',
                          'gen_models._lazy'},
  # Files are written in one way everywhere: whoever writes imports it, and it imports nothing.
  'gen_models/files.py': set(),
  'gen_models/experiment.py': {'gen_models.estimators.base'},
  'gen_models/domains.py': set(),
  'gen_models/export.py': {'gen_models.files'},
  'gen_models/devices.py': set(),
  'gen_models/indices.py': set(),
  # The public face names what is in every room, for type checkers, and imports none of it before
  # it is asked for: tests/test_public.py holds that. Runs are launch's: no room imports them.
  'gen_models/__init__.py': {'gen_models', 'launch.runs.fit', 'launch.runs.load'},
  'gen_models/_lazy.py': set(),
  'experiments': {'gen_models', 'experiments'},
  'launch': {'gen_models', 'experiments', 'launch'},
  'launch/errors.py': set(),
  'launch/processes': {'launch.errors', 'launch.processes'},
  'launch/cli': {'gen_models', 'experiments', 'launch.errors', 'launch.processes', 'launch.cli'},
  'launch/backends': {'gen_models.files', 'launch.errors', 'launch.cli', 'launch.backends'},
  'launch/runs': {'gen_models', 'launch.errors', 'launch.cli', 'launch.runs'},
  'launch/measure': {'gen_models', 'launch.errors', 'launch.cli', 'launch.measure'},
  'launch/sweeps': {'gen_models', 'launch.errors', 'launch.cli', 'launch.runs', 'launch.sweeps'},
  'launch/reports': {'gen_models', 'launch.errors', 'launch.cli', 'launch.runs', 'launch.measure',
                     'launch.reports'},
  'benchmarks': {'gen_models', 'experiments', 'benchmarks'},
}
# Mathematics only: no flags, files, device counts or configuration.
PURE = ('gen_models/models', 'gen_models/samplers', 'gen_models/estimators')
PURE_MAY_IMPORT = {'jax', 'flax', 'numpy', 'collections', 'dataclasses', 'functools', 'inspect',
                   'math', 'typing'}


def is_module(name: str) -> bool:
  path = ROOT / name.replace('.', '/')
  return path.is_dir() or path.with_suffix('.py').is_file()


def imports(source: str) -> set[str]:
  """Full names of the modules that a source imports, at the top or inside a function."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        found.add(name if is_module(name) else node.module)
  return found


def forbidden(names: set[str], allowed: set[str]) -> set[str]:
  """Those of ours that lie in none of the allowed modules and rooms."""
  return {name for name in names if name.split('.')[0] in OURS
          and not any(name == room or name.startswith(f'{room}.') for room in allowed)}


def sources(place: str) -> list[pathlib.Path]:
  return [ROOT / place] if place.endswith('.py') else sorted((ROOT / place).rglob('*.py'))


@pytest.mark.parametrize('place', MAY_IMPORT)
def test_imports_point_one_way(place):
  for path in sources(place):
    wrong = forbidden(imports(path.read_text()), MAY_IMPORT[place])
    assert not wrong, f'{path.relative_to(ROOT)} imports {sorted(wrong)}'


@pytest.mark.parametrize('place', sorted(
  set(MAY_IMPORT) - {'launch', 'launch/measure', 'gen_models/problems', 'gen_models/__init__.py'}))
def test_problems_are_for_launch_and_tests(place):
  for path in sources(place):
    names = imports(path.read_text())
    assert not any(name.startswith('gen_models.problems') for name in names), path


@pytest.mark.parametrize('place', PURE)
def test_models_samplers_and_estimators_see_mathematics_only(place):
  for path in sources(place):
    roots = {name.split('.')[0] for name in imports(path.read_text())} - set(OURS)
    assert roots <= PURE_MAY_IMPORT, f'{path.relative_to(ROOT)}: {roots - PURE_MAY_IMPORT}'


def test_experiments_share_through_common_only():
  for path in sources('experiments'):
    wrong = {name for name in imports(path.read_text())
             if re.match(r'experiments\b(?!\._common\b)', name)}
    assert not wrong, f'{path.relative_to(ROOT)} imports {sorted(wrong)}'


EXCEPT = {
  # Pickles are written to show that they are parsed and not run.
  ROOT / 'tests/evaluation/adapters/test_adapters.py': {'pickle'},
  # Quick tests share MLIR contexts where this jax has them; nothing depends on it.
  ROOT / 'tests/conftest.py': {'jax._src.interpreters'}}


def test_nothing_private_of_jax_and_no_pickle():
  for place in OURS:
    for path in sources(place):
      names = imports(path.read_text()) - EXCEPT.get(path, set())
      wrong = {name for name in names
               if name.startswith('jax._') or name.split('.')[0] in ('pickle', 'cloudpickle')}
      assert not wrong, f'{path.relative_to(ROOT)} imports {sorted(wrong)}'


def test_every_package_has_its_line_in_the_table():
  packages = {f'gen_models/{path.name}' for path in (ROOT / 'gen_models').iterdir()
           if path.suffix == '.py' or (path / '__init__.py').is_file()}
  assert packages == {place for place in MAY_IMPORT if place.startswith('gen_models/')}
  assert all(sources(place) for place in MAY_IMPORT)


def test_every_package_of_launch_has_its_line_and_imports_no_command():
  packages = {f'launch/{path.name}' for path in (ROOT / 'launch').iterdir() if
              (path / '__init__.py').is_file()}
  assert packages == {place for place in MAY_IMPORT if place.startswith('launch/')
                      and not place.endswith('.py')}
  commands = {f'launch.{path.stem}' for path in (ROOT / 'launch').glob('*.py')} - {
    'launch.__init__', 'launch.errors'}
  for package in packages:
    for path in sources(package):
      assert not imports(path.read_text()) & commands, path


def test_no_two_files_of_launch_import_each_other_in_a_circle():
  """Read from the imports, those inside of functions too."""
  arrows = {}
  for path in sources('launch'):
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    arrows[name] = {found for found in imports(path.read_text()) if found.startswith('launch')}
  done = set()

  def walk(name, trail):
    assert name not in trail, ' -> '.join([*trail, name])
    if name not in done:
      for other in arrows.get(name, ()):
        walk(other, (*trail, name))
      done.add(name)

  for name in arrows:
    walk(name, ())


class WithoutFunctions(ast.NodeTransformer):
  """Leaves of a module what runs when it is imported."""

  def visit_FunctionDef(self, node):
    return ast.Pass()

  def visit_If(self, node):
    return ast.Pass() if ast.unparse(node.test) == 'TYPE_CHECKING' else node


def loaded_at_once(name: str) -> set[str]:
  """Full names of all modules that are loaded with a module of ours.

  They are what it imports outside of functions, what that imports there, and the packages that all
  of them lie in.
  """
  found, waiting = set(), [name]
  while waiting:
    name = waiting.pop()
    if name in found:
      continue
    found.add(name)
    if name.split('.')[0] in OURS:
      path = ROOT / name.replace('.', '/')
      path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
      waiting += imports(ast.unparse(WithoutFunctions().visit(ast.parse(path.read_text()))))
      waiting += [name.rpartition('.')[0]] * ('.' in name)
  return found


@pytest.mark.parametrize('package', ['measure', 'reports', 'runs', 'sweeps'])
def test_a_package_of_launch_offers_all_its_modules(package):
  modules = {path.stem for path in (ROOT / 'launch' / package).glob('*.py')} - {'__init__'}
  assert set(importlib.import_module(f'launch.{package}').__all__) == modules


def test_a_command_answers_help_and_wrong_flags_without_jax():
  slow = {'jax', 'flax', 'optax', 'orbax', 'scipy', 'sklearn', 'matplotlib'}
  for path in (ROOT / 'launch').glob('[a-z]*.py'):
    found = loaded_at_once(f'launch.{path.stem}')
    assert not slow & {name.split('.')[0] for name in found}, path
  assert slow & {name.split('.')[0] for name in loaded_at_once('launch.runs.load')}


@pytest.mark.parametrize('line, name', [
  ('from gen_models import estimators', 'gen_models.estimators'),
  ('from gen_models.estimators import contrastive', 'gen_models.estimators.contrastive'),
  ('from gen_models.estimators.contrastive import persistent', 'gen_models.estimators.contrastive'),
  ('import gen_models.estimators.contrastive as c', 'gen_models.estimators.contrastive'),
  ('def f():\n  from launch import train', 'launch.train')])
def test_what_breaks_the_law_is_seen(line, name):
  assert imports(line) == {name}
  assert forbidden({name}, MAY_IMPORT['gen_models/training']) == {name}


def test_what_keeps_the_law_is_let_through():
  names = imports('import jax.numpy as jnp\nfrom gen_models.estimators import base\n'
                  'from gen_models.estimators.base import Estimator')
  assert names == {'jax.numpy', 'gen_models.estimators.base'}
  assert not forbidden(names, MAY_IMPORT['gen_models/training'])
