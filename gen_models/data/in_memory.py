"""Arrays in memory as a data set with a name: a run on them can be resumed and scored."""

import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_models import files
from gen_models.data import cache, sources


def from_arrays(arrays: Any, *, directory: str | os.PathLike | None = None,
                **options: Any) -> sources.Dataset:
  """The data set of arrays, which are kept in a .npz file called after their content.

  Args:
    arrays: rows [N, ..]; or name -> array, as in a file of `npz:PATH`: `x`, or `train`, `valid` and
      `test`, `labels`, `weights`, `mask`, `group`, see data/grammar.py.
    directory: where the file is kept; default arrays/ in the cache, $XDG_CACHE_HOME/gen_models.
    **options: of the name, such as split='blocks', kind='counts' or test=0.2.

  Returns:
    What `load` gives for that file. Its name, `npz:PATH?OPTIONS`, is understood wherever a data set
    is named.

  Raises:
    BadData: the arrays, or the options, are not those of a data set.
    OSError: the file cannot be written.
  """
  named: dict[str, Any] = {name: np.asarray(array) for name, array in (
    arrays if isinstance(arrays, Mapping) else {'x': arrays}).items()}
  for name, array in named.items():
    if array.dtype.hasobject:
      raise sources.BadData(f'{name} is an array of Python objects: give numbers, all rows of one '
                            'length')
  digest = hashlib.sha256()
  for name, array in sorted(named.items()):
    digest.update(f'{name} {array.dtype.str} {array.shape} '.encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  folder = pathlib.Path(directory) if directory else cache.root() / 'arrays'
  path = folder.expanduser().absolute() / f'{digest.hexdigest()[:16]}.npz'
  if not files.is_regular(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path, binary=True) as file:
      np.savez(file, **named)
  words = '&'.join(f'{name}={value}' for name, value in options.items())
  return sources.load(f'npz:{path}' + (f'?{words}' if words else ''))
