"""Estimators for discrete latents, beside what the shared battery checks of them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models import estimators
from gen_models.estimators.relaxed import as_numbers, as_states, conditional
from gen_models.evaluation import gradients
from gen_models.models import belief_net, vae
from gen_models.problems import catalogue, discrete as problems, variational

pytestmark = pytest.mark.usefixtures('strict_promotion')

discrete = importlib.import_module('gen_models.estimators.discrete')  # the function has its name


def measure(logits):
  entry = catalogue.ENTRIES['relax1']
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    return gradients.audit(
      jax.random.key(1), estimators.discrete(variational.BELIEF, logits), entry.params,
      entry.batch, catalogue.exact_grads(entry), num_draws=4096, burn_in=entry.burn_in,
      error_rate=1e-4)


def leaking():
  """relax, with the gradient of its control variate's objective let into the encoder."""
  right = estimators.relax(optax.adam(0.03), (8,))

  def estimate(key, state, layer):
    def noise(t_BZ):
      found, _ = right.estimate(jax.random.clone(key), state, layer._replace(logits_BZ=t_BZ))
      return 3 * jnp.sum(jnp.square(found.gradient_BZ))

    found, after = right.estimate(key, state, layer)
    leak_BZ = jax.grad(noise)(layer.logits_BZ)
    return found._replace(gradient_BZ=found.gradient_BZ + leak_BZ), after

  return right._replace(estimate=estimate)


@pytest.mark.slow
def test_a_leak_of_the_control_variate_into_the_model_is_caught():
  found = measure(leaking())
  assert found.biased and found.bias_z > found.threshold + 1, found.bias_z


def test_a_path_that_is_left_out_is_caught(monkeypatch):
  monkeypatch.setattr(discrete, 'conditional',
                      lambda *args: jax.lax.stop_gradient(conditional(*args)))
  found = measure(estimators.rebar(optax.adam(0.03)))
  assert found.biased and found.bias_z > found.threshold + 5, found.bias_z


def test_noise_given_the_state_that_it_chose_has_the_law_of_all_noise():
  # States by their probabilities, then noise given the state: together plain Gumbel noise.
  num = 20_000
  t_Q = jnp.array([0.5, -1.0, 2.0])
  z_NQ = jax.nn.one_hot(jax.random.categorical(jax.random.key(0), t_Q, shape=(num,)), 3)
  y_NQ = conditional(t_Q, z_NQ, jax.random.exponential(jax.random.key(1), (num, 3)))
  np.testing.assert_array_equal(jnp.argmax(y_NQ, axis=1), jnp.argmax(z_NQ, axis=1))
  noise_NQ = np.asarray(y_NQ - t_Q)
  # Mean and variance of the Gumbel distribution; errors of five standard deviations.
  np.testing.assert_allclose(noise_NQ.mean(0), np.euler_gamma, atol=5 * 1.28 / num**0.5)
  np.testing.assert_allclose(noise_NQ.var(0), np.pi**2 / 6, atol=0.15)
  np.testing.assert_allclose(np.corrcoef(noise_NQ.T)[np.triu_indices(3, 1)], 0, atol=0.04)


def test_two_samples_of_arms_are_a_pair_of_disarm():
  # The same pair has the same gradient: the factor 1 / (1 - r) is max(m, 1 - m).
  t_BZ = jnp.linspace(-4.0, 4.0, 9)[None]
  layer = discrete.Layer(t_BZ, lambda key, z: jnp.sum(z**2 * jnp.arange(9.0), axis=-1), vae.BINARY)
  found, _ = estimators.arms(2).estimate(jax.random.key(0), (), layer)
  f_2B, (one, other) = layer.reward(None, found.z_KBZ), found.z_KBZ
  m_BZ = layer.mean_BZ
  expected = (f_2B[0] - f_2B[1])[:, None] * (one - other) * jnp.maximum(m_BZ, 1 - m_BZ) / 2
  np.testing.assert_allclose(found.gradient_BZ, expected, rtol=1e-4, atol=1e-6)


