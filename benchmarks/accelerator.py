"""One chip: seconds of every kind of work, beside its products and what the chip can do.

  python -m benchmarks.accelerator --minutes=10 --out=accelerator.json

On a GPU begin the line with XLA_FLAGS=--xla_gpu_deterministic_ops=true, as launch.train runs.

Parts follow each other, what is worth most first, until the minutes are over; --only and --skip
choose among them. The file is written anew after every row, so that what was measured is kept
whatever happens next. Where jax finds no accelerator the sizes are tiny and say nothing about
speed (--size=full measures them all the same).

Each row has the median of interleaved rounds, the products of the same work alone (the floor), the
rate of these products, and that rate as a fraction of what one large product reaches on this chip
in the same precision: float32 without TensorFloat-32, unless the row says bfloat16. Rows `memory`
have the temporary bytes of the compiled program at 1, 10 and 100 times a size instead.
"""

import datetime
import functools
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import gan, rbm as rbm_bench, timing, vae as vae_bench
from benchmarks.rbm import images_of
from benchmarks.timing import Contender
from gen_models import data, estimators, files
from gen_models.estimators.base import in_bfloat16
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.evaluation import importance, samples
from gen_models.experiment import Phase
from gen_models.models import rbm, vae
from gen_models.samplers import annealing
from gen_models.training import parallel

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


class Row(NamedTuple):
  """One measurement.

  Attributes:
    part, task: what was measured.
    median, low, high: seconds of one unit of work; 0 in rows `memory`.
    floor: seconds of its products alone, None where there are none to speak of.
    flop: of the products of one unit of work, None where they were not counted.
    precision: of the products, 'float32' or 'bfloat16'.
    bytes: temporary memory of the compiled program, of rows `memory`.
  """

  part: str
  task: str
  median: float = 0.0
  low: float = 0.0
  high: float = 0.0
  floor: float | None = None
  flop: float | None = None
  precision: str = 'float32'
  bytes: int | None = None


class Size(NamedTuple):
  """How much work: FULL for an accelerator, TINY for the tests."""

  rounds: int
  product: int  # side of the product that a rate is measured with
  visible: int
  hidden: int
  updates: int
  batches: tuple[int, ...]
  chains: tuple[int, ...]
  annealed: tuple[int, ...]
  temperatures: int
  images: int  # that are scored
  importance_samples: int
  batch: int  # of the VAE and the GAN
  iwae_samples: int
  channels: tuple[int, int]
  draws: int
  replicas: tuple[int, ...]


FULL = Size(5, 8192, 784, 500, 100, (100, 1000, 10_000), (2000, 65_536), (100, 10_000), 500, 10_000,
            5000, 128, 50, (64, 128), 10_000, (1, 8, 32, 128))
TINY = Size(1, 64, 784, 16, 2, (8, 16), (16,), (4,), 3, 20, 30, 8, 5, (4, 8), 60, (1, 2))


def timed(run: Callable[[], Any], rounds: int) -> list[float]:
  """Seconds of `run` in each round; one round more comes first and is not counted."""
  seconds = timing.interleaved([Contender('ours', run)], rounds)
  return seconds['ours']


def row(part: str, task: str, ours: Contender, floor: Contender | None, *, per: int, rounds: int,
        flop: float | None = None, precision: str = 'float32') -> Row:
  """Ours and its floor in the same rounds, for one of `per` units of work."""
  contenders = [ours] + ([floor] if floor else [])
  seconds = timing.interleaved(contenders, rounds)
  mine = [s / per for s in seconds[ours.name]]
  return Row(part, task, statistics.median(mine), min(mine), max(mine),
             statistics.median(seconds[floor.name]) / per if floor else None, flop, precision)


# Parts.


def rates(size: Size) -> Iterator[Row]:
  """One large product in each precision, and a copy: what the chip can do."""
  n = size.product
  for precision in ('float32', 'bfloat16'):
    x_NN = jax.random.normal(jax.random.key(0), (n, n), dtype=precision)
    product = jax.jit(lambda x: x @ x)
    seconds = timed(lambda product=product, x=x_NN: jax.block_until_ready(product(x)), size.rounds)
    yield Row('rates', f'a product of side {n}, {precision}', statistics.median(seconds),
              min(seconds), max(seconds), flop=2.0 * n**3, precision=precision)


