"""Ways to distribute one pure step over devices.

  sharded   jax.jit of the global program: batch and chains split over the `data` axis of a mesh,
            the rest replicated, sums over the batch completed by the compiler. The random draws are
            those of one device, so the run is too, up to the order of floating-point sums: the
            same chains bit for bit until rounding changes a sample (after 200 updates or more at
            64-16, earlier at 784-500; from then on two runs differ as two seeds do). With a second
            axis `model` of the mesh, layers too wide for one device are split over it too: of all
            floating leaves of parameters, optimizer and memory the last axis, and of chains the
            units, where they divide. Each device then holds that part of every matrix.
  pmap      the per-device program through jax.pmap: each device folds its index into the key,
            draws its own samples and averages gradients with lax.pmean. The batch is the global
            one, so an estimator that draws nothing agrees with `sharded`; one that samples agrees
            in law. Of the estimator's shared memory floating leaves are averaged and all others,
            such as counters, kept.

  replicas  the global program again, of many replicas, but each device has some of the replicas,
            whole: nothing is ever summed over devices. Where replicas do not divide, the last is
            repeated and its copies are ignored.

All take and give a TrainState in the global layout, so checkpoints do not know the difference.

Replicas (several seeds or hyperparameters in one program) are a vmap of the step over the leading
axis of the state. `sequential` dispatches them one after another through the program of a single
run instead, compiled once: they are bitwise identical to single runs, whatever the model.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gen_models import devices as devices_lib
from gen_models.data import Window
from gen_models.estimators.base import Memory
from gen_models.experiment import Phase
from gen_models.training import keys as keys_lib, step as step_lib

AXIS, MODEL = devices_lib.AXIS, 'model'
_COMPARED, _UPDATES = 4, 100  # replicas and updates of which a vmap is compared with single runs


class Layout(NamedTuple):
  """How a step, and the replicas of it, are distributed over devices.

  Attributes:
    how: 'sharded', 'pmap' or, with replicas, 'replicas', see above.
    sequential: of 'replicas': True for one after another, False for a vmap, None for a vmap where
      it is seen to be bitwise identical to single runs, and else sequential.
    devices: jax devices; None for all.
    model: of 'sharded', how many devices share the units of a layer; the batch is split over as
      many groups of them as there are.
  """

  how: str = 'sharded'
  sequential: bool | None = False
  devices: Sequence[Any] | None = None
  model: int = 1


class Runner(NamedTuple):
  """A phase compiled for some devices.

  Attributes:
    place: global state -> a copy of it as `dispatch` wants it: dispatches donate their state, so
      what they are given must share no buffer with anything that is used again.
    place_arrays: data -> data on the devices, as `dispatch` wants it.
    replicate: any tree -> the same where `collect` leaves parameters.
    dispatch: (state, arrays, num_steps) -> (state, metrics); the state is donated.
    collect: state as `dispatch` gives it -> global state; valid until the next dispatch, which may
      donate it.
    share: () -> (index, count): the rows [index, index + 1) * B / count of every streamed batch are
      what this process reads; ValueError where these are not those of its devices.
  """

  place: Callable[[Any], Any]
  place_arrays: Callable[[Any], Any]
  replicate: Callable[[Any], Any]
  dispatch: Callable[[Any, Any, int], tuple[Any, dict[str, Any]]]
  collect: Callable[[Any], Any]
  share: Callable[[], tuple[int, int]] = lambda: (0, 1)


def runner(phase: Phase, how: str = 'sharded', *, devices=None, replicated: bool = False,
           sequential: bool = False, model: int = 1) -> Runner:
  """Compiles a phase for `devices` (default: all).

  Args:
    phase: what to run.
    how: 'sharded', 'pmap' or, with replicas, 'replicas'.
    devices: jax devices.
    replicated: whether the state has a leading axis of replicas.
    sequential: replicas one after another instead of a vmap; with `how='replicas'`.
    model: devices that share the units of a layer; with `how='sharded'`.

  Raises:
    ValueError: an unknown way, or one that is not for several processes; devices that are no whole
      groups of `model`; from `place`, chains that do not divide over the devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  num_groups(Layout(how, sequential, devices, model))
  if how != 'sharded' and len({device.process_index for device in devices}) > 1:
    raise ValueError(f'{how!r} is for the devices of one process; '
                     "several processes need 'sharded'")
  if how == 'sharded':
    return _sharded(phase, devices, replicated, model)
  if how == 'pmap':
    return _pmap(phase, devices, replicated)
  if how == 'replicas' and replicated:
    return _sequential(phase, devices) if sequential else _replicas(phase, devices)
  raise ValueError(f"a step is distributed by 'sharded', 'pmap' or, with replicas, 'replicas', "
                   f'not {how!r}')


