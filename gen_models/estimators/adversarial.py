"""Adversarial gradients: each player goes down its own loss.

  critic:     d/df [ L_f(f(x), f(x~)) + penalties ],    generator:  d/dg L_g(f(x), f(x~)),

x data, x~ = g(z). Losses (two_player_losses), penalties (critic_penalties), augmentations, spectral
normalisation and the order of moves are values that combine freely.

Alternating moves are turns: an update moves one player, and the gradient of the other is not
computed. So a generator's gradient is always taken at the critic's newest parameters. The rule of
turns is given to the estimator and to the optimizer (training.players), which must not change the
moments of the resting player.

`model` is anything that reads like gen_models.models.gan: generate(key, params, num) -> x~_BV,
critic(params, x_BV) -> [M], and params with fields generator and critic. A model whose samples
answer to the data's rows, such as those of their classes, has generate_beside(key, params, x_BV).

Axis suffixes: B batch, V visible, M outputs of the critic (B of them, or packs), F features.

Goodfellow et al. (2014); Salimans et al. (2016); Miyato et al. (2018); Zhao et al. (2020); Karras
et al. (2020).
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.estimators import base
from gen_models.estimators.augmentations import Adaptive, Augmentation, as_adaptive
from gen_models.estimators.critic_penalties import Penalty, Remembering, remembering
from gen_models.estimators.spectral import Normalisation
from gen_models.estimators.two_player_losses import Loss


class Players(Protocol):
  """A generator and a critic of flat samples, as gen_models.models.gan.Model is."""

  def generate(self, key: jax.Array, params: Any, num: int, /) -> jax.Array:
    """x~ = g(z), [num, V]; the key is consumed."""
    ...

  def critic(self, params: Any, x_BV: jax.Array, /) -> jax.Array:
    """f(x), [M], M = B or the packs of B."""
    ...


class TurnRule(Protocol):
  """Whose turn an update is."""

  def __call__(self, step: jax.Array, /) -> jax.Array:
    """Whether the generator moves at this update, else the critic."""
    ...


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


class Parts(NamedTuple):
  """The memory of an estimator of which a part remembers something.

  Attributes:
    turn: Turn, () without turns.
    penalties: of each penalty.
    spectral: singular vectors of the critic's matrices.
    augment: of the augmentation.
  """

  turn: Any = ()
  penalties: Any = ()
  spectral: Any = ()
  augment: Any = ()


def adversarial(model: Players, loss: Loss, penalties: tuple[Penalty | Remembering, ...] = (),
                generators_turn: TurnRule | None = None, *,
                spectral: Normalisation | None = None,
                augment: Augmentation | Adaptive | None = None,
                feature_matching: Any = None, auxiliary: Any = None) -> base.Estimator:
  """grads = (d L_g / d generator, d (L_f + penalties) / d critic), in the structure of params.

  All comes from one pass forward through both networks. With turns, the half of the player who
  rests is zero and is not computed, except where replicas are vmapped: they compute both halves
  and choose.

  Args:
    model: see above.
    loss: for what they play.
    penalties: on the critic, added to its loss. They see data and samples as they are, without
      augmentation.
    generators_turn: step -> bool, whether this update is the generator's; None: both move at every
      update, each against the other's last parameters.
    spectral: how the critic's matrices are normalised, for both players and the penalties.
    augment: what the critic sees of data and samples in both players' losses.
    feature_matching: weight of |<h(x)> - <h(x~)>|^2, added to the generator's loss, h(x) [M, F]
      what the critic's last layer reads (Salimans et al., 2016): the model has features(params,
      x_BV). A square of batch means, so the estimator is biased.
    auxiliary: weight of <-log p(y | x)>, added to the critic's loss of data and of samples and to
      the generator's of samples (auxiliary classifier: Odena et al., 2017): rows know their class,
      and the model has judge(params, x_BV) -> (f_B, -log p(y | x)_B).

  Returns:
    an Estimator whose batch is x_BV; its metrics are `critic_loss` and `penalty` (which it does not
    contain), `generator_loss`, each of the player's last move (0 before its first), and with an
    augmentation that adapts its `augment_probability`.
  """
  terms = tuple(map(remembering, penalties))
  seen = None if augment is None else as_adaptive(augment)
  names = ('critic_loss', 'generator_loss', *(('penalty',) if penalties else ()),
           *(('augment_probability',) if isinstance(augment, Adaptive) else ()))

  def draw(key, params, generator, real_BV):
    params = params._replace(generator=generator)
    if hasattr(model, 'generate_beside'):
      return model.generate_beside(key, params, real_BV)
    return model.generate(key, params, len(real_BV))

  def both(key, params, kept, real_BV):
    """Gradients of both players, their metrics, and what the critic's parts remember after."""
    key_fake, key_penalty, *keys_shown = jax.random.split(key, 4 if seen else 2)
    vectors = spectral.step(params.critic, kept.spectral) if spectral else ()

    def at(critic):
      return params._replace(critic=spectral.apply(critic, vectors) if spectral else critic)

    def shown(x_BV, which):
      return seen.apply(keys_shown[which], kept.augment, x_BV) if seen else x_BV

    fake_BV, pull_generator = jax.vjp(
      lambda generator: draw(key_fake, params, generator, real_BV), params.generator)

    def outputs(critic, fake_BV):
      """(f of data and of samples), and with an auxiliary classifier -log p(y | x) of both."""
      rows = shown(real_BV, 0), shown(fake_BV, 1)
      if auxiliary is None:
        return tuple(model.critic(at(critic), x_BV) for x_BV in rows), ()
      return tuple(zip(*(_judged(model, at(critic), x_BV) for x_BV in rows), strict=True))

    def with_classes(value, errors):
      return value if auxiliary is None else value + auxiliary * sum(map(jnp.mean, errors))

    def penalty(critic):
      keys = jax.random.split(key_penalty, len(terms))
      found, remembered = zip(*(
        term.value(key, lambda x_BV: model.critic(at(critic), x_BV), real_BV, fake_BV, memory)
        for key, term, memory in zip(keys, terms, kept.penalties, strict=True)), strict=True)
      return sum(found), remembered

    judged, pull_critic = jax.vjp(outputs, params.critic, fake_BV)
    critic_loss, critic_df = jax.value_and_grad(
      lambda f, errors: with_classes(loss.critic(*f), errors), argnums=(0, 1))(*judged)
    generator_loss, generator_df = jax.value_and_grad(
      lambda f, errors: with_classes(loss.generator(*f), errors[1:]), argnums=(0, 1))(*judged)
    critic, _ = pull_critic(critic_df)
    fake_grad_BV = pull_critic(generator_df)[1]
    if feature_matching is not None:
      gap, gap_grad_BV = jax.value_and_grad(
        lambda fake_BV: _feature_gap(model, at(params.critic), real_BV, fake_BV))(fake_BV)
      generator_loss = generator_loss + feature_matching * gap
      fake_grad_BV = fake_grad_BV + feature_matching * gap_grad_BV
    generator, = pull_generator(fake_grad_BV)
    metrics = {'critic_loss': critic_loss, 'generator_loss': generator_loss}
    remembered = ()
    if penalties:
      (metrics['penalty'], remembered), extra = jax.value_and_grad(penalty, has_aux=True)(
        params.critic)
      critic = jax.tree.map(jnp.add, critic, extra)
    adapted = seen.update(kept.augment, judged[0][0], len(real_BV)) if seen else ()
    if isinstance(augment, Adaptive):
      metrics['augment_probability'] = augment.probability(adapted)
    return (params._replace(generator=generator, critic=critic), metrics,
            Parts((), remembered, vectors, adapted))

  def init(key, params):
    key_spectral, *keys = jax.random.split(key, len(terms) + 1)
    turn = () if generators_turn is None else Turn(
      jnp.zeros(()), {name: jnp.zeros(()) for name in names})
    return _memory(Parts(
      turn, tuple(term.init(key) for key, term in zip(keys, terms, strict=True)),
      spectral.init(key_spectral, params.critic) if spectral else (),
      seen.init() if seen else ()))

  def grad(key, params, memory, real_BV):
    kept = _parts(memory, len(terms))
    if generators_turn is None:
      grads, metrics, kept = both(key, params, kept, real_BV)
      return grads, _memory(kept), metrics
    step, before = kept.turn

    def critics():
      grads, metrics, after = both(key, params, kept, real_BV)
      return (_only(grads, 'critic'),
              {**metrics, 'generator_loss': before['generator_loss']}, after)

    def generators():
      grads, metrics, _ = both(key, params, kept, real_BV)
      return (_only(grads, 'generator'),
              {**before, 'generator_loss': metrics['generator_loss']}, kept._replace(turn=()))

    # What a branch does not return, the compiler does not compute.
    grads, metrics, after = lax.cond(generators_turn(step), generators, critics)
    return grads, _memory(after._replace(turn=Turn(step + 1, metrics))), metrics

  return base.Estimator(init, grad, biased=loss.biased or feature_matching is not None,
                        target=None if generators_turn is None else _masked(generators_turn))


