"""Metrics survive kills and resumption line by line; progress says enough, and not too often."""

import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from gen_models.training import metrics

ROOT = pathlib.Path(__file__).parents[2]


def write(directory, steps, **kwargs):
  with metrics.Metrics(directory, **{'tensorboard': False} | kwargs) as writer:
    for step in steps:
      writer.write(step, {'loss': 1 / step})
  return writer.path


def steps_of(path):
  return [line['step'] for line in metrics.read(path)]


def events_of(directory):
  """[(step, tag, value)] of all event files, as TensorBoard reads them after purging."""
  events = []
  for path in sorted(directory.glob('events.*'), key=lambda p: (p.stat().st_mtime_ns, p.name)):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], 'little')
      event = event_pb2.Event.FromString(data[12:12 + size])
      data = data[16 + size:]
      if event.HasField('session_log'):
        events = [e for e in events if e[0] < event.step]
      events += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
  return events


# The record


def test_a_line_holds_step_time_floats_and_replicas(tmp_path):
  writer = metrics.Metrics(tmp_path, tensorboard=False)
  writer.write(np.int64(10), {'loss': jnp.float32(0.1), 'error': np.array([0.5, 2.0]), 'n': 3})
  writer.close()
  line = json.loads((tmp_path / 'metrics.jsonl').read_text())
  assert list(line) == ['step', 'time', 'loss', 'error', 'n']
  assert abs(line.pop('time') - os.stat(tmp_path / 'metrics.jsonl').st_mtime) < 60
  assert line == {'step': 10, 'loss': float(np.float32(0.1)), 'error': [0.5, 2.0], 'n': 3.0}


def test_non_finite_floats_are_strings_and_come_back(tmp_path):
  writer = metrics.Metrics(tmp_path, tensorboard=False)
  writer.write(1, {'a': np.nan, 'b': [np.inf, -np.inf, 1.0]})
  writer.close()

  def refuse(name):
    raise AssertionError(f'{name} is not strict JSON')
  strict = json.loads(writer.path.read_text(), parse_constant=refuse)
  assert (strict['a'], strict['b']) == ('nan', ['inf', '-inf', 1.0])
  line, = metrics.read(writer.path)
  assert np.isnan(line['a'])
  assert line['b'] == [np.inf, -np.inf, 1.0]


def test_history_gives_each_metric_its_own_steps(tmp_path):
  writer = metrics.Metrics(tmp_path, tensorboard=False)
  writer.write(1, {'loss': [3.0, 4.0]})
  writer.write(2, {'loss': [1.0, 2.0], 'score': 0.5})
  writer.close()
  history = metrics.history(writer.path)
  assert list(history) == ['loss', 'score']
  np.testing.assert_array_equal(history['loss'].step, [1, 2])
  np.testing.assert_array_equal(history['loss'].value, [[3, 4], [1, 2]])
  np.testing.assert_array_equal(history['score'].step, [2])
  np.testing.assert_array_equal(history['score'].value, [0.5])
  assert history['loss'].value.dtype == np.float64


def test_no_file_is_an_empty_record(tmp_path):
  assert metrics.read(tmp_path / 'metrics.jsonl') == []
  assert metrics.history(tmp_path / 'metrics.jsonl') == {}


@pytest.mark.parametrize('name', ['step', 'time'])
def test_reserved_names_are_refused(tmp_path, name):
  writer = metrics.Metrics(tmp_path, tensorboard=False)
  with pytest.raises(ValueError, match=f"may be called '{name}'"):
    writer.write(1, {name: 0.0})
  writer.close()


def test_resuming_drops_later_lines_and_keeps_the_rest_bit_for_bit(tmp_path):
  path = write(tmp_path, [1, 2, 3, 4])
  before = path.read_text().splitlines()
  write(tmp_path, [3, 4, 5], resume_step=2)
  after = path.read_text().splitlines()
  assert after[:2] == before[:2]
  assert steps_of(path) == [1, 2, 3, 4, 5]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['metrics.jsonl']


def test_a_run_from_the_start_drops_everything(tmp_path):
  path = write(tmp_path, [1, 2])
  write(tmp_path, [7])
  assert steps_of(path) == [7]


