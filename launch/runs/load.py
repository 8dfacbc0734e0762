"""Runs read back from their directories, without the data that they were trained on."""

import functools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gen_models import data, devices, indices
from gen_models.data import Dataset
from gen_models.experiment import Experiment, Samples
from gen_models.training import keys, metrics as metrics_lib, position, step as step_lib
from gen_models.training.metrics import Series
from launch import errors
from launch.cli import given, hyperparameters, jax_setup, references, registry
from launch.runs import directory as rundir


class Run:
  """A trained run, as `gm.fit` and `gm.load` return it.

  Attributes:
    params: what is scored: the moving average where one is kept, else the last parameters; of
      several seeds with a leading axis over them, see `params_of`.
    model: the model whose functions take the parameters, see Experiment.model.
    experiment: as it was trained.
    step: updates made, over all training phases.
    done: whether those are all that the experiment asks for.
    state: everything that a resumed run needs, training.TrainState.
    config: what the run is, the content of config.json.
    code: of the user's files that it was built with, file -> sha256.
    seeds: of its replicas, one or several.
    workdir: the run directory; None of a run in memory.
  """

  def __init__(self, config: dict[str, Any], experiment: Experiment, state, step: int, *,
               code: dict[str, str] | None = None, workdir: pathlib.Path | None = None,
               dataset: Dataset | None = None, data_dir: str | os.PathLike | None = None,
               history: Mapping[str, Series] | None = None, seeds: Sequence[int] | None = None):
    self.config, self.experiment, self.state, self.step = config, experiment, state, step
    self.code, self.workdir = code or {}, workdir
    self.params = step_lib.final_params(state)
    self.seeds = tuple(seeds or range(config['seed'], config['seed'] + config['seeds']))
    self._dataset, self._data_dir, self._history = dataset, data_dir, history

  def __repr__(self) -> str:
    where = f' in {self.workdir}' if self.workdir else ''
    return f'<run of {self.config["experiment"]}{where} after {self.step} updates>'

  @property
  def model(self) -> Any:
    """The model whose functions take the parameters."""
    return self.experiment.model

  @property
  def done(self) -> bool:
    """Whether all updates of all training phases were made."""
    return self.step == sum(phase.num_steps for phase in self.experiment.phases)

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The data that it was trained on, read when they are first asked for.

    Raises:
      MissingData: they are not here; of own data FileNotFoundError.
      BadData: they have changed since.
    """
    if self._dataset is not None:
      return self._dataset
    known = rundir.described(self.config)
    return (data.load(self.experiment.dataset, self._data_dir) if known is None
            else data.load_described(known, self._data_dir))

  @functools.cached_property
  def spec(self) -> data.Spec:
    """The description of the data, known without reading them."""
    return rundir.described(self.config) or data.spec(self.experiment.dataset)

  def params_of(self, replica: int) -> Any:
    """Parameters of one seed, counted from 0; raises ValueError where there are fewer."""
    indices.check('replica', replica, len(self.seeds), 'seeds in this run')
    if len(self.seeds) == 1:
      return self.params
    return jax.tree.map(lambda x: x[replica], self.params)

  def memory_of(self, replica: int) -> Any:
    """The memory of the estimator of one seed, with its chains; estimators.base.Memory."""
    indices.check('replica', replica, self.config['seeds'], 'seeds in this run')
    if self.config['seeds'] == 1:
      return self.state.memory
    return jax.tree.map(lambda x: x[replica], self.state.memory)

  def metrics(self) -> dict[str, Series]:
    """Metric -> its steps [N] and values [N], or [N, S] over seeds, of the whole training."""
    if self.workdir is None:
      return dict(self._history or {})
    return metrics_lib.history(self.workdir / 'metrics.jsonl')

  def sample(self, key: jax.Array, num: int, label: int | None = None, *,
             replica: int = 0) -> Samples:
    """Draws of the model, p(x) or p(x | label), as images in [0, 1].

    Args:
      key: of the draws.
      num: how many.
      label: a class to draw from, of a model with classes.
      replica: which of several seeds.

    Raises:
      UsageError: the experiment trains no model that draws.
      ValueError: the model has no such class, or none at all; there is no such replica.
    """
    if num < 1:
      raise errors.UsageError(f'num={num}: draw at least 1')
    if not hasattr(key, 'dtype'):
      raise errors.UsageError(f'key={key!r}: give jax.random.key({key!r})'
                              if isinstance(key, int) else 'key: give one of jax.random.key')
    if self.experiment.sample is None:
      raise errors.UsageError(f'{self.config["experiment"]} trains no model that can be drawn from')
    with jax_setup.numerics(), devices.all_local():
      params = devices.everywhere(self.params_of(replica))
      return Samples(*map(np.asarray, self.experiment.sample(key, params, num, label)))

  @errors.in_python()
  def ask(self, what: str, rows: Any, **options: Any) -> dict[str, np.ndarray]:
    """The answers of the model about rows, as launch.apply gives them.

    Args:
      what: 'features', 'log_likelihood', 'reconstruction', 'imputation' or 'classes'.
      rows: array [N, ..] of rows as the data have them; nan is missing.
      **options: see answers.answer, such as seed, replica, layer, num_draws.

    Raises:
      UsageError: the model cannot answer this about these rows; the message says why.
    """
    from launch.runs import answers  # imports what reading a run has no use for
    return answers.answer(self, what, rows, **options)

  def features(self, rows: Any, **options: Any) -> np.ndarray:
    """Features of rows, [N, F]; see `ask`."""
    return self.ask('features', rows, **options)['features']

  def log_likelihood(self, rows: Any, **options: Any) -> np.ndarray:
    """log p of each row, [N] nats; exact, bracketed or a bound as `ask` says beside it."""
    return self.ask('log_likelihood', rows, **options)['log_likelihood']

  def reconstruction(self, rows: Any, **options: Any) -> np.ndarray:
    """Rows through the model and back, of the shape and in the units of the data; see `ask`."""
    return self.ask('reconstruction', rows, **options)['reconstruction']

  def evaluate(self, report: Callable[[str], None] = print, *, replica: int = 0) -> dict[str, Any]:
    """The score on the test split, of one seed: the numbers that launch.evaluate keeps.

    Args:
      report: called with lines of progress.
      replica: which of several seeds.
    """
    indices.check('replica', replica, len(self.seeds), 'seeds in this run')
    with (jax_setup.numerics(), jax.default_matmul_precision('highest'), devices.all_local()):
      return self.experiment.evaluate(keys.evaluation(self.seeds[replica]),
                                      devices.everywhere(self.params_of(replica)), self.dataset,
                                      report)


def load(workdir: str | os.PathLike, step: int | str | None = None, *,
         experiment: Any = None, data_dir: str | os.PathLike | None = None) -> Run:
  """The run in a directory, wherever the directory and its data are by now.

  Neither the data nor the working directory of training is needed. A file of the user's that the
  run names runs only if this user has named its bytes before, see cli/trusted_files.py.

  Args:
    workdir: run directory, made by gm.fit or launch.train.
    step: of which checkpoint, 'best' for the one with the best headline; default: the newest.
    experiment: what to build the run with instead of the name in config.json, as gm.fit takes it:
      for one whose file is elsewhere by now.
    data_dir: of prepared data, for `Run.dataset`.

  Raises:
    ForeignRun: it is no run directory, or config.json is damaged.
    UsageError: the experiment is not here or not trusted; there is no best checkpoint.
    ForeignCheckpoint: the checkpoint is of another run, or the parameters of another shape.
    DamagedCheckpoint: none is good.
    FileNotFoundError: there is no checkpoint, or none of this step.
  """
  if isinstance(step, str) and step != 'best':
    raise errors.UsageError(f"step={step!r}: give a number of updates, 'best', or nothing for the "
                            'newest')
  errors.require_no_file(workdir)
  with jax_setup.numerics():
    return _read(pathlib.Path(workdir).expanduser(), step, data_dir, experiment=experiment)


def run(workdir: str | os.PathLike, which: str = 'last',
        data_dir: str | os.PathLike | None = None, overrides: Sequence[str] = ()) -> Run:
  """A run for a command, which computes with the settings of this process from here on.

  Args:
    workdir: run directory.
    which: 'last' or 'best' checkpoint.
    data_dir: of prepared data.
    overrides: name=value words for hyperparameters that only the score reads.

  Raises:
    as `load`; and UsageError where `overrides` set anything else.
  """
  with jax_setup.importing():
    jax_setup.setup()
    return _read(pathlib.Path(workdir), None if which == 'last' else which, data_dir, overrides)


def _read(workdir: pathlib.Path, step, data_dir, overrides: Sequence[str] = (),
          experiment: Any = None) -> Run:
  config, path = rundir.read_config(workdir), workdir / 'config.json'
  entry = (registry.load_recorded(config['experiment'], path, config.get('estimator'))
           if experiment is None else given.entry(experiment))
  values = hyperparameters.rescored(
    entry, hyperparameters.recorded_values(entry, config['hyperparameters'], path), overrides)
  code = references.code(entry.code, values.values())
  if rundir.code(config) is not None and (changed := rundir.changed_code(config, code)):
    print(f'note: {", ".join(changed)} changed since {workdir} was trained; it is read with the '
          'code as it is now', file=sys.stderr)
  with data.described(rundir.described(config)):
    built = entry.experiment(**values)
    of_train = data.shapes(built.dataset)
  with rundir.open_checkpoints(workdir, config, built, read_only=True) as checkpoints:
    step = _best_step(workdir, built, checkpoints) if step == 'best' else step
    restored = position.restore(built, checkpoints, keys.of_run(config['seed'], config['seeds']),
                                of_train, step)
  if restored is None:
    raise FileNotFoundError(f'{workdir} has no checkpoint yet; train first with the same --workdir')
  return Run({**config, 'hyperparameters': values}, built, *restored, code=code,
             workdir=workdir.absolute(), data_dir=data_dir)


def steps(workdir: str | os.PathLike) -> list[int]:
  """Updates after which the checkpoints in a run directory were written, ascending."""
  workdir = pathlib.Path(workdir).expanduser()
  config, path = rundir.read_config(workdir), workdir / 'config.json'
  entry = registry.load_recorded(config['experiment'], path, config.get('estimator'))
  values = hyperparameters.recorded_values(entry, config['hyperparameters'], path)
  with data.described(rundir.described(config)):
    built = entry.experiment(**values)
  with rundir.open_checkpoints(workdir, config, built, read_only=True) as checkpoints:
    found = checkpoints.all_steps()
  if not found:
    raise FileNotFoundError(f'{workdir} has no checkpoint yet; train first with the same --workdir')
  return found


def _best_step(workdir: pathlib.Path, experiment: Experiment, checkpoints) -> int:
  """The step of the last phase with the best headline."""
  if experiment.headline is None:
    raise errors.UsageError(f'{workdir}: the experiment has no headline metric by which a '
                            'checkpoint could be the best: use --checkpoint=last')
  step = checkpoints.best_step()
  if step is None:
    raise errors.UsageError(f'{workdir} has no checkpoint with {experiment.headline_metric} yet: '
                            'train on, or use --checkpoint=last')
  return step
