"""Contrastive gradients of a Boltzmann machine: a positive and a negative phase.

  d/dW (-log p(v)) = -(E[v h | data] - E[v h | model]),

the first expectation (positive phase) with h ~ p(h | v) summed exactly, the second
(negative phase) from samples. Estimators differ only in how those samples are drawn and in the
direction taken, so both are arguments:

  contrastive(rbm, negative=persistent(chains=512, steps=5), direction=centred())

`model` is anything that reads like gen_models.models.rbm, a gibbs.Model: layers `visible` and
`hidden` (gen_models.models.units), their conditionals, and parameters (w_VH, b_V, c_H) with the
energy -log_base(b, v) - log_base(c, h) - v.W.h. gen_models.models.machine.Machine makes one of any
two layers.

Axis suffixes: B batch, C chains, N = B + C, V visible, H hidden.
"""

from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gen_models import devices
from gen_models.estimators import base
from gen_models.estimators.directions import PLAIN, Direction, Rows, connected
from gen_models.estimators.negative import Drawn, Negative
from gen_models.models import units
from gen_models.models.gibbs import Model
from gen_models.models.rows import mean_rows


class Shared(NamedTuple):
  """The part of the memory that has no chains."""

  negative: Any
  direction: Any


class Positive(Protocol):
  """A positive phase that is itself estimated, where p(h | v) is not a product."""

  def __call__(self, key: jax.Array, model: Model, params: Any, batch: Any, /) -> Drawn:
    """Rows of the visible layer with their input to the hidden one; the key is consumed."""
    ...


class Penalty(Protocol):
  """A penalty on parameters and data, added to the loss."""

  def __call__(self, params: Any, v_BV: jax.Array, /) -> jax.Array:
    """Scalar, in nats."""
    ...


def contrastive(model: Model, negative: Negative, *, direction: Direction = PLAIN,
                last_half_step: Literal['probabilities', 'samples'] = 'probabilities',
                penalty: Penalty | None = None, positive: Positive | None = None,
                connections: Any = None) -> base.Estimator:
  """grads = -(<v E[h|v]>_data - <v E[h|v]>_negative), likewise for what layers have of their own.

  Args:
    model: module or namespace, see above.
    negative: how the negative phase is drawn, gen_models.estimators.negative.
    direction: what is made of the gradient, gen_models.estimators.directions.
    last_half_step: whether the negative phase's h are E[h | v] (less variance, the same
      mean) or samples of it.
    penalty: (params, v_BV) -> scalar added to the loss, as `sparsity`.
    positive: rows that stand for the data, where a batch is not v_BV itself, such as those of
      gen_models.estimators.deep; None for v_BV.
    connections: [V, H], 1 where W is a parameter and 0 where it is not; None where all of it is.

  Returns:
    an Estimator whose batch is v_BV (for Bernoulli units in [0, 1]); its metrics are
    `moment_error`, the mean over visible units of |<v>_data - <v>_negative|, `hidden_activity`, the
    mean E[h | data], and those of the negative phase.
  """
  if last_half_step not in ('probabilities', 'samples'):
    raise ValueError(f"last_half_step is 'probabilities' or 'samples', not {last_half_step!r}")
  direction = connected(direction, connections)

  def init(key, params):
    memory = negative.init(key, model, params)
    return base.Memory(memory.chains, Shared(memory.shared, direction.init(model, params)))

  def grad(key, params, memory, batch):
    visible, hidden = model.visible, model.hidden
    if positive is None:
      key_negative, key_last = jax.random.split(key)
      seen = Drawn(batch, batch @ params.w_VH)
    else:
      key_positive, key_negative, key_last = jax.random.split(key, 3)
      seen = positive(key_positive, model, params, batch)
    v_BV, y_BH = seen.v_CV, seen.y_CH
    p_BH = hidden.mean(params.c_H, y_BH)
    drawn, kept = negative.sample(key_negative, model, params,
                                  base.Memory(memory.chains, memory.shared.negative), y_BH)
    v_CV = drawn.v_CV
    if last_half_step == 'samples':
      p_CH = hidden.sample(key_last, params.c_H, drawn.y_CH)
      of_hidden_C = hidden.statistics(params.c_H, p_CH)
    else:
      p_CH = hidden.mean(params.c_H, drawn.y_CH)
      of_hidden_C = hidden.expected_statistics(params.c_H, drawn.y_CH)
    # Both phases in one product, each row weighted by its share: a single pass over W.
    d_VH = _one_product([v_BV, v_CV], [p_BH / len(v_BV), -p_CH / len(v_CV)])
    d_V = _difference(visible.statistics(params.b_V, v_BV), visible.statistics(params.b_V, v_CV))
    d_H = _difference(hidden.expected_statistics(params.c_H, y_BH), of_hidden_C)
    metrics = {'moment_error': jnp.mean(jnp.abs(units.bias_of(d_V))),
               'hidden_activity': jnp.mean(p_BH), **seen.metrics, **drawn.metrics}
    grads = type(params)(-d_VH, *(jax.tree.map(jnp.negative, d) for d in (d_V, d_H)))
    for sign, phase in ((1, drawn), (-1, seen)):
      if phase.correction is not None:
        grads = type(params)(*(jax.tree.map(lambda g, c=c, sign=sign: g + sign * c, g)
                               for g, c in zip(grads, phase.correction)))
    if connections is not None:
      grads = grads._replace(w_VH=grads.w_VH * connections)
    if penalty is not None:
      grads = jax.tree.map(jnp.add, grads, jax.grad(penalty)(params, v_BV))
    if negative.learn is not None:
      kept = negative.learn(kept, grads)
    before = memory.shared.direction
    after = direction.update(before, Rows(v_BV, p_BH, v_CV, p_CH,
                                          hidden.square(params.c_H, drawn.y_CH)))
    return (direction.apply(grads, before), base.Memory(kept.chains, Shared(kept.shared, after)),
            metrics)

  def target(grads, params, memory):
    del params
    return direction.apply(grads, memory.shared.direction)

  return base.Estimator(init, grad, negative.biased, None if direction is PLAIN else target)


