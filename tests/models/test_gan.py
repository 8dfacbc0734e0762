"""Players: what they read, what they draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import gan
from gen_models.models.convolutions import Decoder, Encoder

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')


def dense(packing=1, batch_norm=False):
  return gan.Model(gan.DenseGenerator(3, (16, 16), batch_norm), gan.DenseCritic((8,)), 2, 3,
                   packing)


def test_generate_decodes_standard_normal_latents():
  model = dense()
  params = jax.jit(model.init)(jax.random.key(0))
  x = model.generate(jax.random.key(1), params, 7)
  z = jax.random.normal(jax.random.key(1), (7, 2))
  np.testing.assert_array_equal(x, model.decode(params, z))
  assert x.shape == (7, 3) and np.all((x > 0) & (x < 1))
  assert not np.array_equal(x, model.generate(jax.random.key(2), params, 7))


def test_a_packed_critic_reads_consecutive_samples():
  model = dense(packing=2)
  params = jax.jit(model.init)(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  f = model.critic(params, x)
  assert f.shape == (3,)
  np.testing.assert_allclose(f[1], model.critic(params, x[2:4])[0], rtol=1e-6)
  assert not np.allclose(f[1], model.critic(params, x[3:5])[0])
  with pytest.raises(ValueError, match='5 samples do not divide into packs of 2'):
    model.critic(params, x[:5])


def test_players_are_initialised_apart():
  params = dense().init(jax.random.key(0))
  again = dense().init(jax.random.key(1))
  w = params.generator['Linear_1']['w_CD']
  assert w.shape == (16, 16) and params.critic['Linear_0']['w_CD'].shape == (3, 8)
  assert not np.array_equal(w, again.generator['Linear_1']['w_CD'])


def test_maxout_is_the_largest_of_its_pieces():
  critic = gan.DenseCritic((4,), pieces=3)
  x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
  params = critic.init(jax.random.key(0), x)['params']
  first, last = params['Linear_0'], params['Linear_1']
  pieces = (x @ first['w_CD'] + first['b_D']).reshape(5, 3, 4)
  np.testing.assert_allclose(critic.apply({'params': params}, x),
                             pieces.max(1) @ last['w_CD'] + last['b_D'], atol=1e-6)


def test_normalised_generators_answer_to_their_batch():
  model = dense(batch_norm=True)
  params = jax.jit(model.init)(jax.random.key(0))
  z = jax.random.normal(jax.random.key(1), (6, 2))
  assert not np.allclose(model.decode(params, z)[:3], model.decode(params, z[:3]), atol=1e-3)
  # Shifting and scaling what enters a normalised layer changes nothing.
  first = params.generator['Linear_0']
  moved = {**params.generator, 'Linear_0': {'w_CD': 5 * first['w_CD']}}
  np.testing.assert_allclose(model.decode(params._replace(generator=moved), z),
                             model.decode(params, z), atol=1e-3)


@pytest.mark.parametrize('packing', [1, 2])
def test_colours_are_the_last_axis_of_both_players(packing):
  # Three channels, sides that differ: any other order of the axes is another image.
  shape = (6, 4, 3)
  model = gan.Model(gan.ConvGenerator(Decoder((8, 4), shape[:2], 3)),
                    gan.ConvCritic(Encoder((4, 8)), shape), 5, 72, packing)
  params = jax.jit(model.init)(jax.random.key(0))
  z = jax.random.normal(jax.random.key(1), (4, 5))
  drawn = Decoder((8, 4), shape[:2], 3).apply({'params': params.generator['decoder']}, z)
  images = jax.nn.sigmoid(drawn)
  x = model.decode(params, z)
  np.testing.assert_allclose(x.reshape(4, *shape), images, rtol=1e-6)
  seen = jnp.concatenate([images[i::packing] for i in range(packing)], axis=-1)
  expected = Encoder((4, 8)).apply({'params': params.critic['encoder']}, 2 * seen - 1)
  np.testing.assert_allclose(model.critic(params, x), expected[:, 0], atol=1e-5)


def test_images_of_another_shape_are_refused():
  model = gan.Model(gan.ConvGenerator(Decoder((8, 4), (6, 4), 3)),
                    gan.ConvCritic(Encoder((4, 8)), (6, 4)), 5, 72)
  with pytest.raises(ValueError, match='samples of width 24 for a critic of 72'):
    model.critic(model.init(jax.random.key(0)), jnp.zeros((4, 24)))
  uneven = gan.Model(gan.ConvGenerator(Decoder((8, 4), (6, 4), 3)),
                     gan.ConvCritic(Encoder((4, 8)), (5, 4)), 5, 72)
  with pytest.raises(ValueError, match='5 x 4 pixels of 1 channels'):
    uneven.init(jax.random.key(0))


def test_convolutional_players_exchange_flat_images():
  shape = (8, 6)
  model = gan.Model(gan.ConvGenerator(Decoder((8, 4), shape)),
                    gan.ConvCritic(Encoder((4, 8)), shape), 5, 48, packing=2)
  params = jax.jit(model.init)(jax.random.key(0))
  x = jax.jit(model.generate, static_argnums=2)(jax.random.key(1), params, 4)
  assert x.shape == (4, 48) and np.all((x > 0) & (x < 1))
  # A pack's images are the channels of one, centred at grey.
  images = jnp.stack([x[::2].reshape(2, *shape), x[1::2].reshape(2, *shape)], axis=-1)
  expected = Encoder((4, 8)).apply({'params': params.critic['encoder']}, 2 * images - 1)
  np.testing.assert_allclose(model.critic(params, x), expected[:, 0], atol=1e-5)


def conditional():
  model = gan.ClassConditional(dense(), 4)
  params = jax.jit(model.init)(jax.random.key(0))
  class_QF = jax.random.normal(jax.random.key(1), params.critic['class_QF'].shape)
  return model, params._replace(critic=params.critic | {'class_QF': class_QF})


def test_a_class_decides_the_sample_and_projects_the_critics_features():
  model, params = conditional()
  rows = jax.jit(model.generate, static_argnums=2)(jax.random.key(2), params, 6)
  np.testing.assert_array_equal(rows[:, 3:], np.eye(4)[[0, 1, 2, 3, 0, 1]])
  one, other = (model.draw(jax.random.key(2), params, jnp.eye(4)[jnp.full(6, y)]) for y in (0, 1))
  np.testing.assert_allclose(rows[0, :3], one[0], rtol=1e-6)
  assert not np.allclose(one, other, atol=1e-3)
  beside = model.generate_beside(jax.random.key(3), params, rows)
  np.testing.assert_array_equal(beside[:, 3:], rows[:, 3:])

  plain = model.network(params)
  h_BF, y_B = model.model.features(plain, rows[:, :3]), np.array([0, 1, 2, 3, 0, 1])
  expected = model.model.critic(plain, rows[:, :3]) + np.sum(
    params.critic['class_QF'][y_B] * h_BF, axis=1)
  np.testing.assert_allclose(model.critic(params, rows), expected, rtol=1e-5)
  slope = jax.grad(lambda x: jnp.sum(model.critic(params, x)))(rows)
  assert np.any(slope[:, :3] != 0) and np.all(slope[:, 3:] == 0)


def test_an_auxiliary_classifier_reads_the_critics_features_and_leaves_f_alone():
  projected, params = conditional()
  model = projected._replace(head='auxiliary')
  rows = jax.jit(model.generate, static_argnums=2)(jax.random.key(2), params, 6)
  plain, y_B = model.network(params), np.array([0, 1, 2, 3, 0, 1])
  f_B, error_B = model.judge(params, rows)
  np.testing.assert_array_equal(f_B, model.critic(params, rows))
  np.testing.assert_allclose(f_B, model.model.critic(plain, rows[:, :3]), rtol=1e-5)
  odds_BQ = np.asarray(model.model.features(plain, rows[:, :3]) @ params.critic['class_QF'].T)
  p_BQ = np.exp(odds_BQ) / np.exp(odds_BQ).sum(1, keepdims=True)
  np.testing.assert_allclose(error_B, -np.log(p_BQ[np.arange(6), y_B]), rtol=1e-4)
  np.testing.assert_array_equal(projected.judge(params, rows)[1], np.zeros(6))


def test_features_are_what_the_last_layer_reads():
  model = dense(packing=2)
  params = jax.jit(model.init)(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  last = params.critic['Linear_1']
  np.testing.assert_allclose((model.features(params, x) @ last['w_CD'] + last['b_D'])[:, 0],
                             model.critic(params, x), rtol=1e-5)


def test_packs_of_classes_and_of_nothing_are_refused():
  with pytest.raises(ValueError, match='use packing=1'):
    gan.ClassConditional(dense(packing=2), 4).init(jax.random.key(0))
  with pytest.raises(ValueError, match='at least one sample at once, not 0'):
    gan.packed(dense(), 0)
