"""Thorough scores of decoders: annealing and both sides beside the importance-weighted bound."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.evaluation import decoders, likelihood
from gen_models.evaluation.decoders import Settings
from gen_models.models import gan, vae

IMAGES, TEMPERATURES = 100, 1000
NO_NOISE = ('a generator has a density only with a noise model, which '
            '--set=observation=0.1 gives it')


def with_decoder(evaluate: Callable, model: vae.Model, binarisation: str, images: int | None,
                 temperatures: int | None) -> Callable:
  """Experiment.thorough: `evaluate` with evaluation.decoders.record of some test images beside it.

  Args:
    evaluate: Experiment.evaluate.
    model: with its encoder.
    binarisation: of the images.
    images: how many are annealed, evenly from the test split; None for 100.
    temperatures: of each chain; None for 1000.
  """
  def thorough(key, params, dataset, report, chains):
    del chains
    key_more = jax.random.fold_in(key, 1)
    score = evaluate(key, params, dataset, report)
    found = decoders.record(key_more, model, params, some(dataset, binarisation, images),
                            settings=Settings(temperatures or TEMPERATURES), report=report)
    # Rate, distortion and mutual information of all test images come before those of some.
    return {**score, 'decoder': found, 'scores': {**headlines(found), **score.get('scores', {})}}

  return thorough


def of_generator(evaluate: Callable, model: gan.Model, scale, images: int | None,
                 temperatures: int | None) -> Callable:
  """Experiment.thorough of a generator with noise of standard deviation `scale`.

  A density of real pixels, from below, hollow where the sides of drawn data are more than a nat
  apart. Other arguments as of `with_decoder`. Of a network of a user's that normalises over the
  batch it raises ValueError.
  """
  def thorough(key, params, dataset, report, chains):
    del chains
    require_rows_apart(model, params)
    key_more = jax.random.fold_in(key, 1)
    scores = evaluate(key, params, dataset, report).get('scores', {})
    decoder = decoders.of_generator(model.decode, model.num_latents, scale)
    x_NV = some(dataset, 'real', images)
    settings = Settings(temperatures or TEMPERATURES)
    log_p_N, found = decoders.of_generator_record(key_more, decoder, params, x_NV, settings, report)
    below = found['from_prior']
    return {**likelihood.score(
      log_p_N, kind='bound', binarisation='real',
      standard_error=below['standard_error'],
      effective_sample_size=below['effective_sample_size'], num_chains=settings.num_chains,
      num_temperatures=settings.num_temperatures,
      hollow=found['drawn']['from_prior']['gap'] > likelihood.RESOLVED_NATS), 'split': 'test',
      'decoder': found, 'scores': {**scores, **headlines(found)}}

  return thorough


def require_rows_apart(model: gan.Model, params) -> None:
  """Raises ValueError where g(z) of one row depends on the rows beside it."""
  z_BZ = jnp.linspace(-1, 1, 2 * model.num_latents).reshape(2, -1)
  beside_V, other_V = (model.decode(params, z_BZ * jnp.array([[1.0], [s]]))[0] for s in (1, -3))
  if not jnp.allclose(beside_V, other_V, rtol=1e-3, atol=1e-4):
    raise ValueError('the generator normalises over its batch: a single row has no density')


def some(dataset: data.Dataset, binarisation: str, images: int | None) -> np.ndarray:
  """Test images evenly from the first to the last, [N, V]."""
  x_NV = np.asarray(data.fixed_split(dataset, 'test', binarisation))
  return x_NV[np.linspace(0, len(x_NV) - 1, min(images or IMAGES, len(x_NV))).astype(int)]


def headlines(found: dict[str, Any]) -> dict[str, float]:
  """What tables show of a record of evaluation.decoders.

  Nats of the better path, the smaller gap, and all of the encoder that is a number.
  """
  paths = [name for name in ('from_prior', 'from_encoder') if name in found]
  return {'annealed_nats': max(found[name]['nats'] for name in paths),
          'annealed_gap': min(found['drawn'][name]['gap'] for name in paths),
          **{name: value for name, value in found.get('posterior', {}).items()
             if name in ('rate', 'distortion', 'mutual_information', 'amortisation_gap',
                         'approximation_gap')}}
