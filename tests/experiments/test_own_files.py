"""Spikes and sequences of a user's files, from training to every score and chart."""

import jax
import numpy as np
import pytest

from experiments import (
  gaussian_rbm,
  linear_rbm,
  mixture,
  rbm as any_rbm,
  rbm_protein,
  rbm_spikes,
  vae,
)
from experiments._common import machines
from gen_models import data
from gen_models.evaluation import likelihood
from gen_models.evaluation.score import Score
from gen_models.training import loop

FEW = dict(num_steps=30, num_hidden=4, chains=20, batch_size=20, ais_chains=20,
           ais_temperatures=30, num_draws=200)


def scored(module, **chosen):
  """(score, pictures) of a short run."""
  experiment = module.experiment(**{**FEW, **chosen})._replace(validate=None)
  dataset = data.load(experiment.dataset)
  params = loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(0)).state.params
  score = Score.from_json(experiment.evaluate(jax.random.key(1), params, dataset, lambda line: 0))
  return score, experiment.pictures(jax.random.key(2), params, dataset), params


@pytest.mark.slow
def test_spikes_are_scored_and_drawn():
  score, pictures, _ = scored(rbm_spikes)
  assert score.kind == 'bracket' and score.num_images == 40 and score.details['split'] == 'test'
  assert set(score.baselines) == {'independent neurons', 'mixture of Bernoullis'}
  assert score.lower <= score.upper + 1 and -12 < score.test_nats < 0
  assert {'second_moment_correlation', 'third_moment_correlation_of_training',
          'active_neurons_distance'} <= set(score.scores)
  assert set(pictures) == {'recorded', 'drawn', 'moments', 'active neurons', 'assemblies'}
  for grid in pictures.values():
    assert grid.shape[:2] == (1, 1) and grid.shape[-1] == 3 and 0 <= grid.min() <= grid.max() <= 1


@pytest.mark.slow
def test_a_pairwise_model_has_a_hidden_unit_for_each_neuron():
  score, _, params = scored(rbm_spikes, hidden='pairwise')
  assert params.w_VH.shape == (12, 12) and score.kind == 'bracket'


@pytest.mark.slow
def test_sequences_are_scored_weighted_with_contacts():
  score, pictures, params = scored(rbm_protein, contacts='contacts.npy', hidden='gaussian')
  assert score.kind == 'bracket' and score.binarisation == 'categorical'
  assert score.details['weighted'] is True
  assert score.scores['nats_per_column'] == pytest.approx(score.test_nats / 8)
  assert score.scores['mean_field_contact_average_precision'] == 1.0
  assert 0 < score.scores['contact_average_precision'] <= 1
  assert set(score.baselines) == {'independent columns'}
  assert set(pictures) == {'sequence logos', 'moments', 'contacts'}
  np.testing.assert_allclose(np.asarray(params.w_VH).reshape(8, 21, 4).sum(1), 0, atol=1e-5)


def test_validation_metrics_of_weighted_rows_are_those_of_repeated_ones(own_files):
  draws = np.random.default_rng(6)
  x_NV, w_N = draws.integers(0, 2, (60, 6)).astype(np.uint8), draws.integers(1, 4, 60)
  splits = {'train': slice(0, 40), 'valid': slice(40, 50), 'test': slice(50, 60)}
  for kind, rows_NV in (('binary', x_NV), ('real', draws.random((60, 6)))):
    np.savez(own_files / f'weighted_{kind}.npz', **{
      s: rows_NV[rows] for s, rows in splits.items()}, **{
        f'{s}_weights': w_N[rows] for s, rows in splits.items()})
    np.savez(own_files / f'repeated_{kind}.npz', **{
      s: np.repeat(rows_NV[rows], w_N[rows], axis=0) for s, rows in splits.items()})
  few = dict(num_hidden=3, num_steps=10, chains=10, batch_size=5)
  for module, kind, options in (
      (any_rbm, 'binary', few), (gaussian_rbm, 'real', {'num_hidden': 3}),
      (linear_rbm, 'real', {'num_hidden': 3})):
    names = [f'npz:{how}_{kind}.npz' for how in ('weighted', 'repeated')]
    weighted, repeated = (data.load(name) for name in names)
    assert any('rows have weights' in line for line in weighted.remarks)
    assert not any('rows have weights' in line for line in repeated.remarks)
    made, other = (module.experiment(dataset=name, **options) for name in names)
    params = made.phases[0].init(jax.random.key(0), weighted.train, None)
    found, expected = (jax.jit(e.validate)(jax.random.key(1), params, d.valid) for e, d in (
      (made, weighted), (other, repeated)))
    assert found.keys() == expected.keys()
    for name, value in found.items():
      np.testing.assert_allclose(value, expected[name], rtol=1e-4, err_msg=f'{module} {name}')
  free_N = -np.log(w_N)
  np.testing.assert_allclose(likelihood.quick(free_N, 9.0, w_N),
                             likelihood.quick(np.repeat(free_N, w_N), 9.0), rtol=1e-5)


