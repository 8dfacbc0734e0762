"""Multivariate Gaussian: the density that two moments determine.

  p(x) = (2 pi)^(-V/2) |A| exp(-|A (x - m)|^2 / 2),    covariance C = (A'A)^-1

with A, the whitener,

  Full      lower triangular, its diagonal positive: -log p is convex in A, so descent finds the
            maximum of the likelihood from anywhere
  Diagonal  diag(1 / scale)
  LowRank   never formed: x = m + W h + noise * e, h and e standard normal, so that
            C = W W' + diag(noise^2): factor analysis; where all noise is equal, probabilistic PCA

Parameters are unconstrained, fit for gradients. Axis suffixes: N images, V visible, R rank,
K draws of each row. Likelihoods in nats of a density.

Woodbury (1950); Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional covariance
matrices; Tipping & Bishop (1999), Probabilistic principal component analysis.
"""

import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve, solve_triangular

from gen_models.models.rows import mean_rows

Covariance = Literal['full', 'diagonal', 'low_rank']


class Full(NamedTuple):
  """Mean and whitener: A below the diagonal, log A_ii on it; what stands above is not read."""

  mean_V: jax.Array
  whitener_VV: jax.Array

  @property
  def num_parameters(self) -> int:
    """Numbers that are read; of several Gaussians (leading axes) all of theirs."""
    *_, num_visible = self.mean_V.shape
    return self.mean_V.size + self.whitener_VV.size * (num_visible + 1) // (2 * num_visible)


class Diagonal(NamedTuple):
  """Mean and log standard deviation of each pixel."""

  mean_V: jax.Array
  log_scale_V: jax.Array


class LowRank(NamedTuple):
  """Mean, loadings and log standard deviation of each pixel's own noise."""

  mean_V: jax.Array
  w_VR: jax.Array
  log_noise_V: jax.Array


Params = Full | Diagonal | LowRank


def init(key, num_visible: int, covariance: Covariance = 'full', rank: int = 10) -> Params:
  """The moments of a uniform pixel, mean 1/2 and variance 1/12; loadings W_ij ~ N(0, 0.01^2)."""
  mean_V, log_scale_V = jnp.full(num_visible, 0.5), jnp.full(num_visible, -0.5 * math.log(12))
  if covariance == 'full':
    return Full(mean_V, jnp.diag(-log_scale_V))
  if covariance == 'diagonal':
    return Diagonal(mean_V, log_scale_V)
  _require_rank(rank, num_visible)
  return LowRank(mean_V, 0.01 * jax.random.normal(key, (num_visible, rank)), log_scale_V)


# Density.


def log_likelihood(params: Params, x_NV) -> jax.Array:
  """log p(x), [N] nats, exact; the low-rank form costs V R^2, never V^3."""
  y_NV = x_NV - params.mean_V
  if isinstance(params, Full):
    square_N = jnp.sum((y_NV @ _whitener(params).T)**2, axis=-1)
    log_det = jnp.sum(jnp.diagonal(params.whitener_VV))
  elif isinstance(params, Diagonal):
    square_N = jnp.sum((y_NV * jnp.exp(-params.log_scale_V))**2, axis=-1)
    log_det = -jnp.sum(params.log_scale_V)
  else:
    # y'C^-1 y is what is left of ridge regression on W: a sum of squares, where Woodbury's
    # difference of two would cancel.
    a_VR, whitener_RR = _posterior(params)
    h_NR, u_NV = hidden_mean(params, x_NV), y_NV * jnp.exp(-params.log_noise_V)
    square_N = jnp.sum((u_NV - h_NR @ a_VR.T)**2, axis=-1) + jnp.sum(h_NR**2, axis=-1)
    log_det = jnp.sum(jnp.log(jnp.diagonal(whitener_RR))) - jnp.sum(params.log_noise_V)
  return log_det - 0.5 * square_N - 0.5 * y_NV.shape[-1] * math.log(2 * math.pi)


def mahalanobis(params: Full | Diagonal, c_VV) -> jax.Array:
  """tr(A S A') = E |A y|^2 over y of second moment S, scalar."""
  if isinstance(params, Diagonal):
    return jnp.exp(-2 * params.log_scale_V) @ jnp.diagonal(c_VV)
  a_VV = _whitener(params)
  return jnp.sum((a_VV @ c_VV) * a_VV)


