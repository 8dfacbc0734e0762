"""`searches.bracket` with all searches that there are: more bases, starts, strata, and a ladder.

The bound of `searches` holds for any partition and for any starts of the reverse chains,

  log Z <= log Z_0 + log sum_m P_m / r_m,

so whatever has found a state can take part in it. Beside the data's base and the uniform one,
chains are annealed from the opposite of the data's base, from a mixture of bases, one for each
cluster of images, and from the marginals of all states found; a population of chains that are
resampled is annealed from the uniform base. Reverse chains start besides in what all of these end
in, in mean-field fixed points of random hidden states, in images whose hidden units were flipped,
in the persistent chains of training, where there are any, and in the states of a ladder of
temperatures from beta = 0, whose chains swap. There are four times as many strata, as many chains
from every base as from the first, and twice as many temperatures: nine times the cost, or more
where the first path's sides do not agree.

The lower side is at least what forward annealing from any base says, less four standard errors. A
ladder counts as evidence if its states make round trips, from beta = 0 to the model and back, as
often as it has chains: then the bracket is widened to hold its estimate, and else it only gives
starts.

No search promises anything about a mode that none of them finds.

Katzgraber, Trebst, Huse & Troyer (2006), Feedback-optimized parallel tempering Monte Carlo (round
trips as the measure of a ladder).

Axis suffixes: C chains, N states, R rungs, V visible, H hidden, M strata. Nats.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import devices
from gen_models.models import bits, rbm, units
from gen_models.samplers import annealing, searches, strata, tempering

NUM_STRATA = 4 * strata.NUM_STRATA
NUM_COMPONENTS = 4  # of the mixture of bases


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
    found: the bracket, and what it is made of.
    tour: of the ladder.
  """

  found: searches.Searched
  tour: Tour


