"""Indices that a user gives are refused where JAX would clamp them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import dbn as dbn_experiment
from gen_models import indices
from gen_models.models import dbn, label_rbm, mixture, rbm


@pytest.mark.parametrize('index', [-1, 3, np.int64(3), np.array([0, 3]), np.array([-1, 0])])
def test_what_is_out_of_range_is_refused(index):
  with pytest.raises(ValueError, match=r'--label=(-1|3): there are 3 classes, counted from 0'):
    indices.check('--label', index, 3, 'classes')


def test_what_is_in_range_or_not_known_yet_is_let_through():
  for index in (0, 2, np.int32(2), np.array([0, 2]), np.array([], int), None):
    indices.check('label', index, 3, 'classes')
  jax.jit(lambda y: indices.check('label', y, 3, 'classes'))(7)


@pytest.mark.parametrize('label', [-1, 2, 12])
def test_no_model_draws_a_class_that_it_does_not_have(label):
  keys = iter(jax.random.split(jax.random.key(0), 5))
  machine = rbm.init(next(keys), 6, 3, jnp.full(6, 0.5))
  with pytest.raises(ValueError, match='there are 2 classes'):
    label_rbm.given_label(machine, 2, label)
  with pytest.raises(ValueError, match='there are 2 classes'):
    mixture.sample(next(keys), mixture.init(next(keys), jnp.full((4, 5), 0.5), 2), 3, label)
  stack = dbn.Params((rbm.init(next(keys), 5, 4, jnp.full(5, 0.5)), machine))
  assert dbn.num_labels_of(stack) == 2
  with pytest.raises(ValueError, match='there are 2 classes'):
    dbn_experiment.sampler((1, 5), 1)(next(keys), stack, 3, label)
