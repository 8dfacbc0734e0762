"""An RBM as prior of latents: what the shared battery does not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import estimators
from gen_models.estimators import base
from gen_models.estimators.negative import Drawn, Negative
from gen_models.models import rbm
from gen_models.problems import catalogue
from gen_models.problems.rbm_prior import MODEL, PARAMS, RBM_PRIOR

pytestmark = pytest.mark.usefixtures('strict_promotion')


def every_state(weight=1.0) -> Negative:
  """The machine itself: every v, with <v h>, <v> and <h> exact, times `weight`."""
  def sample(key, model, params, memory, y_BH):
    del key, y_BH
    v_AV = rbm.all_states(len(params.b_V))
    p_A = weight * jnp.exp(rbm.log_likelihood(params, v_AV))
    p_AH = rbm.hidden_mean(params, v_AV)
    exact = (jnp.einsum('a,av,ah->vh', p_A, v_AV, p_AH), p_A @ v_AV, p_A @ p_AH)
    # A row that adds nothing to the moments; all of them are in the correction.
    return Drawn(jnp.zeros((1, len(params.b_V))), jnp.full((1, len(params.c_H)), -1e3),
                 exact), memory

  return Negative(lambda key, model, params: base.Memory(), sample, biased=False)


def enumerated(model):
  return estimators.discrete(model, estimators.enumerated())


@jax.jit
def gradients():
  """By jax.grad of the enumerated bound, by enumerated log Z, by exact moments, by half of them."""
  found = [catalogue.exact_grads(RBM_PRIOR)]
  for negative in (None, every_state(), every_state(0.5)):
    estimator = estimators.rbm_prior(MODEL, enumerated, negative)
    memory = estimator.init(jax.random.key(0), PARAMS)
    found.append(estimator.grad(jax.random.key(1), PARAMS, memory, RBM_PRIOR.batch)[0])
  return found


def test_an_exact_negative_phase_is_the_gradient_of_the_exact_bound():
  exact, by_log_z, by_moments, wrong = gradients()
  for found in (by_log_z, by_moments):
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, atol=2e-6), found, exact)
  # The test can fail: with half of a negative phase the machine's gradient is another.
  assert np.max(np.abs(wrong.prior.b_V - exact.prior.b_V)) > 0.05
  jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, atol=2e-6), wrong.net, exact.net)


def test_log_z_is_left_out_of_metrics_that_say_so_and_chains_are_kept():
  estimator = estimators.rbm_prior(
    MODEL, lambda model: estimators.variational(model, estimators.reinforce(), baseline=0.1),
    estimators.persistent(6))
  memory = estimator.init(jax.random.key(0), PARAMS)
  assert memory.chains.v_CV.shape == (6, 4) and memory.chains.h_CH.shape == (6, 3)
  _, after, metrics = jax.jit(estimator.grad)(jax.random.key(1), PARAMS, memory, RBM_PRIOR.batch)
  assert set(metrics) == {'elbo_plus_log_z', 'bound_plus_log_z', 'distortion', 'moment_error'}
  assert np.any(after.chains.v_CV != memory.chains.v_CV)
  # What the estimator of the latents learns is kept too.
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(after.shared.latents),
                                            jax.tree.leaves(memory.shared.latents), strict=True))
