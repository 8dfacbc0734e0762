"""Adversarial gradients: each player goes down its own loss.

  critic:     d/df [ L_f(f(x), f(x~)) + penalties ],    generator:  d/dg L_g(f(x), f(x~)),

x data, x~ = g(z). Losses, penalties and the order of moves are values that combine freely:

  minimax         L_f = -<log s(f(x))> - <log s(-f(x~))>,   L_g = <log s(-f(x~))>      s the sigmoid
  non_saturating  L_f the same,                              L_g = -<log s(f(x~))>
  hinge           L_f = <max(0, 1 - f(x))> + <max(0, 1 + f(x~))>,  L_g = -<f(x~)>
  wasserstein     L_f = <f(x~)> - <f(x)>,                    L_g = -<f(x~)>
  relativistic    L_f = -<log s(f(x) - f(x~))>,              L_g = -<log s(f(x~) - f(x))>, in pairs

At the best critic, L_f of minimax is 2 log 2 - 2 JS(p, q), of hinge 2 - 2 TV(p, q), of wasserstein
(critics of slope 1) -W1(p, q), and of relativistic log 2 - JS of the pairs (data, sample) and
(sample, data).

Alternating moves are turns: an update moves one player, and the gradient of the other is not
computed. So a generator's gradient is always taken at the critic's newest parameters. The rule of
turns is given to the estimator and to the optimizer (training.players), which must not change the
moments of the resting player.

`model` is anything that reads like gen_models.models.gan: generate(key, params, num) -> x~_BV,
critic(params, x_BV) -> [M], and params with fields generator and critic.

Axis suffixes: B batch, V visible, M outputs of the critic (B of them, or packs).

Goodfellow et al. (2014); Lim & Ye (2017); Arjovsky, Chintala & Bottou (2017); Gulrajani et al.
(2017); Jolicoeur-Martineau (2019); Mescheder, Geiger & Nowozin (2018).
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import relu, softplus

from gen_models.estimators import base
from gen_models.models.rows import mean_rows as mean


class Players(Protocol):
  """A generator and a critic of flat samples, as gen_models.models.gan.Model is."""

  def generate(self, key: jax.Array, params: Any, num: int, /) -> jax.Array:
    """x~ = g(z), [num, V]; the key is consumed."""
    ...

  def critic(self, params: Any, x_BV: jax.Array, /) -> jax.Array:
    """f(x), [M], M = B or the packs of B."""
    ...


class PlayerLoss(Protocol):
  """One player's loss."""

  def __call__(self, real_M: jax.Array, fake_M: jax.Array, /) -> jax.Array:
    """Scalar, of f(x) at data and at samples."""
    ...


class Critic(Protocol):
  """The critic with its parameters held, of which penalties are functions."""

  def __call__(self, x_BV: jax.Array, /) -> jax.Array:
    """f(x), [M]."""
    ...


class Penalty(Protocol):
  """A term of the critic's loss."""

  def __call__(self, key: jax.Array, critic: Critic, real_BV: jax.Array, fake_BV: jax.Array,
               /) -> jax.Array:
    """Scalar; the key is consumed."""
    ...


class TurnRule(Protocol):
  """Whose turn an update is."""

  def __call__(self, step: jax.Array, /) -> jax.Array:
    """Whether the generator moves at this update, else the critic."""
    ...


class Loss(NamedTuple):
  """Both players' losses: (f(x) [M], f(x~) [M]) -> scalar."""

  critic: PlayerLoss
  generator: PlayerLoss


def _classification(real_M, fake_M):
  return mean(softplus(-real_M)) + mean(softplus(fake_M))


def _pairs(real_M, fake_M):
  return mean(softplus(fake_M - real_M))


minimax = Loss(_classification, lambda real_M, fake_M: -mean(softplus(fake_M)))
non_saturating = Loss(_classification, lambda real_M, fake_M: mean(softplus(-fake_M)))
hinge = Loss(lambda real_M, fake_M: mean(relu(1 - real_M)) + mean(relu(1 + fake_M)),
             lambda real_M, fake_M: -mean(fake_M))
wasserstein = Loss(lambda real_M, fake_M: mean(fake_M) - mean(real_M),
                   lambda real_M, fake_M: -mean(fake_M))
relativistic = Loss(_pairs, lambda real_M, fake_M: _pairs(fake_M, real_M))
LOSSES = {'minimax': minimax, 'non_saturating': non_saturating, 'hinge': hinge,
          'wasserstein': wasserstein, 'relativistic': relativistic}


# Penalties: (key, critic: x_BV -> [M], x_BV, x~_BV) -> scalar, added to the critic's loss.


def r1(weight: float) -> Penalty:
  """weight / 2 <|df/dx|^2> at the data (Mescheder et al., 2018)."""
  return lambda key, critic, real_BV, fake_BV: weight / 2 * mean(_squared_slope(critic, real_BV))


def r2(weight: float) -> Penalty:
  """weight / 2 <|df/dx|^2> at the samples."""
  return lambda key, critic, real_BV, fake_BV: weight / 2 * mean(_squared_slope(critic, fake_BV))


