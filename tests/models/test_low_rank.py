"""The machine of low rank against enumeration of all states, and its fit against scipy.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from gen_models.models import low_rank, pca, rbm
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

lattice = jax.jit(low_rank.lattice, static_argnums=1)


def machine(num_visible, rank, num_hidden, seed=0) -> low_rank.Params:
  """Directions of -2 .. 2, all of them taken, and weights that make two or three modes."""
  draws = np.random.default_rng(seed)
  u_VD = draws.integers(-2, 3, size=(num_visible, rank))
  a_DH = 0.5 * draws.normal(size=(rank, num_hidden))
  c_H = draws.normal(size=num_hidden)
  return low_rank.Params(*(jnp.asarray(x, jnp.float32) for x in (
    u_VD, a_DH, -u_VD @ a_DH.sum(1) / 2 + 0.5 * draws.normal(size=num_visible), c_H)))


# (machine, points along a direction): every sum of directions fits.
CASES = {1: (machine(10, 1, 5), 24), 2: (machine(8, 2, 6, seed=1), 20)}


def free(params, v_AV, corner):
  """(log p(v) up to log Z, y = v.U), in float64 from the definition."""
  u_VD, a_DH, b_V, c_H = oracle.float64(params)
  return v_AV @ b_V + corner(v_AV @ u_VD @ a_DH + c_H).sum(1), v_AV @ u_VD


def softplus(x):
  return np.logaddexp(0, x)


def relu(x):
  return np.maximum(x, 0)


@pytest.mark.parametrize('rank', CASES)
def test_densities_of_states_and_of_the_lattice_are_the_enumerated_ones(rank):
  params, size = CASES[rank]
  v_AV = oracle.states(len(params.b_V))

  @jax.jit
  def computed(params, v_AV):
    points = low_rank.lattice(params, size)
    return points, {name: (low_rank.log_likelihood(params, points, v_AV, corner),
                           low_rank.log_partition(params, points, corner),
                           jax.nn.softmax(low_rank.log_weights(params, points, corner)))
                    for name, corner in (('machine', jax.nn.softplus), ('effective', jax.nn.relu))}

  points, found = computed(params, jnp.float32(v_AV))
  for name, corner in (('machine', softplus), ('effective', relu)):
    log_p_A, y_AD = free(params, v_AV, corner)
    log_z = scipy.special.logsumexp(log_p_A)
    np.testing.assert_allclose(found[name][0], log_p_A - log_z, atol=2e-5)
    np.testing.assert_allclose(found[name][1], log_z, rtol=1e-6)
    # The marginal of y, summed by hand at every point of the lattice.
    at_AS = (y_AD[:, None] == np.asarray(points.y_SD)).all(-1)
    assert np.all(at_AS.sum(1) == 1)
    np.testing.assert_allclose(found[name][2], np.exp(log_p_A - log_z) @ at_AS, atol=2e-6)
  joint = oracle.rbm_joint(low_rank.machine(params))
  np.testing.assert_allclose(np.exp(found['machine'][0]), joint.p_AS.sum(1), atol=2e-6)
  # The bound on the difference of the two, and what it is exactly.
  near_A = (softplus(x) - relu(x) for x in [v_AV @ oracle.float64(params).u_VD
                                            @ oracle.float64(params).a_DH
                                            + oracle.float64(params).c_H])
  delta_A = next(near_A).sum(1)
  effective_A = np.float64(found['effective'][0])
  expected_A = delta_A - scipy.special.logsumexp(effective_A + delta_A)
  np.testing.assert_allclose(found['machine'][0] - found['effective'][0], expected_A, atol=5e-5)
  assert np.all(np.abs(expected_A) < len(params.c_H) * np.log(2))


def test_the_gradient_of_the_exact_likelihood_is_that_of_the_enumerated_one():
  params, size = CASES[2]
  v_BV = jnp.float32(oracle.states(8)[::17])

  def through(log_p):
    def loss(tree):
      return jnp.mean(log_p(params._replace(**tree)))
    return jax.jit(jax.grad(loss))({k: getattr(params, k) for k in ('a_DH', 'b_V', 'c_H')})

  ours = through(lambda p: low_rank.log_likelihood(p, low_rank.lattice(p, size), v_BV))
  theirs = through(lambda p: rbm.log_likelihood(low_rank.machine(p), v_BV))
  for name, grad in theirs.items():
    np.testing.assert_allclose(ours[name], grad, atol=2e-5 * float(jnp.max(jnp.abs(grad))) + 2e-6)


@pytest.mark.parametrize('rank', CASES)
def test_draws_follow_the_density(rank):
  params, size = CASES[rank]

  @jax.jit
  def drawn(key):
    return low_rank.sample(key, low_rank.draws(params, low_rank.lattice(params, size)), 2**15)

  v_NV = drawn(jax.random.key(rank))
  oracle.assert_frequencies(oracle.index(v_NV),
                            oracle.rbm_joint(low_rank.machine(params)).p_AS.sum(1))


def test_directions_become_integers_that_fit():
  u_VD = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 2)))[0].astype(np.float32)
  for size in (101, 128, 512):
    found = np.asarray(low_rank.rounded(u_VD, size))
    assert np.all(found == np.round(found)) and np.all(np.abs(found).sum(0) <= size - 1)
    assert np.all(np.abs(found).sum(0) > 0.9 * (size - 1))  # what there is, is used
  angle = np.asarray(pca.principal_angles(u_VD, found))
  assert angle.max() < 5
  with pytest.raises(ValueError, match=r'128\^4 points is larger than 4,194,304'):
    low_rank.lattice(low_rank.init(jnp.zeros(3), 4, 1), 128)


def rows(num=400, seed=3):
  """Two clusters of ten columns, 70 and 30 %."""
  draws = np.random.default_rng(seed)
  centre_KV = np.array([[0.85] * 5 + [0.2] * 5, [0.15] * 5 + [0.7] * 5])
  return np.float32(draws.uniform(size=(num, 10)) < centre_KV[draws.choice(2, num, p=[0.7, 0.3])])


def test_the_fit_is_the_maximum_of_the_effective_likelihood():
  x_NV, size, num_hidden = rows(), 41, 4

  @jax.jit
  def fitted(x_NV):
    effective = low_rank.fit_effective(x_NV, 1, size, num_hidden, num_used=3)
    params = low_rank.softened(effective, x_NV, size)
    points = low_rank.lattice(effective, size)
    return effective, params, low_rank.log_likelihood(effective, points, x_NV, jax.nn.relu)

  effective, params, log_p_N = fitted(x_NV)
  v_AV = oracle.states(10)
  used_H = np.flatnonzero(np.asarray(effective.a_DH)[0])
  assert 1 <= len(used_H) <= 3

  def value(theta):
    """Mean effective log-likelihood, its biases moved along U and its units stretched; float64."""
    u_VD, a_DH, b_V, c_H = oracle.float64(effective)
    stretched = np.ones(num_hidden)
    stretched[used_H] += theta[1:]
    moved = low_rank.Params(u_VD, a_DH * stretched, b_V + u_VD[:, 0] * theta[0], c_H * stretched)
    log_p_A = free(moved, v_AV, relu)[0]
    return np.mean(log_p_A[oracle.index(x_NV)]) - scipy.special.logsumexp(log_p_A)

  here = value(np.zeros(1 + len(used_H)))
  np.testing.assert_allclose(np.mean(log_p_N), here, rtol=1e-5)
  best = scipy.optimize.minimize(lambda theta: -value(theta), np.zeros(1 + len(used_H)))
  assert -best.fun - here < 1e-3  # a gain that ends the iteration, the ridge, float32
  # The machine itself: E[y] is that of the rows, and it is no worse than the bound says.
  joint = oracle.rbm_joint(low_rank.machine(params))
  mean = joint.p_AS.sum(1) @ joint.v_AV @ np.asarray(params.u_VD)
  np.testing.assert_allclose(mean, (x_NV @ np.asarray(params.u_VD)).mean(0), atol=0.02)
  of_machine = np.mean(np.log(joint.p_AS.sum(1))[oracle.index(x_NV)])
  assert abs(of_machine - here) < num_hidden * np.log(2)
  independent = np.mean(np.where(x_NV, np.log(x_NV.mean(0)), np.log1p(-x_NV.mean(0))).sum(1))
  assert of_machine > independent + 0.5


def test_the_maximum_under_bounds_is_scipys():
  draws = np.random.default_rng(5)
  log_p_S, phi_SF = draws.normal(size=60), draws.normal(size=(60, 5))
  mean_F = phi_SF[:12].mean(0)
  bounded_F = np.arange(5) >= 2
  found = low_rank.maximise(*(jnp.float32(x) for x in (log_p_S, phi_SF, mean_F)),
                            bounded_F, jnp.zeros(5))

  def value(theta):
    return (theta @ mean_F - scipy.special.logsumexp(log_p_S + phi_SF @ theta)
            - 5e-6 * np.sum(theta**2))

  best = scipy.optimize.minimize(lambda theta: -value(theta), np.zeros(5), method='L-BFGS-B',
                                 bounds=[(0, None) if b else (None, None) for b in bounded_F])
  assert np.any(best.x[2:] < 1e-6) and np.any(best.x[2:] > 0.1)  # both kinds are there
  np.testing.assert_allclose(value(np.float64(found)), -best.fun, atol=2e-4)
  np.testing.assert_allclose(found, best.x, atol=0.05)


def test_without_directions_units_are_independent():
  params = low_rank.init(jnp.array([0.5, -1.0, 2.0]), 2, 4)
  v_NV = low_rank.sample(jax.random.key(0), low_rank.draws(params, lattice(params, 3)), 2**12)
  assert oracle.mean_p_value(v_NV, scipy.special.expit([0.5, -1.0, 2.0])) > oracle.SIGNIFICANCE