@pytest.mark.parametrize('cut', [1, 5, 20, 30])
def test_a_torn_last_line_is_dropped(tmp_path, cut):
  path = write(tmp_path, [1, 2, 3])
  path.write_bytes(path.read_bytes()[:-1 - cut])
  assert steps_of(path) == [1, 2]
  write(tmp_path, [3], resume_step=5)
  assert steps_of(path) == [1, 2, 3]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
  path = write(tmp_path, [1, 2])
  path.write_bytes(path.read_bytes()[:-1])
  write(tmp_path, [3], resume_step=2)
  assert steps_of(path) == [1, 2, 3]


@pytest.mark.parametrize('bad', ['{"step": 2, "lo', '[1]', '{"time": 1.0}', '{"step": "x"}', '7'])
def test_any_other_broken_line_is_an_error_that_names_it(tmp_path, bad):
  path = write(tmp_path, [1, 2, 3])
  lines = path.read_text().splitlines()
  lines[1] = bad
  path.write_text('\n'.join(lines) + '\n')
  with pytest.raises(ValueError, match=r'metrics.jsonl:2 .* delete that line'):
    metrics.read(path)


def test_dropping_lines_is_atomic(tmp_path, monkeypatch):
  """Killed just before the rename, the old record is whole."""
  path = write(tmp_path, [1, 2, 3])
  before = path.read_bytes()

  def killed(source, target):
    raise KeyboardInterrupt(f'{source} -> {target}')
  monkeypatch.setattr('os.replace', killed)
  with pytest.raises(KeyboardInterrupt):
    metrics.Metrics(tmp_path, resume_step=1, tensorboard=False)
  assert path.read_bytes() == before
  monkeypatch.undo()
  write(tmp_path, [2], resume_step=1)
  assert steps_of(path) == [1, 2]


def test_what_was_written_survives_a_kill(tmp_path):
  script = '''
import itertools, sys
from gen_models.training import metrics
writer = metrics.Metrics(sys.argv[1])
for step in itertools.count(1):
  writer.write(step, {'loss': 1.0})
  print(step, flush=True)
'''
  child = subprocess.Popen([sys.executable, '-c', script, str(tmp_path)], text=True,
                           env=os.environ | {'PYTHONPATH': str(ROOT)}, stdout=subprocess.PIPE)
  reported = [int(child.stdout.readline()) for _ in range(20)][-1]
  child.send_signal(signal.SIGKILL)
  reported = max([reported, *map(int, child.communicate()[0].split())])
  steps = steps_of(tmp_path / 'metrics.jsonl')
  assert steps == list(range(1, len(steps) + 1))
  assert len(steps) >= reported


# TensorBoard


def test_tensorboard_gets_means_and_replicas(tmp_path):
  writer = metrics.Metrics(tmp_path)
  writer.write(3, {'train/loss': [1.0, 2.0], 'score': 0.5})
  on_disk = events_of(tmp_path)  # before close: flushed by write
  writer.close()
  assert on_disk == [(3, 'train/loss', 1.5), (3, 'score', 0.5),
                     (3, 'train/loss/seed0', 1.0), (3, 'train/loss/seed1', 2.0)]


def test_tensorboard_purges_what_resuming_repeats(tmp_path):
  write(tmp_path, [1, 2, 4], tensorboard=True)
  writer = metrics.Metrics(tmp_path, resume_step=2)
  writer.write(4, {'loss': 7.0})
  writer.close()
  assert events_of(tmp_path) == [(1, 'loss', 1.0), (2, 'loss', 0.5), (4, 'loss', 7.0)]
  write(tmp_path, [1], tensorboard=True)
  assert events_of(tmp_path) == [(1, 'loss', 1.0)]


def test_non_finite_values_warn_nobody(tmp_path, caplog):
  writer = metrics.Metrics(tmp_path)
  writer.write(1, {'loss': np.nan})
  writer.close()
  assert not caplog.records
  assert np.isnan(events_of(tmp_path)[0][2])


def test_reading_needs_neither_tensorboard_nor_jax():
  script = '''
import sys
import gen_models.training.metrics
assert not {'tensorboardX', 'jax', 'orbax'} & set(sys.modules), 'imported too much'
'''
  subprocess.run([sys.executable, '-c', script], env=os.environ | {'PYTHONPATH': str(ROOT)},
                 timeout=60, check=True)


# Progress


