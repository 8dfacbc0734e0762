"""The straight-through gradient of a codebook, part by part, and codes that are averages."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models import estimators
from gen_models.problems import catalogue
from gen_models.problems.vq import COMMITMENT, MODEL, PARAMS, VQ, VQ_DRAWN

pytestmark = pytest.mark.usefixtures('strict_promotion')


def gradient(**options):
  """(grads, memory, metrics) of one call, compiled."""
  estimator = estimators.vector_quantised(MODEL, COMMITMENT, **options)

  @jax.jit
  def call(params, x_BV):
    memory = estimator.init(jax.random.key(0), params)
    return estimator.grad(jax.random.key(1), params, memory, x_BV)

  return call(PARAMS, VQ.batch)


def straight_through_loss(encoder):
  """-log p(x | e + c_z - e_0): what the encoder sees of the likelihood, c_z - e_0 a constant."""
  x_BV = VQ.batch
  e_0 = MODEL.encode(PARAMS, x_BV)
  offset = PARAMS.codes_QD[MODEL.quantise(PARAMS, e_0)] - e_0
  e_BLD = MODEL.encode(PARAMS._replace(encoder=encoder), x_BV)
  return -jnp.mean(MODEL.log_likelihood(PARAMS, x_BV, e_BLD + offset))


def test_the_gradient_is_that_of_the_loss_but_for_what_goes_straight_through():
  found, memory, metrics = gradient()
  exact = catalogue.exact_grads(VQ)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
  jax.tree.map(close, found.decoder, exact.decoder)
  close(found.bias_O, exact.bias_O)
  assert not np.any(found.prior.b_LQ)
  # Along the encoder: commitment, which has a derivative, and what is passed straight through.
  through = jax.jit(jax.grad(straight_through_loss))(PARAMS.encoder)
  jax.tree.map(close, found.encoder, jax.tree.map(jnp.add, exact.encoder, through))
  assert np.max(np.abs(jax.tree.leaves(through)[0])) > 0.01
  # Along codes: the way to their outputs, without the likelihood.
  e_BLD = np.asarray(MODEL.encode(PARAMS, VQ.batch))
  z_BL = np.asarray(MODEL.quantise(PARAMS, jnp.asarray(e_BLD)))
  for q, code_D in enumerate(np.asarray(PARAMS.codes_QD)):
    close(found.codes_QD[q], 2 * (code_D - e_BLD[z_BL == q]).sum(0) / len(e_BLD))
  assert memory.shared == () and 1 <= metrics['perplexity'] <= 3


@pytest.mark.slow
def test_codes_are_moving_averages_of_their_outputs_and_stay_without_any():
  found, memory, _ = gradient(decay=0.9)
  e_BLD = np.asarray(MODEL.encode(PARAMS, VQ.batch), np.float64)
  z_BL = np.asarray(MODEL.quantise(PARAMS, MODEL.encode(PARAMS, VQ.batch)))
  after = optax.apply_updates(PARAMS.codes_QD, -found.codes_QD)
  counts = []
  for q, code_D in enumerate(np.asarray(PARAMS.codes_QD, np.float64)):
    chosen = e_BLD[z_BL == q]
    number = 0.9 + 0.1 * len(chosen)
    np.testing.assert_allclose(after[q], (0.9 * code_D + 0.1 * chosen.sum(0)) / number, rtol=1e-4)
    np.testing.assert_allclose(memory.shared.number_Q[q], number, rtol=1e-5)
    counts.append(len(chosen))
  assert sum(counts) == z_BL.size
  far = PARAMS._replace(codes_QD=PARAMS.codes_QD.at[0].set(1e3))  # nobody chooses it
  estimator = estimators.vector_quantised(MODEL, decay=0.0)
  memory = estimator.init(jax.random.key(0), far)
  grads, _, _ = jax.jit(estimator.grad)(jax.random.key(1), far, memory, VQ.batch)
  np.testing.assert_array_equal(grads.codes_QD[0], 0)


@pytest.mark.slow
def test_an_encoder_that_draws_codes_is_unbiased_along_the_decoder_where_samples_are_codes():
  """Hard samples: only the path through them is biased, and the parts of q add up."""
  estimator = estimators.vector_quantised_gumbel(MODEL, estimators.straight_through_gumbel())
  keys = jax.random.split(jax.random.key(0), 4000)

  @jax.jit
  def both(params, x_BV):
    grads, _, metrics = jax.vmap(lambda key: estimator.grad(key, params, None, x_BV))(keys)
    return (grads.decoder, grads.bias_O), metrics, jax.grad(VQ_DRAWN.loss)(params, x_BV)

  (decoder, bias), metrics, exact = both(PARAMS, VQ_DRAWN.batch)
  for a, b in zip(jax.tree.leaves((decoder, bias)), jax.tree.leaves((exact.decoder, exact.bias_O)),
                  strict=True):
    error = np.asarray(a).std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.asarray(a).mean(0) - b) < 6 * error + 1e-5)
  loss = np.asarray(metrics['distortion'] + metrics['rate'])
  assert abs(loss.mean() - VQ_DRAWN.loss(PARAMS, VQ_DRAWN.batch)) < 6 * loss.std() / np.sqrt(4000)
  assert 1 <= metrics['perplexity'][0] <= 3


def test_the_most_probable_codes_are_the_nearest():
  e_BLD = MODEL.encode(PARAMS, VQ.batch)
  np.testing.assert_array_equal(np.argmax(MODEL.code_log_odds(PARAMS, e_BLD), axis=-1),
                                MODEL.quantise(PARAMS, e_BLD))
