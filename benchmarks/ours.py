"""The path of `launch.train` as a contender: one phase of updates, a dispatch an epoch."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
import optax

from benchmarks.timing import Contender
from gen_models import data
from gen_models.estimators.base import Estimator
from gen_models.experiment import Phase
from gen_models.training import parallel


class Setting(Protocol):
  """What a setting of every benchmark that trains on images has."""

  x_NV: np.ndarray  # uint8, zeros and ones
  batch_size: int
  learning_rate: float

  @property
  def steps(self) -> int:
    """Updates an epoch."""
    ...


def trained(s: Setting, params: Any, estimator: Estimator,
            optimizer: Callable[[float], optax.GradientTransformation], devices: Any = None
            ) -> tuple[Contender, Callable[[], Any]]:
  """(a contender that trains for an epoch more at each run, its parameters by then).

  parallel.runner over step.train_steps of a Phase: images resident on the device, binarisation
  'static', a donated state.

  Args:
    s: of the benchmark.
    params: to begin with.
    estimator: of the gradient.
    optimizer: of a learning rate.
    devices: over which a step is split; None for all.
  """
  phase = Phase('benchmark', lambda key, arrays, previous: params, estimator,
                optimizer(s.learning_rate), data.batches(s.batch_size, 'static', 1), s.steps,
                s.batch_size)
  runner = parallel.runner(phase, devices=devices)
  arrays = runner.place_arrays(data.Arrays(s.x_NV))
  state = runner.place(parallel.init_states(phase, jax.random.key(1), arrays))

  def run():
    nonlocal state
    state, metrics = runner.dispatch(state, arrays, s.steps)
    jax.block_until_ready((state, metrics))

  return Contender('ours', run), lambda: jax.device_get(state.params)
