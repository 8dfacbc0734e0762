"""Boltzmann machine on spikes: which neurons of a population fire together.

  python -m launch.train --experiment=rbm_spikes --set=dataset=npz:spikes.npz --workdir=runs/spikes
  python -m launch.evaluate --workdir=runs/spikes --sample_space=none

Rows are time bins, columns neurons, zeros and ones. Hidden units are assemblies: each drives the
neurons to which its weights are large. `pairwise` has a Gaussian hidden unit for each neuron, so

  p(v) ~ exp(b.v + |v.W|^2 / 2),

which is every pairwise model, J = W.W' (its diagonal belongs to the biases); it is trained and
scored like the others. Centred gradient of persistent chains, Adam, the rate falling linearly to 0.

Score: held-out nats per time bin, log Z annealed both ways. Beside it independent neurons and a
mixture of Bernoullis; correlations of first, second and third moments of 2,000 draws with those of
the held-out bins, and those of the training bins with them (`_of_training`); the distance of the
distributions of the number of active neurons. Mean +- standard deviation over seeds.

The committed numbers are of 158 neurons of mouse auditory cortex, 8,794 bins, 1.4 % ones, blocks of
time held out (mouse_auditory.npz, from the data of github.com/jertubiana/PGM):

  assemblies    -8.33 +- 0.03  [-8.33, -8.33]  3 seeds; moments 0.94, 0.70 and 0.31, of training
                bins 0.95, 0.75 and 0.31; active neurons 0.05 from the held-out bins
  pairwise      -8.64 +- 0.01  [-8.64, -8.63]  3 seeds; moments 0.94, 0.72 and 0.37;
                active neurons 0.15 from them, training bins 0.08
  beside it     independent neurons -9.36, a mixture of 5 or 20 Bernoulli classes -8.49

--set=hidden=double_rectified --set=learning_rate=5e-4 has the hidden units of rbm_protein. Cost on
2 CPU cores shared with other work: assemblies 400 seconds for three seeds, and as long for their
score.
"""

import functools
from typing import Literal

import optax

from experiments._common import custom, kept, machines
from gen_models import inference
from gen_models.domains import DatasetName, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.evaluation import baselines, charts, moments
from gen_models.experiment import Experiment, unlabelled
from gen_models.models import units
from gen_models.models.machine import Machine

ORIGIN = ('recordings are zeros and ones [time bins, neurons], array `x` of an npz file; those of '
          'the committed numbers come with github.com/jertubiana/PGM')
SCORING = ('ais_chains', 'ais_temperatures', 'num_draws')
VARIANTS = {
  'assemblies': dict(),
  'pairwise': dict(hidden='pairwise', learning_rate=5e-4),
}


@kept.of_data
def baseline_scores(dataset) -> dict:
  """Scores of densities that are exact, on the same bins."""
  (train, valid, test), weights = zip(*(machines.seen(arrays, dataset.about) for arrays in (
    dataset.train, dataset.valid, dataset.test)))
  options = dict(binarisation='static', weights=baselines.Weights(*weights))
  return {'independent neurons': baselines.independent_pixels(train, test, **options),
          'mixture of Bernoullis': baselines.bernoulli_mixture(
            train, valid, test, num_classes=(5, 20), pseudo_counts=(1.0,), **options)}


def pictures(machine: Machine):
  """(key, params, dataset) -> rasters, moments, active neurons, assemblies and their activity."""
  def draw(key, params, dataset):
    spec = dataset.about
    train_NV, _ = machines.seen(dataset.train, spec)
    draws = machines.draw(key, machine, params, 2000)
    strongest = (params.w_VH**2).sum(0).argsort()[::-1][:6]
    return {
      'recorded': charts.raster(train_NV[:400], 'recorded'),
      'drawn': charts.raster(draws[:400], 'independent draws of the model'),
      'moments': charts.scatter(machines.moment_scores(draws, dataset)[1]),
      'active neurons': charts.distribution({
        'recorded': moments.active(train_NV), 'model': moments.active(draws)}, 'active neurons'),
      'assemblies': charts.assemblies(
        params.w_VH[:, strongest], machine.hidden_mean(params, train_NV[:1000])[:, strongest])}

  return draw


def experiment(*, dataset: DatasetName = 'npz:spikes.npz?split=blocks',
               hidden: Literal['bernoulli', 'double_rectified', 'pairwise'] = 'bernoulli',
               num_hidden: Width = 40, negative: Literal['cd', 'pcd'] | custom.Negative = 'pcd',
               steps: PositiveInt = 1, chains: PositiveInt = 100, sparsity: NonNegative = 0.0,
               learning_rate: NonNegative = 2e-3, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 5000, ais_chains: PositiveInt = 100,
               ais_temperatures: PositiveInt = 2000, num_draws: PositiveInt = 2000,
               estimator: custom.Estimator | None = None) -> Experiment:
  """hidden 'pairwise' has as many Gaussian hidden units as there are neurons, whatever num_hidden.

  `sparsity` weighs the squares of the hidden units' sums of |w| (contrastive.sparse_groups).
  """
  spec = machines.spec_of(dataset, 'binary', ORIGIN)
  pairwise = hidden == 'pairwise'
  machine = Machine(units.BERNOULLI, units.LINEAR if pairwise else machines.HIDDEN[hidden])

  def validate(key, params, arrays):
    return machines.quick_nats(key, machine, params, arrays, spec)

  def evaluate(key, params, dataset, report, chains_NV=None, thorough=False):
    score, draws, scores = machines.scored(
      key, machine, params, dataset, chains=ais_chains, temperatures=ais_temperatures,
      num_draws=num_draws, thorough=thorough, chains_NV=chains_NV, report=report)
    train, test = (moments.active(machines.seen(arrays, spec)[0])
                   for arrays in (dataset.train, dataset.test))
    return {**score, 'baselines': baseline_scores(dataset), 'scores': {
      **scores,
      'active_neurons_distance': moments.total_variation(moments.active(draws), test),
      'active_neurons_distance_of_training': moments.total_variation(train, test)}}

  return Experiment(
    dataset=dataset, binarisation='static', phases=(machines.phase(
      machine, spec, num_hidden=spec.num_visible if pairwise else num_hidden, negative=negative,
      steps=steps, chains=chains, sparsity=sparsity, optimizer=optax.adam,
      learning_rate=learning_rate, batch_size=batch_size, num_steps=num_steps,
      estimator=estimator),),
    evaluate=evaluate, thorough=functools.partial(evaluate, thorough=True), validate=validate,
    headline='valid_nats_quick', num_validations=5,
    pictures=pictures(machine), steps_per_dispatch=100, model=machine,
    questions=inference.boltzmann(machine),
    sample=unlabelled(lambda key, params, num: machines.sample(key, machine, params, num),
                      spec.seen_shape),
    protocol=f'AIS both ways, held-out time bins, split {spec.split}')
