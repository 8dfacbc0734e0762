"""Searches for mass that a bracket of log Z has not seen, and the bracket that accounts for it.

  log Z <= log Z_0 + log sum_m P_m / r_m,    P_m = P(a forward run ends in R_m),
                                             r_m = E_{v ~ p(v | R_m)}[w_reverse(v)],

for any partition of the states into strata R_1, ..., R_M. Reverse annealing from states of R_m has
E[w_reverse] = P_m Z_0 / Z_m: the weights of reverse chains that start in a mode determine how often
forward chains must reach it. Where they do not reach it that often, the mode was missed.

Forward annealing from the data's base rates and reverse annealing from the data agree, to a
hundredth of a nat, on the wrong log Z when the machine has a second mode that neither leads to. So
other chains look for it: they are annealed forward from another base, here the uniform
distribution (of real-valued units, those without bias), equilibrated at the model, and annealed in
reverse along the first path. The estimate of P_m for a stratum in which no forward chain ended is
not zero but of the order of one over the number of chains, so the bound stays large and the bracket
widens. If it does, the second base's path is measured likewise, and the narrower bracket of the two
is kept. All of it takes at most twice the Gibbs steps and temperatures of the two directions
without searches.

log Z is moreover at least what forward annealing from any base says, less four standard errors, and
at least the log-sum of exp(-F) over all distinct states seen, where visible states are finitely
many. Forward annealing's last states and the first ones of the reverse chains must look like
samples of one distribution (gen_models.samplers.ends); where they do not, or where more mass was
seen than the upper side has, the bracket is contradicted.

No search promises anything about a mode that none of them finds.

Jarzynski (1997), Nonequilibrium equality for free energy differences; Crooks (1999), Entropy
production fluctuation theorem, whose mean over the forward runs that end in R_m gives E[w_reverse];
Neal (2001), Annealed importance sampling.

Axis suffixes: C chains, N states, V visible, H hidden, M strata. Nats.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import rbm, units
from gen_models.samplers import annealing, ends, strata
from gen_models.samplers.annealing import Machine

SIDE_ERRORS = 4  # standard errors by which another estimate may differ from the bracket
ROUNDING = 1e-3  # nats, of free energies in float32


class Stratum(NamedTuple):
  """One part of the states, near one another in hidden activity.

  Attributes:
    share: of Z, by the bound.
    found_by: names of the searches that ended or began there.
  """

  share: float
  found_by: tuple[str, ...]


class Searched(NamedTuple):
  """A bracket of log Z, with a summary of the searches behind it.

  Attributes:
    bracket: log Z in nats; `upper` is that of the strata.
    path: name of the base whose annealing path gave the bracket.
    paths: name of each base whose path was measured -> number of reverse chains.
    starts: kind of start -> number of reverse chains from it, on the first path.
    bases: name -> annealing.Estimate of forward annealing from that base.
    strata: of the partition, the largest first.
    uncovered: number of strata in which a search ended but no forward chain of the path did.
    floor: log-sum of exp(-F) over all distinct states seen, nats; -inf for real-valued units.
    num_states: number of distinct states seen; 0 for real-valued units.
    apart: how far the ends of both directions differ, in standard errors (ends.apart).
  """

  bracket: annealing.Bracket
  path: str
  paths: dict[str, int]
  starts: dict[str, int]
  bases: dict[str, annealing.Estimate]
  strata: tuple[Stratum, ...]
  uncovered: int
  floor: float
  num_states: int
  apart: float


def bracket(key, params, base_V, start_CV, *, betas=None, burn_in: int = 1000, chunk: int = 500,
            seen: Sequence[Any] = (), too_wide: float = 1.0,
            report: Callable[[str], None] | None = None, model: Machine = rbm) -> Searched:
  """`annealing.bracket` together with searches from the uniform base by half as many chains.

  Costs one and a half times annealing.bracket, and twice where the second path is measured too:
  where the sides are more than `too_wide` apart, three standard errors exceed it, or the ends of
  the directions differ.

  Args:
    key: consumed.
    params: of the machine; w_VH [V, H].
    base_V: the first base's visible parameters, annealing.base_of the data: of Bernoulli units the
      log-odds of their mean.
    start_CV: states of the visible layer [C, V]: training images.
    betas: increasing from 0 to 1; default annealing.salakhutdinov_murray().
    burn_in: Gibbs steps before each reverse run.
    chunk: temperatures in one compiled program.
    seen: further states for the floor, arrays [N, V], such as images of all splits.
    too_wide: width in nats from which the second path is measured.
    report: called with a line of progress after each chunk.
    model: the layers; by default Bernoulli units in both.

  Raises:
    ValueError: as `annealing.ais`.
  """
  betas = annealing.schedule(betas)
  annealing.require_base(params, base_V)
  go = dict(chunk=chunk, report=report, model=model)
  bases, log_z0 = _bases(model, params, base_V)
  num, half = len(start_CV), max(1, len(start_CV) // 2)
  key_forward, key_settle, key_reverse = jax.random.split(key, 3)  # those of annealing.bracket
  more = [jax.random.fold_in(key, 2**31 + i) for i in range(5)]
  forward = {
    'data': annealing.forward(key_forward, params, base_V, num, betas, **go),
    'uniform': annealing.forward(more[0], params, bases['uniform'], half, betas,
                                 name='ais from the uniform base', **go)}
  starts = {'images': annealing.settled(key_settle, params, start_CV, burn_in, model=model),
            'ends from the base uniform': annealing.settled(
              more[1], params, forward['uniform'].v_CV, burn_in, model=model)}
  found = found_by(forward, starts)
  label = strata.partition(params, [v_CV for states in found.values() for v_CV in states],
                           model=model)

  def along(path, reverses):
    return Path(log_z0[path], len(betas) - 1, forward[path], reverses, label)

  paths = {'data': along('data', [
    annealing.reverse(key_reverse, params, base_V, starts['images'], betas, **go),
    annealing.reverse(more[2], params, base_V, starts['ends from the base uniform'], betas,
                      name='reverse ais, searches', **go)])}
  if paths['data'].is_open(too_wide) and num > half:
    v_CV = _second_starts(more[3], params, forward['data'].v_CV, starts, 2 * (num - half), burn_in,
                          model)
    paths['uniform'] = along('uniform', [annealing.reverse(
      more[4], params, bases['uniform'], v_CV, betas, name='reverse ais to the uniform base',
      **go)])
  return summarised(params, paths, forward, log_z0, found, [start_CV, *seen],
                    {name: len(v_CV) for name, v_CV in starts.items()}, label)


def _second_starts(key, params, ends_CV, starts: dict[str, jax.Array], num: int, burn_in: int,
                   model: Machine) -> jax.Array:
  """`num` starts of reverse chains to the uniform base: a quarter each from both bases' ends.

  The steps that the data's base saves against annealing.bracket pay for them: what has settled
  already is used again, and only the ends from the data's base have to settle.
  """
  quarter = num // 4
  of_uniform = starts['ends from the base uniform']
  return jnp.concatenate([
    thinned(starts['images'], num - 2 * quarter), thinned(of_uniform, quarter),
    annealing.settled(key, params, thinned(ends_CV, quarter), burn_in, model=model)])


def thinned(v_CV, num: int) -> jax.Array:
  """`num` rows, evenly spaced."""
  return v_CV[np.linspace(0, len(v_CV) - 1, num).astype(int)]


def found_by(forward: dict[str, annealing.Walk], starts: dict[str, jax.Array]
           ) -> dict[str, list[jax.Array]]:
  """Search -> the states that it found."""
  found = {name: [v_CV] for name, v_CV in starts.items()}
  for name, walk in forward.items():
    found.setdefault(f'ends from the base {name}', []).append(walk.v_CV)
  return found


def summarised(params, paths: dict[str, 'Path'], forward: dict[str, annealing.Walk],
               log_z0: dict[str, float], found: dict[str, list[jax.Array]], seen: Sequence[Any],
               starts: dict[str, int], label: strata.Partition,
               others: dict[str, annealing.Estimate] | None = None) -> Searched:
  """The narrowest path's bracket, accounting for the other bases and for every state seen.

  Args:
    params: of the machine.
    paths: name -> measured path.
    forward: name -> forward chains from that base.
    log_z0: name -> log Z_0.
    found: search -> states that it found.
    seen: further states for the floor.
    starts: kind of start -> number of reverse chains, for the record.
    label: the partition.
    others: name -> further estimates of log Z from below.
  """
  name = min(paths, key=lambda path: (paths[path].bracket.contradicted, paths[path].doubt))
  path = paths[name]
  estimates = {base: annealing.estimate(log_z0[base], walk.log_w_C, path.num_temperatures)
               for base, walk in forward.items()} | (others or {})
  floor, num_states = seen_log_partition(
    params, [*seen, *(v_NV for states in found.values() for v_NV in states)], model=label.model)
  return Searched(
    raised(lifted(path.bracket, estimates.values()), floor), name,
    {base: sum(map(len, measured.began)) for base, measured in paths.items()}, starts, estimates,
    largest(path.log_z_of, found, label), path.uncovered, floor, num_states, path.apart)


def largest(log_z_of: dict[int, float], found: dict[str, list[jax.Array]],
            label: strata.Partition) -> tuple[Stratum, ...]:
  """The share of Z and the finders of each stratum, the largest first."""
  visited = {name: set(np.concatenate([label(v_NV) for v_NV in states]))
             for name, states in found.items()}
  total = np.logaddexp.reduce(list(log_z_of.values()))
  return tuple(sorted((
    Stratum(float(np.exp(log_z - total)), tuple(name for name in visited if m in visited[name]))
    for m, log_z in log_z_of.items()), reverse=True))


def widened(key, params, base_V, start_CV, found: annealing.Bracket, ends_NV, *, betas=None,
            burn_in: int = 1000, chunk: int = 500, seen: Sequence[Any] = (),
            report: Callable[[str], None] | None = None, model: Machine = rbm) -> Searched:
  """A bracket from another method, widened by the mass that only the searches find.

    log Z <= upper + sum over the strata in which none of `ends_NV` lies of log Z_0 + log P_m / r_m.

  The ends of the ladder from the base and of the one from the data are compared as samples, as
  those of the directions of annealing are.

  Args:
    key: consumed.
    params: of the machine.
    base_V: as of `bracket`.
    start_CV: as of `bracket`; as many reverse chains, half as many forward ones from each base.
    found: the other bracket, such as that of two tempering ladders.
    ends_NV: states of its chains at the model, as nearly independent as possible: as many from
      the base as from the data.
    betas: of the annealing runs; default annealing.salakhutdinov_murray().
    burn_in: Gibbs steps before each reverse run.
    chunk: temperatures in one compiled program.
    seen: further states for the floor.
    report: called with a line of progress after each chunk.
    model: as of `bracket`.
  """
  betas = annealing.schedule(betas)
  go = dict(chunk=chunk, report=report, model=model)
  bases, log_z0 = _bases(model, params, base_V)
  keys = jax.random.split(jax.random.fold_in(key, 2**31), 6)
  half = max(1, len(start_CV) // 2)
  forward = {name: annealing.forward(k, params, a_V, half, betas, name=f'ais, {name}', **go)
           for k, (name, a_V) in zip(keys, bases.items())}
  starts = {'images': annealing.settled(keys[2], params, start_CV, burn_in, model=model),
            'ends from the base uniform': annealing.settled(
              keys[3], params, forward['uniform'].v_CV, burn_in, model=model)}
  reverse = annealing.reverse(keys[4], params, bases['data'], jnp.concatenate([*starts.values()]),
                              betas, name='reverse ais, searches', **go)
  states = {**found_by(forward, starts), 'ladders': [jnp.asarray(ends_NV)]}
  label = strata.partition(params, [v_NV for of in states.values() for v_NV in of], model=model)
  visited = set(label(ends_NV))
  terms = strata.terms_of(log_z0['data'], forward['data'].log_w_C, label(forward['data'].v_CV),
                 reverse.log_w_C, label(reverse.v_CV), label.num)
  log_z_of = dict(zip(terms.index_M, terms.log_z_M))
  missed = [log_z for m, log_z in log_z_of.items() if m not in visited]
  up_CV, down_CV = jnp.split(jnp.asarray(ends_NV), 2)
  apart = ends.apart(params, *(ends.Sample(v_CV, np.ones(len(v_CV)))
                               for v_CV in (up_CV, down_CV)), model=model)
  sides = found._replace(upper=found.upper._replace(log_partition=float(
    np.logaddexp.reduce([found.upper.log_partition, *missed]))), contradicted=apart > ends.LIMIT)
  estimates = {base: annealing.estimate(log_z0[base], walk.log_w_C, len(betas) - 1)
               for base, walk in forward.items()}
  floor, num_states = seen_log_partition(
    params, [start_CV, *seen, *(v_NV for of in states.values() for v_NV in of)], model=model)
  return Searched(
    raised(lifted(sides, estimates.values()), floor), 'own', {'data': len(reverse.v_CV)},
    {name: len(v_CV) for name, v_CV in starts.items()}, estimates, largest(log_z_of, states, label),
    len(missed), floor, num_states, apart)


def _bases(model: Machine, params, base_V):
  """(name -> visible parameters, name -> log Z_0) of the data's base and of the uniform one."""
  bases = {'data': jax.tree.map(lambda t: jnp.asarray(t, jnp.float32), base_V),
           'uniform': units.unbiased(model.visible, len(params.w_VH))}
  return bases, {name: float(annealing.base_log_partition(params, a_V, model))
                 for name, a_V in bases.items()}


