"""From strings to experiments: the only place where a name becomes code.

An experiment is a file of experiments/, or a file given by its path, that defines
`experiment(...)` with typed keyword hyperparameters and VARIANTS. A path that a user typed is run;
one read from a file only if the user typed it before, see trusted_files.py. How a file runs is in
user_files.py.
"""

import functools
import importlib
import inspect
import math
import pathlib
import pkgutil
import shlex
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import experiments
from gen_models.experiment import Published
from launch.cli import estimators, trusted_files, user_files
from launch.errors import UsageError, near


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
  published: dict[str, Published] = {}
  estimator: str | None = None
  scoring: tuple[str, ...] = ()


class Story(NamedTuple):
  """Families side by side: name -> (experiment, variant or None), and how draws are compared."""

  name: str
  families: dict[str, tuple[str, str | None]]
  space: str
  doc: str = ''


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
    entry = _user_entry(_named_file(name, 'experiment'))
  else:
    entry = _entry(name, _module(name, names(), 'experiment'))
  return entry if estimator is None else _with_estimator(entry, estimator, _named_file)


def load_recorded(name: str, where: pathlib.Path, estimator: str | None = None) -> Entry:
  """The experiment `name` as the file `where` has it, which may come from anyone.

  Raises:
    UsageError: as `load`; or a path of a file that the user has not named as it is now.
  """
  def read(name, what, typed=None):
    return _recorded_file(name, where, what, typed or name)
  entry = _user_entry(read(name, 'experiment')) if name.endswith('.py') else load(name)
  return entry if estimator is None else _with_estimator(entry, estimator, read)


def _with_estimator(entry: Entry, reference: str, read: Callable) -> Entry:
  """The experiment with the estimator `path.py:name` in the place of its own."""
  file, name, thing = _attribute(reference, 'estimator', read)

  @functools.wraps(entry.experiment)
  def experiment(**values):
    built = entry.experiment(**values)
    if len(built.phases) > 1:
      raise UsageError(f'--estimator is for one phase, and {entry.name} has '
                       f'{", ".join(p.name for p in built.phases)}: write an experiment file')
    estimator, _ = estimators.lift(reference, thing)
    return built._replace(phases=(built.phases[0]._replace(estimator=estimator),))

  code = dict(entry.code)
  for below, sha256 in file.code.items():  # of two folders both may have a helper.py
    same = code.get(below, sha256) == sha256
    code[below if same else f'{file.path.parent.name}/{below}'] = sha256
  return entry._replace(experiment=experiment, code=code, estimator=f'{file.path}:{name}')


def _named_file(name: str, what: str, typed: str | None = None) -> user_files.UserFile:
  """A file whose path the user has typed: it runs, and may run again when a run names it."""
  del typed
  path = pathlib.Path(name)
  if not path.is_file():
    raise UsageError(f'no {what} file {name}')
  return user_files.load(path, lambda file, source: trusted_files.remember(source))


def _recorded_file(name: str, where: pathlib.Path, what: str, typed: str) -> user_files.UserFile:
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


def _user_entry(file: user_files.UserFile) -> Entry:
  return _entry(str(file.path), file.module)._replace(code=file.code)


def recorded_values(entry: Entry, values: dict[str, Any], where: pathlib.Path) -> dict[str, Any]:
  """The hyperparameters that the file `where` has, of names and domains that the experiment has.

  Raises:
    UsageError: they are not.
  """
  parameters = hyperparameters(entry)
  for name in values:
    if name not in parameters:
      raise UsageError(f'{where}: {entry.name} has no hyperparameter {name!r}: it was made by '
                       'another version')
  values = {name: _from_json(value, parameters[name].annotation) for name, value in values.items()}
  check_values(entry, values, f'{where}: ')
  return values


def check_values(entry: Entry, values: dict[str, Any], where: str = '') -> None:
  """Raises UsageError unless every value may be that of its hyperparameter; `where` it stands."""
  parameters = hyperparameters(entry)
  for name, value in values.items():
    check(name, value, parameters[name].annotation, where or f'{entry.name}: ')


