"""The record of a score: a number with its kind and conditions; read, written and merged here.

A score is an object of JSON in result.json and in experiments/results/; `Score` is the same, typed.
The keys of the JSON are the names of the fields. Keys that are not known are kept, so a later
version may add some; the others are checked as json_fields.py does.

Nats per image.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gen_models.evaluation.json_fields import (
  Fields,
  Malformed,
  count,
  flag,
  named,
  number,
  sequence,
  shown,
  text,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seed:
  """One seed's own score, beside the mean over all: see Score for the fields."""

  test_nats: float | None = None
  standard_error: float | None = None
  effective_sample_size: float | None = None
  lower: float | None = None
  upper: float | None = None
  resolved: bool | None = None
  hollow: bool | None = None
  scores: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_json(cls, value, where: str = 'per_seed') -> 'Seed':
    """Checked; raises Malformed."""
    fields = Fields(value, where)
    return cls(**{name: fields.take(name, number, None) for name in _NUMBERS},
               **{name: fields.take(name, flag, None) for name in ('resolved', 'hollow')},
               scores=fields.take('scores', named(number), {}), details=fields.rest())

  def to_json(self) -> dict[str, Any]:
    """As from_json read it; what is absent is null."""
    return {**{name: getattr(self, name) for name in _NUMBERS},
            **_given(self, 'resolved', 'hollow', 'scores'), **self.details}


_NUMBERS = ('test_nats', 'standard_error', 'effective_sample_size', 'lower', 'upper')
_FLAGS = ('resolved', 'hollow')
_COUNTS = ('num_chains', 'num_temperatures', 'num_samples', 'num_importance_samples')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """The record of a model's log-likelihood on a test set, with whatever else was measured.

  Attributes:
    test_nats: mean log-likelihood per image, nats, negative for discrete data; None where there is
      no likelihood. Of a bound and of a bracket whose sides cross, its conservative end.
    kind: 'exact' | 'ais' | 'bracket' | 'bound' | 'none'.
    num_images: N, scored.
    binarisation: of the images; a number without it means nothing.
    standard_error: of test_nats as an estimate for these images: that of log Z and of importance
      weights; 0 when exact, None where it is not known.
    effective_sample_size: of the importance weights; None when exact.
    lower, upper: test_nats from both sides; equal when exact, None where no such bound ran.
    image_standard_error: standard deviation over the N images / sqrt(N): the luck of the test set.
    why: of kind 'none', why there is no likelihood.
    resolved: of a bracket, and of a bound with one inside: whether its sides agree.
    hollow: of importance weights: whether too few of them carry the number for its standard error
      and its distance from the likelihood to be known.
    num_chains, num_temperatures: of annealing.
    num_samples, num_importance_samples: of a bound, for each image.
    seed_spread: standard deviation of test_nats over seeds.
    scores: what else was measured, name -> value; means over seeds.
    scores_spread: their standard deviations over seeds.
    baselines: scores of simple densities on the same images.
    per_seed: each seed's own.
    remarks: what a reader must know besides, one line each.
    details: all other fields of the record, unchanged.
  """

  test_nats: float | None
  kind: str
  num_images: int
  binarisation: str
  standard_error: float | None = None
  effective_sample_size: float | None = None
  lower: float | None = None
  upper: float | None = None
  image_standard_error: float | None = None
  why: str | None = None
  resolved: bool | None = None
  hollow: bool | None = None
  num_chains: int | None = None
  num_temperatures: int | None = None
  num_samples: int | None = None
  num_importance_samples: int | None = None
  seed_spread: float | None = None
  scores: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  scores_spread: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  baselines: Mapping[str, 'Score'] = dataclasses.field(default_factory=dict)
  per_seed: tuple[Seed, ...] = ()
  remarks: tuple[str, ...] = ()
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_json(cls, value, where: str = '') -> 'Score':
    """The score that an object of JSON describes.

    Raises:
      Malformed: a field is missing, of the wrong type, too large or not finite; the line names it.
    """
    return cls.take(Fields(value, where), where)

  @classmethod
  def take(cls, fields: Fields, where: str = '') -> 'Score':
    """from_json of fields some of which were taken before."""
    inside = f'{where}.' if where else ''
    score = cls(
      test_nats=fields.take('test_nats', number, None) if 'test_nats' in fields
      else fields.take('test_nats', number),
      kind=fields.take('kind', text), num_images=fields.take('num_images', count),
      binarisation=fields.take('binarisation', text), why=fields.take('why', text, None),
      **{name: fields.take(name, number, None) for name in (
        *_NUMBERS[1:], 'image_standard_error', 'seed_spread')},
      **{name: fields.take(name, flag, None) for name in _FLAGS},
      **{name: fields.take(name, count, None) for name in _COUNTS},
      **{name: fields.take(name, named(number), {}) for name in ('scores', 'scores_spread')},
      baselines=fields.take('baselines', named(Score.from_json), {}),
      per_seed=fields.take('per_seed', sequence(Seed.from_json), ()),
      remarks=fields.take('remarks', sequence(text), ()), details=fields.rest())
    if score.kind == 'bracket' and None in (score.lower, score.upper):
      raise Malformed(f'{inside}lower or upper of a bracket is missing')
    return score

  def to_json(self) -> dict[str, Any]:
    """As from_json read it; the fields that every score has are null where they say nothing."""
    value = {
      'test_nats': self.test_nats, 'kind': self.kind, **_given(self, 'why'),
      'standard_error': self.standard_error, 'effective_sample_size': self.effective_sample_size,
      'lower': self.lower, 'upper': self.upper, 'image_standard_error': self.image_standard_error,
      'num_images': self.num_images, 'binarisation': self.binarisation,
      **_given(self, *_FLAGS, *_COUNTS), **self.details,
      **_given(self, 'scores', 'scores_spread', 'seed_spread')}
    if self.baselines:
      value['baselines'] = {name: score.to_json() for name, score in self.baselines.items()}
    if self.per_seed:
      value['per_seed'] = [seed.to_json() for seed in self.per_seed]
    if self.remarks:
      value['remarks'] = list(self.remarks)
    return value

  @property
  def crossed(self) -> bool:
    """Whether the sides of a bracket cross by more than their noise: they saw different modes."""
    return (self.resolved is False and self.lower is not None and self.upper is not None
            and self.lower > self.upper)

  @property
  def headline(self) -> float | None:
    """The number to print: test_nats, or, where the sides of a bracket cross, its lowest end."""
    ends = [end for end in (self.test_nats, self.lower, self.upper) if end is not None]
    if self.test_nats is None or not self.crossed:
      return self.test_nats
    return min(ends)

  @property
  def headline_spread(self) -> float | None:
    """Standard deviation of the headline over seeds; None where it is not known."""
    return self.seed_spread if self.headline == self.test_nats else None


