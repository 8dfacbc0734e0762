"""One training run: what launch.train and gm.fit do alike, before, beside and after the loop."""

import contextlib
import itertools
import pathlib
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

from gen_models import data, files
from gen_models.experiment import Experiment
from gen_models.training import hyper, keys, metrics, position
from gen_models.training.hooks import Hooks
from launch.cli import registry
from launch.runs import memory, warm_start

HEAD = 2**30  # bytes of streamed training rows from which a model is initialised
# Called with the updates made so far, once for each dispatch.
OnStep = Callable[[int], None]


def prepare(entry: registry.Entry, config: dict[str, Any], data_dir,
            dataset: data.Dataset | None = None,
            limit: int | None = None) -> tuple[Experiment, data.Dataset]:
  """(experiment, dataset) of a run, which are read and fit together; nothing is written.

  Args:
    entry: the experiment.
    config: of the run.
    data_dir: of prepared data.
    dataset: the data, where they are at hand.
    limit: most bytes of training rows to read, of data that are streamed.

  Raises:
    MissingData: the data are not there.
    UsageError: memory does not hold so many replicas.
    ValueError: an experiment whose parts do not fit together.
  """
  values = config['hyperparameters']
  if dataset is None:
    dataset = data.load(entry.experiment(**values).dataset, data_dir, limit=limit)
  experiment = hyper.bind(entry.experiment, values, dataset.train, dataset.valid)
  for end in itertools.accumulate(phase.num_steps for phase in experiment.phases):
    state = position.abstract_state(experiment, end, keys.of_run(0), dataset.train)
    memory.require_replicas(config['seeds'], state)
  return experiment, dataset


def start(experiment: Experiment, arrays: data.Arrays, key, config: dict[str, Any], checkpoints):
  """(state, step) that training resumes from or begins --from; None at the beginning."""
  found = position.restore(experiment, checkpoints, key, arrays)
  if found is None and 'from' in config:
    return warm_start.begin(config, experiment, arrays, checkpoints)
  return found


@contextlib.contextmanager
def reporting(experiment: Experiment, config: dict[str, Any], workdir: pathlib.Path, step: int, *,
              on_step: OnStep = lambda step: None,
              show: bool = True) -> Generator[Hooks, None, None]:
  """Hooks that write metrics and warnings to the run directory, and progress to standard error.

  Args:
    experiment: that is trained.
    config: of the run.
    workdir: of the run.
    step: from which it trains.
    on_step: see above.
    show: whether progress is shown.
  """
  seconds_before = max(metrics.spent(workdir / 'metrics.jsonl', step),
                       config.get('from', {}).get('seconds', 0.0))

  def on_alarm(line):
    files.append_line(workdir / 'warnings.txt', line)

  with (metrics.Metrics(workdir, resume_step=step) as writer,
        shown(experiment, writer.write, on_alarm, seconds_before, on_step, show) as hooks):
    yield hooks


@contextlib.contextmanager
def shown(experiment: Experiment, write: Callable[[int, dict[str, Any]], None],
          on_alarm: Callable[[str], None], seconds_before: float = 0.0,
          on_step: OnStep = lambda step: None, show: bool = True) -> Generator[Hooks, None, None]:
  """Hooks that show progress and alarms on standard error, and hand on what is to be kept.

  Args:
    experiment: that is trained.
    write: (step, metrics with the seconds of training), once for each dispatch.
    on_alarm: called with the line of an alarm.
    seconds_before: of training before this start.
    on_step: see above.
    show: whether progress is shown; alarms are in any case.
  """
  began = time.monotonic()
  total = sum(phase.num_steps for phase in experiment.phases)
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(metrics.Progress(total)) if show else None

    def alarm(step, message, replica):
      del replica  # seeds share a run, and alarms ring for any of them
      line = f'warning: step {step}: {message}'
      on_alarm(line)
      print('\n' + line if sys.stderr.isatty() else line, file=sys.stderr, flush=True)

    def on_metrics(step, values):
      values = {**values, 'seconds': seconds_before + time.monotonic() - began}
      write(step, values)
      on_step(step)
      if progress:
        progress.update(step, values, experiment.headline)

    yield Hooks(on_metrics, alarm)
