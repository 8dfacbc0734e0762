"""Data sets by name, decoded once and kept as raw uint8 arrays.

| name            | train / valid / test  | image   | levels | origin                              |
|-----------------|-----------------------|---------|--------|-------------------------------------|
| digits          | 1297 / 200 / 300      | 8x8x1   | 16     | scikit-learn; own fixed split       |
| grid25          | 100000 / 2500 / 2500  | 2x2x1   | 255    | points of 25 Gaussians, see _grid25 |
| mnist           | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; valid: last 10000 of train    |
| fashion_mnist   | 50000 / 10000 / 10000 | 28x28x1 | 255    | tfds; the same                      |
| binarized_mnist | 50000 / 10000 / 10000 | 28x28x1 | 1      | tfds; Larochelle and Murray (2011)  |

Records are read through `tfds` from array_record files (no TensorFlow needed) on the first load
only; cache.py keeps what was decoded, and neither tfds nor the data directory is needed again.
"""

import difflib
import gzip
import importlib.metadata
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from gen_models.data import cache


class Arrays(NamedTuple):
  """Rows of a data set: NumPy on the host, or resident on the device."""

  images: np.ndarray  # uint8 [N, height, width, channels]
  labels: np.ndarray | None = None  # int32 [N]


class Window(NamedTuple):
  """The rows of T consecutive steps of a streamed data set, in order."""

  images: np.ndarray  # uint8 [T, B, height, width, channels]
  labels: np.ndarray | None  # int32 [T, B]
  first: Any  # int32 scalar, of NumPy or of JAX: the step of row 0


class Dataset(NamedTuple):
  """Three splits and the uint8 value that stands for 1.0."""

  name: str
  train: Arrays
  valid: Arrays
  test: Arrays
  levels: int


class MissingData(FileNotFoundError):
  """A data set is neither cached nor prepared where it was looked for."""


class Format(NamedTuple):
  """The properties of a data set that are known before it is decoded."""

  shape: tuple[int, int]  # height and width of an image
  levels: int  # the uint8 value that stands for 1.0
  num_train: int  # images of the training split


FORMATS = {
    'digits': Format((8, 8), 16, 1297),
    'grid25': Format((2, 2), 255, 100_000),
    'mnist': Format((28, 28), 255, 50_000),
    'fashion_mnist': Format((28, 28), 255, 50_000),
    'binarized_mnist': Format((28, 28), 1, 50_000),
}


class Prepared(NamedTuple):
  """How an official tfds set becomes a Dataset."""

  version: str
  splits: tuple[str, ...]  # as tfds names them
  held_out: int = 10000  # rows at the end of train that are valid where tfds has no such split

  def path(self, name: str, data_dir: pathlib.Path) -> pathlib.Path:
    return data_dir / name / self.version


PREPARED = {
    'mnist': Prepared('3.0.1', ('train', 'test')),
    'fashion_mnist': Prepared('3.0.1', ('train', 'test')),
    'binarized_mnist': Prepared('1.0.0', ('train', 'validation', 'test')),
}


def names() -> tuple[str, ...]:
  """Every name that `load` knows."""
  return (*BUILT_IN, *PREPARED)


def load(name: str, data_dir: str | os.PathLike | None = None,
         cache_dir: str | os.PathLike | None = None) -> Dataset:
  """A data set in host memory.

  Args:
    name: one of `names()`.
    data_dir: where tfds sets lie; default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    cache_dir: where decoded arrays are kept; default $XDG_CACHE_HOME/gen_models, else
      ~/.cache/gen_models.

  Raises:
    ValueError: unknown name; the message offers near ones.
    MissingData: neither cached nor prepared; the message says where it looked and what to do.
  """
  check_name(name, names())
  if name in BUILT_IN:
    return BUILT_IN[name]()
  recipe = PREPARED[name]
  splits = _splits(name, recipe, find_data_dir(data_dir), cache_dir)
  if 'validation' in splits:
    train, valid = splits['train'], splits['validation']
  else:
    train, valid = _cut(splits['train'], -recipe.held_out)
  return Dataset(name, train, valid, splits['test'], levels(name))