def _given(record, *names: str) -> dict[str, Any]:
  """The fields of a record that are not empty."""
  values = {name: getattr(record, name) for name in names}
  return {name: v for name, v in values.items() if v is not None and v != {}}


def combine(scores: Sequence[Score]) -> Score:
  """The score of several seeds: means, the spread, and every seed's own score.

  Means of bounds are bounds. The effective sample size is the least of all seeds; the score is
  resolved only if every seed is, and hollow if any seed is. Further entries are combined as
  `together` says.
  """
  first = scores[0]
  if len(scores) == 1:
    return first
  changed: dict[str, Any] = {
    'per_seed': tuple(_as_seed(score) for score in scores),
    'remarks': tuple(dict.fromkeys(line for score in scores for line in score.remarks))}
  nats = [score.test_nats for score in scores]
  if None not in nats:
    changed |= {'test_nats': float(np.mean(np.asarray(nats))),
                'seed_spread': float(np.std(np.asarray(nats), ddof=1)),
                'standard_error': _error_of_mean([score.standard_error for score in scores]),
                'lower': _mean([score.lower for score in scores]),
                'upper': _mean([score.upper for score in scores]),
                'effective_sample_size': _if_all(min, [s.effective_sample_size for s in scores]),
                'resolved': _if_all(all, [score.resolved for score in scores]),
                'hollow': _if_all(any, [score.hollow for score in scores])}
  elif first.test_nats is not None:
    changed |= {'test_nats': None, 'remarks': (*changed['remarks'], 'a seed has no likelihood')}
  # A seed lacks the score of a target that it did not reach.
  names = [k for k in first.scores if all(s.scores.get(k) is not None for s in scores)]
  values = {k: np.asarray([score.scores[k] for score in scores]) for k in names}
  return dataclasses.replace(
    first, **changed, details=together([score.details for score in scores]),
    image_standard_error=_mean([score.image_standard_error for score in scores]),
    scores={k: float(np.mean(v)) for k, v in values.items()},
    scores_spread={k: float(np.std(v, ddof=1)) for k, v in values.items()})