def test_the_gauge_is_a_projection_of_the_update():
  import optax

  from gen_models.models import units
  from gen_models.models.machine import Machine
  machine = Machine(units.Categorical(3), units.BERNOULLI)
  params, other = (machine.init(jax.random.key(i), 6, 2, scale=1.0) for i in range(2))
  gauge = machines.in_zero_sum_gauge(machine)
  updates, _ = gauge.update(other, gauge.init(params), params)
  moved, expected = optax.apply_updates(params, updates), optax.apply_updates(params, other)
  v_SV = np.float32(np.eye(3)[[[0, 1], [2, 2], [1, 0]]].reshape(3, 6))
  np.testing.assert_allclose(machine.log_likelihood(moved, v_SV),
                             machine.log_likelihood(expected, v_SV), rtol=1e-5)
  np.testing.assert_allclose(moved.w_VH.reshape(2, 3, 2).sum(1), 0, atol=1e-5)


@pytest.mark.parametrize('make, message', [
  (lambda: rbm_spikes.experiment(dataset='npz:absent.npz'), 'absent.npz: no such file.*jertubiana'),
  (lambda: rbm_protein.experiment(dataset='fasta:absent.fasta'), 'no such file.*FASTA'),
  (lambda: rbm_protein.experiment(contacts='absent.npy'), r'contacts=absent.npy: no such file'),
  (lambda: rbm_spikes.experiment(dataset='fasta:family.fasta'),
   'rbm_protein take categorical columns')])
def test_what_is_missing_or_of_another_kind_is_one_line(make, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
    make()
  assert '\n' not in str(found.value)


@pytest.fixture(name='holes', scope='module')
def fixture_holes(own_files):
  """A tenth of the values missing, from two rows of three."""
  draws, x_NV = np.random.default_rng(4), np.load(own_files / 'spikes.npz')['x'].astype(np.float32)
  x_NV[(draws.random(x_NV.shape) < 0.15) & (np.arange(len(x_NV)) % 3 > 0)[:, None]] = np.nan
  np.savez(own_files / 'holes.npz', x=x_NV)
  return 'npz:holes.npz?split=blocks'


def test_spikes_with_holes_are_trained_on_and_scored_where_they_are_whole(holes):
  assert data.spec(holes).missing
  experiment = rbm_spikes.experiment(**{**FEW, 'dataset': holes})
  dataset = data.load(holes)
  phase, = experiment.phases
  key_init, key_memory, key_batch, key_grad = jax.random.split(jax.random.key(0), 4)
  params = phase.init(key_init, dataset.train, None)
  v_BV = phase.batch_at(key_batch, dataset.train, 0)
  assert np.isnan(v_BV).any() and phase.monitor is None
  phase.check(params, v_BV)
  memory = phase.estimator.init(key_memory, params)
  grads, _, _ = jax.jit(phase.estimator.grad)(key_grad, params, memory, v_BV)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(grads)) and np.any(grads.w_VH != 0)
  shapes = jax.eval_shape(experiment.validate, key_grad, params, dataset.valid)
  assert shapes['valid_nats_quick'].shape == ()
  scored_NV, _ = machines.seen(dataset.test, dataset.about)
  whole_N = ~np.isnan(dataset.test.rows).any(1)
  assert 0 < whole_N.sum() < len(whole_N)
  np.testing.assert_array_equal(scored_NV, dataset.test.rows[whole_N])


@pytest.mark.parametrize('method', ['em', 'gradient'])
def test_a_mixture_sums_holes_out(holes, method):
  experiment = mixture.experiment(dataset=holes, binarisation='static', num_classes=2,
                                  method=method, num_steps=20, batch_size=50)
  dataset = data.load(holes)
  result = loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(0))
  score = Score.from_json(experiment.evaluate(
    jax.random.key(1), result.state.params, dataset, lambda line: 0))
  assert score.kind == 'exact' and score.num_images == len(dataset.test.rows)
  assert -12 < score.test_nats < 0 and 'nats of what was seen' in score.remarks[0]


def test_models_that_take_no_holes_refuse_them_in_one_line(holes):
  with pytest.raises(ValueError, match='values are missing'):
    mixture.experiment(dataset=holes, components='full')
  with pytest.raises(ValueError, match='cannot take missing values'):
    vae.experiment(dataset=holes, binarisation='static')
  with pytest.raises(ValueError, match='score matching reads whole rows'):
    gaussian_rbm.experiment(dataset=holes, negative='none')


@pytest.mark.parametrize('module, chosen', [
  (any_rbm, dict(num_hidden=4)), (gaussian_rbm, dict(num_hidden=4))], ids=['rbm', 'gaussian_rbm'])
def test_machines_of_any_units_train_on_holes_and_score_whole_rows(own_files, module, chosen):
  draws = np.random.default_rng(6)
  x_NV = draws.normal(size=(90, 3)).astype(np.float32)
  x_NV[(draws.random(x_NV.shape) < 0.2) & (np.arange(90) % 2 > 0)[:, None]] = np.nan
  np.savez(own_files / 'real_holes.npz', x=x_NV)
  name = 'npz:real_holes.npz?scale=normalise'
  experiment = module.experiment(dataset=name, num_steps=20, batch_size=20, chains=20, **chosen)
  dataset = data.load(name)
  result = loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(0))
  score = Score.from_json(experiment.evaluate(
    jax.random.key(1), result.state.params, dataset, lambda line: 0))
  whole = ~np.isnan(dataset.test.rows).any(1)
  assert score.kind == 'exact' and score.num_images == whole.sum() < len(whole)
  assert -20 < score.test_nats < 0
