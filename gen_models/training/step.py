"""One update, as a pure function of the state and the data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gen_models.experiment import Phase
from gen_models.training import keys


class TrainState(NamedTuple):
  """The complete state of a run between two updates.

  Attributes:
    step: int32, updates done.
    key: the phase's key; that of an update is keys.update(key, step).
    params: the model's parameters.
    opt_state: the optimizer's.
    memory: the estimator's, estimators.base.Memory.
    average: moving average of params, () when the phase keeps none.
    hyper: name -> float32, the hyperparameters that are arguments of the program instead of its
      constants; never changed by an update and not saved: the configuration has them.
  """

  step: jax.Array
  key: jax.Array
  params: Any
  opt_state: Any
  memory: Any
  average: Any
  hyper: Any = ()


class Collective(NamedTuple):
  """The communication between devices in a step; on one device there is none.

  Attributes:
    local: (key, batch) -> (key, batch), this device's share.
    mean: tree -> tree, floating leaves averaged over devices, others as they are.
  """

  local: Callable[[jax.Array, Any], tuple[jax.Array, Any]] = lambda key, batch: (key, batch)
  mean: Callable[[Any], Any] = lambda tree: tree


def final_params(state: TrainState):
  """The parameters that are scored: their moving average where one is kept, else the last ones."""
  return state.params if state.average == () else state.average


def at(phase: Phase, hyper) -> Phase:
  """The phase with these hyperparameters; itself where it has none to be given."""
  return phase.at(hyper) if phase.at and hyper != () else phase


def init_state(key: jax.Array, phase: Phase, arrays, previous_params=None,
               hyper=()) -> TrainState:
  """The state before the first update of a phase."""
  phase = at(phase, hyper)
  key_params, key_memory = jax.random.split(keys.start(key))
  params = phase.init(key_params, arrays, previous_params)
  memory = phase.estimator.init(key_memory, params)
  if phase.inherit:
    memory = phase.inherit(keys.inherited(key), params, memory, arrays, previous_params)
  # The average starts as a copy: the two are donated to the compiled step together.
  average = jax.tree.map(jnp.copy, params) if phase.average else ()
  return TrainState(jnp.int32(0), key, params, phase.optimizer.init(params), memory, average,
                    hyper)


def train_step(phase: Phase, state: TrainState, arrays, devices: Collective = Collective()):
  """theta <- theta + update(gradient); returns (state, metrics)."""
  phase = at(phase, state.hyper)
  batch = phase.batch_at(keys.data(state.key), arrays, state.step)
  key, batch = devices.local(keys.update(state.key, state.step), batch)
  grads, memory, metrics = phase.estimator.grad(key, state.params, state.memory, batch)
  metrics = {k: jnp.asarray(m, jnp.result_type(m, jnp.float32)) for k, m in metrics.items()}
  grads, shared, metrics = devices.mean((grads, memory.shared, metrics))
  updates, opt_state = phase.optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = ()
  if phase.average:
    # A plain mean at first, an exponential one once there is enough to forget.
    decay = jnp.minimum(phase.average, state.step / (state.step + 1.0))
    average = jax.tree.map(lambda a, p: p + decay * (a - p), state.average, params)
  return TrainState(state.step + 1, state.key, params, opt_state,
                    memory._replace(shared=shared), average, state.hyper), metrics


def train_steps(phase: Phase, state: TrainState, arrays, num_steps: int,
                devices: Collective = Collective()):
  """`num_steps` updates as one lax.scan.

  Returns:
    (state, metrics): means over the steps, and two that watch over them: `all_finite`, of every
    metric and of the parameters at the end, and `first_bad_step`, 2^31 - 1 where none is.
  """
  def body(state, _):
    return train_step(phase, state, arrays, devices)

  state, metrics_T = lax.scan(body, state, length=num_steps, unroll=min(phase.unroll, num_steps))
  bad_T = ~_all_finite(metrics_T, num_steps)
  params_finite = jnp.all(_all_finite(state.params, 1))
  last = state.step - 1
  bad_step = jnp.min(jnp.where(bad_T, last - num_steps + 1 + jnp.arange(num_steps), 2**31 - 1))
  bad_step = jnp.minimum(bad_step, jnp.where(params_finite, 2**31 - 1, last))
  metrics = jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics_T)
  return state, {**metrics, 'all_finite': bad_step == 2**31 - 1, 'first_bad_step': bad_step}


def _all_finite(tree, rows: int):
  """Whether each of the `rows` first-axis slices of all leaves is finite, [rows]."""
  if not jax.tree.leaves(tree):  # an estimator need not report metrics
    return jnp.ones(rows, bool)
  rows_of = [jnp.all(jnp.isfinite(x.reshape(rows, -1)), axis=1) for x in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(rows_of), axis=0)
