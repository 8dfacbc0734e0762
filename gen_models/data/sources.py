"""Data sets by name: those that come with the project, and by the grammar of grammar.py one's own.

| name            | train / valid / test  | image   | levels | origin                              |
|-----------------|-----------------------|---------|--------|-------------------------------------|
| digits          | 1297 / 200 / 300      | 8x8x1   | 16     | scikit-learn; own fixed split       |
| grid25          | 100000 / 2500 / 2500  | 2x2x1   | 255    | points of 25 Gaussians              |
| ring8           | 100000 / 2500 / 2500  | 2x2x1   | 255    | points of 8 Gaussians               |
| mnist           | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; valid: last 10000 of train    |
| fashion_mnist   | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; the same                      |
| mnist_60000     | 60000 / 10000 / 10000 | 28x28x1 | 255    | mnist; valid is in train too        |
| fashion_mnist_60000   | 60000 / .. | 28x28x1 | 255    | fashion_mnist; the same             |
| binarized_mnist | 50000 / 10000 / 10000 | 28x28x1 | 1      | tfds; Larochelle and Murray (2011)  |
| stacked_digits  | 10000 / 1000 / 1000   | 8x8x3   | 16     | three digits as channels            |
| stacked_mnist   | 128000 / 10000 / 10000| 28x28x3 | 255    | three images of mnist as channels   |
| clusters        | 5000 / 1000 / 2000    | 10x10x1 | 1      | three clusters                      |

Those that need no file are made in builtin.py.

`spec` says what a data set is, before anything is decoded as far as its format allows; `load` gives
its rows, `source` its training rows one by one. Records of the tfds sets are read through `tfds`
from array_record files (no TensorFlow needed) on the first load only; cache.py keeps what was
decoded, and neither tfds nor the data directory is needed again.
"""

import contextlib
import difflib
import os
from collections.abc import Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from gen_models.data import builtin, prepared
from gen_models.data.builtin import FORMATS, JOINED, STACKS
from gen_models.data.grammar import is_own
from gen_models.data.prepared import PREPARED, MissingData, find_data_dir
from gen_models.data.specs import BadData, Spec
from gen_models.data.weights import Alias, alias_table


class Arrays(NamedTuple):
  """Rows of a split: NumPy on the host, or resident on the device.

  Attributes:
    rows: [N, *shape], as specs.py says; of pictures uint8 [N, height, width, channels].
    labels: int32 [N], or None.
    weights: float32 [N]: rows are drawn, and scores averaged, in proportion to them; None where
      all are equal.
    alias: tables for drawing rows in proportion, of train.
  """

  rows: Any
  labels: Any = None
  weights: Any = None
  alias: Alias | None = None

  @property
  def images(self):
    """The rows."""
    return self.rows


class Window(NamedTuple):
  """The rows of T consecutive steps of a streamed data set, in order."""

  rows: Any  # [T, B, *shape]
  labels: Any  # int32 [T, B], or None
  first: Any  # int32 scalar, of NumPy or of JAX: the step of row 0

  @property
  def images(self):
    """The rows."""
    return self.rows


class Dataset(NamedTuple):
  """Three splits, the stored value that stands for 1.0, and all else that is known of them."""

  name: str
  train: Arrays
  valid: Arrays
  test: Arrays
  levels: int
  spec: Spec | None = None

  @property
  def about(self) -> Spec:
    """`spec`; of a data set made without one, what its arrays say."""
    if self.spec is not None:
      return self.spec
    return Spec(self.name, tuple(self.train.rows.shape[1:]), levels=self.levels, rows={
      split: len(getattr(self, split).rows) for split in ('train', 'valid', 'test')})

  @property
  def remarks(self) -> list[str]:
    """Remarks that a user should read before training on these data, one line each."""
    spec = self.about
    return [*(f'data set {spec.name}: {line}' for line in spec.remarks),
            *(f'data set {spec.name}: {count} of {spec.rows[split]} rows of {split} are rows of '
              'train as well: a score of them flatters a model that remembers'
              for split, count in spec.repeated.items() if count),
            *([f'data set {spec.name}: rows have weights, by which they are drawn in training and '
               'averaged in validation metrics and scores'] if spec.weighted else ())]


def names() -> tuple[str, ...]:
  """The names of the sets that come with the project."""
  return tuple(dict.fromkeys((*builtin.SETS, *PREPARED, *JOINED, *STACKS)))


def made_of(name: str) -> str:
  """The prepared set whose rows a set has; its own name where it is made of no other."""
  return JOINED.get(name, STACKS.get(name, name))


