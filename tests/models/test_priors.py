"""Priors of the top layer against integrals over two latents and sums written out.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models import estimators
from gen_models.models import belief_net, flows, networks, posteriors, priors, vae
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, NUM = 4, 4000
PRIORS = {'mixture': priors.Mixture(3), 'vamp': priors.Vamp(3), 'flow': priors.Flow(2, (5,))}
GRID = np.stack(np.meshgrid(*[np.linspace(-20, 20, 201)] * 2, indexing='ij'), -1).reshape(-1, 2)
CELL = 0.2**2


def model(**parts) -> vae.Model:
  return vae.model(V, (2,), ((6,),), **parts)


def example(model: vae.Model, seed=0) -> vae.Params:
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.full(V, 0.5))
  return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.mark.parametrize('name', [
  'mixture', *(pytest.param(name, marks=pytest.mark.slow) for name in ('vamp', 'flow'))])
def test_a_prior_is_normalised_and_its_draws_are_its_own(name):
  net = model(prior=PRIORS[name])
  params = example(net)

  @jax.jit
  def found(key, params):
    log_p_A = net.log_prior(params, (jnp.float32(GRID)[:, None],))[:, 0]
    return log_p_A, net.sample_prior(key, params, NUM)[0]

  log_p_A, z_NZ = found(jax.random.key(0), params)
  p_A = np.exp(np.asarray(log_p_A, np.float64)) * CELL
  assert p_A.sum() == pytest.approx(1, abs=1e-3)
  def statistics(z):
    return np.concatenate([z, z**2, z[:, :1] * z[:, 1:], np.sin(2 * z)], axis=1)
  expected = p_A @ statistics(GRID)
  assert oracle.mean_p_value(statistics(np.asarray(z_NZ, np.float64)), expected
                             ) > oracle.SIGNIFICANCE


def test_a_vamp_prior_is_the_average_of_posteriors():
  net = model(prior=priors.Vamp(3))
  params, z_N = example(net), np.random.default_rng(1).normal(size=(5, 2))
  m_KZ, t_KZ = np.split(np.asarray(networks.apply(
    net.encoders[0], params.encoder[0], params.prior_O), np.float64), 2, axis=1)
  log_q_NK = scipy.stats.norm.logpdf(z_N[:, None], m_KZ, np.exp(t_KZ)).sum(-1)
  np.testing.assert_allclose(net.log_prior(params, (jnp.float32(z_N),)),
                             scipy.special.logsumexp(log_q_NK, axis=1) - np.log(3), rtol=1e-4)


@pytest.mark.slow
def test_pseudo_inputs_start_at_rows_of_the_data():
  net, rows_RV = model(prior=priors.Vamp(3)), jnp.float32(oracle.states(V))
  params = jax.jit(net.init)(jax.random.key(0), jnp.full(V, 0.5), rows_RV)
  assert len({int(i) for i in oracle.index(params.prior_O)}) == 3
  near = jax.jit(net.init)(jax.random.key(0), jnp.full(V, 0.5)).prior_O
  assert 0 < np.abs(near - 0.5).max() < 0.6
  two = vae.model(V, (3, 2), ((), ()), prior=priors.Vamp(4))
  assert jax.eval_shape(two.init, jax.random.key(0), jnp.full(V, 0.5)).prior_O.shape == (4, 3)


def test_mixtures_are_of_discrete_latents_too():
  net = belief_net.model(V, (3,))._replace(learned_prior=False, prior=priors.Mixture(2))
  params = example(net)
  p_S = np.exp(net.log_prior(params, (jnp.float32(oracle.states(3)),)))
  assert p_S.sum() == pytest.approx(1, abs=1e-5)


def test_pairs_that_make_no_sense_say_why():
  mixed = model(prior=priors.Mixture(3))
  with pytest.raises(ValueError, match='a mixture of 3 components has no closed form'):
    mixed.kl(example(mixed), jnp.zeros((2, 4)))
  with pytest.raises(ValueError, match='a flow of 2 steps has no closed form'):
    model(posterior=posteriors.Flow()).kl_by_unit(None, jnp.zeros((2, 4)))
  with pytest.raises(ValueError, match='a VampPrior of 3 pseudo-inputs has none: use dreg'):
    estimators.generalised_dreg(model(prior=priors.Vamp(3)), 2)
  for shared in (model(prior=priors.Vamp(3)), vae.model(V, (2, 1), ((), ()), top_down=True)):
    with pytest.raises(ValueError, match='moves q and holds p, and in this model they share'):
      estimators.wake_sleep(shared)
  discrete = belief_net.model(V, (3,))
  with pytest.raises(ValueError, match='not both'):
    discrete._replace(prior=priors.Mixture(2)).check()
  with pytest.raises(ValueError, match='posteriors of real latents'):
    discrete._replace(posterior=posteriors.Mixture(2)).check()
  with pytest.raises(ValueError, match='flow of 2 steps is one of real latents'):
    example(discrete._replace(learned_prior=False, prior=priors.Flow(2)))
  with pytest.raises(ValueError, match='of one stochastic layer nothing is above'):
    model(top_down=True)
  with pytest.raises(ValueError, match='multiplies Gaussians of learned scale'):
    vae.model(V, (2, 1), ((), ()), top_down=True, posterior=posteriors.Flow(flows.coupling))
