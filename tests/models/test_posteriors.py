"""Posteriors beyond independent Gaussians, and inference from the top, against integrals.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models import estimators
from gen_models.models import flows, networks, posteriors, priors, vae
from tests import oracle
from tests.models.test_priors import CELL, GRID, V, example, model

pytestmark = pytest.mark.usefixtures('strict_promotion')

POSTERIORS = {'iaf': posteriors.Flow(flows.autoregressive, 2, (5,)),
              'coupling': posteriors.Flow(flows.coupling, 2, (5,)),
              'mixture': posteriors.Mixture(2)}
LADDER = vae.model(V, (1, 1), ((5,), (3,)), top_down=True)
X_BV = jnp.float32(oracle.states(V)[[3, 9]])


def reward(z):
  return jnp.sin(1.3 * z[..., 0]) + z[..., 0] * z[..., 1] + jnp.square(z[..., 1])


@pytest.mark.parametrize('name', [
  'mixture', *(pytest.param(name, marks=pytest.mark.slow) for name in ('iaf', 'coupling'))])
def test_a_posterior_is_normalised_and_its_draws_move_as_its_expectations_do(name):
  posterior, rng = POSTERIORS[name], np.random.default_rng(2)
  params = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32),
                        jax.eval_shape(lambda key: posterior.init(key, 2), jax.random.key(0)))
  outputs_O = jnp.asarray(0.6 * rng.normal(size=posterior.num_outputs(2)), jnp.float32)
  layer = posterior.of(params, 2)

  @jax.jit
  def found(key, outputs_O):
    def expected(outputs_O):
      p_A = jnp.exp(layer.log_prob(outputs_O, jnp.float32(GRID))) * CELL
      return jnp.sum(p_A * reward(jnp.float32(GRID))), (jnp.sum(p_A), p_A @ jnp.float32(GRID))
    def drawn(outputs_O, key):
      return reward(layer.sample(key, outputs_O))
    slopes_NO = jax.vmap(jax.grad(drawn), (None, 0))(outputs_O, jax.random.split(key, 4000))
    return jax.value_and_grad(expected, has_aux=True)(outputs_O), slopes_NO, layer.mean(outputs_O)

  ((_, (total, mean_Z)), exact_O), slopes_NO, said_Z = found(jax.random.key(1), outputs_O)
  assert total == pytest.approx(1, abs=1e-3)
  np.testing.assert_allclose(said_Z, mean_Z, atol=1e-3 if name == 'mixture' else 0.1)
  assert oracle.mean_p_value(np.asarray(slopes_NO, np.float64), exact_O) > oracle.SIGNIFICANCE


def bounded(z):
  """Functions of both latents [.., 2] whose means converge at any tails, [.., 4]."""
  a, b = z[..., 0], z[..., 1]
  return jnp.stack([jnp.sin(2 * a), jnp.cos(b), jnp.sin(a * b), jnp.tanh(a - b)], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize('net', [
  model(prior=priors.Vamp(3), posterior=POSTERIORS['iaf']),
  model(prior=priors.Mixture(3), posterior=POSTERIORS['mixture']),
  model(prior=priors.Flow(2, (5,)), posterior=POSTERIORS['coupling']),
  LADDER], ids=['iaf and vamp', 'mixtures', 'couplings', 'ladder'])
def test_draws_follow_the_density_below_the_evidence_and_rules_have_their_gradient(net):
  """E_q as integrals say, ELBO <= log p(x), IWAE's rule its bound differentiated as it stands."""
  params = example(net)

  @jax.jit
  def found(key, params):
    z = (jnp.float32(GRID)[:, None],)
    if net.top_down:
      z = tuple(jnp.split(z[0], 2, axis=-1))
    log_p_AB = net.log_likelihood(params, X_BV, z) + net.log_prior(params, z)
    code_BO = net.encode(params, X_BV)
    q_AB = jnp.exp(net.log_posterior(params, code_BO, z)) * CELL
    key_z, key_rule = jax.random.split(key)
    drawn_KB2 = jnp.concatenate(net.sample_posterior(key_z, params, code_BO, 4000), axis=-1)
    elbo_B = jnp.sum(q_AB * (log_p_AB - jnp.log(q_AB + 1e-30) + np.log(CELL)), axis=0)

    def bound(params):
      # Samples of one pass, seen by all pulls of the rule.
      l_KB = net.log_weights(jax.random.clone(key_rule), params, X_BV, 2)
      return -jnp.mean(jax.nn.logsumexp(l_KB, axis=0))

    grads = estimators.variational(net, estimators.iwae(2)).grad(
      key_rule, params, estimators.base.Memory(), X_BV)[0]
    return (jnp.sum(q_AB, axis=0), jnp.einsum('ab,af->bf', q_AB, bounded(jnp.float32(GRID))),
            bounded(drawn_KB2), elbo_B,
            jax.nn.logsumexp(log_p_AB, axis=0) + np.float32(np.log(CELL)), grads,
            jax.grad(bound)(params))

  total_B, exact_BF, drawn_KBF, elbo_B, log_p_B, grads, expected = found(jax.random.key(3), params)
  np.testing.assert_allclose(total_B, 1, atol=2e-3)
  assert oracle.mean_p_value(np.asarray(drawn_KBF).reshape(len(drawn_KBF), -1),
                             np.asarray(exact_BF).ravel()) > oracle.SIGNIFICANCE
  assert np.all(elbo_B < log_p_B)
  for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_inference_from_the_top_adds_precisions():
  params, z = example(LADDER), (jnp.full((1, 2, 1), 0.4), jnp.full((1, 2, 1), -0.3))
  code_B4 = np.asarray(LADDER.encode(params, X_BV), np.float64)
  (m, t), (n, u) = code_B4[:, :2].T, np.asarray(networks.apply(
    LADDER.decoders[1], params.decoder[1], z[1][0]), np.float64).T
  precision = np.exp(-2 * t) + np.exp(-2 * u)
  mean = (m * np.exp(-2 * t) + n * np.exp(-2 * u)) / precision
  expected = (scipy.stats.norm.logpdf(0.4, mean, precision**-0.5)
              + scipy.stats.norm.logpdf(-0.3, code_B4[:, 2], np.exp(code_B4[:, 3])))
  np.testing.assert_allclose(LADDER.log_posterior(params, jnp.float32(code_B4), z)[0], expected,
                             rtol=1e-5)
  means = LADDER.mean_path(params, jnp.float32(code_B4))
  np.testing.assert_allclose(means[1][:, 0], code_B4[:, 2], rtol=1e-6)
