"""Profiles the training program of an experiment: top operations, and the fraction of peak.

  python -m launch.profile --experiment=rbm_mnist --variant=pcd1 --out=runs/profile

Writes a trace below --out that Perfetto and TensorBoard open. The peak is that of one large product
measured here and now.
"""

import json
import pathlib

from absl import flags

from gen_models import indices
from launch.cli import app, flags as shared, hyperparameters, jax_setup, registry

_EXPERIMENT = shared.experiment()
_VARIANT = shared.variant()
_SET = shared.overrides()
_OUT = flags.DEFINE_string('out', 'runs/profile', 'Directory of the trace.')
_PHASE = flags.DEFINE_integer('phase', 0, 'Which phase of training, counted from 0.', lower_bound=0)
_STEPS = flags.DEFINE_integer('steps', None, 'Updates a dispatch; default as in training.',
                              lower_bound=1)
_TOP = flags.DEFINE_integer('top', 12, 'Operations shown.', lower_bound=1)
_JSON = flags.DEFINE_bool('json', False, 'One JSON object instead of the table.')
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  entry = registry.load(_EXPERIMENT.value)
  values = hyperparameters.resolve(entry, _VARIANT.value, _SET.value)
  experiment = entry.experiment(**values)
  indices.check('--phase', _PHASE.value, len(experiment.phases), f'phases in {entry.name}')
  jax_setup.setup()
  import jax

  from gen_models import data
  from gen_models.training import hyper
  from launch.measure import profile
  dataset = data.load(experiment.dataset, _DATA_DIR.value)
  experiment = hyper.bind(entry.experiment, values, dataset.train, dataset.valid)
  found = profile.profile(experiment, dataset.train, jax.random.key(0), pathlib.Path(_OUT.value),
                          phase=_PHASE.value, num_steps=_STEPS.value)
  if _JSON.value:
    print(json.dumps({**found._asdict(), 'operations': [
      x._asdict() for x in found.operations[:_TOP.value]]}))
  else:
    print(profile.table(found, _TOP.value))


if __name__ == '__main__':
  app.run(main)
