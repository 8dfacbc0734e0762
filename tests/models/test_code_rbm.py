"""The machine with linear hidden units against numerical integration over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.models import code_rbm
from tests import oracle
from tests.models import deep

pytestmark = pytest.mark.usefixtures('strict_promotion')

PARAMS = deep.machine(4, 2, 0.7, 5)
V_AV = oracle.states(4)


def test_free_energy_integrates_the_hidden_units():
  w_VH, b_V, c_H = oracle.float64(PARAMS)
  grid = np.linspace(-14, 14, 561)
  h_SH = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
  minus_energy_AS = ((V_AV @ b_V)[:, None] - 0.5 * np.sum((h_SH - c_H)**2, axis=1)
                     + V_AV @ w_VH @ h_SH.T)
  log_A = np.log(np.exp(minus_energy_AS).sum(1) * (grid[1] - grid[0])**2)
  np.testing.assert_allclose(-code_rbm.free_energy(PARAMS, jnp.float32(V_AV)), log_A, rtol=1e-5)


def test_hidden_units_are_normal_about_their_mean():
  w_VH, _, c_H = oracle.float64(PARAMS)
  v_BV = jnp.tile(jnp.float32([1, 0, 1, 1]), (2**14, 1))
  mean_BH = code_rbm.hidden_mean(PARAMS, v_BV)
  np.testing.assert_allclose(mean_BH[0], c_H + np.array([1, 0, 1, 1]) @ w_VH, rtol=1e-5)
  h_BH = np.asarray(code_rbm.draw_hidden(jax.random.key(0), mean_BH))
  for j in range(2):
    test = scipy.stats.kstest(h_BH[:, j], scipy.stats.norm(mean_BH[0, j]).cdf)
    assert test.pvalue > oracle.SIGNIFICANCE
  assert abs(np.corrcoef(h_BH.T)[0, 1]) < 0.05


def test_gibbs_reaches_the_marginal():
  log_p_A = -np.asarray(code_rbm.free_energy(PARAMS, jnp.float32(V_AV)), np.float64)
  p_A = np.exp(log_p_A - log_p_A.max())
  start = code_rbm.init_chains(jax.random.key(0), PARAMS, 2**16)
  b_V = np.asarray(PARAMS.b_V, np.float64)
  oracle.assert_frequencies(oracle.index(start.v_CV), deep.product(
    deep.sigmoid(b_V)[None], V_AV)[0])
  chains = jax.jit(code_rbm.gibbs, static_argnums=3)(jax.random.key(1), PARAMS, start, 60)
  oracle.assert_frequencies(oracle.index(chains.v_CV), p_A / p_A.sum())
  mean_CH = np.asarray(chains.h_CH - code_rbm.hidden_mean(PARAMS, chains.v_CV))
  assert oracle.mean_p_value(mean_CH, np.zeros(2)) > oracle.SIGNIFICANCE
