"""Questions to networks: classifiers, autoencoders, and the critic of an adversarial game.

Axis suffixes: B rows, D values of a row, F features.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gen_models.experiment import Questions
from gen_models.models import dbn, feedforward, gan as gan_lib

_ADVERSARIAL = 'adversarial networks are drawn from, not evaluated'


def classifier(read: Callable = lambda params, x_BD: (params, x_BD), **options) -> Questions:
  """The questions of a classifier; features are those of a hidden layer.

  Args:
    read: (params, x) -> (feedforward.Params, its inputs), where it is a part of a larger model.
    **options: fields of Questions that are to be others.
  """
  def features(key, params, x_BD, *, layer, num_draws):
    del key
    network, x_BI = read(params, x_BD)
    _require(network, feedforward.Params, num_draws)
    depth = len(network.layers) - 1 if layer is None else layer
    return {'features': feedforward.hidden(network, x_BI, depth)}

  def classes(key, params, x_BD):
    del key
    network, x_BI = read(params, x_BD)
    _require(network, feedforward.Params)
    return {'probabilities': jnp.exp(feedforward.class_log_probabilities(network, x_BI))}

  why = 'a classifier is a model of p(y | x), not of x'
  return Questions(
    features=features, log_likelihood=why, reconstruction=why, imputation=why, classes=classes,
    num_layers=_hidden_layers, takes_missing=(), chains=why)._replace(**options)


def _hidden_layers(params: Any) -> int:
  return max(1, len(getattr(getattr(params, 'network', params), 'layers', ())) - 1)


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
  return Questions(
    features=features, log_likelihood=why, reconstruction=reconstruction, imputation=why,
    classes='its code is no class', takes_missing=(), chains=why,
    num_layers=lambda params: len(getattr(params, 'encoder', params).layers))._replace(**options)


def gan(model: gan_lib.Model, read: Callable = lambda params: params, **options) -> Questions:
  """The questions of an adversarial game: what the last layer of its critic reads.

  A critic that reads several samples at once sees copies of a row.

  Args:
    model: of the game.
    read: parameters of the run -> those that its critic is evaluated at.
    **options: fields of Questions that are to be others.
  """
  def features(key, params, x_BD, *, layer, num_draws):
    del key, layer
    if num_draws:
      raise ValueError('features of a critic are functions of a row: there are no draws of them')
    packs_MV = jnp.repeat(x_BD, model.packing, axis=0)
    return {'features': model.features(read(params), packs_MV)}

  why = 'it has neither an encoder nor a density: ' + _ADVERSARIAL
  return Questions(
    features=features, log_likelihood=_ADVERSARIAL, reconstruction=why, imputation=why,
    classes='its critic separates draws from data, nothing else', takes_missing=(),
    chains='it is drawn from exactly, without chains')._replace(**options)


def _require(params: Any, kind: type, num_draws: int = 0) -> None:
  """ValueError unless the run has come to its last phase."""
  if isinstance(params, dbn.Params) or not isinstance(params, kind):
    raise ValueError('the run has not reached fine-tuning yet: continue its training')
  if num_draws:
    raise ValueError('features of a network are functions of a row: there are no draws of them')
