"""The extension point: how parameters get their gradient.

An estimator is a pair of pure functions. What it must remember between steps (Markov
chains, moving averages, control variates) lives in `Memory`. It knows nothing of devices.
"""

from typing import Any, NamedTuple, Protocol

import jax


class Memory(NamedTuple):
  """The memory of an estimator between steps.

  Attributes:
    chains: a tree whose leaves have chains on the leading axis; distributed over devices.
    shared: a tree that is the same on every device; what devices compute differently of it is
      averaged where it is floating. Integers, such as counters, must not depend on the batch.
  """

  chains: Any = ()
  shared: Any = ()


class Init(Protocol):
  """The memory of an estimator before the first step."""

  def __call__(self, key: jax.Array, params: Any, /) -> Memory:
    """The memory; the key is consumed."""
    ...


class Grad(Protocol):
  """One estimate of the gradient."""

  def __call__(self, key: jax.Array, params: Any, memory: Memory, batch: Any,
               /) -> tuple[Any, Memory, dict[str, jax.Array]]:
    """(grads, memory, metrics), grads like params and uphill in the loss; the key is consumed."""
    ...


class Target(Protocol):
  """The expectation of a preconditioned gradient."""

  def __call__(self, grads: Any, params: Any, memory: Memory, /) -> Any:
    """The exact gradient of the loss, mapped by the memory that grad was given."""
    ...


class Loss(Protocol):
  """A loss that can be differentiated as it stands."""

  def __call__(self, key: jax.Array, params: Any, batch: Any,
               /) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(scalar, metrics); the key is consumed."""
    ...


class Estimator(NamedTuple):
  """How parameters get their gradient.

  Attributes:
    init: (key, params) -> Memory.
    grad: (key, params, memory, batch) -> (grads, memory, metrics). grads has the structure
      of params and points uphill in the loss; metrics are scalars. The key is consumed.
    biased: whether E[grads] differs from the target at fixed params, once what is
      remembered has forgotten its start. The audit holds this declaration against
      enumeration (gen_models.evaluation.gradients).
    target: (grads, params, memory) -> grads. What E[grads] should be, as a map of the exact
      gradient of the loss by the memory that grad was given; None is the identity.
      Preconditioned gradients state theirs here.
  """

  init: Init
  grad: Grad
  biased: bool = False
  target: Target | None = None


def from_loss(loss: Loss, biased: bool = False) -> Estimator:
  """grads = d loss / d params for any loss(key, params, batch) -> (scalar, metrics)."""

  def init(key, params):
    del key, params
    return Memory()

  def grad(key, params, memory, batch):
    (value, metrics), grads = jax.value_and_grad(loss, argnums=1, has_aux=True)(key, params, batch)
    return grads, memory, {'loss': value, **metrics}

  return Estimator(init, grad, biased)


def weighted(*parts: tuple[Estimator, Any]) -> Estimator:
  """grads = sum_i weight_i grads_i: of a weighted sum of losses.

  Metrics are those of all parts, not weighted; where two have one name, the later part's.

  Args:
    parts: (estimator, weight) pairs; weights may be traced. Estimators with a `target` map the
      whole gradient, so there is no such sum of them.

  Raises:
    ValueError: an estimator has a target.
  """
  if any(estimator.target for estimator, _ in parts):
    raise ValueError('a preconditioned gradient cannot be added to others: precondition their sum')

  def init(key, params):
    memories = [estimator.init(k, params)
                for k, (estimator, _) in zip(jax.random.split(key, len(parts)), parts)]
    return Memory(tuple(m.chains for m in memories), tuple(m.shared for m in memories))

  def grad(key, params, memory, batch):
    total, memories, metrics = None, [], {}
    for i, (k, (estimator, weight)) in enumerate(zip(jax.random.split(key, len(parts)), parts)):
      grads, kept, found = estimator.grad(
        k, params, Memory(memory.chains[i], memory.shared[i]), batch)
      grads = jax.tree.map(lambda g, w=weight: w * g, grads)
      total = grads if total is None else jax.tree.map(jax.numpy.add, total, grads)
      memories.append(kept)
      metrics |= found
    return total, Memory(tuple(m.chains for m in memories),
                         tuple(m.shared for m in memories)), metrics

  return Estimator(init, grad, any(estimator.biased for estimator, _ in parts))
