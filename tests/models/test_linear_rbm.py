"""The linear machine against Gaussian formulas in float64, from its energy.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from gen_models.estimators.contrastive import contrastive, measured
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.experiment import Phase
from gen_models.models import gaussian, gibbs, linear_rbm, pca
from gen_models.training import step as step_lib
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, H = 4, 3
NUM = 2**16


def machine(largest=0.8, seed=0) -> linear_rbm.Params:
  """Biases that matter, the largest singular value of W as given."""
  draws = np.random.default_rng(seed)
  w_VH = draws.normal(size=(V, H))
  w_VH *= largest / np.linalg.norm(w_VH, 2)
  return linear_rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    w_VH, draws.normal(size=V), draws.normal(size=H))))


PARAMS = machine()


def joint(params):
  """Mean and covariance of (v, h): exp(-E) has precision [[I, -W], [-W', I]] and shift (b, c)."""
  w_VH, b_V, c_H = oracle.float64(params)
  precision = np.block([[np.eye(V), -w_VH], [-w_VH.T, np.eye(H)]])
  covariance = np.linalg.inv(precision)
  return covariance @ np.concatenate([b_V, c_H]), covariance


def assert_moments(x_ND, mean_D, c_DD):
  y_ND = np.asarray(x_ND, np.float64) - mean_D
  assert oracle.mean_p_value(y_ND, np.zeros(len(mean_D))) > oracle.SIGNIFICANCE
  lower = np.tril_indices(len(mean_D))
  pairs = (y_ND[:, :, None] * y_ND[:, None])[:, *lower]
  assert oracle.mean_p_value(pairs, c_DD[lower]) > oracle.SIGNIFICANCE


def test_energy_free_energy_and_log_partition_are_one_density():
  mean, c = joint(PARAMS)
  draws = np.random.default_rng(1)
  v_BV, h_BH = (np.float32(draws.normal(size=(20, n))) for n in (V, H))
  both = scipy.stats.multivariate_normal(mean, c).logpdf(np.concatenate([v_BV, h_BH], 1))
  log_z = np.asarray(linear_rbm.log_partition(PARAMS))
  np.testing.assert_allclose(-linear_rbm.energy(PARAMS, v_BV, h_BH) - log_z, both, rtol=1e-4)
  visible = scipy.stats.multivariate_normal(mean[:V], c[:V, :V])
  np.testing.assert_allclose(-linear_rbm.free_energy(PARAMS, v_BV) - log_z, visible.logpdf(v_BV),
                             rtol=1e-4)
  np.testing.assert_allclose(linear_rbm.log_likelihood(PARAMS, v_BV), visible.logpdf(v_BV),
                             rtol=1e-4)
  found_mean, found_c = linear_rbm.moments(PARAMS)
  np.testing.assert_allclose(found_mean, mean[:V], rtol=1e-4)
  np.testing.assert_allclose(found_c, c[:V, :V], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_log_z_is_the_moments():
  mean, c = joint(PARAMS)
  grads = jax.grad(linear_rbm.log_partition)(PARAMS)
  np.testing.assert_allclose(grads.w_VH, c[:V, V:] + np.outer(mean[:V], mean[V:]), rtol=1e-3,
                             atol=1e-4)
  # dE/db = b - v: not -v alone, so b itself stands beside the mean.
  np.testing.assert_allclose(grads.b_V, mean[:V] - np.asarray(PARAMS.b_V), rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(grads.c_H, mean[V:] - np.asarray(PARAMS.c_H), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('largest', [0.999, 1.001, 3.0])
def test_beyond_singular_value_1_there_is_no_density(largest):
  params = machine(largest)
  finite = bool(np.isfinite(linear_rbm.log_partition(params)))
  assert finite == (largest < 1)
  assert finite == np.all(np.isfinite(linear_rbm.log_likelihood(params, jnp.zeros((2, V)))))


def test_conditionals_are_those_of_the_joint():
  mean, c = joint(PARAMS)
  draws = np.random.default_rng(2)
  v_BV, h_BH = (np.float32(draws.normal(size=(9, n))) for n in (V, H))
  h_mean = mean[V:] + (v_BV - mean[:V]) @ np.linalg.solve(c[:V, :V], c[:V, V:])
  v_mean = mean[:V] + (h_BH - mean[V:]) @ np.linalg.solve(c[V:, V:], c[V:, :V])
  np.testing.assert_allclose(linear_rbm.hidden_mean(PARAMS, v_BV), h_mean, atol=1e-5)
  np.testing.assert_allclose(linear_rbm.visible_mean(PARAMS, h_BH), v_mean, atol=1e-5)
  many = np.tile(v_BV[:1], (NUM, 1)), np.tile(h_BH[:1], (NUM, 1))
  assert_moments(linear_rbm.sample_hidden(jax.random.key(0), PARAMS, many[0]), h_mean[0], np.eye(H))
  assert_moments(linear_rbm.sample_visible(jax.random.key(1), PARAMS, many[1]), v_mean[0],
                 np.eye(V))


def test_a_gibbs_step_leaves_the_joint_as_it_is_and_many_lead_there():
  mean, c = joint(PARAMS)
  draws = np.random.default_rng(3).multivariate_normal(mean, c, NUM).astype(np.float32)
  chains = gibbs.step(jax.random.key(2), linear_rbm, PARAMS, gibbs.Chains(
    draws[:, :V], draws[:, V:]))
  assert_moments(np.concatenate(chains, 1), mean, c)
  run = jax.jit(gibbs.run, static_argnums=(1, 4))
  start = gibbs.init_chains(jax.random.key(3), linear_rbm, PARAMS, NUM)
  # The slowest mode shrinks by 0.8^2 a Gibbs step: 0.64^40 < 1e-7.
  assert_moments(np.concatenate(run(jax.random.key(4), linear_rbm, PARAMS, start, 40), 1), mean, c)
  with pytest.raises(AssertionError):
    assert_moments(np.concatenate(start, 1), mean, c)


def test_exact_samples_follow_the_marginal():
  mean, c = joint(PARAMS)
  assert_moments(jax.jit(linear_rbm.sample, static_argnums=2)(jax.random.key(5), PARAMS, NUM),
                 mean[:V], c[:V, :V])


def test_impossible_sizes_are_refused():
  with pytest.raises(ValueError, match='at least one unit'):
    linear_rbm.init(jax.random.key(0), 4, 0)
  with pytest.raises(ValueError, match=r'data mean has shape \(3,\)'):
    linear_rbm.init(jax.random.key(0), 4, 2, jnp.zeros(3))
  params = linear_rbm.init(jax.random.key(0), 4, 2, np.arange(4, dtype=np.float32))
  np.testing.assert_array_equal(params.b_V, np.arange(4))


# Measured: no way out of the domain.


@pytest.mark.parametrize('scale', [0.01, 1.0, 30.0])
def test_any_loadings_give_a_machine_and_probabilistic_pca(scale):
  draws = np.random.default_rng(4)
  params = linear_rbm.Measured(*(jnp.asarray(x, jnp.float32) for x in (
    scale * draws.normal(size=(V, H)), draws.normal(size=V), -0.7)))
  inner = linear_rbm.machine(params)
  assert np.linalg.norm(np.asarray(inner.w_VH, np.float64), 2) < 1
  m_VH, origin_V, log_unit = oracle.float64(params)
  c_VV = np.exp(2 * log_unit) * (np.eye(V) + m_VH @ m_VH.T)
  x_NV = np.float32(draws.multivariate_normal(origin_V, c_VV, 50))
  expected = scipy.stats.multivariate_normal(origin_V, c_VV).logpdf(x_NV)
  np.testing.assert_allclose(linear_rbm.log_density(params, x_NV), expected, atol=0.02)


def test_contrastive_divergence_has_the_maximum_of_the_likelihood_for_fixed_point():
  # Data of the model's own second moments: neither phase moves the machine, for CD-1 as for PCD.
  params = machine()._replace(b_V=jnp.zeros(V), c_H=jnp.zeros(H))
  v_BV = jnp.float32(np.random.default_rng(5).multivariate_normal(
    np.zeros(V), joint(params)[1][:V, :V], 2**17))
  estimator = contrastive(linear_rbm, reconstruction())
  grads, _, _ = jax.jit(estimator.grad)(
    jax.random.key(6), params, jax.jit(estimator.init)(jax.random.key(7), params), v_BV)
  assert np.abs(grads.w_VH).max() < 0.03  # standard error 0.005
  off, _, _ = jax.jit(estimator.grad)(
    jax.random.key(6), params, jax.jit(estimator.init)(jax.random.key(7), params), 1.5 * v_BV)
  assert np.abs(off.w_VH).max() > 0.1


@pytest.mark.parametrize('negative', [
  pytest.param(reconstruction(), marks=pytest.mark.slow), persistent(chains=100)])
def test_training_finds_the_principal_components(negative):
  draws = np.random.default_rng(6)
  basis, _ = np.linalg.qr(draws.normal(size=(6, 6)))
  x_NV = np.float32(draws.normal(size=(500, 6)) * [2, 1.4, 0.4, 0.4, 0.3, 0.3] @ basis.T + 1)
  phase = Phase('machine', lambda key, x_NV, previous: linear_rbm.init_measured(key, x_NV, 2),
                measured(contrastive(linear_rbm, negative), linear_rbm),
                optax.adam(optax.linear_schedule(0.01, 0.0, 4000)),
                lambda key, x_NV, step: x_NV, 4000, 500, average=0.998)

  @jax.jit
  def run(key, x_NV):
    state = step_lib.init_state(key, phase, x_NV)
    return step_lib.train_steps(phase, state, x_NV, 4000)

  with jax.numpy_dtype_promotion('standard'):  # optax relies on it
    state, metrics = run(jax.random.key(0), x_NV)
  assert metrics['all_finite']
  components = pca.fit(x_NV, 2)
  start = linear_rbm.init_measured(jax.random.key(0), x_NV, 2)
  assert pca.principal_angles(components.u_VR, start.loadings_VH)[-1] > 10
  assert pca.principal_angles(components.u_VR, state.average.loadings_VH)[-1] < 1
  best = gaussian.log_likelihood(pca.probabilistic(components), x_NV).mean()
  ours = linear_rbm.log_density(state.average, x_NV).mean()
  assert best - 0.01 < ours < best + 1e-3
