"""Penalties against finite differences, and what some of them remember."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import estimators
from gen_models.estimators.critic_penalties import remembering

REAL, FAKE = (np.random.default_rng(i).normal(size=(6, 4)) for i in (1, 2))
NOISE = estimators.jitter(0.3)
PENALTIES = {
  'r1': estimators.r1(0.7), 'r2': estimators.r2(0.7),
  'gradient_penalty': estimators.gradient_penalty(2.0),
  'one_sided': estimators.gradient_penalty(2.0, 0.3, one_sided=True),
  'axes': estimators.gradient_penalty(2.0, shape=(2, 2), axes=(1,)),
  'zero_centred': estimators.zero_centred(2.0), 'dragan': estimators.dragan(2.0),
  'consistency': estimators.consistency(1.5, NOISE),
  'balanced_consistency': estimators.balanced_consistency(1.5, NOISE),
  'lecam': estimators.lecam(0.8), 'lazy': estimators.lazy(estimators.r1(0.7), 1),
}


def critic_of(w_D):
  """tanh in a layer of three, parameters as one vector of 15."""
  return lambda x_BV: jnp.tanh(x_BV @ w_D[:12].reshape(4, 3)) @ w_D[12:]


def test_gradients_are_finite_differences():
  w_D = np.random.default_rng(0).normal(size=15)

  def values(w_D):
    critic, found = critic_of(w_D), []
    for penalty in map(remembering, PENALTIES.values()):
      memory = penalty.init(jax.random.key(0))
      # LeCam's is 0 before there are averages.
      memory = jax.tree.map(lambda x: x + 0.2 if x.dtype.kind == 'f' else x, memory)
      found.append(penalty.value(jax.random.key(1), critic, REAL, FAKE, memory)[0])
    return jnp.stack(found)

  with jax.enable_x64(True), jax.debug_key_reuse(False):
    steps = 1e-5 * np.eye(15)
    ends = jax.jit(jax.vmap(values))(np.concatenate([w_D + steps, w_D - steps]))
    differences = (ends[:15] - ends[15:]).T / 2e-5
    found = jax.jit(jax.jacrev(values))(w_D)
    assert np.all(np.abs(found).max(axis=1) > 1e-2), 'a penalty that does nothing'
    np.testing.assert_allclose(found, differences, atol=1e-6)


def test_slopes_are_finite_differences():
  # The slope itself, not only how it changes: of r1 without anything else.
  w_D = np.random.default_rng(0).normal(size=15)
  with jax.enable_x64(True):
    critic = critic_of(jnp.asarray(w_D))
    steps = 1e-5 * np.eye(4)
    slopes_BV = np.stack([(critic(REAL + d) - critic(REAL - d)) / 2e-5 for d in steps], axis=1)
    found = estimators.r1(2.0)(jax.random.key(0), critic, jnp.asarray(REAL), jnp.asarray(FAKE))
    np.testing.assert_allclose(found, np.mean(np.sum(slopes_BV**2, axis=1)), rtol=1e-6)


def test_the_norm_is_over_the_axes_that_are_stated():
  w_YX = np.float32([[3.0, 4.0], [0.0, 1.0]])
  args = (lambda x_BV: x_BV @ w_YX.ravel(), np.float32(REAL), np.float32(FAKE))
  norms = {None: [np.sqrt(26)], (0,): [3.0, np.sqrt(17)], (1,): [5.0, 1.0], (0, 1): [np.sqrt(26)]}
  for axes, expected in norms.items():
    penalty = estimators.gradient_penalty(2.0, shape=(2, 2), axes=axes)
    np.testing.assert_allclose(penalty(jax.random.key(0), *args),
                               2 * np.mean((np.array(expected) - 1)**2), rtol=1e-5)
  # One-sided: slopes below the bound are free.
  assert estimators.gradient_penalty(2.0, 6.0, one_sided=True)(
    jax.random.key(0), *args) == 0
  np.testing.assert_allclose(estimators.zero_centred(2.0)(jax.random.key(0), *args), 2 * 26,
                             rtol=1e-5)


def test_lecam_remembers_averages():
  penalty, weight = estimators.lecam(0.8, decay=0.6), 0.8
  memory, real, fake, num = penalty.init(jax.random.key(0)), 0.0, 0.0, 0
  for step in range(5):
    x, y = (np.float32(rows[:, :1] + step) for rows in (REAL, FAKE))
    found, memory = penalty.value(jax.random.key(1), lambda x_BV: x_BV[:, 0], x, y, memory)
    expected = weight * (np.mean((x - fake)**2) + np.mean((y - real)**2)) if num else 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    keep = min(0.6, num / (num + 1))
    real, fake, num = (np.mean(x) + keep * (real - np.mean(x)),
                       np.mean(y) + keep * (fake - np.mean(y)), num + 1)
    np.testing.assert_allclose(memory[1:], [real, fake], rtol=1e-5)


def test_a_lazy_penalty_is_taken_at_every_third_move():
  lazy = estimators.lazy(estimators.r1(1.0), 3)
  args = (jax.random.key(0), lambda x_BV: x_BV @ jnp.arange(4.0), np.float32(REAL),
          np.float32(FAKE))
  full = float(estimators.r1(1.0)(*args))

  @jax.jit
  def run(seed):
    def step(memory, _):
      value, memory = lazy.value(*args, memory)
      return memory, value
    return jax.lax.scan(step, lazy.init(jax.random.key(seed)), length=7)[1]

  firsts = set()
  for seed in range(12):
    values = np.asarray(run(seed))
    firsts.add(first := int(np.argmax(values)))
    np.testing.assert_allclose(values, [3 * full * (i % 3 == first) for i in range(7)], rtol=1e-5)
  assert firsts == {0, 1, 2}


def test_weights_multiply():
  args = (jax.random.key(0), lambda x_BV: x_BV @ jnp.arange(4.0), np.float32(REAL),
          np.float32(FAKE))
  np.testing.assert_allclose(estimators.scaled(3.0, estimators.r1(0.5))(*args),
                             estimators.r1(1.5)(*args), rtol=1e-6)
  scaled = estimators.scaled(3.0, estimators.lazy(estimators.r1(0.5), 1))
  np.testing.assert_allclose(scaled.value(*args, scaled.init(jax.random.key(0)))[0],
                             estimators.r1(1.5)(*args), rtol=1e-6)


def test_a_penalty_of_no_moves_is_refused():
  with pytest.raises(ValueError, match='n at least 1, not 0'):
    estimators.lazy(estimators.r1(1.0), 0)


def test_dragan_leaves_what_stands_behind_the_values_as_it_is():
  # A critic whose slope depends on the class alone sees the classes of the rows.
  def critic(x_BVQ):
    return x_BVQ[:, 0] * (1 + x_BVQ[:, 2:] @ jnp.arange(3.0))

  x_BV, y_BQ = jax.random.normal(jax.random.key(0), (6, 2)), jnp.eye(3)[:2].repeat(3, 0)
  rows = jnp.concatenate([x_BV, y_BQ], axis=1)

  def for_values(x_BV):
    return critic(jnp.concatenate([x_BV, y_BQ], axis=1))

  expected = estimators.dragan(1.0)(jax.random.key(1), for_values, x_BV, x_BV)
  whole = estimators.dragan(1.0, num_visible=2)(jax.random.key(1), lambda rows: for_values(
    rows[:, :2]) + 0 * jnp.sum(rows), rows, rows)
  np.testing.assert_allclose(whole, expected, rtol=1e-6)
