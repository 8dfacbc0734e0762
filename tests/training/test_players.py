"""Who rests, rests altogether; who moves, moves as alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models import estimators
from gen_models.models.gan import Params
from gen_models.training.players import clipped, extragradient, optimistic, players
from tests.training.toy import same_bits

PARAMS = Params({'w': jnp.array([1.0, -2.0])}, (jnp.array([[0.5]]), jnp.array(3.0)))


def grads_at(step):
  return jax.tree.map(lambda x: jnp.sin(x + step), PARAMS)


def run(optimizer, num_steps):
  """Updates of each step, and the states around them."""
  state, updates = optimizer.init(PARAMS), []
  states = [state]
  update = jax.jit(optimizer.update)
  for step in range(num_steps):
    u, state = update(grads_at(step), state, PARAMS)
    updates.append(u)
    states.append(state)
  return updates, states


@pytest.mark.parametrize('critic_steps', [1, 3])
def test_each_player_is_its_own_adam_at_its_own_turns(critic_steps):
  rates = {'generator': optax.linear_schedule(0.1, 0.0, 4), 'critic': 0.02}
  turn = estimators.turns(critic_steps)
  updates, _ = run(players(optax.adam(rates['generator'], 0.5), optax.adam(rates['critic'], 0.0),
                           turn), 8)
  moves = [bool(turn(step)) for step in range(8)]
  assert sum(moves) == 8 // (critic_steps + 1) and moves[1] and not moves[0]
  for player, beta, mine in (('generator', 0.5, True), ('critic', 0.0, False)):
    # Alone, it sees nothing but its own moves, and its schedule counts only those.
    alone = optax.adam(rates[player], beta)
    params = getattr(PARAMS, player)
    state = alone.init(params)
    for step in range(8):
      expected = jax.tree.map(jnp.zeros_like, params)
      if moves[step] == mine:
        expected, state = alone.update(getattr(grads_at(step), player), state, params)
      for a, b in zip(jax.tree.leaves(getattr(updates[step], player)), jax.tree.leaves(expected),
                      strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_moments_of_the_resting_player_do_not_move():
  _, states = run(players(optax.adam(0.1), optax.adam(0.1), estimators.turns(2)), 6)
  for step, (before, after) in enumerate(zip(states[:-1], states[1:], strict=True)):
    rests, moves = ('critic', 'generator') if step % 3 == 1 else ('generator', 'critic')
    inner = [{player: state.inner_states[player].inner_state.inner_state
              for player in (rests, moves)} for state in (before, after)]
    assert same_bits(inner[0][rests], inner[1][rests])
    assert not same_bits(inner[0][moves], inner[1][moves])


def test_without_turns_both_move_at_every_update():
  updates, _ = run(players(optax.sgd(0.1), optax.sgd(0.2)), 2)
  for step, u in enumerate(updates):
    grads = grads_at(step)
    np.testing.assert_allclose(u.generator['w'], -0.1 * grads.generator['w'], rtol=1e-6)
    np.testing.assert_allclose(u.critic[0], -0.2 * grads.critic[0], rtol=1e-6)


def test_extragradient_looks_ahead_and_moves_from_where_it_stood():
  # f = x^2 / 2, rate 0.5: the look ahead is x / 2, the move x - 0.5 (x / 2).
  optimizer, x = extragradient(optax.sgd(0.5)), jnp.array(4.0)
  state, places = optimizer.init(x), []
  for _ in range(4):
    u, state = optimizer.update(x, state, x)
    x = x + u
    places.append(float(x))
  assert places == [2.0, 3.0, 1.5, 2.25]


def test_optimistic_moves_twice_and_takes_the_last_one_back():
  optimizer, x = optimistic(optax.sgd(0.5)), jnp.array(0.0)
  state, updates = optimizer.init(x), []
  for grad in (1.0, 3.0, -2.0):
    u, state = optimizer.update(jnp.array(grad), state, x)
    updates.append(float(u))
  assert updates == [-1.0, -2.5, 3.5]


def test_clipped_parameters_stay_within_their_bound():
  optimizer, x = clipped(optax.sgd(1.0), 0.25), jnp.array([0.2, -0.1, 0.0])
  u, _ = optimizer.update(jnp.array([-1.0, 1.0, 0.1]), optimizer.init(x), x)
  np.testing.assert_allclose(x + u, [0.25, -0.25, -0.1], atol=1e-7)


@pytest.mark.parametrize('make', [extragradient, lambda optimizer: clipped(optimizer, 1.0)])
def test_moves_that_need_the_parameters_say_so(make):
  optimizer = make(optax.sgd(1.0))
  with pytest.raises(ValueError, match='give them to update'):
    optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
