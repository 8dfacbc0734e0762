"""Sums over rows: they are sums, and their bits do not change under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models.rows import add_bias, mean_rows, over_rows

pytestmark = pytest.mark.usefixtures('strict_promotion')


def some(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_sums_are_sums():
  x_BD = np.random.default_rng(0).normal(3, 1, (37, 11)).astype(np.float32)
  np.testing.assert_allclose(mean_rows(x_BD), x_BD.astype(float).mean(0), rtol=1e-6)
  np.testing.assert_allclose(mean_rows(x_BD[:, 0]), x_BD[:, 0].astype(float).mean(), rtol=1e-6)


@pytest.mark.parametrize('num_rows', [5, 100, 128])
def test_a_mean_under_vmap_is_bitwise_that_of_a_single_run(num_rows):
  x_SBD = np.random.default_rng(2).normal(0, 1, (3, num_rows, 67)).astype(np.float32)
  single = [jax.jit(mean_rows)(x_BD) for x_BD in x_SBD]
  np.testing.assert_array_equal(jax.jit(jax.vmap(mean_rows))(x_SBD), single)


def test_over_rows_repeats_and_its_gradient_sums():
  b_F, d_RF = some((4,)), some((9, 4), 1)
  y_RF, pull = jax.vjp(lambda b: over_rows(b, 9), b_F)
  np.testing.assert_array_equal(y_RF, np.tile(b_F, (9, 1)))
  np.testing.assert_allclose(pull(d_RF)[0], np.asarray(d_RF, np.float64).sum(0), rtol=1e-5)


def test_a_bias_is_added_to_every_row_and_its_gradient_sums_over_them():
  x, b_F, d = some((2, 5, 4)), some((4,), 1), some((2, 5, 4), 2)
  y, pull = jax.vjp(add_bias, x, b_F)
  np.testing.assert_array_equal(y, x + b_F)
  along_x, along_b = pull(d)
  np.testing.assert_array_equal(along_x, d)
  np.testing.assert_allclose(along_b, np.asarray(d, np.float64).sum((0, 1)), rtol=1e-5, atol=1e-6)