def together(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Entries of several seeds as one: what agrees stays, what differs is their mean.

  Of entries called largest_ or smallest_ it is the extreme, of flags whether any seed has it;
  lists of as many numbers are averaged each. What only some seeds have, and texts that differ, are
  left out: they hold for no seed but their own.
  """
  found = {}
  for name in details[0]:
    values = [entries.get(name) for entries in details]
    combined = _one(name, values)
    if combined is not None or all(value is None for value in values):
      found[name] = combined
  return found


def _one(name: str, values: list) -> Any:
  """The entry of several seeds, None where there is none."""
  if all(value == values[0] for value in values):
    return values[0]
  if all(isinstance(value, Mapping) for value in values):
    return together(values)
  if all(isinstance(value, bool) for value in values):
    return any(values)
  if all(isinstance(value, (int, float)) for value in values):
    extreme = {'largest': max, 'smallest': min}.get(name.partition('_')[0])
    return extreme(values) if extreme else float(np.mean(values))
  if all(isinstance(value, (list, tuple)) for value in values) and len(set(map(len, values))) == 1:
    parts = [_one(name, list(of)) for of in zip(*values, strict=True)]
    return None if None in parts else parts
  return None


def _as_seed(score: Score) -> Seed:
  return Seed.from_json(dataclasses.replace(score, seed_spread=None, scores_spread={},
                                            per_seed=()).to_json())


def _if_all(what: Callable[[list], Any], values: list):
  """what(values), None where one of them is."""
  return None if None in values else what(values)


def _mean(values: list[float | None]) -> float | None:
  return _if_all(lambda v: float(np.mean(v)), values)


def _error_of_mean(errors: list[float | None]) -> float | None:
  """Of the mean of independent estimates."""
  return _if_all(lambda v: float(np.sqrt(np.mean(np.square(v)) / len(v))), errors)


# Scores of draws.


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleScore:
  """One score of a model's draws against test images, and its floor: that of training images.

  Attributes:
    value, low, high: mean over the sets of draws, the least and the greatest of them.
    floor, floor_low, floor_high: the same of real training images.
    better: 'lower', 'higher' or 'floor', the nearer to it the better.
    n: images in a set.
    num_sets: independent sets.
    details: what else the record says.
  """

  value: float | None
  low: float | None
  high: float | None
  floor: float | None
  floor_low: float | None
  floor_high: float | None
  better: str
  n: int
  num_sets: int
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_json(cls, value, where: str = 'samples') -> 'SampleScore':
    """Checked; raises Malformed."""
    fields = Fields(value, where)
    if 'better' in fields and value['better'] not in ('lower', 'higher', 'floor'):
      raise Malformed(f'{where}.better is {shown(value["better"])}, not lower, higher or floor')
    return cls(**{name: fields.take(name, number, None) for name in _SAMPLE_NUMBERS},
               better=fields.take('better', text), n=fields.take('n', count),
               num_sets=fields.take('num_sets', count), details=fields.rest())

  def to_json(self) -> dict[str, Any]:
    """As from_json read it."""
    return {**{name: getattr(self, name) for name in _SAMPLE_NUMBERS}, 'better': self.better,
            'n': self.n, 'num_sets': self.num_sets, **self.details}


_SAMPLE_NUMBERS = ('value', 'low', 'high', 'floor', 'floor_low', 'floor_high')


def combine_samples(scores: Sequence[SampleScore]) -> SampleScore:
  """One sample score of several runs: means, with the least and the greatest of all sets."""
  def over(what, name):
    return _if_all(what, [getattr(score, name) for score in scores])

  return dataclasses.replace(
    scores[0], value=_mean([s.value for s in scores]), low=over(min, 'low'),
    high=over(max, 'high'), floor=_mean([s.floor for s in scores]),
    floor_low=over(min, 'floor_low'), floor_high=over(max, 'floor_high'),
    num_sets=sum(s.num_sets for s in scores),
    # What a run says of itself beside that holds of all only where they agree.
    details={name: value for name, value in scores[0].details.items()
             if all(s.details.get(name) == value for s in scores)})
