"""Negative phases: the ways to E[. | model] in the gradient of a Boltzmann machine.

  reconstruction      CD-k: a few Gibbs steps from the data; biased
  persistent          PCD-k: chains that continue from update to update
  fast_persistent     PCD with a quickly decaying copy of the weights that drives chains on
  mean_field, tap     no sampling: fixed points of the first and second order of Plefka's expansion
  coupled             unbiased at any parameters: pairs of chains until they meet

and, with chains at other temperatures or times, gen_models.estimators.tempered.

`model` is as for gen_models.estimators.contrastive. Axis suffixes: B batch, C chains, V visible, H
hidden.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.estimators import base
from gen_models.models import gibbs, units
from gen_models.models.gibbs import Chains, Model


class Drawn(NamedTuple):
  """One draw of the negative phase.

  Attributes:
    v_CV: visible samples, or means that stand for them; each counts 1 / C.
    y_CH: v.W, the input that each gives to the hidden layer.
    correction: added to the moments <v h>, <v>, <h> of these rows, a tuple (w_VH, b_V, c_H);
      None for nothing.
    metrics: scalars.
  """

  v_CV: jax.Array
  y_CH: jax.Array
  correction: tuple | None = None
  metrics: dict = {}


class Init(Protocol):
  """The memory of a negative phase before the first step."""

  def __call__(self, key: jax.Array, model: Model, params: Any, /) -> base.Memory:
    """The memory; the key is consumed."""
    ...


class Sample(Protocol):
  """One draw of the negative phase."""

  def __call__(self, key: jax.Array, model: Model, params: Any, memory: base.Memory,
               y_BH: jax.Array, /) -> tuple[Drawn, base.Memory]:
    """(drawn, memory); y_BH is v.W of the data, the key is consumed."""
    ...


class Learn(Protocol):
  """The answer of a negative phase to the gradient it made."""

  def __call__(self, memory: base.Memory, grads: Any, /) -> base.Memory:
    """The memory after this update."""
    ...


class Negative(NamedTuple):
  """How the negative phase is drawn.

  Attributes:
    init: (key, model, params) -> base.Memory of what persists.
    sample: (key, model, params, memory, y_BH) -> (Drawn, memory); y_BH is v.W of the data.
    biased: whether the samples differ from p(v) however long params are held fixed.
    learn: (memory, grads) -> memory, updated by the gradient that it made; None for no update.
  """

  init: Init
  sample: Sample
  biased: bool
  learn: Learn | None = None


def reconstruction(steps: int = 1) -> Negative:
  """CD-k: v_1 = data; k alternations h_t ~ p(h | v_t), v_{t+1} ~ p(v | h_t).

  The negative phase is v_{k+1} with p(h_{k+1} | v_{k+1}) (Hinton, 2002).
  """
  require_steps(steps)

  def init(key, model, params):
    del key, model, params
    return base.Memory()

  def sample(key, model, params, memory, y_BH):
    key_h, key_gibbs, key_v = jax.random.split(key, 3)
    h_BH = model.hidden.sample(key_h, params.c_H, y_BH)
    if steps > 1:
      start = Chains(jnp.zeros((len(h_BH), len(params.w_VH))), h_BH)
      h_BH = gibbs.run(key_gibbs, model, params, start, steps - 1).h_CH
    v_BV = model.sample_visible(key_v, params, h_BH)
    return Drawn(v_BV, v_BV @ params.w_VH), memory

  return Negative(init, sample, biased=True)


def persistent(chains: int, steps: int = 1) -> Negative:
  """PCD-k: `chains` Gibbs chains that continue from one update to the next, k Gibbs steps each.

  Also called stochastic maximum likelihood. With params held still the chains reach p(v)
  and the gradient is unbiased; while params move they lag (Younes, 1999; Tieleman, 2008).
  """
  require_steps(steps)
  require_chains(chains)

  def init(key, model, params):
    return base.Memory(gibbs.init_chains(key, model, params, chains))

  def sample(key, model, params, memory, y_BH):
    del y_BH
    drawn, state = advance(key, model, params, memory.chains, steps)
    return drawn, base.Memory(state)

  return Negative(init, sample, biased=False)


def advance(key, model, params, chains, steps: int):
  """(Drawn, chains) after `steps` Gibbs steps."""
  key_gibbs, key_v, key_h = jax.random.split(key, 3)
  if steps > 1:
    chains = gibbs.run(key_gibbs, model, params, chains, steps - 1)
  v_CV = model.sample_visible(key_v, params, chains.h_CH)
  y_CH = v_CV @ params.w_VH
  return Drawn(v_CV, y_CH), Chains(v_CV, model.hidden.sample(key_h, params.c_H, y_CH))


def fast_persistent(chains: int, steps: int = 1, fast_rate: float = 0.01,
                    decay: float = 0.95) -> Negative:
  """FPCD: chains run on params + fast, fast <- decay fast - fast_rate grads.

  The fast weights raise the energy wherever chains linger and so drive them on, long before the
  regular weights would. With params fixed and chains in equilibrium they average to 0, but the
  chains are those of another machine: biased. Tieleman & Hinton (2009), Using fast weights to
  improve persistent contrastive divergence.

  Args:
    chains, steps: as of `persistent`.
    fast_rate: learning rate of the fast weights; may be traced.
    decay: what is left of them after an update, 19/20 in the paper; may be traced.
  """
  require_steps(steps)
  require_chains(chains)

  def init(key, model, params):
    return base.Memory(gibbs.init_chains(key, model, params, chains),
                       jax.tree.map(jnp.zeros_like, params))

  def sample(key, model, params, memory, y_BH):
    del y_BH
    driven = jax.tree.map(jnp.add, params, memory.shared)
    drawn, state = advance(key, model, driven, memory.chains, steps)
    # Their states are chance, their conditional p(h | v) that of the model.
    return drawn._replace(y_CH=drawn.v_CV @ params.w_VH), memory._replace(chains=state)

  def learn(memory, grads):
    return memory._replace(shared=jax.tree.map(
      lambda fast, g: decay * fast - fast_rate * g, memory.shared, grads))

  return Negative(init, sample, True, learn)


def mean_field(chains: int = 1, iterations: int = 10, damping: float = 0.5) -> Negative:
  """v and h independent: m_v = sigma(b + W.m_h), m_h = sigma(c + m_v.W), <v h> = m_v m_h.

  The fixed points are followed from update to update, one from each of `chains` random starts.
  Peterson & Anderson (1987); Welling & Hinton (2002), A new learning algorithm for mean field
  Boltzmann machines.

  Args:
    chains: fixed points, averaged.
    iterations: of the damped map, an update.
    damping: the share of the old value that an iteration keeps, in [0, 1).
  """
  return _fixed_point(chains, iterations, damping, second_order=False)


def tap(chains: int = 1, iterations: int = 10, damping: float = 0.5) -> Negative:
  """mean_field to second order in W (Thouless, Anderson & Palmer, 1977; Plefka, 1982):

    m_h = sigma(c + m_v.W - (m_h - 1/2) (m_v - m_v^2).W^2), likewise m_v,
    <v h> = m_v m_h + W (m_v - m_v^2) (m_h - m_h^2).

  Gabrie, Tramel & Krzakala (2015), Training restricted Boltzmann machines via the
  Thouless-Anderson-Palmer free energy. Arguments as of mean_field.
  """
  return _fixed_point(chains, iterations, damping, second_order=True)


def _fixed_point(num_points: int, iterations: int, damping: float, second_order: bool) -> Negative:
  require_steps(iterations)
  require_chains(num_points)

  def init(key, model, params):
    require_binary(model, 'mean-field and TAP')
    key_v, key_h = jax.random.split(key)
    return base.Memory(Chains(jax.random.uniform(key_v, (num_points, len(params.w_VH))),
                              jax.random.uniform(key_h, (num_points, len(params.c_H)))))

  def field(theta, y, m, other_variance, square):
    """The input of a unit, less its own reflection from the other layer."""
    return theta + y - ((m - 0.5) * (other_variance @ square) if second_order else 0.0)

  def sample(key, model, params, memory, y_BH):
    del key, y_BH
    w_VH, b_V, c_H = params
    square_VH = w_VH**2 if second_order else None

    def iterate(m, _):
      v, h = m.v_CV, m.h_CH
      new_v = jax.nn.sigmoid(field(b_V, h @ w_VH.T, v, h - h**2,
                                   None if square_VH is None else square_VH.T))
      v = damping * v + (1 - damping) * new_v
      new_h = jax.nn.sigmoid(field(c_H, v @ w_VH, h, v - v**2, square_VH))
      change = jnp.max(jnp.abs(new_h - h))
      return Chains(v, damping * h + (1 - damping) * new_h), change

    m, change = lax.scan(iterate, memory.chains, None, length=iterations)
    v, h = m.v_CV, m.h_CH
    correction = None
    if second_order:
      # By the rows at hand: under pmap a device holds a share of the points.
      correction = (w_VH * ((v - v**2).T @ (h - h**2)) / len(v), 0.0, 0.0)
    drawn = Drawn(v, units.log_odds(h, 0.0) - c_H, correction, {'fixed_point_change': change[-1]})
    return drawn, base.Memory(m)

  return Negative(init, sample, biased=True)


def coupled(chains: int, steps: int = 1, max_steps: int = 1000) -> Negative:
  """E[f] = E[f(x_k) + sum_{t=k+1}^{tau-1} (f(x_t) - f(y_{t-1}))], x_t and y_t of one law: unbiased.

  Two chains run from v drawn from the visible biases, y one Gibbs step behind x, coupled so
  that they meet (x_tau = y_{tau-1}) and stay together: every unit of both is drawn by one uniform
  number. Nothing is remembered between updates and no burn-in is left out; the price is a random
  number of Gibbs steps and now and then a large correction.

  Jacob, O'Leary & Atchade (2020), Unbiased Markov chain Monte Carlo methods with couplings; Qiu,
  Zhang & Wang (2020), Unbiased contrastive divergence algorithm for training energy-based latent
  variable models.

  Args:
    chains: independent pairs, averaged.
    steps: k, Gibbs steps before the first f counts: more of them, less variance.
    max_steps: where a pair that has not met is given up, which biases; the metric `met` says how
      many did.
  """
  require_steps(steps)
  require_chains(chains)
  if max_steps <= steps:
    raise ValueError(f'coupled chains need max_steps > steps, got {max_steps} and {steps}')

  def init(key, model, params):
    del key, params
    require_binary(model, 'coupled chains')
    return base.Memory()

  def sample(key, model, params, memory, y_BH):
    del y_BH
    w_VH, b_V, c_H = params

    def one_step(key, h_CH):
      key_v, key_h = jax.random.split(key)
      v_CV = model.sample_visible(key_v, params, h_CH)
      return v_CV, model.sample_hidden(key_h, params, v_CV)

    def weighted_moments(v_CV, weight_C):
      p_CH = model.hidden_mean(params, v_CV) * weight_C[:, None] / chains
      return (v_CV.T @ p_CH, weight_C @ v_CV / chains, jnp.sum(p_CH, axis=0))

    key_x, key_y, key_first, key_run = jax.random.split(key, 4)
    x = gibbs.init_chains(key_x, model, params, chains)
    y = gibbs.init_chains(key_y, model, params, chains)
    x = Chains(*one_step(key_first, x.h_CH))  # x_1 beside y_0
    zeros = jax.tree.map(jnp.zeros_like, (w_VH, b_V, c_H))
    state = debiased(key_run, one_step, weighted_moments, x, y, zeros, steps, max_steps)
    metrics = {'met': 1 - jnp.mean(state.apart_C), 'sweeps_to_meet': state.steps}
    return Drawn(state.drawn_CV, state.drawn_CV @ w_VH, state.correction, metrics), memory

  return Negative(init, sample, biased=False)


class Pairs(NamedTuple):
  """Pairs of coupled chains.

  Attributes:
    time: t; x is at t, y at t - 1.
    x, y: gibbs.Chains.
    apart_C: 1 where the pair has not met, else 0.
    correction: sum of f(x_t) - f(y_{t-1}) so far.
    drawn_CV: x_k.
    steps: Gibbs steps until they met, a mean over pairs.
  """

  time: jax.Array
  x: Chains
  y: Chains
  apart_C: jax.Array
  correction: Any
  drawn_CV: jax.Array
  steps: jax.Array


def debiased(key, one_step, weighted_moments, x: Chains, y: Chains, zeros, steps: int,
             max_steps: int) -> Pairs:
  """Pairs run until they meet, with the debiasing sum of `coupled`.

  Args:
    key: consumed.
    one_step: (key, h_CH) -> (v_CV, h_CH), such that one key draws all units by the same uniform
      numbers whatever h is.
    weighted_moments: (v_CV, weight_C) -> the sum over chains of weight times f.
    x: at time 1.
    y: at time 0, of the law that x had then.
    zeros: a sum of no moments.
    steps: k.
    max_steps: where a pair that has not met is given up.
  """
  def advance_pair(state: Pairs) -> Pairs:
    # One key for both: the same uniform number decides the same unit of x and of y.
    key_t = jax.random.fold_in(key, state.time)
    x, y = (Chains(*one_step(jax.random.clone(key_t), c.h_CH)) for c in (state.x, state.y))
    time = state.time + 1
    # Two that have met move as one; f(x_t) - f(y_{t-1}) counts from t = k + 1 on, until then.
    same_C = jnp.all(x.v_CV == y.v_CV, axis=-1) & jnp.all(x.h_CH == y.h_CH, axis=-1)
    apart_C = state.apart_C * (1 - same_C.astype(jnp.float32))
    counts_C = apart_C * (time > steps).astype(jnp.float32)
    plus, minus = weighted_moments(x.v_CV, counts_C), weighted_moments(y.v_CV, counts_C)
    correction = jax.tree.map(lambda c, p, m: c + p - m, state.correction, plus, minus)
    drawn_CV = jnp.where(time == steps, x.v_CV, state.drawn_CV)
    return Pairs(time, x, y, apart_C, correction, drawn_CV, state.steps + jnp.mean(apart_C))

  def going(state: Pairs):
    return (state.time < steps) | ((jnp.sum(state.apart_C) > 0) & (state.time < max_steps))

  return lax.while_loop(going, advance_pair, Pairs(
    jnp.ones((), jnp.int32), x, y, jnp.ones(len(x.v_CV)), zeros, x.v_CV, jnp.ones(())))


def require_binary(model, what: str):
  """ValueError unless both layers are Bernoulli."""
  if model.visible != units.BERNOULLI or model.hidden != units.BERNOULLI:
    raise ValueError(f'{what} are written for Bernoulli units in both layers, not '
                     f'{model.visible} and {model.hidden}: use another negative phase')


def require_steps(steps: int):
  """ValueError unless there is a step."""
  if steps < 1:
    raise ValueError(f'the negative phase needs steps >= 1, got {steps}')


def require_chains(chains: int):
  """ValueError unless there is a chain."""
  if chains < 1:
    raise ValueError(f'the negative phase needs chains >= 1, got {chains}')
