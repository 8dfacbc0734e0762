"""Spectral normalisation: every matrix of a critic divided by its largest singular value.

  W -> W / s(W),   s(W) = u.W v,   u <- W v / |W v|,   v <- W'u / |W'u|

u is remembered between updates and moved by one step of the power iteration, so s follows W while W
changes slowly; the gradient passes W and not u and v (Miyato et al., 2018). Matrices are all
parameters with two axes or more, read as [all axes but the last, the last]. Of dense layers s is
the layer's Lipschitz constant, so a net of them whose activations have slopes up to 1 has at most
the slope `bound` to the power of their number. Of convolutions it is that of the kernel's matrix, a
lower end of the layer's constant, which is at most sqrt(taps / stride^2) times it.

Axis suffixes: I inputs of a matrix, O outputs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Normalisation(NamedTuple):
  """A map of the critic's parameters with memory.

  Attributes:
    init: (key, parameters) -> memory.
    step: (parameters, memory) -> memory after one iteration.
    apply: (parameters, memory) -> the parameters that the critic is evaluated at.
    exact: parameters -> the same with the exact singular values.
  """

  init: Callable[[jax.Array, Any], Any]
  step: Callable[[Any, Any], Any]
  apply: Callable[[Any, Any], Any]
  exact: Callable[[Any], Any]


def spectral_norm(bound: float = 1.0, iterations: int = 1) -> Normalisation:
  """W -> bound W / s(W), s by `iterations` steps of the power iteration an update.

  Raises:
    ValueError: fewer than one iteration.
  """
  if iterations < 1:
    raise ValueError(f'the power iteration has at least one step an update, not {iterations}')

  def init(key, params):
    keys = iter(jax.random.split(key, max(1, len(jax.tree.leaves(params)))))
    return [_unit(jax.random.normal(next(keys), (w.shape[-1],)))
            for w in jax.tree.leaves(params) if w.ndim > 1]

  def step(params, memory):
    after = []
    for w_IO, right_O in zip(_matrices(lax.stop_gradient(params)), memory, strict=True):
      for _ in range(iterations):
        # A matrix of zeros, as some begin, has no direction: the vector waits for one.
        moved_O = _unit(_unit(w_IO @ right_O) @ w_IO)
        right_O = jnp.where(jnp.any(moved_O != 0), moved_O, right_O)
      after.append(right_O)
    return after

  def apply(params, memory):
    rights = iter(memory)

    def one(w):
      if w.ndim < 2:
        return w
      w_IO, right_O = w.reshape(-1, w.shape[-1]), next(rights)
      left_I = _unit(lax.stop_gradient(w_IO) @ right_O)
      return bound * w / _positive(left_I @ w_IO @ right_O)

    return jax.tree.map(one, params)

  def exact(params):
    return jax.tree.map(lambda w: w if w.ndim < 2 else bound * w / _positive(
      jnp.linalg.norm(w.reshape(-1, w.shape[-1]), 2)), params)

  return Normalisation(init, step, apply, exact)


def _matrices(params):
  return [w.reshape(-1, w.shape[-1]) for w in jax.tree.leaves(params) if w.ndim > 1]


def _unit(x):
  return x / _positive(jnp.linalg.norm(x))


def _positive(x):
  """x, or 1 where it is 0: a matrix of zeros stays one, and has a gradient of its own size."""
  return jnp.where(x > 1e-12, x, 1.0)
