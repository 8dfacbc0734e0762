"""Likelihoods of decoders from both sides: autoencoders, belief nets, generators with noise.

  p(x) = int p(z) p(x | z) dz

A `Decoder` is a prior and an observation model; everything here needs no more of it.

  annealed        log p(x) of given images by annealed importance sampling, a stochastic lower bound
  bidirectional   on data drawn from the model, for which the z behind each x is a draw of the
                  posterior, a lower and an upper bound of the same mean, and their distance

The second says how far the first may be off, so far as the model's own data are as hard as the
given images. The paths begin at the prior, or at the encoder where there is one
(samplers.hamiltonian). Standard errors of given images are the jackknife's over chains; those of
drawn data are over images and contain everything that is random.

Wu, Burda, Salakhutdinov & Grosse (2017); Grosse, Ghahramani & Adams (2015).

Axis suffixes: N images, B images at once, C chains of each, D latents, V visible. Nats.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import devices
from gen_models.evaluation import importance, posteriors, weights as weights_lib
from gen_models.models import vae
from gen_models.samplers import hamiltonian
from gen_models.samplers.hamiltonian import Path, Settings

NUM_SAMPLES = 1000  # of importance-weighted bounds and of expectations under q
_ROWS = 2000  # chains times images at once


class SamplePrior(Protocol):
  """Latents without data."""

  def __call__(self, key: jax.Array, params: Any, num: int, /) -> jax.Array:
    """z ~ p(z), [num, D]; the key is consumed."""
    ...


class LogPrior(Protocol):
  """The density of latents."""

  def __call__(self, params: Any, z_CBD: jax.Array, /) -> jax.Array:
    """log p(z), [C, B] nats."""
    ...


class SampleVisible(Protocol):
  """Data of latents."""

  def __call__(self, key: jax.Array, params: Any, z_ND: jax.Array, /) -> jax.Array:
    """x ~ p(x | z), [N, V]; the key is consumed."""
    ...


class Decoder(NamedTuple):
  """A prior and an observation model; latents of all layers are one vector.

  Attributes:
    sample_prior: (key, params, N) -> z_ND.
    log_prior: (params, z_CBD) -> log p(z), [C, B].
    sample_visible: (key, params, z_ND) -> x_NV.
    log_likelihood: (params, x_BV, z_CBD) -> log p(x | z), [C, B].
    binary: whether latents are zeros and ones; else they are real.
  """

  sample_prior: SamplePrior
  log_prior: LogPrior
  sample_visible: SampleVisible
  log_likelihood: hamiltonian.LogDensity
  binary: bool = False


def of_vae(model: vae.Model) -> Decoder:
  """The decoder of an autoencoder or belief net.

  Raises:
    ValueError: latents of more than two states, between which no chain here moves.
  """
  if not model.has_path and model.latent.num_states != 2:
    raise ValueError(f'chains of latents move real and binary ones, not units of '
                     f'{model.latent.num_states} states')

  def sample_visible(key, params, z_ND):
    return model.sample_visible(key, params, _layers(model, z_ND)[0])

  return Decoder(
    lambda key, params, num: jnp.concatenate(model.sample_prior(key, params, num), axis=-1),
    lambda params, z_CBD: model.log_prior(params, _layers(model, z_CBD)), sample_visible,
    lambda params, x_BV, z_CBD: model.log_likelihood(params, x_BV, _layers(model, z_CBD)),
    binary=not model.has_path)


def of_generator(decode: Callable, num_latents: int, scale: float) -> Decoder:
  """x ~ N(g(z), scale^2 I), z ~ N(0, I): a generator with noise added to its draws.

  Args:
    decode: (params, z [R, Z]) -> g(z), [R, V], each row for itself.
    num_latents: Z.
    scale: standard deviation of the noise; log p(x) is a density, and depends on it.
  """
  normal, unit = vae.gaussian(scale), vae.gaussian(1.0)

  def mean(params, z_CBD):
    x_RV = decode(params, z_CBD.reshape(-1, num_latents))
    return x_RV.reshape(*z_CBD.shape[:-1], -1)

  return Decoder(
    lambda key, params, num: jax.random.normal(key, (num, num_latents)),
    lambda params, z_CBD: unit.log_prob(jnp.zeros(num_latents), z_CBD),
    lambda key, params, z_ND: normal.sample(key, decode(params, z_ND)),
    lambda params, x_BV, z_CBD: normal.log_prob(mean(params, z_CBD), x_BV))


def from_prior(decoder: Decoder) -> Path:
  """p(z) p(x | z)^beta: needs no encoder."""
  def sample(key, params, x_BV, num_chains):
    return decoder.sample_prior(key, params, num_chains * len(x_BV)).reshape(
      num_chains, len(x_BV), -1)

  return Path(sample, lambda params, x_BV, z_CBD: decoder.log_prior(params, z_CBD),
              decoder.log_likelihood, decoder.binary)


def from_encoder(model: vae.Model) -> Path:
  """q(z | x)^(1 - beta) p(x, z)^beta: shorter than from the prior, the better q is."""
  def sample(key, params, x_BV, num_chains):
    code_BO = model.encode(params, x_BV)
    return jnp.concatenate(model.sample_posterior(key, params, code_BO, num_chains), axis=-1)

  def log_q(params, x_BV, z_CBD):
    return model.log_posterior(params, model.encode(params, x_BV), _layers(model, z_CBD))

  def log_ratio(params, x_BV, z_CBD):
    z = _layers(model, z_CBD)
    return (model.log_likelihood(params, x_BV, z) + model.log_prior(params, z)
            - log_q(params, x_BV, z_CBD))

  return Path(sample, log_q, log_ratio, binary=not model.has_path)


def _layers(model: vae.Model, z_CBD) -> tuple[jax.Array, ...]:
  return tuple(jnp.split(z_CBD, np.cumsum(model.widths)[:-1], axis=-1))


class Annealed(NamedTuple):
  """log w of C chains of each of N images, and the share of moves accepted."""

  log_weights_CN: np.ndarray
  acceptance: float

  @property
  def log_mean_N(self) -> np.ndarray:
    """log (1/C) sum_c w_c."""
    return np.logaddexp.reduce(self.log_weights_CN, axis=0) - np.log(len(self.log_weights_CN))


@functools.partial(jax.jit, static_argnames=('path', 'settings'))
def _forward(key, path: Path, params, x_BV, settings: Settings):
  """(log w, acceptance) from the base."""
  key_pilot, key_walk = jax.random.split(key)
  step_TB = hamiltonian.step_sizes(key_pilot, path, params, x_BV, settings)
  return hamiltonian.forward(key_walk, path, params, x_BV, step_TB, settings)[:2]


@functools.partial(jax.jit, static_argnames=('path', 'decoder', 'settings', 'num'))
def _both(key, path: Path, decoder: Decoder, params, num: int, settings: Settings):
  """(x, log w, acceptance, log 1 / w, acceptance) of data drawn from the model."""
  key_z, key_x, key_pilot, key_forward, key_reverse = jax.random.split(key, 5)
  z_BD = decoder.sample_prior(key_z, params, num)
  x_BV = decoder.sample_visible(key_x, params, z_BD)
  # Of x alone: z belongs to the reverse chains.
  step_TB = hamiltonian.step_sizes(key_pilot, path, params, x_BV, settings)
  up = hamiltonian.forward(key_forward, path, params, x_BV, step_TB, settings)
  down = hamiltonian.reverse(key_reverse, path, params, x_BV, z_BD, step_TB, settings)
  return x_BV, *up[:2], *down[:2]


def annealed(key, path: Path, params, x_NV, settings: Settings = Settings(),
             report: Callable[[str], None] | None = None) -> Annealed:
  """log p(x) of images by annealed importance sampling, a few images at a time.

  Args:
    key: consumed.
    path: `from_prior` or `from_encoder`.
    params: of the model.
    x_NV: images.
    settings: of the chains.
    report: called with a line after each group of images.
  """
  x_NV, parts = np.asarray(x_NV, np.float32), []
  at_once = min(max(1, _ROWS // settings.num_chains), len(x_NV))
  for i, start in enumerate(range(0, len(x_NV), at_once)):
    # The last group is filled up with copies of the last image.
    rows_B = np.minimum(np.arange(start, start + at_once), len(x_NV) - 1)
    parts.append(jax.device_get(_forward(jax.random.fold_in(key, i), path, params,
                                         devices.spread(x_NV[rows_B]), settings)))
    if report:
      report(f'annealing: {min(start + at_once, len(x_NV))} of {len(x_NV)} images')
  log_w_CN, accepted_N = (np.concatenate([part[i] for part in parts], axis=-1)[..., :len(x_NV)]
                          for i in (0, 1))
  return Annealed(log_w_CN.astype(np.float64), float(accepted_N.mean()))


class Both(NamedTuple):
  """Data drawn from a model, and log p of each from both sides.

  Attributes:
    x_NV: the data.
    lower: low in expectation.
    upper: its log-weights are of 1 / p(x), so minus its log_mean_N is high in expectation.
  """

  x_NV: np.ndarray
  lower: Annealed
  upper: Annealed


def bidirectional(key, path: Path, decoder: Decoder, params, num_images: int,
                  settings: Settings = Settings(),
                  report: Callable[[str], None] | None = None) -> Both:
  """Both sides of log p(x) of data drawn from the model; arguments as of `annealed`."""
  parts = []
  at_once = min(max(1, _ROWS // settings.num_chains), num_images)
  for i, start in enumerate(range(0, num_images, at_once)):
    parts.append(jax.device_get(_both(jax.random.fold_in(key, i), path, decoder, params, at_once,
                                      settings)))
    if report:
      report(f'annealing both ways: {min(start + at_once, num_images)} of {num_images} images')
  x_NV = np.concatenate([part[0] for part in parts])[:num_images]
  columns = [np.concatenate([part[i] for part in parts], axis=-1)[..., :num_images].astype(
    np.float64) for i in range(1, 5)]
  return Both(x_NV, Annealed(columns[0], float(columns[1].mean())),
              Annealed(columns[2], float(columns[3].mean())))


# The record.


def of_images(found: Annealed) -> dict[str, Any]:
  """The entry of a record about given images: nats with their errors, the weights' diagnostics."""
  log_p_N = found.log_mean_N
  weights = weights_lib.summary(found.log_weights_CN)
  w_CN = np.exp(found.log_weights_CN - found.log_weights_CN.max(0))
  size_N = w_CN.sum(0)**2 / (w_CN**2).sum(0)
  entry = weights_lib.entry(weights_lib.log_mean_variance(weights), found.log_weights_CN,
                            len(found.log_weights_CN))
  return {'nats': float(log_p_N.mean()), 'image_standard_error': _error(log_p_N),
          'effective_sample_size': float(size_N.mean()), 'acceptance': found.acceptance, **entry}


