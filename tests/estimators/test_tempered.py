"""Negative phases from replicas: of the model whatever the ladder, and the life of a trajectory.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import fast_persistent, mean_field, persistent, tap
from gen_models.estimators.tempered import Rungs, tempered, trajectory
from gen_models.models import gibbs, rbm, units
from gen_models.models.machine import Machine
from gen_models.problems.rbm import BATCH, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

Y_BH = jnp.zeros((1, 4))


def frequencies(v_CV, params):
  oracle.assert_frequencies(oracle.index(v_CV), oracle.rbm_joint(params).p_AS.sum(1))


@pytest.mark.parametrize('negative', [
  tempered(2**14, rungs=3, steps=2), tempered(2**14, betas=[0.4, 1.0]), trajectory(2**14, rungs=4)])
def test_the_negative_phase_is_of_the_model(negative):
  memory = jax.jit(negative.init, static_argnums=1)(jax.random.key(0), rbm, PARAMS)

  @jax.jit
  def run(key, memory):
    def body(memory, key):
      drawn, memory = negative.sample(key, rbm, PARAMS, memory, Y_BH)
      return memory, drawn.metrics['swap_acceptance']
    memory, rates = jax.lax.scan(body, memory, jax.random.split(key, 25))
    return negative.sample(jax.random.fold_in(key, 99), rbm, PARAMS, memory, Y_BH)[0], rates

  with jax.debug_key_reuse(False):
    drawn, rates = run(jax.random.key(1), memory)
  frequencies(drawn.v_CV, PARAMS)
  np.testing.assert_allclose(drawn.y_CH, drawn.v_CV @ PARAMS.w_VH, rtol=1e-6)
  assert np.all((rates > 0) & (rates <= 1))


def moved(params, t):
  """Where training might be at time t: weights grow, biases keep the units balanced."""
  return jax.tree.map(lambda x: t * x, params)


def walk(negative, times, num_steps=6):
  """The memory after sampling along a training run, and the metrics of every update."""
  memory = jax.jit(negative.init, static_argnums=1)(jax.random.key(0), rbm, moved(PARAMS, times[0]))
  sample = jax.jit(lambda key, params, memory: negative.sample(key, rbm, params, memory, Y_BH))
  seen = []
  for i, t in enumerate(times):
    for j in range(num_steps):
      drawn, memory = sample(jax.random.key(100 * i + j), moved(PARAMS, t), memory)
      seen.append((float(drawn.metrics['snapshots']), float(drawn.metrics['swap_acceptance'])))
  return drawn, memory, np.array(seen)


def test_snapshots_are_taken_as_the_model_moves_away():
  negative = trajectory(256, rungs=4, threshold=0.8)
  _, memory, seen = walk(negative, np.linspace(0, 2, 41))
  assert seen[0, 0] == 1 and seen[-1, 0] == 3
  assert np.all(np.diff(seen[:, 0]) >= 0)
  # The first is never given up, and they stand in the order they were taken.
  norms = [float(jnp.linalg.norm(x)) for x in memory.shared.past_P.w_VH]
  assert norms[0] == 0 and np.all(np.diff(norms) > 0)
  assert memory.shared.rate_P.shape == (3,) and np.all(memory.shared.rate_P <= 1)


def test_after_snapshots_have_come_and_gone_samples_are_of_the_model():
  negative = trajectory(2**13, rungs=3, threshold=0.9)
  drawn, memory, seen = walk(negative, np.append(np.linspace(0, 1, 9), np.ones(4)))
  assert seen[-1, 0] == 2  # full, so some have gone
  frequencies(drawn.v_CV, PARAMS)
  # Every rung holds samples of its own machine.
  for r in range(2):
    past = jax.tree.map(lambda x, r=r: x[r], memory.shared.past_P)
    frequencies(memory.chains.v_CRV[:, r], past)


def test_a_model_that_stands_still_takes_no_snapshot():
  _, memory, seen = walk(trajectory(64, rungs=4), np.ones(5))
  assert np.all(seen[:, 0] == 1) and memory.shared.count == 1


# Two modes that block Gibbs never leaves: all on, all off, equally likely.
STUCK = rbm.Params(jnp.full((6, 6), 3.0), jnp.full(6, -9.0), jnp.full(6, -9.0))


def test_replicas_cross_where_gibbs_does_not():
  def share_on(negative, memory, num):
    def body(memory, key):
      drawn, memory = negative.sample(key, rbm, STUCK, memory, jnp.zeros((1, 6)))
      return memory, jnp.mean(drawn.v_CV)
    with jax.debug_key_reuse(False):
      return jax.jit(lambda m: jax.lax.scan(body, m, jax.random.split(jax.random.key(3), num)))(
        memory)[1][-20:].mean()

  off = jnp.zeros((128, 6))
  plain = persistent(128)
  stuck = jax.jit(plain.init, static_argnums=1)(jax.random.key(0), rbm, STUCK)
  stuck = stuck._replace(chains=gibbs.Chains(off, off))
  assert share_on(plain, stuck, 200) < 0.1
  negative = tempered(128, rungs=12)
  # From biases of 0, as data that are on half the time would set them.
  memory = jax.jit(negative.init, static_argnums=1)(jax.random.key(0), rbm, STUCK)
  memory = memory._replace(shared=jnp.zeros(6))
  zeros = jax.tree.map(jnp.zeros_like, memory.chains)
  assert 0.35 < share_on(negative, memory._replace(chains=zeros), 200) < 0.65


def test_chains_lead_in_memory():
  # What is split over devices is the leading axis.
  for negative in (tempered(8, rungs=3), trajectory(8, rungs=3)):
    memory = jax.jit(contrastive(rbm, negative).init)(jax.random.key(0), PARAMS)
    assert isinstance(memory.chains, Rungs)
    assert {x.shape[:2] for x in memory.chains} == {(8, 3)}
    assert memory.chains.at_model.v_CV.shape == (8, 5)


@pytest.mark.parametrize('make, message', [
  (lambda: tempered(0), 'chains >= 1'), (lambda: tempered(4, rungs=1), 'rungs >= 2'),
  (lambda: tempered(4, betas=[0.0, 0.5]), 'ends at 1'),
  (lambda: tempered(4, betas=[0.5, 0.2, 1.0]), 'ends at 1'),
  (lambda: trajectory(4, rungs=2), 'rungs >= 3'), (lambda: tempered(4, steps=0), 'steps >= 1'),
  (lambda: tempered(4).init(jax.random.key(0), Machine(units.BERNOULLI, units.LINEAR), PARAMS),
   'Bernoulli units'),
  (lambda: contrastive(rbm, tempered(4), last_half_step='means'), "not 'means'")])
def test_impossible_choices_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_gradients_are_finite_with_a_batch():
  for negative in (tempered(4, rungs=3), trajectory(4, rungs=3)):
    estimator = contrastive(rbm, negative)
    memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)
    grads, _, metrics = jax.jit(estimator.grad)(jax.random.key(1), PARAMS, memory, BATCH)
    assert all(np.all(np.isfinite(g)) for g in grads) and 0 < metrics['swap_acceptance'] <= 1


@pytest.mark.parametrize('negative', [
  mean_field(8), tap(8), persistent(8), fast_persistent(8), tempered(8, rungs=3),
  trajectory(8, rungs=3)])
def test_half_of_the_chains_make_half_of_the_gradient(negative):
  # What a device holds under pmap is a share of the chains; means are taken after.
  estimator = contrastive(rbm, negative)
  memory = jax.jit(estimator.init)(jax.random.key(0), PARAMS)
  halves = [memory._replace(chains=jax.tree.map(lambda x, i=i: x[4 * i:4 * i + 4], memory.chains))
            for i in range(2)]
  draw = jax.jit(jax.vmap(lambda key, memory: estimator.grad(key, PARAMS, memory, BATCH)[0],
                          (0, None)))
  keys = jax.random.split(jax.random.key(1), 2**12)
  with jax.debug_key_reuse(False):
    means = [np.concatenate([np.reshape(g, (len(keys), -1)) for g in draw(keys, m)], axis=1)
             for m in (memory, *halves)]
  error_D = np.maximum(np.sqrt(sum(m.var(0) for m in means) / len(keys)), 1e-5)
  z_D = np.abs(means[0].mean(0) - (means[1].mean(0) + means[2].mean(0)) / 2) / error_D
  # 29 coordinates beyond 6 standard errors by chance: one key in 10^7.
  assert z_D.max() < 6
