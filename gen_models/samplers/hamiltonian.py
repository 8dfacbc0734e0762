"""Annealed importance sampling of latents: log p(x) of every x, from below and from above.

  f_beta(z) = exp(a(z) + beta r(z)),    int f_0(z) dz = 1,    int f_1(z) dz = p(x)

a is the log-density of a base that can be drawn from, and r what turns it into p(x, z): of the
prior, r = log p(x | z); of an encoder, r = log p(x, z) - log q(z | x). Forward chains start at the
base and gather

  log w = sum_t (beta_t - beta_{t-1}) r(z_{t-1}),    z_t ~ T_t(. | z_{t-1}),    E[w] = p(x),

so log w is low in expectation. Reverse chains start at a draw of p(z | x) and go through the same
transitions backwards, which gives E[1 / w] = 1 / p(x) and a value that is high in expectation. A
draw of the posterior is at hand for data that were drawn from the model themselves: z was drawn
first. The distance of both sides is then the error of either (bidirectional Monte Carlo).

T_t leaves f_{beta_t} invariant and is reversible. Of continuous latents it is a Hamiltonian
trajectory of a few leapfrog steps with a Metropolis correction; of binary latents some flips, each
proposed by the slope of log f and corrected likewise. The step sizes of T_t come from pilot chains,
which are thrown away: a step size that followed the history of the chain itself would make T_t
depend on its state, and E[w] would no longer be p(x).

Neal (2001), Annealed importance sampling; Neal (2011), MCMC using Hamiltonian dynamics; Grosse,
Ghahramani & Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo; Wu,
Burda, Salakhutdinov & Grosse (2017), On the quantitative analysis of decoder-based generative
models; Grathwohl, Swersky, Hashemi, Duvenaud & Maddison (2021), Oops I took a gradient.

Axis suffixes: B images, C chains of each, D latents, T temperatures, V visible. Nats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.samplers import annealing

TARGET = 0.65  # acceptance, as good as any between 0.6 and 0.9 (Neal, 2011)
_FIRST_STEP, _GAIN = 0.5, 0.2  # of a standard normal base; nats of step size a unit of acceptance


class LogDensity(Protocol):
  """A term of the log-density of the path."""

  def __call__(self, params: Any, x_BV: jax.Array, z_CBD: jax.Array, /) -> jax.Array:
    """[C, B] nats."""
    ...


class SampleBase(Protocol):
  """Draws of the base."""

  def __call__(self, key: jax.Array, params: Any, x_BV: jax.Array, num_chains: int, /) -> jax.Array:
    """z_CBD of f_0; the key is consumed."""
    ...


class Path(NamedTuple):
  """From a base to p(x, z).

  Attributes:
    sample: (key, params, x_BV, C) -> z_CBD ~ f_0.
    log_base: a(z), normalised.
    log_ratio: r(z) = log p(x, z) - a(z).
    binary: whether latents are zeros and ones; else they are real.
  """

  sample: SampleBase
  log_base: LogDensity
  log_ratio: LogDensity
  binary: bool = False


class Settings(NamedTuple):
  """How long the chains are.

  Attributes:
    num_temperatures: T.
    num_chains: C of each image.
    num_moves: leapfrog steps, or flips, at each temperature.
    num_pilots: chains of each image that find the step sizes.
  """

  num_temperatures: int = 1000
  num_chains: int = 16
  num_moves: int = 5
  num_pilots: int = 4


class Walk(NamedTuple):
  """Chains that went along the path.

  Attributes:
    log_weights_CB: log w; of reverse chains the logarithms of unbiased estimates of 1 / p(x).
    acceptance_B: the share of moves that were accepted.
    z_CBD: where the chains end.
  """

  log_weights_CB: jax.Array
  acceptance_B: jax.Array
  z_CBD: jax.Array


def sigmoidal(num_temperatures: int, slope: float = 4.0) -> np.ndarray:
  """beta_t = s(t) scaled to [0, 1], s(t) = sigma(slope (2 t / T - 1)): fine at both ends, [T + 1].

  Raises:
    ValueError: no temperatures.
  """
  if num_temperatures < 1:
    raise ValueError(f'a schedule needs at least one step, got {num_temperatures}')
  s_T = 1 / (1 + np.exp(-slope * np.linspace(-1, 1, num_temperatures + 1)))
  return (s_T - s_T[0]) / (s_T[-1] - s_T[0])


class _Chains(NamedTuple):
  """States, with both terms of log f and their slopes, from which those of any beta follow."""

  z_CBD: jax.Array
  base_CB: jax.Array
  ratio_CB: jax.Array
  base_slope_CBD: jax.Array
  ratio_slope_CBD: jax.Array

  def log_density(self, beta) -> jax.Array:
    """log f_beta(z), [C, B]."""
    return self.base_CB + beta * self.ratio_CB

  def slope(self, beta) -> jax.Array:
    """The gradient of log f_beta, [C, B, D]."""
    return self.base_slope_CBD + beta * self.ratio_slope_CBD


Look = Callable[[jax.Array], _Chains]


def _look(path: Path, params, x_BV) -> Look:
  """z_CBD -> the chains that are there."""
  def look(z_CBD):
    base_CB, pull_base = jax.vjp(lambda z: path.log_base(params, x_BV, z), z_CBD)
    ratio_CB, pull_ratio = jax.vjp(lambda z: path.log_ratio(params, x_BV, z), z_CBD)
    ones_CB = jnp.ones_like(ratio_CB)
    return _Chains(z_CBD, base_CB, ratio_CB, *pull_base(ones_CB), *pull_ratio(ones_CB))
  return look


def _chosen(accept_CB, new: _Chains, old: _Chains) -> _Chains:
  return jax.tree.map(lambda n, o: jnp.where(
    accept_CB.reshape(accept_CB.shape + (1,) * (n.ndim - 2)), n, o), new, old)


def trajectory(key, look: Look, chains: _Chains, beta, step_B, num_moves: int):
  """One Hamiltonian trajectory: (chains, probability of acceptance [C, B]).

  Step sizes are spread over 0.8 to 1.2 of `step_B`, one draw a trajectory, so that no orbit of a
  Gaussian closes on its start.
  """
  key_momentum, key_step, key_accept = jax.random.split(key, 3)
  p_CBD = jax.random.normal(key_momentum, chains.z_CBD.shape)
  lead = chains.ratio_CB.shape
  step_CB1 = (step_B * jax.random.uniform(key_step, lead, minval=0.8, maxval=1.2))[..., None]

  def leap(carry, _):
    p_CBD, at = carry
    p_CBD = p_CBD + step_CB1 / 2 * at.slope(beta)
    at = look(at.z_CBD + step_CB1 * p_CBD)
    return (p_CBD + step_CB1 / 2 * at.slope(beta), at), None

  (end_CBD, at), _ = lax.scan(leap, (p_CBD, chains), length=num_moves)
  log_accept_CB = (at.log_density(beta) - jnp.sum(jnp.square(end_CBD), axis=-1) / 2
                   - chains.log_density(beta) + jnp.sum(jnp.square(p_CBD), axis=-1) / 2)
  # A trajectory that ran away has a density that is not finite, and is refused.
  log_accept_CB = jnp.where(jnp.isfinite(log_accept_CB), log_accept_CB, -jnp.inf)
  accept_CB = jnp.log(jax.random.uniform(key_accept, lead)) < log_accept_CB
  return _chosen(accept_CB, at, chains), jnp.exp(jnp.minimum(log_accept_CB, 0.0))


def flips(key, look: Look, chains: _Chains, beta, step_B, num_moves: int):
  """`num_moves` flips of one latent each, proposed with probability ~ exp(its gain / 2).

  The gain in log f is read off the slope; the correction makes up for its error. There is no step
  size. Returns as `trajectory`.
  """
  del step_B

  def log_proposals(at):
    return jax.nn.log_softmax((1 - 2 * at.z_CBD) * at.slope(beta) / 2, axis=-1)

  def flip(at, key):
    key_unit, key_accept = jax.random.split(key)
    there_CBD = log_proposals(at)
    unit_CBD = jax.nn.one_hot(jax.random.categorical(key_unit, there_CBD), there_CBD.shape[-1])
    new = look(jnp.abs(at.z_CBD - unit_CBD))
    log_accept_CB = new.log_density(beta) - at.log_density(beta) + jnp.sum(
      unit_CBD * (log_proposals(new) - there_CBD), axis=-1)
    accept_CB = jnp.log(jax.random.uniform(key_accept, log_accept_CB.shape)) < log_accept_CB
    return _chosen(accept_CB, new, at), jnp.exp(jnp.minimum(log_accept_CB, 0.0))

  chains, accepted_MCB = lax.scan(flip, chains, jax.random.split(key, num_moves))
  return chains, accepted_MCB.mean(0)


def _kernel(path: Path):
  return flips if path.binary else trajectory


def step_sizes(key, path: Path, params, x_BV, settings: Settings) -> jax.Array:
  """Step sizes [T, B] of which about 0.65 of the trajectories are accepted, by pilot chains.

  Pilots go forward along the path; after each temperature log step += 0.2 (acceptance - 0.65).
  """
  look, kernel = _look(path, params, x_BV), _kernel(path)
  key_base, key_steps = jax.random.split(key)
  chains = look(path.sample(key_base, params, x_BV, settings.num_pilots))

  def body(carry, of):
    chains, log_step_B = carry
    key, beta = of
    chains, accepted_CB = kernel(key, look, chains, beta, jnp.exp(log_step_B), settings.num_moves)
    return (chains, log_step_B + _GAIN * (accepted_CB.mean(0) - TARGET)), log_step_B

  betas_T = jnp.asarray(sigmoidal(settings.num_temperatures)[1:], jnp.float32)
  start = chains, jnp.full(len(x_BV), np.log(_FIRST_STEP), jnp.float32)
  return jnp.exp(lax.scan(body, start, (jax.random.split(key_steps, len(betas_T)), betas_T))[1])


def forward(key, path: Path, params, x_BV, step_TB, settings: Settings) -> Walk:
  """From the base to p(x, z): log w of C chains of each image, low in expectation.

  Args:
    key: consumed.
    path: from the base to p(x, z).
    params: of the model.
    x_BV: images.
    step_TB: of `step_sizes`, found with another key.
    settings: as for `step_sizes`.
  """
  key_base, key_steps = jax.random.split(key)
  z_CBD = path.sample(key_base, params, x_BV, settings.num_chains)
  return _walk(key_steps, path, params, x_BV, z_CBD, step_TB, settings, backwards=False)


def reverse(key, path: Path, params, x_BV, z_BD, step_TB, settings: Settings) -> Walk:
  """From z ~ p(z | x), all chains of an image from the same one, to the base.

  Arguments as of `forward`. The log-weights are those of 1 / p(x); minus the logarithm of their
  mean is high in expectation.
  """
  z_CBD = jnp.broadcast_to(z_BD, (settings.num_chains, *z_BD.shape))
  return _walk(key, path, params, x_BV, z_CBD, step_TB, settings, backwards=True)


def _walk(key, path: Path, params, x_BV, z_CBD, step_TB, settings: Settings, *,
          backwards: bool) -> Walk:
  """Forward: weigh from beta_{t-1} to beta_t, then T_t. Backwards: T_t, then weigh."""
  look, kernel = _look(path, params, x_BV), _kernel(path)
  betas = sigmoidal(settings.num_temperatures)
  # Differenced in float64: near 1 a float32 beta has few of their digits.
  rises_T, betas_T = np.diff(betas).astype(np.float32), betas[1:].astype(np.float32)

  def body(carry, of):
    chains, log_w_CB, lost_CB = carry
    key, beta, rise, step_B = of
    if backwards:
      chains, accepted_CB = kernel(key, look, chains, beta, step_B, settings.num_moves)
      term_CB = -rise * chains.ratio_CB
    else:
      term_CB = rise * chains.ratio_CB
      chains, accepted_CB = kernel(key, look, chains, beta, step_B, settings.num_moves)
    return (chains, *annealing.compensated_add(log_w_CB, lost_CB, term_CB)), accepted_CB.mean(0)

  zeros_CB = jnp.zeros(z_CBD.shape[:2])
  (chains, log_w_CB, lost_CB), accepted_TB = lax.scan(
    body, (look(z_CBD), zeros_CB, zeros_CB),
    (jax.random.split(key, len(betas_T)), betas_T, rises_T, step_TB), reverse=backwards)
  return Walk(log_w_CB - lost_CB, accepted_TB.mean(0), chains.z_CBD)
