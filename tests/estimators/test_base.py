"""from_loss is jax.grad and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from gen_models.estimators import base
from gen_models.estimators.maximum_likelihood import maximum_likelihood
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
  memory = ESTIMATOR.init(jax.random.key(0), params)
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
