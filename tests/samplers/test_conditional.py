"""Metropolis-within-Gibbs for missing values against closed forms and enumeration.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.inference import latent, machines
from gen_models.models import belief_net, gaussian, vae
from gen_models.samplers import conditional
from tests import oracle
from tests.models import deep

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, CHAINS, SCALE = 3, 4000, 0.6
ROW = np.array([1.2, np.nan, np.nan])
LINEAR = vae.model(V, (2,), ((),), likelihood=vae.gaussian(SCALE))
_impute = jax.jit(conditional.impute, static_argnums=(1, 4, 5))


def linear_example():
  """x = b + z W + 0.6 e with z ~ N(0, I); the encoder shrinks the posterior's mean and is wider."""
  draws = np.random.default_rng(0)
  fresh = LINEAR.init(jax.random.key(0), jnp.zeros(V))
  params = jax.tree.map(lambda x: jnp.asarray(0.7 * draws.normal(size=x.shape), jnp.float32), fresh)
  law = as_gaussian(params)
  at_VR = gaussian.hidden_mean(law, jnp.eye(V)) - gaussian.hidden_mean(law, jnp.zeros((1, V)))
  spread_R = np.diag(np.linalg.inv(np.eye(2) + law.w_VR.T @ law.w_VR / SCALE**2))**0.5
  dense = {'w_DF': jnp.concatenate([0.8 * at_VR, jnp.zeros((V, 2))], axis=1),
           'b_F': jnp.concatenate([0.8 * gaussian.hidden_mean(law, jnp.zeros((1, V)))[0] + 0.2,
                                   jnp.log(1.3 * jnp.asarray(spread_R, jnp.float32))])}
  return params._replace(encoder=({'Dense_0': dense},))


def as_gaussian(params):
  """p(x) in closed form: the decoder is linear, so its columns are differences of means."""
  origin_V = LINEAR.visible_mean(params, jnp.zeros((1, 2)))[0]
  w_VR = (LINEAR.visible_mean(params, jnp.eye(2)) - origin_V).T
  return gaussian.LowRank(origin_V, w_VR, jnp.full(V, np.log(SCALE), jnp.float32))


def drawn(model, params, row_V, num_steps, num=CHAINS):
  found = _impute(jax.random.key(3), model, params, jnp.asarray(row_V, jnp.float32)[None], num,
                  num_steps)
  return jax.tree.map(lambda x: np.asarray(x[0]), found)


def assert_gaussian(params, found):
  mean_NV, exact_NKV = gaussian.conditional(jax.random.key(5), as_gaussian(params),
                                            jnp.asarray(ROW, jnp.float32)[None], 100_000)
  np.testing.assert_array_equal(found.draws_BKV[:, 0], np.float32(1.2))
  assert oracle.mean_p_value(found.draws_BKV[:, 1:], mean_NV[0, 1:]) > oracle.SIGNIFICANCE
  np.testing.assert_allclose(found.mean_BV, mean_NV[0], atol=0.03)
  np.testing.assert_allclose(np.cov(found.draws_BKV[:, 1:].T), np.cov(exact_NKV[0][:, 1:].T),
                             rtol=0.12, atol=0.03)


def test_a_linear_vae_is_a_gaussian():
  params = linear_example()
  found = drawn(latent.sampler_of(LINEAR), params, ROW, 200)
  assert 0.02 < found.acceptance_B < 0.95
  assert_gaussian(params, found)


def test_without_the_correction_it_is_another_distribution():
  params = linear_example()
  right = latent.sampler_of(LINEAR)
  accepts_all = right._replace(log_weight=lambda params, x_CV, z: jnp.zeros(len(x_CV)))
  with pytest.raises(AssertionError):
    assert_gaussian(params, drawn(accepts_all, params, ROW, 200))


@pytest.mark.parametrize('sizes, num_labels', [((4, 3, 3), 0), ((4, 3, 2), 2)])
def test_a_deep_belief_network_is_enumerated(sizes, num_labels):
  params = deep.stack(*sizes, num_labels=num_labels, scale=0.7)
  exact = deep.exact(params, num_labels)
  row_V = np.array([1, np.nan, np.nan, 0.0])
  fits_A = np.all((exact.v_AV == row_V) | np.isnan(row_V), axis=1)
  p_A = exact.p_AQ.sum(1)[fits_A]
  found = drawn(machines.DBN, params, row_V, 80)
  cells_K = np.argmin(np.abs(found.draws_BKV[:, None] - exact.v_AV[fits_A]).sum(-1), axis=1)
  oracle.assert_frequencies(cells_K, p_A / p_A.sum())
  np.testing.assert_allclose(found.mean_BV, p_A @ exact.v_AV[fits_A] / p_A.sum(), atol=0.02)


def test_two_layers_of_binary_latents_are_enumerated():
  model = belief_net.model(V, (2, 2))
  draws = np.random.default_rng(2)
  params = jax.tree.map(lambda x: jnp.asarray(0.7 * draws.normal(size=x.shape), jnp.float32),
                        model.init(jax.random.key(0), jnp.full(V, 0.5)))
  row_V, x_AV, z_SZ = np.array([1, np.nan, np.nan]), oracle.states(V), oracle.states(2)
  above, below = (jnp.float32(z).reshape(1, 16, 2) for z in (np.repeat(z_SZ, 4, 0),
                                                             np.tile(z_SZ, (4, 1))))
  log_p = [np.logaddexp.reduce(np.asarray(model.log_prior(params, (below, above))[0]
                               + model.log_likelihood(params, jnp.float32(x_V), (below, above))[0]))
           for x_V in x_AV]
  fits_A = x_AV[:, 0] == 1
  p_A = np.exp(np.asarray(log_p, np.float64))[fits_A]
  found = drawn(latent.sampler_of(model), params, row_V, 80)
  cells_K = np.argmin(np.abs(found.draws_BKV[:, None] - x_AV[fits_A]).sum(-1), axis=1)
  oracle.assert_frequencies(cells_K, p_A / p_A.sum())
