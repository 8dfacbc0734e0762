"""Own data, opened: kind, splits, weights and scale, known before rows are decoded.

`opened` puts together what a reader of formats/ found and what the options of the name ask for.
Rows stay where they are until `Own.resident` or `Own.source` asks for them, and both convert them
by the same function, so a stream and a resident copy have the same bits.
"""

import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gen_models.data import cache, grammar, splits as splits_lib, weights as weights_lib
from gen_models.data.formats import arrays, base, fasta, folder, tables, tfds
from gen_models.data.formats.base import SPLITS, Content, Records, Table
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData, Spec, text_of_shape

_KEPT = 8  # opened data sets a process remembers
_LARGEST_LETTER = 2**16
_LARGEST_COUNT = 2**31  # which int32 does not hold
_LARGEST_REAL = float(np.finfo(np.float32).max)


class Part(NamedTuple):
  """The rows of a split: those of a table, or some of them."""

  table: Table
  index: np.ndarray | None = None
  weights: np.ndarray | None = None  # float64, of these rows

  @property
  def num_rows(self) -> int:
    """Of the split."""
    return len(self.table.rows) if self.index is None else len(self.index)

  def row_of(self, i: int) -> int:
    """The row of the table that is row i of the split."""
    return i if self.index is None else int(self.index[i])


class Own(NamedTuple):
  """A data set of the user's, opened."""

  spec: Spec
  parts: dict[str, Part]
  decode: bool

  def rows(self, split: str, first: int | None = None) -> np.ndarray:
    """Stored rows of a split, the first ones where not all are wanted; in memory."""
    part = self.parts[split]
    num = part.num_rows if first is None else min(first, part.num_rows)
    out = np.empty((num, *self.spec.shape), self.spec.dtype)
    for chunk in base.chunks(num, out[:1].nbytes):
      where = chunk if part.index is None else part.index[chunk]
      mask = None if part.table.mask is None else np.asarray(part.table.mask[where])
      out[chunk] = stored(part.table.rows[where], mask, self.spec)
    return out

  def labels(self, split: str) -> np.ndarray | None:
    """int32, of the rows of a split."""
    part = self.parts[split]
    labels = part.table.labels
    return labels if labels is None or part.index is None else labels[part.index]

  def weights(self, split: str) -> np.ndarray | None:
    """float64, of the rows of a split; None where all are equal."""
    return self.parts[split].weights

  def source(self, split: str = 'train') -> 'Source':
    """A split as random-access records."""
    return Source(self, split)


class Source:
  """Records {'image', 'label'} of a split, read when they are asked for: for stream.Stream."""

  def __init__(self, own: Own, split: str):
    self._own, self._split, self._part = own, split, own.parts[split]
    self.weights = own.weights(split)

  def __len__(self) -> int:
    return self._part.num_rows

  def __getitem__(self, i: int) -> dict[str, Any]:
    """The stored row i, and its label where there are some."""
    table, row = self._part.table, self._part.row_of(i)
    mask = None if table.mask is None else np.asarray(table.mask[row])[None]
    record = {'image': stored(np.asarray(table.rows[row])[None], mask, self._own.spec)[0]}
    return record if table.labels is None else record | {'label': table.labels[row]}


def stored(rows, mask, spec: Spec) -> np.ndarray:
  """Rows of a file [N, ...] as they are kept, see specs.py."""
  dtype = spec.dtype
  rows = np.asarray(rows)
  if spec.kind == 'categorical':
    if rows.dtype.kind == 'f':
      rows = np.where(np.isnan(rows), spec.levels, rows)
    return (rows if mask is None else np.where(mask, spec.levels, rows)).astype(dtype)
  if dtype == np.float32:
    rows = rows.astype(np.float32)
    if spec.missing and spec.kind == 'real' and spec.low is None:
      rows = rows / np.float32(spec.levels)
    return rows if mask is None else np.where(mask, np.float32(np.nan), rows)
  return rows.astype(dtype)


_READERS: dict[str, Callable[..., Content]] = {
  'npz': arrays.read_npz, 'npy': arrays.read_npy, 'folder': folder.read, 'fasta': fasta.read,
  'csv': tables.read_csv, 'parquet': tables.read_parquet, 'tfds': tfds.read}


