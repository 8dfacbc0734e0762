"""Names of metrics and scores in words, and the units of what they measure."""

import re

_SCORES = {
  'frechet': 'Fréchet distance', 'sliced_w2': 'sliced Wasserstein distance',
  'mmd2': 'squared MMD', 'kid': 'kernel distance', 'inception_score': 'inception score',
  'precision': 'precision', 'recall': 'recall',
  'density': 'density', 'coverage': 'coverage',
  'nearest_train_z': 'z of the distance to the nearest training image',
  'c_t': 'z of distances to training images, by cells', 'auth_pct': 'authentic fraction',
  'copies': 'fraction of near copies of training images'}
_HEADS = {
  'ESS': 'effective sample size', 'seconds': 'training seconds', 'test nats': 'nats per test image',
  'on': 'trained on', 'kind': 'kind of number', 'over images': 'standard error over images',
  'data': 'data set', 'Fréchet': 'Fréchet distance, features',
  'sliced W2': 'sliced Wasserstein distance, pixels', 'MMD²': 'squared MMD, features',
  'precision': 'precision, features', 'recall': 'recall, features',
  'coverage': 'coverage, features', 'nearest z': 'z of nearest training image'}
_NATS = frozenset((  # scores in nats whose names do not tell
  'rate', 'distortion', 'mutual_information', 'mutual_information_upper', 'amortisation_gap',
  'approximation_gap'))
_BETTER = {'lower': 'lower is better', 'higher': 'higher is better',
           'floor': 'the nearer to real images the better'}


def score(name: str) -> str:
  """frechet_features -> 'Fréchet distance, features'; other names with blanks."""
  for space in ('_pixels', '_features', '_inception', '_dinov2'):
    if name.endswith(space) and (known := _SCORES.get(name.removesuffix(space))):
      return f'{known}, {space[1:]}'
  return _SCORES.get(name, name.replace('_', ' '))


def head(column: str) -> str:
  """The head of a column of tables.py as it stands on a page."""
  return _HEADS.get(column, score(column))


def better(direction: str) -> str:
  """lower -> 'lower is better'."""
  return _BETTER.get(direction, direction)


def rows(dataset: str) -> str:
  """'images', or 'rows' of a data set that is a user's file of anything else."""
  scheme, colon, _ = dataset.partition(':')
  return 'images' if not colon or scheme in ('folder', 'tfds') else 'rows'


def view(dataset: str, binarisation: str, weighted: bool = False) -> str:
  """'dynamic binarisation' of images; of rows what they are: binary, real, categorical, counts."""
  if rows(dataset) == 'images':
    kind, comma, more = binarisation.partition(', ')
    return f'{kind} binarisation{comma}{more}'
  kind = {'static': 'binary', 'threshold': 'binary'}.get(binarisation, binarisation)
  return f'{kind}, weighted' if weighted else kind


def unit(metric: str) -> str:
  """The unit of a metric or a score, '' where nothing tells."""
  words = re.split(r'[^a-z0-9]+', metric.lower())
  if metric in _NATS or {'nats', 'elbo', 'iwae', 'bound', 'likelihood'} & set(words):
    return 'nats'
  if 'percent' in words:
    return '%'
  if 'seconds' in words:
    return 'seconds'
  return ''