def levels(name: str) -> int:
  """The uint8 value that stands for 1.0 in a data set."""
  return _format(name).levels


def shape(name: str) -> tuple[int, int]:
  """Height and width of the images of a data set."""
  return _format(name).shape


def num_train(name: str) -> int:
  """How many images the training split of a data set has."""
  return _format(name).num_train


def _format(name):
  check_name(name, names())
  return FORMATS[name]


def source(name: str, data_dir: str | os.PathLike | None = None):
  """The training split as random-access records, not decoded beforehand: for stream.Stream.

  Raises:
    as `load`, but a decoded copy in the cache does not stand in for the records.
  """
  check_name(name, names())
  if name in BUILT_IN:
    train = BUILT_IN[name]().train
    if train.labels is None:
      return [{'image': x} for x in train.images]
    return [{'image': x, 'label': y} for x, y in zip(train.images, train.labels, strict=True)]
  recipe, data_dir = PREPARED[name], find_data_dir(data_dir)
  path = recipe.path(name, data_dir)
  if _info(name, recipe, data_dir) is None:
    raise MissingData(f'{name} {recipe.version}: no prepared data in {path} to stream; set '
                      f'TFDS_DATA_DIR or pass --data_dir, or python -m launch.prepare {name}')
  import tensorflow_datasets as tfds  # slow to import
  split = 'train' if 'validation' in recipe.splits else f'train[:-{recipe.held_out}]'
  builder: Any = tfds.builder_from_directory(path)  # its decorators hide what its methods take
  return builder.as_data_source(split)


def with_validation(dataset: Dataset) -> Dataset:
  """Train and valid joined for training, as published protocols that tune nothing do.

  The tfds sets get back their original order. `valid` stays what it was: no longer held out.
  """
  train, valid = dataset.train, dataset.valid
  labels = (None if train.labels is None or valid.labels is None
            else np.concatenate([train.labels, valid.labels]))
  return dataset._replace(train=Arrays(np.concatenate([train.images, valid.images]), labels))


def find_data_dir(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
  """The directory given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets (the default of tfds)."""
  chosen = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(chosen).expanduser()


def check_name(name: str, known: tuple[str, ...]) -> None:
  """Raises ValueError, with near matches, if `name` is not known."""
  if name not in known:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(known)}'
    raise ValueError(f'unknown data set {name!r}; {hint}')


def _digits():
  """1797 scikit-learn digits in one fixed shuffled order (RandomState streams never change)."""
  # The file that sklearn.datasets.load_digits reads: to import scikit-learn takes a second.
  package = importlib.metadata.distribution('scikit-learn')
  with gzip.open(str(package.locate_file('sklearn/datasets/data/digits.csv.gz'))) as file:
    rows = np.loadtxt(file, delimiter=',', dtype=np.int32)
  rows = rows[np.random.RandomState(0).permutation(len(rows))]
  every = Arrays(rows[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1), rows[:, -1])
  train, rest = _cut(every, 1297)
  return Dataset('digits', train, *_cut(rest, 200), levels('digits'))


