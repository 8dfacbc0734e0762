"""Rows that a user brings to a trained model: read from a file, checked against the model's data.

`npz:PATH` has an array `x`, rows along its first axis; nan is missing, and so is what an array
`mask` of the same shape marks. Integers are stored values, as the data set has them; reals are as
models see them, pictures in [0, 1].
"""

import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from gen_models import data
from launch import errors


class Rows:
  """Rows as vectors of reals, converted a slice at a time.

  Attributes:
    shape: (N, D).
  """

  def __init__(self, x: np.ndarray, mask: np.ndarray | None, levels: int):
    self._x, self._mask, self._levels = x, mask, levels
    self.shape = len(x), int(np.prod(x.shape[1:]))

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index) -> np.ndarray:
    x = self._x[index]
    divide = x.dtype != bool and np.issubdtype(x.dtype, np.integer)
    x_BD = np.asarray(x, np.float32).reshape(len(x), -1) / np.float32(self._levels if divide else 1)
    if self._mask is not None:
      x_BD = np.where(self._mask[index].reshape(len(x), -1), np.float32(np.nan), x_BD)
    return x_BD


class Format(NamedTuple):
  """What rows of a data set look like.

  Attributes:
    name: of the data set.
    shape: of a row.
    levels: the stored integer that stands for 1.0.
  """

  name: str
  shape: tuple[int, ...]
  levels: int


def format_of(dataset: str) -> Format:
  """Of a data set, without its data."""
  return Format(dataset, data.shape(dataset), data.levels(dataset))


def read(name: str, of: Format, flag: str = '--data') -> Rows:
  """The rows of `npz:PATH`.

  Args:
    name: as the user wrote it.
    of: what rows must look like.
    flag: by which they were named, for messages.

  Raises:
    UsageError: they cannot be read, or are not rows of that data set; the message says what is.
  """
  arrays = _arrays(name, flag)
  if 'x' not in arrays:
    raise errors.UsageError(f'{flag}={name}: it has no array `x`, but '
                            f'{", ".join(sorted(arrays)) or "none at all"}')
  return check(arrays['x'], arrays.get('mask'), of, f'{flag}={name}')


def check(x: Any, mask: Any, of: Format, where: str) -> Rows:
  """Rows of an array, and of one that marks what is missing from it.

  Raises:
    UsageError: see `read`.
  """
  x = np.asarray(x)
  if x.dtype != bool and not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
    raise errors.UsageError(f'{where}: `x` has {x.dtype} values, not numbers')
  shapes = [of.shape, (*of.shape, 1), (int(np.prod(of.shape)),)]
  if x.ndim < 1 or tuple(x.shape[1:]) not in shapes:
    own = ' x '.join(map(str, of.shape))
    raise errors.UsageError(f'{where}: `x` has the shape {x.shape}, but the rows of {of.name} are '
                            f'{own}: give [N, {", ".join(map(str, of.shape))}]')
  if not len(x):
    raise errors.UsageError(f'{where}: `x` has no row')
  if mask is not None:
    mask = np.asarray(mask)
    if mask.shape != x.shape or mask.dtype != bool:
      raise errors.UsageError(f'{where}: `mask` is {mask.dtype} of shape {mask.shape}: give a bool '
                              f'of the shape of `x`, {x.shape}, true where a value is missing')
  most = 1 if x.dtype == bool or not np.issubdtype(x.dtype, np.integer) else of.levels
  if mask is not None and mask.all() or np.isnan(x).all():
    return Rows(x, mask, of.levels)
  low, high = np.nanmin(x), np.nanmax(x)
  if low < 0 or high > most:
    bad = low if low < 0 else high
    row = int(np.argmax((x == bad).reshape(len(x), -1).any(1)))
    raise errors.UsageError(
      f'{where}: row {row} has the value {bad:g}; values of {of.name} are integers from 0 to '
      f'{of.levels}, or reals from 0 to 1')
  return Rows(x, mask, of.levels)


def _arrays(name: str, flag: str) -> dict[str, np.ndarray]:
  """Name -> array of a file; objects are not unpickled."""
  kind, _, path = name.partition(':')
  if kind != 'npz' or not path:
    raise errors.UsageError(f'{flag}={name}: give npz:PATH, a file with an array `x`')
  if not pathlib.Path(path).is_file():
    raise errors.UsageError(f'{flag}={name}: there is no such file')
  try:
    with np.load(path, allow_pickle=False) as file:
      return {key: file[key] for key in file.files if key in ('x', 'mask')} or dict.fromkeys(
        file.files, np.zeros(0))
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, AttributeError) as e:
    why = ' '.join(str(e).split())[:200]
    raise errors.UsageError(f'{flag}={name}: it does not read as an npz of arrays ({why})'
                            ) from None
