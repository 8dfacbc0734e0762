"""Instance selection: the densest rows under a Gaussian."""

import numpy as np
import pytest

from gen_models import data


def test_outliers_go_first_whatever_the_scale_of_an_axis():
  rng = np.random.default_rng(0)
  h_ND = rng.normal(size=(200, 3)) @ np.diag([1.0, 100.0, 0.01])
  h_ND[[5, 17, 60]] = [[9, 0, 0], [0, 900, 0], [-9, 900, 0]]
  kept = data.densest_rows(h_ND, 0.985)
  np.testing.assert_array_equal(kept, np.delete(np.arange(200), [5, 17, 60]))
  # By Mahalanobis distance: of what is kept none is farther than what is not.
  distance_N = np.einsum('nd,dn->n', h_ND - h_ND.mean(0),
                         np.linalg.solve(np.cov(h_ND.T, bias=True), (h_ND - h_ND.mean(0)).T))
  half = data.densest_rows(h_ND, 0.5, ridge=0.0)
  assert len(half) == 100 and distance_N[half].max() <= np.delete(distance_N, half).min()


def test_features_that_do_not_vary_are_no_trouble():
  assert len(data.densest_rows(np.ones((10, 2)), 0.5)) == 5


@pytest.mark.parametrize('features, share, message', [
  (np.ones((4, 2)), 0.0, r'lies in \(0, 1\], not at 0.0'), (np.ones(4), 0.5, r'not an array \[4\]'),
  (np.full((4, 2), np.nan), 0.5, 'finite')])
def test_what_is_no_selection_is_refused(features, share, message):
  with pytest.raises(ValueError, match=message):
    data.densest_rows(features, share)
