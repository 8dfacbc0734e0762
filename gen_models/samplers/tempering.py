"""Chains that swap along a ladder of machines: over temperatures, or along a training run.

A ladder is a sequence of machines: rung 0 is easy to draw from and the last one is the model. Every
rung has its own state, and the joint distribution is prod_r p_r(v_r, h_r): each step draws h | v
and v | h on every rung, and neighbours r, r + 1 swap v with probability

  min(1, exp(forward + reverse)),    forward = F_r(v_r) - F_{r+1}(v_r),
                                     reverse = F_{r+1}(v_{r+1}) - F_r(v_{r+1}),

F the free energies: h is summed out and drawn again after the swap. A state that a single machine
would never leave is carried down to rungs that mix, and others come up. `scaled` makes the rungs
one machine at rising inverse temperatures; `stacked` takes any machines of one shape, such as
snapshots of a training run, along which a mode can appear gradually that appears abruptly as the
temperature falls.

The two numbers that decide a swap also measure log Z, since E_r[exp(forward)] = Z_{r+1} / Z_r and
E_{r+1}[exp(reverse)] = Z_r / Z_{r+1}:

  lower   log Z_0 + sum_r log mean exp(forward)     low in expectation, by Jensen
  upper   log Z_0 - sum_r log mean exp(reverse)     high in expectation

and Bennett's acceptance ratio of each pair between them. A ladder that has not mixed is blind to
what it never visits, on both sides alike. So `bracket` runs two: forward is measured on a ladder
initialised from rung 0 upwards, reverse on one initialised from data at the model downwards, and
mass that only one of them has seen shows as a wide bracket. Where modes gain and lose weight from
rung to rung faster than chains carry the change, the sums err the other way, and the sides cross.

Swendsen & Wang (1986), Replica Monte Carlo simulation of spin-glasses; Geyer (1991), Markov chain
Monte Carlo maximum likelihood; Bennett (1976), Efficient estimation of free energy differences;
Desjardins, Courville, Bengio, Vincent & Delalleau (2010), Tempered Markov chain Monte Carlo for
training of restricted Boltzmann machines; Bereux, Decelle, Furtlehner, Rosset & Seoane (2025),
Fast training and sampling of restricted Boltzmann machines (swaps along a training run).

Axis suffixes: R rungs, P = R - 1 pairs of neighbours, C chains, V visible, H hidden, T steps.
params_R are parameters of which every array has the leading axis R. Nats.

`model` is a machine of any two layers, as in gen_models.samplers.annealing; by default Bernoulli
units in both.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import bits, gibbs, rbm, units
from gen_models.samplers import annealing
from gen_models.samplers.annealing import Machine

_MAX_ENUMERATED_UNITS = 20  # of a first rung with W; a second of work


class Ladder(NamedTuple):
  """State: for each chain a sample (v, h) on every rung. Chains are independent of each other."""

  v_RCV: jax.Array
  h_RCH: jax.Array


class Work(NamedTuple):
  """The work of moving a state to the neighbouring machine, in nats, at one step [P, C].

  Attributes:
    forward_PC: log f_{r+1}(v_r) - log f_r(v_r), with f = exp(-F) and r = 0, ..., R - 2.
    reverse_PC: log f_r(v_{r+1}) - log f_{r+1}(v_{r+1}).
  """

  forward_PC: jax.Array
  reverse_PC: jax.Array


# Machines.


def scaled(params, base_V, betas, *, model: Machine = rbm):
  """W_r = beta_r W, c_r = beta_r c, b_r = (1 - beta_r) a + beta_r b: the family of annealing.ais.

  Layers with more parameters than a bias go the way of annealing.at.

  Args:
    params: of the model, w_VH [V, H].
    base_V: a, the visible parameters at beta = 0: annealing.base_of the data, or b itself.
    betas: R of them, strictly increasing to 1 from something in [0, 1).
    model: the layers.

  Returns:
    params_R, the last rung being the model.

  Raises:
    ValueError: the temperatures do not increase so, or the base has the wrong width.
  """
  betas = check_temperatures(betas)
  annealing.require_base(params, base_V)
  if not annealing.is_binary(model):
    return stacked([annealing.at(model, params, base_V, beta) for beta in betas.astype(np.float32)])
  # At beta = 1 the weight of the base is exactly 0.
  beta_R, rest_R = jnp.float32(betas), jnp.float32(1 - betas)
  return rbm.Params(beta_R[:, None, None] * params.w_VH,
                    rest_R[:, None] * base_V + beta_R[:, None] * params.b_V,
                    beta_R[:, None] * params.c_H)


class Scaled(NamedTuple):
  """The binary machines of `scaled`, stored once: rungs share one W, so they share its products.

  `step` and `run` do the same with it as with scaled(...), at half the products and a fraction of
  the memory.
  """

  params: rbm.Params
  base_V: jax.Array
  beta_R: jax.Array

  @property
  def b_V(self) -> jax.Array:
    """Visible biases of all rungs, [R, V]."""
    beta_R1 = self.beta_R[:, None]
    return (1 - beta_R1) * self.base_V + beta_R1 * self.params.b_V


def check_temperatures(betas) -> np.ndarray:
  """betas in float64; ValueError unless they increase strictly to 1 from something in [0, 1)."""
  betas = np.asarray(betas, np.float64)
  if (betas.ndim != 1 or len(betas) < 2 or betas[0] < 0 or betas[-1] != 1
      or not np.all(np.diff(betas) > 0)):
    raise ValueError('a temperature ladder ends at 1: it increases to it from something in [0, 1); '
                     'this one does not')
  return betas


def stacked(machines: Sequence[Any]):
  """params_R of machines [V, H] of one shape, the model last."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *machines)


