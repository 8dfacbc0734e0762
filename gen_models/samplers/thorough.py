"""`searches.bracket` at about seven times its cost: more bases, starts, strata, and a ladder.

The bound of `searches` holds for any partition and for any starts of the reverse chains,

  log Z <= log Z_0 + log sum_m P_m / r_m,

so whatever has found a state can take part in it. Beside the data's base and the uniform one,
chains are annealed from the opposite of the data's base and from the marginals of all states found;
reverse chains start besides in what all of these end in, in mean-field fixed points of random
hidden states, in images whose hidden units were flipped, and in the states of a ladder of
temperatures from beta = 0, whose chains swap. There are four times as many strata, as many chains
from every base as from the first, and twice as many temperatures.

The lower side is at least what forward annealing from any base says, less four standard errors. A
ladder counts as evidence if its states make round trips, from beta = 0 to the model and back, as
often as it has chains: then the bracket is widened to hold its estimate, and else it only gives
starts.

No search promises anything about a mode that none of them finds.

Katzgraber, Trebst, Huse & Troyer (2006), Feedback-optimized parallel tempering Monte Carlo (round
trips as the measure of a ladder).

Axis suffixes: C chains, N states, R rungs, V visible, H hidden. Nats.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import bits, rbm, units
from gen_models.samplers import annealing, searches, tempering

NUM_STRATA = 4 * searches.NUM_STRATA
_SIDE_ERRORS = 4  # standard errors by which another estimate may differ from the bracket


class Tour(NamedTuple):
  """What a ladder from beta = 0 to the model did.

  Attributes:
    estimate: of log Z, by the work of neighbouring rungs.
    ends_NV: states at the model, from the second half of its steps.
    round_trips: of all its chains, from beta = 0 to the model and back.
    num_chains: independent ladders.
    num_steps: Gibbs steps, burn-in not counted.
  """

  estimate: annealing.Estimate
  ends_NV: jax.Array
  round_trips: int
  num_chains: int
  num_steps: int

  @property
  def counts(self) -> bool:
    """Whether there were as many round trips as chains."""
    return self.round_trips >= self.num_chains


class Thorough(NamedTuple):
  """A bracket of log Z after all searches.

  Attributes:
    found: the bracket, with bases and strata.
    starts: kind of start -> number of reverse chains that began there, on each path.
    paths: bases along whose temperatures reverse chains were annealed.
    tour: of the ladder.
  """

  found: searches.Searched
  starts: dict[str, int]
  paths: tuple[str, ...]
  tour: Tour


def bracket(key, params: rbm.Params, base_V, start_CV, *, betas=None, burn_in: int = 1000,
            chunk: int = 500, seen_NV=None, too_wide: float = 1.0, num_rungs: int = 80,
            ladder_steps: int = 2000, report: Callable[[str], None] | None = None,
            model: annealing.Machine = rbm) -> Thorough:
  """`searches.bracket` with all searches of this module.

  Args:
    key: consumed.
    params: the RBM; w_VH [V, H].
    base_V: the first base's visible biases: the log-odds of the data's mean.
    start_CV: zeros and ones [C, V]: training images.
    betas: increasing from 0 to 1, default annealing.salakhutdinov_murray(); twice as many are used.
    burn_in: Gibbs steps before each reverse run, and of the ladder.
    chunk: temperatures in one compiled program.
    seen_NV: further states for the floor, such as test images.
    too_wide: width in nats from which the next base's path is measured too.
    num_rungs: temperatures of the ladder.
    ladder_steps: Gibbs steps of the ladder.
    report: called with a line of progress after each chunk.
    model: layers of Bernoulli units.

  Raises:
    ValueError: as `annealing.ais`; or units of another kind.
  """
  if not annealing.is_binary(model):
    raise ValueError('the thorough searches flip units: they are of Bernoulli units in both layers')
  betas = twice_as_fine(annealing.schedule(betas))
  annealing.require_base(params, base_V)
  next_key = (jax.random.fold_in(key, 2**31 + i) for i in range(64)).__next__
  go, num = dict(chunk=chunk, report=report), len(start_CV)
  base_V = jnp.asarray(base_V, jnp.float32)
  bases = {'data': base_V, 'uniform': jnp.zeros_like(base_V), 'opposite': -base_V}
  tour = ladder_tour(next_key(), params, base_V, max(4, num // 4), num_rungs=num_rungs,
                     num_steps=ladder_steps, burn_in=burn_in, report=report)

  def annealed(name):
    return annealing.forward(next_key(), params, bases[name], num, betas,
                             name=f'ais from the base {name}', **go)

  def settled(v_NV):
    return annealing.settled(next_key(), params, v_NV, burn_in)

  forward = {name: annealed(name) for name in bases}
  start_CV = jnp.asarray(start_CV, jnp.float32)
  starts = {
    'images': settled(start_CV),
    'images with hidden units flipped': settled(flipped(next_key(), params, start_CV)),
    'fixed points': settled(fixed_points(next_key(), params, num)),
    'ladder': tour.ends_NV,
    **{f'ends from the base {name}': settled(walk.v_CV) for name, walk in forward.items()}}
  bases['model'] = units.log_odds(jnp.concatenate(list(starts.values())).mean(0))
  forward['model'] = annealed('model')
  starts['ends from the base model'] = settled(forward['model'].v_CV)
  images_CV = starts.pop('images')
  others = {name: v_NV[:max(1, num // 2)] for name, v_NV in starts.items()}
  states = [images_CV, *starts.values(), *(walk.v_CV for walk in forward.values())]
  label = searches.partition(params, states, NUM_STRATA)
  log_z0 = {name: float(annealing.base_log_partition(params, a_V)) for name, a_V in bases.items()}
  paths = {}
  for name in ('data', 'model', 'uniform', 'opposite'):
    reverses = [annealing.reverse(next_key(), params, bases[name], v_NV, betas,
                                  name=f'reverse ais to the base {name}', **go)
                for v_NV in (images_CV, jnp.concatenate(list(others.values())))]
    paths[name] = searches.Path(log_z0[name], len(betas) - 1, forward[name], reverses, label)
    if paths[name].doubt <= too_wide:
      break
  best = min(paths, key=lambda name: paths[name].doubt)
  floor, num_states = searches.seen_log_partition(
    params, [start_CV, *states, *([] if seen_NV is None else [seen_NV])])
  estimates = {name: annealing.estimate(log_z0[name], walk.log_w_C, len(betas) - 1)
               for name, walk in forward.items()}
  sides = widened(paths[best].bracket, estimates.values(), tour.estimate if tour.counts else None)
  found = searches.Searched(searches.raised(sides, floor), best, label.num, estimates,
                            paths[best].uncovered, floor, num_states)
  return Thorough(found, {'images': num, **{name: len(v_NV) for name, v_NV in others.items()}},
                  tuple(paths), tour)


def twice_as_fine(betas: np.ndarray) -> np.ndarray:
  """The schedule with a temperature between every two."""
  last = len(betas) - 1
  return np.interp(np.linspace(0, last, 2 * last + 1), np.arange(last + 1), betas)


def widened(sides: annealing.Bracket, estimates, ladder: annealing.Estimate | None
            ) -> annealing.Bracket:
  """The bracket, at least what each estimate of log Z from below says, and with the ladder's in it.

  Both up to four standard errors; an estimate without one says nothing.
  """
  low, high = sides.lower.log_partition, sides.upper.log_partition
  for other in estimates:
    if np.isfinite(other.standard_error):
      low = max(low, other.log_partition - _SIDE_ERRORS * other.standard_error)
  if ladder is not None and np.isfinite(ladder.standard_error):
    slack = _SIDE_ERRORS * ladder.standard_error
    low = min(low, ladder.log_partition + slack)
    high = max(high, ladder.log_partition - slack)
  middle = float(np.clip(sides.log_partition, min(low, high), max(low, high)))
  return annealing.Bracket(middle, sides.lower._replace(log_partition=float(low)),
                           sides.upper._replace(log_partition=float(high)))


def ladder_tour(key, params: rbm.Params, base_V, num_chains: int, *, num_rungs: int,
                num_steps: int, burn_in: int, report: Callable[[str], None] | None = None) -> Tour:
  """Chains that swap along temperatures from the base at beta = 0 to the model.

  Args:
    key: consumed.
    params: the RBM.
    base_V: visible biases at beta = 0.
    num_chains: C, independent ladders.
    num_rungs: R >= 2, placed as annealing.refined.
    num_steps: Gibbs steps that are measured.
    burn_in: Gibbs steps before.
    report: called with one line.
  """
  betas = annealing.refined(num_rungs - 1)
  rungs = tempering.Scaled(params, jnp.asarray(base_V, jnp.float32), jnp.float32(betas))
  key_init, key_burn, key_run = jax.random.split(key, 3)
  ladder = tempering.init(key_init, tempering.scaled(params, base_V, betas), num_chains)
  ladder = _burned(key_burn, rungs, ladder, burn_in)
  ladder, work, trips, v_KCV = _toured(key_run, rungs, ladder, num_steps)
  estimate = tempering.one_sided(float(annealing.base_log_partition(params, base_V)),
                                 np.asarray(work.forward_PC, np.float64))
  if report:
    report(f'ladder of {num_rungs} temperatures, {num_steps} steps: {int(trips)} round trips of '
           f'{num_chains} chains')
  return Tour(estimate, v_KCV.reshape(-1, v_KCV.shape[-1]), int(trips), num_chains, num_steps)


@functools.partial(jax.jit, static_argnames='num_steps')
def _burned(key, rungs, ladder, num_steps: int):
  def body(ladder, key):
    return tempering.step(key, rungs, ladder)[0], None
  return lax.scan(body, ladder, jax.random.split(key, num_steps))[0]


_KEPT = 4  # times at which the states at the model are kept


@functools.partial(jax.jit, static_argnames='num_steps')
def _toured(key, rungs, ladder, num_steps: int):
  """(ladder, work, round trips, v at the model at _KEPT times of the second half)."""
  def body(carry, xs):
    (ladder, trip_RC, total), key = carry, xs
    ladder, work, trip_RC = tempering.step_with_labels(key, rungs, ladder, trip_RC)
    trip_RC, done = tempering.turned(trip_RC)
    return (ladder, trip_RC, total + done), (work, ladder.v_RCV[-1])

  trip_RC = jnp.zeros(ladder.v_RCV.shape[:2], jnp.int32)
  (ladder, _, total), (work, v_TCV) = lax.scan(
    body, (ladder, trip_RC, jnp.int32(0)), jax.random.split(key, num_steps))
  times = np.linspace(num_steps // 2, num_steps - 1, _KEPT).astype(int)
  return ladder, work, total, v_TCV[times]


def flipped(key, params: rbm.Params, v_CV) -> jax.Array:
  """Images [C, V] drawn anew after a share of their hidden units was flipped, from one to all."""
  num_hidden = len(params.c_H)
  key_h, key_flip, key_v = jax.random.split(key, 3)
  share_C = np.geomspace(1 / num_hidden, 1, len(v_CV))
  h_CH = rbm.sample_hidden(key_h, params, v_CV)
  flip_CH = jax.random.bernoulli(key_flip, share_C[:, None], h_CH.shape)
  return rbm.sample_visible(key_v, params, jnp.where(flip_CH, 1 - h_CH, h_CH))


def fixed_points(key, params: rbm.Params, num: int, num_steps: int = 50) -> jax.Array:
  """Draws [num, V] at fixed points of naive mean field, iterated from random hidden states.

    h <- h / 2 + sigma(c + sigma(b + W h) W) / 2
  """
  key_h, key_v = jax.random.split(key)
  h_CH = bits.bernoulli(key_h, jnp.full((num, len(params.c_H)), 0.5))

  def body(h_CH, _):
    return (h_CH + rbm.hidden_mean(params, rbm.visible_mean(params, h_CH))) / 2, None

  h_CH = lax.scan(body, h_CH, length=num_steps)[0]
  return rbm.sample_visible(key_v, params, h_CH)
