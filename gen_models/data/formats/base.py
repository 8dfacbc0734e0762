"""The result of every reader of a format: tables of rows, not decoded where that is possible."""

import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

CHUNK = 32 * 2**20  # bytes of rows that are looked at in one go
SPLITS = ('train', 'valid', 'test')
ALIASES = {'validation': 'valid', 'val': 'valid', 'dev': 'valid'}


class Records:
  """Rows that are decoded when they are asked for."""

  def __init__(self, length: int, shape: tuple[int, ...], dtype: Any,
               read: Callable[[int], np.ndarray], threads: int = 1):
    self.shape, self.dtype = (length, *shape), np.dtype(dtype)
    self._read, self._threads = read, threads

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    """One row, or those of an array of numbers or a slice."""
    if isinstance(index, (int, np.integer)):
      return self._read(int(index))
    if isinstance(index, slice):
      index = range(*index.indices(len(self)))
    rows = np.empty((len(index), *self.shape[1:]), self.dtype)
    if self._threads == 1:
      for i, row in enumerate(index):
        rows[i] = self._read(int(row))
      return rows
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
      for i, row in enumerate(pool.map(self._read, map(int, index))):
        rows[i] = row
    return rows


class Table(NamedTuple):
  """Rows of one split as they lie in the file, and what belongs to them.

  Attributes:
    rows: [N, *shape], an array, a memory map or Records.
    labels: int32 [N].
    weights: float64 [N].
    mask: bool [N, *shape] or memory map, True where a value is missing.
    group: [N], of split=group.
    where: (row) -> how messages name it.
  """

  rows: Any
  labels: np.ndarray | None = None
  weights: np.ndarray | None = None
  mask: Any = None
  group: np.ndarray | None = None
  where: Callable[[int], str] = 'row {}'.format


class Content(NamedTuple):
  """A file or folder, opened.

  Attributes:
    tables: split -> Table; 'all' where the file has no splits.
    sha256: of what was read.
    path: absolute, of the file or folder.
    alphabet: of categorical rows.
    kind: where the format says it.
    classes: names of labels.
    remarks: what there is to know.
    decode: whether reading rows is work that is worth keeping in the cache.
  """

  tables: dict[str, Table]
  sha256: str
  path: pathlib.Path
  alphabet: tuple[str, ...] = ()
  kind: str | None = None
  classes: tuple[str, ...] = ()
  remarks: tuple[str, ...] = ()
  decode: bool = False


_digests: dict[tuple, str] = {}


def signature(path: pathlib.Path) -> tuple:
  """A value that changes when a file does: its name, size, time and inode."""
  there = path.stat()
  return str(path), there.st_size, there.st_mtime_ns, there.st_ino


def sha256_of(path: pathlib.Path) -> str:
  """Of a file's bytes; read once in a process for each state of the file."""
  key = signature(path)
  if key not in _digests:
    with open(path, 'rb') as file:
      _digests[key] = hashlib.file_digest(file, 'sha256').hexdigest()
  return _digests[key]


def sha256_of_files(root: pathlib.Path, paths: Iterable[pathlib.Path]) -> str:
  """Of several files: of their names below `root` and their bytes, in order of the names."""
  digest = hashlib.sha256()
  for path in sorted(paths):
    digest.update(f'{path.relative_to(root).as_posix()}\0{sha256_of(path)}\n'.encode(
      errors='surrogateescape'))
  return digest.hexdigest()


def existing_file(name: Name) -> pathlib.Path:
  """The file of a name, absolute.

  Raises:
    FileNotFoundError: there is none, or it is a directory.
  """
  path = name.path
  if not path.is_file():
    why = 'a directory, not a file' if path.is_dir() else 'no such file'
    raise FileNotFoundError(f'data set {name.text}: {path}: {why} (relative paths begin in '
                            f'{os.getcwd()})')
  return path.absolute()


def chunks(num_rows: int, bytes_of_row: int) -> Iterator[slice]:
  """Slices of rows of about CHUNK bytes."""
  step = max(1, CHUNK // max(1, bytes_of_row))
  return (slice(first, min(first + step, num_rows)) for first in range(0, num_rows, step))


def checked_columns(where: str, table: Table) -> Table:
  """The table with labels and weights in their types.

  Raises:
    BadData: labels, weights, mask or group of another length, labels that are no classes, weights
      that are negative or not finite.
  """
  num = len(table.rows)
  for what in ('labels', 'weights', 'mask', 'group'):
    values = getattr(table, what)
    if values is not None and len(values) != num:
      raise BadData(f'{where}: {what} has {len(values)} rows and the data {num}: give one for '
                    'each row')
  if table.mask is not None and tuple(table.mask.shape) != tuple(table.rows.shape):
    raise BadData(f'{where}: the mask has shape {tuple(table.mask.shape)} and the data '
                  f'{tuple(table.rows.shape)}: give one value of the mask for each of the data')
  labels, weights = table.labels, table.weights
  if labels is not None:
    labels = np.asarray(labels)
    numbers = labels.ndim == 1 and labels.dtype.kind in 'iubf'
    if not numbers or np.any(labels != np.floor(labels)):
      raise BadData(f'{where}: labels of type {labels.dtype} and shape {labels.shape}: give one '
                    'whole number from 0 for each row')
    if len(labels) and not 0 <= labels.min() <= labels.max() < 2**20:
      row = int(np.argmax((labels < 0) | (labels >= 2**20)))
      raise BadData(f'{where}: the label of {table.where(row)} is {labels[row]}: classes are '
                    'numbered from 0 to their number less one, at most 2^20')
    labels = labels.astype(np.int32)
  if weights is not None:
    weights = np.asarray(weights)
    if weights.ndim != 1 or weights.dtype.kind not in 'iufb':
      raise BadData(f'{where}: weights of type {weights.dtype} and shape {weights.shape}: give one '
                    'number for each row')
    weights = weights.astype(np.float64)
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any() or not weights.sum() > 0:
      row = int(np.argmax(bad))
      raise BadData(f'{where}: the weight of {table.where(row)} is {weights[row]:g}: weights are '
                    'finite, at least 0, and not all of them 0')
  return table._replace(labels=labels, weights=weights)
