"""A grid of 25 Gaussians, a ring of 8: which adversarial networks find every mode.

  python -m launch.train --experiment=gan_grid --variant=rpgan_r1_r2 --workdir=runs/grid
  python -m launch.evaluate --workdir=runs/grid

100,000 points of the modes {-4, -2, 0, 2, 4}^2, sigma 0.05; of the ring 8 modes on the unit circle,
sigma 0.01 (Lin et al., 2018). Without a variant it is the protocol of GAN and PacGAN as in the
authors' code: generator 4 x 400 with batch normalisation and ReLU, critic 3 x 200 maxout of 5,
weights N(0, 0.02^2), 2 latents, Adam 1e-4 with beta1 0.8, both players moved at every update, 400
epochs of 1000 batches of 100 packs, --set=packing=4 of four points each, --set=dataset=ring8 of the
ring. (Here draws are normalised over their own batch; there, by running averages.) The variants
have dense networks of 128 and a learning rate that falls along a cosine to 0, and a moving average
of the generator is scored.

Score, of 2,500 draws, mean +- standard deviation over seeds: modes found, share of draws within 3
sigma of a mode (0.989 for the data), reverse KL of the modes' shares in nats (0.005 for the data,
of the ring 0.002). Published, 10 runs: GAN 17.3 +- 0.8, 0.948, 0.70; PacGAN4 24.8 +- 0.2, 0.936,
0.04; on the ring 6.3 +- 0.5 and 7.8 +- 0.1 modes.

  rpgan_r1_r2  25.0 modes, 0.974, 0.010, one seed; relativistic in pairs, R1 + R2
  gan_r1       25.0 modes, 0.977, 0.007, ten seeds; non-saturating, R1
  spectral     25.0 modes, 0.936, 0.005, one seed; non-saturating, spectral normalisation
  wgan_gp      25.0 modes, 0.813, 0.006, one seed; Wasserstein, gradient penalty 0.1, five moves of
               the critic for one
  ring_gan_r1  8.0 modes, 0.977, 0.002, one seed; gan_r1 on the ring
  ring_rpgan_r1_r2  8.0 modes, 0.990, 0.002, one seed; rpgan_r1_r2 on the ring

Any loss and penalty of experiments/_common/games.py may be set beside a variant. Cost of
rpgan_r1_r2: 270 seconds of one core, of the others 140 to 240; of the ten seeds of gan_r1, 46
seconds of an H200; of the published protocol an hour of a core for a seed.
"""

from typing import Literal

import jax

from experiments._common import custom
from experiments._common.games import AnyLoss, AnyPenalty, Moves, critic_read, game, init
from gen_models import data, inference
from gen_models.data.builtin import MODES, points
from gen_models.domains import Decay, NonNegative, NonNegativeInt, NumUpdates, PositiveInt, Width
from gen_models.evaluation import likelihood, modes
from gen_models.experiment import Experiment, Phase
from gen_models.models import gan

NUM_DRAWS = 2500

SMALL = dict(nets='small', learning_rate=1e-3, beta1=0.0, decay='cosine', average=0.999,
             batch_size=256, weight=0.03, num_steps=80_000)
VARIANTS = {
  'rpgan_r1_r2': dict(SMALL, loss='relativistic', penalty='r1_r2'),
  'gan_r1': dict(SMALL, penalty='r1'),
  'spectral': dict(SMALL, weight=0.0, spectral_norm=True),
  'wgan_gp': dict(SMALL, loss='wasserstein', penalty='wgan_gp', weight=0.1, critic_steps=5),
  'ring_gan_r1': dict(SMALL, dataset='ring8', penalty='r1'),
  'ring_rpgan_r1_r2': dict(SMALL, dataset='ring8', loss='relativistic', penalty='r1_r2'),
}


def identity(x):
  """The generator's link: points are what its last layer gives."""
  return x


def experiment(*, dataset: Literal['grid25', 'ring8'] | None = None,
               loss: AnyLoss = 'non_saturating', penalty: AnyPenalty = 'none',
               weight: NonNegative = 0.0, packing: PositiveInt = 1,
               critic_steps: NonNegativeInt = 0, generator: custom.Network | None = None,
               critic: custom.Network | None = None, estimator: custom.Estimator | None = None,
               nets: Literal['published', 'small'] = 'published',
               width: Width = 128, num_latents: Width = 2, learning_rate: NonNegative = 1e-4,
               beta1: Decay = 0.8, beta2: Decay = 0.999, decay: Literal['cosine', 'none'] = 'none',
               average: Decay = 0.0, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 400_000, lazy: PositiveInt | None = None,
               spectral_norm: bool | None = None, moves: Moves | None = None) -> Experiment:
  """batch_size counts packs; critic_steps 0 moves both players at every update.

  dataset: None for grid25.
  lazy: penalties are taken at every n-th move of the critic.
  """
  if penalty != 'none' and isinstance(weight, float) and weight == 0:
    raise ValueError('a penalty of weight 0 does nothing: give --set=weight=0.1')
  dataset = dataset or 'grid25'
  modes_MD, sigma = MODES[dataset]
  if nets == 'published':
    model = gan.Model(gan.DenseGenerator(2, (400,) * 4, True, 0.02, identity),
                      gan.DenseCritic((200,) * 3, 5, 0.02), num_latents, 2, packing)
  else:
    model = gan.Model(gan.DenseGenerator(2, (width,) * 3, link=identity),
                      gan.DenseCritic((width,) * 3), num_latents, 2, packing)
  model = custom.players(model, generator, critic, (2,))
  ours, optimizer = game(
    model, loss, penalty, weight, critic_steps, learning_rate=learning_rate, beta1=beta1,
    beta2=beta2, decay=decay, num_steps=num_steps, lazy=lazy, spectral_norm=spectral_norm,
    moves=moves)
  bytes_at = data.batches(packing * batch_size, 'real', 255)
  draw = jax.jit(model.generate, static_argnums=2)

  def batch_at(key, arrays, step):
    return points(bytes_at(key, arrays, step))

  def evaluate(key, params, dataset, report):
    del report
    scores = modes.coverage(draw(key, params, NUM_DRAWS), modes_MD, sigma)
    floor = modes.coverage(points(data.fixed_split(dataset, 'test', 'real')), modes_MD, sigma)
    return likelihood.no_likelihood(
      'adversarial networks are drawn from, not evaluated', num_images=NUM_DRAWS,
      binarisation='real', split='test',
      scores={**scores, **{f'{name}_of_data': value for name, value in floor.items()}})

  def pictures(key, params, dataset):
    real = points(data.fixed_split(dataset, 'train', 'real'))[:10_000]
    extent = 1.25 * modes_MD.max()
    return {name: modes.histogram(x_ND, -extent, extent)[None, None] for name, x_ND in (
      ('data', real), ('draws', draw(key, params, len(real))))}

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('gan', init(model), custom.chosen(estimator, ours), optimizer, batch_at,
                  num_steps, packing * batch_size, average),),
    evaluate=evaluate, pictures=pictures, steps_per_dispatch=1000,
    questions=inference.gan(model, critic_read(model, spectral_norm),
                            see=lambda key, x_NV: points(x_NV)),
    model=model,
    protocol=f'{NUM_DRAWS} draws, {len(modes_MD)} modes, high quality within 3 sigma')
