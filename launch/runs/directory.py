"""A run directory: the record of a run, and all that is needed to repeat it.

config.json        experiment, variant, resolved hyperparameters, seed, seeds: what the run is; of a
                   user's file also the sha256 of its code, see `claim`; of the user's data their
                   description, data.Spec, with its sha256
environment.json   versions, device kind, git commit, command, one entry for every start
metrics.jsonl      one object a line;  tensorboard/  the same as event files
checkpoints/       see training.checkpoint
log.txt            what training printed, of every start
warnings.txt       alarms of training, one a line
failed.txt         of a replica of a sweep that was frozen: why, in one line
result.json        written by launch.evaluate
figures/           PNG files;  report.html  the page that shows them
"""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from typing import Any, cast

import jax

from gen_models import data, files
from gen_models.data.grammar import is_own
from launch.cli import flags, references, registry

FAILED = 'failed.txt'
# Of config.json: what may differ between two starts of one run, code after a word of the user's.
_NO_IDENTITY = ('variant', 'code', 'accepted_code')
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


class ForeignRun(ValueError):
  """The directory holds another run; nothing was changed."""


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Generator[Callable[[], None], None, None]:
  """Holds `workdir` for this process; released by the system however the process ends.

  Yields:
    a function that raises ForeignRun once the directory is no longer the one that is held: it was
    removed, and a run that was begun in its place holds a lock of its own.

  Raises:
    ForeignRun: another process holds it.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  with files.lock_file(workdir / '.lock') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ForeignRun(f'another process is training in {workdir}; wait for it, stop it, or use '
                       'another --workdir') from None

    def require() -> None:
      held = os.fstat(file.fileno())
      with contextlib.suppress(OSError):
        there = (workdir / '.lock').lstat()
        if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
          return
      raise ForeignRun(f'{workdir} was removed or replaced while this run trained in it: nothing '
                       'more is saved there; train again, in another --workdir')

    require()
    yield require


def configuration(entry: registry.Entry, variant: str | None, values: dict[str, Any],
                  seed: int = 0, seeds: int = 1) -> dict[str, Any]:
  """config.json of a run: what it is.

  Args:
    entry: the experiment.
    variant: name of it, or None.
    values: every hyperparameter.
    seed: of the first replica.
    seeds: number of replicas.
  """
  config = {'experiment': entry.name, 'variant': variant, 'hyperparameters': values,
            'seed': seed, 'seeds': seeds}
  if entry.estimator:
    config['estimator'] = entry.estimator
  if of_user := references.code(entry.code, values.values()):
    config['code'] = of_user
  if is_own(name := entry.experiment(**values).dataset):
    config['data'] = data.spec(name).to_json()
  return config


def described(config: dict[str, Any]) -> data.Spec | None:
  """The description of the user's data that a run is trained on; None of those of the project.

  Raises:
    ForeignRun: it does not read.
  """
  if 'data' not in config:
    return None
  try:
    return data.Spec.from_json(config['data'])
  except ValueError as e:
    raise ForeignRun(f'config.json does not describe a run of this project: {e}') from None


def remember_data(workdir: pathlib.Path) -> None:
  """Makes data of a run that was begun known, so that it resumes from any directory."""
  if (workdir / 'config.json').exists() and (known := described(read_config(workdir))):
    data.remember(known)


def claim(workdir: pathlib.Path, config: dict[str, Any], accept_code: bool = False,
          say: Callable[[str], None] = print) -> bool:
  """Makes `workdir` the directory of the run described by `config`, or finds that it is.

  Args:
    workdir: run directory.
    config: see `configuration`.
    accept_code: whether the run may resume with other code of the user than it was begun with;
      config.json then has `accepted_code`, a list of when, from which checkpoint, which code.
    say: called with what there is to know.

  Returns:
    True when the run was begun before.

  Raises:
    ForeignRun: another configuration lives there, the message names the first differences; or the
      user's code has changed.
  """
  path = workdir / 'config.json'
  if path.exists():
    _compare_code(workdir, compare(workdir, config), config, accept_code, say)
    return True
  if (workdir / 'checkpoints').exists():
    raise ForeignRun(f'{workdir} has checkpoints but no config.json: not a run of this project; '
                     'use another --workdir')
  files.write_json(path, config)
  return False


def compare(workdir: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
  """The configuration of the run in `workdir`, which is the one that `config` describes.

  Raises:
    ForeignRun: it is another one; code is not compared.
  """
  there, config = read_config(workdir), _as_recorded(config)
  differences = [f'{k} is {_show(there, k)} there, {_show(config, k)} here' for k in
                 dict.fromkeys([*_flat(there), *_flat(config)])
                 if _flat(there).get(k) != _flat(config).get(k)]
  if differences:
    more = f' (and {len(differences) - 3} more)' if len(differences) > 3 else ''
    go_on = '' if there['experiment'] != config['experiment'] else (
      f', with --from={workdir} to go on from its last checkpoint')
    made_with = 'data' if all(' of the data is ' in line for line in differences) else 'flags'
    raise ForeignRun(f'{workdir} holds another run: {"; ".join(differences[:3])}{more}. '
                     f'Use another --workdir{go_on}, or the {made_with} it was made with')
  return there


def code(config: dict[str, Any]) -> dict[str, str] | None:
  """The user's code that a run was last started with, file -> sha256; None where it is not known.

  Of an experiment of the project there is none: {}.
  """
  if 'accepted_code' in config:
    return config['accepted_code'][-1]['code']
  of_user = config['experiment'].endswith('.py') or 'estimator' in config
  return config.get('code', None if of_user else {})


def changed_code(config: dict[str, Any], now: dict[str, str]) -> list[str]:
  """Files of the user that differ from those that a run was last started with."""
  then = code(config) or {}
  return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _compare_code(workdir, there, config, accept, say) -> None:
  """Compares the user's code with that of the last start; raises ForeignRun."""
  now = config.get('code', {})
  changed = changed_code(there, now)
  if not changed:
    return
  if code(there) is None:
    say(f'note: {workdir} was begun before the code of a run was recorded: nothing is known of '
        'the code before this start')
  elif not accept:
    more = f' and {len(changed) - 2} more' if len(changed) > 2 else ''
    raise ForeignRun(
      f'{workdir} was trained with other code: {", ".join(changed[:2])}{more} changed since. '
      f'Begin a new run with its last checkpoint, --from={shlex.quote(str(workdir))} and another '
      '--workdir; or, if it is to count as the same run, resume it with --accept_code')
  accepted = {'time': _now(), 'step': _last_step(workdir), 'code': now}
  files.write_json(workdir / 'config.json', {
    **there, 'accepted_code': [*there.get('accepted_code', []), accepted]})


