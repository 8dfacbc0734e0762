"""Deep autoencoder 784-1000-500-250-30 (Hinton & Salakhutdinov, 2006).

  python -m launch.train --experiment=autoencoder --variant=pretrained --workdir=runs/autoencoder
  python -m launch.evaluate --workdir=runs/autoencoder

Layers are pretrained greedily as RBMs (CD-1, means passed up, one training phase for each layer),
the last with linear hidden units: the code. Unrolled, the net is fine-tuned with Adam on the
cross-entropy of real-valued pixels, the learning rate falling linearly to 0 from the better of 1e-3
and 3e-3 on validation images, chosen for each variant. Without pretraining the weights are
initialised as by Glorot & Bengio (2010), times 4 for logistic units.

Score: squared error of a test image, the sum over pixels in [0, 1], mean over all test images
(mean +- standard deviation over seeds), compared with PCA of as many components and, by a
`--thorough` score, with logistic PCA, whose codes are the best of each image (500 steps of its
majoriser); an autoencoder has no likelihood.

  pretrained      2.76, one seed, PCA 13.87, logistic PCA 3.47; trained on all 60,000 images, as
                  published: 3.00, PCA 13.87, logistic PCA 8.01
  digits          0.88, one seed, PCA 1.58, logistic PCA 1.23; 64-128-64-8 on 8x8 digits
  digits_random   0.68, one seed; the same without pretraining
  digits_2        1.84 +- 0.01, 3 seeds (PCA 3.35, logistic 3.31); 64-128-64-2: the code is a point
                  of the plane, see the picture of codes

Trained on 50,000 images, after 3,000 updates of each RBM instead of 25,000, pretrained has 3.16; a
longer fine-tuning then overfits (3.32 after 40,000 updates, 1.50 of training images at the end),
and with --set=noise=bits, where it sees pixels as bits and gives back their intensities, 25,000
have 3.65.

Without pretraining on MNIST is --set=pretrain=false, the published net with a code of two numbers
--set=layers=1000-500-250-2 --set=learning_rate=3e-3. Cost: digits 30 seconds on 2 CPU cores shared
with other work, pretrained 30 minutes of one core, logistic PCA of its images eight more.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import custom
from experiments._common.stacks import pixels, pretraining, require_unit_interval
from gen_models import data, inference
from gen_models.domains import (
  DatasetName,
  Decay,
  Fraction,
  Layers,
  NonNegative,
  NumUpdates,
  PositiveInt,
  sizes_of,
)
from gen_models.estimators.base import from_loss
from gen_models.evaluation import charts, figures, likelihood, monitors
from gen_models.experiment import Experiment, Phase
from gen_models.models import bits, dbn, feedforward, pca, rbm, units
from gen_models.models.machine import Machine
from gen_models.models.rows import mean_rows

CODES = Machine(units.BERNOULLI, units.LINEAR)  # the layer at the top of the stack

_DIGITS = dict(dataset='digits', layers='128-64-8', num_steps=6000, learning_rate=3e-3,
               code_learning_rate=0.1, pretrain_weight_decay=0.0)

VARIANTS = {
  'pretrained': dict(dataset='mnist_60000', learning_rate=3e-3, pretrain_steps=25_000,
                     num_steps=15_000),
  'digits': _DIGITS,
  'digits_random': dict(_DIGITS, pretrain=False),
  'digits_2': dict(_DIGITS, layers='128-64-2'),
}


def cross_entropy(noise: str | None = None):
  """The loss mean -sum_i x_i log m_i + (1 - x_i) log(1 - m_i), m the reconstruction; nats.

  With noise 'bits' m is that of bits drawn with the probabilities x (Vincent et al., 2008).
  """
  def loss(key, params, x_BV):
    log_odds_BV = feedforward.pixel_log_odds(
      params, x_BV if noise is None else bits.bernoulli(key, x_BV))
    error_B = jnp.sum((x_BV - jax.nn.sigmoid(log_odds_BV))**2, axis=-1)
    return mean_rows(feedforward.cross_entropy(log_odds_BV, x_BV)), {
      'squared_error': jnp.mean(error_B)}

  return loss


@jax.jit
def reconstruct(params: feedforward.Autoencoder, x_NV) -> jax.Array:
  """sigma(f_dec(f_enc(x))), [N, V]."""
  return jax.nn.sigmoid(feedforward.pixel_log_odds(params, x_NV))


def squared_error(x_NV, y_NV, weights_N=None) -> jax.Array:
  """Mean over images, weighted where they are, of the sum over pixels of (x - y)^2."""
  return data.mean(jnp.sum((x_NV - y_NV)**2, axis=-1), weights_N)


def through(params: dbn.Params, x_NV, model) -> jax.Array:
  """While a layer is pretrained: images through the stack so far and back; model is of its top."""
  *lower, top = params.layers
  v_NV = dbn.feature_means(params, x_NV)
  y_NV = rbm.visible_mean(top, model.hidden_mean(top, v_NV))
  for layer in reversed(lower):
    y_NV = rbm.visible_mean(layer, y_NV)
  return y_NV


def by_pca(dataset, num_components: int, x_NV) -> jax.Array:
  """Images through that many principal components of the training images, [N, V].

  As many components as values lose nothing.
  """
  if num_components >= x_NV.shape[1]:
    return x_NV
  params = pca.fit(pixels(dataset.train, dataset.about), num_components, dataset.train.weights)
  return pca.reconstruct(params, pca.project(params, x_NV))


def by_logistic_pca(key, dataset, num_components: int, x_NV) -> jax.Array:
  """Images through a code of logistic PCA, each its own best one, [N, V]; rows weigh the same."""
  if num_components >= x_NV.shape[1]:
    return x_NV
  train_NV = pixels(dataset.train, dataset.about)
  params = jax.jit(functools.partial(pca.fit_logistic, rank=num_components))(key, train_NV)
  return pca.reconstruct_logistic(params, jax.jit(pca.project_logistic)(params, x_NV))


def pictures(code: int, key, params, dataset) -> dict:
  """Two blocks of three rows: images, what comes back through the code, what PCA gives back.

  With a code of two numbers also the codes of test images, beside two principal components.
  """
  del key
  shape = dataset.about.seen_shape
  x_NV = pixels(dataset.test, dataset.about, 20)
  x_NV = x_NV[np.arange(20) % len(x_NV)]
  rows = np.stack([np.asarray(a).reshape(2, 10, -1) for a in (
    x_NV, reconstruct(params, x_NV), by_pca(dataset, code, x_NV))], axis=1)
  grids = {f'images, through the code of {code}, through {code} components of PCA':
           np.clip(figures.to_grid(rows.reshape(60, -1), shape, 6, 10), 0, 1)}
  if code == 2:
    x_NV = pixels(dataset.test, dataset.about, 5000)
    components = pca.fit(pixels(dataset.train, dataset.about), 2, dataset.train.weights)
    grids['codes of test images'] = charts.codes({
      'autoencoder': feedforward.forward(params.encoder, x_NV),
      'principal components': pca.project(components, x_NV)}, dataset.test.labels)
  return grids


def experiment(*, dataset: DatasetName = 'mnist',
               layers: Layers = '1000-500-250-30', pretrain: bool = True, steps: PositiveInt = 1,
               centring: Fraction | None = 0.01, pretrain_learning_rate: NonNegative = 0.1,
               code_learning_rate: NonNegative = 0.001, pretrain_momentum: Decay = 0.5,
               pretrain_weight_decay: NonNegative = 2e-4, learning_rate: NonNegative = 1e-3,
               batch_size: PositiveInt = 100, num_steps: NumUpdates = 25_000,
               pretrain_steps: NumUpdates | None = None,
               noise: Literal['bits'] | None = None,
               estimator: custom.Estimator | None = None) -> Experiment:
  """num_steps is that of each phase, unless pretrain_steps is given for the RBMs; an estimator of
  one's own is that of fine-tuning, and so is the noise on what the net sees.

  code_learning_rate is that of the RBM with linear hidden units. Longer than 45 lines because two
  kinds of training phases are composed, each with what it validates.
  """
  spec, sizes = data.spec(dataset), sizes_of(layers)
  *below, code = sizes
  require_unit_interval(spec)

  phases = pretraining(
    [*((rbm, size, pretrain_learning_rate) for size in below),
     (CODES, code, code_learning_rate)], steps=steps, centring=centring, spec=spec,
    binarisation='real', batch_size=batch_size,
    num_steps=num_steps if pretrain_steps is None else pretrain_steps,
    momentum=pretrain_momentum, weight_decay=pretrain_weight_decay) if pretrain else ()

  def init(key, arrays, previous_params):
    if previous_params is None:
      return feedforward.init_autoencoder(key, [arrays.rows[0].size, *sizes])
    return feedforward.unrolled(previous_params.layers)

  def hidden(params, arrays, split):
    del split
    x_NV = pixels(arrays, spec)
    code_NZ = feedforward.forward(params.encoder, x_NV)
    return (*feedforward.hidden_units(params.encoder, x_NV),
            *feedforward.hidden_units(params.decoder, code_NZ))

  finetune = Phase('finetune', init, custom.chosen(estimator, from_loss(cross_entropy(noise))),
                   optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps)),
                   data.batches(batch_size, 'real', spec), num_steps, batch_size,
                   monitor=monitors.of_network(hidden), alarms=monitors.UNIT_ALARMS)

  def validate(key, params, arrays):
    del key
    x_NV = pixels(arrays, spec)
    if isinstance(params, dbn.Params):
      y_NV = through(params, x_NV, CODES if len(params.layers) == len(sizes) else rbm)
      return {'valid_reconstruction_error': squared_error(x_NV, y_NV, arrays.weights)}
    error = squared_error(x_NV, reconstruct(params, x_NV), arrays.weights)
    return {'valid_squared_error': error, 'valid_minus_squared_error': -error}

  def evaluate(key, params, dataset, report, chains=None, thorough=False):
    del report, chains
    x_NV, weights_N = pixels(dataset.test, spec), dataset.test.weights
    back = {'': reconstruct(params, x_NV), '_pca': by_pca(dataset, code, x_NV)}
    if thorough and dataset.train.weights is None:
      back['_logistic_pca'] = by_logistic_pca(key, dataset, code, x_NV)
    return likelihood.no_likelihood(
      'an autoencoder', num_images=len(x_NV), binarisation='real', split='test',
      weights_N=weights_N, scores={
        f'squared_error{of}': float(squared_error(x_NV, y_NV, weights_N))
        for of, y_NV in back.items()})

  return Experiment(
    dataset=dataset, binarisation='real', phases=(*phases, finetune), evaluate=evaluate,
    thorough=functools.partial(evaluate, thorough=True), validate=validate,
    headline='valid_minus_squared_error',
    pictures=functools.partial(pictures, code), steps_per_dispatch=100,
    questions=inference.autoencoder(),
    model=feedforward,
    protocol='squared error summed over pixels in [0, 1], all test images, last parameters')
