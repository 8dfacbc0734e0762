"""Every estimator, each on a problem small enough to enumerate. Add yours on the day you write it.

The problems of a family stand in a file of their own, <family>_problems.py.

test_battery.py holds each entry to the contract of gen_models.estimators.base and to what it
declares about its bias.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.contrastive import contrastive, persistent, reconstruction
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.models import rbm
from tests.estimators import (
  adversarial_problems,
  densities_problems,
  greedy_problems,
  variational_problems,
)
from tests.estimators.entry import Entry

_grad = functools.cache(lambda loss: jax.jit(jax.grad(loss)))


def exact_grads(entry: Entry):
  """The gradient of the entry's loss."""
  return _grad(entry.loss)(entry.params, entry.batch)


# Five visible and four hidden units, coupled strongly enough that one or three sweeps of Gibbs are
# far from equilibrium, so that CD-1 and CD-3 are visibly biased, and weakly enough that 20 sweeps
# are at it (second eigenvalue 0.6, held by test_battery.py). Biases undo the weights, so units are
# on about half the time.
_draws = np.random.default_rng(2)
_w_VH = 1.5 * _draws.normal(size=(5, 4))
PARAMS = rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
  _w_VH, -_w_VH.sum(1) / 2 + 0.5 * _draws.normal(size=5),
  -_w_VH.sum(0) / 2 + 0.5 * _draws.normal(size=4))))
BATCH = jnp.asarray(_draws.random((6, 5)) < 0.7, jnp.float32)
SWEEPS = 20


def rbm_loss(params, v_BV):
  """-mean log p(v), enumerated."""
  return -jnp.mean(rbm.log_likelihood(params, v_BV))


def _rbm(estimator, burn_in=0, deterministic=False):
  return Entry(estimator, PARAMS, BATCH, rbm_loss, burn_in, deterministic)


ENTRIES = {
  **densities_problems.ENTRIES, **greedy_problems.ENTRIES, **variational_problems.ENTRIES,
  **adversarial_problems.ENTRIES,
  'exact': _rbm(maximum_likelihood(rbm.log_likelihood), deterministic=True),
  'cd1': _rbm(contrastive(rbm, reconstruction())),
  'cd1_samples': _rbm(contrastive(rbm, reconstruction(), last_half_step='samples')),
  'cd3': _rbm(contrastive(rbm, reconstruction(steps=3))),
  'cd1_centred': _rbm(contrastive(rbm, reconstruction(), centring=0.5), burn_in=3),
  'pcd1': _rbm(contrastive(rbm, persistent(chains=4)), SWEEPS),
  'pcd1_samples': _rbm(contrastive(rbm, persistent(chains=4), last_half_step='samples'), SWEEPS),
  'pcd5': _rbm(contrastive(rbm, persistent(chains=4, steps=5)), SWEEPS // 5),
  'pcd1_centred': _rbm(contrastive(rbm, persistent(chains=4), centring=0.1), SWEEPS),
}
