"""Questions to models: every family answers, and what is exact agrees with the model's own page.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data, inference
from gen_models.estimators.contrastive import Normalised
from gen_models.experiment import Questions
from gen_models.inference import asking
from gen_models.models import dbm, gaussian, mixture, pca, rbm, units, vae
from gen_models.models.machine import Machine
from tests import oracle
from tests.models import deep

V = 6
PARAMS = deep.machine(V, 3, 0.7, seed=2)
BINARY = np.random.default_rng(0).integers(0, 2, (11, V)).astype(np.float32)
KEY = 5


def ask(questions, what, params, rows=BINARY, **options):
  return asking.ask(questions, what, jax.random.key(KEY), params, rows, **options)


RBM = inference.boltzmann(rbm)


def test_a_machine_answers_what_its_page_says():
  np.testing.assert_allclose(ask(RBM, 'features', PARAMS)['features'],
                             rbm.hidden_mean(PARAMS, BINARY), rtol=1e-6)
  found = ask(RBM, 'log_likelihood', PARAMS, batch_size=4)
  np.testing.assert_allclose(found['log_likelihood'], rbm.log_likelihood(PARAMS, BINARY), rtol=1e-5)
  np.testing.assert_array_equal(found['lower'], found['upper'])
  free = ask(RBM, 'log_likelihood', PARAMS, unnormalised=True)
  assert list(free) == ['free_energy']
  np.testing.assert_allclose(free['free_energy'], rbm.free_energy(PARAMS, BINARY), rtol=1e-5)
  np.testing.assert_allclose(
    ask(RBM, 'reconstruction', PARAMS)['reconstruction'],
    rbm.visible_mean(PARAMS, rbm.hidden_mean(PARAMS, BINARY)), rtol=1e-5)


def test_the_two_sides_of_log_z_are_those_of_each_row():
  found = ask(RBM, 'log_likelihood', PARAMS,
              log_partition=asking.LogPartition(5.0, lower=4.5, upper=6.0))
  minus_free_N = -np.asarray(rbm.free_energy(PARAMS, BINARY))
  for name, log_z in (('log_likelihood', 5.0), ('lower', 6.0), ('upper', 4.5)):
    np.testing.assert_allclose(found[name], minus_free_N - log_z, rtol=1e-5)


def test_answers_do_not_depend_on_how_many_rows_follow():
  holes = np.where(np.arange(V) < 3, np.nan, BINARY)
  options = dict(batch_size=4, num_draws=3, num_steps=5)
  few, more = (ask(RBM, 'imputation', PARAMS, holes[:n], **options) for n in (5, 11))
  for name, x in few.items():
    np.testing.assert_array_equal(x, more[name][:5])
  assert np.any(more['draws'][:4] != more['draws'][4:8])


def test_rows_are_reported_as_they_are_done():
  done = []
  ask(RBM, 'features', PARAMS, batch_size=4, report=done.append)
  assert done == [4, 8, 11]


@pytest.mark.parametrize('what, options, hint', [
  ('feature', {}, 'no question'), ('classes', {}, 'no label units. What this model answers: feat'),
  ('features', dict(layer=2), 'layer 2: this model has layers 1 to 1'),
  ('features', dict(num_steps=3), 'takes layer, num_draws, not num_steps'),
  ('features', dict(unnormalised=True), 'unnormalised is an option of log_likelihood')])
def test_what_cannot_be_asked_is_refused(what, options, hint):
  with pytest.raises(asking.Unanswered, match=hint):
    ask(RBM, what, PARAMS, **options)


def test_missing_values_are_refused_by_name_of_the_row():
  holes = BINARY.copy()
  holes[7, 2] = np.nan
  with pytest.raises(asking.Unanswered, match=r'row 7 has missing values .* ask for imputation'):
    ask(RBM, 'features', PARAMS, holes, batch_size=4)
  potts = Machine(units.Categorical(3), units.BERNOULLI)
  with pytest.raises(asking.Unanswered, match='row 7: the 3 values of a one-of-3 unit'):
    ask(inference.boltzmann(potts), 'imputation', potts.init(jax.random.key(0), V, 2), holes)


def test_parameters_that_diverged_are_named():
  with pytest.raises(FloatingPointError, match='row 0: `features` is not finite'):
    ask(RBM, 'features', PARAMS._replace(c_H=jnp.full(3, jnp.nan)))


def test_too_many_states_are_refused():
  with pytest.raises(asking.NotEnumerated, match='enumerate 2'):
    ask(RBM, 'log_likelihood', rbm.init(jax.random.key(0), 40, 40), np.zeros((1, 40)))


def test_an_experiment_that_says_nothing_answers_nothing():
  with pytest.raises(asking.Unanswered, match='does not say how. What this model answers: nothing'):
    ask(Questions(), 'features', PARAMS)


def test_a_normalised_machine_is_a_density_of_the_data():
  machine = Machine(units.Gaussian(), units.BERNOULLI)
  params = Normalised(jnp.array([1.0]), jnp.array([2.0]), machine.init(
    jax.random.key(0), 1, 2, scale=1.0))
  questions = inference.boltzmann(machine, inference.machines.NORMALISED)
  grid = np.linspace(-30, 32, 4001, dtype=np.float32)[:, None]
  log_p = ask(questions, 'log_likelihood', params, grid)['log_likelihood']
  np.testing.assert_allclose(np.sum(np.exp(log_p)) * (grid[1] - grid[0]), 1, rtol=1e-4)


def test_a_linear_vae_has_its_exact_likelihood_within_the_error():
  model = vae.model(V, (2,), ((),), likelihood=vae.gaussian(0.8))
  params = model.init(jax.random.key(1), jnp.zeros(V))
  # The encoder says the prior, so that weights are bounded and their errors known.
  params = params._replace(encoder=jax.tree.map(jnp.zeros_like, params.encoder))
  origin_V = model.visible_mean(params, jnp.zeros((1, 2)))[0]
  exact = gaussian.LowRank(origin_V, (model.visible_mean(params, jnp.eye(2)) - origin_V).T,
                           jnp.full(V, np.log(0.8)))
  found = ask(inference.vae(model), 'log_likelihood', params, num_samples=3000)
  z_N = (found['log_likelihood'] - gaussian.log_likelihood(exact, BINARY)) / found['standard_error']
  # 11 rows, 5 standard errors: fails for one key in 10^5.
  assert np.all(np.abs(z_N) < 5) and np.all(found['standard_error'] < 0.1)


def test_a_deep_belief_network_within_its_error():
  params = deep.stack(V, 4, 3, scale=0.8)
  exact_A = np.log(deep.exact(params).p_AQ.sum(1))
  rows = oracle.states(V).astype(np.float32)
  found = ask(inference.dbn(), 'log_likelihood', params, rows, num_samples=2000)
  z_A = (found['log_likelihood'] - exact_A) / found['standard_error']
  assert np.all(np.abs(z_A) < 6)
  assert np.all(found['lower'] < exact_A)
  np.testing.assert_allclose(found['lower'], deep.bound(params), atol=0.1)


def test_a_likelihood_of_what_was_seen():
  params = mixture.Params(jnp.asarray(np.random.default_rng(1).normal(size=(3, V)), jnp.float32),
                          jnp.zeros(3))
  holes = np.where(np.arange(V) < 2, np.nan, BINARY)
  found = ask(inference.mixture(), 'log_likelihood', params, holes)['log_likelihood']
  all_NA = np.array([[np.concatenate([s, row[2:]]) for s in oracle.states(2)] for row in BINARY])
  log_p = mixture.log_likelihood(params, jnp.float32(all_NA.reshape(-1, V)))
  np.testing.assert_allclose(found, np.logaddexp.reduce(np.reshape(log_p, (11, 4)), 1), rtol=1e-4)


def test_principal_components_project():
  x_NV = np.random.default_rng(3).normal(size=(50, V)).astype(np.float32)
  params = pca.fit(x_NV, 2)
  questions = inference.pca()
  np.testing.assert_allclose(ask(questions, 'features', params, x_NV)['features'],
                             pca.project(params, x_NV), atol=1e-5)
  np.testing.assert_allclose(ask(questions, 'reconstruction', params, x_NV)['reconstruction'],
                             pca.reconstruct(params, pca.project(params, x_NV)), atol=1e-5)


def test_draws_at_a_temperature_are_those_of_the_machine_of_it():
  drawn = jax.jit(lambda key, params: RBM.chains(
    key, params, 2**13, label=None, num_steps=60, temperature=2.0, start=None)[0])
  cooler = jax.tree.map(lambda x: np.asarray(x, np.float64) / 2, PARAMS)
  oracle.assert_frequencies(oracle.index(drawn(jax.random.key(0), PARAMS)),
                            oracle.rbm_joint(cooler).p_AS.sum(1))
  codes = Machine(units.BERNOULLI, units.LINEAR)
  with pytest.raises(ValueError, match='of Linear units'):
    inference.machines.tempered(codes, PARAMS, 2.0)
  with pytest.raises(ValueError, match='is positive'):
    inference.machines.tempered(rbm, PARAMS, 0.0)


# All families at their smallest, untrained: what is answered, in which shapes.

DIGITS = dict(dataset='digits')
BITS = dict(DIGITS, binarisation='threshold')
SHAPES = {'features': ('features',), 'log_likelihood': ('log_likelihood',),
          'reconstruction': ('reconstruction',), 'imputation': ('draws', 'mean'),
          'classes': ('classes', 'probabilities'), 'mutations': ('mutations',)}
DENSITY = {'features', 'log_likelihood', 'reconstruction', 'imputation'}
FAMILIES = {
  'rbm_digits': ({}, DENSITY), 'gaussian_rbm': ({}, DENSITY), 'linear_rbm': ({}, DENSITY),
  'rbm_centring': (dict(DIGITS, flipped=True, num_hidden=4), DENSITY),
  'class_rbm': (dict(DIGITS, num_hidden=8), DENSITY | {'classes'}),
  'dbn': (dict(BITS, layers='12-8', labels=True), DENSITY | {'classes'}),
  'dbm_classifier': (dict(DIGITS, layers='6-5'), {'features', 'classes'}),
  'dbm': (dict(BITS, layers='8-6', labels=True), DENSITY | {'classes'}),
  'classifier': (dict(DIGITS, layers='12-8', pretrain=False), {'features', 'classes'}),
  'autoencoder': (dict(DIGITS, layers='12-3', pretrain=False), {'features', 'reconstruction'}),
  'vae': (dict(BITS, hidden='8,6', latents='4-2'), DENSITY),
  'belief_net': (dict(BITS, latents='4'), DENSITY),
  'discrete_vae': (dict(latents=6), DENSITY),
  'vq_vae': (dict(positions=2, codes=3), DENSITY - {'imputation'}),
  'mixture': (dict(BITS, num_classes=3), DENSITY | {'classes'}),
  'gaussian': ({}, DENSITY - {'reconstruction'}),
  'gan': (dict(DIGITS, nets='conv', width=4), {'features'}),
  'gan_grid': (dict(nets='small', width=8), {'features'})}
QUICK = ('classifier', 'gan_grid')  # the others compile much


@pytest.mark.parametrize('name', [
  pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES])
def test_every_family_answers(name):
  values, able = FAMILIES[name]
  experiment = importlib.import_module(f'experiments.{name}').experiment(**values)
  dataset, params = data.load(experiment.dataset), None
  for phase in experiment.phases:
    params = phase.init(jax.random.key(0), dataset.train, params)
  assert set(asking.answered(experiment.questions)) == able
  rows = np.float32(dataset.test.images[:3].reshape(3, -1)) / dataset.levels
  holes = np.where(np.arange(rows.shape[1]) % 3 == 0, np.nan, rows)
  for what in able:
    options = {'imputation': dict(num_draws=2, num_steps=4),
               'log_likelihood': dict(num_samples=5)}.get(what, {})
    found = asking.ask(experiment.questions, what, jax.random.key(1), params,
                       holes if what == 'imputation' else rows, batch_size=2, **options)
    assert set(SHAPES[what]) <= set(found)
    assert all(len(x) == 3 and np.all(np.isfinite(x)) for x in found.values())
    if what == 'imputation':
      assert found['draws'].shape == (3, 2, rows.shape[1])
      seen = ~np.isnan(holes)  # what was seen is the same in every draw
      assert np.all((found['draws'][:, 0] == found['draws'][:, 1])[seen])
    if what == 'classes':
      np.testing.assert_array_equal(found['classes'], found['probabilities'].argmax(-1))
  for what in set(asking.WHAT) - able:
    with pytest.raises(asking.Unanswered, match=f'^{what}: [a-z].*. What this model answers'):
      asking.check(experiment.questions, what)


def test_mutations_are_asked_of_letters_only():
  machine = Machine(units.Categorical(3), units.BERNOULLI)
  params = machine.init(jax.random.key(0), 6, 2, scale=1.0)
  rows = np.float32(np.eye(3)[[[0, 1], [2, 2], [1, 0]]].reshape(3, 6))
  found = ask(inference.boltzmann(machine), 'mutations', params, rows, batch_size=2)['mutations']
  assert found.shape == (3, 2, 3)
  mutant = rows[:1].copy()
  mutant[0, :3] = 0, 0, 1
  ratio = machine.log_likelihood(params, mutant) - machine.log_likelihood(params, rows[:1])
  np.testing.assert_allclose(found[0, 0, 2], ratio[0], atol=1e-4)
  with pytest.raises(asking.Unanswered, match='rows are not letters'):
    asking.check(inference.boltzmann(rbm), 'mutations')


def test_a_deep_boltzmann_machine_imputes_with_the_layers_above():
  model = dbm.model((4, 3, 2))
  params = jax.tree.map(lambda x: jnp.asarray(
    0.8 * np.random.default_rng(x.size).normal(size=x.shape), jnp.float32),
    model.init(jax.random.key(0)))
  row = np.array([[1, np.nan, np.nan, 0]], np.float32)
  found = ask(inference.dbm(model), 'imputation', params, row, num_draws=2**12, num_steps=30,
              batch_size=1)
  states = oracle.states(4).astype(np.float32)
  fits = states[(states[:, 0] == 1) & (states[:, 3] == 0)]
  p_A = np.exp(np.asarray(model.log_likelihood(params, fits), np.float64))
  cells = np.argmin(np.abs(found['draws'][0][:, None] - fits).sum(-1), axis=1)
  oracle.assert_frequencies(cells, p_A / p_A.sum())
