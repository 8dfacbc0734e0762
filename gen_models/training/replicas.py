"""Replicas that train in one program and are saved as separate runs.

Each has a directory with checkpoints that `launch.train` would have written, so a replica can be
scored, drawn from or resumed as a single run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import logging

from gen_models.training import parallel
from gen_models.training.checkpoint import Checkpoints, DamagedCheckpoint


class Fan:
  """Replaces Checkpoints for the loop, and saves every replica in its own directory.

  Attributes:
    frozen: numbers of replicas that are no longer saved.
  """

  def __init__(self, children: Sequence[Checkpoints]):
    self._children = list(children)
    self.frozen = set()

  def due(self) -> bool:
    """Whether the save interval has passed."""
    return self._living()[0][1].due()

  def save(self, step: int, state, metrics: Mapping[str, Any] | None = None) -> None:
    """Starts saving row i of state and metrics in directory i."""
    for i, child in self._living():
      child.save(step, jax.tree.map(lambda x, i=i: x[i], state),
                 {name: value[i] for name, value in (metrics or {}).items()})

  def wait(self) -> None:
    """Blocks until all is on disk."""
    for child in self._children:
      child.wait()

  def _living(self):
    return [(i, child) for i, child in enumerate(self._children) if i not in self.frozen]


class Cohort(NamedTuple):
  """Replicas that stand at the same step.

  Attributes:
    members: numbers of the replicas.
    start: (state over them, step), or None at the beginning.
  """

  members: list[int]
  start: tuple[Any, int] | None

  @property
  def step(self) -> int:
    """Updates done."""
    return self.start[1] if self.start else 0


def cohorts(children: Sequence[Checkpoints], restore: Callable) -> list[Cohort]:
  """Where each replica can be resumed, those at the same step together.

  Replicas are saved at the same steps one after another, so that one killed in between leaves them
  one save apart: the newest step that all of them have is where all resume. One whose checkpoint of
  that step is damaged resumes from its own newest good one, in a cohort of its own.

  Args:
    children: checkpoints of each replica.
    restore: (checkpoints, step or None) -> (state, step) or None.
  """
  steps = [set(child.all_steps()) for child in children]
  begun = [s for s in steps if s]
  common = max(set.intersection(*begun), default=None) if begun else None
  found: dict[int, list] = {}
  for i, child in enumerate(children):
    restored = None
    if common in steps[i]:
      try:
        restored = restore(child, common)
      except DamagedCheckpoint as e:
        logging.warning('%s', e)
    if restored is None and steps[i]:
      restored = restore(child, None)
    state, step = restored or (None, 0)
    found.setdefault(step, []).append((i, state))
  return [Cohort([i for i, _ in members],
                 (parallel.stack([state for _, state in members]), step) if step else None)
          for step, members in sorted(found.items())]
