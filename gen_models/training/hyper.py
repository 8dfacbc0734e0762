"""Which float hyperparameters are arguments of the compiled programs.

An experiment is a pure function of its hyperparameters, so a float need not be a constant of the
program: as an argument it can differ between the replicas of one vmap, and a run with another
learning rate finds its programs in the compilation cache. A single run is compiled in the same way
as a sweep, so that both compute the same numbers.

A float that decides what is computed (whether a moving average is kept, or a check that raises)
cannot be an argument; it is found by tracing without computing anything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.experiment import Experiment
from gen_models.training import checks

# Errors of code that needs a number and is given one without a value: jax's are TypeErrors. An
# error that does not come from the tracer comes again without it, see `traceable`.
_OF_A_TRACER = (TypeError, ValueError, AttributeError, IndexError)


def bind(build: Callable[..., Experiment], values: Mapping[str, Any], train, valid,
         names: Sequence[str] | None = None) -> Experiment:
  """The experiment of these hyperparameters, its floats as arguments of its programs.

  Args:
    build: (**hyperparameters) -> Experiment.
    values: every hyperparameter; of replicas, floats are arrays [R] over them.
    train, valid: Arrays that it will be trained and validated on, or their shapes.
    names: the floats that are arguments; default `traceable`.

  Returns:
    build(**values) with `hyper` and `at` filled in, in the experiment and in each of its phases.
    With replicas, the constant parts (steps, pictures, scores) are those of the first one.
  """
  first = {k: float(v[0]) if isinstance(v, np.ndarray) else v for k, v in values.items()}
  if names is None:
    names = traceable(build, first, train, valid)
  if constant := [k for k, v in values.items() if isinstance(v, np.ndarray) and k not in names]:
    raise ValueError(f'{constant[0]} decides what is computed: replicas cannot differ in it')
  base = build(**first)
  if not names:
    return base

  def at(hyper) -> Experiment:
    return build(**{**first, **hyper})

  phases = tuple(phase._replace(at=lambda hyper, i=i: at(hyper).phases[i])
                 for i, phase in enumerate(base.phases))
  return base._replace(phases=phases, at=at, hyper={k: values[k] for k in names})


def traceable(build: Callable[..., Experiment], values: Mapping[str, Any], train,
              valid) -> list[str]:
  """Names of the floats among `values` that no program's structure depends on.

  Whoever trains asks for these first, so this is where the experiment is checked as a whole.

  Raises:
    Unfit: the experiment could not be trained or validated on data of these shapes.
  """
  experiment = build(**values)
  floats = [name for name, value in values.items() if isinstance(value, float)]
  if floats and _traces(build, values, floats, train, valid):
    return floats
  # Errors of the experiment itself are raised here, so that they are not misread below.
  checks.check(experiment, train, valid)
  found = []
  for name in floats:
    if _traces(build, values, [*found, name], train, valid):
      found.append(name)
  return found


def _traces(build, values, names, train, valid) -> bool:
  """Whether all programs of the experiment can be traced with these as arguments."""
  def everything(hyper, *args):
    return checks.trace(build(**{**values, **hyper}), *args)

  hyper = {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
  key = jax.eval_shape(lambda: jax.random.key(0))
  try:
    jax.eval_shape(everything, hyper, key, checks.shapes(train), checks.shapes(valid))
  except _OF_A_TRACER:
    return False
  return True
