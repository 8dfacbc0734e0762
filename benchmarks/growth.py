"""Growth of cost: an update against batch, width, chains and devices, fitted and drawn.

  python -m benchmarks.growth --json=growth.json   # and growth.png beside it

RBM 784-500, PCD-1, batch 100 and 100 chains, of which one number grows at a time; Gibbs steps by
chains; a VAE 784-500-20 by batch. Devices are virtual ones of the same cores, among which one batch
of 800 is split: what grows with their number is the cost of splitting, the sum over devices in it.

Fit, of the medians, by least squares of relative errors, with a and b not negative:

  t(n) = a + b n

a is what an update costs however small, b what one more row, unit, chain or device adds, and at
n = a / b both are equal.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from absl import app, flags
from PIL import Image

from benchmarks import ours, rbm as rbm_bench, timing
from benchmarks.timing import Contender
from gen_models import estimators
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent
from gen_models.evaluation import charts
from gen_models.models import rbm, vae

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


class Size(NamedTuple):
  """What grows, and what it is where something else does."""

  visible: int = 784
  hidden: int = 500
  batch: int = 100
  chains: int = 100
  batches: tuple[int, ...] = (25, 50, 100, 200, 400, 800, 1600)
  widths: tuple[int, ...] = (60, 125, 250, 500, 1000, 2000)
  many: tuple[int, ...] = (100, 400, 1600, 6400, 25_600)
  devices: tuple[int, ...] = (1, 2, 4, 8)
  split: int = 800  # the batch that is split over devices
  rows: int = 3200  # of data, about which an update knows nothing


SIZES = {'full': Size(), 'tiny': Size(32, 8, 4, 4, (2, 4), (4, 8), (4, 8), (1, 2), 8, 40)}


class Growth(NamedTuple):
  """Work of which one number grows.

  Attributes:
    task: what is done.
    unit: what is counted.
    counts: how many.
    work: how many -> (a contender, units of work in one run of it).
  """

  task: str
  unit: str
  counts: tuple[int, ...]
  work: Callable[[int], tuple[Contender, int]]


class Fit(NamedTuple):
  """t(n) = fixed + each n, in seconds, and the largest relative distance of a point from it."""

  fixed: float
  each: float
  worst: float


def fit(counts: Sequence[float], seconds: Sequence[float]) -> Fit:
  """Least squares of relative errors, both coefficients at least 0."""
  n_N, t_N = np.asarray(counts, np.float64), np.asarray(seconds, np.float64)
  rows_N2 = np.stack([1 / t_N, n_N / t_N], axis=1)
  (fixed, each), _ = scipy.optimize.nnls(rows_N2, np.ones(len(t_N)))
  return Fit(float(fixed), float(each), float(np.max(np.abs(rows_N2 @ [fixed, each] - 1))))


def growths(size: Size) -> Iterator[Growth]:
  """Everything."""
  x_NV = rbm_bench.images_of(size.rows, size.visible)

  def setting(batch: int, hidden: int, chains: int):
    # An epoch is one dispatch, of at most 8 updates.
    return rbm_bench.Setting(x_NV[:8 * batch], hidden, batch, chains, 8, 0.05)

  def update(batch: int, hidden: int, chains: int, devices: int = 1):
    s = setting(batch, hidden, chains)
    contender, _ = ours.trained(s, rbm_bench.start(s), contrastive(rbm, persistent(chains)),
                                optax.sgd, jax.devices()[:devices])
    return contender, s.steps

  def gibbs_steps(chains: int):
    s = setting(size.batch, size.hidden, chains)
    return rbm_bench.our_sampler(s).contender, s.gibbs_steps

  def vae_update(batch: int):
    s = setting(batch, size.hidden, 0)
    model = vae.model(size.visible, (20,), ((size.hidden,),))
    params = model.init(jax.random.key(0), jnp.asarray(s.x_NV).mean(0))
    contender, _ = ours.trained(s, params, estimators.variational(model, estimators.elbo()),
                                optax.adam, jax.devices()[:1])
    return contender, s.steps

  name = f'RBM {size.visible}-{size.hidden}, an update'
  yield Growth(name, 'rows', size.batches, lambda n: update(n, size.hidden, size.chains))
  yield Growth(f'RBM {size.visible}-H, an update', 'hidden units', size.widths,
               lambda n: update(size.batch, n, size.chains))
  yield Growth(name, 'chains', size.batches, lambda n: update(size.batch, size.hidden, n))
  yield Growth(f'RBM {size.visible}-{size.hidden}, a Gibbs step', 'chains', size.many, gibbs_steps)
  yield Growth(f'VAE {size.visible}-{size.hidden}-20, an update', 'rows', size.batches, vae_update)
  there = tuple(n for n in size.devices if n <= jax.device_count())
  yield Growth(f'{name} of {size.split} rows', 'devices', there,
               lambda n: update(size.split, size.hidden, size.split, n))


def measure(growth: Growth, rounds: int) -> dict[str, Any]:
  """The points, in seconds for one unit of work, and their fit."""
  work = {n: growth.work(n) for n in growth.counts}
  seconds = timing.interleaved([contender._replace(name=str(n))
                                for n, (contender, _) in work.items()], rounds)
  points = []
  for n, (_, per) in work.items():
    found = np.asarray(seconds[str(n)]) / per
    points.append({'count': n, 'median': float(np.median(found)), 'min': float(found.min()),
                   'max': float(found.max())})
  return {'unit': growth.unit, 'points': points, **fit(
    [p['count'] for p in points], [p['median'] for p in points])._asdict()}


def picture(found: dict[str, dict]) -> np.ndarray:
  """Points and fits, a panel each, both axes logarithmic: a grid of one picture."""
  return charts.growth({
    title: ([p['count'] for p in curve['points']], [p['median'] for p in curve['points']],
            lambda n, c=curve: c['fixed'] + c['each'] * n, curve['unit'])
    for title, curve in found.items()})


def define_flags() -> None:
  flags.DEFINE_integer('rounds', 7, 'Timed rounds of each point.', lower_bound=1)
  flags.DEFINE_enum('size', 'full', list(SIZES), 'tiny says nothing about speed.')
  flags.DEFINE_string('json', None, 'File to write all numbers to; the curves are drawn beside it.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.train does
  busy, found = timing.warn_if_busy(timing.use_all_cores()), {}
  for growth in growths(SIZES[flags.FLAGS.size]):
    title = f'{growth.task}, by {growth.unit}'
    curve = found[title] = measure(growth, flags.FLAGS.rounds)
    print(f'{title}: ' + ', '.join(f'{p["count"]:,} {1e3 * p["median"]:.3g} ms'
                                   for p in curve['points'])
          + f'; {1e3 * curve["fixed"]:.3g} ms + {1e6 * curve["each"]:.3g} us n, '
          f'within {curve["worst"]:.0%}', flush=True)
    if flags.FLAGS.json:
      timing.write(flags.FLAGS.json, 'growth', f'medians of {flags.FLAGS.rounds} interleaved '
                   'rounds; of each work one number grows, the others stay',
                   timing.environment(PACKAGES, busy), curves=found)
  if flags.FLAGS.json:
    pixels = np.clip(255 * picture(found)[0, 0], 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(pathlib.Path(flags.FLAGS.json).with_suffix('.png'))


if __name__ == '__main__':
  # Read when JAX first looks for devices.
  os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '')
                             + ' --xla_force_host_platform_device_count=8').strip()
  define_flags()
  app.run(main)
