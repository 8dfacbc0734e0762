"""Flows against their Jacobians, masks and inverses, for both kinds and with context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.models import flows

pytestmark = pytest.mark.usefixtures('strict_promotion')

R = 5
FLOWS = {'autoregressive': flows.autoregressive(4, 2, (9, 8), num_context=2),
         'coupling': flows.coupling(3, 3, (6,)), 'one unit': flows.coupling(1, 1, (4,), 1)}


def example(flow: flows.Flow, seed=0):
  """Parameters, e [R, D] and context of which nothing is zero."""
  rng = np.random.default_rng(seed)
  def some(x):
    return jnp.asarray(0.7 * rng.normal(size=x.shape), jnp.float32)
  params = jax.tree.map(some, jax.eval_shape(flow.init, jax.random.key(0)))
  context = flow.steps[0].num_context
  return params, some(np.zeros((R, flow.num_units))), (
    some(np.zeros((R, context))) if context else None)


@pytest.mark.parametrize('name', [
  'coupling', *(pytest.param(name, marks=pytest.mark.slow)
                for name in ('autoregressive', 'one unit'))])
def test_a_flow_is_invertible_and_its_determinant_that_of_its_jacobian(name):
  flow = FLOWS[name]
  params, e_RD, h_RC = example(flow)

  @jax.jit
  def found(params, e_RD, h_RC):
    def round_trip(params):
      z_RD, log_det_R = flow.forward(params, e_RD, h_RC)
      again_RD, of_inverse_R = flow.inverse(params, z_RD, h_RC)
      return jnp.sum(jnp.sin(again_RD)), (z_RD, log_det_R, again_RD, of_inverse_R)

    slopes, results = jax.grad(round_trip, has_aux=True)(params)
    jacobian_RDRD = jax.jacfwd(lambda e: flow.forward(params, e, h_RC)[0])(e_RD)
    backwards_RDRD = jax.jacrev(lambda z: flow.inverse(params, z, h_RC)[0])(results[0])
    return results, slopes, jacobian_RDRD, backwards_RDRD

  (_, log_det_R, again_RD, of_inverse_R), slopes, jacobian_RDRD, backwards_RDRD = found(
    params, e_RD, h_RC)
  np.testing.assert_allclose(again_RD, e_RD, atol=2e-5)
  jacobians_RDD = np.asarray(jacobian_RDRD, np.float64)[np.arange(R), :, np.arange(R)]
  np.testing.assert_allclose(np.linalg.slogdet(jacobians_RDD)[1], log_det_R, atol=1e-4)
  np.testing.assert_allclose(of_inverse_R, log_det_R, atol=1e-4)
  # Implicit derivatives: along z the inverse of the Jacobian, along the parameters none in all.
  np.testing.assert_allclose(
    np.asarray(backwards_RDRD)[np.arange(R), :, np.arange(R)] @ jacobians_RDD,
    np.broadcast_to(np.eye(flow.num_units), jacobians_RDD.shape), atol=1e-3)
  for slope in jax.tree.leaves(slopes):
    np.testing.assert_allclose(slope, 0, atol=1e-3)


def test_outputs_see_units_of_lower_degree_and_all_of_the_context():
  step = flows.Masked((2, 0, 1), (7, 6), 2)
  params, x_D = (jax.tree.map(lambda x: jnp.ones(x.shape), step.init(
    jax.random.key(0), jnp.zeros((1, 5)))), 0.1 * jnp.ones(5))
  seen_OD = np.asarray(jax.jacfwd(lambda x: step.apply(params, x[None])[0])(x_D)) != 0
  expected_3D = [[False, True, True, True, True], [False, False, False, True, True],
                 [False, True, False, True, True]]
  np.testing.assert_array_equal(seen_OD, expected_3D * 2)


@pytest.mark.slow
def test_untrained_flows_are_the_identity_and_rows_settle_for_themselves():
  flow = FLOWS['autoregressive']
  params, e_RD, h_RC = example(flow)
  z_RD, log_det_R = flow.forward(flow.init(jax.random.key(1)), e_RD, h_RC)
  np.testing.assert_array_equal(z_RD, e_RD)
  np.testing.assert_array_equal(log_det_R, 0)
  inverse = jax.jit(lambda z: flow.inverse(params, z, h_RC)[0])
  one_RD, other_RD = inverse(e_RD), inverse(e_RD.at[1:].set(jnp.nan))
  np.testing.assert_array_equal(one_RD[0], other_RD[0])


def test_a_flow_has_steps_and_hidden_layers():
  for make in (flows.autoregressive, flows.coupling):
    for num_steps, features in ((0, (3,)), (1, ())):
      with pytest.raises(ValueError, match='at least one step and one hidden layer'):
        make(3, num_steps, features)
