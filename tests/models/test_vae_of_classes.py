"""Autoencoders of each class against sums and integrals: densities, gradients, questions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from gen_models import inference
from gen_models.estimators import elbo, variational
from gen_models.models import label_rbm, networks, priors, vae
from tests import oracle

V, Q, B = 3, 2, 4
MODEL = vae.model(V, (1,), ((4,),), num_classes=Q)  # one latent: integrals by quadrature
X_BV = jnp.float32(oracle.states(V)[[1, 3, 6, 0]])
Y_B = jnp.array([0, 1, 1, 0])


@pytest.fixture(scope='module')
def params() -> vae.Params:
  rng = np.random.default_rng(7)  # whose classes differ
  fresh = jax.jit(MODEL.init)(jax.random.key(0), jnp.full(V, 0.5))
  drawn = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), fresh)
  # q is near the prior, so that its weights have small variance.
  return drawn._replace(encoder=jax.tree.map(lambda x: 0.3 * x, drawn.encoder))


def log_p(params, x_BV) -> np.ndarray:
  """log p(x | y) of every row and class, [B, Q], by quadrature over z in float64."""
  z_S, dz = np.linspace(-8, 8, 2001, retstep=True)
  found = []
  for y_Q in np.eye(Q):
    inputs = np.concatenate([z_S[:, None], np.tile(y_Q, (len(z_S), 1))], axis=-1)
    logits = np.asarray(networks.apply(MODEL.decoders[0], params.decoder[0], jnp.float32(inputs)),
                        np.float64) + np.asarray(params.bias_O)
    log_x_SB = (logits[:, None] * x_BV - np.logaddexp(0, logits)[:, None]).sum(-1)
    found.append(scipy.special.logsumexp(
      log_x_SB + scipy.stats.norm.logpdf(z_S)[:, None], axis=0) + np.log(dz))
  return np.stack(found, axis=-1)


def test_the_classes_widths_and_densities_are_those_of_the_equations(params):
  assert params.encoder[0]['Dense_0']['w_DF'].shape == (V + Q, 4)
  assert params.decoder[0]['Dense_0']['w_DF'].shape == (1 + Q, 4)
  states = np.float64(oracle.states(V))
  p_SQ = np.exp(log_p(params, states))
  np.testing.assert_allclose(p_SQ.sum(0), 1, rtol=1e-6)  # every class is a distribution of x
  assert np.abs(p_SQ[:, 0] - p_SQ[:, 1]).max() > 0.01
  rows = label_rbm.attach(X_BV, Y_B, Q)
  log_w_KB = jax.jit(MODEL.log_weights, static_argnums=3)(jax.random.key(0), params, rows, 50_000)
  log_w_KB = np.asarray(log_w_KB, np.float64)
  bound_B = scipy.special.logsumexp(log_w_KB, axis=0) - np.log(len(log_w_KB))
  expected_B = log_p(params, np.float64(X_BV))[np.arange(B), Y_B]
  error_B = np.exp(log_w_KB - bound_B).std(0) / np.sqrt(len(log_w_KB))
  assert np.all(np.abs(bound_B - expected_B) < 6 * error_B + 1e-4)


def test_the_gradient_is_that_of_the_bound_of_the_given_class(params):
  rows = label_rbm.attach(X_BV, Y_B, Q)
  estimator = variational(MODEL, elbo(10))
  keys, others = jax.random.split(jax.random.key(1), (2, 200))

  @jax.jit
  def both(params):
    def grad(key):
      key_init, key_grad = jax.random.split(key)
      return estimator.grad(key_grad, params, estimator.init(key_init, params), rows)[0]

    def bound(params):
      return -jnp.mean(jax.vmap(lambda key: MODEL.log_weights(key, params, rows, 10))(others))

    return jax.vmap(grad)(keys), jax.grad(bound)(params)

  ours, theirs = both(params)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    error = np.asarray(a).std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.asarray(a).mean(0) - b) < 10 * error + 1e-3)


def test_questions_about_rows_without_a_class_sum_over_it(params):
  asked = inference.class_conditional(MODEL)
  joint_BQ = log_p(params, np.float64(X_BV)) - np.log(Q)

  @jax.jit
  def answers(key):
    keys = jax.random.split(key, 4)
    return (asked.classes(keys[0], params, X_BV)['probabilities'],
            asked.log_likelihood(keys[1], params, X_BV, num_samples=3000)['log_weights'],
            asked.reconstruction(keys[2], params, X_BV)['reconstruction'],
            asked.features(keys[3], params, X_BV, layer=None, num_draws=0)['features'])

  classes_BQ, log_w_BK, back_BV, z_BZ = map(np.asarray, answers(jax.random.key(0)))
  expected_BQ = scipy.special.softmax(joint_BQ, axis=1)
  np.testing.assert_allclose(classes_BQ, expected_BQ, atol=0.15)
  np.testing.assert_allclose(
    scipy.special.logsumexp(np.float64(log_w_BK), axis=1) - np.log(3000),
    scipy.special.logsumexp(joint_BQ, axis=1), atol=0.1)
  sure_B = np.abs(expected_BQ[:, 0] - 0.5) > 0.25  # the class is drawn anew for every question
  y_BQ = np.eye(Q, dtype=np.float32)[expected_BQ.argmax(1)]
  given = MODEL.visible_mean(params, jnp.concatenate([z_BZ, y_BQ], axis=-1))
  assert sure_B.sum() == 3
  np.testing.assert_allclose(back_BV[sure_B], given[sure_B], rtol=1e-4)


@pytest.mark.slow
def test_what_is_missing_is_drawn_over_classes_too(params):
  """p(x_2 | x_0 = 1, x_1 = 0), the class summed out, by many chains."""
  states = np.float64(oracle.states(V))
  p_S = np.exp(log_p(params, states)).sum(1)
  fit = (states[:, 0] == 1) & (states[:, 1] == 0)
  expected = p_S[fit & (states[:, 2] == 1)].sum() / p_S[fit].sum()
  found = inference.class_conditional(MODEL).imputation(
    jax.random.key(0), params, jnp.array([[1.0, 0.0, jnp.nan]]), num_draws=4000, num_steps=100)
  on = np.asarray(found['draws'])[0, :, 2]
  assert abs(on.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)


def test_priors_of_the_encoder_are_refused():
  with pytest.raises(ValueError, match='VampPrior.*without a class'):
    vae.model(V, (1,), ((4,),), num_classes=Q, prior=priors.Vamp(3))
