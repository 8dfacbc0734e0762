"""Questions to networks: classifiers, autoencoders, and the critic of an adversarial game.

Axis suffixes: B rows, D values of a row, F features.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_models.experiment import Questions
from gen_models.models import dbn, feedforward, gan as gan_lib, networks

_ADVERSARIAL = 'adversarial networks are drawn from, not evaluated'


def classifier(**options) -> Questions:
  """The questions of a classifier, feedforward.Params; features are those of a hidden layer."""
  def features(key, params, x_BD, *, layer, num_draws):
    del key
    _require(params, feedforward.Params, num_draws)
    depth = len(params.layers) - 1 if layer is None else layer
    return {'features': feedforward.hidden(params, x_BD, depth)}

  def classes(key, params, x_BD):
    del key
    _require(params, feedforward.Params)
    return {'probabilities': jnp.exp(feedforward.class_log_probabilities(params, x_BD))}

  why = 'a classifier is a model of p(y | x), not of x'
  return Questions(**dict(
    features=features, log_likelihood=why, reconstruction=why, imputation=why, classes=classes,
    num_layers=lambda params: len(params.layers) - 1, takes_missing=(), chains=why) | options)


def autoencoder(**options) -> Questions:
  """The questions of an autoencoder; features are those of a layer of its encoder: the code."""
  def features(key, params, x_BD, *, layer, num_draws):
    del key
    _require(params, feedforward.Autoencoder, num_draws)
    depth = len(params.encoder.layers) if layer is None else layer
    return {'features': feedforward.hidden(params.encoder, x_BD, depth)}

  def reconstruction(key, params, x_BD):
    del key
    _require(params, feedforward.Autoencoder)
    return {'reconstruction': jax.nn.sigmoid(feedforward.pixel_log_odds(params, x_BD))}

  why = 'an autoencoder has no density'
  return Questions(**dict(
    features=features, log_likelihood=why, reconstruction=reconstruction, imputation=why,
    classes='its code is no class', takes_missing=(), chains=why,
    num_layers=lambda params: len(getattr(params, 'encoder', params).layers)) | options)


def gan(model: gan_lib.Model, **options) -> Questions:
  """The questions of an adversarial game: what the last layer of its critic reads.

  A critic that reads several samples at once sees copies of a row.
  """
  def features(key, params, x_BD, *, layer, num_draws):
    del key, layer
    if num_draws:
      raise ValueError('features of a critic are functions of a row: there are no draws of them')
    packs = jnp.tile(x_BD, (1, model.packing))
    return {'features': last_input(model.critic_net, params.critic, packs)}

  why = 'it has neither an encoder nor a density: ' + _ADVERSARIAL
  return Questions(**dict(
    features=features, log_likelihood=_ADVERSARIAL, reconstruction=why, imputation=why,
    classes='its critic separates draws from data, nothing else', takes_missing=(),
    chains='it is drawn from exactly, without chains') | options)


def last_input(network: nn.Module, params: Any, x_BD: jax.Array) -> jax.Array:
  """What the last dense layer of a network is given, [B, F]."""
  seen: list = []

  def watch(call, args, kwargs, context):
    if isinstance(context.module, networks.Dense) and context.method_name == '__call__':
      seen.append(args[0])
    return call(*args, **kwargs)

  with nn.intercept_methods(watch):
    networks.apply(network, params, x_BD)
  return seen[-1]


def _require(params: Any, kind: type, num_draws: int = 0) -> None:
  """ValueError unless the run has come to its last phase."""
  if isinstance(params, dbn.Params) or not isinstance(params, kind):
    raise ValueError('the run has not come to fine-tuning yet: train on')
  if num_draws:
    raise ValueError('features of a network are functions of a row: there are no draws of them')
