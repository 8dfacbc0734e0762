"""DCGAN on 28x28: an iteration, critic then generator, beside torch and beside the floor.

  python -m benchmarks.gan --json=gan.json          (peers: pip install "gen_models[bench]")

Both nets have 4x4 kernels of stride 2, 64 and 128 channels, batch normalisation, leaky ReLU; the
loss is non-saturating, Adam moves each player, from the same parameters for all. Ours is the path
of `launch.train`: parallel.runner over step.train_steps of a Phase, all iterations one dispatch,
images resident on the device, donated state; an iteration is two updates, a turn of each player.
`naive jax` is what one writes first: XLA's convolutions, forward and transposed, under jit or in a
rolled lax.scan. A floor is the matrix products that the convolutions of an iteration come to, with
none of the copies that bring pixels into place.

Before anything is timed, all players must be the same functions. Before times are shown, the loss
of each critic must have fallen, and each generator must have moved, at least half as far as ours:
nobody is timed doing nothing, or something else.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax

from benchmarks import timing
from benchmarks.rbm import images_of
from benchmarks.timing import Contender, Task
from gen_models import data
from gen_models.estimators import adversarial, non_saturating, turns
from gen_models.experiment import Phase
from gen_models.models import gan
from gen_models.models.convolutions import Decoder, Encoder
from gen_models.training import parallel
from gen_models.training.players import players

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'threadpoolctl')
SIDE, QUARTER = 28, 7


class Setting(NamedTuple):
  """The setting that all contenders share."""

  x_NV: np.ndarray  # uint8, zeros and ones
  channels: tuple[int, int]
  num_latents: int
  batch_size: int
  iterations: int
  learning_rate: float

  def model(self, form: str = 'products') -> gan.Model:
    shared = dict(batch_norm=True, stddev=0.02, form=form)
    return gan.Model(
      gan.ConvGenerator(Decoder(self.channels[::-1], (SIDE, SIDE), 1, **shared)),
      gan.ConvCritic(Encoder(self.channels, 1, **shared), (SIDE, SIDE)), self.num_latents, SIDE**2)


class Trainer(NamedTuple):
  """A contender that trains, and its players as they stand, in NumPy.

  Attributes:
    contender: what is timed.
    decode: z [B, Z] -> images [B, V].
    critic: images [B, V] -> log-odds [B] of being data.
  """

  contender: Contender
  decode: Callable
  critic: Callable


def start(s: Setting) -> gan.Params:
  """Where every trainer begins."""
  return s.model().init(jax.random.key(0))


# Ours.


def our_trainer(s: Setting, alternating: bool = True) -> Trainer:
  params, model, rule = start(s), s.model(), turns(1) if alternating else None
  updates = s.iterations * (2 if alternating else 1)
  adam = optax.adam(s.learning_rate, b1=0.5)
  phase = Phase('gan', lambda key, arrays, previous: params,
                adversarial(model, non_saturating, generators_turn=rule),
                players(adam, adam, rule), data.batches(s.batch_size, 'static', 1),
                updates, s.batch_size)
  runner = parallel.runner(phase)
  arrays = runner.place_arrays(data.Arrays(s.x_NV))
  state = runner.place(parallel.init_states(phase, jax.random.key(1), arrays))

  def run():
    nonlocal state
    state, metrics = runner.dispatch(state, arrays, updates)
    jax.block_until_ready((state, metrics))

  name, note = (('ours', 'turns: the generator draws again for its own') if alternating else
                ('ours, at once', 'both move in one update, each against the other as it was'))
  return Trainer(Contender(name, run, note),
                 lambda z_BZ: np.asarray(model.decode(state.params, z_BZ)),
                 lambda x_BV: np.asarray(model.critic(state.params, x_BV)))


# Peers.


def naive_trainer(s: Setting, rolled: bool) -> Trainer:
  """Two calls of jax.grad an iteration, convolutions by lax."""
  model, params = s.model('lax'), start(s)
  adam = optax.adam(s.learning_rate, b1=0.5)
  x_NV = jnp.asarray(s.x_NV, jnp.float32)

  def critic_loss(critic, generator, key, x_BV):
    both = gan.Params(generator, critic)
    fake_BV = model.generate(key, both, s.batch_size)
    return jnp.mean(jax.nn.softplus(-model.critic(both, x_BV))
                    + jax.nn.softplus(model.critic(both, fake_BV)))

  def generator_loss(generator, critic, key):
    both = gan.Params(generator, critic)
    return jnp.mean(jax.nn.softplus(-model.critic(both, model.generate(key, both, s.batch_size))))

  def iteration(state, key):
    (generator, critic), (generator_adam, critic_adam) = state
    key_rows, key_critic, key_generator = jax.random.split(key, 3)
    x_BV = x_NV[jax.random.randint(key_rows, (s.batch_size,), 0, len(x_NV))]
    grads = jax.grad(critic_loss)(critic, generator, key_critic, x_BV)
    updates, critic_adam = adam.update(grads, critic_adam)
    critic = optax.apply_updates(critic, updates)
    grads = jax.grad(generator_loss)(generator, critic, key_generator)
    updates, generator_adam = adam.update(grads, generator_adam)
    generator = optax.apply_updates(generator, updates)
    return (gan.Params(generator, critic), (generator_adam, critic_adam)), None

  one = jax.jit(iteration)
  many = jax.jit(lambda state, keys: lax.scan(iteration, state, keys)[0])
  state, key = (params, tuple(map(adam.init, params))), jax.random.key(2)

  def run():
    nonlocal state, key
    key, key_run = jax.random.split(key)
    keys = jax.random.split(key_run, s.iterations)
    if rolled:
      state = many(state, keys)
    else:
      for key_iteration in keys:
        state, _ = one(state, key_iteration)
    jax.block_until_ready(state)

  name, note = (('naive jax, scan', 'lax convolutions in one rolled lax.scan') if rolled else
                ('naive jax, jit', 'lax convolutions, one jitted call an iteration'))
  return Trainer(Contender(name, run, note),
                 lambda z_BZ: np.asarray(model.decode(state[0], z_BZ)),
                 lambda x_BV: np.asarray(model.critic(state[0], x_BV)))


def torch_trainer(s: Setting, channels_last: bool = False,
                  compiled: bool = False) -> Trainer | None:
  if (torch := timing.peer('torch')) is None or compiled and timing.torch_compile() is None:
    return None
  nn, (first, second) = torch.nn, s.channels

  def norm(size):  # over this very batch, as ours; the momentum of torch's own is not used
    return nn.BatchNorm2d(size, track_running_stats=False)

  generator = nn.Sequential(
    nn.Linear(s.num_latents, QUARTER**2 * second, bias=False),
    nn.Unflatten(1, (second, QUARTER, QUARTER)), norm(second), nn.LeakyReLU(0.2),
    nn.ConvTranspose2d(second, first, 4, 2, 1, bias=False), norm(first), nn.LeakyReLU(0.2),
    nn.ConvTranspose2d(first, 1, 4, 2, 1), nn.Sigmoid())
  critic = nn.Sequential(
    nn.Conv2d(1, first, 4, 2, 1), nn.LeakyReLU(0.2),
    nn.Conv2d(first, second, 4, 2, 1, bias=False), norm(second), nn.LeakyReLU(0.2),
    nn.Flatten(), nn.Linear(QUARTER**2 * second, 1))
  _load(torch, s, generator, critic)
  if channels_last:
    generator, critic = (net.to(memory_format=torch.channels_last) for net in (generator, critic))
  adams = [torch.optim.Adam(net.parameters(), s.learning_rate, betas=(0.5, 0.999),
                            fused=compiled or None)
           for net in (generator, critic)]
  generate, judge = (torch.compile(net) if compiled else net for net in (generator, critic))
  x_N1YX = torch.tensor(s.x_NV, dtype=torch.float32).view(-1, 1, SIDE, SIDE)
  softplus = nn.functional.softplus

  def move(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

  def iteration():
    x_B1YX = x_N1YX[torch.randint(len(x_N1YX), (s.batch_size,))]
    fake_B1YX = generate(torch.randn(s.batch_size, s.num_latents))
    move(adams[1], (softplus(-judge(2 * x_B1YX - 1))
                    + softplus(judge(2 * fake_B1YX.detach() - 1))).mean())
    move(adams[0], softplus(-judge(2 * fake_B1YX - 1)).mean())

  def run():
    for _ in range(s.iterations):
      iteration()

  @torch.no_grad()
  def decode(z_BZ):
    return generator(torch.tensor(np.array(z_BZ))).flatten(1).numpy()

  @torch.no_grad()
  def log_odds(x_BV):
    return critic(2 * torch.tensor(np.array(x_BV)).view(-1, 1, SIDE, SIDE) - 1)[:, 0].numpy()

  name, note = (('torch, NHWC', 'torch eager in memory_format channels_last') if channels_last else
                ('torch.compile', 'nets compiled, fused Adam') if compiled else
                ('torch eager', 'the same samples for both players, drawn once'))
  return Trainer(Contender(name, run, note), decode, log_odds)


def _load(torch, s: Setting, generator, critic) -> None:
  """Gives torch's nets our parameters: channels first, biases 0."""
  g, f = jax.device_get((start(s).generator['decoder'], start(s).critic['encoder']))
  shape, last = (QUARTER, QUARTER, s.channels[1]), g['in']['w_CD']
  for layer, weight in (
      (generator[0], last.reshape(-1, *shape).transpose(3, 1, 2, 0).reshape(-1, len(last))),
      (generator[4], g['double_0'].transpose(2, 3, 0, 1)),
      (generator[7], g['double_1'].transpose(2, 3, 0, 1)),
      (critic[0], f['halve_0'].transpose(3, 2, 0, 1)),
      (critic[2], f['halve_1'].transpose(3, 2, 0, 1)),
      (critic[6], f['out']['w_CD'].reshape(shape).transpose(2, 0, 1).reshape(1, -1))):
    with torch.no_grad():
      layer.weight.copy_(torch.tensor(weight.copy()))
      if layer.bias is not None:
        layer.bias.zero_()


