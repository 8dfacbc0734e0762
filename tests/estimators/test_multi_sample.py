"""Rules of several samples, beside what the shared battery checks of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models import estimators
from gen_models.estimators import baselines
from gen_models.evaluation import gradients
from gen_models.models import vae
from gen_models.problems import catalogue, variational as problems

pytestmark = pytest.mark.usefixtures('strict_promotion')


def grads_of(estimator, params, batch, memory, seed=0):
  return jax.jit(estimator.grad)(jax.random.key(seed), params, memory, batch)


def test_a_dropped_score_in_vimco_is_caught():
  # The score of the bound itself, d log q = -w_k along q, is easily forgotten beside the reward.
  rule = estimators.vimco(2)

  def coefficients(l_KB):
    c = rule.coefficients(l_KB)
    return c._replace(score=c.score + c.log_p)

  entry = catalogue.ENTRIES['vimco2']
  wrong = estimators.variational(problems.BELIEF, rule._replace(coefficients=coefficients))
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    found = gradients.audit(jax.random.key(1), wrong, entry.params, entry.batch,
                            catalogue.exact_grads(entry), num_draws=4096, error_rate=1e-4)
  assert found.biased and found.bias_z > found.threshold + 5, found.bias_z


@pytest.mark.parametrize('mean', ['geometric', 'arithmetic'])
def test_what_vimco_leaves_out_is_by_a_loop_over_samples(mean):
  l_K = np.array([-3.0, 0.5, 1.0, -800.0])
  left_K = []
  for k in range(4):
    others = np.delete(l_K, k)
    stands = np.mean(others) if mean == 'geometric' else np.logaddexp.reduce(others) - np.log(3)
    left_K.append(np.logaddexp.reduce([*others, stands]) - np.log(4))
  w_K = np.exp(l_K - np.logaddexp.reduce(l_K))
  expected_K = np.logaddexp.reduce(l_K) - np.log(4) - left_K - w_K
  found = estimators.vimco(4, mean).coefficients(jnp.asarray(l_K, jnp.float32)[:, None])
  np.testing.assert_allclose(found.log_p[:, 0], w_K, rtol=1e-5)
  np.testing.assert_allclose(found.score[:, 0], expected_K, rtol=1e-4, atol=1e-5)


def test_tvo_of_one_part_is_the_elbo_with_its_own_mean_as_baseline():
  l_KB = jnp.array([[1.0, -2.0], [0.0, 3.0], [4.0, 0.5]])
  found = estimators.tvo(3, parts=1).coefficients(l_KB)
  np.testing.assert_allclose(found.log_p, np.full((3, 2), 1 / 3), rtol=1e-6)
  np.testing.assert_allclose(found.score, (l_KB - jnp.mean(l_KB, axis=0) - 1) / 3, rtol=1e-5)


def test_a_learned_baseline_only_shifts_the_reward_and_learns_it():
  params, batch = problems.BELIEF_PARAMS, problems.BINARY_BATCH
  level = baselines.learned(4, optax.adam(0.05), hidden=(8,), rate=0.1)
  estimator = estimators.variational(problems.BELIEF, estimators.reinforce(2), baseline=level)
  memory = jax.jit(estimator.init)(jax.random.key(10), params)
  shift_B = level.predict(memory.shared, batch)
  assert float(jnp.std(shift_B)) > 0.01

  def coefficients(l_KB):
    c = estimators.reinforce(2).coefficients(l_KB - shift_B)
    return c._replace(log_p=jnp.full_like(l_KB, 0.5))

  by_hand = estimators.variational(
    problems.BELIEF, estimators.Rule(2, coefficients))
  grads, after, _ = grads_of(estimator, params, batch, memory)
  expected = grads_of(by_hand, params, batch, by_hand.init(jax.random.key(0), params))[0]
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

  @jax.jit
  def learn(memory):
    return jax.lax.scan(lambda memory, key: (estimator.grad(key, params, memory, batch)[1], None),
                        memory, jax.random.split(jax.random.key(2), 300))[0]

  log_p, log_q = problems.belief_terms(params, batch, (3,))
  mean_B = jnp.sum(jnp.exp(log_q) * (log_p - log_q), axis=0)
  errors = [float(jnp.mean(jnp.square(level.predict(m.shared, batch) - mean_B)))
            for m in (after, learn(memory))]
  assert errors[1] < 0.1 * errors[0], errors


def test_warm_up_begins_without_the_prior_and_ends_with_it():
  def of_beta(beta):
    return estimators.variational(problems.ONE, estimators.elbo(2, beta))

  params, batch = problems.ONE_PARAMS, problems.REAL_BATCH
  estimator = estimators.warm_up(of_beta, 4)
  memory, grad = estimator.init(jax.random.key(0), params), jax.jit(estimator.grad)
  for expected in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
    grads, memory, metrics = grad(jax.random.key(1), params, memory, batch)
    assert float(metrics['beta']) == expected
    if expected in (0.0, 1.0):
      plain = of_beta(expected)
      same = grads_of(plain, params, batch, plain.init(jax.random.key(0), params), seed=1)[0]
      for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('latent', [vae.NORMAL, vae.BINARY], ids=['normal', 'binary'])
def test_divergences_of_units_add_up(latent):
  model = vae.model(4, (6,), ((),), latent=latent, learned_prior=True)
  params = problems.some_params(model, 4, 0.7, 1)
  code_BO = model.encode(params, problems.BINARY_BATCH)
  kl_BZ = model.kl_by_unit(params, code_BO)
  assert kl_BZ.shape == (4, 6) and bool(jnp.all(kl_BZ > 0))
  np.testing.assert_allclose(jnp.sum(kl_BZ, axis=1), model.kl(params, code_BO), rtol=1e-4)


def test_free_bits_hold_only_the_units_that_are_worth_more():
  model = vae.model(2, (2,), ((),), likelihood=vae.gaussian(0.7))
  params = problems.some_params(model, 2, 0.6, 1)
  code_BO = model.encode(params, problems.REAL_BATCH)
  kl_Z = jnp.mean(model.kl_by_unit(params, code_BO), axis=0)
  nats = float(jnp.mean(kl_Z))  # between the two

  def grads(estimator):
    return grads_of(estimator, params, problems.REAL_BATCH, estimator.init(None, params))[0]

  def kept(params):
    kl_BZ = model.kl_by_unit(params, model.encode(params, problems.REAL_BATCH))
    return jnp.mean(kl_BZ[:, jnp.argmax(kl_Z)])

  free, whole, less = (grads(estimators.free_bits(model, nats)), jax.grad(kept)(params),
                       grads(estimators.free_bits(model, 100.0)))
  for a, b, c in zip(*map(jax.tree.leaves, (free, whole, less)), strict=True):
    np.testing.assert_allclose(a, b + c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('make, message', [
  (lambda: estimators.vimco(1), 'at least two samples, got 1'),
  (lambda: estimators.ovis(1), 'at least two samples, got 1'),
  (lambda: estimators.ovis(3, gamma=2.0), r'gamma is in \[0, 1\], got 2.0'),
  (lambda: estimators.ovis_monte_carlo(3, 0), 'at least one more sample, got 0'),
  (lambda: estimators.tvo(3, parts=0), 'at least one part'),
  (lambda: estimators.rws(1), 'at least two samples, got 1'),
  (lambda: estimators.wake_sleep(problems.BELIEF, 0), 'at least one sample, got 0'),
  (lambda: estimators.free_bits(problems.BELIEF, 1.0), 'discrete latents'),
  (lambda: estimators.generalised_dreg(problems.BELIEF, 2), 'discrete latents'),
  (lambda: estimators.warm_up(None, 0), 'at least one update, got 0'),
  (lambda: vae.categorical(1), 'at least two states, got 1')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
