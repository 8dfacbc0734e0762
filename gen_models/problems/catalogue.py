"""Every estimator, each on a problem small enough to enumerate. Add yours on the day you write it.

A file for each family holds its problems and its estimators' entries. tests/estimators/
test_battery.py holds each entry to the contract of gen_models.estimators.base and to what it
declares about its bias; `python -m launch.audit` prints what it finds.
"""

import functools

import jax

from gen_models.problems import (
  adversarial,
  dbm,
  densities,
  discrete,
  greedy,
  machine,
  multi_sample,
  rbm,
  rbm_prior,
  up_down,
  variational,
  vq,
)
from gen_models.problems.entry import Entry, Problem

_FAMILIES = (rbm, machine, dbm, densities, greedy, up_down, variational, multi_sample,
             discrete, rbm_prior, vq, adversarial)

# Name -> problem; name -> entry.
PROBLEMS = {problem.name: problem for family in _FAMILIES for problem in family.PROBLEMS}
ENTRIES = {name: entry for family in _FAMILIES for name, entry in family.ENTRIES.items()}

_grad = functools.cache(lambda loss: jax.jit(jax.grad(loss)))


def exact_grads(of: Entry | Problem):
  """The gradient of the loss of an entry or a problem."""
  return _grad(of.loss)(of.params, of.batch)
