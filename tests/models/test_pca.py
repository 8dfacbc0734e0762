"""Principal components against scikit-learn and scipy, and logistic ones against their minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
import sklearn.decomposition

from gen_models.models import gaussian, pca

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, R = 6, 2


def images(num=300, seed=0):
  draws = np.random.default_rng(seed)
  return np.float32(draws.normal(size=(num, R)) @ draws.normal(size=(R, V))
                    + 0.3 * draws.normal(size=(num, V)) + draws.normal(size=V))


def test_components_projections_and_reconstructions_are_scikit_learns():
  x_NV, other_NV = images(), images(20, seed=1)
  params, theirs = pca.fit(x_NV, R), sklearn.decomposition.PCA(R).fit(x_NV)
  sign_R = np.sign(np.sum(np.asarray(params.u_VR) * theirs.components_.T, axis=0))
  np.testing.assert_allclose(params.u_VR * sign_R, theirs.components_.T, atol=1e-4)
  np.testing.assert_allclose(params.variance_R, theirs.explained_variance_ * 299 / 300, rtol=1e-4)
  z_NR = pca.project(params, other_NV)
  np.testing.assert_allclose(z_NR * sign_R, theirs.transform(other_NV), atol=1e-3)
  np.testing.assert_allclose(pca.reconstruct(params, z_NR),
                             theirs.inverse_transform(theirs.transform(other_NV)), atol=1e-3)
  with pytest.raises(ValueError, match='between 1 and 5, got 6'):
    pca.fit(x_NV, V)


def test_probabilistic_pca_is_the_density_of_tipping_and_bishop():
  x_NV = images()
  params = pca.probabilistic(pca.fit(x_NV, R))
  values, vectors = np.linalg.eigh(np.cov(x_NV.T.astype(np.float64), bias=True))
  noise = values[:-R].mean()
  c_VV = noise * np.eye(V) + (vectors[:, -R:] * (values[-R:] - noise)) @ vectors[:, -R:].T
  law = scipy.stats.multivariate_normal(x_NV.mean(0, dtype=np.float64), c_VV)
  np.testing.assert_allclose(gaussian.log_likelihood(params, x_NV), law.logpdf(x_NV), atol=1e-3)
  # The posterior mean is the projection, shrunk by noise over variance.
  shrunk_R = np.sqrt(values[-R:] - noise) / values[-R:]
  expected = np.abs((x_NV - x_NV.mean(0)) @ vectors[:, -R:] * shrunk_R)[:, ::-1]
  np.testing.assert_allclose(np.abs(gaussian.hidden_mean(params, x_NV)), expected, atol=1e-3)
  # No other loadings and noise do better.
  for seed in range(5):
    draws = np.random.default_rng(seed)
    other = params._replace(
      w_VR=params.w_VR + jnp.float32(0.05 * draws.normal(size=(V, R))),
      log_noise_V=params.log_noise_V + jnp.float32(0.05 * draws.normal()))
    assert (gaussian.log_likelihood(other, x_NV).mean()
            < gaussian.log_likelihood(params, x_NV).mean())


def test_principal_angles_are_scipys_and_see_a_thousandth_of_a_degree():
  draws = np.random.default_rng(2)
  a_VR, b_VR = draws.normal(size=(2, 20, 4))
  expected = np.degrees(scipy.linalg.subspace_angles(a_VR, b_VR))[::-1]
  np.testing.assert_allclose(pca.principal_angles(jnp.float32(a_VR), jnp.float32(b_VR)), expected,
                             atol=0.02)
  # One of two directions turned by a thousandth of a degree, and another basis of the same plane.
  turn = np.radians(0.001)
  plane = np.eye(5)[:, :2]
  turned = np.stack([np.cos(turn) * plane[:, 0] + np.sin(turn) * np.eye(5)[2], plane[:, 1]], 1)
  mixed = turned @ [[1, 2], [-1, 1]]
  np.testing.assert_allclose(pca.principal_angles(jnp.float32(plane), jnp.float32(mixed)),
                             [0, 0.001], atol=1e-4)
  np.testing.assert_allclose(pca.principal_angles(jnp.eye(3)[:, :1], jnp.eye(3)[:, 1:2]), [90],
                             atol=0.1)


# Logistic.

RIDGE = 0.1


def binary(num=120, seed=3):
  w_RV, b_V = np.split(2 * np.random.default_rng(3).normal(size=(R + 1, V)), [R])
  draws = np.random.default_rng(seed)
  theta_NV = draws.normal(size=(num, R)) @ w_RV + b_V / 2
  return np.float32(draws.random((num, V)) < 1 / (1 + np.exp(-theta_NV)))


def deviance(b_V, w_VR, z_NR, x_NV):
  theta_NV = z_NR @ w_VR.T + b_V
  return (np.sum(np.logaddexp(0, theta_NV) - x_NV * theta_NV)
          + RIDGE / 2 * (np.sum(z_NR**2) + np.sum(w_VR**2)))


@pytest.fixture(name='fitted', scope='module')
def fixture_fitted():
  return jax.jit(pca.fit_logistic, static_argnames=('rank', 'num_steps'))(
    jax.random.key(0), binary(), rank=R, ridge=RIDGE, num_steps=3000)


def test_no_step_raises_the_deviance():
  x_NV = binary()
  draws = np.random.default_rng(4)
  params = pca.Logistic(jnp.zeros(V), jnp.float32(3 * draws.normal(size=(V, R))))
  z_NR = jnp.float32(3 * draws.normal(size=(len(x_NV), R)))
  values = [pca.deviance(params, z_NR, x_NV, RIDGE)]
  np.testing.assert_allclose(values[0], deviance(*oracle64(params), oracle64([z_NR])[0], x_NV),
                             rtol=1e-5)
  code_step, loading_step = jax.jit(pca.code_step), jax.jit(pca.loading_step)
  for _ in range(30):
    z_NR = code_step(params, z_NR, x_NV, RIDGE)
    values.append(pca.deviance(params, z_NR, x_NV, RIDGE))
    params = loading_step(params, z_NR, x_NV, RIDGE)
    values.append(pca.deviance(params, z_NR, x_NV, RIDGE))
  assert np.all(np.diff(values) < 1e-3), np.diff(values).max()  # of 500; left to float32
  assert values[-1] < 0.5 * values[0]


def oracle64(tree):
  return [np.asarray(x, np.float64) for x in tree]


def test_the_fit_is_a_minimum(fitted):
  x_NV = binary()
  b_V, w_VR = oracle64(fitted)
  z_NR = np.asarray(pca.project_logistic(fitted, x_NV, ridge=RIDGE, num_steps=3000), np.float64)

  def unpack(flat):
    return flat[:V], flat[V:V + V * R].reshape(V, R), flat[V + V * R:].reshape(-1, R)

  found = scipy.optimize.minimize(lambda flat: deviance(*unpack(flat), x_NV),
                                  np.concatenate([b_V, w_VR.ravel(), z_NR.ravel()]),
                                  method='L-BFGS-B')
  assert found.fun > deviance(b_V, w_VR, z_NR, x_NV) - 0.05


def test_codes_of_new_images_are_their_own_minima(fitted):
  x_NV = binary(5, seed=9)
  b_V, w_VR = oracle64(fitted)
  z_NR = pca.project_logistic(fitted, x_NV, ridge=RIDGE, num_steps=20_000)
  for x_V, z_R in zip(x_NV, z_NR, strict=True):
    found = scipy.optimize.minimize(
      lambda z, x_V=x_V: deviance(b_V, w_VR, z[None], x_V[None]), np.zeros(R))
    np.testing.assert_allclose(z_R, found.x, atol=0.01)


def test_logistic_components_describe_binary_images_better(fitted):
  x_NV = binary(200, seed=11)
  z_NR = pca.project_logistic(fitted, x_NV, ridge=RIDGE)
  logistic = pca.reconstruct_logistic(fitted, z_NR)
  assert np.all((logistic >= 0) & (logistic <= 1))
  linear = pca.fit(binary(), R)
  linear = pca.reconstruct(linear, pca.project(linear, x_NV))
  mean = jnp.mean(jnp.sum((x_NV - x_NV.mean(0))**2, axis=1))
  error, baseline = (float(jnp.mean(jnp.sum((y - x_NV)**2, axis=1))) for y in (logistic, linear))
  assert error < 0.8 * baseline < 0.8 * mean


def test_components_that_leave_no_noise_are_refused():
  # Two directions vary: beyond them the density would be infinite.
  x_NV = np.zeros((30, 4), np.float32)
  x_NV[:, :2] = np.random.default_rng(3).normal(size=(30, 2))
  with pytest.raises(ValueError, match='2 components leave no variance'):
    pca.probabilistic(pca.fit(x_NV, 2))
  law = pca.probabilistic(pca.fit(x_NV, 1))
  assert np.all(np.isfinite(gaussian.log_likelihood(law, x_NV)))


def test_equal_variances_are_all_noise():
  law = pca.probabilistic(pca.fit(np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32), 2))
  np.testing.assert_allclose(gaussian.covariance_of(law), np.eye(4) / 4, atol=1e-6)


def test_logistic_pca_without_a_ridge_is_refused():
  with pytest.raises(ValueError, match='needs a ridge > 0, got 0'):
    pca.fit_logistic(jax.random.key(0), np.eye(4, dtype=np.float32), 2, ridge=0.0)


def test_components_of_weighted_rows_are_those_of_repeated_rows():
  x_NV, times_N = images(60), np.random.default_rng(2).integers(1, 4, 60)
  weighted = pca.fit(x_NV, 2, jnp.float32(times_N))
  repeated = pca.fit(np.repeat(x_NV, times_N, axis=0), 2)
  np.testing.assert_allclose(weighted.variance_R, repeated.variance_R, rtol=1e-4)
  assert float(pca.principal_angles(weighted.u_VR, repeated.u_VR).max()) < 0.1
