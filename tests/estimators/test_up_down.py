"""Up-down training: what its entries in the battery do not hold by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators.negative import coupled, persistent, reconstruction
from gen_models.estimators.up_down import passed_down, up_down
from gen_models.models import dbn, rbm
from gen_models.problems import up_down as problems
from tests import oracle
from tests.estimators.test_greedy import second_eigenvalue

pytestmark = pytest.mark.usefixtures('strict_promotion')


def test_declarations():
  assert not up_down(persistent(4)).biased and up_down(reconstruction(3)).biased
  estimator = up_down(coupled(chains=2, steps=1))
  with pytest.raises(ValueError, match='only together with a correction'):
    memory = jax.eval_shape(estimator.init, jax.random.key(0), problems.NET)
    jax.eval_shape(estimator.grad, jax.random.key(1), problems.NET, memory, problems.V_BV[:, :3])


def test_burn_in_is_long_enough():
  joint = oracle.rbm_joint(problems.NET.layers[-1])
  assert 0.1 < second_eigenvalue(oracle.gibbs_kernel(joint)) < 0.65
  joint = oracle.rbm_joint(problems.LABELLED.layers[-1])
  allowed_A = joint.v_AV[:, -problems.NUM_LABELS:].sum(1) == 1
  joint = joint._replace(p_AS=joint.p_AS[allowed_A] / joint.p_AS[allowed_A].sum())
  assert 0.1 < second_eigenvalue(oracle.gibbs_kernel(joint)) < 0.65
  assert 0.65**problems.BURN_IN < 1e-4


def test_the_fantasy_follows_the_way_down():
  # h_1 and v given h_2, enumerated: the recognition weights have no part in it.
  *lower, _ = problems.NET.layers
  x_CF = jnp.tile(jnp.float32([1, 0, 1]), (2**15, 1))
  v_CV, h_CH, same = jax.jit(passed_down)(jax.random.key(0), problems.NET, x_CF)
  np.testing.assert_array_equal(same, x_CF)
  p_H = np.asarray(rbm.visible_mean(lower[1], x_CF[:1]), np.float64)[0]
  h_SH, x_AV = oracle.states(4), oracle.states(3)
  p_S = np.prod(np.where(h_SH == 1, p_H, 1 - p_H), axis=1)
  oracle.assert_frequencies(oracle.index(h_CH), p_S)
  p_SV = np.asarray(rbm.visible_mean(lower[0], jnp.float32(h_SH)), np.float64)
  p_A = p_S @ np.prod(np.where(x_AV == 1, p_SV[:, None], 1 - p_SV[:, None]), axis=2)
  oracle.assert_frequencies(oracle.index(v_CV), p_A)


def test_a_net_just_untied_is_the_net_it_was():
  params = dbn.Params((*problems.NET.layers[:-1], problems.NET.layers[-1]))
  both = [jax.jit(dbn.log_weights)(jax.random.key(3), p, problems.V_BV[:, :3])
          for p in (params, dbn.untied(params))]
  np.testing.assert_allclose(*both, rtol=1e-4)
  for fn in (dbn.feature_means, dbn.reconstruct):
    np.testing.assert_array_equal(*(fn(p, problems.V_BV[:, :3])
                                    for p in (params, dbn.untied(params))))


def test_weights_of_the_two_ways_estimate_the_likelihood():
  # E_q[w] / Z = p(v), whatever q is: against the sum over all states, with ways that differ.
  net, v_AV = problems.NET, rbm.all_states(3)
  h_SH, g_TG = rbm.all_states(4), rbm.all_states(3)
  log_p_T = rbm.log_likelihood(net.layers[2], g_TG)
  p_TS = jnp.exp(problems._log_table(rbm.visible_input(net.layers[1], g_TG), h_SH))
  p_SA = jnp.exp(problems._log_table(rbm.visible_input(net.layers[0], h_SH), v_AV))
  p_A = np.asarray(jnp.exp(log_p_T) @ p_TS @ p_SA, np.float64)
  draw = jax.jit(jax.vmap(dbn.log_weights, (0, None, None)))
  log_w_KA = np.asarray(draw(jax.random.split(jax.random.key(5), 2**14), net, v_AV), np.float64)
  w_KA = np.exp(log_w_KA - float(dbn.log_partition(net)))
  assert oracle.mean_p_value(w_KA / p_A, np.ones(8)) > oracle.SIGNIFICANCE
