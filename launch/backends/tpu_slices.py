"""TPU slices by generation: what they are called, how large they are, how many hosts they have.

Sources: Cloud TPU's pages on each generation and on software versions, GKE's on planning TPUs.
"""

import math
import re
from typing import NamedTuple

from launch import errors


class Generation(NamedTuple):
  """One generation of TPUs."""

  prefix: str  # of an accelerator type of Cloud TPU: v6e-16
  label: str | None  # cloud.google.com/gke-tpu-accelerator
  version: str  # software of a TPU VM, for JAX
  cores: int  # that an accelerator type counts for a chip
  dimensions: int  # of a topology
  largest: int  # chips
  alone: tuple[int, ...]  # chips of a slice with one host; larger ones have 4 chips a host


_OLD = 'tpu-ubuntu2204-base'
GENERATIONS = (
  Generation('v2', None, _OLD, 2, 2, 256, (4,)),
  Generation('v3', None, _OLD, 2, 2, 1024, (4,)),
  Generation('v4', 'tpu-v4-podslice', _OLD, 2, 3, 4096, (4,)),
  Generation('v5litepod', 'tpu-v5-lite-podslice', 'v2-alpha-tpuv5-lite', 1, 2, 256, (1, 4, 8)),
  Generation('v5p', 'tpu-v5p-slice', 'v2-alpha-tpuv5', 2, 3, 8960, (4,)),
  Generation('v6e', 'tpu-v6e-slice', 'v2-alpha-tpuv6e', 1, 2, 256, (1, 4, 8)),
)


def from_type(text: str) -> tuple[Generation, int, int]:
  """(generation, chips, hosts) of an accelerator type such as v5litepod-16.

  Raises:
    UsageError: there is none of that name.
  """
  prefix, dash, size = text.rpartition('-')
  known = {g.prefix: g for g in GENERATIONS}
  if not dash or not size.isdigit() or prefix not in known:
    raise errors.UsageError(f'--tpu_type={text}: no such accelerator type; write generation-size'
                              + errors.near(prefix or text, list(known)))
  generation = known[prefix]
  chips, rest = divmod(int(size), generation.cores)
  _check_chips(f'--tpu_type={text}', generation, chips if not rest else 0)
  return generation, chips, _hosts(generation, chips)


def from_topology(label: str, topology: str, hosts: int | None = None) -> tuple[int, int]:
  """(chips of a host, hosts) of a GKE slice such as tpu-v6e-slice, 4x4.

  Args:
    label: the accelerator.
    topology: chips along each dimension.
    hosts: where a slice of 8 chips may be one host or two.

  Raises:
    UsageError: there is no such slice.
  """
  known = {g.label: g for g in GENERATIONS if g.label}
  if label not in known:
    raise errors.UsageError(f'--k8s_accelerator={label}: no such TPU'
                              + errors.near(label, list(known)))
  generation = known[label]
  if not re.fullmatch(r'\d+(x\d+)+', topology) or \
      topology.count('x') + 1 != generation.dimensions:
    raise errors.UsageError(f'--k8s_topology={topology}: {label} has {generation.dimensions} '
                            f'dimensions, such as {"x".join("2" * generation.dimensions)}')
  chips = math.prod(map(int, topology.split('x')))
  _check_chips(f'--k8s_topology={topology}', generation, chips)
  expected = _hosts(generation, chips)
  if hosts in (None, expected):
    return chips // expected, expected
  if chips == 8 and hosts == 2:
    return 4, 2
  raise errors.UsageError(f'--k8s_parallelism={hosts}: a {topology} slice of {label} has '
                          f'{expected} host{"s" if expected > 1 else ""}')


def _check_chips(flag: str, generation: Generation, chips: int) -> None:
  multi = chips % 4 == 0 and max(generation.alone) < chips <= generation.largest
  if generation.dimensions == 2:  # a torus whose sides are powers of two
    multi = multi and chips & (chips - 1) == 0
  if chips not in generation.alone and not multi:
    sizes = [str(c * generation.cores) for c in (*generation.alone, 2 * max(generation.alone))]
    raise errors.UsageError(f'{flag}: {generation.prefix} has no slice of that size; sizes are '
                            f'{", ".join(sizes)} and so on to '
                            f'{generation.largest * generation.cores}')


def _hosts(generation: Generation, chips: int) -> int:
  return 1 if chips in generation.alone else chips // 4
