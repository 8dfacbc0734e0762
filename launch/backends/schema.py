"""JSON schemas of what other programs accept: what cannot be right is refused, what is new is not.

A schema knows the names of the day it was written. A name that it does not know (a field, a flag,
one of several words) is therefore passed on with a warning; a missing field, a value of another
type, a text of another form are refused before anything is submitted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from launch import errors
from launch.backends import shell

UNKNOWN = ('additionalProperties', 'enum')  # keywords of a schema that list names


class Invalid(errors.UsageError):
  """A value that would not be accepted; the message names the place."""


def text(pattern: str, like: str, longest: int | None = None) -> dict[str, Any]:
  """The schema of a text of this form, all of it, which a message describes by `like`."""
  # Not '$', which in Python also stands before a line break at the end.
  found = {'type': 'string', 'pattern': rf'^(?:{pattern})(?![\s\S])', 'description': like}
  return found if longest is None else {**found, 'maxLength': longest}


def check(value: Any, schema: Mapping[str, Any], place: str, *, warn: bool = True) -> None:
  """Refuses what breaks the schema, and warns of names that it does not know.

  Args:
    value: as JSON would hold it.
    schema: a JSON schema, draft 2020-12.
    place: what the value is, for messages.
    warn: False where the value is checked once more as a part of another.

  Raises:
    Invalid: it breaks the schema otherwise; with the first place that does.
  """
  import jsonschema  # late: only what runs elsewhere needs it
  found = sorted(jsonschema.Draft202012Validator(schema).iter_errors(value),
                 key=lambda error: [str(step) for step in error.absolute_path])
  for error in found:
    if error.validator not in UNKNOWN:
      raise Invalid(f'{_place(place, error)}: {_message(error)}')
  for error in found:
    for name, known in _unknown_names(error):
      if not isinstance(name, str):
        raise Invalid(f'{_place(place, error)}: the name {name!r} is no text')
      if warn:
        shell.say(f'warning: {_place(place, error)}: {name!r} is not known here, it is passed on'
                  + errors.near(name, known))


def _unknown_names(error) -> Iterator[tuple[Any, list[str]]]:
  """(name, those that are known) of an error about names."""
  if error.validator == 'enum':
    yield error.instance, [str(word) for word in error.validator_value]
  else:
    known = list(error.schema.get('properties', {}))
    yield from ((name, known) for name in error.instance if name not in known)


def _place(place: str, error) -> str:
  return place + ''.join(f'[{step}]' if isinstance(step, int) else f'.{step}'
                         for step in error.absolute_path)


def _message(error) -> str:
  if error.validator == 'pattern' and 'description' in error.schema:
    return f'{error.instance!r} is not {error.schema["description"]}'
  return shell.shorten(error.message)
