"""Problems with a known gradient, and estimators of it with what is known of them."""

from typing import Any, NamedTuple, Protocol

import jax

from gen_models.estimators.base import Estimator


class ExactLoss(Protocol):
  """A loss without chance: enumerated or integrated."""

  def __call__(self, params: Any, batch: Any, /) -> jax.Array:
    """Scalar."""
    ...


class Entry(NamedTuple):
  """An estimator and a problem on which its expectation is known.

  Attributes:
    estimator: under test.
    problem: name of the problem, shared by the estimators of one gradient.
    params: where its gradient is taken.
    batch: what it sees at every call.
    loss: (params, batch) -> the scalar whose gradient it estimates, by enumeration.
    burn_in: calls after which what it remembers has forgotten its start.
    deterministic: whether two keys give the same gradient.
  """

  estimator: Estimator
  problem: str
  params: Any
  batch: Any
  loss: ExactLoss
  burn_in: int = 0
  deterministic: bool = False


class Problem(NamedTuple):
  """A loss that can be enumerated or integrated, at fixed parameters and batch.

  Attributes:
    name: unique.
    params: where gradients are taken.
    batch: what an estimator sees at every call.
    loss: (params, batch) -> scalar, exact.
    description: the model and its size, in a few words.
    objective: the loss, in a few words.
    burn_in: calls after which chains, baselines and averages have forgotten their start.
  """

  name: str
  params: Any
  batch: Any
  loss: ExactLoss
  description: str
  objective: str
  burn_in: int = 0

  def entry(self, estimator: Estimator, burn_in: int = 0, deterministic: bool = False) -> Entry:
    """An estimator of this problem's gradient."""
    return Entry(estimator, self.name, self.params, self.batch, self.loss, burn_in, deterministic)
