"""Restricted Boltzmann machine of low rank: log Z, draws and training without a Markov chain.

  W = U A,    U [V, D] of integers,    p(v) = exp(b.v) f(v.U) / Z,
  f(y) = prod_j (1 + exp(c_j + (y.A)_j)).

Beyond its biases v counts only through y = v.U, a point of a lattice. Under independent units with
the biases b, y is where a walk of V steps ends, in which unit i moves by U_i if it is on:

  P_i(y) = p_i(0) P_{i-1}(y) + p_i(1) P_{i-1}(y - U_i),    P_0 all at the origin.

So log Z = sum_i softplus(b_i) + log sum_y P_V(y) f(y), p(y) ~ P_V(y) f(y), and v given y is drawn
by going the walk back from y, unit by unit. All of it is exact and costs V times the points of the
lattice, however many hidden units there are.

The effective machine has max(x, 0) in the place of softplus(x) = log (1 + e^x), its hidden units at
temperature 0. With half-spaces n_j.y > t_j given and A_j = q_j n_j, c_j = -q_j t_j, its
log-likelihood is concave in b and in q >= 0: `fit` finds the maximum over q and over b along U. As
0 < softplus(x) - max(x, 0) <= log 2, the machine itself has

  log p(v) - log p_effective(v) = sum_j d_j(v) - log E_effective[exp sum_j d_j],   0 < d_j <= log 2,

less than H log 2 to either side, and much less where few hidden units are near their corner.

Decelle & Furtlehner (2021), Exact training of restricted Boltzmann machines on intrinsically low
dimensional data; Bereux, Decelle, Furtlehner, Rosset & Seoane (2025), Fast training and sampling of
restricted Boltzmann machines. There the density of y is that of large deviations and v given y is
of independent units; integer directions make both exact.

Axis suffixes: N rows, C draws, V visible, H hidden, D directions, S points of the lattice, J
half-spaces, F coefficients of the effective machine. Nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import pca, rbm, units
from gen_models.models.rows import mean_rows

MAX_POINTS = 2**22  # of a lattice; the walk back needs V times as many numbers
_NEVER = -1e30  # log P of a point that no state leads to: finite, so that differences are
_RIDGE = 1e-5  # nats for a squared coefficient
_DAMPING = np.array([1e-4, 1e-2, 1.0], np.float32)  # added to the diagonal of the Hessian
_LENGTHS = np.array([1.0, 0.5, 0.2, 0.05], np.float32)
_GAIN = 1e-5  # nats, less of which ends an iteration
_OFFSETS = 15  # half-spaces along each normal

Corner = Callable[[jax.Array], jax.Array]


class Params(NamedTuple):
  """Parameters: W = U A, and the biases.

  Attributes:
    u_VD: integers, as floats.
    a_DH: weights of the hidden units along the directions.
    b_V: visible biases.
    c_H: hidden biases.
  """

  u_VD: jax.Array
  a_DH: jax.Array
  b_V: jax.Array
  c_H: jax.Array


class Lattice(NamedTuple):
  """The walk of independent units.

  Attributes:
    y_SD: the points.
    log_p_S: log P_V(y).
    log_odds_VS: of unit i being on, given that the first i units have led to y.
  """

  y_SD: jax.Array
  log_p_S: jax.Array
  log_odds_VS: jax.Array


class Draws(NamedTuple):
  """What `sample` reads.

  Attributes:
    upto_S: sum of p(y) over the points up to this one.
    log_odds_VS: of Lattice.
    shift_V: int32, by how many points unit i moves.
  """

  upto_S: jax.Array
  log_odds_VS: jax.Array
  shift_V: jax.Array


def init(b_V, num_directions: int, num_hidden: int) -> Params:
  """U = A = 0: independent units with these biases."""
  return Params(jnp.zeros((len(b_V), num_directions)), jnp.zeros((num_directions, num_hidden)),
                jnp.asarray(b_V), jnp.zeros(num_hidden))


def machine(params: Params) -> rbm.Params:
  """The same machine as an RBM, W = U A."""
  return rbm.Params(params.u_VD @ params.a_DH, params.b_V, params.c_H)


def rounded(u_VD, size: int) -> jax.Array:
  """Integers along the columns of U, as long as `size` points in a row hold every sum of some.

  sum_i |round(s_d U_id)| <= size - 1, s_d the largest of 151 scales around (size - 1) / |U_d|_1.
  """
  per_length_D = (size - 1) / jnp.maximum(jnp.sum(jnp.abs(u_VD), axis=0), 1e-30)
  scale_KD = jnp.linspace(0.5, 2.0, 151)[:, None] * per_length_D  # at 0.5 it always fits
  length_KD = jnp.sum(jnp.round(jnp.abs(scale_KD[:, None] * u_VD)), axis=1)
  scale_D = jnp.max(jnp.where(length_KD <= size - 1, scale_KD, 0.0), axis=0)
  return jnp.round(scale_D * u_VD)


def _shift(u_VD, size: int) -> jax.Array:
  """By how many points a unit moves, where points are numbered along the last direction first."""
  strides_D = np.asarray([size**d for d in reversed(range(u_VD.shape[1]))], np.int32)
  return jnp.sum(jnp.round(u_VD).astype(jnp.int32) * strides_D, axis=1)


# Density.


def lattice(params: Params, size: int) -> Lattice:
  """The walk of independent units with the biases of `params`, on size^D points.

  Args:
    params: with sum_i |U_id| < size for every direction.
    size: points along each direction.

  Raises:
    ValueError: more than 2^22 points.
  """
  num_directions = params.u_VD.shape[1]
  if size**num_directions > MAX_POINTS:
    raise ValueError(f'a lattice of {size}^{num_directions} points is larger than {MAX_POINTS:,}: '
                     'take fewer directions, or fewer points along them')
  low_VD = jnp.minimum(params.u_VD, 0.0)
  index_DS = np.indices((size,) * num_directions).reshape(num_directions, -1)
  start_S = jnp.full(size**num_directions, _NEVER).at[-jnp.sum(_shift(low_VD, size))].set(0.0)

  def body(log_p_S, unit):
    shift, bias = unit
    on_S = jax.nn.log_sigmoid(bias) + jnp.roll(log_p_S, shift)
    off_S = jax.nn.log_sigmoid(-bias) + log_p_S
    return jnp.logaddexp(on_S, off_S), on_S - off_S

  log_p_S, log_odds_VS = lax.scan(body, start_S, (_shift(params.u_VD, size), params.b_V))
  return Lattice(jnp.float32(index_DS.T) + jnp.sum(low_VD, axis=0), log_p_S, log_odds_VS)


def log_weights(params: Params, points: Lattice, corner: Corner = jax.nn.softplus) -> jax.Array:
  """log P_V(y) + sum_j softplus(c_j + (y.A)_j), [S] nats; `corner` jax.nn.relu: the effective one.

  `points` are those of lattice(params, size), here and below.
  """
  return points.log_p_S + jnp.sum(corner(points.y_SD @ params.a_DH + params.c_H), axis=-1)


def log_partition(params: Params, points: Lattice, corner: Corner = jax.nn.softplus) -> jax.Array:
  """log Z, scalar nats, exact."""
  return (jnp.sum(jax.nn.softplus(params.b_V))
          + jax.nn.logsumexp(log_weights(params, points, corner)))


def log_likelihood(params: Params, points: Lattice, v_BV,
                   corner: Corner = jax.nn.softplus) -> jax.Array:
  """log p(v) = b.v + sum_j softplus(c_j + (v.U A)_j) - log Z, [B] nats, exact."""
  x_BH = v_BV @ params.u_VD @ params.a_DH + params.c_H
  return (v_BV @ params.b_V + jnp.sum(corner(x_BH), axis=-1)
          - log_partition(params, points, corner))


# Sampling.


def draws(params: Params, points: Lattice) -> Draws:
  """What is needed to draw from the machine."""
  size = round(len(points.y_SD)**(1 / params.u_VD.shape[1]))
  return Draws(jnp.cumsum(jax.nn.softmax(log_weights(params, points))), points.log_odds_VS,
               _shift(params.u_VD, size))


def sample(key, of: Draws, num: int) -> jax.Array:
  """v ~ p(v), independent, [num, V]: y ~ p(y), and the walk back from there to the origin.

  Exact but for rounding: of the sum over all y, a few 1e-6 for the probability of a point.
  """
  key_y, key_v = jax.random.split(key)
  u_C = jax.random.uniform(key_y, (num,)) * of.upto_S[-1]
  at_C = jnp.minimum(jnp.searchsorted(of.upto_S, u_C, side='right'), len(of.upto_S) - 1)
  u_VC = jax.random.uniform(key_v, (len(of.shift_V), num))

  def body(at_C, unit):
    log_odds_S, shift, u_C = unit
    on_C = u_C < jax.nn.sigmoid(log_odds_S[at_C])
    return at_C - jnp.where(on_C, shift, 0), on_C.astype(jnp.float32)

  v_VC = lax.scan(body, at_C.astype(jnp.int32), (of.log_odds_VS, of.shift_V, u_VC),
                  reverse=True)[1]
  return v_VC.T


# Training.


def fit(x_NV, rank: int, size: int, num_hidden: int, *, num_used: int | None = None,
        weights_N=None, num_iterations: int = 30) -> Params:
  """The machine along the leading principal directions of rows: `fit_effective`, `softened`.

  Args:
    x_NV: rows of zeros and ones, or means of such.
    rank: D, principal directions.
    size: points along each; the more, the closer integers are to the directions, and with more
      than V every unit can move.
    num_hidden: H; units that are not needed have W = 0.
    num_used: at most so many have W other than 0; None for all.
    weights_N: of the rows.
    num_iterations: of Newton's method, at most.

  Raises:
    ValueError: rank out of range, or a lattice that is too large.
  """
  options = dict(weights_N=weights_N, num_iterations=num_iterations)
  effective = fit_effective(x_NV, rank, size, num_hidden, num_used=num_used, **options)
  return softened(effective, x_NV, size, **options)


def fit_effective(x_NV, rank: int, size: int, num_hidden: int, *, num_used: int | None = None,
                  weights_N=None, num_iterations: int = 30) -> Params:
  """The effective machine (corner=jax.nn.relu) of greatest likelihood; arguments as of `fit`.

  U are the principal directions as integers, b the log-odds of the columns' means and a maximum
  along U. The half-spaces are at first all of `half_spaces`; in rounds of fits, of which each
  maximises a concave function, those with the least q_j E[max(n_j.y - t_j, 0)] are left out, until
  `num_used`, or as many as hidden units, are left.
  """
  x_NV = jnp.asarray(x_NV, jnp.float32)
  u_VD = rounded(pca.fit(x_NV, rank, weights_N).u_VR, size)
  params = init(units.log_odds(mean_rows(x_NV, weights_N)), rank, num_hidden)._replace(u_VD=u_VD)
  points, y_ND = lattice(params, size), x_NV @ u_VD
  # Half-spaces and coefficients are those of z, which has mean 0 and variance 1.
  mean_D = mean_rows(y_ND, weights_N)
  scale_D = jnp.sqrt(mean_rows((y_ND - mean_D)**2, weights_N)) + 1e-6
  z_ND, z_SD = (y_ND - mean_D) / scale_D, (points.y_SD - mean_D) / scale_D

  normal_DJ, offset_J = half_spaces(z_ND)
  mean_F = mean_rows(features(z_ND, normal_DJ, offset_J), weights_N)
  phi_SF = features(z_SD, normal_DJ, offset_J)
  kept = min(num_hidden if num_used is None else num_used, len(offset_J))

  def fit_and_prune(carry, num):
    theta_F, there_F = carry
    theta_F = maximise(points.log_p_S, phi_SF * there_F, mean_F * there_F,
                       np.arange(len(mean_F)) >= rank, theta_F * there_F, num_iterations)
    order_J = jnp.argsort(jnp.argsort(-(theta_F * mean_F)[rank:]))
    return (theta_F, jnp.append(jnp.ones(rank), (order_J < num).astype(jnp.float32))), None

  # The last round fits those that the one before has left.
  num_R = np.asarray([min(n, len(offset_J)) for n in (4 * kept, 2 * kept, kept, kept)], np.int32)
  theta_F, left_F = lax.scan(fit_and_prune, (jnp.zeros_like(mean_F), jnp.ones_like(mean_F)),
                             num_R)[0]
  left_H = lax.top_k(left_F[rank:], kept)[1]
  q_H, normal_DH, offset_H = theta_F[rank:][left_H], normal_DJ[:, left_H], offset_J[left_H]
  a_DH = q_H * normal_DH / scale_D[:, None]
  unused = num_hidden - kept
  return params._replace(b_V=params.b_V + u_VD @ (theta_F[:rank] / scale_D),
                         a_DH=jnp.pad(a_DH, ((0, 0), (0, unused))),
                         c_H=jnp.pad(-q_H * offset_H - mean_D @ a_DH, (0, unused)))


def softened(params: Params, x_NV, size: int, *, weights_N=None,
             num_iterations: int = 30) -> Params:
  """Fitted along U once more, to the hidden units as they are: a concave function of b.

  softplus(x) lies above max(x, 0), most at the corners, which moves E[y]; here it is that of the
  rows again.
  """
  points, y_ND = lattice(params, size), jnp.asarray(x_NV, jnp.float32) @ params.u_VD
  mean_D = mean_rows(y_ND, weights_N)
  scale_D = jnp.sqrt(mean_rows((y_ND - mean_D)**2, weights_N)) + 1e-6
  zero_D = jnp.zeros_like(mean_D)
  along_D = maximise(log_weights(params, points), (points.y_SD - mean_D) / scale_D, zero_D,
                     np.zeros(len(mean_D), bool), zero_D, num_iterations)
  return params._replace(b_V=params.b_V + params.u_VD @ (along_D / scale_D))


def half_spaces(z_ND) -> tuple[jax.Array, jax.Array]:
  """n.z > t: normals n_DJ of length 1, each with 15 offsets t_J evenly over the rows' range.

  The normals are all integer vectors, up to sign and length, of components up to 2, up to 1 in
  three dimensions or more: 1, 8 and 13 of them in one, two and three.
  """
  num_directions = z_ND.shape[1]
  most = 2 if num_directions <= 2 else 1
  every = np.indices((2 * most + 1,) * num_directions).reshape(num_directions, -1).T - most
  n_DK = np.asarray([n for n in every.tolist() if math.gcd(*n) == 1 and n > [-x for x in n]],
                    np.float32).T
  n_DK /= np.linalg.norm(n_DK, axis=0)
  x_NK = z_ND @ n_DK
  low_K, high_K = jnp.min(x_NK, axis=0), jnp.max(x_NK, axis=0)
  share_O = (np.arange(_OFFSETS, dtype=np.float32) + 0.5) / _OFFSETS
  offset_KO = low_K[:, None] + (high_K - low_K)[:, None] * share_O
  return jnp.repeat(n_DK, _OFFSETS, axis=1), offset_KO.reshape(-1)


def features(z_SD, normal_DJ, offset_J) -> jax.Array:
  """(z, max(n_j.z - t_j, 0)), [S, F]: the effective machine's log f is linear in them."""
  return jnp.concatenate([z_SD, jax.nn.relu(z_SD @ normal_DJ - offset_J)], axis=1)


