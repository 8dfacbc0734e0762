import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from gen_models.data import builtin, sources
from gen_models.data.sources import (
  MissingData,
  levels,
  load,
  num_train,
  shape,
  source,
  with_validation,
)


def test_digits_are_one_fixed_partition():
  data = load('digits')
  assert data.levels == 16
  assert [len(a.images) for a in (data.train, data.valid, data.test)] == [1297, 200, 300]
  images = np.concatenate([data.train.images, data.valid.images, data.test.images])
  assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8 and images.max() == 16
  assert data.train.labels.dtype == np.int32
  from sklearn.datasets import load_digits
  original = load_digits().images.astype(np.uint8)
  assert sorted(map(bytes, images)) == sorted(map(bytes, original))
  # The split is part of every printed number: a change here makes old and new results incomparable.
  assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == '22ccb51d1417f811'


def test_grid25_is_its_mixture():
  data = load('grid25')
  assert [len(a.images) for a in (data.train, data.valid, data.test)] == [100_000, 2500, 2500]
  assert data.train.images.shape[1:] == (2, 2, 1) and data.levels == levels('grid25') == 255
  x_ND = builtin.points(data.train.images.reshape(-1, 4) / 255)
  assert np.array_equal(np.bincount(data.train.labels) > 3700, np.ones(25, bool))
  rest_ND = x_ND - 2.0 * np.stack([data.train.labels // 5 - 2, data.train.labels % 5 - 2], axis=1)
  # Standard errors: 1.6e-4 of the mean, 1.1e-4 of the deviation; resolution 1.5e-4.
  np.testing.assert_allclose(rest_ND.mean(0), 0, atol=1e-3)
  np.testing.assert_allclose(rest_ND.std(0), 0.05, atol=1e-3)
  np.testing.assert_allclose(np.corrcoef(rest_ND.T)[0, 1], 0, atol=0.02)
  assert np.abs(rest_ND).max() < 0.3  # no byte is misread
  # Draws are independent; so many of 2,500 coincide at the resolution of the file.
  train, valid, test = ({bytes(x) for x in arrays.images} for arrays in data[1:4])
  assert (len(train & test), len(train & valid), len(valid & test)) == (7, 6, 0)
  # As many as independent draws do: a Poisson number of this mean.
  cells = 4 * np.pi * (0.05 / (10 / 65535)) ** 2  # 1 / P(two points of a mode share a cell)
  expected = 2500 * 100_000 / 25 / cells
  assert 7 < expected < 8 and all(abs(n - expected) < 2 * expected**0.5 for n in (7, 6))


def test_ring8_is_its_mixture():
  data = load('ring8')
  assert [len(a.images) for a in (data.train, data.valid, data.test)] == [100_000, 2500, 2500]
  x_ND = builtin.points(data.train.images.reshape(-1, 4) / 255)
  assert np.bincount(data.train.labels).min() > 12_000 and data.train.labels.max() == 7
  turn_N = 2 * np.pi * data.train.labels / 8
  rest_ND = x_ND - np.stack([np.cos(turn_N), np.sin(turn_N)], axis=1)
  # Standard errors: 3.2e-5 of the mean, 2.2e-5 of the deviation; resolution 1.5e-4.
  np.testing.assert_allclose(rest_ND.mean(0), 0, atol=2e-4)
  np.testing.assert_allclose(rest_ND.std(0), 0.01, atol=2e-4)
  assert np.abs(rest_ND).max() < 0.06


@pytest.mark.parametrize('name', builtin.SETS)
def test_the_format_known_beforehand_is_that_of_the_data(name):
  data = load(name)
  known = sources.spec(name)
  assert data.train.rows.shape == (num_train(name), *known.shape)
  assert shape(name) == (known.shape if known.shape[2] > 1 else known.shape[:2])
  assert data.levels == levels(name) == data.train.rows.max()
  assert known.rows == {split: len(getattr(data, split).rows) for split in known.rows}
  assert known.num_classes == 1 + data.train.labels.max()


def test_stacked_digits_are_three_digits_of_one_split():
  digits, stacked = load('digits'), load('stacked_digits')
  known = {split: {bytes(x): y for x, y in zip(getattr(digits, split).rows[..., 0],
                                               getattr(digits, split).labels)}
           for split in ('train', 'valid', 'test')}
  for split, of_split in known.items():
    arrays = getattr(stacked, split)
    for x, label in zip(arrays.rows[:50], arrays.labels):
      assert label == sum(10**(2 - c) * of_split[np.ascontiguousarray(x[..., c]).tobytes()]
                          for c in range(3))
  again = load('stacked_digits')
  np.testing.assert_array_equal(again.train.rows, stacked.train.rows)
  assert hashlib.sha256(stacked.train.rows.tobytes()).hexdigest()[:16] == 'e91eaf3d0a158dc8'


def test_stacked_mnist_is_made_of_the_prepared_digits(tiny_mnist, tmp_path):
  grey = load('mnist', tiny_mnist, tmp_path / 'cache')
  stacked = load('stacked_mnist', tiny_mnist, tmp_path / 'cache')
  assert {split: len(getattr(stacked, split).rows) for split in ('train', 'valid', 'test')} == dict(
    train=128_000, valid=10_000, test=10_000)
  for split in ('train', 'valid', 'test'):
    arrays, of_split = getattr(stacked, split), getattr(grey, split)
    known = {bytes(x): y for x, y in zip(of_split.rows[..., 0], of_split.labels)}
    for x, label in zip(arrays.rows[:50], arrays.labels):
      assert label == sum(10**(2 - c) * known[np.ascontiguousarray(x[..., c]).tobytes()]
                          for c in range(3))
  with pytest.raises(MissingData, match='launch.prepare mnist'):
    load('stacked_mnist', tmp_path, tmp_path)


def test_tfds_records_become_arrays(tiny_mnist, tmp_path, pixel):
  data = load('mnist', tiny_mnist, tmp_path / 'cache')
  assert data.levels == 255
  assert [len(a.images) for a in (data.train, data.valid, data.test)] == [20, 10, 10]
  for part, first in [(data.train, 0), (data.valid, 20), (data.test, 0)]:
    rows = np.arange(first, first + len(part.images))
    assert part.images.shape[1:] == (8, 8, 1) and part.images.dtype == np.uint8
    np.testing.assert_array_equal(part.images[:, 0, 0, 0], [pixel(row) for row in rows])
    assert np.all(part.images == part.images[:, :1, :1])
    np.testing.assert_array_equal(part.labels, rows % 10)


def test_with_validation_restores_the_published_training_set(tiny_mnist, tmp_path, pixel):
  data = load('mnist', tiny_mnist, tmp_path / 'cache')
  joined = with_validation(data)
  np.testing.assert_array_equal(joined.train.images[:, 0, 0, 0], [pixel(row) for row in range(30)])
  np.testing.assert_array_equal(joined.train.labels, np.arange(30) % 10)
  assert joined.test is data.test
  unlabelled = data._replace(train=data.train._replace(labels=None))
  assert with_validation(unlabelled).train.labels is None
  named = load('mnist_60000', tiny_mnist, tmp_path / 'cache')
  np.testing.assert_array_equal(named.train.images, joined.train.images)
  assert named.about.rows == {'train': 30, 'valid': 10, 'test': 10}
  assert '10 of 10 rows of valid are rows of train as well' in named.remarks[0]
  streamed = source('mnist_60000', tiny_mnist)
  np.testing.assert_array_equal([streamed[i]['label'] for i in range(30)], named.train.labels)
  with pytest.raises(MissingData, match='launch.prepare fashion_mnist$'):
    load('fashion_mnist_60000', tiny_mnist, tmp_path / 'cache')


def test_a_cached_set_needs_neither_tfds_nor_its_directory(tiny_mnist, tmp_path, monkeypatch):
  first = load('mnist', tiny_mnist, tmp_path / 'cache')
  shutil.rmtree(tiny_mnist)
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)  # importing it now raises
  again = load('mnist', tiny_mnist, tmp_path / 'cache')
  np.testing.assert_array_equal(again.train.images, first.train.images)
  np.testing.assert_array_equal(again.test.labels, first.test.labels)


def test_a_damaged_cache_is_decoded_again(tiny_mnist, tmp_path, pixel):
  load('mnist', tiny_mnist, tmp_path / 'cache')
  path = tmp_path / 'cache' / 'mnist' / '3.0.1' / 'train-images.npy'
  good = path.read_bytes()
  path.write_bytes(good[:-1] + bytes([good[-1] ^ 8]))
  assert load('mnist', tiny_mnist, tmp_path / 'cache').train.images[3, 0, 0, 0] == pixel(3)
  assert path.read_bytes() == good


def test_another_data_directory_with_other_content_is_not_mistaken(
    tiny_mnist, tmp_path, pixel, write_mnist):
  load('mnist', tiny_mnist, tmp_path / 'cache')
  write_mnist(tmp_path / 'more', shift=1, rows={'train': 40, 'test': 10})
  more = load('mnist', tmp_path / 'more', tmp_path / 'cache')
  assert len(more.train.images) == 30 and more.train.images[3, 0, 0, 0] == pixel(3, shift=1)
  assert len(load('mnist', tiny_mnist, tmp_path / 'cache').train.images) == 20


def test_missing_data_say_where_they_were_sought_and_what_to_do(tmp_path):
  with pytest.raises(MissingData) as caught:
    load('fashion_mnist', tmp_path / 'data', tmp_path / 'cache')
  message = str(caught.value)
  for part in (str(tmp_path / 'data' / 'fashion_mnist' / '3.0.1'), str(tmp_path / 'cache'),
               'TFDS_DATA_DIR', '--data_dir', 'gen_models[prepare]',
               'python -m launch.prepare fashion_mnist'):
    assert part in message
  assert isinstance(caught.value, FileNotFoundError)


def test_a_set_stored_as_tfrecord_is_named_as_such(tmp_path, write_mnist):
  write_mnist(tmp_path, file_format='tfrecord')
  with pytest.raises(MissingData, match='stored as tfrecord.*array_record'):
    load('mnist', tmp_path, tmp_path / 'cache')


def test_the_data_directory_is_argument_then_environment_then_home(monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', '/from/environment')
  assert sources.find_data_dir('/given') == pathlib.Path('/given')
  assert sources.find_data_dir() == pathlib.Path('/from/environment')
  monkeypatch.delenv('TFDS_DATA_DIR')
  assert sources.find_data_dir() == pathlib.Path.home() / 'tensorflow_datasets'


def test_unknown_names_get_near_matches():
  with pytest.raises(ValueError, match="'mnits'; did you mean mnist"):
    load('mnits')
  with pytest.raises(ValueError,
                     match='known: digits, grid25, ring8, stacked_digits, clusters, mnist, .*; '
                           'your own: npz:PATH'):
    load('imagenet')


def test_importing_the_package_imports_nothing_slow():
  slow = ('tensorflow_datasets', 'sklearn', 'grain', 'tensorflow')
  code = f'import gen_models.data, sys; print([m for m in {slow} if m in sys.modules])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'


@pytest.fixture(scope='module')
def real(tmp_path_factory):
  """load(name) from the prepared sets of TFDS_DATA_DIR, through a cache of this test run's own."""
  cache_dir = tmp_path_factory.mktemp('cache')

  def load_real(name):
    if not os.environ.get('TFDS_DATA_DIR'):
      pytest.skip(f'TFDS_DATA_DIR is not set: no prepared {name}')
    if not sources.PREPARED[name].path(name, sources.find_data_dir()).exists():
      pytest.skip(f'no prepared {name} in TFDS_DATA_DIR')
    return load(name, cache_dir=cache_dir)

  return load_real


@pytest.mark.slow
@pytest.mark.parametrize('name, mean, labels', [
    ('mnist', 33.3184, True), ('fashion_mnist', 72.9404, True), ('binarized_mnist', None, False)])
def test_official_sets_are_what_they_are_known_to_be(real, name, mean, labels):
  data = real(name)
  assert [len(a.images) for a in (data.train, data.valid, data.test)] == [50000, 10000, 10000]
  assert data.train.images.shape == (num_train(name), *shape(name), 1)
  assert data.train.images.dtype == np.uint8
  assert data.train.images.max() == data.levels
  joined = with_validation(data).train
  if mean:
    assert abs(joined.images.mean() - mean) < 1e-3
  assert (joined.labels is not None) == labels
  if labels:
    np.testing.assert_array_equal(np.bincount(data.test.labels), np.full(10, 1000)
                                  if name == 'fashion_mnist' else
                                  [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
  started = time.perf_counter()
  again = real(name)
  assert time.perf_counter() - started < 1.0
  np.testing.assert_array_equal(again.test.images, data.test.images)


@pytest.mark.parametrize('damage', [
  '{', '[]', '{"fileFormat": "array_record"}',
  '{"fileFormat": "array_record", "splits": [{"name": "train"}]}'])
def test_a_damaged_dataset_info_is_named(tiny_mnist, tmp_path, damage):
  info, = tiny_mnist.rglob('dataset_info.json')
  info.write_text(damage)
  with pytest.raises(MissingData, match='dataset_info.json is damaged .*launch.prepare mnist') as e:
    load('mnist', tiny_mnist, tmp_path / 'cache')
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('keep', [0, 100])
def test_a_damaged_array_record_is_named(tiny_mnist, tmp_path, keep):
  shard, = tiny_mnist.rglob('mnist-train.array_record*')
  shard.write_bytes(shard.read_bytes()[:keep])
  with pytest.raises(MissingData, match=rf'{shard.name} is damaged') as e:
    load('mnist', tiny_mnist, tmp_path / 'cache')
  assert '\n' not in str(e.value)


def test_clusters_are_as_far_apart_as_said():
  found = load('clusters')
  rows_NV = found.train.rows.reshape(5000, 100).astype(float)
  share_M = np.bincount(found.train.labels) / 5000
  np.testing.assert_allclose(share_M, [0.6, 0.3, 0.1], atol=0.03)  # 4 standard errors
  mean_MV = np.stack([rows_NV[found.train.labels == m].mean(0) for m in range(3)])
  between = np.abs(np.round(mean_MV)[:, None] - np.round(mean_MV)).sum(-1)
  assert np.all(between[np.triu_indices(3, 1)] > 35)
  # A column has 6 % flips, those of a cluster's own twelve as many of either kind.
  own_MV = np.abs(mean_MV - 0.5) < 0.2
  assert np.all(own_MV.sum(1) == 12)
  np.testing.assert_allclose(np.minimum(mean_MV, 1 - mean_MV)[~own_MV], 0.06, atol=0.05)
  again = hashlib.sha256(found.test.rows.tobytes()).hexdigest()[:16]
  assert again == '369caae9b77e7939'
