"""Baselines: what is subtracted from log-weights before they multiply the score.

A baseline has seen earlier batches only, so E[b d log q(z | x)] = 0 and it adds no bias. What it
learns, it learns by an optimizer of its own in Memory.shared; nothing of that gradient reaches the
parameters of the model.

Axis suffixes: B batch, K samples, V visible.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gen_models.models import networks


class Optimizer(Protocol):
  """An optax.GradientTransformation."""

  @property
  def init(self) -> Any:
    """Params -> state."""
    ...

  @property
  def update(self) -> Any:
    """(grads, state, params) -> (updates, state)."""
    ...


def follow(optimizer: Optimizer, grads, state, params):
  """One step of an optimizer: (params, state)."""
  with jax.numpy_dtype_promotion('standard'):  # optax takes powers of its counter
    updates, state = optimizer.update(grads, state, params)
  return jax.tree.map(jnp.add, params, updates), state


class Baseline(NamedTuple):
  """A prediction of the log-weight of an image.

  Attributes:
    init: key -> its state, arrays without chains.
    predict: (state, x_BV) -> what is subtracted, a scalar or [B].
    update: (state, x_BV, l_KB) -> the state after it has seen the log-weights of a batch.
  """

  init: Any
  predict: Any
  update: Any


class Sums(NamedTuple):
  """Decaying sums over calls, of the mean of l and of one."""

  total: jax.Array
  weight: jax.Array


NONE = Baseline(lambda key: (), lambda state, x_BV: 0.0, lambda state, x_BV, l_KB: state)


def running_mean(rate: float) -> Baseline:
  """The decaying mean of l over earlier batches; `rate` in (0, 1] is that of forgetting."""

  def predict(sums, x_BV):
    del x_BV
    # The first call has nothing to go by, and subtracts nothing.
    return sums.total / jnp.maximum(sums.weight, jnp.finfo(jnp.float32).tiny)

  def update(sums, x_BV, l_KB):
    del x_BV
    return Sums(*(old + rate * (new - old)
                  for old, new in zip(sums, (jnp.mean(l_KB), 1.0), strict=True)))

  return Baseline(lambda key: Sums(jnp.zeros(()), jnp.zeros(())), predict, update)


class Learned(NamedTuple):
  """The network of a learned baseline, its optimizer's state, and the running mean under it."""

  params: Any
  optimizer: Any
  mean: Sums


def learned(num_visible: int, optimizer: Optimizer, hidden: tuple[int, ...] = (100,),
            rate: float = 0.01) -> Baseline:
  """c + C(x): a running mean c and a network C that follows -d (l - c - C(x))^2.

  Mnih & Gregor (2014). Their division of l - c - C(x) by its running deviation is left out: it
  would scale the gradient of the encoder, and Adam does it already.

  Args:
    num_visible: V.
    optimizer: of the network, any of optax.
    hidden: widths of its tanh layers.
    rate: of the running mean.
  """
  network, level = networks.MLP(1, hidden), running_mean(rate)

  def residual(params, state, x_BV):
    return networks.apply(network, params, x_BV)[..., 0] + level.predict(state.mean, x_BV)

  def init(key):
    params = networks.init(key, network, num_visible)
    return Learned(params, optimizer.init(params), level.init(key))

  def predict(state, x_BV):
    return jax.lax.stop_gradient(residual(state.params, state, x_BV))

  def update(state, x_BV, l_KB):
    l_B = jax.lax.stop_gradient(jnp.mean(l_KB, axis=0))
    grads = jax.grad(lambda params: jnp.mean(jnp.square(
      l_B - residual(params, state, x_BV))))(state.params)
    params, optimizer_state = follow(optimizer, grads, state.optimizer, state.params)
    return Learned(params, optimizer_state, level.update(state.mean, x_BV, l_KB))

  return Baseline(init, predict, update)


def as_baseline(thing: Baseline | float | None) -> Baseline:
  """NONE for None, a running mean for a rate."""
  if thing is None:
    return NONE
  return thing if isinstance(thing, Baseline) else running_mean(thing)
