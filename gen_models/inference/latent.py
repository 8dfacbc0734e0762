"""Questions to latent-variable models with an encoder: variational autoencoders, belief networks,
those whose prior is a Boltzmann machine, vector-quantised autoencoders.

  features         E_q[z_l | ..] of a stochastic layer, those on which it depends at their means;
                   draws of them
  log_likelihood   weights of importance samples z ~ q(z | x)
  reconstruction   E[x | z_1] at the mean of q(z_1 | x)
  imputation       Metropolis-within-Gibbs between z and what is missing (samplers.conditional)

Axis suffixes: B rows, C chains, K draws of each row, D values of a row. z is a tuple of layers.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gen_models.experiment import Questions
from gen_models.models import (
  label_rbm,
  rbm,
  rbm_prior as rbm_prior_lib,
  vae as vae_lib,
  vq as vq_lib,
)
from gen_models.samplers import conditional

_ROWS = 2**14  # rows times samples at once
_CLASS_SAMPLES = 100  # of the class of a row


def sampler_of(model: vae_lib.Model) -> conditional.Latent:
  """The model as samplers.conditional sees it; z has no axis of samples."""
  def sample_prior(key, params, num):
    key_z, key_x = jax.random.split(key)
    return model.sample_visible(key_x, params, model.sample_prior(key_z, params, num)[0])

  def sample_posterior(key, params, x_CD):
    z = model.sample_posterior(key, params, model.encode(params, x_CD), 1)
    return tuple(z_KCZ[0] for z_KCZ in z)

  def log_weight(params, x_CD, z):
    z = tuple(z_CZ[None] for z_CZ in z)
    return (model.log_likelihood(params, x_CD, z) + model.log_prior(params, z)
            - model.log_posterior(params, model.encode(params, x_CD), z))[0]

  def visible(key, params, z):
    return model.sample_visible(key, params, z[0]), model.visible_mean(params, z[0])

  return conditional.Latent(sample_prior, sample_posterior, log_weight, visible)


def vae(model: vae_lib.Model, **options) -> Questions:
  """The questions of a models.vae.Model. **options: fields of Questions that are to be others."""
  sampler = sampler_of(model)

  def features(key, params, x_BD, *, layer, num_draws):
    depth, code_BO = layer or 1, model.encode(params, x_BD)
    found = {'features': model.mean_path(params, code_BO)[depth - 1]}
    if num_draws:
      z = model.sample_posterior(key, params, code_BO, num_draws)
      found['draws'] = jnp.moveaxis(z[depth - 1], 0, 1)
    return found

  def log_likelihood(key, params, x_BD, *, num_samples):
    at_once = min(num_samples, max(1, _ROWS // len(x_BD)))
    log_w = jax.lax.map(lambda key: model.log_weights(key, params, x_BD, at_once),
                        jax.random.split(key, -(-num_samples // at_once)))
    return {'log_weights': log_w.reshape(-1, len(x_BD))[:num_samples].T}

  def reconstruction(key, params, x_BD):
    z_BZ = features(key, params, x_BD, layer=1, num_draws=0)['features']
    return {'reconstruction': model.visible_mean(params, z_BZ)}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    found = conditional.impute(key, sampler, params, x_BD, num_draws, num_steps)
    return {'mean': found.mean_BV, 'draws': found.draws_BKV, 'acceptance': found.acceptance_B}

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes='its latent variables are no classes',
    num_layers=lambda params: len(model.widths),
    chains='it is drawn from exactly, without chains')._replace(**options)


belief_net = vae  # a belief network is a vae.Model with binary latents


def class_conditional(model: vae_lib.Model, **options) -> Questions:
  """The questions of a models.vae.Model of Q classes about rows without one, with p(y) = 1 / Q.

  classes         p(y | x), by importance samples of log p(x | y)
  log_likelihood  weights sum_y p(y) w(x, z_y), z_y ~ q(z | x, y)
  features, reconstruction   given the most probable class
  imputation      between (y, z) and what is missing; y is proposed as p(y) has it

  **options: fields of Questions that are to be others.
  """
  num_classes = model.num_classes
  given: Any = vae(model)

  def with_class(x_BD, y_B):
    return label_rbm.attach(x_BD, y_B, num_classes)

  def log_weights(key, params, x_BD, num_samples):
    """log w of every class, [Q, K, B]."""
    def of_class(args):
      key, y = args
      return model.log_weights(key, params, with_class(x_BD, jnp.full(len(x_BD), y)), num_samples)
    return jax.lax.map(of_class, (jax.random.split(key, num_classes), jnp.arange(num_classes)))

  def classes(key, params, x_BD):
    log_w_QKB = log_weights(key, params, x_BD, _CLASS_SAMPLES)
    return {'probabilities': jax.nn.softmax(jax.nn.logsumexp(log_w_QKB, axis=1), axis=0).T}

  def with_likely_class(key, params, x_BD):
    return with_class(x_BD, jnp.argmax(classes(key, params, x_BD)['probabilities'], axis=-1))

  def features(key, params, x_BD, *, layer, num_draws):
    key_class, key_z = jax.random.split(key)
    rows = with_likely_class(key_class, params, x_BD)
    return given.features(key_z, params, rows, layer=layer, num_draws=num_draws)

  def log_likelihood(key, params, x_BD, *, num_samples):
    at_once = min(num_samples, max(1, _ROWS // len(x_BD)))
    log_w = jax.lax.map(lambda key: jax.nn.logsumexp(
      log_weights(key, params, x_BD, at_once), axis=0), jax.random.split(
        key, -(-num_samples // at_once)))
    return {'log_weights': log_w.reshape(-1, len(x_BD))[:num_samples].T - jnp.log(
      float(num_classes))}

  def reconstruction(key, params, x_BD):
    rows = with_likely_class(key, params, x_BD)
    z_BZ = model.mean_path(params, model.encode(params, rows))[0]
    return {'reconstruction': model.visible_mean(
      params, model.with_class(z_BZ, rows[:, -num_classes:]))}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    found = conditional.impute(key, sampler_of_classes(model), params, x_BD, num_draws, num_steps)
    return {'mean': found.mean_BV, 'draws': found.draws_BKV, 'acceptance': found.acceptance_B}

  return given._replace(features=features, log_likelihood=log_likelihood, classes=classes,
                        reconstruction=reconstruction, imputation=imputation)._replace(**options)


def sampler_of_classes(model: vae_lib.Model) -> conditional.Latent:
  """A model of classes as samplers.conditional sees it: latents are (y, z), p(y) = 1 / Q."""
  given = sampler_of(model)

  def some_classes(key, num):
    return jax.random.randint(key, (num,), 0, model.num_classes)

  def attached(x_CD, y_C):
    return label_rbm.attach(x_CD, y_C, model.num_classes)

  def visible(key, params, latents):
    y_C, z = latents
    z_1 = attached(z[0], y_C)
    return model.sample_visible(key, params, z_1), model.visible_mean(params, z_1)

  def sample_prior(key, params, num):
    key_y, key_z, key_x = jax.random.split(key, 3)
    z = model.sample_prior(key_z, params, num)
    return visible(key_x, params, (some_classes(key_y, num), z))[0]

  def sample_posterior(key, params, x_CD):
    key_y, key_z = jax.random.split(key)
    y_C = some_classes(key_y, len(x_CD))
    return y_C, given.sample_posterior(key_z, params, attached(x_CD, y_C))

  def log_weight(params, x_CD, latents):
    y_C, z = latents
    return given.log_weight(params, attached(x_CD, y_C), z)

  return conditional.Latent(sample_prior, sample_posterior, log_weight, visible)


def rbm_prior(model: rbm_prior_lib.Model, **options) -> Questions:
  """The questions of a models.rbm_prior.Model, whose log-weights leave log Z out.

  It is drawn from by Gibbs chains of its prior. **options: fields of Questions that are to be
  others.
  """
  def chains(key, params, num, *, label, num_steps, temperature, start):
    if label is not None:
      raise ValueError(f'asked for class {label}, but this model was trained without classes')
    if temperature != 1:
      raise ValueError('temperature: the density of a decoder has no single energy')
    key_z, key_x = jax.random.split(key)
    z_1 = model.sample_prior(key_z, params, num, num_steps, start)[0]
    return model.sample_visible(key_x, params, z_1), model.visible_mean(params, z_1)

  of_latents: Any = vae
  return of_latents(
    model, chains=chains, log_partition=lambda params: rbm.log_partition(params.prior)
  )._replace(**options)


def vq(model: vq_lib.Model, **options) -> Questions:
  """The questions of a models.vq.Model; features are the codes of all positions, their numbers.

  log_likelihood is log p(x | z(x)) + log p(z(x)), a lower bound of log p(x). **options: fields of
  Questions that are to be others.
  """
  def quantised(params, x_BD):
    return model.quantise(params, model.encode(params, x_BD))

  def features(key, params, x_BD, *, layer, num_draws):
    del key, layer, num_draws
    return {'features': params.codes_QD[quantised(params, x_BD)].reshape(len(x_BD), -1)}

  def log_likelihood(key, params, x_BD, *, num_samples):
    del key, num_samples
    return {'log_likelihood': model.log_bound(params, x_BD)}

  def reconstruction(key, params, x_BD):
    del key
    return {'reconstruction': model.visible_mean(params, quantised(params, x_BD))}

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation='its encoder takes whole rows only', classes='its latent variables are no classes',
    takes_missing=(), chains='it is drawn from exactly, without chains')._replace(**options)