class Path:
  """The two sides along the temperatures from one base, the upper one by strata."""

  def __init__(self, log_z0: float, num_temperatures: int, forward: annealing.Walk,
               reverses: Sequence[annealing.Walk], label: strata.Partition):
    self.num_temperatures, self.began = num_temperatures, [walk.v_CV for walk in reverses]
    lower = annealing.estimate(log_z0, forward.log_w_C, num_temperatures)
    reverse_C = np.concatenate([walk.log_w_C for walk in reverses])
    ended_C = label(forward.v_CV)
    began_C = np.concatenate([label(v_CV) for v_CV in self.began])
    terms = strata.terms_of(log_z0, forward.log_w_C, ended_C, reverse_C, began_C, label.num)
    upper, self.uncovered = terms.total(reverse_C)
    self.log_z_of = dict(zip(terms.index_M, terms.log_z_M))
    self.apart = _ends_apart(forward, ended_C, jnp.concatenate(self.began), began_C, terms, label)
    middle = log_z0 + annealing.bennett(forward.log_w_C, reverses[0].log_w_C)
    low, high = sorted((lower.log_partition, upper.log_partition))
    self.bracket = annealing.Bracket(float(np.clip(middle, low, high)), lower, upper._replace(
      num_temperatures=num_temperatures), self.apart > ends.LIMIT)
    error = max(lower.standard_error, upper.standard_error)
    self.doubt = max(abs(width(self.bracket)), 3 * error)  # nats

  def is_open(self, too_wide: float) -> bool:
    """Whether the sides do not agree within `too_wide` nats, or are contradicted."""
    return self.bracket.contradicted or self.doubt > too_wide


