"""Jobs on a Slurm cluster of this machine, which the tests start and end."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.backends import cluster

ROOT = pathlib.Path(__file__).parents[3]
TRAIN = ['-m', 'launch.train', '--experiment=rbm_digits', '--set=num_hidden=5']
# Stands in for a command that has tasks: it hands itself over and prints what it was given.
TASKS = '''
import os, sys, time
from absl import app
from launch import backends

def main(argv):
  if backends.elsewhere():
    words = backends.command('tasks')
    sys.exit(backends.submit(words, os.environ['JOB_DIR'], 2, '--programs'))

if sys.argv[-1].startswith('--programs='):
  print('words', sys.argv[1:], flush=True)
  time.sleep(1)
  sys.exit(int(sys.argv[-1][-1]) * 3)
app.run(main)
'''
PROCESSES = '''
import os, sys
from absl import app
from launch import backends

def main(argv):
  if backends.elsewhere():
    sys.exit(backends.submit(backends.command('processes'), os.environ['JOB_DIR']))
  assert os.environ['GEN_MODELS_DISTRIBUTED'] == 'auto'
  import jax
  jax.distributed.initialize()
  print(f'process {jax.process_index()} of {jax.process_count()}', flush=True)

app.run(main)
'''
pytestmark = [pytest.mark.slurm, pytest.mark.slow,
              pytest.mark.skipif(bool(cluster.missing()), reason=str(cluster.missing()))]


@pytest.fixture(scope='module')
def slurm():
  with cluster.running() as env:
    yield {**env, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'}


@contextlib.contextmanager
def submitted(env, log, *words, cwd=ROOT):
  """A command that submits a job and follows it, its output in a file; killed if it hangs."""
  with open(log, 'w') as file:
    process = subprocess.Popen([sys.executable, *map(str, words), '--where=slurm'], cwd=cwd,
                               env=env, stdout=file, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL)
  try:
    yield process
  finally:
    process.kill()
    process.wait()


def job_of(workdir):
  """Its number, as soon as it is submitted."""
  path = workdir / 'slurm' / 'job.json'
  return json.loads(cluster.wait_for(lambda: path.exists() and path.read_text(), 30, path))['job']


def logged(workdir, job, text):
  """Waits until the log of a job has a match of `text`."""
  path = workdir / 'slurm' / f'{job}.out'
  return cluster.wait_for(lambda: path.exists() and re.search(text, path.read_text()), 60, text)


def again_now(env, job):
  """Slurm lets a job that is queued again wait for two minutes."""
  cluster.wait_for(lambda: b'JobState=PENDING' in cluster.output(
    env, 'scontrol', 'show', 'job', job), 40, 'requeued job')
  subprocess.run(['scontrol', 'update', f'JobId={job}', 'StartTime=now'], env=env, check=True)


def test_a_run_is_trained_and_followed(slurm, tmp_path):
  """In a directory whose name a shell or Slurm would make something of."""
  workdir = tmp_path / "a b$(touch x)%j;'"
  with submitted(slurm, tmp_path / 'log', *TRAIN, '--set=num_steps=400', f'--workdir={workdir}',
                 '--slurm_cpus=1', '--slurm_setup=export FROM_SETUP=1') as process:
    assert process.wait(90) == 0, (tmp_path / 'log').read_text()
  log = (tmp_path / 'log').read_text()
  assert re.search(r'trained 400 steps', log) and '[job 1 is done]' in log
  assert (workdir / 'checkpoints' / '400').is_dir() and (workdir / 'slurm/1.status').exists()
  assert not list(ROOT.glob('x')) and not list(tmp_path.glob('x'))


def test_the_status_of_a_job_is_the_command_s_own(slurm, tmp_path):
  """Found wrong in the job: a data directory that is not there."""
  env = {**slurm, 'XDG_CACHE_HOME': str(tmp_path / 'cache')}
  with submitted(env, tmp_path / 'log', '-m', 'launch.train', '--experiment=rbm_mnist',
                 f'--data_dir={tmp_path}/none', f'--workdir={tmp_path}/a') as process:
    assert process.wait(90) == 1
  log = (tmp_path / 'log').read_text()
  assert 'error: ' in log and 'ended with status 1, failed' in log and 'Traceback' not in log


def test_tasks_are_an_array(slurm, tmp_path):
  (tmp_path / 'tasks.py').write_text(TASKS)
  env = {**slurm, 'PYTHONPATH': f'{ROOT}:{tmp_path}', 'JOB_DIR': str(tmp_path / 'a')}
  with submitted(env, tmp_path / 'log', 'tasks.py', '--slurm_nodes=1', cwd=tmp_path) as process:
    assert process.wait(60) == 3, (tmp_path / 'log').read_text()
  log = (tmp_path / 'log').read_text()
  assert "0: words ['--programs=0']" in log and "1: words ['--programs=1']" in log
  assert re.search(r'job \d+_1 ended with status 3, failed', log) and '_0 ended' not in log


def test_processes_of_a_job_find_each_other(slurm, tmp_path):
  (tmp_path / 'processes.py').write_text(PROCESSES)
  env = {**slurm, 'PYTHONPATH': f'{ROOT}:{tmp_path}', 'JOB_DIR': str(tmp_path / 'a'),
         'JAX_PLATFORMS': 'cpu'}
  with submitted(env, tmp_path / 'log', 'processes.py', '--slurm_tasks=2',
                 cwd=tmp_path) as process:
    assert process.wait(90) == 0, (tmp_path / 'log').read_text()
  log = (tmp_path / 'log').read_text()
  assert 'process 0 of 2' in log and 'process 1 of 2' in log


def test_a_run_survives_its_time_limit_and_preemption(slurm, tmp_path):
  """It ends in the checkpoint of a run that was left alone."""
  long = [*TRAIN, '--set=num_steps=30000', '--save_every_minutes=0.01']
  with submitted(slurm, tmp_path / 'log', *long, f'--workdir={tmp_path}/a') as process:
    job = job_of(tmp_path / 'a')
    logged(tmp_path / 'a', job, r'\n *[1-9]\d*00/30000')
    # What Slurm sends at the time limit, to the processes and not to the script.
    subprocess.run(['scancel', '--signal=TERM', job], env=slurm, check=True)
    logged(tmp_path / 'a', job, 'time is up: queued again')
    again_now(slurm, job)
    logged(tmp_path / 'a', job, r'start 2, [^$]*\nresuming .* at step [1-9]\d*')
    subprocess.run(['scontrol', 'requeue', job], env=slurm, check=True)  # what preemption does
    again_now(slurm, job)
    logged(tmp_path / 'a', job, r'start 3, [^$]*\nresuming .* at step [1-9]\d*')
    assert process.wait(120) == 0, (tmp_path / 'log').read_text()
  log = (tmp_path / 'log').read_text()
  assert log.count('saved; the same command resumes') == 2 and 'trained 30000 steps' in log
  subprocess.run([sys.executable, *long, f'--workdir={tmp_path}/b'], cwd=ROOT, env=slurm,
                 check=True, capture_output=True)
  code = ('import pathlib, sys, numpy; from launch.runs import load; a, b = ['
          'load.run(pathlib.Path(p)).params for p in sys.argv[1:]]; '
          'print([numpy.array_equal(x, y) for x, y in zip(a, b)])')
  same = subprocess.run([sys.executable, '-c', code, tmp_path / 'a', tmp_path / 'b'], cwd=ROOT,
                        env=slurm, check=True, capture_output=True, text=True).stdout
  assert same.strip() == '[True, True, True]'


def test_ctrl_c_stops_following_and_scancel_the_run(slurm, tmp_path):
  long = [*TRAIN, '--set=num_steps=3000000', f'--workdir={tmp_path}/a']
  with submitted(slurm, tmp_path / 'log', *long) as process:
    job = job_of(tmp_path / 'a')
    logged(tmp_path / 'a', job, '00/3000000')
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
  assert f'scancel {job} ends it' in (tmp_path / 'log').read_text()
  other = subprocess.run([sys.executable, *long, '--save_every_minutes=3', '--where=slurm'],
                         cwd=ROOT, env=slurm, capture_output=True, text=True)
  assert other.returncode == 1 and f'job {job} works in' in other.stderr
  with submitted(slurm, tmp_path / 'more', *long) as process:
    more = tmp_path / 'more'
    cluster.wait_for(lambda: 'queued already' in more.read_text(), 30, 'job that is followed again')
    time.sleep(1)
    subprocess.run(['scancel', job], env=slurm, check=True)
    assert process.wait(60) == 143
  assert 'cancelled' in more.read_text()
  assert 'saved; the same command resumes' in (tmp_path / 'a/slurm' / f'{job}.out').read_text()
  assert 'queued again' not in (tmp_path / 'a/slurm' / f'{job}.out').read_text()
  assert job.encode() not in cluster.output(slurm, 'squeue', '--noheader', '--format=%i')


def test_nothing_of_a_cluster_outlives_it(tmp_path):
  with cluster.running() as env:
    subprocess.run(['sbatch', f'--output={tmp_path}/out', '--wrap=trap "" TERM; sleep 600'],
                   env=env, check=True, capture_output=True)
    cluster.wait_for(lambda: b'R' in cluster.output(env, 'squeue', '--noheader', '--format=%t'),
                     20, 'running job')
  mark = env['SLURM_CONF'].encode()
  left = []
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      if mark in (process / 'environ').read_bytes() + (process / 'cmdline').read_bytes():
        left.append(process)
  assert not left and not os.path.exists(pathlib.Path(env['SLURM_CONF']).parent)
