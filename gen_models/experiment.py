"""What an experiment is: values, no behaviour.

An experiment file defines `experiment(...typed keyword hyperparameters...) -> Experiment`
and VARIANTS, a dict from the name of an ablation to the hyperparameters it changes; where there is
a PUBLISHED, it holds what the literature reports for a variant.
Floats may be traced, so a sweep over learning rates is a vmap: training/hyper.py says which.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gen_models.estimators.base import Estimator


class Published(NamedTuple):
  """A published value, of the same test set under the same binarisation as the variant beside it.

  Attributes:
    value: as tables print it.
    source: authors and year.
    checked: where the value was read: 'the source', or what quotes it.
  """

  value: str
  source: str
  checked: str = 'the source'

  def __str__(self):
    return f'{self.value} ({self.source})'


class Alarm(NamedTuple):
  """A metric that should not leave its range, and what to do when it does.

  Attributes:
    metric: its name, among those of training, of `validate` or of `monitor`.
    above, below: where it becomes alarming; None for no limit on that side.
    advice: what it means and what to try, one line.
  """

  metric: str
  above: float | None = None
  below: float | None = None
  advice: str = ''


class Phase(NamedTuple):
  """One stretch of training; greedy stacking and fine-tuning are several in a row.

  Attributes:
    name: shown in logs, names the metrics of this phase.
    init: (key, arrays, previous_params) -> params; previous_params is None in the first.
    estimator: how parameters get their gradient.
    optimizer: what is done with it.
    batch_at: (key, arrays, step) -> batch, pure; the key is the same at every step.
    num_steps: updates in this phase.
    batch_size: images an update, over all devices.
    average: decay of the moving average of params kept beside them; 0 keeps none.
    unroll: updates written out in the compiled program instead of looped over, for what XLA
      compiles badly inside a loop.
    check: (params, batch) -> None, called once with the shapes of params and the first batch,
      before anything is compiled; raises ValueError where the data are not what the model is of.
    monitor: (key, params, memory, train, valid) -> dict of scalars, jit-able, called where
      `validate` is: what params alone do not tell, such as how chains mix. train has as many rows
      as valid.
    alarms: limits of metrics; a run that crosses one says so and goes on.
    at: hyper -> this phase with these float hyperparameters, which may be traced; None where they
      are constants of the program. Bound by training.hyper.bind.
  """

  name: str
  init: Callable
  estimator: Estimator
  optimizer: optax.GradientTransformation
  batch_at: Callable
  num_steps: int
  batch_size: int
  average: float = 0.0
  unroll: int = 1
  check: Callable | None = None
  monitor: Callable | None = None
  alarms: tuple[Alarm, ...] = ()
  at: Callable | None = None


class Samples(NamedTuple):
  """What a model draws.

  Attributes:
    draws: [N, Y, X], in the space of its training data: zeros and ones where the likelihood is
      Bernoulli, else real values in [0, 1].
    means: [N, Y, X], what is shown: the mean of a draw given its latent, the draw where there is
      none; in [0, 1].
  """

  draws: jax.Array | np.ndarray
  means: jax.Array | np.ndarray


def unlabelled(draw: Callable, shape) -> Callable:
  """Experiment.sample of a model without classes: draw(key, params, num) -> (draws, means) [N, V].

  The sampler raises ValueError when asked for a class.
  """
  draw = jax.jit(draw, static_argnums=2)

  def sample(key, params, num, label=None):
    if label is not None:
      raise ValueError(f'asked for class {label}, but this model was trained without classes')
    return Samples(*(x.reshape(num, *shape) for x in draw(key, params, num)))

  return sample


class Experiment(NamedTuple):
  """A model, an estimator, an optimizer and a data pipeline, composed.

  Attributes:
    dataset: name understood by gen_models.data.load.
    binarisation: 'static' | 'dynamic' | 'threshold' | 'real'; recorded with every number.
    phases: trained in order.
    evaluate: (key, params, data, report) -> dict of the final scores, JSON-able, made by
      evaluation.likelihood.score, or by its no_likelihood where the model has none. `data` is
      the Dataset, `report` a callable for progress lines.
    validate: (key, params, arrays) -> dict of scalars, jit-able, cheap; called every
      `validation_interval` steps with the validation split; None for no validation.
    headline: the metric shown while training and used to keep the best checkpoint,
      larger is better.
    pictures: (key, params, data) -> dict of name -> grid of images [rows, cols, y, x] in
      [0, 1], what the report shows besides curves.
    sample: (key, params, num, label) -> Samples, draws of the model; label is None, or a class
      to condition on (ValueError where the model has no classes). None: nothing to draw.
    steps_per_dispatch: updates compiled into one program; saves and logs fall between.
    num_validations: about how often a phase as long as the last one is validated.
    validate_every: steps between validations, a multiple of steps_per_dispatch; None for what
      num_validations makes of it, see `validation_interval`.
    protocol: one line that says what the numbers mean.
    target: a value of the headline; the seconds of training until it was first reached, without
      those of validation, are a score, `seconds_to_target`, the updates `updates_to_target`.
    hyper: name -> value of the float hyperparameters that are arguments of the compiled programs;
      of replicas, arrays over them. Bound by training.hyper.bind, like
    at: hyper -> this experiment with these.
  """

  dataset: str
  binarisation: str
  phases: tuple[Phase, ...]
  evaluate: Callable
  validate: Callable | None = None
  headline: str | None = None
  pictures: Callable | None = None
  sample: Callable | None = None
  steps_per_dispatch: int = 100
  num_validations: int = 10
  validate_every: int | None = None
  protocol: str = ''
  target: float | None = None
  hyper: dict[str, Any] = {}
  at: Callable | None = None

  @property
  def validation_interval(self) -> int:
    """Steps between validations: validate_every, or a whole number of dispatches, at least one."""
    if self.validate_every is not None:
      return self.validate_every
    between = self.phases[-1].num_steps // (self.num_validations * self.steps_per_dispatch)
    return self.steps_per_dispatch * max(1, between)

  def prefix(self, phase: Phase) -> str:
    """What the names of a phase's metrics begin with: its own where there are several, else ''."""
    return f'{phase.name}/' if len(self.phases) > 1 else ''

  @property
  def headline_metric(self) -> str | None:
    """The headline under the name that metrics.jsonl has it by, of the last phase: what counts."""
    return self.headline and self.prefix(self.phases[-1]) + self.headline
