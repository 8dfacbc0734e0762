"""Sample scores that need no download, each beside what real images get.

Of N draws x of a model and N test images y, with |.| the Euclidean distance:

  frechet    |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2)     means and covariances
  sliced_w2  (mean over directions u, ranks n of ((u.x)_(n) - (u.y)_(n))^2)^1/2
  mmd2       mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)
  precision  share of x in some ball B(y_j), closed and reaching to the 5th nearest other y
  recall     share of y in some ball B(x_i)
  density    mean over x of the number of balls B(y_j) around it, / 5
  coverage   share of balls B(y_j) with some x in them

each on pixels and on features.random_features; and the scores of evaluation.copies, which detect
draws that are copies of training images.

No score sees everything: frechet is blind beyond means and covariances, precision and density are
blind to missing modes, recall is blind to noise, and all of these call copies of training images
perfect. Tests check what each one catches. Density can exceed 1, also by collapse.

The floor of a score is what N training images get against the same test images; for the scores of
copies the training image itself is left out. The floor is not zero: N is finite, and test images
may differ from training images (in MNIST other people wrote them).

Sources: Heusel et al. (2017); Bonneel et al. (2015); Gretton et al. (2012); Kynkaanniemi et al.
(2019); Naeem et al. (2020).

Axis suffixes: N M images, D values of an image, U directions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import devices
from gen_models.evaluation import blocks, copies
from gen_models.evaluation.features import random_features

BETTER = {
  'frechet': 'lower', 'sliced_w2': 'lower', 'mmd2': 'lower', 'precision': 'higher',
  'recall': 'higher', 'density': 'higher', 'coverage': 'higher', **copies.BETTER}


# Two sets of the same size.


def squared_distances(x_ND, y_MD) -> jax.Array:
  """|x_n - y_m|^2, [N, M], as one product; exact for binary images."""
  xy_NM = jnp.matmul(x_ND, y_MD.T, precision='highest')
  return jnp.maximum(jnp.sum(x_ND**2, -1)[:, None] + jnp.sum(y_MD**2, -1) - 2 * xy_NM, 0)


def frechet(x_ND, y_MD) -> float:
  """|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^1/2 S_y S_x^1/2)^1/2), of sample covariances, float64."""
  x_ND, y_MD = np.asarray(x_ND, np.float64), np.asarray(y_MD, np.float64)
  if x_ND.shape[1] > len(x_ND) + len(y_MD):
    return _frechet_of_few(x_ND, y_MD)
  s_DD, t_DD = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x_ND, y_MD))
  mean_D = x_ND.mean(0) - y_MD.mean(0)
  total = mean_D @ mean_D + np.trace(s_DD) + np.trace(t_DD)
  # S_x S_y has the same nonzero eigenvalues without what is constant in either set: MNIST's rim.
  vary = np.flatnonzero((np.diag(s_DD) > 0) & (np.diag(t_DD) > 0))
  s_DD, t_DD = (c_DD[np.ix_(vary, vary)] for c_DD in (s_DD, t_DD))
  scale_D, axes_DD = np.linalg.eigh(s_DD)
  root_DD = axes_DD * np.sqrt(np.maximum(scale_D, 0))  # rounding makes zeros negative
  product_D = np.linalg.eigvalsh(root_DD.T @ t_DD @ root_DD)
  return float(total - 2 * np.sqrt(np.maximum(product_D, 0)).sum())


def _frechet_of_few(x_ND, y_MD) -> float:
  """The same of more values than rows: where A^T A = S_x, B^T B = S_y, the trace is |A B^T|_*.

  Products [N, M] take the place of covariances [D, D], which of 64 x 64 pixels in colour have 1 GB.
  """
  a_ND, b_MD = ((z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x_ND, y_MD))
  mean_D = x_ND.mean(0) - y_MD.mean(0)
  root = np.linalg.svd(a_ND @ b_MD.T, compute_uv=False).sum()
  return float(mean_D @ mean_D + np.sum(a_ND**2) + np.sum(b_MD**2) - 2 * root)


def sliced_w2(x_ND, y_ND, num_directions: int = 256) -> jax.Array:
  """(mean_{u,n} ((u.x)_(n) - (u.y)_(n))^2)^1/2 over fixed random unit vectors u, scalar.

  Raises:
    ValueError: sets of different sizes, whose ranks do not match.
  """
  if x_ND.shape != y_ND.shape:
    raise ValueError(f'sets of equal size are needed, not {x_ND.shape} and {y_ND.shape}')
  u_UD = jax.random.normal(jax.random.key(0), (num_directions, x_ND.shape[1]))
  u_UD /= jnp.linalg.norm(u_UD, axis=1, keepdims=True)
  x_UN, y_UN = (jnp.sort(jnp.matmul(u_UD, z_ND.T, precision='highest')) for z_ND in (x_ND, y_ND))
  return jnp.sqrt(jnp.mean((x_UN - y_UN)**2))


def mmd2(x_ND, y_MD, scale=None) -> jax.Array:
  """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j), scalar.

  k(x, y) = mean over w in 1/4, 1, 4 of exp(-|x - y|^2 / (2 w scale)), a mixture of Gaussian
  kernels, which separated corrupted digits from clean ones better than the cubic kernel of KID. For
  a given scale the estimate is unbiased, so it is often negative for sets of one distribution.

  Args:
    x_ND: draws.
    y_MD: reference.
    scale: squared length; None takes the median of |y_i - y_j|^2 among the first 500 of y.
  """
  if scale is None:
    scale = jnp.median(squared_distances(y_MD[:500], y_MD[:500]))

  def kernel(x_ND, y_MD):
    d_NM = squared_distances(x_ND, y_MD) / scale
    return (jnp.exp(-2 * d_NM) + jnp.exp(-d_NM / 2) + jnp.exp(-d_NM / 8)) / 3

  def others(x_ND):
    sum_N = blocks.by_rows(lambda x_RD: jnp.sum(kernel(x_RD, x_ND), 1), x_ND,
                           blocks.rows_at_once(len(x_ND)))
    return jnp.mean((sum_N - 1) / (len(x_ND) - 1))

  at_once = blocks.rows_at_once(len(y_MD))
  across = (jnp.mean(kernel(x_ND, y_MD)) if len(x_ND) <= at_once else jnp.mean(
    blocks.by_rows(lambda x_RD: jnp.mean(kernel(x_RD, y_MD), 1), x_ND, at_once)))
  return others(x_ND) + others(y_MD) - 2 * across


def balls(x_ND, y_MD, k: int = 5) -> dict[str, jax.Array]:
  """Precision, recall, density and coverage of draws x of the images y, as above.

  For two sets of one continuous distribution the expected density is 1 and the expected coverage
  1 - prod_{i<=k} (M - i) / (N + M - i), whatever the distribution.

  Raises:
    ValueError: a set has no k-th neighbour.
  """
  if min(len(x_ND), len(y_MD)) <= k:
    raise ValueError(f'{k} other neighbours need more than {len(x_ND)} and {len(y_MD)} images')

  def squared_radius(z_ND):
    return blocks.by_rows(lambda z_RD: _smallest(squared_distances(z_RD, z_ND), k + 1), z_ND,
                          blocks.rows_at_once(len(z_ND)))  # the nearest is itself

  radius_N, radius_M = squared_radius(x_ND), squared_radius(y_MD)
  num, at_once = len(x_ND), min(len(x_ND), blocks.rows_at_once(len(y_MD)))

  def block(first, shared):
    x_ND, y_MD, radius_N, radius_M = shared
    rows_R = jnp.minimum(first + jnp.arange(at_once), num - 1)  # the last row may come again
    d_RM = squared_distances(x_ND[rows_R], y_MD)
    in_y_RM, in_x_RM = d_RM <= radius_M, d_RM <= radius_N[rows_R, None]
    return in_x_RM.any(0), in_y_RM.any(0), in_y_RM.any(1), in_y_RM.sum(1)

  recalled, covered, precise, around = devices.mapped(
    block, jnp.arange(0, num, at_once), (x_ND, y_MD, radius_N, radius_M))
  return {'precision': precise.reshape(-1)[:num].mean(), 'recall': recalled.any(0).mean(),
          'density': around.reshape(-1)[:num].mean() / k, 'coverage': covered.any(0).mean()}


def _smallest(d_NM, k: int) -> jax.Array:
  """The k-th smallest number of each row, [N]: several times as fast as lax.top_k on a CPU."""
  def without_least(_, d_NM):
    return jnp.where(jnp.arange(d_NM.shape[1]) == jnp.argmin(d_NM, 1)[:, None], jnp.inf, d_NM)

  return jnp.min(lax.fori_loop(0, k - 1, without_least, d_NM), 1)


@functools.partial(jax.jit, static_argnames='shape')
def _compare(x_ND, y_ND, shape):
  spaces = {'pixels': (x_ND, y_ND)}
  if len(shape) > 1 and max(shape[:2]) > 2:
    spaces['features'] = random_features(x_ND, shape), random_features(y_ND, shape)
  return spaces, {space: {'sliced_w2': sliced_w2(x, y), 'mmd2': mmd2(x, y), **balls(x, y)}
                  for space, (x, y) in spaces.items()}


def compare(x_ND, y_ND, shape) -> dict[str, float]:
  """All scores of draws x against images y that need no training set, {'frechet_pixels': ..}."""
  spaces, scores = _compare(x_ND, y_ND, tuple(shape))
  for space, sets in spaces.items():
    scores[space]['frechet'] = frechet(*sets)
  return {f'{name}_{space}': float(scores[space][name]) for space in ('pixels', 'features')
          if space in spaces for name in BETTER if name in scores[space]}


# The table.


def table(key, draw: Callable[[jax.Array, int], Any], test_ND, train_MD, *, shape,
          num_sets: int = 5, cap: int = 2000, intensities_MD=None, test_weights_N=None,
          train_weights_M=None) -> dict[str, dict]:
  """Every score of a model, with its floor.

  A set is n draws, n test images and n training images at random, n = min(test, train, cap); draws
  and training images are scored against the same test images. Where n is the whole test split, all
  sets share it, and their variation then excludes that of the split.

  Args:
    key: consumed.
    draw: (key, n) -> [n, D], draws of the model.
    test_ND: test split, seen (binarised) as the model sees its data.
    train_MD: training split, the same.
    shape: (Y, X) or (Y, X, C) of one image; (V,) of rows that are no images: they have no features.
    num_sets: independent repetitions.
    cap: largest n.
    intensities_MD: training images before they were binarised, where they were: what a copier of
      grey images copies.
    test_weights_N, train_weights_M: of rows that do not weigh the same: those of a set are drawn in
      proportion to them, with replacement, as in training.

  Returns:
    {score: {value, low, high, floor, floor_low, floor_high, better, n, num_sets}}, JSON-able.
    value is the mean over sets, low and high the least and the greatest of them: they enclose the
    median of a set's score with probability 1 - 2^(1 - num_sets), 0.94 for 5 sets. better is
    'lower', 'higher' or, for the z of copies, 'floor'.

  Raises:
    ValueError: draws of another shape than the images.
    FloatingPointError: draws that are not finite.
  """
  test_ND, train_MD = (jnp.asarray(x, jnp.float32) for x in (test_ND, train_MD))
  n = min(len(test_ND), len(train_MD), cap)
  draws, reals = [], []
  for key_set in jax.random.split(key, num_sets):
    key_draw, key_test, key_train = jax.random.split(key_set, 3)
    x_ND = jnp.asarray(draw(key_draw, n), jnp.float32)
    if x_ND.shape != (n, test_ND.shape[1]):
      raise ValueError(f'draws have shape {x_ND.shape}, not {(n, test_ND.shape[1])}')
    if not jnp.isfinite(x_ND).all():
      raise FloatingPointError('draws are not finite: the parameters have diverged')
    y_ND = test_ND[_rows(key_test, len(test_ND), n, test_weights_N)]
    rows_N = _rows(key_train, len(train_MD), n, train_weights_M)
    references = copies.references(train_MD, intensities_MD)
    near_y = copies.nearest_of(y_ND, references)
    draws.append({**compare(x_ND, y_ND, shape),
                  **copies.scores(copies.nearest_of(x_ND, references), near_y)})
    reals.append({**compare(train_MD[rows_N], y_ND, shape),
                  **copies.scores(copies.nearest_of(train_MD[rows_N], references, rows_N), near_y)})

  def spread(name, scores):
    values = [score[name] for score in scores]
    return float(np.mean(values)), min(values), max(values)

  return {name: {
    **dict(zip(('value', 'low', 'high'), spread(name, draws))),
    **dict(zip(('floor', 'floor_low', 'floor_high'), spread(name, reals))),
    'better': BETTER[name.removesuffix('_pixels').removesuffix('_features')],
    'n': n, 'num_sets': num_sets} for name in draws[0]}


def _rows(key, num: int, n: int, weights_N=None) -> jax.Array:
  """n of `num` rows at random, int [n]: distinct ones, or in proportion to their weights."""
  if weights_N is None:
    return jax.random.permutation(key, num)[:n]
  weights_N = jnp.asarray(weights_N, jnp.float32)
  return jax.random.choice(key, num, (n,), p=weights_N / jnp.sum(weights_N))
