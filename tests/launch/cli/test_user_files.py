"""A user's file runs as a module does, from anywhere; where it does not, its line is named."""

import sys
import textwrap

import pytest

from launch import errors
from launch.cli import hyperparameters, registry, user_files
from launch.runs import directory as rundir
from launch.sweeps import plan


@pytest.fixture(autouse=True)
def nothing_is_trusted(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))


@pytest.fixture
def write(tmp_path):
  def write(name, text):
    path = tmp_path / 'mine' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path
  return write


def config(entry, **values):
  return {'experiment': entry.name, 'variant': None, 'seed': 0, 'seeds': 1,
          'hyperparameters': hyperparameters.resolve(entry) | values}


CHAINS = 'import helper\ndef experiment():\n  return helper.x\n'
TUPLES = '''
  def experiment(*, layers: tuple[int, ...] = (8, 8), pair: tuple[int, float] = (1, 0.5), bare=(3,),
                 some: tuple[int, ...] | None = None):
    assert isinstance(layers, tuple) and isinstance(pair, tuple) and isinstance(bare, tuple)
    return layers
'''


def test_a_run_with_tuples_is_found_again_and_read_back_as_tuples(write, tmp_path):
  entry = registry.load(str(write('chains.py', TUPLES)))
  assert not rundir.claim(tmp_path, config(entry))
  assert rundir.claim(tmp_path, config(entry))
  with pytest.raises(rundir.ForeignRun, match=r'layers is \[8, 8\] there, \[8, 9\] here'):
    rundir.claim(tmp_path, config(entry, layers=(8, 9)))
  recorded = rundir.read_config(tmp_path)['hyperparameters']
  values = hyperparameters.recorded_values(entry, recorded, tmp_path)
  assert values == hyperparameters.resolve(entry) and entry.experiment(**values) == (8, 8)
  with pytest.raises(errors.UsageError, match='layers is .*not int, ...'):
    hyperparameters.recorded_values(entry, recorded | {'layers': ['a']}, tmp_path)


def test_tuples_are_set_with_commas(write):
  entry = registry.load(str(write('chains.py', TUPLES)))
  values = hyperparameters.resolve(
    entry, overrides=['layers=4,5,6', 'pair=2,3', 'bare=7', 'some=1'])
  assert values == dict(layers=(4, 5, 6), pair=(2, 3.0), bare=(7,), some=(1,))
  assert plan.axes(entry, ['layers=4,5']) == {'layers': [(4, 5)]}
  for wrong in ('layers=a,b', 'pair=1,2,3'):
    with pytest.raises(errors.UsageError, match=wrong.partition('=')[0]):
      hyperparameters.resolve(entry, overrides=[wrong])


def test_annotations_may_be_strings(write):
  entry = registry.load(str(write('chains.py', '''
    from __future__ import annotations
    from typing import Literal
    Rule = Literal['cd', 'pcd']
    def experiment(*, chains: int | None = 5, rule: Rule = 'cd', rate=0.5):
      return chains
  ''')))
  values = hyperparameters.resolve(entry, overrides=['chains=7', 'rule=pcd', 'rate=1'])
  assert values == dict(chains=7, rule='pcd', rate=1.0) and type(values['rate']) is float
  with pytest.raises(errors.UsageError, match='did you mean pcd'):
    hyperparameters.resolve(entry, overrides=['rule=pdc'])
  wrong = registry.load(str(write('wrong.py', '''
    from __future__ import annotations
    def experiment(*, chains: Nothing = 5):
      return chains
  ''')))
  with pytest.raises(errors.UsageError, match="wrong.py: an annotation.*'Nothing' is not defined"):
    hyperparameters.resolve(wrong)


