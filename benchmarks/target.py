"""Seconds of training to a likelihood: an RBM 784-500 and a VAE on MNIST, beside peers.

  TFDS_DATA_DIR=... python -m benchmarks.target --json=target.json
                                                    (peers: pip install "gen_models[bench]")

Everybody trains on the same 50,000 images, binarised dynamically (scikit-learn takes fixed rows:
binarised once), on all cores, until the mean over 10,000 validation images is at the target, or for
--budget seconds. Compilation counts and is not cached; scoring does not: the clock stops every
--every seconds while the model is scored, so a time may be too long by that much. One run of each.

  RBM   log-likelihood; log Z is Bennett's estimate from annealing in both directions with 500
        temperatures and 100 chains, by the same function for everybody
  VAE   importance-weighted bound of 50 samples, by the same function for everybody

Our RBM is that of `rbm_time`, centred and plain, PCD-1 with a rate that falls from 0.1 to 0 in
30,000 updates; what is scored is the moving average of its parameters that the experiment keeps.
Our VAE has the nets of the experiment `vae`, 784-200-200-50, and a recipe chosen for this race: the
ELBO, or IWAE of 5 samples, batch 100, Adam at 2e-3 that falls in the five stages of Burda et al.
(2016) within 30,000 updates. scikit-learn and rbms train 500 hidden units with their defaults in
all else: BernoulliRBM with batch 10 and rate 0.1; `fit_batch_pcd` with batch and chains 2000, 100
Gibbs steps, rate 0.01, gradients centred and of norm 1, and once with our batch, chains and step
instead. torch is a handwritten loop of the same ELBO and recipe; pythae is BaseTrainer with its
defaults, batch 64 and Adam 1e-4, on the same nets.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from benchmarks import timing, vae as vae_bench
from experiments import vae as vae_experiment
from experiments._common import boltzmann
from experiments._common.latent import initialiser
from gen_models import data, estimators
from gen_models.data.binarise import Split
from gen_models.estimators.contrastive import contrastive
from gen_models.evaluation import importance, likelihood
from gen_models.experiment import Phase
from gen_models.models import rbm, units, vae
from gen_models.samplers import annealing
from gen_models.training import parallel, step as step_lib

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scikit-learn', 'rbms', 'torch', 'pythae')
DISPATCH = 100  # updates of ours between two looks at the clock


class Setting(NamedTuple):
  """What all contenders share."""

  dataset: data.Dataset
  num_hidden: int  # of the RBM
  hidden: tuple[int, ...]  # of both nets of the VAE
  num_latent: int
  updates: int  # of ours, in which rates fall
  temperatures: int
  samples: int

  @property
  def spec(self) -> data.Spec:
    return self.dataset.about

  def rows(self, split: Split) -> np.ndarray:
    """The images of a split, binarised once, [N, V]."""
    return np.asarray(data.fixed_split(self.dataset, split, 'dynamic'))


class Finished(Exception):
  """The target is reached or the time is over: raised in the contender's own loop."""


class Clock:
  """Seconds of one contender's training: it calls the clock often, which seldom stops to score.

  Attributes:
    seconds: on the clock.
    nats: the best score so far.
    trace: (seconds, best score by then) whenever it scored.
  """

  def __init__(self, score: Callable, target: float, budget: float, every: float):
    self._score, self._target, self._budget, self._every = score, target, budget, every
    self.seconds, self.nats, self._due = 0.0, -np.inf, every
    self.trace: list[tuple[float, float]] = []
    self._resumed = time.perf_counter()

  def __call__(self, params: Callable) -> None:
    """Looks at the clock; params: () -> parameters of ours, to be scored.

    Raises:
      Finished: the target is reached or the time is over.
    """
    now = time.perf_counter()
    self.seconds, self._resumed = self.seconds + now - self._resumed, now
    if self.seconds < min(self._due, self._budget):
      return
    self.nats = max(self.nats, float(self._score(params())))
    self.trace.append((round(self.seconds, 1), round(self.nats, 2)))
    print(f'  {self.seconds:7.1f} s  {self.nats:8.2f} nats', flush=True)
    if self.nats >= self._target or self.seconds >= self._budget:
      raise Finished
    self._due = self.seconds + self._every
    self._resumed = time.perf_counter()


