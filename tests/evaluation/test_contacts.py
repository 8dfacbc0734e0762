"""Couplings and contacts of alignments, on sequences whose couplings are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import contacts
from gen_models.models import units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine


def test_frequencies_are_counts_with_weights_and_pseudo_counts():
  v_ND = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
  f_D, f_DD = contacts.frequencies(v_ND, [2, 1, 1])
  np.testing.assert_allclose(f_D, [0.75, 0.25, 0.25, 0.75])
  np.testing.assert_allclose(f_DD[:2, 2:], [[0.25, 0.5], [0.0, 0.25]])
  f_D, f_DD = contacts.frequencies(v_ND, [2, 1, 1], 0.5, 2)
  np.testing.assert_allclose(f_D, [0.625, 0.375, 0.375, 0.625])
  np.testing.assert_allclose(f_DD[:2, 2:], [[0.25, 0.375], [0.125, 0.25]])
  np.testing.assert_allclose(f_DD[:2, :2], np.diag(f_D[:2]))


def test_mean_field_finds_the_pair_that_is_coupled():
  draws = np.random.default_rng(0)
  x_NL = draws.integers(0, 4, (4000, 8))
  same = draws.random(4000) < 0.7
  x_NL[same, 6] = x_NL[same, 1]
  v_ND = np.eye(4)[x_NL].reshape(4000, 32)
  s_LL = contacts.scores(contacts.mean_field(v_ND, None, 4))
  np.testing.assert_allclose(s_LL, s_LL.T, atol=1e-9)
  assert np.unravel_index(np.argmax(s_LL), s_LL.shape) in ((1, 6), (6, 1))
  touch_LL = np.zeros((8, 8), bool)
  touch_LL[1, 6] = touch_LL[6, 1] = True
  found = contacts.agreement(s_LL, touch_LL)
  assert found['contact_average_precision'] == 1.0
  assert found['contact_precision_half_L'] == 0.25


def test_scores_do_not_depend_on_the_gauge_and_leave_out_the_gap():
  j = np.random.default_rng(1).normal(size=(7, 3, 7, 3))
  j = j + j.transpose(2, 3, 0, 1)
  other = j + np.random.default_rng(2).normal(size=(7, 3, 7, 1))
  np.testing.assert_allclose(contacts.scores(j), contacts.scores(other), atol=1e-9)
  # Without the gap: what is left of the norm in the zero-sum gauge.
  gauged = j - j.mean(1, keepdims=True)
  gauged = gauged - gauged.mean(3, keepdims=True)
  f_LL = np.sqrt((gauged[:, :2, :, :2]**2).sum((1, 3))) * (1 - np.eye(7))
  expected = f_LL - np.outer(f_LL.mean(0), f_LL.mean(0)) / f_LL.mean()
  np.testing.assert_allclose(contacts.scores(j, gap=2), expected * (1 - np.eye(7)), atol=1e-9)


def test_effective_couplings_are_the_mean_curvature_of_the_free_energy():
  machine = Machine(units.Categorical(3), DoubleRectified())
  params = machine.init(jax.random.key(0), 9, 2, scale=0.7)
  params = params._replace(c_H=params.c_H._replace(gap_D=jnp.full(2, 0.5)))
  v_ND = np.float32(np.eye(3)[np.random.default_rng(3).integers(0, 3, (5, 3))].reshape(5, 9))
  weights_N = np.array([1.0, 2.0, 0.5, 1.0, 1.0])
  curvature = jax.vmap(jax.hessian(
    lambda v_V: -machine.free_energy(params, v_V[None])[0]))(jnp.asarray(v_ND))
  expected = np.average(curvature, axis=0, weights=weights_N).reshape(3, 3, 3, 3)
  np.testing.assert_allclose(contacts.effective(machine, params, v_ND, weights_N), expected,
                             rtol=1e-3, atol=1e-4)


def test_precision_counts_the_best_pairs():
  s_LL, touch_LL = np.zeros((12, 12)), np.zeros((12, 12), bool)
  order = [(0, 11, True), (1, 10, True), (2, 9, False), (0, 6, True)]
  for rank, (i, j, touches) in enumerate(order):
    s_LL[i, j], touch_LL[i, j] = 10 - rank, touches
  s_LL[3, 4], touch_LL[3, 4] = 99, True  # too near to count
  found = contacts.agreement(s_LL, touch_LL)
  np.testing.assert_allclose(found['contact_precision_half_L'], 3 / 6)
  np.testing.assert_allclose(found['contact_average_precision'], (1 + 1 + 3 / 4) / 3)
  with pytest.raises(ValueError, match='contacts of the columns of this'):
    contacts.agreement(s_LL, touch_LL[:5, :5])
  with pytest.raises(ValueError, match='no two columns'):
    contacts.agreement(s_LL, np.zeros((12, 12)))