def independent(base_V, num_hidden: int, *, model: Machine = rbm):
  """W = 0, c without bias, b = a: a first rung with exact draws and a known Z."""
  base_V = jax.tree.map(lambda t: jnp.asarray(t, jnp.float32), base_V)
  of: Any = model
  params: Any = rbm.Params if annealing.is_binary(model) else of.Params
  return params(jnp.zeros((len(units.bias_of(base_V)), num_hidden)), base_V,
                units.unbiased(model.hidden, num_hidden))


# Sampling.


def init(key, params_R, num_chains: int, *, model: Machine = rbm) -> Ladder:
  """On every rung v of the visible layer with b of rung 0, W = 0; then h ~ p_r(h | v)."""
  _require_rungs(params_R)
  if num_chains < 1:
    raise ValueError(f'a ladder needs at least one chain, got {num_chains}')
  key_v, key_h = jax.random.split(key)
  rungs, num_visible, _ = params_R.w_VH.shape
  if not annealing.is_binary(model):
    b_V = jax.tree.map(lambda t: t[0], params_R.b_V)
    v_RCV = model.visible.sample(key_v, b_V, jnp.zeros((rungs, num_chains, num_visible)))
    keys = jax.random.split(key_h, rungs)
    return Ladder(v_RCV, jax.vmap(model.sample_hidden)(keys, params_R, v_RCV))
  p_RCV = jnp.broadcast_to(jax.nn.sigmoid(params_R.b_V[0]), (rungs, num_chains, num_visible))
  v_RCV = bits.bernoulli(key_v, p_RCV)
  h_RCH = bits.bernoulli(key_h, jax.nn.sigmoid(jax.vmap(rbm.hidden_input)(params_R, v_RCV)))
  return Ladder(v_RCV, h_RCH)


