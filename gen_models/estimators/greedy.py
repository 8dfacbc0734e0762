"""Greedy training: the gradient of the top layer of a stack, with all layers below held fixed.

  d/dtheta_L E_q(h | v)[-log p_L(h)],    h the top layer's input, q the frozen layers below:

the part of a deep belief network's bound on -log p(v) that its top layer determines (Hinton,
Osindero & Teh, 2006). Any estimator of an RBM's gradient can be used; it is given h as data.

Axis suffixes: B batch, V visible.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.models.dbn import Propagate


class Stack(Protocol):
  """Layers of which the top one is trained, as gen_models.models.dbn is."""

  def top_input(self, key: jax.Array, params: Any, batch: Any, propagate: Propagate,
                /) -> jax.Array:
    """The data of the top layer for a batch of the stack's; the key is consumed."""
    ...


def on_top(estimator: base.Estimator, model: Stack,
           propagate: Propagate = 'samples') -> base.Estimator:
  """`estimator` at the top layer of a stack; grads of the layers below are 0.

  Args:
    estimator: of the top layer's parameters.
    model: reads like gen_models.models.dbn: top_input(key, params, batch, propagate), and params
      with `layers`, the top last.
    propagate: what goes up: h ~ q(h | v), as the bound wants it, or the mean-field pass, which is
      less noisy but biased (a mean is not a state of the layer).

  Returns:
    an Estimator whose batch is the stack's; memory and metrics are those of `estimator`.
  """
  if propagate not in ('samples', 'means'):
    raise ValueError(f"propagate is 'samples' or 'means', not {propagate!r}")

  def init(key, params):
    return estimator.init(key, params.layers[-1])

  def grad(key, params, memory, batch):
    key_up, key_grad = jax.random.split(key)
    x_BV = model.top_input(key_up, params, batch, propagate)
    grads, memory, metrics = estimator.grad(key_grad, params.layers[-1], memory, x_BV)
    zeros = jax.tree.map(jnp.zeros_like, params.layers[:-1])
    return params._replace(layers=(*zeros, grads)), memory, metrics

  def at_top(target: base.Target) -> base.Target:
    def of_stack(grads, params, memory):
      *lower, top = grads.layers
      return grads._replace(layers=(*lower, target(top, params.layers[-1], memory)))
    return of_stack

  return base.Estimator(init, grad, estimator.biased or propagate == 'means',
                        at_top(estimator.target) if estimator.target else None)
