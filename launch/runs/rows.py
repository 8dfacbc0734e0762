"""Rows that a user brings to a trained model: any name of the grammar of data, checked against the
data of the run.

Integers are stored values, as the data set has them; reals are as it has them too, or for pictures
in [0, 1]; letters of an alignment count by the alphabet of the run. What is nan, or true in an
array `mask`, is missing.
"""

import math
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.data import grammar, own
from gen_models.data.formats import base
from gen_models.data.specs import Spec, text_of_shape
from launch import errors


class Rows:
  """Rows as vectors that models can see, converted a slice at a time.

  Attributes:
    spec: of the data of the run.
    where: how the user named them, for messages.
  """

  def __init__(self, x: Any, mask: Any, spec: Spec, where: str = 'rows'):
    self._x, self._mask, self.spec, self.where = x, mask, spec, where

  def __len__(self) -> int:
    return len(self._x)

  def __getitem__(self, index) -> np.ndarray:
    """float32 [B, D], nan where a value is missing."""
    x, spec = np.asarray(self._x[index]), self.spec
    mask = None if self._mask is None else np.asarray(self._mask[index]).reshape(len(x), -1)
    stored, x = x.dtype != bool and x.dtype.kind in 'iu', x.reshape(len(x), -1)
    if spec.kind == 'categorical':
      return _one_hot(x, mask, spec)
    x_BD = x.astype(np.float32)
    if spec.kind == 'real' and spec.low is not None:
      x_BD = np.asarray(data.seen(None, jnp.asarray(x_BD), 'real', spec))
    elif stored and spec.kind == 'real':
      x_BD = x_BD / np.float32(spec.levels)
    return x_BD if mask is None else np.where(mask, np.float32(np.nan), x_BD)

  def take(self, index: np.ndarray) -> 'Rows':
    """These rows in another order, or several times."""
    return Rows(self._x[index], None if self._mask is None else
                np.asarray(self._mask)[index], self.spec, self.where)


def _one_hot(x_BL: np.ndarray, mask: np.ndarray | None, spec: Spec) -> np.ndarray:
  """One-of-Q columns [B, L Q]; of columns that are missing nan."""
  if x_BL.shape[1] != math.prod(spec.shape):  # it is one-of-Q already
    x_BD = x_BL.astype(np.float32)
    return x_BD if mask is None else np.where(mask, np.float32(np.nan), x_BD)
  missing_BL = np.isnan(x_BL) if x_BL.dtype.kind == 'f' else x_BL == spec.levels
  missing_BL = missing_BL if mask is None else missing_BL | mask
  letters_BL = np.where(missing_BL, 0, x_BL).astype(np.int64)
  x_BLQ = np.eye(spec.levels, dtype=np.float32)[letters_BL]
  x_BLQ[missing_BL] = np.nan
  return x_BLQ.reshape(len(x_BL), -1)


def read(name: str, spec: Spec, flag: str = '--data',
         data_dir: str | os.PathLike | None = None) -> Rows:
  """The rows of a name: `npz:PATH` with an array `x`, or any other name of data/grammar.py.

  Of data that come in splits the rows are those of test.

  Args:
    name: as the user wrote it.
    spec: of the data of the run, of which rows must be.
    flag: by which they were named, for messages.
    data_dir: of prepared data.

  Raises:
    UsageError: they cannot be read, or are not rows of that data set; the message says what is.
  """
  where = f'{flag}={name}'
  if not grammar.is_own(name):
    if name not in data.names():
      raise errors.UsageError(f'{where}: give npz:PATH, a file with an array `x`, or another name '
                              f'of data{errors.near(name, data.names())}')
    return check(data.load(name, data_dir).test.rows, None, spec, where)
  parsed = grammar.parse(name)
  if parsed.scheme == 'fasta' and spec.alphabet and 'alphabet' not in parsed.options:
    parsed = parsed._replace(options={**parsed.options, 'alphabet': ''.join(spec.alphabet)})
  tables = own.read(parsed, data_dir).tables
  table = tables.get('all') or tables.get('test')
  if table is None:
    raise errors.UsageError(f'{where}: it has the splits {", ".join(sorted(tables))}: save the '
                            'rows as one array `x`')
  return check(table.rows, table.mask, spec, where)