def training_rbm(size: Size) -> Iterator[Row]:
  """An update of CD-1 and of PCD-1 at three batch sizes; the floor is its five products.

  PCD-1 also with products of bfloat16, beside the rate of one large such product.
  """
  for batch in size.batches:
    updates = max(2, size.updates * size.batches[0] // batch)
    s = rbm_bench.Setting(images_of(batch * updates, size.visible), size.hidden, batch, 0, 0, 0.05)
    for name, negative in (('CD-1', reconstruction(1)), ('PCD-1', persistent(batch, 1))):
      yield row('rbm', f'{size.visible}-{size.hidden}, {name}, batch {batch:,}, one update',
                rbm_bench.our_trainer(s, negative).contender,
                timing.floor('jax', *rbm_bench.step_products(s)), per=updates,
                rounds=size.rounds, flop=10.0 * batch * size.visible * size.hidden)
    yield row('rbm', f'{size.visible}-{size.hidden}, PCD-1, bfloat16, batch {batch:,}, one update',
              rbm_bench.our_trainer(s, persistent(batch, 1), in_bfloat16).contender, None,
              per=updates, rounds=size.rounds, flop=10.0 * batch * size.visible * size.hidden,
              precision='bfloat16')


def gibbs_steps(size: Size) -> Iterator[Row]:
  """A Gibbs step of many chains; the floor is its two products."""
  for chains in size.chains:
    s = rbm_bench.Setting(images_of(100, size.visible), size.hidden, 100, chains, size.updates,
                          0.05)
    yield row('gibbs', f'{size.visible}-{size.hidden}, {chains:,} chains, one Gibbs step',
              rbm_bench.our_sampler(s).contender, timing.floor('jax', *rbm_bench.gibbs_products(s)),
              per=size.updates, rounds=size.rounds, flop=4.0 * chains * size.visible * size.hidden)


def log_partition(size: Size) -> Iterator[Row]:
  """A temperature of annealed importance sampling; the floor is its two products."""
  betas = annealing.linear(size.temperatures)
  for chains in size.annealed:
    s = rbm_bench.Setting(images_of(100, size.visible), size.hidden, 100, chains, size.temperatures,
                          0.05)
    params, base_V = rbm_bench.start(s), np.zeros(size.visible, np.float32)
    run = functools.partial(annealing.forward, jax.random.key(0), params, base_V, chains, betas)
    yield row('log Z', f'{size.visible}-{size.hidden}, {chains:,} chains, one temperature',
              Contender('ours', run), timing.floor('jax', *rbm_bench.gibbs_products(s)),
              per=size.temperatures, rounds=size.rounds,
              flop=4.0 * chains * size.visible * size.hidden)


def importance_bound(size: Size) -> Iterator[Row]:
  """The importance-weighted bound of a test set; flops are those of the decoder."""
  widths = (50, 200, 200, size.visible)
  model = vae.model(size.visible, (widths[0],), ((200, 200),))
  x_NV = images_of(size.images, size.visible).astype(np.float32)
  params = model.init(jax.random.key(0), jnp.asarray(x_NV).mean(0))
  run = functools.partial(importance.bound, jax.random.key(1), model, params, x_NV,
                          binarisation='static', num_samples=size.importance_samples)
  decoder = sum(2.0 * a * b for a, b in zip(widths, widths[1:], strict=False))
  yield row('importance bound', f'{size.images:,} images, {size.importance_samples:,} samples each',
            Contender('ours', run), None, per=1, rounds=min(size.rounds, 2),
            flop=decoder * size.images * size.importance_samples)


def training_vae(size: Size) -> Iterator[Row]:
  """An update of a VAE, and of IWAE with many samples."""
  s = vae_bench.Setting(images_of(size.batch * size.updates, size.visible), size.hidden, 20,
                        size.batch, 1e-3)
  layers = (size.visible * size.hidden, size.hidden * 40, 20 * size.hidden,
            size.hidden * size.visible)
  yield row('vae', f'{size.visible}-{size.hidden}-20, batch {size.batch}, one update',
            vae_bench.our_trainer(s).contender,
            timing.floor('jax', *vae_bench.elbo_products(s)), per=size.updates, rounds=size.rounds,
            flop=size.batch * (6.0 * sum(layers) - 2.0 * layers[0]))
  k = size.iwae_samples
  estimator = estimators.variational(s.model, estimators.iwae(k))
  phase = Phase('vae', lambda key, arrays, previous: vae_bench.start(s), estimator,
                optax.adam(1e-3), data.batches(s.batch_size, 'static', 1), s.steps, s.batch_size)
  encoder, decoder = sum(layers[:2]), sum(layers[2:])
  yield row('vae', f'the same, IWAE with {k} samples', _trainer(phase, s.x_NV), None,
            per=size.updates, rounds=size.rounds,
            flop=size.batch * (6.0 * (encoder + k * decoder) - 2.0 * layers[0]))


def training_gan(size: Size) -> Iterator[Row]:
  """An iteration of a DCGAN: both players at once, and in turns."""
  s = gan.Setting(images_of(1000, gan.SIDE**2), size.channels, 64, size.batch, size.updates, 2e-4)
  for alternating in (False, True):
    how = 'in turns' if alternating else 'at once'
    yield row('gan', f'DCGAN 28x28, channels {size.channels[0]} and {size.channels[1]}, batch '
              f'{size.batch}, one iteration, {how}',
              gan.our_trainer(s, alternating).contender, gan.floor('jax', s), per=size.updates,
              rounds=size.rounds)


def sample_scores(size: Size) -> Iterator[Row]:
  """Every score of draws against as many test images."""
  x_ND, y_ND = (images_of(size.draws, size.visible, seed).astype(np.float32) for seed in (0, 1))
  shape = (28, 28) if size.visible == 784 else (size.visible,)
  yield row('sample scores', f'{size.draws:,} draws against {size.draws:,} images',
            Contender('ours', lambda: samples.compare(x_ND, y_ND, shape)), None, per=1,
            rounds=min(size.rounds, 2))


def replicas(size: Size) -> Iterator[Row]:
  """An update of many replicas in one program; the flops are those of all."""
  batch = size.batches[0]
  s = rbm_bench.Setting(images_of(batch * size.updates, size.visible), size.hidden, batch, 0, 0,
                        0.05)
  phase = Phase('rbm', lambda key, arrays, previous: rbm_bench.start(s),
                contrastive(rbm, persistent(batch, 1)), optax.sgd(0.05),
                data.batches(batch, 'static', 1), s.steps, batch)
  for num in size.replicas:
    yield row('replicas', f'{size.visible}-{size.hidden}, PCD-1, batch {batch}, {num} replicas, '
              'one update of all', _trainer(phase, s.x_NV, num), None, per=size.updates,
              rounds=size.rounds, flop=10.0 * num * batch * size.visible * size.hidden)


def memory(size: Size) -> Iterator[Row]:
  """Temporary bytes of programs that should not grow: temperatures, samples K, images."""
  hidden, chains, latents = size.hidden, size.annealed[0], 50
  s = rbm_bench.Setting(images_of(100, size.visible), hidden, 100, chains, 1, 0.05)
  params, model = rbm_bench.start(s), vae.model(size.visible, (latents,), ((200, 200),))
  base_V = np.zeros(size.visible, np.float32)
  x_BV = images_of(20, size.visible).astype(np.float32)
  net = model.init(jax.random.key(0), jnp.asarray(x_BV).mean(0))

  def quick(key, temperatures):
    return annealing.quick_log_partition(key, params, base_V, num_chains=chains,
                                         betas=annealing.linear(temperatures))

  def bound(x_NV, num):
    return importance.log_likelihoods(jax.random.key(0), model.log_weights, net, x_NV, num)

  for times in (1, 10, 100):
    for task, fn, argument in (
        (f'log Z, {10 * times} temperatures', functools.partial(quick, temperatures=10 * times),
         jax.random.key(0)),
        (f'importance bound, {100 * times:,} samples', functools.partial(bound, num=100 * times),
         x_BV),
        (f'importance bound, {20 * times:,} images', functools.partial(bound, num=100),
         np.resize(x_BV, (20 * times, size.visible)))):
      analysis = jax.jit(fn).lower(argument).compile().memory_analysis()
      yield Row('memory', task, bytes=int(analysis.temp_size_in_bytes))


PARTS: dict[str, Callable[[Size], Iterator[Row]]] = {
  'rates': rates, 'rbm': training_rbm, 'gibbs': gibbs_steps, 'log_z': log_partition,
  'importance': importance_bound, 'vae': training_vae, 'replicas': replicas, 'gan': training_gan,
  'samples': sample_scores, 'memory': memory}


def _trainer(phase: Phase, x_NV, num_replicas: int | None = None) -> Contender:
  """All updates of a phase in one dispatch, of replicas if there are any."""
  replicated = num_replicas is not None
  runner = parallel.runner(phase, 'replicas' if replicated else 'sharded', replicated=replicated)
  arrays = runner.place_arrays(data.Arrays(x_NV))
  key = jax.random.key(1)
  keys = jax.random.split(key, num_replicas) if replicated else key
  state = runner.place(parallel.init_states(phase, keys, arrays))

  def run():
    nonlocal state
    state, metrics = runner.dispatch(state, arrays, phase.num_steps)
    jax.block_until_ready((state, metrics))

  return Contender('ours', run)


# The measurement.


def measure(parts: list[str], size: Size, seconds: float,
            write: Callable[[list[Row], dict[str, str]], None]) -> None:
  """Runs parts until the time is over.

  Args:
    parts: names in PARTS, in order.
    size: of everything.
    seconds: after which no part and no further row is begun.
    write: called with all rows so far, and why which part is incomplete, after every row.
  """
  rows, missing, end = [], {}, time.monotonic() + seconds
  for name in parts:
    if time.monotonic() > end:
      missing[name] = 'the time was over'
      write(rows, missing)
      continue
    try:
      for measured in PARTS[name](size):
        rows.append(measured)
        print(describe(measured, peak(rows, measured.precision)), flush=True)
        write(rows, missing)
        if time.monotonic() > end:
          missing[name] = 'the time was over before all of it'
          break
    except Exception as error:  # the other parts are worth having
      missing[name] = f'{type(error).__name__}: {error}'.splitlines()[0]
      print(f'{name}: {missing[name]}', flush=True)
      write(rows, missing)


def peak(rows: list[Row], precision: str) -> float | None:
  """Flop a second of the large product in this precision, None if it was not measured."""
  return next((r.flop / r.median for r in rows
               if r.part == 'rates' and r.precision == precision and r.flop), None)


def describe(r: Row, best: float | None) -> str:
  """A row in one line."""
  if r.bytes is not None:
    return f'{r.task}: {r.bytes / 1e6:.1f} MB'
  text = f'{r.task}: {1e3 * r.median:.4g} ms'
  if r.floor:
    text += f', {r.median / r.floor:.2f}x the products'
  if r.flop:
    text += f', {r.flop / r.median / 1e12:.3g} TFLOP/s'
    text += f', {r.flop / r.median / best:.0%} of the large product' if best else ''
  return text


def define_flags() -> None:
  flags.DEFINE_float('minutes', 10.0, 'After these no further row is begun.', lower_bound=0)
  flags.DEFINE_string('out', None, 'JSON file that is written anew after every row.')
  flags.DEFINE_list('only', list(PARTS), 'Parts, in this order.')
  flags.DEFINE_list('skip', [], 'Parts that are left out.')
  flags.DEFINE_enum('size', 'auto', ['auto', 'full', 'tiny'], 'auto: tiny where jax has only CPUs.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  if unknown := [p for p in [*given.only, *given.skip] if p not in PARTS]:
    raise app.UsageError(f'no part {unknown[0]!r}; there are {", ".join(PARTS)}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.train does
  tiny = given.size == 'tiny' or (given.size == 'auto' and jax.default_backend() == 'cpu')
  env = timing.environment(PACKAGES)
  env['device'] = jax.devices()[0].device_kind
  timing.show_environment(env)
  if tiny:
    print('tiny sizes: these numbers say nothing about speed', flush=True)

  def write(rows, missing):
    if given.out:
      files.write_text(given.out, json.dumps({
        'benchmark': 'accelerator',
        'command': shlex.join(['python', '-m', 'benchmarks.accelerator', *sys.argv[1:]]),
        'protocol': 'tiny sizes, which say nothing about speed' if tiny else
                    f'{FULL.rounds} interleaved rounds in one process (the importance bound and '
                    'the sample scores: 2)',
        'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'environment': env, 'rows': [r._asdict() for r in rows], 'missing': missing},
        indent=1) + '\n')

  measure([p for p in given.only if p not in given.skip], TINY if tiny else FULL,
          60 * given.minutes, write)


if __name__ == '__main__':
  define_flags()
  app.run(main)
