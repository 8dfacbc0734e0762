"""Python files of a user as modules: an experiment, a story or an estimator given by its path.

A file runs as a module does: it is in sys.modules under a name of its own, by its absolute path,
and `import mine` finds mine.py beside it from wherever the command is run. Whatever is installed
comes first, so a folder shadows no library.

The bytes that run are the bytes that were approved: not what a file has by now, nor a .pyc beside
it. That holds for the file and for all that it imports from its folder, inside functions too. What
it imports is found by reading its import statements; a module imported under a name that is only
known when it runs is approved at that moment, and is not part of `code`.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

from launch.cli import trusted_files
from launch.errors import UsageError

# Called with a file and its bytes before they run; raises UsageError where they must not.
Approve = Callable[[pathlib.Path, bytes], None]

# Files that run at this moment, the innermost last.
running: list[pathlib.Path] = []

_OURS = ('gen_models', 'experiments', 'launch', 'benchmarks')


class UserFile(NamedTuple):
  """A file that has run.

  Attributes:
    path: absolute.
    module: what it defines.
    code: file below its folder -> sha256, of the file and of what it imports from its folder.
  """

  path: pathlib.Path
  module: types.ModuleType
  code: dict[str, str]


def absolute(path: str | pathlib.Path) -> pathlib.Path:
  """One path for a file however it was typed: chains.py, ./chains.py, runs/../chains.py."""
  return pathlib.Path(os.path.abspath(path))


def load(path: pathlib.Path, approve: Approve) -> UserFile:
  """Runs a file.

  Args:
    path: of the file, which exists.
    approve: asked about every file before any of them runs.

  Raises:
    UsageError: not approved, or the file does not run; one line with file and line number.
  """
  path = absolute(path)
  sources = _sources(path)
  for file, source in sources.items():
    approve(file, source)
  _FINDER.serve(_Folder(path.parent, sources, approve))
  name = f'{path.stem}_{trusted_files.digest(bytes(path))[:12]}'
  loader = _Loader(name, str(path), sources[path])
  spec = importlib.util.spec_from_file_location(name, path, loader=loader)
  assert spec is not None  # for its loader is given
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # dataclasses and flax look there for a class's module
  running.append(path)
  try:
    loader.exec_module(module)
  except Exception as e:
    del sys.modules[name]
    if isinstance(e, UsageError):
      raise
    raise UsageError(_where(e, path)) from e
  finally:
    running.pop()
  code = {file.relative_to(path.parent).as_posix(): trusted_files.digest(source)
          for file, source in sources.items()}
  return UserFile(path, module, dict(sorted(code.items())))


def _where(error: Exception, path: pathlib.Path) -> str:
  """One line: the place of an error in the user's file `path` or one beside it, and the error."""
  kind = type(error).__name__
  if isinstance(error, SyntaxError):
    line = '' if error.lineno is None else f':{error.lineno}'
    return f'{error.filename or path}{line}: {kind}: {error.msg}'
  places = [f'{frame.filename}:{frame.lineno}' for frame in
            traceback.extract_tb(error.__traceback__)
            if path.parent in pathlib.Path(frame.filename).parents]
  return ': '.join([places[-1] if places else str(path), kind, *str(error).splitlines()[:1]])


def _sources(path: pathlib.Path) -> dict[pathlib.Path, bytes]:
  """The bytes of a file and of all that it imports from its folder, directly or not.

  Raises:
    UsageError: the file, or one that it imports, is not Python.
  """
  folder, found, waiting = path.parent, {}, [path]
  while waiting:
    file = waiting.pop()
    if file in found:
      continue
    found[file] = file.read_bytes()
    try:
      tree = ast.parse(found[file], filename=str(file))
    except SyntaxError as e:
      raise UsageError(_where(e, file)) from e
    except (ValueError, RecursionError) as e:
      raise UsageError(f'{file}: {e}') from e
    for name in _imported(tree, _package(folder, file)):
      if not _elsewhere(name.partition('.')[0], folder):
        waiting += [x for x in (_locate(folder, name),) if x is not None and x.is_file()]
  return found


def _package(folder: pathlib.Path, file: pathlib.Path) -> list[str]:
  """The package that a file is in, in parts: that of folder/a/b.py is ['a']."""
  return list(file.relative_to(folder).parent.parts)