def check(x: Any, mask: Any, spec: Spec, where: str) -> Rows:
  """Rows of an array, and of one that marks what is missing from it.

  Raises:
    UsageError: see `read`.
  """
  x = x if hasattr(x, 'dtype') else np.asarray(x)
  if x.dtype.kind not in 'biuf':
    raise errors.UsageError(f'{where}: its values are {x.dtype}, not numbers')
  shapes = {spec.shape, spec.seen_shape, (math.prod(spec.shape),), (spec.num_visible,)}
  if len(x.shape) < 2 or tuple(x.shape[1:]) not in shapes | {(*spec.shape, 1)}:
    raise errors.UsageError(
      f'{where}: rows of shape {text_of_shape(x.shape[1:]) or "1"}, but those of {spec.name} are '
      f'{text_of_shape(spec.shape)}: give an array of shape [N, '
      f'{", ".join(map(str, spec.seen_shape if spec.is_image else spec.shape))}]')
  if not len(x):
    raise errors.UsageError(f'{where}: it has no rows')
  if mask is not None and (tuple(mask.shape) != tuple(x.shape) or mask.dtype != bool):
    raise errors.UsageError(f'{where}: `mask` is {mask.dtype} of shape {mask.shape}: give a bool '
                            f'of the shape of the rows, {x.shape}, true where a value is missing')
  rows = Rows(x, mask, spec, where)
  for chunk in base.chunks(len(x), 8 * spec.num_visible):
    _require_range(np.asarray(x[chunk]), rows, chunk, spec, where)
  return rows


def _require_range(x, rows: Rows, chunk: slice, spec: Spec, where: str) -> None:
  """Raises UsageError, with the row, where values are none of the data."""
  flat = x.reshape(len(x), -1)
  if spec.kind == 'categorical':
    known = np.isnan(flat) if flat.dtype.kind == 'f' else np.zeros(flat.shape, bool)
    one_of_q = flat.shape[1] != math.prod(spec.shape)
    bad = ~known & ~((flat >= 0) & (flat <= (1 if one_of_q else spec.levels)) & (
      flat == np.round(flat)))
    allowed = f'numbers of letters, 0 to {spec.levels - 1}'
  else:
    seen = rows[chunk]
    bad = ~np.isnan(seen) & ~np.isfinite(seen)
    allowed = 'finite'
    if spec.kind == 'counts':
      bad |= seen < 0
      allowed = 'counts, 0 or more'
    elif spec.kind == 'binary':
      bad |= (seen != 0) & (seen != 1) & ~np.isnan(seen)
      allowed = 'zeros and ones: cut or draw them first'
    elif spec.unit_interval:
      bad |= (seen < -1e-6) | (seen > 1 + 1e-6)
      allowed = (f'integers from 0 to {spec.levels}, or reals from 0 to 1' if spec.low is None else
             f'between {spec.low:g} and {spec.high:g}')
  if bad.any():
    row, column = np.argwhere(bad)[0]
    raise errors.UsageError(f'{where}: row {(chunk.start or 0) + row} has the value '
                            f'{flat[row, column]:g}, but values of {spec.name} are {allowed}')


def shown(name: str, x: np.ndarray, spec: Spec) -> np.ndarray:
  """Rows that a model gives, [.., D], in the shape and the units of the data.

  Draws of categorical columns are numbers of letters [.., L]; means of them are probabilities
  [.., L, Q].
  """
  if x.shape[-1] != spec.num_visible:
    return x
  x = x.reshape(*x.shape[:-1], *spec.seen_shape)
  if spec.kind == 'categorical':
    return x.argmax(-1).astype(np.int32) if name == 'draws' else x
  if spec.kind == 'real' and spec.low is not None:
    return x * np.asarray(spec.scale, x.dtype) + np.asarray(spec.offset, x.dtype)
  return x


def fasta(draws: np.ndarray, spec: Spec) -> str:
  """The text of a fasta file of drawn letters: their numbers [N, L], or one of Q [N, L, Q]."""
  numbers_NL = draws if draws.ndim == 2 else draws.argmax(-1)
  return ''.join(f'>draw{i + 1}\n{"".join(spec.alphabet[q] for q in row)}\n'
                 for i, row in enumerate(numbers_NL))
