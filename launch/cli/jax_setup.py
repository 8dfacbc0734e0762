"""Set-up of JAX: the same numbers in every command, and a cache of compiled programs."""

import contextlib
import gc
import importlib.util
import mmap
import os
import pathlib
import sys
import tempfile
from collections.abc import Generator
from typing import Any

from absl import logging

from gen_models import files
from launch import errors
from launch.cli import environment

_imported = False


@contextlib.contextmanager
def importing() -> Generator[None, None, None]:
  """A block in which a command imports most of what it needs, without garbage collection.

  What modules make stays to the end: to search it for garbage, in the block and after it, is a
  sixth of the time to the first update. Of several blocks only the first of a process does
  anything: what is garbage later would stay for ever. For commands only, for the same reason.
  """
  global _imported
  if _imported or not gc.isenabled():
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    _imported = True
    gc.freeze()
    gc.enable()


def setup() -> None:
  """Products and sums that are the same on every run, compilation cache, quiet logs.

  Call before the first computation: XLA reads its flags once.

  Raises:
    UsageError: JAX_ENABLE_X64 is set, or XLA_FLAGS has a flag that would end the process.
  """
  import jax
  _check()
  os.environ.update(environment.of_numbers(os.environ))
  # JAX has read its own variable by now.
  jax.config.update('jax_default_matmul_precision', os.environ['JAX_DEFAULT_MATMUL_PRECISION'])
  logging.set_verbosity(logging.INFO if '-v' in sys.argv else logging.WARNING)
  jax.config.update('jax_compilation_cache_dir', _cache())
  # A short command has many programs of some 50 ms, which are read from the cache in 2.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


@contextlib.contextmanager
def numerics() -> Generator[None, None, None]:
  """The numbers of the commands while the block lasts, in a process that is someone else's.

  Products are float32 and programs are kept in the cache; afterwards JAX is set as it was before.
  XLA reads its flags once: on a GPU that has computed something already without them, a resumed
  run may differ from an unbroken one by rounding.

  Raises:
    UsageError: as `setup`.
  """
  import jax
  _check()
  os.environ.update(environment.of_numbers(os.environ))
  config: Any = jax.config
  before = {}
  if config.jax_compilation_cache_dir is None:
    changes = {'jax_compilation_cache_dir': _cache(),
               'jax_persistent_cache_min_compile_time_secs': 0.0}
    before = {name: getattr(config, name) for name in changes}
    for name, value in changes.items():
      config.update(name, value)
  try:
    with jax.default_matmul_precision(os.environ['JAX_DEFAULT_MATMUL_PRECISION']):
      yield
  finally:
    for name, value in before.items():
      config.update(name, value)


def _check() -> None:
  """Raises UsageError for settings with which no command works."""
  import jax
  if jax.numpy.result_type(float) != jax.numpy.float32:
    raise errors.UsageError('JAX_ENABLE_X64 is set: all computations here, those of the '
                            'committed results too, are in float32; unset it')
  if unknown := unknown_flags(os.environ.get('XLA_FLAGS', '')):
    raise errors.UsageError(f'XLA_FLAGS has {unknown[0]}, which this jaxlib does not know: take it '
                            'out, or XLA ends the process')


def _cache() -> str | None:
  """The directory of compiled programs, None where there can be none."""
  why, cache = 'there is no home directory', None
  try:
    cache = (os.environ.get('JAX_COMPILATION_CACHE_DIR')
             or str(files.cache_directory() / 'jax'))
    pathlib.Path(cache).mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=cache).close()
    return cache
  except OSError as e:
    why = f'{e.strerror}: {cache}'
  except RuntimeError:  # of pathlib: neither $HOME nor an entry of the user
    pass
  logging.warning('no compilation cache, programs are compiled every time: %s', why)
  return None


def unknown_flags(flags: str) -> list[str]:
  """Flags of XLA_FLAGS whose names occur in no library of jaxlib or of its plugins.

  XLA ends the process on a flag that it does not know, before an error can be reported.
  """
  names = [word.partition('=')[0] for word in flags.split() if word.startswith('--')]
  ours = {word.partition('=')[0] for word in environment.defaults('gpu')['XLA_FLAGS'].split()}
  wanted = {name for name in names if name not in ours}
  for path in _libraries() if wanted else ():
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
      wanted -= {name for name in wanted if text.find(name[2:].encode() + b'\0') >= 0}
  return [name for name in names if name in wanted]


def _libraries() -> list[pathlib.Path]:
  """Shared libraries that register flags of XLA; small ones are wrappers."""
  found = []
  spec = importlib.util.find_spec('jaxlib')
  for folder in (spec.submodule_search_locations or ()) if spec else ():
    installed = pathlib.Path(folder)
    found += [*installed.rglob('*.so'), *installed.parent.glob('jax_*/**/*.so'),
              *installed.parent.glob('libtpu/*.so')]
  return [path for path in found if path.stat().st_size > 2**20]