def covariance_of(params: Params) -> jax.Array:
  """C, [V, V]."""
  if isinstance(params, Full):
    root_VV = solve_triangular(_whitener(params), jnp.eye(len(params.mean_V)), lower=True)
    return root_VV @ root_VV.T
  if isinstance(params, Diagonal):
    return jnp.diag(jnp.exp(2 * params.log_scale_V))
  return params.w_VR @ params.w_VR.T + jnp.diag(jnp.exp(2 * params.log_noise_V))


def whiten(params: Full | Diagonal, x_NV) -> jax.Array:
  """A (x - m), [N, V]: of mean 0 and covariance I."""
  y_NV = x_NV - params.mean_V
  if isinstance(params, Diagonal):
    return y_NV * jnp.exp(-params.log_scale_V)
  return y_NV @ _whitener(params).T


def _whitener(params: Full) -> jax.Array:
  return (jnp.tril(params.whitener_VV, -1)
          + jnp.diag(jnp.exp(jnp.diagonal(params.whitener_VV))))


# Conditionals.


def hidden_mean(params: LowRank, x_NV) -> jax.Array:
  """E[h | x] = (I + W'D W)^-1 W'D (x - m), D = diag(1 / noise^2); [N, R]."""
  a_VR, whitener_RR = _posterior(params)
  u_NV = (x_NV - params.mean_V) * jnp.exp(-params.log_noise_V)
  return u_NV @ a_VR @ whitener_RR.T @ whitener_RR


def _posterior(params: LowRank):
  """W over the noise, [V, R], and K with K'K the covariance of h given x, [R, R]."""
  a_VR = params.w_VR * jnp.exp(-params.log_noise_V)[:, None]
  identity_RR = jnp.eye(a_VR.shape[1])
  root_RR = jnp.linalg.cholesky(identity_RR + a_VR.T @ a_VR)
  return a_VR, solve_triangular(root_RR, identity_RR, lower=True)


# Rows of which a part is missing: nan in x. What is missing is integrated out, exactly.


def observed_log_likelihood(params: Params, x_NV) -> jax.Array:
  """log p(x_seen), [N] nats, exact: the density of what is not nan; 0 of a row without a value."""
  if isinstance(params, Diagonal):
    y_NV = (x_NV - params.mean_V) * jnp.exp(-params.log_scale_V)
    log_p_NV = -0.5 * y_NV**2 - params.log_scale_V - 0.5 * math.log(2 * math.pi)
    return jnp.sum(jnp.where(jnp.isnan(x_NV), 0.0, log_p_NV), axis=-1)
  if isinstance(params, LowRank):
    a_VR, _ = _posterior(params)
    return lax.map(lambda x_V: _observed_low_rank(params, a_VR, x_V)[0], x_NV)
  c_VV = covariance_of(params)

  def one(x_V):
    seen_V = ~jnp.isnan(x_V)
    y_V = jnp.where(seen_V, x_V - params.mean_V, 0.0)
    root_VV = jnp.linalg.cholesky(_only(seen_V, c_VV))
    half_V = solve_triangular(root_VV, y_V, lower=True)
    return (-0.5 * jnp.sum(half_V**2) - jnp.sum(jnp.log(jnp.diagonal(root_VV)))
            - 0.5 * math.log(2 * math.pi) * jnp.sum(seen_V, dtype=x_V.dtype))

  return lax.map(one, x_NV)


def conditional(key, params: Params, x_NV, num_draws: int) -> tuple[jax.Array, jax.Array]:
  """(E[x | x_seen] [N, V], draws of p(x | x_seen) [N, K, V]), exact; nan in x is missing.

    x_miss | x_seen ~ N(m_miss - P_mm^-1 P_ms (x_seen - m_seen), P_mm^-1),    P = C^-1 = A'A,

  of low rank instead h | x_seen ~ N(., (I + sum_seen a a')^-1), a = w / noise, and x given h.
  Cost V^3 a row, or V R^2 of low rank.
  """
  keys_N = jax.random.split(key, len(x_NV))
  if isinstance(params, LowRank):
    a_VR, _ = _posterior(params)
    one = partial(_conditional_low_rank, params, a_VR, num_draws)
  else:
    a_VV = (jnp.diag(jnp.exp(-params.log_scale_V)) if isinstance(params, Diagonal)
            else _whitener(params))
    one = partial(_conditional_full, params.mean_V, a_VV.T @ a_VV, num_draws)
  mean_NV, draws_NKV = lax.map(lambda row: one(*row), (keys_N, x_NV))
  missing_NV = jnp.isnan(x_NV)
  return (jnp.where(missing_NV, mean_NV, x_NV),
          jnp.where(missing_NV[:, None], draws_NKV, x_NV[:, None]))


