"""Principal components: of squared error, of a density, and of Bernoulli deviance.

  pca            min |x - m - U z|^2,             U'U = I
  probabilistic  x = m + W z + noise * e,         z, e standard normal
  logistic       min -sum_i log p(x_i | z),       p(x_i = 1 | z) = sigma(b_i + sum_r W_ir z_r)

the first two in closed form, the last by majorisation. The codes z of logistic PCA are free, each
image's own minimum (Schein, Saul & Ungar, 2003), which bounds from below what any encoder into
these loadings can reach.

Axis suffixes: N images, V visible, R components.

Pearson (1901); Tipping & Bishop (1999); Schein, Saul & Ungar (2003), A generalized linear model for
principal component analysis of binary data; de Leeuw (2006) for the majorisation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import gaussian, units
from gen_models.models.rows import mean_rows


class Params(NamedTuple):
  """Mean, orthonormal components (largest variance first), their variances, mean of the others."""

  mean_V: jax.Array
  u_VR: jax.Array
  variance_R: jax.Array
  noise: jax.Array


def fit(x_NV, rank: int, weights_N=None) -> Params:
  """The `rank` leading eigenvectors of the covariance of the data, of weighted rows weighted.

  Raises:
    ValueError: rank out of range.
  """
  mean_V, s_VV = gaussian.moments(x_NV, weights_N=weights_N)
  if not 1 <= rank < len(mean_V):
    raise ValueError(f'rank lies between 1 and {len(mean_V) - 1}, got {rank}')
  return Params(mean_V, *gaussian.eigenbasis(s_VV, rank))


def project(params: Params, x_NV) -> jax.Array:
  """z = U'(x - m), [N, R]."""
  return (x_NV - params.mean_V) @ params.u_VR


def reconstruct(params: Params, z_NR) -> jax.Array:
  """m + U z, [N, V]."""
  return params.mean_V + z_NR @ params.u_VR.T


def probabilistic(params: Params) -> gaussian.LowRank:
  """Probabilistic PCA on these components: gaussian's log_likelihood, hidden_mean and sample.

  Raises:
    ValueError: the data do not vary beyond these components, so that the density is infinite
      (outside jit; inside, it is not finite).
  """
  if not isinstance(params.noise, jax.core.Tracer):
    floor = 10 * np.finfo(np.float32).eps * float(np.max(params.variance_R, initial=0.0))
    if not float(params.noise) > floor:
      raise ValueError(f'{params.u_VR.shape[1]} components leave no variance to be noise: take '
                       'fewer, more images, or dequantise them (gaussian.dequantise)')
  return gaussian.spiked(*params)


def principal_angles(a_VR, b_VR) -> jax.Array:
  """Angles between two subspaces spanned by columns, degrees, smallest first (Jordan, 1875).

  By their sines, the singular values of (I - A A') B for orthonormal A and B: in float32 a cosine
  sees nothing below 0.03 degrees (Bjoerck & Golub, 1973). Sines are as coarse near 90 degrees.
  """
  a_VR, b_VR = (jnp.linalg.qr(x_VR)[0] for x_VR in (a_VR, b_VR))
  off_VR = b_VR - a_VR @ (a_VR.T @ b_VR)
  sines_R = jnp.linalg.svd(off_VR, compute_uv=False)[::-1]
  return jnp.degrees(jnp.arcsin(jnp.minimum(sines_R, 1.0)))


class Logistic(NamedTuple):
  """Log-odds of each pixel at code 0, and loadings."""

  b_V: jax.Array
  w_VR: jax.Array


def deviance(params: Logistic, z_NR, x_NV, ridge: float) -> jax.Array:
  """-sum_n log p(x_n | z_n) + (ridge / 2) (|z|^2 + |W|^2), scalar nats; x in [0, 1]."""
  theta_NV = z_NR @ params.w_VR.T + params.b_V
  return (jnp.sum(jax.nn.softplus(theta_NV) - x_NV * theta_NV)
          + 0.5 * ridge * (jnp.sum(z_NR**2) + jnp.sum(params.w_VR**2)))


def fit_logistic(key, x_NV, rank: int, *, ridge: float = 0.01, num_steps: int = 500) -> Logistic:
  """Alternates over codes and loadings, from small random loadings; `deviance` never rises.

  The ridge keeps finite what binary images would send to infinity: an image whose pixels some
  direction separates.

  Raises:
    ValueError: no ridge (a traced one is not looked at).
  """
  if isinstance(ridge, (int, float)) and not ridge > 0:
    raise ValueError(f'logistic PCA needs a ridge > 0, got {ridge}: without one its codes have no '
                     'minimum')
  x_NV = jnp.asarray(x_NV)
  w_VR = 0.1 * jax.random.normal(key, (x_NV.shape[1], rank))
  start = Logistic(units.log_odds(mean_rows(x_NV)), w_VR), jnp.zeros((len(x_NV), rank))

  def body(carry, _):
    params, z_NR = carry
    z_NR = code_step(params, z_NR, x_NV, ridge)
    return (loading_step(params, z_NR, x_NV, ridge), z_NR), None

  return lax.scan(body, start, length=num_steps)[0][0]


def project_logistic(params: Logistic, x_NV, *, ridge: float = 0.01,
                     num_steps: int = 500) -> jax.Array:
  """Each image's own code, argmin_z of `deviance`, [N, R]."""
  x_NV = jnp.asarray(x_NV)
  z_NR = jnp.zeros((len(x_NV), params.w_VR.shape[1]))
  return lax.fori_loop(0, num_steps, lambda _, z_NR: code_step(params, z_NR, x_NV, ridge), z_NR)


def reconstruct_logistic(params: Logistic, z_NR) -> jax.Array:
  """sigma(b + W z), [N, V]."""
  return jax.nn.sigmoid(z_NR @ params.w_VR.T + params.b_V)


def code_step(params: Logistic, z_NR, x_NV, ridge: float) -> jax.Array:
  """Codes that minimise a majoriser of `deviance`, least squares on a working response.

    softplus(t) <= its tangent at t0 + (t - t0)^2 / 8,    y = t0 + 4 (x - sigma(t0)),

  so (1/8) |y - b - W z|^2 + (ridge / 2) |z|^2 lies above the deviance and touches it at t0.
  """
  y_NV = _working_response(params, z_NR, x_NV) - params.b_V
  return _ridge_regression(params.w_VR, y_NV.T, 4 * ridge).T


def loading_step(params: Logistic, z_NR, x_NV, ridge: float) -> Logistic:
  """Loadings and then offset, each minimising the majoriser of `code_step`."""
  y_NV = _working_response(params, z_NR, x_NV)
  w_VR = _ridge_regression(z_NR, y_NV - params.b_V, 4 * ridge).T
  return Logistic(mean_rows(y_NV - z_NR @ w_VR.T), w_VR)


def _working_response(params, z_NR, x_NV):
  theta_NV = z_NR @ params.w_VR.T + params.b_V
  return theta_NV + 4 * (x_NV - jax.nn.sigmoid(theta_NV))


def _ridge_regression(a_NR, y_NV, ridge):
  """argmin_B |y - A B|^2 + ridge |B|^2, [R, V]."""
  # An inverse: solving for as many right-hand sides as there are images is far slower.
  inverse_RR = jnp.linalg.inv(a_NR.T @ a_NR + ridge * jnp.eye(a_NR.shape[1]))
  return inverse_RR @ (a_NR.T @ y_NV)
