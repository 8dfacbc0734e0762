"""Moments of rows against their definition."""

import itertools

import numpy as np
import pytest

from gen_models.evaluation import moments


@pytest.mark.parametrize('group', [1, 2])
def test_moments_are_those_of_the_definition(group):
  draws = np.random.default_rng(0)
  x_ND, weights_N = draws.random((30, 6)), draws.random(30)
  found = moments.moments(x_ND, weights_N, group=group)
  share_N = weights_N / weights_N.sum()
  mean_D = share_N @ x_ND
  about_ND = x_ND - mean_D
  np.testing.assert_allclose(found.first, mean_D, rtol=1e-5)
  pairs = [(i, j) for i, j in itertools.combinations(range(6), 2) if i // group != j // group]
  np.testing.assert_allclose(
    found.second, [share_N @ (about_ND[:, i] * about_ND[:, j]) for i, j in pairs], atol=1e-6)
  triples = [t for t in itertools.combinations(range(6), 3)
             if len({i // group for i in t}) == 3]
  expected = [share_N @ np.prod(about_ND[:, t], axis=1) for t in triples]
  np.testing.assert_allclose(np.sort(found.third), np.sort(expected), atol=1e-6)


def test_agreement_is_one_with_itself_and_low_with_strangers():
  draws = np.random.default_rng(1)
  common_N1 = draws.random((2000, 1)) < 0.5
  data = moments.moments((draws.random((2000, 10)) < 0.2 + 0.5 * common_N1).astype(float))
  assert moments.agreement(data, data) == pytest.approx(
    {f'{order}_moment_correlation': 1.0 for order in moments.ORDERS})
  alone = moments.moments((draws.random((2000, 10)) < 0.45).astype(float))
  assert abs(moments.agreement(alone, data)['second_moment_correlation']) < 0.5
  assert moments.agreement(moments.moments(np.zeros((4, 10))), data) == {
    f'{order}_moment_correlation': 0.0 for order in moments.ORDERS}


def test_active_units_are_counted():
  p_K = moments.active([[0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
  np.testing.assert_allclose(p_K, [0.25, 0.5, 0.25, 0])
  assert moments.total_variation(p_K, [0.25, 0.25, 0.5, 0]) == 0.25
