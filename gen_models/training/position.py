"""The position of a run, and the state that belongs there.

A position is a training phase and the number of updates done in it. The number of a checkpoint is
the same counted over all phases; the state has the updates done in the phase, and so do the
optimizer's counts. Where training begins, all of them are compared.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gen_models.experiment import Experiment, Phase
from gen_models.training import parallel, step as step_lib


class Misplaced(ValueError):
  """A state does not belong to the position at which the run claims to be."""


class Position(NamedTuple):
  """Between two updates of a run.

  Attributes:
    phase: index of the phase.
    updates: done in it; all of them, not 0 of the next phase, where one has just ended: the state
      is still that phase's.
  """

  phase: int = 0
  updates: int = 0


def first_step(phases: Sequence[Phase], index: int) -> int:
  """Updates of all phases before this one."""
  return sum(phase.num_steps for phase in phases[:index])


def at_step(phases: Sequence[Phase], step: int) -> Position:
  """The position after `step` updates, counted over all phases.

  Raises:
    Misplaced: the phases have fewer.
  """
  first = 0
  for index, phase in enumerate(phases):
    if step <= first + phase.num_steps:
      return Position(index, step - first)
    first += phase.num_steps
  raise Misplaced(f'a checkpoint of step {step}, but the experiment has only {first} steps')


def require(position: Position, phases: Sequence[Phase], state) -> None:
  """Raises Misplaced unless state and optimizer have made as many updates as the position says.

  An optimizer may count fewer, as that of a player does that moves only at its turns, but never
  more.
  """
  phase = phases[position.phase]
  found = np.unique(np.asarray(state.step))
  if len(found) > 1 or found[0] != position.updates:
    raise Misplaced(
      f'the state has made {" and ".join(map(str, found))} updates of its phase, but the run '
      f'stands after {position.updates} of {phase.num_steps} updates of phase {phase.name}')
  for path, count in optax.tree_utils.tree_get_all_with_path(state.opt_state, 'count'):
    if np.max(np.asarray(count)) > position.updates:
      raise Misplaced(
        f'the optimizer has counted {np.max(np.asarray(count))} updates '
        f'({jax.tree_util.keystr(path)}), but the run stands after {position.updates} of '
        f'phase {phase.name}')


def require_aligned(position: Position, there: Sequence[Phase], here: Sequence[Phase]) -> None:
  """Raises Misplaced unless a position in the phases `there` is the same one in those `here`.

  The phases before it must have the same names and lengths; the one at hand must be long enough.
  """
  for old, new in zip(there[:position.phase], here, strict=False):
    if (old.name, old.num_steps) != (new.name, new.num_steps):
      raise Misplaced(f'phase {old.name} had {old.num_steps} updates there and is over; here phase '
                      f'{new.name} has {new.num_steps}')
  at = there[position.phase]
  if position.phase >= len(here) or here[position.phase].name != at.name:
    raise Misplaced(f'it stands in phase {at.name}, and this run has another or none in its place')
  if position.updates > here[position.phase].num_steps:
    raise Misplaced(f'it has made {position.updates} updates of phase {at.name}, and this run asks '
                    f'for {here[position.phase].num_steps}')


def abstract_state(experiment: Experiment, step: int, keys, arrays):
  """Shapes and dtypes of the state saved after `step` updates, counted over all phases."""
  state: Any = None
  previous = None
  for phase in experiment.phases[:at_step(experiment.phases, step).phase + 1]:
    state = jax.eval_shape(
      lambda keys, arrays, previous, phase=phase: parallel.init_states(
        phase, keys, arrays, previous), keys, arrays, previous)
    previous = step_lib.final_params(state)
  return state


def restore(experiment: Experiment, checkpoints, keys, arrays, step: int | None = None):
  """(state, step) of the newest good checkpoint, or None where there is none.

  Args:
    experiment: of the run.
    checkpoints: training.checkpoint.Checkpoints.
    keys: the run's key, or its replicas' [S].
    arrays: Arrays of the training split.
    step: of this step and no other.

  Raises:
    Misplaced: the experiment has fewer steps; and whatever Checkpoints.restore raises.
  """
  return checkpoints.restore(lambda step: abstract_state(experiment, step, keys, arrays), step)