class Racer(NamedTuple):
  """A contender, and its training, which calls a clock until that raises Finished."""

  name: str
  train: Callable[[Clock], None]


def race(racer: Racer, score: Callable, target: float, budget: float, every: float,
         ours: float | None = None) -> dict:
  """A cell of the table: seconds to the target, or that it was not reached.

  Args:
    racer: trains.
    score: of parameters, nats.
    target: nats.
    budget: seconds of training.
    every: seconds of training between two scores.
    ours: the seconds that ours took.
  """
  print(racer.name, flush=True)
  clock = Clock(score, target, budget, every)
  try:
    racer.train(clock)
    raise RuntimeError(f'{racer.name} ended before its target and its time')
  except Finished:
    pass
  if clock.nats >= target:
    return {**dict.fromkeys(('median', 'min', 'max'), clock.seconds), 'trace': clock.trace}
  longer = f', more than {clock.seconds / ours:.2f}×' if ours else ''
  return {'value': f'not in {clock.seconds:.0f} s{longer}, best {clock.nats:.1f} nats',
          'seconds': clock.seconds, 'nats': clock.nats, 'trace': clock.trace}


# Ours.


def ours(name: str, phase: Phase, dataset: data.Dataset) -> Racer:
  """The path of launch.train."""
  def train(clock: Clock) -> None:
    runner = parallel.runner(phase)
    arrays = runner.place_arrays(dataset.train)
    state = runner.place(parallel.init_states(phase, jax.random.key(0), arrays))
    while True:
      state, metrics = runner.dispatch(state, arrays, DISPATCH)
      jax.block_until_ready((state, metrics))
      clock(lambda state=state: step_lib.final_params(state))

  return Racer(name, train)


def our_rbm(name: str, s: Setting, direction: boltzmann.DirectionName) -> Racer:
  estimator = contrastive(rbm, boltzmann.negative_phase('pcd', chains=100, steps=1),
                          direction=boltzmann.direction_of(direction, rate=0.01))
  phase = Phase(
    'rbm', lambda key, arrays, previous: rbm.init(
      key, s.spec.num_visible, s.num_hidden, data.mean_image(arrays, s.spec)),
    estimator, boltzmann.descent(0.1, 0.0, 0.0, s.updates), data.batches(100, 'dynamic', s.spec),
    s.updates, 100, average=0.999)
  return ours(name, phase, s.dataset)


def our_vae(name: str, s: Setting, samples: int) -> Racer:
  model = vae_model(s)
  rule = estimators.iwae(samples) if samples > 1 else None
  estimator = (estimators.variational(model, rule) if rule else estimators.analytic_elbo(model))
  phase = Phase('vae', initialiser(model, s.spec), estimator, optax.adam(rate_of(s), eps=5e-6),
                data.batches(100, 'dynamic', s.spec), s.updates, 100)
  return ours(name, phase, s.dataset)


def vae_model(s: Setting) -> vae.Model:
  return vae.model(s.spec.num_visible, (s.num_latent,), (s.hidden,))


def rate_of(s: Setting) -> optax.Schedule:
  """2e-3 round(10^(1 - i/7), 1) / 10 in stage i of five."""
  return vae_experiment.staged(2e-3, 5, s.updates)


# Peers.


def sklearn_rbm(s: Setting) -> Racer | None:
  if (network := timing.peer('sklearn.neural_network')) is None:
    return None
  x_NV = s.rows('train').astype(np.float32)

  def train(clock: Clock) -> None:
    class Watched(network.BernoulliRBM):
      """Its own fit, which calls this for each batch."""

      def _fit(self, v_pos, rng):
        super()._fit(v_pos, rng)
        clock(lambda: rbm.Params(*map(jnp.asarray, (
          self.components_.T, self.intercept_visible_, self.intercept_hidden_))))

    Watched(n_components=s.num_hidden, n_iter=10**9, random_state=0).fit(x_NV)

  return Racer('scikit-learn', train)


