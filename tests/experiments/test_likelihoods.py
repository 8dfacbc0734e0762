"""Likelihoods of an autoencoder's visible layer: which data each takes, training, all questions."""

import math

import jax
import numpy as np
import pytest

import gen_models as gm
from experiments import vae
from experiments._common import likelihoods
from gen_models import data
from gen_models.data import BadData, Spec

TINY = dict(dataset='digits', hidden='8', latents='2', num_steps=20, importance_samples=20)
LETTERS = Spec('family', (5,), 'categorical', 3, ('A', 'C', '-'))
REALS = Spec('cells', (4,), 'real', low=-1.0, high=2.0)


@pytest.mark.parametrize('spec, binarisation, likelihood, message', [
  (data.spec('digits'), 'levels', 'bernoulli',
   'levels have binarisation=levels and likelihood=discretised_logistic or beta_binomial'),
  (data.spec('digits'), 'dynamic', 'beta_binomial', 'do not go together: levels have'),
  (data.spec('digits'), 'levels', 'poisson', 'counts have binarisation=counts'),
  (data.spec('digits'), 'threshold', 'continuous_bernoulli', 'set=binarisation=real'),
  (data.spec('digits'), 'categorical', 'categorical', 'its values are real'),
  (REALS, 'levels', 'beta_binomial', "real, -1 to 2.*'levels' is of whole levels"),
  (REALS, 'real', 'continuous_bernoulli', 'outside .0, 1., which a continuous Bernoulli'),
  (LETTERS, 'categorical', 'bernoulli', 'categorical columns have binarisation=categorical'),
  (LETTERS, 'dynamic', 'bernoulli', 'rbm and rbm_protein take categorical columns.*so does vae')])
def test_data_that_do_not_fit_are_refused_in_one_line(spec, binarisation, likelihood, message):
  with pytest.raises(BadData, match=message) as found:
    likelihoods.require(spec, binarisation, likelihood)
  assert '\n' not in str(found.value)


def test_components_are_those_of_a_mixture():
  with pytest.raises(ValueError, match='likelihood=discretised_logistic only'):
    vae.experiment(**TINY, likelihood_components=3)
  built = vae.experiment(**TINY, binarisation='levels', likelihood='discretised_logistic',
                         likelihood_components=3)
  assert built.model.likelihood.num_outputs == 9
  with pytest.raises(ValueError, match='digits has one channel'):
    vae.experiment(**TINY, binarisation='levels', likelihood='discretised_logistic',
                   likelihood_channels='independent')
  colour = Spec('p', (4, 4, 3), 'real', 255)
  coupled, apart = (likelihoods.by_name(colour, 'discretised_logistic', channels=channels)
                    for channels in (None, 'independent'))
  assert (coupled.num_outputs, apart.num_outputs) == (20, 15)
  assert likelihoods.together(colour, 'discretised_logistic') == 3
  assert likelihoods.together(colour, 'beta_binomial') == 1
  assert likelihoods.together(LETTERS, 'categorical') == 3


@pytest.mark.slow
@pytest.mark.parametrize('likelihood', likelihoods.OF_VIEW['levels'][1])
def test_levels_are_scored_in_bits_drawn_and_imputed_as_levels(likelihood):
  run = gm.fit('vae', **TINY, binarisation='levels', likelihood=likelihood, progress=False)
  score = run.evaluate()
  assert score['kind'] == 'bound' and score['binarisation'] == 'levels'
  assert score['scores']['bits_per_dimension'] == pytest.approx(
    -score['test_nats'] / (64 * math.log(2)))
  assert score['baselines']['independent pixels']['kind'] == 'exact'
  draws = np.asarray(run.sample(jax.random.key(0), 10).draws)
  assert draws.shape == (10, 8, 8) and (16 * draws == np.round(16 * draws)).all()
  x = np.asarray(data.fixed_split(run.dataset, 'test', 'levels')[:3]).copy()
  holes = np.where(np.arange(64) % 2, np.nan, x)
  found = run.ask('imputation', holes, num_draws=2, num_steps=5)['draws'].reshape(3, 2, 64)
  assert (16 * found == np.round(16 * found)).all() and (found[..., ::2] == x[:, None, ::2]).all()
  # Rows between two levels are seen as the nearer one.
  log_p = [run.ask('log_likelihood', x + off, num_samples=3)['log_likelihood']
           for off in (0, np.where(x < 0.5, 0.02, -0.02))]
  np.testing.assert_array_equal(*log_p)


@pytest.mark.slow
def test_columns_of_words_are_trained_scored_drawn_and_imputed(tmp_path):
  letters = np.random.RandomState(0).randint(0, 3, (60, 4))
  letters[:, 1] = letters[:, 0]
  np.savez(tmp_path / 'w.npz', x=letters)
  run = gm.fit('vae', **TINY | dict(dataset=f'npz:{tmp_path / "w.npz"}?kind=categorical'),
               binarisation='categorical', likelihood='categorical', progress=False)
  score = run.evaluate()
  assert score['kind'] == 'bound' and score['binarisation'] == 'categorical'
  assert score['baselines']['independent columns']['kind'] == 'exact'
  draws = np.asarray(run.sample(jax.random.key(0), 10).draws)
  assert draws.shape == (10, 4, 3) and (draws.sum(-1) == 1).all()
  x_NLQ = np.eye(3, dtype=np.float32)[letters[:3]]
  x_NLQ[:, 1] = np.nan
  found = np.asarray(run.ask('imputation', x_NLQ.reshape(3, -1), num_draws=2, num_steps=5)['draws'])
  assert found.shape == (3, 2, 4) and set(found[..., 1].ravel()) <= {0, 1, 2}  # letters
  assert (found[..., [0, 2, 3]] == letters[:3, None, [0, 2, 3]]).all()
  x_NLQ[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='must be missing together'):
    run.ask('imputation', x_NLQ.reshape(3, -1), num_draws=2, num_steps=5)
