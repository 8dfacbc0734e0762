"""Two players by name: losses, penalties, augmentations and optimizers of gan and gan_grid."""

from typing import Any, Literal

import optax

from experiments._common import custom
from gen_models import estimators
from gen_models.models import gan
from gen_models.training.players import clipped, extragradient, optimistic, players

LossName = Literal[
  'minimax', 'non_saturating', 'hinge', 'wasserstein', 'relativistic', 'least_squares',
  'relativistic_average', 'total_variation', 'kl', 'reverse_kl', 'pearson', 'neyman',
  'squared_hellinger', 'jensen_shannon', 'mmd', 'energy']
PenaltyName = Literal['none', 'r1', 'r2', 'r1_r2', 'wgan_gp', 'zero_centred', 'dragan', 'lecam',
                      'clip']
Moves = Literal['extragradient', 'optimistic']
AnyLoss = LossName | custom.Loss
AnyPenalty = PenaltyName | custom.Penalty


def init(model: gan.Model | gan.ClassConditional):
  """Phase.init: fresh players."""
  def fresh(key, arrays, previous_params):
    del arrays, previous_params
    return model.init(key)
  return fresh


def penalties_of(penalty: AnyPenalty, weight, lazy: int | None,
                 num_visible: int | None = None) -> tuple:
  """The penalties that a name, or an object of the user's, stands for; each has the weight.

  The weight of `clip` is the bound of the critic's parameters, which its optimizer holds. Rows have
  their class behind num_visible values where there are classes.
  """
  if isinstance(penalty, str):
    r1, r2 = estimators.r1(weight), estimators.r2(weight)
    chosen: tuple = {
      'none': (), 'clip': (), 'r1': (r1,), 'r2': (r2,), 'r1_r2': (r1, r2),
      'wgan_gp': (estimators.gradient_penalty(weight),),
      'zero_centred': (estimators.zero_centred(weight),), 'dragan': (estimators.dragan(
        weight, num_visible=num_visible),),
      'lecam': (estimators.lecam(weight),)}[penalty]
  else:
    chosen = (estimators.scaled(weight, estimators.as_penalty(penalty)),)
  return chosen if lazy is None else tuple(estimators.lazy(one, lazy) for one in chosen)


def game(model: gan.Model | gan.ClassConditional, loss: AnyLoss, penalty: AnyPenalty, weight,
         critic_steps: int, *, learning_rate, beta1, beta2, decay: str, num_steps: int,
         lazy: int | None = None, spectral_norm: bool | None = None, moves: Moves | None = None,
         **options: Any):
  """(estimator, optimizer): the two players' gradients and their Adams.

  Args:
    model: of the two players.
    loss: for what they play.
    penalty: on the critic.
    weight: of each penalty.
    critic_steps: moves of the critic for one of the generator; 0: both move at every update.
    learning_rate, beta1, beta2, decay: of Adam.
    num_steps: moves of either player.
    lazy: penalties are taken at every n-th move of the critic.
    spectral_norm: whether the critic's matrices are divided by their largest singular values.
    moves: how both move where that is not by gradient descent.
    **options: of estimators.adversarial.

  Raises:
    ValueError: moves that are made by both players at once, and turns.
  """
  if moves and critic_steps:
    raise ValueError(f'moves={moves} are made by both players at once: use critic_steps=0')
  if penalty == 'clip' and isinstance(weight, float) and weight == 0:
    raise ValueError('penalty=clip holds the critic within its weight, and 0 holds it at nothing: '
                     'give --set=weight=0.01')
  losses = estimators.LOSSES[loss] if isinstance(loss, str) else estimators.as_loss(loss)
  generators_turn = estimators.turns(critic_steps) if critic_steps else None

  def adam(share: float, bound=None):
    num_moves = max(1, round(share * num_steps))
    rate = (optax.cosine_decay_schedule(learning_rate, num_moves) if decay == 'cosine'
            else learning_rate)
    optimizer = optax.adam(rate, beta1, beta2)
    if moves:
      optimizer = {'extragradient': extragradient, 'optimistic': optimistic}[moves](optimizer)
    return optimizer if bound is None else clipped(optimizer, bound)

  num_visible = model.model.num_visible if isinstance(model, gan.ClassConditional) else None
  share = 1 / (critic_steps + 1)
  generators, critics = (share, 1 - share) if critic_steps else (1, 1)
  return (estimators.adversarial(model, losses, penalties_of(penalty, weight, lazy, num_visible),
                                 generators_turn,
                                 spectral=estimators.spectral_norm() if spectral_norm else None,
                                 **options),
          players(adam(generators), adam(critics, weight if penalty == 'clip' else None),
                  generators_turn))


def critic_read(model: gan.Model | gan.ClassConditional, spectral_norm: bool | None):
  """Parameters of a run -> those of the networks, as the critic is evaluated at them."""
  def read(params):
    if spectral_norm:
      params = params._replace(critic=estimators.spectral_norm().exact(params.critic))
    return model.network(params) if isinstance(model, gan.ClassConditional) else params
  return read
