"""What the experiments on stacks of layers promise beyond running: rows, layers held still."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import autoencoder, belief_net, class_rbm, classifier, dbm, dbn, vae
from gen_models import data
from gen_models.models import bits, feedforward, rbm
from gen_models.training import loop, parallel, step as step_lib
from gen_models.training.hooks import Hooks


def test_a_few_labels_are_the_first_of_each_class():
  labels = np.random.default_rng(0).integers(0, 10, 5000).astype(np.int32)
  rows = np.asarray(classifier.balanced_rows(labels, 100, 10))
  expected = np.concatenate([np.flatnonzero(labels == y)[:10] for y in range(10)])
  np.testing.assert_array_equal(np.sort(rows), np.sort(expected))


def test_other_classes_fill_in_for_one_that_runs_out():
  labels = np.array([0, 0, 0, 1, 0, 2, 2, 0], np.int32)
  rows = classifier.balanced_rows(labels, 6, num_classes=3)
  np.testing.assert_array_equal(rows, [0, 3, 5, 1, 6, 2])


def some_images(num=300):
  draws = np.random.default_rng(1)
  return data.Arrays(draws.integers(0, 17, (num, 8, 8, 1), dtype=np.uint8),
                     np.arange(num, dtype=np.int32) % 10)


def test_batches_of_few_labels_see_no_other_image():
  arrays = some_images()
  batch_at = jax.jit(classifier.labelled_batches(20, 'real', data.spec('digits'), 20))
  seen = set()
  for step in range(5):
    x_BV, y_B = batch_at(jax.random.key(0), arrays, step)
    assert sorted(np.asarray(y_B)) == sorted(list(range(10)) * 2)
    seen |= {tuple(row) for row in np.asarray(x_BV)}
  assert seen == {tuple(row.reshape(-1) / np.float32(16)) for row in arrays.images[:20]}
  window = data.Window(arrays.images[None], arrays.labels[None], np.int32(0))
  with pytest.raises(ValueError, match='without --stream'):
    classifier.labelled_batches(20, 'real', data.spec('digits'), 20)(jax.random.key(0), window, 0)


def test_layers_below_are_held_still_while_one_is_trained():
  arrays = some_images()
  experiment = dbn.experiment(dataset='digits', binarisation='threshold', layers='12-9-5',
                              labels=True, num_steps=3, batch_size=20, momentum=0.5,
                              weight_decay=0.1)
  previous = None
  for depth, phase in enumerate(experiment.phases):
    state = parallel.init_states(phase, jax.random.key(depth), arrays, previous)
    after = jax.jit(lambda s, a, phase=phase: step_lib.train_steps(phase, s, a, 3)[0])(
      state, arrays).params
    if previous is not None:
      for old, start, new in zip(*map(jax.tree.leaves, (
          previous.layers, state.params.layers[:depth], after.layers[:depth])), strict=True):
        np.testing.assert_array_equal(old, start)
        np.testing.assert_array_equal(old, new)
    assert all(np.any(a != b) for a, b in zip(state.params.layers[depth], after.layers[depth]))
    previous = after
  assert after.layers[2].w_VH.shape == (9 + 10, 5)


def test_weight_decay_is_only_on_the_weights_of_the_top():
  # The update with decay minus that without, at the first step: rate * decay * W, nothing else.
  arrays = some_images()

  def first(weight_decay):
    phase = dbn.experiment(dataset='digits', binarisation='threshold', layers='12-9', num_steps=5,
                           weight_decay=weight_decay, upper_learning_rate=0.5).phases[1]
    state = parallel.init_states(phase, jax.random.key(0), arrays)
    update = jax.jit(lambda state, arrays: step_lib.train_step(phase, state, arrays)[0])
    return state.params, update(state, arrays).params

  (before, plain), (_, decayed) = first(0.0), first(0.1)
  difference = jax.tree.map(jnp.subtract, plain, decayed)
  assert not any(np.any(x) for x in jax.tree.leaves(difference.layers[0]))
  top = difference.layers[1]
  np.testing.assert_allclose(top.w_VH, 0.05 * before.layers[1].w_VH, atol=1e-6)
  assert not np.any(top.b_V) and not np.any(top.c_H)


def test_fine_tuning_starts_from_the_stack():
  arrays = some_images()
  *pretraining, finetune = autoencoder.experiment(dataset='digits', layers='12-4',
                                                  num_steps=2).phases
  previous = parallel.init_states(pretraining[-1], jax.random.key(0), arrays).params
  params = parallel.init_states(finetune, jax.random.key(1), arrays, previous).params
  np.testing.assert_array_equal(params.encoder.layers[1].w_IO, previous.layers[1].w_VH)
  np.testing.assert_array_equal(params.decoder.layers[0].w_IO, previous.layers[1].w_VH.T)
  finetune = classifier.experiment(dataset='digits', layers='12-4', num_steps=2).phases[-1]
  params = parallel.init_states(finetune, jax.random.key(1), arrays, previous).params
  np.testing.assert_array_equal(params.layers[0].w_IO, previous.layers[0].w_VH)
  assert not np.any(params.layers[2].w_IO)


MIXING = {'autocorrelation_time', 'classes_visited', 'classes_independent'}
SHORT = dict(gibbs_steps=3, warm_steps=3, posterior_steps=3, importance_samples=5)


@pytest.mark.parametrize('module, values, keys', [
  pytest.param(dbn, dict(layers='8-8', ais_temperatures=50),
               {'importance_nats', 'importance_ess', *MIXING}, marks=pytest.mark.slow),
  pytest.param(dbn, dict(layers='8-6', labels=True),
               {'importance_nats', 'importance_ess', 'error_percent', *MIXING},
               marks=pytest.mark.slow),
  (dbn, dict(layers='8-6', labels=True, up_down_steps=2, up_down_gibbs=2),
   {'importance_nats', 'importance_ess', 'error_percent', *MIXING}),
  (dbm, dict(layers='6-5', pretrain=True, pretrain_steps=2, **SHORT),
   {'importance_nats', 'importance_ess', 'bound_nats'}),
  pytest.param(dbm, dict(layers='17-20', ais_temperatures=20, **SHORT),
               {'importance_nats', 'importance_ess'}, marks=pytest.mark.slow),
  pytest.param(dbm, dict(layers='6-5', labels=True, **SHORT),
               {'importance_nats', 'importance_ess', 'bound_nats', 'error_percent'},
               marks=pytest.mark.slow),
  (classifier, dict(layers='8'), {'error_percent', 'valid_error_percent', 'cross_entropy'}),
  (autoencoder, dict(layers='8-2'), {'squared_error', 'squared_error_pca'})])
def test_scores_validation_pictures_and_samples_on_digits(module, values, keys):
  binarisation = {} if module is autoencoder else dict(binarisation='threshold')
  experiment = module.experiment(dataset='digits', num_steps=2, **binarisation, **values)
  dataset = data.load('digits')
  lines = {}
  result = loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(0),
                    hooks=Hooks(on_metrics=lambda step, metrics: lines.update(metrics)))
  assert any(name.endswith(experiment.headline) for name in lines)
  params = step_lib.final_params(result.state)
  score = experiment.evaluate(jax.random.key(1), params, dataset, lambda line: None)
  assert set(score['scores']) == keys and score['num_images'] == 300
  assert all(np.isfinite(x) for x in score['scores'].values())
  for grid in experiment.pictures(jax.random.key(2), params, dataset).values():
    assert grid.ndim == 4 and np.all((grid >= 0) & (grid <= 1))
  if module in (dbn, dbm):
    label = 3 if values.get('labels') else None
    samples = experiment.sample(jax.random.key(3), params, 5, label)
    assert samples.draws.shape == samples.means.shape == (5, 8, 8)
    assert set(np.unique(samples.draws)) <= {0, 1}
    if label is None:
      with pytest.raises(ValueError, match='no labels|without classes'):
        experiment.sample(jax.random.key(3), params, 5, 3)
  else:
    assert experiment.sample is None


def test_up_down_begins_at_the_stack_and_moves_every_layer():
  arrays = some_images()
  *greedily, phase = dbn.experiment(dataset='digits', binarisation='threshold', layers='12-9-5',
                                    labels=True, num_steps=2, batch_size=20, up_down_steps=3,
                                    up_down_learning_rate=0.5).phases
  stack = parallel.init_states(greedily[-1], jax.random.key(0), arrays).params
  state = parallel.init_states(phase, jax.random.key(1), arrays, stack)
  for ours, theirs in zip(jax.tree.leaves(state.params),
                          jax.tree.leaves((stack.layers, stack.layers[:-1])), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  after = jax.jit(lambda s, a: step_lib.train_steps(phase, s, a, 3)[0])(state, arrays).params
  for layer, up, before in zip(after.layers, after.up, stack.layers):
    assert np.any(layer.w_VH != before.w_VH) and np.any(up.w_VH != before.w_VH)
    assert np.any(layer.w_VH != up.w_VH)
    # What the other way reads is left where it was.
    np.testing.assert_array_equal(layer.c_H, before.c_H)
    np.testing.assert_array_equal(up.b_V, before.b_V)


def test_the_phases_of_a_stack_may_start_from_nothing():
  arrays = some_images()
  phase = dbn.experiment(dataset='digits', layers='12-9-5', num_steps=2).phases[2]
  params = parallel.init_states(phase, jax.random.key(0), arrays).params
  assert [layer.w_VH.shape for layer in params.layers] == [(64, 12), (12, 9), (9, 5)]
  assert all(isinstance(layer, rbm.Params) for layer in params.layers)


UNITS = {'dead_units', 'saturated_units'}
MACHINE = UNITS | {'free_energy_gap', 'interaction_gap'}
CHAINS = MACHINE | {'autocorrelation_time', 'chain_moment_error', 'chain_extreme',
                    'free_energy_gap_chains'}


@pytest.mark.parametrize('experiment, expected', [
  (dbn.experiment(dataset='digits', layers='6-5', labels=True), [CHAINS, CHAINS]),
  (dbn.experiment(dataset='digits', layers='6', negative='cd'), [MACHINE]),
  (classifier.experiment(dataset='digits', layers='6-5'), [MACHINE, MACHINE, UNITS]),
  (autoencoder.experiment(dataset='digits', layers='6-2'), [MACHINE, MACHINE - UNITS, UNITS]),
  (class_rbm.experiment(dataset='digits', num_hidden=5, objective='joint'), [CHAINS]),
  (class_rbm.experiment(dataset='digits', num_hidden=5), [CHAINS]),
  (class_rbm.experiment(dataset='digits', num_hidden=5, objective='discriminative'), [MACHINE])])
def test_every_phase_is_watched_as_far_as_its_chains_allow(experiment, expected):
  arrays, params = data.shapes('digits'), None
  key = jax.eval_shape(lambda: jax.random.key(0))
  for phase, names in zip(experiment.phases, expected, strict=True):
    state = jax.eval_shape(lambda key, a, p, phase=phase: step_lib.init_state(key, phase, a, p),
                           key, arrays, params)
    found = jax.eval_shape(phase.monitor, key, state.params, state.memory, arrays, arrays)
    assert set(found) == names and {a.metric for a in phase.alarms} & names
    params = state.params


@pytest.mark.parametrize('make, changes, message', [
  (dbn.experiment, dict(layers='16', up_down_steps=10), 'none in 16'),
  (dbn.experiment, dict(layers='16-8', up_down_gibbs=5), 'that up_down_steps asks for'),
  (vae.experiment, dict(bound='gdreg', beta=4.0), "of 'elbo' and 'analytic', not of 'gdreg'")])
def test_parts_that_do_not_fit_are_refused_in_one_line(make, changes, message):
  with pytest.raises(ValueError, match=message) as found:
    make(dataset='digits', **changes)
  assert '\n' not in str(found.value)


@pytest.mark.parametrize('make, changes', [
  (autoencoder.experiment, dict(pretrain=False)),
  (classifier.experiment, dict(binarisation='real'))])
def test_rows_outside_the_unit_interval_are_refused_by_logistic_units(make, changes, tmp_path):
  x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
  np.savez(tmp_path / 'x.npz', x=x, labels=np.arange(60) % 3)
  with pytest.raises(data.BadData, match='outside .0, 1., where logistic units end'):
    make(dataset=f'npz:{tmp_path / "x.npz"}?scale=none', **changes)
  np.savez(tmp_path / 'n.npz', x=np.arange(360).reshape(60, 6), labels=np.arange(60) % 3)
  with pytest.raises(data.BadData, match='its values are counts, .*: kind=real in its name'):
    make(dataset=f'npz:{tmp_path / "n.npz"}', **changes)


def test_few_labels_are_found_in_data_sorted_by_class_and_not_among_weights():
  labels = np.repeat(np.arange(3), 400).astype(np.int32)
  rows = np.asarray(classifier.balanced_rows(labels, 30, 3))
  np.testing.assert_array_equal(np.bincount(labels[rows]), [10, 10, 10])
  arrays = some_images()._replace(weights=np.ones(300, np.float32))
  with pytest.raises(ValueError, match='num_labelled=9999, and digits has 1297 training rows'):
    classifier.labelled_batches(10, 'real', data.spec('digits'), 9999)
  with pytest.raises(ValueError, match='leave num_labelled out, or the weights'):
    classifier.labelled_batches(20, 'real', data.spec('digits'), 20)(jax.random.key(0), arrays, 0)


def test_as_many_components_as_values_lose_nothing():
  x_NV = np.random.default_rng(0).random((5, 64)).astype(np.float32)
  np.testing.assert_array_equal(autoencoder.by_pca(data.load('digits'), 64, x_NV), x_NV)


def test_a_picture_of_what_few_units_switch():
  experiment = belief_net.experiment(dataset='digits', binarisation='threshold', latents='4')
  dataset = data.load('digits')
  params = jax.jit(lambda key: experiment.phases[0].init(key, dataset.train, None))(
    jax.random.key(0))
  found = belief_net.switches(jax.random.key(1), experiment.model, params, dataset)
  assert np.all(np.isfinite(found['what units switch']))


def test_an_autoencoder_that_sees_bits_gives_back_intensities():
  params = feedforward.init_autoencoder(jax.random.key(0), [64, 8, 3])
  grey_BV = jax.random.uniform(jax.random.key(1), (5, 64))
  plain, noisy = (autoencoder.cross_entropy(noise) for noise in (None, 'bits'))
  bits_BV = jnp.round(grey_BV)  # of bits there is nothing to draw
  for x_BV, same in ((bits_BV, True), (grey_BV, False)):
    values = [loss(jax.random.key(2), params, x_BV)[0] for loss in (plain, noisy)]
    assert np.isclose(*values, rtol=1e-6) == same
  seen_BV = bits.bernoulli(jax.random.key(2), grey_BV)
  expected = feedforward.cross_entropy(feedforward.pixel_log_odds(params, seen_BV), grey_BV).mean()
  np.testing.assert_allclose(noisy(jax.random.key(2), params, grey_BV)[0], expected, rtol=1e-5)
