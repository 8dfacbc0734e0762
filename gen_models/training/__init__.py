"""Training: one loop for every experiment, on one device or many, resumed after a stop."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.training import (
    checkpoint,
    checks,
    hooks,
    hyper,
    keys,
    loop,
    metrics,
    parallel,
    players,
    position,
    record,
    replicas,
    step,
  )
  from gen_models.training.checkpoint import Checkpoints
  from gen_models.training.loop import Result, fit
  from gen_models.training.metrics import Metrics
  from gen_models.training.step import TrainState

__all__ = [
  'Checkpoints', 'Metrics', 'Result', 'TrainState', 'checkpoint', 'checks', 'fit', 'hooks',
  'hyper', 'keys', 'loop', 'metrics', 'parallel', 'players', 'position', 'record', 'replicas',
  'step']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('checkpoint', 'checks', 'hooks', 'hyper', 'keys', 'loop', 'metrics', 'parallel', 'players',
   'position', 'record', 'replicas', 'step'),
  {'Checkpoints': 'gen_models.training.checkpoint',
   'Metrics': 'gen_models.training.metrics',
   'Result': 'gen_models.training.loop',
   'TrainState': 'gen_models.training.step',
   'fit': 'gen_models.training.loop'})
