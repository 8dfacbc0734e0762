"""Hyperparameters: their types and domains, and the values that users and files give them.

The annotation of a keyword of `experiment` says which values it may take (gen_models/domains.py);
`check` holds it for every value, whether a default, a variant, a flag or a file gave it.
"""

import inspect
import math
import pathlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gen_models.domains import Custom
from launch.cli import references
from launch.cli.references import Reference
from launch.cli.registry import Entry
from launch.errors import UsageError, near


def of(entry: Entry) -> dict[str, inspect.Parameter]:
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


def resolve(entry: Entry, variant: str | None = None,
            overrides: Iterable[str] | Mapping[str, Any] = ()) -> dict[str, Any]:
  """Every hyperparameter's value: the defaults, then the variant's, then the overrides.

  Args:
    entry: the experiment.
    variant: of it, or None.
    overrides: `name=value` words, or name -> value of Python.

  Raises:
    UsageError: unknown variant or hyperparameter, or a value of the wrong type or outside its
      domain.
  """
  parameters = of(entry)
  values = {name: p.default for name, p in parameters.items()}
  if variant:
    if variant not in entry.variants:
      raise UsageError(f'{entry.name} has no variant {variant!r}'
                       + near(variant, list(entry.variants)))
    if unknown := [name for name in entry.variants[variant] if name not in parameters]:
      raise UsageError(f'variant {variant} of {entry.name} sets {unknown[0]!r}, which is no '
                       'hyperparameter' + near(unknown[0], list(parameters)))
    values.update(entry.variants[variant])
  values |= (_given(entry, overrides) if isinstance(overrides, Mapping)
             else typed(entry, overrides))
  check_values(entry, values)
  return values


def _given(entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
  """Values of Python as the same words would be read: 1 for a float is 1.0, a list is a tuple."""
  parameters, found = of(entry), {}
  for name, value in values.items():
    if name not in parameters:
      raise UsageError(f'{entry.name} has no hyperparameter {name!r}'
                       + near(name, list(parameters)))
    custom = _custom(parameters[name].annotation)
    if custom and references.is_one(value):
      value = references.typed(value, f'set={name}')
    elif custom and value is not None and not isinstance(value, str):
      value = Reference(f'{type(value).__name__} of Python', value)
    if custom and isinstance(value, Reference):
      found[name] = _taken(value, name, custom)
      continue
    annotation = kind(parameters[name].annotation)
    kinds = {kind(a) for a in (annotation, *typing.get_args(annotation))}
    if isinstance(value, np.generic):
      value = value.item()
    if isinstance(value, int) and not isinstance(value, bool) and (
        float in kinds and int not in kinds and not is_tuple(annotation)):
      value = float(value)
    found[name] = _from_json(value, annotation)
  return found


def rescored(entry: Entry, values: dict[str, Any], overrides) -> dict[str, Any]:
  """Hyperparameters of a run that was trained, with `name=value` overrides of how it is scored.

  Raises:
    UsageError: as `resolve`; or a hyperparameter on which training depends.
  """
  changed = typed(entry, overrides)
  if trained := [name for name in changed if name not in entry.scoring]:
    raise UsageError(f'--set={trained[0]}: the run was trained with it; the score of {entry.name} '
                     f'reads {", ".join(entry.scoring) or "no hyperparameter"}')
  values = values | changed
  check_values(entry, values)
  return values


def recorded_values(entry: Entry, values: dict[str, Any], where: pathlib.Path) -> dict[str, Any]:
  """The hyperparameters that the file `where` has, of names and domains that the experiment has.

  Raises:
    UsageError: they are not.
  """
  parameters = of(entry)
  for name in values:
    if name not in parameters:
      raise UsageError(f'{where}: {entry.name} has no hyperparameter {name!r}: it was made by '
                       'another version')
  found: dict[str, Any] = {}
  for name, value in values.items():
    annotation = parameters[name].annotation
    if _custom(annotation) and references.is_one(value):
      found[name] = references.recorded(value, f'set={name}', where, [
        'python', '-m', 'launch.list', f'--experiment={entry.name}', f'--set={name}={value}'])
    else:
      found[name] = _from_json(value, annotation)
  check_values(entry, found, f'{where}: ')
  return found


def typed(entry: Entry, overrides) -> dict[str, Any]:
  """Name -> value of `name=value` words as a user typed them.

  Raises:
    UsageError: no such hyperparameter, one given twice, or a value that it may not have.
  """
  parameters, values = of(entry), {}
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
  custom = _custom(annotation)
  if custom and references.is_one(text):
    return _taken(references.typed(text, f'set={name}'), name, custom)
  if _is_annotated(annotation):
    if custom:
      raise UsageError(f'{name}={text}: not {describe(annotation)}')
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


def check_values(entry: Entry, values: dict[str, Any], where: str = '') -> None:
  """Raises UsageError unless every value may be that of its hyperparameter; `where` it stands."""
  parameters = of(entry)
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


def _is(value, annotation) -> bool:
  """Whether a value is of this type and its domain; an int will do for a float, as in JSON."""
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if custom := _custom(annotation) if _is_annotated(annotation) else None:
    return isinstance(value, Reference) and custom.holds(value.thing)
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


def _from_json(value, annotation):
  """JSON has no tuples: a list becomes one, unless the annotation says list."""
  annotation = kind(annotation)
  options = [annotation, *typing.get_args(annotation)]
  if isinstance(value, list) and not any((typing.get_origin(a) or a) is list for a in options):
    return tuple(_from_json(v, None) for v in value)
  return value


def kind(annotation):
  """The type without its domain."""
  return typing.get_args(annotation)[0] if _is_annotated(annotation) else annotation


def _taken(reference: Reference, name: str, custom: Custom) -> Reference:
  """The reference, which names what it should; raises UsageError."""
  try:
    custom.take(reference.thing)
  except TypeError as e:
    raise UsageError(f'{name}={reference}: {e}') from e
  return reference


def _custom(annotation) -> Custom | None:
  """The domain of a user's objects in an annotation, or among the options of one; None: none."""
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return next(filter(None, map(_custom, typing.get_args(annotation))), None)
  return next((d for d in _domains(annotation) if isinstance(d, Custom)), None)


def is_tuple(annotation) -> bool:
  """Whether values are tuples, written with commas between."""
  annotation = kind(annotation)
  return tuple in (annotation, typing.get_origin(annotation))


def _is_annotated(annotation) -> bool:
  return typing.get_origin(annotation) is typing.Annotated


def _domains(annotation) -> list:
  """The domains in Annotated[type, ...]: objects that have `holds`, see gen_models/domains.py."""
  return [x for x in typing.get_args(annotation)[1:] if hasattr(x, 'holds')]


def describe(annotation) -> str:
  """How a type reads in a table: int, float at least 0 | None, a | b, int, int, ..."""
  if _is_annotated(annotation):
    words = [] if _custom(annotation) else [describe(kind(annotation))]
    return ' '.join([*words, *map(str, _domains(annotation))])
  if typing.get_origin(annotation) is typing.Literal:
    return ' | '.join(map(str, typing.get_args(annotation)))
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return ' | '.join(describe(a) for a in typing.get_args(annotation))
  if annotation is inspect.Parameter.empty:
    return 'anything: annotate it to set it'
  if typing.get_origin(annotation) is tuple:
    return ', '.join('...' if a is ... else describe(a) for a in typing.get_args(annotation))
  return 'None' if annotation is type(None) else getattr(annotation, '__name__', str(annotation))
