"""Several seeds as one result: what evaluate, results and report call a row."""

from collections.abc import Sequence

import numpy as np

# What may differ between runs of one row: the seed and what follows from it or from the machine.
_OWN = ('seeds', 'per_seed', 'samples', 'memorised', 'memorised_power', 'environment', 'trained',
        'train_seconds', 'made', 'command')
_SAME = ('experiment', 'variant', 'estimator', 'code', 'dataset', 'binarisation',
         'hyperparameters', 'step', 'checkpoint', 'kind', 'num_images', 'sample_space',
         'num_parameters')


def combine(scores: list[dict]) -> dict:
  """One score for several seeds: means, with the spread beside every seed's own."""
  first = scores[0]
  if len(scores) == 1:
    return first
  combined = {**first, 'per_seed': scores}
  if first['test_nats'] is not None:
    nats = np.array([s['test_nats'] for s in scores])
    sizes = [s['effective_sample_size'] for s in scores]
    combined |= {
      'test_nats': float(nats.mean()), 'seed_spread': float(nats.std(ddof=1)),
      'standard_error': float(np.sqrt(np.mean([s['standard_error']**2 for s in scores])
                                      / len(scores))),
      # Means of bounds are bounds; the weakest sample size speaks for all.
      **{side: None if first[side] is None else float(np.mean([s[side] for s in scores]))
         for side in ('lower', 'upper')},
      'effective_sample_size': None if sizes[0] is None else min(sizes)}
  if 'resolved' in first:
    combined['resolved'] = all(s['resolved'] for s in scores)
  each = [s.get('scores', {}) for s in scores]  # a seed lacks that of a target it did not reach
  combined.pop('scores', None)
  if names := [k for k in each[0] if all(k in other for other in each)]:
    values = {k: np.array([other[k] for other in each]) for k in names}
    combined['scores'] = {k: float(v.mean()) for k, v in values.items()}
    combined['scores_spread'] = {k: float(v.std(ddof=1)) for k, v in values.items()}
  return combined


def merge(results: Sequence[dict]) -> dict:
  """The results of runs that differ in their seeds alone as the result of one run with all of them.

  `runs` says how many there were. Seconds are those of all runs; sample scores are means, with the
  least and the greatest of all sets.

  Raises:
    ValueError: they differ in anything else, or have a seed in common.
  """
  first = results[0]
  if len(results) == 1:
    return first
  for other in results[1:]:
    for name in _SAME:
      if first.get(name) != other.get(name):
        raise ValueError(f'not runs of one configuration: {_difference(name, first, other)}')
  paired = [(seed, score) for r in results
            for seed, score in zip(r['seeds'], r.get('per_seed', [r]), strict=True)]
  seeds = sorted(seed for seed, _ in paired)
  if len(set(seeds)) < len(seeds):
    raise ValueError(f'seed {max(seeds, key=seeds.count)} twice: '
                     'runs are put together when each has seeds of its own')
  scores = [score for _, score in sorted(paired, key=lambda pair: pair[0])]
  own = [{k: v for k, v in score.items() if k not in _OWN and k not in ('seed_spread',
          'scores_spread')} for score in scores]
  kept = {k: v for k, v in first.items() if k not in ('scores', 'scores_spread')}
  merged = {**kept, **combine(own), 'seeds': seeds, 'runs': len(results)}
  merged['train_seconds'] = sum(r['train_seconds'] or 0 for r in results)
  if all('samples' in r for r in results):
    merged['samples'] = {name: _merged_sample([r['samples'][name] for r in results])
                         for name in results[0]['samples']}
    merged['memorised'] = any(r['memorised'] for r in results)
  return merged


def _merged_sample(scores) -> dict:
  """A sample score of several runs."""
  merged = dict(scores[0])
  for ends in ('', 'floor_'):
    name = ends.rstrip('_') or 'value'
    merged[name] = float(np.mean([s[name] for s in scores]))
    merged[f'{ends}low'] = min(s[f'{ends}low'] for s in scores)
    merged[f'{ends}high'] = max(s[f'{ends}high'] for s in scores)
  merged['num_sets'] = sum(s['num_sets'] for s in scores)
  return merged


def _difference(name, a, b) -> str:
  if name != 'hyperparameters':
    return f'{name} is {a.get(name)!r} in one, {b.get(name)!r} in the other'
  names = [k for k in {**a[name], **b[name]} if a[name].get(k) != b[name].get(k)]
  return f'{names[0]} is {a[name].get(names[0])!r} in one, {b[name].get(names[0])!r} in the other'
