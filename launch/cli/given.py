"""Experiments that a script or a notebook gives as values of Python."""

import inspect
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from launch.cli import registry, user_files
from launch.errors import UsageError


def entry(experiment: Any, *, recorded: bool = False) -> registry.Entry:
  """The entry of an experiment: a name, the path of a file, or the function `experiment` of one.

  Args:
    experiment: see above.
    recorded: whether a run directory is to name it, from which every command can build it again.
      The function is then that of its file, as it is there now.

  Raises:
    UsageError: there is no such experiment, or it is recorded and nothing else could find it.
  """
  if isinstance(experiment, (str, os.PathLike)):
    return registry.load(str(experiment))
  if not callable(experiment):
    raise UsageError(f'experiment is of type {type(experiment).__name__}: give a name, the path of '
                     'a file, a function of hyperparameters or an Experiment')
  module = sys.modules.get(getattr(experiment, '__module__', ''))
  name = getattr(module, '__name__', '')
  of_file = getattr(module, 'experiment', None) is experiment
  if of_file and name in (f'experiments.{known}' for known in registry.names()):
    return registry.load(name.partition('.')[2])
  if recorded:
    return _of_file(experiment, getattr(module, '__file__', None) if of_file else None)
  shown = '.'.join([*([name] if name else []), getattr(experiment, '__qualname__', 'experiment')])
  return registry.Entry(shown, experiment, getattr(module, 'VARIANTS', {}) if of_file else {},
                        getattr(experiment, '__doc__', None) or '')


def _of_file(experiment: Callable, file: str | None) -> registry.Entry:
  """The entry of the file that defines a function, which has not changed since it was imported."""
  if file is None or not file.endswith('.py') or not pathlib.Path(file).is_file():
    raise UsageError(
      'a run directory names its experiment by a file, from which every command can build it '
      'again, and this function is not the `experiment` of any file: save it in one, mine.py, '
      "and give gm.fit('mine.py', ...); or train without workdir=")
  found = registry.load(file)
  there, here = (getattr(inspect.unwrap(f), '__code__', None)
                 for f in (found.experiment, experiment))
  if there != here:
    raise UsageError(f'{file} has changed since its function `experiment` was imported: import it '
                     'anew, or give gm.fit the path of the file')
  return found


def require_outside_of_files() -> None:
  """Raises UsageError while a file of the user's runs to be read: it would begin a training."""
  if user_files.running:
    raise UsageError(f'{user_files.running[-1]} calls gm.fit wherever it is read, by gm.fit itself '
                     "too: move the call below if __name__ == '__main__':")
