"""Adversarial networks on MNIST and 8x8 digits: losses, penalties, classes, augmentations, colour.

  python -m launch.train --experiment=gan --variant=rpgan_r1_r2 --workdir=runs/gan
  python -m launch.evaluate --workdir=runs/gan

Pixels are real values in [0, 1]. There is no likelihood, unless noise is added to the draws:
`launch.evaluate --thorough --set=observation=0.1` has its density by annealed importance sampling
(Wu et al., 2017). Scores compare draws with test images, mean +- standard deviation over seeds
(Frechet distance of pixels; precision; recall).
An update moves one player; the learning rate falls along a cosine to 0 and the generator that is
scored is a moving average.

  rpgan_r1_r2     5.303; 0.647; 0.869, one seed, dynamically binarised; relativistic in pairs, R1 +
                  R2 (Huang et al., 2024), convolutions
  conditional     94.7 % of draws are of their class, 3 seeds; rpgan_r1_r2 of each class, with a
                  projection critic (Miyato & Koyama, 2018)
  digits          0.221; 0.964; 0.897, 3 seeds (training images 0.202; 0.973; 0.976); rpgan_r1_r2 on
                  8x8 digits, dense networks of 256
  digits_conditional  0.202; 0.982; 0.929, 3 seeds; the same of each class, 99.1 % of draws are of
                  theirs
  digits_diff_augment  0.403; 0.859; 0.812, 3 seeds; the critic sees augmented images (Zhao et al.,
                  2020)
  digits_adaptive  0.250; 0.959; 0.883, 3 seeds; the same, as much as it needs (Karras et
                  al., 2020)
  stacked_digits  1000 modes, reverse KL 0.046, 3 seeds; three digits as colours, rpgan_r1_r2 with
                  dense networks of 512

The other losses and penalties are --set=loss= and --set=penalty= (experiments/_common/games.py);
gan_losses in RESULTS.md has five losses with five penalties on digits, three seeds a cell. The
recipe of Radford, Metz & Chintala (2016) as published, with normalised networks, N(0, 0.02^2)
weights, no decay and no average, is --set=nets=dcgan --set=loss=non_saturating --set=penalty=none
--set=learning_rate=2e-4 --set=beta1=0.5 --set=beta2=0.999 --set=decay=none --set=average=0. Colour
photographs, and the networks for them, are in gan_cifar10.

Further scores of class-conditional variants: the share of 1,000 draws a class of which a classifier
says that class. Of stacked digits: the classes among 26,000 draws, of 1000, and the reverse KL of
their shares in nats (0.024 for as many stacks of the training digits). Cost: conditional 74 and
stacked_digits 20 seconds of an H200, three seeds together; digits 5 minutes of a CPU core for three
seeds, rpgan_r1_r2 33 minutes.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import custom, decoders, judged
from experiments._common.games import AnyLoss, AnyPenalty, Moves, critic_read, game, init
from gen_models import data, estimators, inference
from gen_models.domains import (
  DatasetName,
  Decay,
  NonNegative,
  NonNegativeInt,
  NumUpdates,
  Positive,
  PositiveInt,
  Width,
)
from gen_models.evaluation import figures, likelihood
from gen_models.experiment import Experiment, Phase, unlabelled
from gen_models.models import gan, label_rbm, residual
from gen_models.models.convolutions import Decoder, Encoder

SCORING = ('observation', 'annealed_images', 'annealed_temperatures')  # of the thorough score
RESIDUAL = ('sn_resnet', 'biggan', 'r3gan')
_DIGITS = dict(dataset='digits', nets='dense', width=256)
_STACKED = dict(dataset='stacked_digits', nets='dense', width=512)
VARIANTS = {
  'rpgan_r1_r2': dict(),
  'conditional': dict(conditional=True),
  'digits': _DIGITS,
  'digits_conditional': dict(_DIGITS, conditional=True),
  'digits_diff_augment': dict(_DIGITS, augment='diff_augment'),
  'digits_adaptive': dict(_DIGITS, augment='adaptive'),
  'stacked_digits': _STACKED,
  'stacked_digits_gan': dict(_STACKED, loss='non_saturating', penalty='none'),
  'stacked_digits_pacgan4': dict(_STACKED, loss='non_saturating', penalty='none', packing=4),
}


def experiment(*, dataset: DatasetName = 'mnist',
               loss: AnyLoss = 'relativistic', penalty: AnyPenalty = 'r1_r2',
               weight: NonNegative = 1.0, critic_steps: NonNegativeInt = 1,
               generator: custom.Network | None = None, critic: custom.Network | None = None,
               estimator: custom.Estimator | None = None,
               nets: Literal['dense', 'conv', 'dcgan', 'sn_resnet', 'biggan', 'r3gan'] = 'conv',
               width: Width = 32,
               num_latents: Width = 64, form: Literal['products', 'lax'] = 'products',
               learning_rate: NonNegative = 1e-3, beta1: Decay = 0.0, beta2: Decay = 0.99,
               decay: Literal['cosine', 'none'] = 'cosine', average: Decay = 0.999,
               batch_size: PositiveInt = 64, num_steps: NumUpdates = 20_000,
               conditional: bool | None = None, packing: PositiveInt | None = None,
               lazy: PositiveInt | None = None, spectral_norm: bool | None = None,
               moves: Moves | None = None, feature_matching: NonNegative | None = None,
               augment: Literal['diff_augment', 'adaptive'] | None = None,
               observation: Positive | None = None, annealed_images: PositiveInt | None = None,
               annealed_temperatures: PositiveInt | None = None,
               precision: Literal['bfloat16'] | None = None) -> Experiment:
  """weight is that of each penalty; critic_steps 0 moves both players at every update.

  width is that of the hidden layers of dense networks, of the convolutional layer next to the
  pixels of the others, of the critic of residual ones (models.residual); num_steps counts the moves
  of both. form is how convolutions are computed, see models.convolutions. lazy: penalties are taken
  at every n-th move of the critic. A thorough score (_common/decoders.py) reads observation and
  the two after it; observation is the standard deviation of noise on the pixels, with which draws
  have a density. precision is that of the convolutions of residual networks.
  """
  spec = data.spec(dataset)
  shape = spec.seen_shape
  data.check_view('real', spec)
  if not spec.unit_interval:
    raise data.BadData(f'data set {dataset}: its values are seen outside [0, 1], where these '
                       'networks end: leave out scale= in its name')
  model = players(build(nets, spec, width, num_latents, form, precision, conditional), spec,
                  generator, critic, conditional=conditional, packing=packing)
  ours, optimizer = game(
    model, loss, penalty, weight, critic_steps, learning_rate=learning_rate, beta1=beta1,
    beta2=beta2, decay=decay, num_steps=num_steps, lazy=lazy, spectral_norm=spectral_norm,
    moves=moves, feature_matching=feature_matching,
    augment=augmentation(augment, spec, conditional))

  def draw(key, params, num):
    # Networks that normalise over a batch need one.
    return model.generate(key, params, max(num, batch_size))[:num, :spec.num_visible]

  def evaluate(key, params, dataset, report):
    scores = {}
    if conditional:
      scores = judged.class_scores(key, *judged.of_game(model), params, dataset, report)
    elif dataset.name == judged.STACKED:
      scores = judged.stack_scores(key, jax.jit(draw, static_argnums=2), params, dataset, report)
    return likelihood.no_likelihood(
      'adversarial networks are drawn from, not evaluated', num_images=len(dataset.test.rows),
      binarisation='real', split='test', **({'scores': scores} if scores else {}))

  def pictures(key, params, dataset):
    del dataset
    return {'interpolations': interpolations(key, model, params, shape)}

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('gan', init(model), custom.chosen(estimator, ours), optimizer,
                  batches(batch_size, spec, conditional), num_steps, batch_size, average),),
    evaluate=evaluate, thorough=(without_density(nets, conditional, observation)
                                 or decoders.of_generator(evaluate, model, observation,
                                                          annealed_images, annealed_temperatures)),
    pictures=pictures, steps_per_dispatch=500,
    sample=(judged.of_class(*judged.of_game(model), shape) if conditional
            else unlabelled(lambda *args: (draw(*args),) * 2, shape)),
    questions=inference.gan(getattr(model, 'model', model), critic_read(model, spectral_norm)),
    model=model,
    protocol=f'{num_steps} moves of either player, real pixels')


def without_density(nets: str, conditional: bool | None, observation) -> str | None:
  """The reason why a generator has no density of a single row; None where it has one."""
  if conditional:
    return 'a class-conditional generator has a density for each class, which is not scored'
  if nets in ('dcgan', 'sn_resnet', 'biggan'):
    return 'a network that normalises over a batch has no density of a single row'
  return decoders.NO_NOISE if observation is None else None


def players(model: gan.Model, spec: data.Spec, generator, critic, *, conditional: bool | None,
            packing: int | None) -> gan.Model | gan.ClassConditional:
  """The model with a user's networks, packing and classes, where they are asked for."""
  num_classes = data.classes_of(spec) if conditional else 0
  if packing is not None and conditional:
    raise ValueError('a class-conditional critic reads one sample at once: leave packing out')
  num_latents = model.num_latents
  model = custom.players(model._replace(num_latents=num_latents + num_classes,
                                        packing=packing or 1), generator, critic, spec.seen_shape)
  model = model._replace(num_latents=num_latents)
  return gan.ClassConditional(model, num_classes) if conditional else model


