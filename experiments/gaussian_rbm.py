"""Boltzmann machine with Gaussian visible units of learned variance, on real-valued images.

  python -m launch.train --experiment=gaussian_rbm --variant=digits --workdir=runs/gaussian_rbm
  python -m launch.evaluate --workdir=runs/gaussian_rbm

Pixels are dequantised and normalised, v = (x - mean) / max(sd, 0.1), so that a pixel which hardly
ever changes does not become huge when it does; the variance of a unit stays within [0.001, 4]
whatever the parameters are, so it cannot diverge (Cho, Ilin & Raiko, 2011). Adam, the learning
rate falling linearly to 0. What is missing from a row is drawn in the positive phase.

Score: exact nats of test images in [0, 1], log Z by enumerating the hidden units, mean +- standard
deviation over seeds; a density, to be compared with that of the Gaussian and not with probabilities
of binary images.

  digits           44.52 +- 0.05  3 seeds; one full Gaussian 49.84
  score_matching   42.50 +- 0.37  3 seeds; no sampling: Hyvarinen's objective
  cd1              43.42 +- 0.20  3 seeds
  fashion_mnist    240.96          1 seed; one full Gaussian 837.02

Cost on 2 CPU cores shared with other work: digits 30 seconds.
"""

import functools
from typing import Literal

import jax.numpy as jnp
import optax

from experiments._common import boltzmann, custom, dequantised
from experiments._common.holes import mean_whole
from gen_models import data, inference
from gen_models.domains import DatasetName, Fraction, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators.contrastive import Normalised, contrastive, normalised
from gen_models.estimators.directions import centred
from gen_models.estimators.missing import imputed
from gen_models.estimators.sampling_free import score_matching
from gen_models.evaluation import figures, monitors
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gibbs, units
from gen_models.models.machine import Machine

VARIANTS = {
  'digits': dict(),
  'score_matching': dict(negative='none'),
  'cd1': dict(negative='cd'),
  'fashion_mnist': dict(dataset='fashion_mnist'),
}
# In standard deviations, where that of binary units is in probabilities.
ALARMS = tuple(alarm._replace(above=0.5) if alarm.metric == 'chain_moment_error' else alarm
               for alarm in monitors.ALARMS)
MACHINE = Machine(units.Gaussian(min_variance=0.001, max_variance=4.0), units.BERNOULLI)


def check(params, x_BV, missing: bool = False) -> None:
  """Phase.check: raises ValueError unless the batch is of the machine's visible units."""
  units.check_batch(MACHINE.visible, len(params.mean_V), x_BV, missing=missing)


def log_density(params, x_NV):
  """log p(x) of images in [0, 1]: that of the normalised ones less the logarithm of their scale."""
  return (MACHINE.log_likelihood(params.machine, params.see(x_NV))
          - jnp.sum(jnp.log(params.scale_V)))


def experiment(*, dataset: DatasetName = 'digits',
               num_hidden: Width = 16,
               negative: Literal['cd', 'pcd', 'none'] | custom.Negative = 'pcd',
               steps: PositiveInt = 1, chains: PositiveInt = 100, centring: Fraction | None = 0.01,
               estimator: custom.Estimator | None = None,
               learning_rate: NonNegative = 1e-3, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 20_000) -> Experiment:
  """negative 'none' is score matching, which takes no chains, no steps and no centring.

  Longer than 45 lines because rows of which values are missing are scored and watched differently.
  """
  spec = data.spec(dataset)
  if negative == 'none':
    if spec.missing:
      raise data.BadData(f'data set {dataset}: values are missing, and score matching reads whole '
                         'rows: --set=negative=pcd draws what is missing')
    ours = score_matching(MACHINE)
  else:
    phase = boltzmann.negative_phase(negative, chains=chains, steps=steps)
    ours = contrastive(MACHINE, phase, direction=centred(centring))

  def init(key, arrays, previous_params):
    del previous_params
    x_NV = dequantised.fixed(arrays, spec, 'train', missing=True)
    mean_V, scale_V = ((jnp.nanmean(x_NV, 0), jnp.nanstd(x_NV, 0)) if spec.missing
                       else (x_NV.mean(0), x_NV.std(0)))
    return Normalised(mean_V, jnp.maximum(scale_V, 0.1), MACHINE.init(
      key, len(mean_V), num_hidden, jnp.zeros_like(mean_V)))

  def validate(key, params, arrays):
    del key
    x_NV = dequantised.fixed(arrays, spec, 'valid', missing=True)
    return {'valid_nats': mean_whole(
      functools.partial(log_density, params), x_NV, spec, arrays.weights)}

  def evaluate(key, params, dataset, report):
    del key, report
    variance_V = 1 / MACHINE.visible.precision(params.machine.b_V)
    return dequantised.evaluate(log_density, params, dataset) | {
      'scores': {'least_variance': float(variance_V.min()),
                 'greatest_variance': float(variance_V.max())}}

  def draw(key, params, num):
    return tuple(data.clipped(params.mean_V + params.scale_V * v_NV, spec)
                 for v_NV in gibbs.sample(key, MACHINE, params.machine, num))

  def pictures(key, params, dataset):
    return figures.rbm_filters(spec.seen_shape)(key, params.machine, dataset)

  trained = custom.chosen(estimator, ours)
  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('machine', init, normalised(imputed(trained, MACHINE) if spec.missing
                                              else trained),
                  optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps)),
                  dequantised.batches(batch_size, spec, missing=spec.missing), num_steps,
                  batch_size, check=functools.partial(check, missing=spec.missing),
                  # Moments of data with holes are those of no rows.
                  monitor=None if spec.missing else monitors.of_machine(
                    MACHINE, lambda params, arrays, split: (
                      params.machine, params.see(dequantised.fixed(arrays, spec, split)))),
                  alarms=() if spec.missing else ALARMS),),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats', pictures=pictures,
    sample=unlabelled(draw, spec.seen_shape), steps_per_dispatch=200, model=MACHINE,
    questions=inference.boltzmann(MACHINE, inference.machines.NORMALISED,
                                  see=dequantised.seen(spec)), protocol=dequantised.PROTOCOL)
