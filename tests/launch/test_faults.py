"""Whatever breaks, a command reports it in one line; what was saved resumes to the same bits."""

import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data, files
from gen_models.training import checkpoint, keys, metrics, position
from launch import errors
from launch.cli import app, hyperparameters, registry
from launch.runs import directory as rundir, load, warm_start
from tests.launch.commands import ROOT, SMALL, parameters, refused, run, small, wait_for

ARGS = [*SMALL, '--variant=pcd', '--save_every_minutes=0']
BRIEFLY = ['--sample_space=none', '--nopage']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run of 800 steps with the checkpoints of 600 and 800."""
  workdir = tmp_path_factory.mktemp('run') / 'a'
  run('train', *ARGS, f'--workdir={workdir}')
  assert {'600', '800'} <= {p.name for p in (workdir / 'checkpoints').iterdir()}
  return workdir


@pytest.fixture
def copy(trained, tmp_path):
  return pathlib.Path(shutil.copytree(trained, tmp_path / 'copy'))


@pytest.fixture
def small_disk(tmp_path):
  """A directory that is a file system of 1 MB, and a function that leaves so many kB free."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk],
                    capture_output=True).returncode:
    pytest.skip('may not mount a file system')

  def leave(kilobytes):
    (disk / 'fill').unlink(missing_ok=True)
    free = shutil.disk_usage(disk).free
    (disk / 'fill').write_bytes(b'0' * (free - 1024 * kilobytes))

  yield disk, leave
  subprocess.run(['umount', '-l', disk], check=True)


def one_line(error):
  """stderr without progress: a line that says what is wrong, one that says how to see more."""
  lines = [line for line in error.splitlines() if 'steps/s' not in line and '%' not in line[:20]]
  assert len(lines) == 2 and lines[0].startswith('error: '), error
  assert lines[1] == '(GEN_MODELS_TRACEBACK=1 shows where)'
  return lines[0]


# Checkpoints


