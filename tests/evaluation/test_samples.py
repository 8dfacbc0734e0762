"""Sample scores against NumPy and scipy, and what each of them catches on handwritten digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.stats

from gen_models import data
from gen_models.evaluation import blocks, copies, features, samples
from tests import oracle

SHAPE = (8, 8)
_balls = jax.jit(samples.balls, static_argnames='k')
_mmd2 = jax.jit(samples.mmd2)


def gaussian(seed, num, dim, shift=0.0):
  return np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32) + np.float32(shift)


def distances(x_ND, y_MD):
  x_ND, y_MD = np.asarray(x_ND, np.float64), np.asarray(y_MD, np.float64)
  return np.linalg.norm(x_ND[:, None] - y_MD[None], axis=-1)


# Two sets of the same size.


def test_frechet_of_two_gaussians():
  """Sets whose means and covariances are exactly the given ones, against scipy's square root."""
  draws = np.random.default_rng(0)
  moments = [(draws.normal(size=5), np.cov(draws.normal(size=(9, 5)).T)) for _ in range(2)]
  sets = []
  for mean_D, cov_DD in moments:
    x_ND = draws.normal(size=(50, 5))
    x_ND = scipy.linalg.solve_triangular(
      np.linalg.cholesky(np.cov(x_ND.T)), (x_ND - x_ND.mean(0)).T, lower=True).T
    sets.append(mean_D + x_ND @ np.linalg.cholesky(cov_DD).T)
  (m, s), (n, t) = moments
  expected = np.sum((m - n)**2) + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
  np.testing.assert_allclose(samples.frechet(*sets), expected, rtol=1e-10)


def test_frechet_where_covariances_have_no_inverse():
  """One column varies alike in both, one in x only, one nowhere: sum of (m - n)^2 + (s - t)^2."""
  x_N = np.linspace(-1, 1, 30)
  sd = x_N.std(ddof=1)
  x_ND = np.stack([x_N, 2 * x_N, 0 * x_N + 1], axis=1)
  y_ND = np.stack([3 * x_N, 0 * x_N + 4, 0 * x_N], axis=1)
  # S_x is of rank 1: x moves along (1, 2, 0) only, y along (3, 0, 0).
  expected = 16 + 1 + sd**2 * (5 + 9) - 2 * sd**2 * 3
  np.testing.assert_allclose(samples.frechet(x_ND, y_ND), expected, rtol=1e-9)
  assert abs(samples.frechet(x_ND, x_ND)) < 1e-7


def test_sliced_w2_on_a_line_is_optimal_transport():
  x_ND, y_ND = gaussian(0, 40, 1), 2 * gaussian(1, 40, 1, 1.0)
  cost = distances(x_ND, y_ND)**2
  rows, columns = scipy.optimize.linear_sum_assignment(cost)
  np.testing.assert_allclose(samples.sliced_w2(x_ND, y_ND), np.sqrt(cost[rows, columns].mean()),
                             rtol=1e-5)


def test_sliced_w2_in_the_plane_is_the_mean_over_angles():
  x_ND, y_ND = gaussian(0, 60, 2), gaussian(1, 60, 2) @ np.float32([[2, 1], [0, 1]])
  angles = np.pi * (np.arange(2000) + 0.5) / 2000
  u_UD = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  x_UN, y_UN = (np.sort(u_UD @ z.T.astype(np.float64), axis=1) for z in (x_ND, y_ND))
  squared_U = np.mean((x_UN - y_UN)**2, axis=1)
  found = float(samples.sliced_w2(x_ND, y_ND, 4000))**2
  assert abs(found - squared_U.mean()) < 5 * squared_U.std() / np.sqrt(4000)
  assert samples.sliced_w2(x_ND, x_ND) == 0
  with pytest.raises(ValueError, match='equal size'):
    samples.sliced_w2(x_ND, y_ND[1:])


def kernel(d, scale):
  return np.mean([np.exp(-d**2 / (2 * w * scale)) for w in (0.25, 1, 4)], axis=0)


@pytest.mark.parametrize('scale', [3.0, None])
def test_mmd2_against_loops(scale):
  x_ND, y_MD = gaussian(0, 13, 3), gaussian(1, 17, 3, 0.5)
  known = np.median(distances(y_MD, y_MD)**2) if scale is None else scale
  total = 0.0
  for a, b, weight in ((x_ND, x_ND, 13 * 12), (y_MD, y_MD, 17 * 16), (x_ND, y_MD, -13 * 17 / 2)):
    for i in range(len(a)):
      for j in range(len(b)):
        if a is not b or i != j:
          total += kernel(np.linalg.norm(a[i].astype(np.float64) - b[j]), known) / weight
  np.testing.assert_allclose(_mmd2(x_ND, y_MD, scale), total, atol=2e-7)


