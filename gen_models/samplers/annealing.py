"""Annealed importance sampling: from a distribution that is easy to draw to the model.

  log Z ~= log Z_0 + log (1/C) sum_c w_c,    w_c = prod_k f_{beta_k}(v_k) / f_{beta_{k-1}}(v_k),

v_1 drawn from the base f_0 and v_{k+1} from a Markov step that leaves f_{beta_k} invariant. E[w_c]
is exactly Z / Z_0 for any schedule, so by Jensen the estimate of log Z is low in expectation, and
log-likelihoods computed with it high; a small effective sample size is a warning that they are.

Reverse annealing, along the same path from the model to the base, has E[w] = Z_0 / Z, hence a log Z
that is high in expectation: `bracket` gives both sides, and between them the estimate that uses
both. Variables called `forward` and `reverse` belong to these two directions.

`model` is anything that reads like gen_models.models.rbm, as in gen_models.models.gibbs: a Machine
of any two layers. The base has W = 0 and visible parameters a (`base_of`: the layer's marginals at
the data's mean), and on the way the machine at beta has

  W_beta = beta W,    b_beta between a and b,    c_beta between c without its bias and c,

precisions of Gaussian and double rectified units being interpolated linearly (units.between). If
the model is a density, so is every machine of the path: the quadratic form of two unbounded layers
is Lambda_V(beta) - beta^2 W Lambda_H^-1 W', which for a positive Lambda_V(0) is at least beta^2
times its value at beta = 1.

Neal (2001), Annealed importance sampling; Bennett (1976), Efficient estimation of free energy
differences; Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks;
Burda, Grosse & Salakhutdinov (2015), Accurate and conservative estimates of MRF log-likelihood
using reverse annealing.

Ladders of chains in equilibrium, for the same two sides, are gen_models.samplers.tempering.

Axis suffixes: C chains, V visible, H hidden, T temperatures. Nats.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import devices
from gen_models.models import bits, gibbs, joined, rbm, units
from gen_models.models.gibbs import Model


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


class Machine(Model, Protocol):
  """Two layers with a free energy: gen_models.models.rbm, or a models.machine.Machine."""

  def free_energy(self, params: Any, v_BV: jax.Array, /) -> jax.Array:
    """F(v), [B] nats."""
    ...


def base_of(model: Machine, v_NV) -> Any:
  """Visible parameters a of the base: the layer's own marginals at the mean of v [N, V]."""
  return model.visible.init(jnp.asarray(v_NV).mean(0))


def is_binary(model: Machine) -> bool:
  """Whether both layers are Bernoulli: the case of which every update is written out."""
  return model.visible == units.BERNOULLI and model.hidden == units.BERNOULLI


def at_rest(model: Machine, params) -> Any:
  """Hidden parameters of the base: c without its bias."""
  return units.with_bias(params.c_H, jnp.zeros_like(units.bias_of(params.c_H)))


def at(model: Machine, params, base_V, beta):
  """The machine at beta of the path from the base (0) to the model (1), a tree like params."""
  return type(params)(
    beta * params.w_VH, units.between(model.visible, base_V, params.b_V, beta),
    units.between(model.hidden, at_rest(model, params), params.c_H, beta))


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


def _anneal(key, params, base_V, chains: _Chains, betas, model: Machine = rbm) -> _Chains:
  """Through the temperatures `betas` = (beta_t, step_t or beta_{t+1}), see `_temperatures`."""
  body = (_binary_step(params, base_V) if is_binary(model) else
          _machine_step(model, params, base_V))
  return lax.scan(body, chains, (jax.random.split(key, len(betas[0])), *betas))[0]


def _temperatures(model: Machine, betas) -> tuple[np.ndarray, np.ndarray]:
  """Where each step begins, and its length (Bernoulli units) or its end (all others)."""
  # The steps are differenced in float64: in float32 beta near 1 would hold only 2 of their digits.
  # Free energies of other units are differenced at two temperatures, which must be the same numbers
  # from step to step.
  return betas[:-1].astype(np.float32), (
    np.diff(betas) if is_binary(model) else betas[1:]).astype(np.float32)