def _ends_apart(forward: annealing.Walk, ended_C, began_CV, began_C, terms: strata.Terms,
                label: strata.Partition) -> float:
  """ends.apart of forward chains and of starts of reverse chains, in strata that have a start.

  A forward chain counts by its weight, a start as the share of Z of its stratum.
  """
  where_C = np.flatnonzero(np.isin(ended_C, began_C))
  log_w_C = forward.log_w_C[where_C]
  mass_M, variance_M = np.zeros(label.num), np.zeros(label.num)
  mass_M[terms.index_M] = np.exp(terms.log_z_M - np.max(terms.log_z_M))
  variance_M[terms.index_M] = terms.variance_M
  first = ends.Sample(forward.v_CV[where_C], np.exp(log_w_C - np.max(log_w_C, initial=-np.inf)))
  second = ends.Sample(began_CV, (mass_M / np.maximum(np.bincount(
    began_C, minlength=label.num), 1))[began_C], began_C, variance_M)
  return ends.apart(label.params, first, second, model=label.model)


def width(bracket: annealing.Bracket) -> float:
  """Nats from the lower to the upper side, negative where they cross."""
  return bracket.upper.log_partition - bracket.lower.log_partition


def lifted(bracket: annealing.Bracket, estimates) -> annealing.Bracket:
  """The bracket whose lower side is at least what each estimate of log Z from below says.

  Less SIDE_ERRORS of its standard errors; an estimate without one says nothing.
  """
  low = bracket.lower.log_partition
  for other in estimates:
    if np.isfinite(other.standard_error):
      low = max(low, other.log_partition - SIDE_ERRORS * other.standard_error)
  least, most = sorted((low, bracket.upper.log_partition))
  return bracket._replace(log_partition=float(np.clip(bracket.log_partition, least, most)),
                          lower=bracket.lower._replace(log_partition=float(low)))


