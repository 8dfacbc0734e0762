"""Time to likelihood: seconds of training until an RBM 784-500 on MNIST reaches -90 nats.

  python -m launch.train --experiment=rbm_time --variant=centred --workdir=runs/time
  python -m launch.evaluate --workdir=runs/time

The run of rbm_mnist, scored by the moving average of its parameters. A constant learning rate
stalls nats below the target, so the rate falls to 0 here too, and each variant has about as many
updates as it takes to reach the target, which happens late in that decay. The validation likelihood
is measured every 1,000 updates: log Z by forward and reverse annealing with 500 temperatures and
100 chains, and Bennett's estimate from both, because forward annealing by itself overestimates the
likelihood of machines in training by nats.

Score: `seconds_to_target`, seconds of training, compilation included and validation not, until the
mean over 10,000 validation images is first -90 nats or above, and `updates_to_target`, means +-
standard deviations over three seeds, each a single run on one core while another used the second;
test nats as in rbm_mnist, from 3,000 temperatures, at the end of the run.

                                                     seconds      updates
  centred  -86.92          [-86.10, -86.92]         60 +-   7  11,000 of 30,000; not resolved
  pcd1     -87.14 +- 0.08  [-87.30, -86.77]         90 +-   4  16,000 of 30,000
  pcd1_low_rank -88.36 +- 0.64 [-88.36, -86.54]    134 +-  21  15,668 of 30,001; not resolved
  fpcd1    -87.15 +- 0.13  [-87.33, -87.16]        123 +-  25  16,333 of 30,000
  pcd5     -87.69 +- 0.04  [-88.13, -87.57]        208 +-   3  12,333 of 20,000
  pt       -87.78 +- 0.32  [-87.79, -87.81]        449 +-  13  16,333 of 20,000
  ptt      -91.91 +- 0.26  [-91.81, -91.91]                    not in 10,000, 650 to 860 seconds
  cd25_decay -86.34 +- 0.09 [-86.54, -86.08]       569 +-   1  12,000 of 20,000; two seeds

Pretraining along two principal directions (Bereux et al., 2025) buys nothing here: its machine has
-193.6 nats after one convex fit of 20 seconds, and PCD from there needs as many updates as from
small weights. Its seconds have the fit, and other work on both cores.

CD-1 and CD-3 never reach the target, see rbm_mnist. On an H200 centred takes 9 seconds (one seed,
11,000 updates), of which 7 are before the end of the first 100 updates, mostly compilation.

Cost: 4 minutes of one core for a run of 30,000 updates with one Gibbs step each, validation
included.
"""

import functools

import jax.numpy as jnp

from experiments._common import binary, boltzmann, custom, pretrained
from gen_models import data, inference
from gen_models.domains import Decay, NonNegative, NumUpdates, PositiveInt, Real
from gen_models.estimators.contrastive import contrastive
from gen_models.evaluation import baselines, figures, likelihood, monitors
from gen_models.experiment import Experiment, Phase, unlabelled
from gen_models.models import gibbs, rbm, units
from gen_models.samplers import annealing

NUM_HIDDEN, BATCH_SIZE = 500, 100  # as rbm_mnist's
SCORING = ('ais_temperatures',)  # read only by `evaluate`
VARIANTS = {
  'pcd1': dict(),
  'pcd1_low_rank': dict(pretrain='low_rank'),
  'centred': dict(direction='centred'),
  'fpcd1': dict(negative='fpcd'),
  'pcd5': dict(steps=5, num_steps=20_000),
  'pt': dict(negative='pt', chains=20, rungs=50, direction='centred', num_steps=20_000),
  'ptt': dict(negative='ptt', chains=20, rungs=30, direction='centred', num_steps=10_000),
  'cd25_decay': dict(negative='cd', steps=25, learning_rate=0.05, momentum=0.9, weight_decay=1e-3,
                     num_steps=20_000),
}


def experiment(*, negative: boltzmann.AnyNegative = 'pcd', steps: PositiveInt = 1,
               chains: PositiveInt = 100, rungs: PositiveInt = 10,
               direction: boltzmann.AnyDirection = 'plain',
               estimator: custom.Estimator | None = None, learning_rate: NonNegative = 0.1,
               momentum: Decay = 0.0, weight_decay: NonNegative = 0.0, average: Decay = 0.999,
               num_steps: NumUpdates = 30_000, target: Real = -90.0,
               pretrain: pretrained.Pretrain | None = None, rank: pretrained.Rank | None = None,
               ais_temperatures: PositiveInt = 3_000) -> Experiment:
  """As rbm_mnist's; target is in nats. With `pretrain` the machine begins as one of rank 2, or
  `rank`, that a convex fit has found (_common.pretrained).
  """
  levels, spec = data.levels('mnist'), data.spec('mnist')
  before = pretrained.LowRank(spec, 'dynamic', rank or 2, NUM_HIDDEN) if pretrain else None
  chosen = (before or boltzmann).negative_phase(negative, chains=chains, steps=steps, rungs=rungs,
                                                fast_rate=0.01)
  ours = contrastive(rbm, chosen, direction=boltzmann.direction_of(direction, rate=0.01))

  def init(key, arrays, previous_params):
    del previous_params
    return rbm.init(key, 784, NUM_HIDDEN, data.mean_image(arrays, levels))

  def validate(key, params, arrays):
    v_NV = data.fixed(arrays, 'dynamic', levels, split='valid')
    if not isinstance(params, rbm.Params):
      return {'valid_nats_bennett': jnp.mean(pretrained.log_likelihood(params, v_NV))}
    log_z = annealing.quick_bennett(key, params, units.log_odds(v_NV.mean(0)), v_NV[:100],
                                    betas=annealing.refined(500))
    return {'valid_nats_bennett': likelihood.quick(rbm.free_energy(params, v_NV), log_z)}

  def evaluate(key, params, dataset, report, chains_NV=None, thorough=False):
    v_NV, train_NV, valid_NV = (data.fixed_split(dataset, split, 'dynamic')
                                for split in ('test', 'train', 'valid'))
    return {
      **likelihood.bracket(key, params, v_NV, base_V=units.log_odds(train_NV.mean(0)),
                           start_CV=train_NV[:100], binarisation='dynamic',
                           betas=annealing.refined(ais_temperatures), seen=[train_NV, valid_NV],
                           thorough=thorough, chains_NV=chains_NV, report=report),
      'split': 'test', 'baselines': {'independent pixels': baselines.independent_pixels(
        train_NV, v_NV, binarisation='dynamic')}}

  phase = Phase('rbm', init, custom.chosen(estimator, ours),
                boltzmann.descent(learning_rate, momentum, weight_decay, num_steps),
                data.batches(BATCH_SIZE, 'dynamic', levels), num_steps, BATCH_SIZE, average,
                check=boltzmann.check, alarms=monitors.ALARMS)
  return Experiment(
    dataset='mnist', binarisation='dynamic',
    phases=before.phases(phase) if before else (phase,),
    evaluate=evaluate, thorough=functools.partial(evaluate, thorough=True), validate=validate,
    headline='valid_nats_bennett',
    pictures=figures.rbm_filters((28, 28)), sample=unlabelled(gibbs.sampler(rbm), (28, 28)),
    steps_per_dispatch=100, validate_every=1000, target=target,
    questions=inference.boltzmann(rbm, see=binary.seen('dynamic')),
    model=rbm,
    protocol='AIS both ways, trained on 50,000 images, all 10,000 test images')
