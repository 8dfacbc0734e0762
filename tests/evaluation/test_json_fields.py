"""Fields of JSON: what may come from anyone is bounded, and what JSON cannot hold is said."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import json_fields


@pytest.mark.parametrize('value', [None, [], 3, 'text'])
def test_what_is_no_object_is_refused(value):
  with pytest.raises(json_fields.Malformed, match='it is .*, not an object'):
    json_fields.Fields(value)


def test_something_nested_without_end_is_refused():
  value = deep = {}
  for _ in range(100):
    deep['in'] = deep = {}
  with pytest.raises(json_fields.Malformed, match='nested'):
    json_fields.Fields({'more': value}).rest()


def test_fields_are_taken_once_and_the_rest_is_kept():
  fields = json_fields.Fields({'a': 1, 'b': None, 'c': {'d': 'text'}}, 'record')
  assert 'a' in fields and fields.take('a', json_fields.count) == 1 and 'a' not in fields
  assert fields.take('b', json_fields.text, 'default') == 'default'
  assert fields.rest() == {'c': {'d': 'text'}}
  with pytest.raises(json_fields.Malformed, match='record.a is missing'):
    fields.take('a', json_fields.count)


def test_numbers_that_json_cannot_hold_become_null_with_a_remark():
  value, remarks = json_fields.finite({
    'a': np.float32(1.5), 'b': [np.nan, jnp.float32(2)], 'c': {'d': -np.inf}, 'e': np.arange(2),
    'f': np.bool_(True), 'g': {1: 'text'}, 'h': object, 'i': 7})
  assert value == {'a': 1.5, 'b': [None, 2.0], 'c': {'d': None}, 'e': [0, 1], 'f': True,
                   'g': {'1': 'text'}, 'h': str(object), 'i': 7}
  assert [line.split(' ')[0] for line in remarks] == ['b[0]', 'c.d', 'h']
  json.dumps(value, allow_nan=False)
