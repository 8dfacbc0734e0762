"""A discrete autoencoder with an RBM as prior, against enumeration in NumPy float64.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import belief_net, gibbs, rbm_prior, vae
from gen_models.problems.rbm_prior import MODEL, NET, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

X, V, H = 4, 4, 3
DEEP = rbm_prior.model(belief_net.model(3, (2, 4))._replace(learned_prior=False), 3)


def probability(logits, x):
  p = 1 / (1 + np.exp(-logits))
  return np.prod(np.where(x == 1, p, 1 - p), axis=-1)


def affine(layer, x):
  layer, = layer.values()
  return x @ np.asarray(layer['w_DF'], np.float64) + np.asarray(layer.get('b_F', 0.0))


def joint():
  """p(x, z) of PARAMS, [2^X, 2^(V + H)]; the index of z is that of (v, h)."""
  p_VH = oracle.rbm_joint(PARAMS.prior).p_AS
  x_A, z_S = oracle.states(X), oracle.states(V + H)
  logits_SX = affine(PARAMS.net.decoder[0], z_S) + np.asarray(PARAMS.net.bias_O, np.float64)
  p_S = p_VH[oracle.index(z_S[:, :V]), oracle.index(z_S[:, V:])]
  return probability(logits_SX[None], x_A[:, None]) * p_S


def test_the_joint_density_is_the_enumerated_one():
  x_A, z_S = jnp.float32(oracle.states(X)), jnp.float32(oracle.states(V + H))
  z = (z_S[:, None],)
  log_p_SA = (MODEL.enumerated.log_likelihood(PARAMS, x_A, z)
              + MODEL.enumerated.log_prior(PARAMS, z))
  np.testing.assert_allclose(log_p_SA.T, np.log(joint()), rtol=1e-4, atol=2e-5)
  np.testing.assert_allclose(np.exp(log_p_SA).sum(), 1, rtol=1e-5)
  # Where log Z is left out, it is missing from every sample alike.
  left_S = MODEL.log_prior(PARAMS, z) - MODEL.enumerated.log_prior(PARAMS, z)
  np.testing.assert_allclose(left_S, oracle.rbm_joint(PARAMS.prior).log_partition, rtol=1e-5)


@pytest.mark.slow
def test_a_directed_layer_below_the_machine_is_part_of_the_density():
  draws = np.random.default_rng(1)
  shapes = jax.eval_shape(DEEP.init, jax.random.key(0), jnp.full(3, 0.5))
  params = jax.tree.map(lambda x: jnp.asarray(draws.normal(size=x.shape), jnp.float32), shapes)
  rows = np.array(list(itertools.product(range(8), range(4), range(16))))
  x, z_1, z_2 = (oracle.states(n)[rows[:, i]] for i, n in enumerate((3, 2, 4)))
  p_VH = oracle.rbm_joint(params.prior).p_AS
  p_A = (probability(affine(params.net.decoder[0], z_1) + np.asarray(params.net.bias_O), x)
         * probability(affine(params.net.decoder[1], z_2), z_1)
         * p_VH[oracle.index(z_2[:, :3]), oracle.index(z_2[:, 3:])])
  z = (jnp.float32(z_1)[None], jnp.float32(z_2)[None])
  log_p_A = (DEEP.log_likelihood(params, jnp.float32(x), z) + DEEP.enumerated.log_prior(params, z))
  np.testing.assert_allclose(log_p_A[0], np.log(p_A), rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_draws_follow_the_joint():
  @jax.jit
  def draw(key):
    key_z, key_x = jax.random.split(key)
    z_1, = MODEL.sample_prior(key_z, PARAMS, 2**15, num_steps=20)
    return MODEL.sample_visible(key_x, PARAMS, z_1), z_1

  x, z_1 = draw(jax.random.key(1))
  cells = oracle.index(x) * 2**(V + H) + oracle.index(z_1)
  oracle.assert_frequencies(cells, joint().ravel())


def test_draws_go_on_from_chains_that_are_given():
  chains = gibbs.Chains(jnp.ones((5, V)), jnp.zeros((5, H)))
  z_1, = MODEL.sample_prior(jax.random.key(2), PARAMS, 5, num_steps=0, chains=chains)
  np.testing.assert_array_equal(z_1, np.tile([1.0] * V + [0.0] * H, (5, 1)))


@pytest.mark.parametrize('net, num_visible, says', [
  (NET._replace(latent=vae.categorical(3)), None, 'not binary'),
  (NET._replace(learned_prior=True), None, 'learned_prior=False'),
  (NET, 7, 'no two sides'), (NET, 0, 'no two sides')])
def test_what_is_no_prior_of_these_latents_is_refused(net, num_visible, says):
  with pytest.raises(ValueError, match=says):
    rbm_prior.model(net, num_visible)
