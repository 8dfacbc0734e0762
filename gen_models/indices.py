"""Indices that a user gives, checked where they come in: JAX clamps one that is out of range."""

from typing import Any

import numpy as np


def check(name: str, index: Any, count: int, of: str) -> None:
  """Raises ValueError unless 0 <= index < count.

  Args:
    name: of the index, as the user wrote it: --label, or label.
    index: an int, or an array of them; one that is traced has no value yet and is let through.
    count: how many there are.
    of: what there are so many of, in the plural: classes.
  """
  if not isinstance(index, (int, np.integer, np.ndarray)) or not np.size(index):
    return
  for bad in (int(np.min(index)), int(np.max(index))):
    if not 0 <= bad < count:
      raise ValueError(f'{name}={bad}: there are {count} {of}, counted from 0')
