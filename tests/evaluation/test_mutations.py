"""Effects of mutations are differences of enumerated log-likelihoods."""

import jax
import numpy as np

from gen_models.evaluation import mutations
from gen_models.models import units
from gen_models.models.machine import Machine


def test_effects_are_log_likelihood_ratios_of_every_single_mutant():
  machine = Machine(units.Categorical(3), units.BERNOULLI)
  params = machine.init(jax.random.key(0), 9, 4, scale=1.0)
  x_BL = np.array([[0, 1, 2], [2, 2, 0]])
  v_BD = np.float32(np.eye(3)[x_BL].reshape(2, 9))
  found = mutations.effects(machine, params, v_BD)
  assert found.shape == (2, 3, 3)
  log_p_B = machine.log_likelihood(params, v_BD)
  for b, i, a in np.ndindex(found.shape):
    mutant_L = x_BL[b].copy()
    mutant_L[i] = a
    log_p = machine.log_likelihood(params, np.float32(np.eye(3)[mutant_L].reshape(1, 9)))[0]
    np.testing.assert_allclose(found[b, i, a], log_p - log_p_B[b], atol=1e-4)
    assert a != x_BL[b, i] or abs(found[b, i, a]) < 1e-5
