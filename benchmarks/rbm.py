"""RBM 784-500: an epoch of CD-1 and of PCD-1, and a Gibbs step, beside peers and beside the floor.

  python -m benchmarks.rbm --json=rbm.json          (peers: pip install "gen_models[bench]")

On a GPU begin the line with XLA_FLAGS=--xla_gpu_deterministic_ops=true, as launch.train runs.

Ours is the path of `launch.train`: parallel.runner over step.train_steps of a Phase, one dispatch
an epoch, uint8 images resident on the device, binarisation 'static', donated state. Every
contender runs float32, plain stochastic gradient, the same batch, chains and steps, on all cores;
where JAX has a GPU, torch and rbms use it too, scikit-learn and NumPy stay on the cores. A floor is
the matrix products of the same steps and nothing else: no randomness, no sigmoid, no update. Images
are noisy copies of ten random prototypes: time does not depend on what is in them.

Before times are shown, each trainer's reconstruction error must have fallen and each sampler's
units must be on as often as ours: nobody is timed doing nothing.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import ours, timing
from benchmarks.timing import Contender, Task
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.models import gibbs, rbm

PACKAGES = ('jax', 'jaxlib', 'optax', 'numpy', 'scikit-learn', 'rbms', 'thrml', 'torch',
            'threadpoolctl')
MOST_OF_GRAPHS = 2000  # chains for thrml, which gathers all neighbours of every unit for each


class Setting(NamedTuple):
  """The setting that all contenders share."""

  x_NV: np.ndarray  # uint8, zeros and ones
  num_hidden: int
  batch_size: int
  chains: int
  gibbs_steps: int
  learning_rate: float

  @property
  def steps(self):
    return len(self.x_NV) // self.batch_size


class Trainer(NamedTuple):
  """A contender that trains, and its parameters (w_VH, b_V, c_H) as NumPy arrays."""

  contender: Contender
  params: Callable


class Sampler(NamedTuple):
  """A contender that takes Gibbs steps, and its visible samples [C, V]."""

  contender: Contender
  samples: Callable


def images_of(num: int, num_visible: int, seed: int = 0) -> np.ndarray:
  """Zeros and ones [N, V], uint8: noisy copies of ten random prototypes."""
  rng = np.random.default_rng(seed)
  prototypes = rng.random((10, num_visible)) < 0.2
  noise = rng.random((num, num_visible)) < 0.05
  return (prototypes[rng.integers(10, size=num)] ^ noise).astype(np.uint8)


def start(s: Setting) -> rbm.Params:
  """Where every trainer but scikit-learn begins, and the model that all samplers sample."""
  return rbm.init(jax.random.key(0), s.x_NV.shape[1], s.num_hidden, jnp.asarray(s.x_NV).mean(0))


# Ours.


def our_trainer(s: Setting, negative, wrap=lambda estimator: estimator) -> Trainer:
  contender, params = ours.trained(s, start(s), wrap(contrastive(rbm, negative)), optax.sgd)
  return Trainer(contender, lambda: tuple(params()))


def our_sampler(s: Setting) -> Sampler:
  params = start(s)
  advance = jax.jit(gibbs.run, static_argnames=('model', 'num_steps'), donate_argnames='chains')
  chains = gibbs.init_chains(jax.random.key(2), rbm, params, s.chains)
  key = jax.random.key(3)

  def run():
    nonlocal chains, key
    key, key_run = jax.random.split(key)
    chains = jax.block_until_ready(advance(key_run, rbm, params, chains, s.gibbs_steps))

  return Sampler(Contender('ours', run), lambda: np.asarray(chains.v_CV))


# Peers.


def sklearn_trainer(s: Setting) -> Trainer | None:
  if (network := timing.peer('sklearn.neural_network')) is None:
    return None
  x_NV = s.x_NV.astype(np.float32)
  model = network.BernoulliRBM(n_components=s.num_hidden, learning_rate=s.learning_rate,
                               batch_size=s.batch_size, n_iter=1, random_state=0)
  return Trainer(
    Contender('scikit-learn', lambda: model.fit(x_NV),
              'BernoulliRBM.fit, n_iter=1: PCD-1 (it has no CD), slices in order, no gather'),
    lambda: (model.components_.T, model.intercept_visible_, model.intercept_hidden_))


def sklearn_sampler(s: Setting) -> Sampler | None:
  if (network := timing.peer('sklearn.neural_network')) is None:
    return None
  model = network.BernoulliRBM(n_components=s.num_hidden, n_iter=1, random_state=0)
  w_VH, b_V, c_H = jax.device_get(tuple(start(s)))
  model.fit(s.x_NV[:1].astype(np.float32))  # makes what gibbs checks for
  model.components_ = np.asarray(w_VH.T, order='F')  # the order that fit keeps
  model.intercept_visible_, model.intercept_hidden_ = b_V, c_H
  v_CV = np.zeros((s.chains, len(b_V)), bool)

  def run():
    nonlocal v_CV
    for _ in range(s.gibbs_steps):
      v_CV = model.gibbs(v_CV)

  return Sampler(Contender('scikit-learn', run, 'BernoulliRBM.gibbs'), lambda: v_CV)


def bbrbm(s: Setting):
  """(torch, module of its PCD, BBRBM at the common start), or None."""
  if (torch := timing.peer('torch')) is None or (pcd := timing.peer('rbms.training.pcd')) is None:
    return None
  classes = timing.peer('rbms.bernoulli_bernoulli.classes')
  tensors = [torch.tensor(np.array(p), device=timing.torch_device()) for p in start(s)]
  return torch, pcd, classes.BBRBM(*tensors)


def rbms_trainer(s: Setting, negative: str) -> Trainer | None:
  if (found := bbrbm(s)) is None:
    return None
  torch, pcd, params = found
  params.init_grad()
  x_NV = torch.tensor(s.x_NV, dtype=torch.float32, device=timing.torch_device())
  ones_B = torch.ones(s.batch_size, 1, device=timing.torch_device())
  optimizer = torch.optim.SGD(params.parameters(), lr=s.learning_rate, maximize=True)
  chains = params.init_chains(s.batch_size, weights=ones_B)

  def update(v_BV):
    nonlocal chains
    if negative == 'fit_batch_pcd':
      chains, _ = pcd.fit_batch_pcd((v_BV, ones_B), chains, params, gibbs_steps=1, beta=1.0,
                                    centered=False)
    else:
      batch = params.init_chains(s.batch_size, weights=ones_B, start_v=v_BV)
      chains = dict(batch if negative == 'cd' else chains)
      chains = params.sample_hiddens(params.sample_visibles(chains))
      params.compute_gradient(batch, chains, centered=False)
    optimizer.step()

  def run():
    with torch.no_grad():
      for rows_B in torch.randperm(len(x_NV), device=timing.torch_device()).view(-1, s.batch_size):
        update(x_NV[rows_B])
      timing.finish(torch)

  name, note = {
    'cd': ('rbms', 'CD-1 of its own parts: init_chains, sample_*, compute_gradient; 5 products'),
    'pcd': ('rbms', 'PCD-1 of its own parts: init_chains, sample_*, compute_gradient; 5 products'),
    'fit_batch_pcd': ('rbms fit_batch_pcd',
                      'as its train() calls it: 6 products, since h is drawn again from v, and a '
                      'gradient scaled to norm 1')}[negative]
  return Trainer(Contender(name, run, note),
                 lambda: tuple(p.cpu().numpy() for p in params.parameters()))


def rbms_sampler(s: Setting) -> Sampler | None:
  if (found := bbrbm(s)) is None:
    return None
  torch, _, params = found
  chains = params.init_chains(s.chains)

  def run():
    nonlocal chains
    with torch.no_grad():
      chains = params.sample_state(chains, n_steps=s.gibbs_steps)
      timing.finish(torch)

  note = (f'sample_state: {2 * s.gibbs_steps + 1} products for {s.gibbs_steps} steps, it ends with '
          'h given v')
  return Sampler(Contender('rbms', run, note), lambda: chains['visible'].cpu().numpy())


def thrml_sampler(s: Setting) -> Sampler | None:
  """The machine as a graph of spins, -1 and 1; chains by vmap, as it has none of its own."""
  if (models := timing.peer('thrml.models')) is None:
    return None
  import thrml
  w_VH, b_V, c_H = (np.asarray(p) for p in start(s))
  spins_V, spins_H = ([thrml.SpinNode() for _ in biases] for biases in (b_V, c_H))
  layers = [thrml.Block(spins_V), thrml.Block(spins_H)]
  biases = np.concatenate([b_V / 2 + w_VH.sum(1) / 4, c_H / 2 + w_VH.sum(0) / 4])
  machine = models.IsingEBM([*spins_V, *spins_H], [(v, h) for v in spins_V for h in spins_H],
                            jnp.asarray(biases), jnp.asarray(w_VH.ravel() / 4), jnp.array(1.0))
  # As ours: first h given v, then v given h.
  program = models.IsingSamplingProgram(machine, layers[::-1], [])
  schedule = thrml.SamplingSchedule(s.gibbs_steps, 1, 1)

  @jax.jit
  def advance(keys_C, states):
    return jax.vmap(lambda key, state: [x[0] for x in thrml.sample_states(
      key, program, schedule, state, [], layers[::-1])])(keys_C, states)

  states = [jnp.zeros((s.chains, len(layer)), bool) for layer in (spins_H, spins_V)]
  key = jax.random.key(3)

  def run():
    nonlocal states, key
    key, key_run = jax.random.split(key)
    states = jax.block_until_ready(advance(jax.random.split(key_run, s.chains), states))

  return Sampler(Contender('thrml', run, 'sample_states of an IsingEBM, vmapped over chains'),
                 lambda: np.asarray(states[1]))


# Floors.


def step_products(s: Setting) -> tuple:
  """The five of one update: v W of data and chains, h W' of the chains, v' h of both."""
  def products(w_VH, v_BV, v_CV):
    h_BH, h_CH = v_BV @ w_VH, v_CV @ w_VH
    return h_CH @ w_VH.T, v_BV.T @ h_BH, v_CV.T @ h_CH, h_BH, h_CH
  return _inputs(products, s, s.batch_size, s.steps)


def gibbs_products(s: Setting) -> tuple:
  """The two products of one Gibbs step: v W and h W'."""
  def products(w_VH, v_CV, _):
    h_CH = v_CV @ w_VH
    return h_CH @ w_VH.T, h_CH
  return _inputs(products, s, s.chains, s.gibbs_steps)


