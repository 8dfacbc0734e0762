"""Run directories that stand somewhere in their training, without the training."""

import json

import jax
import jax.numpy as jnp
import optax

from gen_models import data
from gen_models.training import keys, parallel, position, step as step_lib
from launch.cli import hyperparameters, registry
from launch.runs import directory as rundir


def standing(directory, experiment, step, variant=None, *, metrics=None, **changes):
  """A run that stands after `step` updates: a checkpoint that says so, of nothing trained."""
  entry = registry.load(experiment)
  values = hyperparameters.resolve(entry, variant, [f'{k}={v}' for k, v in changes.items()])
  made = entry.experiment(**values)
  config = {'experiment': experiment, 'variant': variant, 'hyperparameters': values, 'seed': 0,
            'seeds': 1}
  directory.mkdir(parents=True, exist_ok=True)
  (directory / 'config.json').write_text(json.dumps(config))
  at, previous = position.at_step(made.phases, step), None
  for index, phase in enumerate(made.phases[:at.phase + 1]):
    state = parallel.init_states(phase, keys.phase(keys.of_run(0), index),
                                 data.load(made.dataset).train, previous)
    previous = step_lib.final_params(state)
  counted = state.opt_state
  if optax.tree_utils.tree_get_all_with_path(counted, 'count'):
    counted = optax.tree_utils.tree_set(counted, count=jnp.int32(at.updates))
  state = state._replace(step=jnp.int32(at.updates), opt_state=counted)
  with rundir.open_checkpoints(directory, config, made) as checkpoints:
    checkpoints.save(step, jax.device_get(state), metrics)
  return directory