def num_groups(layout: Layout) -> int:
  """Of devices that share the units of a layer, over which batch and chains are split.

  Raises:
    ValueError: devices that are no whole groups, or a layout that does not split units.
  """
  if layout.model != 1 and layout.how != 'sharded':
    raise ValueError("the units of a layer are split over devices by 'sharded', not by "
                     f'{layout.how!r}')
  count = len(jax.devices() if layout.devices is None else layout.devices)
  if count % layout.model:
    raise ValueError(f'--model_devices={layout.model} does not divide the number of devices, '
                     f'{count}: give a divisor of it')
  return count // layout.model


def _require_divisible(what: str, size: int, num_devices: int):
  if size % num_devices:
    raise ValueError(f'{size} {what} do not divide over {num_devices} devices; '
                     f'use a multiple of {num_devices}')


def _on_chains(tree, fn: Callable[[Any], Any], other: Callable[[Any], Any]):
  """fn on the leaves that have chains on their axis, other on the rest of a TrainState."""
  memory = Memory(jax.tree.map(fn, tree.memory.chains), jax.tree.map(other, tree.memory.shared))
  return jax.tree.map(other, tree._replace(memory=None))._replace(memory=memory)


def check_chains(state, axis: int, num_devices: int):
  """Raises ValueError unless the chains, on this axis of their leaves, divide over the devices."""
  for leaf in jax.tree.leaves(state.memory.chains):
    _require_divisible('chains', leaf.shape[axis], num_devices)


def _sharded(phase: Phase, devices, replicated: bool, model: int = 1) -> Runner:
  groups = len(devices) // model
  shape, names = ((groups,), (AXIS,)) if model == 1 else ((groups, model), (AXIS, MODEL))
  mesh = jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=devices)
  everywhere = NamedSharding(mesh, P())
  split_batch = NamedSharding(mesh, P(AXIS))

  def local(key, batch):
    for leaf in jax.tree.leaves(batch):
      _require_divisible('images a batch', leaf.shape[0], groups)
    return key, jax.lax.with_sharding_constraint(batch, split_batch)

  collective = (step_lib.Collective(local=local) if len(devices) > 1 else step_lib.Collective())

  def split(x, *lead):
    """Axes `lead` as they say, and the last of the others over MODEL where it divides."""
    rest: list[str | None] = [None] * (x.ndim - len(lead))
    if model > 1 and rest and x.shape[-1] % model == 0 and jnp.issubdtype(x.dtype, jnp.floating):
      rest[-1] = MODEL
    return NamedSharding(mesh, P(*lead, *rest))

  replicas = (None,) * replicated

  def shardings(state):
    return _on_chains(state, lambda x: split(x, *replicas, AXIS), lambda x: split(x, *replicas))

  def steps(state, arrays, num_steps):
    def run(state):
      return step_lib.train_steps(phase, state, arrays, num_steps, collective)
    with devices_lib.over(mesh) if len(devices) > 1 else contextlib.nullcontext():
      state, metrics = (jax.vmap(run) if replicated else run)(state)
    return jax.lax.with_sharding_constraint(state, shardings(state)), metrics

  def place(state):
    check_chains(state, 1 if replicated else 0, groups)
    return jax.tree.map(put_copy, state, shardings(state))

  def replicate(tree):
    return jax.tree.map(lambda x: put(x, everywhere), tree)

  def place_arrays(arrays):
    # A window of a stream holds this process's rows of its batches, anything else all rows.
    if isinstance(arrays, Window) and not everywhere.is_fully_addressable:
      return _join_rows(arrays, mesh)
    return replicate(arrays)

  return Runner(place, place_arrays, replicate,
                jax.jit(steps, static_argnums=2, donate_argnums=0), lambda state: state,
                lambda: _share(mesh.devices.flat))


