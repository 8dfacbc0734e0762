"""Scores of models whose prior is an RBM, against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import likelihood, rbm_prior as evaluation
from gen_models.problems.rbm_prior import MODEL, PARAMS, log_terms
from gen_models.samplers import annealing
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')
X_NV = np.float32(oracle.states(4))


@jax.jit
def exact():
  """(log p(x), the bound of one sample), [N], by sums over all z."""
  log_p_SN, log_q_SN = log_terms(PARAMS, jnp.asarray(X_NV))
  elbo_N = jnp.sum(jnp.exp(log_q_SN) * (log_p_SN - log_q_SN), axis=0)
  return jax.nn.logsumexp(log_p_SN, axis=0), elbo_N


def test_the_score_lies_between_the_elbo_and_the_enumerated_likelihood():
  z, searched = evaluation.bracket(jax.random.key(0), MODEL, PARAMS, X_NV)
  assert z.lower == z.upper and z.lower.standard_error == 0 and not searched
  np.testing.assert_allclose(z.log_partition, oracle.rbm_joint(PARAMS.prior).log_partition,
                             rtol=2e-6)
  record = evaluation.score(jax.random.key(1), MODEL, PARAMS, X_NV, z, num_samples=2**14,
                            binarisation='threshold', split='test')
  log_p_N, elbo_N = exact()
  assert record['kind'] == 'bound' and record['resolved'] and record['split'] == 'test'
  assert record['log_partition'] == record['log_partition_sides'][1]
  assert float(elbo_N.mean()) + 0.05 < record['test_nats'] == record['lower']
  # A right bound fails for fewer than one key in a million.
  assert abs(record['test_nats'] - log_p_N.mean()) < 5 * record['standard_error'] < 0.15


def test_the_upper_side_of_log_z_is_subtracted():
  low, high = (annealing.Estimate(z, error, 40.0, np.zeros(9), 7)
               for z, error in ((5.0, 0.1), (5.5, 0.2)))
  same = annealing.Estimate(5.0, 0.0, float('inf'), np.zeros(0), 0)
  options = dict(num_samples=2**14, binarisation='threshold')
  known, wide = (evaluation.score(jax.random.key(2), MODEL, PARAMS, X_NV, z, searched, **options)
                 for z, searched in ((annealing.Bracket(5.0, same, same), None),
                                     (annealing.Bracket(5.2, low, high), {'modes': []})))
  assert known['test_nats'] - wide['test_nats'] == pytest.approx(0.5)
  assert wide['log_partition_sides'] == [5.0, 5.5] and wide['log_partition_error'] == 0.2
  assert wide['standard_error'] == pytest.approx(np.hypot(known['standard_error'], 0.2))
  assert wide['num_temperatures'] == 7 and 'searches' in wide
  # The effective sample size is of importance samples: tables print it beside their number.
  assert 'num_chains' not in wide and wide['num_importance_samples'] == 2**14
  assert wide['resolved'] and not likelihood.resolved(annealing.Bracket(
    5.2, low, high._replace(log_partition=6.5)))


@pytest.mark.slow
def test_a_machine_that_is_not_enumerated_is_bracketed():
  z, searched = evaluation.bracket(
    jax.random.key(3), MODEL, PARAMS, X_NV, max_enumerated=0, num_chains=500,
    betas=annealing.linear(300), burn_in=50, seen=[X_NV])
  expected = oracle.rbm_joint(PARAMS.prior).log_partition
  for side in (z.lower, z.upper):
    assert abs(side.log_partition - expected) < 6 * side.standard_error < 0.2
  # Every state of four units was drawn for some image: the floor is log Z itself.
  assert searched['distinct_states'] <= 16
  assert searched['log_partition_floor'] <= expected + 1e-3
