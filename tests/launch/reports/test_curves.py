"""Curves of runs whose metrics are not what a run writes, and names that no picture likes."""

import json
import os
import struct

import numpy as np
import pytest

from launch.reports import curves, words
from tests.launch.reports import handmade


def write(directory, *lines):
  directory.mkdir(parents=True, exist_ok=True)
  (directory / 'metrics.jsonl').write_text(''.join(f'{line}\n' for line in lines))
  return directory


BAD = {
  'text': ['{"step": 1, "loss": "many"}'], 'object': ['{"step": 1, "loss": {"a": 1}}'],
  'null': ['{"step": 1, "loss": null}'], 'nested': ['{"step": 1, "loss": [[1.0]]}'],
  'ragged': ['{"step": 1, "loss": [1, 2]}', '{"step": 2, "loss": [1]}'],
  'mixed': ['{"step": 1, "loss": [1, 2]}', '{"step": 2, "loss": 1}'],
  'no step': ['{"loss": 1}'], 'step': ['{"step": 1e99, "loss": 1}'],
  'large step': ['{"step": ' + '9' * 400 + ', "loss": 1}'], 'list': ['[]'],
  'number': ['{"step": 1, "loss": ' + '9' * 400 + '}'],
  'deep': ['[' * 100_000], 'many': [json.dumps({'step': 1, **{f'm{i}': 1 for i in range(6000)}})]}


@pytest.mark.parametrize('name', BAD)
def test_a_run_with_bad_metrics_is_a_remark_and_the_others_are_drawn(tmp_path, name):
  good, bad = handmade.run(tmp_path / 'good'), write(tmp_path / 'bad', *BAD[name], '{"step": 9}')
  remarks = []
  found = curves.read([good, bad], remarks.append)
  assert 'valid_nats' in found and found['valid_nats'].seeds == 1
  remark, = remarks
  assert str(bad) in remark and '\n' not in remark and len(remark) < 1000


@pytest.mark.parametrize('make', [
  os.mkfifo, lambda path: path.symlink_to('/dev/zero'), lambda path: path.symlink_to('nowhere'),
  lambda path: path.mkdir()], ids=['pipe', 'link to /dev/zero', 'dangling link', 'directory'])
def test_what_is_no_file_is_not_read(tmp_path, make):
  make(tmp_path / 'metrics.jsonl')
  remarks = []
  assert curves.read([tmp_path], remarks.append) == {} and len(remarks) == 1


def test_a_step_written_twice_counts_once_and_seconds_are_no_must(tmp_path):
  write(tmp_path, '{"step": 1, "loss": 5}', '{"step": 1, "loss": 1}', '{"step": 2, "loss": "nan"}')
  curve = curves.read([tmp_path])['loss']
  assert curve.step.tolist() == [1, 2] and curve.mean[0] == 1 and curve.measured == 1


def size(path):
  """Width and height of a PNG."""
  return struct.unpack('>2I', path.read_bytes()[16:24])


NASTY = [r'$\frac{$', '_hidden', '<b>', 'two\nlines', 'x' * 500, '\x00', '%s {0}']


def test_any_name_can_be_drawn(tmp_path):
  steps = np.arange(3)
  curve = curves.Curve(steps, steps * 1.0, steps - 1.0, steps + 1.0, 2)
  path = curves.draw({name: {n: curve for n in NASTY} for name in NASTY}, NASTY, tmp_path / 'a.png')
  assert all(x > 300 for x in size(path))


def test_panels_are_bounded_and_a_csv_has_all(tmp_path):
  steps = np.arange(2)
  curve = curves.Curve(steps, steps * 1.0, steps * 1.0, steps * 1.0, 1)
  names = [f'm{i}' for i in range(500)]
  path = curves.draw({'a': dict.fromkeys(names, curve)}, names, tmp_path / 'a.png')
  assert size(path)[1] < 400 * curves.MOST_PANELS / 3
  curves.write_csv({'=a': dict.fromkeys(names, curve)}, tmp_path / 'a.csv')
  lines = (tmp_path / 'a.csv').read_text().splitlines()
  assert len(lines) == 1001 and lines[1].startswith("'=a,m0,0")


def test_what_was_measured_once_is_known(tmp_path):
  write(tmp_path / 'a', '{"step": 1, "nats": 5, "loss": 1}')
  write(tmp_path / 'b', '{"step": 1, "nats": 5, "loss": 1}',
        '{"step": 2, "nats": "nan", "loss": 2}')
  rows = {name: curves.read([tmp_path / name]) for name in 'ab'}
  assert curves.measured_once(rows, ['loss', 'nats']) == ['nats']


def test_numbers_of_any_length_in_names_are_ordered():
  rows = {'a': dict.fromkeys(['m' + '9' * 5000, 'm2', 'm²', 'm10'])}
  assert curves.order(rows, None)[:2] == ['m2', 'm10']


@pytest.mark.parametrize('metric, unit', [
  ('valid_nats', 'nats'), ('layer2/valid_bound_quick', 'nats'),
  ('elbo', 'nats'), ('error_percent', '%'), ('moment_error', ''), ('renats', '')])
def test_units(metric, unit):
  assert words.unit(metric) == unit


def test_scores_in_words():
  assert words.score('frechet_features') == 'Fréchet distance, features'
  assert words.score('error_percent') == 'error percent'
  assert words.head('ESS') == 'effective sample size' and words.head('bias_cd1') == 'bias cd1'
