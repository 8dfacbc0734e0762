"""Several seeds in one vmapped program beside the same runs one after another.

  python -m benchmarks.seeds --seeds=5

Both times are those of loop.fit, compilation included, without validation; the variants of
rbm_digits follow each other, `rounds` times interleaved. Prints medians and their ratio.
"""

import functools

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import timing
from experiments import rbm_digits
from gen_models import data
from gen_models.training import loop

_SEEDS = flags.DEFINE_integer('seeds', 5, 'Replicas.')
_STEPS = flags.DEFINE_integer('steps', 2000, 'Updates of each run.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Measurements of each.')
_VARIANTS = flags.DEFINE_list('variants', [], 'Only these.')
_JSON = flags.DEFINE_string('json', None, 'Write the table here too.')


def main(argv):
  del argv
  timing.warn_if_busy(timing.use_all_cores())
  tables = {}
  dataset = data.load('digits')
  for variant in _VARIANTS.value or rbm_digits.VARIANTS:
    values = {**rbm_digits.VARIANTS[variant], 'num_steps': _STEPS.value}
    experiment = rbm_digits.experiment(**values)._replace(validate=None)
    contenders = [
      timing.Contender('one program', functools.partial(fit, experiment, dataset, True)),
      timing.Contender('one after another', functools.partial(fit, experiment, dataset, False))]
    seconds = timing.interleaved(contenders, _ROUNDS.value)
    tables[variant] = timing.summarise(seconds, 1, 'one program')
    print(f'\n{variant}: {_SEEDS.value} seeds, {_STEPS.value} updates each, milliseconds')
    timing.show(tables[variant], contenders)
  env = timing.environment(('jax', 'jaxlib'))
  timing.show_environment(env)
  if _JSON.value:
    protocol = (f'{_SEEDS.value} seeds of `rbm_digits`, {_STEPS.value} updates each, compilation '
                f'included; {_ROUNDS.value} interleaved rounds after a warm-up')
    timing.write_json(_JSON.value, 'seeds', protocol, env, tables, ours='one program')


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
