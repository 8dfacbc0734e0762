"""Data sets by name: those that come with the project, and by the grammar of grammar.py one's own.

| name            | train / valid / test  | image   | levels | origin                              |
|-----------------|-----------------------|---------|--------|-------------------------------------|
| digits          | 1297 / 200 / 300      | 8x8x1   | 16     | scikit-learn; own fixed split       |
| grid25          | 100000 / 2500 / 2500  | 2x2x1   | 255    | points of 25 Gaussians, see _points |
| ring8           | 100000 / 2500 / 2500  | 2x2x1   | 255    | points of 8 Gaussians, see _points  |
| mnist           | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; valid: last 10000 of train    |
| fashion_mnist   | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; the same                      |
| binarized_mnist | 50000 / 10000 / 10000 | 28x28x1 | 1      | tfds; Larochelle and Murray (2011)  |
| stacked_digits  | 10000 / 1000 / 1000   | 8x8x3   | 16     | three digits as channels, see below |
| clusters        | 5000 / 1000 / 2000    | 10x10x1 | 1      | three clusters, see _clusters       |

`spec` says what a data set is, before anything is decoded as far as its format allows; `load` gives
its rows, `source` its training rows one by one. Records of the tfds sets are read through `tfds`
from array_record files (no TensorFlow needed) on the first load only; cache.py keeps what was
decoded, and neither tfds nor the data directory is needed again.
"""

import contextlib
import difflib
import gzip
import importlib.metadata
import os
from collections.abc import Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from gen_models.data import prepared
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


def _format(shape, levels, rows, num_classes=10) -> Spec:
  return Spec('', (*shape, 1) if len(shape) == 2 else shape, levels=levels,
              kind='real' if levels > 1 else 'binary', num_classes=num_classes,
              rows=dict(zip(('train', 'valid', 'test'), rows, strict=True)))


class Modes(NamedTuple):
  """Means [M, D] of equally likely Gaussians, and their common standard deviation."""

  mean_MD: np.ndarray
  sigma: float


_ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = {
    'grid25': Modes(2.0 * np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]), 0.05),
    'ring8': Modes(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1), 0.01),
}
_MNIST = (50_000, 10_000, 10_000)
FORMATS = {
    'digits': _format((8, 8), 16, (1297, 200, 300)),
    'grid25': _format((2, 2), 255, (100_000, 2500, 2500), 25),
    'ring8': _format((2, 2), 255, (100_000, 2500, 2500), 8),
    'stacked_digits': _format((8, 8, 3), 16, (10_000, 1000, 1000), 1000),
    'clusters': _format((10, 10), 1, (5000, 1000, 2000), 3),
    'mnist': _format((28, 28), 255, _MNIST),
    'fashion_mnist': _format((28, 28), 255, _MNIST),
    'binarized_mnist': _format((28, 28), 1, _MNIST, None),
}