@pytest.mark.parametrize('shift', [0.0, 0.3])
def test_mmd2_is_unbiased(shift):
  """Of 2000 pairs of sets: the mean is that of two normal distributions, 0 if they are one.

  E exp(-|x - y|^2 / (2 h)) = (h / (h + 2))^(D/2) exp(-|m|^2 / (2 h + 4)) for x - y ~ N(m, 2 I).
  """
  scale, dim = 3.0, 2
  keys = jax.random.split(jax.random.key(0), 2000)

  def one(key):
    x_ND, y_MD = jnp.split(jax.random.normal(key, (27, dim)), [12])
    return samples.mmd2(x_ND + shift, y_MD, scale)

  def mean_kernel(squared):
    return np.mean([(h / (h + 2))**(dim / 2) * np.exp(-squared / (2 * h + 4))
                    for h in scale * np.array([0.25, 1, 4])])

  values = jax.jit(jax.vmap(one))(keys)
  expected = 2 * mean_kernel(0) - 2 * mean_kernel(dim * shift**2)
  assert oracle.mean_p_value(values[:, None], expected) > oracle.SIGNIFICANCE
  # A diagonal left in would be seen.
  assert oracle.mean_p_value(values[:, None], expected + 0.3 / 12) < oracle.SIGNIFICANCE


def naive_balls(x_ND, y_MD, k):
  radius_x = [sorted(distances(x[None], x_ND)[0])[k] for x in x_ND]
  radius_y = [sorted(distances(y[None], y_MD)[0])[k] for y in y_MD]
  d = distances(x_ND, y_MD)
  n, m = d.shape
  return {
    'precision': np.mean([any(d[i, j] <= radius_y[j] for j in range(m)) for i in range(n)]),
    'recall': np.mean([any(d[i, j] <= radius_x[i] for i in range(n)) for j in range(m)]),
    'density': sum(d[i, j] <= radius_y[j] for i in range(n) for j in range(m)) / (k * n),
    'coverage': np.mean([any(d[i, j] <= radius_y[j] for i in range(n)) for j in range(m)])}


@pytest.mark.parametrize('k', [1, 5])
def test_balls_against_loops(k):
  x_ND, y_MD = gaussian(0, 40, 4, 0.5) * np.float32([2, 1, 1, 0.3]), gaussian(1, 30, 4)
  found, known = _balls(x_ND, y_MD, k), naive_balls(x_ND, y_MD, k)
  assert found.keys() == known.keys()
  for name, value in known.items():
    assert 0 < value != 1, f'{name} tests nothing here'
    np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_balls_of_binary_images_are_closed():
  x_ND, y_MD = ((gaussian(seed, 40, 9) > 0.5).astype(np.float32) for seed in (2, 3))
  found, known = _balls(x_ND, y_MD, 5), naive_balls(x_ND, y_MD, 5)
  for name, value in known.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_balls_at_their_limits():
  x_ND = gaussian(0, 50, 3)
  same = {name: float(value) for name, value in _balls(x_ND, x_ND).items()}
  # Each ball holds its centre and the five images that define it.
  assert same == pytest.approx({'precision': 1, 'recall': 1, 'density': 6 / 5, 'coverage': 1})
  assert all(value == 0 for value in _balls(x_ND, x_ND + 100).values())
  # All draws in one place where images are dense: precise, dense, and nothing is covered.
  collapsed = _balls(0.01 * gaussian(1, 50, 3), x_ND)
  assert collapsed['precision'] == 1 and collapsed['density'] > 1
  assert collapsed['recall'] == 0 and collapsed['coverage'] < 0.7
  with pytest.raises(ValueError, match='5 other neighbours'):
    samples.balls(x_ND, x_ND[:5])


def test_scores_in_blocks_of_rows_are_those_of_all_rows(monkeypatch):
  """So memory is that of a block: 20 x 51 distances here, where 110 x 51 are needed in all."""
  x_ND, y_MD = gaussian(0, 110, 16), gaussian(1, 51, 16)
  x_ND[3:12] = x_ND[0]  # more ties than neighbours

  def scores(x_ND, y_MD):
    return (samples.mmd2(x_ND, y_MD), samples.balls(x_ND, y_MD, 3),
            features.random_features(x_ND, (4, 4), 32),
            samples._smallest(samples.squared_distances(x_ND, y_MD), 4))

  whole = jax.jit(scores)(x_ND, y_MD)
  monkeypatch.setattr(blocks, 'CELLS', 20 * 51)
  lowered = jax.jit(lambda *args: scores(*args)).lower(x_ND, y_MD)
  for found, expected in zip(jax.tree.leaves(lowered.compile()(x_ND, y_MD)),
                             jax.tree.leaves(whole), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  squared_NM = np.asarray(jax.jit(samples.squared_distances)(x_ND, y_MD))
  np.testing.assert_array_equal(whole[-1], np.sort(squared_NM, axis=1)[:, 3])


def test_density_and_coverage_of_one_distribution():
  """Their expectations do not depend on the distribution (Naeem et al., 2020)."""
  num, reference, k = 30, 40, 5

  def one(key):
    x_ND, y_MD = jnp.split(jax.random.normal(key, (num + reference, 3)), [num])
    found = samples.balls(x_ND, y_MD, k)
    return jnp.stack([found['density'], found['coverage']])

  values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000))
  i = np.arange(1, k + 1)
  coverage = 1 - np.prod((reference - i) / (num + reference - i))
  assert oracle.mean_p_value(values, [1, coverage]) > oracle.SIGNIFICANCE


