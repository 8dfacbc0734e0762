"""Directions: gradients of reparametrised machines, against those machines written out.

Everything is enumerated or given; chance decides nothing.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators import base
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import (
  PLAIN,
  Moments,
  Offsets,
  Rows,
  Scales,
  centred,
  enhanced,
  natural,
  standardised,
)
from gen_models.estimators.negative import Drawn, Negative
from gen_models.models import rbm
from gen_models.problems.machine import GAUSSIAN, GAUSSIAN_PROBLEM
from gen_models.problems.rbm import BATCH, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

DIRECTIONS = {'centred': centred(0.5), 'enhanced': enhanced(0.5),
              'standardised': standardised(0.5), 'natural': natural(0.5)}
every_direction = pytest.mark.parametrize('name', DIRECTIONS)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def some_rows(sizes=(5, 4), seed=0) -> Rows:
  draws = np.random.default_rng(seed)
  v_BV, v_CV = (jnp.asarray(draws.random((n, sizes[0])) < 0.6, jnp.float32) for n in (7, 9))
  p_BH, p_CH = (jnp.asarray(draws.random((n, sizes[1])), jnp.float32) for n in (7, 9))
  return Rows(v_BV, p_BH, v_CV, p_CH, p_CH)


def some_grads(params, seed):
  draws = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.asarray(draws.normal(size=x.shape), jnp.float32), params)


@every_direction
@pytest.mark.parametrize('model, params', [(rbm, PARAMS), (GAUSSIAN, GAUSSIAN_PROBLEM.params)])
def test_a_direction_is_linear(name, model, params):
  direction = DIRECTIONS[name]
  state = direction.init(model, params)
  for seed in range(2):
    state = direction.update(state, some_rows(params.w_VH.shape, seed))
  one, other = some_grads(params, 1), some_grads(params, 2)
  both = direction.apply(jax.tree.map(lambda a, b: 2 * a - 3 * b, one, other), state)
  apart = jax.tree.map(lambda a, b: 2 * a - 3 * b,
                       direction.apply(one, state), direction.apply(other, state))
  for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(apart), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  # Nor is it the plain gradient.
  assert np.abs(np.asarray(direction.apply(one, state).w_VH - one.w_VH)).max() > 0.1


def fixed(v_CV, p_CH):
  """A negative phase without chance."""
  y_CH = jnp.asarray(np.log(p_CH / (1 - p_CH)) - PARAMS.c_H, jnp.float32)
  return Negative(lambda key, model, params: base.Memory(),
                  lambda key, model, params, memory, y_BH: (Drawn(v_CV, y_CH), memory), biased=True)


@every_direction
def test_what_is_remembered_is_from_before_the_batch(name):
  direction, rows = DIRECTIONS[name], some_rows()
  negative = fixed(rows.v_CV, np.asarray(rows.p_CH))
  plain, chosen = (contrastive(rbm, negative, direction=d) for d in (PLAIN, direction))
  grads, _, _ = plain.grad(
    jax.random.key(0), PARAMS, jax.jit(plain.init)(jax.random.key(1), PARAMS), BATCH)
  state = direction.init(rbm, PARAMS)
  p_BH = rbm.hidden_mean(PARAMS, BATCH)
  seen = Rows(BATCH, p_BH, rows.v_CV, rows.p_CH, rows.p_CH)
  memory = jax.jit(chosen.init)(jax.random.key(1), PARAMS)
  grad = jax.jit(chosen.grad)
  for t in range(2):
    expected = direction.apply(grads, state)
    before = memory
    found, memory, _ = grad(jax.random.key(t), PARAMS, before, BATCH)
    state = direction.update(state, seen)
    target = chosen.target(grads, PARAMS, before)
    for a, b, c in zip(found, expected, target, strict=True):
      np.testing.assert_allclose(a, b, atol=2e-5)
      np.testing.assert_allclose(c, b, atol=2e-5)
    for a, b in zip(jax.tree.leaves(memory.shared.direction), jax.tree.leaves(state), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(np.asarray(direction.apply(grads, state).w_VH - expected[0])).max() > 1e-3


# The gradient in a machine of other units, mapped back.


def reparametrised_step(grads, mu_V, lambda_H, s_V, t_H, of_w, of_v, of_h):
  """What a small step along the gradient in the machine of (v - mu) / s, (h - lambda) / t does to
  (W, b, c), to first order in the step.

  Its parameters are W' = s W t, b' = s (b + W.lambda), c' = t (c + mu.W), so W = W' / (s t),
  b = b' / s - W.lambda, c = c' / t - mu.W: jax.vjp takes the gradient there, jax.jvp the step back;
  `of_*` scale the step in each.
  """
  with jax.enable_x64(True):
    grads = jax.tree.map(lambda g: jnp.asarray(np.asarray(g, np.float64)), grads)

    def original(w_VH, b_V, c_H):
      w_VH = w_VH / np.outer(s_V, t_H)
      return rbm.Params(w_VH, b_V / s_V - w_VH @ lambda_H, c_H / t_H - mu_V @ w_VH)

    w_VH, b_V, c_H = (jnp.asarray(x) for x in oracle.float64(PARAMS))
    there = (w_VH * np.outer(s_V, t_H), s_V * (b_V + w_VH @ lambda_H), t_H * (c_H + mu_V @ w_VH))
    back, pull = jax.vjp(original, *there)
    for a, b in zip(back, (w_VH, b_V, c_H), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-12)
    step = tuple(scale * g for scale, g in zip((of_w, of_v, of_h), pull(grads), strict=True))
    return jax.jvp(original, there, step)[1]


MU, LAMBDA = np.linspace(0.1, 0.9, 5), np.linspace(0.2, 0.6, 4)
S, T = np.linspace(0.5, 0.3, 5), np.linspace(0.2, 0.45, 4)


def offsets(v_V, h_H):
  return Offsets(jnp.asarray(v_V, jnp.float32), jnp.asarray(h_H, jnp.float32))


@pytest.mark.parametrize('name', ['centred', 'enhanced', 'standardised', 'natural'])
def test_a_direction_is_the_gradient_of_the_reparametrised_machine(name):
  one_V, one_H, of = np.ones(5), np.ones(4), (1.0, 1.0, 1.0)
  mean = offsets(MU, LAMBDA)
  if name == 'standardised':
    direction, floor = standardised(0.5, floor=0.04), 0.04
    state = Scales(mean, offsets(MU**2 + S**2 - floor, LAMBDA**2 + T**2 - floor))
    scales = S, T
  elif name == 'natural':
    direction, scales = natural(0.5, damping=0.01), (one_V, one_H)
    draws = np.random.default_rng(3)
    first, variance = ([draws.random(x.shape) + 0.1 for x in PARAMS] for _ in range(2))
    state = jax.tree.map(jnp.float32, Moments(
      mean, tuple(first), tuple(v + f**2 for v, f in zip(variance, first, strict=True))))
    of = [1 / (v + 0.01) for v in variance]
  else:
    direction, state, scales = DIRECTIONS[name], mean, (one_V, one_H)
  grads = some_grads(PARAMS, 4)
  expected = reparametrised_step(grads, MU, LAMBDA, *scales, *of)
  for ours, theirs in zip(direction.apply(grads, state), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


# Which of two states is called 1.


def flipped(params, f_V, g_H):
  """The machine of v' = v where f = 0, 1 - v where f = 1, h' likewise by g: the same p."""
  w_VH, b_V, c_H = params
  s_V, t_H = 1 - 2 * f_V, 1 - 2 * g_H
  return rbm.Params(s_V[:, None] * w_VH * t_H, s_V * (b_V + w_VH @ g_H), t_H * (c_H + f_V @ w_VH))


def plain_moments(params, v_BV):
  """((<v h>, <v>, <h>) of data, of model), by enumeration."""
  w_VH, _, c_H = params
  joint = oracle.rbm_joint(params)
  p_BH = sigmoid(c_H + v_BV @ w_VH)
  return ((v_BV.T @ p_BH / len(v_BV), v_BV.mean(0), p_BH.mean(0)),
          (joint.v_AV.T @ joint.p_AS @ joint.h_SH, joint.p_AS.sum(1) @ joint.v_AV,
           joint.p_AS.sum(0) @ joint.h_SH))


def test_the_enhanced_weights_are_the_weighted_sum_over_all_flips():
  # Cho, Raiko & Ilin (2011): every flip's gradient mapped back, weighted by the chance of the
  # flip, each unit's its mean over data and model: Cov_data - Cov_model.
  draws = np.random.default_rng(5)
  params = rbm.Params(draws.normal(size=(2, 2)), np.array([-1.5, -0.5]), np.array([0.4, -0.6]))
  v_BV = np.array([[1.0, 1], [1, 1], [0, 0], [1, 1]])
  data, model = plain_moments(params, v_BV)
  mean_V, mean_H = ((d + m) / 2 for d, m in zip(data[1:], model[1:], strict=True))
  total_VH, weights = np.zeros((2, 2)), 0.0
  for bits in itertools.product((0.0, 1.0), repeat=4):
    f_V, g_H = np.array(bits[:2]), np.array(bits[2:])
    weight = np.prod(np.where(np.array(bits) == 1, *(
      np.r_[mean_V, mean_H], 1 - np.r_[mean_V, mean_H])))
    turned = flipped(params, f_V, g_H)
    of_data, of_model = plain_moments(turned, np.abs(f_V - v_BV))
    # W' = s W t, so a step in W' is s t times that in W.
    total_VH += weight * np.outer(1 - 2 * f_V, 1 - 2 * g_H) * (of_data[0] - of_model[0])
    weights += weight
  np.testing.assert_allclose(weights, 1, atol=1e-12)
  grads = rbm.Params(*(jnp.float32(m - d) for d, m in zip(data, model, strict=True)))
  ours = enhanced().apply(grads, offsets(mean_V, mean_H))
  np.testing.assert_allclose(-ours.w_VH, total_VH, atol=1e-6)
  covariances = [m[0] - np.outer(m[1], m[2]) for m in (data, model)]
  np.testing.assert_allclose(total_VH, covariances[0] - covariances[1], atol=1e-12)
  assert np.abs(np.asarray(ours.w_VH - grads.w_VH)).max() > 0.05


def trained(name, params, v_BV, num_steps=8, learning_rate=0.7):
  """mean log p(data) after each step of exact gradients with exact offsets."""
  nats = []
  for _ in range(num_steps):
    data, model = plain_moments(params, v_BV)
    grads = rbm.Params(*(jnp.float32(m - d) for d, m in zip(data, model, strict=True)))
    if name == 'centred':
      grads = centred().apply(grads, offsets(*data[1:]))
    elif name == 'enhanced':
      grads = enhanced().apply(grads, offsets(*((d + m) / 2 for d, m in zip(
        data[1:], model[1:], strict=True))))
    params = rbm.Params(*(p - learning_rate * np.asarray(g, np.float64)
                          for p, g in zip(params, grads, strict=True)))
    joint = oracle.rbm_joint(params)
    nats.append(np.log(joint.p_AS.sum(1)[oracle.index(v_BV)]).mean())
  return np.array(nats)


@pytest.mark.parametrize('name', ['plain', 'centred', 'enhanced'])
def test_training_does_not_depend_on_what_is_called_one(name):
  params, v_BV = oracle.float64(PARAMS), np.asarray(BATCH, np.float64)
  f_V, g_H = np.array([1.0, 0, 1, 1, 1]), np.array([0.0, 1, 1, 0])
  as_it_is = trained(name, params, v_BV)
  turned = trained(name, flipped(params, f_V, g_H), np.abs(f_V - v_BV))
  assert as_it_is[-1] > as_it_is[0] + 0.1
  if name == 'plain':
    assert np.abs(as_it_is - turned).max() > 0.05
  else:
    np.testing.assert_allclose(as_it_is, turned, atol=1e-5)


def test_the_fisher_information_is_that_of_the_model():
  # 2^14 negative samples, each state as often as p(v) says: moments are exact to some 10^-4.
  joint = oracle.rbm_joint(PARAMS)
  p_A = joint.p_AS.sum(1)
  counts_A = np.diff(np.round(np.r_[0, np.cumsum(p_A)] * 2**14)).astype(int)
  v_CV = jnp.asarray(np.repeat(joint.v_AV, counts_A, axis=0), jnp.float32)
  p_CH = rbm.hidden_mean(PARAMS, v_CV)
  rows = Rows(BATCH, rbm.hidden_mean(PARAMS, BATCH), v_CV, p_CH, p_CH)
  direction = natural(rate=1.0, damping=0.02)
  state = direction.update(direction.update(direction.init(rbm, PARAMS), rows), rows)

  mu_V, lambda_H = (np.asarray(x, np.float64).mean(0) for x in rows[:2])
  v_AV, h_SH = joint.v_AV - mu_V, joint.h_SH - lambda_H
  first_VH, second_VH = v_AV.T @ joint.p_AS @ h_SH, (v_AV**2).T @ joint.p_AS @ h_SH**2
  m_V, m_H = p_A @ joint.v_AV, joint.p_AS.sum(0) @ joint.h_SH
  fisher = second_VH - first_VH**2, m_V * (1 - m_V), m_H * (1 - m_H)
  assert fisher[0].min() < 0.1 < 0.2 < fisher[1].max()
  for first, second, exact in zip(state.first, state.second, fisher, strict=True):
    np.testing.assert_allclose(second - first**2, exact, atol=5e-4)
  # And W is divided by it.
  grads = some_grads(PARAMS, 6)
  ours = direction.apply(grads, state).w_VH
  plain = centred().apply(grads, state.mean).w_VH
  np.testing.assert_allclose(ours, plain / (fisher[0] + 0.02), rtol=0.01, atol=1e-3)


def test_moving_averages_move_at_their_rate():
  rows = some_rows()
  for direction, means in (
      (centred(0.25), (rows.v_BV.mean(0), rows.p_BH.mean(0))),
      (enhanced(0.25), ((rows.v_BV.mean(0) + rows.v_CV.mean(0)) / 2,
                        (rows.p_BH.mean(0) + rows.p_CH.mean(0)) / 2))):
    start = direction.init(rbm, PARAMS)
    np.testing.assert_allclose(start.v_V, sigmoid(oracle.float64(PARAMS).b_V), rtol=1e-5)
    np.testing.assert_allclose(start.h_H, sigmoid(oracle.float64(PARAMS).c_H), rtol=1e-5)
    for old, new, mean in zip(start, direction.update(start, rows), means, strict=True):
      np.testing.assert_allclose(new, 0.75 * old + 0.25 * mean, atol=1e-6)
  scales = standardised(0.25)
  after = scales.update(scales.init(rbm, PARAMS), rows)
  mean_V, start_V = np.asarray(rows.v_BV).mean(0), sigmoid(oracle.float64(PARAMS).b_V)
  np.testing.assert_allclose(
    after.square.v_V, 0.75 * (start_V**2 + 1) + 0.25 * mean_V, rtol=1e-5)  # v^2 = v


def test_no_rate_is_the_plain_gradient():
  assert centred(None) is PLAIN
  assert contrastive(rbm, fixed(jnp.ones((2, 5)), np.full((2, 4), 0.5))).target is None