def _conditional_full(mean_V, precision_VV, num_draws, key, x_V):
  missing_V = jnp.isnan(x_V)
  y_V = jnp.where(missing_V, 0.0, x_V - mean_V)
  # A block of P beside the identity: its Cholesky factor couples nothing across the two.
  root_VV = jnp.linalg.cholesky(_only(missing_V, precision_VV))
  pull_V = jnp.where(missing_V, precision_VV @ y_V, 0.0)
  centre_V = mean_V - cho_solve((root_VV, True), pull_V)
  e_VK = jax.random.normal(key, (len(x_V), num_draws))
  return centre_V, centre_V + solve_triangular(root_VV.T, e_VK, lower=False).T


def _observed_low_rank(params: LowRank, a_VR, x_V):
  """(log p(x_seen), E[h | x_seen], the Cholesky factor of the precision of h given it)."""
  seen_V = ~jnp.isnan(x_V)
  a_VR = jnp.where(seen_V[:, None], a_VR, 0.0)
  u_V = jnp.where(seen_V, (x_V - params.mean_V) * jnp.exp(-params.log_noise_V), 0.0)
  root_RR = jnp.linalg.cholesky(jnp.eye(a_VR.shape[1]) + a_VR.T @ a_VR)
  h_R = cho_solve((root_RR, True), u_V @ a_VR)
  square = jnp.sum((u_V - a_VR @ h_R)**2) + jnp.sum(h_R**2)
  log_det = -jnp.sum(jnp.log(jnp.diagonal(root_RR))) - jnp.sum(
    jnp.where(seen_V, params.log_noise_V, 0.0))
  norm = 0.5 * math.log(2 * math.pi) * jnp.sum(seen_V, dtype=x_V.dtype)
  return log_det - 0.5 * square - norm, h_R, root_RR


def _conditional_low_rank(params: LowRank, a_VR, num_draws, key, x_V):
  _, h_R, root_RR = _observed_low_rank(params, a_VR, x_V)
  key_h, key_e = jax.random.split(key)
  e_RK = jax.random.normal(key_h, (len(h_R), num_draws))
  h_KR = h_R + solve_triangular(root_RR.T, e_RK, lower=False).T
  e_KV = jax.random.normal(key_e, (num_draws, len(x_V))) * jnp.exp(params.log_noise_V)
  return (params.mean_V + params.w_VR @ h_R, params.mean_V + h_KR @ params.w_VR.T + e_KV)


def _only(of_V, s_VV) -> jax.Array:
  """S between the coordinates of a set, the identity elsewhere."""
  return jnp.where(of_V[:, None] & of_V, s_VV, jnp.eye(len(s_VV)))


# Sampling.


def sample(key, params: Params, num_samples: int) -> jax.Array:
  """x ~ N(m, C), [N, V]."""
  key_h, key_e = jax.random.split(key)
  e_NV = jax.random.normal(key_e, (num_samples, len(params.mean_V)))
  if isinstance(params, Full):
    return params.mean_V + solve_triangular(_whitener(params), e_NV.T, lower=True).T
  if isinstance(params, Diagonal):
    return params.mean_V + e_NV * jnp.exp(params.log_scale_V)
  h_NR = jax.random.normal(key_h, (num_samples, params.w_VR.shape[1]))
  return params.mean_V + h_NR @ params.w_VR.T + e_NV * jnp.exp(params.log_noise_V)


# Fitting.


def fit(x_NV, covariance: Covariance = 'full', shrinkage: float = 0.0, rank: int = 10,
        weights_N=None) -> Params:
  """The maximum of the likelihood in closed form, of the moments shrunk as `moments` says.

  A row of weight 2 (weights_N) counts as two rows. Low rank: of probabilistic PCA, all noise equal.
  Noise of each pixel's own, factor analysis, has no closed form: train from here by gradient.

  Raises:
    ValueError: the covariance is singular (outside jit; inside, the parameters are not finite), or
      a shrinkage or rank is out of range.
  """
  mean_V, s_VV = moments(x_NV, shrinkage, weights_N)
  if covariance == 'low_rank':
    _require_rank(rank, len(mean_V))
  _require_positive(s_VV, covariance, rank, len(x_NV))
  if covariance == 'diagonal':
    return Diagonal(mean_V, 0.5 * jnp.log(jnp.diagonal(s_VV)))
  if covariance == 'low_rank':
    return spiked(mean_V, *eigenbasis(s_VV, rank))
  return from_covariance(mean_V, s_VV)