def raised(bracket: annealing.Bracket, floor: float) -> annealing.Bracket:
  """The bracket with both sides and the estimate at least `floor`.

  It is contradicted if the upper side lay below the floor by more than its noise: there is mass
  that it knows nothing of, and how much nobody has measured.
  """
  def at_least(side):
    return side._replace(log_partition=max(side.log_partition, floor))

  upper = bracket.upper
  missing = floor - upper.log_partition > SIDE_ERRORS * upper.standard_error + ROUNDING
  return annealing.Bracket(
    max(bracket.log_partition, floor), at_least(bracket.lower), at_least(upper),
    bool(bracket.contradicted or missing))


def seen_log_partition(params, states, *, model: Machine = rbm) -> tuple[float, int]:
  """(log sum exp(-F(v)) over the distinct v in a list of arrays [N, V], their number).

  (-inf, 0) where visible units are real-valued: a density has no such floor.
  """
  if not units.is_discrete(model.visible):
    return float('-inf'), 0
  states = [np.asarray(v_NV) for v_NV in states if len(v_NV)]
  low_V = np.min([np.minimum(v_NV.min(0), 0) for v_NV in states], axis=0)  # spins are -1 or 1
  rows = np.unique(np.concatenate([np.packbits(v_NV > 0.5, axis=1) for v_NV in states]), axis=0)

  def minus_energy(block):
    v_NV = np.unpackbits(block, axis=1, count=len(low_V)).astype(np.float32)
    return -np.asarray(free_energy(params, jnp.asarray(low_V + (1 - low_V) * v_NV, jnp.float32),
                                   model), np.float64)

  blocks = [minus_energy(rows[i:i + 4096]) for i in range(0, len(rows), 4096)]
  with np.errstate(invalid='ignore'):  # of parameters that are not finite the floor is nan
    return float(np.logaddexp.reduce(np.concatenate(blocks))), len(rows)


@functools.partial(jax.jit, static_argnums=2)
def free_energy(params, v_NV, model: Machine = rbm) -> jax.Array:
  """F(v), [N] nats."""
  return model.free_energy(params, v_NV)