# The table, on digits.


@pytest.fixture(name='digits', scope='module')
def fixture_digits():
  """(train, valid, test) binarised, as the callers hold them."""
  dataset = data.load('digits')
  return [np.asarray(data.fixed_split(dataset, split, 'threshold'))
          for split in ('train', 'valid', 'test')]


def subsets(images_MD):
  def draw(key, n):
    return images_MD[np.asarray(jax.random.permutation(key, len(images_MD)))[:n]]
  return draw


@pytest.fixture(name='tables', scope='module')
def fixture_tables(digits):
  """Tables of 'models' that draw held-out images, training images, and one of these in six."""
  train, valid, test = digits

  def mixed(key, n):
    key_train, key_valid = jax.random.split(key)
    copied = n // 6
    return np.concatenate([subsets(train)(key_train, copied),
                           subsets(valid)(key_valid, n - copied)])

  draws = {'fresh': subsets(valid), 'copier': subsets(train), 'some': mixed}
  return {name: samples.table(jax.random.key(0), draw, test, train, shape=SHAPE, cap=150)
          for name, draw in draws.items()}


def test_a_table_says_what_it_is(tables):
  table = tables['fresh']
  names = [f'{name}_{space}' for space in ('pixels', 'features') for name in (
    'frechet', 'sliced_w2', 'mmd2', 'precision', 'recall', 'density', 'coverage')]
  assert list(table) == [*names, 'nearest_train_z', 'copies', 'gap_z']
  for name, row in table.items():
    assert (row['n'], row['num_sets']) == (150, 5)
    assert row['low'] <= row['value'] <= row['high']
    assert row['floor_low'] <= row['floor'] <= row['floor_high']
    assert row['better'] == ('floor' if name.endswith('_z') else 'higher' if name.startswith(
      ('precision', 'recall', 'density', 'coverage')) else 'lower')
  assert json.loads(json.dumps(table)) == table


def test_the_floor_does_not_depend_on_the_model(tables):
  def floors(table):
    return [(row['floor'], row['floor_low'], row['floor_high']) for row in table.values()]

  assert floors(tables['fresh']) == floors(tables['copier']) == floors(tables['some'])


def test_held_out_images_are_not_called_copies(tables):
  fresh = tables['fresh']
  assert not copies.memorised(fresh)
  assert abs(fresh['nearest_train_z']['value']) < 3 and abs(fresh['nearest_train_z']['floor']) < 3


def test_a_model_that_returns_training_images_is_flagged(tables):
  copier = tables['copier']
  assert copies.memorised(copier)
  assert copier['nearest_train_z']['high'] < -10 and copier['copies']['low'] == 1
  # And by nothing else: to every other score it is a perfect model.
  for name, row in copier.items():
    if name not in copies.BETTER:
      assert row['low'] <= row['floor_high'] and row['high'] >= row['floor_low'], name


def test_a_few_training_images_among_fresh_ones_are_flagged(tables):
  some = tables['some']
  assert copies.memorised(some)
  assert some['copies']['value'] > 1 / 6
  # Too few to move the ranks by much: each score alone would not do.
  assert some['nearest_train_z']['value'] > some['nearest_train_z']['floor'] - 5


