import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.data.pipeline import batches, rows_of_step
from gen_models.data.sources import Arrays
from gen_models.data.stream import ReadFailed, Stream

N, B = 50, 12


class Records:
  """A random-access source that remembers which rows were read."""

  def __init__(self, labels=True):
    self.images = np.random.RandomState(0).randint(0, 256, (N, 4, 4, 1)).astype(np.uint8)
    self.labels = labels
    self.read = []
    self._lock = threading.Lock()

  def __len__(self):
    return N

  def __getitem__(self, row):
    with self._lock:
      self.read.append(row)
    return {'image': self.images[row]} | ({'label': row} if self.labels else {})


def test_windows_give_the_batches_of_resident_data_bit_for_bit():
  key, source = jax.random.key(0), Records()
  arrays = Arrays(jnp.asarray(source.images), jnp.arange(N, dtype=jnp.int32))
  whole = jax.jit(batches(B, 'dynamic', 255, with_labels=True))
  part = jax.jit(batches(B, 'dynamic', 255, with_labels=True))
  with Stream(key, source, B) as stream:
    for start, stop in [(0, 5), (5, 10), (10, 13), (40, 45)]:  # follows, shorter, resumed later
      window = stream.window(start, stop)
      assert window.images.dtype == np.uint8 and window.labels.dtype == np.int32
      assert window.images.shape == (stop - start, B, 4, 4, 1) and window.first == start
      for step in range(start, stop):
        for a, b in zip(whole(key, arrays, step), part(key, window, step), strict=True):
          np.testing.assert_array_equal(a, b)


def test_processes_share_every_batch_and_read_only_their_part():
  key = jax.random.key(1)
  with Stream(key, Records(), B) as stream:
    whole = stream.window(3, 6)
  parts = []
  for index in range(3):
    source = Records()
    with Stream(key, source, B, process_index=index, process_count=3, horizon=6) as stream:
      parts.append(stream.window(3, 6))
    assert len(source.read) == 3 * B // 3
  np.testing.assert_array_equal(np.concatenate([p.images for p in parts], 1), whole.images)
  np.testing.assert_array_equal(np.concatenate([p.labels for p in parts], 1), whole.labels)


def test_the_next_window_is_read_ahead_and_never_past_the_horizon():
  key, source = jax.random.key(2), Records()
  with Stream(key, source, B, horizon=5) as stream:
    stream.window(0, 2)
    stream.window(2, 4)
    stream._pool.submit(lambda: None).result()  # the pool runs in order: [4, 5) has been read
    ahead = len(source.read)
    last = stream.window(4, 5)
  assert ahead == len(source.read) == 5 * B
  expected = np.concatenate([rows_of_step(key, t, B, N) for t in range(5)])
  np.testing.assert_array_equal(np.sort(source.read), np.sort(expected))
  np.testing.assert_array_equal(last.labels[0], rows_of_step(key, 4, B, N))


def test_records_may_lack_labels():
  with Stream(jax.random.key(3), Records(labels=False), B) as stream:
    assert stream.window(0, 1).labels is None


def test_what_makes_no_sense_is_refused():
  key = jax.random.key(4)
  with pytest.raises(ValueError, match='process 0 of 5'):
    Stream(key, Records(), B, process_count=5)
  with pytest.raises(ValueError, match='process 3 of 3'):
    Stream(key, Records(), B, process_index=3, process_count=3)
  with Stream(key, Records(), B) as stream, pytest.raises(ValueError, match='no steps'):
    stream.window(4, 4)
  source = Records()
  source.images = source.images / 255
  with Stream(key, source, B) as stream, pytest.raises(TypeError, match='uint8'):
    stream.window(0, 1)


def test_a_record_that_cannot_be_read_says_which_and_how_to_go_on():
  class Gone(Records):
    def __getitem__(self, row):
      raise FileNotFoundError(2, 'No such file or directory', '/data/part-0')

  with Stream(jax.random.key(5), Gone(), B) as stream, pytest.raises(ReadFailed) as caught:
    stream.window(0, 1)
  message = str(caught.value)
  assert '\n' not in message and '/data/part-0' in message and 'the same command' in message
