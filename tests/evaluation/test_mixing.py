"""Mixing of the chains behind draws: a machine that forgets at once, and one that never does."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation import mixing
from gen_models.models import dbn, rbm

PIXELS = 6
# Two hidden units that pull all pixels up and down against each other, and two that do nothing.
STUCK = rbm.Params(jnp.tile(jnp.float32([20, -20]), (PIXELS, 1)), jnp.zeros(PIXELS),
                   jnp.float32([-10 * PIXELS, 10 * PIXELS]))
FREE = rbm.Params(jnp.zeros((PIXELS, 2)), jnp.zeros(PIXELS), jnp.zeros(2))
IMAGES = jnp.float32([[0] * PIXELS, [1] * PIXELS])


def scores(top, labels=(0, 1), num_looks=10):
  label_N = None if labels is None else jnp.int32(labels)
  return mixing.scores(jax.random.key(0), dbn.Params((top,)), IMAGES, label_N,
                       num_classes=2, num_chains=50, gibbs_steps=3, num_steps=40,
                       num_looks=num_looks)


def test_chains_that_stay_in_a_mode_visit_one_class():
  found = scores(STUCK)
  assert found['autocorrelation_time'] > 60
  assert found['classes_visited'] == 1 < found['classes_independent']


def test_chains_that_forget_at_once_have_no_autocorrelation():
  # Every image is E[v | h], here grey: as near to either class as chains can be.
  assert scores(FREE)['autocorrelation_time'] < 3
  assert set(scores(FREE, labels=None)) == {'autocorrelation_time'}


def test_visited_classes_against_counting():
  class_SC = np.array([[0, 2, 1], [0, 2, 2], [0, 1, 1], [0, 2, 0]])
  seen, independent = mixing.visited(class_SC, 4)
  assert seen == (1 + 2 + 3) / 3
  p_Q = np.array([5, 3, 4, 0]) / 12
  np.testing.assert_allclose(independent, sum(1 - (1 - p_Q)**4))
