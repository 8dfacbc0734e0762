"""Peak memory at 1, 10 and 100 times as many chains, temperatures, samples, images and draws.

  python -m benchmarks.memory --json=memory.json

  log Z            annealing.forward of an RBM 784-500, by temperatures and by chains
  importance bound importance.bound of a VAE 784-200-200-50, by samples K and by images
  scores of draws  evaluation.samples of N draws against N images of 784 pixels
  distances        copies.nearest of 500 rows, by the number of training images

Each is run twice; of the second run, by how much it raises the memory that the process holds
(timing.peak_memory), data and parameters not counted. What is measured is the memory of the work,
not the time, so models are as wide as those that are scored and chains and samples are few.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import rbm as rbm_bench, timing
from benchmarks.rbm import images_of
from gen_models.evaluation import copies, importance, samples
from gen_models.models import vae
from gen_models.samplers import annealing

PACKAGES = ('jax', 'jaxlib', 'numpy')
TIMES = (1, 10, 100)


class Size(NamedTuple):
  """What is multiplied by TIMES, and the width of all hidden layers."""

  side: int = 28
  hidden: int = 500
  temperatures: int = 20
  chains: int = 100
  samples: int = 100
  images: int = 10
  draws: int = 100
  training_images: int = 2000


class Growth(NamedTuple):
  """Work of which one number grows.

  Attributes:
    task: what is done, and what grows.
    unit: what is counted.
    first: how many at first.
    work: how many -> () -> anything, which does the work and returns when it is done.
  """

  task: str
  unit: str
  first: int
  work: Callable[[int], Callable[[], Any]]


def growths(size: Size) -> Iterator[Growth]:
  """All that is measured."""
  num_visible = size.side**2
  x_NV = images_of(100, num_visible)
  s = rbm_bench.Setting(x_NV, size.hidden, 100, 0, 0, 0.05)
  params, base_V = rbm_bench.start(s), np.zeros(num_visible, np.float32)

  def log_z(temperatures: int, chains: int):
    return functools.partial(annealing.forward, jax.random.key(0), params, base_V, chains,
                             annealing.linear(temperatures), chunk=size.temperatures)

  yield Growth(f'log Z, {size.chains} chains', 'temperatures', size.temperatures,
               lambda num: log_z(num, size.chains))
  yield Growth(f'log Z, {size.temperatures} temperatures', 'chains', size.chains,
               lambda num: log_z(size.temperatures, num))

  model = vae.model(num_visible, (50,), ((200, 200),))
  net = model.init(jax.random.key(0), jnp.asarray(x_NV).mean(0))

  def bound(images: int, num_samples: int):
    rows_NV = np.resize(x_NV, (images, num_visible)).astype(np.float32)
    return functools.partial(importance.bound, jax.random.key(1), model, net, rows_NV,
                             binarisation='static', num_samples=num_samples)

  yield Growth(f'importance bound, {size.images} images', 'samples', size.samples,
               lambda num: bound(size.images, num))
  yield Growth(f'importance bound, {size.samples} samples', 'images', size.images,
               lambda num: bound(num, size.samples))

  def scores(num: int):
    x_ND, y_ND = np.split(images_of(2 * num, num_visible).astype(np.float32), 2)
    return functools.partial(samples.compare, x_ND, y_ND, (size.side, size.side))

  yield Growth('all scores of draws', 'draws', size.draws, scores)

  def nearest(num: int):
    rows_ND = images_of(num, num_visible).astype(np.float32)
    return functools.partial(copies.nearest, rows_ND[:500], rows_ND)

  yield Growth('nearest training images of 500 draws', 'training images', size.training_images,
               nearest)


def measure(growth: Growth) -> dict[str, dict]:
  """'1x' -> bytes, and how many there were."""
  found = {}
  for times in TIMES:
    run = growth.work(times * growth.first)
    run()  # compiles
    found[f'{times}×'] = {'bytes': timing.peak_memory(run), 'count': times * growth.first}
  return found


def define_flags() -> None:
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.evaluate does
  busy, found = timing.warn_if_busy(timing.use_all_cores()), {}
  for growth in growths(Size()):
    title = f'{growth.task}, by {growth.unit}'
    found[title] = measure(growth)
    print(f'{title}: ' + ', '.join(f'{row["count"]:,} {row["bytes"] / 1e6:.0f} MB'
                                   for row in found[title].values()), flush=True)
    if flags.FLAGS.json:
      timing.write(flags.FLAGS.json, 'memory', 'by how much the second of two runs raises the '
                   'resident memory of the process', timing.environment(PACKAGES, busy),
                   memory=found)


if __name__ == '__main__':
  define_flags()
  app.run(main)
