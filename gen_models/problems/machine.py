"""Machines of other units, and a label beside features, small enough to enumerate or integrate."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.base import weighted
from gen_models.estimators.contrastive import (
  Normalised,
  contrastive,
  normalised,
  sparse_groups,
)
from gen_models.estimators.directions import centred, natural
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.estimators.sampling_free import discriminative, score_matching
from gen_models.models import label_rbm, rbm, units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(11)
BURN_IN = 30


def _spread(*shape, scale=1.0):
  return jnp.asarray(scale * _draws.normal(size=shape), jnp.float32)


def _machine(name: str, visible, hidden, sizes, scale: float, batch,
             of: str) -> tuple[Machine, Problem]:
  machine = Machine(visible, hidden)
  params = jax.tree.map(lambda x: x + _spread(*x.shape, scale=0.3),
                        machine.init(jax.random.key(0), *sizes))
  params = params._replace(w_VH=_spread(*sizes, scale=scale))

  def loss(params, v_BV):
    return -jnp.mean(machine.log_likelihood(params, v_BV))

  return machine, Problem(name, params, jnp.asarray(batch, jnp.float32), loss,
                          f'machine of {of}', '-log p(v)', BURN_IN)


_real = _draws.normal(size=(6, 4))
SPINS, SPIN = _machine('spin_rbm', units.SPIN, units.SPIN, (4, 3), 0.5,
                       np.sign(_draws.normal(size=(6, 4)) + 0.5), '4 x 3 spins')
POTTS, POTTS_PROBLEM = _machine(
  'potts_rbm', units.Categorical(3), units.BERNOULLI, (6, 3), 1.0,
  np.eye(3)[_draws.integers(0, 3, (6, 2))].reshape(6, 6), '2 units of 3 states, 3 Bernoulli')
GAUSSIAN, GAUSSIAN_PROBLEM = _machine(
  'gaussian_rbm', units.Gaussian(), units.BERNOULLI, (4, 3), 0.6, _real,
  '4 Gaussian units of learned variance, 3 Bernoulli')
RECTIFIED, RECTIFIED_PROBLEM = _machine(
  'rectified_rbm', units.BERNOULLI, units.RECTIFIED, (4, 3), 0.8,
  _draws.random((6, 4)) < 0.6, '4 Bernoulli, 3 rectified units')
CODES, CODES_PROBLEM = _machine(
  'precise_code_rbm', units.BERNOULLI, units.Gaussian(), (4, 2), 0.8,
  _draws.random((6, 4)) < 0.6, '4 Bernoulli, 2 Gaussian units of learned variance')

NUM_LABELS = 3
LABELS_PARAMS = rbm.Params(_spread(4 + NUM_LABELS, 3), _spread(4 + NUM_LABELS, scale=0.5),
                           _spread(3, scale=0.5))
LABELS_BATCH = label_rbm.attach(jnp.asarray(_draws.random((6, 4)) < 0.6, jnp.float32),
                                jnp.asarray([0, 1, 2, 2, 0, 2]), NUM_LABELS)


def joint_loss(params, v_BV):
  """-mean log p(x, y), enumerated."""
  return jnp.mean(rbm.free_energy(params, v_BV)) + label_rbm.log_partition(params, NUM_LABELS)


def label_loss(params, v_BV):
  """-mean log p(y | x), from free energies."""
  x_BF, y_BQ = v_BV[:, :-NUM_LABELS], v_BV[:, -NUM_LABELS:]
  free_BQ = jnp.stack([rbm.free_energy(params, label_rbm.attach(
    x_BF, jnp.full(len(x_BF), y), NUM_LABELS)) for y in range(NUM_LABELS)], axis=-1)
  return jnp.mean(jnp.sum(y_BQ * free_BQ, -1) + jax.nn.logsumexp(-free_BQ, axis=-1))


JOINT = Problem('class_rbm', LABELS_PARAMS, LABELS_BATCH, joint_loss,
                'class RBM, 4 features, 3 classes, 3 hidden units', '-log p(x, y)', BURN_IN)
LABEL = Problem('class_rbm_given', LABELS_PARAMS, LABELS_BATCH, label_loss,
                'class RBM, 4 features, 3 classes, 3 hidden units', '-log p(y | x)')


def hybrid_loss(params, v_BV):
  """-mean log p(y | x) - 0.1 mean log p(x, y)."""
  return label_loss(params, v_BV) + 0.1 * joint_loss(params, v_BV)


HYBRID = Problem('class_rbm_hybrid', LABELS_PARAMS, LABELS_BATCH, hybrid_loss,
                 'class RBM', '-log p(y | x) - 0.1 log p(x, y)', BURN_IN)


def normalised_loss(params, x_BV):
  """-mean log p(v) of what the machine sees; mean and scale held still."""
  still = jax.lax.stop_gradient(params)
  return GAUSSIAN_PROBLEM.loss(params.machine, still.see(x_BV))


NORMALISED = Problem(
  'normalised_gaussian_rbm', Normalised(
    _spread(4), 1 + _spread(4, scale=0.2)**2, GAUSSIAN_PROBLEM.params),
  3 * GAUSSIAN_PROBLEM.batch + 1, normalised_loss,
  'the Gaussian machine behind a normalisation', '-log p(v)', BURN_IN)
DOUBLE, DOUBLE_PROBLEM = _machine(
  'double_rectified_rbm', units.Categorical(3), DoubleRectified(0.3, 3.0), (6, 2), 0.8,
  np.eye(3)[_draws.integers(0, 3, (6, 2))].reshape(6, 6),
  '2 units of 3 states, 2 double rectified')
L1B = sparse_groups(2, 0.5)


def sparse_loss(params, v_BV):
  """-mean log p(v) + the penalty on groups."""
  return DOUBLE_PROBLEM.loss(params, v_BV) + L1B(params, v_BV)


SPARSE = DOUBLE_PROBLEM._replace(name='sparse_double_rectified_rbm', loss=sparse_loss,
                                 objective='-log p(v) + L1b')
PROBLEMS = (SPIN, POTTS_PROBLEM, GAUSSIAN_PROBLEM, RECTIFIED_PROBLEM, CODES_PROBLEM, DOUBLE_PROBLEM,
            SPARSE, JOINT, LABEL, HYBRID, NORMALISED)

_few = persistent(chains=4)

ENTRIES = {
  'spin_exact': SPIN.entry(maximum_likelihood(SPINS.log_likelihood), deterministic=True),
  'spin_cd1': SPIN.entry(contrastive(SPINS, reconstruction())),
  'spin_pcd': SPIN.entry(contrastive(SPINS, _few), BURN_IN),
  'potts_pcd': POTTS_PROBLEM.entry(contrastive(POTTS, _few), BURN_IN),
  'gaussian_rbm_cd1': GAUSSIAN_PROBLEM.entry(contrastive(GAUSSIAN, reconstruction())),
  'gaussian_rbm_pcd': GAUSSIAN_PROBLEM.entry(contrastive(GAUSSIAN, _few), BURN_IN),
  'gaussian_rbm_pcd_centred': GAUSSIAN_PROBLEM.entry(
    contrastive(GAUSSIAN, _few, direction=centred(0.1)), BURN_IN),
  'gaussian_rbm_score_matching': GAUSSIAN_PROBLEM.entry(
    score_matching(GAUSSIAN), deterministic=True),
  'rectified_pcd': RECTIFIED_PROBLEM.entry(contrastive(RECTIFIED, _few), BURN_IN),
  'double_rectified_pcd': DOUBLE_PROBLEM.entry(contrastive(DOUBLE, _few), BURN_IN),
  'double_rectified_pcd_sparse': SPARSE.entry(contrastive(
    DOUBLE, _few, penalty=L1B), BURN_IN),
  'precise_code_pcd': CODES_PROBLEM.entry(contrastive(CODES, _few), BURN_IN),
  'precise_code_pcd_natural': CODES_PROBLEM.entry(
    contrastive(CODES, _few, direction=natural(0.02, 0.1)), BURN_IN),
  'class_rbm_pcd': JOINT.entry(
    contrastive(label_rbm.model(NUM_LABELS), _few), BURN_IN),
  'class_rbm_discriminative': LABEL.entry(discriminative(NUM_LABELS), deterministic=True),
  'class_rbm_hybrid': HYBRID.entry(weighted(
    (discriminative(NUM_LABELS), 1.0),
    (contrastive(label_rbm.model(NUM_LABELS), _few), 0.1)), BURN_IN),
  'normalised_gaussian_rbm_pcd': NORMALISED.entry(
    normalised(contrastive(GAUSSIAN, _few, direction=centred(0.1))), BURN_IN),
}