def maximise(log_p_S, phi_SF, mean_F, bounded_F, start_F,
             num_iterations: int = 30) -> jax.Array:
  """argmax_theta theta.m - log sum_s exp(log p_s + phi_s.theta), theta_f >= 0 where bounded; [F].

  The log-likelihood of rows whose features have the mean m, up to a constant, less 5e-6 |theta|^2,
  which makes the maximum unique. Newton's method: each step maximises the quadratic expansion,
  damped by several amounts, under the bounds, and the best point of several on the way to each of
  these maxima is the next. Ends
  where the next gain is less than 1e-5 nats.
  """
  def value(theta_F):
    return (theta_F @ mean_F - jax.nn.logsumexp(log_p_S + phi_SF @ theta_F)
            - _RIDGE / 2 * jnp.sum(theta_F**2))

  def step(carry):
    theta_F, before, _, i = carry
    p_S = jax.nn.softmax(log_p_S + phi_SF @ theta_F)
    now_F = p_S @ phi_SF
    grad_F = mean_F - now_F - _RIDGE * theta_F
    off_SF = phi_SF - now_F
    minus_hessian_FF = off_SF.T @ (p_S[:, None] * off_SF)
    least_F = jnp.where(bounded_F, -theta_F, -jnp.inf)
    damped_KFF = minus_hessian_FF + _DAMPING[:, None, None] * jnp.eye(len(now_F))
    to_KF = jax.vmap(_quadratic_maximum, (0, None, None))(damped_KFF, grad_F, least_F)
    trial_TF = theta_F + (_LENGTHS[:, None, None] * to_KF).reshape(-1, len(theta_F))
    value_T = lax.map(value, trial_TF)
    best = jnp.argmax(jnp.where(jnp.isnan(value_T), -jnp.inf, value_T))
    better = value_T[best] > before + _GAIN
    return (jnp.where(better, trial_TF[best], theta_F), jnp.where(better, value_T[best], before),
            better, i + 1)

  return lax.while_loop(lambda carry: carry[2] & (carry[3] < num_iterations), step,
                        (start_F, value(start_F), jnp.array(True), 0))[0]


def _quadratic_maximum(b_FF, grad_F, least_F, num_sweeps: int = 50) -> jax.Array:
  """argmax_s g.s - s.B s / 2 with s_f >= least_f, by coordinates in turn, [F]."""
  size = len(grad_F)

  def body(k, carry):
    s_F, residual_F = carry
    f = k % size
    new = jnp.maximum(s_F[f] + residual_F[f] / b_FF[f, f], least_F[f])
    return s_F.at[f].set(new), residual_F - b_FF[f] * (new - s_F[f])

  return lax.fori_loop(0, num_sweeps * size, body, (jnp.zeros(size), grad_F))[0]
