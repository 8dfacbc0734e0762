"""The two-sample test of the ends of both directions: when it is silent, and when it speaks."""

import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import rbm
from gen_models.samplers import ends

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, H = 8, 5


def machine(scale=1.0) -> rbm.Params:
  draws = np.random.default_rng(0)
  return rbm.Params(*(jnp.asarray(scale * draws.normal(size=shape), jnp.float32)
                      for shape in ((V, H), V, H)))


def states_and_probabilities(params):
  v_SV = np.asarray(rbm.all_states(V))
  return v_SV, np.exp(np.asarray(rbm.log_likelihood(params, v_SV), np.float64))


def test_samples_of_one_distribution_are_hardly_ever_apart():
  # The second is drawn from a wrong distribution and weighted, in strata whose weight has an error.
  params = machine()
  v_SV, p_S = states_and_probabilities(params)
  p_S, rng, found = p_S / p_S.sum(), np.random.default_rng(1), []
  stratum_S = (v_SV[:, 0] > 0).astype(int)
  share_M = np.bincount(stratum_S, weights=p_S)
  for _ in range(300):
    one, q_S = rng.choice(len(p_S), 100, p=p_S), (p_S / share_M[stratum_S]) / 2
    other = rng.choice(len(p_S), 150, p=q_S)
    error = 0.2
    mass_M = share_M * np.exp(error * rng.normal(size=2))
    weight_N = (mass_M / np.bincount(stratum_S[other], minlength=2))[stratum_S[other]]
    found.append(ends.apart(
      params, ends.Sample(v_SV[one], np.ones(100)),
      ends.Sample(v_SV[other], weight_N, stratum_S[other], np.full(2, error**2))))
  # The largest of five normal deviates is above 2.6 in 4.6 % of all cases, above 4 in 0.03 %.
  assert np.mean(np.array(found) > ends.LIMIT) < 0.01
  assert 0.5 < np.median(found) < 2.0


def test_samples_of_two_modes_are_apart_from_those_of_one():
  w_VH = jnp.full((V, H), 3.0)
  params = rbm.Params(w_VH, jnp.full(V, -7.5), jnp.full(H, -12.0))  # all on or all off, alike
  v_NV = np.repeat(np.eye(2)[:, :1], 50, 0) * np.ones(V)
  both, one = (ends.Sample(np.float32(v), np.ones(100)) for v in (v_NV, np.ones((100, V))))
  assert ends.apart(params, one, both) > 2 * ends.LIMIT
  assert ends.apart(params, one, one) == ends.apart(params, both, both) == 0
  # A mode of a hundredth that one of a hundred states shows is no difference.
  rare = ends.Sample(np.float32(np.concatenate([np.zeros((1, V)), np.ones((99, V))])), np.ones(100))
  assert ends.apart(params, one, rare) < 2
  # Weights count: one of a hundred states that carries half of the weight is no evidence of it.
  heavy = rare._replace(weight_N=np.r_[99.0, np.ones(99)])
  assert ends.apart(params, both, heavy) < 2


def test_so_few_states_say_nothing():
  few = ends.Sample(np.ones((ends.FEWEST - 1, V), np.float32), np.ones(ends.FEWEST - 1))
  assert ends.apart(machine(), few, ends.Sample(np.zeros((50, V), np.float32), np.ones(50))) == 0


def test_ranks_are_those_of_scipy():
  scipy_stats = pytest.importorskip('scipy.stats')
  x_NG = np.random.default_rng(0).integers(0, 5, (40, 3))
  np.testing.assert_allclose(ends.ranks(x_NG), scipy_stats.rankdata(x_NG, axis=0) / 40)


def test_the_variance_is_that_of_repeated_means():
  rng, means, variances = np.random.default_rng(2), [], []
  for _ in range(2000):
    g_N1, w_N = rng.random((60, 1)), rng.exponential(size=60)
    mean, variance = ends.moments(ends.Sample(g_N1, w_N), g_N1)
    means.append(mean[0])
    variances.append(variance[0])
  np.testing.assert_allclose(np.mean(variances), np.var(means), rtol=0.15)  # 5 sd of a variance
