"""Domains of hyperparameters: what they hold, and how they read."""

import typing

import pytest

from gen_models import domains


def domain_of(annotation):
  return typing.get_args(annotation)[1]


@pytest.mark.parametrize('name, inside, outside', [
  ('PositiveInt', [1, 2**20], [0, -3, 2**20 + 1, 10**9, 10**30]),
  ('NonNegativeInt', [0, 1], [-1, 10**9]),
  ('Width', [1, 2**16], [0, 10**6]),
  ('NumUpdates', [1, 2**31 - 1], [0, -1, 2**31]),
  ('Positive', [1e-30, 1.0, 1e38], [0.0, -1.0, 1e39, float('inf'), float('nan')]),
  ('NonNegative', [0.0, 0, 1e38], [-1e-9, 1e39, float('nan')]),
  ('Fraction', [0.0, 0.5, 1.0], [-0.1, 1.1]),
  ('Decay', [0.0, 0.9999], [1.0, -0.1]),
  ('Real', [-90.0, 0.0], [float('-inf'), float('nan'), 1e300]),
  ('Layers', ['5', '500-2000'], ['', 'a', '5-', '-5', '0', '8-0', '5,6', '1000000']),
  ('OptionalLayers', ['', '5-6'], ['0', '5,6']),
  ('LayerGroups', ['', '5', '200-200,100-100', ',5'], ['5;6', '5,0'])])
def test_values_inside_and_outside(name, inside, outside):
  domain = domain_of(getattr(domains, name))
  assert [x for x in inside if not domain.holds(x)] == []
  assert [x for x in outside if domain.holds(x)] == []


@pytest.mark.parametrize('domain, text', [
  (domains.Interval(1, 2**20), 'at least 1 and at most 1,048,576'),
  (domains.Interval(0, open_low=True), 'above 0'),
  (domains.Interval(0, 1, open_high=True), 'at least 0 and below 1'),
  (domains.Interval(), 'that is finite'),
  (domains.LayerSizes(), "of layer sizes such as '500-2000', each at least 1 and at most 65,536")])
def test_domains_read_as_what_they_hold(domain, text):
  assert str(domain) == text


def test_layer_sizes_that_are_not_numbers_are_refused():
  assert domains.sizes_of('500-2000') == (500, 2000) and domains.sizes_of('') == ()
  with pytest.raises(ValueError, match="not '500,2000'"):
    domains.sizes_of('500,2000')