def test_units_that_never_change_have_a_gradient_that_is_a_number():
  layer = discrete.Layer(jnp.array([[-200.0, 200.0, 0.0]]), lambda key, z: jnp.sum(z, axis=-1),
                         vae.BINARY)
  for logits in (estimators.arms(3), estimators.disarm(), estimators.arm()):
    found, _ = logits.estimate(jax.random.key(0), (), layer)
    assert bool(jnp.all(jnp.isfinite(found.gradient_BZ))), logits


def test_relax_holds_layers_above_that_its_surrogate_reads():
  # f = 1 where the layer above, drawn given z, is on: d E[f] / d t = 0.8 m (1 - m). A surrogate
  # whose layer above is drawn given y has jumps, and its path is zero.
  def reward(key, z_KBZ, given_BZ=None):
    above_KBZ = z_KBZ if given_BZ is None else jnp.broadcast_to(given_BZ, z_KBZ.shape)
    u_KBZ = jax.random.uniform(key, z_KBZ.shape)
    return jnp.sum(jnp.float32(u_KBZ < 0.1 + 0.8 * above_KBZ), axis=-1)

  logits_BZ = jnp.full((1, 1), 0.5)
  logits = estimators.relax(optax.sgd(0.0), None)
  state = logits.init(jax.random.key(0), vae.BINARY, 1)
  layer = discrete.Layer(logits_BZ, reward, vae.BINARY)
  found_N = jax.jit(jax.vmap(lambda key: logits.estimate(key, state, layer)[0].gradient_BZ[0, 0]))(
    jax.random.split(jax.random.key(1), 20_000))
  m = float(jax.nn.sigmoid(0.5))
  error = float(jnp.std(found_N)) / len(found_N)**0.5
  assert abs(float(jnp.mean(found_N)) - 0.8 * m * (1 - m)) < 4 * error  # error rate 6e-5


def test_reinmax_is_exact_for_quadratic_functions():
  # Heun's rule integrates a linear slope exactly: E over both states of f'(z) dz/dt is dE[f]/dt.
  t = jnp.array([[0.7]])
  slope = 3.0 * jnp.array([0.0, 1.0]) - 1.0  # f(z) = 1.5 z^2 - z
  p = float(jax.nn.sigmoid(t)[0, 0])
  found = jnp.mean(jax.vmap(lambda key: _along(t, estimators.reinmax(), slope, key))(
    jax.random.split(jax.random.key(0), 4000)))
  through = jnp.mean(jax.vmap(lambda key: _along(t, estimators.straight_through(), slope, key))(
    jax.random.split(jax.random.key(0), 4000)))
  exact = p * (1 - p) * 0.5  # f(1) - f(0)
  assert abs(float(found) - exact) < 0.02 < abs(float(through) - exact)


def _along(t, relaxation, slope, key):
  def sample(t):
    return as_numbers(vae.BINARY, relaxation.sample(key, as_states(vae.BINARY, t)))

  z, pull = jax.vjp(sample, t)
  return pull(slope[z.astype(jnp.int32)])[0][0, 0]


@pytest.mark.parametrize('make, message', [
  (lambda: estimators.discrete(variational.ONE, estimators.disarm()), 'continuous: use elbo'),
  (lambda: estimators.relaxed(variational.ONE, estimators.reinmax()), 'continuous: use elbo'),
  (lambda: estimators.discrete(problems.CATEGORICAL, estimators.arms(3)),
   'binary units, and those of this model have 3 states: use rloo'),
  (lambda: estimators.discrete(belief_net.model(4, (20,)), estimators.enumerated()),
   '1.05e.06 states, more than the 4096'),
  (lambda: estimators.arms(1), 'at least two samples, got 1'),
  (lambda: estimators.double_control_variates(1, optax.sgd(0.1)), 'at least two samples, got 1'),
  (lambda: estimators.disarm(0), 'at least one sample, got 0')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
