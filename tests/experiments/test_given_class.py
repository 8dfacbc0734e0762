"""An autoencoder of each class, from training to draws of a class and the judge of them."""

import jax
import numpy as np
import pytest

import gen_models as gm
from experiments import vae
from gen_models import data
from gen_models.data import BadData


def test_what_has_no_class_is_refused(tmp_path):
  np.savez(tmp_path / 'x.npz', x=np.random.RandomState(0).randint(0, 2, (40, 4)))
  with pytest.raises(BadData, match='has no labels'):
    vae.experiment(dataset=f'npz:{tmp_path / "x.npz"}', binarisation='static', conditional=True)
  with pytest.raises(ValueError, match='no place for a class: --set=nets=dense'):
    vae.experiment(dataset='digits', nets='conv', conditional=True)
  built = vae.experiment(dataset='digits', conditional=True)
  assert built.model.num_classes == 10 and 'each class' in built.thorough


@pytest.mark.slow
def test_classes_are_trained_scored_judged_drawn_and_asked():
  run = gm.fit('vae', dataset='digits', binarisation='threshold', hidden='32', latents='4',
               conditional=True, num_steps=1500, importance_samples=50, progress=False)
  score = run.evaluate()
  assert score['kind'] == 'bound' and not score.get('baselines')
  assert score['binarisation'] == 'threshold, given the class'
  shares = score['scores']
  assert 0.3 < shares['class_accuracy'] <= 1 and shares['judge_accuracy'] > 0.8
  every, threes = (run.sample(jax.random.key(0), 20, label) for label in (None, 3))
  assert every.draws.shape == threes.means.shape == (20, 8, 8)
  assert set(np.unique(threes.draws)) == {0.0, 1.0} and threes.means.min() >= 0
  np.testing.assert_array_less(0.01, np.abs(every.means - threes.means).max())
  with pytest.raises(ValueError, match='label'):
    run.sample(jax.random.key(0), 3, 10)
  test = run.dataset.test
  x_NV = np.asarray(data.fixed_split(run.dataset, 'test', 'threshold')[:100])
  found = run.ask('classes', x_NV)['classes']
  assert np.mean(found == np.asarray(test.labels)[:100]) > 0.6
  holes = np.where(np.arange(64) % 2, np.nan, x_NV[:2])
  assert np.isfinite(run.ask('imputation', holes, num_draws=2, num_steps=5)['draws']).all()
  assert run.ask('features', x_NV[:2])['features'].shape == (2, 4)
  grids = run.experiment.pictures(jax.random.key(1), run.params, run.dataset)
  assert [grid.shape for grid in grids.values()] == [(8, 10, 8, 8)]
