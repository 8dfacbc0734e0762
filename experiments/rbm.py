"""A restricted Boltzmann machine of any data: its visible units are those of the data's kind.

  python -m launch.train --experiment=rbm --set=dataset=npz:rows.npz --workdir=runs/rows
  python -m launch.evaluate --workdir=runs/rows

Zeros and ones, and grey pictures cut at one half, have Bernoulli visible units; categorical columns
one-of-Q units; real values Gaussian units with variances that are learned, for which the data are
best normalised, npz:rows.npz?scale=normalise. gen_models/data/grammar.py lists the names of data.

Trained by persistent chains and the centred gradient, Adam with a rate that falls linearly to 0.
Scored exactly with at most 16 Bernoulli hidden units, else by annealing in both directions. Rows
that have weights are drawn in proportion to them, and scores are weighted alike.

Score: held-out nats of a row, mean +- standard deviation over seeds; three seeds on 8x8 digits:

  exact    -18.41 +- 0.19   16 hidden units, threshold binarisation

--set=hidden=gaussian has Gaussian hidden units. Cost: 23 seconds of processor time for three seeds
of exact.
"""

import functools
from typing import Literal

import optax

from experiments._common import binary, custom, machines
from gen_models import data, inference
from gen_models.domains import (
  DatasetName,
  NonNegative,
  NumUpdates,
  PositiveInt,
  Width,
)
from gen_models.evaluation import likelihood
from gen_models.experiment import EXACT, Experiment, unlabelled
from gen_models.models import units
from gen_models.models.machine import Machine

MOST_ENUMERATED = 16  # hidden units; with all their states log Z is exact in seconds
SCORING = ('ais_chains', 'ais_temperatures')  # read only by `evaluate`
VARIANTS = {
  'exact': dict(num_hidden=16),
}


def experiment(*, dataset: DatasetName = 'digits', hidden: machines.HiddenName = 'bernoulli',
               num_hidden: Width = 64, negative: Literal['cd', 'pcd'] | custom.Negative = 'pcd',
               steps: PositiveInt = 1, chains: PositiveInt = 100,
               learning_rate: NonNegative = 2e-3, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 10_000, ais_chains: PositiveInt = 100,
               ais_temperatures: PositiveInt = 2000,
               estimator: custom.Estimator | None = None) -> Experiment:
  """ais_chains and ais_temperatures are those of the final score."""
  spec = data.spec(dataset)
  view = machines.view(spec)
  data.check_view(view, spec, missing=True)
  machine = Machine(visible(spec), machines.HIDDEN[hidden])
  exact = hidden == 'bernoulli' and num_hidden <= MOST_ENUMERATED

  def validate(key, params, arrays):
    if exact:
      v_NV = data.fixed(arrays, view, spec, split='valid', missing=True)
      if not spec.missing:
        return {'valid_nats': data.mean(machine.log_likelihood(params, v_NV), arrays.weights)}
      free = machines.mean_free_energy(machine, params, v_NV, spec, arrays.weights)
      return {'valid_nats': -free - machine.log_partition(params)}
    return machines.quick_nats(key, machine, params, arrays, spec)

  def evaluate(key, params, dataset, report, chains_NV=None, thorough=False):
    beside = {} if spec.missing else {'baselines': binary.baseline_scores(dataset, view)}
    if not exact:
      return beside | machines.bracket(
        key, machine, params, dataset, chains=ais_chains, temperatures=ais_temperatures,
        report=report, thorough=thorough, chains_NV=chains_NV)
    v_NV, weights_N = machines.seen(dataset.test, spec)
    return beside | likelihood.exact(params, v_NV, binarisation=view, model=machine,
                                     weights_N=weights_N) | {'split': 'test'}

  def draw(key, params, num):
    return tuple(data.clipped(x, spec) if view == 'real' else x
                 for x in machines.sample(key, machine, params, num))

  return Experiment(
    dataset=dataset, binarisation=view, phases=(machines.phase(
      machine, spec, num_hidden=num_hidden, negative=negative, steps=steps, chains=chains,
      sparsity=None, optimizer=optax.adam, learning_rate=learning_rate, batch_size=batch_size,
      num_steps=num_steps, estimator=estimator),),
    evaluate=evaluate, thorough=EXACT if exact else functools.partial(evaluate, thorough=True),
    validate=validate, headline='valid_nats' if exact else 'valid_nats_quick', num_validations=5,
    steps_per_dispatch=100, model=machine,
    questions=inference.boltzmann(machine, see=binary.seen(view)),
    sample=unlabelled(draw, spec.seen_shape),
    protocol=f'{"exact" if exact else "AIS both ways"}, held-out rows, split {spec.split}')


def visible(spec: data.Spec):
  """The layer of visible units for rows of this kind."""
  if spec.kind == 'categorical':
    return units.Categorical(spec.levels)
  if machines.view(spec) == 'real':
    return units.Gaussian(min_variance=0.001, max_variance=4.0)
  return units.BERNOULLI
