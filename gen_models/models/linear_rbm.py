"""Restricted Boltzmann machine with linear (Gaussian) units: principal components by sampling.

  E(v, h) = |v - b|^2 / 2 + |h - c|^2 / 2 - v.W.h,    p(v, h) = exp(-E(v, h)) / Z

so that p(h | v) = N(c + v.W, I) and p(v | h) = N(b + W.h, I). Summing out h,

  p(v) = N(m, P^-1),    P = I - W W',    m = P^-1 (b + W c),

a density only while every singular value of W is below 1; beyond, log_partition is nan. `Measured`
cannot go there: with loadings M of any size,

  x = o + s v,    W = M L'^-1,    L L' = I + M'M,    b = c = 0    =>    p(x) = N(o, s^2 (I + M M')),

probabilistic PCA. So the maximum of the likelihood spans the leading principal components. CD-1 has
the same fixed point: there one alternation leaves the second moments of the data as they are
(Williams & Agakov, 2002, An analysis of contrastive divergence learning in Gaussian Boltzmann
machines).

The names are those of gen_models.models.rbm. Axis suffixes: B batch, C chains, N images, V visible,
H hidden. Energies, log-partitions and likelihoods are in nats.

Smolensky (1986); Marks & Movellan (2001), Diffusion networks, products of experts, and factor
analysis; Tipping & Bishop (1999).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from gen_models.models import gaussian, units

visible = hidden = units.LINEAR


class Params(NamedTuple):
  """Parameters of p(v, h)."""

  w_VH: jax.Array
  b_V: jax.Array
  c_H: jax.Array


def init(key, num_visible: int, num_hidden: int, data_mean_V=None, scale: float = 0.01) -> Params:
  """W_ij ~ N(0, scale^2), c = 0, b = the data's mean (0 without data)."""
  if num_visible < 1 or num_hidden < 1:
    raise ValueError(f'an RBM needs at least one unit a layer, got {num_visible} x {num_hidden}')
  b_V = jnp.zeros(num_visible) if data_mean_V is None else jnp.asarray(data_mean_V)
  if b_V.shape != (num_visible,):
    raise ValueError(f'data mean has shape {b_V.shape}, the model {num_visible} visible units')
  w_VH = scale * jax.random.normal(key, (num_visible, num_hidden))
  return Params(w_VH, b_V, jnp.zeros(num_hidden))


class Measured(NamedTuple):
  """Unconstrained parameters of a machine that measures x = o + s v."""

  loadings_VH: jax.Array  # M
  origin_V: jax.Array  # o
  log_unit: jax.Array  # log s


def init_measured(key, x_NV, num_hidden: int, scale: float = 0.01) -> Measured:
  """M_ij ~ N(0, scale^2); origin and unit are mean and standard deviation of the data."""
  mean_V = x_NV.mean(0)
  return Measured(scale * jax.random.normal(key, (len(mean_V), num_hidden)), mean_V,
                  0.5 * jnp.log(jnp.mean((x_NV - mean_V)**2)))


def machine(params: Measured) -> Params:
  """W = M L'^-1, L L' = I + M'M; b = c = 0."""
  m_VH, origin_V, _ = params
  root_HH = jnp.linalg.cholesky(jnp.eye(m_VH.shape[1]) + m_VH.T @ m_VH)
  w_VH = solve_triangular(root_HH, m_VH.T, lower=True).T
  return Params(w_VH, jnp.zeros_like(origin_V), jnp.zeros(m_VH.shape[1]))


def normalise(params: Measured, x_NV) -> tuple[jax.Array, jax.Array]:
  """v = (x - o) / s and log |dv/dx| = -V log s."""
  return ((x_NV - params.origin_V) * jnp.exp(-params.log_unit),
          -len(params.origin_V) * params.log_unit)


# Density.


def energy(params: Params, v_BV, h_BH) -> jax.Array:
  """E(v, h) = |v - b|^2 / 2 + |h - c|^2 / 2 - v.W.h, [B] nats."""
  return (0.5 * jnp.sum((v_BV - params.b_V)**2, axis=-1)
          + 0.5 * jnp.sum((h_BH - params.c_H)**2, axis=-1)
          - jnp.sum(v_BV @ params.w_VH * h_BH, axis=-1))


