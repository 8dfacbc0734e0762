"""Problems of the simple densities: the linear machine, and models whose likelihood is exact."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import multivariate_normal

from gen_models.estimators.contrastive import contrastive, measured
from gen_models.estimators.directions import centred
from gen_models.estimators.maximum_likelihood import fixed_point, maximum_likelihood
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.models import gaussian, linear_rbm, mixture, rbm
from gen_models.problems.entry import Problem

_draws = np.random.default_rng(7)


def _float32(*arrays):
  return (jnp.asarray(x, jnp.float32) for x in arrays)


# A machine whose W has singular values of 0.7 and less: a Gibbs step forgets half, 20 all but 1e-6.
_w_VH = _draws.normal(size=(4, 3))
_w_VH *= 0.7 / np.linalg.norm(_w_VH, 2)
MACHINE = linear_rbm.Params(*_float32(_w_VH, 0.5 * _draws.normal(size=4),
                                      0.5 * _draws.normal(size=3)))
MEASURED = linear_rbm.Measured(*_float32(_draws.normal(size=(4, 3)), _draws.normal(size=4), 0.3))
REAL, = _float32(2 * _draws.normal(size=(6, 4)) + 0.5)
BURN_IN = 20

MIXTURE = mixture.Params(*_float32(_draws.normal(size=(3, 4)), _draws.normal(size=3)))
NORMALS = mixture.GaussianParams(gaussian.Full(*_float32(
  _draws.normal(size=(2, 4)), 0.5 * _draws.normal(size=(2, 4, 4)))), *_float32([0.3, -0.2]))
BINARY, = _float32(_draws.random((6, 4)) < 0.5)


def _loss(log_likelihood):
  return lambda params, batch: -jnp.mean(log_likelihood(params, batch))


HOLES = _draws.random((6, 4)) < 0.4
HOLES[0] = True  # a row without a value


def observed_loss(params, x_NV):
  """-mean log p(x_seen) of Bernoulli classes: the sum over all states that agree with x_seen."""
  x_AV = rbm.all_states(x_NV.shape[1])
  agrees_NA = jnp.all((x_NV[:, None] == x_AV) | jnp.isnan(x_NV[:, None]), axis=-1)
  log_p_A = mixture.log_likelihood(params, x_AV)
  return -jnp.mean(jax.nn.logsumexp(jnp.where(agrees_NA, log_p_A, -jnp.inf), axis=-1))


def observed_density_loss(params, x_NV):
  """-mean log p(x_seen) of Gaussian classes: each row in its own marginals, by HOLES."""
  log_pi_Q = jax.nn.log_softmax(params.log_pi_Q)
  c_QVV = jax.vmap(gaussian.covariance_of)(params.classes)
  total = jnp.zeros(())
  for x_V, seen in zip(x_NV, map(np.flatnonzero, ~HOLES), strict=True):
    log_p_Q = jnp.stack([multivariate_normal.logpdf(x_V[seen], m_V[seen], c_VV[np.ix_(seen, seen)])
                         for m_V, c_VV in zip(params.classes.mean_V, c_QVV, strict=True)]
                        ) if len(seen) else 0.0
    total -= jax.nn.logsumexp(log_pi_Q + log_p_Q)
  return total / len(x_NV)


LINEAR = Problem('linear_rbm', MACHINE, REAL, _loss(linear_rbm.log_likelihood),
                 'linear Boltzmann machine, 4 visible and 3 hidden Gaussian units', '-log p(v)',
                 BURN_IN)
MEASURED_LINEAR = Problem('measured_linear_rbm', MEASURED, REAL, _loss(linear_rbm.log_density),
                          'linear Boltzmann machine with mean and scale of its own', '-log p(x)',
                          BURN_IN)
GAUSSIAN = Problem('gaussian', jax.tree.map(lambda x: x[0], NORMALS.classes), REAL,
                   _loss(gaussian.log_likelihood), 'Gaussian of 4 dimensions', '-log p(x)')
BERNOULLIS = Problem('mixture', MIXTURE, BINARY, _loss(mixture.log_likelihood),
                     'mixture of 3 classes of 4 Bernoulli units', '-log p(x)')
GAUSSIANS = Problem('gaussian_mixture', NORMALS, REAL, _loss(mixture.log_likelihood),
                    'mixture of 2 Gaussians of 4 dimensions', '-log p(x)')
MISSING_BERNOULLIS = Problem(
  'missing_mixture', MIXTURE, jnp.where(HOLES, jnp.nan, BINARY), observed_loss,
  BERNOULLIS.description, '-log p(x_seen), values missing')
MISSING_GAUSSIANS = Problem(
  'missing_gaussian_mixture', NORMALS, jnp.where(HOLES, jnp.nan, REAL), observed_density_loss,
  GAUSSIANS.description, '-log p(x_seen), values missing')
PROBLEMS = (LINEAR, MEASURED_LINEAR, GAUSSIAN, BERNOULLIS, GAUSSIANS, MISSING_BERNOULLIS,
            MISSING_GAUSSIANS)


def _measured(estimator, burn_in=0):
  return MEASURED_LINEAR.entry(measured(estimator, linear_rbm), burn_in)


def _exact(problem, log_likelihood):
  return problem.entry(maximum_likelihood(log_likelihood), deterministic=True)


ENTRIES = {
  'linear_cd1': LINEAR.entry(contrastive(linear_rbm, reconstruction())),
  'linear_pcd1': LINEAR.entry(contrastive(linear_rbm, persistent(chains=4)), BURN_IN),
  'linear_pcd1_samples': LINEAR.entry(contrastive(
    linear_rbm, persistent(chains=4), last_half_step='samples'), BURN_IN),
  'linear_pcd1_centred': LINEAR.entry(contrastive(
    linear_rbm, persistent(chains=4), direction=centred(0.1)), BURN_IN),
  'measured_cd1': _measured(contrastive(linear_rbm, reconstruction())),
  'measured_pcd2': _measured(contrastive(linear_rbm, persistent(chains=4, steps=2)), BURN_IN),
  'gaussian_exact': _exact(GAUSSIAN, gaussian.log_likelihood),
  'mixture_exact': _exact(BERNOULLIS, mixture.log_likelihood),
  'normals_exact': _exact(GAUSSIANS, mixture.log_likelihood),
  'missing_mixture_exact': _exact(MISSING_BERNOULLIS, mixture.observed_log_likelihood),
  'missing_normals_exact': _exact(MISSING_GAUSSIANS, mixture.observed_log_likelihood),
  'missing_mixture_em': MISSING_BERNOULLIS.entry(
    fixed_point(lambda params, x_NV: mixture.observed_em_step(params, x_NV, 1.0),
                mixture.observed_log_likelihood), deterministic=True),
  'mixture_em': BERNOULLIS.entry(
    fixed_point(lambda params, x_NV: mixture.em_step(params, x_NV, 1.0), mixture.log_likelihood),
    deterministic=True),
}