def rbms_rbm(name: str, s: Setting, batch: int, chains: int, gibbs_steps: int) -> Racer | None:
  if (torch := timing.peer('torch')) is None or (pcd := timing.peer('rbms.training.pcd')) is None:
    return None
  classes = timing.peer('rbms.bernoulli_bernoulli.classes')

  class Rows(NamedTuple):
    data: Any

  x_NV = torch.tensor(_grey(s))

  def train(clock: Clock) -> None:
    torch.manual_seed(0)
    params = classes.BBRBM.init_parameters(s.num_hidden, Rows(torch.bernoulli(x_NV)), 'cpu',
                                           torch.float32)
    params.init_grad()
    optimizer = torch.optim.SGD(params.parameters(), lr=0.01, maximize=True)
    running, ones_B1 = params.init_chains(chains), torch.ones(min(batch, len(x_NV)), 1)
    with torch.no_grad():
      while True:
        rows_B = torch.randperm(len(x_NV))[:batch]
        optimizer.zero_grad(set_to_none=False)
        running, _ = pcd.fit_batch_pcd((torch.bernoulli(x_NV[rows_B]), ones_B1), running, params,
                                       gibbs_steps=gibbs_steps, beta=1.0, centered=True)
        optimizer.step()
        clock(lambda: rbm.Params(*(jnp.asarray(p.numpy()) for p in (
          params.weight_matrix, params.vbias, params.hbias))))

  return Racer(name, train)


def torch_vae(s: Setting) -> Racer | None:
  if (nets := _nets(s)) is None:
    return None
  torch, rates = nets.torch, np.asarray(jax.vmap(rate_of(s))(jnp.arange(s.updates)))
  x_NV = torch.tensor(_grey(s))

  def train(clock: Clock) -> None:
    loss = vae_bench.torch_loss(nets)
    optimizer = torch.optim.Adam([*nets.encoder.parameters(), *nets.decoder.parameters()],
                                 eps=5e-6)
    for t in range(10**9):
      optimizer.param_groups[0]['lr'] = float(rates[min(t, s.updates - 1)])
      optimizer.zero_grad()
      loss(torch.bernoulli(x_NV[torch.randint(len(x_NV), (100,))])).backward()
      optimizer.step()
      clock(lambda: vae_bench.params_of(nets.layers()))

  return Racer('torch eager, our recipe', train)


def pythae_vae(s: Setting) -> Racer | None:
  if (nets := _nets(s)) is None or (trainers := timing.peer('pythae.trainers')) is None:
    return None
  from pythae.data.datasets import BaseDataset, DatasetOutput
  from pythae.trainers.training_callbacks import TrainingCallback
  torch, x_NV = nets.torch, nets.torch.tensor(_grey(s))

  class Binarised(BaseDataset):
    """Its data set, each row binarised anew whenever it is asked for."""

    def __getitem__(self, index):
      return DatasetOutput(data=torch.bernoulli(self.data[index]), labels=self.labels[index])

  def train(clock: Clock) -> None:
    class Watch(TrainingCallback):
      def on_train_step_end(self, training_config, **kwargs):
        clock(lambda: vae_bench.params_of(nets.layers()))

    with tempfile.TemporaryDirectory() as directory:
      trainer = trainers.BaseTrainer(
        vae_bench.pythae_model(nets, s.spec.num_visible, s.num_latent),
        Binarised(x_NV, torch.zeros(len(x_NV))), callbacks=[Watch()],
        training_config=trainers.BaseTrainerConfig(output_dir=directory, num_epochs=10**6,
                                                   no_cuda=True))
      trainer.train()

  return Racer('pythae', train)


def _nets(s: Setting) -> vae_bench.Nets | None:
  mean_V = data.mean_image(s.dataset.train, s.spec)
  return vae_bench.torch_nets(vae_model(s).init(jax.random.key(0), mean_V), 'Tanh')


def _grey(s: Setting) -> np.ndarray:
  """Training images in [0, 1], [N, V]: probabilities that a pixel is on."""
  return np.float32(s.dataset.train.rows).reshape(-1, s.spec.num_visible) / s.spec.levels


# The races.