def passed_on(key, params_R, v_CV, num_steps: int, *, down: bool = False,
              model: Machine = rbm) -> Ladder:
  """A ladder initialised rung by rung: each takes `num_steps` Gibbs steps from the one below.

  It begins with v at rung 0 and goes up; with `down` it begins with v at the last rung and goes
  down. A chain that cannot cross a barrier stays in the mode it came from, so the ladder represents
  the model too little on the way up and rung 0 too little on the way down: each errs to the side of
  the bracket that `bracket` uses it for. Rungs that all start from the same states may err to
  either side.
  """
  def body(v_CV, xs):
    key, params = xs
    key_h, key_gibbs = jax.random.split(key)
    chains = gibbs.Chains(v_CV, model.sample_hidden(key_h, params, v_CV))
    chains = gibbs.run(key_gibbs, model, params, chains, num_steps)
    return chains.v_CV, chains

  _require_rungs(params_R)
  keys = jax.random.split(key, len(params_R.w_VH))
  return Ladder(*lax.scan(body, jnp.asarray(v_CV, jnp.float32), (keys, params_R), reverse=down)[1])


def step(key, params_R: Any, ladder: Ladder, *, model: Machine = rbm) -> tuple[Ladder, Work]:
  """One Gibbs step of all rungs, with swaps of the even pairs and then of the odd ones.

  v ~ p_r(v | h); pairs (0, 1), (2, 3), ... exchange their v, then (1, 2), (3, 4), ...;
  h ~ p_r(h | v). Leaves prod_r p_r(v_r, h_r) invariant. Costs two batched products [R, C, V] x
  [R, V, H] of Gibbs and one for each set of pairs; of Scaled machines, only the two of Gibbs.

  Args:
    key: consumed.
    params_R: the machines; of binary ones also Scaled.
    ladder: as of `init`.
    model: their layers.

  Returns:
    (ladder, work), the work of each pair measured just before its swap.
  """
  ladder, work, _ = step_with_labels(key, params_R, ladder, model=model)
  return ladder, work


def step_with_labels(key, params_R: Any, ladder: Ladder, label_RC=None, *,
                     model: Machine = rbm) -> tuple[Ladder, Work, jax.Array]:
  """`step`; label_RC belong to the states v and move with them: (ladder, work, labels)."""
  key_v, key_h, *keys = jax.random.split(key, 4)
  binary = annealing.is_binary(model)
  if binary:
    v_RCV = bits.bernoulli(key_v, jax.nn.sigmoid(_visible_input(params_R, ladder.h_RCH)))
  else:
    keys_R = jax.random.split(key_v, len(params_R.w_VH))
    v_RCV = jax.vmap(model.sample_visible)(keys_R, params_R, ladder.h_RCH)
  state = _evaluated(params_R, v_RCV, _projected(params_R, v_RCV), model, label_RC)
  num_pairs = len(ladder.v_RCV) - 1
  works, pairs = [], []
  for parity in range(min(2, num_pairs)):
    state, work = _exchange(keys[parity], params_R, state, parity, model)
    works.append(work)
    pairs.append(np.arange(parity, num_pairs, 2))
  order_P = np.argsort(np.concatenate(pairs))
  work = jax.tree.map(lambda *parts: jnp.concatenate(parts)[order_P], *works)
  if binary:
    h_RCH = bits.bernoulli(key_h, jax.nn.sigmoid(_hidden_input(params_R, state.u_RCH)))
  else:
    keys_R = jax.random.split(key_h, len(params_R.w_VH))
    h_RCH = jax.vmap(model.hidden.sample)(keys_R, params_R.c_H, state.u_RCH)
  return Ladder(state.v_RCV, h_RCH), work, state.label_RC


def turned(trip_RC) -> tuple[jax.Array, jax.Array]:
  """(labels, round trips completed) after a step, of the labels that `step_with_labels` moves.

  0: has not been on rung 0 yet; 1: was last there; 2: has been on the last rung since. A state that
  comes to rung 0 with a 2 has made a round trip.
  """
  done = jnp.sum(trip_RC[0] == 2)
  trip_RC = trip_RC.at[0].set(1)
  return trip_RC.at[-1].set(jnp.where(trip_RC[-1] == 0, 0, 2)), done


def run(key, params_R: Any, ladder: Ladder, num_steps: int, *,
        model: Machine = rbm) -> tuple[Ladder, Work]:
  """`num_steps` of `step` as one lax.scan; work [T, P, C]."""
  def body(ladder, key):
    return step(key, params_R, ladder, model=model)
  return lax.scan(body, ladder, jax.random.split(key, num_steps))