# Floors.


def floor(library: str, s: Setting) -> Contender:
  """Products of an iteration, layer by layer: x w forward, y w' to inputs, x' y to weights.

  The generator draws once; the critic sees data and samples at its turn, samples at the other's.
  """
  rng, (first, second) = np.random.default_rng(0), s.channels

  def layers(images, *sizes):
    """x, w, y of each size: rows an image, inputs, outputs."""
    return [tuple(rng.standard_normal(shape, np.float32) for shape in (
      (rows * images, fan_in), (fan_in, fan_out), (rows * images, fan_out)))
            for rows, fan_in, fan_out in sizes]

  sizes = ((4 * QUARTER**2, 16, first), (QUARTER**2, 16 * first, second),
           (1, QUARTER**2 * second, 1))
  critic, both = layers(s.batch_size, *sizes), layers(2 * s.batch_size, *sizes)
  generator = layers(s.batch_size, (1, s.num_latents, QUARTER**2 * second),
                     (QUARTER**2, second, 16 * first), (4 * QUARTER**2, first, 16))

  def iteration(generator, both, critic):
    return ([x @ w for x, w, _ in generator + both + critic],
            [y @ w.T for _, w, y in generator[1:] + both[1:] + critic],
            [x.T @ y for x, _, y in generator + both])

  nets = generator, both, critic
  if library == 'jax':
    nets, iteration = jax.device_put(nets), jax.jit(iteration)
  if library == 'torch':
    import torch
    nets = jax.tree.map(torch.tensor, nets)

  def run():
    out = None
    for _ in range(s.iterations):
      out = iteration(*nets)
    if library == 'jax':
      jax.block_until_ready(out)

  return Contender(f'floor: {library}', run)


