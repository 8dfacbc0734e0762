"""Augmentations change each row by its own draw, and the controller follows the critic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import estimators

SHAPE = (8, 6, 3)
X = np.random.default_rng(0).uniform(size=(5, 144)).astype(np.float32)
AUGMENTATIONS = {
  'colour': estimators.colour(SHAPE), 'translation': estimators.translation(SHAPE, 0.25),
  'cutout': estimators.cutout(SHAPE), 'flips': estimators.flips(SHAPE),
  'diff_augment': estimators.diff_augment(SHAPE), 'jitter': estimators.jitter(0.2)}


@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_an_augmentation_is_a_pure_function_of_key_and_batch(name):
  augment, x_BV = jax.jit(AUGMENTATIONS[name]), np.repeat(X[:1], 8, axis=0)
  first, same, other = (np.asarray(augment(jax.random.key(seed), x_BV)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert first.shape == x_BV.shape and np.any(first != other)
  # Equal rows are changed differently.
  assert np.any(first[1:] != first[0])


def test_augmentations_pass_the_gradient():
  # Linear in x apart from colour's means, which are linear too: a difference is the derivative.
  def total(x):
    return jnp.stack([jnp.sum(jnp.sin(jnp.arange(x.size)) * augment(jax.random.key(0), x).ravel())
                      for augment in AUGMENTATIONS.values()])

  direction = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
  with jax.debug_key_reuse(False):
    slope, difference = jax.jit(lambda x: (
      jax.jvp(total, (x,), (direction,))[1], total(x + direction) - total(x)))(X)
  np.testing.assert_allclose(slope, difference, atol=2e-3)
  assert np.all(np.abs(slope) > 1e-2)


def test_a_translation_moves_whole_pixels_to_every_place():
  image = np.zeros((1, 8, 6, 3), np.float32)
  image[0, 4, 3] = (0.2, 0.5, 0.9)
  moved = jax.jit(AUGMENTATIONS['translation'])(
    jax.random.key(0), np.repeat(image.reshape(1, -1), 600, axis=0)).reshape(-1, 8, 6, 3)
  places = {tuple(np.argwhere(x[..., 0])[0]) for x in np.asarray(moved)}
  # A quarter of 8 is 2, of 6 rounded 2: five places a side, none missed in 600 draws.
  assert places == {(y, x) for y in range(2, 7) for x in range(1, 6)}
  assert all(np.allclose(x[x.any(-1)], image[0, 4, 3]) for x in np.asarray(moved))


def test_a_cut_is_a_rectangle():
  cut = jax.jit(AUGMENTATIONS['cutout'])(jax.random.key(0), np.ones((200, 144), np.float32))
  sides = {(int(gap.any(1).sum()), int(gap.any(0).sum()))
           for gap in np.asarray(cut).reshape(-1, 8, 6, 3)[..., 0] == 0}
  assert max(y for y, _ in sides) == 4 and max(x for _, x in sides) == 3
  assert all(np.asarray(row).reshape(8, 6, 3)[..., 0].sum() + y * x == 48
             for row in cut for gap in [np.asarray(row).reshape(8, 6, 3)[..., 0] == 0]
             for y, x in [(gap.any(1).sum(), gap.any(0).sum())])


def test_colour_is_its_formula():
  key = jax.random.key(3)
  bright, saturation, contrast = np.asarray(jax.random.uniform(key, (3, 5, 1, 1, 1)))
  x = X.reshape(5, *SHAPE) + (bright - 0.5) / 2
  grey = x.mean(3, keepdims=True)
  x = grey + 2 * saturation * (x - grey)
  mean = x.mean((1, 2, 3), keepdims=True)
  np.testing.assert_allclose(AUGMENTATIONS['colour'](jax.random.key(3), X).reshape(5, *SHAPE),
                             mean + (0.5 + contrast) * (x - mean), atol=1e-6)


def test_the_probability_is_that_of_each_transformation():
  adaptive = estimators.adaptive([lambda key, x: x + 1, lambda key, x: x + 10], start=0.3)
  seen = adaptive.apply(jax.random.key(0), adaptive.init(), jnp.zeros((20_000, 1)))[:, 0]
  shares = [float(jnp.mean(seen == value)) for value in (0, 1, 10, 11)]
  # Five standard errors of a share of 20,000 are at most 0.018.
  np.testing.assert_allclose(shares, [0.49, 0.21, 0.21, 0.09], atol=0.018)


def test_the_controller_follows_the_critics_signs():
  adaptive = estimators.adaptive([], target=0.6, images=1000, decay=0.5)
  memory, sure, unsure = adaptive.init(), jnp.ones(8), jnp.array([1.0, -1.0] * 4)
  update = jax.jit(adaptive.update, static_argnums=2)
  memory = update(memory, sure, 50)
  np.testing.assert_allclose(memory, [0.05, 0.8])
  memory = update(memory, unsure, 50)  # the average, 0.4, falls below the target
  np.testing.assert_allclose(memory, [0.0, 0.4], atol=1e-7)
  np.testing.assert_allclose(update(memory, unsure, 50)[0], 0.0, atol=1e-7)
  for _ in range(30):
    memory = update(memory, sure, 50)
  assert memory.probability == 1
