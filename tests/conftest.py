"""For all tests: a key used twice is an error; programs are compiled quickly and kept on disk.

Nearly all of the time of the quick tests is XLA compiling small programs, each of which runs once.
So they are compiled without optimisation, by the emitters that are quickest to compile, in few
MLIR contexts, unless XLA_FLAGS is set: `make test-all` sets it to nothing, which compiles
everything as users do.

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

from launch.cli import environment
from tests import whole

# Experiment files that tests name are not files that the user has named.
os.environ.setdefault('XDG_STATE_HOME', str(
  pathlib.Path.home() / '.cache' / 'gen_models' / 'tests'))

# The commands that tests start inherit it. A third of the processor time of compiling as users do.
_QUICK = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
os.environ.setdefault('XLA_FLAGS', _QUICK)
# As a command or the first gm.load would: what was compiled under other flags is compiled again,
# and from a process with other variables no command can be forked (tests/launch/forked.py).
os.environ.update(environment.of_numbers(os.environ))

jax.config.update('jax_debug_key_reuse', True)
jax.config.update('jax_compilation_cache_dir', os.environ.get(
  'JAX_COMPILATION_CACHE_DIR', str(pathlib.Path.home() / '.cache' / 'gen_models' / 'jax')))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)


_SLOW = pathlib.Path(__file__).with_name('slow.txt')


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config, items):
  """Marks the tests of slow.txt as slow, as if each had the mark.

  Raises:
    pytest.UsageError: it names a test that is not in its file.
  """
  slow = set(_SLOW.read_text(encoding='utf-8').splitlines())
  for item in items:
    if item.nodeid in slow:
      item.add_marker(pytest.mark.slow)
  if not any('::' in argument for argument in config.args):  # files were collected whole
    files, there = ({of(item) for item in items} for of in (
      lambda item: item.nodeid.split('::')[0], lambda item: item.nodeid))
    gone = sorted(name for name in slow - there if name.split('::')[0] in files)
    if gone:
      raise pytest.UsageError(f'no such tests: take {", ".join(gone)} out of tests/slow.txt')


class _Memory:
  """Of this process, in bytes: what it may hold before compiled programs are freed."""

  least = limit = 1.7e9
  more = 0.5e9  # than what stays, arrays of fixtures for example, so that it is not freed in vain


class _SharedContext:
  """The MLIR context of the next program; of several hundred one, of which each costs 6 ms."""

  def __init__(self, make, uses: int = 500):
    self._make, self._uses, self._left, self._context = make, uses, 0, None

  def __call__(self):
    if not self._left:
      self._left, self._context = self._uses, self._make()
    self._left -= 1
    return self._context


if _QUICK in os.environ['XLA_FLAGS']:  # not public: where it is not, each program has its own
  with contextlib.suppress(ImportError, AttributeError):
    from jax._src.interpreters import mlir
    mlir.make_ir_context = _SharedContext(mlir.make_ir_context)


@pytest.fixture(autouse=True)
def programs_are_freed():
  """Frees what has been compiled where it is much: the programs of all tests hold gigabytes."""
  yield
  if _resident_bytes() > _Memory.limit:
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone keeps and gives back
      ctypes.CDLL(None).malloc_trim(0)
    _Memory.limit = max(_Memory.least, _resident_bytes() + _Memory.more)


def _resident_bytes() -> float:
  """Memory that this process holds, 0 where the system does not say."""
  try:
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  except OSError:
    return 0.0
  return float(pages * os.sysconf('SC_PAGE_SIZE'))


@pytest.fixture(scope='module')
def strict_promotion():
  """No dtype is promoted silently. Not for code that goes through optax, which relies on it."""
  with jax.numpy_dtype_promotion('strict'):
    yield


@pytest.fixture(scope='module')
def whole_programs(request):
  """Models, samplers, estimators and scores are compiled whole, where tests compile quickly.

  `make test-all` calls them as users do. Not for a test of an error that depends on values, which
  a traced function does not see.
  """
  with pytest.MonkeyPatch.context() as patch:
    if _QUICK in os.environ['XLA_FLAGS']:
      whole.patch(patch, request.module)
    yield
