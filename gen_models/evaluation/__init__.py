"""Evaluation: how good a model, or an estimator of its gradient, is."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.evaluation import (
    baselines,
    copies,
    dbm,
    deep,
    features,
    figures,
    gradients,
    importance,
    json_fields,
    likelihood,
    modes,
    monitors,
    samples,
    score,
    weights,
  )
  from gen_models.evaluation.gradients import (
    Audit,
    ContractError,
    audit,
    check,
    stopwatch,
  )

__all__ = [
  'Audit', 'ContractError', 'audit', 'baselines', 'check', 'copies', 'dbm', 'deep', 'features',
  'figures', 'gradients', 'importance', 'json_fields', 'likelihood', 'modes', 'monitors', 'samples',
  'score',
  'stopwatch', 'weights']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('baselines', 'copies', 'dbm', 'deep', 'features', 'figures', 'gradients', 'importance',
   'json_fields', 'likelihood', 'modes', 'monitors', 'samples', 'score', 'weights'),
  {'Audit': 'gen_models.evaluation.gradients',
   'ContractError': 'gen_models.evaluation.gradients',
   'audit': 'gen_models.evaluation.gradients',
   'check': 'gen_models.evaluation.gradients',
   'stopwatch': 'gen_models.evaluation.gradients'})