def _inputs(products, s: Setting, rows: int, times: int) -> tuple:
  """(products, W, two inputs of `rows` rows, times), as timing.floor takes them."""
  v_RV = np.resize(s.x_NV, (rows, s.x_NV.shape[1]))
  return products, np.array(start(s).w_VH), np.stack([v_RV, 1 - v_RV]).astype(np.float32), times


# Checks.


def reconstruction_error(params, x_NV) -> float:
  """Mean |v - p(v | p(h | v))|."""
  params = rbm.Params(*map(jnp.asarray, params))
  return float(jnp.mean(jnp.abs(x_NV - rbm.visible_mean(params, rbm.hidden_mean(params, x_NV)))))


def check_learnt(trainers: list[Trainer], s: Setting) -> None:
  """Raises RuntimeError unless everybody reconstructs better than an untrained model."""
  x_NV = s.x_NV[:1000].astype(np.float32)
  before = reconstruction_error(start(s), x_NV)
  zero_bias = reconstruction_error(start(s)._replace(b_V=jnp.zeros(x_NV.shape[1])), x_NV)
  for trainer in trainers:
    name = trainer.contender.name
    untrained = zero_bias if name == 'scikit-learn' else before
    after = reconstruction_error(trainer.params(), x_NV)
    print(f'  {name}: reconstruction error {untrained:.4f} untrained, {after:.4f} trained')
    if not after < untrained:
      raise RuntimeError(f'{name} was timed, but did not learn')