def sparsity(model: Model, level: float, weight: float = 0.1) -> Penalty:
  """weight sum_j KL(level || q_j), q_j = mean_b E[h_j | v_b]: the price of units on too often.

  Lee, Ekanadham & Ng (2008), Sparse deep belief net model for visual area V2; the cross-entropy is
  Nair & Hinton's (2009).

  Args:
    model: with Bernoulli hidden units.
    level: in (0, 1), the share of the data on which a unit should be on; may be traced.
    weight: in nats; may be traced.
  """
  if model.hidden != units.BERNOULLI:
    raise ValueError(f'a sparsity level is that of Bernoulli hidden units, not {model.hidden}')

  def log_mean(x_BH):
    """log mean_b exp(x_b), finite also for units that are on, or off, on all data."""
    top_H = jax.lax.stop_gradient(jnp.max(x_BH, axis=0))
    return top_H + jnp.log(mean_rows(jnp.exp(x_BH - top_H)))

  def penalty(params, v_BV):
    x_BH = params.c_H + v_BV @ params.w_VH
    log_on_H, log_off_H = log_mean(jax.nn.log_sigmoid(x_BH)), log_mean(jax.nn.log_sigmoid(-x_BH))
    return weight * jnp.sum(level * (jnp.log(level) - log_on_H)
                            + (1 - level) * (jnp.log1p(-level) - log_off_H))

  return penalty


