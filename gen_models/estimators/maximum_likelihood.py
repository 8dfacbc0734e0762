"""Estimators for models whose likelihood can be computed: its gradient, and fixed-point maps.

  maximum_likelihood   the exact gradient
  fixed_point          a map whose fixed points are where the gradient is 0: EM, closed forms
"""

from typing import Any, Protocol

import jax

from gen_models.estimators import base
from gen_models.models.rows import mean_rows


class LogLikelihood(Protocol):
  """A likelihood that can be computed."""

  def __call__(self, params: Any, batch: Any, /) -> jax.Array:
    """log p(x), [B] nats."""
    ...


class Update(Protocol):
  """A map of parameters whose fixed points are where the gradient is 0."""

  def __call__(self, params: Any, batch: Any, /) -> Any:
    """The parameters to go to."""
    ...


def maximum_likelihood(log_likelihood: LogLikelihood) -> base.Estimator:
  """grads = -d/dparams mean_b log p(x_b), for any log_likelihood(params, x_BV) -> [B] nats."""

  def loss(key, params, x_BV):
    del key
    return -mean_rows(log_likelihood(params, x_BV)), {}

  return base.from_loss(loss)


def fixed_point(update: Update, log_likelihood: LogLikelihood) -> base.Estimator:
  """grads = params - update(params, batch): under optax.sgd(1.0) a step goes to update(params).

  So rounds of EM, and closed forms, whose update does not depend on the parameters before it, are
  training phases of the one loop. The batch is all the data, on one device or sharded: the mean of
  updates on parts is not the update on the whole. Declared biased, for it is not the gradient: that
  of EM is the gradient times a positive definite matrix that depends on params (Xu & Jordan, 1996),
  to first order in the step and in the parameters EM averages, which need not be those of the
  model.

  Args:
    update: (params, batch) -> params.
    log_likelihood: (params, batch) -> [B] nats, only for the metric `loss`, of params before.
  """

  def grad(key, params, memory, batch):
    del key
    grads = jax.tree.map(lambda old, new: old - new, params, update(params, batch))
    return grads, memory, {'loss': -mean_rows(log_likelihood(params, batch))}

  return base.Estimator(lambda key, params: base.Memory(), grad, biased=True)
