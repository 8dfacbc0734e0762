"""Estimators: how parameters get their gradient, the extension point.

The names below are imported at once, so that `estimators.contrastive` is always the function and
never the module of the same name, whoever imports what first.
"""

from gen_models.estimators.adversarial import Turn, adversarial, turns
from gen_models.estimators.anchored import anchored
from gen_models.estimators.augmentations import (
  Adaptive,
  Augmentation,
  adaptive,
  colour,
  composed,
  cutout,
  diff_augment,
  flips,
  jitter,
  translation,
)
from gen_models.estimators.base import (
  Estimator,
  Memory,
  checked,
  from_loss,
  in_bfloat16,
  weighted,
)
from gen_models.estimators.contrastive import (
  Normalised,
  contrastive,
  measured,
  normalised,
  sparse_groups,
  sparsity,
)
from gen_models.estimators.critic_penalties import (
  Remembering,
  balanced_consistency,
  consistency,
  dragan,
  gradient_penalty,
  lazy,
  lecam,
  r1,
  r2,
  scaled,
  zero_centred,
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
from gen_models.estimators.discrete import (
  arm,
  arms,
  disarm,
  discrete,
  double_control_variates,
  enumerated,
  measure_valued,
  muprop,
  rebar,
  relax,
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
from gen_models.estimators.rbm_prior import rbm_prior
from gen_models.estimators.relaxed import (
  gumbel,
  gumbel_rao,
  reinmax,
  reinmax_control_variate,
  reinmax_rao,
  relaxed,
  straight_through,
  straight_through_gumbel,
)
from gen_models.estimators.sampling_free import (
  discriminative,
  pseudo_likelihood,
  ratio_matching,
  score_matching,
)
from gen_models.estimators.spectral import Normalisation, spectral_norm
from gen_models.estimators.tempered import tempered, trajectory
from gen_models.estimators.two_player_losses import (
  DIVERGENCES,
  LOSSES,
  Divergence,
  Loss,
  energy,
  f_divergence,
  hinge,
  kernel_distance,
  least_squares,
  minimax,
  mmd,
  non_saturating,
  relativistic,
  relativistic_average,
  top_k,
  wasserstein,
)
from gen_models.estimators.up_down import up_down
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
from gen_models.estimators.vector_quantised import vector_quantised, vector_quantised_gumbel

__all__ = [
  'Adaptive', 'Augmentation', 'Coefficients', 'DIVERGENCES', 'Direction', 'Divergence', 'Drawn',
  'Estimator', 'LOSSES', 'Loss', 'Memory', 'Negative', 'Normalisation', 'Normalised', 'PLAIN',
  'Remembering', 'Rule', 'Turn', 'adaptive', 'adversarial', 'analytic_elbo', 'anchored', 'arm',
  'arms', 'as_direction', 'as_estimator', 'as_loss', 'as_negative', 'as_penalty', 'as_rule',
  'balanced_consistency', 'centred', 'checked', 'colour', 'composed', 'connected', 'consistency',
  'contrastive', 'coupled', 'coupled_posterior', 'cutout', 'deep', 'diff_augment', 'disarm',
  'discrete', 'discriminative', 'double_control_variates', 'dragan', 'dreg', 'duplicated', 'elbo',
  'energy', 'enhanced', 'enumerated', 'f_divergence', 'fast_persistent', 'fixed_point', 'flips',
  'free_bits', 'from_loss', 'generalised_dreg', 'gradient_penalty', 'gumbel', 'gumbel_rao', 'hinge',
  'imputed', 'in_bfloat16', 'iwae', 'jitter', 'kernel_distance', 'lazy', 'least_squares', 'lecam',
  'maximum_likelihood', 'mean_field', 'mean_field_posterior', 'measure_valued', 'measured',
  'minimax', 'mmd', 'muprop', 'natural', 'non_saturating', 'normalised', 'nvil', 'on_top', 'ovis',
  'ovis_monte_carlo', 'persistent', 'pseudo_likelihood', 'r1', 'r2', 'ratio_matching', 'rbm_prior',
  'rebar', 'reconstruction', 'reinforce', 'reinmax', 'reinmax_control_variate', 'reinmax_rao',
  'relativistic', 'relativistic_average', 'relax', 'relaxed', 'rloo', 'rws', 'scaled',
  'score_matching', 'sleep', 'sparse_groups', 'sparsity', 'spectral_norm', 'standardised', 'stl',
  'straight_through', 'straight_through_gumbel', 'tap', 'tempered', 'top_k', 'trajectory',
  'translation', 'turns', 'tvo', 'up_down', 'variational', 'vector_quantised',
  'vector_quantised_gumbel', 'vimco', 'wake_sleep', 'warm_up', 'wasserstein', 'weighted',
  'zero_centred',
]
