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
  conditional_dense  96.4 % of draws are of their class, one seed; dense networks of 512
  digits          0.221; 0.964; 0.897, 3 seeds (training images 0.202; 0.973; 0.976); rpgan_r1_r2 on
                  8x8 digits, dense networks of 256
  digits_conditional  0.202; 0.982; 0.929, 3 seeds; the same of each class, 99.1 % of draws are of
                  theirs
  digits_auxiliary  0.229; 0.969; 0.885, 3 seeds; the same, the critic classifies data and draws in
                  the place of the projection (Odena et al., 2017), 99.8 % of draws are of theirs
  digits_diff_augment  0.403; 0.859; 0.812, 3 seeds; the critic sees augmented images (Zhao et al.,
                  2020)
  digits_adaptive  0.250; 0.959; 0.883, 3 seeds; the same, as much as it needs (Karras et
                  al., 2020)
  stacked_digits  1000 modes, reverse KL 0.046, 3 seeds; three digits as colours, rpgan_r1_r2 with
                  dense networks of 512
  stacked_digits_gan  1000 modes, reverse KL 0.098, 3 seeds; the same, non-saturating, no penalty
  stacked_digits_pacgan4  999 modes, reverse KL 0.215, 3 seeds; its critic sees packs of 4

The other losses and penalties are --set=loss= and --set=penalty= (experiments/_common/games.py);
gan_losses in RESULTS.md has five losses with five penalties on digits, three seeds a cell. The
recipe of Radford, Metz & Chintala (2016) as published, with normalised networks, N(0, 0.02^2)
weights, no decay and no average, is --set=nets=dcgan --set=loss=non_saturating --set=penalty=none
--set=learning_rate=2e-4 --set=beta1=0.5 --set=beta2=0.999 --set=decay=none --set=average=0. Stacked
MNIST is --set=dataset=stacked_mnist. Colour photographs, and the networks for them, are in
gan_cifar10.

Further scores of class-conditional variants: the share of 1,000 draws a class of which a classifier
says that class. Of stacked digits: the classes among 26,000 draws, of 1000, and the reverse KL of
their shares in nats (0.024 for as many stacks of the training digits). Cost: conditional 74 and
stacked_digits 20 seconds of an H200, three seeds together; digits 5 minutes of a CPU core for three
seeds, rpgan_r1_r2 33 minutes.
"""

from typing import Literal

from experiments._common import custom, decoders, image_games
from experiments._common.games import AnyLoss, AnyPenalty, Moves, game
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
from gen_models.experiment import Experiment

SCORING = ('observation', 'annealed_images', 'annealed_temperatures')  # of the thorough score
_DIGITS = dict(dataset='digits', nets='dense', width=256)
_STACKED = dict(dataset='stacked_digits', nets='dense', width=512)
VARIANTS = {
  'rpgan_r1_r2': dict(),
  'conditional': dict(conditional=True),
  'conditional_dense': dict(conditional=True, nets='dense', width=512),
  'digits': _DIGITS,
  'digits_conditional': dict(_DIGITS, conditional=True),
  'digits_auxiliary': dict(_DIGITS, conditional=True, auxiliary=1.0),
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
               nets: image_games.Nets = 'conv', width: Width = 32, num_latents: Width = 64,
               form: Literal['products', 'lax'] = 'products',
               learning_rate: NonNegative = 1e-3, beta1: Decay = 0.0, beta2: Decay = 0.99,
               decay: Literal['cosine', 'none'] = 'cosine', average: Decay = 0.999,
               batch_size: PositiveInt = 64, num_steps: NumUpdates = 20_000,
               conditional: bool | None = None, packing: PositiveInt | None = None,
               lazy: PositiveInt | None = None, spectral_norm: bool | None = None,
               moves: Moves | None = None, feature_matching: NonNegative | None = None,
               augment: image_games.Augment | None = None, auxiliary: NonNegative | None = None,
               observation: Positive | None = None,
               annealed_images: PositiveInt | None = None,
               annealed_temperatures: PositiveInt | None = None,
               precision: Literal['bfloat16'] | None = None) -> Experiment:
  """weight is that of each penalty; critic_steps 0 moves both players at every update.

  width is that of hidden layers (dense), of the convolutional layer next to the pixels, or of the
  critic (models.residual), whose convolutions have the precision; num_steps counts the moves of
  both. form: see models.convolutions. auxiliary: weight of a classifier, which a conditional critic
  then has in the place of its projection. lazy: penalties come at every n-th move of the critic.
  observation, the deviation of noise on pixels, and the two after it are of the thorough score.
  """
  spec = image_games.spec_of(dataset)
  model = image_games.players(
    image_games.build(nets, spec, width, num_latents, form, precision, conditional), spec,
    generator, critic, conditional=conditional, packing=packing, auxiliary=auxiliary)
  ours, optimizer = game(
    model, loss, penalty, weight, critic_steps, learning_rate=learning_rate, beta1=beta1,
    beta2=beta2, decay=decay, num_steps=num_steps, lazy=lazy, spectral_norm=spectral_norm,
    moves=moves, feature_matching=feature_matching, auxiliary=auxiliary,
    augment=image_games.augmentation(augment, spec, conditional))

  def annealed(evaluate):
    return decoders.of_generator(evaluate, model, observation, annealed_images,
                                 annealed_temperatures)

  return image_games.composed(
    spec, model, custom.chosen(estimator, ours), optimizer, batch_size=batch_size,
    num_steps=num_steps, average=average, spectral_norm=spectral_norm,
    density=without_density(nets, conditional, observation) or annealed,
    normalised=nets in image_games.NORMALISED or generator is not None)


def without_density(nets: str, conditional: bool | None, observation) -> str | None:
  """The reason why a generator has no density of a single row; None where it has one."""
  if conditional:
    return 'a class-conditional generator has a density for each class, which is not scored'
  if nets in image_games.NORMALISED:
    return 'a network that normalises over a batch has no density of a single row'
  return decoders.NO_NOISE if observation is None else None
