"""Seconds from a command to what it is there for: help, a list, the first updates, the first batch.

  TFDS_DATA_DIR=... python -m benchmarks.start --json=start.json

  --help, launch.list      whole commands; launch.list also without the text that it has cached
  first updates            launch.train of rbm_digits until its first 200 updates are on disk, after
                           a run that filled the compilation cache
  first batch              a process that reads prepared MNIST and makes a batch of it in a compiled
                           program, as training does; where TFDS_DATA_DIR has it. Cold, with empty
                           caches, it decodes the set and compiles; warm, both are cached

Every time is that of a process of its own, from its start; `rounds` of each take turns. All caches
are those of the benchmark, empty when it begins.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import app, flags

from benchmarks import timing
from benchmarks.timing import Contender, Task

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_TRAIN = ('launch.train', '--experiment=rbm_digits', '--variant=pcd', '--set=num_steps=200')
_BATCH = """
import jax
from gen_models import data
arrays = data.load('mnist').train
batch_at = jax.jit(data.batches(100, 'dynamic', data.spec('mnist')))
jax.block_until_ready(batch_at(jax.random.key(0), arrays, 0))
"""


def tasks(directory: pathlib.Path, data_dir: str | None) -> Iterator[Task]:
  """Everything; `directory` is scratch, `data_dir` has prepared MNIST or is None."""
  def alone(title: str, run: Callable[[], None]) -> Task:
    return Task(title, [Contender('ours', run)])

  yield alone('launch.train --help', lambda: _python('-m', 'launch.train', '--help', may_fail=True))
  cold, warm = directory / 'cold', _caches(directory / 'warm')

  def without_caches(*words):
    shutil.rmtree(cold, ignore_errors=True)
    _python(*words, **_caches(cold))

  yield alone('launch.list, without its cached text', lambda: without_caches('-m', 'launch.list'))
  yield alone('launch.list', lambda: _python('-m', 'launch.list', **warm))
  yield alone('first 200 updates of rbm_digits, pcd', lambda: _first_updates(directory, warm))
  if data_dir is None:
    print('skipped: prepared MNIST, for want of TFDS_DATA_DIR', flush=True)
    return
  yield alone('first batch of prepared MNIST, cold', lambda: without_caches('-c', _BATCH))
  yield alone('first batch of prepared MNIST, warm', lambda: _python('-c', _BATCH, **warm))
  yield alone('the same process without data',
              lambda: _python('-c', 'import jax, gen_models.data; jax.random.key(0)', **warm))
  yield alone('import jax', lambda: _python('-c', 'import jax'))


def _caches(directory: pathlib.Path) -> dict[str, str]:
  """Variables with which decoded data, texts and, as in the commands, all programs are cached."""
  return {'XDG_CACHE_HOME': str(directory),
          'JAX_COMPILATION_CACHE_DIR': str(directory / 'gen_models' / 'jax'),
          'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}


def _python(*words: str, may_fail: bool = False, **environment: str) -> None:
  done = subprocess.run([sys.executable, *words], env={**os.environ, **environment},
                        capture_output=True, text=True, encoding='utf-8')
  if done.returncode and not may_fail:  # absl's --help ends with status 1
    raise RuntimeError(f'{" ".join(words)}: {done.stderr[-2000:]}')


def _first_updates(directory: pathlib.Path, environment: dict[str, str]) -> None:
  """Returns when the metrics of the first dispatch are on disk, and leaves the rest to end."""
  workdir = pathlib.Path(tempfile.mkdtemp(dir=directory))
  with subprocess.Popen([sys.executable, '-m', *_TRAIN, f'--workdir={workdir / "run"}'],
                        env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL) as process:
    metrics = workdir / 'run' / 'metrics.jsonl'
    while not (metrics.exists() and metrics.stat().st_size):
      if process.poll():
        raise RuntimeError(f'launch.train ended with status {process.returncode}')
      time.sleep(0.01)
    process.kill()


def define_flags() -> None:
  flags.DEFINE_integer('rounds', 5, 'Timed processes of each.', lower_bound=1)
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  with tempfile.TemporaryDirectory() as directory:
    timing.measure('start', tasks(pathlib.Path(directory), os.environ.get('TFDS_DATA_DIR')),
                   rounds=given.rounds, packages=PACKAGES, path=given.json, memory=False,
                   protocol=f'{given.rounds} processes of each, after one that fills the caches')


if __name__ == '__main__':
  define_flags()
  app.run(main)