def _last_step(workdir: pathlib.Path) -> int:
  """Of the newest checkpoint, 0 where there is none."""
  folder = workdir / 'checkpoints'
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if (
    folder.is_dir()) else []
  return max(steps, default=0)


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """config.json of a run.

  Raises:
    ForeignRun: there is none, or it does not read.
  """
  path = pathlib.Path(workdir) / 'config.json'
  try:
    config = files.read_json(path)
  except FileNotFoundError:
    raise ForeignRun(f'{workdir} is not a run directory: it has no config.json. '
                     'Train one with python -m launch.train --workdir=...') from None
  except ValueError as e:
    raise ForeignRun(f'{path} is damaged ({e}); restore it or use another --workdir') from None
  kinds = {'experiment': str, 'variant': str | None, 'hyperparameters': dict, 'seed': int,
           'seeds': int}
  optional = {'code': dict, 'accepted_code': list, 'estimator': str, 'from': dict,
              'data': dict}
  if not isinstance(config, dict) or not all(
      isinstance(config.get(k, ()), kind) for k, kind in kinds.items()) or not (
      1 <= config['seeds'] <= flags.MAX_SEEDS) or (
      any(not isinstance(config[k], kind) for k, kind in optional.items() if k in config)) or any(
      not isinstance(c, dict) or not isinstance(c.get('code'), dict)
      for c in config.get('accepted_code', ())) or config.get('accepted_code') == []:
    raise ForeignRun(f'{path} does not describe a run of this project')
  return config


def _as_recorded(config: dict[str, Any]) -> dict[str, Any]:
  """A configuration as it is read back: JSON has no tuples."""
  return json.loads(json.dumps(config))


def _flat(config):
  """The fields that decide whether two runs are the same; a variant only names hyperparameters.

  Code is compared apart. A file with code counts by its name, wherever it lies; data of the user
  count by their content, and by what their name asks for beside the folder.
  """
  same = {k: v for k, v in config.items() if k not in ('hyperparameters', 'data', *_NO_IDENTITY)}
  if 'estimator' in same:  # the flag; a hyperparameter may have that name too
    same['--estimator'] = same.pop('estimator')
  values = config.get('hyperparameters', {})
  if 'data' in config:
    same['sha256 of the data'] = str(config['data'].get('sha256'))[:12]
    same['splits of the data'] = config['data'].get('split')
    values = {k: _without_folder(v) for k, v in values.items()}
  return {name: references.short(value) for name, value in (same | values).items()}


