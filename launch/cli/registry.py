"""From names to experiments.

An experiment is a file of experiments/, or a file given by its path, that defines
`experiment(...)` with typed keyword hyperparameters and VARIANTS. What its hyperparameters may be
is in hyperparameters.py; how a file of a user becomes code, and which may, in references.py.
"""

import functools
import importlib
import pathlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import experiments
from launch.cli import references, user_files
from launch.errors import UsageError, near

if TYPE_CHECKING:
  from gen_models.experiment import Published


class Entry(NamedTuple):
  """An experiment file.

  Attributes:
    name: of a file of experiments/, or the absolute path of a user's.
    experiment: the function.
    variants: its ablations.
    published: variant -> what the literature reports for it.
    doc: its docstring.
    code: of a user's file: sha256 of it and of what it imports from its folder, by file name.
    estimator: path.py:name, absolute, of a user's estimator that trains instead of its own.
    scoring: hyperparameters that only the final score reads: SCORING of the file.
  """

  name: str
  experiment: Callable
  variants: dict[str, dict[str, Any]]
  doc: str
  code: dict[str, str] = {}
  published: 'dict[str, Published]' = {}
  estimator: str | None = None
  scoring: tuple[str, ...] = ()


_STORIES = 'story_'  # files of experiments/ that begin so are stories


def names() -> list[str]:
  """Experiments that come with the project."""
  return [name for name in _files() if not name.startswith(_STORIES)]


def stories() -> list[str]:
  """Stories that come with the project."""
  return [name for name in _files() if name.startswith(_STORIES)]


def _files() -> list[str]:
  return sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if m.name[0] != '_')


def load(name: str, estimator: str | None = None) -> Entry:
  """The experiment `name` as a user typed it, a file of experiments/ or a path ending in .py.

  Args:
    name: see above.
    estimator: path.py:name of one that takes the place of the experiment's own.

  Raises:
    UsageError: no such experiment, or a file that defines none.
  """
  if name in stories():
    raise UsageError(f'{name} is a story of several experiments: python -m launch.story '
                     f'--story={name}')
  if name.endswith('.py'):
    entry = _user_entry(references.typed_file(name, 'experiment'))
  else:
    entry = _entry(name, find_module(name, names(), 'experiment'))
  if estimator is None:
    return entry
  return _with_estimator(entry, references.typed(estimator, 'estimator'))


def load_recorded(name: str, where: pathlib.Path, estimator: str | None = None) -> Entry:
  """The experiment `name` as the file `where` has it, which may come from anyone.

  Raises:
    UsageError: as `load`; or a path of a file that the user has not named as it is now.
  """
  def confirm(command, flag):
    return ['python', '-m', command, flag]
  entry = _user_entry(references.recorded_file(
    name, where, confirm('launch.list', f'--experiment={name}'))) if name.endswith('.py') else (
    load(name))
  if estimator is None:
    return entry
  return _with_estimator(entry, references.recorded(
    estimator, 'estimator', where, confirm('launch.audit', f'--estimator={estimator}')))


def _with_estimator(entry: Entry, reference: references.Reference) -> Entry:
  """The experiment with the estimator `path.py:name` in the place of its own."""
  from launch.cli import estimators  # late: a command answers to bad flags before JAX is loaded
  @functools.wraps(entry.experiment)
  def experiment(**values):
    built = entry.experiment(**values)
    if len(built.phases) > 1:
      raise UsageError(f'--estimator is for one phase, and {entry.name} has '
                       f'{", ".join(p.name for p in built.phases)}: write an experiment file')
    if values.get('estimator') is not None:
      raise UsageError('--estimator and --set=estimator are two estimators: give one')
    estimator, _ = estimators.lift(reference, reference.thing)
    return built._replace(phases=(built.phases[0]._replace(estimator=estimator),))

  return entry._replace(experiment=experiment, code=references.code(entry.code, [reference]),
                        estimator=str(reference))


def _user_entry(file: user_files.UserFile) -> Entry:
  return _entry(str(file.path), file.module)._replace(code=file.code)


def _entry(name: str, module) -> Entry:
  if not callable(getattr(module, 'experiment', None)):
    raise UsageError(f'{name} defines no function `experiment`')
  return Entry(name, references.resolving(module.experiment), getattr(module, 'VARIANTS', {}),
               module.__doc__ or '',
               published=getattr(module, 'PUBLISHED', {}),
               scoring=tuple(getattr(module, 'SCORING', ())))


def find_module(name: str, known: list[str], what: str):
  """The module of a name among `known`, or of a path that the user typed; `what` it defines."""
  if name.endswith('.py'):
    return references.typed_file(name, what).module
  if name in known:
    return importlib.import_module(f'experiments.{name}')
  raise UsageError(f'unknown {what} {name!r}' + near(name, known))
