"""Evaluation: how good a model, or an estimator of its gradient, is."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.evaluation import (
    adapters,
    baselines,
    blocks,
    charts,
    contacts,
    copies,
    dbm,
    decoders,
    deep,
    feature_scores,
    features,
    figures,
    gradients,
    importance,
    json_fields,
    judge,
    likelihood,
    mixing,
    modes,
    moments,
    monitors,
    mutations,
    posteriors,
    rbm_prior,
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
  'Audit', 'ContractError', 'adapters', 'audit', 'baselines', 'blocks', 'charts', 'check',
  'contacts', 'copies', 'dbm', 'decoders', 'deep', 'feature_scores', 'features', 'figures',
  'gradients', 'importance', 'json_fields', 'judge', 'likelihood', 'mixing', 'modes', 'moments',
  'monitors', 'mutations', 'posteriors', 'rbm_prior', 'samples', 'score', 'stopwatch', 'weights']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('adapters', 'baselines', 'blocks', 'charts', 'contacts', 'copies', 'dbm', 'decoders', 'deep',
   'feature_scores', 'features', 'figures', 'gradients', 'importance', 'json_fields', 'judge',
   'likelihood', 'mixing', 'modes', 'moments', 'monitors', 'mutations', 'posteriors', 'rbm_prior',
   'samples', 'score', 'weights'),
  {'Audit': 'gen_models.evaluation.gradients',
   'ContractError': 'gen_models.evaluation.gradients',
   'audit': 'gen_models.evaluation.gradients',
   'check': 'gen_models.evaluation.gradients',
   'stopwatch': 'gen_models.evaluation.gradients'})
