"""Training from a script or a notebook, by the loop of launch.train: `gm.fit`."""

import contextlib
import operator
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import numpy as np

from gen_models import data as data_lib
from gen_models.data import Dataset
from gen_models.experiment import Experiment
from gen_models.training import checks, keys, loop, metrics, position
from gen_models.training.record import Diverged
from launch import errors
from launch.cli import flags, given, hyperparameters as hyper_lib, jax_setup, references, registry
from launch.errors import UsageError
from launch.runs import directory as rundir, training, warm_start
from launch.runs.load import Run


@errors.in_python()
def fit(experiment: Any, data: Dataset | str | None = None, *,
        workdir: str | os.PathLike | None = None, variant: str | None = None,
        seed: int | Sequence[int] = 0, start: str | os.PathLike | Run | None = None,
        save_every_minutes: float = 5.0, progress: bool = True, stream: bool = False,
        data_dir: str | os.PathLike | None = None, accept_code: bool = False,
        **hyperparameters: Any) -> Run:
  """Trains an experiment: the loop, the numbers and the run directory of launch.train.

  With workdir the run is saved while it trains and the same call resumes it, as does the command;
  without, it is trained in memory. Ctrl-C, or a notebook's "interrupt", ends it after the dispatch
  at hand: the run is saved and returned as it is then.

  Args:
    experiment: a name such as 'vae', the path of a file, the function `experiment` of one, or an
      Experiment, which is trained in memory only: a run directory names what can be built again.
    data: what to train on: a data set, of arrays by gm.data.from_arrays, or its name, which then
      becomes the hyperparameter `dataset` where the experiment has one; default: its own.
    workdir: run directory, made or resumed.
    variant: of the experiment.
    seed: of the run; several are trained side by side as replicas, consecutive ones with workdir.
    start: a run, or its directory, whose last state a new one of the same shapes begins with, as
      `--from` of launch.train.
    save_every_minutes: time between checkpoints.
    progress: whether it is shown.
    stream: read batches from disk instead of keeping the data on the device.
    data_dir: of prepared data.
    accept_code: resume although a file of the user's has changed, see runs/directory.py.
    **hyperparameters: of the experiment.

  Returns:
    Run; `done` says whether all updates were made.

  Raises:
    UsageError: something that was given does not exist or does not go together.
    ForeignRun: workdir holds another run, or another process trains there.
    Unfit: the experiment cannot be trained on these data.
    Diverged: a metric or parameter is not finite; what was saved before is as it was.
    MissingData, DamagedCheckpoint, SaveFailed: see their modules.
  """
  given.require_outside_of_files()
  if not save_every_minutes >= 0:
    raise UsageError(f'save_every_minutes={save_every_minutes}: give minutes, 0 for every dispatch')
  seeds, begin = _seeds(seed, workdir), _beginning(start)
  with jax_setup.numerics():
    if jax.process_count() > 1:
      raise UsageError('gm.fit trains in one process; python -m launch.train trains in several')
    data = data_lib.load(data, data_dir) if isinstance(data, str) else data
    if data is not None and not isinstance(data, Dataset):
      raise UsageError(f'data of type {type(data).__name__}: give a name, or the data set that '
                       'gm.data.from_arrays makes of arrays')
    if workdir is not None:
      errors.require_no_file(workdir)
      rundir.remember_data(pathlib.Path(workdir).expanduser())
    if isinstance(experiment, Experiment):
      return _fit_value(experiment, data, seeds, workdir or variant or hyperparameters, begin,
                        progress, data_dir)
    entry = given.entry(experiment, recorded=workdir is not None)
    values = _values(entry, variant, hyperparameters, data)
    if workdir is not None:
      _require_files(values)
    config = rundir.configuration(entry, variant, values, seeds[0], len(seeds))
    _require_named(entry.experiment(**values), data, workdir, data_dir)
    built, dataset = training.prepare(entry, config, data_dir, data,
                                      limit=training.HEAD if stream else None)
    source = data_lib.source(built.dataset, data_dir) if stream else None
    if workdir is None:
      return _in_memory(built, dataset, seeds, config, begin, progress, source,
                        code=config.get('code', {}))
    return _in_directory(pathlib.Path(workdir).expanduser(), built, dataset, entry, config, begin,
                         progress, source, save_every_minutes, accept_code)


