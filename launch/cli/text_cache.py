"""A text that follows from source files, cached until one of them changes.

launch.list describes every experiment. To import them all takes a second, most of it JAX; to read
the source files takes a fiftieth of that.
"""

import contextlib
import hashlib
import pathlib
import sys
from collections.abc import Callable, Iterable

from gen_models import files


def text(name: str, packages: Iterable[str], make: Callable[[], str]) -> str:
  """make(), or what it returned when the source files were what they are now.

  Args:
    name: of the text in the cache; a later text of this name takes its place.
    packages: folders; the text follows from the Python files below them and the version of Python.
    make: makes the text.
  """
  try:
    path = files.cache_directory() / f'{name}.json'
  except RuntimeError:  # there is no home directory
    return make()
  sources = _digest(packages)
  with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # none, or a damaged one
    cached = files.read_json(path)
    if cached['sources'] == sources and isinstance(cached['text'], str):
      return cached['text']
  made = make()
  with contextlib.suppress(OSError):  # what cannot be cached is made again the next time
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, {'sources': sources, 'text': made})
  return made


def _digest(packages: Iterable[str]) -> str:
  """The sha256 of names and contents of the Python files below the folders, and of the version."""
  digest = hashlib.sha256(sys.version.encode())
  for package in packages:
    for path in sorted(pathlib.Path(package).rglob('*.py')):
      if not path.is_file():  # the lock of an editor is a link to nothing
        continue
      content = path.read_bytes()
      digest.update(f'{path.relative_to(package)} {len(content)}\n'.encode())
      digest.update(content)
  return digest.hexdigest()
