"""References to code of a user: from `path.py` and `path.py:name` to modules and what is in them.

A path that a user typed is run; one read from a file only if the user typed it before, see
trusted_files.py. How a file runs is in user_files.py.
"""

import inspect
import pathlib
import shlex
from collections.abc import Callable
from typing import Any

from launch.cli import trusted_files, user_files
from launch.cli.user_files import UserFile
from launch.errors import UsageError, near


def named_file(name: str, what: str, typed: str | None = None) -> UserFile:
  """A file whose path the user has typed: it runs, and may run again when a run names it."""
  del typed
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f'no {what} file {name}')
  return user_files.load(path, lambda file, source: trusted_files.remember(source))


def recorded_file(name: str, where: pathlib.Path, what: str, typed: str) -> UserFile:
  """A file that the file `where` names: it runs if the user has named its bytes before.

  Args:
    name: its path.
    where: what names it.
    what: experiment or estimator.
    typed: what a user types to name it.
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
    command = shlex.join(['python', '-m', f'launch.{"list" if what == "experiment" else "audit"}',
                          f'--{what}={typed.replace(name, str(path))}'])
    raise UsageError(f'{where} names {named}, which would run as code, and you have not named that '
                     f'file yet as it is now: read it, then confirm it with {command}')

  return user_files.load(path, approve)


def attribute(reference: str, what: str) -> Any:
  """The object that `path.py:name` refers to.

  Raises:
    UsageError: no such file, or nothing of that name in it.
  """
  return find(reference, what, named_file)[2]


def find(reference: str, what: str, read: Callable) -> tuple[UserFile, str, Any]:
  """(file, name, value) of `path.py:name`, read by `read(path, what, reference)`."""
  path, _, name = reference.rpartition(':')
  if not path:
    path, name = name, ''
  file = read(path, what, reference)
  module = file.module
  own = [k for k, v in vars(module).items() if k[0] != '_' and not inspect.ismodule(v)
         and (v.__module__ == module.__name__
              if inspect.isclass(v) or inspect.isroutine(v) else True)]
  if not name:
    raise UsageError(f'{path}: which {what} of it? Write --{what}={path}:name' + near('', own))
  if not hasattr(module, name):
    raise UsageError(f'{path} has no {name!r}' + near(name, own))
  return file, name, getattr(module, name)
