"""Numbers as text: the same digits in the terminal, on pages, in documents and in CSV.

A dash stands for what is not known. Signs are those of typography; `plain` writes them in ASCII.
"""

from gen_models.evaluation.score import SampleScore, Score

NONE = '–'


def fixed(value: float | None, places: int = 2) -> str:
  """That many digits after the point."""
  return NONE if value is None else f'{value:.{places}f}'.replace('-', '−')


def significant(value: float | None, num: int) -> str:
  """That many significant digits; thousands, and what is before the point, in full."""
  if value is None:
    return NONE
  whole = abs(value) >= min(1000, 10**num)
  return (f'{value:,.0f}' if whole else f'{value:.{num}g}').replace('-', '−')


def whole(value: int | None) -> str:
  """A count, its thousands apart."""
  return NONE if value is None else f'{value:,}'


def nats(score: Score) -> str:
  """−18.11 ± 0.12: the headline and its spread over seeds."""
  return _with_spread(fixed(score.headline), fixed(score.headline_spread))


def error(score: Score) -> str:
  """The standard error of the estimate, 0 where the number is exact, a dash where it is not known.

  An importance-weighted bound of before the jackknife has that of the delta method, which is no
  error where the weights collapse: it is not shown.
  """
  if score.kind == 'exact':
    return '0'
  old = score.num_importance_samples is not None and 'standard_error_method' not in score.details
  if old and score.details.get('smallest_effective_sample_size', 0) < 20:
    return NONE
  value = score.standard_error
  return fixed(value, 2) if value is None or abs(value) >= 0.005 else significant(value, 1)


def sides(score: Score) -> str:
  """−83.75 … −83.82: a bracket, and whether it is none."""
  if score.kind != 'bracket':
    return NONE
  return (f'{fixed(score.lower)} … {fixed(score.upper)}'
          + ('' if score.resolved else ', not resolved'))


def kind(score: Score) -> str:
  """The kind, and that its weights are hollow, or the bracket inside a bound not resolved."""
  marks = [mark for mark, holds in (('hollow', score.hollow), (
    'not resolved', score.kind == 'bound' and score.resolved is False)) if holds]
  return ', '.join([score.kind, *marks])


def sample_size(score: Score) -> str:
  """The effective sample size and of how many chains or samples."""
  if not score.effective_sample_size:
    return NONE
  many = score.num_chains if score.num_chains is not None else score.num_importance_samples
  return fixed(score.effective_sample_size, 0) + (f' of {many:,}' if many is not None else '')


def other(score: Score, name: str) -> str:
  """7.2 ± 0.51: a named score and its spread over seeds."""
  value, spread = score.scores.get(name), score.scores_spread.get(name)
  if value is not None and spread is not None and spread < 1e-12 * abs(value):
    spread = 0.0  # seeds agree: what is left is the rounding of their mean
  return _with_spread(significant(value, 4), significant(spread, 2))


def interval(sample: SampleScore, side: str = 'value') -> str:
  """0.123 [0.12, 0.13]: the mean over sets, the least and the greatest."""
  before = 'floor_' if side == 'floor' else ''
  low, high = (significant(getattr(sample, before + end), 3) for end in ('low', 'high'))
  return f'{significant(getattr(sample, side), 3)} [{low}, {high}]'


def plain(text: str) -> str:
  """The same in ASCII."""
  for sign, letters in (('−', '-'), ('±', '+-'), ('–', '-'), ('…', '...'), ('²', '2'), ('é', 'e')):
    text = text.replace(sign, letters)
  return text


def _with_spread(value: str, spread: str) -> str:
  return value if spread == NONE else f'{value} ± {spread}'
