"""Results that depend on the data alone, computed once in a process."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from gen_models import data

Found = TypeVar('Found')


class _Kept:
  """The data that were seen last, by whatever function, and the results of all functions on them.

  One slot for all, so that no more than one data set is held.
  """

  def __init__(self):
    self._dataset: data.Dataset | None = None
    self._found: dict[tuple, Any] = {}

  def at(self, dataset: data.Dataset) -> dict[tuple, Any]:
    """The results on these data, empty if others were seen last."""
    if self._dataset is None or not _same(self._dataset, dataset):
      self._found = {}
    self._dataset = dataset  # of two equal ones the later, which others hold too
    return self._found


_KEPT = _Kept()


def of_data(compute: Callable[..., Found]) -> Callable[..., Found]:
  """compute(dataset, ..), whose results are kept for the data that were seen last.

  Seeds and points of a sweep are scored one after another on the same data, and a baseline or a
  classifier that judges draws may take longer than the score itself. Data are the same if their
  arrays are, whether or not they were read anew. Callers do not change what they get.

  Args:
    compute: a deterministic function of a data set and of arguments that can be hashed.
  """
  @functools.wraps(compute)
  def kept(dataset: data.Dataset, *args, **options) -> Found:
    found, asked = _KEPT.at(dataset), (kept, args, tuple(sorted(options.items())))
    if asked not in found:
      found[asked] = compute(dataset, *args, **options)
    return found[asked]

  return kept


def _same(first: data.Dataset, second: data.Dataset) -> bool:
  if first is second:
    return True
  if (first.name, first.about) != (second.name, second.about):
    return False
  (ours, form), (theirs, other) = (
    jax.tree.flatten((d.train, d.valid, d.test)) for d in (first, second))
  return form == other and all(
    np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == 'f')
    for a, b in zip(ours, theirs, strict=True))