def batches(batch_size: int, spec: data.Spec, conditional: bool | None):
  """Batches of rows, with their one-of-Q class behind them where the game is of each class."""
  if not conditional:
    return data.batches(batch_size, 'real', spec)
  with_labels, num_classes = (data.batches(batch_size, 'real', spec, with_labels=True),
                              data.classes_of(spec))
  return lambda key, arrays, step: label_rbm.attach(*with_labels(key, arrays, step), num_classes)


def augmentation(name: str | None, spec: data.Spec, conditional: bool | None):
  """The augmentation of images that is named.

  Raises:
    BadData: the rows are not images.
    ValueError: rows have classes behind them.
  """
  if name is None:
    return None
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: augment={name} is of pictures, and its rows are '
                       'vectors: leave augment out')
  if conditional:
    raise ValueError(f'augment={name} changes pictures, and a class-conditional critic reads rows '
                     'with a class behind them: leave one of the two out')
  shape = spec.seen_shape
  if name == 'diff_augment':
    return estimators.diff_augment(shape)
  return estimators.adaptive([estimators.translation(shape), estimators.colour(shape),
                              estimators.cutout(shape)])


def build(nets: str, spec: data.Spec, width: int, num_latents: int, form: str,
          precision: str | None = None, conditional: bool | None = None) -> gan.Model:
  """The generator and critic that `nets` names.

  Raises:
    BadData: they are of pictures, and the rows are none.
    ValueError: the pictures have sides that they are not of, or another precision was asked for
      than they have.
  """
  num_visible = spec.num_visible
  if precision and nets not in RESIDUAL:
    raise ValueError(f'precision={precision} is of nets {", ".join(RESIDUAL)}: leave it out')
  if nets == 'dense':
    return gan.Model(gan.DenseGenerator(num_visible, (width, width)),
                     gan.DenseCritic((width, width)), num_latents, num_visible)
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: convolutional nets are of pictures, and its rows '
                       f'are vectors of {num_visible}: --set=nets=dense')
  if nets in RESIDUAL:
    num_classes = data.classes_of(spec) if conditional else 0
    return gan.Model(*residual_players(nets, spec.seen_shape, width, num_classes, precision),
                     num_latents, num_visible)
  *sides, channels = spec.shape
  options: dict[str, Any] = dict(form=form, batch_norm=nets == 'dcgan',
                                 stddev=0.02 if nets == 'dcgan' else None)
  return gan.Model(
    gan.ConvGenerator(Decoder((2 * width, width), tuple(sides), channels, **options)),
    gan.ConvCritic(Encoder((width, 2 * width), **options), spec.seen_shape), num_latents,
    num_visible)


