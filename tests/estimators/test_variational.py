"""What the rules are, beside what the shared battery checks of them: gradients against automatic
differentiation of the bound itself, wrong rules against the audit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import estimators
from gen_models.estimators.variational import Coefficients, Rule
from gen_models.evaluation import gradients
from gen_models.models import vae
from gen_models.problems import variational as problems

pytestmark = pytest.mark.usefixtures('strict_promotion')


def grads_of(estimator, params, batch, seed=0):
  memory = jax.jit(estimator.init)(jax.random.key(10), params)
  return jax.jit(estimator.grad)(jax.random.key(seed), params, memory, batch)[0]


def assert_close(one, other, **tolerance):
  for path, a in jax.tree_util.tree_leaves_with_path(one):
    b = dict(jax.tree_util.tree_leaves_with_path(other))[path]
    np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)


def measure(name, model, rule, num_draws=4096):
  """The audit of a rule on the problem of an entry."""
  entry = problems.ENTRIES[name]
  exact = jax.jit(jax.grad(entry.loss))(entry.params, entry.batch)
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    return gradients.audit(jax.random.key(1), estimators.variational(model, rule), entry.params,
                           entry.batch, exact, num_draws=num_draws, error_rate=1e-4)


@pytest.mark.parametrize('loss, finer, atol', [
  (problems.ELBO, problems.bound_loss(problems.log_weights_one, 1, 1, 48), 1e-5),
  (problems.IWAE2, problems.bound_loss(problems.log_weights_one, 1, 2, 96), 1e-4),
  (problems.TWO_ELBO, problems.bound_loss(problems.log_weights_two, 2, 1, 24), 1e-5),
  (problems.TWO_IWAE2, problems.bound_loss(problems.log_weights_two, 2, 2, 30), 3e-3)])
def test_the_oracle_has_converged(loss, finer, atol):
  # The noise of an audit is some 0.02 a coordinate.
  params = problems.ONE_PARAMS if loss in (problems.ELBO, problems.IWAE2) else problems.TWO_PARAMS
  coarse, fine = (jax.jit(jax.grad(f))(params, problems.REAL_BATCH) for f in (loss, finer))
  assert_close(coarse, fine, atol=atol)


def test_the_elbo_of_a_linear_gaussian_model_is_its_closed_form():
  # E_q[log p(x | z)] - KL, written out, for z ~ N(m, s^2), x ~ N(w z + b, SCALE^2).
  params, x_BV = problems.ONE_PARAMS, np.asarray(problems.REAL_BATCH, np.float64)
  encoder, = params.encoder[0].values()
  m_B, t_B = (x_BV @ np.asarray(encoder['w_DF']) + np.asarray(encoder['b_F'])).T
  w_V, b_V = np.asarray(params.decoder[0]['Dense_0']['w_DF'])[0], np.asarray(params.bias_O)
  error_BV = (x_BV - b_V - np.outer(m_B, w_V))**2 + np.outer(np.exp(2 * t_B), w_V**2)
  log_x_B = np.sum(-error_BV / (2 * problems.SCALE**2)
                   - np.log(problems.SCALE) - np.log(2 * np.pi) / 2, axis=1)
  kl_B = (np.exp(2 * t_B) + m_B**2 - 1) / 2 - t_B
  np.testing.assert_allclose(problems.ELBO(params, problems.REAL_BATCH), -np.mean(log_x_B - kl_B),
                             rtol=1e-5)


@pytest.mark.parametrize('model, params', [
  (problems.ONE, problems.ONE_PARAMS), (problems.TWO, problems.TWO_PARAMS)], ids=['one', 'two'])
@pytest.mark.parametrize('rule, reduce', [
  (estimators.elbo(3), lambda l_KB: jnp.mean(l_KB, axis=0)),
  (estimators.iwae(3), lambda l_KB: jax.nn.logsumexp(l_KB, axis=0) - jnp.log(3.0))],
  ids=['elbo', 'iwae'])
def test_total_derivatives_are_those_of_the_bound(model, params, rule, reduce):
  def loss(params, key):
    return -jnp.mean(reduce(model.log_weights(key, params, problems.REAL_BATCH, 3)))

  expected = jax.jit(jax.grad(loss))(params, jax.random.key(0))
  found = grads_of(estimators.variational(model, rule), params, problems.REAL_BATCH)
  assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_metrics_are_the_bounds_they_say():
  model, params, x_BV = problems.TWO, problems.TWO_PARAMS, problems.REAL_BATCH
  estimator = estimators.variational(model, estimators.dreg(4))
  memory = estimator.init(jax.random.key(0), params)
  metrics = jax.jit(estimator.grad)(jax.random.key(3), params, memory, x_BV)[2]
  log_weights = jax.jit(model.log_weights, static_argnums=3)
  l_KB = np.asarray(log_weights(jax.random.key(3), params, x_BV, 4), np.float64)
  np.testing.assert_allclose(metrics['elbo'], l_KB.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['bound'], np.log(np.exp(l_KB).mean(0)).mean(), rtol=1e-5)


def test_sticking_the_landing_has_no_noise_at_the_posterior():
  # x = w z + SCALE e with w of unit length: q = p(z | x) = N(x.w / (1 + SCALE^2), ..) is linear.
  w_V, variance = jnp.array([0.6, 0.8]), problems.SCALE**2
  encoder = {'Dense_0': {
    'w_DF': jnp.stack([w_V / (1 + variance), jnp.zeros(2)], axis=1),
    'b_F': jnp.array([0.0, 0.5 * np.log(variance / (1 + variance))])}}
  params = vae.Params((encoder,), ({'Dense_0': {'w_DF': w_V[None]}},), jnp.zeros(2))
  for rule, still in ((estimators.stl(), True), (estimators.stl(3), True),
                      (estimators.dreg(3), True), (estimators.elbo(), False)):
    grads = grads_of(estimators.variational(problems.ONE, rule), params, problems.REAL_BATCH)
    size = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(grads.encoder))
    assert (size < 1e-5) == still, (rule, size)


# The audit of the problems can fail: rules and models that are wrong.


def without_path():
  rule = estimators.iwae(2)
  return Rule(2, lambda l_KB: rule.coefficients(l_KB)._replace(path=None))


def changed_path(change):
  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, None, change(w_KB))
  return Rule(2, coefficients)


class DistributionsHeld(vae.Model):
  """Stops what q(z_l | z_{l-1}) is made of, mean and scale, instead of the parameters alone."""

  def log_posterior(self, params, code_BO, z):
    outputs = [code_BO, *(self._encode(params, i + 1, z_KBZ) for i, z_KBZ in enumerate(z[:-1]))]
    return sum(map(self.latent.log_prob, jax.lax.stop_gradient(outputs), z))


@pytest.mark.parametrize('name, rule', [
  ('iwae2', without_path()),
  ('dreg2', changed_path(lambda w_KB: w_KB)),
  ('dreg2', changed_path(lambda w_KB: w_KB**2 * 1.3)),
  ('two_layers_dreg2', changed_path(lambda w_KB: w_KB)),
  ('rloo2', Rule(2, lambda l_KB: Coefficients(jnp.full_like(l_KB, 0.5)))),
  ('rloo2', Rule(2, lambda l_KB: Coefficients(jnp.full_like(l_KB, 0.5),
                                              (l_KB - jnp.mean(l_KB, axis=0)) / 2)))],
  ids=['no path', 'stl', 'too much path', 'stl of two layers', 'no score', 'own mean as baseline'])
def test_a_wrong_rule_is_caught(name, rule):
  model = {'iwae2': problems.ONE, 'dreg2': problems.ONE, 'two_layers_dreg2': problems.TWO,
           'rloo2': problems.BELIEF}[name]
  found = measure(name, model, rule)
  assert found.biased and found.bias_z > found.threshold + 3, (found.bias_z, found.threshold)


@pytest.mark.parametrize('name, model, rule, caught', [
  ('dreg2', problems.ONE, estimators.dreg(2), False),
  ('two_layers_dreg2', problems.TWO, estimators.dreg(2), True),
  ('two_layers_stl1', problems.TWO, estimators.stl(), False)])
def test_holding_distributions_instead_of_parameters_is_wrong_from_two_layers_on(
    name, model, rule, caught):
  # What is lost is the score of q(z_2 | z_1) along z_1: for one sample its mean is 0.
  assert measure(name, DistributionsHeld(*model), rule).biased == caught


def total_variance(name, rule):
  return measure(name, problems.BELIEF, rule).variance


def test_baselines_take_variance_away():
  plain, others = estimators.reinforce(3), estimators.rloo(3)
  assert total_variance('rloo3', others) < 0.5 * total_variance('rloo3', plain)


def test_a_baseline_moves_only_reinforce():
  # From the second call on: the first has no earlier batch to go by.
  for rule, moved in ((estimators.reinforce(2), True), (estimators.rloo(2), False)):
    plain = estimators.variational(problems.BELIEF, rule)
    based = estimators.variational(problems.BELIEF, rule, baseline=0.1)
    params, batch = problems.BELIEF_PARAMS, problems.BINARY_BATCH
    memory = jax.jit(based.init)(jax.random.key(0), params)
    grad = jax.jit(based.grad)
    first, memory, metrics = grad(jax.random.key(1), params, memory, batch)
    assert_close(first, grads_of(plain, params, batch, seed=1), rtol=1e-4, atol=1e-6)
    total, weight = memory.shared
    np.testing.assert_allclose(total / weight, metrics['elbo'], rtol=1e-5)
    second = grad(jax.random.key(2), params, memory, batch)[0]
    gap = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(
      jax.tree.leaves(second), jax.tree.leaves(grads_of(plain, params, batch, seed=2)),
      strict=True))
    assert (gap > 0.01) == moved


RULES = {'elbo': estimators.elbo(2), 'iwae': estimators.iwae(2), 'stl': estimators.stl(2),
         'dreg': estimators.dreg(2), 'reinforce': estimators.reinforce(2),
         'rloo': estimators.rloo(2)}


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('model', [problems.BELIEF, problems.DEEP_BELIEF], ids=['one', 'two'])
def test_rules_that_count_on_a_path_are_refused_where_there_is_none(rule, model):
  # That the others are unbiased there, the catalogue's entries say, as they do of all rules on
  # continuous latents but the next two.
  if rule in ('reinforce', 'rloo'):
    estimators.variational(model, RULES[rule])
    return
  with pytest.raises(ValueError, match='samples.*discrete latents.*use reinforce or rloo'):
    estimators.variational(model, RULES[rule])


@pytest.mark.parametrize('rule', ['reinforce', 'rloo'])
def test_rules_of_the_score_only_are_unbiased_with_a_path_too(rule):
  found = measure('elbo1', problems.ONE, RULES[rule])
  assert not found.biased, (found.bias_z, found.threshold)


@pytest.mark.parametrize('make, message', [
  (lambda: estimators.analytic_elbo(problems.BELIEF), 'use reinforce or rloo'),
  (lambda: estimators.elbo(0), 'at least one sample, got 0'),
  (lambda: estimators.iwae(0), 'at least one sample, got 0'),
  (lambda: estimators.analytic_elbo(problems.ONE, 0), 'at least one sample, got 0'),
  (lambda: estimators.rloo(1), 'at least two samples, got 1'),
  (lambda: grads_of(estimators.analytic_elbo(problems.TWO), problems.TWO_PARAMS,
                    problems.REAL_BATCH), '2 stochastic layers has no closed form')])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
