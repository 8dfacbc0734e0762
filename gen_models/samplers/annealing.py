"""Annealed importance sampling: from a distribution that is easy to draw to the model.

  log Z ~= log Z_0 + log (1/C) sum_c w_c,    w_c = prod_k f_{beta_k}(v_k) / f_{beta_{k-1}}(v_k),

v_1 drawn from the base f_0 and v_{k+1} from a Markov step that leaves f_{beta_k} invariant. E[w_c]
is exactly Z / Z_0 for any schedule, so by Jensen the estimate of log Z is low in expectation, and
log-likelihoods computed with it high; a small effective sample size is a warning that they are.

Reverse annealing, along the same path from the model to the base, has E[w] = Z_0 / Z, hence a log Z
that is high in expectation: `bracket` gives both sides, and between them the estimate that uses
both. Variables called `forth` and `back` belong to the forward and to the reverse direction.

Neal (2001), Annealed importance sampling; Bennett (1976), Efficient estimation of free energy
differences; Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks;
Burda, Grosse & Salakhutdinov (2015), Accurate and conservative estimates of MRF log-likelihood
using reverse annealing.

Ladders of chains in equilibrium, for the same two sides, are gen_models.samplers.tempering.

Axis suffixes: C chains, V visible, H hidden, T temperatures. Nats.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import bits, gibbs, rbm


class Estimate(NamedTuple):
  """An estimate of log Z, in nats.

  Attributes:
    log_partition: the estimate, low in expectation.
    standard_error: of the estimate, from the variance of the weights; nan for fewer than 4 chains.
    effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of chains.
    log_weights_C: log (Z / Z_0) by each chain.
    num_temperatures: steps of the schedule.
  """

  log_partition: float
  standard_error: float
  effective_sample_size: float
  log_weights_C: np.ndarray
  num_temperatures: int


def salakhutdinov_murray() -> np.ndarray:
  """beta = 0:1e-3:0.5, 0.5:1e-4:0.9, 0.9:1e-5:1, the 14,500 steps of the published numbers."""
  return np.concatenate([np.linspace(0, 0.5, 500, endpoint=False),
                         np.linspace(0.5, 0.9, 4000, endpoint=False), np.linspace(0.9, 1, 10001)])


def refined(num_steps: int) -> np.ndarray:
  """The published schedule's shape in `num_steps` steps: ever finer towards beta = 1."""
  if num_steps < 1:
    raise ValueError(f'a schedule needs at least one step, got {num_steps}')
  published = salakhutdinov_murray()
  return np.interp(np.linspace(0, len(published) - 1, num_steps + 1),
                   np.arange(len(published)), published)


def linear(num_steps: int) -> np.ndarray:
  """beta evenly from 0 to 1 in `num_steps` steps."""
  if num_steps < 1:
    raise ValueError(f'a schedule needs at least one step, got {num_steps}')
  return np.linspace(0, 1, num_steps + 1)


class _Chains(NamedTuple):
  v_CV: jax.Array
  log_w_C: jax.Array
  lost_C: jax.Array  # accumulated rounding error of log_w (Kahan, 1965)


def log_ratio(x, beta, step):
  """softplus((beta + step) x) - softplus(beta x), without cancellation however small the step.

  = step max(x, 0) + log1p(sigma(-beta |x|) expm1(-step |x|)).
  """
  a = jnp.abs(x)
  return step * jnp.maximum(x, 0) + jnp.log1p(jax.nn.sigmoid(-beta * a) * jnp.expm1(-step * a))


def compensated_add(total, lost, term):
  """(total, lost) after adding `term`, with the rounding error carried in `lost`."""
  term = term - lost
  new_total = total + term
  return new_total, (new_total - total) - term


def _anneal(key, params: rbm.Params, base_V, chains: _Chains, betas_T, steps_T) -> _Chains:
  """Through temperatures beta_t -> beta_t + step_t of

  f_beta(v) = exp((1 - beta) a.v + beta b.v) prod_j (1 + exp(beta (c_j + (v.W)_j))).
  """
  def body(chains, xs):
    key, beta, step = xs
    key_h, key_v = jax.random.split(key)
    x_CH = rbm.hidden_input(params, chains.v_CV)
    term_C = (jnp.sum(log_ratio(x_CH, beta, step), axis=-1)
              + step * (chains.v_CV @ (params.b_V - base_V)))
    log_w_C, lost_C = compensated_add(chains.log_w_C, chains.lost_C, term_C)
    beta = beta + step
    h_CH = bits.bernoulli(key_h, jax.nn.sigmoid(beta * x_CH))
    y_CV = (1 - beta) * base_V + beta * rbm.visible_input(params, h_CH)
    return _Chains(bits.bernoulli(key_v, jax.nn.sigmoid(y_CV)), log_w_C, lost_C), None

  return lax.scan(body, chains, (jax.random.split(key, len(betas_T)), betas_T, steps_T))[0]


