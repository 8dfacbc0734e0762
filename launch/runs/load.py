"""Runs read back from their directories."""

import os
import pathlib
import sys
from collections.abc import Sequence

import jax

from launch import errors
from launch.cli import hyperparameters, jax_setup, registry
from launch.runs import directory as rundir


class Run:
  """A run read back: its configuration, experiment, data and parameters.

  `code` is that of the user which read it, file -> sha256.
  """

  def __init__(self, config, code, experiment, dataset, params, step):
    self.config, self.code, self.experiment = config, code, experiment
    self.dataset, self.params, self.step = dataset, params, step

  def params_of(self, replica: int):
    """Parameters of one seed."""
    if self.config['seeds'] == 1:
      return self.params
    return jax.tree.map(lambda x: x[replica], self.params)


def run(workdir: str | os.PathLike, which: str = 'last', data_dir: str | None = None,
        overrides: Sequence[str] = ()) -> Run:
  """Reads a run; raises ForeignRun, ForeignCheckpoint, DamagedCheckpoint or FileNotFoundError.

  And UsageError where its config.json names code that is not known as the user's, `overrides`,
  name=value words, set anything but how the run is scored, or `which` is 'best' and there is none.
  """
  workdir = pathlib.Path(workdir)
  config, path = rundir.read_config(workdir), workdir / 'config.json'
  entry = registry.load_recorded(config['experiment'], path, config.get('estimator'))
  if rundir.code(config) is not None and (changed := rundir.changed_code(config, entry.code)):
    print(f'note: {", ".join(changed)} changed since {workdir} was trained; it is read with the '
          'code as it is now', file=sys.stderr)
  values = hyperparameters.rescored(
    entry, hyperparameters.recorded_values(entry, config['hyperparameters'], path), overrides)
  experiment = entry.experiment(**values)
  jax_setup.setup()
  from gen_models import data
  from gen_models.training import keys, position, step as step_lib
  dataset = data.load(experiment.dataset, data_dir)
  with rundir.open_checkpoints(workdir, config, experiment, read_only=True) as checkpoints:
    step = _best_step(workdir, experiment, checkpoints) if which == 'best' else None
    restored = position.restore(experiment, checkpoints,
                                keys.of_run(config['seed'], config['seeds']), dataset.train, step)
  if restored is None:
    raise FileNotFoundError(f'{workdir} has no checkpoint yet; train first with the same --workdir')
  state, step = restored
  return Run({**config, 'hyperparameters': values}, entry.code, experiment, dataset,
             step_lib.final_params(state), step)


def _best_step(workdir: pathlib.Path, experiment, checkpoints) -> int:
  """The step of the last phase with the best headline."""
  if experiment.headline is None:
    raise errors.UsageError(f'{workdir}: the experiment has no headline metric by which a '
                            'checkpoint could be the best: use --checkpoint=last')
  step = checkpoints.best_step()
  if step is None:
    raise errors.UsageError(f'{workdir} has no checkpoint with {experiment.headline_metric} yet: '
                            'train on, or use --checkpoint=last')
  return step
