"""Decoded arrays on disk: one .npy for each array and one manifest that vouches for them.

A folder is written array by array, manifest last, every file by rename; readers and writers need no
lock, since an array that its manifest does not describe counts as damaged and is decoded again.
"""

import hashlib
import io
import json
import os
import pathlib

import numpy as np
from absl import logging

from gen_models import files

_MANIFEST = 'manifest.json'


def root(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
  """The directory given, else $XDG_CACHE_HOME/gen_models, else ~/.cache/gen_models."""
  if cache_dir:
    return pathlib.Path(cache_dir).expanduser()
  return files.cache_directory()


def read(folder: pathlib.Path, origin: dict | None) -> dict[str, np.ndarray] | None:
  """Every array of the folder, or None if it must be decoded (again).

  Args:
    folder: where `write` put them.
    origin: what the arrays should have been decoded from; None accepts whatever is there.
  """
  try:
    manifest = json.loads((folder / _MANIFEST).read_bytes())
    if origin is not None and manifest['origin'] != origin:
      logging.info('cache %s was decoded from other data; decoding again', folder)
      return None
    arrays = {}
    for name, digest in manifest['sha256'].items():
      with open(folder / f'{name}.npy', 'rb') as file:
        # Read twice, once from memory: a copy of the whole file would take longer, and its size.
        if hashlib.file_digest(file, 'sha256').hexdigest() != digest:
          raise ValueError(f'{name}.npy does not match its sha256')
        file.seek(0)
        arrays[name] = np.load(file, allow_pickle=False)
    return arrays
  except FileNotFoundError as error:
    if (folder / _MANIFEST).exists():
      logging.warning('damaged cache %s: %s is missing', folder, error.filename)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    logging.warning('damaged cache %s: %s', folder, error)
  return None


def write(folder: pathlib.Path, arrays: dict[str, np.ndarray], origin: dict | None) -> None:
  """Keeps the arrays; a cache that cannot be written costs a warning and the next decoding."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, array in arrays.items():
      buffer = io.BytesIO()
      np.save(buffer, array, allow_pickle=False)
      digests[name] = hashlib.sha256(buffer.getbuffer()).hexdigest()
      files.write_bytes(folder / f'{name}.npy', buffer.getbuffer())
    manifest = {'origin': origin, 'sha256': digests}
    files.write_json(folder / _MANIFEST, manifest)
  except OSError as error:
    logging.warning('decoded data not cached: %s', error)