_anneal_chunk = jax.jit(_anneal)


def _start(key, base_V, num_chains: int) -> _Chains:
  """v ~ prod_i Bernoulli(sigma(a_i)), w = 1."""
  p_CV = jnp.broadcast_to(jax.nn.sigmoid(base_V), (num_chains, len(base_V)))
  return _Chains(bits.bernoulli(key, p_CV), jnp.zeros(num_chains), jnp.zeros(num_chains))


@jax.jit
def base_log_partition(params: rbm.Params, base_V) -> jax.Array:
  """log Z_0 = H log 2 + sum_i softplus(a_i), nats."""
  return len(params.c_H) * jnp.log(2.0) + jnp.sum(jax.nn.softplus(base_V))


def quick_log_partition(key, params: rbm.Params, base_V, *, num_chains: int, betas) -> jax.Array:
  """The estimate of `ais` as one pure function, for use inside jit while training; scalar nats."""
  key_base, key_steps = jax.random.split(key)
  log_w_C = _quick(key_steps, params, base_V, _start(key_base, base_V, num_chains), betas)
  return (base_log_partition(params, base_V) + jax.nn.logsumexp(log_w_C) - jnp.log(num_chains))


def quick_bennett(key, params: rbm.Params, base_V, start_CV, *, betas,
                  burn_in: int = 100) -> jax.Array:
  """Bennett's estimate of `bracket` as one pure function; scalar nats.

  Twice the work of quick_log_partition, which is worth it where the temperatures are too few for
  the model: forward annealing by itself then underestimates log Z by nats, and overestimates the
  likelihood by as much.
  """
  key_base, key_forth, key_burn, key_back = jax.random.split(key, 4)
  forth_C = _quick(key_forth, params, base_V, _start(key_base, base_V, len(start_CV)), betas)
  v_CV = _burn(key_burn, params, jnp.asarray(start_CV, jnp.float32), burn_in)
  zero_C = jnp.zeros(len(v_CV))
  back_C = _quick(key_back, params, base_V, _Chains(v_CV, zero_C, zero_C), betas[::-1])

  def halve(_, ends):
    low, high = ends
    c = (low + high) / 2
    gap = jnp.mean(jax.nn.sigmoid(forth_C - c)) - jnp.mean(jax.nn.sigmoid(back_C + c))
    return jnp.where(gap > 0, c, low), jnp.where(gap > 0, high, c)

  both = jnp.concatenate([forth_C, -back_C])
  low, high = lax.fori_loop(0, 40, halve, (jnp.min(both), jnp.max(both)))
  return base_log_partition(params, base_V) + (low + high) / 2


def _quick(key, params: rbm.Params, base_V, chains: _Chains, betas) -> jax.Array:
  """Log-weights [C] gathered along the temperatures."""
  betas = np.asarray(betas, np.float64)
  chains = _anneal(key, params, base_V, chains, betas[:-1].astype(np.float32),
                   np.diff(betas).astype(np.float32))
  return chains.log_w_C - chains.lost_C


def ais(key, params: rbm.Params, base_V, *, num_chains: int = 100, betas=None, chunk: int = 500,
        report: Callable[[str], None] | None = None) -> Estimate:
  """log Z of an RBM, annealed from prod_i Bernoulli(sigma(a_i)) with all W = 0.

  Args:
    key: consumed.
    params: the RBM; w_VH [V, H].
    base_V: a, the base's visible biases: the log-odds of the data's mean. Uniform ones (0) can miss
      by many nats with a small standard error.
    num_chains: C, annealed side by side.
    betas: increasing from 0 to 1; default salakhutdinov_murray().
    chunk: temperatures in one compiled program.
    report: called with a line of progress after each chunk.

  Returns:
    Estimate, in nats.

  Raises:
    ValueError: a schedule that does not increase from 0 to 1, or a base of the wrong width.
  """
  betas, base_V = _checked(params, base_V, betas, num_chains)
  walk = forth(key, params, base_V, num_chains, betas, chunk=chunk, report=report)
  return estimate(float(base_log_partition(params, base_V)), walk.log_w_C, len(betas) - 1)


