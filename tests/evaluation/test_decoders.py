"""Likelihoods of decoders from both sides, against quadrature over two latents, enumerated belief
nets and models that are Gaussian.

Keys are fixed. Sides of a bound, and means of weights that should be 1, are compared at 4.5
standard errors, which a sound sampler crosses for one key in 100,000.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models.evaluation import decoders, importance
from gen_models.evaluation.decoders import Settings
from gen_models.models import flows, posteriors, priors, vae
from gen_models.problems import variational as problems
from gen_models.samplers import hamiltonian

pytestmark = pytest.mark.usefixtures('strict_promotion')

Z = 4.5
MODEL = vae.model(6, (2,), ((8,),))  # six binary pixels, two latents, eight tanh units between
SETTINGS = Settings(num_temperatures=20, num_chains=8, num_moves=4)


@functools.cache
def nonlinear() -> vae.Params:
  """Weights so large that posteriors are not Gaussian, and an encoder that knows nothing."""
  params = MODEL.init(jax.random.key(0), jnp.full(6, 0.5))
  return params._replace(decoder=jax.tree.map(lambda w: 2.5 * w, params.decoder))


@functools.partial(jax.jit, static_argnames='model')
def by_quadrature(params, x_NV, model=MODEL):
  """log p(x) by the trapezoidal rule on [-7, 7]^2, [N]."""
  grid_G = np.linspace(-7, 7, 141)
  z_SD = jnp.asarray(np.stack(np.meshgrid(grid_G, grid_G), -1).reshape(-1, 2), jnp.float32)
  z = (z_SD[:, None],)
  log_p_SN = model.log_likelihood(params, x_NV, z) + model.log_prior(params, z)
  return jax.nn.logsumexp(log_p_SN, axis=0) + 2 * np.float32(np.log(grid_G[1] - grid_G[0]))


def off_by(ratio_CN) -> float:
  """Standard errors between the mean of ratios and 1; chains of an image are not independent."""
  mean_N = ratio_CN.mean(0)
  return (mean_N.mean() - 1) / (mean_N.std(ddof=1) / np.sqrt(len(mean_N)))


def require_both_sides(found: decoders.Both, exact_N):
  """E[w] = p(x), E[1 / w] = 1 / p(x), and the sides lie where Jensen says."""
  exact_N = np.asarray(exact_N, np.float64)
  assert abs(off_by(np.exp(found.lower.log_weights_CN - exact_N))) < Z
  assert abs(off_by(np.exp(found.upper.log_weights_CN + exact_N))) < Z
  for side_N in (exact_N - found.lower.log_mean_N, -found.upper.log_mean_N - exact_N):
    assert side_N.mean() > -Z * side_N.std(ddof=1) / np.sqrt(len(side_N))
  entry = decoders.of_both(found)
  assert entry['lower'] < exact_N.mean() + Z * entry['standard_error']
  assert entry['upper'] > exact_N.mean() - Z * entry['standard_error']
  assert entry['gap'] == pytest.approx(entry['upper'] - entry['lower'])
  return entry


def both(path, decoder, params, num=200, settings=SETTINGS, seed=2):
  with jax.debug_key_reuse(False):
    return decoders.bidirectional(jax.random.key(seed), path, decoder, params, num, settings)


def test_both_sides_agree_with_quadrature():
  decoder = decoders.of_vae(MODEL)
  found = both(decoders.from_prior(decoder), decoder, nonlinear())
  entry = require_both_sides(found, by_quadrature(nonlinear(), found.x_NV))
  assert 0 < entry['gap'] < 0.2 and entry['standard_error'] < 0.05
  for name in ('acceptance', 'reverse_acceptance'):
    assert 0.5 < entry[name] < 0.8  # step sizes were found


@pytest.mark.slow
def test_without_the_correction_the_weights_are_wrong(monkeypatch):
  """The fault that the test above is to find: trajectories that are always accepted."""
  decoder = decoders.of_vae(MODEL)
  monkeypatch.setattr(hamiltonian, '_chosen', lambda accept_CB, new, old: new)
  found = both(decoders.from_prior(decoder), decoder, nonlinear(), num=1000)
  with pytest.raises(AssertionError):
    require_both_sides(found, by_quadrature(nonlinear(), found.x_NV))


@pytest.mark.slow
def test_from_the_encoder_the_sides_hold_too_and_close_with_more_temperatures():
  decoder, path = decoders.of_vae(MODEL), decoders.from_encoder(MODEL)
  gaps = []
  for num_temperatures in (10, 100):
    found = both(path, decoder, nonlinear(), settings=SETTINGS._replace(
      num_temperatures=num_temperatures))
    gaps.append(require_both_sides(found, by_quadrature(nonlinear(), found.x_NV))['gap'])
  assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.slow
def test_given_images_agree_with_quadrature_and_with_the_importance_bound(monkeypatch):
  monkeypatch.setattr(decoders, '_ROWS', 16 * 30)  # groups of 30 images, the last not full
  params, lines = nonlinear(), []
  x_NV = np.asarray(np.random.default_rng(0).integers(0, 2, (100, 6)), np.float32)
  path, settings = decoders.from_prior(decoders.of_vae(MODEL)), Settings(200, 16, 4)
  with jax.debug_key_reuse(False):
    entry = decoders.of_images(decoders.annealed(jax.random.key(3), path, params, x_NV, settings,
                                                 lines.append))
  bound = importance.bound(jax.random.key(4), MODEL, params, x_NV, binarisation='static',
                           num_samples=20_000)
  exact = float(by_quadrature(params, x_NV).mean())
  assert abs(entry['nats'] - exact) < Z * entry['standard_error'] < 0.1
  assert abs(bound['test_nats'] - exact) < Z * bound['standard_error'] < 0.1
  assert lines[-1] == 'annealing: 100 of 100 images' and len(lines) == 4
  assert 1 < entry['effective_sample_size'] <= 16 and 'hollow' not in entry


@pytest.mark.slow
@pytest.mark.parametrize('model, params, num_units', [
  (problems.BELIEF, problems.BELIEF_PARAMS, (3,)),
  (problems.DEEP_BELIEF, problems.DEEP_PARAMS, (3, 2))], ids=['one layer', 'two layers'])
@pytest.mark.parametrize('start', ['prior', 'encoder'])
def test_flips_of_binary_latents_agree_with_enumeration(model, params, num_units, start):
  decoder = decoders.of_vae(model)
  path = decoders.from_prior(decoder) if start == 'prior' else decoders.from_encoder(model)
  # 16 possible images: the mean of weights is then nearly normal.
  found = both(path, decoder, params, num=500)
  log_p_SN, _ = problems.belief_terms(params, found.x_NV, num_units)
  require_both_sides(found, scipy.special.logsumexp(np.asarray(log_p_SN, np.float64), axis=0))


@pytest.mark.slow
def test_two_layers_of_gaussian_latents_agree_with_their_density():
  """x = w_1 z_1 + noise, z_1 = w_2 z_2 + noise of constant scale: Gaussian."""
  params = jax.tree.map(lambda x: x, problems.TWO_PARAMS)
  top = params.decoder[1]['Dense_0']
  top['w_DF'] = top['w_DF'].at[:, 1:].set(0.0)
  decoder = decoders.of_vae(problems.TWO)
  found = both(decoders.from_prior(decoder), decoder, params, num=400,
               settings=Settings(100, 8, 5))
  w_1, (w_2, _), (m_2, t_2) = (np.asarray(x, np.float64) for x in (
    params.decoder[0]['Dense_0']['w_DF'][0], top['w_DF'][0], top['b_F']))
  variance = w_2**2 + np.exp(2 * t_2)
  exact_N = scipy.stats.multivariate_normal(
    np.asarray(params.bias_O) + w_1 * m_2,
    variance * np.outer(w_1, w_1) + problems.SCALE**2 * np.eye(2)).logpdf(found.x_NV)
  require_both_sides(found, exact_N)


@pytest.mark.slow
def test_a_linear_generator_with_noise_has_its_gaussian_density():
  w_ZV, scale = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32), 0.3
  decoder = decoders.of_generator(lambda w_ZV, z_RZ: z_RZ @ w_ZV, 3, scale)
  w_ZV = jnp.asarray(w_ZV)
  found = both(decoders.from_prior(decoder), decoder, w_ZV, settings=Settings(200, 8, 5))
  covariance_VV = np.asarray(w_ZV.T @ w_ZV, np.float64) + scale**2 * np.eye(5)
  entry = require_both_sides(found, scipy.stats.multivariate_normal(
    np.zeros(5), covariance_VV).logpdf(found.x_NV))
  assert entry['gap'] < 0.3


def test_units_of_many_states_are_refused():
  model = MODEL._replace(latent=vae.categorical(3))
  with pytest.raises(ValueError, match='not units of 3 states'):
    decoders.of_vae(model)


def test_a_schedule_rises_from_0_to_1_and_is_fine_at_both_ends():
  rises_T = np.diff(hamiltonian.sigmoidal(100))
  assert rises_T.sum() == pytest.approx(1) and np.all(rises_T > 0)
  assert rises_T[0] == pytest.approx(rises_T[-1]) and rises_T[50] > 5 * rises_T[0]
  with pytest.raises(ValueError, match='at least one step, got 0'):
    hamiltonian.sigmoidal(0)


@pytest.mark.slow
def test_both_sides_agree_with_quadrature_where_prior_and_encoder_are_others():
  """From a prior that is a mixture, and from an encoder that is a flow."""
  model = vae.model(6, (2,), ((8,),), prior=priors.Mixture(3),
                    posterior=posteriors.Flow(flows.coupling, 2, (4,)))
  params = model.init(jax.random.key(0), jnp.full(6, 0.5))
  params = params._replace(decoder=nonlinear().decoder)
  decoder = decoders.of_vae(model)
  for path in (decoders.from_prior(decoder), decoders.from_encoder(model)):
    found = both(path, decoder, params)
    require_both_sides(found, by_quadrature(params, found.x_NV, model))
