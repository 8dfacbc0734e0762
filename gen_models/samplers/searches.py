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
reverse along the first path. The estimate
of P_m for a stratum in which no forward chain ended is not zero but of the order of one over the
number of chains, so the bound stays large and the bracket widens. If it does, the second base's
path is measured likewise, and the narrower bracket of the two is kept.

Whatever the chains say, log Z is at least the log-sum of exp(-F) over all distinct states seen,
where visible states are finitely many.

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
from gen_models.samplers import annealing
from gen_models.samplers.annealing import Machine

NUM_STRATA = 12


class Searched(NamedTuple):
  """A bracket of log Z, with a summary of the searches behind it.

  Attributes:
    bracket: log Z in nats; `upper` is that of the strata.
    path: name of the base whose annealing path gave the bracket.
    num_strata: number of strata of the partition.
    bases: name -> annealing.Estimate of forward annealing from that base.
    uncovered: number of strata in which a search ended but no forward chain of the path did.
    floor: log-sum of exp(-F) over all distinct states seen, nats; -inf for real-valued units.
    num_states: number of distinct states seen; 0 for real-valued units.
  """

  bracket: annealing.Bracket
  path: str
  num_strata: int
  bases: dict[str, annealing.Estimate]
  uncovered: int
  floor: float
  num_states: int


def bracket(key, params, base_V, start_CV, *, betas=None, burn_in: int = 1000, chunk: int = 500,
            seen_NV=None, too_wide: float = 1.0, report: Callable[[str], None] | None = None,
            model: Machine = rbm) -> Searched:
  """`annealing.bracket` together with searches from the uniform base by half as many chains.

  Costs one and a half times annealing.bracket, and nearly three times where the second path is
  measured too: where the sides are more than `too_wide` apart, or three standard errors exceed it.

  Args:
    key: consumed.
    params: of the machine; w_VH [V, H].
    base_V: the first base's visible parameters, annealing.base_of the data: of Bernoulli units the
      log-odds of their mean.
    start_CV: states of the visible layer [C, V]: training images.
    betas: increasing from 0 to 1; default annealing.salakhutdinov_murray().
    burn_in: Gibbs steps before each reverse run.
    chunk: temperatures in one compiled program.
    seen_NV: further states for the floor, such as test images.
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
  key_forward, key_settle, key_reverse = jax.random.split(key, 3)  # those of annealing.bracket
  more = [jax.random.fold_in(key, 2**31 + i) for i in range(5)]
  forward = {
    'data': annealing.forward(key_forward, params, base_V, len(start_CV), betas, **go),
    'uniform': annealing.forward(more[0], params, bases['uniform'], max(1, len(start_CV) // 2),
                                 betas, name='ais from the uniform base', **go)}
  starts = {'data': annealing.settled(key_settle, params, start_CV, burn_in, model=model),
            'uniform': annealing.settled(more[1], params, forward['uniform'].v_CV, burn_in,
                                         model=model)}
  label = partition(params, [*starts.values(), *(walk.v_CV for walk in forward.values())],
                    model=model)

  def along(path, walks):
    return Path(log_z0[path], len(betas) - 1, forward[path], walks, label)

  paths = {'data': along('data', [
    annealing.reverse(key_reverse, params, base_V, starts['data'], betas, **go),
    annealing.reverse(more[2], params, base_V, starts['uniform'], betas,
                      name='reverse ais, searches', **go)])}
  if paths['data'].doubt > too_wide:
    v_CV = jnp.concatenate([
      *starts.values(),
      annealing.settled(more[3], params, forward['data'].v_CV, burn_in, model=model)])
    paths['uniform'] = along('uniform', [annealing.reverse(
      more[4], params, bases['uniform'], v_CV, betas, name='reverse ais to the uniform base',
      **go)])
  name = min(paths, key=lambda path: paths[path].doubt)
  states = [start_CV, *starts.values(), *(walk.v_CV for walk in forward.values())]
  floor, num_states = seen_log_partition(
    params, states if seen_NV is None else [*states, seen_NV], model=model)
  return Searched(
    raised(paths[name].bracket, floor), name, label.num,
    {base: annealing.estimate(log_z0[base], walk.log_w_C, len(betas) - 1)
     for base, walk in forward.items()}, paths[name].uncovered, floor, num_states)


def widened(key, params, base_V, start_CV, found: annealing.Bracket, ends_NV, *, betas=None,
            burn_in: int = 1000, chunk: int = 500, seen_NV=None,
            report: Callable[[str], None] | None = None, model: Machine = rbm) -> Searched:
  """A bracket from another method, widened by the mass that only the searches find.

    log Z <= upper + sum over the strata in which none of `ends_NV` lies of log Z_0 + log P_m / r_m.

  Args:
    key: consumed.
    params: of the machine.
    base_V: as of `bracket`.
    start_CV: as of `bracket`; as many reverse chains, half as many forward ones from each base.
    found: the other bracket, such as that of two tempering ladders.
    ends_NV: states of its chains at the model, as nearly independent as possible.
    betas: of the annealing runs; default annealing.salakhutdinov_murray().
    burn_in: Gibbs steps before each reverse run.
    chunk: temperatures in one compiled program.
    seen_NV: further states for the floor.
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
  starts = [annealing.settled(keys[2], params, start_CV, burn_in, model=model),
            annealing.settled(keys[3], params, forward['uniform'].v_CV, burn_in, model=model)]
  reverse = annealing.reverse(keys[4], params, bases['data'], jnp.concatenate(starts), betas,
                              name='reverse ais, searches', **go)
  states = [*starts, *(walk.v_CV for walk in forward.values()), jnp.asarray(ends_NV)]
  label = partition(params, states, model=model)
  visited = set(label(ends_NV))
  _, _, terms = _terms(log_z0['data'], forward['data'].log_w_C, label(forward['data'].v_CV),
                       reverse.log_w_C, label(reverse.v_CV), label.num)
  missed = [term for m, term in terms.items() if m not in visited]
  sides = found._replace(upper=found.upper._replace(log_partition=float(
    np.logaddexp.reduce([found.upper.log_partition, *missed]))))
  floor, num_states = seen_log_partition(
    params, states if seen_NV is None else [*states, seen_NV], model=model)
  return Searched(
    raised(sides, floor), 'own', label.num,
    {base: annealing.estimate(log_z0[base], walk.log_w_C, len(betas) - 1)
     for base, walk in forward.items()}, len(missed), floor, num_states)


