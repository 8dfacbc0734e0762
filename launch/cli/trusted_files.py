"""Which experiment files may run: those that this user has named on a command line.

A run directory may come from anybody, and its config.json may name a file. Such a file is run only
if its very bytes were named before, as in `launch.train --experiment=path.py`: the sha256 of what
was named is kept in $XDG_STATE_HOME/gen_models/named, default ~/.local/state, outside of every run
directory.
"""

import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib

from absl import logging


def remember(source: bytes) -> None:
  """Notes that the user has named a file of these bytes."""
  path = _mark(source)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  except OSError as e:
    logging.warning('not remembered that you named this experiment: %s', e)


def known(source: bytes) -> bool:
  """Whether the user has named a file of these bytes."""
  return _mark(source).is_file()


def _mark(source: bytes) -> pathlib.Path:
  state = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
  return (pathlib.Path(state).expanduser() / 'gen_models' / 'named'
          / hashlib.sha256(source).hexdigest())


def run(path: pathlib.Path, source: bytes):
  """The module made of these bytes: not of what the file has by now, nor of a .pyc beside it."""
  spec = importlib.util.spec_from_file_location(
    path.stem, path, loader=_Loader(path.stem, str(path), source))
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class _Loader(importlib.machinery.SourceFileLoader):

  def __init__(self, name, path, source):
    super().__init__(name, path)
    self._source = source

  def get_code(self, fullname):
    return self.source_to_code(self._source, self.get_filename(fullname))