def residual_players(nets: str, shape, width: int, num_classes: int, precision: str | None):
  """(generator, critic) of images of that shape; errors as of residual.num_stages.

  The published widths are 128 of sn_resnet, whose generator has twice as many channels, 64 of
  biggan (4 times as many in both), 768 of r3gan.
  """
  residual.num_stages(shape, 8)
  dtype = jnp.dtype(precision or 'float32')
  if nets == 'r3gan':
    groups = max(1, width // 8)
    return (residual.GroupedGenerator(shape, width, groups, dtype=dtype),
            residual.GroupedCritic(shape, width, groups, dtype=dtype))
  if nets == 'biggan':
    return (residual.ResidualGenerator(shape, 4 * width, num_classes, True, dtype),
            residual.ResidualCritic(shape, 4 * width, dtype))
  return (residual.ResidualGenerator(shape, 2 * width, num_classes, dtype=dtype),
          residual.ResidualCritic(shape, width, dtype))


def interpolations(key, model: gan.Model | gan.ClassConditional, params, shape, rows: int = 8,
                   columns: int = 9) -> np.ndarray:
  """g(cos(t) z + sin(t) z'), t from 0 to pi / 2: every latent on the way is a draw from N(0, I).

  Each row of the picture is of one class where there are classes.
  """
  if isinstance(model, gan.ClassConditional):
    y_NQ = jax.nn.one_hot(jnp.repeat(jnp.arange(rows) % model.num_classes, columns),
                          model.num_classes)
    num_latents, decode = model.model.num_latents, lambda params, z_NZ: model.decode(
      params, z_NZ, y_NQ)
  else:
    num_latents, decode = model.num_latents, model.decode
  ends_ERZ = jax.random.normal(key, (2, rows, num_latents))
  t_C = jnp.linspace(0, math.pi / 2, columns)[:, None]
  z_RCZ = jnp.cos(t_C) * ends_ERZ[0][:, None] + jnp.sin(t_C) * ends_ERZ[1][:, None]
  x_NV = jax.jit(decode)(params, z_RCZ.reshape(-1, num_latents))
  return figures.to_grid(x_NV, shape, rows, columns)
