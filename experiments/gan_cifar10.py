"""Adversarial networks on CIFAR-10 with four published recipes, for accelerators.

  python -m launch.train --experiment=gan_cifar10 --variant=r3gan --workdir=runs/cifar10
  python -m launch.evaluate --workdir=runs/cifar10

  dcgan      non-saturating, networks normalised over a batch (Radford, Metz & Chintala, 2016)
  sn_resnet  hinge, spectral normalisation, residual networks (Miyato et al., 2018)
  biggan     the same of each class, conditional normalisation, projection (Brock et al., 2019), of
             the critic's matrices only divided by singular values
  r3gan      relativistic in pairs, R1 + R2, grouped residual networks (Huang et al., 2024)

Learning rates, moments, batches and moves are those published; what differs is that an update moves
one player, that rates fall along a cosine to 0, and that R3GAN's weight and beta2 are constant
(there 0.05 to 0.005, and 0.9 to 0.99) and its images not augmented. --set=precision=bfloat16 is the
precision of the convolutions of residual networks.

There is no likelihood. Scores compare 10,000 draws with test images, mean +- standard deviation
over seeds, in pixels and in the features of a small network, or in those of a published network
whose weights are at hand: launch.evaluate --sample_space=inception:FILE. The data must be prepared,
see docs/howto/data.md. No variant has been trained yet, so none has a number; the test suite runs
moves of each on pictures of that shape. Training prints moves a second, so --set=num_steps=1000
says how many seconds the whole costs.
"""

from typing import Literal

from experiments._common import image_games
from experiments._common.games import AnyLoss, AnyPenalty, game
from gen_models.domains import (
  DatasetName,
  Decay,
  NonNegative,
  NonNegativeInt,
  NumUpdates,
  PositiveInt,
  Width,
)
from gen_models.experiment import Experiment

_CLASSICAL = dict(penalty='none', num_latents=128, batch_size=64, average=0.999)
_SN_RESNET = dict(_CLASSICAL, nets='sn_resnet', width=128, loss='hinge', spectral_norm=True)
VARIANTS = {
  'dcgan': dict(_CLASSICAL, loss='non_saturating', nets='dcgan', width=64, beta1=0.5, beta2=0.999,
                decay='none', average=0.0, num_steps=200_000),
  'sn_resnet': dict(_SN_RESNET, beta2=0.9, critic_steps=5, num_steps=600_000),
  'biggan': dict(_SN_RESNET, nets='biggan', conditional=True, batch_size=50, width=64, beta2=0.999,
                 critic_steps=4, average=0.9999, num_steps=500_000),
  'r3gan': dict(),
}


def experiment(*, dataset: DatasetName = 'tfds:cifar10', nets: image_games.Nets = 'r3gan',
               width: Width = 768, num_latents: Width = 64, loss: AnyLoss = 'relativistic',
               penalty: AnyPenalty = 'r1_r2', weight: NonNegative = 0.05,
               critic_steps: NonNegativeInt = 1, learning_rate: NonNegative = 2e-4,
               beta1: Decay = 0.0, beta2: Decay = 0.99,
               decay: Literal['cosine', 'none'] = 'cosine', average: Decay = 0.9999,
               batch_size: PositiveInt = 512, num_steps: NumUpdates = 780_000,
               conditional: bool | None = None, lazy: PositiveInt | None = None,
               spectral_norm: bool | None = None, augment: image_games.Augment | None = None,
               precision: Literal['bfloat16'] | None = None) -> Experiment:
  """As gan's; the defaults are those of r3gan, whose critic has the width."""
  spec = image_games.spec_of(dataset)
  model = image_games.players(
    image_games.build(nets, spec, width, num_latents, 'products', precision, conditional), spec,
    None, None, conditional=conditional, packing=None)
  ours, optimizer = game(
    model, loss, penalty, weight, critic_steps, learning_rate=learning_rate, beta1=beta1,
    beta2=beta2, decay=decay, num_steps=num_steps, lazy=lazy, spectral_norm=spectral_norm,
    augment=image_games.augmentation(augment, spec, conditional))
  return image_games.composed(
    spec, model, ours, optimizer, batch_size=batch_size, num_steps=num_steps, average=average,
    spectral_norm=spectral_norm, normalised=nets in image_games.NORMALISED)