def gradient_penalty(weight: float = 10.0, slope: float = 1.0) -> Penalty:
  """weight <(|df/dx| - slope)^2> at x + u (x~ - x), u ~ U(0, 1) of each pair (WGAN-GP)."""

  def penalty(key, critic, real_BV, fake_BV):
    num = jax.eval_shape(critic, real_BV).shape[0]
    u_BV = jnp.repeat(jax.random.uniform(key, (num, 1)), len(real_BV) // num, axis=0)
    squared_M = _squared_slope(critic, real_BV + u_BV * (fake_BV - real_BV))
    # The root has no derivative at 0, where a critic may well start.
    norm_M = jnp.where(squared_M > 0, jnp.sqrt(jnp.where(squared_M > 0, squared_M, 1.0)), 0.0)
    return weight * mean(jnp.square(norm_M - slope))

  return penalty


def _squared_slope(critic, x_BV):
  """|df/dx|^2 of each output, [M]."""
  f_M, pull = jax.vjp(critic, x_BV)
  slope_BV, = pull(jnp.ones_like(f_M))
  return jnp.sum(jnp.square(slope_BV.reshape(len(f_M), -1)), axis=-1)


# Whose turn it is.


def turns(critic_steps: int = 1) -> TurnRule:
  """step -> whether the generator moves: once in every critic_steps + 1 updates, at the second.

  Raises:
    ValueError: critic_steps is less than 1.
  """
  if critic_steps < 1:
    raise ValueError(f'a critic moves at least once for a move of the generator, not '
                     f'{critic_steps} times')
  return lambda step: step % (critic_steps + 1) == 1


class Turn(NamedTuple):
  """The memory between turns.

  Attributes:
    step: updates done, float32 (exact below 2^24): the dtype of the checkpoints written so far.
    metrics: each player's at its last move.
  """

  step: jax.Array
  metrics: dict[str, jax.Array]


def adversarial(model: Players, loss: Loss, penalties: tuple[Penalty, ...] = (),
                generators_turn: TurnRule | None = None) -> base.Estimator:
  """grads = (d L_g / d generator, d (L_f + penalties) / d critic), in the structure of params.

  All comes from one pass forward through both networks. With turns, the half of the player who
  rests is zero and is not computed, except where replicas are vmapped: they compute both halves
  and choose.

  Args:
    model: see above.
    loss: for what they play.
    penalties: on the critic, added to its loss.
    generators_turn: step -> bool, whether this update is the generator's; None: both move at every
      update, each against the other's last parameters.

  Returns:
    an Estimator whose batch is x_BV; its metrics are `critic_loss` and `penalty` (which it does not
    contain), `generator_loss`, each of the player's last move (0 before its first).
  """

  def both(key, params, real_BV):
    """Gradients of both players and their metrics."""
    key_fake, key_penalty = jax.random.split(key)
    fake_BV, pull_generator = jax.vjp(
      lambda generator: model.generate(
        key_fake, params._replace(generator=generator), len(real_BV)), params.generator)

    def outputs(critic, fake_BV):
      both = params._replace(critic=critic)
      return model.critic(both, real_BV), model.critic(both, fake_BV)

    def penalty(critic):
      keys = jax.random.split(key_penalty, len(penalties))
      return sum(fn(key, lambda x_BV: model.critic(params._replace(critic=critic), x_BV), real_BV,
                    fake_BV) for key, fn in zip(keys, penalties, strict=True))

    f, pull_critic = jax.vjp(outputs, params.critic, fake_BV)
    critic_loss, critic_df = jax.value_and_grad(lambda f: loss.critic(*f))(f)
    generator_loss, generator_df = jax.value_and_grad(lambda f: loss.generator(*f))(f)
    critic, _ = pull_critic(critic_df)
    generator, = pull_generator(pull_critic(generator_df)[1])
    metrics = {'critic_loss': critic_loss, 'generator_loss': generator_loss}
    if penalties:
      metrics['penalty'], extra = jax.value_and_grad(penalty)(params.critic)
      critic = jax.tree.map(jnp.add, critic, extra)
    return params._replace(generator=generator, critic=critic), metrics

  def init(key, params):
    del key, params
    if generators_turn is None:
      return base.Memory()
    names = ('critic_loss', 'generator_loss', *(('penalty',) if penalties else ()))
    return base.Memory(shared=Turn(jnp.zeros(()), {name: jnp.zeros(()) for name in names}))

  def grad(key, params, memory, real_BV):
    if generators_turn is None:
      grads, metrics = both(key, params, real_BV)
      return grads, memory, metrics
    step, before = memory.shared

    def critics():
      grads, metrics = both(key, params, real_BV)
      return (_only(grads, 'critic'),
              {**metrics, 'generator_loss': before['generator_loss']})

    def generators():
      grads, metrics = both(key, params, real_BV)
      return (_only(grads, 'generator'),
              {**before, 'generator_loss': metrics['generator_loss']})

    # What a branch does not return, the compiler does not compute.
    grads, metrics = lax.cond(generators_turn(step), generators, critics)
    return grads, base.Memory(shared=Turn(step + 1, metrics)), metrics

  return base.Estimator(init, grad, target=None if generators_turn is None else _masked(
    generators_turn))


def _masked(generators_turn: TurnRule) -> base.Target:
  """The gradient of the player whose turn it is."""
  def target(grads, params, memory):
    del params
    generators = generators_turn(memory.shared.step)
    return jax.tree.map(lambda *halves: jnp.where(generators, *halves),
                        _only(grads, 'generator'), _only(grads, 'critic'))
  return target


def _only(grads, player: str):
  """grads with zeros for the other player."""
  return jax.tree.map(jnp.zeros_like, grads)._replace(**{player: getattr(grads, player)})