def rbm_score(s: Setting) -> Callable:
  v_NV = jnp.asarray(s.rows('valid'), jnp.float32)

  @jax.jit
  def score(params):
    log_z = annealing.quick_bennett(jax.random.key(1), params, units.log_odds(v_NV.mean(0)),
                                    v_NV[:100], betas=annealing.refined(s.temperatures))
    return likelihood.quick(rbm.free_energy(params, v_NV), log_z)

  return score


def vae_score(s: Setting) -> Callable:
  model, x_NV = vae_model(s), jnp.asarray(s.rows('valid'), jnp.float32)
  return lambda params: jnp.mean(importance.log_likelihoods(
    jax.random.key(1), model.log_weights, params, x_NV, s.samples)[0])


def races(s: Setting, targets: tuple[float, float]) -> Iterator[tuple[str, Callable, float, list]]:
  """(title, score, target, racers) of the RBM and of the VAE, ours first."""
  size = f'{s.spec.num_visible}-{s.num_hidden}'
  yield f'RBM {size}, seconds to {targets[0]:g} nats', rbm_score(s), targets[0], [
    our_rbm('ours', s, 'centred'), our_rbm('ours, not centred', s, 'plain'), sklearn_rbm(s),
    rbms_rbm('rbms', s, 2000, 2000, 100), rbms_rbm('rbms, batch and chains 100, one step', s, 100,
                                                   100, 1)]
  size = '-'.join(map(str, (s.spec.num_visible, *s.hidden, s.num_latent)))
  yield f'VAE {size}, seconds to {targets[1]:g} nats', vae_score(s), targets[1], [
    our_vae('ours', s, 1), our_vae('ours, IWAE of 5 samples', s, 5), torch_vae(s), pythae_vae(s)]


def define_flags() -> None:
  flags.DEFINE_string('dataset', 'mnist', 'Of binary or grey images.')
  flags.DEFINE_string('data_dir', None, 'Of prepared data; default: TFDS_DATA_DIR.')
  flags.DEFINE_list('targets', ['-90', '-92'], 'Nats, of the RBM and of the VAE.')
  flags.DEFINE_float('budget', 360.0, 'Seconds of training of each.', lower_bound=0)
  flags.DEFINE_float('every', 3.0, 'Seconds of training between two scores.', lower_bound=0)
  flags.DEFINE_integer('rbm_hidden', 500, 'Hidden units.', lower_bound=1)
  flags.DEFINE_list('vae_hidden', ['200', '200'], 'Units of the hidden layers of both nets.')
  flags.DEFINE_integer('latent', 50, 'Latent units.', lower_bound=1)
  flags.DEFINE_integer('updates', 30_000, 'Of ours, in which rates fall.', lower_bound=1)
  flags.DEFINE_integer('temperatures', 500, 'Of annealing.', lower_bound=2)
  flags.DEFINE_integer('samples', 50, 'Of the bound.', lower_bound=1)
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  jax.config.update('jax_default_matmul_precision', 'float32')  # as launch.train does
  jax.config.update('jax_enable_compilation_cache', False)  # compilation is on the clock
  given = flags.FLAGS
  try:
    dataset = data.load(given.dataset, given.data_dir)
  except data.MissingData as error:
    print(f'skipped: {error}', flush=True)
    return
  s = Setting(dataset, given.rbm_hidden,
              tuple(map(int, given.vae_hidden)), given.latent, given.updates, given.temperatures,
              given.samples)
  busy = timing.warn_if_busy(timing.use_all_cores())
  tables: dict[str, dict] = {}
  for title, score, target, racers in races(s, tuple(map(float, given.targets))):
    print(title, flush=True)
    tables[title] = {}
    for racer in filter(None, racers):
      tables[title][racer.name] = race(racer, score, target, given.budget, given.every,
                                       tables[title].get('ours', {}).get('median'))
      if given.json:
        timing.write_json(
          given.json, 'target', f'one run of each, for {given.budget:g} seconds at most; the clock '
          f'stops every {given.every:g} seconds to score', timing.environment(PACKAGES, busy),
          tables)
  timing.show_environment(timing.environment(PACKAGES, busy))


if __name__ == '__main__':
  define_flags()
  app.run(main)
