"""Memory: how much there is, and the refusal of what does not fit."""

import os
import pathlib

import jax
import numpy as np

from launch import errors


def free_memory() -> float:
  """Bytes of this machine that programs can still take, infinite where it does not say."""
  try:
    for line in pathlib.Path('/proc/meminfo').read_text(encoding='utf-8').splitlines():
      if line.startswith('MemAvailable:'):
        return 1024.0 * int(line.split()[1])
    return float(os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))
  except (OSError, ValueError):
    return float('inf')


def require_replicas(seeds: int, state) -> None:
  """Raises UsageError unless the devices hold the state of a program of so many replicas twice.

  Args:
    seeds: number of replicas.
    state: of one of them, arrays or their shapes.
  """
  limits = [(device.memory_stats() or {}).get('bytes_limit') for device in jax.local_devices()]
  known = [limit for limit in limits if limit]
  free = float(sum(known)) if len(known) == len(limits) else free_memory()
  needed = 2.0 * seeds * num_bytes(state)
  if needed > free:
    most = int(free / (2.0 * num_bytes(state)))
    if not most:
      raise errors.UsageError(
        f'a run of these sizes needs about {needed / seeds / 1e9:,.1f} GB, and {free / 1e9:,.1f} '
        'GB are free: choose smaller layers, or fewer chains')
    raise errors.UsageError(
      f'--seeds={seeds}: replicas in one program need about {needed / 1e9:,.1f} GB, and '
      f'{free / 1e9:,.1f} GB are free, which hold {most}: train the others by another command, in '
      'another --workdir with another --seed')


def num_bytes(tree) -> int:
  """Of all leaves, which are arrays, keys or their shapes."""
  return sum(int(np.prod(x.shape)) * (8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
                                      else x.dtype.itemsize) for x in jax.tree.leaves(tree))
