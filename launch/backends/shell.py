"""Helpers of all backends: commands of other programs, names of jobs, logs that grow."""

import codecs
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from launch import errors


class Failed(RuntimeError):
  """A command of another program failed; the message is its own output."""


def need(tool: str, what: str) -> None:
  """Raises Failed unless `tool` is installed; `what` is the remedy that the message names."""
  if shutil.which(tool) is None:
    raise Failed(f'{tool} is not installed here: {what}; --dry_run shows what would be run')


def call(words: Sequence[str], stdin: str | None = None, env=None) -> str:
  """The output of a command that must succeed.

  Raises:
    Failed: it did not; the message quotes its output.
  """
  done = subprocess.run(words, input=stdin, capture_output=True, env=env,
                        encoding='utf-8', errors='replace',
                        stdin=None if stdin is not None else subprocess.DEVNULL)
  if done.returncode:
    said = (done.stderr.strip() or done.stdout.strip() or 'it said nothing').splitlines()
    raise Failed(f'{shorten(shlex.join(words))} ended with status {done.returncode}: '
                 + '\n  '.join(said[-10:]))
  return done.stdout


def shorten(text: str, width: int = 200) -> str:
  """`text` in one line of at most about `width` characters."""
  text = ' '.join(text.split())
  return text if len(text) <= width else f'{text[:width]} ...'


def say(text: str) -> None:
  """Prints one line about the job itself, apart from its log."""
  print(f'[{text}]', file=sys.stderr, flush=True)


def name_of(workdir: str, limit: int = 40) -> str:
  """A name for a job that every backend accepts, from the last part of its directory."""
  name = re.sub('[^a-z0-9]+', '-', pathlib.Path(os.path.abspath(workdir)).name.lower()).strip('-')
  name = name[:limit].strip('-') or 'run'
  return name if name[0].isalpha() else f'run-{name}'[:limit]


def check_name(flag: str, name: str, limit: int) -> str:
  """Returns `name` if it has lower-case letters, digits and dashes and begins with a letter.

  Raises:
    UsageError: it does not.
  """
  if not re.fullmatch('[a-z]([a-z0-9-]*[a-z0-9])?', name) or len(name) > limit:
    raise errors.UsageError(f'--{flag}={name}: lower-case letters, digits and dashes, from a '
                            f'letter on, at most {limit}')
  return name


class Log:
  """Prints what is added to a file, which need not exist yet.

  Args:
    path: of the file.
    prefix: before every line, to tell tasks apart.
    tail: bytes of what is there already that are shown; None for all.
  """

  def __init__(self, path: pathlib.Path, prefix: str = '', tail: int | None = None):
    self._path, self._prefix, self._position = path, prefix, 0
    self._decoder = codecs.getincrementaldecoder('utf-8')('replace')
    self._begun = False  # a line that has no end yet
    if tail is not None and path.exists():
      self._position = max(0, path.stat().st_size - tail)

  def show(self) -> bool:
    """Prints what is new; returns whether anything was."""
    try:
      with open(self._path, 'rb') as file:
        file.seek(self._position)
        data = file.read()
    except FileNotFoundError:
      return False
    self._position += len(data)
    for line in self._decoder.decode(data).splitlines(keepends=True):
      print(line if self._begun else self._prefix + line, end='')
      self._begun = not line.endswith('\n')
    sys.stdout.flush()
    return bool(data)