def floors(s: Setting) -> list[Contender]:
  """In jax, NumPy's BLAS and torch; the fastest is the floor."""
  libraries = ('jax', 'numpy', 'torch') if timing.peer('torch') else ('jax', 'numpy')
  return [floor(library, s) for library in libraries]


# Checks.


class Untrained(NamedTuple):
  """Latents, what every generator made of them before it moved, and as many images."""

  z_BZ: np.ndarray
  fake_BV: np.ndarray
  real_BV: np.ndarray
  loss: float


def critic_loss(trainer: Trainer, real_BV, fake_BV) -> float:
  """-<log s(f(x))> - <log s(-f(x~))>."""
  return float(np.mean(np.logaddexp(0, -trainer.critic(real_BV)))
               + np.mean(np.logaddexp(0, trainer.critic(fake_BV))))


def check_same(trainers: list[Trainer], s: Setting) -> Untrained:
  """Raises RuntimeError unless all generators and all critics are one function, untrained."""
  z_BZ = np.asarray(jax.random.normal(jax.random.key(3), (500, s.num_latents)))
  real_BV, fake_BV = s.x_NV[:len(z_BZ)].astype(np.float32), trainers[0].decode(z_BZ)
  for trainer in trainers:
    if not (np.allclose(trainer.decode(z_BZ), fake_BV, atol=1e-4)
            and np.allclose(trainer.critic(real_BV), trainers[0].critic(real_BV), atol=1e-3)):
      raise RuntimeError(f'{trainer.contender.name} does not start from our players')
  return Untrained(z_BZ, fake_BV, real_BV, critic_loss(trainers[0], real_BV, fake_BV))


