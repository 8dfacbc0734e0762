"""Every estimator of the catalogue against the contract, and against what it declares.

The audits draw 4096 gradients. One that is unbiased is called biased for one key in 10^4
(Bonferroni over coordinates); the biases declared here lie so far above the noise that an audit
misses them for fewer than one key in 10^6 (bias at least 5 standard errors over the threshold).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators import base
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.missing import imputed
from gen_models.estimators.negative import Drawn, Negative, persistent, reconstruction
from gen_models.evaluation import gradients
from gen_models.models import rbm
from gen_models.problems import catalogue
from gen_models.problems.rbm import BURN_IN, PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

# Whose parts are all in other entries: a new pairing of a phase, a model and a direction, or one
# sample more. `make test-all` and `launch.audit --all` have them too.
PAIRINGS = {
  'vq_straight_through', 'rbm_prior_rloo2_pcd1', 'rbm_prior_rloo2_cd1', 'rbm_prior_rloo2_coupled',
  'rbm_prior_rloo2_exact', 'rbm_prior_reinforce1_pcd1', 'rbm_prior_vimco2_pcd1',
  'rbm_prior_disarm1_pcd1', 'rbm_prior_gumbel_pcd1', 'rbm_prior_enumerated',
  'gan_non_saturating', 'gan_hinge', 'gan_wasserstein', 'gan_relativistic', 'gan_packed',
  'linear_cd1', 'linear_pcd1_samples', 'measured_cd1', 'greedy_cd1', 'greedy_pcd1_centred',
  'code_cd1', 'spin_cd1', 'gaussian_rbm_cd1', 'gaussian_rbm_pcd_centred', 'precise_code_pcd', 'cd3',
  'pcd5', 'elbo3', 'elbo_analytic', 'dbm_pcd', 'dbm_pt',
  'dbm_coupled_posterior_pcd', 'dbm_labelled_pcd', 'two_layers_stl1', 'two_layers_elbo1', 'rloo3',
  'vimco3_arithmetic', 'two_layers_vimco2', 'ovis3', 'ovis3_many', 'ovis2_monte_carlo',
  'elbo_warm_up', 'free_bits', 'wake_sleep1', 'rws2', 'arm1', 'double_cv2', 'relax1',
  'measure_valued', 'enumerated', 'gumbel', 'gumbel_straight_through', 'straight_through',
  'gumbel_rao', 'reinmax_rao', 'reinmax_cv', 'two_layers_disarm1', 'two_layers_muprop1',
  'two_layers_relax1', 'two_layers_double_cv2', 'two_layers_gumbel', 'categorical_muprop1',
  'categorical_double_cv2', 'categorical_relax1', 'categorical_measure_valued',
  'categorical_enumerated', 'categorical_gumbel', 'categorical_gumbel_straight_through',
  'categorical_straight_through', 'categorical_reinmax_rao', 'categorical_rloo2'}

# One line each of a table: tests/estimators/test_adversarial.py has them all in one program.
PAIRINGS |= {
  'gan_least_squares', 'gan_relativistic_average', 'gan_total_variation', 'gan_kl',
  'gan_reverse_kl', 'gan_pearson', 'gan_neyman', 'gan_squared_hellinger', 'gan_jensen_shannon',
  'gan_energy', 'gan_top_k', 'gan_dragan', 'gan_zero_centred', 'gan_consistency',
  'gan_lazy_r1_r2', 'gan_augmented', 'gan_feature_matching'}

every_estimator = pytest.mark.parametrize('name', [
  pytest.param(name, marks=pytest.mark.slow if name in PAIRINGS else ())
  for name in catalogue.ENTRIES])


def measure(estimator, entry, seed=1, num_draws=4096):
  with jax.debug_key_reuse(False):  # see tests/conftest.py; test_contract runs with it on
    return gradients.audit(
      jax.random.key(seed), estimator, entry.params, entry.batch, catalogue.exact_grads(entry),
      num_draws=num_draws, burn_in=entry.burn_in, error_rate=1e-4)


@functools.cache
def audit(name):
  return measure(catalogue.ENTRIES[name].estimator, catalogue.ENTRIES[name])


@functools.cache
def grad(name):
  """The compiled gradient, one for all tests, and a count of how often it was traced."""
  traces = []

  def traced(*args):
    traces.append(args)
    return catalogue.ENTRIES[name].estimator.grad(*args)

  return jax.jit(traced), traces


@functools.cache
def init(name):
  """The compiled start of its memory: operation by operation it would be dozens of programs."""
  return jax.jit(catalogue.ENTRIES[name].estimator.init)


def shapes(tree):
  """Structure, shapes, dtypes and weak types: all that decides whether jit traces again."""
  leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: tree))
  return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def pairs(one, other):
  """Pairs of leaves, as NumPy arrays: a comparison in JAX would be a program for each shape."""
  return zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (one, other)), strict=True)


@every_estimator
def test_contract(name):
  entry, (step, traces) = catalogue.ENTRIES[name], grad(name)
  keys = jax.random.split(jax.random.key(0), 3)
  memory = init(name)(keys[0], entry.params)
  assert isinstance(memory, base.Memory)
  grads, after, metrics = step(keys[1], entry.params, memory, entry.batch)

  structure, leaves = shapes(grads)
  assert (structure, [x[:2] for x in leaves]) == (
    jax.tree.structure(entry.params), [(x.shape, x.dtype) for x in jax.tree.leaves(entry.params)])
  # A scan carries memory, so it comes back as it went in: structure, shapes, weak types.
  assert shapes(after) == shapes(memory)
  assert metrics and all(isinstance(k, str) and jnp.shape(x) == () for k, x in metrics.items())
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((grads, after.shared, metrics)))
  # Chains have chains on the leading axis: all leaves agree about their number.
  assert len({len(x) for x in jax.tree.leaves(memory.chains)}) <= 1

  # Other values, the memory of the first call: the same program.
  moved = jax.tree.map(lambda x: np.float32(0.9) * np.asarray(x), entry.params)
  again, _, _ = step(keys[2], moved, after, jax.tree.map(lambda x: 1 - x, entry.batch))
  assert len(traces) == 1
  assert any(np.any(a != b) for a, b in pairs(again, grads))


@every_estimator
def test_the_key_decides(name):
  entry, (step, _) = catalogue.ENTRIES[name], grad(name)
  memory = init(name)(jax.random.key(0), entry.params)
  first, same, other = (step(jax.random.key(seed), entry.params, memory, entry.batch)[0]
                        for seed in (1, 1, 2))
  for a, b in pairs(first, same):
    np.testing.assert_array_equal(a, b)
  differs = any(np.any(a != b) for a, b in pairs(first, other))
  assert differs != entry.deterministic


def test_pairings_are_entries():
  assert set(catalogue.ENTRIES) > PAIRINGS


def test_burn_in_is_long_enough():
  # What 20 Gibbs steps remember of their start, against the noise of an audit, some 0.01.
  kernel_SS = oracle.gibbs_kernel(oracle.rbm_joint(PARAMS))
  assert 0.5 < np.sort(np.abs(np.linalg.eigvals(kernel_SS)))[-2] < 0.62
  assert 0.62**BURN_IN < 1e-4


@every_estimator
def test_bias_is_as_declared(name):
  found, entry = audit(name), catalogue.ENTRIES[name]
  assert found.biased == entry.estimator.biased, (found.bias_z, found.threshold)
  if found.biased:
    assert found.bias_z > found.threshold + 5, 'make the bias of this problem easier to see'


@every_estimator
def test_variance_is_that_of_a_sampled_gradient(name):
  found, entry = audit(name), catalogue.ENTRIES[name]
  assert math.isfinite(found.variance)
  if entry.deterministic:
    assert found.variance < 1e-12
  else:
    assert found.variance > 1e-3 and 0.1 < found.snr < 100


@pytest.mark.parametrize('name', ['cd1', 'pcd1'])
def test_samples_in_the_last_half_step_cost_variance(name):
  # 4096 draws: a ratio of two variances is known to a few percent.
  assert audit(f'{name}_samples').variance > 1.2 * audit(name).variance
  np.testing.assert_allclose(jnp.concatenate([jnp.ravel(x) for x in audit(f'{name}_samples').mean]),
                             jnp.concatenate([jnp.ravel(x) for x in audit(name).mean]), atol=0.05)


@pytest.mark.slow
def test_missing_units_drawn_by_many_steps_are_exact():
  # Declared biased, for what it is at few steps.
  entry = catalogue.ENTRIES['missing_pcd1']
  estimator = imputed(contrastive(rbm, persistent(chains=4)), rbm, steps=BURN_IN)
  found = measure(estimator, entry)
  assert estimator.biased and not found.biased, (found.bias_z, found.threshold)


def test_cd_of_many_steps_is_exact():
  # Declared biased, for what it is at few steps; after 20 Gibbs steps nothing of the data is left.
  estimator = contrastive(rbm, reconstruction(steps=BURN_IN))
  found = measure(estimator, catalogue.ENTRIES['cd1'])
  assert estimator.biased and not found.biased, (found.bias_z, found.threshold)
  assert found.bias_norm < 0.1 * audit('cd1').bias_norm


# The audit can fail: estimators that are wrong, each declaring itself unbiased, made from one that
# is right and quick, its negative phase drawn from p(v) by enumeration.


def drawn_from(shift=0.0) -> Negative:
  """Eight independent v ~ p(v), with the visible biases shifted."""
  def sample(key, model, params, memory, y_BH):
    del y_BH
    shifted = params._replace(b_V=params.b_V + shift)
    v_AV = model.all_states(len(params.b_V))
    v_CV = v_AV[jax.random.categorical(key, -model.free_energy(shifted, v_AV), shape=(8,))]
    return Drawn(v_CV, v_CV @ shifted.w_VH), memory

  return Negative(lambda key, model, params: base.Memory(), sample, biased=False)


RIGHT = contrastive(rbm, drawn_from())


def no_negative_phase(key, model, params, memory, y_BH):
  del key, model
  # As if every unit were off.
  return Drawn(jnp.zeros((1, len(params.b_V))), jnp.full((1, y_BH.shape[1]), -1e3)), memory


def altered(change):
  """The right estimator with its gradient changed."""
  def grad(key, params, memory, batch):
    grads, memory, metrics = RIGHT.grad(key, params, memory, batch)
    return jax.tree.map(lambda x: change(x, batch), grads), memory, metrics

  return base.Estimator(RIGHT.init, grad)


BROKEN = {
  'wrong sign': altered(lambda x, batch: -x),
  'five percent too large': altered(lambda x, batch: 1.05 * x),
  'sum instead of mean': altered(lambda x, batch: x * np.float32(len(batch))),
  'nan': altered(lambda x, batch: x * jnp.nan),
  'no negative phase': contrastive(rbm, drawn_from()._replace(sample=no_negative_phase)),
  'another model': contrastive(rbm, drawn_from(shift=0.2)),
}


def test_samples_by_enumeration_are_unbiased():
  assert not measure(RIGHT, catalogue.ENTRIES['cd1'], num_draws=2**14).biased


@pytest.mark.parametrize('name', BROKEN)
def test_a_wrong_estimator_is_caught(name):
  # Five percent of 0.6 is small beside the noise of one gradient: 2^14 draws find it.
  found = measure(BROKEN[name], catalogue.ENTRIES['cd1'], num_draws=2**14)
  assert found.biased and not BROKEN[name].biased, (found.bias_z, found.threshold)


def test_a_centred_gradient_is_not_the_plain_one():
  # Its target is far from the plain gradient, so the audit of it would fail without.
  entry = catalogue.ENTRIES['pcd1_centred']
  plain_D, target_D = (np.concatenate([np.ravel(x) for x in tree]) for tree in (
    catalogue.exact_grads(entry), audit('pcd1_centred').target))
  assert np.linalg.norm(plain_D - target_D) > 10 * audit('pcd1_centred').bias_norm


def test_memory_that_has_not_forgotten_its_start_is_bias():
  # The audit of persistent chains needs its burn-in: without it they still sit at their start.
  entry = catalogue.ENTRIES['pcd1']
  assert measure(entry.estimator, entry._replace(burn_in=0)).biased
