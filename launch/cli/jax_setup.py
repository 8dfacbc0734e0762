"""Set-up of JAX: the same numbers in every command, and a cache of compiled programs."""

import os
import pathlib
import sys
import tempfile

from absl import logging

from launch.cli import environment


def setup() -> None:
  """Products and sums that are the same on every run, compilation cache, quiet logs.

  Call before the first computation: XLA reads its flags once.
  """
  import jax
  os.environ.update(environment.of_numbers(os.environ))
  # JAX has read its own variable by now.
  jax.config.update('jax_default_matmul_precision', os.environ['JAX_DEFAULT_MATMUL_PRECISION'])
  logging.set_verbosity(logging.INFO if '-v' in sys.argv else logging.WARNING)
  cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(
    pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    / 'gen_models' / 'jax')
  try:
    pathlib.Path(cache).mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=cache).close()
  except OSError as e:
    logging.warning('no compilation cache, programs are compiled every time: %s: %s', e.strerror,
                    cache)
    cache = None
  jax.config.update('jax_compilation_cache_dir', cache)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
