"""Several seeds in one vmapped program beside the same runs one after another.

  python -m benchmarks.seeds --seeds=5 --json=seeds.json

Of the variants of rbm_digits the times are those of loop.fit, compilation included, without
validation; --variants=none leaves them out. Of the sweeps of 32 seeds at 4 learning rates they are
those of one update of all 128 replicas: an RBM 784-500 with PCD-1 and a VAE 784-500-20, batch 100
and 128, compiled before; sequential replicas share the compiled program of a single run, and one
replica alone is shown beside them.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from benchmarks import rbm as rbm_bench, timing, vae as vae_bench
from benchmarks.rbm import images_of
from benchmarks.timing import Contender, Task
from experiments import rbm_digits
from gen_models import data, estimators
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent
from gen_models.experiment import Phase
from gen_models.models import rbm
from gen_models.training import loop, parallel

_SEEDS = flags.DEFINE_integer('seeds', 5, 'Replicas.')
_STEPS = flags.DEFINE_integer('steps', 2000, 'Updates of each run.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Measurements of each.')
_VARIANTS = flags.DEFINE_list('variants', [], 'Only these.')
_SWEEP = flags.DEFINE_list('sweep', ['32', '4'], 'Seeds and learning rates of the sweeps.')
_JSON = flags.DEFINE_string('json', None, 'Write the table here too.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  num_seeds, num_rates = map(int, _SWEEP.value)
  variants = variants_of(_VARIANTS.value)
  timing.measure('seeds', tasks(variants, num_seeds, num_rates),
                 rounds=_ROUNDS.value, packages=('jax', 'jaxlib'), path=_JSON.value,
                 ours='one program',
                 protocol=(f'{_SEEDS.value} seeds of `rbm_digits`, {_STEPS.value:,} updates each, '
                           'compilation included; ' if variants else '')
                 + f'{_ROUNDS.value} interleaved rounds after a warm-up')


def variants_of(given: list[str]) -> list[str]:
  return [] if given == ['none'] else given or list(rbm_digits.VARIANTS)


def tasks(variants, num_seeds: int, num_rates: int) -> Iterator[Task]:
  """Seeds of each variant, and both sweeps."""
  dataset = data.load('digits')
  for variant in variants:
    values = {**rbm_digits.VARIANTS[variant], 'num_steps': _STEPS.value}
    experiment = rbm_digits.experiment(**values)._replace(validate=None)
    yield Task(f'{_SEEDS.value} seeds of {variant}', [
      Contender('one program', functools.partial(fit, experiment, dataset, True)),
      Contender('one after another', functools.partial(fit, experiment, dataset, False))])
  if not num_seeds:
    return
  s_rbm = rbm_bench.Setting(images_of(1000, 784), 500, 100, 0, 0, 0.05)
  yield sweep('RBM 784-500, PCD-1', s_rbm.x_NV, lambda rate: (
    contrastive(rbm, persistent(100, 1)), optax.sgd(rate)), rbm_bench.start(s_rbm), 100,
    num_seeds, num_rates)
  s_vae = vae_bench.Setting(images_of(1280, 784), 500, 20, 128, 1e-3)
  yield sweep('VAE 784-500-20', s_vae.x_NV, lambda rate: (
    estimators.analytic_elbo(s_vae.model), optax.adam(rate)), vae_bench.start(s_vae), 128,
    num_seeds, num_rates)


def sweep(name: str, x_NV, method, params, batch: int, num_seeds: int, num_rates: int) -> Task:
  """One update of every replica of a sweep over seeds and learning rates.

  Args:
    name: of the model.
    x_NV: images.
    method: learning rate -> (estimator, optimizer); the rate is traced.
    params: where every replica begins.
    batch: images an update.
    num_seeds, num_rates: of the sweep.
  """
  num, steps = num_seeds * num_rates, 2

  def at(rate) -> Phase:
    estimator, optimizer = method(rate)
    return Phase('phase', lambda key, arrays, previous: params, estimator, optimizer,
                 data.batches(batch, 'static', 1), steps, batch)

  phase = at(0.01)._replace(at=lambda hyper: at(hyper['rate']))
  hyper = {'rate': jnp.repeat(0.01 * 2.0 ** -jnp.arange(num_rates), num_seeds)}
  keys = jax.vmap(jax.random.key)(jnp.arange(num))

  def contender(name: str, sequential: bool, num: int = num) -> Contender:
    runner = parallel.runner(phase, 'replicas', replicated=True, sequential=sequential)
    arrays = runner.place_arrays(data.Arrays(x_NV))
    states = parallel.init_states(phase, keys[:num], data.Arrays(x_NV), None,
                                  jax.tree.map(lambda x: x[:num], hyper))
    state = runner.place(states)

    def run():
      nonlocal state
      state, metrics = runner.dispatch(state, arrays, steps)
      jax.block_until_ready((state, metrics))

    return Contender(name, run)

  return Task(f'{num_seeds} seeds at {num_rates} learning rates, {name}, one update of all', [
    contender('one program', False), contender('one after another', True),
    contender('one of them alone', True, 1)], steps)


def fit(experiment, dataset, together: bool):
  """Trains all seeds, in one program or each in its own."""
  seeds = range(_SEEDS.value)
  if together:
    keys = jax.vmap(jax.random.key)(jnp.arange(len(seeds)))
    runs = [loop.fit(experiment, dataset.train, dataset.valid, keys)]
  else:
    runs = [loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(i)) for i in seeds]
  jax.block_until_ready([run.state.params for run in runs])


if __name__ == '__main__':
  app.run(main)