def of_both(found: Both) -> dict[str, Any]:
  """The entry about drawn data: both sides, their distance and its error."""
  lower_N, upper_N = found.lower.log_mean_N, -found.upper.log_mean_N
  return {'lower': float(lower_N.mean()), 'upper': float(upper_N.mean()),
          'gap': float((upper_N - lower_N).mean()), 'standard_error': _error(upper_N - lower_N),
          'acceptance': found.lower.acceptance, 'reverse_acceptance': found.upper.acceptance}


def _error(value_N) -> float | None:
  """Of the mean over images."""
  return float(np.std(value_N, ddof=1) / np.sqrt(len(value_N))) if len(value_N) > 1 else None


def of_generator_record(key, decoder: Decoder, params, x_NV, settings: Settings = Settings(),
                        report: Callable[[str], None] | None = None
                        ) -> tuple[np.ndarray, dict[str, Any]]:
  """(log p of each image [N], the entry of a decoder without an encoder); arguments as of `record`.

  The entry has the conditions, 'from_prior' and 'drawn' of `record`.
  """
  key_images, key_both = jax.random.split(key)
  path = from_prior(decoder)
  found = annealed(key_images, path, params, x_NV, settings, report)
  both = bidirectional(key_both, path, decoder, params, len(x_NV), settings, report)
  return found.log_mean_N, {**_conditions(x_NV, settings), 'from_prior': of_images(found),
                            'drawn': {'from_prior': of_both(both)}}


