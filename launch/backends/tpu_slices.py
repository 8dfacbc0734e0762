"""TPU slices by generation: what they are called, how large they are, how many hosts they have.

A generation that the table does not have, and a size that it does not expect, are passed on with a
warning: larger slices are taken to have 4 chips a host, as all have so far.

Sources: Cloud TPU's pages on each generation and on software versions, GKE's on planning TPUs.
"""

import math
from typing import NamedTuple

from launch import errors
from launch.backends import schema, shell


class Generation(NamedTuple):
  """One generation of TPUs."""

  prefix: str  # of an accelerator type of Cloud TPU: v6e-16
  label: str | None  # cloud.google.com/gke-tpu-accelerator
  version: str | None  # software of a TPU VM, for JAX
  cores: int  # that an accelerator type counts for a chip
  dimensions: int | None  # of a topology
  largest: int  # chips
  one_host: tuple[int, ...]  # chips of a slice with one host; larger ones have 4 chips a host


_OLD = 'tpu-ubuntu2204-base'
GENERATIONS = (
  Generation('v2', None, _OLD, 2, 2, 256, (4,)),
  Generation('v3', None, _OLD, 2, 2, 1024, (4,)),
  Generation('v4', 'tpu-v4-podslice', _OLD, 2, 3, 4096, (4,)),
  Generation('v5litepod', 'tpu-v5-lite-podslice', 'v2-alpha-tpuv5-lite', 1, 2, 256, (1, 4, 8)),
  Generation('v5p', 'tpu-v5p-slice', 'v2-alpha-tpuv5', 2, 3, 8960, (4,)),
  Generation('v6e', 'tpu-v6e-slice', 'v2-alpha-tpuv6e', 1, 2, 256, (1, 4, 8)),
)
_TYPE = schema.text('[a-z][a-z0-9-]*-[1-9][0-9]*', 'an accelerator type, generation-size, such as '
                    'v6e-8')
_TOPOLOGY = schema.text('[1-9][0-9]*(x[1-9][0-9]*)+', 'a topology, chips along each dimension, '
                        'such as 2x4')


def from_type(name: str) -> tuple[Generation, int, int]:
  """(generation, chips, hosts) of an accelerator type such as v5litepod-16.

  Raises:
    Invalid: it is none.
  """
  flag = f'--tpu_type={name}'
  schema.check(name, _TYPE, flag)
  prefix, _, size = name.rpartition('-')
  generation = _generation(flag, prefix, {g.prefix: g for g in GENERATIONS})
  chips, rest = divmod(int(size), generation.cores)
  if rest:
    raise schema.Invalid(f'{flag}: {prefix} counts {generation.cores} cores for each chip, '
                         f'{size} cores are no number of chips')
  _warn_of_size(flag, generation, chips)
  return generation, chips, _hosts(generation, chips)


def from_topology(label: str, topology: str, hosts: int | None = None) -> tuple[int, int]:
  """(chips of a host, hosts) of a GKE slice such as tpu-v6e-slice, 4x4.

  Args:
    label: the accelerator.
    topology: chips along each dimension.
    hosts: as the user says; needed where a slice of its size may have several numbers of hosts.

  Raises:
    Invalid: the topology is none.
    UsageError: the chips do not divide over the hosts.
  """
  flag = f'--k8s_topology={topology}'
  schema.check(topology, _TOPOLOGY, flag)
  generation = _generation(f'--k8s_accelerator={label}', label,
                           {g.label: g for g in GENERATIONS if g.label})
  if generation.dimensions is not None and generation.dimensions != topology.count('x') + 1:
    raise schema.Invalid(f'{flag}: {label} has {generation.dimensions} dimensions, such as '
                         f'{"x".join("2" * generation.dimensions)}')
  chips = math.prod(map(int, topology.split('x')))
  _warn_of_size(flag, generation, chips)
  expected = _hosts(generation, chips)
  if hosts is None or hosts == expected:
    return -(-chips // expected), expected
  if chips % hosts == 0 and (generation.version is None or (chips, hosts) == (8, 2)):
    return chips // hosts, hosts
  raise errors.UsageError(f'--k8s_parallelism={hosts}: a {topology} slice of {label} has '
                          f'{expected} host{"s" if expected > 1 else ""}')


def _generation(flag: str, name: str, known: dict[str, Generation]) -> Generation:
  """The generation of this name; of one that the table does not have only the name is known."""
  if name not in known:
    shell.say(f'warning: {flag}: {name!r} is not known here, it is passed on'
              + errors.near(name, known))
  return known.get(name) or Generation(name, name, None, 1, None, 2**31, (1, 2, 4))


def _warn_of_size(flag: str, generation: Generation, chips: int) -> None:
  several = chips % 4 == 0 and max(generation.one_host) < chips <= generation.largest
  if generation.dimensions == 2:  # a torus whose sides are powers of two
    several = several and chips & (chips - 1) == 0
  if chips not in generation.one_host and not several:
    known = (*generation.one_host, 2 * max(generation.one_host))
    sizes = ', '.join(str(c * generation.cores) for c in known)
    shell.say(f'warning: {flag}: {generation.prefix} has no slice of that size that is known here; '
              f'sizes are {sizes} and so on to {generation.largest * generation.cores}')


def _hosts(generation: Generation, chips: int) -> int:
  return 1 if chips <= max(generation.one_host) else -(-chips // 4)
