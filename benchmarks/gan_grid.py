"""Dense adversarial networks, of points and of stacked digits: an iteration beside torch.

  python -m benchmarks.gan_grid --json=gan_grid.json    (peers: pip install "gen_models[bench]")

Generator 2-128-128-128-2 (ReLU) and critic 2-128-128-128-1 (leaky ReLU), the small nets of the
experiment `gan_grid`, and 64-512-512-512-192 with 192-512-512-512-1, those of stacked digits in
`gan`; the non-saturating loss, both players move at once, each against the other's parameters
before the move, Adam from the same parameters. Products of points are small: what is timed is
mostly what lies between them. A floor is the products of an iteration alone.

Before anything is timed, both generators and both critics must be the same functions; before times
are shown, both critics must have moved at least half as far as ours.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import optax
from absl import app, flags

from benchmarks import timing
from benchmarks.timing import Contender, Task
from gen_models import data
from gen_models.estimators import adversarial, non_saturating
from gen_models.experiment import Phase
from gen_models.models import gan
from gen_models.training import parallel
from gen_models.training.players import players

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'threadpoolctl')


class Setting(NamedTuple):
  """The setting that all contenders share."""

  x_ND: np.ndarray  # uint8: points of a grid of 256 x 256, or digits
  num_latents: int
  width: int
  batch_size: int
  iterations: int
  learning_rate: float

  @property
  def model(self) -> gan.Model:
    size = self.x_ND.shape[1]
    return gan.Model(gan.DenseGenerator(size, (self.width,) * 3, link=lambda x: x),
                     gan.DenseCritic((self.width,) * 3), self.num_latents, size)


class Trainer(NamedTuple):
  """A contender that trains, and its critic's log-odds of rows [B, D]."""

  contender: Contender
  critic: Callable


def points(width: int, batch: int, iterations: int) -> Setting:
  rng = np.random.default_rng(0)
  x_ND = 50 * rng.integers(1, 6, (10_000, 2)) - 22 + rng.normal(0, 2, (10_000, 2))
  return Setting(x_ND.astype(np.uint8), 2, width, batch, iterations, 1e-4)


def digits(width: int, batch: int, iterations: int) -> Setting:
  """Stacked digits, dark to light as uint8 from 0 to 255."""
  rows = data.load('stacked_digits').train.rows
  return Setting((255 / 16 * rows.reshape(len(rows), -1)).astype(np.uint8), 64, width, batch,
                 iterations, 1e-4)


def start(s: Setting) -> gan.Params:
  """Where every trainer begins."""
  return s.model.init(jax.random.key(0))


def our_trainer(s: Setting) -> Trainer:
  params, model, adam = start(s), s.model, optax.adam(s.learning_rate, b1=0.5)
  phase = Phase('gan', lambda key, arrays, previous: params, adversarial(model, non_saturating),
                players(adam, adam), data.batches(s.batch_size, 'real', 255), s.iterations,
                s.batch_size)
  runner = parallel.runner(phase)
  arrays = runner.place_arrays(data.Arrays(s.x_ND[:, :, None, None]))
  state = runner.place(parallel.init_states(phase, jax.random.key(1), arrays))

  def run():
    nonlocal state
    state, metrics = runner.dispatch(state, arrays, s.iterations)
    jax.block_until_ready((state, metrics))

  return Trainer(Contender('ours', run),
                 lambda x_BD: np.asarray(model.critic(state.params, x_BD)))


def torch_trainer(s: Setting, compiled: bool = False) -> Trainer | None:
  if (torch := timing.peer('torch')) is None or compiled and timing.torch_compile() is None:
    return None
  nn, softplus = torch.nn, torch.nn.functional.softplus

  def net(layers, activation):
    linears = []
    for _, layer in sorted(layers.items()):
      linear = nn.Linear(*layer['w_CD'].shape)
      linear.load_state_dict({'weight': torch.tensor(np.array(layer['w_CD'].T)),
                              'bias': torch.tensor(np.array(layer['b_D']))})
      linears += [linear, activation]
    return nn.Sequential(*linears[:-1])

  params = jax.device_get(start(s))
  generator, critic = net(params.generator, nn.ReLU()), net(params.critic, nn.LeakyReLU(0.2))
  adams = [torch.optim.Adam(n.parameters(), s.learning_rate, betas=(0.5, 0.999),
                            fused=compiled or None)
           for n in (generator, critic)]
  x_ND = torch.tensor(s.x_ND, dtype=torch.float32) / 255
  generate, judge = (torch.compile(n) if compiled else n for n in (generator, critic))

  def iteration():
    for adam in adams:
      adam.zero_grad()
    real_BD = x_ND[torch.randint(len(x_ND), (s.batch_size,))]
    fake_BD = generate(torch.randn(s.batch_size, s.num_latents))
    (softplus(-judge(real_BD)) + softplus(judge(fake_BD.detach()))).mean().backward()
    critic.requires_grad_(False)
    softplus(-judge(fake_BD)).mean().backward()
    critic.requires_grad_(True)
    for adam in adams:
      adam.step()

  def run():
    for _ in range(s.iterations):
      iteration()

  @torch.no_grad()
  def log_odds(x_BD):
    return critic(torch.tensor(np.array(x_BD)))[:, 0].numpy()

  return Trainer(Contender('torch.compile' if compiled else 'torch eager', run,
                           'nets compiled, fused Adam' if compiled else
                           'a handwritten loop; the critic sees samples twice'), log_odds)