def test_dataclasses_and_flax_modules_are_defined_in_a_file(write):
  entry = registry.load(str(write('net.py', '''
    from __future__ import annotations
    import dataclasses
    import typing
    import flax.linen as nn

    @dataclasses.dataclass
    class Options:
      size: int = 3
      kind: typing.ClassVar[str] = 'dense'

    class Net(nn.Module):
      options: Options = dataclasses.field(default_factory=Options)
      @nn.compact
      def __call__(self, x):
        return nn.Dense(self.options.size)(x)

    def experiment(*, size: int = 2):
      return Net(Options(size))
  ''')))
  net = entry.experiment(size=4)
  assert net.options.size == 4 and type(net).__module__ in sys.modules


def test_one_file_is_one_run_however_its_path_is_written(write, tmp_path, monkeypatch):
  path = write('chains.py', TUPLES)
  monkeypatch.chdir(path.parent)
  found = {registry.load(name).name for name in (
    'chains.py', './chains.py', '../mine/chains.py', str(path))}
  assert found == {str(path)}
  # A directory of the version that recorded what was typed.
  entry = registry.load('chains.py')
  assert not rundir.claim(tmp_path, config(entry) | {'experiment': 'chains.py'})
  assert rundir.claim(tmp_path, config(entry))


def test_a_file_imports_its_neighbours_from_anywhere(write, tmp_path, monkeypatch):
  write('helper.py', 'from pack import deep\nfrom pack.below.more import y\nx = deep.x + y\n')
  write('pack/__init__.py', '')
  write('pack/deep.py', 'from . import base\nfrom .below import more\nx = base.x\n')
  write('pack/base.py', 'x = 1\n')
  write('pack/below/more.py', 'y = 10\n')
  write('late.py', 'z = 100\n')
  write('unused.py', 'raise SystemExit\n')
  write('json.py', 'raise SystemExit("the library of that name is meant")\n')
  path = write('chains.py', '''
    import json
    import helper
    def experiment(*, more: int = 0):
      import late
      return helper.x + late.z + more
  ''')
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  entry = registry.load(str(path))
  assert entry.experiment() == 111
  assert list(entry.code) == ['chains.py', 'helper.py', 'late.py', 'pack/__init__.py',
                              'pack/base.py', 'pack/below/more.py', 'pack/deep.py']
  with pytest.raises(ModuleNotFoundError, match='No module named .pack.nothing'):
    import pack.nothing  # noqa: F401


def test_two_folders_with_a_module_of_one_name(write):
  for folder in ('a', 'b'):
    write(f'{folder}/helper.py', f'x = {folder!r}\n')
  first, second = (registry.load(str(write(f'{folder}/chains.py', CHAINS))) for folder in 'ab')
  assert (first.experiment(), second.experiment()) == ('a', 'b')
  assert first.code['chains.py'] == second.code['chains.py']
  assert first.code['helper.py'] != second.code['helper.py']


def test_what_a_file_imports_is_read_anew_when_it_is_loaded_again(write):
  path = write('chains.py', CHAINS)
  for value in (1, 2):
    write('helper.py', f'x = {value}\n')
    assert registry.load(str(path)).experiment() == value


@pytest.mark.parametrize('files, message', [
  ({'chains.py': 'x = 1\ndef experiment(:\n'}, r'chains.py:2: SyntaxError: '),
  ({'chains.py': 'x = "\0"\n'}, r'chains.py: .*null bytes'),
  ({'chains.py': '\n\nimport no_such_module\n'},
   "chains.py:3: ModuleNotFoundError: No module named 'no_such_module'"),
  ({'chains.py': 'from gen_models.models import rmb\n'}, "chains.py:1: ImportError: .*'rmb'"),
  ({'chains.py': 'import helper\n', 'helper.py': '\n\n1 / 0\n'},
   'helper.py:3: ZeroDivisionError: division by zero'),
  ({'chains.py': 'import helper\n', 'helper.py': 'def f(:\n'}, 'helper.py:1: SyntaxError'),
  ({'chains.py': 'from . import helper\n', 'helper.py': ''}, 'chains.py:1: ImportError'),
  ({'chains.py': 'import json\njson.loads("{")\n'}, 'chains.py:2: JSONDecodeError'),
  ({'chains.py': 'def experiment(*sizes, rate: float = 1.0):\n  pass\n'}, r'takes \*sizes'),
  ({'chains.py': 'def experiment(*, chains: int):\n  pass\n'}, 'chains has no default'),
  ({'chains.py': 'def experiment(*, chains: int = None):\n  pass\n'}, 'chains is None, not int'),
  ({'chains.py': 'def experiment(*, f=len):\n  pass\n'}, 'f is <built-in.*config.json cannot hold'),
  ({'chains.py': 'def experiment(*, f: float = float("inf")):\n  pass\n'}, 'f is inf, which')])
