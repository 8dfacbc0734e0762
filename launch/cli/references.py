"""References to code of a user: from `path.py` and `path.py:name` to modules and what is in them.

A path that a user typed is run; one read from a file only if the user typed it before, see
trusted_files.py. How a file runs is in user_files.py.
"""

import functools
import inspect
import pathlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from launch.cli import trusted_files, user_files
from launch.cli.user_files import UserFile
from launch.errors import UsageError, near

Read = Callable[[str], UserFile]  # from a path


class Reference(str):
  """The words `path.py:name`, which are recorded, with the object that they name, which is used.

  Attributes:
    thing: the object.
    file: where it is from; None of words that were not looked up.
  """

  thing: Any
  file: UserFile | None

  def __new__(cls, words: str, thing: Any = None, file: UserFile | None = None):
    made = super().__new__(cls, words)
    made.thing, made.file = thing, file
    return made


def is_one(words: Any) -> bool:
  """Whether words may be `path.py:name`, or `path.py` of which the name was forgotten."""
  return isinstance(words, str) and re.search(r'\.py(:\w*)?$', words) is not None


def short(value: Any) -> Any:
  """`name.py:thing` of a reference, wherever the file lies; any other value as it is."""
  return pathlib.PurePath(value).name if is_one(value) else value


def typed(words: str, flag: str) -> Reference:
  """What `path.py:name` refers to, as a user typed it.

  Args:
    words: path.py:name.
    flag: it was typed for, 'set=estimator'.

  Raises:
    UsageError: no such file, it does not run, or there is nothing of that name in it.
  """
  return _find(words, flag, lambda path: typed_file(path, flag.split('=')[-1]))


def recorded(words: str, flag: str, where: pathlib.Path, confirm: Sequence[str]) -> Reference:
  """What `path.py:name` refers to, as the file `where` has it, which may come from anyone.

  Args:
    words: path.py:name.
    flag: as of `typed`.
    where: the file.
    confirm: a command, word by word, by which the user names it.

  Raises:
    UsageError: as of `typed`; or the user has not named the file as it is now.
  """
  return _find(words, flag, lambda path: recorded_file(path, where, confirm))


def typed_file(name: str, what: str) -> UserFile:
  """A file whose path the user has typed: it runs, and may run again when a run names it."""
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f'no {what} file {name}')
  return user_files.load(path, lambda file, source: trusted_files.remember(source))


def recorded_file(name: str, where: pathlib.Path, confirm: Sequence[str]) -> UserFile:
  """A file that the file `where` names: it runs if the user has named its bytes before.

  Args:
    name: its path.
    where: what names it.
    confirm: as of `recorded`.
  """
  # A run that was made elsewhere: the file may be in the working directory here.
  path = next((path for path in (pathlib.Path(name), pathlib.Path(pathlib.Path(name).name))
               if path.is_file()), None)
  if path is None:
    raise UsageError(f'{where} names {name}, and there is no such file here: run the command '
                     'from the directory that has it')

  def approve(file, source):
    if trusted_files.known(source):
      return
    named = file if file == user_files.absolute(path) else f'{path}, which imports {file}'
    command = shlex.join(word.replace(name, str(path)) for word in confirm)
    raise UsageError(f'{where} names {named}, which would run as code, and you have not named that '
                     f'file yet as it is now: read it, then confirm it with {command}')

  return user_files.load(path, approve)


def _find(words: str, flag: str, read: Read) -> Reference:
  path, _, name = words.rpartition(':')
  if not path:
    path, name = name, ''
  file = read(path)
  module = file.module
  own = [k for k, v in vars(module).items() if k[0] != '_' and not inspect.ismodule(v)
         and (v.__module__ == module.__name__
              if inspect.isclass(v) or inspect.isroutine(v) else True)]
  if not name:
    what = flag.split('=')[-1]
    raise UsageError(f'{path}: which {what} of it? Write --{flag}={path}:name' + near('', own))
  if not hasattr(module, name):
    raise UsageError(f'{path} has no {name!r}' + near(name, own))
  return Reference(f'{file.path}:{name}', getattr(module, name), file)


def resolving(function: Callable) -> Callable:
  """The function, called with the objects where it is given references to them."""
  @functools.wraps(function)
  def called(*args, **values):
    return function(*args, **{name: value.thing if isinstance(value, Reference) else value
                              for name, value in values.items()})

  return called


def code(known: Mapping[str, str], values: Iterable[Any]) -> dict[str, str]:
  """File -> sha256 of a user's code: what is known, and the files of the references among values.

  Of two folders both may have a helper.py: that of the later is named with its folder.
  """
  found = dict(known)
  for value in values:
    if isinstance(value, Reference) and value.file is not None:
      for below, sha256 in value.file.code.items():
        same = found.get(below, sha256) == sha256
        found[below if same else f'{value.file.path.parent.name}/{below}'] = sha256
  return found