def names() -> tuple[str, ...]:
  """The names of the sets that come with the project."""
  return (*BUILT_IN, *PREPARED)


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
  if name in BUILT_IN:
    return BUILT_IN[name]()
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
  is nothing at the relative path of a name, the absolute one of the description is tried.
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
    as `load`, but a decoded copy in the cache does not stand in for the records.
  """
  if is_own(name):
    return _opened(name, data_dir).source()
  check_name(name, names())
  if name in BUILT_IN:
    train = BUILT_IN[name]().train
    if train.labels is None:
      return [{'image': x} for x in train.rows]
    return [{'image': x, 'label': y} for x, y in zip(train.rows, train.labels, strict=True)]
  recipe, data_dir = PREPARED[name], find_data_dir(data_dir)
  path = recipe.path(name, data_dir)
  if prepared.info_of(name, data_dir) is None:
    raise MissingData(f'{name} {recipe.version}: no prepared data in {path} to stream; set '
                      f'TFDS_DATA_DIR or pass --data_dir, or python -m launch.prepare {name}')
  import tensorflow_datasets as tfds  # slow to import
  split = 'train' if 'validation' in recipe.splits else f'train[:-{recipe.held_out}]'
  builder: Any = tfds.builder_from_directory(path)  # its decorators hide what its methods take
  return builder.as_data_source(split)


def _opened(name, data_dir=None, cache_dir=None) -> Any:
  """own.Own of a name; at its remembered place where there is nothing at its own."""
  from gen_models.data import own  # its readers import what most runs never need
  try:
    return own.opened(name, data_dir, cache_dir)
  except FileNotFoundError:
    known = _remembered.get(name)
    if known is None or known.path is None or name.startswith('tfds:'):
      raise
    if not os.path.exists(known.path):
      raise
    found = own.opened(_at(name, known.path), data_dir, cache_dir)
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


def _digits():
  """1797 scikit-learn digits in one fixed shuffled order (RandomState streams never change)."""
  # The file that sklearn.datasets.load_digits reads: to import scikit-learn takes a second.
  package = importlib.metadata.distribution('scikit-learn')
  with gzip.open(str(package.locate_file('sklearn/datasets/data/digits.csv.gz'))) as file:
    rows = np.loadtxt(file, delimiter=',', dtype=np.int32)
  rows = rows[np.random.RandomState(0).permutation(len(rows))]
  every = Arrays(rows[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1), rows[:, -1])
  train, rest = _cut(every, 1297)
  return Dataset('digits', train, *_cut(rest, 200), levels('digits'), spec('digits'))


def stacked_digits() -> Dataset:
  """Three digits of one split as the channels of a picture, the same ones every time.

  The label is 100 y_1 + 10 y_2 + y_3: a model that has all of the data's modes draws 1000 classes
  (the stacked MNIST of Che et al., 2017, made from the embedded digits).
  """
  digits, draws = _digits(), np.random.RandomState(0)
  found = {}
  for split, num in FORMATS['stacked_digits'].rows.items():
    arrays = getattr(digits, split)
    index = draws.randint(len(arrays.rows), size=(num, 3))
    found[split] = Arrays(np.ascontiguousarray(arrays.rows[index, :, :, 0].transpose(0, 2, 3, 1)),
                          (arrays.labels[index] @ [100, 10, 1]).astype(np.int32))
  return Dataset('stacked_digits', **found, levels=levels('stacked_digits'),
                 spec=spec('stacked_digits'))


def _grid25() -> Dataset:
  """Points N((2i, 2j), 0.05^2 I), i and j in -2 .. 2, labelled 5i + j + 12 (Lin et al., 2018)."""
  return _points('grid25', MODES['grid25'])


def _ring8() -> Dataset:
  """Points N((cos(2 pi i / 8), sin(2 pi i / 8)), 0.01^2 I), labelled i (Lin et al., 2018)."""
  return _points('ring8', MODES['ring8'])


def _points(name: str, modes: Modes) -> Dataset:
  """Points of equally likely Gaussians, labelled by their mode.

  The two rows of an "image" are the coordinates, as fixed-point numbers of two bytes that `points`
  reads: a resolution of 1.5e-4. There 7 points of grid25's test and 6 of its valid coincide with
  one of train, as 7.4 of 2,500 independent draws are expected to: the 4,000 training points of a
  mode lie among 1.3 million cells, 4 pi (sigma / resolution)^2. Without them a split would no
  longer be one of independent draws, and no score looks for a point again. Of ring8, whose modes
  are fewer and narrower, 468 and 483 do.
  """
  draws = np.random.RandomState(0)
  labels = draws.randint(len(modes.mean_MD), size=105_000).astype(np.int32)
  x_ND = modes.mean_MD[labels] + modes.sigma * draws.standard_normal((len(labels), 2))
  images = np.round((x_ND + 5) / 10 * 65535).astype('>u2').view(np.uint8).reshape(-1, 2, 2, 1)
  train, rest = _cut(Arrays(images, labels), 100_000)
  return Dataset(name, train, *_cut(rest, 2500), levels(name), spec(name))


def _clusters() -> Dataset:
  """Rows of 100 bits in three clusters far apart, 60, 30 and 10 % of the rows, labelled 0 to 2.

  The centre of a cluster is a fair coin for each column; of half of its rows, twelve columns that
  are the cluster's own are the other way round; and every bit is flipped with probability 0.06. Two
  centres differ in about 50 columns, two rows of a cluster in 17: Gibbs chains of a machine that
  has learned them hardly ever cross. Of the kind on which Bereux et al. (2025), Fast training and
  sampling of restricted Boltzmann machines, show where persistent chains fail.
  """
  draws = np.random.RandomState(0)
  centres_KV = draws.randint(2, size=(3, 100))
  turned_KV = np.stack([draws.permutation(100) < 12 for _ in range(3)])
  found = {}
  for split, num in FORMATS['clusters'].rows.items():
    labels = draws.choice(3, size=num, p=[0.6, 0.3, 0.1]).astype(np.int32)
    turned_NV = turned_KV[labels] & draws.randint(2, size=(num, 1)).astype(bool)
    flipped_NV = draws.uniform(size=(num, 100)) < 0.06
    rows_NV = centres_KV[labels] ^ turned_NV ^ flipped_NV
    found[split] = Arrays(rows_NV.astype(np.uint8).reshape(-1, 10, 10, 1), labels)
  return Dataset('clusters', **found, levels=levels('clusters'), spec=spec('clusters'))


def points(x_NV):
  """Points [N, 2] of the images of grid25 and ring8 as vectors of bytes / 255, [N, 4]."""
  return 10 * (256 * x_NV[:, ::2] + x_NV[:, 1::2]) / 257 - 5


# Need no file.
BUILT_IN = {'digits': _digits, 'grid25': _grid25, 'ring8': _ring8,
            'stacked_digits': stacked_digits, 'clusters': _clusters}


def _cut(arrays, at):
  labels = (None, None) if arrays.labels is None else (arrays.labels[:at], arrays.labels[at:])
  return Arrays(arrays.rows[:at], labels[0]), Arrays(arrays.rows[at:], labels[1])