def check(name: str, value, annotation, where: str = '') -> None:
  """The one check of a hyperparameter's value, whatever side it came from.

  Raises:
    UsageError: missing, not of its type or outside its domain (gen_models/domains.py), or nothing
      that config.json can hold; the message begins with `where`.
  """
  if value is inspect.Parameter.empty:
    raise UsageError(f'{where}{name} has no default: give --set={name}=value')
  if not _storable(value):
    raise UsageError(f'{where}{name} is {value!r}, which config.json cannot hold: '
                     'hyperparameters are finite numbers, strings, booleans, None and tuples')
  if not _is(value, annotation):
    raise UsageError(f'{where}{name} is {value!r}, not {describe(annotation)}')


def _storable(value) -> bool:
  if isinstance(value, (tuple, list)):
    return all(map(_storable, value))
  if isinstance(value, dict):
    return all(isinstance(k, str) and _storable(v) for k, v in value.items())
  if isinstance(value, float):
    return math.isfinite(value)
  return value is None or isinstance(value, (bool, int, str))


def kind(annotation):
  """The type without its domain."""
  return typing.get_args(annotation)[0] if _is_annotated(annotation) else annotation


def _is_annotated(annotation) -> bool:
  return typing.get_origin(annotation) is typing.Annotated


def _domains(annotation) -> list:
  """The domains in Annotated[type, ...]: objects that have `holds`, see gen_models/domains.py."""
  return [x for x in typing.get_args(annotation)[1:] if hasattr(x, 'holds')]


def _from_json(value, annotation):
  """JSON has no tuples: a list becomes one, unless the annotation says list."""
  annotation = kind(annotation)
  options = [annotation, *typing.get_args(annotation)]
  if isinstance(value, list) and not any((typing.get_origin(a) or a) is list for a in options):
    return tuple(_from_json(v, None) for v in value)
  return value