def _without_folder(value):
  """A name of the user's data without the folder that they are in."""
  if not isinstance(value, str) or not is_own(value) or value.startswith('tfds:'):
    return value
  scheme, _, rest = value.partition(':')
  path, mark, options = rest.partition('?')
  return f'{scheme}:{pathlib.Path(path).name}{mark}{options}'


def _show(config, name):
  return repr(_flat(config).get(name, 'absent'))


def environment() -> dict[str, Any]:
  """Where and with what this process runs."""
  versions = {'python': platform.python_version()}
  for package in (*_PACKAGES, 'gen_models'):
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = 'not installed'
  device, config = jax.devices()[0], cast(Any, jax.config)
  return {
    'time': _now(),
    'command': shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    'versions': versions, 'platform': device.platform, 'device_kind': device.device_kind,
    'num_devices': jax.device_count(), 'num_processes': jax.process_count(),
    'num_cores': os.cpu_count(), 'machine': platform.machine(),
    'matmul_precision': config.jax_default_matmul_precision,
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
    'git_commit': git_commit()}


def git_commit() -> str | None:
  """Commit of the code, with '+' when files differ from it; None outside a checkout."""
  here = pathlib.Path(__file__).parent
  try:
    def git(*args):
      return subprocess.run(['git', '-C', str(here), *args], capture_output=True, timeout=10,
                            encoding='utf-8', errors='replace', check=True).stdout.strip()
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD') + ('+' if changed else '')
  except (OSError, subprocess.SubprocessError):
    return None


def record_start(workdir: pathlib.Path) -> None:
  """Appends this process to environment.json, a list with one entry a start."""
  path = workdir / 'environment.json'
  try:
    starts = files.read_json(path)
  except (FileNotFoundError, ValueError):
    starts = []
  files.write_json(path, [*(starts if isinstance(starts, list) else []), environment()])


def other_devices(workdir: pathlib.Path) -> str | None:
  """A note for a run whose last start had other devices than this process: bits may differ.

  Call before `record_start`.
  """
  try:
    last = files.read_json(workdir / 'environment.json')[-1]
    before = last['num_devices'], last.get('num_processes', 1), last['device_kind']
  except (OSError, ValueError, LookupError, TypeError):
    return None  # no start was recorded, or not in a way to compare with
  now = jax.device_count(), jax.process_count(), jax.devices()[0].device_kind
  if now == before:
    return None
  (there, here) = (f'{kind} x {devices} in {processes} process{"es" * (processes > 1)}'
                   for devices, processes, kind in (before, now))
  return (f'note: it was last started on {there}, now on {here}: it resumes from the same state, '
          'but sums may be rounded in another order, and its bits differ from an unbroken run')


def open_checkpoints(workdir, config, experiment, **options):
  """The run's checkpoints; its identity is the configuration less the variant's name.

  Files count as config.json has them: one may have been recorded by another path. The best
  checkpoint is of the last phase: earlier phases train other models.

  Raises:
    OSError: they are to be written, and their directory cannot be.
  """
  from gen_models.training import checkpoint, position
  directory = pathlib.Path(workdir) / 'checkpoints'
  if directory.is_dir() and not options.get('read_only'):
    _require_writable(directory)
  identity = {k: v for k, v in config.items() if k not in _NO_IDENTITY}
  if (pathlib.Path(workdir) / 'config.json').exists():
    there = read_config(workdir)
    identity |= {name: there[name] for name in ('experiment', 'estimator') if name in there}
    # Files and data as they were named first; and a hyperparameter that is newer than the run.
    identity['hyperparameters'] = there['hyperparameters']
  if 'data' in identity:
    identity['data'] = identity['data']['sha256']
  before_last = position.first_step(experiment.phases, len(experiment.phases) - 1)
  return checkpoint.Checkpoints(directory, identity=identity, best_metric=experiment.headline,
                                ranked_after=before_last, **options)


def _require_writable(directory: pathlib.Path) -> None:
  """Fails now where the first save would fail after minutes of work."""
  try:
    tempfile.TemporaryFile(dir=directory).close()
  except OSError as e:
    raise OSError(e.errno, e.strerror, str(directory)) from e