def test_what_does_not_run_is_one_line_with_its_place(write, files, message):
  for name, text in files.items():
    path = write(name, text)
  with pytest.raises(errors.UsageError, match=message) as caught:
    hyperparameters.resolve(registry.load(str(path.with_name('chains.py'))))
  assert '\n' not in str(caught.value)


def test_a_variant_is_checked_as_what_is_typed(write):
  entry = registry.load(str(write('chains.py', '''
    from typing import Literal
    VARIANTS = {'good': {'chains': 3}, 'typo': {'chain': 3}, 'type': {'chains': 'many'},
                'choice': {'rule': 'pdc'}}
    def experiment(*, chains: int = 1, rule: Literal['cd', 'pcd'] = 'cd'):
      pass
  ''')))
  assert hyperparameters.resolve(entry, 'good')['chains'] == 3
  for variant, message in {'typo': 'did you mean chains', 'type': "chains is 'many', not int",
                           'choice': "rule is 'pdc', not cd | pcd"}.items():
    with pytest.raises(errors.UsageError, match=message.replace('|', r'\|')):
      hyperparameters.resolve(entry, variant)


EVIL = 'import pathlib\npathlib.Path({marker!r}).touch()\nx = 1\n'


def test_what_a_known_file_imports_runs_only_as_it_was_named(write, tmp_path):
  """The file's own bytes are known, but not those of a module that was put beside it."""
  marker, text = tmp_path / 'ran', '''
    try:
      import helper
    except Exception:
      helper = None
    def experiment():
      import late
      return late.x
  '''
  path = write('mine/chains.py', text)
  for name in ('helper', 'late'):
    write(f'mine/{name}.py', 'x = 1\n')
  assert registry.load(str(path)).experiment() == 1
  assert registry.load_recorded(str(path), tmp_path).experiment() == 1
  for name in ('helper', 'late'):
    theirs = write('theirs/chains.py', text)
    write('theirs/helper.py', 'x = 1\n')
    write('theirs/late.py', 'x = 1\n')
    write(f'theirs/{name}.py', EVIL.format(marker=str(marker)))
    with pytest.raises(errors.UsageError, match=f'which imports .*{name}.py, which would run'):
      registry.load_recorded(str(theirs), tmp_path)
  assert not marker.exists()


def test_a_module_whose_name_is_made_up_as_it_runs_is_asked_about_too(write, tmp_path):
  marker, text = tmp_path / 'ran', '''
    import importlib
    def experiment():
      return importlib.import_module('help' + 'er').x
  '''
  path = write('mine/chains.py', text)
  write('mine/helper.py', 'x = 1\n')
  assert registry.load(str(path)).experiment() == 1
  assert registry.load_recorded(str(path), tmp_path).experiment() == 1
  theirs = write('theirs/chains.py', text)
  write('theirs/helper.py', EVIL.format(marker=str(marker)))
  entry = registry.load_recorded(str(theirs), tmp_path)
  with pytest.raises(errors.UsageError, match='would run as code'):
    entry.experiment()
  assert not marker.exists()


def test_ours_and_what_is_installed_come_before_a_folder(write, tmp_path):
  for name in ('gen_models', 'launch', 'experiments', 'numpy', 'optax', 'os'):
    write(f'{name}.py', 'raise SystemExit("shadowed")\n')
  path = write('chains.py', 'import os\nimport numpy\nimport optax\nfrom gen_models import data\n'
               'import launch\ndef experiment():\n  pass\n')
  assert list(user_files.load(path, lambda *_: None).code) == ['chains.py']
