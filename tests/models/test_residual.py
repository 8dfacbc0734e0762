"""Residual networks: published numbers of parameters, shapes at any side, blocks by loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import gan, networks, residual

RNG = np.random.default_rng(0)


def count(network, num_inputs):
  shapes = jax.eval_shape(lambda key: networks.init(key, network, num_inputs), jax.random.key(0))
  return sum(x.size for x in jax.tree.leaves(shapes))


def test_numbers_of_parameters_are_the_published_ones():
  """Of SN-ResNet at 32 x 32, and of R3GAN's blocks written out."""
  shape = (32, 32, 3)
  assert count(residual.ResidualGenerator(shape), 128) == 4_276_739
  assert count(residual.ResidualCritic(shape), 3072) == 1_053_825
  wide, group = 1536, 1536 // 96
  block = 768 * wide + wide * group * 9 + wide * 768 + 2 * wide
  shape, options = (8, 8, 3), dict(blocks=1)  # 2 blocks: one at 4 x 4, one at 8 x 8
  assert count(residual.GroupedGenerator(shape, **options), 64) == (
    64 * 768 + 16 * 768 + 2 * block + 3 * 768)
  assert count(residual.GroupedCritic(shape, **options), 192) == (
    3 * 768 + 2 * block + 16 * 768 + 768)


@pytest.mark.slow
@pytest.mark.parametrize('shape, dtype', [((8, 8), jnp.float32), ((64, 64, 2), jnp.bfloat16)])
def test_players_of_any_power_of_two_and_any_channels(shape, dtype):
  """By their shapes; float32 comes out and parameters are float32 whatever is computed inside."""
  num_visible = int(np.prod(shape))
  for generator, critic in (
      (residual.ResidualGenerator(shape, 8, 3, True, dtype=dtype),
       residual.ResidualCritic(shape, 8, dtype=dtype)),
      (residual.GroupedGenerator(shape, 8, 2, 1, dtype=dtype),
       residual.GroupedCritic(shape, 8, 2, 1, dtype=dtype))):
    model = gan.ClassConditional(gan.Model(generator, critic, 24, num_visible), 3)

    def run(key, model=model):
      key_init, key_draw = jax.random.split(key)
      params = model.init(key_init)
      rows = model.generate(key_draw, params, 4)
      return params, rows, model.critic(params, rows), model.features(params, rows)

    params, rows, f, h = jax.eval_shape(run, jax.random.key(0))
    assert rows.shape == (4, num_visible + 3) and f.shape == (4,) and h.shape == (4, 8)
    assert {x.dtype for x in jax.tree.leaves((params, rows, f, h))} == {jnp.dtype('float32')}


def test_other_sides_are_refused():
  for shape in ((28, 28), (8, 16), (12, 12, 3)):
    with pytest.raises(ValueError, match='power of two; use nets=conv'):
      residual.num_stages(shape)
  with pytest.raises(ValueError, match='8 times a power of two'):
    residual.num_stages((4, 4), 8)


def test_resampling_by_loops():
  """Twice the sides: a new pixel lies a quarter of an old one from its nearest."""
  x = RNG.normal(size=(1, 4, 6, 3)).astype(np.float32)
  padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
  up = np.zeros((8, 12, 3))
  for i in range(8):
    for j in range(12):
      near = i // 2 + 1, j // 2 + 1
      far = near[0] + (1 if i % 2 else -1), near[1] + (1 if j % 2 else -1)
      up[i, j] = (9 * padded[near] + 3 * padded[far[0], near[1]] + 3 * padded[near[0], far[1]]
                  + padded[far]) / 16
  np.testing.assert_allclose(residual.bilinear_doubled(x)[0], up, atol=1e-5)
  # <up(x), y> = 4 <x, down(y)>: one is the transpose of the other.
  y = RNG.normal(size=(1, 8, 12, 3)).astype(np.float32)
  np.testing.assert_allclose(np.sum(up * y[0]), 4 * np.sum(x * residual.bilinear_halved(y)),
                             rtol=1e-4)
  np.testing.assert_array_equal(residual.halved(residual.doubled(x)), x)


def test_a_grouped_block_is_the_identity_at_the_start_and_its_equation_later():
  block = residual.GroupedBlock(groups=2, depth=16)
  h = RNG.normal(size=(2, 3, 3, 4)).astype(np.float32)
  params = block.init(jax.random.key(0), h)['params']
  np.testing.assert_array_equal(block.apply({'params': params}, h), h)
  assert params['grouped']['w_KKCD'].shape == (3, 3, 4, 8)
  fan_in, gain = 4 * 9, residual.ACTIVATION_GAIN / 2
  np.testing.assert_allclose(np.std(params['grouped']['w_KKCD']), gain / fan_in**0.5, rtol=0.2)
  params = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype(np.float32), params)

  def activated(x, b):
    return np.where(x + b > 0, x + b, 0.2 * (x + b))

  x = activated(h @ params['expand']['w_KKCD'][0, 0], params['bias_0'])
  padded, w = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), params['grouped']['w_KKCD']
  y = np.zeros_like(x)
  for i in range(3):
    for j in range(3):
      patch = padded[:, i:i + 3, j:j + 3]
      for g in range(2):
        here = slice(4 * g, 4 * g + 4)
        y[:, i, j, here] = np.einsum('bklc,klcd->bd', patch[..., here], w[..., here])
  expected = h + activated(y, params['bias_1']) @ params['contract']['w_KKCD'][0, 0]
  np.testing.assert_allclose(block.apply({'params': params}, h), expected, rtol=1e-4, atol=1e-4)


def test_conditions_scale_and_shift_normalised_channels():
  x, c = RNG.normal(3, 2, (4, 2, 2, 3)).astype(np.float32), np.eye(4, 5, dtype=np.float32)
  norm = residual.ConditionalNorm()
  params = jax.tree.map(lambda w: RNG.normal(size=w.shape).astype(np.float32),
                        norm.init(jax.random.key(0), x, c)['params'])
  plain = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
  scale, shift = (c @ params[name]['w_CD'] for name in ('scale', 'shift'))
  np.testing.assert_allclose(norm.apply({'params': params}, x, c), plain * (
    1 + scale[:, None, None]) + shift[:, None, None], atol=1e-4)


@pytest.mark.slow
def test_a_pass_through_each_network_is_finite_and_bfloat16_is_near():
  shape, z = (16, 16, 3), RNG.normal(size=(4, 6)).astype(np.float32)
  for generator, critic in (
      (residual.ResidualGenerator(shape, 16), residual.ResidualCritic(shape, 16)),
      (residual.GroupedGenerator(shape, 16, 2), residual.GroupedCritic(shape, 16, 2))):
    params = gan.Model(generator, critic, 6, 768).init(jax.random.key(0))
    found = []
    for dtype in (jnp.float32, jnp.bfloat16):
      model = gan.Model(generator.clone(dtype=dtype), critic.clone(dtype=dtype), 6, 768)
      x = jax.jit(model.decode)(params, z)
      found.append((x, jax.jit(model.critic)(params, x)))
    for one, half in zip(*found):
      assert np.isfinite(one).all() and np.std(one) > 0
      np.testing.assert_allclose(half, one, atol=0.1 * np.abs(one).max())
