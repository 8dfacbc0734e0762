"""The exact gradient of -E_data[log p(x)], for models whose likelihood can be computed."""

from collections.abc import Callable

from gen_models.estimators import base
from gen_models.models import units


def maximum_likelihood(log_likelihood: Callable) -> base.Estimator:
  """grads = -d/dparams mean_b log p(x_b), for any log_likelihood(params, x_BV) -> [B] nats."""

  def loss(key, params, x_BV):
    del key
    return -units.mean_rows(log_likelihood(params, x_BV)), {}

  return base.from_loss(loss)
