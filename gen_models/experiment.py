"""The types of an experiment: values, no behaviour.

An experiment file defines `experiment(...typed keyword hyperparameters...) -> Experiment`
and VARIANTS, a dict from the name of an ablation to the hyperparameters it changes; where there is
a PUBLISHED, it holds what the literature reports for a variant.
Floats may be traced, so a sweep over learning rates is a vmap: training/hyper.py says which.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

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


class Init(Protocol):
  """Parameters at the start of a phase."""

  def __call__(self, key: jax.Array, arrays: Any, previous_params: Any, /) -> Any:
    """A tree of arrays; previous_params are those of the phase before, None in the first."""
    ...


class BatchAt(Protocol):
  """The batch of a step, a pure function of it."""

  def __call__(self, key: jax.Array, arrays: Any, step: Any, /) -> Any:
    """The batch of this step, as the estimator sees it; the key is the same at every step."""
    ...


class Check(Protocol):
  """A look at the first batch before anything is compiled."""

  def __call__(self, params: Any, batch: Any, /) -> None:
    """Raises ValueError where the data are not what the model is of; params are shapes."""
    ...


class Monitor(Protocol):
  """Metrics that need more than the parameters, such as how well chains mix."""

  def __call__(self, key: jax.Array, params: Any, memory: Any, train: Any, valid: Any,
               /) -> dict[str, Any]:
    """Scalars, jit-able; train has as many rows as valid."""
    ...


class Inherit(Protocol):
  """The memory of an estimator that takes over what the phase before has left."""

  def __call__(self, key: jax.Array, params: Any, memory: Any, arrays: Any, previous_params: Any,
               /) -> Any:
    """The memory, of the same shapes; previous_params are None in the first phase."""
    ...


class Phase(NamedTuple):
  """One training phase; greedy layers and fine-tuning are several phases, one after another.

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
      `validate` is: what parameters do not tell by themselves, such as how chains mix. train has
      as many rows as valid.
    alarms: limits of metrics; a run that crosses one says so and continues.
    inherit: (key, params, memory, arrays, previous_params) -> memory: what the estimator remembers
      before the first update, made from what its init returned, such as chains that begin as draws
      of the phase before; None for what init returned.
    at: hyper -> this phase with these float hyperparameters, which may be traced; None where they
      are constants of the program. Bound by training.hyper.bind.
  """

  name: str
  init: Init
  estimator: Estimator
  optimizer: optax.GradientTransformation
  batch_at: BatchAt
  num_steps: int
  batch_size: int
  average: float = 0.0
  unroll: int = 1
  check: Check | None = None
  monitor: Monitor | None = None
  alarms: tuple[Alarm, ...] = ()
  at: Callable[[Any], 'Phase'] | None = None
  inherit: Inherit | None = None


class Samples(NamedTuple):
  """Draws of a model.

  Attributes:
    draws: [N, Y, X], of colour [N, Y, X, C], of other rows [N, V] or [N, L, Q]; in the space of
      its training data: zeros and ones where the likelihood is Bernoulli, else real values, in
      [0, 1] where the data are.
    means: of the same shape, what is shown: the mean of a draw given its latent, the draw where
      there is none.
  """

  draws: jax.Array | np.ndarray
  means: jax.Array | np.ndarray


class Draw(Protocol):
  """Draws of a model without classes, as vectors."""

  def __call__(self, key: jax.Array, params: Any, num: int, /) -> tuple[jax.Array, jax.Array]:
    """(draws, means), [num, V]; the key is consumed."""
    ...


class Sampler(Protocol):
  """Draws of a model, as images."""

  def __call__(self, key: jax.Array, params: Any, num: int, label: int | None, /) -> Samples:
    """`num` of them, of a class or of all (None); ValueError where the model has no classes."""
    ...


class Evaluate(Protocol):
  """The final scores of a run."""

  def __call__(self, key: jax.Array, params: Any, data: Any, report: Callable[[str], None],
               /) -> Any:
    """A score of evaluation.likelihood, `data` being the Dataset; `report` takes progress lines."""
    ...


class EvaluateThorough(Protocol):
  """The final scores of a run after all searches for what they may have missed."""

  def __call__(self, key: jax.Array, params: Any, data: Any, report: Callable[[str], None],
               chains_NV: Any, /) -> Any:
    """As Evaluate; chains_NV are states of the persistent chains of training, None without any."""
    ...


EXACT = 'the likelihood is exact'  # why there is nothing to search for


class Validate(Protocol):
  """Metrics of the validation split while training."""

  def __call__(self, key: jax.Array, params: Any, arrays: Any, /) -> dict[str, Any]:
    """Scalars, jit-able, cheap."""
    ...


class Pictures(Protocol):
  """Pictures of a report, besides its curves."""

  def __call__(self, key: jax.Array, params: Any, data: Any, /) -> dict[str, Any]:
    """Name -> grid of images [rows, cols, y, x] in [0, 1]; `data` is the Dataset."""
    ...


def unlabelled(draw: Draw, shape) -> Sampler:
  """Experiment.sample of a model without classes: draw(key, params, num) -> (draws, means) [N, V].

  The sampler raises ValueError when asked for a class.
  """
  jitted = jax.jit(draw, static_argnums=2)

  def sample(key, params, num, label=None):
    if label is not None:
      raise ValueError(f'asked for class {label}, but this model was trained without classes')
    return Samples(*(x.reshape(num, *shape) for x in jitted(key, params, num)))

  return sample


# Questions to a trained model. Each is a pure function of rows x [B, D] as the model sees them.


class See(Protocol):
  """Rows as the model sees them, such as binarised ones."""

  def __call__(self, key: jax.Array, x_BD: jax.Array, /) -> jax.Array:
    """[B, D], of rows in which 1.0 stands for the largest value of pictures; the key is consumed.

    What is missing (nan) is put back by the caller.
    """
    ...


class Features(Protocol):
  """What the model makes of a row."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /, *, layer: int | None,
               num_draws: int) -> dict[str, jax.Array]:
    """`features` [B, F] of a layer, counted from 1, or of the model's choice (None).

    Where features are random given a row, they are their means, and with num_draws > 0 there are
    also `draws` [B, K, F].
    """
    ...


