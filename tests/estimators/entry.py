"""What the battery knows of an estimator."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gen_models.estimators.base import Estimator


class Entry(NamedTuple):
  """An estimator and a problem on which its expectation is known.

  Attributes:
    estimator: under test.
    params: where its gradient is taken.
    batch: what it sees at every call.
    loss: (params, batch) -> the scalar whose gradient it estimates, by enumeration.
    burn_in: calls after which what it remembers has forgotten its start.
    deterministic: whether two keys give the same gradient.
  """

  estimator: Estimator
  params: Any
  batch: Any
  loss: Callable
  burn_in: int = 0
  deterministic: bool = False
