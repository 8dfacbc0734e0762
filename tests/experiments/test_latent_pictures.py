"""Pictures of latents: the ways between codes, the quantiles of the prior, codes in the plane."""

import jax
import numpy as np
import pytest
import scipy.stats

from experiments import vae
from experiments._common import latent_pictures
from gen_models import data


def test_ways_between_codes_keep_the_sphere_where_they_are_spherical():
  rng = np.random.default_rng(0)
  start_PZ, end_PZ = rng.normal(size=(2, 4, 10))
  start_PZ[1] = 2 * end_PZ[1]  # the same direction
  straight, turned = map(np.asarray, jax.jit(lambda a, b: [
    latent_pictures.between(a, b, 5, spherical) for spherical in (False, True)])(start_PZ, end_PZ))
  for ways in (straight, turned):
    np.testing.assert_allclose(ways[:, 0], start_PZ, atol=1e-5)
    np.testing.assert_allclose(ways[:, -1], end_PZ, atol=1e-5)
  np.testing.assert_allclose(straight[:, 2], (start_PZ + end_PZ) / 2, atol=1e-5)
  length_PT = np.linalg.norm(turned, axis=-1)
  np.testing.assert_allclose(np.diff(length_PT, axis=1, n=2), 0, atol=1e-5)
  unit_PTZ = turned / length_PT[..., None]
  cosine_PT = np.sum(unit_PTZ[:, 1:] * unit_PTZ[:, :-1], axis=-1)
  np.testing.assert_allclose(cosine_PT - cosine_PT[:, :1], 0, atol=1e-5)
  assert np.all(np.linalg.norm(straight[0, 1:-1], axis=-1) < length_PT[0, 1:-1])


def test_the_manifold_has_equal_shares_of_the_prior():
  z = np.asarray(jax.jit(lambda: latent_pictures.quantiles(5))()).reshape(5, 5, 2)
  np.testing.assert_allclose(z[0, :, 0], scipy.stats.norm.ppf([.1, .3, .5, .7, .9]), atol=1e-5)
  assert np.all(np.diff(z[:, 2, 1]) < 0) and np.all(z[3, :, 1] == z[3, 0, 1])


@pytest.mark.slow
def test_pictures_are_those_that_the_model_has():
  dataset = data.load('digits')
  dataset = dataset._replace(test=jax.tree.map(lambda x: x[:30], dataset.test))
  usual = {'reconstructions', 'interpolations', 'traversals', 'codes of test images'}
  for latents, hidden, inference, names in (('2', '4', None, usual | {'manifold'}),
                                            ('3-1', '4,4', 'ladder', usual)):
    experiment = vae.experiment(dataset='digits', binarisation='threshold', latents=latents,
                                hidden=hidden, inference=inference)
    params = experiment.model.init(jax.random.key(0), np.full(64, 0.3, np.float32))
    found = experiment.pictures(jax.random.key(1), params, dataset)
    assert set(found) == names
    for grid in found.values():
      assert grid.ndim in (4, 5) and np.all((grid >= 0) & (grid <= 1))