class LogLikelihood(Protocol):
  """log p(x) of each row, up to `Questions.log_partition` where there is one."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /, *,
               num_samples: int) -> dict[str, jax.Array]:
    """`log_likelihood` [B] nats where it is exact; else `log_weights` [B, K] of importance samples.

    log (1/K) sum_k exp(log_weights) is low in expectation; its mean, below that, is the bound.
    """
    ...


class Reconstruction(Protocol):
  """A row through the model and back."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /) -> dict[str, jax.Array]:
    """`reconstruction` [B, D]."""
    ...


class Imputation(Protocol):
  """What is missing from a row, nan in x, given what is not."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /, *, num_draws: int,
               num_steps: int) -> dict[str, jax.Array]:
    """`mean` [B, D] and `draws` [B, K, D] of p(x | x_seen), what was seen as it was."""
    ...


class Classes(Protocol):
  """The class of a row."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /) -> dict[str, jax.Array]:
    """`probabilities` [B, Q]."""
    ...


class Mutations(Protocol):
  """Effects of every single mutation of a row of letters."""

  def __call__(self, key: jax.Array, params: Any, x_BD: jax.Array, /) -> dict[str, jax.Array]:
    """`mutations` [B, L, Q] nats, log p(with letter a in column i) - log p(as it is)."""
    ...


class ChainDraws(Protocol):
  """Draws by Markov chains, where more is asked for than `Experiment.sample` takes."""

  def __call__(self, key: jax.Array, params: Any, num: int, /, *, label: int | None,
               num_steps: int, temperature: float, start: Any) -> tuple[jax.Array, jax.Array]:
    """(draws, means), [num, D].

    Args:
      key: consumed.
      params: of the model.
      num: how many.
      label: class to draw from, or None.
      num_steps: Gibbs steps.
      temperature: T of the density p^(1/T); ValueError where the model has no such density.
      start: gibbs.Chains [num, ..] to begin with, or None for the model's own start.
    """
    ...


UNSAID = 'its experiment does not say how'
NO_LETTERS = 'its rows are not letters'


