"""A run that begins with the last checkpoint of another one, and how to offer that.

`launch.train --from=OLD` takes the whole state of OLD's last good checkpoint (parameters,
optimizer, the estimator's memory, averages, key) and continues from its step with the
hyperparameters of the new run. The phases before the one that OLD stands in must be as long as they
were, and something must be left to do: so what config.json says of the new run is true of all its
updates from there on. A longer last phase has the schedules of its new length.

config.json has `from`: the directory, the step, the sha256 of the checkpoint's manifest and the
seconds of training behind it; so what the run began with is part of what it is. The state becomes
the first checkpoint of the new run: once it is written, OLD may be deleted.
"""

import pathlib
import re
import shlex
from typing import Any

from launch import errors
from launch.cli import hyperparameters, registry
from launch.runs import directory as rundir


def find(old: pathlib.Path, workdir: pathlib.Path, config: dict[str, Any], experiment,
         train) -> dict[str, Any]:
  """`from` of a configuration: as recorded in workdir if it was begun, else OLD's last checkpoint.

  Args:
    old: run directory to begin from.
    workdir: of the new run.
    config: of the new run.
    experiment: of the new run.
    train: Arrays of its training split.

  Raises:
    UsageError: OLD has no checkpoint, one of other shapes or seeds, one that is not a position in
      the phases of the new run, or one after which nothing is left to do.
  """
  directory = str(old.absolute())
  if (workdir / 'config.json').exists():
    recorded = rundir.read_config(workdir).get('from')
    if recorded and recorded.get('directory') == directory:
      return recorded
  from gen_models.training import metrics
  _, step, sha256 = _last(old, config, experiment, train)
  return {'directory': directory, 'step': step, 'sha256': sha256,
          'seconds': metrics.spent(old / 'metrics.jsonl', step)}


def last(old: pathlib.Path, config: dict[str, Any], experiment, train):
  """(state, step) of OLD's last checkpoint, for a run in memory; raises as `find`."""
  return _last(old, config, experiment, train)[:2]


def _last(old, config, experiment, train):
  """(state, step, sha256) of OLD's last checkpoint, after which something is left to do."""
  from gen_models.training import position
  there = rundir.read_config(old)
  if differing := [k for k in ('seed', 'seeds') if there[k] != config[k]]:
    name = differing[0]
    raise errors.UsageError(f'--from={old} has {name} {there[name]}: its random numbers are '
                            f'continued, so give --{name}={there[name]}')
  phases = experiment.phases
  found = _restore(old, config, experiment, train, phases_there=_phases_of(old, there))
  if found[1] == (total := position.first_step(phases, len(phases))):
    raise errors.UsageError(f'--from={old} has made all {total} updates that this run asks for: '
                            'nothing is left to do; ask for more updates'
                            + (f' of phase {phases[-1].name}' if len(phases) > 1 else ''))
  return found


def begin(config: dict[str, Any], experiment, train, checkpoints):
  """(state, step) of a run with `from`, saved as its first checkpoint.

  Raises:
    UsageError: the checkpoint it began from is gone, or is not the one recorded.
  """
  from gen_models.training import parallel
  origin = config['from']
  old = pathlib.Path(origin['directory'])
  state, step, sha256 = _restore(old, config, experiment, train, origin['step'])
  if sha256 != origin['sha256']:
    raise errors.UsageError(f'checkpoint {step} of {old} is not the one this run was begun '
                            'from; begin again in another --workdir')
  checkpoints.save(step, parallel.put_everywhere(state))
  checkpoints.wait()
  return state, step


def _phases_of(old, there):
  """The phases of the run in `old`; None where its code is not at hand, or not known."""
  path = old / 'config.json'
  try:
    entry = registry.load_recorded(there['experiment'], path)
    return entry.experiment(
      **hyperparameters.recorded_values(entry, there['hyperparameters'], path)).phases
  except errors.UsageError:
    return None


def _restore(old, config, experiment, train, step=None, phases_there=None):
  """(state, step, sha256) of a checkpoint of `old`, in the shapes and phases of the new run."""
  from gen_models.training import checkpoint, keys, position
  key, phases = keys.of_run(config['seed'], config['seeds']), experiment.phases

  def example(step):
    if phases_there:
      position.require_aligned(position.at_step(phases_there, step), phases_there, phases)
    return position.abstract_state(experiment, step, key, train)

  try:
    with rundir.open_checkpoints(old, rundir.read_config(old), experiment,
                                 read_only=True) as checkpoints:
      found = checkpoints.restore(example, step)
      if found is None:
        raise errors.UsageError(f'--from={old} has no checkpoint yet')
      state, step = found
      position.require(position.at_step(phases, step), phases, state)
      return state, step, checkpoints.fingerprint(step)
  except (checkpoint.ForeignCheckpoint, FileNotFoundError) as e:
    raise errors.UsageError(f'cannot begin --from={old}: {e}') from e
  except position.Misplaced as e:
    raise errors.UsageError(f'cannot begin --from={old}: {e}; keep the numbers of updates of the '
                            'phases as they were there, or train without --from') from e


def offer(config: dict[str, Any], workdir: pathlib.Path, module_flags) -> str:
  """The command that continues from the last checkpoint with a smaller learning rate.

  Args:
    config: of the run that diverged.
    workdir: of that run.
    module_flags: flags of launch.train.
  """
  values = config['hyperparameters']
  rates = [name for name in values if 'rate' in name]
  if not isinstance(values.get('learning_rate'), float):
    which = f'; it has {", ".join(rates)}' if rates else ''
    return (f'to continue with smaller steps, lower what sets them by --set in another --workdir, '
            f'--from={shlex.quote(str(workdir))}{which}')
  rate = float(f'{values["learning_rate"] / 10:.3g}')
  other = re.sub(r'-lr[^/]*$', '', str(workdir)) + f'-lr{rate:g}'
  words = ['python', '-m', 'launch.train']
  words += [flag.serialize() for flag in module_flags
            if flag.present and flag.name not in ('workdir', 'from', 'set')]
  words += [f'--set={s}' for flag in module_flags if flag.name == 'set' for s in flag.value
            if not s.startswith('learning_rate=')]
  words.append(f'--set=learning_rate={rate:g}')
  if _has_checkpoint(workdir):
    words.append(f'--from={workdir}')
  return shlex.join([*words, f'--workdir={other}'])


def _has_checkpoint(workdir: pathlib.Path) -> bool:
  """Whether a step was saved whole."""
  folder = workdir / 'checkpoints'
  return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())
