"""Deep Boltzmann machines against enumeration in NumPy, of each depth and kind of unit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gen_models.models import dbm, gibbs, rbm, units
from tests import oracle
from tests.models import deep_boltzmann

pytestmark = pytest.mark.usefixtures('whole_programs')

MODELS = {
  'rbm': dbm.model((3, 4)),
  'two': dbm.model((4, 3, 2)),
  'three': dbm.model((3, 2, 3, 2)),
  'spins': dbm.model((3, 2, 2), units.SPIN, units.SPIN),
  'labels': dbm.model((3, 3, 2), num_labels=3),
  'labels below': dbm.model((3, 2), num_labels=3),
}
every_model = pytest.mark.parametrize('name', MODELS)


@functools.cache
def case(name):
  model = MODELS[name]
  params = deep_boltzmann.params_of(model, seed=list(MODELS).index(name))
  return model, params, deep_boltzmann.exact(model, params)


def float32(x):
  return jnp.asarray(x, jnp.float32)


@every_model
def test_energy_partition_and_likelihood(name):
  model, params, exact = case(name)
  x = [float32(part) for part in exact.x_SD]
  for a in (0, len(exact.v_AV) - 1):
    v = jnp.broadcast_to(float32(exact.v_AV[a]), (len(x[0]), model.sizes[0]))
    np.testing.assert_allclose(-model.energy(params, (v, *x)), exact.minus_energy_AS[a], atol=2e-5)
  np.testing.assert_allclose(model.log_partition(params), exact.log_partition, rtol=1e-5)
  np.testing.assert_allclose(model.log_likelihood(params, float32(exact.v_AV)), exact.log_p_A,
                             atol=3e-5)


@every_model
def test_the_folded_machine_is_the_same(name):
  model, params, exact = case(name)
  folded, machine = model.fold(params), model.machine
  assert (machine is rbm) == model.binary
  x = (jnp.broadcast_to(float32(exact.v_AV[1]), (len(exact.x_SD[0]), model.sizes[0])),
       *map(float32, exact.x_SD))
  v_BV, h_BH = model.join(x)
  np.testing.assert_allclose(machine.energy(folded, v_BV, h_BH), model.energy(params, x), atol=1e-5)
  for a, b in zip(jax.tree.leaves(model.unfold(folded)), jax.tree.leaves(params), strict=True):
    np.testing.assert_array_equal(a, b)
  for a, b in zip(model.split(v_BV, h_BH), x, strict=True):
    np.testing.assert_array_equal(a, b)
  mask = model.connections()
  counted = sum(w.size for w in params.weights)
  assert folded.w_VH.size == counted if mask is None else mask.sum() == counted
  if mask is not None:
    assert np.all((np.asarray(folded.w_VH) != 0) == (mask == 1))


@every_model
def test_conditionals_of_even_and_odd_layers(name):
  # E[odd | even] and E[even | odd] by summing the joint over states that agree.
  model, params, exact = case(name)
  folded, machine = model.fold(params), model.machine
  all_x = [np.repeat(exact.v_AV, len(exact.x_SD[0]), axis=0),
           *(np.tile(x, (len(exact.v_AV), 1)) for x in exact.x_SD)]
  p = exact.p_AS.ravel()
  even, odd = (np.concatenate(all_x[parity::2], axis=1) for parity in (0, 1))
  for given, other, mean in ((even, odd, machine.hidden_mean), (odd, even, machine.visible_mean)):
    row = len(given) // 3
    same = np.all(given == given[row], axis=1)
    expected = p[same] @ other[same] / p[same].sum()
    np.testing.assert_allclose(mean(folded, float32(given[row:row + 1]))[0], expected, atol=1e-5)


@pytest.mark.parametrize('name', ['two', 'three', 'labels'])
def test_gibbs_steps_of_alternate_layers_leave_the_machine_invariant(name):
  model, params, exact = case(name)
  folded, num = model.fold(params), 20_000
  key_start, key_run = jax.random.split(jax.random.key(3))
  p = exact.p_AS.ravel()
  cells = jax.random.choice(key_start, len(p), (num,), p=float32(p))
  a, s = np.divmod(np.asarray(cells), exact.p_AS.shape[1])
  x = (float32(exact.v_AV[a]), *(float32(part[s]) for part in exact.x_SD))
  step = jax.jit(lambda key, chains: gibbs.run(key, model.machine, folded, chains, 2))
  after = model.split(*step(key_run, gibbs.Chains(*model.join(x))))
  oracle.assert_frequencies(cell(exact, after), p)


def cell(exact, x):
  """The index of each state in p_AS, flattened."""
  keys = {tuple(row): i for i, row in enumerate(np.concatenate(
    [np.repeat(exact.v_AV, len(exact.x_SD[0]), axis=0),
     *(np.tile(part, (len(exact.v_AV), 1)) for part in exact.x_SD)], axis=1).astype(int).tolist())}
  return [keys[tuple(row)] for row in np.concatenate(x, axis=1).astype(int).tolist()]


@pytest.mark.parametrize('name', ['rbm', 'two', 'three'])
@pytest.mark.parametrize('damping', [0.0, 0.5])
def test_mean_field_is_the_fixed_point_and_its_bound_is_below(name, damping):
  model, params, exact = case(name)
  v_AV = float32(exact.v_AV)
  q = model.posterior(params, v_AV, tolerance=1e-6, max_iterations=1000, damping=damping)
  assert int(q.iterations) < 1000
  means, bound_A = deep_boltzmann.mean_field(model, params, exact.v_AV)
  for m, expected in zip(model.features(params, q), means, strict=True):
    np.testing.assert_allclose(m, expected, atol=2e-5)
  found_A = model.bound(params, v_AV, q)
  np.testing.assert_allclose(found_A, bound_A, atol=2e-5)
  log_p_A = exact.log_p_A + exact.log_partition
  assert np.all(found_A <= log_p_A + 1e-4)
  if name == 'rbm':
    np.testing.assert_allclose(found_A, log_p_A, atol=2e-5)


def test_every_pass_of_mean_field_raises_the_bound():
  model, params, exact = case('three')
  v_AV = float32(exact.v_AV)
  bounds = [np.asarray(model.bound(params, v_AV, model.posterior(
    params, v_AV, tolerance=0.0, max_iterations=n, damping=0.3))) for n in (1, 2, 4, 8, 16)]
  assert np.all(np.diff(bounds, axis=0) > -1e-5) and np.all(bounds[-1] > bounds[0])


def test_a_tolerance_stops_the_iteration():
  model, params, exact = case('two')
  q = model.posterior(params, float32(exact.v_AV), tolerance=1e-2)
  assert float(q.change) < 1e-2 and 1 < int(q.iterations) < 30
  assert int(model.posterior(params, float32(exact.v_AV), tolerance=0.0,
                             max_iterations=7).iterations) == 7


def test_the_gradient_of_the_means_is_that_of_the_fixed_point():
  model, params, exact = case('three')
  params = jax.tree.map(lambda x: x / 2, params)
  v_AV = float32(exact.v_AV)

  def score(params, tolerance=1e-7, max_iterations=500):
    q = model.posterior(params, v_AV, tolerance=tolerance, max_iterations=max_iterations)
    return sum(jnp.sum(jnp.sin(3 * m)) for m in model.features(params, q))

  grads, draws = jax.grad(score)(params), np.random.default_rng(0)
  toward = jax.tree.map(lambda x: float32(draws.normal(size=x.shape)), params)
  moved = [jax.jit(score)(jax.tree.map(lambda x, d, e=e: x + e * d, params, toward))
           for e in (-1e-2, 1e-2)]
  along = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(toward)))
  np.testing.assert_allclose(along, (moved[1] - moved[0]) / 2e-2, rtol=5e-3)


@pytest.mark.parametrize('name', ['labels', 'labels below'])
def test_a_held_label_is_a_state_of_its_layer(name):
  # With weak weights mean field is nearly exact: held, means are those given label and data.
  model, params, _ = case(name)
  params = params._replace(weights=jax.tree.map(lambda w: w / 10, params.weights))
  exact = deep_boltzmann.exact(model, params)
  v_AV, y_A = float32(exact.v_AV), np.arange(len(exact.v_AV)) % 3
  q = model.posterior(params, v_AV, y_A, tolerance=1e-6)
  *means, label = model.features(params, q)
  np.testing.assert_array_equal(label, np.eye(3)[y_A])
  chosen_AS = exact.posterior_AS * (exact.x_SD[-1] @ np.eye(3)[y_A].T).T
  chosen_AS /= chosen_AS.sum(1, keepdims=True)
  for m, x_SD in zip(means, exact.x_SD):
    np.testing.assert_allclose(m, chosen_AS @ x_SD, atol=2e-3)
  np.testing.assert_allclose(model.label_given_visible(params, v_AV, tolerance=1e-6),
                             exact.posterior_AS @ exact.x_SD[-1], atol=2e-3)
  with pytest.raises(ValueError, match='without a layer'):
    MODELS['two'].posterior(case('two')[1], float32(np.zeros((1, 4))), jnp.zeros(1, int))


@pytest.mark.parametrize('name', ['two', 'three', 'labels'])
def test_importance_weights_average_to_the_unnormalised_likelihood(name):
  model, params, exact = case(name)
  v_AV = float32(exact.v_AV)
  q = model.posterior(params, v_AV)
  x_KAS = model.sample_mean_field(jax.random.key(1), params, q, 4000)
  log_w_KA = np.asarray(model.log_weights(params, v_AV, q, x_KAS), np.float64)
  truth_A = exact.log_p_A + exact.log_partition
  p_value = oracle.mean_p_value(np.exp(log_w_KA - truth_A), 1.0)
  assert p_value > oracle.SIGNIFICANCE
  bound_A = np.asarray(model.bound(params, v_AV, q))
  noise_A = 5 * log_w_KA.std(0) / np.sqrt(4000) + 1e-4
  assert np.all(log_w_KA.mean(0) > bound_A - noise_A)
  assert np.all(log_w_KA.mean(0) < truth_A + noise_A)


@pytest.mark.parametrize('name', ['two', 'three'])
def test_gibbs_steps_with_the_data_held_sample_the_posterior(name):
  model, params, exact = case(name)
  a = 2
  v_BV = jnp.broadcast_to(float32(exact.v_AV[a]), (20_000, model.sizes[0]))
  q = model.posterior(params, v_BV)
  x_BE, x_BO = jax.jit(model.sample_posterior, static_argnums=3)(jax.random.key(5), params, q, 40)
  x = model.split(jnp.concatenate([v_BV, x_BE], axis=1), x_BO)
  cells = np.asarray(cell(exact, x)) - a * len(exact.x_SD[0])
  oracle.assert_frequencies(cells, exact.posterior_AS[a])


def test_draws_follow_the_machine_and_need_no_data():
  model, params, exact = case('two')
  draws, means = jax.jit(model.sample, static_argnums=(2, 3), static_argnames='num_warm')(
    jax.random.key(7), params, 20_000, 40, num_warm=10)
  oracle.assert_frequencies(oracle.index(draws), np.exp(exact.log_p_A))
  np.testing.assert_allclose(means.mean(0), np.exp(exact.log_p_A) @ exact.v_AV, atol=0.02)


def test_gaussian_data_under_bernoulli_units():
  # p(v) is a mixture of Gaussians, one for each state of x_1: integrated on a grid.
  model = dbm.model((1, 3, 2), units.Gaussian())
  params = deep_boltzmann.params_of(model, 0.5)
  v_AV = np.linspace(-12, 12, 4001)[:, None]
  log_p_A = np.asarray(jax.jit(model.log_likelihood)(params, float32(v_AV)), np.float64)
  total = np.trapezoid(np.exp(log_p_A), v_AV[:, 0])
  np.testing.assert_allclose(total, 1.0, rtol=1e-4)
  q = model.posterior(params, float32(v_AV))
  assert np.all(model.bound(params, float32(v_AV), q) - model.log_partition(params)
                <= log_p_A + 1e-4)


def test_real_units_above_the_data():
  # x_2 Gaussian: the exact sum enumerates x_1 and integrates x_2; mean field stays below.
  model = dbm.DBM((3, 2, 2), (units.BERNOULLI, units.BERNOULLI, units.LINEAR))
  params = deep_boltzmann.params_of(model, 0.7)
  v_AV = float32(oracle.states(3))
  log_p_A = np.asarray(model.log_likelihood(params, v_AV))
  np.testing.assert_allclose(scipy.special.logsumexp(log_p_A), 0, atol=1e-5)
  q = model.posterior(params, v_AV, tolerance=1e-6)
  gap_A = log_p_A + model.log_partition(params) - model.bound(params, v_AV, q)
  assert np.all(gap_A > 0) and np.all(gap_A < 2)


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match='at least one layer above'):
    dbm.model((3,))
  with pytest.raises(ValueError, match='learned variance can only be data'):
    dbm.model((3, 2, 2), hidden=units.Gaussian())
  with pytest.raises(ValueError, match='groups of 3'):
    dbm.model((4, 2), units.Categorical(3))
  with pytest.raises(ValueError, match='data mean has shape'):
    dbm.model((3, 2)).init(jax.random.key(0), jnp.zeros(4))
  with pytest.raises(ValueError, match='bound or anneal'):
    wide = dbm.model((40, 30, 30))
    wide.log_unnormalised(wide.init(jax.random.key(0)), jnp.zeros((1, 40)))


# Pretraining: what Salakhutdinov & Hinton (2009) say of the composed machine, in log-odds.


def test_copies_of_each_end_and_between():
  assert [dbm.copies(depth, 2) for depth in range(2)] == [(2, 1), (1, 2)]
  assert [dbm.copies(depth, 4) for depth in range(4)] == [(2, 1), (2, 2), (2, 2), (1, 2)]
  assert dbm.copies(0, 1) == (1, 1)


@pytest.mark.parametrize('sizes', [(4, 3, 2), (4, 3, 2, 3)])
def test_the_composed_machine_halves_what_inner_layers_hear(sizes):
  draws, num = np.random.default_rng(2), len(sizes) - 1
  layers = [rbm.Params(*(float32(draws.normal(size=shape)) for shape in (pair, *zip(pair))))
            for pair in zip(sizes, sizes[1:])]
  model, params = dbm.model(sizes), dbm.compose(layers)
  x = [float32(draws.random((6, size)) < 0.5) for size in sizes]
  folded = model.fold(params)
  even, odd = model.join(x)
  found = model.split(folded.b_V + odd @ folded.w_VH.T, folded.c_H + even @ folded.w_VH)
  for k in range(num + 1):
    said = []
    if k > 0:  # hidden units of the RBM below, which sees its visible side `copies` times
      visible, _ = dbm.copies(k - 1, num)
      said.append(layers[k - 1].c_H + visible * x[k - 1] @ layers[k - 1].w_VH)
    if k < num:  # visible units of the RBM above
      _, hidden = dbm.copies(k, num)
      said.append(layers[k].b_V + hidden * x[k + 1] @ layers[k].w_VH.T)
    np.testing.assert_allclose(found[k], sum(said) / len(said), atol=1e-5)


def test_what_goes_up_the_stack_is_seen_twice():
  draws = np.random.default_rng(3)
  layers = tuple(rbm.Params(*(float32(draws.normal(size=shape)) for shape in (pair, *zip(pair))))
                 for pair in ((4, 3), (3, 2)))
  v_BV = float32(draws.random((5, 4)) < 0.5)
  params = type('Layers', (), {'layers': layers})
  means = dbm.Stack(2).top_input(jax.random.key(0), params, v_BV, 'means')
  np.testing.assert_allclose(
    means, jax.nn.sigmoid(layers[0].c_H + 2 * v_BV @ layers[0].w_VH), atol=1e-6)
  samples = dbm.Stack(2).top_input(jax.random.key(0), params, jnp.repeat(v_BV, 4000, 0), 'samples')
  np.testing.assert_allclose(samples.reshape(5, 4000, 3).mean(1), means, atol=0.05)
