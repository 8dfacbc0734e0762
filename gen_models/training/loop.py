"""The loop: dispatches many steps at a time, writes what it sees, saves, stops and goes on.

Dispatches end at multiples of steps_per_dispatch counted from the start of a phase, never from the
moment a run was resumed, and saves fall between dispatches; so an interrupted run executes the same
programs on the same numbers as an unbroken one and ends in the same bits.

Steps are counted over all phases. Metrics of a dispatch are read after the next one was launched,
so the device never waits for the host.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import data
from gen_models.experiment import Experiment, Phase
from gen_models.training import parallel, step as step_lib


class Diverged(FloatingPointError):
  """Training met a number that is not finite; nothing of it was saved."""


class Result(NamedTuple):
  """How `fit` ended: the state after `step` updates, and whether that was the end."""

  state: step_lib.TrainState
  step: int
  done: bool


final_params = step_lib.final_params


def abstract_state(experiment: Experiment, step: int, keys, arrays, replicated: bool):
  """Shapes and dtypes of the state saved after `step` updates, counted over all phases."""
  index, _ = _phase_at(experiment.phases, step)
  previous = None
  for phase in experiment.phases[:index + 1]:
    state = jax.eval_shape(
      lambda keys, arrays, previous, phase=phase: parallel.init_states(
        phase, keys, arrays, previous, replicated), keys, arrays, previous)
    previous = final_params(state)
  return state


def restore(experiment: Experiment, checkpoints, keys, arrays, replicated: bool):
  """(state, step) of the newest good checkpoint, or None; raises as Checkpoints.restore."""
  return checkpoints.restore(
    lambda step: abstract_state(experiment, step, keys, arrays, replicated))


def fit(experiment: Experiment, train, valid, key, *, seeds: int | None = None,
        start=None, how: str = 'sharded', turns: bool | None = False, devices=None, stream=None,
        checkpoints=None, on_metrics: Callable[[int, dict], None] | None = None,
        on_alarm: Callable[[int, str], None] | None = None,
        on_diverged: Callable[[int, str], None] | None = None,
        on_remark: Callable[[str], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False) -> Result:
  """Trains all phases of an experiment.

  Args:
    experiment: what to train.
    train: Arrays of the training split; with `stream`, a few of its rows for initialisation.
    valid: Arrays given to experiment.validate.
    key: the run's key; with seeds, a batch of keys [S], one for each replica.
    seeds: number of replicas trained side by side; None for one run without a leading axis.
    start: (state, step) to go on from, as `restore` gives it; None for the beginning.
    how: 'sharded', 'pmap' or 'replicas', see parallel.py.
    turns: of 'replicas': True for one after another, False for a vmap, None for a vmap where it is
      seen to end in the bits of runs alone and else in turn.
    devices: default all.
    stream: random-access records (data.stream.Source) to read batches from instead of `train`.
    checkpoints: training.checkpoint.Checkpoints to save to, or None.
    on_metrics: called with (step, dict of floats or of arrays over replicas).
    on_alarm: called with (step, message) when a metric first leaves the range of one of the phase's
      alarms; with (step, message, replica) for each replica that is a run of its own.
    on_diverged: called with (replica, message) when a replica meets a number that is not finite.
      With it each replica is a run of its own: what is not finite in one is its own affair, the
      caller leaves it as it was last saved, and the others go on while there are any. Without it
      one that diverges ends them all.
    on_remark: called with a line for people, such as why replicas go in turn.
    should_stop: asked between dispatches; on True the state is saved and returned.

  Returns:
    Result.

  Raises:
    Diverged: a metric or parameter is not finite; of replicas that are runs of their own, in all.
    ValueError: sizes that do not divide over the devices, or do not fit the data.
  """
  replicated = seeds is not None
  if stream is not None and replicated:
    raise ValueError('replicas each read the data in their own order: stream one seed at a time')
  on_metrics = on_metrics or (lambda step, metrics: None)
  on_alarm = on_alarm or (lambda step, message: None)
  on_remark = on_remark or (lambda line: None)
  state, step = start or (None, 0)
  for phase in experiment.phases:
    if phase.num_steps < 1:
      raise ValueError(f'phase {phase.name} has {phase.num_steps} steps; it needs at least one')
    data.check_horizon(phase.num_steps, phase.batch_size)
  if experiment.validation_interval % experiment.steps_per_dispatch:
    raise ValueError(f'validate_every {experiment.validate_every} is not a multiple of '
                     f'steps_per_dispatch {experiment.steps_per_dispatch}')
  hyper = _hyper(experiment, replicated, key)
  if state is not None:
    state = state._replace(hyper=hyper)
  validator = functools.cache(lambda turns: _validator(experiment, replicated, turns))
  living = np.ones(len(key) if replicated else 1, bool)
  first, previous = 0, None
  for index, phase in enumerate(experiment.phases):
    last = first + phase.num_steps
    if step > last:
      first = last
      continue
    if step < last:
      _check(phase, key, train, previous, replicated, how, devices, stream, hyper)
    if state is None:
      phase_key = _fold(key, index, replicated)
      state = parallel.init_states(phase, phase_key, train, previous, replicated, hyper,
                                   turns is not False)
    if step < last:
      state, step, stopped = _run_phase(
        experiment, phase, first, state, step, train=train, valid=valid, how=how, turns=turns,
        devices=devices, replicated=replicated, stream=stream, checkpoints=checkpoints,
        on_metrics=on_metrics, on_alarm=on_alarm, on_diverged=on_diverged, on_remark=on_remark,
        living=living, should_stop=should_stop, validator=validator)
      if stopped:
        return Result(state, step, False)
    previous = parallel.held_whole(final_params(state))
    first, state_of_phase, state = last, state, None
  return Result(state_of_phase, step, True)


def _phase_at(phases, step):
  """Index of the phase that a state saved at `step` belongs to, and the step it began at."""
  first = 0
  for index, phase in enumerate(phases):
    if step <= first + phase.num_steps:
      return index, first
    first += phase.num_steps
  raise ValueError(f'a checkpoint of step {step}, but the experiment has only {first} steps')


def _hyper(experiment: Experiment, replicated: bool, keys):
  """TrainState.hyper: () where the experiment is not bound, over replicas where there are some."""
  shape = (len(keys),) if replicated else ()
  return {name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), shape)
          for name, value in experiment.hyper.items()} or ()


def _check(phase: Phase, keys, train, previous, replicated: bool, how, devices, stream, hyper):
  """Raises ValueError for chains that do not divide and for data that are not the model's."""
  state = jax.eval_shape(lambda keys, arrays, previous, hyper: parallel.init_states(
    phase, keys, arrays, previous, replicated, hyper), keys, train, previous, hyper)
  if how != 'replicas':
    parallel.check_chains(state, 1 if replicated else 0, len(devices or jax.devices()))
  if phase.check and stream is None:
    key = keys[0] if replicated else keys
    params = state.params
    if replicated:
      params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params)
    phase.check(params, jax.jit(phase.batch_at)(step_lib.data_key(key), train, jnp.int32(0)))


