"""Gradient estimators of belief nets by name.

Rules and estimators that average over samples take `samples` of them; arm and disarm take them in
pairs; wake_sleep, measure_valued and the relaxations of a single sample take what they take.
"""

from typing import Literal, get_args

import optax

from gen_models import estimators
from gen_models.estimators.base import Estimator
from gen_models.models import vae

Gradient = Literal[
  'rloo', 'reinforce', 'nvil', 'vimco', 'ovis', 'tvo', 'rws', 'wake_sleep', 'arm', 'disarm', 'arms',
  'muprop', 'double_cv', 'rebar', 'relax', 'measure_valued', 'gumbel', 'straight_through',
  'gumbel_straight_through', 'gumbel_rao', 'reinmax', 'reinmax_rao', 'reinmax_cv']
GRADIENTS = get_args(Gradient)
CONTROL_RATE = 1e-3  # of Adam for baselines and control variates


def by_name(model: vae.Model, name: str, num_visible: int, samples: int,
            baseline: float) -> Estimator:
  """The gradient of a belief net that `name` is.

  Args:
    model: the net.
    name: one of GRADIENTS.
    num_visible: V.
    samples: K.
    baseline: rate of the running mean of reinforce and nvil.

  Raises:
    ValueError: too few samples, or an odd number for pairs.
  """
  adam = optax.adam(CONTROL_RATE)
  rules = {'rloo': estimators.rloo, 'vimco': estimators.vimco, 'ovis': estimators.ovis,
           'tvo': estimators.tvo, 'rws': estimators.rws}
  if name in rules:
    return estimators.variational(model, rules[name](samples))
  relaxations = {
    'gumbel': estimators.gumbel, 'straight_through': estimators.straight_through,
    'gumbel_straight_through': estimators.straight_through_gumbel,
    'gumbel_rao': estimators.gumbel_rao, 'reinmax': estimators.reinmax,
    'reinmax_rao': estimators.reinmax_rao, 'reinmax_cv': estimators.reinmax_control_variate}
  if name in relaxations:
    how = relaxations[name]()
    # One sample's score has mean zero where samples are states; between states it counts.
    rule = estimators.stl() if how.hard else estimators.elbo(samples)
    return estimators.relaxed(model, how, rule)
  if name in ('arm', 'disarm') and samples % 2:
    raise ValueError(f'{name} takes samples in pairs, got {samples}')
  return {
    'reinforce': lambda: estimators.variational(
      model, estimators.reinforce(samples), baseline=baseline),
    'nvil': lambda: estimators.nvil(model, num_visible, adam, samples, rate=baseline),
    'wake_sleep': lambda: estimators.wake_sleep(model, samples),
    'arm': lambda: estimators.discrete(model, estimators.arm(samples // 2)),
    'disarm': lambda: estimators.discrete(model, estimators.disarm(samples // 2)),
    'arms': lambda: estimators.discrete(model, estimators.arms(samples)),
    'muprop': lambda: estimators.discrete(model, estimators.muprop(samples)),
    'double_cv': lambda: estimators.discrete(
      model, estimators.double_control_variates(samples, adam)),
    'rebar': lambda: estimators.discrete(model, estimators.rebar(adam, samples)),
    'relax': lambda: estimators.discrete(model, estimators.relax(adam, samples=samples)),
    'measure_valued': lambda: estimators.discrete(model, estimators.measure_valued()),
  }[name]()