def load(name: str, data_dir: str | os.PathLike | None = None,
         cache_dir: str | os.PathLike | None = None, *, limit: int | None = None) -> Dataset:
  """A data set in host memory.

  Args:
    name: one of `names()`, or own data by the grammar of grammar.py.
    data_dir: where tfds sets lie; default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    cache_dir: where decoded arrays are kept; default $XDG_CACHE_HOME/gen_models, else
      ~/.cache/gen_models.
    limit: of own data that are streamed, the most bytes of train to hold: its first rows, from
      which a model is initialised.

  Raises:
    ValueError: unknown name; the message offers near ones.
    BadData: own data that are not what their name says.
    MissingData: neither cached nor prepared; the message says where it looked and what to do.
    FileNotFoundError: there is no such file.
  """
  if is_own(name):
    return _own_dataset(name, data_dir, cache_dir, limit)
  check_name(name, names())
  if name in builtin.SETS:
    return _made(name, builtin.SETS[name]())
  if name in STACKS:
    grey = load(STACKS[name], data_dir, cache_dir)
    return _made(name, builtin.stacked(name, {
      split: (arrays.rows, arrays.labels) for split, arrays in (
        ('train', grey.train), ('valid', grey.valid), ('test', grey.test))}))
  if name in JOINED:
    joined = with_validation(load(JOINED[name], data_dir, cache_dir))
    rows = {split: len(getattr(joined, split).rows) for split in ('train', 'valid', 'test')}
    return joined._replace(name=name, spec=joined.about._replace(
      name=name, rows=rows, repeated={'valid': rows['valid']}))
  recipe = PREPARED[name]
  arrays = prepared.read(name, find_data_dir(data_dir), cache_dir)
  splits = {split: Arrays(arrays[f'{split}-images'], arrays.get(f'{split}-labels'))
            for split in recipe.splits}
  if 'validation' in splits:
    train, valid = splits['train'], splits['validation']
  else:
    train, valid = _cut(splits['train'], -recipe.held_out)
  test = splits['test']
  rows = {'train': len(train.rows), 'valid': len(valid.rows), 'test': len(test.rows)}
  return Dataset(name, train, valid, test, levels(name), spec(name)._replace(
    rows=rows, shape=tuple(train.rows.shape[1:])))


def _made(name: str, splits: builtin.Splits) -> Dataset:
  return Dataset(name, **{split: Arrays(*found) for split, found in splits.items()},
                 levels=levels(name), spec=spec(name))


def spec(name: str, data_dir: str | os.PathLike | None = None,
         cache_dir: str | os.PathLike | None = None) -> Spec:
  """The description of a data set.

  Of own data the files are opened; where they are gone, the description that `remember` was given
  stands in.

  Raises:
    as `load`.
  """
  if name in _described:
    return _described[name]
  if is_own(name):
    try:
      return _opened(name, data_dir, cache_dir).spec
    except FileNotFoundError:
      if name in _remembered:
        return _remembered[name]
      raise
  check_name(name, names())
  return FORMATS[name]._replace(name=name)


def remember(known: Spec) -> None:
  """Keeps the description of own data that may be gone, or lie elsewhere than their name says.

  A run directory has it, so that a run that was copied to another place still answers. Where there
  is nothing at the relative path of a name, the absolute one of the description is tried. Splits
  are made by the rule of the description, also where the default has changed since.
  """
  _remembered[known.name] = known


@contextlib.contextmanager
def described(known: Spec | None) -> Generator[None, None, None]:
  """Within it `spec` answers from this description, whatever lies where the name points to."""
  before = dict(_described)
  if known is not None:
    _described[known.name] = known
  try:
    yield
  finally:
    _described.clear()
    _described.update(before)


def load_described(known: Spec, data_dir: str | os.PathLike | None = None) -> Dataset:
  """The data of a description: by their name, else at the absolute path where they were.

  Raises:
    FileNotFoundError: they are at neither.
    BadData: other data are there.
  """
  remember(known)
  dataset = None
  with contextlib.suppress(FileNotFoundError):
    dataset = load(known.name, data_dir)
  if dataset is not None and dataset.about.sha256 == known.sha256:
    return dataset
  if known.path and os.path.exists(known.path) and not known.name.startswith('tfds:'):
    there = load(_at(known.name, known.path), data_dir)
    if there.about.sha256 == known.sha256:
      return there._replace(name=known.name, spec=there.about._replace(name=known.name))
    dataset = dataset or there
  if dataset is None:
    raise FileNotFoundError(f'data set {known.name}: found neither under this name nor '
                            f'at {known.path}, where it was: bring it back, or run the command '
                            'from the directory that has it')
  raise BadData(f'data set {known.name}: the data have changed: sha256 was '
                f'{str(known.sha256)[:12]} and is now {str(dataset.about.sha256)[:12]}: bring back '
                'the file that the run was trained on, or train a new run on this one')


def shapes(name: str) -> Arrays:
  """Shapes and types of the training split, without its rows."""
  known = spec(name)
  num = known.rows['train']

  def column(there, *shape, dtype: Any = np.float32) -> Any:
    return jax.ShapeDtypeStruct((num, *shape), dtype) if there else None

  return Arrays(column(True, *known.shape, dtype=known.dtype),
                column(known.num_classes is not None, dtype=np.int32), column(known.weighted),
                Alias(column(True), column(True, dtype=np.int32)) if known.weighted else None)


def _at(name: str, path: str) -> str:
  """The name with another path."""
  _, mark, options = name.partition('?')
  return f'{name.partition(":")[0]}:{path}{mark}{options}'


_remembered: dict[str, Spec] = {}
_described: dict[str, Spec] = {}


