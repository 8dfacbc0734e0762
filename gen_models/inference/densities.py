"""Questions to models whose density is known: mixtures, Gaussians, principal components.

All answers are exact, imputation among them; rows of which values are missing can be asked for
their log-likelihood, that of what was seen, too.

Axis suffixes: N rows, Q classes, R components, D values of a row. Nats.
"""

from typing import Any

import jax.numpy as jnp

from gen_models.experiment import Questions
from gen_models.models import (
  gaussian as gaussian_lib,
  linear_rbm as linear_lib,
  mixture as mixture_lib,
  pca as pca_lib,
)

EXACTLY = 'it is drawn from exactly, without chains'


def mixture(**options) -> Questions:
  """The questions of models.mixture: features and classes are responsibilities p(z = q | x).

  A reconstruction is the mean of the classes under them, sum_q p(z = q | x) E[x | z = q].
  """
  def posterior(params, x_ND):
    log_joint_NQ = mixture_lib.observed_log_joint(params, x_ND)
    shifted_NQ = jnp.exp(log_joint_NQ - jnp.max(log_joint_NQ, axis=-1, keepdims=True))
    return shifted_NQ / jnp.sum(shifted_NQ, axis=-1, keepdims=True)

  def features(key, params, x_ND, *, layer, num_draws):
    del key, layer
    _no_draws(num_draws)
    return {'features': posterior(params, x_ND)}

  def log_likelihood(key, params, x_ND, *, num_samples):
    del key, num_samples
    return {'log_likelihood': mixture_lib.observed_log_likelihood(params, x_ND)}

  def reconstruction(key, params, x_ND):
    del key
    means_QD = mixture_lib.visible_mean(params, jnp.arange(len(params.log_pi_Q)))
    return {'reconstruction': posterior(params, x_ND) @ means_QD}

  def imputation(key, params, x_ND, *, num_draws, num_steps):
    del num_steps
    mean_ND, draws_NKD = mixture_lib.conditional(key, params, x_ND, num_draws)
    return {'mean': mean_ND, 'draws': draws_NKD}

  def classes(key, params, x_ND):
    del key
    return {'probabilities': posterior(params, x_ND)}

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes=classes, chains=EXACTLY,
    takes_missing=('features', 'log_likelihood', 'reconstruction', 'imputation', 'classes')
  )._replace(**options)


def gaussian(density=lambda params: params, **options) -> Questions:
  """The questions of models.gaussian, or of a model that is one.

  Features are E[h | x] of low rank, else A (x - m): the scores of mean 0 and covariance I. A
  reconstruction is m + W E[h | x], the projection that low rank has.

  Args:
    density: params of the experiment -> gaussian.Params.
    **options: fields of Questions that are to be others.
  """
  def features(key, params, x_ND, *, layer, num_draws):
    del key, layer
    _no_draws(num_draws)
    one = density(params)
    if isinstance(one, gaussian_lib.LowRank):
      return {'features': gaussian_lib.hidden_mean(one, x_ND)}
    return {'features': gaussian_lib.whiten(one, x_ND)}

  def log_likelihood(key, params, x_ND, *, num_samples):
    del key, num_samples
    return {'log_likelihood': gaussian_lib.observed_log_likelihood(density(params), x_ND)}

  def reconstruction(key, params, x_ND):
    del key
    one = density(params)
    if not isinstance(one, gaussian_lib.LowRank):
      raise ValueError('only a covariance of low rank has directions to project on')
    return {'reconstruction': (one.mean_V + gaussian_lib.hidden_mean(one, x_ND) @ one.w_VR.T)}

  def imputation(key, params, x_ND, *, num_draws, num_steps):
    del num_steps
    mean_ND, draws_NKD = gaussian_lib.conditional(key, density(params), x_ND, num_draws)
    return {'mean': mean_ND, 'draws': draws_NKD}

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes='a Gaussian has no classes', chains=EXACTLY,
    takes_missing=('log_likelihood', 'imputation'))._replace(**options)


def linear_rbm(**options) -> Questions:
  """The questions of models.linear_rbm.Measured, whose density is a Gaussian of low rank.

  Features are E[h | x] of the Gaussian's latent: that of the machine is the same up to a rotation
  and a scale of its units.
  """
  return gaussian(linear_lib.density, **options)


def pca(**options) -> Questions:
  """The questions of models.pca.Params: projections, and the density of probabilistic PCA."""
  def features(key, params: Any, x_ND, *, layer, num_draws):
    del key, layer
    _no_draws(num_draws)
    return {'features': pca_lib.project(params, x_ND)}

  def reconstruction(key, params, x_ND):
    del key
    return {'reconstruction': pca_lib.reconstruct(params, pca_lib.project(params, x_ND))}

  return gaussian(pca_lib.probabilistic, **dict(
    features=features, reconstruction=reconstruction,
    classes='principal components are no classes') | options)


def _no_draws(num_draws: int) -> None:
  if num_draws:
    raise ValueError('features of this model are functions of a row: there are no draws of them')