def _bases(model: Machine, params, base_V):
  """(name -> visible parameters, name -> log Z_0) of the data's base and of the uniform one."""
  bases = {'data': jax.tree.map(lambda t: jnp.asarray(t, jnp.float32), base_V),
           'uniform': units.unbiased(model.visible, len(params.w_VH))}
  return bases, {name: float(annealing.base_log_partition(params, a_V, model))
                 for name, a_V in bases.items()}


class Path:
  """The two sides along the temperatures from one base, the upper one by strata."""

  def __init__(self, log_z0: float, num_temperatures: int, forward: annealing.Walk,
               reverses: Sequence[annealing.Walk], label: 'Partition'):
    lower = annealing.estimate(log_z0, forward.log_w_C, num_temperatures)
    reverse_C = np.concatenate([walk.log_w_C for walk in reverses])
    ended_C = label(forward.v_CV)
    began_C = np.concatenate([label(walk.v_CV) for walk in reverses])
    upper, self.uncovered = stratified(log_z0, forward.log_w_C, ended_C, reverse_C, began_C,
                                       label.num)
    middle = log_z0 + annealing.bennett(forward.log_w_C, reverses[0].log_w_C)
    low, high = sorted((lower.log_partition, upper.log_partition))
    self.bracket = annealing.Bracket(float(np.clip(middle, low, high)), lower, upper._replace(
      num_temperatures=num_temperatures))
    error = max(lower.standard_error, upper.standard_error)
    self.doubt = max(abs(width(self.bracket)), 3 * error)  # nats


def stratified(log_z0: float, forward_C, ended_C, reverse_C, began_C,
               num_strata: int) -> tuple[annealing.Estimate, int]:
  """log Z from above: log Z_0 + log sum_m P_m / r_m, and how many strata no forward chain ended in.

  P_m = (n_m + 1/2) / (C + M/2) where n_m forward chains ended in stratum m (Jeffreys' prior); r_m
  is the mean weight of the reverse chains that began there. A stratum in which no reverse chain
  began contributes the weights of the forward chains that ended there. The standard error accounts
  for the noise of P_m and of r_m, by the delta method.

  Args:
    log_z0: log Z_0 of the base.
    forward_C: log-weights of Z / Z_0, one for each forward chain.
    ended_C: strata in which the forward chains ended, integers in [0, M).
    reverse_C: log-weights of Z_0 / Z, one for each reverse chain; any number of them.
    began_C: strata in which the reverse chains began.
    num_strata: M.
  """
  estimate, uncovered, _ = _terms(log_z0, forward_C, ended_C, reverse_C, began_C, num_strata)
  return estimate, uncovered


def _terms(log_z0, forward_C, ended_C, reverse_C, began_C, num_strata):
  """`stratified`, and its terms: stratum -> log Z_0 + log P_m / r_m."""
  kept = [m for m in range(num_strata) if np.any(ended_C == m) or np.any(began_C == m)]
  total = len(forward_C) + len(kept) / 2
  spread = _relative_spread(reverse_C)  # over all reverse chains, for strata that have only one
  terms, variances, shares = [], [], []
  for m in kept:
    here_C, there_C = forward_C[ended_C == m], reverse_C[began_C == m]
    share = (len(here_C) + 0.5) / total
    if len(there_C):
      terms.append(np.log(share) - _log_mean(there_C))
      cv = _relative_spread(there_C) if len(there_C) > 1 else spread
      variances.append(cv**2 / len(there_C))
    else:
      terms.append(np.logaddexp.reduce(here_C) - np.log(len(forward_C)))
      variances.append(0.0)
    shares.append(share)
  terms_M, shares_M = np.array(terms), np.array(shares)
  log_sum = np.logaddexp.reduce(terms_M)
  part_M = np.exp(terms_M - log_sum)  # of Z, by stratum
  variance = part_M**2 @ np.array(variances) + (np.sum(part_M**2 / shares_M) - 1) / total
  uncovered = sum(not np.any(ended_C == m) for m in kept)
  return annealing.Estimate(float(log_z0 + log_sum), float(np.sqrt(max(variance, 0.0))),
                            annealing.effective_sample_size(reverse_C), reverse_C, 0), uncovered, {
    m: float(log_z0 + term) for m, term in zip(kept, terms_M)}


