"""The output of a run: metrics on disk, progress on the screen.

`metrics.jsonl` is the record: one strict JSON object a line, {"step": ..., "time": ..., name: float
or list of floats over replicas}; floats that JSON cannot hold are the strings "nan", "inf", "-inf".
The TensorBoard event files beside it repeat it: the mean over replicas under the metric's
name, each replica i under name/seed<i>.
"""

import contextlib
import json
import math
import operator
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

import numpy as np

from gen_models import files


class Series(NamedTuple):
  """One metric over a run.

  Attributes:
    step: int64 [N].
    value: float64 [N], or [N, S] over replicas.
  """

  step: np.ndarray
  value: np.ndarray


class Metrics(contextlib.AbstractContextManager):
  """Writes the metrics of one run; what `write` was given survives a kill.

  Args:
    directory: gets `metrics.jsonl` and, with tensorboard, event files.
    resume_step: the step of the checkpoint a run continues from: what an earlier process wrote
      about later steps is dropped, and so is a line torn by its death. None: a run from the
      start, all of it is dropped.
    tensorboard: whether to write event files (needs tensorboardX).
  """

  def __init__(self, directory, *, resume_step: int | None = None, tensorboard: bool = True):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self.path = directory / 'metrics.jsonl'
    first = 0 if resume_step is None else resume_step + 1
    kept = [] if resume_step is None else [x for x in _objects(self.path) if x['step'] < first]
    files.write_text(self.path, ''.join(_line(x) for x in kept))
    self._file = files.append(self.path)
    self._events = None
    if tensorboard:
      self._events = _Events(directory, first)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Adds one line.

    Args:
      step: number of updates made.
      metrics: name -> float or array [S] of floats over replicas.

    Raises:
      ValueError: a metric is called step or time.
    """
    if reserved := {'step', 'time'} & set(metrics):
      raise ValueError(f'no metric may be called {min(reserved)!r}')
    now, step = time.time(), int(step)
    values = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
    encoded = {name: _encode(value.tolist()) for name, value in values.items()}
    self._file.write(_line({'step': step, 'time': now, **encoded}))
    self._file.flush()
    if self._events:
      self._events.write(step, now, values)

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    if self._events:
      self._events.close()


class _Events:
  """A TensorBoard event file.

  `tensorboardX.SummaryWriter` writes through a queue that its flush does not wait for, and
  overwrites a file begun in the same second: its parts do neither.
  """

  def __init__(self, directory, first):
    # Protobuf: loaded only where it is used.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2, summary_pb2
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    self._file = EventsWriter(str(directory / 'events'), f'.{time.time_ns()}')
    # To TensorBoard a session that starts at a step replaces all events from that step on.
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(step=first, wall_time=time.time(), session_log=start)

  def write(self, step, now, values):
    replicas = {f'{name}/seed{i}': x for name, value in values.items() if value.ndim
                for i, x in enumerate(value)}
    means = {name: value.mean() for name, value in values.items()}
    summary = self._summary(value=[
      self._summary.Value(tag=tag, simple_value=x) for tag, x in {**means, **replicas}.items()])
    self._write(step=step, wall_time=now, summary=summary)

  def _write(self, **fields):
    self._file.write_event(self._event(**fields))
    self._file.flush()

  def close(self):
    self._file.close()


LARGEST = 2**30  # bytes of a metrics.jsonl


def read(path, largest: int = LARGEST) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl: step as int, all else as float or list of floats.

  A torn last line is left out; a missing file is an empty one.

  Raises:
    ValueError: any other line is not one that `Metrics` writes; it is named.
    OSError: it is no regular file, or longer than `largest` bytes.
  """
  return [{name: x if name == 'step' else _decode(x) for name, x in line.items()}
          for line in _objects(path, largest)]


def history(path, largest: int = LARGEST) -> dict[str, Series]:
  """{metric: Series} of a metrics.jsonl; a metric has the steps at which it was written.

  Raises as `read`.
  """
  return series(read(path, largest), path)


def series(lines: Iterable[Mapping[str, Any]], where='metrics') -> dict[str, Series]:
  """{metric: Series} of lines as `read` gives them; raises ValueError, which names `where`."""
  points = {}
  for line in lines:
    for name in line.keys() - {'step', 'time'}:
      points.setdefault(name, []).append((line['step'], line[name]))
  for name, xs in points.items():
    if len({np.shape(value) for _, value in xs}) > 1:
      raise ValueError(f'{where}: {name} is not of the same number of replicas on every line')
  return {name: Series(np.array([s for s, _ in xs]), np.array([v for _, v in xs], np.float64))
          for name, xs in sorted(points.items())}


def spent(path, step: int) -> float:
  """Seconds of training behind the state of this step, as a metrics.jsonl recorded them."""
  lines = read(path) if step else []
  return max((line.get('seconds', 0.0) for line in lines if line['step'] <= step), default=0.0)


