"""The epoch order is a uniform permutation.

Seeds are fixed; a correct order fails a chi-square test here for one seed in a million (p < 1e-6).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.data.order import row_at, rows_from

SIGNIFICANCE = 1e-6


def assert_uniform(counts):
  """Chi-square test that all cells are equally likely."""
  assert counts.sum() / counts.size >= 50
  p_value = scipy.stats.chisquare(counts.reshape(-1)).pvalue
  assert p_value > SIGNIFICANCE, f'cells differ: p = {p_value:.1e}'


@pytest.mark.parametrize('num_rows', [1, 2, 3, 7, 64, 1000, 1437, 60000])
def test_every_epoch_reads_every_row_once(num_rows):
  rows = np.asarray(row_at(jax.random.key(1), jnp.arange(3 * num_rows), num_rows))
  assert rows.dtype == np.int32
  for epoch in rows.reshape(3, num_rows):
    np.testing.assert_array_equal(np.sort(epoch), np.arange(num_rows))


def test_epochs_and_keys_give_different_orders():
  rows_EN = np.asarray(row_at(jax.random.key(2), jnp.arange(4000), 1000)).reshape(4, 1000)
  other_N = np.asarray(row_at(jax.random.key(3), jnp.arange(1000), 1000))
  for a, b in itertools.combinations([*rows_EN, other_N], 2):
    assert np.sum(a == b) < 15  # Poisson with mean 1: above 14 with probability 1e-12


@pytest.mark.parametrize('num_rows', [3, 4, 5, 6])
def test_all_orders_of_few_rows_are_equally_likely(num_rows):
  keys_S = jax.random.split(jax.random.key(4), 100_000)
  orders_SN = jax.jit(jax.vmap(lambda k: row_at(k, jnp.arange(num_rows), num_rows)))(keys_S)
  codes_S = np.asarray(orders_SN) @ num_rows ** np.arange(num_rows)
  every = [np.array(p) @ num_rows ** np.arange(num_rows)
           for p in itertools.permutations(range(num_rows))]
  assert_uniform((codes_S[:, None] == np.array(every)).sum(0))


def test_odd_orders_are_as_likely_as_even_ones():
  # Seven rows lie in a domain of two odd digits; there every round would be an even permutation.
  keys_S = jax.random.split(jax.random.key(5), 20_000)
  orders_SN = np.asarray(jax.vmap(lambda k: row_at(k, jnp.arange(7), 7))(keys_S))
  signs_S = np.linalg.det(np.eye(7)[orders_SN]).round().astype(int)
  assert_uniform(np.array([np.sum(signs_S == 1), np.sum(signs_S == -1)]))


@pytest.mark.parametrize('num_rows', [7, 64, 100])
def test_position_to_row_and_neighbours_are_independent(num_rows):
  keys_S = jax.random.split(jax.random.key(6), 20_000)
  rows_SP = np.asarray(jax.vmap(lambda k: row_at(k, jnp.arange(4), num_rows))(keys_S))
  for position in range(4):
    assert_uniform(np.bincount(rows_SP[:, position], minlength=num_rows))
  first, second = np.concatenate([rows_SP[:, i:i + 2] for i in range(3)]).T
  gap = (second - first) % num_rows  # uniform on 1 .. N-1 when neighbours are unrelated
  assert_uniform(np.bincount(gap, minlength=num_rows)[1:])
  if num_rows <= 7:
    pairs = np.bincount(rows_SP[:, 0] * num_rows + rows_SP[:, 1], minlength=num_rows**2)
    assert_uniform(pairs.reshape(num_rows, num_rows)[~np.eye(num_rows, dtype=bool)])


def test_successive_epochs_are_independent():
  keys_S = jax.random.split(jax.random.key(7), 20_000)
  rows_SE = np.asarray(jax.vmap(lambda k: row_at(k, jnp.array([0, 7]), 7))(keys_S))
  assert_uniform(np.bincount(rows_SE[:, 0] * 7 + rows_SE[:, 1], minlength=49))


def test_jit_vmap_and_shape_do_not_change_the_rows():
  key, position_B = jax.random.key(8), jnp.arange(990, 1050)  # straddles an epoch
  expected_B = row_at(key, position_B, 1000)
  with jax.disable_jit():
    np.testing.assert_array_equal(row_at(key, position_B[:2], 1000), expected_B[:2])
  np.testing.assert_array_equal(jax.jit(lambda p: row_at(key, p, 1000))(position_B), expected_B)
  np.testing.assert_array_equal(jax.vmap(lambda p: row_at(key, p, 1000))(position_B), expected_B)
  table = row_at(key, position_B.reshape(6, 10), 1000)
  np.testing.assert_array_equal(table.reshape(-1), expected_B)
  keys = jnp.stack([jax.random.key(9), key])
  both = jax.vmap(lambda k: row_at(k, position_B, 1000))(keys)
  np.testing.assert_array_equal(both[1], expected_B)
  assert np.any(both[0] != expected_B)


def test_positions_reach_the_end_of_32_bits():
  last = jnp.arange(60000, dtype=jnp.uint32) + jnp.uint32(71581 * 60000)
  rows = np.asarray(row_at(jax.random.key(10), last, 60000))
  np.testing.assert_array_equal(np.sort(rows), np.arange(60000))


@pytest.mark.parametrize('num_rows', [0, -1, 2**30 + 1])
def test_impossible_sizes_are_refused(num_rows):
  with pytest.raises(ValueError, match='num_rows'):
    row_at(jax.random.key(0), jnp.arange(3), num_rows)


def test_largest_size_stays_in_range_and_apart():
  rows = np.asarray(row_at(jax.random.key(11), jnp.arange(1000), 2**30))
  assert rows.min() >= 0 and len(np.unique(rows)) == 1000
  assert rows.max() > 2**29


@pytest.mark.parametrize('num_rows', [1, 3, 64, 1437])
@pytest.mark.parametrize('count', [1, 10, 100])
def test_consecutive_rows_share_their_round_keys_and_nothing_else_changes(num_rows, count):
  key = jax.random.key(11)
  for first in (0, num_rows - 1, 7 * num_rows - 1, 2**32 - 200):
    position = np.uint32(first) + np.arange(count, dtype=np.uint32)
    np.testing.assert_array_equal(rows_from(key, np.uint32(first), count, num_rows),
                                  row_at(key, position, num_rows))
