"""The extension point: how parameters get their gradient.

An estimator is a pair of pure functions. What it must remember between steps (Markov
chains, moving averages, control variates) lives in `Memory`. It knows nothing of devices.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Memory(NamedTuple):
  """The memory of an estimator between steps.

  Attributes:
    chains: a tree whose leaves have chains on the leading axis; distributed over devices. Of a
      Boltzmann machine, () or something with fields v_CV and h_CH, which monitors follow.
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
      total = grads if total is None else jax.tree.map(jnp.add, total, grads)
      memories.append(kept)
      metrics |= found
    return total, Memory(tuple(m.chains for m in memories),
                         tuple(m.shared for m in memories)), metrics

  return Estimator(init, grad, any(estimator.biased for estimator, _ in parts))


def in_bfloat16(estimator: Estimator) -> Estimator:
  """grads of `estimator` at W rounded to bfloat16; its products are of bfloat16, sums float32.

  Matrices are rounded to 8 significant bits for each estimate, and the parameters that are trained
  keep their 24, so that small updates are not lost (Micikevicius et al., 2018, Mixed precision
  training). Random bits, means over rows and all sums stay float32. With binary states on the other
  side a product of rounded weights is exact, so a Boltzmann machine's chains are those of the
  rounded machine on any hardware. The other factors of a product, and vectors that are multiplied,
  biases among them, are rounded on accelerators alone. For gradients: an estimator that returns a
  fixed point less the parameters would add the rounding to each of its steps.
  """
  def grad(key, params, memory, batch):
    rounded = jax.tree.map(lambda x: _rounded(x) if jnp.ndim(x) >= 2 else x, params)
    if jax.default_backend() == 'cpu':  # where XLA refuses some such products
      return estimator.grad(key, rounded, memory, batch)
    with jax.default_matmul_precision('BF16_BF16_F32'):
      return estimator.grad(key, rounded, memory, batch)

  return estimator._replace(grad=grad, biased=True)


def _rounded(x):
  # A cast there and back would do, but XLA may leave it out.
  return jax.lax.reduce_precision(x, 8, 7) if x.dtype == jnp.float32 else x


# The contract of shapes.


class ContractError(ValueError):
  """An estimator returned something that breaks the contract of this module."""


def check(estimator: Estimator, params, batch) -> None:
  """Compares the shapes that an estimator returns with the contract, without computing values.

  Raises:
    ContractError: names the leaf, the shape that it has and the one that it should have.
  """
  def call(key):
    key_init, key_grad = jax.random.split(key)
    held = checked(estimator)
    held.grad(key_grad, params, held.init(key_init, params), batch)

  jax.eval_shape(call, jax.random.key(0))


def checked(estimator: Estimator) -> Estimator:
  """The estimator, which raises ContractError where it returns what it should not."""

  def init(key, params):
    memory = estimator.init(key, params)
    if not isinstance(memory, Memory):
      raise ContractError(f'init returns {_a(memory)} instead of a Memory(chains, shared)')
    return memory

  def grad(key, params, memory, batch):
    returned = estimator.grad(key, params, memory, batch)
    if not (isinstance(returned, tuple) and len(returned) == 3):
      raise ContractError(f'grad returns {_a(returned)} instead of (grads, memory, metrics)')
    grads, after, metrics = returned
    _check_like('the gradient', grads, 'the parameters', params)
    _check_like('the memory after a call', after, 'what init returned', memory)
    if not isinstance(metrics, dict):
      raise ContractError(f'metrics are {_a(metrics)} instead of a dict of scalars')
    for name, x in metrics.items():
      if jnp.shape(x) != ():
        raise ContractError(f'metric {name!r} has shape {jnp.shape(x)}: metrics are scalars')
    return returned

  return estimator._replace(init=init, grad=grad)


def leaf_name(path) -> str:
  """encoder.0.b_F, params for a tree that is one array."""
  return jax.tree_util.keystr(path, simple=True, separator='.') or 'params'


def _a(x) -> str:
  if hasattr(x, 'dtype'):
    return 'an array'
  return f'{len(x)} values' if type(x) is tuple else f'a {type(x).__name__}'


def _shape(x) -> str:
  return f'{jnp.result_type(x)}{list(jnp.shape(x))}'


def _check_like(what: str, found, like: str, expected) -> None:
  """Raises ContractError unless the trees agree in structure, shapes and dtypes."""
  ours, theirs = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (found, expected))
  for path in [*theirs, *ours]:
    if path not in ours:
      raise ContractError(f'{what}, {_a(found)}, lacks {leaf_name(path)}, expected '
                          f'{_shape(theirs[path])}')
    if path not in theirs:
      raise ContractError(f'{what}, {_a(found)}, has {leaf_name(path)}; expected only '
                          + (', '.join(map(leaf_name, theirs)) or 'an empty tree'))
    if _shape(ours[path]) != _shape(theirs[path]):
      raise ContractError(f'{what} at {leaf_name(path)} is {_shape(ours[path])}, expected '
                          f'{_shape(theirs[path])}')
  if jax.tree.structure(found) != jax.tree.structure(expected):
    raise ContractError(f'{what} is {_a(found)}, expected the structure of {like}, '
                        f'{_a(expected)}')