def _validator(experiment: Experiment, replicated: bool, turns: bool):
  """(keys, state, arrays) -> metrics, or None where the experiment validates nothing."""
  if experiment.validate is None:
    return None

  def validate(own, arrays):
    key, params, hyper = own
    now = experiment.at(hyper) if experiment.at else experiment
    return now.validate(key, params, arrays)

  fn = parallel.over_replicas(validate, replicated, turns)
  return lambda keys, state, arrays: fn((keys, final_params(state), state.hyper), arrays)


def _run_phase(experiment: Experiment, phase: Phase, first: int, state, step: int, *, train, valid,
               how, turns, devices, replicated, stream, checkpoints, on_metrics, on_alarm,
               on_diverged, on_remark, living, should_stop, validator):
  """Updates step .. first + phase.num_steps; returns (state, step, stopped)."""
  if turns is None:
    size = min(experiment.steps_per_dispatch, phase.num_steps)
    turns = len(living) > 1 and not parallel.vmap_keeps_bits(phase, state, train, size, devices)
    if turns:
      on_remark(f'phase {phase.name}: a vmap rounds differently from a run alone, so replicas take '
                'turns in the program of a run alone')
  validate = validator(turns)
  runner = parallel.runner(phase, how, devices=devices, replicated=replicated, turns=turns)
  rows_at, close = _rows(phase, state.key, train, stream, runner)
  watch = _monitor(phase, runner, train, valid, replicated, turns)
  valid = runner.replicate(valid)
  state = runner.place(state)
  last, prefix = first + phase.num_steps, f'{phase.name}/' if len(experiment.phases) > 1 else ''
  pending, validated, stopped, alarmed = None, {}, False, set()
  apart = list(range(len(living))) if on_diverged else []
  # Replicas that are runs of their own are each saved at their own best, others at their mean's.
  best = np.full(len(living) if on_diverged else 1, -np.inf)

  def flush():
    """Checks and writes the metrics of the dispatch before."""
    nonlocal pending, validated
    if pending is None:
      return
    begin, end, metrics, scores = pending
    pending = None
    metrics = {k: np.asarray(v) for k, v in jax.device_get({**metrics, **scores}).items()}
    _require_finite(metrics, first, begin, end, lambda: runner.collect(state).params, living,
                    on_diverged)
    validated = {k: metrics[k] for k in scores}
    on_metrics(end, {prefix + k: v for k, v in metrics.items()})
    for alarm, who in itertools.product(phase.alarms, apart or [()]):
      seen = living & (np.arange(len(living)) == who) if who != () else living
      if (alarm, who) not in alarmed and (message := _alarming(alarm, metrics, seen)):
        alarmed.add((alarm, who))
        on_alarm(end, prefix + message, *([who] if apart else []))

  try:
    while step < last and not stopped:
      done = step - first
      size = min(experiment.steps_per_dispatch - done % experiment.steps_per_dispatch, last - step)
      state, metrics = runner.dispatch(state, rows_at(done, done + size), size)
      flush()
      step, done = step + size, done + size
      scores = {}
      if validate and (step == last or done % experiment.validation_interval == 0):
        now = runner.collect(state)
        # No update uses this key: they count below 2^31.
        scores = validate(_fold(now.key, 2**31 + step, replicated), now, valid)
        if watch:
          scores |= watch(_fold(now.key, 3 * 2**30 + step, replicated), now)
      pending = (step - size, step, metrics, scores)
      stopped = step < last and should_stop()
      improved = False
      if scores:
        flush()
        score = np.atleast_1d(validated.get(experiment.headline, -np.inf))
        score = np.where(living, score, -np.inf) if on_diverged else np.mean(score, keepdims=True)
        improved, best = bool(np.any(score > best)), np.fmax(score, best)
      if checkpoints and (step == last or stopped or improved or checkpoints.due()):
        flush()  # nothing is saved before it is known to be finite
        checkpoints.save(step, runner.collect(state)._replace(hyper=()), validated)
    flush()
  finally:
    close()
  return runner.collect(state), step, stopped


