"""from_loss is jax.grad and nothing else; weighted is a sum and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from gen_models.estimators import base
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.negative import fast_persistent, persistent, reconstruction
from gen_models.models import rbm
from gen_models.problems.rbm import BATCH, PARAMS, rbm_loss

pytestmark = pytest.mark.usefixtures('strict_promotion')


def noisy_loss(key, params, x_BD):
  """Uses the key, returns metrics."""
  noise_D = jax.random.normal(key, params['scale'].shape)
  y_B = jnp.tanh(x_BD @ (params['scale'] * noise_D) + params['shift'])
  return jnp.mean(y_B**2), {'mean': jnp.mean(y_B)}


ESTIMATOR = base.from_loss(noisy_loss)
loss = jax.jit(noisy_loss)
grad = jax.jit(ESTIMATOR.grad)
by_hand = jax.jit(jax.grad(lambda params, key, x_BD: noisy_loss(key, params, x_BD)[0]))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(strategies.integers(0, 2**32 - 1))
def test_from_loss_is_the_gradient_of_the_loss_at_that_key(seed):
  key = jax.random.key(seed)
  draws = np.random.default_rng(seed)
  params = {'scale': jnp.asarray(draws.normal(size=3), jnp.float32),
            'shift': jnp.float32(draws.normal())}
  x_BD = jnp.asarray(draws.normal(size=(4, 3)), jnp.float32)
  memory = jax.jit(ESTIMATOR.init)(jax.random.key(0), params)
  grads, after, metrics = grad(jax.random.clone(key), params, memory, x_BD)
  expected = by_hand(params, jax.random.clone(key), x_BD)
  np.testing.assert_allclose(grads['scale'], expected['scale'], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(grads['shift'], expected['shift'], rtol=1e-5, atol=1e-7)
  value, aux = loss(jax.random.clone(key), params, x_BD)
  assert set(metrics) == {'loss', 'mean'} and after == memory == base.Memory()
  np.testing.assert_allclose([metrics['loss'], metrics['mean']], [value, aux['mean']], rtol=1e-4,
                             atol=1e-6)


def test_a_declared_bias_is_kept():
  assert base.from_loss(noisy_loss, biased=True).biased and not ESTIMATOR.biased
  assert ESTIMATOR.target is None


def test_maximum_likelihood_is_the_exact_gradient():
  estimator = maximum_likelihood(rbm.log_likelihood)
  grads, _, metrics = jax.jit(estimator.grad)(jax.random.key(0), PARAMS, base.Memory(), BATCH)
  for ours, theirs in zip(grads, jax.jit(jax.grad(rbm_loss))(PARAMS, BATCH), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
  np.testing.assert_allclose(metrics['loss'], jax.jit(rbm_loss)(PARAMS, BATCH), rtol=1e-6)


# Weighted sums.

PARTS = (contrastive(rbm, fast_persistent(chains=4, fast_rate=0.3)),
         maximum_likelihood(rbm.log_likelihood), contrastive(rbm, persistent(chains=4, steps=2)))
SUM = base.weighted(*zip(PARTS, (0.5, 2.0, -1.5), strict=True))


def test_a_weighted_sum_keeps_memories_apart():
  whole, parts = (jax.tree.map(jax.jit, x) for x in (
    (SUM.init, SUM.grad), [(part.init, part.grad) for part in PARTS]))
  params, memory = PARAMS, whole[0](jax.random.key(0), PARAMS)
  apart = [init(key, PARAMS) for (init, _), key in zip(
    parts, jax.random.split(jax.random.key(0), 3), strict=True)]
  for t in range(3):
    grads, memory, metrics = whole[1](jax.random.key(t + 1), params, memory, BATCH)
    found = [grad(key, params, of_part, BATCH) for (_, grad), key, of_part in zip(
      parts, jax.random.split(jax.random.key(t + 1), 3), apart, strict=True)]
    apart = [f[1] for f in found]
    for g, one, two, three in zip(grads, *(f[0] for f in found), strict=True):
      np.testing.assert_allclose(g, 0.5 * one + 2 * two - 1.5 * three, atol=1e-6)
    assert jax.tree.structure((memory.chains, memory.shared)) == jax.tree.structure(
      (tuple(m.chains for m in apart), tuple(m.shared for m in apart)))
    for a, b in zip(jax.tree.leaves((memory.chains, memory.shared)), jax.tree.leaves(
        (tuple(m.chains for m in apart), tuple(m.shared for m in apart))), strict=True):
      np.testing.assert_array_equal(a, b)
    assert {'loss', 'moment_error'} <= set(metrics)
    np.testing.assert_array_equal(metrics['moment_error'], found[2][2]['moment_error'])
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
  assert SUM.biased and not base.weighted((PARTS[1], 1.0), (PARTS[2], 1.0)).biased


def test_a_weighted_sum_under_vmap_and_scan_is_that_of_each_replica():
  # Weights are traced, one for each replica.
  def train(key, weight):
    estimator = base.weighted((PARTS[0], weight), (PARTS[1], 1 - weight))

    def body(carry, key):
      params, memory = carry
      grads, memory, _ = estimator.grad(key, params, memory, BATCH)
      return (jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), memory), None

    key_init, key_run = jax.random.split(key)
    start = PARAMS, estimator.init(key_init, PARAMS)
    return jax.lax.scan(body, start, jax.random.split(key_run, 4))[0][0]

  keys, weights = jax.random.split(jax.random.key(0), 2), jnp.asarray([0.2, 0.9])
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    together = jax.jit(jax.vmap(train))(keys, weights)
    alone = [jax.jit(train)(keys[i], weights[i]) for i in range(2)]
  for i in range(2):
    for a, b in zip(together, alone[i], strict=True):
      np.testing.assert_allclose(a[i], b, atol=1e-6)
  assert np.abs(np.asarray(together.w_VH[0] - together.w_VH[1])).max() > 0.01


def test_preconditioned_gradients_are_not_summed():
  preconditioned = contrastive(rbm, reconstruction(), direction=centred())
  with pytest.raises(ValueError, match='precondition their sum'):
    base.weighted((PARTS[1], 1.0), (preconditioned, 0.1))


def test_in_bfloat16_is_the_gradient_of_rounded_weights():
  exact = maximum_likelihood(rbm.log_likelihood)
  half = base.in_bfloat16(exact)
  params = rbm.init(jax.random.key(20), 5, 4, scale=1.0)
  v_BV = jax.random.bernoulli(jax.random.key(21), 0.5, (6, 5)).astype(jnp.float32)
  rounded = params._replace(w_VH=params.w_VH.astype(jnp.bfloat16).astype(jnp.float32))
  assert np.any(np.asarray(rounded.w_VH != params.w_VH))
  args = (base.Memory(), v_BV)
  ours, expected = (jax.jit(e.grad)(jax.random.key(22), p, *args)[0]
                    for e, p in ((half, params), (exact, rounded)))
  # Where the hardware has units for them, products round the factors that are not weights as well.
  tolerance = 1e-6 if jax.default_backend() == 'cpu' else 2e-2
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), ours, expected)
  assert half.biased and not exact.biased


def test_in_bfloat16_asks_accelerators_for_products_of_bfloat16(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  half = base.in_bfloat16(contrastive(rbm, reconstruction(steps=2)))
  text = jax.jit(half.grad).lower(jax.random.key(22), rbm.init(jax.random.key(20), 5, 4),
                                  half.init(jax.random.key(23), None), jnp.ones((6, 5))).as_text()
  products = [line for line in text.splitlines() if 'dot_general' in line]
  means = [line for line in products if 'HIGHEST' in line]
  assert means and all('(tensor<6xf32>, tensor<6x' in line for line in means)
  assert len(products) > len(means) and all(
    'lhs_precision_type = bf16' in line and 'accumulation_type = f32' in line
    for line in products if line not in means)


def test_in_bfloat16_chains_are_those_of_the_rounded_machine():
  plain = contrastive(rbm, persistent(chains=8, steps=3))
  half = base.in_bfloat16(plain)
  params = rbm.init(jax.random.key(23), 7, 5, scale=1.0)
  memory = plain.init(jax.random.key(24), params)
  v_BV = jax.random.bernoulli(jax.random.key(25), 0.5, (6, 7)).astype(jnp.float32)
  rounded = params._replace(w_VH=params.w_VH.astype(jnp.bfloat16).astype(jnp.float32))
  chains = [jax.jit(e.grad)(jax.random.key(26), p, memory, v_BV)[1].chains
            for e, p in ((half, params), (plain, rounded))]
  jax.tree.map(np.testing.assert_array_equal, *chains)
