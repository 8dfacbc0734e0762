"""Losses against divergences, the order of moves against a loop written out, the Dirac GAN."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from gen_models import estimators
from gen_models.estimators import base
from gen_models.experiment import Phase
from gen_models.models import gan
from gen_models.training import keys, parallel, step as step_lib
from gen_models.training.players import extragradient, optimistic, players
from tests.training.toy import same_bits

# Data N(0, 1), samples N(m, s^2): quantiles at equal steps make a mean an integral.
M, S, NUM = 1.3, 0.6, 20_000
P, Q = scipy.stats.norm(0, 1), scipy.stats.norm(M, S)
REAL, FAKE = (law.ppf((np.arange(NUM) + 0.5) / NUM) for law in (P, Q))
GRID = np.linspace(-12, 12, 200_001)


def log_ratio(x):
  return P.logpdf(x) - Q.logpdf(x)


def integral(fn):
  return float(np.sum(fn(GRID)) * (GRID[1] - GRID[0]))


def kl(p, q):
  """KL(p || q) of densities on the grid."""
  return integral(lambda x: np.where(p(x) > 0, p(x) * np.log(np.maximum(p(x), 1e-300) / q(x)), 0))


def middle(x):
  return (P.pdf(x) + Q.pdf(x)) / 2


JS = (kl(P.pdf, middle) + kl(Q.pdf, middle)) / 2
TV = integral(lambda x: np.abs(P.pdf(x) - Q.pdf(x))) / 2

# The best critic of each, and its losses there in closed form. W1 has one when s = 1 alone.
AT_BEST = {
  'minimax': (log_ratio, 2 * math.log(2) - 2 * JS, kl(Q.pdf, middle) - math.log(2)),
  # KL(q || p) pulls; KL(q || (p + q) / 2) pushes (Arjovsky & Bottou, 2017).
  'non_saturating': (log_ratio, 2 * math.log(2) - 2 * JS,
                     kl(Q.pdf, P.pdf) - kl(Q.pdf, middle) + math.log(2)),
  'hinge': (lambda x: np.sign(log_ratio(x)), 2 - 2 * TV,
            -integral(lambda x: Q.pdf(x) * np.sign(log_ratio(x)))),
}


def losses(name, critic, real=REAL, fake=FAKE):
  f = [jnp.asarray(critic(x), jnp.float32) for x in (real, fake)]
  loss = estimators.LOSSES[name]
  return [float(loss.critic(*f)), float(loss.generator(*f))]


@pytest.mark.parametrize('name', AT_BEST)
def test_losses_at_the_best_critic_are_divergences(name):
  critic, *expected = AT_BEST[name]
  np.testing.assert_allclose(losses(name, critic), expected, atol=2e-3)
  for other in (np.sin, np.tanh, np.ones_like):
    assert losses(name, lambda x, other=other: critic(x) + 0.3 * other(x))[0] > expected[0] + 1e-3


def test_wasserstein_at_its_best_critic_is_the_distance():
  # Two Gaussians of one width: the samples are the data moved, so the best critic is a line.
  distance = scipy.stats.wasserstein_distance(REAL, REAL + M)
  np.testing.assert_allclose(distance, M)
  critic, generator = losses('wasserstein', lambda x: -x, fake=REAL + M)
  np.testing.assert_allclose([critic, generator], [-distance, M], atol=1e-5)
  assert losses('wasserstein', np.sin, fake=REAL + M)[0] > -distance + 0.1


def test_relativistic_at_its_best_critic_tells_pairs_apart():
  # log 2 - JS between the laws of (data, sample) and (sample, data), on a grid of pairs.
  real, fake = (law.ppf((np.arange(600) + 0.5) / 600) for law in (P, Q))
  x, y = np.meshgrid(np.linspace(-7, 7, 1401), np.linspace(-7, 7, 1401), indexing='ij')
  one, other = P.pdf(x) * Q.pdf(y), Q.pdf(x) * P.pdf(y)
  js = np.sum(one * np.log(np.maximum(one, 1e-300) / ((one + other) / 2 + 1e-300))) * 1e-4
  pairs = [a.ravel() for a in np.meshgrid(real, fake)]
  critic, generator = losses('relativistic', log_ratio, *pairs)
  np.testing.assert_allclose(critic, math.log(2) - js, atol=5e-3)
  # log s(-t) = log s(t) - t: the generator's loss exceeds the critic's by the mean of t.
  mean_t = kl(P.pdf, Q.pdf) + kl(Q.pdf, P.pdf)
  np.testing.assert_allclose(generator - critic, mean_t, rtol=0.02)
  for other in (np.sin, np.tanh):
    assert losses('relativistic', lambda x, other=other: log_ratio(x) + other(x),
                  *pairs)[0] > critic + 1e-3


def test_penalties_are_their_formulas():
  # f = x.A.x / 2 with A symmetric: the gradient is A x. Two packs of two points.
  a = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
  a = a + a.T
  real, fake = (np.random.default_rng(i).normal(size=(4, 2)).astype(np.float32) for i in (1, 2))

  def critic(x_BV):
    packs = x_BV.reshape(-1, 4)
    return jnp.sum(packs @ a * packs, axis=-1) / 2

  def slopes(x):
    return np.linalg.norm(x.reshape(-1, 4) @ a, axis=1)

  key = jax.random.key(0)
  np.testing.assert_allclose(estimators.r1(3.0)(key, critic, real, fake),
                             1.5 * np.mean(slopes(real)**2), rtol=1e-5)
  np.testing.assert_allclose(estimators.r2(3.0)(key, critic, real, fake),
                             1.5 * np.mean(slopes(fake)**2), rtol=1e-5)
  # Between equal points there is nowhere else to be; one place for a whole pack otherwise.
  penalty = estimators.gradient_penalty(3.0, slope=0.5)
  np.testing.assert_allclose(penalty(key, critic, real, real),
                             3 * np.mean((slopes(real) - 0.5)**2), rtol=1e-5)
  values = [float(penalty(jax.random.key(i), critic, real, fake)) for i in range(200)]
  grid = np.linspace(0, 1, 401)
  cells = np.array([(slopes(real + u * (fake - real)) - 0.5)**2 for u in grid])
  assert 3 * cells.min(0).mean() <= min(values) and max(values) <= 3 * cells.max(0).mean() + 1e-4
  np.testing.assert_allclose(np.mean(values), 3 * cells.mean(), rtol=0.15)


def test_gradient_penalty_of_a_flat_critic_is_finite():
  penalty = estimators.gradient_penalty(10.0)

  def loss(w):
    return penalty(jax.random.key(0), lambda x_BV: x_BV @ w, jnp.ones((3, 2)), jnp.zeros((3, 2)))

  value, grad = jax.value_and_grad(loss)(jnp.zeros(2))
  assert value == 10 and np.all(np.isfinite(grad))


# Who moves when.

MODEL = gan.Model(gan.DenseGenerator(2, (8,), link=jnp.tanh), gan.DenseCritic((8,)), 3, 2)
RATES = (0.02, 0.01)


def data_at(key, arrays, step):
  del arrays
  return jax.random.normal(jax.random.fold_in(key, step), (4, 2)) + 1


def phase(turn, num_steps=6):
  return Phase('gan', lambda key, arrays, previous: MODEL.init(key),
               estimators.adversarial(MODEL, estimators.relativistic, (estimators.r1(0.5),),
                                       turn),
               players(*(optax.adam(rate, 0.5) for rate in RATES), turn), data_at, num_steps, 4)


def by_hand(state, moves):
  """Losses written out, a jax.grad for each player, Adam written out."""
  params, key = state.params, state.key

  def scores(params, step):
    key_fake, _ = jax.random.split(jax.random.fold_in(key, step))
    real = data_at(keys.data(key), None, step)
    fake = MODEL.decode(params, jax.random.normal(key_fake, (4, 3)))
    return real, MODEL.critic(params, real), MODEL.critic(params, fake)

  def critic_loss(critic, params, step):
    params = params._replace(critic=critic)
    real, f, f_fake = scores(params, step)
    slopes = jax.vmap(jax.grad(lambda x: MODEL.critic(params, x[None])[0]))(real)
    return jnp.mean(jnp.log1p(jnp.exp(f_fake - f))) + 0.25 * jnp.mean(jnp.sum(slopes**2, -1))

  def generator_loss(generator, params, step):
    _, f, f_fake = scores(params._replace(generator=generator), step)
    return jnp.mean(jnp.log1p(jnp.exp(f - f_fake)))

  gradients = {'critic': jax.jit(jax.grad(critic_loss)),
               'generator': jax.jit(jax.grad(generator_loss))}
  moments = {name: [jax.tree.map(jnp.zeros_like, getattr(params, name))] * 2 + [0]
             for name in params._fields}
  for step, names in enumerate(moves):
    before = params
    for name in names:
      grads = gradients[name](getattr(before, name), before, step)
      m, v, t = moments[name]
      m = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, m, grads)
      v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grads)
      t += 1
      moments[name] = [m, v, t]
      rate = RATES[params._fields.index(name)]
      moved = jax.tree.map(
        lambda p, m, v, t=t, rate=rate: p - rate * m / (1 - 0.5**t) / (
          jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), getattr(before, name), m, v)
      params = params._replace(**{name: moved})
  return params


@pytest.mark.parametrize('critic_steps', [0, 1, 2])
def test_the_moves_are_those_of_an_explicit_loop(critic_steps):
  turn = estimators.turns(critic_steps) if critic_steps else None
  moves = {0: [('generator', 'critic')] * 6, 1: [('critic',), ('generator',)] * 3,
           2: [('critic',), ('generator',), ('critic',)] * 2}[critic_steps]
  start = parallel.init_states(phase(turn), jax.random.key(1), None)
  end, metrics = jax.jit(lambda state: step_lib.train_steps(phase(turn), state, None, 6))(start)
  for a, b in zip(jax.tree.leaves(end.params), jax.tree.leaves(by_hand(start, moves)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)
  assert bool(metrics['all_finite'])


def test_who_rests_has_no_gradient_and_keeps_its_metrics():
  turn = estimators.turns(2)
  state = parallel.init_states(phase(turn), jax.random.key(1), None)
  update = jax.jit(lambda state: step_lib.train_step(phase(turn), state, None))
  lines = []
  for step in range(4):
    before = state
    state, metrics = update(state)
    lines.append(metrics)
    rests = 'critic' if step == 1 else 'generator'
    assert same_bits(getattr(before.params, rests), getattr(state.params, rests))
    assert not same_bits(before.params, state.params)
  assert lines[0]['generator_loss'] == 0 and lines[1]['critic_loss'] == lines[0]['critic_loss']
  assert lines[1]['generator_loss'] == lines[3]['generator_loss'] > 0
  assert lines[3]['critic_loss'] != lines[0]['critic_loss'] and lines[0]['penalty'] > 0


def test_turns_are_refused_without_a_critics_move():
  with pytest.raises(ValueError, match='not 0 times'):
    estimators.turns(0)


@pytest.mark.parametrize('turn, rounding', [(None, 0.0), (estimators.turns(1), 1e-6)])
def test_replicas_are_their_own_runs(turn, rounding):
  # Bit for bit where nothing is chosen between; the choice is compiled apart for replicas, which
  # compute both its sides.
  one = phase(turn)._replace(optimizer=players(optax.sgd(0.01), optax.sgd(0.02), turn))

  def run(state):
    return step_lib.train_steps(one, state, None, 6)[0].params

  states = [parallel.init_states(one, jax.random.key(i), None) for i in range(2)]
  with jax.debug_key_reuse(False):
    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *x: jnp.stack(x), *states))
  for i, state in enumerate(states):
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(jax.jit(run)(state)), strict=True):
      np.testing.assert_allclose(a[i], b, rtol=0, atol=rounding)


# The Dirac GAN: data at 0, samples at t, critic f(x) = c x (Mescheder, Geiger & Nowozin, 2018).


class Dirac:
  """params: generator t, critic c, scalars."""

  @staticmethod
  def generate(key, params, num):
    del key
    return jnp.full((num, 1), params.generator)

  @staticmethod
  def critic(params, x_BV):
    return params.critic * x_BV[:, 0]


GAMMA = 0.4
PENALTIES = {'none': (), 'r1': (estimators.r1(GAMMA),), 'r2': (estimators.r2(GAMMA),),
             'r1_r2': (estimators.r1(GAMMA), estimators.r2(GAMMA)),
             'wgan_gp': (estimators.gradient_penalty(GAMMA),)}
# What a slope of 1 is worth at the equilibrium: the derivative of each loss there.
STRENGTH = {'minimax': 0.5, 'non_saturating': 0.5, 'hinge': 1.0, 'wasserstein': 1.0,
            'relativistic': 0.5}
DAMPING = {'none': 0.0, 'r1': GAMMA, 'r2': GAMMA, 'r1_r2': 2 * GAMMA}
# The table of the paper, and its rows for hinge and relativistic losses: a zero-centred gradient
# penalty makes any of them converge, nothing else does, whoever moves when.
CONVERGES = {'none': False, 'r1': True, 'r2': True, 'r1_r2': True, 'wgan_gp': False}


@pytest.mark.parametrize('penalty', DAMPING)
@pytest.mark.parametrize('loss', STRENGTH)
def test_eigenvalues_at_the_equilibrium(loss, penalty):
  estimator = estimators.adversarial(Dirac, estimators.LOSSES[loss], PENALTIES[penalty])

  def field(point):
    grads, _, _ = estimator.grad(jax.random.key(0), gan.Params(*point), base.Memory(),
                                 jnp.zeros((2, 1)))
    return -jnp.stack(grads)

  found = np.linalg.eigvals(np.asarray(jax.jacobian(field)(jnp.zeros(2)), np.float64))
  root = np.sqrt(complex(DAMPING[penalty]**2 / 4 - STRENGTH[loss]**2))
  expected = [-DAMPING[penalty] / 2 + root, -DAMPING[penalty] / 2 - root]
  np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), atol=1e-5)


# Each loss with each penalty, the turns alternating over the table; the other half is slow.
@pytest.mark.parametrize('loss, penalty, critic_steps', [
  pytest.param(loss, penalty, turns, marks=() if (i + j + turns) % 2 else pytest.mark.slow)
  for i, loss in enumerate(STRENGTH) for j, penalty in enumerate(PENALTIES) for turns in (0, 1)])
def test_dirac_gan(loss, penalty, critic_steps):
  turn = estimators.turns(critic_steps) if critic_steps else None
  rate, num_steps = 0.05, 1500 * (critic_steps + 1)
  one = Phase('dirac', lambda key, arrays, previous: gan.Params(jnp.array(1.0), jnp.array(0.5)),
              estimators.adversarial(Dirac, estimators.LOSSES[loss], PENALTIES[penalty], turn),
              players(optax.sgd(rate), optax.sgd(rate), turn),
              lambda key, arrays, step: jnp.zeros((2, 1)), num_steps, 2)
  state = parallel.init_states(one, jax.random.key(0), None)
  end, _ = jax.jit(lambda state: step_lib.train_steps(one, state, None, num_steps))(state)
  distance = math.hypot(*map(float, end.params))
  assert distance < 1e-3 if CONVERGES[penalty] else distance > 0.3, distance


# Without a penalty: how far from the equilibrium players end, in units of where they began
# (Mescheder, Geiger & Nowozin, 2018; Gidel et al., 2019; Daskalakis et al., 2018).
MOVES = {
  'simultaneous': (None, lambda optimizer: optimizer, (1.5, np.inf)),
  'alternating': (estimators.turns(1), lambda optimizer: optimizer, (0.9, 1.1)),
  'extragradient': (None, extragradient, (0.0, 1e-3)),
  'optimistic': (None, optimistic, (0.0, 1e-3))}


@pytest.mark.parametrize('moves', MOVES)
def test_who_moves_when_decides_whether_the_dirac_gan_converges(moves):
  turn, moved, (low, high) = MOVES[moves]

  def distance(loss):
    one = Phase('dirac', lambda key, arrays, previous: gan.Params(jnp.array(1.0), jnp.array(0.5)),
                estimators.adversarial(Dirac, estimators.LOSSES[loss], (), turn),
                players(moved(optax.sgd(0.2)), moved(optax.sgd(0.2)), turn),
                lambda key, arrays, step: jnp.zeros((2, 1)), 4000, 2)
    state = step_lib.init_state(jax.random.key(0), one, None)
    end, _ = step_lib.train_steps(one, state, None, 4000)
    return jnp.hypot(*end.params) / jnp.hypot(1.0, 0.5)

  found = jax.jit(lambda: [distance(loss) for loss in ('wasserstein', 'minimax')])()
  assert all(low <= x <= high for x in found), found