def moments(x_NV, shrinkage: float = 0.0, weights_N=None) -> tuple[jax.Array, jax.Array]:
  """Mean m and (1 - s) S + s (tr S / V) I, S = (1/N) sum_n (x_n - m)(x_n - m)', s the shrinkage.

  With weights the means are sum_n w_n (..) / sum_n w_n.
  """
  # May be traced; 1/N weights make the closed form the maximum of the likelihood.
  if isinstance(shrinkage, (int, float)) and not 0 <= shrinkage <= 1:
    raise ValueError(f'shrinkage lies between 0 and 1, got {shrinkage}')
  x_NV = jnp.asarray(x_NV)
  mean_V = mean_rows(x_NV, weights_N)
  y_NV = x_NV - mean_V
  weighted_NV, total = (y_NV, len(x_NV)) if weights_N is None else (
    weights_N[:, None] * y_NV, jnp.sum(weights_N))
  s_VV = jnp.matmul(y_NV.T, weighted_NV, precision='highest') / total
  return mean_V, (1 - shrinkage) * s_VV + (
    shrinkage * jnp.trace(s_VV) / len(mean_V) * jnp.eye(len(mean_V)))


def from_covariance(mean_V, c_VV) -> Full:
  """N(m, C); not finite where C has no Cholesky factor."""
  root_VV = jnp.linalg.cholesky(c_VV)
  a_VV = solve_triangular(root_VV, jnp.eye(len(mean_V)), lower=True)
  return Full(mean_V, jnp.tril(a_VV, -1) - jnp.diag(jnp.log(jnp.diagonal(root_VV))))


def eigenbasis(s_VV, rank: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The `rank` leading eigenvectors u_VR of S, their eigenvalues, and the mean of the others."""
  variance_V, u_VV = jnp.linalg.eigh(s_VV)
  return u_VV[:, :-rank - 1:-1], variance_V[:-rank - 1:-1], jnp.mean(variance_V[:-rank])


def spiked(mean_V, u_VR, variance_R, noise) -> LowRank:
  """Covariance sum_r (variance_r - noise) u_r u_r' + noise I: probabilistic PCA.

  With the leading eigenvectors of the covariance of the data, their eigenvalues, and the mean of
  the other eigenvalues for noise, the maximum of the likelihood (Tipping & Bishop, 1999).
  """
  # Equal variances may differ by rounding, the smaller one to either side.
  return LowRank(mean_V, u_VR * jnp.sqrt(jnp.maximum(variance_R - noise, 0.0)),
                 jnp.full_like(mean_V, 0.5 * jnp.log(noise)))


def dequantise(key, x_NV, levels: int) -> jax.Array:
  """(x + u) / (levels + 1), u uniform on [0, 1): integers 0 .. levels as reals in [0, 1].

  A density of integers is unbounded. That of dequantised ones is at most what a distribution over
  the integers achieves: E_u log p(x) - V log(levels + 1) <= log P(x) (Uria, Murray & Larochelle,
  2013; Theis, van den Oord & Bethge, 2016).
  """
  x_NV = jnp.asarray(x_NV).astype(jnp.float32)
  return (x_NV + jax.random.uniform(key, x_NV.shape)) / (levels + 1)


def _require_rank(rank: int, num_visible: int):
  if not 1 <= rank < num_visible:
    raise ValueError(f'rank lies between 1 and {num_visible - 1}, got {rank}')


def _require_positive(s_VV, covariance: Covariance, rank: int, num_images: int):
  """Raises ValueError where the density would be infinite; says nothing inside jit."""
  if isinstance(s_VV, jax.core.Tracer):
    return
  s_VV = np.asarray(s_VV, np.float64)
  scale_V = np.sqrt(np.diagonal(s_VV))
  varies = scale_V > 0
  # Cholesky is as accurate as the correlations are well-conditioned, whatever the units.
  r_VV = s_VV[np.ix_(varies, varies)] / np.outer(scale_V[varies], scale_V[varies])
  null = int(np.sum(~varies))
  if covariance != 'diagonal' and varies.any():
    variance = np.linalg.eigvalsh(r_VV)
    null += int(np.sum(variance < 10 * np.finfo(np.float32).eps * variance[-1]))
  if null > (len(s_VV) - rank - 1 if covariance == 'low_rank' else 0):
    raise ValueError(
      f'the covariance of {num_images} images is singular: they do not vary in {null} of '
      f'{len(s_VV)} directions. Give shrinkage > 0, 0.01 say, dequantise them, or take fewer '
      'parameters')