def _machine_step(model: Machine, params, base_V):
  """A step of f_beta(v) = exp(-F(v)) of the machine `at` beta, between any two layers."""
  def body(chains, xs):
    key, beta, new_beta = xs
    key_h, key_v = jax.random.split(key)
    x_CH = chains.v_CV @ params.w_VH
    before, after = (at(model, params, base_V, b) for b in (beta, new_beta))
    # Unit by unit, so that large sums do not cancel.
    term_C = (_by_group(model.visible.log_base, model.visible, after.b_V, chains.v_CV)
              - _by_group(model.visible.log_base, model.visible, before.b_V, chains.v_CV)).sum(0)
    term_C += (_by_group(model.hidden.cumulant, model.hidden, after.c_H, new_beta * x_CH)
               - _by_group(model.hidden.cumulant, model.hidden, before.c_H, beta * x_CH)).sum(0)
    log_w_C, lost_C = compensated_add(chains.log_w_C, chains.lost_C, term_C)
    h_CH = model.hidden.sample(key_h, after.c_H, new_beta * x_CH)
    v_CV = model.visible.sample(key_v, after.b_V, new_beta * (h_CH @ params.w_VH.T))
    return _Chains(v_CV, log_w_C, lost_C), None

  return body


def _by_group(fn, layer, theta, x_CD) -> jax.Array:
  """fn(theta, x) of each group of units by itself, [G, C]; of units of several kinds, [1, C]."""
  if isinstance(layer, (joined.Labelled, joined.Joined)):
    return fn(theta, x_CD)[None]
  num = x_CD.shape[-1] // layer.group
  theta = jax.tree.map(lambda t: t.reshape(num, -1), theta)
  return jax.vmap(fn)(theta, x_CD.reshape(len(x_CD), num, -1).swapaxes(0, 1))


def _binary_step(params: rbm.Params, base_V):
  """A step beta -> beta + step of

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

  return body


_anneal_chunk = jax.jit(_anneal, static_argnames='model')


def _start(key, model: Machine, base_V, num_chains: int) -> _Chains:
  """v of the base, w = 1."""
  num_visible = len(units.bias_of(base_V))
  v_CV = model.visible.sample(key, base_V, jnp.zeros((num_chains, num_visible)))
  return _Chains(v_CV, jnp.zeros(num_chains), jnp.zeros(num_chains))


@functools.partial(jax.jit, static_argnames='model')
def base_log_partition(params, base_V, model: Machine = rbm) -> jax.Array:
  """log Z_0, nats: of Bernoulli units H log 2 + sum_i softplus(a_i), else the layers' cumulants."""
  if is_binary(model):
    return len(params.c_H) * jnp.log(2.0) + jnp.sum(jax.nn.softplus(base_V))
  visible, hidden = jnp.zeros(len(params.w_VH)), jnp.zeros(params.w_VH.shape[1])
  return (model.visible.cumulant(base_V, visible)
          + model.hidden.cumulant(at_rest(model, params), hidden))


def quick_log_partition(key, params, base_V, *, num_chains: int, betas,
                        model: Machine = rbm) -> jax.Array:
  """The estimate of `ais` as one pure function, for use inside jit while training; scalar nats."""
  key_base, key_steps = jax.random.split(key)
  log_w_C = _quick(key_steps, params, base_V, _start(key_base, model, base_V, num_chains), betas,
                   model)
  return (base_log_partition(params, base_V, model) + jax.nn.logsumexp(log_w_C)
          - jnp.log(num_chains))


def quick_bennett(key, params, base_V, start_CV, *, betas, burn_in: int = 100,
                  model: Machine = rbm) -> jax.Array:
  """Bennett's estimate of `bracket` as one pure function; scalar nats.

  Twice the work of quick_log_partition, which is worth it where the temperatures are too few for
  the model: forward annealing by itself then underestimates log Z by nats, and overestimates the
  likelihood by as much.
  """
  key_base, key_forward, key_burn, key_reverse = jax.random.split(key, 4)
  chains = _start(key_base, model, base_V, len(start_CV))
  forward_C = _quick(key_forward, params, base_V, chains, betas, model)
  v_CV = _burn(key_burn, params, jnp.asarray(start_CV, jnp.float32), burn_in, model)
  zero_C = jnp.zeros(len(v_CV))
  reverse_C = _quick(key_reverse, params, base_V, _Chains(v_CV, zero_C, zero_C), betas[::-1], model)

  def halve(_, ends):
    low, high = ends
    c = (low + high) / 2
    gap = jnp.mean(jax.nn.sigmoid(forward_C - c)) - jnp.mean(jax.nn.sigmoid(reverse_C + c))
    return jnp.where(gap > 0, c, low), jnp.where(gap > 0, high, c)

  both = jnp.concatenate([forward_C, -reverse_C])
  low, high = lax.fori_loop(0, 40, halve, (jnp.min(both), jnp.max(both)))
  return base_log_partition(params, base_V, model) + (low + high) / 2


