"""The benchmarks run: on sizes that say nothing about speed, without asserting a time."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from benchmarks import (
  accelerator,
  evaluation,
  growth,
  memory,
  rbm as rbm_bench,
  tables,
  target,
  timing,
)
from gen_models.models import rbm
from tests import oracle

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
  'rbm': ['--images=200', '--rounds=1', '--batches=100', '--chains=100,200', '--gibbs_steps=1'],
  'seeds': ['--seeds=2', '--steps=10', '--rounds=1', '--variants=cd1', '--sweep=2,2'],
  'discrete': ['--images=100', '--rounds=1', '--batch=50', '--latent=10'],
  'gan_grid': ['--iterations=5', '--rounds=1', '--batch=8', '--width=8'],
  'start': ['--rounds=1'],
  'vae': ['--images=200', '--rounds=1', '--batch=20', '--hidden=50', '--latent=5', '--samples=2'],
  'target': ['--dataset=digits', '--targets=-26,-26', '--budget=100', '--every=0.1',
             '--rbm_hidden=20', '--vae_hidden=20,20', '--latent=5', '--updates=2000',
             '--temperatures=20', '--samples=5'],
  'evaluation': ['--rounds=1', '--draws=500', '--images=3', '--temperatures=100'],
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


def test_growth_is_fitted():
  counts = np.array([1, 3, 10, 40])
  found = growth.fit(counts, 2e-3 + 5e-4 * counts)
  np.testing.assert_allclose(found, (2e-3, 5e-4, 0), atol=1e-9)
  bent = growth.fit([1, 2, 4], [1.0, 1.0, 0.9])  # not below 0, though that would be nearer
  assert bent.each == 0 and 0 < bent.worst < 0.1


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path):
  path = tmp_path / 'growth.json'
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.growth', '--size=tiny', '--rounds=1', f'--json={path}'],
    cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280)
  assert done.returncode == 0, done.stdout + done.stderr
  measured = json.loads(path.read_text(encoding='utf-8'))
  assert [c['unit'] for c in measured['curves'].values()] == [
    'rows', 'hidden units', 'chains', 'chains', 'rows', 'devices']
  assert tmp_path.joinpath('growth.png').stat().st_size > 1000
  assert tables.title('growth') in tables.document([measured])


@pytest.mark.slow
def test_every_part_for_an_accelerator_runs_at_tiny_sizes(tmp_path):
  path = tmp_path / 'table.json'
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.accelerator', '--minutes=4', '--size=tiny',
     f'--out={path}'], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stdout + done.stderr
  measured = json.loads(path.read_text(encoding='utf-8'))
  assert measured['missing'] == {}
  assert len(measured['rows']) == 27
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


def test_a_row_shows_ours_the_products_the_others_and_the_ratios():
  rows = {'ours': {'median': 0.2, 'peak': 3.2e7}, 'floor: numpy': {'median': 0.1},
          'floor: jax': {'median': 0.15}, 'slow': {'median': 0.5, 'min': 0.4, 'max': 0.612},
          'long': {'median': 2.0}}
  ranges = {'ours': {'min': 2.6, 'max': 2.8}}
  assert tables.table({'tables': {'task': rows, 'other': ranges}}).splitlines() == [
    '|  | ours | the products alone | ours to them | others, and their ratio to ours '
    '| peak memory |',
    '| --- | --- | --- | --- | --- | --- |',
    '| task | 200 ms | 100 ms (numpy) | 2.00 | slow 500 ms [400, 612], 2.50×; long 2 s, 10.00× '
    '| 32 MB |',
    '| other | 2.6 s to 2.8 s |  |  |  |  |']
  # Columns that no row fills are left out.
  assert tables.table({'tables': {'other': ranges}}).splitlines()[0] == '|  | ours |'


def test_memory_is_shown_at_each_size_and_as_its_growth(monkeypatch):
  monkeypatch.setattr(memory, 'TIMES', (1, 10))
  growth = memory.Growth('arrays', 'numbers', 1_000_000, lambda num: lambda: np.ones(num))
  found = memory.measure(growth)
  assert [row['count'] for row in found.values()] == [1_000_000, 10_000_000]
  page = tables.memory({'memory': {'arrays, by numbers': {
    '1×': {'bytes': 8_000_000, 'count': 10}, '10×': {'bytes': 80_000_000, 'count': 100}}}})
  assert page.splitlines()[-1] == '| arrays, by numbers | 8 MB (10) | 80 MB (100) | 10× |'
  tasks = [growth.task for growth in memory.growths(memory.Size(4, 6, 2, 3, 4, 2, 8, 8))]
  assert len(tasks) == 6


def test_weak_scaling_follows_the_formula():
  link = {'name': 'wire', 'devices': 4, 'bytes_a_second': 1e9}
  text = tables.weak_scaling({'growth': {
    'update_seconds': 3e-3, 'batch': 10, 'all_reduce_bytes': 2e6, 'links': [link]}})
  assert text.splitlines()[-1] == '| 4 | wire | 3 ms | 3 ms | 50% | 27 ms |'


def test_scores_are_timed_beside_peers_and_what_was_computed_is_compared(tmp_path, capsys):
  size = evaluation.Size(4, (6, 5), 2, (8,), (3,), images=3, samples=30, draws=24)
  path = tmp_path / 'table.json'
  timing.measure('evaluation', evaluation.tasks(size), rounds=1, protocol='tiny', packages=('jax',),
                 path=str(path))
  measured = json.loads(path.read_text(encoding='utf-8'))
  assert len(measured['tables']) == 5
  for rows in measured['tables'].values():
    assert 0 < rows['ours']['min'] <= rows['ours']['median'] <= rows['ours']['max']
    assert rows['ours']['peak'] is None or rows['ours']['peak'] >= 0
  assert measured['environment']['busy'] >= 0
  assert tables.title('evaluation') in tables.document([measured])
  assert '  bound: ours -' in capsys.readouterr().out


def test_peak_memory_is_that_of_the_work():
  if (small := timing.peak_memory(lambda: None)) is None:
    pytest.skip('this system does not tell the peak of memory')
  assert small < 2e7
  assert 1.5e8 < timing.peak_memory(lambda: np.ones(20_000_000)) < 2.5e8  # float64: 160 MB


def test_a_contender_that_computes_something_else_is_not_shown():
  with pytest.raises(RuntimeError, match='other computes something else than ours'):
    evaluation._check_equal({'ours': {'recall': 0.5}, 'other': {'recall': 0.9}}, 0.2)


def test_a_race_ends_at_the_target_or_with_the_time_and_scoring_is_off_the_clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(target.time, 'perf_counter', lambda: now[0])

  def train(clock, seconds=1.0, pieces=100):
    for done in range(pieces):
      now[0] += seconds
      clock(lambda done=done: done + 1)

  def score(done):
    now[0] += 50.0  # longer than all of training
    return -100.0 + done

  racer = target.Racer('a racer', train)
  # Scored after 3, 6, .. seconds: -92 is passed after 8 of them.
  assert target.race(racer, score, -92.0, 60.0, 3.0) == {
    'median': 9.0, 'min': 9.0, 'max': 9.0, 'trace': [(3.0, -97.0), (6.0, -94.0), (9.0, -91.0)]}
  lost = target.race(racer, score, -50.0, 20.0, 3.0, ours=5.0)
  assert lost.pop('trace')[-2:] == [(18.0, -82.0), (20.0, -80.0)]
  assert lost == {'value': 'not in 20 s, more than 4.00×, best -80.0 nats', 'seconds': 20.0,
                  'nats': -80.0}
  with pytest.raises(RuntimeError, match='a racer ended before its target and its time'):
    target.race(racer._replace(train=lambda clock: train(clock, pieces=2)), score, 0.0, 60.0, 3.0)


def test_the_graph_of_spins_is_the_machine(monkeypatch):
  pytest.importorskip('thrml', reason='a peer, which make bench installs')
  draws = np.random.default_rng(0)
  params = rbm.Params(*(jnp.float32(draws.standard_normal(shape)) for shape in ((4, 3), 4, 3)))
  monkeypatch.setattr(rbm_bench, 'start', lambda s: params)
  sampler = rbm_bench.thrml_sampler(rbm_bench.Setting(
    np.zeros((1, 4), np.uint8), 3, 1, chains=20_000, gibbs_steps=200, learning_rate=0.0))
  with jax.debug_key_reuse(False):  # within thrml
    sampler.contender.run()
  v_SV = np.float32([[int(bit) for bit in f'{i:04b}'] for i in range(16)])
  p_S = np.exp(-np.asarray(rbm.free_energy(params, v_SV), np.float64))
  counts_S = np.bincount(sampler.samples().astype(int) @ [8, 4, 2, 1], minlength=16)
  expected_S = 20_000 * p_S / p_S.sum()
  statistic = np.sum((counts_S - expected_S)**2 / expected_S)
  assert scipy.stats.chi2.sf(statistic, 15) > oracle.SIGNIFICANCE