class Questions(NamedTuple):
  """What can be asked of a trained model, beside its draws.

  A question that the family cannot answer is the reason in a few words. gen_models.inference makes
  the questions of each family and asks them.

  Attributes:
    features, log_likelihood, reconstruction, imputation, classes, mutations: functions of the key,
      the parameters and rows; or why there is none.
    see: (key, x) -> rows as the model sees them.
    show: x -> rows as the data are, of reconstructions and imputed rows.
    num_layers: params -> layers whose features can be asked for.
    log_partition: params -> log Z, which `log_likelihood` leaves out, scalar, exact (ValueError
      where it cannot be enumerated); None of models whose density is normalised.
    groups: values of a row that are missing together or not at all, such as the categories of a
      one-of-Q unit: consecutive blocks of this size.
    takes_missing: the questions that take rows of which values are missing.
    chains: draws by chains of a chosen length; or why there are none.
  """

  features: Features | str = UNSAID
  log_likelihood: LogLikelihood | str = UNSAID
  reconstruction: Reconstruction | str = UNSAID
  imputation: Imputation | str = UNSAID
  classes: Classes | str = UNSAID
  mutations: Mutations | str = NO_LETTERS
  see: See = lambda key, x_BD: x_BD
  show: Callable[[jax.Array], jax.Array] = lambda x: x
  num_layers: Callable[[Any], int] = lambda params: 1
  log_partition: Callable[[Any], jax.Array] | None = None
  groups: int = 1
  takes_missing: tuple[str, ...] = ('imputation',)
  chains: ChainDraws | str = 'it is not drawn from by chains whose length could be chosen'


class Experiment(NamedTuple):
  """A model, an estimator, an optimizer and a data pipeline, composed.

  Attributes:
    dataset: name understood by gen_models.data.load.
    binarisation: 'static' | 'dynamic' | 'threshold' | 'real'; recorded with every number.
    phases: trained in order.
    evaluate: (key, params, data, report) -> dict of the final scores, JSON-able, made by
      evaluation.likelihood.score, or by its no_likelihood where the model has none. `data` is
      the Dataset, `report` a callable for progress lines.
    thorough: (key, params, data, report, chains) -> the same with more searches for what the score
      may have missed, at several times the cost; or, in a few words, why nothing is searched, such
      as EXACT; None where that is not said.
    validate: (key, params, arrays) -> dict of scalars, jit-able, cheap; called every
      `validation_interval` steps with the validation split; None for no validation.
    headline: the metric shown while training and used to keep the best checkpoint,
      larger is better.
    pictures: (key, params, data) -> dict of name -> grid of images [rows, cols, y, x] in
      [0, 1], what the report shows besides curves.
    sample: (key, params, num, label) -> Samples, draws of the model; label is None, or a class
      to condition on (ValueError where the model has no classes). None: nothing to draw.
    questions: what else the trained model can be asked, see gen_models.inference.
    steps_per_dispatch: updates compiled into one program; saves and logs fall between.
    num_validations: about how often a phase as long as the last one is validated.
    validate_every: steps between validations, a multiple of steps_per_dispatch; None for what
      num_validations makes of it, see `validation_interval`.
    protocol: one line that says what the numbers mean.
    target: a value of the headline; the seconds of training until it was first reached, without
      those of validation, are a score, `seconds_to_target`, the updates `updates_to_target`.
    check: (params, arrays) -> None, called before anything is trained with the shapes of the last
      phase's parameters and of the training split; raises ValueError where `evaluate` could not do
      its work, such as an enumeration of too many states. jax.eval_shape of what it computes will
      do. None: nothing is known of the evaluation before.
    model: the model whose functions take the parameters of the last phase: a module of
      gen_models.models, or a value made by one; of a machine that sees normalised data
      (contrastive.Normalised) the machine. None: not named.
    hyper: name -> value of the float hyperparameters that are arguments of the compiled programs;
      of replicas, arrays over them. Bound by training.hyper.bind, like
    at: hyper -> this experiment with these.
  """

  dataset: str
  binarisation: str
  phases: tuple[Phase, ...]
  evaluate: Evaluate
  thorough: EvaluateThorough | str | None = None
  validate: Validate | None = None
  headline: str | None = None
  pictures: Pictures | None = None
  sample: Sampler | None = None
  questions: Questions = Questions()
  steps_per_dispatch: int = 100
  num_validations: int = 10
  validate_every: int | None = None
  protocol: str = ''
  target: float | None = None
  check: Callable | None = None
  model: Any = None
  hyper: dict[str, Any] = {}
  at: Callable[[Any], 'Experiment'] | None = None

  @property
  def validation_interval(self) -> int:
    """Steps between validations: validate_every, or a whole number of dispatches, at least one."""
    if self.validate_every is not None:
      return self.validate_every
    between = self.phases[-1].num_steps // (self.num_validations * self.steps_per_dispatch)
    return self.steps_per_dispatch * max(1, between)

  def prefix(self, phase: Phase) -> str:
    """The prefix of a phase's metrics: the name of the phase where there are several, else ''."""
    return f'{phase.name}/' if len(self.phases) > 1 else ''

  @property
  def headline_metric(self) -> str | None:
    """The headline under the name that metrics.jsonl has it by, of the last phase: what counts."""
    return self.headline and self.prefix(self.phases[-1]) + self.headline
