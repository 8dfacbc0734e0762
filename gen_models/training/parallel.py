"""Two ways to spread one pure step over devices. The only file that knows how many there are.

  sharded   jax.jit of the global program: batch and chains split over the `data` axis of a mesh,
            the rest replicated, sums over the batch completed by the compiler. The random draws are
            those of one device, so the run is too, up to the order of floating-point sums: the
            same chains bit for bit for as long as no rounding tips a sample over (200 updates and
            more at 64-16; less at 784-500, from where two runs part as two seeds do).
  pmap      the per-device program through jax.pmap: each device folds its index into the key,
            draws its own samples and averages gradients with lax.pmean. The batch is the global
            one, so an estimator that draws nothing agrees with `sharded`; one that samples agrees
            in law.

Both take and give a TrainState in the global layout, so checkpoints do not know the difference.

Replicas (several seeds in one program) are a vmap of the step over the leading axis of the state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gen_models.estimators.base import Memory
from gen_models.experiment import Phase
from gen_models.training import step as step_lib

AXIS = 'data'


class Runner(NamedTuple):
  """A phase compiled for some devices.

  Attributes:
    place: global state -> state as `dispatch` wants it.
    place_arrays: data -> data on the devices, as `dispatch` wants it.
    replicate: any tree -> the same where `collect` leaves parameters.
    dispatch: (state, arrays, num_steps) -> (state, metrics); the state is donated.
    collect: state as `dispatch` gives it -> global state, not donated with it.
  """

  place: Callable
  place_arrays: Callable
  replicate: Callable
  dispatch: Callable
  collect: Callable


def runner(phase: Phase, how: str = 'sharded', *, devices=None, replicated: bool = False) -> Runner:
  """Compiles a phase for `devices` (default: all).

  Args:
    phase: what to run.
    how: 'sharded' or 'pmap'.
    devices: jax devices.
    replicated: whether the state has a leading axis of replicas.

  Raises:
    ValueError: an unknown way; from `place`, chains that do not divide over the devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  if how == 'sharded':
    return _sharded(phase, devices, replicated)
  if how == 'pmap':
    return _pmap(phase, devices, replicated)
  raise ValueError(f"a step is spread by 'sharded' or 'pmap', not {how!r}")


def _require_divisible(what: str, size: int, num_devices: int):
  if size % num_devices:
    raise ValueError(f'{size} {what} do not divide over {num_devices} devices; '
                     f'use a multiple of {num_devices}')


def _on_chains(tree, fn: Callable, other: Callable):
  """fn on the leaves that have chains on their axis, other on the rest of a TrainState."""
  memory = Memory(jax.tree.map(fn, tree.memory.chains), jax.tree.map(other, tree.memory.shared))
  return jax.tree.map(other, tree._replace(memory=None))._replace(memory=memory)


def check_chains(state, axis: int, num_devices: int):
  """Raises ValueError unless the chains, on this axis of their leaves, divide over the devices."""
  for leaf in jax.tree.leaves(state.memory.chains):
    _require_divisible('chains', leaf.shape[axis], num_devices)


def _sharded(phase: Phase, devices, replicated: bool) -> Runner:
  mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
  everywhere = NamedSharding(mesh, P())
  split_batch = NamedSharding(mesh, P(AXIS))
  split_chains = NamedSharding(mesh, P(None, AXIS) if replicated else P(AXIS))

  def local(key, batch):
    for leaf in jax.tree.leaves(batch):
      _require_divisible('images a batch', leaf.shape[0], len(devices))
    return key, jax.lax.with_sharding_constraint(batch, split_batch)

  spread = step_lib.Spread(local=local) if len(devices) > 1 else step_lib.Spread()

  def shardings(state):
    return _on_chains(state, lambda _: split_chains, lambda _: everywhere)

  def steps(state, arrays, num_steps):
    def run(state):
      return step_lib.train_steps(phase, state, arrays, num_steps, spread)
    state, metrics = (jax.vmap(run) if replicated else run)(state)
    return jax.lax.with_sharding_constraint(state, shardings(state)), metrics

  def place(state):
    check_chains(state, 1 if replicated else 0, len(devices))
    return jax.tree.map(jax.device_put, state, shardings(state))

  def replicate(tree):
    return jax.device_put(tree, everywhere)

  return Runner(place, replicate, replicate,
                jax.jit(steps, static_argnums=2, donate_argnums=0), lambda state: state)


def _pmap(phase: Phase, devices, replicated: bool) -> Runner:
  num_devices = len(devices)
  chain_axis = 1 if replicated else 0

  def local(key, batch):
    def rows(x):
      _require_divisible('images a batch', x.shape[0], num_devices)
      size = x.shape[0] // num_devices
      return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)
    return jax.random.fold_in(key, lax.axis_index(AXIS)), jax.tree.map(rows, batch)

  spread = step_lib.Spread(local=local, mean=lambda tree: lax.pmean(tree, AXIS))

  def steps(state, arrays, num_steps):
    def run(state):
      return step_lib.train_steps(phase, state, arrays, num_steps, spread)
    return (jax.vmap(run) if replicated else run)(state)

  compiled = jax.pmap(steps, axis_name=AXIS, devices=devices, static_broadcasted_argnums=2,
                      donate_argnums=0)

  def dispatch(state, arrays, num_steps):
    state, metrics = compiled(state, arrays, num_steps)
    return state, jax.tree.map(lambda m: m[0], metrics)

  def split(x):
    shape = (*x.shape[:chain_axis], num_devices, -1, *x.shape[chain_axis + 1:])
    return jnp.moveaxis(x.reshape(shape), chain_axis, 0)

  def merge(x):
    x = jnp.moveaxis(x, 0, chain_axis)
    return x.reshape(*x.shape[:chain_axis], -1, *x.shape[chain_axis + 2:])

  def copies(x):
    return jnp.broadcast_to(x[None], (num_devices, *x.shape))

  def place(state):
    check_chains(state, chain_axis, num_devices)
    return _on_chains(state, split, copies)

  return Runner(place, lambda arrays: jax.tree.map(lambda x: copies(jnp.asarray(x)), arrays),
                jax.device_put, dispatch, lambda state: _on_chains(state, merge, lambda x: x[0]))


def init_states(phase: Phase, keys, arrays, previous_params: Any = None,
                replicated: bool = False):
  """step.init_state, compiled; over a batch of keys (and of previous params) when replicated."""
  def init(key, previous, arrays):
    return step_lib.init_state(key, phase, arrays, previous)
  if not replicated:
    return jax.jit(init)(keys, previous_params, arrays)
  previous_axis = None if previous_params is None else 0
  return jax.jit(jax.vmap(init, in_axes=(0, previous_axis, None)))(keys, previous_params, arrays)
