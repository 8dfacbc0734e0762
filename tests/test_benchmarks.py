"""The benchmarks run: on sizes that say nothing about speed, without asserting a time."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import accelerator, tables

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
  'rbm': ['--images=200', '--rounds=1', '--sweep_chains=100', '--sweeps=1'],
  'seeds': ['--seeds=2', '--steps=10', '--rounds=1', '--variants=cd1'],
  'vae': ['--images=200', '--rounds=1', '--batch=20', '--hidden=50', '--latent=5'],
  'gan': ['--iterations=5', '--rounds=1', '--batch=8', '--channels=4,8', '--learning_rate=0.005']}


@pytest.mark.slow
@pytest.mark.parametrize('name', SMALL)
def test_benchmark_runs_and_writes_its_table(name, tmp_path):
  path = tmp_path / 'table.json'
  done = subprocess.run(
    [sys.executable, '-m', f'benchmarks.{name}', *SMALL[name], f'--json={path}'], cwd=ROOT,
    env=os.environ, capture_output=True, text=True, timeout=280)
  assert done.returncode == 0, done.stdout + done.stderr
  measured = json.loads(path.read_text(encoding='utf-8'))
  rows = [row for table in measured['tables'].values() for row in table.values()]
  assert rows and all(row['min'] <= row['median'] <= row['max'] and row['min'] > 0 for row in rows)
  assert measured['command'].startswith(f'python -m benchmarks.{name} --')
  assert measured['environment']['cores'] >= 1 and measured['environment']['versions']['jax']
  page = tables.document([measured])
  assert tables.title(name) in page and f'| {measured["ours"]} |' in page


@pytest.mark.slow
def test_every_part_for_an_accelerator_runs_at_tiny_sizes(tmp_path):
  path = tmp_path / 'table.json'
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.accelerator', '--minutes=10', '--size=tiny',
     f'--out={path}'], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stdout + done.stderr
  measured = json.loads(path.read_text(encoding='utf-8'))
  assert measured['missing'] == {}
  assert len(measured['rows']) == 23
  page = tables.document([measured])
  assert tables.title('accelerator') in page and 'a product of side 64, bfloat16' in page


def test_what_an_accelerator_measured_is_kept_when_a_part_fails(monkeypatch):
  def works(size):
    yield accelerator.Row('rates', 'a product', 0.5, 0.4, 0.6, flop=1e12)

  def fails(size):
    yield accelerator.Row('rbm', 'an update', 1.0, 0.9, 1.1, floor=0.25, flop=1e12)
    raise MemoryError('no room')

  monkeypatch.setattr(accelerator, 'PARTS', {'rates': works, 'rbm': fails, 'vae': works})
  written = []
  accelerator.measure(['rates', 'rbm', 'vae'], accelerator.TINY, 60.0,
                      lambda rows, missing: written.append((list(rows), dict(missing))))
  rows, missing = written[-1]
  assert [r.task for r in rows] == ['a product', 'an update', 'a product']
  assert missing == {'rbm': 'MemoryError: no room'}
  assert [len(rows) for rows, _ in written] == [1, 2, 2, 3]
  text = tables.rows({'rows': [r._asdict() for r in rows], 'missing': missing})
  assert '| an update | 1 s [900 ms, 1.1 s] | 250 ms | 4.00 | 1 | 50% |' in text
  assert text.endswith('Not measured: rbm, MemoryError: no room.')


def test_the_page_of_speeds_is_not_stale():
  assert tables.README.read_text(encoding='utf-8') == tables.document(tables.load()), (
    'benchmarks/README.md is stale: run python -m benchmarks.tables')


def test_a_cell_shows_median_spread_and_ratio():
  rows = {'ours': {'median': 0.2}, 'floor: x': {'median': 0.1}, 'slow': {
    'median': 0.5, 'min': 0.4, 'max': 0.612}, 'long': {'median': 2.0}, 'range': {
    'min': 2.6, 'max': 2.8}}
  text = tables.table({'tables': {'task': rows, 'other': {'ours': {'median': 1e-4}}}})
  assert text.splitlines() == [
    '|  | task | other |', '| --- | --- | --- |', '| ours | 200 ms | 0.1 ms |',
    '| floor: x | 100 ms | – |', '| slow | 500 ms [400, 612], 2.50× | – |',
    '| long | 2 s, 10.00× | – |', '| range | 2.6 to 2.8 s | – |']
