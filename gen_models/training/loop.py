"""The loop: many updates a dispatch, metrics, validation, checkpoints, stopping and resuming.

Dispatches end at multiples of steps_per_dispatch counted from the start of a phase, never from the
moment a run was resumed, and saves fall between dispatches; so an interrupted run executes the same
programs on the same numbers as an unbroken one and is bitwise identical to it.

Steps are counted over all phases.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gen_models import data
from gen_models.experiment import Experiment, Phase
from gen_models.training import keys, parallel, position as position_lib, step as step_lib
from gen_models.training.hooks import Hooks
from gen_models.training.parallel import Layout
from gen_models.training.position import Position
from gen_models.training.record import Joint, Record, Separate


class Result(NamedTuple):
  """How `fit` ended: the state after `step` updates, and whether that was the end."""

  state: step_lib.TrainState
  step: int
  done: bool


@dataclasses.dataclass(frozen=True)
class _Run:
  """Everything that does not change during a run; see `fit`."""

  experiment: Experiment
  train: Any
  valid: Any
  key: jax.Array
  layout: Layout
  stream: Any
  checkpoints: Any
  hooks: Hooks
  judge: Joint | Separate

  @property
  def replicated(self) -> bool:
    """Whether the state has a leading axis of replicas."""
    return self.key.ndim > 0

  @functools.cached_property
  def hyper(self):
    """TrainState.hyper, over replicas where there are some; () where nothing is bound."""
    return {name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), self.key.shape)
            for name, value in self.experiment.hyper.items()} or ()


def fit(experiment: Experiment, train, valid, key, *, start=None, layout: Layout = Layout(),
        separate: bool = False, stream=None, checkpoints=None, hooks: Hooks = Hooks()) -> Result:
  """Trains all phases of an experiment.

  Args:
    experiment: what to train.
    train: Arrays of the training split; with `stream`, a few of its rows for initialisation.
    valid: Arrays given to experiment.validate.
    key: the run's key; of replicas that are trained side by side theirs, [S].
    start: (state, step) to resume from, as position.restore gives it; None for the beginning.
    layout: how replicas and devices are used.
    separate: whether replicas are runs of their own, see record.py.
    stream: random-access records (data.stream.Source) to read batches from instead of `train`.
    checkpoints: training.checkpoint.Checkpoints to save to, or None.
    hooks: where the loop reports, and whether it should stop.

  Returns:
    Result.

  Raises:
    Diverged: a metric or parameter is not finite; of separate replicas, in all.
    Misplaced: `start` is not where it says that it is.
    ValueError: sizes that do not divide over the devices, or do not fit the data.
  """
  judge = (Separate if separate else Joint)(len(key) if key.ndim else 1, hooks)
  run = _Run(experiment, train, valid, key, layout, stream, checkpoints, hooks, judge)
  _check_lengths(run)
  phases, validator = experiment.phases, functools.cache(functools.partial(_validator, run))
  position, previous, first, updates = Position(), None, 0, 0
  state = last_state = None
  if start is not None:
    state = start[0]._replace(hyper=run.hyper)
    position = position_lib.at_step(phases, start[1])
    position_lib.require(position, phases, state)
  _check_data(run, position)
  for index in range(position.phase, len(phases)):
    phase, first = phases[index], position_lib.first_step(phases, index)
    updates = position.updates if index == position.phase else 0
    if updates < phase.num_steps:
      if state is None:
        state = parallel.init_states(phase, keys.phase(key, index), train, previous, run.hyper,
                                     sequential=layout.sequential is not False)
      state, updates = _train_phase(run, phase, first, state, updates, validator)
      if updates < phase.num_steps:
        return Result(state, first + updates, False)
    assert state is not None  # resumed or trained
    previous = parallel.held_whole(step_lib.final_params(state))
    last_state, state = state, None
  assert last_state is not None  # there is a phase
  return Result(last_state, first + updates, True)


def _train_phase(run: _Run, phase: Phase, first: int, state, updates: int, validator: Callable):
  """Trains from `updates` to the end of the phase, or until asked to stop: (state, updates)."""
  experiment, checkpoints, last = run.experiment, run.checkpoints, phase.num_steps
  program = _compile(run, phase, state, validator)
  runner = program.runner
  record = Record(experiment, phase, first, run.judge, run.hooks,
                  lambda state: runner.collect(state).params)
  state, stopped = runner.place(state), False
  try:
    while updates < last and not stopped:
      every = experiment.steps_per_dispatch
      size = min(every - updates % every, last - updates)
      state, metrics = runner.dispatch(state, program.rows(updates, updates + size), size)
      record.read(state)  # of the dispatch before, while this one runs
      updates += size
      step, scores, improved = first + updates, {}, False
      if updates == last or updates % experiment.validation_interval == 0:
        scores = program.scores(runner.collect(state), step)
      record.put(step - size, step, metrics, scores)
      stopped = updates < last and run.hooks.should_stop()
      if scores:
        record.read(state)
        improved = record.improved()
      if checkpoints and (updates == last or stopped or improved or checkpoints.due()):
        record.read(state)
        checkpoints.save(step, runner.collect(state)._replace(hyper=()), record.scores)
    record.read(state)
  finally:
    program.close()
  return runner.collect(state), updates


class _Program(NamedTuple):
  """A phase compiled for the devices at hand.

  Attributes:
    runner: see parallel.py.
    rows: (start, stop) -> arrays that the updates start .. stop of the phase read.
    scores: (state, step) -> metrics of validation and monitor, {} where there are none.
    close: ends what reads the rows.
  """

  runner: parallel.Runner
  rows: Callable[[int, int], Any]
  scores: Callable[[Any, int], dict[str, Any]]
  close: Callable[[], None]


def _compile(run: _Run, phase: Phase, state, validator: Callable) -> _Program:
  """Decides how replicas are laid out in this phase, and builds what runs it."""
  how, sequential, devices, model = run.layout
  if sequential is None:
    size = min(run.experiment.steps_per_dispatch, phase.num_steps)
    # A vmap of one replica may round differently from no vmap as well.
    alone = run.replicated and run.judge.num_replicas == 1
    sequential = alone or (run.replicated and not parallel.vmap_keeps_bits(
      phase, state, run.train, size, devices))
    if sequential and not alone:
      run.hooks.on_remark(f'phase {phase.name}: a vmap rounds differently from a single run, so '
                          'replicas are trained one after another in the program of a single run')
  runner = parallel.runner(phase, how, devices=devices, replicated=run.replicated,
                           sequential=sequential, model=model)
  rows, close = _rows(phase, state.key, run.train, run.stream, runner)
  validate, monitor = validator(sequential), _monitor(run, phase, runner, sequential)
  valid = runner.replicate(run.valid)

  def scores(state, step):
    if validate is None:
      return {}
    found = validate(keys.validation(state.key, step), state, valid)
    return found | monitor(keys.monitor(state.key, step), state) if monitor else found

  return _Program(runner, rows, scores, close)


def _validator(run: _Run, sequential: bool):
  """(keys, state, arrays) -> metrics, or None where the experiment validates nothing."""
  experiment = run.experiment
  if experiment.validate is None:
    return None

  def validate(own, arrays):
    key, params, hyper = own
    now = experiment.at(hyper) if experiment.at else experiment
    assert now.validate is not None  # whatever the hyperparameters
    return now.validate(key, params, arrays)

  fn = parallel.over_replicas(validate, run.replicated, sequential)
  return lambda keys, state, arrays: fn((keys, step_lib.final_params(state), state.hyper), arrays)


def _monitor(run: _Run, phase: Phase, runner: parallel.Runner, sequential: bool):
  """(keys, state) -> metrics, or None where the phase has no monitor."""
  if phase.monitor is None:
    return None

  def monitor(own, train, valid):
    key, params, memory, hyper = own
    now = step_lib.at(phase, hyper)
    assert now.monitor is not None  # whatever the hyperparameters
    return now.monitor(key, params, memory, train, valid)

  fn = parallel.over_replicas(monitor, run.replicated, sequential)
  num_rows = len(jax.tree.leaves(run.valid)[0])
  train = runner.replicate(jax.tree.map(lambda x: x[:num_rows], run.train))
  valid = runner.replicate(run.valid)
  return lambda keys, state: fn((keys, state.params, state.memory, state.hyper), train, valid)


def _rows(phase: Phase, key, train, stream, runner: parallel.Runner):
  """(start, stop) -> arrays of those steps, and what to call at the end."""
  if stream is None:
    arrays = runner.place_arrays(train)
    return lambda start, stop: arrays, lambda: None
  from gen_models.data import stream as stream_lib  # imports grain, which most runs never need
  index, count = runner.share()
  windows = stream_lib.Stream(keys.data(key), stream, phase.batch_size,
                              process_index=index, process_count=count, horizon=phase.num_steps)
  return lambda start, stop: runner.place_arrays(windows.window(start, stop)), windows.close


def _check_lengths(run: _Run) -> None:
  """Raises ValueError for impossible numbers of updates."""
  experiment = run.experiment
  if run.stream is not None and run.replicated:
    raise ValueError('replicas each read the data in their own order: stream one seed at a time')
  for phase in experiment.phases:
    if phase.num_steps < 1:
      raise ValueError(f'phase {phase.name} has {phase.num_steps} steps; it needs at least one')
    data.check_horizon(phase.num_steps, phase.batch_size)
  if experiment.validation_interval % experiment.steps_per_dispatch:
    raise ValueError(f'validate_every {experiment.validate_every} is not a multiple of '
                     f'steps_per_dispatch {experiment.steps_per_dispatch}')


def _check_data(run: _Run, position: Position) -> None:
  """Raises ValueError for chains that do not divide and for data that are not the model's.

  Of every phase that is not over, before the first update: by shapes, and by the first batch.
  """
  previous = None
  for index, phase in enumerate(run.experiment.phases):
    state = jax.eval_shape(functools.partial(parallel.init_states, phase), run.key, run.train,
                           previous, run.hyper)
    previous = step_lib.final_params(state)
    if Position(index, phase.num_steps) <= position:
      continue
    if run.layout.how != 'replicas':
      parallel.check_chains(state, run.key.ndim, parallel.num_groups(run.layout))
    if phase.check and run.stream is None:
      key, params = run.key, state.params
      if run.replicated:
        key = key[0]
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params)
      phase.check(params, jax.jit(phase.batch_at)(keys.data(key), run.train, jnp.int32(0)))
