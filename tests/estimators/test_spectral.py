"""Spectral normalisation against singular values, and the Lipschitz bound that it is there for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import estimators
from gen_models.models import convolutions, gan, networks

NETS = {'leaky': gan.DenseCritic((16, 12)), 'maxout': gan.DenseCritic((8, 8), pieces=3)}


def singular_values(params):
  return [np.linalg.svd(np.asarray(w, np.float64).reshape(-1, w.shape[-1]), compute_uv=False)[0]
          for w in jax.tree.leaves(params) if w.ndim > 1]


def test_the_power_iteration_finds_the_largest_singular_value():
  params = networks.init(jax.random.key(0), NETS['leaky'], 5)
  normalisation = estimators.spectral_norm(bound=1.5)

  @jax.jit
  def converged(params):
    memory = normalisation.init(jax.random.key(1), params)
    memory = jax.lax.fori_loop(0, 400, lambda _, m: normalisation.step(params, m), memory)
    return normalisation.apply(params, memory), normalisation.exact(params)

  for found in converged(params):
    np.testing.assert_allclose(singular_values(found), 1.5, rtol=1e-4)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
      if before.ndim < 2:
        np.testing.assert_array_equal(before, after)
  # One iteration is below: the quotient is a lower bound of the singular value.
  once = normalisation.apply(params, normalisation.step(params, normalisation.init(
    jax.random.key(1), params)))
  assert all(value >= 1.5 - 1e-4 for value in singular_values(once))


@pytest.mark.parametrize('name', NETS)
def test_a_normalised_net_is_lipschitz(name):
  net, exact = NETS[name], estimators.spectral_norm().exact

  @jax.jit
  def steepest(key):
    key_net, key_x = jax.random.split(key)
    params = networks.init(key_net, net, 5)
    params = jax.tree.map(lambda w: 3 * w + 0.1, params)  # biases too, and slopes above 1 before
    x_NV, y_NV = 4 * jax.random.normal(key_x, (2, 500, 5))

    def quotient(params):
      gaps = networks.apply(net, params, x_NV) - networks.apply(net, params, y_NV)
      slopes = jax.vmap(jax.grad(lambda x: networks.apply(net, params, x[None])[0, 0]))(x_NV)
      return jnp.maximum(jnp.max(jnp.abs(gaps[:, 0]) / jnp.linalg.norm(x_NV - y_NV, axis=1)),
                         jnp.max(jnp.linalg.norm(slopes, axis=1)))

    return quotient(params), quotient(exact(params))

  before, after = np.array([steepest(jax.random.key(seed)) for seed in range(8)]).T
  assert np.all(after <= 1 + 1e-5) and np.all(before > 1) and np.all(after > 0.02)


def test_of_a_convolution_it_is_the_kernels_matrix():
  # The layer's own constant lies between the kernel's and twice it: 16 taps, stride 2.
  w = jax.random.normal(jax.random.key(0), (4, 4, 3, 6))
  layer = np.asarray(jax.jit(jax.jacobian(lambda x: convolutions.halve(x, w)))(
    jnp.zeros((1, 8, 8, 3)))).reshape(-1, 192)
  kernel, = singular_values(w)
  assert kernel <= np.linalg.norm(layer, 2) <= 2 * kernel


def test_the_game_keeps_its_vectors():
  model = gan.Model(gan.DenseGenerator(2, (8,)), gan.DenseCritic((8,)), 3, 2)
  ours = estimators.adversarial(model, estimators.hinge, (estimators.lazy(estimators.r1(1.0), 2),),
                                estimators.turns(1), spectral=estimators.spectral_norm(),
                                augment=estimators.adaptive([estimators.jitter(0.1)]))
  params = jax.jit(model.init)(jax.random.key(0))
  memory, x_BV = jax.jit(ours.init)(jax.random.key(1), params), jnp.ones((4, 2))
  step = jax.jit(ours.grad)
  for i in range(3):
    before = memory.shared
    _, memory, metrics = step(jax.random.key(i), params, memory, x_BV)
    moved = i != 1  # the generator's turn leaves what belongs to the critic as it is
    for part in ('penalties', 'spectral', 'augment'):
      old, new = (jax.tree.leaves(getattr(shared, part)) for shared in (before, memory.shared))
      assert moved == any(np.any(a != b) for a, b in zip(old, new, strict=True)), part
    assert 0 <= metrics['augment_probability'] <= 1


def test_no_iteration_is_refused():
  with pytest.raises(ValueError, match='at least one step an update, not 0'):
    estimators.spectral_norm(iterations=0)


def test_a_matrix_that_begins_at_zero_is_normalised_once_it_is_none():
  norm = estimators.spectral_norm()
  zero, some = jnp.zeros((3, 4)), jax.random.normal(jax.random.key(1), (3, 4))
  memory = norm.init(jax.random.key(0), zero)
  kept = norm.step(zero, memory)
  np.testing.assert_array_equal(kept[0], memory[0])
  np.testing.assert_array_equal(norm.apply(zero, kept), zero)
  np.testing.assert_array_equal(norm.exact(zero), zero)
  slope = jax.grad(lambda w: jnp.sum(norm.apply(w, kept) * some))(zero)
  np.testing.assert_allclose(slope, some, rtol=1e-6)
  for _ in range(60):
    kept = norm.step(1e-3 * some, kept)
  np.testing.assert_allclose(singular_values(norm.apply(1e-3 * some, kept)), [1.0], rtol=1e-4)


def test_a_class_conditional_critic_with_spectral_norm_stays_finite_in_training():
  model = gan.ClassConditional(gan.Model(gan.DenseGenerator(2, (8,)), gan.DenseCritic((8,)), 5, 2),
                               3)
  ours = estimators.adversarial(model, estimators.hinge, spectral=estimators.spectral_norm())
  params = jax.jit(model.init)(jax.random.key(0))
  rows = model.generate(jax.random.key(1), params, 12)
  memory = jax.jit(ours.init)(jax.random.key(2), params)
  step = jax.jit(ours.grad)
  for i in range(5):
    grads, memory, _ = step(jax.random.key(i), params, memory, rows)
    assert all(np.all(np.abs(g) < 100) for g in jax.tree.leaves(grads))
    params = jax.tree.map(lambda p, g: p - 0.1 * jnp.sign(g), params, grads)
  assert np.any(params.critic['class_QF'] != 0)