def _objects(path, largest: int = LARGEST) -> Iterator[dict[str, Any]]:
  try:
    lines = files.read_bytes(path, largest).split(b'\n')
  except FileNotFoundError:
    return
  for number, line in enumerate(lines, 1):
    try:
      value = json.loads(line)
      operator.index(value['step'])
      _check(value)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as e:
      if number == len(lines):  # what follows the last newline: nothing, or a torn line
        return
      raise ValueError(f'{path}:{number} is not a line of metrics: delete that line') from e
    yield value


def _check(line: dict) -> None:
  """Raises where a value is neither a number nor a list of numbers."""
  if abs(line['step']) >= 2**63:
    raise ValueError('the step is out of range')
  for value in line.values():
    for x in value if isinstance(value, list) else [value]:
      float(x)


def _line(value) -> str:
  return json.dumps(value, allow_nan=False) + '\n'


def _encode(value):
  if isinstance(value, list):
    return [_encode(x) for x in value]
  return value if math.isfinite(value) else str(value)


def _decode(value):
  return [_decode(x) for x in value] if isinstance(value, list) else float(value)


def format_progress(step: int, num_steps: int, rate: float | None,
                    metrics: Mapping[str, Any], headline: str | None = None,
                    unit: str = 'steps') -> str:
  """'  1200/5000  24%  153 steps/s  eta 0:00:24  loss 0.5312'.

  Args:
    step: updates made.
    num_steps: updates in all.
    rate: updates a second; None while unknown.
    metrics: name -> float or array over replicas, shown by its mean.
    headline: the metric to show; beside it the first one of training, of the phase at hand.
    unit: what is counted.
  """
  width = len(str(num_steps))
  parts = [f'{step:{width}}/{num_steps}', f'{100 * step // max(num_steps, 1):3}%']
  if rate:
    parts.append(f'{rate:.3g} {unit}/s' if rate < 1000 else f'{rate:.0f} {unit}/s')
    seconds = math.ceil(max(num_steps - step, 0) / rate)
    parts.append(f'eta {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}')
  parts += [f'{name} {np.mean(np.asarray(metrics[name], np.float64)):.4g}'
            for name in _shown(metrics, headline)]
  return '  '.join(parts)


def _shown(metrics, headline: str | None) -> list[str]:
  """The headline, and the loss or a metric in its place: no more fits on a line."""
  found = []

  def latest(fits):
    """Of several phases the one that trains comes last."""
    return [name for name in metrics if name not in found and fits(name)][-1:]

  found += latest(lambda name: headline is not None and name.split('/')[-1] == headline)
  return found + (latest(lambda name: 'loss' in name) or latest(lambda name: 'error' in name)
                  or latest(lambda name: name != 'seconds'))


class Progress(contextlib.AbstractContextManager):
  """One line, rewritten in place on a terminal or in a notebook.

  Elsewhere it is written once when training begins, every minute, and at the end.

  A metric that is not measured at every update keeps its latest value.

  Args:
    num_steps: updates in all.
    stream: where to write; default standard error.
    clock: seconds, monotonic.
    unit: what is counted, updates or rows.
  """

  def __init__(self, num_steps: int, stream: TextIO | None = None, *,
               clock: Callable[[], float] = time.monotonic, unit: str = 'steps'):
    self._unit = unit
    self._num_steps, self._stream = num_steps, stream or sys.stderr
    self._clock, self._metrics = clock, {}
    # A notebook rewrites a line as a terminal does, and does not say so.
    self._in_place = self._stream.isatty() or type(self._stream).__module__ == 'ipykernel.iostream'
    self._interval = 0.1 if self._in_place else 60.0
    self._start: tuple[int, float] | None = None
    self._shown_at: float | None = None
    self._latest: str | None = None

  def update(self, step: int, metrics: Mapping[str, Any], headline: str | None = None) -> None:
    """Notes where the run is, and shows it if the last line is old enough."""
    now = self._clock()
    # The first update has waited for compilation: speed is measured from there.
    first, since = self._start = self._start or (step, now)
    rate = (step - first) / (now - since) if now > since else None
    self._metrics.update(metrics)
    self._latest = format_progress(step, self._num_steps, rate, self._metrics, headline,
                                   self._unit)
    if self._shown_at is None or now - self._shown_at >= self._interval:
      self._shown_at = now
      self._show()

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Shows the last update if it was not shown, and ends the line."""
    if self._latest:
      self._show()
    if self._in_place and self._shown_at is not None:
      self._stream.write('\n')
      self._stream.flush()

  def _show(self) -> None:
    line, self._latest = self._latest or '', None
    if self._in_place:
      columns = shutil.get_terminal_size().columns - 1
      line = '\r' + line[:columns].ljust(columns)
    else:
      line += '\n'
    self._stream.write(line)
    self._stream.flush()
