"""Functions of models compiled whole where a test calls them, instead of operation by operation.

Outside of `jax.jit` every operation on a new shape is a program of its own, of 20 ms of processor
time; a density has ten of them. Nothing changes for calls within a trace.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Generator

import jax
import numpy as np

_PACKAGES = tuple(f'gen_models.{name}.' for name in (
  'models', 'samplers', 'estimators', 'evaluation', 'problems'))
# What a traced function cannot do: look at values, or return something else than arrays.
_CANNOT = (TypeError, jax.errors.JAXTypeError)


def compiled(fn: Callable) -> Callable:
  """fn, compiled once for each structure, shapes and other arguments; as it is where it cannot be.

  It cannot be where it has no array as argument, is part of a trace already, or looks at values.
  """
  programs, whole = {}, True

  @functools.wraps(fn)
  def call(*args, **kwargs):
    nonlocal whole
    leaves, tree = jax.tree.flatten((args, kwargs))
    given = [isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves]
    if not (whole and any(given)) or any(isinstance(x, jax.core.Tracer) for x in leaves):
      return fn(*args, **kwargs)
    others = tuple(leaf for leaf, is_array in zip(leaves, given) if not is_array)
    try:
      key = tree, tuple(given), others, tuple(map(type, others))
      if key not in programs:
        programs[key] = _program(fn, *key[:3])
      return programs[key](*(leaf for leaf, is_array in zip(leaves, given) if is_array))
    except _CANNOT:
      whole = False
      return fn(*args, **kwargs)

  return call


def _program(fn, tree, given, others):
  """fn of the leaves that are arrays, jitted."""
  @jax.jit
  def program(*arrays):
    arrays, rest = iter(arrays), iter(others)
    args, kwargs = jax.tree.unflatten(tree, [next(arrays if x else rest) for x in given])
    return fn(*args, **kwargs)

  return program


def patch(monkeypatch, module) -> None:
  """Compiles whole what has been imported, where it is defined and by its names in `module`."""
  made = {}
  for owner, name, fn in _functions():
    made[fn] = compiled(fn)
    monkeypatch.setattr(owner, name, made[fn])
  for name, value in list(vars(module).items()):
    if inspect.isfunction(value) and value in made:
      monkeypatch.setattr(module, name, made[value])


def _functions() -> Generator[tuple[object, str, Callable], None, None]:
  """(owner, name, function) of what is public in the packages, as far as it is imported."""
  for module in [m for name, m in sys.modules.items() if name.startswith(_PACKAGES)]:
    for name, value in list(vars(module).items()):
      if name.startswith('_') or getattr(value, '__module__', None) != module.__name__:
        continue
      if inspect.isfunction(value):
        yield module, name, value
      elif inspect.isclass(value):
        yield from ((value, inner, fn) for inner, fn in list(vars(value).items())
                    if inspect.isfunction(fn) and not inner.startswith('_'))