def acceptance(work: Work) -> jax.Array:
  """mean min(1, exp(forward + reverse)), [P]: the fraction of swaps accepted, for each pair.

  A pair near 0 is a gap in the ladder: no state passes it.
  """
  p = jnp.exp(jnp.minimum(0.0, work.forward_PC + work.reverse_PC))
  return jnp.mean(p, axis=tuple(i for i in range(p.ndim) if i != p.ndim - 2))


class _Evaluated(NamedTuple):
  v_RCV: jax.Array
  u_RCH: jax.Array  # the input of the hidden units without their biases, `_projected`
  f_RC: jax.Array  # F_r(v)
  label_RC: jax.Array  # moves with v


def _visible_input(params_R, h_RCH) -> jax.Array:
  """b_r + W_r.h."""
  if isinstance(params_R, Scaled):
    w_HV = params_R.params.w_VH.T
    y_RCV = (h_RCH.reshape(-1, len(w_HV)) @ w_HV).reshape(*h_RCH.shape[:-1], -1)
    return params_R.beta_R[:, None, None] * y_RCV + params_R.b_V[:, None]
  return jax.vmap(rbm.visible_input)(params_R, h_RCH)


def _projected(params_R, v_RCV) -> jax.Array:
  """v.W_r; for Scaled machines v.W, which is the same on all rungs."""
  if isinstance(params_R, Scaled):
    w_VH = params_R.params.w_VH
    return (v_RCV.reshape(-1, len(w_VH)) @ w_VH).reshape(*v_RCV.shape[:-1], -1)
  return v_RCV @ params_R.w_VH


def _hidden_input(params_R, u_RCH) -> jax.Array:
  """c_r + v.W_r."""
  if isinstance(params_R, Scaled):
    return params_R.beta_R[:, None, None] * (u_RCH + params_R.params.c_H)
  return u_RCH + params_R.c_H[:, None]


def _evaluated(params_R, v_RCV, u_RCH, model: Machine = rbm, label_RC=None) -> _Evaluated:
  if label_RC is None:
    label_RC = jnp.zeros(v_RCV.shape[:2], jnp.int32)
  if not annealing.is_binary(model):
    f_RC = -(jax.vmap(model.visible.log_base)(params_R.b_V, v_RCV)
             + jax.vmap(model.hidden.cumulant)(params_R.c_H, u_RCH))
    return _Evaluated(v_RCV, u_RCH, f_RC, label_RC)
  y_RCH = _hidden_input(params_R, u_RCH)
  # Sums as products, whose order does not change under vmap: see mean_rows.
  f_RC = -(jnp.einsum('rcv,rv->rc', v_RCV, params_R.b_V)
           + jax.nn.softplus(y_RCH) @ jnp.ones(y_RCH.shape[-1]))
  return _Evaluated(v_RCV, u_RCH, f_RC, label_RC)


def _exchange(key, params_R, state: _Evaluated, parity: int,
              model: Machine = rbm) -> tuple[_Evaluated, Work]:
  """Swaps v of rungs (r, r + 1), r = parity, parity + 2, ...; work of these pairs."""
  rungs, chains, _ = state.v_RCV.shape
  low_P = np.arange(parity, rungs - 1, 2)
  partner_R, pair_R = np.arange(rungs), np.zeros(rungs, int)
  partner_R[low_P], partner_R[low_P + 1] = low_P + 1, low_P
  pair_R[low_P] = pair_R[low_P + 1] = np.arange(len(low_P))
  v_RCV = state.v_RCV[partner_R]
  shared = isinstance(params_R, Scaled)
  other = _evaluated(params_R, v_RCV,
                     state.u_RCH[partner_R] if shared else _projected(params_R, v_RCV), model,
                     state.label_RC[partner_R])
  work = Work(state.f_RC[low_P] - other.f_RC[low_P + 1], state.f_RC[low_P + 1] - other.f_RC[low_P])
  # An exponential variable is -log of a uniform one, and never infinite.
  log_accept_PC = work.forward_PC + work.reverse_PC
  accepted_PC = jax.random.exponential(key, (len(low_P), chains)) >= -log_accept_PC
  swapped_RC = accepted_PC[pair_R] & (partner_R != np.arange(rungs))[:, None]
  state = jax.tree.map(
    lambda new, old: jnp.where(swapped_RC.reshape(rungs, chains, *(1,) * (old.ndim - 2)), new, old),
    other, state)
  return state, work


