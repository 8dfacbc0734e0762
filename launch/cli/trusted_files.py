"""Which files of a user may run: those that this user has named on a command line.

A run directory may come from anyone, and its config.json may name a file. Such a file is run only
if its very bytes were named before, as in `launch.train --experiment=path.py`; what it imports from
its own folder was named with it. The sha256 of what was named is kept in
$XDG_STATE_HOME/gen_models/named, default ~/.local/state, outside of every run directory.
"""

import hashlib
import os
import pathlib

from absl import logging


def remember(source: bytes) -> None:
  """Notes that the user has named a file of these bytes."""
  try:
    path = _mark(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  except (OSError, RuntimeError) as e:  # RuntimeError: there is no home directory
    logging.warning('not remembered that you named this experiment: %s', e)


def known(source: bytes) -> bool:
  """Whether the user has named a file of these bytes."""
  try:
    return _mark(source).is_file()
  except RuntimeError:
    return False


def _mark(source: bytes) -> pathlib.Path:
  state = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
  return pathlib.Path(state).expanduser() / 'gen_models' / 'named' / digest(source)


def digest(source: bytes) -> str:
  """The sha256 by which bytes are known."""
  return hashlib.sha256(source).hexdigest()