def _quick(key, params, base_V, chains: _Chains, betas, model: Machine) -> jax.Array:
  """Log-weights [C] gathered along the temperatures."""
  chains = _anneal(key, params, base_V, chains,
                   _temperatures(model, np.asarray(betas, np.float64)), model)
  return chains.log_w_C - chains.lost_C


def ais(key, params, base_V, *, num_chains: int = 100, betas=None, chunk: int = 500,
        report: Callable[[str], None] | None = None, model: Machine = rbm) -> Estimate:
  """log Z of a machine, annealed from the visible layer's own distribution with all W = 0.

  Args:
    key: consumed.
    params: of the machine; w_VH [V, H].
    base_V: a, the base's visible parameters: `base_of` the data, of Bernoulli units the log-odds of
      their mean. Uniform ones (0) can miss by many nats with a small standard error.
    num_chains: C, annealed side by side.
    betas: increasing from 0 to 1; default salakhutdinov_murray().
    chunk: temperatures in one compiled program.
    report: called with a line of progress after each chunk.
    model: the layers; by default Bernoulli units in both.

  Returns:
    Estimate, in nats.

  Raises:
    ValueError: a schedule that does not increase from 0 to 1, or a base of the wrong width.
  """
  betas, base_V = _checked(params, base_V, betas, num_chains)
  walk = forward(key, params, base_V, num_chains, betas, chunk=chunk, report=report, model=model)
  return estimate(float(base_log_partition(params, base_V, model)), walk.log_w_C, len(betas) - 1)


class Bracket(NamedTuple):
  """log Z from both sides, in nats.

  Attributes:
    log_partition: Bennett's acceptance ratio, which weighs both directions.
    lower: Estimate from the base to the model, low in expectation.
    upper: Estimate from the model to the base, high in expectation so far as its starts follow
      p(v).
    contradicted: whether something else that is known contradicts the sides: the states in which
      both directions end differ (samplers.ends), or more mass was seen than the upper side has.
  """

  log_partition: float
  lower: Estimate
  upper: Estimate
  contradicted: bool = False


def bracket(key, params, base_V, start_CV, *, betas=None, burn_in: int = 1000, chunk: int = 500,
            report: Callable[[str], None] | None = None, model: Machine = rbm) -> Bracket:
  """log Z of a machine by forward and reverse annealing over the same temperatures.

  The reverse chains start from `start_CV` after `burn_in` Gibbs steps at the model itself. Give
  them training images: these share nothing with the forward chains, so a mode that annealing from
  the base never finds shows as a wide bracket instead of being missed by both sides.

  Args:
    key: consumed.
    params: of the machine; w_VH [V, H].
    base_V: the base's visible parameters, as for `ais`.
    start_CV: states of the visible layer [C, V]; C is the number of chains in each direction.
    betas: increasing from 0 to 1; default salakhutdinov_murray().
    burn_in: Gibbs steps.
    chunk: temperatures in one compiled program.
    report: called with a line of progress after each chunk.
    model: as for `ais`.

  Returns:
    Bracket, in nats.

  Raises:
    ValueError: as `ais`.
  """
  betas, base_V = _checked(params, base_V, betas, len(start_CV))
  key_ais, key_burn, key_path = jax.random.split(key, 3)
  go = dict(chunk=chunk, report=report, model=model)
  upwards = forward(key_ais, params, base_V, len(start_CV), betas, **go)
  v_CV = settled(key_burn, params, start_CV, burn_in, model=model)
  downwards = reverse(key_path, params, base_V, v_CV, betas, **go)
  return both_sides(float(base_log_partition(params, base_V, model)), upwards.log_w_C,
                    downwards.log_w_C, len(betas) - 1)