class Bracket(NamedTuple):
  """log Z from both sides, in nats.

  Attributes:
    log_partition: Bennett's acceptance ratio, which weighs both directions.
    lower: Estimate from the base to the model, low in expectation.
    upper: Estimate from the model to the base, high in expectation so far as its starts follow
      p(v).
  """

  log_partition: float
  lower: Estimate
  upper: Estimate


def bracket(key, params: rbm.Params, base_V, start_CV, *, betas=None, burn_in: int = 1000,
            chunk: int = 500, report: Callable[[str], None] | None = None) -> Bracket:
  """log Z of an RBM by forward and reverse annealing over the same temperatures.

  The reverse chains start from `start_CV` after `burn_in` Gibbs steps at the model itself. Give
  them training images: these share nothing with the forward chains, so a mode that annealing from
  the base never finds shows as a wide bracket instead of being missed by both sides.

  Args:
    key: consumed.
    params: the RBM; w_VH [V, H].
    base_V: the base's visible biases, as for `ais`.
    start_CV: zeros and ones [C, V]; C is the number of chains in each direction.
    betas: increasing from 0 to 1; default salakhutdinov_murray().
    burn_in: Gibbs steps.
    chunk: temperatures in one compiled program.
    report: called with a line of progress after each chunk.

  Returns:
    Bracket, in nats.

  Raises:
    ValueError: as `ais`.
  """
  betas, base_V = _checked(params, base_V, betas, len(start_CV))
  key_ais, key_burn, key_path = jax.random.split(key, 3)
  there = forth(key_ais, params, base_V, len(start_CV), betas, chunk=chunk, report=report)
  v_CV = settled(key_burn, params, start_CV, burn_in)
  again = back(key_path, params, base_V, v_CV, betas, chunk=chunk, report=report)
  return both_sides(float(base_log_partition(params, base_V)), there.log_w_C, again.log_w_C,
                    len(betas) - 1)


def both_sides(base: float, forth_C, back_C, num_temperatures: int) -> Bracket:
  """The bracket of log Z from forward and reverse log-weights; `base` is log Z_0."""
  reverse = estimate(-base, back_C, num_temperatures)
  return Bracket(base + bennett(forth_C, back_C), estimate(base, forth_C, num_temperatures),
                 reverse._replace(log_partition=-reverse.log_partition))


class Walk(NamedTuple):
  """Chains annealed in one direction, forward or reverse.

  Attributes:
    v_CV: their states at the model: the last ones of forward chains, the first ones of reverse
      chains.
    log_w_C: their log-weights, float64: of Z / Z_0 if forward, of Z_0 / Z if reverse.
  """

  v_CV: jax.Array
  log_w_C: np.ndarray


def forth(key, params: rbm.Params, base_V, num_chains: int, betas, *, chunk: int = 500,
          report: Callable[[str], None] | None = None, name: str = 'ais') -> Walk:
  """Forward annealing, from prod_i Bernoulli(sigma(a_i)) to the model.

  The arguments are those of `ais`, except that betas must be given.
  """
  key_base, key_path = jax.random.split(key)
  base_V = jnp.asarray(base_V, jnp.float32)
  return _walk(key_path, params, base_V, _start(key_base, base_V, num_chains), betas, chunk, report,
               name)


def back(key, params: rbm.Params, base_V, v_CV, betas, *, chunk: int = 500,
         report: Callable[[str], None] | None = None, name: str = 'reverse ais') -> Walk:
  """Reverse annealing, from states of the model [C, V] to prod_i Bernoulli(sigma(a_i))."""
  zero_C = jnp.zeros(len(v_CV))
  walk = _walk(key, params, jnp.asarray(base_V, jnp.float32), _Chains(v_CV, zero_C, zero_C),
               betas[::-1], chunk, report, name)
  return Walk(v_CV, walk.log_w_C)


def settled(key, params: rbm.Params, v_CV, num_steps: int) -> jax.Array:
  """v [C, V] after `num_steps` Gibbs steps at the model."""
  return _burn(key, params, jnp.asarray(v_CV, jnp.float32), num_steps)


def bennett(forth_C, back_C) -> float:
  """Bennett's acceptance ratio: c with mean_C sigma(forth - c) = mean_C sigma(back + c).

  c estimates log(Z / Z_0). forth_C are forward log-weights, of Z / Z_0; back_C are as many reverse
  log-weights, of Z_0 / Z.
  """
  def gap(c):
    return (np.mean(0.5 * (1 + np.tanh((forth_C - c) / 2)))
            - np.mean(0.5 * (1 + np.tanh((back_C + c) / 2))))

  # The gap falls with c and changes its sign between the extremes of all weights.
  low, high = (f(np.concatenate([forth_C, -back_C])) for f in (np.min, np.max))
  for _ in range(100):
    middle = (low + high) / 2
    low, high = (middle, high) if gap(middle) > 0 else (low, middle)
  return float((low + high) / 2)


