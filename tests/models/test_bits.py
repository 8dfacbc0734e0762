"""Bernoulli draws: the cipher is Threefry, the probabilities are p, the draws are independent.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.extend import random as extend_random

from gen_models.models import bits
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

ONES = 0xFFFFFFFF
bernoulli = jax.jit(bits.bernoulli)


@pytest.mark.parametrize('key, counter, expected', [
  ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
  ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
  ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0))])
def test_threefry_gives_the_published_vectors(key, counter, expected):
  # Known answers of threefry2x32-20 in Random123 (Salmon et al., 2011).
  words = bits._threefry(*map(jnp.uint32, key), *map(jnp.uint32, counter))
  assert tuple(map(int, words)) == expected


def test_threefry_is_the_cipher_of_jax():
  words = np.random.default_rng(0).integers(0, 2**32, (200, 4), dtype=np.uint32)
  for k0, k1, x0, x1 in words[:5]:
    ours = jax.jit(bits._threefry)(*map(jnp.uint32, (k0, k1)), words[:, 2] ^ x0, words[:, 3] ^ x1)
    theirs = extend_random.threefry_2x32(
      np.array([k0, k1]), np.concatenate([words[:, 2] ^ x0, words[:, 3] ^ x1]))
    np.testing.assert_array_equal(np.concatenate(ours), theirs)


def draw(seed, num_keys, p):
  """[num_keys, ...]: one call of bernoulli for each of many keys."""
  keys = jax.random.split(jax.random.key(seed), num_keys)
  draw_all = jax.jit(jax.vmap(bits.bernoulli, (0, None)))
  return np.asarray(draw_all(keys, jnp.asarray(p, jnp.float32)))


def test_a_unit_is_on_with_probability_p():
  # 2^21 draws of each p. With 16 random bits alone, 1e-5 would become 1.5e-5: 32 of 21 expected
  # draws, and 3e-6 five times its size: 32 of 6; the sum over both is far in the tail.
  p_D = np.array([3e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 0.999, 1 - 1e-5])
  x_KRD = draw(0, 2**15, np.tile(p_D, (64, 1)))
  assert set(np.unique(x_KRD)) == {0.0, 1.0}
  num, on_D = x_KRD.size // len(p_D), x_KRD.sum((0, 1), dtype=np.float64)
  chi2 = np.sum((on_D - num * p_D)**2 / (num * p_D * (1 - p_D)))
  assert scipy.stats.chi2.sf(chi2, len(p_D)) > oracle.SIGNIFICANCE, on_D / num - p_D


@pytest.mark.parametrize('p', [1e-5, 3e-7, 2**-24])
def test_small_probabilities_keep_24_bits(p):
  # 2^26 draws: 672, 24 and 4 hits are expected (Poisson; the shared fraction adds at most 6% to
  # the variance). 16 bits of resolution would give 1024 in each case, 20 bits 704, 64 and 64.
  on = draw(1, 2**14, np.full(2**12, p)).sum(dtype=np.float64)
  expected = 2**26 * np.ceil(np.float32(p) * 2.0**24) / 2**24
  tails = scipy.stats.poisson.cdf(on, expected), scipy.stats.poisson.sf(on - 1, expected)
  assert min(tails) > oracle.SIGNIFICANCE / 2, (on, expected)


def test_impossible_is_never_and_certain_is_always():
  p_D = np.tile([0.0, 1.0], 500)
  np.testing.assert_array_equal(draw(2, 2000, p_D), np.broadcast_to(p_D, (2000, 1000)))


def test_a_draw_of_exactly_zero_is_not_below_zero():
  # Draws of 0 are rare: keys whose shared fraction is 0 are sought out, then 16 are expected here
  # (none for 1 set of keys in 10^7).
  keys_K = jax.random.split(jax.random.key(10), 2**16)
  bits_K3 = jax.vmap(lambda key: jax.random.bits(key, (3,), jnp.uint32))(jax.random.clone(keys_K))
  keys_K = keys_K[np.asarray(bits_K3)[:, 2] >> 24 == 0][:200]
  assert len(keys_K) == 200
  x_KRD = jax.jit(jax.vmap(bits.bernoulli, (0, None)))(keys_K, jnp.zeros((64, 82)))
  assert not np.any(x_KRD)


def test_a_unit_is_on_when_the_draw_falls_below_p():
  # Then it stays on as p grows, with the key held.
  p_PRD = jnp.broadcast_to(jnp.linspace(0, 1, 21)[:, None, None], (21, 50, 8))
  on_PRD = np.asarray(jax.vmap(bernoulli, (None, 0))(jax.random.key(3), p_PRD))
  assert np.all(np.diff(on_PRD, axis=0) >= 0)
  u_N = on_PRD.shape[0] - on_PRD.sum(0).reshape(-1)  # the first p above the draw, 1 .. 20
  oracle.assert_frequencies(u_N.astype(int) - 1, np.full(20, 1 / 20))


@pytest.mark.parametrize('p', [0.5, 0.3])
def test_units_are_independent(p):
  # Every pattern of two rows of five: neighbours in a block of the cipher, across blocks, across
  # rows; 2^18 draws, dependence of any order. And each unit with itself under the next key.
  x_KN = draw(4, 2**18, np.full((2, 5), p)).reshape(-1, 10)
  on_A = oracle.states(10).sum(1)
  oracle.assert_frequencies(oracle.index(x_KN), p**on_A * (1 - p)**(10 - on_A))
  z_NN = (x_KN[:-1] - p).T @ (x_KN[1:] - p) / (p * (1 - p) * np.sqrt(len(x_KN) - 1))
  assert 2 * scipy.stats.norm.sf(np.abs(z_NN).max()) * z_NN.size > oracle.SIGNIFICANCE


def test_no_two_units_of_a_large_call_repeat_each_other():
  # All pairs of 784 columns and all pairs of 256 rows, so counters do not wrap or collide.
  x_RD = np.asarray(bernoulli(jax.random.key(5), jnp.full((256, 784), 0.5))) - 0.5
  for x in (x_RD, x_RD.T):
    z = (4 * x.T @ x / np.sqrt(len(x)))[np.triu_indices(x.shape[1], 1)]
    assert 2 * scipy.stats.norm.sf(np.abs(z).max()) * z.size > oracle.SIGNIFICANCE


@pytest.mark.parametrize('width', [1, 2, 3, 4, 7])
def test_any_shape_is_drawn_as_its_rows(width):
  key, p_BRD = jax.random.key(6), jnp.full((3, 40, width), 0.5)
  x_BRD = bernoulli(key, p_BRD)
  assert x_BRD.shape == p_BRD.shape and x_BRD.dtype == p_BRD.dtype
  np.testing.assert_array_equal(x_BRD.reshape(120, width),
                                bernoulli(jax.random.clone(key), p_BRD.reshape(120, width)))
  assert len(np.unique(np.asarray(x_BRD).reshape(120, width).T, axis=0)) == width


def test_vectors_and_scalars_are_single_rows():
  keys = list(jax.random.split(jax.random.key(7), 68))
  p_D = jnp.linspace(0.1, 0.9, 5)
  for key in keys[:4]:
    x_D = bernoulli(key, p_D)
    assert x_D.shape == (5,)
    np.testing.assert_array_equal(x_D, bernoulli(jax.random.clone(key), p_D[None])[0])
  x = [bernoulli(key, jnp.float32(0.5)) for key in keys[4:]]
  assert x[0].shape == () and 10 < sum(map(float, x)) < 54  # 64 coins: outside for 1 key in 10^8


def test_vmap_draws_what_a_loop_draws():
  keys = jax.random.split(jax.random.key(8), 4)
  p_KRD = jax.random.uniform(jax.random.key(9), (4, 6, 5))
  loop = [bernoulli(key, p_RD) for key, p_RD in zip(keys, p_KRD, strict=True)]
  np.testing.assert_array_equal(jax.jit(jax.vmap(bits.bernoulli))(keys, p_KRD), loop)
  assert np.any(np.asarray(loop[0]) != np.asarray(loop[1]))


def test_softplus_and_its_derivatives():
  x_N = np.array([-np.inf, -200, -90, -20, -1, -1e-3, 0, 1e-3, 1, 20, 90, 200, np.inf])
  y_N = jax.jit(bits.softplus)(jnp.asarray(x_N, jnp.float32))
  np.testing.assert_allclose(y_N, np.logaddexp(0, x_N), rtol=3e-7, atol=1e-37)
  first, second = jax.grad(bits.softplus), jax.grad(jax.grad(bits.softplus))
  p_N = scipy.special.expit(x_N)
  np.testing.assert_allclose(jax.vmap(first)(jnp.asarray(x_N, jnp.float32)), p_N, rtol=1e-6,
                             atol=1e-37)
  np.testing.assert_allclose(jax.vmap(second)(jnp.asarray(x_N, jnp.float32)), p_N * (1 - p_N),
                             rtol=1e-5, atol=1e-7)
  assert np.isnan(bits.softplus(jnp.float32(np.nan)))