def both_sides(base: float, forward_C, reverse_C, num_temperatures: int) -> Bracket:
  """The bracket of log Z from forward and reverse log-weights; `base` is log Z_0."""
  above = estimate(-base, reverse_C, num_temperatures)
  return Bracket(base + bennett(forward_C, reverse_C), estimate(base, forward_C, num_temperatures),
                 above._replace(log_partition=-above.log_partition))


class Walk(NamedTuple):
  """Chains annealed in one direction, forward or reverse.

  Attributes:
    v_CV: their states at the model: the last ones of forward chains, the first ones of reverse
      chains.
    log_w_C: their log-weights, float64: of Z / Z_0 if forward, of Z_0 / Z if reverse.
  """

  v_CV: jax.Array
  log_w_C: np.ndarray


def forward(key, params, base_V, num_chains: int, betas, *, chunk: int = 500,
            report: Callable[[str], None] | None = None, name: str = 'ais',
            model: Machine = rbm) -> Walk:
  """Forward annealing, from the base to the model.

  The arguments are those of `ais`, except that betas must be given.
  """
  key_base, key_path = jax.random.split(key)
  base_V = _float32(base_V)
  return _walk(key_path, params, base_V, _start(key_base, model, base_V, num_chains), betas, chunk,
               report, name, model)


def reverse(key, params, base_V, v_CV, betas, *, chunk: int = 500,
            report: Callable[[str], None] | None = None, name: str = 'reverse ais',
            model: Machine = rbm) -> Walk:
  """Reverse annealing, from states of the model [C, V] to the base."""
  zero_C = jnp.zeros(len(v_CV))
  walk = _walk(key, params, _float32(base_V), _Chains(v_CV, zero_C, zero_C), betas[::-1], chunk,
               report, name, model)
  return Walk(v_CV, walk.log_w_C)


NUM_RESAMPLINGS = 50  # at most, of a population


