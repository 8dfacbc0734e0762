"""Errors of the user, and the names that come close to a mistyped one."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
  """A flag names something that does not exist; the message names what does."""


def near(name: str, known: Iterable[str]) -> str:
  """'; did you mean ...? Known: ...', to be appended to a message about an unknown `name`."""
  known = list(known)
  matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  hint = f'; did you mean {" or ".join(matches)}?' if matches else '.'
  return f'{hint} Known: {", ".join(known) or "none"}'
