"""csv and parquet: columns of numbers, or of words, with columns of labels, weights and groups.

Columns of numbers are one row of real values, zeros and ones, or counts: whole numbers from 0 that
are written as such (3, not 3.0). An empty cell, NA, nan or null is missing. Where all columns are
words, they are categorical with one common alphabet.
"""

import csv
import io
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from gen_models import files
from gen_models.data.formats.base import (
  ALIASES,
  SPLITS,
  Content,
  Table,
  checked_columns,
  existing_file,
  sha256_of,
)
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

MISSING = ('', 'NA', 'NaN', 'nan', 'null', 'None')
_LARGEST = 4 * 2**30  # bytes of a csv, which is read whole
_MOST_WORDS = 255  # of an alphabet
_WHOLE = re.compile(r'[+-]?[0-9]{1,18}')  # that int64 holds


def read_csv(name: Name) -> Content:
  """A text file whose first line names the columns; a first line of numbers counts as a row.

  Raises:
    BadData: ragged lines, columns that are neither numbers nor words, no such column.
  """
  path = existing_file(name)
  text = files.read_text(path.resolve(), _LARGEST)
  if text.startswith('\ufeff'):
    text = text[1:]
  first = text.partition('\n')[0]
  delimiter = max(',;\t', key=first.count)
  try:
    lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
             if line]
  except csv.Error as e:
    raise BadData(f'{path} is no csv ({e}): check its quotes') from None
  if not lines:
    raise BadData(f'{path} is empty: give it a line of names and one line for each row')
  names = [cell.strip() for cell in lines[0]]
  if all(map(_is_number, names)):
    names = [f'column{i + 1}' for i in range(len(names))]
  else:
    lines = lines[1:]
  for number, line in enumerate(lines, 1):
    if len(line) != len(names):
      raise BadData(f'{path}, row {number}: {len(line)} cells, but there are {len(names)} columns: '
                    'give every row one cell for each column')
  if len(set(names)) < len(names):
    twice = next(n for n in names if names.count(n) > 1)
    raise BadData(f'{path}: two columns are called {twice!r}: name each once')
  columns = {column: [line[i].strip() for line in lines] for i, column in enumerate(names)}
  return _content(name, path, {k: _typed(v) for k, v in columns.items()})


def read_parquet(name: Name) -> Content:
  """Columns of an Apache Parquet file.

  Raises:
    BadData: pyarrow is not installed; or as `read_csv`.
  """
  path = existing_file(name)
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise BadData(f"{path}: parquet files are read by pyarrow, which is not installed: pip install "
                  "'gen_models[parquet]', or save it as csv or npz") from None
  try:
    table = pyarrow.parquet.read_table(path)
  except pyarrow.ArrowException as e:
    raise BadData(f'{path} is no parquet file that can be read: {" ".join(str(e).split())[:120]}'
                  ) from None
  columns: dict[str, np.ndarray | list[str]] = {}
  for column in table.column_names:
    values = table[column].to_pylist()
    if any(isinstance(v, str) for v in values):
      columns[column] = ['' if v is None else str(v) for v in values]
    elif all(isinstance(v, int) and abs(v) < 2**63 for v in values):
      columns[column] = np.array(values, np.int64)
    elif all(v is None or isinstance(v, (bool, int, float)) for v in values):
      columns[column] = np.array([np.nan if v is None else v for v in values], np.float64)
    else:
      columns[column] = [repr(v) for v in values]
  return _content(name, path, columns)


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _typed(values: list[str]) -> np.ndarray | list[str]:
  """int64 of whole numbers, float64 where every cell is a number or missing, else the words."""
  if all(map(_WHOLE.fullmatch, values)):
    return np.array([int(v) for v in values], np.int64)
  try:
    numbers = np.array([np.nan if v in MISSING else float(v) for v in values], np.float64)
  except ValueError:
    return values
  return values if values and np.isnan(numbers).all() else numbers


