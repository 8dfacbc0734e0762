"""Scores of draws in the features of a trained network, those that papers report.

Of N draws x and N test images y, in features of F numbers:

  frechet          FID; see evaluation.samples
  kid              MMD^2 with k(x, y) = (x.y / F + 1)^3, unbiased, over all pairs
  sliced_w2, precision, recall, density, coverage   see evaluation.samples
  inception_score  exp(mean_x KL(p(q | x) | p(q))), p(q) the mean of p(q | x); not of networks
                   without classes
  c_t, auth_pct    whether draws are copies of training images, see evaluation.copies; floors are
                   those of test images

Each is the mean over three disjoint sets of draws beside three disjoint sets of test images; the
floor is that of three disjoint sets of training images. FID of finite sets is too large by a
number that goes as 1 / N and differs between models, so that models can change places with N. Three
numbers go with it therefore: FID of all 3 N images; its 95 % interval, bias taken out; its limit,

  FID_n = FID_inf + c / n,    by least squares over 15 sizes n from 2 F (or N / 10) to N.

Heusel et al. (2017); Binkowski et al. (2018); Salimans et al. (2016); Chong & Forsyth (2020), who
vary the number of draws; here both sets grow, because both make a bias.

Axis suffixes: N M images, D values of an image, F features, Q classes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation import adapters, copies, samples

SETS, SIZES, REPLICATES = 3, 15, 30
BETTER = {'frechet': 'lower', 'kid': 'lower', 'sliced_w2': 'lower', 'precision': 'higher',
          'recall': 'higher', 'density': 'higher', 'coverage': 'higher',
          'inception_score': 'higher', 'c_t': 'floor', 'auth_pct': 'floor'}


@jax.jit
def kid(x_NF, y_MF) -> jax.Array:
  """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j), scalar."""
  def kernel(x_NF, y_MF):
    return (jnp.matmul(x_NF, y_MF.T, precision='highest') / x_NF.shape[1] + 1)**3

  def others(x_NF):
    k_NN = kernel(x_NF, x_NF)
    return jnp.mean((jnp.sum(k_NN, 1) - jnp.diag(k_NN)) / (len(x_NF) - 1))

  return others(x_NF) + others(y_MF) - 2 * jnp.mean(kernel(x_NF, y_MF))


def inception_score(logits_NQ) -> float:
  """exp(mean_x KL(p(q | x) | p(q))), of all rows at once, between 1 and Q."""
  log_p_NQ = np.asarray(jax.nn.log_softmax(jnp.asarray(logits_NQ)), np.float64)
  log_mean_Q = np.logaddexp.reduce(log_p_NQ) - np.log(len(log_p_NQ))
  return float(np.exp(np.mean(np.sum(np.exp(log_p_NQ) * (log_p_NQ - log_mean_Q), axis=1))))


def infinite_frechet(key, x_NF, y_NF) -> float | None:
  """FID_inf of the equation above; None of fewer than 4 F images, where the law does not hold yet.

  Args:
    key: of the subsets.
    x_NF: draws.
    y_NF: as many test images.
  """
  num, features = x_NF.shape
  if num < 4 * features:
    return None
  rng = _rng(key)
  sizes = np.linspace(max(2 * features, num // 10), num, SIZES).astype(int)
  found = [samples.frechet(x_NF[rng.permutation(num)[:n]], y_NF[rng.permutation(num)[:n]])
           for n in sizes]
  return float(np.polyfit(1 / sizes, found, 1)[1])


def bootstrap(key, score: Callable, x_NF, y_MF, replicates: int = REPLICATES) -> list[float]:
  """[low, high], 95 %: score - bias -+ 1.96 sd, both of them of resampled rows (Efron, 1979).

  A score whose bias goes as 1 / N has that of the resampled one as an estimate of its own.
  """
  rng, value = _rng(key), float(score(x_NF, y_MF))
  found = [float(score(x_NF[rng.integers(0, len(x_NF), len(x_NF))],
                       y_MF[rng.integers(0, len(y_MF), len(y_MF))])) for _ in range(replicates)]
  centre, half = 2 * value - np.mean(found), 1.96 * np.std(found, ddof=1)
  return [float(centre - half), float(centre + half)]


def scores(x: tuple, y: tuple) -> dict[str, float]:
  """All of them, of two sets as Space.read gives them: features and log-odds."""
  (x_NF, logits_NQ), (y_MF, _) = x, y
  found = {'frechet': samples.frechet(x_NF, y_MF), 'kid': float(kid(x_NF, y_MF)),
           **{name: float(value) for name, value in _others(x_NF, y_MF).items()}}
  return found if logits_NQ is None else found | {'inception_score': inception_score(logits_NQ)}


@jax.jit
def _others(x_NF, y_NF):
  return {'sliced_w2': samples.sliced_w2(x_NF, y_NF), **samples.balls(x_NF, y_NF)}


def table(key, draw: Callable[[jax.Array, int], Any], test_ND, train_MD, *, shape,
          space: adapters.Space, cap: int = 10_000,
          report: Callable[[str], None] = lambda line: None) -> dict[str, dict]:
  """Every score of a model in a space, with its floor, in the form of samples.table.

  Args:
    key: consumed.
    draw: (key, n) -> [n, D], draws of the model in [0, 1].
    test_ND, train_MD: images in [0, 1].
    shape: (Y, X) or (Y, X, C) of one.
    space: a network with its weights.
    cap: most images of all three sets together.
    report: called with lines of progress.

  Returns:
    {'frechet_inception': {value, low, high, floor, .., n, num_sets}}; value, low and high are the
    mean, the least and the greatest of the three sets. FID has further `of_all` and `n_of_all`,
    `interval` and `infinite`, and the same of the floor.

  Raises:
    ValueError: there are fewer than eight images in a set.
    FloatingPointError: draws that are not finite.
  """
  n = min(len(test_ND), len(train_MD), cap) // SETS
  if n < 8:
    raise ValueError(f'{n} images in each of three sets are too few for features to be compared')
  key_test, key_train, key_draws, key_floor, *keys = jax.random.split(key, 4 + SETS)
  report(f'reading {3 * SETS * n:,} images with {space.name}')
  drawn_ND = np.concatenate([np.asarray(draw(one, n), np.float32) for one in keys])
  if not np.isfinite(drawn_ND).all():
    raise FloatingPointError('draws are not finite: the parameters have diverged')
  x, y, real = (space.read(images, shape) for images in (
    drawn_ND, *(np.asarray(images)[np.asarray(jax.random.permutation(one, len(images)))[:SETS * n]]
                for one, images in ((key_test, test_ND), (key_train, train_MD)))))
  sides = [[scores(_part(side, i, n), _part(y, i, n)) for i in range(SETS)] for side in (x, real)]
  # What tells copies apart has fresh images as its floor: the test images, against each other.
  y_3NF, real_NF = y[0].reshape(SETS, n, -1), real[0]
  for i, x_NF in enumerate(x[0].reshape(SETS, n, -1)):
    for side, one_NF in zip(sides, (x_NF, y_3NF[i - 1]), strict=True):
      side[i] |= {'c_t': copies.c_t(one_NF, y_3NF[i], real_NF),
                  'auth_pct': copies.auth_pct(one_NF, real_NF)}
  found: dict[str, dict[str, Any]] = {
    name: {'better': BETTER[name], 'n': n, 'num_sets': SETS} for name in sides[0][0]}
  for prefix, side in zip(('', 'floor'), sides, strict=True):
    names = ('value', 'low', 'high') if not prefix else ('floor', 'floor_low', 'floor_high')
    for name, entry in found.items():
      values = [one[name] for one in side]
      entry.update(zip(names, (float(np.mean(values)), min(values), max(values)), strict=True))
  found['frechet'] |= {'n_of_all': SETS * n, **_of_all(key_draws, x[0], y[0], ''),
                       **_of_all(key_floor, real[0], y[0], 'floor_')}
  return {f'{name}_{space.name}': entry for name, entry in found.items()}


def _of_all(key, x_NF, y_NF, prefix: str) -> dict[str, Any]:
  key_interval, key_sizes = jax.random.split(key)
  return {f'{prefix}of_all': samples.frechet(x_NF, y_NF),
          f'{prefix}interval': bootstrap(key_interval, samples.frechet, x_NF, y_NF),
          f'{prefix}infinite': infinite_frechet(key_sizes, x_NF, y_NF)}


def _part(read: tuple, i: int, n: int) -> tuple:
  return tuple(None if one is None else one[i * n:(i + 1) * n] for one in read)


def _rng(key) -> np.random.Generator:
  return np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))