def put(x, sharding):
  """device_put; with several processes, each places its part of what all of them hold whole."""
  if sharding.is_fully_addressable:
    return jax.device_put(x, sharding)
  if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    data = put(jax.random.key_data(x), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  host = np.asarray(x)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def put_copy(x, sharding):
  """put, of which nothing is shared with x; device_put itself may keep the buffer that it is given.

  Its own may_alias=False does not prevent that where x already lies on one of several devices.
  """
  return put(jnp.copy(x) if sharding.is_fully_addressable else x, sharding)


def put_everywhere(tree):
  """Every leaf, held whole by each process, on all devices of all of them: as checkpoints are."""
  mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
  return jax.tree.map(lambda x: put(x, NamedSharding(mesh, P())), tree)


def held_whole(tree):
  """The tree with every leaf held by this process; of several processes, replicated leaves."""
  return jax.tree.map(lambda x: x if getattr(x, 'is_fully_addressable', True) else np.asarray(x),
                      tree)


def _share(devices) -> tuple[int, int]:
  """(index, count) of this process's part of what is split over these devices, in their order.

  Raises:
    ValueError: the part is no range of rows.
  """
  owners = [device.process_index for device in devices]
  order = list(dict.fromkeys(owners))
  if owners != sorted(owners, key=order.index):
    raise ValueError('the devices of a process are not next to each other in the mesh: keep the '
                     'data on the devices, without --stream')
  return order.index(jax.process_index()), len(order)


def _join_rows(window: Window, mesh) -> Window:
  """The window of whole batches, of which every process holds its own rows."""
  def join(x):
    return jax.make_array_from_process_local_data(NamedSharding(mesh, P(None, AXIS)), x)

  return Window(join(window.images), None if window.labels is None else join(window.labels),
                put(window.first, NamedSharding(mesh, P())))


def _replicas(phase: Phase, devices) -> Runner:
  mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
  split, everywhere = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
  num_replicas = None

  def steps(state, arrays, num_steps):
    return jax.vmap(lambda one: step_lib.train_steps(phase, one, arrays, num_steps))(state)

  compiled = jax.jit(steps, static_argnums=2, donate_argnums=0, out_shardings=split)

  def place(state):
    nonlocal num_replicas
    num_replicas = len(state.step)
    rows = np.minimum(np.arange(-(-num_replicas // len(devices)) * len(devices)), num_replicas - 1)
    return jax.tree.map(lambda x: jax.device_put(x[rows], split), state)

  def own(tree):
    return jax.tree.map(lambda x: x[:num_replicas], tree)

  def dispatch(state, arrays, num_steps):
    state, metrics = compiled(state, arrays, num_steps)
    return state, own(metrics)

  def replicate(tree):
    return jax.device_put(tree, everywhere)

  return Runner(place, replicate, replicate, dispatch, own)


def _sequential(phase: Phase, devices) -> Runner:
  """The program of a single run, dispatched for one replica after another, round robin."""
  single = [_sharded(phase, [device], replicated=False) for device in devices]

  def own(i):
    return single[i % len(single)]

  def place(state):
    return [own(i).place(jax.tree.map(lambda x, i=i: x[i], state))
            for i in range(len(state.step))]

  def place_arrays(arrays):
    return [runner.place_arrays(arrays) for runner in single]

  def dispatch(states, arrays, num_steps):
    done = [own(i).dispatch(state, arrays[i % len(single)], num_steps)
            for i, state in enumerate(states)]
    return [state for state, _ in done], collect([metrics for _, metrics in done])

  def collect(trees):
    return stack([jax.device_put(tree, devices[0]) for tree in trees])

  return Runner(place, place_arrays, lambda tree: jax.device_put(tree, devices[0]), dispatch,
                collect)


def vmap_keeps_bits(phase: Phase, state, arrays, num_steps: int, devices=None) -> bool:
  """Whether replicas under vmap are bitwise identical to single runs, seen on some after a while.

  XLA may order a batched sum differently. Where rounding differs, it mostly does so at once in some
  leaf of parameters, optimizer or memory, but a small model may round alike for tens of updates. So
  _COMPARED replicas, evenly apart, are compared after _UPDATES updates, in dispatches of num_steps.
  The state is not changed.
  """
  devices = list(jax.devices() if devices is None else devices)
  num = len(state.step)
  dispatches = max(1, min(-(-_UPDATES // num_steps), phase.num_steps // num_steps))

  def after(runner, state):
    state, rows = runner.place(state), runner.place_arrays(arrays)
    for _ in range(dispatches):
      state, _ = runner.dispatch(state, rows, num_steps)
    return jax.device_get(state._replace(key=()))

  ends = after(_replicas(phase, devices), state)
  single = _sharded(phase, devices[:1], replicated=False)

  def same(i):
    end = after(single, jax.tree.map(lambda x: x[i], state))
    return all(jax.tree.leaves(jax.tree.map(
      lambda x, y: np.array_equal(x[i], y, equal_nan=True), ends, end)))

  return all(map(same, np.unique(np.linspace(0, num - 1, min(num, _COMPARED)).round().astype(int))))


def by_rows(fn: Callable[[Any, Any, Any], Any], devices=None) -> Callable[[Any, Any, Any], Any]:
  """fn(key, params, rows) compiled once, the rows split over devices and everything else on all.

  Args:
    fn: jit-able; what it returns has the rows on the leading axis.
    devices: jax devices of this process; None for all.

  Returns:
    a function of the same arguments; ValueError where the rows do not divide over the devices.
  """
  devices = list(jax.local_devices() if devices is None else devices)
  mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
  compiled = jax.jit(fn)

  def run(key, params, rows):
    _require_divisible('rows', len(rows), len(devices))
    everywhere = NamedSharding(mesh, P())
    return compiled(*jax.device_put((key, params), everywhere),
                    jax.device_put(rows, NamedSharding(mesh, P(AXIS))))

  return run


def stack(trees):
  """Trees of the same structure as one with a leading axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _pmap(phase: Phase, devices, replicated: bool) -> Runner:
  num_devices = len(devices)
  chain_axis = 1 if replicated else 0

  def local(key, batch):
    def rows(x):
      _require_divisible('images a batch', x.shape[0], num_devices)
      size = x.shape[0] // num_devices
      return lax.dynamic_slice_in_dim(x, lax.axis_index(AXIS) * size, size)
    return keys_lib.device(key, lax.axis_index(AXIS)), jax.tree.map(rows, batch)

  def mean(tree):
    return jax.tree.map(
      lambda x: lax.pmean(x, AXIS) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

  collective = step_lib.Collective(local, mean)

  def steps(state, arrays, num_steps):
    def run(state):
      return step_lib.train_steps(phase, state, arrays, num_steps, collective)
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


def init_states(phase: Phase, keys, arrays, previous_params: Any = None, hyper: Any = (), *,
                sequential: bool = False):
  """step.init_state, compiled; of keys [S], over these, previous params and hyper."""
  def init(own, arrays):
    key, previous, hyper = own
    return step_lib.init_state(key, phase, arrays, previous, hyper)
  return over_replicas(init, keys.ndim > 0, sequential)((keys, previous_params, hyper), arrays)


def over_replicas(fn: Callable, replicated: bool, sequential: bool = False) -> Callable:
  """fn(own, *shared), compiled; over the leading axis of `own` when there are replicas."""
  if not replicated:
    return jax.jit(fn)
  if not sequential:
    return jax.jit(lambda own, *shared: jax.vmap(lambda one: fn(one, *shared))(own))
  one = jax.jit(fn)

  def one_by_one(own, *shared):
    num_replicas = len(jax.tree.leaves(own)[0])
    return stack([one(jax.tree.map(lambda x, i=i: x[i], own), *shared)
                  for i in range(num_replicas)])

  return one_by_one
