"""Problems of the simple densities: the linear machine, and models whose likelihood is exact."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators.contrastive import contrastive, measured, persistent, reconstruction
from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.models import gaussian, linear_rbm, mixture
from tests.estimators.entry import Entry

_draws = np.random.default_rng(7)


def _float32(*arrays):
  return (jnp.asarray(x, jnp.float32) for x in arrays)


# A machine whose W has singular values of 0.7 and less: a sweep forgets half, 20 all but 1e-6.
_w_VH = _draws.normal(size=(4, 3))
_w_VH *= 0.7 / np.linalg.norm(_w_VH, 2)
MACHINE = linear_rbm.Params(*_float32(_w_VH, 0.5 * _draws.normal(size=4),
                                      0.5 * _draws.normal(size=3)))
MEASURED = linear_rbm.Measured(*_float32(_draws.normal(size=(4, 3)), _draws.normal(size=4), 0.3))
REAL, = _float32(2 * _draws.normal(size=(6, 4)) + 0.5)
SWEEPS = 20

MIXTURE = mixture.Params(*_float32(_draws.normal(size=(3, 4)), _draws.normal(size=3)))
NORMALS = mixture.GaussianParams(gaussian.Full(*_float32(
  _draws.normal(size=(2, 4)), 0.5 * _draws.normal(size=(2, 4, 4)))), *_float32([0.3, -0.2]))
BINARY, = _float32(_draws.random((6, 4)) < 0.5)


def _loss(log_likelihood):
  return lambda params, batch: -jnp.mean(log_likelihood(params, batch))


def _machine(estimator, burn_in=0):
  return Entry(estimator, MACHINE, REAL, _loss(linear_rbm.log_likelihood), burn_in)


def _measured(estimator, burn_in=0):
  return Entry(measured(estimator, linear_rbm), MEASURED, REAL, _loss(linear_rbm.log_density),
               burn_in)


def _exact(log_likelihood, params, batch):
  return Entry(maximum_likelihood(log_likelihood), params, batch, _loss(log_likelihood),
               deterministic=True)


ENTRIES = {
  'linear_cd1': _machine(contrastive(linear_rbm, reconstruction())),
  'linear_pcd1': _machine(contrastive(linear_rbm, persistent(chains=4)), SWEEPS),
  'linear_pcd1_samples': _machine(contrastive(
    linear_rbm, persistent(chains=4), last_half_step='samples'), SWEEPS),
  'linear_pcd1_centred': _machine(contrastive(
    linear_rbm, persistent(chains=4), centring=0.1), SWEEPS),
  'measured_cd1': _measured(contrastive(linear_rbm, reconstruction())),
  'measured_pcd2': _measured(contrastive(linear_rbm, persistent(chains=4, steps=2)), SWEEPS),
  'gaussian_exact': _exact(gaussian.log_likelihood, jax.tree.map(lambda x: x[0], NORMALS.classes),
                           REAL),
  'mixture_exact': _exact(mixture.log_likelihood, MIXTURE, BINARY),
  'normals_exact': _exact(mixture.log_likelihood, NORMALS, REAL),
  'mixture_em': Entry(
    fixed_point(lambda params, x_NV: mixture.em_step(params, x_NV, 1.0), mixture.log_likelihood),
    MIXTURE, BINARY, _loss(mixture.log_likelihood), deterministic=True),
}
