"""The numbers folded into keys: they are part of what every run ever begun is."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.training import keys


def same(a, b):
  return np.array_equal(jax.random.key_data(a), jax.random.key_data(b))


def test_another_number_would_be_another_run():
  key = jax.random.key(7)
  found = {
    'phase': keys.phase(key, 2), 'update': keys.update(key, jnp.int32(5)),
    'device': keys.device(key, jnp.int32(3)), 'start': keys.start(key), 'data': keys.data(key),
    'validation': keys.validation(key, 400), 'monitor': keys.monitor(key, 400),
    'evaluation': keys.evaluation(7), 'draws': keys.draws(7), 'inherited': keys.inherited(key)}
  numbers = {'phase': 2, 'update': 5, 'device': 3, 'start': 0xFFFF_FFFE, 'data': 0xFFFF_FFFF,
             'validation': 2**31 + 400, 'monitor': 3 * 2**30 + 400, 'evaluation': 0xFFFF_FFFD,
             'draws': 0xFFFF_FFFC, 'inherited': 0xFFFF_FFFA}
  for name, number in numbers.items():
    assert same(found[name], jax.random.fold_in(key, jnp.uint32(number))), name


def test_replicas_have_the_keys_of_single_runs():
  many = keys.of_run(5, 3)
  for i in range(3):
    one = keys.of_run(5 + i)
    assert same(many[i], one) and same(keys.of_seeds([9, 5 + i])[1], one)
    for fold in (keys.start, keys.data, lambda k: keys.phase(k, 1),
                 lambda k: keys.validation(k, 10), lambda k: keys.monitor(k, 10)):
      assert same(fold(many)[i], fold(one))
