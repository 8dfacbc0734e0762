"""Pictures of the latents of an autoencoder: where images lie, what is between and around them.

  codes             E_q[z_l | x] of test images, coloured by class: two latents as they are, of more
                    the two principal components
  interpolations    E[x | z_1] on the way from the code of one test image to that of another
  traversals        E[x | z_1] where one latent moves and the others stay
  manifold          of two latents, E[x | z] at the quantiles of the prior (Kingma & Welling, 2014)

Under a standard normal prior of many latents nearly all mass lies near a sphere, inside of which a
straight way would lead; so the way is along it (White, 2016, Sampling generative networks).

Axis suffixes: N images, P pairs, T steps, U units, V pixels, Z latents.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common.latent import grid
from gen_models import data
from gen_models.evaluation import charts
from gen_models.models import pca, vae

_STEPS, _SIDE = 9, 15  # of a way, and of the manifold
_MOST = 5000  # codes


def pictures(key, model: vae.Model, params, dataset: data.Dataset, binarisation: str) -> dict:
  """All of them that the model has, name -> grid; the key is consumed."""
  x_NV = data.fixed_split(dataset, 'test', binarisation)
  code_NO = model.encode(params, x_NV)
  z = model.sample_posterior(key, params, code_NO, 1)
  # From the top z_1 depends on z_2, so its means have the axis of samples.
  mean_NZ = model.posterior_means(params, code_NO, z)[0].reshape(len(x_NV), -1)
  normal = len(model.widths) == 1 and model.prior is None and model.latent is vae.NORMAL

  def show(z, columns):
    return grid(model.visible_mean(params, z.reshape(-1, z.shape[-1])), dataset, columns)

  ends_PZ, others_PZ = mean_NZ[np.arange(16) % len(mean_NZ)].reshape(2, 8, -1)
  found = {'interpolations': show(between(ends_PZ, others_PZ, _STEPS, spherical=normal), _STEPS),
           'traversals': show(traversals(mean_NZ, z[0][0], _STEPS), _STEPS)}
  if normal and model.widths == (2,):
    found['manifold'] = show(quantiles(_SIDE), _SIDE)
  of_layers = model.mean_path(params, code_NO[:_MOST])
  panels = {name: plane for i, z in enumerate(of_layers)
            for name, plane in in_the_plane(z, f'z_{i + 1}' if len(of_layers) > 1 else 'z')}
  if panels:
    labels = dataset.test.labels
    found['codes of test images'] = charts.codes(
      panels, None if labels is None else np.asarray(labels)[:_MOST])
  return found


def between(start_PZ, end_PZ, steps: int, spherical: bool) -> jax.Array:
  """The ways from start to end, [P, T, Z]: straight, or along a great circle.

  On a great circle the direction turns evenly, and the length changes evenly.
  """
  t_T1 = jnp.linspace(0, 1, steps)[:, None]
  start, end = start_PZ[:, None], end_PZ[:, None]
  if not spherical:
    return start + t_T1 * (end - start)
  lengths = [jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-6) for z in (start, end)]
  a, b = start / lengths[0], end / lengths[1]
  angle = jnp.arccos(jnp.clip(jnp.sum(a * b, axis=-1, keepdims=True), -1, 1))
  sine = jnp.sin(angle)
  apart = sine > 1e-3  # else both directions, or opposite ones, leave no circle to choose
  sine = jnp.where(apart, sine, 1)
  turned = jnp.where(apart, (jnp.sin((1 - t_T1) * angle) * a + jnp.sin(t_T1 * angle) * b) / sine,
                     (1 - t_T1) * a + t_T1 * b)
  return turned * (lengths[0] + t_T1 * (lengths[1] - lengths[0]))


def traversals(mean_NZ, z_NZ, steps: int) -> jax.Array:
  """The code of the first image, of which one unit moves, [U, T, Z].

  The 8 units whose means vary most over images, each by three standard deviations of all codes.
  """
  strongest_U = jnp.argsort(-jnp.var(mean_NZ, axis=0))[:8]
  values_TU = jnp.mean(z_NZ, axis=0)[strongest_U] + (
    6 * jnp.linspace(0, 1, steps) - 3)[:, None] * jnp.std(z_NZ, axis=0)[strongest_U]
  return jnp.stack([jnp.tile(mean_NZ[0], (steps, 1)).at[:, unit].set(values_TU[:, i])
                    for i, unit in enumerate(strongest_U)])


def quantiles(side: int) -> jax.Array:
  """Pairs of quantiles of N(0, 1) at the middles of `side` equal shares, [side^2, 2].

  The first latent grows to the right, the second upwards.
  """
  z_S = jax.scipy.special.ndtri((jnp.arange(side) + 0.5) / side)
  first, second = jnp.meshgrid(z_S, z_S[::-1])
  return jnp.stack([first.ravel(), second.ravel()], axis=-1)


def in_the_plane(z_NZ, name: str):
  """(title, [N, 2]): two latents, or two principal components of more; nothing of one."""
  width = z_NZ.shape[-1]
  if width == 2:
    yield name, z_NZ
  elif width > 2:
    yield f'{name}, two principal components of {width}', pca.project(pca.fit(z_NZ, 2), z_NZ)