def _content(name: Name, path: pathlib.Path, columns: dict) -> Content:
  special = {what: name.option(what) for what in ('label', 'weights', 'group')}
  for what, column in special.items():
    if column and column not in columns:
      raise BadData(f'{path} has no column {column!r}, which {what}={column} names; it has '
                    f'{", ".join(columns)}')
  splits = columns.get('split')
  used = {column for column in special.values() if column}
  if isinstance(splits, list) and {ALIASES.get(s, s) for s in splits} <= set(SPLITS):
    used.add('split')
  else:
    splits = None
  chosen = name.option('columns') or [c for c in columns if c not in used]
  if missing := [c for c in chosen if c not in columns]:
    raise BadData(f'{path} has no column {missing[0]!r}; it has {", ".join(columns)}')
  if not chosen:
    raise BadData(f'{path} has no column of data other than {", ".join(sorted(used))}')
  rows, alphabet, kind = _rows(path, {c: columns[c] for c in chosen})
  if not len(rows):
    raise BadData(f'{path} has no rows below its names: give it one line for each row')
  labels, classes = _labels(path, special['label'], columns)
  weights = columns[special['weights']] if special['weights'] else None
  if isinstance(weights, list):
    raise BadData(f'{path}: column {special["weights"]} has words: weights are numbers')
  group = (np.unique(np.asarray(columns[special['group']]), return_inverse=True)[1]
           if special['group'] else None)
  table = checked_columns(str(path), Table(rows, labels, weights, None, group))
  tables = {'all': table}
  if splits is not None:
    tables = {}
    of_row = np.array([ALIASES.get(s, s) for s in splits])
    for split in SPLITS:
      index = np.flatnonzero(of_row == split)
      if len(index):
        tables[split] = Table(*(None if v is None else v[index] for v in table[:5]),
                              where=lambda row, index=index: f'row {index[row] + 1}')
    if 'train' not in tables:
      raise BadData(f'{path}: the column split has no row train')
  return Content(tables, sha256_of(path), path, alphabet, kind, classes)


def _rows(path, columns: dict) -> tuple[np.ndarray, tuple[str, ...], str | None]:
  """(rows, alphabet, kind): int64 or float64 of numbers, uint8 of words."""
  words = [c for c, values in columns.items() if isinstance(values, list)]
  if not words:
    return np.stack(list(columns.values()), axis=1), (), None
  if len(words) < len(columns):
    column = words[0]
    row = next(i for i, v in enumerate(columns[column]) if v not in MISSING and not _is_number(v))
    raise BadData(f'{path}, row {row + 1}: column {column!r} has {columns[column][row]!r}, but '
                  'other columns have numbers: choose the columns of data with columns=, or name '
                  'this one as label=, group= or weights=')
  values = np.array(list(columns.values())).T
  alphabet = sorted(set(np.unique(values)) - set(MISSING))
  if not 2 <= len(alphabet) <= _MOST_WORDS:
    raise BadData(f'{path}: {len(alphabet)} different words in {len(columns)} columns: '
                  f'categorical columns have 2 to {_MOST_WORDS}; choose with columns=')
  number = {word: i for i, word in enumerate(alphabet)}
  rows = np.array([[number.get(cell, len(alphabet)) for cell in row] for row in values], np.uint8)
  return rows, tuple(map(str, alphabet)), 'categorical'


def _labels(path, column: str | None, columns: dict) -> tuple[np.ndarray | None, tuple[str, ...]]:
  """(labels, names of classes) of a column of numbers or words."""
  if column is None:
    return None, ()
  values: Sequence = columns[column]
  if isinstance(values, list):
    for row, value in enumerate(values):
      if value in MISSING:
        raise BadData(f'{path}, row {row + 1}: the label is missing: give every row its class')
    classes, labels = np.unique(values, return_inverse=True)
    return labels.astype(np.int32), tuple(map(str, classes))
  bad = ~(np.asarray(values) == np.floor(values))
  if bad.any():
    row = int(np.argmax(bad))
    raise BadData(f'{path}, row {row + 1}: the label is {values[row]:g}: labels are words, or '
                  'whole numbers from 0')
  return np.asarray(values).astype(np.int64), ()
