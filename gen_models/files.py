"""Files written whole or not at all, and read only where they are regular files.

A run directory may come from someone else, and a process may be killed or meet a full disk at any
moment. Therefore every file of the project is written through this module:

* `replacing` writes a new file beside the old one, forces it to disk and renames it: a reader sees
  the old file or the new one, and a failed write leaves the old one untouched.
* No function follows a symbolic link in the last component of its path: a `report.html` that links
  to another file is replaced, and that other file stays as it was. Pipes and devices are refused.
* Text is UTF-8 whatever the locale says.

Errors are `OSError`s whose `filename` is the path that the caller gave. Directories above the last
component are trusted: `directory` checks one that is not.
"""

import contextlib
import csv
import errno
import io
import json
import os
import pathlib
import secrets
import stat
from collections.abc import Generator, Iterable, Sequence
from typing import IO, Any

LARGEST_TEXT = 64 * 2**20  # bytes that `read_text` takes by default
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK opening a pipe would wait for its other end.
_CAREFUL = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, binary: bool = False) -> Generator[IO[Any], None, None]:
  """A file to write to, which takes the place of `path` when the block ends without an error.

  Args:
    path: a file that need not exist; its permissions are kept.
    binary: of bytes instead of UTF-8 text.

  Raises:
    OSError: it could not be written, or `path` is a directory, a pipe or a device; the file that
      was there is untouched, and nothing is left of the attempt.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name[:40]}.{os.getpid()}.{secrets.token_hex(4)}.tmp')
  try:
    mode = _mode_of_replaceable(path)
    with _file(os.open(temporary, _NEW, 0o666), binary) as file:
      if mode is not None:
        os.fchmod(file.fileno(), mode)
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException as e:
    with contextlib.suppress(OSError):
      temporary.unlink()
    if (isinstance(e, OSError) and e.errno is not None
        and e.filename in (None, str(temporary))):
      raise OSError(e.errno, e.strerror, str(path)) from e
    raise


def _mode_of_replaceable(path: pathlib.Path) -> int | None:
  """Permission bits of the file at `path`; None where there is none or it is a link."""
  try:
    mode = path.lstat().st_mode
  except FileNotFoundError:
    return None
  if stat.S_ISREG(mode):
    return stat.S_IMODE(mode)
  if stat.S_ISLNK(mode):
    return None  # the link is replaced, what it points to is not touched
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
  raise OSError(errno.EINVAL, 'not a regular file', str(path))


def _file(handle: int, binary: bool, mode: str = 'w') -> IO[Any]:
  if binary:
    return open(handle, f'{mode}b')
  # A name that is no UTF-8 (os.fsdecode) is written with backslashes instead of ending the write.
  return open(handle, mode, encoding='utf-8', errors='backslashreplace', newline='')


def write_text(path: str | os.PathLike, text: str) -> None:
  """Replaces the file by this text in UTF-8; raises as `replacing`."""
  with replacing(path) as file:
    file.write(text)


def write_bytes(path: str | os.PathLike, content) -> None:
  """Replaces the file by these bytes; raises as `replacing`."""
  with replacing(path, binary=True) as file:
    file.write(content)


def write_json(path: str | os.PathLike, value) -> None:
  """Replaces the file by `value` as strict JSON, indented.

  Raises:
    ValueError: JSON cannot hold a number that is not finite.
    OSError: as `replacing`.
  """
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence]) -> None:
  """Replaces the file by rows of comma-separated values; raises as `replacing`.

  A spreadsheet takes text that begins with = + - @ for a formula: such text, where it is not a
  number, is written behind an apostrophe, which the spreadsheet takes for "this is text".
  """
  buffer = io.StringIO(newline='')
  csv.writer(buffer).writerows([_no_formula(cell) for cell in row] for row in rows)
  write_text(path, buffer.getvalue())


def _no_formula(cell):
  if not isinstance(cell, str) or not cell.lstrip().startswith(('=', '+', '-', '@')):
    return cell
  try:
    float(cell)
  except ValueError:
    return cell if cell == '-' else f"'{cell}"
  return cell


def append(path: str | os.PathLike) -> IO[str]:
  """A text file to append to, made where there is none.

  Raises:
    OSError: it is a link, a pipe, a device or a directory, or cannot be opened.
  """
  return _file(_opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), False, 'a')


def append_line(path: str | os.PathLike, line: str) -> None:
  """Adds one line to a text file; raises as `append`."""
  try:
    with append(path) as file:
      file.write(line + '\n')
  except OSError as e:
    raise OSError(e.errno, e.strerror, str(path)) from e


def lock_file(path: str | os.PathLike) -> IO[bytes]:
  """A file for `fcntl.flock`, made where there is none and never changed; raises as `append`."""
  return open(_opened(path, os.O_RDWR | os.O_CREAT), 'r+b')


def read_bytes(path: str | os.PathLike, largest: int = LARGEST_TEXT) -> bytes:
  """The content of a regular file.

  Raises:
    OSError: it is missing, a link, a pipe, a device or a directory, or longer than `largest`.
  """
  with open(_opened(path, os.O_RDONLY), 'rb') as file:
    content = file.read(largest + 1)
  if len(content) > largest:
    raise OSError(errno.EFBIG, f'longer than {largest:,} bytes', str(path))
  return content


def read_text(path: str | os.PathLike, largest: int = LARGEST_TEXT) -> str:
  """The text of a regular file; what is not UTF-8 in it becomes U+FFFD. Raises as `read_bytes`."""
  return read_bytes(path, largest).decode('utf-8', errors='replace')


def read_json(path: str | os.PathLike, largest: int = LARGEST_TEXT) -> Any:
  """The value of a JSON file.

  Raises:
    ValueError: it is not JSON, or nested too deeply to be read.
    OSError: as `read_bytes`.
  """
  try:
    return json.loads(read_text(path, largest))
  except RecursionError:
    raise ValueError('nested too deeply') from None


def cache_directory() -> pathlib.Path:
  """$XDG_CACHE_HOME/gen_models, else ~/.cache/gen_models: what can be made again.

  Raises:
    RuntimeError: there is no home directory.
  """
  return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'gen_models'


def is_regular(path: str | os.PathLike) -> bool:
  """Whether there is a regular file; a link to one is none."""
  try:
    return stat.S_ISREG(os.lstat(path).st_mode)
  except (OSError, ValueError):
    return False


def directory(path: str | os.PathLike) -> pathlib.Path:
  """Makes a directory where there is none, within one that may come from someone else.

  Raises:
    OSError: it is a symbolic link or a file, or cannot be made.
  """
  path = pathlib.Path(path)
  if path.is_symlink():
    raise OSError(errno.ELOOP, 'a symbolic link, which is not followed', str(path))
  path.mkdir(parents=True, exist_ok=True)
  return path


def _opened(path: str | os.PathLike, flags: int) -> int:
  """A file descriptor of a regular file."""
  try:
    handle = os.open(path, flags | _CAREFUL, 0o666)
  except OSError as e:
    if e.errno == errno.ELOOP:
      raise OSError(e.errno, 'a symbolic link, which is not followed', str(path)) from None
    if e.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
      raise OSError(errno.EINVAL, 'not a regular file', str(path)) from None
    raise
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError(errno.EINVAL, 'not a regular file', str(path))
  return handle
