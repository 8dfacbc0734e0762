"""Floats as arguments of programs: which can be, and that they change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data
from gen_models.models import rbm
from gen_models.training import checks, hyper, loop, parallel, position
from tests.training import toy


def build(*, learning_rate: float = 0.1, average: float = 0.0, num_steps: int = 20,
          estimator: str = 'centred'):
  return toy.experiment(toy.phase(estimator, learning_rate=learning_rate, average=average,
                                  num_steps=num_steps))


VALUES = dict(learning_rate=0.1, average=0.0, num_steps=20, estimator='centred')


def bind(**changes):
  return hyper.bind(build, {**VALUES, **changes}, toy.arrays(), toy.arrays(12))


def fit(experiment, key, **options):
  return loop.fit(experiment, toy.arrays(), toy.arrays(12), key, **options)


def test_a_float_that_decides_what_is_computed_stays_a_constant():
  assert hyper.traceable(build, VALUES, toy.arrays(), toy.arrays(12)) == ['learning_rate']
  bound = bind()
  assert bound.hyper == {'learning_rate': 0.1} and bound.phases[0].at is not None


def test_replicas_cannot_differ_in_a_constant():
  with pytest.raises(ValueError, match='average decides'):
    bind(average=np.array([0.9, 0.99]))


def test_an_argument_gives_what_the_constant_gives():
  """To rounding: a constant is rounded from 64 bits where it is used, an argument once."""
  bound, plain = fit(bind(), jax.random.key(3)), fit(build(), jax.random.key(3))
  for a, b in zip(jax.tree.leaves(bound.state.params), jax.tree.leaves(plain.state.params),
                  strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  other = fit(bind(learning_rate=0.2), jax.random.key(3))
  assert not np.allclose(other.state.params.w_VH, bound.state.params.w_VH, atol=1e-3)


def test_another_value_is_not_compiled_again():
  counts = []

  def counting(**values):
    counts.append(values)
    return build(**values)

  names = ['learning_rate']
  bound = [hyper.bind(counting, {**VALUES, 'learning_rate': rate}, toy.arrays(), toy.arrays(12),
                      names) for rate in (0.1, 0.2)]
  runner = parallel.runner(bound[0].phases[0])
  arrays = runner.place_arrays(toy.arrays())
  ends = []
  for experiment in bound:
    state = parallel.init_states(experiment.phases[0], jax.random.key(1), toy.arrays(),
                                 hyper={'learning_rate': jnp.float32(experiment.hyper[names[0]])})
    ends.append(runner.dispatch(runner.place(state), arrays, 5)[0])
  assert runner.dispatch._cache_size() == 1
  assert not np.array_equal(ends[0].params.w_VH, ends[1].params.w_VH)


def test_hyperparameters_are_not_saved(tmp_path):
  """The configuration has them; so a checkpoint reads the same whatever became an argument."""
  from gen_models.training import checkpoint
  with checkpoint.Checkpoints(tmp_path, identity={}) as checkpoints:
    fit(bind(), jax.random.key(3), checkpoints=checkpoints)
    state, step = position.restore(build(), checkpoints, jax.random.key(3), toy.arrays())
  assert step == 20 and state.hyper == ()


def refused(experiment, labels=True):
  arrays, valid = toy.arrays(), toy.arrays(12)
  if not labels:
    arrays, valid = arrays._replace(labels=None), valid._replace(labels=None)
  with pytest.raises(checks.Unfit) as caught:
    hyper.traceable(lambda **values: experiment, {'learning_rate': 0.1}, arrays, valid)
  return str(caught.value)


def second(**changes):
  return toy.experiment(toy.phase('cd', name='first'),
                        toy.phase('cd', name='second')._replace(**changes))


@pytest.mark.parametrize('experiment, labels, message', [
  (second(batch_at=data.batches(8, 'dynamic', 255, with_labels=True)), False,
   'phase second: batches with labels, but the data have no labels'),
  (second(batch_size=-5), True, 'phase second: batch_size is -5'),
  (second(init=lambda key, arrays, previous: rbm.Params(
    jnp.zeros((12, 0)), jnp.zeros(12), jnp.zeros(0))), True,
   'phase second: parameter .w_VH has the shape (12, 0)'),
  (second(monitor=lambda key, params, memory, train, valid: {'x': params.b_V + params.c_H}), True,
   'the monitor of phase second: add got incompatible shapes'),
  (toy.experiment(validate=lambda key, params, arrays: {
    'nats': jnp.mean(rbm.log_likelihood(
      rbm.Params(jnp.zeros((60, 60)), jnp.zeros(60), jnp.zeros(60)), jnp.zeros((1, 60))))}), True,
   'validation in phase rbm: exact log Z would enumerate 2^60 states'),
  (toy.experiment(check=lambda params, arrays: jax.eval_shape(
    rbm.log_partition, params._replace(c_H=params.c_H[:3]))), True, 'evaluation: ')])
def test_what_would_fail_after_hours_is_refused_at_once(experiment, labels, message):
  error = refused(experiment, labels)
  assert error.startswith(message) and '\n' not in error


def test_an_error_that_is_no_matter_of_shapes_is_shown():
  def broken(**values):
    def validate(key, params, arrays):
      raise KeyError('a fault of the code')
    return toy.experiment(validate=validate)

  with pytest.raises(KeyError, match='a fault of the code'):
    hyper.traceable(broken, VALUES, toy.arrays(), toy.arrays(12))