@pytest.mark.parametrize('arguments, line', [
  ((1200, 5000, 152.9, {'loss': 0.53124}),
   '1200/5000   24%  153 steps/s  eta 0:00:25  loss 0.5312'),
  ((5, 5000, None, {}), '   5/5000    0%'),
  ((5000, 5000, 12345.6, {'loss': [1.0, 2.0]}),
   '5000/5000  100%  12346 steps/s  eta 0:00:00  loss 1.5'),
  ((0, 8000, 1.0, {}), '   0/8000    0%  1 steps/s  eta 2:13:20'),
  ((1, 2, 0.25, {'a': 1e-9, 'b': float('nan')}),
   '1/2   50%  0.25 steps/s  eta 0:00:04  b nan'),
  ((0, 0, None, {}), '0/0    0%'),
  # The headline, and the loss, or an error, or whatever is there: not all of them.
  ((1, 2, None, {'a': 1, 'loss': 2, 'moment_error': 5, 'c': 3}, 'c'), '1/2   50%  c 3  loss 2'),
  ((1, 2, None, {'moment_error': 1, 'b': 2, 'seconds': 3}, 'not measured yet'),
   '1/2   50%  moment_error 1'),
  # Of several phases the one that trains.
  ((1, 2, None, {'first/nats': 1, 'first/loss': 2, 'second/nats': 3, 'second/loss': 4}, 'nats'),
   '1/2   50%  second/nats 3  second/loss 4'),
])
def test_format_progress(arguments, line):
  assert metrics.format_progress(*arguments) == line


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


def test_progress_in_a_file_is_first_one_a_minute_and_last():
  stream, clock = io.StringIO(), Clock()
  progress = metrics.Progress(300, stream, clock=clock)
  for step in range(1, 201):
    clock.now = float(step)
    progress.update(step, {'loss': 1.0})
  progress.close()
  lines = stream.getvalue().splitlines()
  assert [int(line.split('/')[0]) for line in lines] == [1, 61, 121, 181, 200]
  assert 'steps/s' not in lines[0]
  assert '1 steps/s  eta 0:01:40' in lines[-1]
  assert '\r' not in stream.getvalue()


def test_the_last_line_is_not_repeated():
  stream = io.StringIO()
  progress = metrics.Progress(1, stream, clock=Clock())
  progress.update(1, {})
  progress.close()
  assert stream.getvalue() == '1/1  100%\n'


def test_progress_on_a_terminal_is_one_line_in_place(monkeypatch):
  monkeypatch.setenv('COLUMNS', '40')
  stream, clock = io.StringIO(), Clock()
  stream.isatty = lambda: True
  progress = metrics.Progress(100, stream, clock=clock)
  for step in range(1, 101):
    clock.now += 0.01
    progress.update(step, {'a long name of a metric': 1.0, 'another': 2.0})
  progress.close()
  shown = re.split('\r', stream.getvalue())
  assert shown[0] == ''
  assert stream.getvalue().count('\n') == 1 and stream.getvalue().endswith('\n')
  assert {len(line.rstrip('\n')) for line in shown[1:]} == {39}
  assert shown[1].startswith('  1/100') and shown[-1].startswith('100/100  100%')
  assert 9 <= len(shown) - 1 <= 12  # ten a second


def test_speed_leaves_out_what_passed_before_the_first_update():
  """A resumed run neither counts the steps it did not make nor the time to compile."""
  stream, clock = io.StringIO(), Clock()
  progress = metrics.Progress(2000, stream, clock=clock)
  clock.now = 500.0
  progress.update(1000, {})
  clock.now = 600.0
  progress.update(1200, {})
  progress.close()
  assert '2 steps/s  eta 0:06:40' in stream.getvalue()


def test_a_headline_stays_between_its_measurements():
  stream, clock = io.StringIO(), Clock()
  with metrics.Progress(10, stream, clock=clock) as progress:
    progress.update(1, {'loss': 3.0, 'score': 0.5}, 'score')
    progress.update(2, {'loss': 2.0}, 'score')
  assert stream.getvalue().splitlines()[-1] == ' 2/10   20%  score 0.5  loss 2'


def test_progress_without_updates_says_nothing():
  stream = io.StringIO()
  metrics.Progress(10, stream).close()
  assert stream.getvalue() == ''