def _require_rungs(params_R):
  if params_R.w_VH.ndim != 3 or len(params_R.w_VH) < 2:
    raise ValueError('a ladder needs at least two machines stacked on a leading axis, got w_VH '
                     f'{params_R.w_VH.shape}')


# Log Z.


def bracket(key, params_R, start_CV, *, num_steps: int = 1000, burn_in: int = 1000,
            chunk: int = 100, report: Callable[[str], None] | None = None,
            model: Machine = rbm) -> annealing.Bracket:
  """log Z of the last rung, from ladders that start at rung 0 and at `start_CV`.

  Standard errors are those between independent chains, from each chain's mean over its steps, so
  correlation from step to step and from rung to rung is accounted for. The effective sample size is
  that of the chains' mean weights at the pair where it is smallest, so it is at most C however many
  steps there are.

  Args:
    key: consumed.
    params_R: the machines; the first has W = 0 (`scaled` from beta = 0, `independent`) or at most
      20 units in its smaller layer.
    start_CV: visible states [C, V], training images; C is the number of chains of either ladder.
    num_steps: T, the measured steps of each ladder.
    burn_in: steps of each ladder before them; as many more, divided among the rungs, initialise the
      ladder (`passed_on`).
    chunk: steps in one compiled program.
    report: called with a line of progress after each chunk.
    model: the layers.

  Returns:
    annealing.Bracket: `lower` is low and `upper` high in expectation as far as each ladder has
    reached equilibrium; log_weights_C is the sum over pairs of each chain's log mean weight;
    num_temperatures is the number of pairs.

  Raises:
    ValueError: one rung, no step, or a first rung of unknown Z.
  """
  return bracket_and_ends(key, params_R, start_CV, num_steps=num_steps, burn_in=burn_in,
                          chunk=chunk, report=report, model=model)[0]


