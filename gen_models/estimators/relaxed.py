"""Relaxations: samples of discrete latents with a derivative that is not theirs.

  z ~ q(z | x),    dz / dt := the derivative of a softmax near z,    t the logits

so that the rules with a path (elbo, stl, iwae, dreg) run through all layers as they do with
continuous latents. z is a sample of the model (straight-through) or lies between states; either way
the gradient is biased, and its noise is low.

A unit is seen as Q states, a binary one as the two of logits (t, 0).

Axis suffixes: U units, Q states, R draws; leading axes are free.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.estimators.variational import Rule, elbo, stl, variational
from gen_models.models import vae

held = jax.lax.stop_gradient


class Relaxation(NamedTuple):
  """A sample with a derivative.

  Attributes:
    sample: (key, logits [.., U, Q]) -> [.., U, Q], differentiable in the logits.
    hard: whether its values are states.
  """

  sample: Callable[[jax.Array, jax.Array], jax.Array]
  hard: bool = True


def relaxed(model: vae.Model, relaxation: Relaxation, rule: Rule | None = None) -> base.Estimator:
  """`variational` of the rule, with samples that have a derivative.

  Args:
    model: with discrete latents.
    relaxation: one of those below.
    rule: with a path. None is the ELBO of one sample, without its score, whose mean is zero, where
      samples are states.

  Raises:
    ValueError: continuous latents.
  """
  latent = model.latent
  if latent.num_states is None:
    raise ValueError('a relaxation is one of discrete latents, and those of this model are '
                     'continuous: use elbo, iwae, stl or dreg')

  def sample(key, logits):
    return as_numbers(latent, relaxation.sample(key, as_states(latent, logits)))

  with_path = model.with_latent(latent._replace(sample=sample, has_path=True))
  rule = rule or (stl() if relaxation.hard else elbo())
  return variational(with_path, rule)._replace(biased=True)


def gumbel(temperature: float = 0.5) -> Relaxation:
  """softmax((t + Gumbel noise) / temperature) (Jang, Gu & Poole, 2017; Maddison et al., 2017).

  The densities are those of the discrete model, at values between states.
  """
  def sample(key, t):
    return jax.nn.softmax((t + gumbel_noise(key, t.shape)) / temperature)

  return Relaxation(sample, hard=False)


def straight_through(temperature: float = 1.0) -> Relaxation:
  """z, with the derivative of softmax(t / temperature) (Bengio, Leonard & Courville, 2013)."""
  def sample(key, t):
    return _with_derivative(_draw(key, t), jax.nn.softmax(t / temperature))

  return Relaxation(sample)


def straight_through_gumbel(temperature: float = 0.5) -> Relaxation:
  """z, with the derivative of the softmax((t + noise) / temperature) that it is the top of.

  Jang, Gu & Poole (2017).
  """
  def sample(key, t):
    y = t + gumbel_noise(key, t.shape)
    return _with_derivative(_top(y), jax.nn.softmax(y / temperature))

  return Relaxation(sample)


def gumbel_rao(temperature: float = 0.5, draws: int = 10) -> Relaxation:
  """straight_through_gumbel, its derivative averaged over noise that leads to the same z.

  Paulus, Maddison & Krause (2021), Rao-Blackwellizing the straight-through Gumbel-softmax.
  """
  def sample(key, t):
    key_z, key_r = jax.random.split(key)
    z = _draw(key_z, t)
    return _with_derivative(z, _softmax_given(key_r, t, z, temperature, draws))

  return Relaxation(sample)


def reinmax() -> Relaxation:
  """z, with 2 d softmax at (z + p) / 2 less half that at p, p = softmax(t).

  Heun's rule for the difference of f between states, exact where f is quadratic (Liu, Dong, Liu,
  Yu & Gao, 2023, Bridging discrete and backpropagation).
  """
  def sample(key, t):
    z, p = _draw(key, t), jax.nn.softmax(t)
    return _with_derivative(z, 2 * jax.nn.softmax(_halfway(z, t)) - p / 2)

  return Relaxation(sample)


def reinmax_rao(temperature: float = 1.0, draws: int = 10) -> Relaxation:
  """reinmax, its softmax at (z + p) / 2 replaced by gumbel_rao's there (Wang & Bui, 2026)."""
  def sample(key, t):
    key_z, key_r = jax.random.split(key)
    z = _draw(key_z, t)
    middle = _softmax_given(key_r, _halfway(z, t), z, temperature, draws)
    return _with_derivative(z, 2 * middle - jax.nn.softmax(t) / 2)

  return Relaxation(sample)


