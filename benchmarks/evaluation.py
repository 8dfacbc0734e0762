"""Scores: log Z, importance bounds and scores of draws, beside peers and beside the floor.

  python -m benchmarks.evaluation --json=evaluation.json   (peers: pip install "gen_models[bench]")

  log Z            annealing.forward of an RBM 784-500, times for one temperature of the published
                   14,500: every temperature costs the same
  importance bound importance.bound of a VAE 784-200-200-50, times for one image of K samples
  scores of draws  evaluation.samples of N draws against N images of 784 pixels, and the two parts
                   of it that others have: the Frechet distance, and precision, recall, density and
                   coverage; on the same float32 arrays

Every contender runs float32 on all cores. A floor is the matrix products of the same work and
nothing else; of the scores these are the squared distances, of each set and between the sets, once.
Images are noisy copies of ten random prototypes: time does not depend on what is in them.

Before times are shown, what was computed is compared: log-weights and bounds to what chance allows,
scores of draws to rounding.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import rbm as rbm_bench, timing
from benchmarks.rbm import images_of
from benchmarks.timing import Contender, Task
from gen_models.evaluation import importance, samples
from gen_models.models import vae
from gen_models.samplers import annealing

PACKAGES = ('jax', 'jaxlib', 'numpy', 'scikit-learn', 'scipy', 'prdc', 'rbms', 'torch',
            'threadpoolctl')


class Size(NamedTuple):
  """How much work.

  Attributes:
    side: of a square image.
    hidden: units of the RBM, and of both hidden layers of the VAE's nets.
    latents: units of the VAE.
    chains, temperatures: of log Z; a table for each pair.
    images, samples: of the importance bound; K is `samples`.
    draws: that are scored, and as many images.
  """

  side: int = 28
  hidden: tuple[int, int] = (500, 200)
  latents: int = 50
  chains: tuple[int, ...] = (100, 10_000)
  temperatures: tuple[int, ...] = (1000, 20)
  images: int = 100
  samples: int = 5000
  draws: int = 10_000

  @property
  def visible(self) -> int:
    return self.side**2


def tasks(size: Size) -> Iterator[Task]:
  """Everything, one after another."""
  for chains, temperatures in zip(size.chains, size.temperatures, strict=True):
    yield log_partition(size, chains, temperatures)
  yield importance_bound(size)
  yield from scores_of_draws(size)


# log Z.


def log_partition(size: Size, chains: int, temperatures: int) -> Task:
  """One temperature of annealed importance sampling."""
  s = rbm_bench.Setting(images_of(100, size.visible), size.hidden[0], 100, chains, temperatures,
                        0.05)
  params = rbm_bench.start(s)
  base_V = np.asarray(params.b_V)  # as rbms has it
  betas, found = annealing.linear(temperatures), {}

  def ours():
    walk = annealing.forward(jax.random.key(0), params, base_V, chains, betas)
    base = float(annealing.base_log_partition(params, base_V))
    found['ours'] = annealing.estimate(base, walk.log_w_C, temperatures).log_partition

  contenders = [Contender('ours', ours)]
  if rbms := _rbms_annealing(s, found):
    contenders.append(rbms)

  def check():
    print('  log Z: ' + ', '.join(f'{name} {value:.3f}' for name, value in found.items()))
    if any(abs(value - found['ours']) > 1 for value in found.values()):
      raise RuntimeError('the estimates of log Z differ by more than a nat')

  return Task(f'One temperature of log Z, {size.visible}-{size.hidden[0]}, {chains:,} chains',
              contenders + timing.floors(*rbm_bench.gibbs_products(s)), temperatures, check, 3)


def _rbms_annealing(s: rbm_bench.Setting, found: dict) -> Contender | None:
  if (parts := rbm_bench.bbrbm(s)) is None:
    return None
  torch, _, params = parts
  ais = timing.peer('rbms.partition_function.ais')

  def run():
    with torch.no_grad():
      found['rbms'] = ais.compute_partition_function_ais(s.chains, s.gibbs_steps + 1, params)

  return Contender('rbms', run, 'compute_partition_function_ais, the same temperatures and base')


# The importance bound.


def importance_bound(size: Size) -> Task:
  """The importance-weighted bound of a test set, for one image."""
  width, k = size.hidden[1], size.samples
  model = vae.model(size.visible, (size.latents,), ((width, width),))
  x_NV = images_of(size.images, size.visible).astype(np.float32)
  params, found = model.init(jax.random.key(0), jnp.asarray(x_NV).mean(0)), {}

  def ours():
    score = importance.bound(jax.random.key(1), model, params, x_NV, binarisation='static',
                             num_samples=k)
    found['ours'] = score['lower']

  w_DF = [np.array(layer['w_DF']) for _, layer in sorted(params.decoder[0].items())]
  rows = importance.ROWS
  z_2RZ = np.random.default_rng(0).standard_normal((2, rows, size.latents), np.float32)

  def products(w_DF, z_RZ, _):
    for w in w_DF:
      z_RZ = z_RZ @ w
    return z_RZ

  contenders = [Contender('ours', ours)]
  if timing.peer('torch'):
    contenders.append(_torch_bound(params, x_NV, k, found))

  def check():
    print('  bound: ' + ', '.join(f'{name} {value:.3f}' for name, value in found.items()))
    if any(abs(value - found['ours']) > 1 for value in found.values()):
      raise RuntimeError('the bounds differ by more than a nat')

  return Task(f'Importance bound of an image, {size.visible}-{width}-{width}-{size.latents}, '
              f'{k:,} samples',
              contenders + timing.floors(products, w_DF, z_2RZ, -(-k * size.images // rows)),
              size.images, check, 3)


def _torch_bound(params: vae.Params, x_NV, num_samples: int, found: dict) -> Contender:
  """The same loop: a few images at once, a hundred samples of each, a running log-sum-exp."""
  import torch
  at_once = min(num_samples, 100)
  images = max(1, importance.ROWS // at_once)
  nets = [[(torch.tensor(np.array(layer['w_DF'])), torch.tensor(np.array(
    layer.get('b_F', params.bias_O)))) for _, layer in sorted(net.items())]
    for net in (params.encoder[0], params.decoder[0])]
  x_NV = torch.tensor(x_NV)

  def apply(net, x):
    for i, (w_DF, b_F) in enumerate(net):
      x = x @ w_DF + b_F
      x = torch.tanh(x) if i < len(net) - 1 else x
    return x

  @torch.no_grad()
  def run():
    log_p = []
    for x_BV in x_NV.split(images):
      m_BZ, t_BZ = apply(nets[0], x_BV).chunk(2, dim=1)
      total_B = torch.full((len(x_BV),), -torch.inf)
      for _ in range(-(-num_samples // at_once)):
        noise_KBZ = torch.randn(at_once, *m_BZ.shape)
        z_KBZ = m_BZ + t_BZ.exp() * noise_KBZ
        y_KBV = apply(nets[1], z_KBZ)
        log_px_KB = (x_BV * y_KBV - torch.nn.functional.softplus(y_KBV)).sum(-1)
        log_w_KB = log_px_KB + (t_BZ + (noise_KBZ.square() - z_KBZ.square()) / 2).sum(-1)
        total_B = torch.logaddexp(total_B, torch.logsumexp(log_w_KB, 0))
      log_p.append(total_B - np.log(num_samples))
    found['torch eager'] = float(torch.cat(log_p).mean())

  return Contender('torch eager', run, 'the same loop with as many rows at once; the mean of the '
                   'weights, without their effective sample size and Pareto k')


# Scores of draws.


def scores_of_draws(size: Size) -> Iterator[Task]:
  """The Frechet distance, the scores by balls, and all scores."""
  # With grey in it, so that no two distances are equal: the balls of prdc are open, ours closed.
  grey_ND = np.random.default_rng(1).uniform(0, 0.1, (2 * size.draws, size.visible))
  x_ND, y_ND = np.split((images_of(len(grey_ND), size.visible) + grey_ND).astype(np.float32), 2)
  title = f'{size.draws:,} draws against as many images'
  found: dict[str, Any] = {}

  def contender(name: str, fn: Callable[[], Any], note: str = '') -> Contender:
    def run():
      found[name] = fn()
    return Contender(name, run, note)

  yield Task(f'Frechet distance in pixels, {title}', [
    contender('ours', lambda: samples.frechet(x_ND, y_ND)),
    contender('NumPy', lambda: _frechet(x_ND, y_ND),
              'as torch-fidelity computes it: eigenvalues of the product of the covariances')],
    1, lambda: _check_equal(found, 1e-3), 3)
  found.clear()
  balls = jax.jit(samples.balls)
  contenders = [contender('ours', lambda: jax.device_get(balls(x_ND, y_ND)))]
  if prdc := timing.peer('prdc'):
    contenders.append(contender(
      'prdc', lambda: prdc.compute_prdc(y_ND, x_ND, 5), 'compute_prdc'))
  yield Task(f'Precision, recall, density, coverage, {title}',
             contenders + _distance_floors(x_ND, y_ND), 1,
             lambda: _check_equal(found, 0.01), 3)
  found.clear()
  yield Task(f'All scores in pixels and in random features, {title}', [
    contender('ours', lambda: samples.compare(x_ND, y_ND, (size.side, size.side)))]
    + _distance_floors(x_ND, y_ND), 1, most_rounds=3)


def _frechet(x_ND, y_ND) -> float:
  """|m_x - m_y|^2 + tr(S_x + S_y) - 2 sum of the roots of the eigenvalues of S_x S_y."""
  (m_D, s_DD), (n_D, t_DD) = ((np.mean(z, axis=0), np.cov(z, rowvar=False)) for z in (x_ND, y_ND))
  roots_D = np.sqrt(np.linalg.eigvals(s_DD @ t_DD).astype(complex)).real
  return float((m_D - n_D) @ (m_D - n_D) + np.trace(s_DD) + np.trace(t_DD) - 2 * roots_D.sum())


def _distance_floors(x_ND, y_ND) -> list[Contender]:
  """x x', y y' and x y'."""
  def products(_, x_ND, y_ND):
    return x_ND @ x_ND.T, y_ND @ y_ND.T, x_ND @ y_ND.T
  return timing.floors(products, (), np.stack([x_ND, y_ND]), 1)


