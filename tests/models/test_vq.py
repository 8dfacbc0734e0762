"""A vector-quantised autoencoder against enumeration of all codes in NumPy float64.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import vq
from gen_models.problems.vq import some_params
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, L, Q = 4, 3, 3
MODEL = vq.model(V, L, Q, 2, autoregressive=True)
PARAMS = some_params(MODEL, 1)
STATES_SL = np.array(list(itertools.product(range(Q), repeat=L)))
X_AV = np.float32(oracle.states(V))


def log_softmax(x):
  return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def affine(layer, x):
  layer, = layer.values()
  return x @ np.asarray(layer['w_DF'], np.float64) + np.asarray(layer.get('b_F', 0.0), np.float64)


def log_prior():
  """log p(z) of every z, [S], position by position."""
  b_LQ, w_LQLQ = (np.asarray(x, np.float64) for x in PARAMS.prior)
  return np.array([sum(log_softmax(b_LQ[i] + sum(w_LQLQ[m, z[m], i] for m in range(i)))[z[i]]
                       for i in range(L)) for z in STATES_SL])


def log_joint():
  """log p(x, z), [S, A]."""
  codes_SD = np.asarray(PARAMS.codes_QD, np.float64)[STATES_SL].reshape(len(STATES_SL), -1)
  t_SV = affine(PARAMS.decoder, codes_SD) + np.asarray(PARAMS.bias_O, np.float64)
  return (X_AV @ t_SV.T - np.logaddexp(0, t_SV).sum(1)).T + log_prior()[:, None]


def test_the_prior_and_the_decoder_are_a_density():
  found_S = MODEL.log_prior(PARAMS, STATES_SL)
  np.testing.assert_allclose(found_S, log_prior(), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(np.exp(log_joint()).sum(), 1, rtol=1e-9)


def test_the_bound_is_the_term_of_the_nearest_codes_and_below_the_likelihood():
  e_ALD = affine(PARAMS.encoder, np.float64(X_AV)).reshape(-1, L, 1, 2)
  z_AL = np.square(e_ALD - np.asarray(PARAMS.codes_QD, np.float64)).sum(-1).argmin(-1)
  term_A = log_joint()[z_AL @ Q**np.arange(L)[::-1], np.arange(len(X_AV))]
  bound_A = MODEL.log_bound(PARAMS, X_AV)
  np.testing.assert_allclose(bound_A, term_A, rtol=1e-5, atol=1e-5)
  log_p_A = np.logaddexp.reduce(log_joint(), axis=0)
  assert np.all(bound_A < log_p_A) and np.all(log_p_A < 0)


@pytest.mark.slow
def test_draws_follow_the_prior():
  z_NL = jax.jit(MODEL.sample_prior, static_argnums=2)(jax.random.key(0), PARAMS, 2**15)
  oracle.assert_frequencies(np.asarray(z_NL) @ Q**np.arange(L)[::-1], np.exp(log_prior()))


def test_the_fitted_prior_is_the_smoothed_frequency_of_codes():
  weights_N = np.arange(1.0, 17.0)
  fitted = vq.fit_prior(MODEL, PARAMS, X_AV, 2.0, jnp.float32(weights_N))
  z_NL = np.asarray(MODEL.quantise(PARAMS, MODEL.encode(PARAMS, X_AV)))
  share_N = weights_N * 16 / weights_N.sum()
  for i in range(L):
    counts_Q = [share_N[z_NL[:, i] == q].sum() + 2 / Q for q in range(Q)]
    np.testing.assert_allclose(np.exp(fitted.prior.b_LQ[i]), np.array(counts_Q) / 18, rtol=1e-5)
  assert not np.any(fitted.prior.w_LQLQ)
  jax.tree.map(np.testing.assert_array_equal, fitted._replace(prior=()),
               PARAMS._replace(prior=()))


def test_a_codebook_without_a_choice_is_refused():
  with pytest.raises(ValueError, match='two codes'):
    vq.model(V, L, 1, 2)
