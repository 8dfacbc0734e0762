"""A tiny prepared tfds set: the official file format, written without TensorFlow."""

import io
import json

import numpy as np
import pytest
from PIL import Image

ROWS = {'train': 30, 'test': 10}


def _pixel(row, shift=0):
  """Every pixel of the image in this row."""
  return (7 * row + shift) % 256


def _write_mnist(data_dir, shift=0, file_format='array_record', rows=None):
  """data_dir/mnist/3.0.1 with 8x8 images of one grey each and label row mod 10."""
  write_set(data_dir, 'mnist', '3.0.1', (8, 8, 1), shift, file_format, rows)


def write_set(data_dir, name, version, shape, shift=0, file_format='array_record', rows=None):
  """data_dir/NAME/VERSION with images of one shade each and label row mod 10."""
  from array_record.python.array_record_module import ArrayRecordWriter
  from tensorflow_datasets.proto import tf_example_pb2

  folder = data_dir / name / version
  folder.mkdir(parents=True)
  splits = []
  for split, count in (rows or ROWS).items():
    writer = ArrayRecordWriter(str(folder / f'{name}-{split}.array_record-00000-of-00001'),
                               'group_size:1')
    size = 0
    for row in range(count):
      png = io.BytesIO()
      Image.fromarray(np.full(shape if shape[2] > 1 else shape[:2], _pixel(row, shift),
                              np.uint8)).save(png, 'PNG')
      example = tf_example_pb2.Example()
      example.features.feature['image'].bytes_list.value.append(png.getvalue())
      example.features.feature['label'].int64_list.value.append(row % 10)
      size += len(example.SerializeToString())
      writer.write(example.SerializeToString())
    writer.close()
    splits.append({'name': split, 'numBytes': str(size), 'shardLengths': [str(count)],
                   'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'})
  (folder / 'dataset_info.json').write_text(json.dumps(
      {'name': name, 'version': version, 'fileFormat': file_format, 'splits': splits,
       'moduleName': 'tests'}))
  features = 'tensorflow_datasets.core.features.'
  (folder / 'features.json').write_text(json.dumps({
      'pythonClassName': features + 'features_dict.FeaturesDict',
      'featuresDict': {'features': {
          'image': {'pythonClassName': features + 'image_feature.Image',
                    'image': {'dtype': 'uint8', 'encodingFormat': 'png',
                              'shape': {'dimensions': [str(side) for side in shape]}}},
          'label': {'pythonClassName': features + 'class_label_feature.ClassLabel',
                    'classLabel': {'numClasses': '10'}}}}}))


@pytest.fixture
def pixel():
  return _pixel


@pytest.fixture
def write_mnist():
  return _write_mnist


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
  """A data directory with a 30 + 10 row mnist, of which the last 10 training rows are valid."""
  from gen_models.data import sources
  monkeypatch.setitem(sources.PREPARED, 'mnist', sources.PREPARED['mnist']._replace(held_out=10))
  _write_mnist(tmp_path / 'tfds')
  return tmp_path / 'tfds'
