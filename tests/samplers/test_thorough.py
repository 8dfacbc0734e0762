"""What the thorough searches begin with, and how their estimates widen a bracket."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import rbm, units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine
from gen_models.samplers import annealing, searches, thorough

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V = 12


def detectors():
  """(RBM, images): hidden unit j is on where image j is seen, and draws it."""
  images = np.random.default_rng(0).integers(0, 2, (3, V)).astype(np.float32)
  w_VH = 8 * (2 * images - 1).T
  return rbm.Params(jnp.asarray(w_VH), jnp.zeros(V), jnp.asarray(8 * (1 - images.sum(1)))), images


def test_a_flipped_hidden_unit_draws_what_it_stands_for():
  params, images = detectors()
  v_CV = jnp.tile(jnp.asarray(images[0]), (300, 1))
  drawn_CV = np.asarray(thorough.flipped(jax.random.key(0), params, v_CV))
  for image_V in images:
    assert np.any(np.all(drawn_CV == image_V, axis=1))
  # The first chains flip each unit with probability 1 / 3, and so none with 0.3.
  assert np.mean(np.all(drawn_CV[:30] == images[0], axis=1)) > 0.1


def test_fixed_points_of_random_starts_are_all_modes():
  # All on or all off, alike. Of seven hidden units the majority of a random start decides.
  w_VH = jnp.full((V, 7), 3.0)
  params = rbm.Params(w_VH, jnp.full(V, -10.5), jnp.full(7, -18.0))
  v_NV = np.asarray(thorough.fixed_points(jax.random.key(0), params, 200))
  on_N = v_NV.mean(1)
  assert np.all((on_N < 0.1) | (on_N > 0.9))
  assert 0.2 < on_N.mean() < 0.8


def test_a_schedule_twice_as_fine_has_its_own_temperatures_too():
  betas = annealing.refined(7)
  fine = thorough.twice_as_fine(betas)
  np.testing.assert_allclose(fine[::2], betas)
  np.testing.assert_allclose(fine[1::2], (betas[1:] + betas[:-1]) / 2)


def estimate(log_z, error):
  return annealing.Estimate(log_z, error, 9.0, np.zeros(9), 1)


@pytest.mark.parametrize('others, ladder, sides', [
  ([(1.0, 0.1)], None, (1.0, 2.0)), ([(1.5, 0.1)], None, (1.1, 2.0)),  # 4 standard errors below
  ([(3.0, 0.1)], None, (2.6, 2.0)),  # more than the side above: they cross
  ([(3.0, float('nan'))], None, (1.0, 2.0)), ([], (1.5, 0.1), (1.0, 2.0)),
  ([], (3.0, 0.1), (1.0, 2.6)), ([], (0.0, 0.1), (0.4, 2.0)),
  ([], (3.0, float('nan')), (1.0, 2.0))])
def test_a_bracket_is_widened_to_hold_what_others_say(others, ladder, sides):
  found = searches.lifted(annealing.Bracket(1.5, estimate(1.0, 0.2), estimate(2.0, 0.3)),
                          [estimate(*other) for other in others])
  if ladder:
    found = thorough.held(found, estimate(*ladder))
  np.testing.assert_allclose((found.lower.log_partition, found.upper.log_partition), sides)
  assert min(sides) <= found.log_partition <= max(sides)
  assert (found.lower.standard_error, found.upper.standard_error) == (0.2, 0.3)


def test_a_mixture_of_bases_is_unbiased_and_each_component_has_its_images():
  params, images = detectors()
  params = jax.tree.map(lambda x: x / 8, params)
  start_CV = jnp.tile(jnp.asarray(images), (100, 1))
  walk = thorough.mixture(jax.random.key(0), params, start_CV, annealing.linear(50), chunk=50,
                          model=rbm)
  found = annealing.estimate(0.0, walk.log_w_C, 50)
  assert len(walk.v_CV) == 300 and found.standard_error < 0.1
  assert abs(found.log_partition - float(rbm.log_partition(params))) < 5 * found.standard_error


def test_searches_of_other_units_draw_states_of_them():
  machine = Machine(units.Categorical(3), DoubleRectified(0.5, 2.0))
  params = machine.init(jax.random.key(0), 6, 4, scale=1.0)

  @jax.jit
  def drawn():
    v_CV = machine.visible.sample(jax.random.key(1), params.b_V, jnp.zeros((20, 6)))
    return (thorough.flipped(jax.random.key(2), params, v_CV, machine),
            thorough.fixed_points(jax.random.key(3), params, 20, model=machine))

  for drawn_CV in drawn():
    units.check_batch(machine.visible, 6, np.asarray(drawn_CV))


def test_a_ladder_says_what_it_did():
  params, _ = detectors()
  params = jax.tree.map(lambda x: x / 8, params)
  base_V = jnp.zeros(V)
  tour = thorough.ladder_tour(jax.random.key(0), params, base_V, 5, num_rungs=6, num_steps=200,
                              burn_in=20)
  exact = float(rbm.log_partition(params))
  assert abs(tour.estimate.log_partition - exact) < 5 * tour.estimate.standard_error + 1e-3
  assert tour.estimate.standard_error < 0.2
  assert tour.counts and tour.round_trips > 50  # of five chains
  assert tour.ends_NV.shape == (4 * 5, V)
