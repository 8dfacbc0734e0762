"""Evaluation: how good a model, or an estimator of its gradient, is."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.evaluation import (
    baselines,
    deep,
    features,
    figures,
    gradients,
    importance,
    likelihood,
    modes,
    monitors,
    samples,
  )
  from gen_models.evaluation.gradients import (
    Audit,
    ContractError,
    audit,
    check,
    stopwatch,
  )

__all__ = [
  'Audit', 'ContractError', 'audit', 'baselines', 'check', 'deep', 'features', 'figures',
  'gradients', 'importance', 'likelihood', 'modes', 'monitors', 'samples', 'stopwatch']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('baselines', 'deep', 'features', 'figures', 'gradients', 'importance', 'likelihood',
   'modes', 'monitors', 'samples'),
  {'Audit': 'gen_models.evaluation.gradients',
   'ContractError': 'gen_models.evaluation.gradients',
   'audit': 'gen_models.evaluation.gradients',
   'check': 'gen_models.evaluation.gradients',
   'stopwatch': 'gen_models.evaluation.gradients'})
