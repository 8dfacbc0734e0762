"""The variational autoencoder against densities in NumPy float64 and integrals.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.models import networks, vae
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, K, B = 6, 3, 4
BINARY = vae.model(V, (5, 2), ((7,), (4,)))
REAL = vae.model(V, (2,), ((5,),), likelihood=vae.gaussian(floor=0.1), activation=jnp.sin)


def example(model: vae.Model, seed=0) -> vae.Params:
  rng = np.random.default_rng(seed)
  fresh = jax.jit(model.init)(jax.random.key(0), jnp.full(V, 0.5))
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), fresh)


def some(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def out(network, params, x):
  return np.asarray(networks.apply(network, params, x), np.float64)


def log_normal(x, outputs, floor=0.0):
  """By scipy, summed over units."""
  mean, t = np.split(outputs, 2, axis=-1)
  return scipy.stats.norm.logpdf(x, mean, floor + np.exp(t)).sum(-1)


# Density.


def test_the_densities_of_two_layers_are_their_factors():
  params, x_BV, z = example(BINARY), (some(B, V) > 0).astype(jnp.float32), (
    some(K, B, 5, seed=1), some(K, B, 2, seed=2))
  logits = out(BINARY.decoders[0], params.decoder[0], z[0]) + np.asarray(params.bias_O)
  on = 1 / (1 + np.exp(-logits))
  np.testing.assert_allclose(BINARY.log_likelihood(params, x_BV, z),
                             np.log(np.where(x_BV == 1, on, 1 - on)).sum(-1), rtol=1e-4)
  np.testing.assert_allclose(
    BINARY.log_prior(params, z), scipy.stats.norm.logpdf(z[1]).sum(-1) + log_normal(
      z[0], out(BINARY.decoders[1], params.decoder[1], z[1])), rtol=1e-4)
  code_BO = BINARY.encode(params, x_BV)
  np.testing.assert_allclose(code_BO, out(BINARY.encoders[0], params.encoder[0], x_BV), rtol=1e-6)
  np.testing.assert_allclose(
    BINARY.log_posterior(params, code_BO, z), log_normal(z[0], np.asarray(code_BO, np.float64))
    + log_normal(z[1], out(BINARY.encoders[1], params.encoder[1], z[0])), rtol=1e-4)


def test_a_gaussian_likelihood_learns_its_scale_above_the_floor():
  params, x_BV, z = example(REAL), some(B, V), (some(K, B, 2, seed=1),)
  outputs = out(REAL.decoders[0], params.decoder[0], z[0]) + np.asarray(params.bias_O)
  np.testing.assert_allclose(REAL.log_likelihood(params, x_BV, z), log_normal(x_BV, outputs, 0.1),
                             rtol=1e-4)
  tiny = vae.gaussian(floor=0.1).log_prob(jnp.array([0.0, -50.0]), jnp.zeros(1))
  np.testing.assert_allclose(tiny, scipy.stats.norm.logpdf(0, 0, 0.1), rtol=1e-5)


def test_a_fixed_scale():
  family, x_BV, mean_BV = vae.gaussian(0.3), some(B, V), some(B, V, seed=1)
  np.testing.assert_allclose(family.log_prob(mean_BV, x_BV),
                             scipy.stats.norm.logpdf(x_BV, mean_BV, 0.3).sum(-1), rtol=1e-4)
  x = np.asarray(jax.jit(family.sample)(jax.random.key(0), jnp.full((20_000, 1), 2.0)))
  assert scipy.stats.kstest(x[:, 0], scipy.stats.norm(2.0, 0.3).cdf).pvalue > oracle.SIGNIFICANCE


def test_large_logits_neither_overflow_nor_lose_their_gradient():
  logits = jnp.array([200.0, -200.0, 0.0])
  value, grad = jax.value_and_grad(vae.BINARY.log_prob)(logits, jnp.array([0.0, 1.0, 1.0]))
  np.testing.assert_allclose(value, -400 - np.log(2), rtol=1e-6)
  np.testing.assert_allclose(grad, [-1, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize('family, q, p', [
  (vae.NORMAL, [0.3, -0.4], [-0.5, 0.2]), (vae.gaussian(0.4), [0.3], [0.9]),
  (vae.gaussian(floor=0.2), [0.3, -0.4], [-0.5, 0.2])], ids=['learned', 'fixed', 'floor'])
def test_the_kl_of_gaussians_is_the_integral(family, q, p):
  x = np.linspace(-12, 12, 20_001)
  log_q, log_p = (np.asarray(family.log_prob(jnp.array(o), jnp.float32(x)[:, None]), np.float64)
                  for o in (q, p))
  expected = np.sum(np.exp(log_q) * (log_q - log_p)) * (x[1] - x[0])
  np.testing.assert_allclose(family.kl(jnp.array(q), jnp.array(p)), expected, rtol=1e-3)


def test_the_kl_of_bernoullis_is_the_sum():
  q, p = jnp.array([0.5, -1.0]), jnp.array([-0.3, 2.0])
  states = jnp.float32(oracle.states(2))
  log_q, log_p = (np.asarray(vae.BINARY.log_prob(o, states), np.float64) for o in (q, p))
  np.testing.assert_allclose(vae.BINARY.kl(q, p), np.sum(np.exp(log_q) * (log_q - log_p)),
                             rtol=1e-5)


def test_the_kl_to_the_prior():
  params, x_BV = example(REAL), some(B, V)
  mean, t = np.split(np.asarray(REAL.encode(params, x_BV), np.float64), 2, axis=-1)
  np.testing.assert_allclose(REAL.kl(params, REAL.encode(params, x_BV)), np.sum(
    (mean**2 + np.exp(2 * t) - 1) / 2 - t, axis=-1), rtol=1e-4)
  with pytest.raises(ValueError, match='2 stochastic layers has no closed form'):
    BINARY.kl(example(BINARY), some(B, 10))


def test_log_weights_are_the_difference_of_the_densities():
  params, x_BV = example(BINARY), (some(B, V) > 0).astype(jnp.float32)
  z = BINARY.sample_posterior(jax.random.key(1), params, BINARY.encode(params, x_BV), K)
  np.testing.assert_allclose(
    BINARY.log_weights(jax.random.key(1), params, x_BV, K), BINARY.log_likelihood(params, x_BV, z)
    + BINARY.log_prior(params, z) - BINARY.log_posterior(params, BINARY.encode(params, x_BV), z),
    rtol=1e-5)


# Sampling.


def test_posterior_samples_follow_each_conditional():
  params, x_BV, num = example(BINARY), (some(B, V) > 0).astype(jnp.float32), 20_000
  code_BO = BINARY.encode(params, x_BV)
  z = jax.jit(BINARY.sample_posterior, static_argnums=3)(jax.random.key(2), params, code_BO, num)
  assert z[0].shape == (num, B, 5) and z[1].shape == (num, B, 2)
  # Whitened by the conditional they were drawn from, samples are standard normal.
  above = out(BINARY.encoders[1], params.encoder[1], z[0])
  for z_KBZ, outputs in ((z[0], np.asarray(code_BO)), (z[1], above)):
    mean, t = np.split(outputs, 2, axis=-1)
    e_ND = ((np.asarray(z_KBZ) - mean) / np.exp(t)).reshape(num, -1)
    assert oracle.mean_p_value(e_ND, 0) > oracle.SIGNIFICANCE
    assert oracle.mean_p_value(e_ND**2, 1) > oracle.SIGNIFICANCE
    products_ND = np.einsum('ni,nj->nij', e_ND, e_ND)[:, *np.triu_indices(e_ND.shape[1], 1)]
    assert oracle.mean_p_value(products_ND, 0) > oracle.SIGNIFICANCE
  for means, outputs in zip(BINARY.posterior_means(params, code_BO, z), (code_BO, above),
                            strict=True):
    np.testing.assert_allclose(means, np.split(np.asarray(outputs), 2, axis=-1)[0], rtol=1e-6)


def test_samples_move_with_their_parameters():
  # d/dm E[z^2] = 2 m through the path, exactly so when averaged over +-e; here to sampling error.
  def second_moment(outputs):
    z_N1 = vae.NORMAL.sample(jax.random.key(3), jnp.broadcast_to(outputs, (200_000, 2)))
    return jnp.mean(z_N1**2)
  np.testing.assert_allclose(jax.grad(second_moment)(jnp.array([0.7, -0.2])),
                             [2 * 0.7, 2 * np.exp(-0.4)], rtol=0.02)


def test_prior_samples_follow_the_prior():
  params, num = example(BINARY), 20_000
  z = jax.jit(BINARY.sample_prior, static_argnums=2)(jax.random.key(4), params, num)
  assert z[0].shape == (num, 5) and z[1].shape == (num, 2)
  mean, t = np.split(out(BINARY.decoders[1], params.decoder[1], z[1]), 2, axis=-1)
  e_ND = np.concatenate([z[1], (np.asarray(z[0]) - mean) / np.exp(t)], axis=1)
  assert oracle.mean_p_value(e_ND, 0) > oracle.SIGNIFICANCE
  assert oracle.mean_p_value(e_ND**2, 1) > oracle.SIGNIFICANCE


def test_visible_samples_have_the_visible_mean():
  params, z_NZ = example(BINARY), jnp.tile(some(1, 5), (20_000, 1))
  x_NV = np.asarray(BINARY.sample_visible(jax.random.key(5), params, z_NZ))
  assert set(np.unique(x_NV)) == {0.0, 1.0}
  assert oracle.mean_p_value(x_NV, BINARY.visible_mean(params, z_NZ)[0]) > oracle.SIGNIFICANCE


# Parameters.


@pytest.mark.parametrize('model', [BINARY, REAL], ids=['binary', 'real'])
def test_an_untrained_model_says_the_mean(model):
  mean_V = jnp.linspace(0.05, 0.95, V)
  params = jax.jit(model.init)(jax.random.key(6), mean_V)
  # At z = 0 only biases speak, and all but the one that starts at the data's mean are 0.
  found_V = model.visible_mean(params, jnp.zeros((1, model.widths[0])))[0]
  np.testing.assert_allclose(found_V, mean_V, atol=1e-3)
  assert params.prior_O == () and params.center_V == ()


def test_hidden_layers_are_given_for_each_stochastic_layer():
  with pytest.raises(ValueError, match='2 stochastic layers, but hidden layers for 1'):
    vae.model(V, (3, 2), ((4,),))
  with pytest.raises(ValueError, match='0 stochastic layers'):
    vae.model(V, (), ())


def test_networks_in_bfloat16_have_float32_densities_and_gradients():
  exact = vae.model(V, (5,), ((7,),))
  rough = exact._replace(dtype=jnp.bfloat16)
  params, x_BV = example(exact), (some(B, V) > 0).astype(jnp.float32)

  def loss(model):
    def mean_weight(params, key, x_BV):
      return jnp.mean(model.log_weights(key, params, x_BV, 100))
    return mean_weight

  def products(model):
    """The dtypes of the factors of all products of the program, those of its gradient too."""
    jaxpr = jax.make_jaxpr(jax.grad(loss(model)))(params, jax.random.key(0), x_BV)
    return set(re.findall(r'(\w+)\[[^\]]*\] = dot_general', str(jaxpr)))

  assert 'bf16' not in products(exact) and 'bf16' in products(rough)
  (value, slope), (near, near_slope) = (jax.jit(jax.value_and_grad(loss(model)))(
    params, jax.random.key(0), x_BV) for model in (exact, rough))
  assert near.dtype == jnp.float32 and {x.dtype for x in jax.tree.leaves(near_slope)} == {
    jnp.dtype('float32')}
  assert near != value
  np.testing.assert_allclose(near, value, rtol=1e-2)
  for a, b in zip(jax.tree.leaves(near_slope), jax.tree.leaves(slope), strict=True):
    np.testing.assert_allclose(a, b, atol=0.03 * np.abs(b).max())