def reinmax_control_variate(temperature: float = 1.0, draws: int = 10,
                            scale: float = 0.5) -> Relaxation:
  """reinmax less scale (s - mean s), s the softmax at (z + p) / 2 under the noise that chose z.

  The mean is gumbel_rao's (Wang & Bui, 2026, ReinMax-CV).
  """
  def sample(key, t):
    key_g, key_r = jax.random.split(key)
    noise = gumbel_noise(key_g, t.shape)
    z = _top(t + noise)
    middle, p = _halfway(z, t), jax.nn.softmax(t)
    single = jax.nn.softmax((middle + noise) / temperature)
    average = _softmax_given(key_r, middle, z, temperature, draws)
    return _with_derivative(
      z, 2 * jax.nn.softmax(middle) - p / 2 - scale * (single - average))

  return Relaxation(sample)


# Units as states, and noise.


def as_states(latent: vae.Family, logits: jax.Array) -> jax.Array:
  """Logits [.., Z] as those of the states of each unit, [.., U, Q]; a binary one has (t, 0)."""
  if latent.num_states == 2:
    return jnp.stack([logits, jnp.zeros_like(logits)], axis=-1)
  return logits.reshape(*logits.shape[:-1], -1, latent.num_states)


def as_numbers(latent: vae.Family, states: jax.Array) -> jax.Array:
  """Numbers of states [.., U, Q] as those of a layer, [.., Z]; a binary unit is its first state."""
  return states[..., 0] if latent.num_states == 2 else states.reshape(*states.shape[:-2], -1)


def gumbel_noise(key, shape) -> jax.Array:
  """-log(-log u)."""
  return jax.random.gumbel(key, shape)


def conditional(t, z, exponential) -> jax.Array:
  """t + Gumbel noise, given that z is its top: differentiable in t, the noise held.

  exponential: independent draws of the standard exponential distribution, as t. The largest is
  log sum exp(t) - log e_z, the others -log(e / exp(t) + e_z / sum exp(t)) (Maddison, Tarlow &
  Minka, 2014).
  """
  log_sum = jax.nn.logsumexp(t, axis=-1, keepdims=True)
  log_e = jnp.log(jnp.maximum(exponential, 1e-20))
  top = log_sum - jnp.sum(z * log_e, axis=-1, keepdims=True)
  return jnp.where(z > 0.5, top, -jnp.logaddexp(log_e - t, -top))


def _draw(key, t):
  return jax.nn.one_hot(jax.random.categorical(key, t), t.shape[-1])


def _top(y):
  return jax.nn.one_hot(jnp.argmax(y, axis=-1), y.shape[-1])


def _with_derivative(value, like):
  return value + like - held(like)


def _halfway(z, t):
  """log((z + p) / 2), with the derivative of t."""
  return _with_derivative(held(jnp.log((z + jax.nn.softmax(t)) / 2)), t)


def _softmax_given(key, t, z, temperature, draws):
  """softmax((t + noise) / temperature), averaged over noise given that z is the top, held."""
  e_R = jax.random.exponential(key, (draws, *t.shape))
  noise_R = held(conditional(t, z, e_R) - t)
  return jnp.mean(jax.nn.softmax((t + noise_R) / temperature), axis=0)
