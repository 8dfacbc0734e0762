"""Checks of a run before its first update, from shapes only: nothing is computed.

Every phase, its monitor, the validation and what an experiment says of its evaluation are traced
from the shapes of the data. So labels that are missing in the third phase, an enumeration of 2^100
states at the first validation, or layers that do not fit, are errors of the first second and not of
the first hour.
"""

import contextlib
import os
import traceback

import jax

from gen_models.estimators import base
from gen_models.experiment import Experiment, Phase
from gen_models.training import step as step_lib


class Unfit(ValueError):
  """A part of an experiment cannot do its work on these data; known before anything was trained."""


def shapes(tree):
  """Shapes and dtypes of a tree of arrays."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def check(experiment: Experiment, train, valid) -> None:
  """Raises Unfit, with the part's name, where a part of the experiment would fail.

  Args:
    experiment: with its floats as they are.
    train, valid: Arrays that it will be trained and validated on, or their shapes.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  jax.eval_shape(lambda *args: trace(experiment, *args), key, shapes(train), shapes(valid))


def trace(experiment: Experiment, key, train, valid):
  """Everything that training will run, once: for jax.eval_shape. The last phase's parameters."""
  params = None
  for phase in experiment.phases:
    with _named(f'phase {phase.name}'):
      held = phase._replace(estimator=base.checked(phase.estimator))
      state = step_lib.init_state(key, held, train, params)
      _require_sizes(phase, state.params)
      state, _ = step_lib.train_step(held, state, train)
      params = step_lib.final_params(state)
    if phase.monitor:
      with _named(f'the monitor of phase {phase.name}'):
        phase.monitor(key, state.params, state.memory, train, valid)
    if experiment.validate:
      with _named(f'validation in phase {phase.name}'):
        experiment.validate(key, params, valid)
  if experiment.check:
    with _named('evaluation'):
      experiment.check(params, train)
  return params


def _require_sizes(phase: Phase, params) -> None:
  """Raises ValueError for batches and parameters of nothing."""
  if phase.batch_size < 1:
    raise ValueError(f'batch_size is {phase.batch_size}; it needs at least one image')
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if 0 in leaf.shape:
      raise ValueError(f'parameter {jax.tree_util.keystr(path)} has the shape {leaf.shape}: a '
                       'layer of size 0')


@contextlib.contextmanager
def _named(part: str):
  """Errors of values and shapes as Unfit, in one line that names the part."""
  try:
    yield
  except jax.errors.JAXTypeError:  # of a traced float, see hyper.py: no fault of the data
    raise
  except (TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as e:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    line = lines[0] if lines else type(e).__name__
    if isinstance(e, AttributeError):  # of an estimator of other parameters, say
      at = traceback.extract_tb(e.__traceback__)[-1]
      line = f'{line} ({os.path.basename(at.filename)}, line {at.lineno})'
    raise Unfit(f'{part}: {line}') from e
