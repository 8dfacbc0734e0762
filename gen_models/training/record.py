"""The metrics of a training phase: read one dispatch late, checked, reported and ranked.

The metrics of a dispatch are read after the next one was launched, so that the device never waits
for the host, and always before anything is saved: nothing is saved that is not known to be finite.

How several replicas are judged is a strategy: `Joint` where they share a run directory, `Separate`
where each is a run of its own.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from gen_models.experiment import Alarm, Experiment, Phase
from gen_models.training.hooks import Hooks

_NEVER = 2**31 - 1  # first_bad_step where every step was finite, see step.train_steps


class Diverged(FloatingPointError):
  """Training met a number that is not finite; nothing of it was saved."""


class Joint:
  """Replicas that share a run directory, or a single run: judged together.

  One that diverges ends all; an alarm rings for any; the best checkpoint is that of their mean.
  """

  def __init__(self, num_replicas: int, hooks: Hooks):
    del hooks
    self.num_replicas = num_replicas

  def strike(self, bad_S: np.ndarray, describe: Callable[[int], str]) -> None:
    """Raises Diverged where a replica is bad; describe: its number -> what happened to it."""
    for i in np.flatnonzero(bad_S):
      raise Diverged(describe(int(i)))

  def views(self, value_S: np.ndarray) -> Iterator[tuple[int | None, np.ndarray]]:
    """(replica, values) of whatever has one alarm of its own."""
    yield None, value_S

  def ranked(self, score_S: np.ndarray) -> np.ndarray:
    """The scores of whatever has one best checkpoint of its own."""
    return np.mean(score_S, keepdims=True)


class Separate:
  """Replicas that are runs of their own: each is struck out, alarmed and ranked for itself."""

  def __init__(self, num_replicas: int, hooks: Hooks):
    self.num_replicas = num_replicas
    self._hooks = hooks
    self._living_S = np.ones(num_replicas, bool)

  def strike(self, bad_S: np.ndarray, describe: Callable[[int], str]) -> None:
    """Strikes out the bad ones and says so; raises Diverged when none is left."""
    message = ''
    for i in np.flatnonzero(bad_S & self._living_S):
      self._living_S[i] = False
      message = describe(int(i))
      self._hooks.on_diverged(int(i), message)
    if not np.any(self._living_S):
      raise Diverged(f'all replicas have diverged, the last {message}')

  def views(self, value_S: np.ndarray) -> Iterator[tuple[int | None, np.ndarray]]:
    """(replica, its value) of those that still train."""
    for i in np.flatnonzero(self._living_S):
      yield int(i), value_S[i:i + 1]

  def ranked(self, score_S: np.ndarray) -> np.ndarray:
    """Each its own; those that were struck out are never best."""
    return np.where(self._living_S, score_S, -np.inf)


class _Dispatch(NamedTuple):
  """A dispatch whose metrics are not read yet; updates counted over all phases."""

  begin: int
  end: int
  metrics: dict[str, Any]
  scores: dict[str, Any]


class Record:
  """The metrics of one phase.

  Args:
    experiment: that is trained.
    phase: of it.
    first: updates before the phase.
    judge: Joint or Separate.
    hooks: where everything is reported.
    params: state -> its parameters where the host can read them.

  Attributes:
    scores: of the last validation that was read.
  """

  def __init__(self, experiment: Experiment, phase: Phase, first: int, judge: Joint | Separate,
               hooks: Hooks, params: Callable):
    self._experiment, self._phase, self._first = experiment, phase, first
    self._judge, self._hooks, self._params = judge, hooks, params
    self._prefix = experiment.prefix(phase)
    self._pending: _Dispatch | None = None
    self._rung: set[tuple[Alarm, int | None]] = set()
    self._best: float | np.ndarray = -np.inf
    self.scores: dict[str, np.ndarray] = {}

  def put(self, begin: int, end: int, metrics: dict, scores: dict) -> None:
    """Notes what updates begin .. end gave, to be read later."""
    self._pending = _Dispatch(begin, end, metrics, scores)

  def read(self, state) -> None:
    """Waits for what was put last, checks and reports it; state: the newest, to name a bad leaf.

    Raises:
      Diverged: it is not finite, as the judge sees it.
    """
    if self._pending is None:
      return
    done, self._pending = self._pending, None
    metrics = {k: np.asarray(v)
               for k, v in jax.device_get({**done.metrics, **done.scores}).items()}
    self._require_finite(done, metrics, state)
    self.scores = {k: metrics[k] for k in done.scores}
    self._hooks.on_metrics(done.end, {self._prefix + k: v for k, v in metrics.items()})
    for alarm in self._phase.alarms:
      if alarm.metric in metrics:
        self._ring(alarm, np.atleast_1d(metrics[alarm.metric]), done.end)

  def improved(self) -> bool:
    """Whether the headline of the last validation is the best of the phase, of any that is ranked.

    To be asked once for each validation.
    """
    unknown = np.full(self._judge.num_replicas, -np.inf)
    score = self.scores.get(self._experiment.headline or '', unknown)
    score = self._judge.ranked(np.atleast_1d(score))
    improved, self._best = bool(np.any(score > self._best)), np.fmax(score, self._best)
    return improved

  def _ring(self, alarm: Alarm, value_S: np.ndarray, step: int) -> None:
    """Reports an alarm that has not rung before, of each that is watched."""
    for replica, values in self._judge.views(value_S):
      if (alarm, replica) not in self._rung and (message := alarming(alarm, values)):
        self._rung.add((alarm, replica))
        self._hooks.on_alarm(step, self._prefix + message, replica)

  def _require_finite(self, done: _Dispatch, metrics: dict[str, np.ndarray], state) -> None:
    """Takes first_bad_step and all_finite out of the metrics and has the judge act on them."""
    bad_step = metrics.pop('first_bad_step')
    bad_S = ~np.atleast_1d(metrics.pop('all_finite'))

    def describe(i: int) -> str:
      step = int(np.atleast_1d(bad_step)[i])
      when = (f'at step {self._first + step}' if step < _NEVER
              else f'in steps {done.begin} to {done.end}')
      return divergence(metrics, when, self._params(state), i if bad_step.ndim else None)

    if np.any(bad_S):
      self._judge.strike(bad_S, describe)


def alarming(alarm: Alarm, values: np.ndarray) -> str | None:
  """The line that says that one of these values is out of range; None while none is."""
  most, least = np.max(values), np.min(values)
  if alarm.above is not None and most > alarm.above:
    return f'{alarm.metric} is {most:.3g}, above {alarm.above:g}: {alarm.advice}'
  if alarm.below is not None and least < alarm.below:
    return f'{alarm.metric} is {least:.3g}, below {alarm.below:g}: {alarm.advice}'
  return None


def divergence(metrics: dict[str, np.ndarray], when: str, params, replica: int | None) -> str:
  """The line that names what is not finite, where and since when."""
  def bad(x):
    return not np.all(np.isfinite(x if replica is None else x[replica]))

  leaves = [jax.tree_util.keystr(path) for path, x in
            jax.tree_util.tree_flatten_with_path(params)[0] if bad(x)]
  metric = [name for name, value in metrics.items() if bad(value)]
  what = ' and '.join([f'replica {replica}'] * (replica is not None)
                      + [f'parameter {x}' for x in leaves[:1]]
                      + [f'metric {x}' for x in metric[:1]])
  return (f'not finite {when}: {what or "a metric"}. Nothing after the last checkpoint was '
          'saved; try a smaller learning rate')
