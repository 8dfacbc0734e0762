"""What a pure function may know of devices: whether rows are distributed over several.

In a training step training.parallel says so while it is traced: `distributed` and `whole`. On one
device nothing is distributed, and neither changes anything.

Scores and draws take all devices of their process inside `all_local`, which whoever begins one
enters, with parameters placed by `everywhere`. There functions whose rows do not depend on each
other distribute them: `spread` the rows of a compiled program that takes all of them at once, such
as annealed chains, and `mapped` items that are taken one after another, such as groups of images.
Random draws are those of one device (bits.py; threefry), and so are the numbers, up to the rounding
of products of fewer rows at once.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS, _ROWS = 'data', 'rows'  # of a training step, and of a score


def over(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Inside it `distributed` is true of functions that are traced."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def distributed() -> bool:
  """Whether rows of batches and chains may lie on several devices."""
  # Under pmap axes are manual: a device sees its own rows only.
  mesh = jax.sharding.get_abstract_mesh()
  return AxisType.Auto in mesh.axis_types and _ROWS not in mesh.axis_names


def whole(x):
  """x, computed by every device for itself instead of in parts that devices tell each other of."""
  return lax.with_sharding_constraint(x, PartitionSpec()) if distributed() else x


@contextlib.contextmanager
def all_local() -> Generator[None]:
  """Inside it rows are distributed over the devices of this process by the functions below."""
  if jax.local_device_count() == 1:
    yield
    return
  with jax.set_mesh(_mesh()):
    yield


def everywhere(tree: Any) -> Any:
  """The tree on every device, with which a score begins; as it is outside `all_local`."""
  return tree if _num_shares() == 1 else jax.device_put(
    tree, NamedSharding(_mesh(), PartitionSpec()))


def spread(tree: Any, axis: int = 0) -> Any:
  """The tree with one axis of its leaves distributed over the devices; in and outside jit.

  As it is where the axis does not divide over them, and outside `all_local`.
  """
  count = _num_shares()
  if count == 1 or any(x.shape[axis] % count for x in jax.tree.leaves(tree)):
    return tree
  spec = PartitionSpec(*[None] * axis, _ROWS)

  def placed(x):
    if isinstance(x, jax.core.Tracer):
      return lax.with_sharding_constraint(x, spec)
    return jax.device_put(x, NamedSharding(_mesh(), spec))

  return jax.tree.map(placed, tree)


def mapped(fn: Callable[[Any, Any], Any], items: Any, shared: Any = (), *,
           batch_size: int | None = None) -> Any:
  """lax.map of fn(item, shared) over the leading axis of `items`, each device its share of them.

  For use inside jit. Arrays that fn indexes go through `shared`: in the share of a device JAX does
  not index what is closed over. Outside `all_local` it is lax.map itself.

  Args:
    fn: of one item.
    items: a tree of arrays; the last item is repeated where they do not divide over the devices.
    shared: a tree, the same for all items.
    batch_size: items that a device takes at once, as lax.map has it.
  """
  def own(items, shared):
    return lax.map(lambda item: fn(item, shared), items, batch_size=batch_size)

  num, count = len(jax.tree.leaves(items)[0]), _num_shares()
  if min(num, count) == 1:
    return own(items, shared)
  index = jnp.minimum(jnp.arange(-(-num // count) * count), num - 1)
  split, same = PartitionSpec(_ROWS), PartitionSpec()
  made = jax.shard_map(own, in_specs=(split, same), out_specs=split, check_vma=False)(
    jax.tree.map(lambda x: x[index], items), shared)
  return jax.tree.map(lambda x: x[:num], made)


def _num_shares() -> int:
  """Devices that rows are distributed over; 1 outside `all_local` and in the share of a device."""
  mesh = jax.sharding.get_abstract_mesh()
  named = _ROWS in mesh.axis_names and AxisType.Auto in mesh.axis_types
  return mesh.shape[_ROWS] if named else 1


def _mesh() -> Mesh:
  return jax.make_mesh((jax.local_device_count(),), (_ROWS,), axis_types=(AxisType.Auto,),
                       devices=jax.local_devices())