def bracket_and_ends(key, params_R, start_CV, *, num_steps: int = 1000,
                     burn_in: int = 1000, chunk: int = 100,
                     report: Callable[[str], None] | None = None, model: Machine = rbm
                     ) -> tuple[annealing.Bracket, jax.Array]:
  """`bracket`, and the states at the model with which the two ladders end, [2 C, V]."""
  start_CV = jnp.asarray(start_CV, jnp.float32)
  _require_rungs(params_R)
  if num_steps < 1 or burn_in < 0:
    raise ValueError(f'measured steps must be at least 1 and burn-in 0, got {num_steps} and '
                     f'{burn_in}')
  base = base_log_partition(params_R, model=model)
  key_init, key_up, key_forward, key_down, key_reverse = jax.random.split(key, 5)
  first = init(key_init, params_R, len(start_CV), model=model)
  steps_a_rung = max(1, burn_in // len(params_R.w_VH))
  measure = functools.partial(_measured, params_R=params_R, num_steps=num_steps, burn_in=burn_in,
                              chunk=chunk, report=report, model=model)
  up, work = measure(key_forward, _passed_on(key_up, params_R, first.v_RCV[0], steps_a_rung,
                                             model=model),
                     name='ladder from the base')
  forward_TPC = work.forward_PC
  down, work = measure(key_reverse, _passed_on(key_down, params_R, start_CV, steps_a_rung,
                                                     down=True, model=model),
                       name='ladder from the data')
  reverse_TPC = work.reverse_PC
  lower, upper = one_sided(base, forward_TPC), one_sided(-base, reverse_TPC)
  middle = base + sum(annealing.bennett(forward_TPC[:, p].ravel(), reverse_TPC[:, p].ravel())
                      for p in range(forward_TPC.shape[1]))
  sides = annealing.Bracket(middle, lower, upper._replace(log_partition=-upper.log_partition))
  return sides, jnp.concatenate([up.v_RCV[-1], down.v_RCV[-1]])


def base_log_partition(params_R, *, model: Machine = rbm) -> float:
  """log Z of rung 0, nats: in closed form where W = 0, else by enumeration.

  Raises:
    ValueError: W is not 0 and both layers have more than 20 units.
  """
  first = jax.tree.map(lambda leaf: leaf[0], params_R)
  if not annealing.is_binary(model):
    if np.any(first.w_VH):
      raise ValueError('log Z of the first rung is not known: put a machine with W = 0 before it, '
                       'tempering.independent')
    return float(model.visible.cumulant(first.b_V, jnp.zeros(len(first.w_VH)))
                 + model.hidden.cumulant(first.c_H, jnp.zeros(first.w_VH.shape[1])))
  if not np.any(first.w_VH):
    return float(sum(np.logaddexp(0, np.asarray(bias, np.float64)).sum()
                     for bias in (first.b_V, first.c_H)))
  if min(first.w_VH.shape) > _MAX_ENUMERATED_UNITS:
    raise ValueError('log Z of the first rung is not known: put a machine with W = 0 before it, '
                     'tempering.independent')
  return float(_log_partition(first))


_log_partition = jax.jit(rbm.log_partition)
_passed_on = jax.jit(passed_on, static_argnames=('num_steps', 'down', 'model'))
_run = jax.jit(run, static_argnames=('num_steps', 'model'))


@functools.partial(jax.jit, static_argnames=('num_steps', 'model'))
def _burn(key, params_R, ladder, num_steps, model):
  return run(key, params_R, ladder, num_steps, model=model)[0]


def _measured(key, ladder: Ladder, *, params_R, num_steps, burn_in, chunk, report, name,
              model: Machine) -> tuple[Ladder, Work]:
  """The final ladder, and the work of `num_steps` steps after `burn_in`, [T, P, C], float64."""
  key_burn, key_run = jax.random.split(key)
  for i, first in enumerate(range(0, burn_in, chunk)):
    ladder = _burn(jax.random.fold_in(key_burn, i), params_R, ladder, min(chunk, burn_in - first),
                   model)
    if report:
      report(f'{name} {min(first + chunk, burn_in)}/{burn_in} steps of burn-in')
  parts = []
  for i, first in enumerate(range(0, num_steps, chunk)):
    ladder, work = _run(jax.random.fold_in(key_run, i), params_R, ladder,
                        min(chunk, num_steps - first), model=model)
    parts.append(jax.tree.map(lambda x: np.asarray(x, np.float64), work))
    if report:
      rate_P = np.asarray(acceptance(work))
      report(f'{name} {min(first + chunk, num_steps)}/{num_steps} steps, swaps accepted '
             f'{rate_P.mean():.2f}, of the worst pair {rate_P.min():.2f}')
  return ladder, jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def one_sided(base_log_partition: float, log_w_TPC: np.ndarray | jax.Array) -> annealing.Estimate:
  """log Z_0 + sum_p log m_p, m_p the mean of m_pc = mean_t w_tpc; sd of sum_p m_pc / m_p over c."""
  mean_PC = np.logaddexp.reduce(log_w_TPC, axis=0) - np.log(len(log_w_TPC))
  num_chains = mean_PC.shape[1]
  mean_P = np.logaddexp.reduce(mean_PC, axis=1) - np.log(num_chains)
  sum_C = np.exp(mean_PC - mean_P[:, None]).sum(0)
  error = sum_C.std(ddof=1) / np.sqrt(num_chains) if num_chains > 1 else float('nan')
  return annealing.Estimate(
    base_log_partition + float(mean_P.sum()), float(error),
    min(annealing.effective_sample_size(row_C) for row_C in mean_PC), mean_PC.sum(0), len(mean_P))
