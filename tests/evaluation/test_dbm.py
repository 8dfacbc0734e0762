"""Scores of deep Boltzmann machines against enumeration: which bound lies above which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import dbm as scoring, score as score_lib
from gen_models.models import dbm, units
from gen_models.samplers import annealing
from tests.models import deep_boltzmann

MODEL = dbm.model((5, 4, 3))
PARAMS = deep_boltzmann.params_of(MODEL, 2.0, seed=7)
EXACT = deep_boltzmann.exact(MODEL, PARAMS)
V_AV = jnp.asarray(EXACT.v_AV, jnp.float32)


def scored(z=None, copies=1, **options):
  """The score of every state, `copies` times."""
  z = z or scoring.bracket(jax.random.key(0), MODEL, PARAMS, V_AV)[0]
  v_NV = jnp.tile(V_AV, (copies, 1))
  return scoring.score(jax.random.key(1), MODEL, PARAMS, v_NV, z, {}, binarisation='static',
                       **{'num_samples': 4, 'posterior_steps': 30, **options})


def test_a_small_machine_has_an_exact_partition():
  z, searched = scoring.bracket(jax.random.key(0), MODEL, PARAMS, V_AV)
  np.testing.assert_allclose(z.log_partition, EXACT.log_partition, rtol=1e-6)
  assert z.lower == z.upper and searched == {}


def test_annealing_over_all_layers_brackets_the_partition():
  z, searched = scoring.bracket(jax.random.key(0), MODEL, PARAMS, V_AV, max_enumerated=0,
                                num_chains=100, betas=annealing.linear(100), burn_in=20)
  assert (z.lower.log_partition - 4 * z.lower.standard_error < EXACT.log_partition
          < z.upper.log_partition + 4 * z.upper.standard_error)
  assert abs(z.log_partition - EXACT.log_partition) < 0.1
  assert searched['path'] in ('data', 'uniform') and set(searched['bases']) == {'data', 'uniform'}


def test_bounds_lie_in_order_around_the_exact_likelihood():
  # In expectation: 300 draws for each of 32 states; the gaps are many of these standard errors.
  truth = float(EXACT.log_p_A.mean())
  few, more = (scored(copies=300, num_samples=num) for num in (4, 32))
  noise = 5 * few['importance']['standard_error']
  assert few['lower'] == few['test_nats'] == pytest.approx(more['lower'], abs=1e-5)
  assert few['lower'] + noise < few['scores']['importance_nats'] < truth - noise
  assert truth + noise < few['upper'] < truth + 0.3
  assert few['scores']['importance_nats'] + noise < more['scores']['importance_nats'] < truth
  assert truth < more['upper'] < few['upper'] - noise
  assert score_lib.Score.from_json(few).kind == 'bound' and few['resolved']


def test_the_mean_field_bound_is_that_of_enumeration():
  _, bound_A = deep_boltzmann.mean_field(MODEL, PARAMS, EXACT.v_AV)
  assert scored()['lower'] == pytest.approx(bound_A.mean() - EXACT.log_partition, abs=1e-4)


def test_an_exact_score_also_reports_the_bounds():
  found = scored(exact=True)
  assert found['kind'] == 'exact'
  assert found['test_nats'] == pytest.approx(EXACT.log_p_A.mean(), abs=1e-5)
  assert found['scores']['bound_nats'] < found['scores']['importance_nats']
  assert found['scores']['bound_nats'] < found['test_nats']


def test_bounds_take_the_side_that_keeps_them_bounds():
  def side(log_z):
    return annealing.Estimate(log_z, 0.01, 50.0, np.zeros(0), 10)

  low, high = EXACT.log_partition - 0.2, EXACT.log_partition + 0.3
  sharp = scored()
  found = scored(annealing.Bracket(EXACT.log_partition, side(low), side(high)))
  assert found['lower'] == pytest.approx(sharp['lower'] - 0.3, abs=1e-4)
  assert found['upper'] == pytest.approx(sharp['upper'] + 0.2, abs=1e-4)
  assert found['scores']['importance_nats'] == pytest.approx(
    sharp['scores']['importance_nats'], abs=1e-4)
  apart = scored(annealing.Bracket(EXACT.log_partition, side(low), side(high + 2)))
  assert not apart['resolved'] and apart['log_partition'] == high + 2


def test_what_cannot_be_scored_is_refused():
  with pytest.raises(ValueError, match='needs two samples'):
    scored(num_samples=1)
  model = dbm.model((5, 4, 3), units.SPIN)
  with pytest.raises(ValueError, match='annealed for machines of Bernoulli units'):
    scoring.bracket(jax.random.key(0), model, PARAMS, V_AV, max_enumerated=2)


def test_bounds_of_images_are_a_floor_of_log_z():
  low = annealing.Estimate(EXACT.log_partition - 9, 0.01, 20.0, np.zeros(20), 20)
  found = scored(annealing.Bracket(low.log_partition, low, low))
  assert found['test_nats'] < 0 and not found['resolved']
  # The log-sum of the bounds of all images, which is the exact value less what mean field misses.
  _, bound_A = deep_boltzmann.mean_field(MODEL, PARAMS, EXACT.v_AV)
  assert found['log_partition'] == pytest.approx(np.logaddexp.reduce(bound_A), abs=1e-3)


@pytest.mark.slow
def test_labels_are_summed_over():
  model = dbm.model((4, 3, 2), num_labels=3)
  params = deep_boltzmann.params_of(model, 0.8, seed=6)
  exact = deep_boltzmann.exact(model, params)
  v_AV = jnp.asarray(exact.v_AV, jnp.float32)
  z, searched = scoring.bracket(
    jax.random.key(0), model, params, v_AV, np.arange(16) % 3, max_enumerated=0, num_chains=60,
    betas=annealing.linear(60), burn_in=10)
  assert set(searched) == {'class 0', 'class 1', 'class 2'}
  assert abs(z.log_partition - exact.log_partition) < 0.1