def _log_mean(log_w_C) -> float:
  return float(np.logaddexp.reduce(log_w_C) - np.log(len(log_w_C)))


def _relative_spread(log_w_C) -> float:
  """Standard deviation over mean of the weights."""
  w_C = np.exp(log_w_C - np.max(log_w_C))
  return float(w_C.std(ddof=1) / w_C.mean()) if len(w_C) > 1 else 1.0


class Partition(NamedTuple):
  """Assigns states to strata: the index of the centre nearest to E[h | v]."""

  params: Any
  centre_MH: np.ndarray
  model: Machine = rbm

  @property
  def num(self) -> int:
    return len(self.centre_MH)

  def __call__(self, v_NV) -> np.ndarray:
    return _nearest(np.asarray(_hidden_mean(self.params, jnp.asarray(v_NV), self.model)),
                    self.centre_MH)


def partition(params, states, num_strata: int = NUM_STRATA, *,
              model: Machine = rbm) -> Partition:
  """k-means on the hidden means of all states; the first centres are farthest from each other.

  Gonzalez (1985), Clustering to minimize the maximum intercluster distance; Lloyd (1982).
  """
  x_NH = np.concatenate([np.asarray(_hidden_mean(params, jnp.asarray(v_NV), model))
                         for v_NV in states])
  centres = [x_NH[np.argmax(np.sum((x_NH - x_NH.mean(0)) ** 2, axis=1))]]
  nearest_N = np.full(len(x_NH), np.inf)
  while len(centres) < num_strata:
    nearest_N = np.minimum(nearest_N, np.sum((x_NH - centres[-1]) ** 2, axis=1))
    if nearest_N.max() < 1e-6:
      break
    centres.append(x_NH[np.argmax(nearest_N)])
  centre_MH = np.stack(centres)
  for _ in range(10):
    label_N = _nearest(x_NH, centre_MH)
    centre_MH = np.stack([x_NH[label_N == m].mean(0) if np.any(label_N == m) else centre_MH[m]
                          for m in range(len(centre_MH))])
  return Partition(params, centre_MH, model)


def _nearest(x_NH, centre_MH) -> np.ndarray:
  distance_NM = np.sum(centre_MH**2, axis=1) - 2 * x_NH @ centre_MH.T
  return np.argmin(distance_NM, axis=1)


def width(bracket: annealing.Bracket) -> float:
  """Nats from the lower to the upper side, negative where they cross."""
  return bracket.upper.log_partition - bracket.lower.log_partition


def raised(bracket: annealing.Bracket, floor: float) -> annealing.Bracket:
  """The bracket with both sides and the estimate at least `floor`."""
  def at_least(side):
    return side._replace(log_partition=max(side.log_partition, floor))
  return annealing.Bracket(max(bracket.log_partition, floor), at_least(bracket.lower),
                           at_least(bracket.upper))


def seen_log_partition(params, states, *, model: Machine = rbm) -> tuple[float, int]:
  """(log sum exp(-F(v)) over the distinct v in a list of arrays [N, V], their number).

  (-inf, 0) where visible units are real-valued: a density has no such floor.
  """
  if not model.visible.levels:
    return float('-inf'), 0
  low = min(0.0, min(float(np.min(v_NV)) for v_NV in states))  # spins are -1 or 1
  bits = np.concatenate([np.asarray(v_NV) > 0.5 for v_NV in states])
  rows = np.unique(np.packbits(bits, axis=1), axis=0)
  v_NV = np.unpackbits(rows, axis=1, count=bits.shape[1]).astype(np.float32)
  v_NV = low + (1 - low) * v_NV if low else v_NV
  energies = [np.asarray(free_energy(params, v_NV[i:i + 4096], model), np.float64)
              for i in range(0, len(v_NV), 4096)]
  return float(np.logaddexp.reduce(-np.concatenate(energies))), len(v_NV)


@functools.partial(jax.jit, static_argnums=2)
def free_energy(params, v_NV, model: Machine = rbm) -> jax.Array:
  """F(v), [N] nats."""
  return model.free_energy(params, v_NV)


@functools.partial(jax.jit, static_argnums=2)
def _hidden_mean(params, v_NV, model: Machine) -> jax.Array:
  return model.hidden_mean(params, v_NV)
