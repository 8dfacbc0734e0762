"""From strings to experiments: the only place where a name becomes code.

An experiment is a file of experiments/, or a file given by its path, that defines
`experiment(...)` with typed keyword hyperparameters and VARIANTS. A path that a user typed is run;
one read from a file only if the user typed it before, see trusted_files.py.
"""

import importlib
import inspect
import pathlib
import pkgutil
import shlex
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import experiments
from launch.cli import trusted_files
from launch.errors import UsageError, near


class Entry(NamedTuple):
  """An experiment file: its name, the function, its ablations, its docstring."""

  name: str
  experiment: Callable
  variants: dict[str, dict[str, Any]]
  doc: str


class Story(NamedTuple):
  """Families side by side: name -> (experiment, variant or None), and how draws are compared."""

  name: str
  families: dict[str, tuple[str, str | None]]
  space: str


_STORIES = 'story_'  # files of experiments/ that begin so are stories


def names() -> list[str]:
  """Experiments that come with the project."""
  return [name for name in _files() if not name.startswith(_STORIES)]


def stories() -> list[str]:
  """Stories that come with the project."""
  return [name for name in _files() if name.startswith(_STORIES)]


def _files() -> list[str]:
  return sorted(m.name for m in pkgutil.iter_modules(experiments.__path__) if m.name[0] != '_')


def load(name: str) -> Entry:
  """The experiment `name` as a user typed it, a file of experiments/ or a path ending in .py.

  Raises:
    UsageError: no such experiment, or a file that defines none.
  """
  if name in stories():
    raise UsageError(f'{name} is several experiments: python -m launch.story --story={name}')
  return _entry(name, _module(name, names(), 'experiment'))


def load_recorded(name: str, where: pathlib.Path) -> Entry:
  """The experiment `name` as the file `where` has it, which may come from anybody.

  Raises:
    UsageError: as `load`; or a path of a file that the user has not named as it is now.
  """
  if not name.endswith('.py'):
    return load(name)
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f'{where} names {name}, and there is no such file here: run the command '
                     'from the directory it was trained from')
  source = path.read_bytes()
  if not trusted_files.known(source):
    raise UsageError(f'{where} names {name}, which would run as code, and you have not named that '
                     'file yet as it is now: look at it, then say that you mean it: '
                     f'python -m launch.list {shlex.quote(f"--experiment={name}")}')
  return _entry(name, trusted_files.run(path, source))


def recorded_values(entry: Entry, values: dict[str, Any], where: pathlib.Path) -> dict[str, Any]:
  """The hyperparameters that the file `where` has, of the names and types that the experiment has.

  Raises:
    UsageError: they are not.
  """
  parameters = hyperparameters(entry)
  for name, value in values.items():
    if name not in parameters:
      raise UsageError(f'{where}: {entry.name} has no hyperparameter {name!r}: it was made by '
                       'another version')
    if not _is(value, parameters[name].annotation):
      raise UsageError(f'{where}: {name} is {value!r}, not '
                       f'{describe(parameters[name].annotation)}')
  return values


def _is(value, annotation) -> bool:
  """Whether JSON gave a value of this type."""
  if typing.get_origin(annotation) is typing.Literal:
    return value in typing.get_args(annotation)
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return any(_is(value, a) for a in typing.get_args(annotation))
  if isinstance(value, bool) or annotation is bool:
    return isinstance(value, bool) and annotation is bool
  if annotation in (int, float, str, type(None)):
    return isinstance(value, (int, float) if annotation is float else annotation)
  return True


def _entry(name: str, module) -> Entry:
  if not callable(getattr(module, 'experiment', None)):
    raise UsageError(f'{name} defines no function `experiment`')
  return Entry(name, module.experiment, getattr(module, 'VARIANTS', {}), module.__doc__ or '')