def population(key, params, base_V, num_chains: int, betas, *,
               report: Callable[[str], None] | None = None, model: Machine = rbm
               ) -> tuple[Estimate, jax.Array]:
  """Population annealing: forward annealing that resamples where few weights count.

    log Z ~= log Z_0 + sum_s log (1/C) sum_c w_sc,    w_s the weights between two resamplings

  exp of it is unbiased, as that of `ais` is. Chains in a mode whose weight rises multiply, others
  end, so the population follows the mass. Resampled systematically, at most NUM_RESAMPLINGS times,
  where the effective sample size is below C / 2. The standard error is sqrt(sum_f s_f^2 - 1 / C),
  s_f the share of the final weights that descends from chain f; without resampling it is that of
  `ais`.

  Returns:
    (Estimate, final states [C, V]); the effective sample size is the number of families,
    1 / sum_f s_f^2.

  Hukushima & Iba (2003), Population annealing and its application to a spin glass; Wang, Machta &
  Katzgraber (2015), Population annealing: theory and application in spin glasses.
  """
  key_base, key_path, key_pick = jax.random.split(key, 3)
  base_V, num_steps = _float32(base_V), len(betas) - 1
  chains, steps = _start(key_base, model, base_V, num_chains), _temperatures(model, betas)
  every = -(-num_steps // NUM_RESAMPLINGS)
  family_C, total, times = np.arange(num_chains), 0.0, 0
  log_w_C = np.zeros(num_chains)
  for i, first in enumerate(range(0, num_steps, every)):
    chains = _anneal_chunk(jax.random.fold_in(key_path, i), params, base_V, devices.spread(chains),
                           tuple(x[first:first + every] for x in steps), model=model)
    log_w_C = np.asarray(chains.log_w_C, np.float64) - np.asarray(chains.lost_C, np.float64)
    if first + every < num_steps and effective_sample_size(log_w_C) < num_chains / 2:
      total, times = total + np.logaddexp.reduce(log_w_C) - np.log(num_chains), times + 1
      picked_C = _systematic(float(jax.random.uniform(jax.random.fold_in(key_pick, i))), log_w_C)
      family_C = family_C[picked_C]
      chains = _Chains(chains.v_CV[picked_C], jnp.zeros(num_chains), jnp.zeros(num_chains))
  if report:
    report(f'population annealing: {times} resamplings, {len(set(family_C))} of {num_chains} '
           'families left')
  w_C = np.exp(log_w_C - log_w_C.max())
  squares = float(np.sum((np.bincount(family_C, weights=w_C) / w_C.sum()) ** 2))
  error = (np.sqrt(max(squares - 1 / num_chains, 0) * num_chains / (num_chains - 1))
           if num_chains > 3 else np.nan)
  log_z = float(base_log_partition(params, base_V, model) + total
                + np.logaddexp.reduce(log_w_C) - np.log(num_chains))
  return Estimate(log_z, float(error), 1 / squares, total + log_w_C, num_steps), chains.v_CV


def _systematic(offset: float, log_w_C) -> np.ndarray:
  """C indices, index c about C w_c / sum w times: those of the points (offset + i) / C."""
  w_C = np.exp(log_w_C - np.max(log_w_C))
  points = (offset + np.arange(len(w_C))) / len(w_C)
  return np.minimum(np.searchsorted(np.cumsum(w_C) / w_C.sum(), points), len(w_C) - 1)


def settled(key, params, v_CV, num_steps: int, *, model: Machine = rbm) -> jax.Array:
  """v [C, V] after `num_steps` Gibbs steps at the model."""
  return _burn(key, params, devices.spread(jnp.asarray(v_CV, jnp.float32)), num_steps, model)


def _float32(theta):
  return jax.tree.map(lambda t: jnp.asarray(t, jnp.float32), theta)


def bennett(forward_C, reverse_C) -> float:
  """Bennett's acceptance ratio: c with mean_C sigma(forward - c) = mean_C sigma(reverse + c).

  c estimates log(Z / Z_0). forward_C are log-weights of forward chains, of Z / Z_0; reverse_C are
  as many of reverse chains, of Z_0 / Z.
  """
  def gap(c):
    return (np.mean(0.5 * (1 + np.tanh((forward_C - c) / 2)))
            - np.mean(0.5 * (1 + np.tanh((reverse_C + c) / 2))))

  # The gap falls with c and changes its sign between the extremes of all weights.
  low, high = (f(np.concatenate([forward_C, -reverse_C])) for f in (np.min, np.max))
  for _ in range(100):
    middle = (low + high) / 2
    low, high = (middle, high) if gap(middle) > 0 else (low, middle)
  return float((low + high) / 2)


def _checked(params, base_V, betas, num_chains: int):
  """(betas, base_V) as arrays; raises ValueError, see `ais`."""
  betas = schedule(betas)
  if num_chains < 1:
    raise ValueError(f'annealing needs at least one chain, got {num_chains}')
  require_base(params, base_V)
  return betas, _float32(base_V)


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


def require_base(params, base_V):
  """ValueError unless the base has the parameters of each visible unit."""
  if jax.tree.map(jnp.shape, base_V) != jax.tree.map(jnp.shape, params.b_V):
    shape = jnp.shape(base_V if hasattr(base_V, 'shape') else units.bias_of(base_V))
    raise ValueError(f'base biases {shape} for an RBM with {len(params.w_VH)} visible units')


def _walk(key, params, base_V, chains: _Chains, betas, chunk: int, report, name: str,
          model: Machine) -> Walk:
  """The states in which chains end, and the log-weights [C] that they accumulate."""
  steps = _temperatures(model, betas)
  num_steps, chains = len(betas) - 1, devices.spread(chains)
  for i, first in enumerate(range(0, num_steps, chunk)):
    chains = _anneal_chunk(jax.random.fold_in(key, i), params, base_V, chains,
                           tuple(x[first:first + chunk] for x in steps), model=model)
    if report:
      report(f'{name} {min(first + chunk, num_steps)}/{num_steps} temperatures, effective sample '
             f'size {effective_sample_size(np.asarray(chains.log_w_C)):.1f} of {len(chains.v_CV)}')
  return Walk(chains.v_CV,
              np.asarray(chains.log_w_C, np.float64) - np.asarray(chains.lost_C, np.float64))


@functools.partial(jax.jit, static_argnames=('num_steps', 'model'))
def _burn(key, params, v_CV, num_steps: int, model: Machine):
  key_hidden, key_gibbs = jax.random.split(key)
  chains = gibbs.Chains(v_CV, model.sample_hidden(key_hidden, params, v_CV))
  return gibbs.run(key_gibbs, model, params, chains, num_steps).v_CV


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
