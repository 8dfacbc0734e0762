"""Scores of deep belief networks against enumeration; error rates as in tests/oracle.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import deep as evaluation
from gen_models.models import rbm
from gen_models.samplers import annealing
from tests import oracle
from tests.models import deep

CASES = {'one layer': ((4, 3), 0), 'two layers': ((4, 3, 4), 0), 'labels': ((3, 4, 3), 3)}
every_case = pytest.mark.parametrize('sizes, num_labels', CASES.values(), ids=CASES)


def data_of(exact):
  """100 images: a row of v drawn from the model, and its label."""
  draws = np.random.default_rng(0)
  cells = draws.choice(exact.p_AQ.size, 100, p=exact.p_AQ.reshape(-1))
  return (np.float32(exact.v_AV[cells // exact.p_AQ.shape[1]]), cells % exact.p_AQ.shape[1])


@every_case
def test_log_partition_enumerated_and_annealed_from_both_sides(sizes, num_labels):
  params = deep.stack(*sizes, num_labels=num_labels)
  exact = deep.exact(params, num_labels)
  v_NV, label_N = data_of(exact)
  z, _ = evaluation.bracket(jax.random.key(0), params, v_NV, label_N)
  assert z.lower.standard_error == 0 and z.lower == z.upper
  np.testing.assert_allclose(z.log_partition, exact.log_partition, rtol=2e-6)

  lines = []
  z, searched = evaluation.bracket(jax.random.key(1), params, v_NV, label_N, max_enumerated=0,
                                   num_chains=500, betas=annealing.linear(300),
                                   report=lines.append)
  assert set(searched['class 0'] if num_labels else searched) > {'modes', 'starts', 'ends_apart'}
  for side in (z.lower, z.upper):
    assert abs(side.log_partition - exact.log_partition) < 6 * side.standard_error < 0.1
    assert side.standard_error > 0
    assert 1 < side.effective_sample_size <= len(side.log_weights_C) + 1e-6
  assert abs(z.log_partition - exact.log_partition) < 0.05 and lines


@every_case
def test_the_score_is_the_bound_and_the_estimate_is_close(sizes, num_labels):
  params = deep.stack(*sizes, num_labels=num_labels)
  exact = deep.exact(params, num_labels)
  v_NV, label_N = data_of(exact)
  rows = oracle.index(v_NV)
  z, _ = evaluation.bracket(jax.random.key(0), params, v_NV, label_N)
  score = evaluation.score(jax.random.key(2), params, v_NV, z, num_samples=4000,
                           binarisation='threshold', scores={'more': 1.0})
  bound = deep.bound(params, num_labels)[rows].mean()
  nats = np.log(exact.p_AQ.sum(1))[rows].mean()
  assert abs(score['test_nats'] - bound) <= 5 * score['standard_error'] + 1e-5
  assert score['standard_error'] < 0.01
  assert score['kind'] == 'bound' and score['upper'] is None and score['num_images'] == 100
  assert score['lower'] == pytest.approx(score['test_nats'], abs=1e-9)
  assert score['effective_sample_size'] is None and score['scores']['more'] == 1.0
  ess = score['scores']['importance_ess']
  assert 1 <= ess <= 4000 * (1 + 1e-9)
  # sd of the mean of 100 logarithms, each of a mean with that effective sample size.
  error = np.sqrt((1 - ess / 4000) / ess / 100)
  assert abs(score['scores']['importance_nats'] - nats) < 5 * error + 1e-5
  assert error < 0.01
  if len(sizes) > 2:
    assert score['test_nats'] < score['scores']['importance_nats'] - 1e-3
    assert ess < 3999
  else:
    np.testing.assert_allclose(score['test_nats'], nats, atol=1e-5)


def test_both_sides_of_log_z_reach_the_score():
  params = deep.stack(4, 3, 4)
  low, high = (annealing.Estimate(z, error, ess, np.zeros(0), 7)
               for z, error, ess in ((5.0, 0.3, 40.0), (5.5, 0.4, 30.0)))
  v_NV = np.float32(oracle.states(4))
  score = evaluation.score(jax.random.key(0), params, v_NV, annealing.Bracket(5.2, low, high),
                           num_samples=2, binarisation='threshold')
  # The bound takes the larger log Z, the estimate the one between the sides.
  np.testing.assert_allclose(score['test_nats'], score['lower'], atol=1e-12)
  assert score['log_partition'] == 5.5 and score['resolved'] is False  # errors of a third of a nat
  assert score['effective_sample_size'] == 30 and score['log_partition_sides'] == [5.0, 5.5]
  assert score['standard_error'] > score['log_partition_error'] == 0.4
  assert score['num_temperatures'] == 7


@pytest.mark.parametrize('sizes', [
  (4, 3, 4), pytest.param((5, 3, 4), marks=pytest.mark.slow),
  pytest.param((4, 4, 3), marks=pytest.mark.slow), (3, 4, 5)])
def test_a_bound_is_one_whatever_annealing_says(sizes):
  """Three stacks of each shape, log Z annealed too quickly: the bound lies below the likelihood.

  4 standard errors of 12 cases: a right bound fails for one key in 2,000.
  """
  for seed in range(3):
    params = deep.stack(*sizes, seed=seed) if seed else deep.stack(*sizes)
    exact = deep.exact(params)
    v_NV, _ = data_of(exact)
    z, _ = evaluation.bracket(jax.random.key(seed), params, v_NV, max_enumerated=0, num_chains=20,
                              betas=annealing.linear(10), burn_in=20)
    score = evaluation.score(jax.random.key(10 + seed), params, v_NV, z, num_samples=50,
                             binarisation='threshold')
    nats = np.log(exact.p_AQ.sum(1))[oracle.index(v_NV)].mean()
    assert score['lower'] == pytest.approx(score['test_nats'], abs=1e-12)
    assert score['log_partition'] == max(z.lower.log_partition, z.upper.log_partition)
    assert score['test_nats'] < nats + 4 * score['standard_error'], (score, nats)
    assert isinstance(score['resolved'], bool)


def test_one_chain_has_no_standard_error_and_the_score_is_kept():
  params = deep.stack(4, 3, 4)
  v_NV, _ = data_of(deep.exact(params))
  z, _ = evaluation.bracket(jax.random.key(0), params, v_NV, max_enumerated=0, num_chains=1,
                            betas=annealing.linear(10), burn_in=5)
  score = evaluation.score(jax.random.key(1), params, v_NV, z, num_samples=2,
                           binarisation='threshold')
  assert score['standard_error'] is None and score['resolved'] is False
  assert np.isfinite(score['test_nats']) and score['importance']['standard_error'] is None


def test_the_standard_error_is_the_spread_of_repeated_scores():
  params = deep.stack(4, 3, 4)
  z, _ = evaluation.bracket(jax.random.key(0), params, np.zeros((2, 4), np.float32))
  v_NV = np.float32(oracle.states(4))
  scores = [evaluation.score(key, params, v_NV, z, num_samples=20, binarisation='threshold')
            for key in jax.random.split(jax.random.key(1), 200)]
  spread = np.std([score['test_nats'] for score in scores], ddof=1)
  # A standard deviation of 200 normal deviates is known to 5 %.
  assert 0.75 < spread / np.mean([score['standard_error'] for score in scores]) < 1.3


def test_images_in_several_blocks_have_draws_of_their_own():
  params = deep.stack(4, 3, 4)
  z, _ = evaluation.bracket(jax.random.key(0), params, np.zeros((2, 4), np.float32))
  v_NV, lines = np.tile(np.float32(oracle.states(4)[5]), (3000, 1)), []
  score = evaluation.score(jax.random.key(3), params, v_NV, z, num_samples=2,
                           binarisation='threshold', report=lines.append)
  assert score['num_images'] == 3000 and lines == ['2500/3000 images']
  # 3000 images alike: their spread is that of independent draws, not of six repeated blocks.
  bound = deep.bound(params)[5]
  assert abs(score['test_nats'] - bound) < 5 * score['standard_error']
  np.testing.assert_allclose(score['image_standard_error'], score['standard_error'], rtol=0.1)


def test_one_sample_is_refused():
  params = deep.stack(4, 3)
  z, _ = evaluation.bracket(jax.random.key(0), params, np.zeros((2, 4), np.float32))
  with pytest.raises(ValueError, match='two samples'):
    evaluation.score(jax.random.key(0), params, jnp.zeros((2, 4)), z, num_samples=1,
                     binarisation='threshold')


def test_a_diverged_net_is_not_scored():
  params = deep.stack(4, 3, 4)
  z, _ = evaluation.bracket(jax.random.key(0), params, np.zeros((2, 4), np.float32))
  lower, top = params.layers
  broken = params._replace(layers=(rbm.Params(*(jnp.nan * x for x in lower)), top))
  with pytest.raises(FloatingPointError, match='not finite'):
    evaluation.score(jax.random.key(0), broken, np.zeros((2, 4), np.float32), z,
                     binarisation='threshold')


def test_the_floors_of_features_and_images_take_part_in_the_bracket():
  params = deep.stack(4, 3, 4)
  v_NV, _ = data_of(deep.exact(params))
  z, searched = evaluation.bracket(jax.random.key(0), params, v_NV, max_enumerated=0,
                                   num_chains=20, betas=annealing.linear(20), burn_in=5,
                                   seen=[np.float32(oracle.states(4))])
  assert searched['distinct_states'] == 8  # three features, all of their states
  np.testing.assert_allclose(searched['log_partition_floor'], deep.exact(params).log_partition,
                             rtol=1e-5)
  # A log Z that would give images a probability above one is raised, and not resolved.
  low = annealing.Estimate(z.log_partition - 9, 0.01, 20.0, np.zeros(20), 20)
  score = evaluation.score(jax.random.key(1), params, v_NV,
                           annealing.Bracket(low.log_partition, low, low), num_samples=50,
                           binarisation='threshold')
  assert score['test_nats'] < 0 and not score['resolved']