def read(name: Name, data_dir: str | os.PathLike | None = None) -> Content:
  """The tables of a name of the grammar as they lie in its files, without kind, splits or scale.

  Raises:
    BadData: see grammar.py and formats/.
    FileNotFoundError: there is no such file.
  """
  return tfds.read(name, data_dir) if name.scheme == 'tfds' else _READERS[name.scheme](name)


_opened: dict[tuple, Own] = {}
_lock = threading.Lock()


def opened(text: str, data_dir: str | os.PathLike | None = None,
           cache_dir: str | os.PathLike | None = None, split: str | None = None) -> Own:
  """The data set of a name of the grammar; kept while its files stay as they are.

  Args:
    text: the name.
    data_dir, cache_dir: as of `read`, and where derived arrays are kept.
    split: Spec.split of a run that is older than this process. Its rule makes the splits, whatever
      is the default now, and what else the name says of splits is not held against it.

  Raises:
    BadData: see grammar.py, formats/ and below.
    FileNotFoundError: there is no such file.
  """
  name = grammar.parse(text)
  key = (text, split, _state(name, data_dir))
  with _lock:
    if key not in _opened:
      _opened[key] = _put_together(name, read(name, data_dir), cache_dir, split)
      while len(_opened) > _KEPT:
        _opened.pop(next(iter(_opened)))
    return _opened[key]


def _state(name: Name, data_dir) -> tuple:
  """A value that changes when the files of a name do."""
  path = tfds.find(name, data_dir) if name.scheme == 'tfds' else name.path
  if not path.exists():
    return (str(path.absolute()),)
  if path.is_file():
    return base.signature(path.absolute())
  digest = hashlib.sha256()
  for directory, folders, files in os.walk(path):
    folders.sort()
    for file in sorted(files):
      there = pathlib.Path(directory, file)
      if there.exists():
        digest.update(repr(base.signature(there)).encode(errors='surrogateescape'))
  return str(path.absolute()), digest.hexdigest()


def _put_together(name: Name, content: Content, cache_dir, split: str | None) -> Own:
  if content.decode and name.scheme == 'tfds' and content.kind is None:
    content = _decoded(name, content, cache_dir)  # its values say what kind they are
  scan = _scan_all(content)
  kind = _kind(name, content, scan)
  levels, low, high = _range(name, content, scan, kind)
  shape = tuple(next(iter(content.tables.values())).rows.shape[1:])
  if kind == 'categorical' and len(shape) > 1:
    raise BadData(f'{content.path}: categorical rows have one axis, these are '
                  f'{text_of_shape(shape)}: give letters\' numbers as [rows, columns]')
  parts, rule = _parts(name, content, cache_dir, split)
  labels = [t.labels for t in content.tables.values()]
  given = [v for v in labels if v is not None]
  if len(given) not in (0, len(labels)):
    raise BadData(f'{content.path}: some splits have labels and some have none: give them to all, '
                  'or to none')
  num_classes = (max(len(content.classes), 1 + max(int(v.max()) for v in given))
                 if given else None)
  missing = scan.missing or (kind == 'categorical' and scan.high == len(content.alphabet) > 0)
  spec = Spec(
    name=name.text, shape=shape, kind=kind, levels=levels, alphabet=content.alphabet, low=low,
    high=high, rows={split: parts[split].num_rows for split in SPLITS}, num_classes=num_classes,
    classes=content.classes, missing=missing, sha256=content.sha256, split=rule,
    path=str(content.path), remarks=content.remarks)
  parts = _weighted(name, content, parts, cache_dir)
  own = Own(spec._replace(weighted=parts['train'].weights is not None), parts, content.decode)
  return own._replace(spec=_scaled(name, own))


# Kinds.


class _Scan(NamedTuple):
  low: float = np.inf
  high: float = -np.inf
  whole: bool = True
  missing: bool = False
  integer: bool = True  # of an integer or boolean type
  dtype: Any = None