def load_story(name: str) -> Story:
  """The story `name`, a file of experiments/ or a path ending in .py.

  Raises:
    UsageError: no such story, or one of an experiment or variant that does not exist.
  """
  module = _module(name, stories(), 'story')
  if not getattr(module, 'FAMILIES', None) or not getattr(module, 'SPACE', None):
    raise UsageError(f'{name} is no story: it lacks FAMILIES or SPACE')
  for experiment, variant in module.FAMILIES.values():
    resolve(load(experiment), variant)
  return Story(name, module.FAMILIES, module.SPACE)


def attribute(reference: str, what: str) -> Any:
  """What `path.py:name` refers to.

  Raises:
    UsageError: no such file, or nothing of that name in it.
  """
  path, _, name = reference.rpartition(':')
  if not path:
    path, name = name, ''
  module = _from_file(path, what)
  own = [k for k, v in vars(module).items() if k[0] != '_' and not inspect.ismodule(v)
         and (v.__module__ == module.__name__
              if inspect.isclass(v) or inspect.isroutine(v) else True)]
  if not name:
    raise UsageError(f'{path}: which {what} of it? Write --{what}={path}:name' + near('', own))
  if not hasattr(module, name):
    raise UsageError(f'{path} has no {name!r}' + near(name, own))
  return getattr(module, name)


def _from_file(name: str, what: str):
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f'no {what} file {name}')
  source = path.read_bytes()
  trusted_files.remember(source)
  return trusted_files.run(path, source)


def _module(name: str, known: list[str], what: str):
  if name.endswith('.py'):
    return _from_file(name, what)
  if name in known:
    return importlib.import_module(f'experiments.{name}')
  raise UsageError(f'unknown {what} {name!r}' + near(name, known))


def hyperparameters(entry: Entry) -> dict[str, inspect.Parameter]:
  """Name -> parameter, with annotation and default."""
  return dict(inspect.signature(entry.experiment).parameters)


def resolve(entry: Entry, variant: str | None = None, overrides=()) -> dict[str, Any]:
  """Every hyperparameter's value: the defaults, then the variant's, then `name=value` overrides.

  Raises:
    UsageError: unknown variant or hyperparameter, or a value of the wrong type.
  """
  parameters = hyperparameters(entry)
  values = {name: p.default for name, p in parameters.items()}
  if variant:
    if variant not in entry.variants:
      raise UsageError(f'{entry.name} has no variant {variant!r}'
                       + near(variant, list(entry.variants)))
    values.update(entry.variants[variant])
  for override in overrides:
    name, equals, text = override.partition('=')
    if not equals:
      raise UsageError(f'--set={override}: write --set=name=value')
    if name not in parameters:
      raise UsageError(f'{entry.name} has no hyperparameter {name!r}'
                       + near(name, list(parameters)))
    values[name] = parse(name, text, parameters[name].annotation)
  return values


def parse(name: str, text: str, annotation) -> Any:
  """The value written as `text` for a hyperparameter annotated so.

  Raises:
    UsageError: it does not read as that type.
  """
  if typing.get_origin(annotation) is typing.Literal:
    choices = typing.get_args(annotation)
    if text in choices:
      return text
    raise UsageError(f'{name}={text}: not a choice' + near(text, list(choices)))
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    options = [a for a in typing.get_args(annotation) if a is not type(None)]
    if text.lower() == 'none' and type(None) in typing.get_args(annotation):
      return None
    return parse(name, text, options[0])
  if annotation is bool:
    if text.lower() in ('true', 'false'):
      return text.lower() == 'true'
  elif annotation in (int, float, str):
    try:
      # 1e4 is how people write a number of steps.
      if annotation is int and not text.lstrip('+-').isdigit() and float(text).is_integer():
        return int(float(text))
      return annotation(text)
    except (ValueError, OverflowError):
      pass
  raise UsageError(f'{name}={text}: not {describe(annotation)}')


def describe(annotation) -> str:
  """How a type reads in a table: int, float | None, a | b."""
  if typing.get_origin(annotation) is typing.Literal:
    return ' | '.join(typing.get_args(annotation))
  if isinstance(annotation, types.UnionType):
    return ' | '.join(describe(a) for a in typing.get_args(annotation))
  return 'None' if annotation is type(None) else getattr(annotation, '__name__', str(annotation))