def record(key, model: vae.Model, params, x_NV, *, num_samples: int | None = None,
           settings: Settings = Settings(), report: Callable[[str], None] | None = None
           ) -> dict[str, Any]:
  """Everything about the likelihood of an autoencoder or belief net, as one entry of a record.

  Args:
    key: consumed.
    model: with its encoder.
    params: of the model.
    x_NV: test images; as many are drawn from the model.
    num_samples: of the importance-weighted bounds and of the expectations under q; 1000 if None.
    settings: of the chains.
    report: called with lines of progress.

  Returns:
    'num_images', 'num_temperatures', 'num_chains', 'num_moves', 'num_samples': the conditions.
    'importance', 'from_prior', 'from_encoder': log p of the test images from below.
    'drawn': of data drawn from the model the 'importance' bound, and for either path both sides
      and their gap with its standard error.
    'posterior': evaluation.posteriors.record, its approximation gap taken against the largest of
      the three.
  """
  num_samples = num_samples or NUM_SAMPLES
  keys = jax.random.split(key, 7)
  decoder = of_vae(model)
  paths = {'from_prior': from_prior(decoder), 'from_encoder': from_encoder(model)}
  given = {name: annealed(k, path, params, x_NV, settings, report)
           for k, (name, path) in zip(keys[:2], paths.items(), strict=True)}
  both = {name: bidirectional(k, path, decoder, params, len(x_NV), settings, report)
          for k, (name, path) in zip(keys[2:4], paths.items(), strict=True)}
  bound = _importance(keys[4], model, params, x_NV, num_samples)
  entries = {'importance': bound, **{name: of_images(found) for name, found in given.items()}}
  best = max(entry['nats'] for entry in entries.values())
  drawn_NV = both['from_encoder'].x_NV
  return {
    **_conditions(x_NV, settings), 'num_samples': num_samples, **entries,
    'drawn': {'importance': _importance(keys[5], model, params, drawn_NV, num_samples),
              **{name: of_both(found) for name, found in both.items()}},
    'posterior': posteriors.record(keys[6], model, params, x_NV, best, num_samples=num_samples)}


def _conditions(x_NV, settings: Settings) -> dict[str, Any]:
  return {'num_images': len(x_NV), 'num_temperatures': settings.num_temperatures,
          'num_chains': settings.num_chains, 'num_moves': settings.num_moves}


def _importance(key, model: vae.Model, params, x_NV, num_samples: int) -> dict[str, Any]:
  """The importance-weighted bound as an entry like that of annealing."""
  score = importance.bound(key, model, params, x_NV, binarisation='', num_samples=num_samples)
  return {'nats': score['test_nats'], **{name: score[name] for name in (
    'standard_error', 'image_standard_error', 'effective_sample_size', 'pareto_k', 'hollow')
    if name in score}}
