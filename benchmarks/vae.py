"""Bernoulli VAE 784-500-20-500-784: training, also of IWAE, beside peers and beside the floor.

  python -m benchmarks.vae --json=vae.json          (peers: pip install "gen_models[bench]")

  loss = -E_q[log p(x | z)] + KL(q(z | x) || p(z)), one sample, the KL in closed form
  loss = -log (1/K) sum_k p(x, z_k) / q(z_k | x), of IWAE

Ours is the path of `launch.train`: parallel.runner over step.train_steps of a Phase, one dispatch
an epoch, uint8 images resident on the device, binarisation 'static', donated state. Every
contender runs float32 and Adam from the same parameters, ReLU nets of the same sizes, the same
batch and images in fresh random order, on all cores. A floor is the matrix products of the same
steps and nothing else: no randomness, no nonlinearity, no update. Images are noisy copies of ten
random prototypes: time does not depend on what is in them.

Before times are shown, the loss of each, computed by one function for all, must have fallen at
least half as far as ours: nobody is timed doing nothing, or something else.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import ours, timing
from benchmarks.rbm import images_of
from benchmarks.timing import Contender, Task
from gen_models import estimators
from gen_models.models import vae

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'pythae', 'threadpoolctl')


class Setting(NamedTuple):
  """The setting that all contenders share."""

  x_NV: np.ndarray  # uint8, zeros and ones
  num_hidden: int
  num_latent: int
  batch_size: int
  learning_rate: float
  num_samples: int = 50  # of IWAE

  @property
  def steps(self):
    return len(self.x_NV) // self.batch_size

  @property
  def model(self) -> vae.Model:
    return vae.model(self.x_NV.shape[1], (self.num_latent,), ((self.num_hidden,),),
                     activation=jax.nn.relu)


class Trainer(NamedTuple):
  """A contender that trains, and its layers (w_DF, b_F), encoder first, as NumPy arrays."""

  contender: Contender
  layers: Callable


def start(s: Setting) -> vae.Params:
  """Where every trainer begins."""
  return s.model.init(jax.random.key(0), jnp.asarray(s.x_NV).mean(0))


def layers_of(params: vae.Params) -> list:
  """[(w_DF, b_F)] of both nets; the last bias is the one that the model owns."""
  layers = [layer for net in (*params.encoder, *params.decoder) for _, layer in sorted(net.items())]
  return [(layer['w_DF'], layer.get('b_F', params.bias_O)) for layer in layers]


def params_of(layers) -> vae.Params:
  """The inverse of layers_of, of nets of equal depth."""
  dense = [{'w_DF': jnp.asarray(w_DF), 'b_F': jnp.asarray(b_F)} for w_DF, b_F in layers]
  bias_O = dense[-1].pop('b_F')
  encoder, decoder = ({f'Dense_{i}': layer for i, layer in enumerate(half)}
                      for half in (dense[:len(dense) // 2], dense[len(dense) // 2:]))
  return vae.Params((encoder,), (decoder,), bias_O)


# Ours.


def our_trainer(s: Setting) -> Trainer:
  return _ours(s, estimators.analytic_elbo(s.model))


def our_iwae(s: Setting) -> Trainer:
  return _ours(s, estimators.variational(s.model, estimators.iwae(s.num_samples)))


def _ours(s: Setting, estimator) -> Trainer:
  contender, params = ours.trained(s, start(s), estimator, optax.adam)
  return Trainer(contender, lambda: layers_of(params()))


# Peers.


class Nets(NamedTuple):
  """Nets of torch that begin as ours do, and their layers as NumPy arrays."""

  torch: Any
  encoder: Any  # to [m, log s]
  decoder: Any  # to logits
  layers: Callable[[], list]


def torch_nets(params: vae.Params, activation: str = 'ReLU') -> Nets | None:
  """Dense nets of torch with the parameters of ours, of equal depth; None without torch."""
  if (torch := timing.peer('torch')) is None:
    return None
  linears = []
  for w_DF, b_F in jax.device_get(layers_of(params)):
    linears.append(torch.nn.Linear(*w_DF.shape))
    linears[-1].load_state_dict({'weight': torch.tensor(w_DF.T), 'bias': torch.tensor(b_F)})

  def stacked(half):
    between = [layer for linear in half for layer in (linear, getattr(torch.nn, activation)())]
    return torch.nn.Sequential(*between[:-1])

  depth = len(linears) // 2
  return Nets(torch, stacked(linears[:depth]), stacked(linears[depth:]), lambda: [
    (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linears])


def torch_loss(nets: Nets) -> Callable:
  """Minus the ELBO of a batch, one sample and the KL in closed form; handwritten."""
  torch, encoder, decoder, _ = nets
  bce = torch.nn.functional.binary_cross_entropy_with_logits

  def loss(x_BV):
    m_BZ, t_BZ = encoder(x_BV).chunk(2, dim=1)
    s_BZ = t_BZ.exp()
    logits_BV = decoder(m_BZ + s_BZ * torch.randn_like(s_BZ))
    kl = ((s_BZ.square() + m_BZ.square() - 1) / 2 - t_BZ).sum()
    return (bce(logits_BV, x_BV, reduction='sum') + kl) / len(x_BV)

  return loss


def torch_trainer(s: Setting, compiled: bool = False) -> Trainer | None:
  if (nets := torch_nets(start(s))) is None or compiled and timing.torch_compile() is None:
    return None
  return Trainer(_torch_loop(s, nets, torch_loss(nets), compiled), nets.layers)


def torch_iwae(s: Setting, compiled: bool = False) -> Trainer | None:
  if (nets := torch_nets(start(s))) is None or compiled and timing.torch_compile() is None:
    return None
  torch, encoder, decoder, layers = nets
  bce = torch.nn.functional.binary_cross_entropy_with_logits

  def loss(x_BV):
    m_BZ, t_BZ = encoder(x_BV).chunk(2, dim=1)
    noise_KBZ = torch.randn(s.num_samples, *m_BZ.shape)
    z_KBZ = m_BZ + t_BZ.exp() * noise_KBZ
    logits_KBV = decoder(z_KBZ)
    log_px_KB = -bce(logits_KBV, x_BV.expand_as(logits_KBV), reduction='none').sum(-1)
    log_prior_less_q_KB = (t_BZ + (noise_KBZ.square() - z_KBZ.square()) / 2).sum(-1)
    return -torch.logsumexp(log_px_KB + log_prior_less_q_KB, 0).mean()

  return Trainer(_torch_loop(s, nets, loss, compiled), layers)


def _torch_loop(s: Setting, nets: Nets, loss: Callable, compiled: bool) -> Contender:
  """An epoch that minimises `loss` of a batch by Adam."""
  torch = nets.torch
  optimizer = torch.optim.Adam([*nets.encoder.parameters(), *nets.decoder.parameters()],
                               s.learning_rate, fused=compiled or None)
  if compiled:
    loss = torch.compile(loss)
  x_NV = torch.tensor(s.x_NV, dtype=torch.float32)

  def run():
    for rows_B in torch.randperm(len(x_NV)).view(-1, s.batch_size):
      optimizer.zero_grad()
      loss(x_NV[rows_B]).backward()
      optimizer.step()

  return Contender('torch.compile' if compiled else 'torch eager', run,
                   'loss compiled, fused Adam' if compiled else
                   'a handwritten loop; permutation and gather on tensors')


def _pythae_trainer(s: Setting, directory: str):
  """(pythae's BaseTrainer of the common model, its layers), or None."""
  if (nets := torch_nets(start(s))) is None or (trainers := timing.peer('pythae.trainers')) is None:
    return None
  from pythae.data.datasets import BaseDataset
  config = trainers.BaseTrainerConfig(
    output_dir=directory, num_epochs=1, learning_rate=s.learning_rate, no_cuda=True,
    per_device_train_batch_size=s.batch_size, optimizer_cls='Adam')
  images = BaseDataset(nets.torch.tensor(s.x_NV, dtype=nets.torch.float32),
                       nets.torch.zeros(len(s.x_NV)))
  model = pythae_model(nets, s.x_NV.shape[1], s.num_latent)
  return trainers.BaseTrainer(model, images, training_config=config), nets.layers


def pythae_model(nets: Nets, num_visible: int, num_latent: int):
  """pythae's VAE of Bernoulli pixels with these nets."""
  logging.disable(logging.INFO)  # what it says of every epoch, in several copies
  from pythae.models import VAE, VAEConfig
  from pythae.models.base.base_utils import ModelOutput
  from pythae.models.nn import BaseDecoder, BaseEncoder

  class Encoder(BaseEncoder):
    def __init__(self):
      super().__init__()
      self.net = nets.encoder

    def forward(self, x):
      m_BZ, t_BZ = self.net(x).chunk(2, dim=1)
      return ModelOutput(embedding=m_BZ, log_covariance=2 * t_BZ)

  class Decoder(BaseDecoder):
    def __init__(self):
      super().__init__()
      self.net = nets.decoder

    def forward(self, z):
      return ModelOutput(reconstruction=self.net(z).sigmoid())

  return VAE(VAEConfig(input_dim=(num_visible,), latent_dim=num_latent,
                       reconstruction_loss='bce'), Encoder(), Decoder())


def pythae_epoch(s: Setting, directory: str) -> Trainer | None:
  if (found := _pythae_trainer(s, directory)) is None:
    return None
  from pythae.trainers.training_callbacks import CallbackHandler
  trainer, layers = found
  trainer.set_optimizer()
  trainer.callback_handler = CallbackHandler([], trainer.model)
  return Trainer(Contender('pythae', lambda: trainer.train_step(1),
                           "BaseTrainer.train_step, an epoch of its DataLoader, without callbacks"),
                 layers)


def pythae_train(s: Setting, directory: str) -> Trainer | None:
  if (found := _pythae_trainer(s, directory)) is None:
    return None
  trainer, layers = found
  return Trainer(Contender('pythae train()', trainer.train,
                           'BaseTrainer.train, one epoch: with progress bar, best and final model'),
                 layers)


# Floors.


def elbo_products(s: Setting) -> tuple:
  """The eleven products of one update: four forward, three back to inputs, four to weights."""
  def products(w_L, x_BV, _):
    w1_VH, w2_HO, w3_ZH, w4_HV = w_L
    h_BH = x_BV @ w1_VH
    o_BO = h_BH @ w2_HO
    z_BZ = o_BO[:, :s.num_latent]
    g_BH = z_BZ @ w3_ZH
    y_BV = g_BH @ w4_HV
    dg_BH = y_BV @ w4_HV.T
    dz_BZ = dg_BH @ w3_ZH.T
    dh_BH = o_BO @ w2_HO.T
    return dz_BZ, x_BV.T @ dh_BH, h_BH.T @ o_BO, z_BZ.T @ dg_BH, g_BH.T @ y_BV
  return _inputs(products, s)


def iwae_products(s: Setting) -> tuple:
  """The same with K samples of each image: the decoder's products have K B rows."""
  def products(w_L, x_RV, _):
    w1_VH, w2_HO, w3_ZH, w4_HV = w_L
    x_BV = x_RV[:s.batch_size]
    h_BH = x_BV @ w1_VH
    o_BO = h_BH @ w2_HO
    z_RZ = x_RV[:, :s.num_latent]
    g_RH = z_RZ @ w3_ZH
    y_RV = g_RH @ w4_HV
    dg_RH = y_RV @ w4_HV.T
    dz_RZ = dg_RH @ w3_ZH.T
    dh_BH = o_BO @ w2_HO.T
    return dz_RZ, x_BV.T @ dh_BH, h_BH.T @ o_BO, z_RZ.T @ dg_RH, g_RH.T @ y_RV
  return _inputs(products, s, s.num_samples * s.batch_size)


def _inputs(products, s: Setting, rows: int | None = None) -> tuple:
  """(products, W of all layers, two inputs, times), as timing.floor takes them."""
  x_2BV = np.random.default_rng(0).random((2, rows or s.batch_size, s.x_NV.shape[1]), np.float32)
  return products, [np.array(w_DF) for w_DF, _ in layers_of(start(s))], x_2BV, s.steps


# Check.


def check_learnt(trainers: list[Trainer], s: Setting) -> None:
  """Raises RuntimeError unless the loss of each, in nats, fell at least half as far as ours."""
  x_NV, model = s.x_NV[:1000].astype(np.float32), s.model

  @jax.jit
  def loss(params):
    return -jnp.mean(model.log_weights(jax.random.key(2), params, x_NV, 10))

  before = float(loss(start(s)))
  after = [float(loss(params_of(trainer.layers()))) for trainer in trainers]
  for trainer, value in zip(trainers, after, strict=True):
    print(f'  {trainer.contender.name}: loss {before:.2f} untrained, {value:.2f} trained')
    if not (before - value >= (before - after[0]) / 2 > 0):
      raise RuntimeError(f'{trainer.contender.name} was timed, but did not learn')


def tasks(s: Setting) -> Iterator[Task]:
  """An epoch of the bound with one sample, and of IWAE on fewer images."""
  size = f'{s.x_NV.shape[1]}-{s.num_hidden}-{s.num_latent}, batch {s.batch_size}'
  with tempfile.TemporaryDirectory() as directory:
    trainers = [our_trainer(s), torch_trainer(s), torch_trainer(s, True),
                pythae_epoch(s, directory), pythae_train(s, directory)]
    trainers = [t for t in trainers if t]
    yield Task(f'One epoch, {size}, {len(s.x_NV):,} images',
               [t.contender for t in trainers] + timing.floors(*elbo_products(s)), 1,
               lambda: check_learnt(trainers, s))
  few = s._replace(x_NV=s.x_NV[:max(1, s.steps // 20) * s.batch_size])
  samplers = [t for t in (our_iwae(few), torch_iwae(few), torch_iwae(few, True)) if t]
  yield Task(f'One update of IWAE, {size}, {s.num_samples} samples',
             [t.contender for t in samplers] + timing.floors(*iwae_products(few)), few.steps,
             lambda: check_learnt(samplers, few))


def define_flags() -> None:
  """The flags of this command; benchmarks.accelerator times the same contenders without them."""
  flags.DEFINE_integer('images', 10_000, 'Images an epoch.', lower_bound=1)
  flags.DEFINE_integer('rounds', 7, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_integer('batch', 128, 'Images an update.', lower_bound=1)
  flags.DEFINE_integer('visible', 784, 'Pixels.', lower_bound=1)
  flags.DEFINE_integer('hidden', 500, 'Units of the hidden layer of both nets.', lower_bound=1)
  flags.DEFINE_integer('latent', 20, 'Latent units.', lower_bound=1)
  flags.DEFINE_integer('samples', 50, 'Of IWAE, for each image.', lower_bound=1)
  flags.DEFINE_float('learning_rate', 1e-3, "Adam's, of every trainer.")
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  x_NV = images_of(given.images // given.batch * given.batch, given.visible)
  s = Setting(x_NV, given.hidden, given.latent, given.batch, given.learning_rate, given.samples)
  timing.measure('vae', tasks(s), rounds=given.rounds, packages=PACKAGES, path=given.json,
                 protocol='same nets, same start; '
                 f'{given.rounds} interleaved rounds in one process')


if __name__ == '__main__':
  define_flags()
  app.run(main)