def _is(value, annotation) -> bool:
  """Whether a value is of this type and its domain; an int will do for a float, as in JSON."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if _is_annotated(annotation):
    return _is(value, args[0]) and all(domain.holds(value) for domain in _domains(annotation))
  if origin is typing.Literal:
    return value in args
  if origin in (typing.Union, types.UnionType):
    return any(_is(value, a) for a in args)
  if is_tuple(annotation):
    kinds = args[:1] * len(value) if args[1:] == (...,) and isinstance(value, tuple) else args
    return isinstance(value, tuple) and (not args or len(kinds) == len(value) and all(
      map(_is, value, kinds)))
  if isinstance(value, bool) or annotation is bool:
    return isinstance(value, bool) and annotation is bool
  if annotation in (int, float, str, type(None)):
    return isinstance(value, (int, float) if annotation is float else annotation)
  return True


def _entry(name: str, module) -> Entry:
  if not callable(getattr(module, 'experiment', None)):
    raise UsageError(f'{name} defines no function `experiment`')
  return Entry(name, module.experiment, getattr(module, 'VARIANTS', {}), module.__doc__ or '',
               published=getattr(module, 'PUBLISHED', {}),
               scoring=tuple(getattr(module, 'SCORING', ())))


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
  return Story(name, module.FAMILIES, module.SPACE, module.__doc__ or '')


def attribute(reference: str, what: str) -> Any:
  """The object that `path.py:name` refers to.

  Raises:
    UsageError: no such file, or nothing of that name in it.
  """
  return _attribute(reference, what, _named_file)[2]


def _attribute(reference: str, what: str, read: Callable) -> tuple[user_files.UserFile, str, Any]:
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


def _module(name: str, known: list[str], what: str):
  if name.endswith('.py'):
    return _named_file(name, what).module
  if name in known:
    return importlib.import_module(f'experiments.{name}')
  raise UsageError(f'unknown {what} {name!r}' + near(name, known))


def hyperparameters(entry: Entry) -> dict[str, inspect.Parameter]:
  """Name -> parameter, with annotation and default; a default stands in for an annotation.

  Raises:
    UsageError: the function takes what is no keyword, or an annotation names nothing.
  """
  try:
    parameters = inspect.signature(entry.experiment, eval_str=True).parameters
  except Exception as e:  # what an annotation written as a string may raise
    raise UsageError(f'{entry.name}: an annotation of `experiment` cannot be read: '
                     f'{type(e).__name__}: {e}') from e
  found = {}
  for name, parameter in parameters.items():
    if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
      raise UsageError(f'{entry.name}: `experiment` takes {parameter}: hyperparameters '
                       'are keywords')
    if parameter.annotation is parameter.empty and parameter.default is not parameter.empty:
      parameter = parameter.replace(annotation=_type_of(parameter.default))
    found[name] = parameter
  return found


def _type_of(default):
  """The type of a hyperparameter that has a default but no annotation."""
  if isinstance(default, tuple):
    kinds = {type(x) for x in default}
    return types.GenericAlias(tuple, (kinds.pop(), ...)) if len(kinds) == 1 else tuple
  return type(default) if isinstance(default, (bool, int, float, str)) else inspect.Parameter.empty


def resolve(entry: Entry, variant: str | None = None, overrides=()) -> dict[str, Any]:
  """Every hyperparameter's value: the defaults, then the variant's, then `name=value` overrides.

  Raises:
    UsageError: unknown variant or hyperparameter, or a value of the wrong type or outside its
      domain.
  """
  parameters = hyperparameters(entry)
  values = {name: p.default for name, p in parameters.items()}
  if variant:
    if variant not in entry.variants:
      raise UsageError(f'{entry.name} has no variant {variant!r}'
                       + near(variant, list(entry.variants)))
    if unknown := [name for name in entry.variants[variant] if name not in parameters]:
      raise UsageError(f'variant {variant} of {entry.name} sets {unknown[0]!r}, which is no '
                       'hyperparameter' + near(unknown[0], list(parameters)))
    values.update(entry.variants[variant])
  values |= _typed(entry, overrides)
  check_values(entry, values)
  return values


def rescored(entry: Entry, values: dict[str, Any], overrides) -> dict[str, Any]:
  """Hyperparameters of a run that was trained, with `name=value` overrides of how it is scored.

  Raises:
    UsageError: as `resolve`; or a hyperparameter on which training depends.
  """
  typed = _typed(entry, overrides)
  if trained := [name for name in typed if name not in entry.scoring]:
    raise UsageError(f'--set={trained[0]}: the run was trained with it; the score of {entry.name} '
                     f'reads {", ".join(entry.scoring) or "no hyperparameter"}')
  values = values | typed
  check_values(entry, values)
  return values


def _typed(entry: Entry, overrides) -> dict[str, Any]:
  """Name -> value of `name=value` words, of the types that the hyperparameters have."""
  parameters, values = hyperparameters(entry), {}
  for override in overrides:
    name, equals, text = override.partition('=')
    if name in values:
      raise UsageError(f'--set={name} is given twice: give it once')
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
    UsageError: it does not read as that type, or lies outside the domain.
  """
  if _is_annotated(annotation):
    value = parse(name, text, kind(annotation))
    if not _is(value, annotation):
      raise UsageError(f'{name}={text}: not {describe(annotation)}')
    return value
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
  if is_tuple(annotation):
    kinds = [a for a in typing.get_args(annotation) if a is not ...]
    parts = [part.strip() for part in text.strip('() ').split(',') if part.strip()]
    kinds = kinds if len(kinds) == len(parts) else (kinds or [int])[:1] * len(parts)
    return tuple(parse(name, part, kind) for part, kind in zip(parts, kinds, strict=True))
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


def is_tuple(annotation) -> bool:
  """Whether values are tuples, written with commas between."""
  annotation = kind(annotation)
  return tuple in (annotation, typing.get_origin(annotation))


def describe(annotation) -> str:
  """How a type reads in a table: int, float at least 0 | None, a | b, int, int, ..."""
  if _is_annotated(annotation):
    return ' '.join([describe(kind(annotation)), *map(str, _domains(annotation))])
  if typing.get_origin(annotation) is typing.Literal:
    return ' | '.join(map(str, typing.get_args(annotation)))
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return ' | '.join(describe(a) for a in typing.get_args(annotation))
  if annotation is inspect.Parameter.empty:
    return 'anything: annotate it to set it'
  if typing.get_origin(annotation) is tuple:
    return ', '.join('...' if a is ... else describe(a) for a in typing.get_args(annotation))
  return 'None' if annotation is type(None) else getattr(annotation, '__name__', str(annotation))
