import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.data.pipeline import batches, check_horizon, rows_of_step
from gen_models.data.sources import Arrays, Window

N, B = 50, 16


def make_arrays():
  """Pixel 0 of every image names its row."""
  images = np.random.RandomState(0).randint(0, 256, (N, 4, 4, 1)).astype(np.uint8)
  images[:, 0, 0, 0] = np.arange(N)
  return Arrays(jnp.asarray(images), jnp.arange(N, dtype=jnp.int32) % 10)


def test_a_batch_holds_the_rows_of_its_step():
  arrays, key = make_arrays(), jax.random.key(0)
  x_BD, y_B = batches(B, 'real', 255, with_labels=True)(key, arrays, 3)
  rows_B = np.asarray(rows_of_step(key, 3, B, N))
  np.testing.assert_array_equal(np.round(x_BD[:, 0] * 255), rows_B)
  expected_BD = np.asarray(arrays.images)[rows_B].reshape(B, -1) / 255
  np.testing.assert_allclose(x_BD, expected_BD, rtol=1e-6)
  np.testing.assert_array_equal(y_B, rows_B % 10)
  assert y_B.dtype == jnp.int32


def test_batches_run_through_each_epoch_without_gap():
  key = jax.random.key(1)
  rows = np.concatenate([rows_of_step(key, t, B, N) for t in range(25)])  # 400 = 8 epochs
  for epoch in rows.reshape(8, N):
    np.testing.assert_array_equal(np.sort(epoch), np.arange(N))


def test_a_batch_larger_than_the_data_repeats_rows_evenly():
  rows = np.asarray(rows_of_step(jax.random.key(2), 5, 2 * N, N))
  np.testing.assert_array_equal(np.bincount(rows), np.full(N, 2))


def test_a_batch_depends_only_on_key_and_step():
  arrays, key = make_arrays(), jax.random.key(3)
  batch_at = jax.jit(batches(B, 'dynamic', 255))
  inside = jax.jit(lambda a: jax.lax.scan(
      lambda _, t: (None, batch_at(key, a, t)), None, jnp.arange(6))[1])(arrays)
  np.testing.assert_array_equal(inside[4], batch_at(key, arrays, 4))
  keys = jnp.stack([jax.random.key(4), key])
  replicas = jax.vmap(batch_at, in_axes=(0, None, None))(keys, arrays, 4)
  np.testing.assert_array_equal(replicas[1], inside[4])
  assert np.any(replicas[0] != replicas[1])


def test_dynamic_draws_are_fresh_at_every_step():
  arrays = Arrays(jnp.full((1, 8, 8, 1), 128, jnp.uint8))
  batch_at = jax.jit(batches(4, 'dynamic', 255))
  first, second = (batch_at(jax.random.key(5), arrays, t) for t in (0, 1))
  assert 0.2 < np.mean(first != second) < 0.8
  assert np.any(first[0] != first[1])


def test_images_keep_their_shape_on_request():
  arrays, key = make_arrays(), jax.random.key(6)
  image = batches(B, 'dynamic', 255, flat=False)(key, arrays, 0)
  assert image.shape == (B, 4, 4, 1)
  flat = batches(B, 'dynamic', 255)(key, arrays, 0)
  np.testing.assert_array_equal(image.reshape(B, -1), flat)


@pytest.mark.parametrize('kind', ['real', 'threshold', 'dynamic'])
@pytest.mark.parametrize('flat', [True, False])
def test_a_window_is_bitwise_identical_to_the_resident_data(kind, flat):
  arrays, key, first, steps = make_arrays(), jax.random.key(7), 5, 4
  rows_TB = jnp.stack([rows_of_step(key, first + t, B, N) for t in range(steps)])
  window = Window(arrays.images[rows_TB], arrays.labels[rows_TB], jnp.int32(first))
  whole = jax.jit(batches(B, kind, 255, flat=flat, with_labels=True))
  part = jax.jit(batches(B, kind, 255, flat=flat, with_labels=True))
  for step in range(first, first + steps):
    for a, b in zip(whole(key, arrays, step), part(key, window, step), strict=True):
      np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused():
  arrays, key = make_arrays(), jax.random.key(8)
  with pytest.raises(ValueError, match='0/1 already'):
    batches(B, 'static', 255)
  with pytest.raises(ValueError, match='0/1 already'):
    batches(B, 'static', 16)
  with pytest.raises(ValueError, match='batches of 8'):
    batches(8, 'real', 255)(key, Window(arrays.images[None], None, jnp.int32(0)), 0)
  with pytest.raises(ValueError, match='no labels'):
    batches(B, 'real', 255, with_labels=True)(key, Arrays(arrays.images), 0)


def test_the_horizon_is_the_end_of_32_bits():
  check_horizon(2**22, 1024)
  with pytest.raises(ValueError, match='4194304 steps'):
    check_horizon(2**22 + 1, 1024)
