"""What a pure function may know of devices: whether rows are distributed over several.

training.parallel says so while a step is traced, and is the only file that knows how many there
are. Elsewhere nothing is distributed, and both functions below change nothing.
"""

import contextlib

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec


def over(mesh: Mesh) -> contextlib.AbstractContextManager:
  """Inside it `distributed` is true of functions that are traced."""
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def distributed() -> bool:
  """Whether rows of batches and chains may lie on several devices."""
  # Under pmap axes are manual: a device sees its own rows only.
  return AxisType.Auto in jax.sharding.get_abstract_mesh().axis_types


def whole(x):
  """x, computed by every device for itself instead of in parts that devices tell each other of."""
  return lax.with_sharding_constraint(x, PartitionSpec()) if distributed() else x