def levels(name: str) -> int:
  """The stored value that stands for 1.0 in a data set."""
  return spec(name).levels


def shape(name: str) -> tuple[int, ...]:
  """Of a row as a model sees it: (height, width) of grey pictures, (height, width, channels), (V,).

  Of categorical rows (columns, letters).
  """
  return spec(name).seen_shape


def num_train(name: str) -> int:
  """How many rows the training split of a data set has."""
  return spec(name).rows['train']


def source(name: str, data_dir: str | os.PathLike | None = None):
  """The training split as random-access records, not decoded beforehand: for stream.Stream.

  Raises:
    as `load`, but a decoded copy in the cache does not stand in for the records, except of stacks.
  """
  if is_own(name):
    return _opened(name, data_dir).source()
  check_name(name, names())
  if name in builtin.SETS or name in STACKS:
    train = load(name, data_dir).train
    return [{'image': x, 'label': y} for x, y in zip(train.rows, train.labels, strict=True)]
  origin, data_dir = made_of(name), find_data_dir(data_dir)
  recipe = PREPARED[origin]
  path = recipe.path(origin, data_dir)
  if prepared.info_of(origin, data_dir) is None:
    raise MissingData(f'{origin} {recipe.version}: no prepared data in {path} to stream; set '
                      f'TFDS_DATA_DIR or pass --data_dir, or python -m launch.prepare {origin}')
  import tensorflow_datasets as tfds  # slow to import
  whole = 'validation' in recipe.splits or name in JOINED
  split = 'train' if whole else f'train[:-{recipe.held_out}]'
  builder: Any = tfds.builder_from_directory(path)  # its decorators hide what its methods take
  return builder.as_data_source(split)


def _opened(name, data_dir=None, cache_dir=None) -> Any:
  """own.Own of a name; at its remembered place where there is nothing at its own."""
  from gen_models.data import own  # its readers import what most runs never need
  known = _remembered.get(name)
  split = None if known is None else known.split
  try:
    return own.opened(name, data_dir, cache_dir, split)
  except FileNotFoundError:
    if known is None or known.path is None or name.startswith('tfds:'):
      raise
    if not os.path.exists(known.path):
      raise
    found = own.opened(_at(name, known.path), data_dir, cache_dir, split)
    return found._replace(spec=found.spec._replace(name=name))


def _own_dataset(name, data_dir, cache_dir, limit) -> Dataset:
  from gen_models.data import own as own_lib, splits
  own = _opened(name, data_dir, cache_dir)
  if limit is None:
    _require_memory(own)
    own = own_lib.decoded(own, cache_dir)
  found = {}
  for split in ('train', 'valid', 'test'):
    first = None if limit is None or split != 'train' else max(
      1, limit // max(1, int(np.prod(own.spec.shape)) * own.spec.dtype.itemsize))
    rows, labels, weights = own.rows(split, first), own.labels(split), own.weights(split)
    if first is not None:
      labels = None if labels is None else labels[:first]
      weights = None if weights is None else weights[:first]
    drawn = weights is not None and split == 'train' and limit is None
    found[split] = Arrays(rows, labels, None if weights is None else weights.astype(np.float32),
                          alias_table(weights) if drawn else None)
  repeated = splits.repeated(lambda split: found[split].rows, found)
  return Dataset(name, **found, levels=own.spec.levels, spec=own.spec._replace(repeated=repeated))


def _require_memory(own) -> None:
  """Raises BadData where memory does not hold the rows."""
  needed = sum(own.spec.rows.values()) * int(np.prod(own.spec.shape)) * own.spec.dtype.itemsize
  try:
    free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (ValueError, OSError):
    return
  # What the system caches of files it gives back, so free pages are not all that there is.
  total = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  if needed > max(free, total // 2):
    raise BadData(f'data set {own.spec.name}: its rows need {needed / 1e9:,.1f} GB of memory, and '
                  f'this machine has {total / 1e9:,.1f} GB: train with --stream')


def with_validation(dataset: Dataset) -> Dataset:
  """Train and valid joined for training, as published protocols that tune nothing do.

  The tfds sets get back their original order. `valid` stays what it was: no longer held out.
  """
  train, valid = dataset.train, dataset.valid

  def joined(x, y):
    return None if x is None or y is None else np.concatenate([x, y])

  weights = joined(train.weights, valid.weights)
  return dataset._replace(train=Arrays(
    joined(train.rows, valid.rows), joined(train.labels, valid.labels), weights,
    None if weights is None else alias_table(weights)))


def check_name(name: str, known: tuple[str, ...]) -> None:
  """Raises ValueError, with near matches, if `name` is not known."""
  if name not in known:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(known)}'
    raise ValueError(f'unknown data set {name!r}; {hint}; your own: npz:PATH, npy:PATH, '
                     'folder:PATH, fasta:PATH, csv:PATH, parquet:PATH, tfds:NAME')


def _cut(arrays, at):
  labels = (None, None) if arrays.labels is None else (arrays.labels[:at], arrays.labels[at:])
  return Arrays(arrays.rows[:at], labels[0]), Arrays(arrays.rows[at:], labels[1])
