"""For all tests: a key used twice is an error, and compiled programs outlive the process.

The check mistakes the transpose that vmap puts before a scan over keys for a use of them (jax
0.10), so tests that vmap such a scan say `with jax.debug_key_reuse(False)`.
"""

import contextlib
import ctypes
import gc
import os
import pathlib

import jax
import pytest

# Experiment files that tests name are not files that the user has named.
os.environ.setdefault('XDG_STATE_HOME', str(
  pathlib.Path.home() / '.cache' / 'gen_models' / 'tests'))

jax.config.update('jax_debug_key_reuse', True)
jax.config.update('jax_compilation_cache_dir', os.environ.get(
  'JAX_COMPILATION_CACHE_DIR', str(pathlib.Path.home() / '.cache' / 'gen_models' / 'jax')))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)


@pytest.fixture(scope='module', autouse=True)
def programs_are_freed():
  """Frees what has been compiled where it is much: the programs of all files hold gigabytes."""
  yield
  if _resident_bytes() > 700e6:
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone keeps and gives back
      ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> float:
  """Memory of this process, infinite where the system does not say."""
  try:
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  except OSError:
    return float('inf')
  return float(pages * os.sysconf('SC_PAGE_SIZE'))


@pytest.fixture(scope='module')
def strict_promotion():
  """No dtype is promoted silently. Not for code that goes through optax, which relies on it."""
  with jax.numpy_dtype_promotion('strict'):
    yield