def _beginning(start: str | os.PathLike | Run | None) -> pathlib.Path | Run | None:
  """The directory of the run to begin with; of one in memory the run."""
  if isinstance(start, Run):
    return start.workdir or start
  return None if start is None else pathlib.Path(start).expanduser()


def _seeds(seed: int | Sequence[int], workdir) -> tuple[int, ...]:
  """The seeds, which are different and, in a run directory, consecutive."""
  try:
    seeds = tuple(map(operator.index, np.atleast_1d(np.asarray(seed)).tolist()))
  except (TypeError, ValueError):
    raise UsageError(f'seed={seed!r}: give a whole number, or several') from None
  if not seeds or len(set(seeds)) < len(seeds) or len(seeds) > flags.MAX_SEEDS:
    raise UsageError(f'seed={seed!r}: give one or several, each once')
  if not all(0 <= one <= flags.MAX_SEED for one in seeds):
    raise UsageError(f'seed={seed!r}: seeds are 0 to {flags.MAX_SEED}')
  if workdir is not None and seeds != tuple(range(seeds[0], seeds[0] + len(seeds))):
    raise UsageError(f'seed={seed!r}: in a run directory seeds follow each other, as those of '
                     'launch.train --seeds do; give each of these a workdir of its own, or none')
  return seeds


def _values(entry: registry.Entry, variant: str | None, hyperparameters: dict[str, Any],
            data: Dataset | None) -> dict[str, Any]:
  """Every hyperparameter; the data name `dataset` where it is one and is not given."""
  if data is not None and 'dataset' in hyper_lib.of(entry):
    if hyperparameters.get('dataset', data.name) != data.name:
      raise UsageError(f'dataset={hyperparameters["dataset"]!r}, and the data given are '
                       f'{data.name}: give one of them')
    hyperparameters = {**hyperparameters, 'dataset': data.name}
  return hyper_lib.resolve(entry, variant, hyperparameters)


def _require_files(values: dict[str, Any]) -> None:
  """Raises UsageError for an object of the user's that a run directory could not name."""
  for name, value in values.items():
    if isinstance(value, references.Reference) and value.file is None:
      raise UsageError(f"{name} is an object of Python, and a run directory names what it was made "
                       f"with: save it in a file and give {name}='mine.py:name', or train without "
                       'workdir=')


def _require_named(experiment: Experiment, data: Dataset | None, workdir, data_dir) -> None:
  """Raises UsageError where a run directory would name other data than it is trained on."""
  if data is None or workdir is None:
    return
  if experiment.dataset != data.name or not _same(
      data_lib.load(experiment.dataset, data_dir), data):
    raise UsageError(
      f'a run directory names its data, but gm.data.load({experiment.dataset!r}) gives other data '
      'than these: give them a name with gm.data.from_arrays, or train without workdir=')


def _same(there: Dataset, here: Dataset) -> bool:
  """Whether two data sets have the same rows, labels and weights, missing values among them."""
  (x, structure), (y, other) = (
    jax.tree.flatten((d.train, d.valid, d.test)) for d in (there, here))
  return structure == other and all(
    np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == 'f') for a, b in zip(x, y))


def _fit_value(experiment: Experiment, data: Dataset | None, seeds: tuple[int, ...], too_much,
               start: pathlib.Path | Run | None, progress: bool, data_dir) -> Run:
  """Trains an Experiment, whose hyperparameters are constants of its programs."""
  if too_much:
    raise UsageError('an Experiment has its hyperparameters and no name: give gm.fit the function '
                     'that makes it, or the path of its file, for workdir=, variant= and '
                     'hyperparameters')
  dataset = data or data_lib.load(experiment.dataset, data_dir)
  checks.check(experiment, dataset.train, dataset.valid)
  config = {'experiment': 'an Experiment', 'variant': None, 'hyperparameters': {},
            'seed': seeds[0], 'seeds': len(seeds)}
  return _in_memory(experiment, dataset, seeds, config, start, progress)


def _in_memory(experiment: Experiment, dataset: Dataset, seeds: tuple[int, ...],
               config: dict[str, Any], start: pathlib.Path | Run | None, progress: bool,
               stream=None,
               code: dict[str, str] | None = None) -> Run:
  key = keys.of_seeds(seeds) if len(seeds) > 1 else keys.of_run(seeds[0])
  state = _state_of(start, experiment, dataset, config)
  lines: list[dict[str, Any]] = []

  def write(step, values):
    lines.append({'step': step, 'time': time.time(),
                  **{name: np.asarray(value).tolist() for name, value in values.items()}})

  with (_interrupts() as should_stop,
        training.shown(experiment, write, lambda line: None, show=progress) as hooks):
    result = loop.fit(experiment, dataset.train, dataset.valid, key, start=state, stream=stream,
                      hooks=hooks._replace(should_stop=should_stop))
  _say_whether_stopped(result, 'start= with this run continues it')
  return Run(config, experiment, result.state._replace(hyper=()), result.step, code=code,
             dataset=dataset, history=metrics.series(lines), seeds=seeds)