def _scan_all(content: Content) -> _Scan:
  """Least and greatest value, whether all are whole, whether some are missing.

  Pictures are not decoded for it.

  Raises:
    BadData: an infinite value, or one that float32 does not hold; the message names its row.
  """
  found = _Scan()
  for split, table in content.tables.items():
    if isinstance(table.rows, Records):
      return _Scan(0, 255, True, False, True, table.rows.dtype)
    rows = table.rows
    found = found._replace(integer=rows.dtype.kind in 'iub', dtype=rows.dtype)
    bytes_of_row = int(np.prod(rows.shape[1:])) * rows.dtype.itemsize
    for chunk in base.chunks(len(rows), bytes_of_row):
      x = np.asarray(rows[chunk])
      masked = np.zeros(x.shape, bool) if table.mask is None else np.asarray(
        table.mask[chunk]).astype(bool)
      if x.dtype.kind == 'f':
        if (bad := (np.abs(x) > _LARGEST_REAL) & ~masked).any():
          row = chunk.start + int(np.argmax(bad.reshape(len(x), -1).any(1)))
          what = ('an infinite value: mend or remove the row' if np.isinf(x[bad]).any() else
                  'a value beyond those of float32: divide the rows by a constant')
          raise BadData(f'{content.path}' + f', {split}' * (split != 'all')
                        + f': {table.where(row)} has {what}')
        masked |= np.isnan(x)
      if masked.any():
        found = found._replace(missing=True)
        x = x[~masked]
      if x.size:
        whole = found.whole and (x.dtype.kind != 'f' or bool((x == np.floor(x)).all()))
        found = found._replace(low=min(found.low, float(x.min())),
                               high=max(found.high, float(x.max())), whole=whole)
  if found.low > found.high:
    raise BadData(f'{content.path}: every value is missing')
  return found


def _kind(name: Name, content: Content, scan: _Scan) -> Any:
  asked = name.option('kind')
  zeros_and_ones = scan.whole and scan.low >= 0 and scan.high <= 1
  if asked and asked != content.kind:
    if content.kind == 'categorical':
      raise BadData(f'data set {name.text}: its columns hold words, which are '
                    'categorical: leave out kind=')
    good = {'binary': zeros_and_ones, 'real': True,
            'counts': scan.whole and scan.low >= 0 and scan.high < _LARGEST_COUNT,
            'categorical': scan.whole and scan.low >= 0 and scan.high < _LARGEST_LETTER}[asked]
    if not good:
      wanted = {'binary': 'zeros and ones', 'counts': 'whole numbers from 0 below 2^31',
                'categorical': 'numbers of letters from 0'}[asked]
      raise BadData(f'{content.path}: kind={asked} needs {wanted}, but '
                    f'{_offender(content, asked)}: correct the value or leave out kind=')
    return asked
  if content.kind:
    return content.kind
  if zeros_and_ones:
    return 'binary'
  if (scan.integer and scan.low >= 0 and scan.high < _LARGEST_COUNT
      and not _are_pictures(content, scan)):
    return 'counts'
  return 'real'


def _are_pictures(content: Content, scan: _Scan) -> bool:
  shape = next(iter(content.tables.values())).rows.shape
  return len(shape) == 4 and scan.dtype == np.uint8


def _offender(content: Content, kind: str) -> str:
  """'row 3 has -1', the first value that is not of a kind."""
  for table in content.tables.values():
    for row in range(len(table.rows)):
      x = np.asarray(table.rows[row], np.float64)
      bad = ~np.isnan(x) & ((x != np.floor(x)) | (x < 0) | (
        x > {'binary': 1, 'counts': _LARGEST_COUNT - 1, 'categorical': _LARGEST_LETTER - 1}[kind]))
      if bad.any():
        return f'{table.where(row)} has {x[bad][0]:g}'
  return 'some value is not'


def _range(name: Name, content: Content, scan: _Scan, kind: str):
  """(levels, low, high) of Spec.

  Raises:
    BadData: pictures above `levels`, or a single letter.
  """
  if kind == 'categorical':
    letters = len(content.alphabet) or int(scan.high) + 1
    if letters < 2:
      raise BadData(f'{content.path}: its categorical columns have {letters} letter: at '
                    'least 2 are needed')
    return letters, None, None
  if kind == 'binary':
    return 1, None, None
  if kind == 'real' and scan.dtype == np.uint8:
    levels = name.option('levels', 255)
    if scan.high > levels and not isinstance(
        next(iter(content.tables.values())).rows, Records):
      raise BadData(f'{content.path}: levels={levels}, but a value is {scan.high:g}: give the '
                    'largest possible value as levels=')
    return levels, None, None
  return 1, scan.low, scan.high


