"""Scores in features of trained networks: closed forms, bias in N, intervals, the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import adapters, feature_scores, samples

MEAN_F = np.array([0.5, 0, 0, 0, 0, 0, 0, 0])
SD_F = np.array([1.5, 1, 1, 1, 1, 1, 1, 0.5])
TRUE = 0.25 + 0.25 + 0.25  # |m|^2 + sum (s - 1)^2


def pair(seed, num):
  rng = np.random.default_rng(seed)
  return MEAN_F + SD_F * rng.normal(size=(num, 8)), rng.normal(size=(num, 8))


def test_kid_by_loops_and_unbiased():
  x_NF, y_MF = (np.float32(z) for z in (pair(0, 7)[0], pair(1, 9)[1]))

  def k(a, b):
    return (a @ b / 8 + 1)**3

  def others(z):
    return np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])

  expected = others(x_NF) + others(y_MF) - 2 * np.mean([[k(a, b) for b in y_MF] for a in x_NF])
  np.testing.assert_allclose(feature_scores.kid(x_NF, y_MF), expected, rtol=1e-4, atol=1e-5)


def test_inception_score_of_known_classes():
  one_hot = 50 * np.eye(10)[np.arange(1000) % 10]
  np.testing.assert_allclose(feature_scores.inception_score(one_hot), 10, rtol=1e-6)
  np.testing.assert_allclose(feature_scores.inception_score(np.ones((9, 10))), 1, rtol=1e-6)
  # Two rows with (3/4, 1/4) and (1/4, 3/4): exp(log 2 - the entropy of either).
  logits = np.log([[3.0, 1], [1, 3]])
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  np.testing.assert_allclose(feature_scores.inception_score(logits), 2 / np.exp(entropy), rtol=1e-6)


def test_the_limit_of_fid_has_no_bias():
  """30 pairs of sets of 300 from one Gaussian, whose distance to itself is 0. Error rate 1e-4."""
  finite, limits = [], []
  for seed in range(30):
    x_NF, y_NF = np.random.default_rng(seed).normal(size=(2, 300, 8))
    finite.append(samples.frechet(x_NF, y_NF))
    limits.append(feature_scores.infinite_frechet(jax.random.key(seed), x_NF, y_NF))
  error = np.std(limits) / np.sqrt(30)
  assert abs(np.mean(limits)) < 3.9 * error < 0.3 * np.mean(finite)
  assert feature_scores.infinite_frechet(jax.random.key(0), *pair(0, 31)) is None


@pytest.mark.slow
def test_intervals_contain_the_distance():
  """Of 60 intervals of 95 %: fewer than 49 that hold it would be seen once in 10,000 times."""
  holds = 0
  for seed in range(60):
    low, high = feature_scores.bootstrap(jax.random.key(seed), samples.frechet, *pair(seed, 300))
    holds += low < TRUE < high
  assert holds >= 49


def test_the_table_has_floors_sets_and_what_goes_with_fid():
  rng, w_DF = np.random.default_rng(0), np.random.default_rng(1).normal(size=(27, 4))
  space = adapters.Space('inception', jax.jit(lambda x: (
    x.reshape(len(x), -1) @ jnp.asarray(w_DF) / 255, x.reshape(len(x), -1)[:, :5])), 3, {})
  test_ND, train_ND = rng.uniform(size=(100, 4)), rng.uniform(size=(120, 4))
  lines = []
  table = feature_scores.table(
    jax.random.key(0), lambda key, n: np.asarray(jax.random.uniform(key, (n, 4)))**2, test_ND,
    train_ND, shape=(2, 2), space=space, cap=90, report=lines.append)
  assert set(table) == {f'{name}_inception' for name in feature_scores.BETTER}
  assert lines == ['reading 270 images with inception']
  for entry in table.values():
    assert entry['n'] == 30 and entry['num_sets'] == 3
    assert entry['low'] <= entry['value'] <= entry['high'] or np.isnan(entry['value'])
    assert entry['floor_low'] <= entry['floor'] <= entry['floor_high'] or np.isnan(entry['floor'])
  fid = table['frechet_inception']
  assert fid['n_of_all'] == 90 and fid['floor_infinite'] < 0.5 * fid['infinite']
  assert fid['interval'][0] < fid['infinite'] < fid['interval'][1]
  with pytest.raises(ValueError, match='too few'):
    feature_scores.table(jax.random.key(0), None, test_ND, train_ND, shape=(2, 2), space=space,
                         cap=20)
