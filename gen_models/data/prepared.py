"""The official tfds sets that the project names: where they lie, and their records as arrays."""

import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gen_models.data import cache


class MissingData(FileNotFoundError):
  """A data set is neither cached nor prepared where it was looked for."""


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


def find_data_dir(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
  """The directory given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets (the default of tfds)."""
  chosen = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(chosen).expanduser()


def read(name: str, data_dir: pathlib.Path, cache_dir: str | os.PathLike | None = None,
         ) -> dict[str, np.ndarray]:
  """{'<split>-images': .., '<split>-labels': ..}, cached unless data_dir holds something else.

  Raises:
    MissingData: neither cached nor prepared, or damaged.
  """
  recipe = PREPARED[name]
  info = info_of(name, data_dir)
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
  return arrays


def info_of(name: str, data_dir: pathlib.Path) -> dict[str, list[int]] | None:
  """{split: [rows, bytes]} as tfds recorded them; None where no set is prepared.

  Raises:
    MissingData: what is prepared is damaged, or only TensorFlow reads it.
  """
  recipe = PREPARED[name]
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


def in_order(source, at_once: int = 1000) -> Iterator[Any]:
  """The records of a tfds data source. By themselves, each would decompress its neighbours too."""
  for first in range(0, len(source), at_once):
    yield from source.__getitems__(range(first, min(first + at_once, len(source))))


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
      # For each record tfds looks up again how to decode it, which takes as long as to decode it.
      source = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
      records = list(in_order(source))
      arrays[f'{split}-images'] = np.stack([_pixels(record['image']) for record in records])
      if 'label' in records[0]:
        arrays[f'{split}-labels'] = np.array([record['label'] for record in records], np.int32)
    except Exception as e:  # the reader of records has its own
      shards = sorted(path.glob(f'*-{split}.array_record*')) or [path / f'*-{split}.array_record']
      raise _damaged(' or '.join(map(str, shards)), name, e) from e
  return arrays


def _pixels(encoded: bytes) -> np.ndarray:
  """A grey picture, uint8 [height, width, 1]."""
  from PIL import Image  # needed only on a cache miss, as tfds
  with Image.open(io.BytesIO(encoded)) as picture:
    return np.asarray(picture, np.uint8)[..., None]
