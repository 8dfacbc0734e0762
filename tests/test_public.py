"""The public face: every name is there, is documented, and is imported when asked for."""

import importlib.resources
import inspect
import os
import pathlib
import pkgutil
import subprocess
import sys
import types
import typing

import pytest

import gen_models as gm
from gen_models.estimators import base
from gen_models.estimators.directions import Direction
from gen_models.estimators.negative import Negative
from gen_models.estimators.variational import Rule

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('gen_models', *(f'gen_models.{name}' for name in (
  'data', 'estimators', 'evaluation', 'models', 'problems', 'samplers', 'training')))


@pytest.mark.parametrize('package', PACKAGES)
def test_every_public_name_is_there_and_documented(package):
  module = importlib.import_module(package)
  assert len(set(module.__all__)) == len(module.__all__) and set(module.__all__) <= set(dir(module))
  for name in module.__all__:
    value = getattr(module, name)
    if isinstance(value, type | types.FunctionType | types.ModuleType):  # others cannot carry one
      assert inspect.getdoc(value), f'{package}.{name} has no docstring'


def test_every_module_of_a_package_is_public():
  for package in PACKAGES:
    module = importlib.import_module(package)
    if package in ('gen_models', 'gen_models.data', 'gen_models.estimators'):
      continue  # there a selection of functions, and the packages
    folder = importlib.resources.files(package)
    modules = {path.name[:-3] for path in folder.iterdir() if path.name.endswith('.py')}
    assert modules - {'__init__'} <= set(module.__all__), package


def test_every_estimator_and_every_part_of_one_is_public():
  made = (base.Estimator, Negative, Direction, Rule)
  found = set()
  for module in pkgutil.iter_modules(gm.estimators.__path__, 'gen_models.estimators.'):
    for name, fn in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
      if (name[0] != '_' and fn.__module__ == module.name
          and typing.get_type_hints(fn).get('return') in made):
        found.add(name)
  assert len(found) > 25 and found <= set(gm.estimators.__all__), found - set(gm.estimators.__all__)


def test_a_name_is_the_same_from_both_ends():
  from gen_models.estimators.contrastive import contrastive
  from gen_models.models import rbm

  assert gm.models.rbm is rbm
  # A function and its module have one name; the package has the function, whoever imports first.
  assert gm.estimators.contrastive is contrastive
  assert {name for name in gm.estimators.__all__ if inspect.ismodule(
    getattr(gm.estimators, name))} == set()


@pytest.mark.parametrize('package', PACKAGES)
def test_a_name_that_is_not_there_is_an_attribute_error(package):
  with pytest.raises(AttributeError, match='no attribute .nothing'):
    getattr(importlib.import_module(package), 'nothing')  # noqa: B009, ruff would inline it


def test_importing_the_package_imports_none_of_its_subpackages():
  code = ('import gen_models, sys; '
          'print([m for m in sys.modules if m.split(".")[0] in ("jax", "numpy", "flax")], '
          '[m for m in sys.modules if m.startswith("gen_models.")])')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert out.stdout.strip() == "[] ['gen_models._lazy']"


def test_the_package_says_that_it_is_typed():
  assert importlib.resources.files('gen_models').joinpath('py.typed').is_file()


def test_a_package_of_the_user_in_the_place_of_ours_is_named(tmp_path):
  (tmp_path / 'launch.py').write_text('')
  code = 'import gen_models as gm\ntry:\n  gm.load\nexcept ImportError as e:\n  print(e)'
  out = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
                       check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
  assert out.stdout == (f'gen_models.load needs the package launch that is installed with it, and '
                        f'Python finds {tmp_path}/launch.py: rename that, or run elsewhere\n')
