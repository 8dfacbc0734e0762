"""RBM 64-16 on 8x8 handwritten digits: every likelihood exact.

  python -m launch.train --experiment=rbm_digits --variant=pcd --workdir=runs/digits
  python -m launch.evaluate --workdir=runs/digits

Sixteen hidden units can be enumerated, so training curves and test scores are exact nats and the
estimators, the exact gradient among them, can be ranked by the score that they reach.

Score: exact test nats of 300 held-out digits, threshold binarisation, mean +- standard deviation
over 5 seeds. Independent pixels score -25.19, a mixture of 80 products of Bernoullis -17.55. Cost:
4 to 10 seconds for one seed of cd1 or pcd, 15 seconds for five in one program (cd25 270, exact
1300), on 2 CPU cores shared with other work.

  cd1         -18.33 +- 0.09
  cd1_samples -18.28 +- 0.11   samples instead of p(h | v) in the last half-step
  cd5         -18.17 +- 0.08
  cd25        -18.16 +- 0.03
  pcd         -18.17 +- 0.09   persistent chains, one Gibbs step an update
  pcd_bfloat16 -18.16 +- 0.06  the same, weights rounded to bfloat16 for each estimate
  centred     -18.21 +- 0.18   the same, centred gradient
  enhanced    -18.23 +- 0.19   the same, offsets between data and model
  standardised -18.24 +- 0.16  the same, every unit of variance 1
  natural     -18.30 +- 0.08   the same, divided by the diagonal of the Fisher information
  fpcd        -18.19 +- 0.10   fast weights drive the chains
  pt          -18.21 +- 0.06   tempered chains that swap, over temperatures
  ptt         -18.21 +- 0.06   the same, along the run
  pcd_low_rank -18.16 +- 0.09  pcd that begins at a convex fit of rank 2, no better for it
  coupled     -19.10 +- 0.31   unbiased, no burn-in, noisy: 20 chains, met after about 20 steps
  tap         -19.65 +- 0.20   no sampling: fixed points of second order
  mean_field  -28.45 +- 3.09   and of first order; the run warns that its chains have left the data
  pseudo_likelihood -18.47 +- 0.14
  ratio_matching    -18.76 +- 0.10
  exact       -18.11 +- 0.12   the enumerated gradient, 6,000 updates at three times the rate
"""

from typing import Literal

import jax.numpy as jnp

from experiments._common import binary, boltzmann, custom, pretrained
from gen_models import data, inference
from gen_models.domains import Decay, Fraction, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.sampling_free import pseudo_likelihood, ratio_matching
from gen_models.evaluation import figures, monitors
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gibbs, rbm

VARIANTS = {
  'cd1': dict(negative='cd', steps=1),
  'cd1_samples': dict(negative='cd', steps=1, last_half_step='samples'),
  'cd5': dict(negative='cd', steps=5),
  'cd25': dict(negative='cd', steps=25),
  'pcd': dict(negative='pcd', steps=1),
  'pcd_bfloat16': dict(negative='pcd', steps=1, precision='bfloat16'),
  'centred': dict(negative='pcd', steps=1, direction='centred'),
  'enhanced': dict(negative='pcd', steps=1, direction='enhanced'),
  'standardised': dict(negative='pcd', steps=1, direction='standardised', learning_rate=0.01),
  'natural': dict(negative='pcd', steps=1, direction='natural', learning_rate=0.005),
  'fpcd': dict(negative='fpcd', steps=1),
  'pt': dict(negative='pt', rungs=8),
  'ptt': dict(negative='ptt', rungs=8),
  'pcd_low_rank': dict(negative='pcd', steps=1, pretrain='low_rank'),
  'coupled': dict(negative='coupled', chains=20),
  'mean_field': dict(negative='mean_field', steps=3),
  'tap': dict(negative='tap', steps=3),
  'pseudo_likelihood': dict(negative='pseudo_likelihood'),
  'ratio_matching': dict(negative='ratio_matching', learning_rate=0.3),
  'exact': dict(negative='exact', learning_rate=0.3, num_steps=6000),
}

OTHER_LOSSES = {'exact': lambda model: maximum_likelihood(model.log_likelihood),
                'pseudo_likelihood': pseudo_likelihood, 'ratio_matching': ratio_matching}


def experiment(*, num_hidden: Width = 16,
               negative: Literal['cd', 'pcd', 'fpcd', 'pt', 'ptt', 'coupled', 'mean_field',
                                 'tap', 'exact', 'pseudo_likelihood', 'ratio_matching']
               | custom.Negative = 'pcd',
               steps: PositiveInt = 1, chains: PositiveInt = 100, rungs: PositiveInt = 8,
               fast_rate: NonNegative = 0.01,
               last_half_step: Literal['probabilities', 'samples'] = 'probabilities',
               direction: boltzmann.AnyDirection = 'plain', rate: Fraction = 0.01,
               estimator: custom.Estimator | None = None,
               precision: custom.Precision | None = None,
               learning_rate: NonNegative = 0.1, momentum: Decay = 0.0,
               weight_decay: NonNegative = 1e-4, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 20_000,
               binarisation: Literal['threshold', 'dynamic'] = 'threshold',
               pretrain: pretrained.Pretrain | None = None,
               rank: pretrained.Rank | None = None) -> Experiment:
  """The learning rate falls linearly to 0; weight decay is on W only. With `pretrain` the machine
  begins as one of rank 2, or `rank`, that a convex fit has found (_common.pretrained).
  """
  levels, spec = data.levels('digits'), data.spec('digits')
  before = pretrained.LowRank(spec, binarisation, rank or 2, num_hidden) if pretrain else None
  if negative in OTHER_LOSSES:
    ours = OTHER_LOSSES[negative](rbm)
  else:
    chosen = (before or boltzmann).negative_phase(negative, chains=chains, steps=steps,
                                                  rungs=rungs, fast_rate=fast_rate)
    ours = contrastive(rbm, chosen, last_half_step=last_half_step,
                       direction=boltzmann.direction_of(direction, rate))

  def init(key, arrays, previous_params):
    del previous_params
    return rbm.init(key, 64, num_hidden, data.mean_image(arrays, levels))

  def validate(key, params, arrays):
    del key
    v_NV = data.fixed(arrays, binarisation, levels, split='valid')
    log_p = rbm.log_likelihood if isinstance(params, rbm.Params) else pretrained.log_likelihood
    return {'valid_nats': jnp.mean(log_p(params, v_NV))}

  def evaluate(key, params, dataset, report):
    del key, report
    train_NV, test_NV = (data.fixed_split(dataset, split, binarisation)
                         for split in ('train', 'test'))
    return binary.exact(params, train_NV, test_NV, binarisation) | {
      'baselines': binary.baseline_scores(dataset, binarisation)}

  phase = Phase('rbm', init, custom.chosen(estimator, ours, precision),
                boltzmann.descent(learning_rate, momentum, weight_decay, num_steps),
                data.batches(batch_size, binarisation, levels), num_steps, batch_size,
                check=boltzmann.check, monitor=monitors.of_chains(rbm, binarisation, levels),
                alarms=monitors.ALARMS)
  return Experiment(
    dataset='digits', binarisation=binarisation,
    phases=before.phases(phase) if before else (phase,),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats',
    pictures=figures.rbm_pictures((8, 8)), sample=unlabelled(gibbs.sampler(rbm), (8, 8)),
    questions=inference.boltzmann(rbm, see=binary.seen(binarisation)),
    steps_per_dispatch=200, validate_every=1000,
    model=rbm,
    protocol='exact log-likelihood of 300 held-out digits, pixels >= 8 of 16 on')