def spoil(step: pathlib.Path, how: str):
  """Damages the step's array data, the manifest, or all of it.

  Every file of array data: how many there are depends on timing, and some may not be read again.
  """
  files = [p for p in (step / 'state').rglob('*') if p.is_file()]
  for path in (p for p in files if p.parent.name == 'd'):
    content = bytearray(path.read_bytes())
    if how == 'flip':
      content[len(content) // 2] ^= 8
      path.write_bytes(content)
    elif how == 'truncate':
      path.write_bytes(content[:len(content) // 2])
    elif how == 'remove':
      path.unlink()
  if how == 'manifest':
    path, = (p for p in (step / 'manifest').iterdir() if p.name == 'metadata')
    path.write_bytes(path.read_bytes().replace(b'"step": 800', b'"step": 801'))
  elif how == 'empty':
    for path in files:
      path.write_bytes(b'')


@pytest.mark.parametrize('how', ['flip', 'truncate', 'remove', 'manifest', 'empty'])
def test_a_reader_falls_back_to_the_step_before(copy, how):
  before = parameters(copy)
  spoil(copy / 'checkpoints' / '800', how)
  step, params = parameters(copy)
  assert step == 600 and before[0] == 800 and params != before[1]


def other_dtype(copy):
  """The checkpoint replaced by one of half the precision under the same identity."""
  config = rundir.read_config(copy)
  experiment = registry.load('rbm_digits').experiment(**config['hyperparameters'])
  with rundir.open_checkpoints(copy, config, experiment) as checkpoints:
    state, _ = position.restore(experiment, checkpoints, keys.of_run(config['seed']),
                                data.load('digits').train)
  shutil.rmtree(copy / 'checkpoints')
  half = jax.tree.map(lambda x: x.astype(jnp.float16) if x.dtype == jnp.float32 else x, state)
  with rundir.open_checkpoints(copy, config, experiment) as checkpoints:
    checkpoints.save(800, half)


def test_another_dtype_is_refused_not_cast(copy):
  other_dtype(copy)
  with pytest.raises(checkpoint.ForeignCheckpoint, match='float16.*expected float32') as caught:
    load.run(copy)
  assert '\n' not in str(caught.value)


def test_checkpoints_of_another_run_are_refused(copy):
  config = rundir.read_config(copy)
  config['hyperparameters']['learning_rate'] = 0.3
  files.write_json(copy / 'config.json', config)
  with pytest.raises(checkpoint.ForeignCheckpoint, match='learning_rate is 0.1 there') as caught:
    load.run(copy)
  assert '\n' not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize('how', ['flip', 'truncate', 'remove', 'manifest', 'empty'])
def test_commands_fall_back_and_end_in_the_same_bits(trained, copy, how):
  spoil(copy / 'checkpoints' / '800', how)
  done = run('evaluate', f'--workdir={copy}', *BRIEFLY)
  assert json.loads(done.stdout.splitlines()[-1])['step'] == 600
  said = [line for line in done.stderr.splitlines() if 'damaged and skipped' in line]
  assert said and not [x for x in done.stderr.splitlines() if x not in said], done.stderr
  assert 'at step 600' in run('train', *ARGS, f'--workdir={copy}').stdout
  assert parameters(copy) == parameters(trained)
  assert (copy / 'checkpoints' / 'damaged-800').is_dir()  # nothing is thrown away


@pytest.mark.slow
def test_commands_refuse_where_nothing_is_good(copy):
  for step in (copy / 'checkpoints').iterdir():
    spoil(step, 'flip')
  for command in (['evaluate'], ['train', *ARGS]):
    error = refused(*command, f'--workdir={copy}')
    assert 'no good checkpoint' in error and 'move the directory away' in error
  run('report', f'--workdir={copy}')
  assert 'no good checkpoint' in (copy / 'report.html').read_text()


@pytest.mark.slow
def test_commands_refuse_what_is_not_theirs(copy, tmp_path):
  other_dtype(copy)
  assert 'expected float32' in refused('evaluate', f'--workdir={copy}')
  assert 'expected float32' in refused('train', *ARGS, f'--workdir={copy}')
  other = tmp_path / 'other'
  run('train', *small(200), '--variant=centred', f'--workdir={other}')
  shutil.rmtree(copy / 'checkpoints')
  shutil.copytree(other / 'checkpoints', copy / 'checkpoints')
  assert 'is of another run' in refused('evaluate', f'--workdir={copy}')
  assert 'is of another run' in refused('train', *ARGS, f'--workdir={copy}')
  assert (copy / 'checkpoints' / '200').is_dir()


# Disks


def test_a_full_disk_leaves_the_checkpoints_before(small_disk):
  disk, leave = small_disk
  state = {'w': np.random.RandomState(0).bytes(100_000)}
  state = {'w': np.frombuffer(state['w'], np.uint8)}
  checkpoints = checkpoint.Checkpoints(disk / 'c', identity={})
  checkpoints.save(1, state)
  checkpoints.wait()
  leave(60)
  checkpoints.save(2, state)
  with pytest.raises(checkpoint.SaveFailed, match='No space left on device') as caught:
    checkpoints.close()
  assert '\n' not in str(caught.value) and app._expected(caught.value)
  assert 'make room' in app._explain(caught.value)
  (disk / 'fill').unlink()
  with checkpoint.Checkpoints(disk / 'c', identity={}) as checkpoints:
    restored, step = checkpoints.restore(state)
    assert step == 1 and (restored['w'] == state['w']).all()
    checkpoints.save(2, state)
  assert sorted(p.name for p in (disk / 'c').iterdir()) == ['1', '2']


def test_a_file_that_cannot_be_replaced_stays(small_disk):
  disk, leave = small_disk
  files.write_json(disk / 'result.json', {'a': 1})
  leave(0)
  with pytest.raises(OSError, match='No space left.*result.json') as caught:
    files.write_json(disk / 'result.json', {'a': 'b' * 5000})
  assert app._explain(caught.value).startswith(
    f'No space left on device: {disk / "result.json"}; make room')
  assert json.loads((disk / 'result.json').read_text()) == {'a': 1}
  assert {p.name for p in disk.iterdir()} == {'fill', 'result.json'}


@pytest.mark.slow
@pytest.mark.parametrize('what, kilobytes', [
  ('config', 0), ('metrics', 12), ('checkpoint', 40)])
def test_a_run_on_a_full_disk_resumes_when_there_is_space(trained, small_disk, what, kilobytes):
  disk, leave = small_disk
  leave(kilobytes)
  error = one_line(refused('train', *ARGS, f'--workdir={disk / "a"}'))
  assert 'No space left on device' in error and 'make room' in error
  assert (what == 'checkpoint') == ('a checkpoint could not be written' in error), error
  assert (what == 'config') == ('config.json' in error), error
  (disk / 'fill').unlink()
  run('train', *ARGS, f'--workdir={disk / "a"}')
  assert parameters(disk / 'a') == parameters(trained)
  steps = [line['step'] for line in metrics.read(disk / 'a' / 'metrics.jsonl')]
  assert steps == [200, 400, 600, 800]
  assert not list(disk.rglob('*tmp*'))


@pytest.mark.slow
def test_a_disk_full_of_figures_costs_only_the_figures(trained, small_disk, tmp_path):
  disk, leave = small_disk
  leave(4)
  workdir = tmp_path / 'a'
  figures = workdir / 'figures'
  figures.mkdir(parents=True)
  subprocess.run(['mount', '--bind', disk, figures], check=True)  # links are not followed
  try:
    for command, more in ('train', [*ARGS, '--page']), ('evaluate', []):
      done = run(command, *more, f'--workdir={workdir}')
      assert 'warning: the page of the run could not be made (No space left' in done.stderr
    assert parameters(workdir) == parameters(trained)
    result = json.loads((workdir / 'result.json').read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == result
    (disk / 'fill').unlink()
    assert 'trained 800 steps' in run('train', *ARGS, f'--workdir={workdir}').stdout
  finally:
    subprocess.run(['umount', '-l', figures], check=True)


def test_checkpoints_that_cannot_be_written_are_refused_before_training(small_disk):
  disk, _ = small_disk
  (disk / 'checkpoints').mkdir()
  subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
  with pytest.raises(OSError) as caught:
    rundir.open_checkpoints(disk, {}, None)
  assert app._explain(caught.value) == (f'Read-only file system: {disk / "checkpoints"}; use a '
                                        'directory that can be written to')


@pytest.mark.slow
def test_a_read_only_disk(copy, small_disk):
  """It is read, and a score that cannot be kept is printed all the same."""
  disk, _ = small_disk
  shutil.copytree(copy, disk / 'a')
  subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
  for workdir in (disk / 'a', disk / 'new'):
    assert 'Read-only file system' in one_line(refused('train', *ARGS, f'--workdir={workdir}'))
  assert parameters(disk / 'a') == parameters(copy)
  done = run('evaluate', f'--workdir={disk / "a"}', *BRIEFLY, check=False)
  assert done.returncode == 1 and 'Read-only file system' in one_line(done.stderr)
  assert json.loads(done.stdout.splitlines()[-1])['step'] == 800


@pytest.mark.slow
def test_a_file_in_place_of_the_directory_and_no_compilation_cache(tmp_path):
  (tmp_path / 'file').write_text('mine')
  for place in (tmp_path / 'file', tmp_path / 'file' / 'a'):
    assert 'is a file' in one_line(refused('train', *ARGS, f'--workdir={place}'))
  assert (tmp_path / 'file').read_text() == 'mine'
  done = run('train', *small(10), f'--workdir={tmp_path / "a"}',
             JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'file' / 'cache'))
  assert 'no compilation cache' in done.stderr.splitlines()[0]
  assert 'Traceback' not in done.stderr and 'UserWarning' not in done.stderr


# Data, clocks, locks, signals


DRIVER = '''
import runpy, sys, time
sys.argv = ['launch.train', *sys.argv[1:]]
from gen_models import data
{prelude}
runpy.run_module('launch.train', run_name='__main__')
'''


def drive(prelude, *args):
  """launch.train in a process in which something was replaced before."""
  return subprocess.run([sys.executable, '-c', DRIVER.format(prelude=prelude), *args], cwd=ROOT,
                        capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_streamed_data_that_vanish(trained, tmp_path):
  args = [*ARGS, '--stream', f'--workdir={tmp_path / "a"}']
  done = drive('''
class Vanishing(list):
  reads = 0
  def __getitem__(self, row):
    Vanishing.reads += 1
    if Vanishing.reads > 50_000:
      raise FileNotFoundError(2, 'No such file or directory', '/data/mnist-00000')
    return list.__getitem__(self, row)
source = data.source
data.source = lambda *args: Vanishing(source(*args))
''', *args)
  assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
  error = one_line(done.stderr)
  assert 'cannot be read: FileNotFoundError' in error and '/data/mnist-00000' in error
  assert 'resumes from the last checkpoint' in error
  assert 200 <= load.run(tmp_path / 'a').step < 800
  run('train', *args)
  assert parameters(tmp_path / 'a') == parameters(trained)


@pytest.mark.slow
def test_a_clock_that_jumps(trained, tmp_path):
  """Back and forth by a year at every line; saves, seconds, curves and resuming know nothing."""
  prelude = '''
from gen_models.training import metrics
now, write, offset = time.time, metrics.Metrics.write, [3e7]
time.time = lambda: now() + offset[0]
def jump(self, *args):
  offset[0] *= -1
  write(self, *args)
metrics.Metrics.write = jump
'''
  args = [*SMALL, '--variant=pcd', f'--workdir={tmp_path / "a"}']
  half = drive(prelude, *args, '--save_every_minutes=1')
  assert half.returncode == 0, half.stderr
  times = [line['time'] for line in metrics.read(tmp_path / 'a' / 'metrics.jsonl')]
  assert max(abs(a - b) for a, b in zip(times[1:], times)) > 1e7  # it did jump
  assert parameters(tmp_path / 'a') == parameters(trained)
  saved = {p.name for p in (tmp_path / 'a' / 'checkpoints').iterdir()}
  assert saved == {'800'}  # no minute had passed
  seconds = metrics.history(tmp_path / 'a' / 'metrics.jsonl')['seconds'].value
  assert (np.diff(seconds) > 0).all() and 0 < seconds[-1] < 200
  shutil.rmtree(tmp_path / 'a' / 'checkpoints' / '800')
  again = drive(prelude, *args)
  assert 'resuming' in again.stdout and again.returncode == 0, again.stderr
  assert parameters(tmp_path / 'a') == parameters(trained)


def test_a_lock_left_by_a_dead_process_holds_nobody(tmp_path):
  (tmp_path / '.lock').write_text('12345\n')
  with (rundir.lock(tmp_path), pytest.raises(rundir.ForeignRun, match='another process'),
        rundir.lock(tmp_path)):
    pass
  with rundir.lock(tmp_path):
    pass


def test_a_run_whose_directory_was_replaced_saves_nothing_there(tmp_path):
  """rm -rf under a live run, then another run in its place."""
  workdir = tmp_path / 'run'
  entry = registry.load('rbm_digits')
  values = hyperparameters.resolve(entry, 'pcd', ['num_hidden=5'])
  config, experiment = rundir.configuration(entry, 'pcd', values), entry.experiment(**values)
  with (rundir.lock(workdir) as require,
        rundir.open_checkpoints(workdir, config, experiment, require=require) as checkpoints):
    checkpoints.save(100, {'w': jnp.zeros(3)})
    checkpoints.wait()
    shutil.rmtree(workdir)
    with pytest.raises(rundir.ForeignRun, match='was removed or replaced'):
      checkpoints.save(200, {'w': jnp.zeros(3)})
    with rundir.lock(workdir), pytest.raises(rundir.ForeignRun, match='was removed or replaced'):
      checkpoints.save(200, {'w': jnp.zeros(3)})
    assert [path.name for path in workdir.iterdir()] == ['.lock']


@pytest.mark.slow
def test_metrics_torn_by_a_crash(trained, copy):
  """Half a line, or the zeros that a file system leaves for what it had not written."""
  for tail in (b'{"step": 8', b'\0' * 300):
    with open(copy / 'metrics.jsonl', 'ab') as file:
      file.write(tail)
    assert run('evaluate', f'--workdir={copy}', *BRIEFLY).returncode == 0
    shutil.rmtree(copy / 'checkpoints' / '800')
    run('train', *ARGS, f'--workdir={copy}')
    assert parameters(copy) == parameters(trained)
    steps = [line['step'] for line in metrics.read(copy / 'metrics.jsonl')]
    assert steps == [200, 400, 600, 800]


@pytest.mark.slow
def test_sigterm_while_compiling_saves(trained, tmp_path):
  workdir = tmp_path / 'a'
  process = subprocess.Popen([sys.executable, '-m', 'launch.train', *ARGS, f'--workdir={workdir}'],
                             cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  wait_for(workdir / 'metrics.jsonl', 0)  # made before the first program is compiled
  process.send_signal(signal.SIGTERM)
  out, error = process.communicate(timeout=100)
  assert process.returncode == 143 and 'stopped at step 200, saved' in out, out + error
  assert 'Traceback' not in error
  run('train', *ARGS, f'--workdir={workdir}')
  assert parameters(workdir) == parameters(trained)


SLEEPER = '''
import time
from experiments.rbm_digits import experiment as base
def experiment(*, num_steps: int = 10):
  def evaluate(key, params, data, report):
    report('scoring')
    time.sleep(100)
  return base(num_hidden=5, num_steps=num_steps)._replace(evaluate=evaluate)
'''


@pytest.mark.slow
def test_sigterm_while_scoring(tmp_path):
  (tmp_path / 'sleeper.py').write_text(SLEEPER)
  workdir = tmp_path / 'a'
  run('train', f'--experiment={tmp_path / "sleeper.py"}', f'--workdir={workdir}')
  before = sorted(p for p in workdir.rglob('*') if p.is_file())
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.evaluate', f'--workdir={workdir}'], cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'scoring\n'
  time.sleep(0.2)
  process.send_signal(signal.SIGTERM)
  out, error = process.communicate(timeout=30)
  assert process.returncode == 143 and out == ''
  assert error == 'stopped by SIGTERM; what was saved before is as it was\n'
  assert sorted(p for p in workdir.rglob('*') if p.is_file()) == before


# Going on from another run


@pytest.mark.slow
def test_a_run_from_another_is_bitwise_identical_to_one_run(trained, copy, tmp_path):
  """From the checkpoint of step 600 with the same hyperparameters, the same 200 steps follow."""
  shutil.rmtree(copy / 'checkpoints' / '800')
  args = [*ARGS, f'--from={copy}', f'--workdir={tmp_path / "new"}']
  assert 'at step 600' in run('train', *args).stdout
  assert parameters(tmp_path / 'new') == parameters(trained)
  config = rundir.read_config(tmp_path / 'new')
  assert config['from']['directory'] == str(copy) and config['from']['step'] == 600
  seconds = metrics.history(tmp_path / 'new' / 'metrics.jsonl')['seconds'].value
  assert seconds[0] > config['from']['seconds'] > 0  # the cost of both
  shutil.rmtree(copy)  # no longer needed
  assert 'at step 800' in run('train', *args).stdout


def begin_in(workdir, old, num_hidden=5, seed=0, **options):
  """What launch.train does with --from, in this process."""
  entry = registry.load('rbm_digits')
  values = hyperparameters.resolve(entry, 'pcd', [f'num_hidden={num_hidden}', 'num_steps=1400'])
  experiment = entry.experiment(**values)
  config = {'experiment': 'rbm_digits', 'variant': 'pcd', 'hyperparameters': values, 'seed': seed,
            'seeds': 1} | options
  config['from'] = options.get('from') or warm_start.find(
    old, workdir, config, experiment, data.load('digits').train)
  workdir.mkdir(exist_ok=True)
  rundir.claim(workdir, config)
  with rundir.open_checkpoints(workdir, config, experiment) as checkpoints:
    state, step = warm_start.begin(config, experiment, data.load('digits').train, checkpoints)
  return config, state, step


def test_what_a_run_began_from_is_part_of_what_it_is(copy, tmp_path):
  spoil(copy / 'checkpoints' / '800', 'flip')
  config, state, step = begin_in(tmp_path / 'new', copy)
  assert step == 600 == config['from']['step'] and int(state.step) == 600  # the last good one
  assert (tmp_path / 'new' / 'checkpoints' / '600').is_dir()
  # Whatever becomes of the old run, the new one began where it began.
  shutil.rmtree(copy / 'checkpoints')
  entry = registry.load('rbm_digits').experiment(**config['hyperparameters'])
  assert warm_start.find(copy, tmp_path / 'new', config, entry, None) == config['from']
  with pytest.raises(rundir.ForeignRun, match='from is'):
    rundir.claim(tmp_path / 'new', {k: v for k, v in config.items() if k != 'from'})


def test_another_checkpoint_than_the_one_recorded_is_refused(copy, tmp_path):
  config, *_ = begin_in(tmp_path / 'first', copy)
  changed = config['from'] | {'sha256': '0' * 64}
  with pytest.raises(errors.UsageError, match='not the one this run was begun from'):
    begin_in(tmp_path / 'second', copy, **{'from': changed})


@pytest.mark.parametrize('options, message', [
  ({'num_hidden': 7}, r'cannot begin --from=.*leaf .*w_VH is float32\[64,5\] there'),
  ({'seed': 3}, 'give --seed=0')])
def test_another_shape_or_seed_is_refused(copy, tmp_path, options, message):
  with pytest.raises(errors.UsageError, match=message) as caught:
    begin_in(tmp_path / 'new', copy, **options)
  assert '\n' not in str(caught.value)


UNSTABLE = '''
import jax.numpy as jnp, optax
from experiments.rbm_digits import experiment as base
def experiment(*, learning_rate: float = 0.1, num_steps: int = 1000):
  made = base(num_hidden=5, num_steps=num_steps)
  rate = lambda step: jnp.where((step >= 500) & (learning_rate > 0.05), jnp.inf, learning_rate)
  phases = tuple(p._replace(optimizer=optax.sgd(rate)) for p in made.phases)
  return made._replace(phases=phases)
'''


@pytest.mark.slow
def test_divergence_offers_a_command_that_continues(tmp_path):
  (tmp_path / 'un stable.py').write_text(UNSTABLE)
  workdir = tmp_path / 'a b'
  error = refused('train', f'--experiment={tmp_path / "un stable.py"}', f'--workdir={workdir}',
                  '--save_every_minutes=0', '--set=num_steps=900', '--set=learning_rate=0.1')
  assert 'not finite at step 501: parameter .w_VH' in error
  offered, = [line for line in error.splitlines() if line.startswith('python -m launch.train')]
  words = shlex.split(offered)
  other = f'{workdir}-lr0.01'
  assert words[3:] == [
    f'--experiment={tmp_path / "un stable.py"}', '--save_every_minutes=0.0',
    '--set=num_steps=900', '--set=learning_rate=0.01', f'--from={workdir}', f'--workdir={other}']
  assert load.run(workdir).step == 400  # the last good one
  done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0 and 'at step 400' in done.stdout, done.stderr
  loaded = load.run(pathlib.Path(other))
  assert loaded.step == 900
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(loaded.params))
  assert 'at step 900' in run('train', *words[3:]).stdout


def test_what_is_offered_without_a_checkpoint_or_a_learning_rate(tmp_path):
  values = {'learning_rate': 0.5, 'num_hidden': 5}
  text = warm_start.offer({'hyperparameters': values}, tmp_path / 'a-lr0.5', [])
  assert text == ('python -m launch.train --set=learning_rate=0.05 '
                  f'--workdir={tmp_path / "a-lr0.05"}')
  text = warm_start.offer({'hyperparameters': {'critic_rate': 0.5}}, tmp_path, [])
  assert '--from=' in text and text.endswith('it has critic_rate')
