import concurrent.futures
import json
import pathlib

import numpy as np
import pytest
from absl import logging

from gen_models.data import cache

ORIGIN = {'train': [3, 100]}
ARRAYS = {'train-images': np.arange(12, dtype=np.uint8).reshape(3, 4),
          'train-labels': np.arange(3, dtype=np.int32)}


@pytest.fixture
def folder(tmp_path):
  cache.write(tmp_path / 'set', ARRAYS, ORIGIN)
  return tmp_path / 'set'


@pytest.fixture
def warnings(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, 'warning', lambda message, *args: lines.append(message % args))
  return lines


def assert_kept(found):
  assert list(found) == list(ARRAYS)
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype


def test_what_was_written_is_read(folder, warnings):
  assert_kept(cache.read(folder, ORIGIN))
  assert_kept(cache.read(folder, None))
  assert not warnings
  assert sorted(p.name for p in folder.iterdir()) == [
      'manifest.json', 'train-images.npy', 'train-labels.npy']  # nothing temporary is left


def test_an_empty_or_another_cache_is_a_silent_miss(folder, warnings):
  assert cache.read(folder / 'nothing', None) is None
  assert cache.read(folder, {'train': [4, 100]}) is None
  assert not warnings


def _flip(folder):
  path = folder / 'train-images.npy'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


def _cut(folder):
  path = folder / 'train-images.npy'
  path.write_bytes(path.read_bytes()[:-5])


def _pickle(folder):
  """A manifest that vouches for an array of objects: it must not be unpickled."""
  np.save(folder / 'train-images.npy', np.array([{}], dtype=object), allow_pickle=True)
  manifest = json.loads((folder / 'manifest.json').read_text())
  content = (folder / 'train-images.npy').read_bytes()
  manifest['sha256']['train-images'] = cache.hashlib.sha256(content).hexdigest()
  (folder / 'manifest.json').write_text(json.dumps(manifest))


@pytest.mark.parametrize('damage', [
    _flip, _cut, _pickle,
    lambda folder: (folder / 'train-labels.npy').unlink(),
    lambda folder: (folder / 'manifest.json').write_text('{"origin"'),
    lambda folder: (folder / 'manifest.json').write_text('[]'),
    lambda folder: (folder / 'manifest.json').write_text('{}'),
], ids=['flipped bit', 'cut short', 'pickle', 'missing', 'manifest cut', 'list', 'empty'])
def test_damage_is_noticed_reported_and_repaired(folder, warnings, damage):
  damage(folder)
  assert cache.read(folder, ORIGIN) is None
  assert len(warnings) == 1 and 'damaged cache' in warnings[0]
  cache.write(folder, ARRAYS, ORIGIN)
  assert_kept(cache.read(folder, ORIGIN))


def test_concurrent_writers_leave_a_whole_cache(tmp_path):
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for done in [pool.submit(cache.write, tmp_path, ARRAYS, ORIGIN) for _ in range(40)]:
      done.result()
  assert_kept(cache.read(tmp_path, ORIGIN))
  assert len(list(tmp_path.iterdir())) == 3


def test_an_unwritable_cache_is_a_warning(tmp_path, warnings):
  (tmp_path / 'file').write_text('in the way')
  cache.write(tmp_path / 'file' / 'set', ARRAYS, ORIGIN)
  assert 'not cached' in warnings[0]
  assert cache.read(tmp_path / 'file' / 'set', None) is None


def test_the_root_is_the_user_cache_directory(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert cache.root() == tmp_path / 'gen_models'
  assert cache.root(tmp_path / 'mine') == tmp_path / 'mine'
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert cache.root() == pathlib.Path.home() / '.cache' / 'gen_models'
