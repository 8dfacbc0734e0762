"""Adversarial networks on MNIST: losses and penalties compared, and the classical recipe.

  python -m launch.train --experiment=gan --variant=rpgan_r1_r2 --workdir=runs/gan
  python -m launch.evaluate --workdir=runs/gan

Pixels are real values in [0, 1]. There is no likelihood; scores compare draws with test images,
mean +- standard deviation over seeds (Frechet distance of pixels; precision; recall).
An update moves one player; the learning rate falls along a cosine to 0 and the generator that is
scored is a moving average, except for dcgan, which is Radford, Metz & Chintala (2016) as published:
normalised networks, N(0, 0.02^2) weights, Adam 2e-4 with beta1 0.5, no decay, no average.

  non_saturating  with R1 (Mescheder, Geiger & Nowozin, 2018)
  hinge           with R1
  wgan_gp         five critic moves for one of the generator
  rpgan_r1_r2     relativistic in pairs, R1 + R2 (Huang et al., 2024)
  dcgan           the classical recipe
  digits          rpgan_r1_r2 on 8x8 digits, dense networks of 256

RESULTS.md has digits and rpgan_r1_r2; the others are not measured. Cost on 2 CPU cores shared
with other work: digits 40 seconds.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import custom
from experiments._common.games import AnyLoss, AnyPenalty, game, init
from gen_models import data, inference
from gen_models.domains import (
  DatasetName,
  Decay,
  NonNegative,
  NonNegativeInt,
  NumUpdates,
  PositiveInt,
  Width,
)
from gen_models.evaluation import figures, likelihood
from gen_models.experiment import Experiment, Phase, unlabelled
from gen_models.models import gan
from gen_models.models.convolutions import Decoder, Encoder

VARIANTS = {
  'non_saturating': dict(loss='non_saturating', penalty='r1'),
  'hinge': dict(loss='hinge', penalty='r1'),
  'wgan_gp': dict(loss='wasserstein', penalty='wgan_gp', weight=10.0, critic_steps=5,
                  num_steps=60_000),
  'rpgan_r1_r2': dict(),
  'dcgan': dict(loss='non_saturating', penalty='none', nets='dcgan', learning_rate=2e-4, beta1=0.5,
                beta2=0.999, decay='none', average=0.0),
  'digits': dict(dataset='digits', nets='dense', width=256),
}


def experiment(*, dataset: DatasetName = 'mnist',
               loss: AnyLoss = 'relativistic', penalty: AnyPenalty = 'r1_r2',
               weight: NonNegative = 1.0, critic_steps: NonNegativeInt = 1,
               generator: custom.Network | None = None, critic: custom.Network | None = None,
               estimator: custom.Estimator | None = None,
               nets: Literal['dense', 'conv', 'dcgan'] = 'conv', width: Width = 32,
               num_latents: Width = 64, form: Literal['products', 'lax'] = 'products',
               learning_rate: NonNegative = 1e-3, beta1: Decay = 0.0, beta2: Decay = 0.99,
               decay: Literal['cosine', 'none'] = 'cosine', average: Decay = 0.999,
               batch_size: PositiveInt = 64, num_steps: NumUpdates = 20_000) -> Experiment:
  """weight is that of each penalty; critic_steps 0 moves both players at every update.

  width is that of the hidden layers of dense networks, of the convolutional layer next to the
  pixels of the others; num_steps counts the moves of both. form is how convolutions are computed,
  see models.convolutions.
  """
  spec = data.spec(dataset)
  shape = spec.seen_shape
  if not spec.unit_interval:
    raise data.BadData(f'data set {dataset}: its values are seen outside [0, 1], where these '
                       'networks end: leave out scale= in its name')
  model = custom.players(build(nets, spec, width, num_latents, form), generator, critic, shape)
  ours, optimizer = game(
    model, loss, penalty, weight, critic_steps, learning_rate=learning_rate, beta1=beta1,
    beta2=beta2, decay=decay, num_steps=num_steps)

  def sample(key, params, num):
    # Networks that normalise over a batch need one.
    x_NV = model.generate(key, params, max(num, batch_size))[:num]
    return x_NV, x_NV

  def evaluate(key, params, dataset, report):
    del key, params, report
    return likelihood.no_likelihood(
      'adversarial networks are drawn from, not evaluated',
      num_images=len(dataset.test.rows), binarisation='real', split='test')

  def pictures(key, params, dataset):
    del dataset
    return {'interpolations': interpolations(key, model, params, shape)}

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('gan', init(model), custom.chosen(estimator, ours), optimizer,
                  data.batches(batch_size, 'real', spec), num_steps, batch_size, average),),
    evaluate=evaluate, pictures=pictures, sample=unlabelled(sample, shape), steps_per_dispatch=500,
    questions=inference.gan(model),
    model=model,
    protocol=f'{num_steps} moves of either player, real pixels')


def build(nets: str, spec: data.Spec, width: int, num_latents: int, form: str) -> gan.Model:
  """The generator and critic that `nets` names."""
  num_visible = spec.num_visible
  if nets == 'dense':
    return gan.Model(gan.DenseGenerator(num_visible, (width, width)),
                     gan.DenseCritic((width, width)), num_latents, num_visible)
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: convolutional nets are of pictures, and its rows '
                       f'are vectors of {num_visible}: --set=nets=dense')
  *sides, channels = spec.shape
  options: dict[str, Any] = dict(form=form, batch_norm=nets == 'dcgan',
                                 stddev=0.02 if nets == 'dcgan' else None)
  return gan.Model(
    gan.ConvGenerator(Decoder((2 * width, width), tuple(sides), channels, **options)),
    gan.ConvCritic(Encoder((width, 2 * width), **options), spec.seen_shape), num_latents,
    num_visible)


def interpolations(key, model: gan.Model, params, shape, rows: int = 8,
                   columns: int = 9) -> np.ndarray:
  """g(cos(t) z + sin(t) z'), t from 0 to pi / 2: every latent on the way is a draw from N(0, I)."""
  ends_ERZ = jax.random.normal(key, (2, rows, model.num_latents))
  t_C = jnp.linspace(0, math.pi / 2, columns)[:, None]
  z_RCZ = jnp.cos(t_C) * ends_ERZ[0][:, None] + jnp.sin(t_C) * ends_ERZ[1][:, None]
  x_NV = jax.jit(model.decode)(params, z_RCZ.reshape(-1, model.num_latents))
  return figures.to_grid(x_NV, shape, rows, columns)
