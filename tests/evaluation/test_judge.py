"""The classifier that judges draws, and what it says of them."""

import math

import numpy as np

from gen_models import data
from gen_models.evaluation import judge


def test_coverage_of_even_and_of_collapsed_draws():
  assert judge.coverage(np.arange(1000), 1000) == {'modes': 1000.0, 'mode_kl': 0.0}
  collapsed = judge.coverage(np.full(50, 7), 1000)
  assert collapsed['modes'] == 1 and math.isclose(collapsed['mode_kl'], math.log(1000))
  half = judge.coverage(np.array([0, 0, 1, 1]), 4)
  assert half['modes'] == 2 and math.isclose(half['mode_kl'], math.log(2))


def test_a_judge_of_digits_is_right(monkeypatch):
  monkeypatch.setattr(judge, 'STEPS', 400)
  digits = data.load('digits')
  rows = {split: np.asarray(data.fixed_split(digits, split, 'real')) for split in ('train', 'test')}
  found = judge.train(rows['train'], digits.train.labels, 10)
  assert found.accuracy(rows['test'], digits.test.labels) > 0.95
