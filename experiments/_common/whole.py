"""All training rows as one batch: rounds of EM and closed forms, which read them at every step.

Axis suffixes: N rows, V visible.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from gen_models import estimators
from gen_models.estimators.base import Estimator
from gen_models.models.rows import mean_rows


class Rows(NamedTuple):
  """All training rows.

  Attributes:
    x_NV: as the model sees them.
    label_N: their classes, where the model learns those; else None.
    weights_N: their weights; None where all are equal.
  """

  x_NV: Any
  label_N: Any = None
  weights_N: Any = None


def fixed_point(update: Callable[[Any, Rows], Any], log_likelihood: Callable) -> Estimator:
  """estimators.fixed_point of a batch of Rows; its metric `loss` is weighted as the rows are.

  Args:
    update: (params, rows) -> params.
    log_likelihood: (params, x_NV) -> [N] nats.
  """
  def shares(params, rows):
    log_p_N = log_likelihood(params, rows.x_NV)
    if rows.weights_N is None:
      return log_p_N
    return log_p_N * rows.weights_N / mean_rows(rows.weights_N)  # their mean is the weighted one

  return estimators.fixed_point(update, shares)