def free_energy(params: Params, v_BV) -> jax.Array:
  """F(v) = |v - b|^2 / 2 + |c|^2 / 2 - |c + v.W|^2 / 2 - (H / 2) log 2 pi, [B] nats."""
  return 0.5 * (jnp.sum((v_BV - params.b_V)**2, axis=-1) + jnp.sum(params.c_H**2)
                - jnp.sum(hidden_mean(params, v_BV)**2, axis=-1)
                - len(params.c_H) * math.log(2 * math.pi))


def log_partition(params: Params) -> jax.Array:
  """log Z = -F(m) + (V log 2 pi - log |P|) / 2, scalar nats; nan where P has no inverse > 0.

  |P| = |I - W'W| and P^-1 = I + W (I - W'W)^-1 W' (Woodbury): H^3, not V^3.
  """
  mean_V, root_HH = _mean_and_root(params)
  log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(root_HH)))
  return -free_energy(params, mean_V[None])[0] + 0.5 * (
    len(mean_V) * math.log(2 * math.pi) - log_det)


def log_likelihood(params: Params, v_BV) -> jax.Array:
  """log p(v) = -F(v) - log Z, [B] nats, exact; nan as log_partition."""
  return -free_energy(params, v_BV) - log_partition(params)


def log_density(params: Measured, x_NV) -> jax.Array:
  """log p(x), [N] nats, exact."""
  v_NV, log_det = normalise(params, x_NV)
  return log_likelihood(machine(params), v_NV) + log_det


def density(params: Measured) -> gaussian.LowRank:
  """N(o, s^2 (I + M M')), which is p(x): for what models.gaussian can say of it."""
  unit = jnp.exp(params.log_unit)
  return gaussian.LowRank(params.origin_V, unit * params.loadings_VH,
                          jnp.full_like(params.origin_V, params.log_unit))


def moments(params: Params) -> tuple[jax.Array, jax.Array]:
  """Mean m and covariance P^-1 of v; nan as log_partition."""
  mean_V, root_HH = _mean_and_root(params)
  half_HV = solve_triangular(root_HH, params.w_VH.T, lower=True)
  return mean_V, jnp.eye(len(mean_V)) + half_HV.T @ half_HV


def _mean_and_root(params: Params):
  """m, and the Cholesky factor of I - W'W, nan where it has none."""
  w_VH, b_V, c_H = params
  root_HH = jnp.linalg.cholesky(jnp.eye(len(c_H)) - w_VH.T @ w_VH)
  shift_V = b_V + w_VH @ c_H
  return shift_V + w_VH @ cho_solve((root_HH, True), shift_V @ w_VH), root_HH


# Conditionals.


def hidden_mean(params: Params, v_BV) -> jax.Array:
  """E[h | v] = c + v.W, [B, H]."""
  return v_BV @ params.w_VH + params.c_H


def visible_mean(params: Params, h_BH) -> jax.Array:
  """E[v | h] = b + W.h, [B, V]."""
  return h_BH @ params.w_VH.T + params.b_V


# Sampling: exact; chains, to train by, are gen_models.models.gibbs.


def sample_hidden(key, params: Params, v_BV) -> jax.Array:
  """h ~ p(h | v), [B, H]."""
  return hidden.sample(key, params.c_H, v_BV @ params.w_VH)


def sample_visible(key, params: Params, h_BH) -> jax.Array:
  """v ~ p(v | h), [B, V]."""
  return visible.sample(key, params.b_V, h_BH @ params.w_VH.T)


def sample(key, params: Params, num_samples: int) -> jax.Array:
  """v ~ p(v) without chains, [N, V]: v = m + e + W L'^-1 h, L L' = I - W'W, e and h ~ N(0, I)."""
  key_e, key_h = jax.random.split(key)
  mean_V, root_HH = _mean_and_root(params)
  e_NV = jax.random.normal(key_e, (num_samples, len(mean_V)))
  h_NH = jax.random.normal(key_h, (num_samples, len(root_HH)))
  return mean_V + e_NV + solve_triangular(
    root_HH.T, h_NH.T, lower=False).T @ params.w_VH.T
