"""Sigmoid belief network 784-200 with DisARM: an epoch beside torch and beside the floor.

  python -m benchmarks.discrete --json=discrete.json    (peers: pip install "gen_models[bench]")

  f(z) = log p(x, z) - log q(z | x),   (f(z) - f(z')) (z - z') max(m, 1 - m) / 2 along the logits

One stochastic layer of Bernoulli units, linear encoder and decoder, one antithetic pair an image,
Adam from the same parameters, on the same batches in fresh random order. A floor is the matrix
products of an update: x W, two z V of the pair, and the two sums over rows.

Before times are shown, the bound of each, computed by one function for all, must have risen at
least half as far as ours.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import ours, timing
from benchmarks.rbm import images_of
from benchmarks.timing import Contender, Task
from gen_models import estimators
from gen_models.models import belief_net, vae

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'threadpoolctl')


class Setting(NamedTuple):
  """The setting that all contenders share."""

  x_NV: np.ndarray  # uint8, zeros and ones
  num_latent: int
  batch_size: int
  learning_rate: float

  @property
  def steps(self):
    return len(self.x_NV) // self.batch_size

  @property
  def model(self) -> vae.Model:
    return belief_net.model(self.x_NV.shape[1], (self.num_latent,))


class Trainer(NamedTuple):
  """A contender that trains, and its parameters."""

  contender: Contender
  params: Callable[[], vae.Params]


def start(s: Setting) -> vae.Params:
  """Where every trainer begins."""
  return s.model.init(jax.random.key(0), jnp.asarray(s.x_NV).mean(0))


def our_trainer(s: Setting) -> Trainer:
  return Trainer(*ours.trained(s, start(s), estimators.discrete(s.model, estimators.disarm()),
                               optax.adam))


def torch_trainer(s: Setting, compiled: bool = False) -> Trainer | None:
  if (torch := timing.peer('torch')) is None or compiled and timing.torch_compile() is None:
    return None
  params = jax.device_get(start(s))
  encoder, decoder = params.encoder[0]['Dense_0'], params.decoder[0]['Dense_0']
  names = (encoder['w_DF'], encoder['b_F'], decoder['w_DF'], params.bias_O, params.prior_O)
  leaves = [torch.tensor(np.array(x)).requires_grad_() for x in names]
  centre_V = torch.tensor(np.array(params.center_V))
  w_VZ, b_Z, v_ZV, c_V, prior_Z = leaves
  optimizer = torch.optim.Adam(leaves, s.learning_rate, fused=compiled or None)
  x_NV = torch.tensor(s.x_NV, dtype=torch.float32)
  softplus = torch.nn.functional.softplus

  def log_bernoulli(logits, x):
    return (x * logits - softplus(logits)).sum(-1)

  def loss(x_BV):
    logits_BZ = (x_BV - centre_V) @ w_VZ + b_Z
    held_BZ = logits_BZ.detach()
    m_BZ, u_BZ = held_BZ.sigmoid(), torch.rand_like(held_BZ)
    z_2BZ = torch.stack([u_BZ < m_BZ, u_BZ > 1 - m_BZ]).float()
    log_p_2B = log_bernoulli(z_2BZ @ v_ZV + c_V, x_BV) + log_bernoulli(prior_Z, z_2BZ)
    f_2B = log_p_2B.detach() - log_bernoulli(held_BZ, z_2BZ)
    along_BZ = ((f_2B[0] - f_2B[1])[:, None] * (z_2BZ[0] - z_2BZ[1])
                * torch.maximum(m_BZ, 1 - m_BZ) / 2)
    return -(log_p_2B.mean(0) + (along_BZ * logits_BZ).sum(-1)).mean()

  minimised = torch.compile(loss) if compiled else loss

  def run():
    for rows_B in torch.randperm(len(x_NV)).view(-1, s.batch_size):
      optimizer.zero_grad()
      minimised(x_NV[rows_B]).backward()
      optimizer.step()

  def found():
    w, b, v, c, prior = (jnp.asarray(x.detach().numpy()) for x in leaves)
    return params._replace(encoder=({'Dense_0': {'w_DF': w, 'b_F': b}},),
                           decoder=({'Dense_0': {'w_DF': v}},), bias_O=c, prior_O=prior)

  return Trainer(Contender('torch.compile' if compiled else 'torch eager', run,
                           'loss compiled, fused Adam' if compiled else 'a handwritten loop'),
                 found)


def products(s: Setting) -> tuple:
  """(products, W, two inputs, times), as timing.floor takes them."""
  w_VZ = np.array(start(s).encoder[0]['Dense_0']['w_DF'])

  def update(w_VZ, x_BV, y_BV):
    z_BZ, o_BZ = x_BV @ w_VZ, y_BV[:, :w_VZ.shape[1]]
    return z_BZ @ w_VZ.T, o_BZ @ w_VZ.T, z_BZ.T @ x_BV, o_BZ.T @ y_BV, x_BV.T @ z_BZ

  x_2BV = np.random.default_rng(0).random((2, s.batch_size, s.x_NV.shape[1]), np.float32)
  return update, w_VZ, x_2BV, s.steps


def check_learnt(trainers: list[Trainer], s: Setting) -> None:
  """Raises RuntimeError unless the bound of each rose at least half as far as ours."""
  x_NV, model = s.x_NV[:1000].astype(np.float32), s.model

  @jax.jit
  def bound(params):
    return jnp.mean(model.log_weights(jax.random.key(2), params, x_NV, 10))

  before, after = float(bound(start(s))), [float(bound(t.params())) for t in trainers]
  for trainer, value in zip(trainers, after, strict=True):
    print(f'  {trainer.contender.name}: bound {before:.2f} untrained, {value:.2f} trained')
    if not value - before >= (after[0] - before) / 2 > 0:
      raise RuntimeError(f'{trainer.contender.name} was timed, but did not learn')


def tasks(s: Setting) -> Iterator[Task]:
  """An epoch."""
  trainers = [t for t in (our_trainer(s), torch_trainer(s), torch_trainer(s, True)) if t]
  yield Task(f'One epoch of DisARM, {s.x_NV.shape[1]}-{s.num_latent}, batch {s.batch_size}, '
             f'{len(s.x_NV):,} images',
             [t.contender for t in trainers] + timing.floors(*products(s)), 1,
             lambda: check_learnt(trainers, s))


def define_flags() -> None:
  flags.DEFINE_integer('images', 10_000, 'Images an epoch.', lower_bound=1)
  flags.DEFINE_integer('rounds', 7, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_integer('batch', 100, 'Images an update.', lower_bound=1)
  flags.DEFINE_integer('latent', 200, 'Latent units.', lower_bound=1)
  flags.DEFINE_float('learning_rate', 1e-3, "Adam's, of every trainer.")
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  s = Setting(images_of(given.images // given.batch * given.batch, 784), given.latent, given.batch,
              given.learning_rate)
  timing.measure('discrete', tasks(s), rounds=given.rounds, packages=PACKAGES, path=given.json,
                 protocol=f'same start; {given.rounds} interleaved rounds in one process')


if __name__ == '__main__':
  define_flags()
  app.run(main)
