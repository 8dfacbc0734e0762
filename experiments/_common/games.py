"""Two players by name: losses, penalties and optimizers of gan and gan_grid."""

from typing import Literal

import optax

from experiments._common import custom
from gen_models import estimators
from gen_models.models import gan
from gen_models.training.players import players

LossName = Literal['minimax', 'non_saturating', 'hinge', 'wasserstein', 'relativistic']
PenaltyName = Literal['none', 'r1', 'r2', 'r1_r2', 'wgan_gp']
AnyLoss = LossName | custom.Loss
AnyPenalty = PenaltyName | custom.Penalty


def init(model: gan.Model):
  """Phase.init: fresh players."""
  def fresh(key, arrays, previous_params):
    del arrays, previous_params
    return model.init(key)
  return fresh


def game(model: gan.Model, loss: AnyLoss, penalty: AnyPenalty, weight, critic_steps: int, *,
         learning_rate, beta1, beta2, decay: str, num_steps: int):
  """(estimator, optimizer): the two players' gradients and their Adams.

  A user's penalty is multiplied by the weight, as ours are.
  """
  if isinstance(penalty, str):
    r1, r2 = estimators.r1(weight), estimators.r2(weight)
    penalties = {'none': (), 'r1': (r1,), 'r2': (r2,), 'r1_r2': (r1, r2),
                 'wgan_gp': (estimators.gradient_penalty(weight),)}[penalty]
  else:
    theirs = estimators.as_penalty(penalty)
    penalties = (lambda *args: weight * theirs(*args),)
  losses = estimators.LOSSES[loss] if isinstance(loss, str) else estimators.as_loss(loss)
  generators_turn = estimators.turns(critic_steps) if critic_steps else None

  def adam(share: float):
    moves = max(1, round(share * num_steps))
    rate = optax.cosine_decay_schedule(learning_rate, moves) if decay == 'cosine' else learning_rate
    return optax.adam(rate, beta1, beta2)

  share = 1 / (critic_steps + 1)
  shares = (share, 1 - share) if critic_steps else (1, 1)
  return (estimators.adversarial(model, losses, penalties, generators_turn),
          players(*map(adam, shares), generators_turn))