def sparse_groups(num_groups: int, weight: float = 0.25) -> Penalty:
  """weight / (2 D) sum_m (sum_ia |w_im(a)|)^2, w in the zero-sum gauge: L1b, few letters a unit.

  Unlike an L1 penalty it costs most where a hidden unit's weights are already large in sum, so all
  units become sparse alike and none vanishes. Its value does not depend on the gauge of W, and its
  gradient moves no weights along it. With num_groups = V (units of one state) W is taken as it is.

  Tubiana, Cocco & Monasson (2019), Learning protein constitutive motifs from sequence data.

  Args:
    num_groups: L, of visible units: columns of letters.
    weight: lambda_1^2, in nats; may be traced. D = L Q is the number of visible units.
  """
  def penalty(params, v_BV):
    del v_BV
    num_visible = len(params.w_VH)
    w_LQH = params.w_VH.reshape(num_groups, num_visible // num_groups, -1)
    if num_visible > num_groups:
      w_LQH = w_LQH - jnp.mean(w_LQH, axis=1, keepdims=True)
    return weight / (2 * num_visible) * jnp.sum(jnp.sum(jnp.abs(w_LQH), axis=(0, 1))**2)

  return penalty


class Normalised(NamedTuple):
  """A machine that sees normalised data, v = (x - mean) / scale, both fixed by the data."""

  mean_V: jax.Array
  scale_V: jax.Array
  machine: Any

  def see(self, x_NV) -> jax.Array:
    """v, [N, V]; log |dv/dx| is -sum_i log scale_i."""
    return (x_NV - self.mean_V) / self.scale_V


def normalised(estimator: base.Estimator) -> base.Estimator:
  """`estimator` of a machine's gradient, for Normalised parameters and a batch x."""

  def init(key, params):
    return estimator.init(key, params.machine)

  def grad(key, params, memory, x_BV):
    grads, memory, metrics = estimator.grad(key, params.machine, memory, params.see(x_BV))
    zeros = jax.tree.map(jnp.zeros_like, params)
    return zeros._replace(machine=grads), memory, metrics

  def of_machine(target: base.Target) -> base.Target:
    return lambda grads, params, memory: grads._replace(
      machine=target(grads.machine, params.machine, memory))

  return base.Estimator(init, grad, estimator.biased,
                        of_machine(estimator.target) if estimator.target else None)


def measured(estimator: base.Estimator, model: Any) -> base.Estimator:
  """`estimator` for a machine that reads v = normalise(x) and has unconstrained parameters.

  Its gradient of the machine is pulled back through model.machine. That of the map from x to v is
  exact: log Z does not depend on it, so it needs no negative phase.

  Args:
    estimator: of a machine's parameters.
    model: like gen_models.models.linear_rbm: machine(params) -> the machine's own parameters,
      normalise(params, x) -> (v, log |dv/dx|), log_likelihood(machine, v).

  Returns:
    an Estimator with the metrics of `estimator`, and `loss`, -log p(x) in nats, exact.

  Raises:
    ValueError: `estimator` has a target: it maps the gradient of the machine, which cannot be
      separated from the map's in the gradient of all parameters.
  """
  if estimator.target:
    raise ValueError('a direction of the machine is none of the parameters that it is made from: '
                     'use measured() with direction=PLAIN')

  def init(key, params):
    return estimator.init(key, model.machine(params))

  def grad(key, params, memory, x_BV):
    machine, pull_back = jax.vjp(model.machine, params)

    def loss(params):
      v_BV, log_det = model.normalise(params, x_BV)
      return -mean_rows(model.log_likelihood(machine, v_BV)) - log_det, v_BV

    (value, v_BV), map_grads = jax.value_and_grad(loss, has_aux=True)(params)
    grads, memory, metrics = estimator.grad(key, machine, memory, v_BV)
    grads = jax.tree.map(jnp.add, pull_back(grads)[0], map_grads)
    return grads, memory, {**metrics, 'loss': value}

  return base.Estimator(init, grad, estimator.biased)


def _one_product(v_BV, p_BH) -> jax.Array:
  """sum over phases and rows of v' p, [V, H], of lists with one array for each phase."""
  if not devices.distributed():
    return jnp.concatenate(v_BV).T @ jnp.concatenate(p_BH)
  # Concatenated, rows would belong to other devices than before, and would be sent there. Stacked,
  # where there are as many of both, they stay, and the devices still add up one sum, not two.
  if len({len(v) for v in v_BV}) == 1:
    return jnp.tensordot(jnp.stack(v_BV), jnp.stack(p_BH), ((0, 1), (0, 1)))
  return jnp.sum(jnp.stack([v.T @ p for v, p in zip(v_BV, p_BH, strict=True)]), axis=0)


def _difference(data, negative):
  """Mean over data minus mean over negative rows, leaf by leaf."""
  return jax.tree.map(lambda d, n: mean_rows(d) - mean_rows(n), data, negative)