def _state_of(start: pathlib.Path | Run | None, experiment: Experiment, dataset: Dataset,
              config: dict[str, Any]):
  """(state, step) of `start`, in memory or in a directory; None where there is none."""
  if start is None:
    return None
  if isinstance(start, pathlib.Path):
    return warm_start.last(start, config, experiment, dataset.train)
  try:
    position.require_aligned(position.at_step(start.experiment.phases, start.step),
                             start.experiment.phases, experiment.phases)
  except position.Misplaced as e:
    raise UsageError(f'cannot begin with {start!r}: {e}') from None
  return start.state, start.step


def _in_directory(workdir: pathlib.Path, experiment: Experiment, dataset: Dataset,
                  entry: registry.Entry, config: dict[str, Any],
                  start: pathlib.Path | Run | None, progress: bool, stream,
                  save_every_minutes: float, accept_code: bool) -> Run:
  """As launch.train does, but for what a command prints."""
  if isinstance(start, Run):
    raise UsageError('a run directory records the directory of the run that it began with, and '
                     'start= is a run in memory: train that one with workdir=, or this one without')
  key = keys.of_run(config['seed'], config['seeds'])
  with rundir.lock(workdir) as require:
    if start is not None:
      config['from'] = warm_start.find(start, workdir, config, experiment, dataset.train)
    begun = rundir.claim(workdir, config, accept_code, _say)
    remark = rundir.other_devices(workdir) if begun else None
    rundir.record_start(workdir)
    for line in () if begun else dataset.remarks:
      _say(f'note: {line}')
    with rundir.open_checkpoints(workdir, config, experiment, require=require,
                                 save_interval_minutes=save_every_minutes) as checkpoints:
      state = training.start(experiment, dataset.train, key, config, checkpoints)
      step = state[1] if state else 0
      if begun or state:
        _say(f'resuming {workdir} at step {step}')
        if remark and step:
          _say(remark)
      with (_interrupts() as should_stop,
            training.reporting(experiment, config, workdir, step, show=progress) as hooks):
        try:
          result = loop.fit(experiment, dataset.train, dataset.valid, key, start=state,
                            stream=stream, checkpoints=checkpoints,
                            hooks=hooks._replace(should_stop=should_stop))
        except Diverged as e:
          checkpoints.wait()  # what it offers may be under way
          raise Diverged(f'{e}, from the last checkpoint: {_offer(workdir, config)}') from e
  _say_whether_stopped(result, 'the same call resumes from there')
  return Run(rundir.read_config(workdir), experiment, result.state._replace(hyper=()), result.step,
             code=config.get('code', {}), workdir=workdir.absolute(), dataset=dataset)


def _offer(workdir: pathlib.Path, config: dict[str, Any]) -> str:
  """The call that continues with a smaller learning rate."""
  rate = config['hyperparameters'].get('learning_rate')
  if not isinstance(rate, float):
    return f'gm.fit(..., start={str(workdir)!r}, workdir=...)'
  return (f'gm.fit(..., learning_rate={float(f"{rate / 10:.3g}"):g}, start={str(workdir)!r}, '
          f'workdir={f"{workdir}-lr{rate / 10:.3g}"!r})')


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _say_whether_stopped(result: loop.Result, remedy: str) -> None:
  if not result.done:
    _say(f'stopped at step {result.step}; {remedy}')


@contextlib.contextmanager
def _interrupts() -> Generator[Callable[[], bool], None, None]:
  """Whether SIGINT or SIGTERM has asked to stop; a second SIGINT insists.

  A SIGTERM is handed on once everything is saved. Python has signals in its main thread only.
  """
  if threading.current_thread() is not threading.main_thread():
    yield lambda: False
    return
  asked: list[int] = []

  def ask(number, frame):
    del frame
    if signal.SIGINT in asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    asked.append(number)

  before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in before.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
  if signal.SIGTERM in asked:
    signal.raise_signal(signal.SIGTERM)