def products(s: Setting) -> tuple:
  """The critic on data and on samples, both to its weights; then through it to the generator's.

  Samples pass through the critic forward once, as in ours: both players learn from them.
  """
  size, hidden = s.x_ND.shape[1], (s.width, s.width, s.width)
  rng = np.random.default_rng(0)
  nets = [[rng.standard_normal(shape, np.float32) for shape in zip(widths, widths[1:])]
          for widths in ((s.num_latents, *hidden, size), (size, *hidden))]

  def both_ways(w_L, rows):
    """All layers of a net, and back to the weights."""
    h = forward(w_L, rows)
    return to_weights(w_L, h, h[-1])

  def forward(w_L, rows):
    h = [rows]
    for w in w_L:
      h.append(h[-1] @ w)
    return h

  def to_weights(w_L, h, d):
    out = []
    for i, w in reversed(list(enumerate(w_L))):
      out.append(h[i].T @ d)
      if i:
        d = d @ w.T
    return out

  def to_inputs(w_L, d):
    for w in w_L[::-1]:
      d = d @ w.T
    return d

  def iteration(nets, x_BD, y_BD):
    generator_L, critic_L = nets
    z = forward(generator_L, x_BD[:, :s.num_latents])
    on_draws = forward(critic_L, y_BD)
    return (both_ways(critic_L, x_BD), to_weights(critic_L, on_draws, on_draws[-1]),
            to_weights(generator_L, z, to_inputs(critic_L, on_draws[-1] + 1)))

  return iteration, nets, rng.random((2, s.batch_size, size), np.float32), s.iterations


def tasks(what: str, s: Setting) -> Iterator[Task]:
  """An iteration of all on the data that `what` names."""
  trainers = [t for t in (our_trainer(s), torch_trainer(s), torch_trainer(s, True)) if t]
  x_BD = s.x_ND[:500].astype(np.float32) / 255
  before_B = trainers[0].critic(x_BD)
  for trainer in trainers:
    if not np.allclose(trainer.critic(x_BD), before_B, atol=1e-4):
      raise RuntimeError(f'{trainer.contender.name} does not start from our players')

  def check():
    moved = [float(np.mean(np.abs(t.critic(x_BD) - before_B))) for t in trainers]
    for trainer, distance in zip(trainers, moved, strict=True):
      print(f'  {trainer.contender.name}: log-odds moved by {distance:.4f}')
      if not distance >= moved[0] / 2 > 0:
        raise RuntimeError(f'{trainer.contender.name} was timed, but did not learn')

  yield Task(f'One iteration of dense nets, {what}, width {s.width}, batch {s.batch_size}',
             [t.contender for t in trainers] + timing.floors(*products(s)), s.iterations, check)


def define_flags() -> None:
  flags.DEFINE_integer('iterations', 500, 'Timed together, a tenth of digits; the table is for '
                       'one.', lower_bound=1)
  flags.DEFINE_integer('rounds', 7, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_integer('batch', 100, 'Rows an update of a player.', lower_bound=1)
  flags.DEFINE_integer('width', 128, 'Of all hidden layers; four times that of digits.',
                       lower_bound=1)
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  found = (task for what, s in (
    ('points', points(given.width, given.batch, given.iterations)),
    ('stacked digits', digits(4 * given.width, given.batch, max(1, given.iterations // 10))))
           for task in tasks(what, s))
  timing.measure('gan_grid', found, rounds=given.rounds, packages=PACKAGES, path=given.json,
                 protocol=f'same players, same start; {given.rounds} interleaved rounds in one '
                 'process')


if __name__ == '__main__':
  define_flags()
  app.run(main)
