"""The benchmarks run: on sizes that say nothing about speed, without asserting a time."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

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
  tables = json.loads(path.read_text())['tables']
  rows = [row for table in tables.values() for row in table.values()]
  assert rows and all(row['median'] > 0 for row in rows)