def _grid25():
  """Points N((2i, 2j), 0.05^2 I), i and j in -2 .. 2, labelled 5i + j + 12 (Lin et al., 2018).

  The two rows of an "image" are the coordinates, as fixed-point numbers of two bytes that `points`
  reads: a resolution of 1.5e-4. There 7 points of test and 6 of valid coincide with one of train:
  all are independent draws, and no score looks for a point again.
  """
  draws = np.random.RandomState(0)
  labels = draws.randint(25, size=105_000).astype(np.int32)
  x_ND = 2.0 * np.stack([labels // 5 - 2, labels % 5 - 2], axis=1)
  x_ND = x_ND + 0.05 * draws.standard_normal(x_ND.shape)
  images = np.round((x_ND + 5) / 10 * 65535).astype('>u2').view(np.uint8).reshape(-1, 2, 2, 1)
  train, rest = _cut(Arrays(images, labels), 100_000)
  return Dataset('grid25', train, *_cut(rest, 2500), levels('grid25'))


def points(x_NV):
  """grid25's points [N, 2] of its images as vectors of bytes / 255, [N, 4]."""
  return 10 * (256 * x_NV[:, ::2] + x_NV[:, 1::2]) / 257 - 5


BUILT_IN = {'digits': _digits, 'grid25': _grid25}  # need no file


def _cut(arrays, at):
  labels = (None, None) if arrays.labels is None else (arrays.labels[:at], arrays.labels[at:])
  return Arrays(arrays.images[:at], labels[0]), Arrays(arrays.images[at:], labels[1])


def _splits(name, recipe, data_dir, cache_dir):
  """{tfds split: Arrays}, cached unless data_dir holds something else."""
  info = _info(name, recipe, data_dir)
  folder = cache.root(cache_dir) / name / recipe.version
  arrays = cache.read(folder, origin=info)
  if arrays is None:
    if info is None:
      raise MissingData(
          f'{name} {recipe.version}: no prepared data in {recipe.path(name, data_dir)} and no '
          f'decoded copy in {folder}. If you have it, set TFDS_DATA_DIR or pass --data_dir; to '
          f"download it: pip install 'gen_models[prepare]' && python -m launch.prepare {name}")
    arrays = _decode(recipe.path(name, data_dir), name, recipe.splits)
    cache.write(folder, arrays, origin=info)
  return {split: Arrays(arrays[f'{split}-images'], arrays.get(f'{split}-labels'))
          for split in recipe.splits}


def _info(name, recipe, data_dir):
  """{split: [rows, bytes]} as tfds recorded them; None where no set is prepared."""
  path = recipe.path(name, data_dir) / 'dataset_info.json'
  if not path.exists():
    return None
  try:
    info = json.loads(path.read_text(encoding='utf-8'))
    rows = {split['name']: [sum(map(int, split['shardLengths'])), int(split['numBytes'])]
            for split in info['splits']}
  except (ValueError, LookupError, TypeError, AttributeError) as e:
    raise _damaged(path, name, e) from e
  if info.get('fileFormat') != 'array_record':
    raise MissingData(
        f'{name} {recipe.version} in {path.parent} is stored as {info.get("fileFormat")}, which '
        f'only TensorFlow reads; prepare it again as array_record in another directory: '
        f'python -m launch.prepare {name} --data_dir=DIR')
  return rows


def _damaged(path, name, error) -> MissingData:
  """The error of a prepared file that does not read."""
  why = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
  return MissingData(f'{path} is damaged ({why}): prepare {name} again in another directory, '
                     f'python -m launch.prepare {name} --data_dir=DIR')


def _decode(path, name, splits):
  """{'<split>-images': uint8 [N, ...], '<split>-labels': int32 [N]} from the array_record files."""
  import tensorflow_datasets as tfds  # slow to import, and needed only on a cache miss
  arrays = {}
  try:
    builder: Any = tfds.builder_from_directory(path)
  except Exception as e:  # of many kinds, by what is wrong in the files beside the records
    raise _damaged(path / 'dataset_info.json or features.json', name, e) from e
  for split in splits:
    try:
      source = builder.as_data_source(split)
      records = [source[i] for i in range(len(source))]
      arrays[f'{split}-images'] = np.stack([record['image'] for record in records])
      if 'label' in records[0]:
        arrays[f'{split}-labels'] = np.array([record['label'] for record in records], np.int32)
    except Exception as e:  # the reader of records has its own
      shards = sorted(path.glob(f'*-{split}.array_record*')) or [path / f'*-{split}.array_record']
      raise _damaged(' or '.join(map(str, shards)), name, e) from e
  return arrays
