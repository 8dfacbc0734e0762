"""The commands as a user types them, each in a process of its own."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.launch.commands import ROOT, SMALL, parameters, refused, run, small, wait_for


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'a'
  run('train', *SMALL, '--variant=pcd', '--page', f'--workdir={workdir}')
  return workdir


def test_a_run_directory_tells_what_it_is(trained):
  config = json.loads((trained / 'config.json').read_text())
  assert config['experiment'] == 'rbm_digits' and config['variant'] == 'pcd'
  assert config['hyperparameters']['num_steps'] == 800
  assert config['hyperparameters']['learning_rate'] > 0  # defaults are resolved, not left out
  start, = json.loads((trained / 'environment.json').read_text())
  assert {'jax', 'flax', 'optax', 'gen_models', 'python'} <= set(start['versions'])
  assert start['device_kind'] and start['command']
  lines = [json.loads(line) for line in (trained / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [200, 400, 600, 800]
  assert list(trained.glob('**/events.out.tfevents*'))
  assert (trained / 'checkpoints' / '800').is_dir()
  assert (trained / 'figures' / 'curves.png').exists() and (trained / 'report.html').exists()


def test_evaluate_prints_one_json_object_and_keeps_it_though_its_page_fails(trained, tmp_path):
  (trained / 'figures').rename(tmp_path / 'figures')
  (trained / 'figures').symlink_to(tmp_path)
  done = run('evaluate', f'--workdir={trained}', '--sample_space=none')
  (trained / 'figures').unlink()
  assert 'warning: the page' in done.stderr and 'symbolic link' in done.stderr
  assert [p.name for p in tmp_path.iterdir()] == ['figures']  # nothing is written through a link
  result = json.loads(done.stdout.splitlines()[-1])
  assert result == json.loads((trained / 'result.json').read_text())
  assert result['kind'] == 'exact' and result['num_images'] == 300
  assert result['binarisation'] == 'threshold' and result['step'] == 800
  assert -64 * np.log(2) < result['test_nats'] < 0
  assert result['standard_error'] == 0 and result['effective_sample_size'] is None
  assert result['train_seconds'] > 0
  assert 'mixture of Bernoullis' in done.stdout


def test_report_is_one_page_with_its_pictures(trained):
  path = pathlib.Path(run('report', f'--workdir={trained}').stdout.splitlines()[-1])
  page = path.read_text()
  assert page.count('data:image/png;base64,') == 7
  assert 'http' not in page.replace('http-equiv', '')
  names = {p.name for p in (trained / 'figures').glob('*.png')}
  assert names == {'curves.png', 'curves_all.png', 'filters.png', 'data.png', 'samples.png',
                   'samples_and_their_nearest_training_images.png',
                   'a_chain_a_row_every_100_Gibbs_steps.png'}


def test_the_same_command_again_changes_nothing(trained):
  before = parameters(trained)
  done = run('train', *SMALL, '--variant=pcd', f'--workdir={trained}')
  assert 'resuming' in done.stdout
  assert parameters(trained) == before
  assert len((trained / 'metrics.jsonl').read_text().splitlines()) == 4


def test_another_configuration_in_the_same_directory_is_refused(trained):
  args = [*SMALL, '--variant=pcd', f'--workdir={trained}']
  error = refused('train', *args, '--set=learning_rate=0.3')
  assert 'learning_rate' in error and '--workdir' in error
  assert 'seed' in refused('train', *args, '--seed=1')


@pytest.mark.parametrize('args, hint', [
  (['--experiment=rbm_digit'], 'rbm_digits'),
  (['--experiment=rbm_digits', '--variant=pdc'], 'pcd'),
  (['--experiment=rbm_digits', '--set=learnrate=1'], 'learning_rate'),
  (['--experiment=rbm_digits', '--set=num_steps=1.5'], 'int'),
  (['--experiment=rbm_digits', '--set=num_steps=0'], 'at least 1'),
  (['--experiment=rbm_digits', 'variant=cd1'], '--flag=value'),
  (['--experiment=rbm_digits', '--nosuchflag=1'], 'nosuchflag'),
])
def test_bad_flags_name_the_fix(tmp_path, args, hint):
  assert hint in refused('train', *args, f'--workdir={tmp_path / "x"}')


def test_evaluating_nothing_says_so(tmp_path):
  assert 'not a run directory' in refused('evaluate', f'--workdir={tmp_path}')
  assert 'not a run directory' in refused('report', f'--workdir={tmp_path}')


def test_missing_data_names_where_it_looked(tmp_path):
  done = run('train', '--experiment=rbm_mnist', f'--workdir={tmp_path / "x"}',
             f'--data_dir={tmp_path / "nowhere"}', check=False, XDG_CACHE_HOME=str(tmp_path / 'c'))
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert 'nowhere' in done.stderr and 'launch.prepare mnist' in done.stderr


def test_divergence_stops_with_one_line(tmp_path):
  error = refused('train', *SMALL, '--variant=exact', '--set=learning_rate=1e38',
                  f'--workdir={tmp_path / "x"}')
  assert 'not finite' in error and 'learning rate' in error


@pytest.mark.slow
def test_seeds_are_replicas_of_single_runs(tmp_path):
  args = [*small(200), '--variant=centred']
  run('train', *args, '--seeds=3', '--seed=4', f'--workdir={tmp_path / "all"}')
  result = json.loads(run('evaluate', f'--workdir={tmp_path / "all"}').stdout.splitlines()[-1])
  assert result['seeds'] == [4, 5, 6] and len(result['per_seed']) == 3
  nats = [s['test_nats'] for s in result['per_seed']]
  assert result['test_nats'] == pytest.approx(np.mean(nats))
  assert result['seed_spread'] == pytest.approx(np.std(nats, ddof=1))
  run('train', *args, '--seed=5', f'--workdir={tmp_path / "one"}')
  alone = json.loads(run('evaluate', f'--workdir={tmp_path / "one"}').stdout.splitlines()[-1])
  assert alone['test_nats'] == nats[1]


@pytest.mark.slow
@pytest.mark.parametrize('flag', ['--stream', '--parallel=pmap'])
def test_other_ways_to_read_and_to_spread_end_in_the_same_bits(tmp_path, flag):
  args = [*small(200), '--variant=exact']
  run('train', *args, f'--workdir={tmp_path / "plain"}')
  run('train', *args, flag, f'--workdir={tmp_path / "other"}')
  assert parameters(tmp_path / 'plain') == parameters(tmp_path / 'other')


def test_list_shows_what_can_be_set():
  text = run('list').stdout
  for word in ('rbm_digits', 'rbm_mnist', 'cd25_decay', 'learning_rate', 'float', 'direction'):
    assert word in text


def test_sigterm_saves_and_the_same_command_resumes(tmp_path, trained):
  workdir = tmp_path / 'stopped'
  command = [sys.executable, '-m', 'launch.train', *small(200000), '--variant=pcd',
             f'--workdir={workdir}']
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  wait_for(workdir / 'metrics.jsonl', 2)
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=60)
  assert process.returncode == 143 and 'saved' in out
  step, _ = parameters(workdir)
  assert step >= 200
  again = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert f'at step {step}' in again.stdout.readline()
  again.send_signal(signal.SIGKILL)
  again.wait()


@pytest.mark.slow
def test_two_processes_cannot_train_in_one_directory(tmp_path):
  workdir = tmp_path / 'shared'
  args = [*small(1000000), f'--workdir={workdir}']
  first = subprocess.Popen([sys.executable, '-m', 'launch.train', *args], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  try:
    wait_for(workdir / 'metrics.jsonl', 1)
    assert 'another process' in refused('train', *args)
  finally:
    first.kill()
    first.wait()


def unfinished(checkpoints) -> bool:
  """Whether a save is under way, or was when its process died."""
  return checkpoints.exists() and any('tmp' in path.name for path in checkpoints.iterdir())


def kill_at_random_moments(workdir, words, trials, seed):
  """Kills a run that saves after every dispatch once a trial, then lets it finish.

  A trial is 'starts', 'trains' or 'saves': the kill comes while the run starts, at any time while
  it trains, or as soon as a save is seen under way. Returns how many left an unfinished save.
  """
  rng = random.Random(seed)
  words = [*words, f'--workdir={workdir}']
  args = [*words, '--save_every_minutes=0']
  metrics, checkpoints = workdir / 'metrics.jsonl', workdir / 'checkpoints'
  during_save = 0
  for trial in trials:
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    process = subprocess.Popen([sys.executable, '-m', 'launch.train', *args], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 100

    def trains(before=before):
      return metrics.exists() and metrics.stat().st_mtime_ns != before

    if trial == 'starts':
      time.sleep(rng.uniform(0.5, 4.0))
    else:
      while process.poll() is None and time.monotonic() < end and not trains():
        time.sleep(0.005)
      time.sleep(rng.uniform(0, 0.6))
    if trial == 'saves':
      while process.poll() is None and time.monotonic() < end and not unfinished(checkpoints):
        pass
    # Killed before its end, or it proves nothing.
    assert process.poll() is None, process.stdout.read()
    process.kill()
    process.wait()
    during_save += unfinished(checkpoints)
  run('train', *words)
  return during_save


def killed_and_unbroken_agree(tmp_path, num_steps, trials):
  words = [*small(num_steps), '--variant=centred']
  during_save = kill_at_random_moments(tmp_path / 'killed', words, trials, seed=1)
  run('train', *words, f'--workdir={tmp_path / "whole"}')
  assert parameters(tmp_path / 'killed') == parameters(tmp_path / 'whole')
  return during_save


@pytest.mark.slow
def test_killed_while_it_saves_it_is_bitwise_identical_in_the_end(tmp_path):
  killed_and_unbroken_agree(tmp_path, 20000, ['saves'])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twenty_times_some_during_a_save(tmp_path):
  trials = [('starts', 'trains', 'saves')[i % 3] for i in range(20)]
  assert killed_and_unbroken_agree(tmp_path, 40000, trials) >= 3


def test_help_says_what_a_command_does_and_its_flags_in_order():
  done = run('train', '--help')
  assert done.stdout.startswith('Trains an experiment.')
  places = [done.stdout.index(f'\n  --{name}') for name in ('experiment=', 'variant=', 'set=',
                                                            'seeds=N', 'parallel=sharded|pmap')]
  assert places == sorted(places)
  assert 'absl' not in done.stdout and 'alsologtostderr' not in done.stdout
  assert 'repeat this option' not in done.stdout and '(default: 5.0)' in done.stdout
