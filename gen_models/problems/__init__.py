"""Problems: small models whose gradient can be enumerated, and every estimator on one of them."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.problems import (
    adversarial,
    catalogue,
    dbm,
    densities,
    discrete,
    entry,
    greedy,
    machine,
    multi_sample,
    planes,
    rbm,
    rbm_prior,
    up_down,
    variational,
    vq,
  )
  from gen_models.problems.catalogue import ENTRIES, PROBLEMS, exact_grads
  from gen_models.problems.entry import Entry, Problem

__all__ = [
  'ENTRIES', 'Entry', 'PROBLEMS', 'Problem', 'adversarial', 'catalogue', 'dbm', 'densities',
  'discrete', 'entry', 'exact_grads', 'greedy', 'machine', 'multi_sample', 'planes', 'rbm',
  'rbm_prior', 'up_down', 'variational', 'vq']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('adversarial', 'catalogue', 'dbm', 'densities', 'discrete', 'entry', 'greedy', 'machine',
   'multi_sample', 'planes', 'rbm', 'rbm_prior', 'up_down', 'variational', 'vq'),
  {'ENTRIES': 'gen_models.problems.catalogue',
   'Entry': 'gen_models.problems.entry',
   'PROBLEMS': 'gen_models.problems.catalogue',
   'Problem': 'gen_models.problems.entry',
   'exact_grads': 'gen_models.problems.catalogue'})
