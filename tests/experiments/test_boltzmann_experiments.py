"""What the experiments on Boltzmann machines promise beyond running, in a few hundred steps.

Thresholds lie several times the scatter of seeds away from what was measured; keys are fixed.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import class_rbm, gaussian_rbm, rbm_bias, rbm_centring, rbm_clusters, rbm_digits
from gen_models import data
from gen_models.data import sources
from gen_models.models import low_rank
from gen_models.samplers import tempering
from gen_models.training import loop, record, step as step_lib
from gen_models.training.hooks import Hooks
from tests import oracle
from tests.launch.commands import run


@pytest.fixture(name='digits', scope='module')
def fixture_digits():
  return data.load('digits')


def fitted(experiment, dataset, seeds=None):
  """(parameters, [(step, metrics)], warnings)."""
  lines, warnings = [], []
  key = jax.random.key(0) if seeds is None else jax.random.split(jax.random.key(0), seeds)
  with jax.debug_key_reuse(seeds is None):  # see tests/conftest.py
    result = loop.fit(experiment, dataset.train, dataset.valid, key, hooks=Hooks(
      on_metrics=lambda step, m: lines.append((step, m)),
      on_alarm=lambda step, message, replica: warnings.append(message)))
  return step_lib.final_params(result.state), lines, warnings


@pytest.mark.slow
@pytest.mark.parametrize('negative', ['pcd', 'none'])
def test_gaussian_units_learn_digits(digits, negative):
  experiment = gaussian_rbm.experiment(num_hidden=8, negative=negative, num_steps=400)
  before = experiment.phases[0].init(jax.random.key(0), digits.train, None)
  params, lines, _ = fitted(experiment._replace(validate_every=200), digits)
  nats = [m['valid_nats'] for _, m in lines]
  start = experiment.validate(jax.random.key(1), before, digits.valid)['valid_nats']
  assert start + 2 < nats[0] < nats[1]
  variance_V = 1 / gaussian_rbm.MACHINE.visible.precision(params.machine.b_V)
  assert 0.001 <= variance_V.min() < 0.95 and variance_V.max() <= 4
  # The normalisation stays the data's.
  np.testing.assert_allclose(params.mean_V, before.mean_V, rtol=1e-6)
  np.testing.assert_allclose(params.scale_V, before.scale_V, rtol=1e-6)


@pytest.mark.parametrize('learning_rate', [
  pytest.param(1.0, marks=pytest.mark.slow), 30.0, 1e38])
def test_an_absurd_learning_rate_never_fails_in_silence(digits, learning_rate):
  experiment = gaussian_rbm.experiment(num_hidden=8, num_steps=200, learning_rate=learning_rate)
  if learning_rate == 1e38:
    with pytest.raises(record.Diverged, match=r'not finite .*machine'):
      fitted(experiment, digits)
    return
  params, lines, warnings = fitted(experiment, digits)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((params, [m for _, m in lines])))
  variance_V = 1 / gaussian_rbm.MACHINE.visible.precision(params.machine.b_V)
  assert variance_V.min() >= 0.00099 and variance_V.max() <= 4.001
  extreme = lines[-1][1]['chain_extreme']
  assert (extreme > 100) == any(w.startswith('chain_extreme') for w in warnings)
  assert (learning_rate == 30.0) == (extreme > 100)


@pytest.mark.slow
def test_warnings_are_written_to_the_run_directory(tmp_path):
  workdir = tmp_path / 'run'
  done = run('train', '--experiment=gaussian_rbm', f'--workdir={workdir}', '--nopage',
             '--set=num_hidden=8', '--set=num_steps=200', '--set=learning_rate=30')
  lines = (workdir / 'warnings.txt').read_text().splitlines()
  extreme, = (line for line in lines if 'chain_extreme' in line)
  assert extreme.startswith('warning: step 200: chain_extreme is') and 'learning rate' in extreme
  assert extreme in done.stderr


def test_a_class_rbm_names_the_digit(digits):
  experiment = class_rbm.experiment(dataset='digits', objective='discriminative', num_hidden=64,
                                    learning_rate=0.01, num_steps=400)
  params, lines, _ = fitted(experiment, digits)
  assert lines[-1][1]['valid_error_percent'] < 10
  score = experiment.evaluate(jax.random.key(1), params, digits, print)
  assert score['kind'] == 'none' and score['scores']['error_percent'] < 13
  assert score['scores']['cross_entropy'] < 0.5


@pytest.mark.slow
def test_centring_makes_black_and_white_alike(digits):
  # Seeds scatter by 0.5 nats at most. From zero biases the plain gradient of flipped images hardly
  # leaves the independent pixels.
  nats = {}
  for direction in ('centred', 'plain'):
    for flipped in (False, True):
      experiment = rbm_centring.experiment(
        dataset='digits', direction=direction, flipped=flipped, start='zero', num_hidden=8,
        learning_rate=0.05, num_steps=1500)
      phase, = experiment.phases
      _, lines, _ = fitted(experiment._replace(
        phases=(phase._replace(monitor=None),), validate_every=1500), digits, seeds=3)
      nats[direction, flipped] = lines[-1][1]['valid_nats'].mean()
  assert abs(nats['centred', True] - nats['centred', False]) < 0.6
  assert nats['plain', True] < nats['plain', False] - 1
  assert nats['plain', True] < nats['centred', True] - 1.5


# What is no data of the model is refused before anything of the update is compiled.


def changed(change):
  """A batch of thresholded digits, changed."""
  plain = data.batches(20, 'threshold', 16)
  return lambda key, arrays, step: change(plain(key, arrays, step))


@pytest.mark.parametrize('batch_at, message', [
  (data.batches(20, 'real', 16), r"are 0 or 1, but .*binarisation='threshold'"),
  (changed(lambda v: v[:, :60]), r'shape \(20, 60\) for a model with 64 visible units'),
  (changed(lambda v: v.at[3, 4].set(np.nan)), '1 of 1280 values of the data are not finite')])
def test_data_that_are_not_the_models_are_refused(digits, batch_at, message):
  experiment = rbm_digits.experiment(num_steps=10)
  phase, = experiment.phases

  def never(*args):
    raise AssertionError('the update was compiled')

  phase = phase._replace(batch_at=batch_at, estimator=phase.estimator._replace(grad=never))
  with pytest.raises(ValueError, match=message):
    fitted(experiment._replace(phases=(phase,)), digits)


def test_gaussian_units_take_real_data_but_no_nan(digits):
  check = gaussian_rbm.experiment().phases[0].check
  params = gaussian_rbm.experiment().phases[0].init(jax.random.key(0), digits.train, None)
  x_BV = np.random.default_rng(0).random((4, 64))
  check(params, x_BV)
  with pytest.raises(ValueError, match='not finite'):
    check(params, np.where(x_BV > 0.5, x_BV, np.inf))


def test_a_label_is_one_of_its_classes(digits):
  phase, = class_rbm.experiment(dataset='digits', num_hidden=4).phases
  params = phase.init(jax.random.key(0), digits.train, None)
  v_BV = np.array(phase.batch_at(jax.random.key(1), digits.train, 0))
  phase.check(params, v_BV)
  v_BV[2, -10:] = 0
  with pytest.raises(ValueError, match='one-of-10'):
    phase.check(params, v_BV)


# Bias along a run.


class Shifted:
  """An estimator of known error: the exact gradient plus `bias` and noise of deviation `noise`."""

  def __init__(self, exact, bias, noise):
    self.exact, self.bias, self.noise = exact, bias, noise

  def grad(self, key, params, memory, batch):
    g = self.exact + self.bias + self.noise * jax.random.normal(key, self.exact.shape)
    return {'w': g}, memory, {}


@pytest.mark.parametrize('bias', [0.0, 0.3])
def test_bias_and_noise_are_lengths_over_that_of_the_gradient(bias):
  # 1000 draws of 50 coordinates: the noise is known to 1 %, a bias of 0 to 0.03 of the gradient.
  exact = np.linspace(-1, 1, 50).astype(np.float32)
  norm = np.linalg.norm(exact)
  found, noise = rbm_bias.relative_error(
    jax.random.key(0), Shifted(exact, bias, 0.2), None, None, None, exact, 1000)
  np.testing.assert_allclose(found, bias * np.sqrt(50) / norm, atol=0.03)
  np.testing.assert_allclose(noise, 0.2 * np.sqrt(50) / norm, rtol=0.03)


@pytest.fixture(name='mnist', scope='module')
def fixture_mnist():
  if not os.environ.get('TFDS_DATA_DIR'):
    pytest.skip('TFDS_DATA_DIR is not set: no prepared mnist')
  if not sources.PREPARED['mnist'].path('mnist', sources.find_data_dir()).exists():
    pytest.skip('no prepared mnist in TFDS_DATA_DIR')
  return data.load('mnist')


@pytest.mark.slow
def test_bias_falls_with_gibbs_steps_on_mnist(mnist):
  experiment = rbm_bias.experiment(num_hidden=8, num_steps=500, num_images=200, num_draws=100)
  _, lines, _ = fitted(experiment, mnist)
  last = lines[-1][1]
  assert last['bias_cd25'] < last['bias_cd3'] < last['bias_cd1']
  assert all(np.isfinite(v) for v in last.values())


@pytest.mark.slow
def test_plain_gradients_of_flipped_mnist_lag_behind(mnist):
  nats = {}
  for direction in ('centred', 'plain'):
    experiment = rbm_centring.experiment(direction=direction, flipped=True, num_steps=2000)
    _, lines, _ = fitted(experiment, mnist)
    nats[direction] = lines[-1][1]['valid_nats']
  assert nats['plain'] < nats['centred'] - 5


# Two modes that Gibbs steps never leave, all on and all off; W has rank 1.
STUCK = low_rank.Params(jnp.ones((6, 1)), jnp.full((1, 6), 3.0), jnp.full(6, -9.2),
                        jnp.full(6, -9.0))
CENTRES = jnp.array([[0.0] * 6, [1.0] * 6])


def test_shares_of_clusters_are_the_enumerated_ones():
  params = low_rank.machine(STUCK)
  joint = oracle.rbm_joint(params)
  v_AV, p_A = joint.v_AV, joint.p_AS.sum(1)
  expected = p_A @ (v_AV.sum(1) > 3)  # hardly any state lies between
  np.testing.assert_allclose(rbm_clusters.shares(params, CENTRES), [1 - expected, expected],
                             atol=2e-3)
  assert 0.2 < expected < 0.3


@pytest.mark.slow
def test_clusters_are_crossed_on_the_ladder_that_is_drawn_from_and_not_by_gibbs_steps():
  params, v_CV = low_rank.machine(STUCK), jnp.zeros((20, 6))
  draws = low_rank.draws(STUCK, low_rank.lattice(STUCK, 7))
  rungs_R = tempering.stacked([params, params])
  stay, cross = (rbm_clusters.visited(jax.random.key(0), rungs_R, v_CV, CENTRES, of, 50)
                 for of in (None, draws))
  assert stay == 1 and cross == 2
