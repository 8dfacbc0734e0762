"""Models: what a distribution is. A module each, all in one order: parameters, density,
conditionals, sampling. Read gen_models.models.rbm first.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.models import (
    belief_net,
    bits,
    convolutions,
    counts,
    dbm,
    dbn,
    double_rectified,
    families,
    feedforward,
    flows,
    gan,
    gaussian,
    gibbs,
    joined,
    label_rbm,
    levels,
    linear_rbm,
    low_rank,
    machine,
    mixture,
    networks,
    pca,
    posteriors,
    priors,
    rbm,
    rbm_prior,
    residual,
    rows,
    tails,
    units,
    vae,
    vq,
  )
  from gen_models.models.machine import Machine

__all__ = [
  'Machine', 'belief_net', 'bits', 'convolutions', 'counts', 'dbm', 'dbn', 'double_rectified',
  'families', 'feedforward', 'flows', 'gan', 'gaussian', 'gibbs', 'joined', 'label_rbm',
  'levels', 'linear_rbm', 'low_rank', 'machine', 'mixture', 'networks', 'pca', 'posteriors',
  'priors', 'rbm', 'rbm_prior', 'residual', 'rows', 'tails', 'units', 'vae', 'vq']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('belief_net', 'bits', 'convolutions', 'counts', 'dbm', 'dbn', 'double_rectified',
   'families', 'feedforward', 'flows', 'gan', 'gaussian', 'gibbs', 'joined', 'label_rbm',
   'levels', 'linear_rbm', 'low_rank', 'machine', 'mixture', 'networks', 'pca', 'posteriors',
   'priors', 'rbm', 'rbm_prior', 'residual', 'rows', 'tails', 'units', 'vae', 'vq'),
  {'Machine': 'gen_models.models.machine'})
