"""launch.sweep as a user types it: replicas are runs of their own, nothing is run twice or lost."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.commands import ROOT, parameters, refused, run, wait_for

SMALL = ['--experiment=rbm_digits', '--set=num_hidden=5']
GRID = [*SMALL, '--variants=centred', '--seeds=2', '--set=learning_rate=0.05,1e37',
        '--set=num_steps=400']


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('sweep')
  return workdir, run('sweep', *GRID, f'--workdir={workdir}')


def test_replicas_are_bitwise_identical_to_single_runs(swept, tmp_path):
  workdir, done = swept
  assert '1 program, 4 runs' in done.stdout
  good = workdir / 'centred,learning_rate=0.05'
  run('train', *SMALL, '--variant=centred', '--set=learning_rate=0.05', '--set=num_steps=400',
      '--nopage', '--seed=1', f'--workdir={tmp_path / "alone"}')
  assert parameters(good / 'seed1') == parameters(tmp_path / 'alone')
  assert parameters(good / 'seed0') != parameters(good / 'seed1')
  config = json.loads((good / 'seed1' / 'config.json').read_text())
  assert config == json.loads((tmp_path / 'alone' / 'config.json').read_text())
  lines = [json.loads(x) for x in (good / 'seed0' / 'metrics.jsonl').read_text().splitlines()]
  assert [x['step'] for x in lines] == [200, 400] and isinstance(lines[0]['moment_error'], float)
  scores = [json.loads((good / f'seed{i}' / 'result.json').read_text()) for i in (0, 1)]
  assert [s['seeds'] for s in scores] == [[0], [1]]
  assert scores[0]['test_nats'] != scores[1]['test_nats']


def test_one_that_diverges_says_why_and_the_others_go_on(swept):
  workdir, done = swept
  for i in (0, 1):
    bad = workdir / 'centred,learning_rate=1e+37' / f'seed{i}'
    why = (bad / 'failed.txt').read_text()
    assert 'not finite at step' in why and 'replica' not in why and why.count('\n') == 1
    assert f'centred,learning_rate=1e+37/seed{i}: frozen: {why.strip()}' in done.stderr
    assert not (bad / 'result.json').exists()
  assert 'centred,learning_rate=1e+37  –, 2 frozen' in done.stdout
  assert 'over 2 seeds' in done.stdout


def test_what_is_finished_is_not_run_again_and_more_may_be_asked_for(swept):
  workdir, _ = swept
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*.json*')}
  done = run('sweep', *GRID, f'--workdir={workdir}')
  assert '2 of 4 runs are done, 2 failed' in done.stdout and 'program 0' not in done.stdout
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob('*.json*')}
  more = [x for x in GRID if '--seeds' not in x]
  done = run('sweep', *more, '--seeds=3', f'--workdir={workdir}', '--dry_run')
  assert '2 of 6 runs are done' in done.stdout
  assert not (workdir / 'centred,learning_rate=0.05' / 'seed2').exists()


def test_one_run_alone_is_that_of_launch_train_and_is_done_when_it_was_scored_at_its_end(tmp_path):
  args = [*SMALL, '--set=num_steps=400', '--seed=1', '--set=learning_rate=0.05']
  sweep, point = tmp_path / 'sweep', tmp_path / 'sweep' / 'defaults' / 'seed1'
  run('sweep', *args, '--noevaluate', f'--workdir={sweep}')
  run('train', *args, '--nopage', f'--workdir={tmp_path / "alone"}')
  assert parameters(point) == parameters(tmp_path / 'alone')
  run('evaluate', f'--workdir={point}', '--sample_space=none')
  whole = (point / 'result.json').read_text()
  (point / 'result.json').write_text(whole.replace('"step": 400', '"step": 200'))
  done = run('sweep', *args, f'--workdir={sweep}')  # scored halfway is not done
  assert json.loads((point / 'result.json').read_text())['step'] == 400
  assert 'program 0' in done.stdout
  done = run('sweep', *args, '--sample_space=own', f'--workdir={sweep}')  # nor without its draws
  assert json.loads((point / 'result.json').read_text())['samples']
  done = run('sweep', *args, '--sample_space=own', f'--workdir={sweep}')
  assert 'program 0' not in done.stdout


def test_another_configuration_below_the_same_name_is_refused(swept):
  workdir, _ = swept
  other = [x.replace('num_hidden=5', 'num_hidden=6') for x in GRID]
  error = refused('sweep', *other, f'--workdir={workdir}')
  assert 'num_hidden is 5 there, 6 here' in error


@pytest.mark.parametrize('args, hint', [
  (['--variants=pdc'], 'pcd'), (['--set=learnrate=1,2'], 'learning_rate'),
  (['--search=random'], '--search=random needs --set=name=low..high'),
  (['--programs=7'], 'programs in the plan'),
  (['--variants=pcd,pcd'], 'twice'), (['--set=learning_rate=1e-3..1'], 'a range')])
def test_bad_flags_name_the_fix(tmp_path, args, hint):
  assert hint in refused('sweep', *SMALL, *args, f'--workdir={tmp_path / "x"}')
  assert not (tmp_path / 'x').exists()


@pytest.mark.slow
def test_tasks_of_an_array_share_a_sweep(tmp_path):
  args = [*SMALL, '--set=num_steps=10', '--variants=pcd,cd1', '--noevaluate',
          f'--workdir={tmp_path}']
  assert 'pcd' in run('sweep', *args, '--programs=0').stdout
  assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ['pcd']
  run('sweep', *args, '--programs=1')
  assert '2 of 2 runs are done' in run('sweep', *args, '--dry_run').stdout


LONG = [*SMALL, '--variants=centred', '--seeds=2', '--set=learning_rate=0.05,0.2',
        '--set=num_steps=20000', '--save_every_minutes=0']


def started(workdir):
  return subprocess.Popen([sys.executable, '-m', 'launch.sweep', *LONG, f'--workdir={workdir}'],
                          cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_sigterm_saves_every_replica(tmp_path):
  process = started(tmp_path)
  metrics = tmp_path / 'centred,learning_rate=0.2' / 'seed1' / 'metrics.jsonl'
  wait_for(metrics, 2)
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=60)
  assert process.returncode == 143 and 'saved' in out
  steps = {parameters(p.parent)[0] for p in tmp_path.rglob('config.json')}
  assert len(steps) == 1 and steps.pop() >= 400


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_it_ends_in_the_same_bits(tmp_path):
  rng = random.Random(3)
  metrics = tmp_path / 'killed' / 'centred,learning_rate=0.05' / 'seed0' / 'metrics.jsonl'
  for _ in range(6):
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process, end = started(tmp_path / 'killed'), time.monotonic() + 100
    while process.poll() is None and time.monotonic() < end and not (
        metrics.exists() and metrics.stat().st_mtime_ns != before):
      time.sleep(0.005)
    time.sleep(rng.uniform(0, 1.5))
    assert process.poll() is None, process.stdout.read()
    process.kill()
    process.wait()
  run('sweep', *LONG, f'--workdir={tmp_path / "killed"}')
  run('sweep', *LONG, f'--workdir={tmp_path / "whole"}')
  found = [p.parent for p in (tmp_path / 'whole').rglob('config.json')]
  assert len(found) == 4
  for path in found:
    killed = tmp_path / 'killed' / path.relative_to(tmp_path / 'whole')
    assert parameters(killed) == parameters(path)


@pytest.mark.slow
def test_optuna_resumes(tmp_path):
  pytest.importorskip('optuna', reason='optuna is an extra')
  args = [*SMALL, '--search=optuna', '--set=learning_rate=1e-3..1:log', '--set=num_steps=200',
          '--batch=2', '--noevaluate']
  run('sweep', *args, '--trials=4', f'--workdir={tmp_path / "whole"}')
  run('sweep', *args, '--trials=2', f'--workdir={tmp_path / "halved"}')
  done = run('sweep', *args, '--trials=4', f'--workdir={tmp_path / "halved"}')
  assert 'best of 4' in done.stdout and '--set=learning_rate=' in done.stdout
  names = [{p.name for p in (tmp_path / d).iterdir() if p.is_dir()} for d in ('whole', 'halved')]
  assert names[0] == names[1] and len(names[0]) == 4
