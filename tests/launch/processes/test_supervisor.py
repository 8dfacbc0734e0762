"""The supervisor on workers that only play their part; then real runs, and faults done to them."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from launch.processes import distributed, supervisor
from launch.runs import directory as rundir
from tests import virtual
from tests.launch.processes import faults

# Plays the worker: each start adds a line to `starts`; what happens then is the test's.
WORKER = '''
import os, pathlib, signal, sys, time
from launch.processes import distributed
distributed.end_with_supervisor()
folder, me = pathlib.Path(sys.argv[1]), int(os.environ.get('GEN_MODELS_PROCESS', 0))
with open(folder / f'starts{me}', 'a') as file:
  file.write(f'{os.getpid()}\\n')
start = len((folder / f'starts{me}').read_text().splitlines())
'''


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
  monkeypatch.setattr(supervisor, '_BACKOFF', 0.1)
  monkeypatch.setattr(supervisor, '_SETTLE', 0.3)
  monkeypatch.setattr(supervisor, '_HUNG_GRACE', 0.5)


def supervised(folder, code, count=1, *, restarts=3, hang_seconds=60.0, grace_seconds=20.0):
  command = [sys.executable, '-c', WORKER + code, str(folder)]
  return supervisor.Supervisor(command, count, restarts=restarts, hang_seconds=hang_seconds,
                               grace_seconds=grace_seconds).run()


def starts(folder, index=0):
  return len((folder / f'starts{index}').read_text().splitlines())


def test_one_that_is_killed_starts_all_again(tmp_path, capfd):
  code = '''
distributed.heartbeat(40)
if start == 1:
  if me == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  time.sleep(60)
print(f'I am {me} of {os.environ["GEN_MODELS_PROCESSES"]}')
'''
  assert supervised(tmp_path, code, 2) == 0
  assert starts(tmp_path, 0) == starts(tmp_path, 1) == 2
  out, err = capfd.readouterr()
  assert 'process 1 was killed by SIGKILL after step 40; all 2 are started again' in err
  assert 'restart 1 of 3' in err
  assert out == 'I am 0 of 2\n' and '[1] I am 1 of 2\n' in err


def test_a_reported_error_is_final_and_reported_once(tmp_path, capfd):
  code = '''
time.sleep(0.2 * (1 - me))
print('error: no such flag', file=sys.stderr)
sys.exit(1)
'''
  assert supervised(tmp_path, code, 2) == 1
  assert starts(tmp_path) == 1
  assert capfd.readouterr().err == 'error: no such flag\n'


def test_a_process_that_lost_another_is_not_the_cause(tmp_path, capfd):
  code = '''
if start == 1:
  sys.exit(70 if me == 0 else 75)
'''
  assert supervised(tmp_path, code, 2) == 0
  assert 'process 0 ended with an error before its first dispatch' in capfd.readouterr().err


def test_the_same_error_in_the_same_place_is_not_tried_again(tmp_path, capfd):
  assert supervised(tmp_path, 'distributed.heartbeat(20)\nsys.exit(70)') == supervisor.GAVE_UP
  assert starts(tmp_path) == 2
  assert 'after step 20, the second time in the same place' in capfd.readouterr().err


def test_it_gives_up_after_so_many_restarts(tmp_path, capfd):
  code = 'distributed.heartbeat(start)\nos.kill(os.getpid(), signal.SIGKILL)'
  assert supervised(tmp_path, code, restarts=2) == supervisor.GAVE_UP
  assert starts(tmp_path) == 3
  assert 'gave up after 2 restarts: the same command resumes' in capfd.readouterr().err


def test_one_that_hangs_is_started_again_however_deaf(tmp_path, capfd):
  code = '''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
distributed.heartbeat(60)
if start == 1:
  time.sleep(60)
'''
  assert supervised(tmp_path, code, hang_seconds=0.5) == 0
  assert starts(tmp_path) == 2
  assert 'has done nothing for 0.00833 minutes after step 60' in capfd.readouterr().err


def test_neither_a_slow_start_nor_a_slow_page_is_a_hang(tmp_path):
  code = '''
time.sleep(0.5)
for step in range(4):
  distributed.heartbeat(step)
  time.sleep(0.1)
distributed.heartbeat(None)
time.sleep(0.5)
'''
  assert supervised(tmp_path, code, hang_seconds=0.3) == 0
  assert starts(tmp_path) == 1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_as_sigterm(tmp_path, number):
  code = '''
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
(folder / f'ready{me}').touch()
time.sleep(60)
'''
  signal_when(tmp_path, 2, number)
  assert supervised(tmp_path, code, 2) == 143
  assert starts(tmp_path) == 1


def test_a_worker_that_does_not_leave_is_killed_after_the_grace(tmp_path, capfd):
  code = '''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(folder / f'ready{me}').touch()
time.sleep(60)
'''
  signal_when(tmp_path, 1, signal.SIGTERM)
  assert supervised(tmp_path, code, grace_seconds=0.5) == 143
  assert 'ended before all was saved' in capfd.readouterr().err


def signal_when(folder, count, number):
  """Sends the signal to this process when so many workers are ready."""
  def wait():
    end = time.monotonic() + 30
    while len(list(folder.glob('ready*'))) < count and time.monotonic() < end:
      time.sleep(0.02)
    os.kill(os.getpid(), number)
  threading.Thread(target=wait, daemon=True).start()


def test_no_worker_outlives_a_killed_supervisor(tmp_path):
  code = '''
if me == 1:
  os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)
'''
  script = f'''
import sys
from launch.processes import supervisor
supervisor.Supervisor([sys.executable, '-c', {WORKER + code!r}, {str(tmp_path)!r}], 3, restarts=0,
                      hang_seconds=60, grace_seconds=60).run()
'''
  mark = f'orphans {tmp_path}'
  process = subprocess.Popen([sys.executable, '-c', script], cwd=faults.ROOT,
                             env={**os.environ, 'TRIAL_MARK': mark})
  end = time.monotonic() + 30
  while len(list(tmp_path.glob('starts*'))) < 3 and time.monotonic() < end:
    time.sleep(0.02)
  assert len(faults.marked(mark)) == 4
  process.kill()
  process.wait()
  end = time.monotonic() + 5
  while faults.marked(mark) and time.monotonic() < end:
    time.sleep(0.02)
  assert not faults.marked(mark)


def test_each_worker_has_its_share_of_the_host(monkeypatch):
  for name in ('JAX_PLATFORMS', 'JAX_NUM_CPU_DEVICES', 'PJRT_NPROC', 'XLA_FLAGS'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(supervisor, '_gpus', list)
  assert supervisor._devices(0, 1) == {}
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
  assert int(supervisor._devices(0, 1)['PJRT_NPROC']) >= 16
  monkeypatch.setattr(supervisor, '_gpus', lambda: ['0', '1', '2', '3'])
  assert [supervisor._devices(i, 2)['CUDA_VISIBLE_DEVICES'] for i in (0, 1)] == ['0,1', '2,3']
  with pytest.raises(ValueError, match='4 GPUs do not divide over --processes=3'):
    supervisor._devices(0, 3)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert 'CUDA_VISIBLE_DEVICES' not in supervisor._devices(0, 3)


@pytest.mark.parametrize('environment, message', [
  ({'DISTRIBUTED': 'yes'}, "'auto' or not set"),
  ({'DISTRIBUTED': 'auto'}, 'works under srun and on TPU pods'),
  ({'COORDINATOR': 'here'}, 'is host:port'),
  ({'COORDINATOR': 'here:80', 'PROCESSES': '2'}, 'GEN_MODELS_PROCESS must be a number'),
  ({'COORDINATOR': 'here:80', 'PROCESSES': '2', 'PROCESS': '2'}, 'the last is 1'),
  ({'COORDINATOR': 'here:80', 'PEER_SECONDS': 'soon'}, 'a number of seconds'),
])
def test_an_environment_that_names_no_processes_is_refused(monkeypatch, environment, message):
  for name, value in environment.items():
    monkeypatch.setenv(f'GEN_MODELS_{name}', value)
  with pytest.raises(distributed.CannotJoin, match=message):
    distributed.join()


def test_a_taken_port_is_refused(monkeypatch):
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))
    taken.listen()
    port = taken.getsockname()[1]
    for name, value in (('COORDINATOR', f'127.0.0.1:{port}'), ('PROCESSES', '2'), ('PROCESS', '0')):
      monkeypatch.setenv(f'GEN_MODELS_{name}', value)
    with pytest.raises(distributed.CannotJoin, match=f'cannot listen on port {port}'):
      distributed.join()


def test_a_missing_process_is_one_line():
  environment = {**os.environ, 'GEN_MODELS_COORDINATOR': f'127.0.0.1:{supervisor._free_port()}',
                 'GEN_MODELS_PROCESSES': '2', 'GEN_MODELS_PROCESS': '1',
                 'GEN_MODELS_PEER_SECONDS': '1', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-c', 'from launch.processes import distributed; distributed.join()'],
    cwd=faults.ROOT, env=environment, capture_output=True, text=True, timeout=60)
  assert done.returncode == distributed.LOST
  line, = done.stderr.splitlines()
  assert 'process 0 does not answer at 127.0.0.1' in line and 'within 1 s' in line


def test_processes_are_asked_for_in_one_way(monkeypatch, tmp_path):
  monkeypatch.setenv('GEN_MODELS_DISTRIBUTED', 'auto')
  done = subprocess.run(
    [sys.executable, '-m', 'launch.train', '--experiment=rbm_digits', f'--workdir={tmp_path}',
     '--processes=2'], cwd=faults.ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == 1 and 'leave out one of the two' in done.stderr
  assert 'Traceback' not in done.stderr


def test_other_devices_than_at_the_last_start_are_named(tmp_path):
  assert rundir.other_devices(tmp_path) is None
  rundir.record_start(tmp_path)
  assert rundir.other_devices(tmp_path) is None
  path = tmp_path / 'environment.json'
  start, = json.loads(path.read_text())
  path.write_text(json.dumps([start | {'num_devices': 8, 'num_processes': 2}]))
  note = rundir.other_devices(tmp_path)
  assert '8 in 2 processes' in note and f'{jax.device_count()} in 1 process:' in note
  assert 'bits differ' in note


TWO_DEVICES = virtual.devices(2)


@pytest.mark.slow
def test_two_processes_survive_their_coordinator_bitwise_identical_to_two_devices(tmp_path):
  """The run nothing is done to has two virtual devices in one process: the same program."""
  reference = faults.unbroken(tmp_path / 'unbroken', 1, **TWO_DEVICES)
  faults.trial(tmp_path / 'struck', 'coordinator', 2, random.Random(3), reference)


@pytest.mark.slow
def test_two_processes_begin_from_the_checkpoint_of_another_run(tmp_path):
  """--from in two processes is bitwise identical to --from on two devices of one."""
  old = faults.unbroken(tmp_path / 'old', 1)
  shutil.rmtree(old.workdir / 'checkpoints' / str(faults.NUM_STEPS))
  ends = []
  for name, num_processes, environment in (('processes', 2, {}), ('devices', 1, TWO_DEVICES)):
    (tmp_path / name).mkdir()
    run = faults.Run(tmp_path / name, num_processes, **environment)
    run.command.append(f'--from={old.workdir}')
    run.start()
    assert run.wait() == 0, run.output()
    origin = rundir.read_config(run.workdir)['from']
    assert 0 < origin['step'] < faults.NUM_STEPS == run.reached()
    assert f'at step {origin["step"]}' in run.output()
    ends.append((origin, run.final_bits(), run.curves()))
  assert ends[0] == ends[1]


@pytest.mark.slow
@pytest.mark.timeout(4000)
def test_fifty_faults(tmp_path):
  references = {n: faults.unbroken(tmp_path / f'unbroken{n}', n) for n in (1, 2)}
  for i, (fault, n, rng) in enumerate(faults.plan(50, seed=0)):
    faults.trial(tmp_path / str(i), fault, n, rng, references[n])


@pytest.mark.slow
def test_on_other_devices_it_resumes_and_warns_that_bits_may_differ(tmp_path):
  run = faults.Run(tmp_path, 2)
  run.start()
  end = time.monotonic() + 100
  while run.reached() < 100 and time.monotonic() < end:
    time.sleep(0.01)
  run.process.send_signal(signal.SIGTERM)
  assert run.wait() == 143
  assert 'stopped at step' in run.output() and 'last started on' not in run.output()
  run.command[run.command.index('--processes=2')] = '--processes=1'
  run.start()
  assert run.wait() == 0
  assert 'cpu x 2 in 2 processes, now on cpu x 1 in 1 process' in run.output()
  assert run.reached() == faults.NUM_STEPS and pathlib.Path(run.workdir / 'report.html').exists()
