"""Fields of JSON, checked as they are read: of records that may come from anyone.

A field that is missing, has the wrong type, is too large or is not finite is refused in one line
that names it.
"""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_LONGEST_TEXT = 20_000  # characters
_MOST_ENTRIES = 10_000  # of one object or list
_DEEPEST = 12  # objects in objects
_REQUIRED = object()

# Of a value and its name: what is kept of it; raises Malformed.
Check = Callable[[Any, str], Any]


class Malformed(ValueError):
  """A record that does not describe a score; one line that names the field."""


def shown(value) -> str:
  """A value for an error message, cut where it is long."""
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'


def number(value, name: str) -> float | None:
  """A finite number, or None."""
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise Malformed(f'{name} is {shown(value)}, not a number')
  if not math.isfinite(value) if isinstance(value, float) else abs(value) > 2**63:
    raise Malformed(f'{name} is {shown(value)}, not finite')
  return value


def count(value, name: str) -> int:
  """A whole number from 0 to 2^63."""
  if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**63:
    raise Malformed(f'{name} is {shown(value)}, not a count')
  return value


def text(value, name: str) -> str:
  """Text of bounded length."""
  if not isinstance(value, str):
    raise Malformed(f'{name} is {shown(value)}, not text')
  if len(value) > _LONGEST_TEXT:
    raise Malformed(f'{name} has {len(value)} characters, at most {_LONGEST_TEXT} are read')
  return value


def flag(value, name: str) -> bool:
  """true or false."""
  if not isinstance(value, bool):
    raise Malformed(f'{name} is {shown(value)}, neither true nor false')
  return value


def mapping(value, name: str) -> dict[str, Any]:
  """An object with a bounded number of entries."""
  if not isinstance(value, dict):
    raise Malformed(f'{name} is {shown(value)}, not an object')
  if len(value) > _MOST_ENTRIES:
    raise Malformed(f'{name} has {len(value)} entries, at most {_MOST_ENTRIES} are read')
  return value


def known(value, name: str) -> dict[str, Any]:
  """An object of whatever is in it, bounded and finite."""
  _bounded(mapping(value, name), name, 0)
  return value


def sequence(of: Check) -> Check:
  """The check of a list whose items pass `of`."""
  def check(value, name):
    if not isinstance(value, list):
      raise Malformed(f'{name} is {shown(value)}, not a list')
    if len(value) > _MOST_ENTRIES:
      raise Malformed(f'{name} has {len(value)} entries, at most {_MOST_ENTRIES} are read')
    return tuple(of(x, f'{name}[{i}]') for i, x in enumerate(value))
  return check


def named(of: Check) -> Check:
  """The check of an object whose values pass `of`."""
  def check(value, name):
    return {k: of(v, f'{name}.{k}') for k, v in mapping(value, name).items()}
  return check


class Fields:
  """An object of JSON whose fields are checked as they are taken; what is left is not known."""

  def __init__(self, value, where: str = ''):
    self._where, self._left = f'{where}.' if where else '', dict(mapping(value, where or 'it'))

  def __contains__(self, name: str) -> bool:
    return name in self._left

  def take(self, name: str, check: Check, default: Any = _REQUIRED) -> Any:
    """The field `name`, checked; `default` where it is absent or, with a default, null."""
    value = self._left.pop(name, None if default is not _REQUIRED else _REQUIRED)
    if value is _REQUIRED:
      raise Malformed(f'{self._where}{name} is missing')
    if value is None and default is not _REQUIRED:
      return default
    return check(value, f'{self._where}{name}')

  def rest(self) -> dict[str, Any]:
    """The fields that were not taken: bounded and finite, whatever they mean."""
    for name, value in self._left.items():
      _bounded(value, f'{self._where}{name}', 0)
    return self._left


def _bounded(value, name: str, depth: int) -> None:
  if depth > _DEEPEST:
    raise Malformed(f'{name} is nested more than {_DEEPEST} deep')
  if isinstance(value, dict):
    for k, v in mapping(value, name).items():
      _bounded(v, f'{name}.{k}'[-100:], depth + 1)
  elif isinstance(value, list):
    sequence(lambda v, name: _bounded(v, name, depth + 1))(value, name)
  elif isinstance(value, str):
    text(value, name)
  elif not isinstance(value, bool):
    number(value, name)


def finite(value, name: str = '') -> tuple[Any, list[str]]:
  """The value as JSON can hold it, and a remark on everything that had to be changed.

  Numbers that are not finite become None, scalars and arrays of NumPy and JAX numbers and lists,
  and what JSON has no word for its text.
  """
  if isinstance(value, Mapping):
    pairs = [(str(k), *finite(v, f'{name}.{k}' if name else str(k))) for k, v in value.items()]
    return {k: v for k, v, _ in pairs}, [line for *_, lines in pairs for line in lines]
  if isinstance(value, list | tuple):
    items = [finite(v, f'{name}[{i}]') for i, v in enumerate(value)]
    return [v for v, _ in items], [line for _, lines in items for line in lines]
  if value is None or isinstance(value, str | bool):
    return value, []
  if isinstance(value, np.bool_):
    return bool(value), []
  if isinstance(value, numbers.Integral):
    return int(value), []
  if isinstance(value, numbers.Real):
    if math.isfinite(value):
      return float(value), []
    return None, [f'{name} was {float(value)}, not a finite number: it is left out']
  if hasattr(value, 'tolist') and hasattr(value, 'dtype'):
    return finite(np.asarray(value).tolist(), name)
  return str(value), [f'{name} was of type {type(value).__name__}, kept as text']
