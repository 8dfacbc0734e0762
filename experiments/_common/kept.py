"""What depends on the data alone and several scores read: computed once in a process."""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np

from gen_models import data

Found = TypeVar('Found')


def of_data(compute: Callable[..., Found]) -> Callable[..., Found]:
  """compute(dataset, ..), whose results are kept for the data that it saw last.

  Seeds and points of a sweep are scored one after another on the same data, and a baseline or a
  classifier that judges draws may take longer than the score itself. Data are the same if their
  arrays are, whether or not they were read anew. Callers do not change what they get.

  Args:
    compute: of a data set, and of arguments that can be hashed; the same whenever it is called.
  """
  last: list[data.Dataset] = []
  found: dict[tuple, Found] = {}

  @functools.wraps(compute)
  def kept(dataset: data.Dataset, *args, **options) -> Found:
    if not last or not _same(last[0], dataset):
      last[:] = [dataset]
      found.clear()
    asked = args, tuple(sorted(options.items()))
    if asked not in found:
      found[asked] = compute(dataset, *args, **options)
    return found[asked]

  return kept


def _same(first: data.Dataset, second: data.Dataset) -> bool:
  if first is second:
    return True
  if first.about != second.about:
    return False
  ours, theirs = (jax.tree.leaves((d.train, d.valid, d.test)) for d in (first, second))
  return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))
