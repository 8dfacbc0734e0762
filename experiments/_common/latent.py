"""Latent-variable models: the start, the bound and the pictures of vae and belief_net."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.evaluation import figures, importance
from gen_models.models import priors, vae


def initialiser(model: vae.Model, spec: data.Spec, binarisation: str | None = None):
  """Phase.init: the untrained model has the data's mean, pseudo-inputs are rows of the data.

  binarisation: of the rows; without one, pseudo-inputs start near the mean.
  """
  def init(key, arrays, previous_params):
    del previous_params
    mean_V = data.mean_image(arrays, spec)
    if binarisation is None or not isinstance(model.prior, priors.Vamp):
      return model.init(key, mean_V)
    key, key_rows = jax.random.split(key)
    picked_K = jax.random.choice(
      key_rows, len(arrays.rows), (model.prior.num_components,),
      replace=len(arrays.rows) < model.prior.num_components)
    picked = arrays._replace(rows=jnp.asarray(arrays.rows)[picked_K])
    return model.init(key, mean_V, data.fixed(picked, binarisation, spec, split='train'))
  return init


def mean_bound(key, model: vae.Model, params, x_NV, num_samples: int = 1, weights_N=None) -> float:
  """The bound with a few samples, the ELBO with one, averaged over rows as they weigh; nats."""
  return float(data.mean(importance.log_likelihoods(
    key, model.log_weights, params, x_NV, num_samples)[0], weights_N))


def reconstructions(key, model: vae.Model, params, dataset, binarisation: str) -> dict:
  """Test images, and below each E[x | z_1] at one z_1 ~ q(z_1 | x); 8 columns."""
  x_NV = data.fixed_split(dataset, 'test', binarisation)
  x_NV = x_NV[np.arange(32) % len(x_NV)]
  z = model.sample_posterior(key, params, model.encode(params, x_NV), 1)
  back_NV = model.visible_mean(params, z[0][0])
  pairs = jnp.stack([x_NV.reshape(4, 8, -1), back_NV.reshape(4, 8, -1)], axis=1)
  return {'reconstructions': grid(pairs.reshape(64, -1), dataset, 8)}


def grid(x_NV, dataset, columns: int) -> np.ndarray:
  """Rows of images in [0, 1], `columns` wide."""
  return np.clip(figures.to_grid(x_NV, dataset.about.seen_shape, len(x_NV) // columns, columns),
                 0, 1)
