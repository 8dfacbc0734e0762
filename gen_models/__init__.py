"""Deep generative models in JAX: models, estimators, samplers, evaluation, training, data.

  import gen_models as gm

  params = gm.models.rbm.init(key, num_visible=784, num_hidden=500)
  estimator = gm.estimators.contrastive(gm.models.rbm, gm.estimators.persistent(chains=100))
  found = gm.evaluation.audit(key, estimator, params, batch, exact_grads)

  run = gm.fit('rbm_digits', variant='pcd', workdir='runs/digits')
  samples = gm.load('runs/digits').sample(key, 64)

All public names are in the `__all__` of the packages; each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models import (
    data,
    domains,
    estimators,
    evaluation,
    export,
    inference,
    models,
    problems,
    samplers,
    training,
  )
  from gen_models.estimators.base import Estimator, Memory
  from gen_models.experiment import Alarm, Experiment, Phase, Published, Questions, Samples
  from launch.runs.fit import fit
  from launch.runs.load import Run, load

__all__ = ['Alarm', 'Estimator', 'Experiment', 'Memory', 'Phase', 'Published', 'Questions', 'Run',
           'Samples', 'data', 'domains', 'estimators', 'evaluation', 'export', 'fit',
           'inference', 'load', 'models', 'problems', 'samplers', 'training']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('data', 'domains', 'estimators', 'evaluation', 'export', 'inference', 'models', 'problems',
   'samplers', 'training'),
  {'Estimator': 'gen_models.estimators.base', 'Memory': 'gen_models.estimators.base',
   **dict.fromkeys(('Alarm', 'Experiment', 'Phase', 'Published', 'Questions', 'Samples'),
                   'gen_models.experiment'),
   # A run directory names an experiment, and only launch makes names into code.
   'fit': 'launch.runs.fit', **dict.fromkeys(('Run', 'load'), 'launch.runs.load')})