def _checked(params: rbm.Params, base_V, betas, num_chains: int):
  """(betas, base_V) as arrays; raises ValueError, see `ais`."""
  betas = schedule(betas)
  if num_chains < 1:
    raise ValueError(f'annealing needs at least one chain, got {num_chains}')
  require_base(params, base_V)
  return betas, jnp.asarray(base_V, jnp.float32)


def schedule(betas=None) -> np.ndarray:
  """betas in float64, by default salakhutdinov_murray().

  Raises:
    ValueError: they do not increase from 0 to 1.
  """
  betas = salakhutdinov_murray() if betas is None else np.asarray(betas, np.float64)
  if (betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1
      or not np.all(np.diff(betas) >= 0)):
    raise ValueError('an annealing schedule increases from 0 to 1; this one does not')
  return betas


def require_base(params: rbm.Params, base_V):
  """ValueError unless there is one base bias for each visible unit."""
  if jnp.shape(base_V) != params.b_V.shape:
    raise ValueError(f'base biases {jnp.shape(base_V)} for an RBM with {len(params.b_V)} visible '
                     'units')


def _walk(key, params: rbm.Params, base_V, chains: _Chains, betas, chunk: int, report,
          name: str) -> Walk:
  """The states in which chains end, and the log-weights [C] that they accumulate."""
  # The steps are differenced in float64: in float32 beta near 1 would hold only 2 of their digits.
  starts, steps = betas[:-1].astype(np.float32), np.diff(betas).astype(np.float32)
  for i, first in enumerate(range(0, len(steps), chunk)):
    part = slice(first, first + chunk)
    chains = _anneal_chunk(jax.random.fold_in(key, i), params, base_V, chains,
                           starts[part], steps[part])
    if report:
      report(f'{name} {min(first + chunk, len(steps))}/{len(steps)} temperatures, effective sample '
             f'size {effective_sample_size(np.asarray(chains.log_w_C)):.1f} of {len(chains.v_CV)}')
  return Walk(chains.v_CV,
              np.asarray(chains.log_w_C, np.float64) - np.asarray(chains.lost_C, np.float64))


@functools.partial(jax.jit, static_argnames='num_steps')
def _burn(key, params: rbm.Params, v_CV, num_steps: int):
  key_hidden, key_gibbs = jax.random.split(key)
  chains = gibbs.Chains(v_CV, rbm.sample_hidden(key_hidden, params, v_CV))
  return gibbs.run(key_gibbs, rbm, params, chains, num_steps).v_CV


def effective_sample_size(log_w_C) -> float:
  """(sum w)^2 / sum w^2."""
  w_C = np.exp(np.asarray(log_w_C, np.float64) - np.max(log_w_C))
  return float(w_C.sum() ** 2 / np.sum(w_C**2))


def estimate(base_log_partition: float, log_w_C: np.ndarray, num_temperatures: int) -> Estimate:
  """log Z_0 + log mean w, with sd(log mean w) ~= sd(w) / (sqrt(C) mean(w)).

  For fewer than 20 chains the standard error is the jackknife's; for fewer than 4 it is nan.
  """
  w_C = np.exp(log_w_C - log_w_C.max())
  if len(w_C) < 20:
    error = jackknife_error(log_w_C)
  else:
    error = float(w_C.std(ddof=1) / w_C.mean() / np.sqrt(len(w_C)))
  return Estimate(base_log_partition + log_w_C.max() + float(np.log(w_C.mean())), error,
                  effective_sample_size(log_w_C), log_w_C, num_temperatures)


def jackknife_error(log_w_C) -> float:
  """sqrt((C-1)/C sum_c (a_c - mean a)^2) of log mean w, a_c that of the others; nan if C < 4.

  With 4 chains or more its root mean square is within 8 % of the standard deviation of repeated
  estimates; the delta method's is half of that when few weights count.
  """
  log_w_C = np.asarray(log_w_C, np.float64)
  if len(log_w_C) < 4:
    return float('nan')
  others_C = [np.logaddexp.reduce(np.delete(log_w_C, c)) for c in range(len(log_w_C))]
  return float(np.sqrt((len(log_w_C) - 1) * np.var(others_C)))