def _check_equal(found: dict[str, Any], tolerance: float) -> None:
  """RuntimeError unless all have the same numbers, to a relative `tolerance`."""
  numbers = {name: ({k: float(v) for k, v in value.items()} if isinstance(value, dict) else
                    {'': float(value)}) for name, value in found.items()}
  for name, values in numbers.items():
    print(f'  {name}: ' + ', '.join(f'{k} {v:.5g}'.strip() for k, v in values.items()))
    if any(abs(v - numbers['ours'][k]) > tolerance * max(1, abs(v)) for k, v in values.items()):
      raise RuntimeError(f'{name} computes something else than ours')


def define_flags() -> None:
  """The flags of this command; the tests call `tasks` without them."""
  flags.DEFINE_integer('rounds', 3, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_integer('draws', 10_000, 'That are scored, and images.', lower_bound=10)
  flags.DEFINE_integer('images', 100, 'Of the importance bound.', lower_bound=1)
  flags.DEFINE_integer('temperatures', 1000, 'Of log Z with 100 chains, a fiftieth of them with '
                       '10,000.', lower_bound=50)
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.evaluate does
  given = flags.FLAGS
  size = Size(temperatures=(given.temperatures, given.temperatures // 50), images=given.images,
              draws=given.draws)
  timing.measure('evaluation', tasks(size), rounds=given.rounds, packages=PACKAGES,
                 path=given.json, protocol=f'{given.rounds} interleaved rounds in one process; '
                 f'{given.temperatures:,} and {given.temperatures // 50} of 14,500 temperatures, '
                 f'{given.images} of 10,000 images')


if __name__ == '__main__':
  define_flags()
  app.run(main)
