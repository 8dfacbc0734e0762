"""Parts of adversarial games by name: what they make, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gan, gan_grid
from experiments._common import games, judged
from gen_models import data, estimators
from launch.cli import hyperparameters, registry

SMALL = dict(dataset='digits', nets='dense', width=4, num_latents=3, batch_size=4)


def test_every_loss_has_a_name_and_every_name_a_loss():
  assert set(games.LossName.__args__) == set(estimators.LOSSES)


def test_every_penalty_has_a_value():
  for name in games.PenaltyName.__args__:
    found = games.penalties_of(name, 1.0, lazy=2)
    assert len(found) == {'none': 0, 'clip': 0, 'r1_r2': 2}.get(name, 1)
    assert all(isinstance(one, estimators.Remembering) for one in found)


def test_a_class_conditional_game_draws_the_class_that_is_asked_for():
  experiment = gan.experiment(conditional=True, spectral_norm=True, **SMALL)
  phase, arrays = experiment.phases[0], data.load('digits').train
  params = jax.jit(lambda key: phase.init(key, arrays, None))(jax.random.key(0))
  rows = phase.batch_at(jax.random.key(1), arrays, 0)
  assert rows.shape == (4, 74) and np.all(rows[:, 64:].sum(1) == 1)
  threes, all_classes = (experiment.sample(jax.random.key(2), params, 12, label)
                         for label in (3, None))
  assert threes.draws.shape == (12, 8, 8)
  np.testing.assert_allclose(threes.draws[3], all_classes.draws[3], rtol=1e-6)
  assert not np.allclose(threes.draws[4], all_classes.draws[4], atol=1e-4)
  with pytest.raises(ValueError, match='10 classes'):
    experiment.sample(jax.random.key(2), params, 12, 10)
  found = experiment.questions.features(jax.random.key(3), params, rows[:, :64], layer=None,
                                        num_draws=0)
  assert found['features'].shape == (4, 4)


def test_draws_of_a_class_come_from_batches_of_all_classes():
  seen = []

  def draw(key, params, y_NQ):
    seen.append(y_NQ.shape)
    share_Q = jnp.mean(y_NQ, axis=0)  # a network that normalises answers to its whole batch
    return (jnp.concatenate([y_NQ, jnp.broadcast_to(share_Q, y_NQ.shape)], axis=1),) * 2

  for num in (1, 7, 20):
    y_NQ = jnp.eye(5)[jnp.full(num, 3)]
    x_NV, mean_NV = judged.among_all(draw, 15)(jax.random.key(0), None, y_NQ)
    np.testing.assert_array_equal(x_NV[:, :5], y_NQ)
    np.testing.assert_allclose(x_NV[:, 5:], 0.2, rtol=1e-6)
    np.testing.assert_array_equal(x_NV, mean_NV)
  assert set(seen) == {(15, 5)}


def test_channels_of_stacked_digits_are_digits():
  stacked, digits = data.load('stacked_digits').test, data.load('digits').test
  rows = stacked.rows.reshape(len(stacked.rows), -1)
  x_MV, y_M = judged._channels(rows, stacked.labels)
  known = {row.tobytes(): label for row, label in zip(
    digits.rows.reshape(len(digits.rows), -1), digits.labels, strict=True)}
  assert all(known[row.tobytes()] == label for row, label in zip(x_MV, y_M, strict=True))


@pytest.mark.parametrize('make, changes, message', [
  (gan.experiment, dict(SMALL, conditional=True, packing=2), 'leave packing out'),
  (gan.experiment, dict(SMALL, auxiliary=1.0), 'set=conditional=true, or leave auxiliary out'),
  (gan.experiment, dict(SMALL, conditional=True, augment='diff_augment'), 'leave one of the two'),
  (gan.experiment, dict(SMALL, moves='optimistic'), 'use critic_steps=0'),
  (gan_grid.experiment, dict(critic_steps=2, moves='extragradient'), 'use critic_steps=0'),
  (gan_grid.experiment, dict(penalty='r1'), 'give --set=weight=0.1'),
  (gan.experiment, dict(SMALL, penalty='clip', weight=0.0), 'give --set=weight=0.01')])
def test_parts_that_do_not_fit_are_refused_in_one_line(make, changes, message):
  with pytest.raises(ValueError, match=message) as found:
    make(**changes)
  assert '\n' not in str(found.value)


def test_older_runs_are_the_same_runs():
  # What is new is None by default: it does not enter the identity of a run.
  for name in ('gan', 'gan_grid'):
    values = hyperparameters.resolve(registry.load(name))
    new = {'conditional', 'packing', 'lazy', 'spectral_norm', 'moves', 'feature_matching',
           'augment', 'auxiliary'} - ({'packing'} if name == 'gan_grid' else set())
    assert all(values[key] is None for key in new & set(values))