def _imported(tree: ast.AST, package: list[str]) -> Iterator[str]:
  """Full names of what may be modules among the imports of a file, packages before their parts."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      above = package[:len(package) - node.level + 1] if node.level else []
      base = '.'.join([*above, *([node.module] if node.module else [])])
      names = [f'{base}.{alias.name}'.lstrip('.') for alias in node.names]
    else:
      continue
    for name in names:
      parts = name.split('.')
      yield from ('.'.join(parts[:i + 1]) for i in range(len(parts)))


def _locate(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The file of a module below a folder, or the folder of a package that has none."""
  place = folder.joinpath(*name.split('.'))
  for file in (place / '__init__.py', place.with_name(place.name + '.py')):
    if file.is_file():
      return file
  return place if place.is_dir() else None


def _elsewhere(top: str, folder: pathlib.Path) -> bool:
  """Whether a module comes from Python, from us or from what is installed, not from a folder."""
  if top in sys.stdlib_module_names or top in _OURS:
    return True
  module = sys.modules.get(top)
  if module is not None:
    return not isinstance(getattr(module.__spec__, 'loader', None), _Loader | _Nothing)
  # `python -m` has the working directory on the path: that is the user's, and not installed.
  here = {folder.resolve(), pathlib.Path.cwd().resolve()}
  path = [entry for entry in sys.path if pathlib.Path(entry or '.').resolve() not in here]
  if (spec := importlib.machinery.PathFinder.find_spec(top, path)) is not None:
    return spec.loader is not None
  return any(finder.find_spec(top, None) is not None for finder in sys.meta_path
             if finder not in (_FINDER, importlib.machinery.PathFinder)
             and hasattr(finder, 'find_spec'))


class _Loader(importlib.machinery.SourceFileLoader):
  """Runs given bytes as the contents of a file."""

  def __init__(self, name, path, source):
    super().__init__(name, path)
    self._source = source

  def get_code(self, fullname):
    return self.source_to_code(self._source, self.get_filename(fullname))


class _Nothing(importlib.abc.Loader):
  """Loads a package that has no file of its own."""

  def create_module(self, spec):
    del spec

  def exec_module(self, module):
    del module


class _Folder:
  """Where modules come from: the bytes that are known, and who is asked about others."""

  def __init__(self, path: pathlib.Path, sources: dict[pathlib.Path, bytes], approve: Approve):
    self.path, self._sources, self._approve = path, dict(sources), approve

  def source(self, file: pathlib.Path) -> bytes:
    if file not in self._sources:
      source = file.read_bytes()
      self._approve(file, source)
      self._sources[file] = source
    return self._sources[file]


class _Finder:
  """Imports from the folders of the files that were loaded, that of the last one first."""

  def __init__(self):
    self._folders: list[_Folder] = []
    self._served: dict[str, _Folder] = {}

  def serve(self, folder: _Folder) -> None:
    """From now on imports come from this folder first; what was imported before is read anew."""
    for name in self._served:
      sys.modules.pop(name, None)
    self._folders = [folder, *(f for f in self._folders if f.path != folder.path)]
    self._served = {}
    if self not in sys.meta_path:
      sys.meta_path.insert(0, self)

  def find_spec(self, fullname, path=None, target=None):
    del path, target
    top, _, rest = fullname.partition('.')
    if rest and top not in self._served:
      return None
    folders = [self._served[top]] if rest else self._folders
    for folder in folders:
      file = _locate(folder.path, fullname)
      if file is not None and (rest or not _elsewhere(top, folder.path)):
        self._served[fullname] = folder
        return _spec(fullname, file, folder)
    if rest:  # no other finder may look there: it would run what was not approved
      raise ModuleNotFoundError(f'No module named {fullname!r}', name=fullname)
    return None


def _spec(name: str, file: pathlib.Path, folder: _Folder):
  """How Python is to load a module from a file or, of a package without one, from a directory."""
  if file.is_dir():
    spec = importlib.machinery.ModuleSpec(name, _Nothing(), is_package=True)
    spec.submodule_search_locations = [str(file)]
    return spec
  return importlib.util.spec_from_file_location(
    name, file, loader=_Loader(name, str(file), folder.source(file)),
    submodule_search_locations=[str(file.parent)] if file.name == '__init__.py' else None)


_FINDER = _Finder()
