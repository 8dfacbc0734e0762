"""The continuous Bernoulli against integrals; other families are tested with vae.py.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.models import families
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

FAMILY = families.CONTINUOUS_BERNOULLI
MEAN, KL, OUTPUTS = map(jax.jit, (FAMILY.mean, FAMILY.kl, FAMILY.outputs))
E_R = np.array([-500, -90, -20, -3, -0.51, -0.49, -0.1, -1e-3, -1e-6, 0, 1e-6, 1e-3, 0.2, 0.499,
                0.501, 2, 20, 90, 500])


ENDS = [0, 0.01, 0.1, 0.5, 0.9, 0.99, 1]


def quadrature():
  """Nodes and weights on [0, 1], fine at both ends."""
  t, w = np.polynomial.legendre.leggauss(400)
  pieces = list(zip(ENDS[:-1], ENDS[1:]))
  return (np.concatenate([(a + b) / 2 + (b - a) / 2 * t for a, b in pieces]),
          np.concatenate([(b - a) / 2 * w for a, b in pieces]))


def log_norm(e):
  """log of the integral of exp(e x), float64 by its series near 0."""
  h = np.abs(np.where(np.abs(e) < 1e-4, 1.0, e))
  far = np.maximum(e, 0) + np.log(-np.expm1(-h) / h)
  return np.where(np.abs(e) < 1e-4, e / 2 + e**2 / 24, far)


def test_its_normaliser_mean_and_kl_are_the_integrals():
  e_R1 = np.float32(E_R)[:, None]
  (x, w), e = quadrature(), np.float64(e_R1)
  p = np.exp(e * x - log_norm(e))
  np.testing.assert_allclose(p @ w, 1, rtol=1e-6)  # the oracle itself
  value, slope = jax.jit(jax.vmap(jax.value_and_grad(FAMILY.log_prob)))(e_R1, jnp.zeros_like(e_R1))
  np.testing.assert_allclose(-value, log_norm(e)[:, 0], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(MEAN(e_R1)[:, 0], p @ (w * x), rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(-slope, MEAN(e_R1), rtol=2e-5, atol=1e-6)
  q_e = e[::-1]
  kl = np.sum(np.exp(q_e * x - log_norm(q_e)) * ((q_e - e) * x - log_norm(q_e) + log_norm(e)) * w,
              axis=-1)
  np.testing.assert_allclose(KL(e_R1[::-1], e_R1), kl, rtol=1e-4, atol=1e-5)


def test_an_untrained_network_has_the_mean():
  mean_D = np.float32([0.002, 0.01, 0.3, 0.4999, 0.5, 0.6, 0.97, 0.998])
  np.testing.assert_allclose(MEAN(OUTPUTS(mean_D)), mean_D, rtol=1e-4)
  assert np.isfinite(OUTPUTS(jnp.array([0.0, 1.0]))).all()


def test_draws_follow_the_density_and_move_with_the_log_odds():
  """A draw moves as F^-1 of the same u; F by SciPy's truncated exponential."""
  e_R, num = np.float32([-300, -8, -0.3, 2e-3, 0.0, 1.5, 40]), 5000
  draw = jax.jit(lambda e_R: FAMILY.sample(jax.random.key(0), jnp.broadcast_to(
    e_R, (num, len(e_R)))))
  x_NR, moved_NR = map(np.asarray, jax.jvp(draw, (jnp.asarray(e_R),), (jnp.ones(len(e_R)),)))
  assert x_NR.min() >= 0 and x_NR.max() <= 1 and np.isfinite(moved_NR).all()
  for i, e in enumerate(np.float64(e_R)):
    h = abs(e)
    y_N = 1 - x_NR[:, i] if e > 0 else x_NR[:, i]  # falling, as scipy has it
    law = scipy.stats.truncexpon(b=h, scale=1 / h) if h else scipy.stats.uniform()
    assert scipy.stats.kstest(y_N, law.cdf).pvalue > oracle.SIGNIFICANCE
    step = 1e-4 * max(1, h)
    x_N = np.float64(x_NR[:, i])

    def quantile(e, u):
      return np.log1p(u * np.expm1(e)) / e if e else u

    def below(e, x):
      return np.expm1(e * x) / np.expm1(e) if e else x

    inside = (x_N > 1e-3) & (x_N < 1 - 1e-3)
    u_N = below(e, x_N[inside])
    far = inside.nonzero()[0][(u_N > 1e-5) & (u_N < 1 - 1e-5)]
    u_N = below(e, x_N[far])
    slope_N = (quantile(e + step, u_N) - quantile(e - step, u_N)) / (2 * step)
    np.testing.assert_allclose(moved_NR[far, i], slope_N, rtol=2e-3, atol=2e-4)