def check_learnt(trainers: list[Trainer], before: Untrained) -> None:
  """Raises RuntimeError unless the players of each went at least half as far as ours.

  The critic, in its loss between the data and the untrained samples; the generator, from these:
  that its samples come closer to the data is no measure, a game may lead them away at first.
  """
  fallen = [before.loss - critic_loss(t, before.real_BV, before.fake_BV) for t in trainers]
  moved = [float(np.mean(np.abs(t.decode(before.z_BZ) - before.fake_BV))) for t in trainers]
  for trainer, f, m in zip(trainers, fallen, moved, strict=True):
    name = trainer.contender.name
    print(f"  {name}: critic's loss {before.loss:.3f} untrained, {before.loss - f:.3f} trained; "
          f'pixels moved by {m:.4f}')
    if not (f >= fallen[0] / 2 > 0 and m >= moved[0] / 2 > 0):
      raise RuntimeError(f'{name} was timed, but did not learn')


def define_flags() -> None:
  """The flags of this command; benchmarks.accelerator times the same contenders without them."""
  flags.DEFINE_integer('iterations', 10, 'Timed together; the table is for one.', lower_bound=1)
  flags.DEFINE_integer('rounds', 7, 'Timed rounds; the table shows their median.', lower_bound=1)
  flags.DEFINE_integer('batch', 64, 'Images an update of a player.', lower_bound=2)
  flags.DEFINE_list('channels', ['64', '128'],
                    "Of the critic; the generator's are these reversed.")
  flags.DEFINE_integer('latent', 64, 'Latent units.', lower_bound=1)
  flags.DEFINE_float('learning_rate', 2e-4, "Adam's, with beta1 0.5, of every player.")
  flags.DEFINE_bool('rolled', True, 'Whether to time naive jax in a scan, which takes long.')
  flags.DEFINE_string('json', None, 'File to write all numbers to.')


def tasks(s: Setting, rolled: bool) -> Iterator[Task]:
  """An iteration of all."""
  trainers = [our_trainer(s), our_trainer(s, alternating=False),
              torch_trainer(s), torch_trainer(s, channels_last=True),
              torch_trainer(s, compiled=True), naive_trainer(s, False),
              naive_trainer(s, True) if rolled else None]
  trainers = [t for t in trainers if t]
  untrained = check_same(trainers, s)
  yield Task(f'One DCGAN iteration, 28x28, channels {s.channels[0]} and {s.channels[1]}, '
             f'batch {s.batch_size}', [t.contender for t in trainers] + floors(s), s.iterations,
             lambda: check_learnt(trainers, untrained))


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  given = flags.FLAGS
  s = Setting(images_of(10_000, SIDE**2), tuple(map(int, given.channels)), given.latent,
              given.batch, given.iterations, given.learning_rate)
  timing.measure('gan', tasks(s, given.rolled), rounds=given.rounds, packages=PACKAGES,
                 path=given.json, protocol='same players, same start; '
                 f'{given.rounds} interleaved rounds in one process')


if __name__ == '__main__':
  define_flags()
  app.run(main)
