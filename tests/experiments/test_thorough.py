"""Every bracket and every decoder can be scored thoroughly, and every exact score says so."""

import functools
import json
import pathlib
import re

import jax
import numpy as np
import pytest

import experiments
from experiments import (
  belief_net,
  dbm,
  dbn,
  discrete_vae,
  gan,
  rbm,
  rbm_mnist,
  rbm_protein,
  rbm_spikes,
  rbm_time,
  vae,
)
from gen_models import data
from gen_models.evaluation.score import Score
from gen_models.experiment import EXACT
from gen_models.samplers import thorough

TINY = dict(ais_chains=8, ais_temperatures=10)
BRACKETS = {
  'rbm': (rbm, dict(hidden='gaussian', num_hidden=4, **TINY)),
  'rbm_mnist': (rbm_mnist, dict(dataset='digits', binarisation='threshold', num_hidden=20, **TINY)),
  'rbm_time': (rbm_time, dict(ais_temperatures=10)),
  'rbm_protein': (rbm_protein, dict(num_hidden=4, num_draws=20, **TINY)),
  'rbm_spikes': (rbm_spikes, dict(num_hidden=4, num_draws=20, **TINY)),
  'dbn': (dbn, dict(dataset='digits', binarisation='threshold', layers='24-24',
                    importance_samples=4, **TINY)),
  'dbm': (dbm, dict(dataset='digits', binarisation='threshold', layers='24-24',
                    importance_samples=4, posterior_steps=5, **TINY)),
  'discrete_vae': (discrete_vae, dict(latents=48, importance_samples=4, **TINY))}

DECODERS = ('vae', 'belief_net', 'gan')  # annealed from both sides instead


class Reached(Exception):
  """The thorough searches were called, with these arguments."""


def untrained(name):
  """(experiment, parameters of all its phases at their start, small data set)."""
  module, chosen = BRACKETS[name]
  experiment = module.experiment(**chosen)
  if experiment.dataset == 'mnist':
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1)).astype(np.uint8)
    arrays = data.Arrays(images, np.zeros(40, np.int32))
    dataset = data.load('digits')._replace(
      name='mnist', train=arrays, valid=arrays, test=arrays, levels=255, spec=data.spec('mnist'))
  else:
    dataset = data.load(experiment.dataset)
  params = None
  for i, phase in enumerate(experiment.phases):
    params = phase.init(jax.random.key(i), dataset.train, params)
  return experiment, params, dataset


@pytest.mark.parametrize('name', BRACKETS)
def test_thorough_scores_search_from_the_chains_of_training(name, monkeypatch):
  experiment, params, dataset = untrained(name)

  def reached(key, machine, base_V, start_CV, **options):
    raise Reached(machine, options)

  monkeypatch.setattr(thorough, 'bracket', reached)
  num_visible = {'dbn': 24, 'dbm': 64 + 24, 'discrete_vae': 24}.get(name, dataset.about.num_visible)
  chains_NV = np.zeros((6, num_visible), np.float32)
  chains_NV[:, ::dataset.about.levels or 1] = 1  # of one-of-Q units the first letter
  with pytest.raises(Reached) as found:
    experiment.thorough(jax.random.key(0), params, dataset, lambda line: None, chains_NV)
  machine, options = found.value.args
  assert machine.w_VH.shape[0] == num_visible
  np.testing.assert_array_equal(options['chains_NV'], chains_NV)
  # Images of all splits for the floor; of a deep Boltzmann machine their bounds are one.
  rows = sum(len(getattr(dataset, split).rows) for split in ('train', 'valid', 'test'))
  assert name == 'dbm' or sum(map(len, options['seen'])) >= rows


@pytest.mark.slow
@pytest.mark.parametrize('name', ['rbm', 'rbm_protein', 'rbm_spikes', 'dbn', 'dbm', 'discrete_vae'])
def test_a_thorough_score_is_a_score_that_says_so(name, monkeypatch):
  experiment, params, dataset = untrained(name)
  whole = thorough.bracket
  monkeypatch.setattr(thorough, 'bracket', lambda *args, **options: whole(
    *args, **{**options, 'burn_in': 5, 'num_rungs': 4, 'ladder_steps': 20}))
  score = Score.from_json(experiment.thorough(jax.random.key(0), params, dataset,
                                              lambda line: None, None))
  assert score.kind == ('bound' if name in ('dbn', 'dbm', 'discrete_vae') else 'bracket')
  searched = score.details['searches']
  assert searched['thorough'] and 'population' in searched['bases'] and score.test_nats < 0
  assert {'fixed points', 'ladder', 'population', 'images with hidden units flipped'} <= set(
    searched['starts'])