def check_sampled(samplers: list[Sampler]) -> None:
  """Raises RuntimeError unless all samples are 0/1 and on as often as ours, to within 0.05."""
  ours = samplers[0].samples().mean()
  for sampler in samplers:
    v_CV = np.asarray(sampler.samples(), np.float32)
    print(f'  {sampler.contender.name}: {v_CV.mean():.4f} of visible units on')
    if not (np.isin(v_CV, (0, 1)).all() and abs(v_CV.mean() - ours) < 0.05):
      raise RuntimeError(f'{sampler.contender.name} was timed, but does not sample the model')


def tasks(s: Setting, batches: list[int], chains: list[int]) -> Iterator[Task]:
  """An epoch of CD-1 and PCD-1 at each batch size, and a Gibbs step of so many chains each."""
  size = f'{s.x_NV.shape[1]}-{s.num_hidden}'
  for batch in batches:
    s_batch = s._replace(x_NV=s.x_NV[:len(s.x_NV) // batch * batch], batch_size=batch)
    for title, trainers in (
        ('CD-1', [our_trainer(s_batch, reconstruction(1)), rbms_trainer(s_batch, 'cd'),
                  sklearn_trainer(s_batch)]),
        ('PCD-1', [our_trainer(s_batch, persistent(batch, 1)), rbms_trainer(s_batch, 'pcd'),
                   rbms_trainer(s_batch, 'fit_batch_pcd'), sklearn_trainer(s_batch)])):
      trainers = [t for t in trainers if t]
      yield Task(f'One epoch of {title}, {size}, batch {batch:,}, {len(s_batch.x_NV):,} images',
                 [t.contender for t in trainers] + timing.floors(*step_products(s_batch)), 1,
                 lambda trainers=trainers, s=s_batch: check_learnt(trainers, s))
  for num in chains:
    steps = max(1, s.gibbs_steps * min(chains) // num)
    s_chains = s._replace(chains=num, gibbs_steps=steps)
    samplers = [our_sampler(s_chains), sklearn_sampler(s_chains), rbms_sampler(s_chains)]
    if num <= MOST_OF_GRAPHS:
      samplers.append(thrml_sampler(s_chains))
    samplers = [sampler for sampler in samplers if sampler]
    yield Task(f'One Gibbs step of {num:,} chains, {size}',
               [sampler.contender for sampler in samplers]
               + timing.floors(*gibbs_products(s_chains)), steps,
               lambda samplers=samplers: check_sampled(samplers))


def define_flags() -> None:
  """The flags of this command; benchmarks.accelerator times the same contenders without them."""
  flags.DEFINE_integer('images', 10_000, 'Images an epoch.', lower_bound=1)
  flags.DEFINE_integer('rounds', 7, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_list('batches', ['100', '1000', '10000'],
                    'Images an update, and persistent chains; a table for each.')
  flags.DEFINE_integer('visible', 784, 'Visible units.', lower_bound=1)
  flags.DEFINE_integer('hidden', 500, 'Hidden units.', lower_bound=1)
  flags.DEFINE_list('chains', ['2000', '65536'], 'Chains of the Gibbs step; a table for each.')
  flags.DEFINE_integer('gibbs_steps', 10, 'Timed together, fewer of more chains; tables are for '
                       'one.', lower_bound=1)
  flags.DEFINE_float('learning_rate', 0.05, 'Of every trainer.')
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.train does
  given = flags.FLAGS
  batches, chains = ([int(n) for n in ns] for ns in (given.batches, given.chains))
  s = Setting(images_of(given.images, given.visible), given.hidden, batches[0], chains[0],
              given.gibbs_steps, given.learning_rate)
  timing.measure('rbm', tasks(s, batches, chains), rounds=given.rounds, packages=PACKAGES,
                 path=given.json, protocol=f'{given.visible}-{given.hidden}, binary images; '
                 f'{given.rounds} interleaved rounds in one process')


if __name__ == '__main__':
  define_flags()
  app.run(main)