def _feature_gap(model, params, real_BV, fake_BV):
  """|<h(x)> - <h(x~)>|^2."""
  gap_F = jnp.mean(model.features(params, real_BV), 0) - jnp.mean(
    model.features(params, fake_BV), 0)
  return jnp.sum(jnp.square(gap_F))


def _judged(model, params, x_BV):
  """(f, -log p(y | x)) of a model with an auxiliary classifier."""
  return model.judge(params, x_BV)


def _memory(kept: Parts) -> base.Memory:
  """What is checkpointed: the turn by itself where no other part remembers anything."""
  others = jax.tree.leaves(kept._replace(turn=()))
  return base.Memory(shared=kept if others else kept.turn)


def _parts(memory: base.Memory, num_penalties: int = 0) -> Parts:
  if isinstance(memory.shared, Parts):
    return memory.shared
  return Parts(memory.shared, ((),) * num_penalties)


def _masked(generators_turn: TurnRule) -> base.Target:
  """The gradient of the player whose turn it is."""
  def target(grads, params, memory):
    del params
    generators = generators_turn(_parts(memory).turn.step)
    return jax.tree.map(lambda *halves: jnp.where(generators, *halves),
                        _only(grads, 'generator'), _only(grads, 'critic'))
  return target


def _only(grads, player: str):
  """grads with zeros for the other player."""
  return jax.tree.map(jnp.zeros_like, grads)._replace(**{player: getattr(grads, player)})
