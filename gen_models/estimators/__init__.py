"""Estimators: how parameters get their gradient, the extension point.

The names below are imported at once, so that `estimators.contrastive` is always the function and
never the module of the same name, whoever imports what first.
"""

from gen_models.estimators.adversarial import (
  LOSSES,
  Loss,
  Turn,
  adversarial,
  gradient_penalty,
  hinge,
  minimax,
  non_saturating,
  r1,
  r2,
  relativistic,
  turns,
  wasserstein,
)
from gen_models.estimators.base import Estimator, Memory, checked, from_loss, weighted
from gen_models.estimators.contrastive import (
  Normalised,
  contrastive,
  measured,
  normalised,
  sparse_groups,
  sparsity,
)
from gen_models.estimators.custom import (
  as_direction,
  as_estimator,
  as_loss,
  as_negative,
  as_penalty,
  as_rule,
)
from gen_models.estimators.deep import (
  coupled_posterior,
  deep,
  duplicated,
  mean_field_posterior,
)
from gen_models.estimators.directions import (
  PLAIN,
  Direction,
  centred,
  connected,
  enhanced,
  natural,
  standardised,
)
from gen_models.estimators.greedy import on_top
from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.estimators.missing import imputed
from gen_models.estimators.multi_sample import (
  nvil,
  ovis,
  ovis_monte_carlo,
  rws,
  sleep,
  tvo,
  vimco,
  wake_sleep,
)
from gen_models.estimators.negative import (
  Drawn,
  Negative,
  coupled,
  fast_persistent,
  mean_field,
  persistent,
  reconstruction,
  tap,
)
from gen_models.estimators.sampling_free import (
  discriminative,
  pseudo_likelihood,
  ratio_matching,
  score_matching,
)
from gen_models.estimators.tempered import tempered, trajectory
from gen_models.estimators.variational import (
  Coefficients,
  Rule,
  analytic_elbo,
  dreg,
  elbo,
  free_bits,
  generalised_dreg,
  iwae,
  reinforce,
  rloo,
  stl,
  variational,
  warm_up,
)

__all__ = [
  'Coefficients', 'Direction', 'Drawn', 'Estimator', 'LOSSES', 'Loss', 'Memory', 'Negative',
  'Normalised', 'PLAIN', 'Rule', 'Turn', 'adversarial', 'analytic_elbo', 'as_direction',
  'as_estimator', 'as_loss', 'as_negative', 'as_penalty', 'as_rule', 'centred', 'checked',
  'connected', 'contrastive', 'coupled', 'coupled_posterior', 'deep', 'discriminative', 'dreg',
  'duplicated', 'elbo', 'enhanced', 'fast_persistent', 'fixed_point', 'free_bits', 'from_loss',
  'generalised_dreg', 'gradient_penalty', 'hinge', 'imputed', 'iwae', 'maximum_likelihood',
  'mean_field', 'mean_field_posterior', 'measured', 'minimax', 'natural', 'non_saturating',
  'normalised', 'nvil', 'on_top', 'ovis', 'ovis_monte_carlo', 'persistent', 'pseudo_likelihood',
  'r1', 'r2', 'ratio_matching', 'reconstruction', 'reinforce', 'relativistic', 'rloo', 'rws',
  'score_matching', 'sleep', 'sparse_groups', 'sparsity', 'standardised', 'stl', 'tap', 'tempered',
  'trajectory', 'turns', 'tvo', 'variational', 'vimco', 'wake_sleep', 'warm_up', 'wasserstein',
  'weighted']
