"""tfds: prepared sets of array_record files, with an image, tensor or sequence feature."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from gen_models.data import prepared
from gen_models.data.formats.base import ALIASES, SPLITS, Content, Records, Table, sha256_of_files
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

_LABELS = 'label'


def data_dir(given: str | os.PathLike | None = None) -> pathlib.Path:
  """The directory given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets (the default of tfds)."""
  chosen = given or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(chosen).expanduser()


def find(name: Name, given: str | os.PathLike | None = None) -> pathlib.Path:
  """The folder of NAME[/CONFIG][:VERSION]; of several versions the newest.

  Raises:
    FileNotFoundError: nothing is prepared there.
  """
  base, _, version = name.where.partition(':')
  folder = data_dir(given) / base
  if version:
    found = [folder / version]
  else:
    found = sorted(p.parent for p in folder.glob('*/dataset_info.json'))
    found.sort(key=lambda p: [int(n) if n.isdigit() else -1 for n in p.name.split('.')])
  if found and (found[-1] / 'dataset_info.json').is_file():
    return found[-1].absolute()
  configs = sorted({p.parent.parent.name for p in folder.glob('*/*/dataset_info.json')})
  hint = (f': it has configurations: {name.scheme}:{base}/{configs[0]}' + ', ..' * (
    len(configs) > 1)) if configs else (
      '. If you have it, set TFDS_DATA_DIR or pass --data_dir; tfds prepares it by '
      "tfds.builder(name).download_and_prepare(file_format='array_record')")
  raise FileNotFoundError(f'data set {name.text}: no prepared data in '
                          f'{folder / version if version else folder}{hint}')


def read(name: Name, given: str | os.PathLike | None = None) -> Content:
  """Opens a prepared set; nothing is decoded but the records that are asked for.

  Raises:
    BadData: not array_record, no such feature, one without a fixed shape.
    FileNotFoundError: nothing is prepared there.
  """
  folder = find(name, given)
  rows, features = _described(folder)
  feature = _chosen(name, folder, features)
  shape, dtype, image = _format(folder, feature, features[feature])
  label = name.option('label', _LABELS)
  if 'label' in name.options and label not in features:
    raise BadData(f'{folder} has no feature {label!r}; it has {", ".join(features)}')
  labelled = label in features and _is_label(features[label])
  import tensorflow_datasets as tfds  # slow to import
  try:
    builder: Any = tfds.builder_from_directory(folder)  # its decorators hide what methods take
  except Exception as e:  # of many kinds, by what is wrong in the files beside the records
    raise _damaged(folder, e) from e
  tables = {}
  for split, count in rows.items():
    target = ALIASES.get(split, split)
    if target not in SPLITS and split != 'all':
      continue
    try:
      source = builder.as_data_source(split)
      labels = (np.array([int(record[label]) for record in prepared.in_order(source)], np.int32)
                if labelled else None)
    except Exception as e:  # the reader of records has its own
      raise _damaged(folder, e) from e
    tables[target] = Table(Records(count, shape, dtype, _reader(source, feature, shape, folder)),
                           labels, where=f'record {{}} of {split}'.format)
  if not {'train', 'all'} & set(tables):
    raise BadData(f'{folder} has {", ".join(rows)} but no train')
  return Content(tables, sha256_of_files(folder, [p for p in folder.iterdir() if p.is_file()]),
                 folder, kind='real' if image else None, decode=True)


def _described(folder: pathlib.Path) -> tuple[dict[str, int], dict[str, dict]]:
  """({split: rows}, {feature: its JSON}) as tfds recorded them."""
  try:
    info = json.loads((folder / 'dataset_info.json').read_text(encoding='utf-8'))
    features = json.loads((folder / 'features.json').read_text(encoding='utf-8'))
    rows = {s['name']: sum(map(int, s['shardLengths'])) for s in info['splits']}
    features = features['featuresDict']['features']
    if not isinstance(features, dict):
      raise TypeError('features')
  except (OSError, ValueError, LookupError, TypeError, AttributeError) as e:
    raise _damaged(folder, e) from e
  if info.get('fileFormat') != 'array_record':
    raise BadData(f'{folder} is stored as {info.get("fileFormat")}, which only TensorFlow reads: '
                  "prepare it again with file_format='array_record'")
  return rows, features


def _chosen(name: Name, folder: pathlib.Path, features: dict) -> str:
  """The feature with the rows.

  Raises:
    BadData: there are several, or none.
  """
  asked = name.option('feature')
  if asked:
    if asked not in features:
      raise BadData(f'{folder} has no feature {asked!r}; it has {", ".join(features)}')
    return asked
  label = name.option('label', _LABELS)
  images = [f for f, d in features.items() if 'image' in d]
  others = [f for f, d in features.items() if f != label and not _is_label(d)
            and ('tensor' in d or 'sequence' in d)]
  found = images or others
  if len(found) == 1:
    return found[0]
  if not found:
    raise BadData(f'{folder} has no image, tensor or sequence; it has {", ".join(features)}')
  raise BadData(f'{folder} has several features of rows, {", ".join(found)}: choose one, '
                f'feature={found[0]}')


def _is_label(described: dict) -> bool:
  """Whether a feature is a class, or a whole number."""
  if 'classLabel' in described:
    return True
  tensor = described.get('tensor', {})
  return str(tensor.get('dtype', '')).startswith(('int', 'uint')) and not tensor.get(
    'shape', {}).get('dimensions')


def _format(folder: pathlib.Path, feature: str, described: dict):
  """(shape of a row, dtype, whether it is a picture).

  Raises:
    BadData: a side that is not fixed, or no numbers.
  """
  if 'image' in described:
    shape, dtype = described['image'].get('shape', {}), described['image'].get('dtype', 'uint8')
  elif 'sequence' in described:
    inner = described['sequence'].get('feature', {}).get('tensor', {})
    length = described['sequence'].get('length', '-1')
    sides = inner.get('shape', {}).get('dimensions', [])
    shape, dtype = {'dimensions': [length, *sides]}, inner.get('dtype', 'float32')
  else:
    tensor = described.get('tensor', {})
    shape, dtype = tensor.get('shape', {}), tensor.get('dtype', 'float32')
  sides = tuple(int(side) for side in shape.get('dimensions', []))
  if not sides or min(sides) < 1:
    raise BadData(f'{folder}: the rows of {feature} have shape {sides or "()"}, of no fixed size: '
                  'prepare the set with rows of one shape')
  try:
    dtype = np.dtype(dtype)
  except TypeError:
    raise BadData(f'{folder}: {feature} is of type {dtype}: rows are numbers') from None
  if len(sides) == 2:
    sides = (*sides, 1)
  if len(sides) > 3 or dtype.kind not in 'biuf':
    raise BadData(f'{folder}: the rows of {feature} are {sides} of {dtype}: rows are vectors or '
                  'pictures of numbers')
  return sides, dtype, 'image' in described and dtype == np.uint8


def _reader(source, feature: str, shape, folder):
  def read_row(row: int) -> np.ndarray:
    try:
      return np.asarray(source[row][feature]).reshape(shape)
    except Exception as e:  # the reader of records has its own
      raise _damaged(folder, e) from e
  return read_row


def _damaged(folder: pathlib.Path, error: Exception) -> BadData:
  why = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
  return BadData(f'{folder} is damaged ({why}): prepare the set again')