def test_a_table_of_one_set_is_made_by_compare(digits):
  """Where n is the whole test split and the whole training split, nothing is left to chance."""
  train, valid, test = (images_ND[:60] for images_ND in digits)
  table = samples.table(jax.random.key(1), lambda key, n: valid[:n], test, train, shape=SHAPE,
                        num_sets=2)
  against = copies.references(train)
  near_test = copies.nearest_of(test, against)
  known = {**samples.compare(jnp.asarray(valid), jnp.asarray(test), SHAPE),
           **copies.scores(copies.nearest_of(valid, against), near_test)}
  floor = {**samples.compare(jnp.asarray(train), jnp.asarray(test), SHAPE),
           **copies.scores(copies.nearest_of(train, against, np.arange(60)), near_test)}
  for name, row in table.items():
    assert row['n'] == 60
    # The order of the images decides rounding, nothing more.
    for key, value in (('low', known), ('value', known), ('high', known), ('floor', floor)):
      np.testing.assert_allclose(row[key], value[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_rows_of_a_set_are_drawn_as_they_weigh():
  # 4000 rows; a count is within 5 of its standard deviations but for one key in 10^5.
  w_N = np.array([0.0, 1.0, 3.0, 4.0])
  counts_N = np.bincount(samples._rows(jax.random.key(0), 4, 4000, w_N), minlength=4)
  p_N = w_N / w_N.sum()
  assert np.all(np.abs(counts_N - 4000 * p_N) <= 5 * np.sqrt(4000 * p_N * (1 - p_N)))
  assert sorted(samples._rows(jax.random.key(0), 4, 4).tolist()) == [0, 1, 2, 3]


def test_draws_that_cannot_be_scored_raise(digits):
  train, _, test = digits
  with pytest.raises(ValueError, match=r'\(7, 64\), not \(300, 64\)'):
    samples.table(jax.random.key(0), lambda key, n: test[:7], test, train, shape=SHAPE)
  with pytest.raises(FloatingPointError, match='diverged'):
    samples.table(jax.random.key(0), lambda key, n: np.full_like(test, np.nan), test, train,
                  shape=SHAPE)


# What each score catches.


def corrupted(name, draws, x_ND, y_N):
  """600 draws of a model that is right but for one thing, made of images x with classes y."""
  match name:
    case 'one class dropped':
      return x_ND[y_N != 3][:600]
    case 'class imbalance':
      p_N = np.where(y_N < 5, 9.0, 1.0)
      return x_ND[draws.choice(len(x_ND), 600, False, p_N / p_N.sum())]
    case 'noise':
      return np.clip(x_ND[:600] + 0.1 * draws.normal(size=(600, 64)), 0, 1)
    case 'blur':
      return scipy.ndimage.gaussian_filter(x_ND[:600].reshape(-1, 8, 8), (0, 0.5, 0.5)
                                           ).reshape(-1, 64)
    case 'fifty distinct images':
      return x_ND[draws.integers(0, 50, 600)]
    case 'nothing':
      return x_ND[:600]
  raise ValueError(name)


@pytest.fixture(name='z', scope='module')
def fixture_z():
  """(corruption) -> {score: z}: how much worse than real images, in standard deviations of a set.

  Grey digits of all splits, shuffled into 600 that are the reference and the rest.
  """
  dataset = data.load('digits')
  images_ND = np.concatenate([arrays.images for arrays in dataset[1:4]]).reshape(-1, 64) / 16
  labels_N = np.concatenate([arrays.labels for arrays in dataset[1:4]])

  def scores(name, num_sets):
    draws = np.random.default_rng(num_sets)
    for _ in range(num_sets):
      order = draws.permutation(len(images_ND))
      x_ND = corrupted(name, draws, images_ND[order[600:]], labels_N[order[600:]])
      yield samples.compare(*(jnp.asarray(z, jnp.float32) for z in (x_ND, images_ND[order[:600]])),
                            SHAPE)

  real = list(scores('nothing', 14))

  def z_scores(name):
    found = list(scores(name, 2))
    z = {}
    for score in real[0]:
      floor = [row[score] for row in real]
      sign = 1 if samples.BETTER[score.rsplit('_', 1)[0]] == 'lower' else -1
      z[score] = sign * (np.mean([row[score] for row in found]) - np.mean(floor)) / np.std(
        floor, ddof=1)
    return z

  return z_scores


BOTH = 'frechet', 'sliced_w2', 'mmd2'


def spaces(*names):
  return [f'{name}_{space}' for name in names for space in ('pixels', 'features')]


@pytest.mark.parametrize('corruption, catch, miss', [
  ('one class dropped', spaces(*BOTH, 'coverage'), spaces('precision', 'density')),
  ('class imbalance', spaces(*BOTH, 'coverage'), spaces('precision', 'density', 'recall')),
  ('noise', [*spaces(*BOTH), 'coverage_pixels', 'precision_pixels'], spaces('recall')),
  ('blur', spaces(*BOTH, 'recall'), ['precision_pixels', 'coverage_pixels']),
  ('fifty distinct images', spaces(*BOTH, 'coverage', 'recall'), spaces('precision', 'density'))])
def test_corruptions_are_caught(z, corruption, catch, miss):
  found = z(corruption)
  report = ', '.join(f'{name} {value:.1f}' for name, value in found.items())
  assert all(found[name] > 3 for name in catch), report
  assert all(found[name] < 3 for name in miss), report