def test_the_path_has_the_slope_of_the_mean():
  """d E[x] / de, by draws: their derivatives average to the variance."""
  e_R, num = np.float32([-6.0, 0.0, 3.0]), 4000
  keys = jax.random.split(jax.random.key(1), num)
  slopes_NR = np.asarray(jax.jit(jax.vmap(lambda key: jax.jvp(
    lambda e: FAMILY.sample(key, e), (jnp.asarray(e_R),), (jnp.ones(3),))[1]))(keys))
  h = 1e-3
  expected = (np.float64(MEAN(e_R + np.float32(h))) - np.float64(
    MEAN(e_R - np.float32(h)))) / (2 * h)
  z = (slopes_NR.mean(0) - expected) / (slopes_NR.std(0) / np.sqrt(num) + 1e-4)
  assert np.abs(z).max() < 6


EACH = {'normal': families.NORMAL, 'fixed scale': families.gaussian(0.3),
        'floor': families.gaussian(floor=0.05), 'binary': families.BINARY,
        'categorical': families.categorical(3)}


@pytest.mark.parametrize('family', EACH.values(), ids=EACH)
def test_densities_of_many_rows_of_outputs_are_those_of_each(family):
  draws, width = np.random.default_rng(5), 6 * family.num_outputs
  outputs_KO, outputs_dot = (jnp.float32(draws.standard_normal((7, width))) for _ in range(2))
  x_MND, x_dot = (jnp.float32(draws.standard_normal((2, 5, 6))) for _ in range(2))

  def one_by_one(outputs_KO, x):
    return jnp.stack([family.log_prob(o_O, x) for o_O in outputs_KO], axis=-1)

  args, tangents = (outputs_KO, x_MND), (outputs_dot, x_dot)
  for ours, other in zip(jax.jvp(family.log_probs, args, tangents),
                         jax.jvp(one_by_one, args, tangents)):
    np.testing.assert_allclose(ours, other, rtol=2e-5, atol=2e-5)
  gradient, hessian = (
    [derivative(lambda *args, fn=fn: jnp.sum(jax.nn.logsumexp(fn(*args), axis=-1)), args)
     for fn in (family.log_probs, one_by_one)]
    for derivative in (lambda fn, args: jax.grad(fn, (0, 1))(*args),
                       lambda fn, args: jax.jvp(jax.grad(fn, (0, 1)), args, tangents)[1]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradient)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), *hessian)


def test_gradients_of_narrow_gaussians_are_right_to_half_a_per_cent():
  """Rows 3 apart with standard deviations of 0.01, and far from 0: points a few of them away."""
  m_KD, s = jnp.float32(100 + np.random.default_rng(0).uniform(-1.5, 1.5, (20, 8))), 0.01
  e_KD = np.float64(np.random.default_rng(1).standard_normal((20, 8)))
  outputs_KO = jnp.concatenate([m_KD, jnp.full_like(m_KD, np.log(s))], axis=1)
  x_KD = m_KD + s * np.float32(e_KD)
  gradient_KO, dx_KD = jax.grad(lambda o, x: jnp.sum(jnp.diagonal(families.NORMAL.log_probs(o, x))),
                                (0, 1))(outputs_KO, x_KD)
  e_KD = np.float64(x_KD - m_KD) / s  # of the points as float32 has them
  np.testing.assert_allclose(gradient_KO[:, :8], e_KD / s, rtol=5e-3, atol=5e-3 / s)
  np.testing.assert_allclose(dx_KD, -e_KD / s, rtol=5e-3, atol=5e-3 / s)
  np.testing.assert_allclose(gradient_KO[:, 8:], e_KD**2 - 1, rtol=5e-3, atol=5e-3)
