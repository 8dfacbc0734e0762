"""Annealed importance sampling against enumerated log Z, its arithmetic against float64.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE) unless
they say otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import gibbs, rbm
from gen_models.samplers import annealing
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, H, CHAINS = 6, 5, 500


def machine(scale, shift=0.0, seed=0) -> rbm.Params:
  draws = np.random.default_rng(seed)
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    scale * draws.normal(size=(V, H)), scale * draws.normal(size=V) + shift,
    scale * draws.normal(size=H) - shift)))


MACHINES = {'weak': machine(0.1), 'strong': machine(1.5), 'shifted': machine(0.5, shift=3.0)}


# Schedules.


def test_the_published_schedule():
  betas = annealing.salakhutdinov_murray()
  assert betas.shape == (14_501,) and betas[0] == 0 and betas[-1] == 1
  assert np.all(np.diff(betas) > 0)
  for first, last, step in ((0, 500, 1e-3), (500, 4500, 1e-4), (4500, 14_500, 1e-5)):
    np.testing.assert_allclose(np.diff(betas[first:last + 1]), step, rtol=1e-9)


def test_refined_is_the_published_schedule_at_its_own_length_and_its_shape_at_any():
  np.testing.assert_allclose(annealing.refined(14_500), annealing.salakhutdinov_murray(),
                             atol=1e-12)
  np.testing.assert_allclose(annealing.refined(29), annealing.salakhutdinov_murray()[::500],
                             atol=1e-12)
  for num_steps in (1, 7, 1000):
    betas = annealing.refined(num_steps)
    assert len(betas) == num_steps + 1 and betas[0] == 0 and betas[-1] == 1
    assert np.all(np.diff(betas) > 0)


def test_linear():
  np.testing.assert_allclose(annealing.linear(4), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize('make', [annealing.linear, annealing.refined])
def test_a_schedule_has_a_step(make):
  with pytest.raises(ValueError, match='at least one step, got 0'):
    make(0)


@pytest.mark.parametrize('betas', [
  [0.0], [0.1, 1.0], [0.0, 0.9], [0.0, 0.6, 0.5, 1.0], [0.0, np.nan, 1.0], [[0.0, 1.0]]])
def test_what_is_no_schedule_is_refused(betas):
  with pytest.raises(ValueError, match='increases from 0 to 1'):
    annealing.ais(jax.random.key(0), MACHINES['weak'], jnp.zeros(V), betas=betas)


def test_other_impossible_arguments_are_refused():
  with pytest.raises(ValueError, match='at least one chain'):
    annealing.ais(jax.random.key(0), MACHINES['weak'], jnp.zeros(V), num_chains=0)
  with pytest.raises(ValueError, match=r'\(5,\).*6 visible'):
    annealing.ais(jax.random.key(0), MACHINES['weak'], jnp.zeros(V - 1))


# Arithmetic.


def test_log_ratio_keeps_its_digits_at_any_input_and_step():
  x = np.concatenate([np.linspace(-200, 200, 801), np.logspace(-6, 0, 20), -np.logspace(-6, 0, 20)])
  beta = np.array([0, 1e-3, 0.1, 0.5, 0.9, 0.99999])
  step = np.array([1e-7, 1e-5, 1e-3, 0.1, 1.0])
  x, beta, step = (a.reshape(-1).astype(np.float32) for a in np.meshgrid(x, beta, step))
  x_64, beta_64, step_64 = (a.astype(np.float64) for a in (x, beta, step))
  # In float64 the plain difference is good to 1e-16 |x| / (step |x|) = 1e-9.
  exact = np.logaddexp(0, (beta_64 + step_64) * x_64) - np.logaddexp(0, beta_64 * x_64)
  ours = jax.jit(annealing.log_ratio)(x, beta, step)
  np.testing.assert_allclose(ours, exact, rtol=2e-6, atol=1e-13)
  naive = np.logaddexp(np.float32(0), (beta + step) * x) - np.logaddexp(np.float32(0), beta * x)
  fine = step < 1e-3  # the steps of the published schedule near 1
  assert np.abs(naive - exact)[fine].max() > 1000 * np.abs(ours - exact)[fine].max()


def test_compensated_addition_loses_nothing_over_the_published_schedule():
  # Terms as the last 10,000 steps have them: small beside the total of some hundred nats.
  terms = np.random.default_rng(0).normal(0.03, 0.1, 14_500).astype(np.float32)
  exact = terms.astype(np.float64).sum()

  def add(carry, term):
    total, lost, plain = carry
    return (*annealing.compensated_add(total, lost, term), plain + term), None

  zero = jnp.float32(0)
  total, lost, plain = jax.jit(lambda xs: jax.lax.scan(add, (zero, zero, zero), xs)[0])(terms)
  ours = np.float64(total) - np.float64(lost)
  assert abs(exact) > 300
  assert abs(ours - exact) < 1e-5
  assert abs(np.float64(plain) - exact) > 30 * abs(ours - exact)


def test_base_log_partition():
  base_V = np.linspace(-3, 3, V)
  np.testing.assert_allclose(
    annealing.base_log_partition(MACHINES['weak'], jnp.float32(base_V)),
    oracle.rbm_joint(rbm.Params(np.zeros((V, H)), base_V, np.zeros(H))).log_partition, rtol=1e-6)


# Estimates.


def test_an_estimate_is_its_formulas():
  draws = np.random.default_rng(1)
  log_w_C = draws.normal(700, 1, 50)  # weights themselves would overflow
  w_C = np.exp(log_w_C - 700)
  found = annealing.estimate(3.0, log_w_C, 10)
  np.testing.assert_allclose(found.log_partition, 703 + np.log(w_C.mean()), rtol=1e-12)
  np.testing.assert_allclose(found.standard_error, w_C.std(ddof=1) / np.sqrt(50) / w_C.mean())
  np.testing.assert_allclose(found.effective_sample_size, w_C.sum()**2 / (w_C**2).sum())
  assert found.num_temperatures == 10 and found.log_weights_C is log_w_C


def test_effective_sample_size_counts_the_weights_that_matter():
  np.testing.assert_allclose(annealing.effective_sample_size(np.full(7, -900.0)), 7)
  np.testing.assert_allclose(annealing.effective_sample_size([0.0, -1e4, -1e4]), 1)
  np.testing.assert_allclose(annealing.effective_sample_size(np.log([1.0, 1.0, 2.0])), 16 / 6)


def test_one_chain_has_no_standard_error():
  found = annealing.estimate(0.0, np.array([2.0]), 1)
  assert np.isnan(found.standard_error) and found.log_partition == 2


@pytest.mark.parametrize('num_chains', [4, 10])
def test_few_chains_have_the_error_of_the_jackknife(num_chains):
  """Lognormal weights of which few count: the delta method has 0.75 of the spread and less."""
  log_w_NC = np.random.default_rng(0).normal(size=(2000, num_chains)) * 1.5
  found = [annealing.estimate(0.0, log_w_C, 1) for log_w_C in log_w_NC]
  spread = np.std([x.log_partition for x in found])
  error = np.sqrt(np.mean([x.standard_error**2 for x in found]))
  assert 0.85 < error / spread < 1.1
  assert np.isnan(annealing.estimate(0.0, log_w_NC[0, :3], 1).standard_error)


def test_the_standard_error_is_the_spread_of_estimates():
  # 400 estimates from 100 log-normal weights each: their sd is known to 4% (1 sd), the mean of the
  # standard errors better; sigma = 0.5 keeps the delta method good to a few percent.
  log_w = np.random.default_rng(2).normal(0, 0.5, (400, 100))
  found = [annealing.estimate(0.0, row, 1) for row in log_w]
  spread = np.std([x.log_partition for x in found])
  assert abs(np.mean([x.standard_error for x in found]) / spread - 1) < 0.2


@pytest.mark.parametrize('betas', [annealing.linear(1), annealing.linear(3),
                                   np.array([0, 0.5, 0.5, 0.9, 1])])
def test_the_mean_weight_is_exact_for_any_schedule(betas):
  # E[w] = Z / Z_0 however crude: a transition at the wrong temperature, or a weight taken before
  # instead of after it, a key shared by two chunks is a bias that no number of chains removes.
  params, base_V = machine(0.5, seed=3), jnp.linspace(-1, 1, V)
  found = annealing.ais(jax.random.key(0), params, base_V, num_chains=2**17, betas=betas, chunk=1)
  base = rbm.Params(np.zeros((V, H)), base_V, np.zeros(H))
  ratio = np.exp(oracle.rbm_joint(params).log_partition - oracle.rbm_joint(base).log_partition)
  w_C1 = np.exp(found.log_weights_C)[:, None]
  assert w_C1.std() / w_C1.mean() > 0.2  # crude indeed
  assert oracle.mean_p_value(w_C1, np.array([ratio])) > oracle.SIGNIFICANCE
  assert found.num_temperatures == len(betas) - 1


@pytest.mark.parametrize('base', ['uniform', 'biases'])
@pytest.mark.parametrize('name', MACHINES)
def test_ais_finds_log_z(name, base):
  # Within 4 standard errors (a correct sampler fails for one key in 10^4) and within 0.1 nats.
  params = MACHINES[name]
  base_V = jnp.zeros(V) if base == 'uniform' else params.b_V
  found = annealing.ais(jax.random.key(1), params, base_V, num_chains=CHAINS,
                        betas=annealing.refined(500))
  error = found.log_partition - oracle.rbm_joint(params).log_partition
  assert abs(error) < 4 * found.standard_error + 1e-5 and abs(error) < 0.1, (error, found[1])
  assert 0.5 * CHAINS < found.effective_sample_size <= CHAINS
  assert 0 < found.standard_error < 0.05 and found.log_weights_C.shape == (CHAINS,)


def test_the_published_schedule_is_the_default_and_progress_is_reported():
  lines = []
  params = MACHINES['strong']
  found = annealing.ais(jax.random.key(2), params, params.b_V, num_chains=CHAINS,
                        report=lines.append)
  assert found.num_temperatures == 14_500 and len(lines) == 29
  assert lines[0].startswith('ais 500/14500') and lines[-1].startswith('ais 14500/14500')
  error = found.log_partition - oracle.rbm_joint(params).log_partition
  assert abs(error) < 4 * found.standard_error + 1e-5
  # Thirty times the temperatures: weights nearly equal.
  assert found.effective_sample_size > 0.95 * CHAINS


def test_no_digits_are_lost_on_the_way_to_large_weights():
  # Without W every chain's weight is sum_j softplus(c_j) - H log 2, 484 nats, whatever is drawn.
  params = rbm.Params(jnp.zeros((V, H)), jnp.zeros(V), jnp.float32([99.7, 98.1, 97.3, 96.7, 95.9]))
  found = annealing.ais(jax.random.key(6), params, params.b_V, num_chains=CHAINS)
  exact = np.logaddexp(0, np.asarray(params.c_H, np.float64)).sum() - H * np.log(2)
  np.testing.assert_allclose(found.log_weights_C, exact, rtol=0, atol=2e-4)


def test_chunks_may_be_uneven():
  params, lines = MACHINES['strong'], []
  found = annealing.ais(jax.random.key(3), params, params.b_V, num_chains=CHAINS,
                        betas=annealing.refined(500), chunk=200, report=lines.append)
  assert [line.split()[1] for line in lines] == ['200/500', '400/500', '500/500']
  error = found.log_partition - oracle.rbm_joint(params).log_partition
  assert abs(error) < 4 * found.standard_error + 1e-5


def test_the_quick_estimate_agrees():
  params = MACHINES['strong']
  quick = jax.jit(lambda key: annealing.quick_log_partition(
    key, params, params.b_V, num_chains=CHAINS, betas=annealing.refined(500)))
  found = quick(jax.random.key(4))
  assert found.shape == () and found.dtype == jnp.float32
  np.testing.assert_allclose(found, oracle.rbm_joint(params).log_partition, atol=0.1)
  assert quick(jax.random.key(5)) != found


def test_the_quick_estimate_of_both_ways_is_closer_than_that_of_one():
  params = MACHINES['strong']
  exact, few = oracle.rbm_joint(params).log_partition, annealing.refined(10)
  start_CV = gibbs.sample(jax.random.key(1), rbm, params, CHAINS)[0]
  both = jax.jit(lambda key: annealing.quick_bennett(key, params, params.b_V, start_CV, betas=few))
  forward = jax.jit(lambda key: annealing.quick_log_partition(
    key, params, params.b_V, num_chains=CHAINS, betas=few))
  found = both(jax.random.key(4))
  assert found.shape == () and found.dtype == jnp.float32
  keys = jax.random.split(jax.random.key(7), 20)
  off_both, off_forth = (np.sqrt(np.mean([(f(key) - exact)**2 for key in keys]))
                         for f in (both, forward))
  assert off_both < 0.1 and off_both < off_forth, (off_both, off_forth)


# Both sides.


@pytest.mark.parametrize('name', MACHINES)
def test_a_bracket_holds_the_exact_value(name):
  params = MACHINES[name]
  exact = oracle.rbm_joint(params).log_partition
  draws = np.random.default_rng(1).random((CHAINS, V)) < 0.5
  found = annealing.bracket(jax.random.key(0), params, params.b_V, draws.astype(np.float32),
                            betas=annealing.linear(100), burn_in=100)
  # Each side within 5 of its standard errors; the true one is a little larger than estimated.
  for side in (found.lower, found.upper):
    assert abs(side.log_partition - exact) < 5 * side.standard_error + 1e-4
    assert side.effective_sample_size > CHAINS / 4
  assert abs(found.log_partition - exact) < 5 * max(found.lower.standard_error,
                                                    found.upper.standard_error) + 1e-4


@pytest.mark.slow
def test_a_coarse_bracket_is_wide_and_holds_the_exact_value():
  # Two temperatures and one chain: in the mean over 150 both sides are off, each on its own.
  params, exact = MACHINES['strong'], oracle.rbm_joint(MACHINES['strong']).log_partition
  draws = (np.random.default_rng(1).random((1, V)) < 0.5).astype(np.float32)
  found = [annealing.bracket(jax.random.key(seed), params, jnp.zeros(V), draws,
                             betas=annealing.linear(2), burn_in=100) for seed in range(150)]
  lower, middle, upper = (np.array(x) for x in zip(*(
    (b.lower.log_partition, b.log_partition, b.upper.log_partition) for b in found)))
  for low, high in ((lower, exact), (exact, upper)):
    gap = high - low
    assert gap.mean() > 4 * gap.std(ddof=1) / np.sqrt(150) > 0.02
  assert abs(middle.mean() - exact) < min(exact - lower.mean(), upper.mean() - exact)


def test_bennett_is_exact_for_gaussian_work():
  # forward ~ N(c - s^2/2, s^2) and reverse ~ N(-c - s^2/2, s^2) are the pair that belongs to c.
  draws = np.random.default_rng(0)
  forward, reverse = draws.normal(7 - 2, 2, 20_000), draws.normal(-7 - 2, 2, 20_000)
  assert abs(annealing.bennett(forward, reverse) - 7) < 0.05


def test_a_population_is_unbiased_and_its_error_is_its_spread():
  params, base_V = MACHINES['strong'], jnp.zeros(V)
  exact = float(rbm.log_partition(params))
  found = [annealing.population(jax.random.key(i), params, base_V, 64, annealing.linear(12))[0]
           for i in range(40)]
  log_z = np.array([z.log_partition for z in found])
  # 40 means, 4 standard errors: one key in 10^4.
  ratio = np.exp(log_z - exact)
  assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / 40**0.5
  errors = np.array([z.standard_error for z in found])
  assert 0.6 < log_z.std(ddof=1) / np.sqrt(np.mean(errors**2)) < 1.6
  assert all(z.effective_sample_size <= 64 + 1e-9 for z in found)


def test_resampling_is_in_proportion():
  log_w_C = np.log([1.0, 2.0, 4.0, 1.0])
  for offset in (0.01, 0.5, 0.99):
    assert np.bincount(annealing._systematic(offset, log_w_C), minlength=4)[2] == 2
