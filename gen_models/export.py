"""Models that leave the library: parameters as safetensors, functions as programs of JAX alone.

  gm.export.to_safetensors(run, 'model.safetensors')
  params = gm.export.from_safetensors('model.safetensors', like=run)

  gm.export.to_jax(run, 'sampler.jax', 'sample', num=64)
  draws, means = gm.export.from_jax('sampler.jax')(key)

A file of safetensors has arrays under names that say what they are, `rbm/w_VH`, and says what made
them: experiment, hyperparameters, seeds, step. Of several seeds each has names of its own,
`seed3/rbm/w_VH`.

A file of `to_jax` is a program with the parameters in it, lowered for CPUs, GPUs and TPUs, which
`jax.export.deserialize(data).call` runs without this library. Neither kind of file has code of
Python in it, and none is run when they are read.
"""

import json
import os
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import files

LARGEST = 2**34  # bytes of a file that is read
PLATFORMS = ('cpu', 'cuda', 'tpu')
# Questions whose answers are arrays over rows, see experiment.Questions.
QUESTIONS = ('features', 'reconstruction', 'classes')
_DTYPES = ('bool', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64',
           'float16', 'float32', 'float64')


class Unreadable(ValueError):
  """A file holds no model that could be read, or another one than was asked for."""


def to_safetensors(run_or_params: Any, path: str | os.PathLike, *,
                   metadata: Mapping[str, str] | None = None) -> None:
  """Writes parameters under their names.

  Args:
    run_or_params: a run, of which all seeds are written, or a tree of arrays.
    path: of the file, which is replaced.
    metadata: what the file says beside what a run says of itself.

  Raises:
    ValueError: a leaf is no array that such a file holds, or two have one name.
    OSError: it cannot be written.
  """
  from safetensors import numpy as safetensors
  arrays = {name: _on_host(leaf) for name, leaf in named(run_or_params).items()}
  if odd := [name for name, array in arrays.items() if array.dtype.name not in _DTYPES]:
    raise ValueError(f'{odd[0]} is of type {arrays[odd[0]].dtype}, which cannot be written: '
                     f'convert it to one of {", ".join(_DTYPES)}')
  about = {**_about(run_or_params), **(metadata or {})}
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, safetensors.save(arrays, about))


def from_safetensors(path: str | os.PathLike, like: Any = None, *,
                     largest: int = LARGEST) -> Any:
  """Reads what `to_safetensors` wrote.

  Args:
    path: of the file, which may come from anyone.
    like: a run, or a tree of arrays or their shapes, that the parameters are to be like.
    largest: bytes that are read.

  Returns:
    Parameters like those of `like`; without it, {name: array} of everything in the file.

  Raises:
    Unreadable: it is no such file; or an array is missing, unknown, or of another shape or type.
    OSError: there is none, it is no regular file, or longer than `largest`.
  """
  arrays = _read(path, largest)[0]
  if like is None:
    return arrays
  wanted = named(like)
  for name in {**wanted, **arrays}:
    there, here = (_kind(side[name]) if name in side else 'absent' for side in (arrays, wanted))
    if there != here:
      raise Unreadable(f'{path}: {name} is {there} there, expected {here}: read it like the run '
                       'that it was written from, or without `like`')
  trees = []
  for prefix, params in _parts(like):
    names, tree = _names(prefix, params), jax.tree.structure(params)
    trees.append(jax.tree.unflatten(tree, [jnp.asarray(arrays[name]) for name in names]))
  return trees[0] if len(trees) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *trees)


def metadata(path: str | os.PathLike, *, largest: int = LARGEST) -> dict[str, str]:
  """What a file of safetensors says of itself; raises as `from_safetensors`."""
  return _read(path, largest)[1]


def named(run_or_params: Any) -> dict[str, Any]:
  """Name -> leaf of all parameters.

  Raises:
    ValueError: two have one name.
  """
  found: dict[str, Any] = {}
  for prefix, params in _parts(run_or_params):
    for name, leaf in zip(_names(prefix, params), jax.tree.leaves(params), strict=True):
      if name in found:
        raise ValueError(f'two parameters are called {name}')
      found[name] = leaf
  return found


def _is_run(thing: Any) -> bool:
  """Whether it is what gm.fit and gm.load return, not a tree of arrays."""
  return hasattr(thing, 'params_of') and hasattr(thing, 'seeds')


def _parts(run_or_params: Any) -> list[tuple[str, Any]]:
  """(prefix, parameters), of a run for each seed."""
  if not _is_run(run_or_params):
    return [('', run_or_params)]
  run = run_or_params
  model, phase = run.model, run.experiment.phases[-1]
  of = model.__name__.split('.')[-1] if isinstance(model, types.ModuleType) else phase.name
  return [(f'seed{seed}/{of}' if len(run.seeds) > 1 else of, run.params_of(i))
          for i, seed in enumerate(run.seeds)]


def _names(prefix: str, params: Any) -> list[str]:
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  return ['/'.join(filter(None, [prefix, jax.tree_util.keystr(path, simple=True, separator='/')]))
          or 'params' for path in paths]


def _on_host(leaf: Any) -> np.ndarray:
  """The array in memory; raises ValueError for keys, which NumPy does not have."""
  if jnp.issubdtype(getattr(leaf, 'dtype', np.float32), jax.dtypes.prng_key):
    raise ValueError('a key is no parameter, and cannot be written')
  return np.asarray(leaf, order='C')