def test_no_bracket_is_without_and_exact_scores_say_so():
  where = pathlib.Path(experiments.__file__).parent
  exact = {path.stem.split('-')[0] for path in (where / 'results').glob('*-*.json')
           if json.loads(path.read_text(encoding='utf-8')).get('kind') == 'exact'}
  assert {'rbm_digits', 'gaussian', 'mixture'} < exact
  for path in where.glob('*.py'):
    text, name = path.read_text(encoding='utf-8'), path.stem
    if not name.startswith(('_', 'story')):
      bracket = 'bracket(' in text or 'machines.scored(' in text
      assert bracket == (name in BRACKETS), name
      # A bound of a single code, which says so; one more baseline.
      others = (*DECODERS, 'vq_vae', 'autoencoder')
      scored = re.search(r'(thorough|density)=', text) is not None
      assert scored == (name in (*exact, *BRACKETS, *others)), name


@pytest.mark.parametrize('make', [
  functools.partial(rbm.experiment, num_hidden=4),
  functools.partial(dbm.experiment, dataset='digits', layers='8-8')])
def test_small_machines_are_exact_and_need_no_search(make):
  assert make().thorough == EXACT


@pytest.mark.slow
@pytest.mark.parametrize('module, changes', [
  (vae, dict(hidden='8', latents='3', binarisation='threshold', importance_samples=20)),
  (belief_net, dict(latents='5', binarisation='threshold', importance_samples=20)),
  (gan, dict(nets='dense', width=8, observation=0.3))], ids=DECODERS)
def test_a_decoder_is_scored_from_both_sides(module, changes, monkeypatch):
  from gen_models.evaluation import decoders
  monkeypatch.setattr(decoders, 'NUM_SAMPLES', 100)
  experiment = module.experiment(dataset='digits', annealed_images=20, annealed_temperatures=10,
                                 **changes)
  dataset = data.load('digits')
  dataset = dataset._replace(**{split: jax.tree.map(lambda x: x[:200], getattr(dataset, split))
                                for split in ('train', 'valid', 'test')})
  params = experiment.phases[0].init(jax.random.key(0), dataset.train, None)
  score = Score.from_json(experiment.thorough(jax.random.key(1), params, dataset,
                                              lambda line: None, None))
  found = score.details['decoder']
  assert score.kind == 'bound' and found['num_images'] == 20 and found['num_temperatures'] == 10
  sides = found['drawn']['from_prior']
  assert sides['gap'] == pytest.approx(sides['upper'] - sides['lower'])
  assert sides['gap'] > -4.5 * sides['standard_error']
  assert score.scores['annealed_nats'] >= found['from_prior']['nats']
  if module is gan:
    assert score.test_nats == score.lower == pytest.approx(found['from_prior']['nats'])
    assert 'from_encoder' not in found and score.hollow == (sides['gap'] > 1)
  else:
    usual = experiment.evaluate(jax.random.key(1), params, dataset, lambda line: None)
    assert {name: value for name, value in score.to_json().items()
            if name not in ('decoder', 'scores')} == {
              name: value for name, value in Score.from_json(usual).to_json().items()
              if name != 'scores'}
    assert set(usual['scores']) < set(score.scores)


@pytest.mark.parametrize('changes, why', [
  ({}, 'observation=0.1'), (dict(conditional=True, observation=0.1), 'for each class'),
  (dict(nets='dcgan', observation=0.1), 'normalises over a batch'),
  (dict(nets='sn_resnet', dataset='digits', observation=0.1), 'normalises over a batch')])
def test_a_generator_without_a_density_says_why(changes, why):
  assert why in gan.experiment(**changes).thorough


def test_a_generator_that_normalises_over_its_batch_is_refused():
  from experiments._common import decoders
  from gen_models.models import gan as models
  for batch_norm in (False, True):
    model = models.Model(models.DenseGenerator(4, (8,), batch_norm=batch_norm),
                         models.DenseCritic((4,)), 3, 4)
    params = model.init(jax.random.key(0))
    if batch_norm:
      with pytest.raises(ValueError, match='a single row has no density'):
        decoders.require_rows_apart(model, params)
    else:
      decoders.require_rows_apart(model, params)
