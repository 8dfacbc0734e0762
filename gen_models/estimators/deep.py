"""Contrastive gradients of a deep Boltzmann machine, folded into a machine of two layers.

  d/dW_l (-log p(v)) = -(E[x_{l-1} x_l | data] - E[x_{l-1} x_l | model])

is the gradient of gen_models.estimators.contrastive with the even layers visible and the odd ones
hidden (gen_models.models.dbm). Every negative phase and every direction of a machine of two layers
is therefore one here. The positive phase is no longer a product and is an argument:

  mean_field_posterior   q of independent units: with it the expectation is the gradient of the
                         variational bound, not of -log p(v)
  coupled_posterior      pairs of Gibbs chains with the data held, until they meet: the gradient of
                         -log p(v) without bias

  deep(model, mean_field_posterior(model), persistent(chains=100), direction=centred())

and `duplicated` is the gradient of an RBM that sees one side, or both, twice: pretraining.

Axis suffixes: B batch, V visible and H hidden side of the folded machine, E even and O odd layers
above the data.

Salakhutdinov & Hinton (2009), Deep Boltzmann machines; Montavon & Mueller (2012), Deep Boltzmann
machines and the centering trick.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.estimators.contrastive import Positive, contrastive
from gen_models.estimators.directions import PLAIN, Direction
from gen_models.estimators.negative import (
  Drawn,
  Negative,
  debiased,
  require_binary,
  require_steps,
)
from gen_models.models import dbm, rbm, units
from gen_models.models.gibbs import Chains


def deep(model: dbm.DBM, positive: Positive, negative: Negative, *,
         direction: Direction = PLAIN) -> base.Estimator:
  """`contrastive` of the folded machine, for dbm.Params.

  Args:
    model: the machine.
    positive: how the positive phase is drawn, see above.
    negative: how the negative phase is drawn, gen_models.estimators.negative and tempered.
    direction: what is made of the gradient, gen_models.estimators.directions.

  Returns:
    an Estimator whose batch is v_BV, or (v_BV, y_B) where the model has labels; `biased` says
    whether it is for the loss that its positive phase follows, see there.
  """
  inner = contrastive(model.machine, negative, positive=positive, direction=direction,
                      connections=model.connections())

  def init(key, params):
    return inner.init(key, model.fold(params))

  def grad(key, params, memory, batch):
    grads, memory, metrics = inner.grad(key, model.fold(params), memory, batch)
    return model.unfold(grads), memory, metrics

  def folded(target: base.Target) -> base.Target:
    return lambda grads, params, memory: model.unfold(
      target(model.fold(grads), model.fold(params), memory))

  return base.Estimator(init, grad, inner.biased, folded(inner.target) if inner.target else None)


def mean_field_posterior(model: dbm.DBM, *, tolerance: float = 1e-3, max_iterations: int = 50,
                         damping: float = 0.0) -> Positive:
  """E[x_{l-1} x_l | data] by m_{l-1} m_l, m the means of dbm.DBM.posterior; labels are held.

  At a maximum of the bound over q its derivative by q is zero, so this is the whole gradient of

    L = -(1/B) sum_b max_q (E_q[log p(v_b, x)] - E_q[log q(x)]),

  which is what an estimator with this positive phase follows, up to the tolerance. Metrics:
  `posterior_iterations` and `posterior_change`.

  Args:
    model: the machine.
    tolerance, max_iterations, damping: as of dbm.DBM.posterior.
  """
  require_steps(max_iterations)

  def positive(key, machine, folded, batch):
    del key, machine
    params, (v_BV, y_B) = model.unfold(folded), _parts(batch)
    q = model.posterior(params, v_BV, y_B, tolerance=tolerance, max_iterations=max_iterations,
                        damping=damping)
    return Drawn(model.complete(params, v_BV, q), q.y_BO, metrics={
      'posterior_iterations': q.iterations.astype(jnp.float32), 'posterior_change': q.change})

  return positive


def coupled_posterior(model: dbm.DBM, steps: int = 1, max_steps: int = 1000, *,
                      tolerance: float = 1e-3, max_iterations: int = 50) -> Positive:
  """E[f | data] without bias, by one pair of coupled chains for each row of the batch.

  As gen_models.estimators.negative.coupled, with the data held; both chains of a pair start from
  draws of the mean-field posterior, near a mode of what they are to sample. With both phases drawn
  so there is neither pretraining nor mean field in what is followed: Taniguchi, Suzuki, Iwasawa &
  Matsuo (2023), End-to-end training of deep Boltzmann machines by unbiased contrastive divergence
  with local mode initialization, who couple Metropolis-Hastings proposals where here Gibbs steps
  are coupled. Metrics: `posterior_met`, the share of pairs that met, and `posterior_steps`.

  Args:
    model: the machine, all of whose units are Bernoulli.
    steps: k, Gibbs steps before the first f counts.
    max_steps: where a pair that has not met is given up, which biases.
    tolerance, max_iterations: of the mean field where chains start.
  """
  require_steps(steps)
  if max_steps <= steps:
    raise ValueError(f'coupled chains need max_steps > steps, got {max_steps} and {steps}')

  def positive(key, machine, folded, v_BV):
    require_binary(machine, 'coupled chains')
    params = model.unfold(folded)
    q = model.posterior(params, v_BV, tolerance=tolerance, max_iterations=max_iterations)

    def one_step(key, x_BO):
      x_BE, x_BO = model.posterior_step(key, params, q.drive_BO, x_BO)
      return jnp.concatenate([v_BV, x_BE], axis=-1), x_BO

    def weighted_moments(x_BV, weight_B):
      p_BH = rbm.hidden_mean(folded, x_BV) * weight_B[:, None] / len(v_BV)
      return x_BV.T @ p_BH, weight_B @ x_BV / len(v_BV), jnp.sum(p_BH, axis=0)

    key_x, key_y, key_first, key_run = jax.random.split(key, 4)
    mean_BO = model.posterior_means(params, q)[1]
    x_BO, y_BO = (units.bits.bernoulli(k, mean_BO) for k in (key_x, key_y))
    y = Chains(model.complete(params, v_BV, q), y_BO)  # only its odd layers are read
    x = Chains(*one_step(key_first, x_BO))
    zeros = jax.tree.map(jnp.zeros_like, tuple(folded))
    pairs = debiased(key_run, one_step, weighted_moments, x, y, zeros, steps, max_steps)
    return Drawn(pairs.drawn_CV, pairs.drawn_CV @ folded.w_VH, pairs.correction, {
      'posterior_met': 1 - jnp.mean(pairs.apart_C), 'posterior_steps': pairs.steps})

  return positive


def _parts(batch) -> tuple[jax.Array, Any]:
  """(v_BV, labels or None) of a batch."""
  return batch if isinstance(batch, tuple) else (batch, None)


def duplicated(estimator: base.Estimator, visible: int, hidden: int) -> base.Estimator:
  """`estimator` of an RBM whose sides are there `visible` and `hidden` times, W in every block.

  The data are copied; the copies in the negative phase are drawn each for itself. How often which
  side is copied in pretraining: dbm.copies.

  Returns:
    an Estimator for rbm.Params of one copy; batch v_BV.
  """
  def widened(params):
    return rbm.Params(jnp.tile(params.w_VH, (visible, hidden)), jnp.tile(params.b_V, visible),
                      jnp.tile(params.c_H, hidden))

  def narrowed(grads):
    """The gradient of one copy's parameters: that of all copies, summed."""
    num_visible, num_hidden = (n // k for n, k in zip(grads.w_VH.shape, (visible, hidden)))
    w_VH = grads.w_VH.reshape(visible, num_visible, hidden, num_hidden).sum((0, 2))
    return rbm.Params(w_VH, grads.b_V.reshape(visible, -1).sum(0),
                      grads.c_H.reshape(hidden, -1).sum(0))

  def init(key, params):
    return estimator.init(key, widened(params))

  def grad(key, params, memory, v_BV):
    grads, memory, metrics = estimator.grad(
      key, widened(params), memory, jnp.tile(v_BV, (1, visible)))
    return narrowed(grads), memory, metrics

  def of_copies(target: base.Target) -> base.Target:
    def shared(grads, params, memory):
      # Copies are alike, so each has its share of the exact gradient.
      wide = widened(rbm.Params(grads.w_VH / (visible * hidden), grads.b_V / visible,
                                grads.c_H / hidden))
      return narrowed(target(wide, widened(params), memory))
    return shared

  return base.Estimator(init, grad, estimator.biased,
                        of_copies(estimator.target) if estimator.target else None)
