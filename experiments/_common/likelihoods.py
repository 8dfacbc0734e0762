"""Likelihoods of an autoencoder's visible layer by name, and what each is a distribution of.

  bernoulli                          zeros and ones, or reals in [0, 1] as if they were
  gaussian, gaussian_fixed           reals; their scale learned, or given
  continuous_bernoulli               reals in [0, 1]
  discretised_logistic, beta_binomial  whole levels of pictures, binarisation=levels
  categorical                        one-of-Q columns, binarisation=categorical
  poisson, negative_binomial         counts, binarisation=counts
"""

import math
from typing import Any, Literal

from gen_models import data
from gen_models.models import counts, families, levels

Name = Literal['bernoulli', 'gaussian', 'gaussian_fixed', 'continuous_bernoulli',
               'discretised_logistic', 'beta_binomial', 'categorical', 'poisson',
               'negative_binomial']
Channels = Literal['coupled', 'independent']  # given z and the component of their mixture
OF_VIEW = {  # binarisation -> what it is of, likelihoods
  'counts': ('counts', ('poisson', 'negative_binomial')),
  'levels': ('levels', ('discretised_logistic', 'beta_binomial')),
  'categorical': ('categorical columns', ('categorical',))}


def require(spec: data.Spec, binarisation: str, likelihood: str) -> None:
  """Raises BadData where p(x | z) is not a distribution of what the model sees."""
  data.check_view(binarisation, spec)
  for view, (what, names) in OF_VIEW.items():
    if (likelihood in names) != (binarisation == view):
      raise data.BadData(
        f'data set {spec.name}: likelihood={likelihood} and binarisation={binarisation} do not go '
        f'together: {what} have binarisation={view} and likelihood={" or ".join(names)}')
  if likelihood == 'continuous_bernoulli' and binarisation != 'real':
    raise data.BadData(
      f'data set {spec.name}: likelihood={likelihood} and binarisation={binarisation} do not go '
      'together: a continuous Bernoulli is a density of reals in [0, 1], --set=binarisation=real')
  if likelihood in ('bernoulli', 'continuous_bernoulli') and not spec.unit_interval:
    raise data.BadData(f'data set {spec.name}: its values are seen outside [0, 1], which a '
                       f'{"continuous " if likelihood != "bernoulli" else ""}Bernoulli likelihood '
                       'does not have: --set=likelihood=gaussian')


def by_name(spec: data.Spec, likelihood: str, scale: Any = 0.1, components: int | None = None,
            channels: Channels | None = None) -> families.Family:
  """The family that `likelihood` names.

  Args:
    spec: of the data.
    likelihood: one of Name.
    scale: of gaussian_fixed, and the least of gaussian.
    components: of discretised_logistic; None for 5.
    channels: whether those of a pixel are coupled, of discretised_logistic; None for coupled.

  Raises:
    ValueError: components or channels of a likelihood that has none, or of data in one channel.
  """
  for name, value in (('likelihood_components', components), ('likelihood_channels', channels)):
    if value is not None and likelihood != 'discretised_logistic':
      raise ValueError(f'{name}={value} is read with likelihood=discretised_logistic only')
  if channels is not None and channels_of(spec) == 1:
    raise ValueError(f'likelihood_channels={channels} is of colour, and data set {spec.name} has '
                     'one channel: leave it out')
  return {
    'bernoulli': lambda: families.BINARY, 'gaussian': lambda: families.gaussian(floor=scale),
    'gaussian_fixed': lambda: families.gaussian(scale),
    'continuous_bernoulli': lambda: families.CONTINUOUS_BERNOULLI,
    'discretised_logistic': lambda: levels.discretised_logistic(
      spec.levels, components or levels.COMPONENTS, channels_of(spec),
      coupled=channels != 'independent'),
    'beta_binomial': lambda: levels.beta_binomial(spec.levels),
    'categorical': lambda: families.categorical(spec.levels),
    'poisson': lambda: counts.POISSON, 'negative_binomial': lambda: counts.NEGATIVE_BINOMIAL,
  }[likelihood]()


def channels_of(spec: data.Spec) -> int:
  """Channels of a picture, 1 of other rows."""
  return spec.shape[2] if spec.is_image else 1


def together(spec: data.Spec, likelihood: str) -> int:
  """Values of a row that are not independent given z: Questions.groups."""
  return {'categorical': spec.levels, 'discretised_logistic': channels_of(spec)}.get(likelihood, 1)


def with_bits(score: dict, spec: data.Spec, binarisation: str) -> dict:
  """The score; of levels with bits per dimension, -log_2 p(x) / V, among its scores."""
  if binarisation != 'levels':
    return score
  bits = -score['test_nats'] / (spec.num_visible * math.log(2))
  return {**score, 'scores': {**score.get('scores', {}), 'bits_per_dimension': bits}}