def _monitor(phase: Phase, runner, train, valid, replicated: bool, turns: bool):
  """(keys, state) -> metrics, or None where the phase has no monitor."""
  if phase.monitor is None:
    return None

  def monitor(own, train, valid):
    key, params, memory, hyper = own
    return step_lib.at(phase, hyper).monitor(key, params, memory, train, valid)

  fn = parallel.over_replicas(monitor, replicated, turns)
  num_rows = len(jax.tree.leaves(valid)[0])
  train = runner.replicate(jax.tree.map(lambda x: x[:num_rows], train))
  valid = runner.replicate(valid)
  return lambda keys, state: fn((keys, state.params, state.memory, state.hyper), train, valid)


def _alarming(alarm, metrics: dict, living) -> str | None:
  """What to say of this metric, None while it is in range."""
  if alarm.metric not in metrics:
    return None
  value = np.atleast_1d(metrics[alarm.metric])[living]
  if not value.size:
    return None
  if alarm.above is not None and np.max(value) > alarm.above:
    return f'{alarm.metric} is {np.max(value):.3g}, above {alarm.above:g}: {alarm.advice}'
  if alarm.below is not None and np.min(value) < alarm.below:
    return f'{alarm.metric} is {np.min(value):.3g}, below {alarm.below:g}: {alarm.advice}'
  return None


def _rows(phase: Phase, key, train, stream, runner):
  """(start, stop) -> arrays of those steps, and what to call at the end."""
  if stream is None:
    arrays = runner.place_arrays(train)
    return lambda start, stop: arrays, lambda: None
  from gen_models.data import stream as stream_lib  # imports grain, which most runs never need
  index, count = runner.share()
  windows = stream_lib.Stream(step_lib.data_key(key), stream, phase.batch_size,
                              process_index=index, process_count=count, horizon=phase.num_steps)
  return lambda start, stop: runner.place_arrays(windows.window(start, stop)), windows.close


def _fold(key, number, replicated):
  """fold_in(key, number), over replicas."""
  def fold(k):
    return jax.random.fold_in(k, jnp.uint32(number))
  return jax.vmap(fold)(key) if replicated else fold(key)


def _require_finite(metrics: dict[str, Any], first: int, begin: int, end: int, params: Callable,
                    living, on_diverged):
  """Finds replicas that have diverged; strikes them from `living` and says so, or raises Diverged.

  The message names the first step, counted over all phases, the replica and the leaf.
  """
  bad_step = metrics.pop('first_bad_step')
  bad = ~np.atleast_1d(metrics.pop('all_finite')) & living
  if not np.any(bad):
    return
  for i in np.flatnonzero(bad):
    replica = None if bad_step.ndim == 0 else i
    message = _divergence(metrics, int(np.atleast_1d(bad_step)[i]), first, begin, end, params(),
                          replica)
    if on_diverged is None:
      raise Diverged(message)
    living[i] = False
    on_diverged(int(i), message)
  if not np.any(living):
    raise Diverged(f'all replicas have diverged, the last {message}')


def _divergence(metrics, at: int, first: int, begin: int, end: int, params, replica) -> str:
  """What is not finite, where and since when, in one line."""
  def bad(x):
    return not np.all(np.isfinite(x if replica is None else x[replica]))

  leaves = [jax.tree_util.keystr(path) for path, x in
            jax.tree_util.tree_flatten_with_path(params)[0] if bad(x)]
  metric = [name for name, value in metrics.items() if bad(value)]
  what = ' and '.join([f'replica {replica}'] * (replica is not None)
                      + [f'parameter {x}' for x in leaves[:1]]
                      + [f'metric {x}' for x in metric[:1]])
  when = f'at step {first + at}' if at < 2**31 - 1 else f'in steps {begin} to {end}'
  return (f'not finite {when}: {what or "a metric"}. Nothing after the last checkpoint was '
          'saved; try a smaller learning rate')