def _scaled(name: Name, own: Own) -> Spec:
  """The spec with offset and scale of real values."""
  spec, how = own.spec, name.option('scale', 'range')
  if spec.kind != 'real' or spec.low is None or spec.high is None:
    if 'scale' in name.options:
      raise BadData(f'data set {name.text}: scale= is for real values, but these are '
                    + (spec.kind if spec.kind != 'real' else 'intensities of pictures'))
    return spec
  if how == 'none' or (how == 'range' and 'scale' not in name.options and spec.low >= 0
                       and spec.high <= 1):
    return spec
  if how == 'range':
    return spec._replace(offset=spec.low, scale=(spec.high - spec.low) or 1.0)
  total = squares = count = 0.0
  axes = tuple(range(len(spec.shape)))  # of pictures over all pixels, of vectors over rows
  for chunk in base.chunks(own.parts['train'].num_rows, 8 * int(np.prod(spec.shape))):
    part = own.parts['train']
    where = chunk if part.index is None else part.index[chunk]
    mask = None if part.table.mask is None else np.asarray(part.table.mask[where])
    x = stored(part.table.rows[where], mask, spec).astype(np.float64) - spec.low
    there = ~np.isnan(x)
    count = count + there.sum(axes)
    total = total + np.where(there, x, 0).sum(axes)
    squares = squares + np.where(there, x * x, 0).sum(axes)
  mean = total / np.maximum(count, 1)
  deviation = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0))
  deviation = np.where(deviation > 1e-6 * (spec.high - spec.low), deviation, 1.0)
  return spec._replace(offset=tuple(map(float, np.ravel(mean + spec.low))),
                       scale=tuple(map(float, np.ravel(deviation))))


# Splits and weights.


def _parts(name: Name, content: Content, cache_dir,
           before: str | None) -> tuple[dict[str, Part], str]:
  """({split: Part}, the rule in words); before: the rule in the words of an older run."""
  given = {s: t for s, t in content.tables.items() if s != 'all'}
  base_split = 'train' if given else 'all'
  table = content.tables[base_split]
  lacking = [s for s in ('valid', 'test') if s not in given]
  rule = name.option('split', 'clusters' if name.scheme == 'fasta' else
                     'random' if table.group is None else 'group')
  if before is None:
    _require_read(name, content, rule, lacking)
  elif (recorded := before.rpartition('; ')[2].partition(',')[0]) in grammar.RULES:
    rule = recorded
  if not lacking:
    return {s: Part(given[s]) for s in SPLITS}, 'as given'
  seed = name.option('seed', 0)
  valid, test = (name.option(s, 0.1) if s in lacking else 0.0 for s in ('valid', 'test'))
  words = ' and '.join(f'{s} {share:g}' for s, share in (('valid', valid), ('test', test)) if share)
  num = len(table.rows)
  try:
    if rule == 'random':
      found, text = splits_lib.random(num, valid, test, seed), f'random, {words}, seed {seed}'
    elif rule == 'blocks':
      count = name.option('blocks', 20)
      found = splits_lib.blocks(num, valid, test, seed, count)
      text = f'blocks, {count} of consecutive rows, {words}, seed {seed}'
    elif rule == 'group':
      if table.group is None:
        raise BadData('split=group needs group=, the name of an array or column whose equal values '
                      'stay together')
      found = splits_lib.together(table.group, valid, test, seed, 'groups')
      text = f'group, {name.option("group", "group")}, {words}, seed {seed}'
    else:
      if name.scheme != 'fasta':
        raise BadData('split=clusters is for sequences, fasta: use random, blocks or group')
      identity = name.option('cluster', 0.8)
      clusters = _derived(content, f'clusters-{identity}', cache_dir, lambda: weights_lib.clusters(
        np.asarray(table.rows), identity))
      found = splits_lib.together(clusters, valid, test, seed, 'clusters')
      text = f'clusters, identity {identity:g}, {words}, seed {seed}'
  except BadData as e:
    raise BadData(f'data set {name.text}: {e}') from None
  parts = {'train': Part(table, found['train'])}
  parts |= {s: Part(table, found[s]) if s in lacking else Part(given[s]) for s in ('valid', 'test')}
  kept = ' and '.join(split for split in given if split != 'train')
  return parts, f'{kept} as given; {text}' if kept else text


