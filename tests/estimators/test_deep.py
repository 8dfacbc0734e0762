"""Gradients of deep Boltzmann machines: the parts that the battery's audits do not look at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.deep import (
  coupled_posterior,
  deep,
  duplicated,
  mean_field_posterior,
)
from gen_models.estimators.directions import PLAIN, centred, connected, natural, standardised
from gen_models.estimators.negative import coupled, persistent
from gen_models.models import dbm, rbm, units
from gen_models.problems import catalogue, dbm as problems
from tests import oracle
from tests.models import deep_boltzmann


@pytest.mark.parametrize('model, params', [
  (problems.MODEL, problems.PARAMS), (problems.DEEP, problems.DEEP_PARAMS),
  (problems.LABELLED, problems.LABELLED_PARAMS)], ids=['two', 'deep', 'labelled'])
def test_burn_in_is_long_enough(model, params):
  exact = deep_boltzmann.exact(model, params)
  layers = [np.repeat(exact.v_AV, len(exact.x_SD[0]), axis=0),
            *(np.tile(x, (len(exact.v_AV), 1)) for x in exact.x_SD)]
  even, odd = (np.unique(np.concatenate(layers[first::2], axis=1), axis=0, return_inverse=True)[1]
               for first in (0, 1))
  p_AS = np.zeros((even.max() + 1, odd.max() + 1))
  np.add.at(p_AS, (even.ravel(), odd.ravel()), exact.p_AS.ravel())
  kernel_SS = oracle.gibbs_kernel(oracle.Joint(None, None, p_AS, 0.0))
  assert np.sort(np.abs(np.linalg.eigvals(kernel_SS)))[-2] < 0.72
  assert 0.72**problems.BURN_IN < 1e-4


def test_the_bound_has_another_gradient_than_the_likelihood():
  # Else the battery could not tell one target from the other.
  of_bound, of_likelihood = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(
    catalogue.exact_grads(problem))])
    for problem in (problems.DBM_BOUND, problems.DBM))
  assert np.linalg.norm(of_bound - of_likelihood) > 0.05
  assert problems.DBM_BOUND.loss(problems.PARAMS, problems.BATCH) > (
    problems.DBM.loss(problems.PARAMS, problems.BATCH))


@pytest.mark.parametrize('direction', [
  centred(0.1), standardised(0.1), natural(0.1, 0.1)], ids=['centred', 'standardised', 'natural'])
def test_what_is_not_a_parameter_takes_no_part_in_a_direction(direction):
  # A machine of two layers cut in half: each half's direction is that of the half by itself.
  draws = np.random.default_rng(0)

  def some(*shape):
    return jnp.asarray(draws.random(shape), jnp.float32)

  whole, mask = rbm.Params(some(4, 6), some(4), some(6)), np.kron(np.eye(2), np.ones((2, 3)))
  whole = whole._replace(w_VH=whole.w_VH * mask)
  memory = jax.tree.map(lambda x: x + some(*x.shape), direction.init(rbm, whole))
  found = connected(direction, jnp.float32(mask)).apply(whole, memory)
  for rows, columns in ((slice(2), slice(3)), (slice(2, 4), slice(3, 6))):
    def half(x, rows=rows, columns=columns):
      return x[rows, columns] if x.ndim == 2 else x[rows if len(x) == 4 else columns]

    part = direction.apply(rbm.Params(*map(half, whole)), jax.tree.map(half, memory))
    for a, b in zip(part, map(half, found), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert not np.any(found.w_VH[:2, 3:]) and connected(PLAIN, mask) is PLAIN


def test_pairs_with_the_data_held_meet():
  positive = coupled_posterior(problems.MODEL, steps=3)
  folded = problems.MODEL.fold(problems.PARAMS)
  drawn = jax.jit(lambda key: positive(key, rbm, folded, problems.BATCH))(jax.random.key(0))
  assert drawn.metrics['posterior_met'] == 1 and drawn.metrics['posterior_steps'] > 1
  np.testing.assert_array_equal(drawn.v_CV[:, :4], problems.BATCH)
  given_up = jax.jit(lambda key: coupled_posterior(problems.MODEL, 1, 2)(
    key, rbm, folded, jnp.tile(problems.BATCH, (50, 1))))(jax.random.key(1))
  assert 0 < given_up.metrics['posterior_met'] < 1


def test_metrics_say_how_far_mean_field_came():
  estimator = deep(problems.MODEL, mean_field_posterior(problems.MODEL, max_iterations=2),
                   persistent(chains=3))
  memory = jax.jit(estimator.init)(jax.random.key(0), problems.PARAMS)
  _, _, metrics = jax.jit(estimator.grad)(
    jax.random.key(1), problems.PARAMS, memory, problems.BATCH)
  assert metrics['posterior_iterations'] == 2 and metrics['posterior_change'] > 1e-3


def test_real_data_below_bernoulli_layers_have_a_gradient():
  # Of the bound, log Z enumerated over x_1 and x_2 and integrated over v; persistent chains are
  # replaced by exact draws through many steps, so the mean over many chains is compared.
  model = dbm.model((2, 2, 2), units.LINEAR)
  params = deep_boltzmann.params_of(model, 0.4, seed=3)
  v_BV = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)), jnp.float32)
  estimator = deep(model, mean_field_posterior(model, tolerance=1e-5),
                   persistent(chains=20_000, steps=15))

  def loss(params):
    q = jax.lax.stop_gradient(model.posterior(params, v_BV, tolerance=1e-5))
    m_BE, m_BO = model.posterior_means(jax.lax.stop_gradient(params), q)
    x = model.split(jnp.concatenate([v_BV, m_BE], axis=1), m_BO)
    return jnp.mean(model.energy(params, x)) + model.log_partition(params)

  memory = jax.jit(estimator.init)(jax.random.key(0), params)
  found, _, _ = jax.jit(estimator.grad)(jax.random.key(1), params, memory, v_BV)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(jax.grad(loss)(params)), strict=True):
    np.testing.assert_allclose(a, b, atol=0.05)


def test_duplicates_of_one_are_the_estimator_itself():
  estimator = contrastive(rbm, persistent(chains=3))
  params = rbm.init(jax.random.key(0), 4, 3, scale=1.0)
  memory = jax.jit(estimator.init)(jax.random.key(1), params)
  plain, single = (each.grad(jax.random.key(2), params, memory, problems.BATCH)[0]
                   for each in (estimator, duplicated(estimator, 1, 1)))
  for a, b in zip(plain, single, strict=True):
    np.testing.assert_array_equal(a, b)


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match='max_steps > steps'):
    coupled_posterior(problems.MODEL, 3, 3)
  with pytest.raises(ValueError, match='steps >= 1'):
    mean_field_posterior(problems.MODEL, max_iterations=0)
  labelled = deep(problems.LABELLED, coupled_posterior(problems.LABELLED), persistent(chains=2))
  memory = jax.jit(labelled.init)(jax.random.key(0), problems.LABELLED_PARAMS)
  with pytest.raises(ValueError, match='Bernoulli units'):
    labelled.grad(jax.random.key(0), problems.LABELLED_PARAMS, memory, problems.BATCH[:, :3])
  with pytest.raises(ValueError, match='Bernoulli units'):
    deep(problems.LABELLED, mean_field_posterior(problems.LABELLED), coupled(chains=2)).init(
      jax.random.key(0), problems.LABELLED_PARAMS)
