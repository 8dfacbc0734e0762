"""The loop: metrics in order, validation, best checkpoints, stopping and going on, divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models.training import checkpoint, hyper, keys, loop, parallel, position, record
from gen_models.training.hooks import Hooks
from tests.training import toy


def open_checkpoints(path, **options):
  return checkpoint.Checkpoints(path, identity={'run': 'toy'}, best_metric='valid_nats', **options)


def fit(experiment, **options):
  train = toy.arrays()
  lines = []
  key = options.pop('key', jax.random.key(3))
  hooks = Hooks(on_metrics=lambda step, m: lines.append((step, m)),
                should_stop=options.pop('should_stop', lambda: False))
  result = loop.fit(experiment, train, toy.arrays(12), key, hooks=hooks, **options)
  return result, lines


def test_metrics_come_once_for_every_dispatch_in_order():
  result, lines = fit(toy.experiment(toy.phase(num_steps=45)))
  assert result.done and result.step == 45
  assert [step for step, _ in lines] == [10, 20, 30, 40, 45]
  # Validation every 20 steps and at the end.
  assert [step for step, m in lines if 'valid_nats' in m] == [20, 40, 45]
  assert all(np.isfinite(m['moment_error']) for _, m in lines)


def test_dispatch_length_does_not_change_the_run():
  a, _ = fit(toy.experiment(toy.phase(num_steps=40), steps_per_dispatch=10))
  b, _ = fit(toy.experiment(toy.phase(num_steps=40), steps_per_dispatch=20))
  assert toy.same_bits(a.state, b.state)


@pytest.mark.parametrize('estimator', ['centred', 'exact'])
@pytest.mark.parametrize('stop_at', [1, 3])
def test_stopped_anywhere_it_resumes_to_the_same_bits(tmp_path, estimator, stop_at):
  experiment = toy.experiment(toy.phase(estimator, num_steps=50, average=0.9))
  whole, _ = fit(experiment)
  asked = iter(range(100))
  with open_checkpoints(tmp_path) as checkpoints:
    part, _ = fit(experiment, checkpoints=checkpoints,
                  should_stop=lambda: next(asked) + 1 >= stop_at)
    assert not part.done and part.step == 10 * stop_at
  with open_checkpoints(tmp_path) as checkpoints:
    start = position.restore(experiment, checkpoints, jax.random.key(3), toy.arrays())
    assert start[1] == 10 * stop_at
    rest, lines = fit(experiment, start=start, checkpoints=checkpoints)
  assert lines[0][0] == 10 * stop_at + 10
  assert toy.same_bits(rest.state, whole.state)


def test_phases_follow_one_another_and_resume_inside_either(tmp_path):
  phases = (toy.phase('cd', num_steps=20, name='first'),
            toy.phase('exact', num_steps=30, name='second'))
  experiment = toy.experiment(*phases)
  whole, lines = fit(experiment)
  assert [s for s, _ in lines] == [10, 20, 30, 40, 50]
  assert 'first/moment_error' in lines[0][1] and 'second/loss' in lines[-1][1]
  # The second begins where the first ended: at rate 0 it stays there.
  alone, _ = fit(toy.experiment(phases[0]))
  still = toy.phase('exact', num_steps=30, name='second', learning_rate=0.0)
  assert toy.same_bits(fit(toy.experiment(phases[0], still))[0].state.params, alone.state.params)
  for stop_after in (2, 3):  # between the phases, inside the second
    directory = tmp_path / str(stop_after)
    count = iter(range(100))
    with open_checkpoints(directory) as checkpoints:
      fit(experiment, checkpoints=checkpoints,
          should_stop=lambda n=stop_after, c=count: next(c) + 1 >= n)
    with open_checkpoints(directory) as checkpoints:
      start = position.restore(experiment, checkpoints, jax.random.key(3), toy.arrays())
      rest, _ = fit(experiment, start=start, checkpoints=checkpoints)
    assert toy.same_bits(rest.state, whole.state)


@pytest.mark.slow
@pytest.mark.parametrize('num_replicas, num_phases', [(1, 3), (2, 2)])
def test_hyperparameters_outlive_the_phase_that_a_run_is_resumed_in(
    tmp_path, num_replicas, num_phases):
  """Dispatches donate their state: what the next phase needs again must not be part of it."""
  def build(*, learning_rate: float = 0.1):
    return toy.experiment(*(toy.phase('exact', learning_rate=learning_rate, num_steps=20, name=name)
                            for name in ('first', 'second', 'third')[:num_phases]))

  experiment = hyper.bind(build, {'learning_rate': 0.1}, toy.arrays(), toy.arrays(12))
  assert experiment.hyper
  key = keys.of_run(3, num_replicas)
  whole, _ = fit(experiment, key=key)
  # In the middle of each phase.
  for times_asked, step in ((1, 10), (2, 30), (3, 50))[:num_phases]:
    count = iter(range(100))
    with open_checkpoints(tmp_path / str(step)) as checkpoints:
      stopped, _ = fit(experiment, checkpoints=checkpoints, key=key,
                       should_stop=lambda n=times_asked, c=count: next(c) + 1 >= n)
      assert stopped.step == step
      start = position.restore(experiment, checkpoints, key, toy.arrays())
      kept = jax.tree.map(jnp.copy, start[0])
      rest, _ = fit(experiment, start=start, checkpoints=checkpoints, key=key)
    assert toy.same_bits(rest.state, whole.state)
    assert toy.same_bits(start[0], kept)  # the caller's state is still the caller's


def test_a_finished_run_is_not_run_again(tmp_path):
  experiment = toy.experiment(toy.phase(num_steps=20))
  with open_checkpoints(tmp_path) as checkpoints:
    whole, _ = fit(experiment, checkpoints=checkpoints)
    start = position.restore(experiment, checkpoints, jax.random.key(3), toy.arrays())
    again, lines = fit(experiment, start=start, checkpoints=checkpoints)
  assert again.done and again.step == 20 and not lines
  assert toy.same_bits(again.state, whole.state)


@pytest.mark.slow
def test_replicas_are_trained_side_by_side_and_resume(tmp_path):
  experiment = toy.experiment(toy.phase('centred', num_steps=40))
  key = keys.of_seeds(range(5, 8))
  whole, lines = fit(experiment, key=key)
  assert lines[-1][1]['valid_nats'].shape == (3,)
  for i in range(3):
    alone, _ = fit(experiment, key=jax.random.key(5 + i))
    assert toy.same_bits(jax.tree.map(lambda x, i=i: x[i], whole.state), alone.state)
  count = iter(range(100))
  with open_checkpoints(tmp_path) as checkpoints:
    fit(experiment, key=key, checkpoints=checkpoints,
        should_stop=lambda: next(count) >= 1)
    start = position.restore(experiment, checkpoints, key, toy.arrays())
    rest, _ = fit(experiment, key=key, start=start, checkpoints=checkpoints)
  assert toy.same_bits(rest.state, whole.state)


def test_best_checkpoint_survives_the_last_ones(tmp_path):
  # The rate turns negative half way: the likelihood first rises, then falls.
  experiment = toy.experiment(toy.phase(
    'exact', learning_rate=lambda count: jnp.where(count < 60, 0.2, -0.2), num_steps=120))
  with open_checkpoints(tmp_path, keep_last=1) as checkpoints:
    _, lines = fit(experiment, checkpoints=checkpoints)
    checkpoints.wait()
    scores = {step: float(m['valid_nats']) for step, m in lines if 'valid_nats' in m}
    best = max(scores, key=scores.get)
    assert best < 120
    assert checkpoints.best_step() == best
    assert checkpoints.all_steps() == [best, 120]


def test_divergence_names_step_and_leaf_and_saves_nothing_of_it(tmp_path):
  experiment = toy.experiment(toy.phase(
    'exact', learning_rate=lambda count: jnp.where(count < 25, 0.1, jnp.inf), num_steps=60))
  with open_checkpoints(tmp_path) as checkpoints:
    with pytest.raises(record.Diverged, match=r'at step 2[56].*parameter \.w_VH.*learning rate'):
      fit(experiment, checkpoints=checkpoints)
    checkpoints.wait()
    assert checkpoints.all_steps() == [20]  # the validated one before


def test_streamed_batches_give_the_same_run():
  arrays = toy.arrays()
  records = [{'image': x, 'label': y} for x, y in zip(arrays.images, arrays.labels, strict=True)]
  experiment = toy.experiment(toy.phase('centred', num_steps=30))
  resident, _ = fit(experiment)
  streamed, _ = fit(experiment, stream=records)
  assert toy.same_bits(resident.state, streamed.state)


@pytest.mark.parametrize('phase, message', [
  (toy.phase(num_steps=0), 'at least one'),
  (toy.phase(num_steps=2**31, batch_size=8), '2\\^32'),
])
def test_impossible_lengths_are_refused(phase, message):
  with pytest.raises(ValueError, match=message):
    fit(toy.experiment(phase))


def test_validation_between_dispatches_is_refused():
  with pytest.raises(ValueError, match='multiple'):
    fit(toy.experiment(toy.phase(num_steps=20), validate_every=15))


@pytest.mark.parametrize('num_steps, changes, expected', [
  (400, dict(validate_every=20), 20), (400, {}, 40), (450, {}, 40), (7, {}, 10),
  (400, dict(num_validations=20), 20)])
def test_validations_are_spread_over_a_phase_in_whole_dispatches(num_steps, changes, expected):
  values = {'validate_every': None, **changes}
  experiment = toy.experiment(toy.phase(num_steps=num_steps), steps_per_dispatch=10, **values)
  assert experiment.validation_interval == expected


def test_a_longer_last_phase_has_the_schedule_of_its_new_length(tmp_path):
  def scheduled(num_steps, schedule):
    return toy.experiment(toy.phase('exact', learning_rate=schedule, num_steps=num_steps))

  short, long = (optax.linear_schedule(0.4, 0.0, num_steps) for num_steps in (20, 40))
  with open_checkpoints(tmp_path) as checkpoints:
    before, _ = fit(scheduled(20, short), checkpoints=checkpoints)
    start = position.restore(scheduled(40, long), checkpoints, jax.random.key(3), toy.arrays())
    longer, _ = fit(scheduled(40, long), start=start)
  both, _ = fit(scheduled(40, lambda count: jnp.where(count < 20, short(count), long(count))))
  assert longer.step == 40
  # Another program rounds otherwise, by 1e-7; the rates of the old length would be 0 from there on.
  np.testing.assert_allclose(longer.state.params.w_VH, both.state.params.w_VH, atol=1e-5)
  assert not np.allclose(longer.state.params.w_VH, before.state.params.w_VH, atol=1e-2)


def test_the_best_is_of_the_last_phase(tmp_path):
  """The first phase climbs, the second only falls: its first validation is its best."""
  experiment = toy.experiment(toy.phase('exact', num_steps=60, name='up'),
                              toy.phase('exact', learning_rate=-0.2, num_steps=60, name='down'))
  with open_checkpoints(tmp_path, keep_last=1, ranked_after=60) as checkpoints:
    _, lines = fit(experiment, checkpoints=checkpoints)
    checkpoints.wait()
    assert checkpoints.best_step() == 80 and checkpoints.all_steps() == [80, 120]
  scores = {step: m[f'{name}/valid_nats'] for step, m in lines for name in ('up', 'down')
            if f'{name}/valid_nats' in m}
  assert scores[60] > scores[80] > scores[120]
  assert experiment.headline_metric == 'down/valid_nats'


@pytest.mark.parametrize('count, step, message', [
  (10, 15, 'has made 10 updates .* after 15 of 20 updates of phase first'),
  (10, 35, 'has made 10 updates .* after 15 of 30 updates of phase second'),
  (10, 60, 'only 50 steps'),
  (11, 10, 'optimizer has counted 11')])
def test_a_state_at_another_position_is_refused(count, step, message):
  experiment = toy.experiment(toy.phase('cd', num_steps=20, name='first',
                                        learning_rate=lambda count: 0.1),
                              toy.phase('cd', num_steps=30, name='second'))
  state = parallel.init_states(experiment.phases[0], jax.random.key(0), toy.arrays())
  state = state._replace(step=jnp.int32(10), opt_state=optax.tree_utils.tree_set(
    state.opt_state, count=jnp.int32(count)))
  with pytest.raises(position.Misplaced, match=message):
    fit(experiment, start=(state, step))