def bracket(key, params, base_V, start_CV, *, betas=None, burn_in: int = 1000, chunk: int = 500,
            seen: Sequence[Any] = (), chains_NV=None, too_wide: float = 1.0, num_rungs: int = 80,
            ladder_steps: int = 2000, report: Callable[[str], None] | None = None,
            model: annealing.Machine = rbm) -> Thorough:
  """`searches.bracket` with all searches of this module.

  Args:
    key: consumed.
    params: of the machine; w_VH [V, H].
    base_V: the first base's visible parameters: annealing.base_of the data.
    start_CV: states of the visible layer [C, V]: training images.
    betas: increasing from 0 to 1, default annealing.salakhutdinov_murray(); twice as many are used.
    burn_in: Gibbs steps before each reverse run, and of the ladder.
    chunk: temperatures in one compiled program.
    seen: further states for the floor, arrays [N, V], such as images of all splits.
    chains_NV: states of the persistent chains of training, [N, V]; None where there are none.
    too_wide: width in nats from which the next base's path is measured too.
    num_rungs: temperatures of the ladder.
    ladder_steps: Gibbs steps of the ladder.
    report: called with a line of progress after each chunk.
    model: the layers; by default Bernoulli units in both.

  Raises:
    ValueError: as `annealing.ais`.
  """
  betas = twice_as_fine(annealing.schedule(betas))
  annealing.require_base(params, base_V)
  next_key = (jax.random.fold_in(key, 2**31 + i) for i in range(64)).__next__
  go, num = dict(chunk=chunk, report=report, model=model), len(start_CV)
  base_V = jax.tree.map(lambda t: jnp.asarray(t, jnp.float32), base_V)
  start_CV = jnp.asarray(start_CV, jnp.float32)
  bases = {'data': base_V, 'uniform': units.unbiased(model.visible, len(params.w_VH)),
           'opposite': units.with_bias(base_V, -units.bias_of(base_V))}
  tour = ladder_tour(next_key(), params, base_V, max(4, num // 4), num_rungs=num_rungs,
                     num_steps=ladder_steps, burn_in=burn_in, report=report, model=model)

  def annealed(name):
    return annealing.forward(next_key(), params, bases[name], num, betas,
                             name=f'ais from the base {name}', **go)

  def settled(v_NV):
    return annealing.settled(next_key(), params, v_NV, burn_in, model=model)

  forward = {name: annealed(name) for name in bases}
  forward['mixture'] = mixture(next_key(), params, start_CV, betas, **go)
  crowd, crowd_CV = annealing.population(next_key(), params, bases['uniform'], num, betas,
                                         report=report, model=model)
  starts = {
    'images': settled(start_CV),
    'images with hidden units flipped': settled(flipped(next_key(), params, start_CV, model)),
    'fixed points': settled(fixed_points(next_key(), params, num, model=model)),
    'ladder': tour.ends_NV, 'population': settled(crowd_CV),
    **({} if chains_NV is None else {'persistent chains': settled(jnp.resize(
      jnp.asarray(chains_NV, jnp.float32), (num, start_CV.shape[1])))}),
    **{f'ends from the base {name}': settled(walk.v_CV) for name, walk in forward.items()}}
  bases['model'] = annealing.base_of(model, jnp.concatenate(list(starts.values())))
  forward['model'] = annealed('model')
  starts['ends from the base model'] = settled(forward['model'].v_CV)
  found = searches.found_by(forward, starts)
  label = strata.partition(params, [v_NV for of in found.values() for v_NV in of], NUM_STRATA,
                             model=model)
  log_z0 = {name: float(annealing.base_log_partition(params, a_V, model))
            for name, a_V in bases.items()} | {'mixture': 0.0}
  begin = {name: v_NV if name == 'images' else v_NV[:max(1, num // 2)]
           for name, v_NV in starts.items()}
  others_NV = jnp.concatenate([v_NV for name, v_NV in begin.items() if name != 'images'])
  paths = {}
  for name in ('data', 'model', 'uniform', 'opposite'):
    reverses = [annealing.reverse(next_key(), params, bases[name], v_NV, betas,
                                  name=f'reverse ais to the base {name}', **go)
                for v_NV in (begin['images'], others_NV)]
    paths[name] = searches.Path(log_z0[name], len(betas) - 1, forward[name], reverses, label)
    if not paths[name].is_open(too_wide):
      break
  chosen = searches.summarised(
    params, paths, forward, log_z0, found, [start_CV, *seen],
    {name: len(v_NV) for name, v_NV in begin.items()}, label, {'population': crowd})
  sides = held(chosen.bracket, tour.estimate) if tour.counts else chosen.bracket
  return Thorough(chosen._replace(bracket=searches.raised(sides, chosen.floor)), tour)


def mixture(key, params, start_CV, betas, *, chunk: int, model: annealing.Machine,
            report: Callable[[str], None] | None = None) -> annealing.Walk:
  """Forward annealing from NUM_COMPONENTS bases, the marginals of clusters of images.

  Each of as many chains has its own base, so its log-weight is that of Z, not of Z / Z_0: the mean
  weight of all is exactly Z in expectation, as with one base.
  """
  label_C = strata.partition(params, [start_CV], NUM_COMPONENTS, model=model)(start_CV)
  walks = []
  for i, m in enumerate(np.resize(np.unique(label_C), NUM_COMPONENTS)):
    base_V = annealing.base_of(model, start_CV[label_C == m])
    walk = annealing.forward(jax.random.fold_in(key, i), params, base_V,
                             max(1, len(start_CV) // NUM_COMPONENTS), betas, chunk=chunk,
                             report=report, name=f'ais from component {i + 1}', model=model)
    log_z0 = float(annealing.base_log_partition(params, base_V, model))
    walks.append(walk._replace(log_w_C=walk.log_w_C + log_z0))
  return annealing.Walk(jnp.concatenate([walk.v_CV for walk in walks]),
                        np.concatenate([walk.log_w_C for walk in walks]))


def twice_as_fine(betas: np.ndarray) -> np.ndarray:
  """The schedule with a temperature between every two."""
  last = len(betas) - 1
  return np.interp(np.linspace(0, last, 2 * last + 1), np.arange(last + 1), betas)


def held(sides: annealing.Bracket, ladder: annealing.Estimate) -> annealing.Bracket:
  """The bracket, widened to hold the ladder's estimate up to four standard errors.

  An estimate without a standard error says nothing.
  """
  if not np.isfinite(ladder.standard_error):
    return sides
  slack = searches.SIDE_ERRORS * ladder.standard_error
  low = min(sides.lower.log_partition, ladder.log_partition + slack)
  high = max(sides.upper.log_partition, ladder.log_partition - slack)
  return sides._replace(
    log_partition=float(np.clip(sides.log_partition, min(low, high), max(low, high))),
    lower=sides.lower._replace(log_partition=float(low)),
    upper=sides.upper._replace(log_partition=float(high)))


def ladder_tour(key, params, base_V, num_chains: int, *, num_rungs: int, num_steps: int,
                burn_in: int, report: Callable[[str], None] | None = None,
                model: annealing.Machine = rbm) -> Tour:
  """Chains that swap along temperatures from the base at beta = 0 to the model.

  Args:
    key: consumed.
    params: of the machine.
    base_V: visible parameters at beta = 0.
    num_chains: C, independent ladders.
    num_rungs: R >= 2, placed as annealing.refined.
    num_steps: Gibbs steps that are measured.
    burn_in: Gibbs steps before.
    report: called with one line.
    model: the layers.
  """
  betas = annealing.refined(num_rungs - 1)
  machines_R = tempering.scaled(params, base_V, betas, model=model)
  rungs = (tempering.Scaled(params, jnp.asarray(base_V, jnp.float32), jnp.float32(betas))
           if annealing.is_binary(model) else machines_R)
  key_init, key_burn, key_run = jax.random.split(key, 3)
  ladder = devices.spread(tempering.init(key_init, machines_R, num_chains, model=model), axis=1)
  ladder = _burned(key_burn, rungs, ladder, burn_in, model)
  ladder, work, trips, v_KCV = _toured(key_run, rungs, ladder, num_steps, model)
  estimate = tempering.one_sided(float(annealing.base_log_partition(params, base_V, model)),
                                 np.asarray(work.forward_PC, np.float64))
  if report:
    report(f'ladder of {num_rungs} temperatures, {num_steps} steps: {int(trips)} round trips of '
           f'{num_chains} chains')
  return Tour(estimate, v_KCV.reshape(-1, v_KCV.shape[-1]), int(trips), num_chains, num_steps)


@functools.partial(jax.jit, static_argnames=('num_steps', 'model'))
def _burned(key, rungs, ladder, num_steps: int, model: annealing.Machine):
  def body(ladder, key):
    return tempering.step(key, rungs, ladder, model=model)[0], None
  return lax.scan(body, ladder, jax.random.split(key, num_steps))[0]


_KEPT = 4  # times at which the states at the model are kept


@functools.partial(jax.jit, static_argnames=('num_steps', 'model'))
def _toured(key, rungs, ladder, num_steps: int, model: annealing.Machine):
  """(ladder, work, round trips, v at the model at _KEPT times of the second half)."""
  def body(carry, xs):
    (ladder, trip_RC, total), key = carry, xs
    ladder, work, trip_RC = tempering.step_with_labels(key, rungs, ladder, trip_RC, model=model)
    trip_RC, done = tempering.turned(trip_RC)
    return (ladder, trip_RC, total + done), (work, ladder.v_RCV[-1])

  trip_RC = jnp.zeros(ladder.v_RCV.shape[:2], jnp.int32)
  (ladder, _, total), (work, v_TCV) = lax.scan(
    body, (ladder, trip_RC, jnp.int32(0)), jax.random.split(key, num_steps))
  times = np.linspace(num_steps // 2, num_steps - 1, _KEPT).astype(int)
  return ladder, work, total, v_TCV[times]


def flipped(key, params, v_CV, model: annealing.Machine = rbm) -> jax.Array:
  """Images [C, V] drawn anew after a share of their hidden units was flipped, from one to all.

  Of units that are neither zero or one nor -1 or 1 it is the next image's that take their place.
  """
  group = model.hidden.group
  num_groups = params.w_VH.shape[1] // group
  key_h, key_flip, key_v = jax.random.split(key, 3)
  share_C = np.geomspace(1 / num_groups, 1, len(v_CV))
  h_CH = model.sample_hidden(key_h, params, v_CV)
  flip_CH = jnp.repeat(jax.random.bernoulli(
    key_flip, share_C[:, None], (len(v_CV), num_groups)), group, axis=1)
  other_CH = (1 - h_CH if model.hidden == units.BERNOULLI else
              -h_CH if model.hidden == units.SPIN else jnp.roll(h_CH, 1, axis=0))
  return model.sample_visible(key_v, params, jnp.where(flip_CH, other_CH, h_CH))


def fixed_points(key, params, num: int, num_steps: int = 50, *,
                 model: annealing.Machine = rbm) -> jax.Array:
  """Draws [num, V] at fixed points of naive mean field, iterated from random hidden states.

    h <- h / 2 + E[h | E[v | h]] / 2,    of Bernoulli units h / 2 + sigma(c + sigma(b + W h) W) / 2

  Random hidden states are fair coins; of other units, what uniform visible ones are answered by.
  """
  key_h, key_u, key_v = jax.random.split(key, 3)
  if model.hidden == units.BERNOULLI:
    h_CH = bits.bernoulli(key_h, jnp.full((num, params.w_VH.shape[1]), 0.5))
  else:
    uniform = units.unbiased(model.visible, len(params.w_VH))
    v_CV = model.visible.sample(key_u, uniform, jnp.zeros((num, len(params.w_VH))))
    h_CH = model.sample_hidden(key_h, params, v_CV)

  def body(h_CH, _):
    return (h_CH + model.hidden_mean(params, model.visible_mean(params, h_CH))) / 2, None

  h_CH = lax.scan(body, h_CH, length=num_steps)[0]
  return model.sample_visible(key_v, params, h_CH)