def _kind(leaf: Any) -> str:
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  return f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'


def _about(run: Any) -> dict[str, str]:
  """What a run says of itself, as text."""
  if not _is_run(run):
    return {'format': 'gen_models'}
  return {'format': 'gen_models', 'experiment': str(run.config['experiment']),
          'variant': str(run.config['variant'] or ''),
          'hyperparameters': json.dumps(run.config['hyperparameters']),
          'seeds': ','.join(map(str, run.seeds)), 'step': str(run.step)}


def _read(path: str | os.PathLike, largest: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """(arrays, metadata) of a file."""
  from safetensors import numpy as safetensors
  content = files.read_bytes(path, largest)
  try:
    arrays = safetensors.load(content)  # which checks lengths, offsets and types
    header = json.loads(content[8:8 + int.from_bytes(content[:8], 'little')])
    return arrays, dict(header.get('__metadata__') or {})
  except Exception as e:  # its own, and of types that NumPy does not have
    why = ' '.join(str(e).split())[:160]
    raise Unreadable(f'{path} is not a file of safetensors that could be read ({why}): export the '
                     'model again') from None


def to_jax(run: Any, path: str | os.PathLike, what: str = 'sample', *, num: int = 64,
           replica: int = 0, label: int | None = None,
           platforms: Sequence[str] = PLATFORMS) -> tuple[str, ...]:
  """Writes a function of a run as a program.

  The key comes first; of a question rows follow as vectors in which 1.0 stands for the largest
  value of pictures: any number of them, or `num` where the model has to know how many.

  Args:
    run: of gm.fit or gm.load.
    path: of the file, which is replaced.
    what: 'sample', key -> (draws, means) [num, ..]; or one of QUESTIONS, (key, x [B, D]) -> array
      [B, ..].
    num: of draws; of rows, see above.
    replica: which of several seeds.
    label: class to draw from.
    platforms: to lower for.

  Returns:
    Those for which it was lowered; at least the first.

  Raises:
    ValueError: the model does not draw, or cannot answer.
    OSError: it cannot be written.
  """
  params = run.params_of(replica)
  key = jax.eval_shape(lambda: jax.random.key(0))
  if what == 'sample':
    if run.experiment.sample is None:
      raise ValueError(f'{run.config["experiment"]} trains no model that draws')
    return write(lambda key: tuple(run.experiment.sample(key, params, num, label)), path, key,
                 platforms=platforms)
  answer, width = _question(run, what, params)
  try:
    return write(answer, path, key, rows(width), platforms=platforms)
  except OSError:
    raise
  except Exception:  # an open number of rows has many ways to fail; a fault comes again below
    return write(answer, path, key, jax.ShapeDtypeStruct((num, width), jnp.float32),
                 platforms=platforms)


def rows(width: int) -> jax.ShapeDtypeStruct:
  """Any number of rows of so many numbers, float32 [b, width], as an argument of `write`."""
  from jax import export
  return jax.ShapeDtypeStruct((*export.symbolic_shape('b'), width), jnp.float32)


def write(function: Callable, path: str | os.PathLike, *arguments: Any,
          platforms: Sequence[str] = PLATFORMS) -> tuple[str, ...]:
  """Writes a function of arrays as a program that JAX alone can read and run.

  Args:
    function: that JAX can trace; what it closes over becomes part of the program.
    path: of the file, which is replaced.
    *arguments: arrays or their shapes, which `rows` leaves open.
    platforms: to lower for.

  Returns:
    Those for which it was lowered: all, or the first alone where the function has a part that
    others do not have.
  """
  from jax import export
  jitted = jax.jit(function)
  with jax.default_matmul_precision('highest'):
    try:
      exported = export.export(jitted, platforms=tuple(platforms))(*arguments)
    except NotImplementedError:
      exported = export.export(jitted, platforms=tuple(platforms[:1]))(*arguments)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, bytes(exported.serialize()))
  return tuple(exported.platforms)


def from_jax(path: str | os.PathLike, *, largest: int = LARGEST) -> Callable[..., Any]:
  """The function of a file that `to_jax` or `write` made.

  Raises:
    Unreadable: it is no such file.
    OSError: there is none, it is no regular file, or longer than `largest`.
  """
  from jax import export
  content = files.read_bytes(path, largest)
  try:
    return export.deserialize(bytearray(content)).call
  except ImportError:
    raise
  except Exception as e:  # of many kinds, by what is wrong in the file
    why = ' '.join(str(e).split())[:160] or type(e).__name__
    raise Unreadable(f'{path} is not a program of JAX that could be read ({why}): export the '
                     'function again') from None


def _question(run: Any, what: str, params: Any) -> tuple[Callable, int]:
  """((key, x [B, D]) -> array [B, ..], D) of a question."""
  if what not in QUESTIONS:
    raise ValueError(f'no function {what!r}: sample, {", ".join(QUESTIONS)}')
  questions = getattr(run.experiment, 'questions', None)
  function = getattr(questions, what, 'its experiment does not say how')
  if questions is None or not callable(function):
    raise ValueError(f'{what}: {function}')
  options = dict(layer=None, num_draws=0) if what == 'features' else {}
  shown = 'probabilities' if what == 'classes' else what

  def answer(key, x_BD):
    key_see, key_answer = jax.random.split(key)
    found = function(key_answer, params, questions.see(key_see, x_BD), **options)[shown]
    return questions.show(found) if what == 'reconstruction' else found

  return answer, run.spec.num_visible
