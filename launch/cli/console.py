"""Standard output and standard error: what is written to them for people never ends a command.

A run outlives its terminal, the pipe that it prints to and a full disk below `> file`. It prints in
the encoding of the locale whatever characters it holds. `record` copies what is printed to a file.
"""

import codecs
import contextlib
import datetime
import errno
import io
import os
import pathlib
import select
import shlex
import sys

from absl import logging

LOG = 'log.txt'
_PLAIN = {'−': '-', '–': '-', '—': '-', '±': '+-', '×': 'x', '…': '...', '“': '"', '”': '"',
          '‘': "'", '’': "'"}


class _Record:
  """Where printed lines are copied to."""

  path: pathlib.Path | None = None


def install() -> None:
  """Replaces sys.stdout and sys.stderr, where they are this process's own, by `Console`s."""
  _reserve_descriptors()
  codecs.register_error('plain', _plain)
  for name, descriptor in (('stdout', 1), ('stderr', 2)):
    stream = getattr(sys, name)
    if stream is None:  # it was closed when Python started
      stream = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115 as long as the process
    elif not _is_own(stream, descriptor):
      continue
    setattr(sys, name, Console(stream))
  with contextlib.suppress(AttributeError):  # it was made with the stream of before
    logging.get_absl_handler().python_handler.setStream(sys.stderr)


def record(directory: str | os.PathLike) -> None:
  """From now on appends the lines that are printed to log.txt of `directory`.

  The directory need not exist yet. What cannot be written there is left out.
  """
  _Record.path = pathlib.Path(directory) / LOG
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  module = pathlib.Path(sys.argv[0]).stem
  _append(f'# {now} {shlex.join([module, *sys.argv[1:]])}')


class Console(io.TextIOWrapper):
  """A text stream over a file descriptor, on which no write fails.

  Characters that its encoding does not have are shown by others. Complete lines are copied to the
  record; of a line that was rewritten in place only its last state.
  """

  def __init__(self, stream):
    self._stream = stream  # closed with it, were it collected
    self._line = ''
    super().__init__(io.BufferedWriter(_Descriptor(stream.fileno())), encoding=stream.encoding,
                     errors='plain', line_buffering=stream.line_buffering,
                     write_through=stream.write_through)

  def write(self, text: str) -> int:
    *lines, self._line = (self._line + text).split('\n')
    for line in lines:
      _append(line.rstrip('\r').rpartition('\r')[2].rstrip())
    return super().write(text)


class _Descriptor(io.FileIO):
  """A descriptor that leads to /dev/null once nobody reads what is written to it."""

  def __init__(self, descriptor: int):
    super().__init__(descriptor, 'w', closefd=False)

  def write(self, data) -> int:
    try:
      while (written := super().write(data)) is None:  # it does not block, and is full
        select.select([], [self.fileno()], [])
      return written
    except OSError as e:
      if e.errno not in (errno.ENOSPC, errno.EDQUOT):  # space may be free again later
        # The descriptor itself, so that what libraries and children write does not fail either.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
      return memoryview(data).nbytes


def _append(line: str) -> None:
  if _Record.path is None:
    return
  from gen_models import files  # late: a command answers to bad flags before anything is loaded
  with contextlib.suppress(OSError):
    # Opened for each line, of which there are few: the directory may come, go and be full.
    files.append_line(_Record.path, line)


def _reserve_descriptors() -> None:
  """A file opened under the number of a closed standard stream would be written into."""
  for descriptor in (0, 1, 2):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _is_own(stream, descriptor: int) -> bool:
  try:
    return stream.fileno() == descriptor
  except (AttributeError, OSError, ValueError):  # a test, a notebook
    return False


def _plain(error):
  """Replaces characters that cannot be encoded by similar ones, else by their numbers."""
  if not isinstance(error, UnicodeEncodeError):
    raise error
  text = error.object[error.start:error.end]
  return ''.join(_PLAIN.get(c) or c.encode('ascii', 'backslashreplace').decode()
                 for c in text), error.end
