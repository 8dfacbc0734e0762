"""Errors of the user, and the names that come close to a mistyped one."""

import contextlib
import difflib
import pathlib
import re
from collections.abc import Generator, Iterable


class UsageError(ValueError):
  """A flag names something that does not exist; the message names what does."""


def near(name: str, known: Iterable[str]) -> str:
  """'; did you mean ...? Known: ...', to be appended to a message about an unknown `name`."""
  known = list(known)
  matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  hint = f'; did you mean {" or ".join(matches)}?' if matches else '.'
  return f'{hint} Known: {", ".join(known) or "none"}'


@contextlib.contextmanager
def in_python() -> Generator[None, None, None]:
  """Within it, and as a decorator, messages of errors name arguments of Python instead of flags."""
  try:
    yield
  except Exception as e:
    if len(e.args) == 1 and isinstance(e.args[0], str):
      e.args = (as_arguments(e.args[0]),)
    raise


def require_no_file(workdir) -> None:
  """Raises UsageError where a run directory, or a part of its path, is a file."""
  path = pathlib.Path(workdir).expanduser()
  for part in (path, *path.parents):
    if part.is_file():
      raise UsageError(f'{workdir}: {part} is a file; use another name for the directory')


def as_arguments(text: str) -> str:
  """Text whose flags are arguments of gm.fit and Run.ask: --set=nets=dense is nets='dense'."""
  text = re.sub(r'--set=(\w+)=([^\s,;:()]+)', lambda match: _argument(*match.groups()), text)
  text = re.sub(r'--(variant)=([^\s,;:()]+)', lambda match: _argument(*match.groups()), text)
  text = re.sub(r'--from\b', 'start', text)
  return re.sub(r'--(stream|accept_code|unnormalised)\b', r'\1=True', text)


def _argument(name: str, value: str) -> str:
  if re.fullmatch(r'[-+.\deE]+', value) and any(map(str.isdigit, value)):
    return f'{name}={value}'
  literal = {'true': 'True', 'false': 'False', 'none': 'None'}.get(value.lower())
  return f'{name}={literal or repr(value)}'
