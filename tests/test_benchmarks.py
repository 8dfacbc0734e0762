"""The benchmarks run: on sizes that say nothing about speed, without asserting a time."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import tables

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