def _require_read(name: Name, content: Content, rule: str, lacking) -> None:
  """Raises BadData for an option about splits that the rule has no use for."""
  for option in ('split', 'seed', 'blocks', 'cluster', 'group', 'valid', 'test'):
    # Of a table group= names a column that is no data, whatever makes the splits.
    if option not in name.options or (option == 'group' and name.scheme in ('csv', 'parquet')):
      continue
    of = {'blocks': 'blocks', 'cluster': 'clusters', 'group': 'group'}.get(option, rule)
    if not lacking or (option in ('valid', 'test') and option not in lacking):
      where = 'its own splits' if not lacking else f'its own {option}'
      raise BadData(f'data set {name.text}: {option}={name.option(option)}, but {content.path} has '
                    f'{where}: leave it out')
    if of != rule:
      raise BadData(f'data set {name.text}: {option}= is read with split={of}, not with '
                    f'split={rule}')


def _weighted(name: Name, content: Content, parts: dict[str, Part], cache_dir) -> dict[str, Part]:
  """The parts with weights of their rows, where these are not all equal."""
  identity = name.option('identity')
  if identity is not None:
    if any(table.weights is not None for table in content.tables.values()):
      raise BadData(f'data set {name.text}: the file has weights: leave out identity=')
    table = content.tables['all']
    weights = _derived(content, f'neighbours-{identity}', cache_dir, lambda: 1.0 / (
      weights_lib.neighbours(np.asarray(table.rows), identity)))
    parts = {s: p._replace(weights=weights if p.index is None else weights[p.index])
             for s, p in parts.items()}
  else:
    parts = {s: p._replace(weights=None if p.table.weights is None else (
      p.table.weights if p.index is None else p.table.weights[p.index])) for s, p in parts.items()}
  known = [p.weights for p in parts.values()]
  if any(w is None for w in known) and not all(w is None for w in known):
    raise BadData(f'{content.path}: some splits have weights and some have none: give them to all, '
                  'or to none')
  for split, part in parts.items():
    if part.weights is not None and not part.weights.sum() > 0:
      raise BadData(f'{content.path}: all weights of {split} are 0')
  if all(w is None or np.all(w == w[0]) for w in known):
    return {s: p._replace(weights=None) for s, p in parts.items()}
  return parts


def _derived(content: Content, what: str, cache_dir, compute: Callable[[], np.ndarray]):
  """An array computed from the rows, kept by content."""
  key = hashlib.sha256(f'{content.sha256} {content.alphabet} {content.remarks} {what}'.encode())
  place = cache.root(cache_dir) / 'own' / key.hexdigest()[:32]
  found = cache.read(place, {'what': what})
  if found is None or 'values' not in found:
    found = {'values': compute()}
    cache.write(place, found, {'what': what})
  return found['values']


# Decoding.


def _decoded(name: Name, content: Content, cache_dir) -> Content:
  """Content whose rows are in memory, from the cache where they were decoded before."""
  options = {k: v for k, v in name.options.items()
             if k in ('size', 'fit', 'channels', 'skip', 'feature', 'label')}
  origin = json.dumps([content.sha256, name.scheme, options,
                       {s: t.rows.shape for s, t in content.tables.items()}])
  place = cache.root(cache_dir) / 'own' / hashlib.sha256(origin.encode()).hexdigest()[:32]
  found = cache.read(place, {'of': origin})
  if found is None or set(found) != set(content.tables):
    found = {split: table.rows[:] for split, table in content.tables.items()}
    cache.write(place, found, {'of': origin})
  return content._replace(tables={s: t._replace(rows=found[s])
                                  for s, t in content.tables.items()}, decode=False)


def decoded(own: Own, cache_dir: str | os.PathLike | None = None) -> Own:
  """The same with rows in memory, where reading them is work; kept in the cache by content."""
  if not own.decode:
    return own
  name = grammar.parse(own.spec.name)
  tables_of = {}
  for part in own.parts.values():
    tables_of.setdefault(id(part.table), part.table)
  numbered = {f'table{i}': table for i, table in enumerate(tables_of.values())}
  content = _decoded(name, Content(numbered, own.spec.sha256 or '', pathlib.Path(own.spec.path or
                                                                                 '.')), cache_dir)
  of_id = dict(zip(tables_of, content.tables.values(), strict=True))
  return Own(own.spec, {s: p._replace(table=of_id[id(p.table)]) for s, p in own.parts.items()},
             False)
