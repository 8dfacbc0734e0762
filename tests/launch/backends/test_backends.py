"""Which flags are whose, what a job is told to run, and the environment it gets."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from launch import backends, errors
from launch.cli import environment
from tests.test_documents import commands

flags.DEFINE_string('of_the_command', None, 'A flag that is not of launch.backends.')


def test_runs_here_by_default(parse):
  parse()
  assert not backends.elsewhere()
  parse('--where=slurm', '--slurm_nodes=2')
  assert backends.elsewhere()


@pytest.mark.parametrize('words, said', [
  (['--slurm_nodes=2'], '--slurm_nodes is for --where=slurm, not local'),
  (['--where=k8s', '--tpu_type=v6e-8'], '--tpu_type is for --where=tpu, not k8s'),
  (['--where_env=A=1'], 'here set the variable itself')])
def test_flags_of_another_place_are_refused(parse, words, said):
  parse(*words)
  with pytest.raises(errors.UsageError, match=said):
    backends.elsewhere()


def test_the_job_runs_the_command_without_the_flags_of_this_package(parse):
  parse()
  words = ['--experiment=a', '--where=slurm', '--where', 'slurm', '--dry_run', '--nofollow',
           '--nodry_run', '--slurm_time', '1:00:00', '--slurm_extra=--mem=1', '--k8s_spot',
           '--tpu_keep=true', '--set=x=--where=tpu', '--of_the_command', '--where', '--where_env',
           'A=b c', '-slurm_nodes=2', '--set', 'where=1', '--unknown', '--', '--where=k8s']
  assert backends.command('launch.train', words) == [
    'python', '-m', 'launch.train', '--experiment=a', '--set=x=--where=tpu', '--of_the_command',
    '--where', '--set', 'where=1', '--unknown', '--', '--where=k8s']


def test_a_dry_run_here_shows_the_command(parse, capsys):
  parse('--dry_run')
  assert backends.submit(['python', '-m', 'launch.train', '--set=a=b c'], 'runs/x') == 0
  assert "python -m launch.train '--set=a=b c'" in capsys.readouterr().out


@pytest.mark.parametrize('accelerator', ['cpu', 'gpu', 'tpu'])
@pytest.mark.parametrize('own', [{}, {'XLA_FLAGS': '--mine=1', 'LIBTPU_INIT_ARGS': '--mine=2',
                                      'JAX_DEFAULT_MATMUL_PRECISION': 'default', 'A': "b '$c"}])
def test_what_the_user_has_set_is_kept(accelerator, own):
  """In the job's environment, or by --where_env: of a list the last word, else the only one."""
  ways = [(environment.exports(accelerator, {}), own), (environment.exports(accelerator, own), {})]
  for lines, given in ways:
    done = subprocess.run(['bash', '-c', '\n'.join([*lines, 'env -0'])], capture_output=True,
                          text=True, check=True, env={'PATH': os.environ['PATH'], **given})
    found = dict(v.split('=', 1) for v in done.stdout.split('\0') if v)
    expected = environment.environment(accelerator, own)
    assert {k: ' '.join(found.get(k, '').split()) for k in expected} == expected
  for name, value in own.items():
    assert expected[name].split()[-1] == value.split()[-1]
  assert set(environment.environment(accelerator, own)) == set(own) | set(
    environment.defaults(accelerator))


def test_every_setting_says_why_and_is_no_duplicate():
  assert len({(s.name, s.value) for s in environment.SETTINGS}) == len(environment.SETTINGS)
  assert all(s.why and set(s.accelerators) <= {'cpu', 'gpu', 'tpu'} for s in environment.SETTINGS)
  assert not environment.defaults('cpu')


def test_jax_takes_the_settings():
  """jaxlib ends a process at a flag that it does not know."""
  def start(xla_flags):
    env = {**os.environ, **environment.defaults('gpu'), 'JAX_PLATFORMS': 'cpu',
           'XLA_FLAGS': xla_flags}
    return subprocess.run(
      [sys.executable, '-c', 'import jax; jax.numpy.zeros(1); '
       'print(jax.config.jax_default_matmul_precision)'], env=env, capture_output=True, text=True)
  assert start(environment.defaults('gpu')['XLA_FLAGS']).stdout == 'float32\n'
  assert start('--xla_gpu_no_such_flag=true').returncode != 0


@pytest.mark.parametrize('own, precision, last', [
  ({}, 'float32', '--xla_gpu_deterministic_ops=true'),
  ({'XLA_FLAGS': '--xla_gpu_deterministic_ops=false', 'JAX_DEFAULT_MATMUL_PRECISION': 'default'},
   'default', '--xla_gpu_deterministic_ops=false')])
def test_every_command_sets_what_decides_about_numbers(own, precision, last):
  """Started by hand too; what the user has set wins, and a second call adds nothing."""
  env = {k: v for k, v in os.environ.items() if k not in environment.of_numbers({})}
  done = subprocess.run(
    [sys.executable, '-c', 'import os, jax; from launch.cli import jax_setup\n'
     'for _ in range(2): jax_setup.setup(); print(os.environ["XLA_FLAGS"])\n'
     'print(jax.config.jax_default_matmul_precision)'],
    env={**env, 'JAX_PLATFORMS': 'cpu', **own}, capture_output=True, text=True, check=True)
  once, twice, found = done.stdout.splitlines()
  assert once == twice and once.split()[-1] == last and found == precision


@pytest.mark.parametrize('word', ['A', '=1', '1A=2', 'A B=2'])
def test_what_is_no_variable_is_refused(word):
  with pytest.raises(errors.UsageError, match='NAME=value'):
    environment.given([word])


def test_commands_of_the_clusters_page_render(parse, capsys, tmp_path, monkeypatch):
  """Each is a dry run, which must not depend on what is installed, and names its experiment."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PATH', str(tmp_path))
  lines = [line for line in commands('docs/howto/clusters.md') if '--where=' in line]
  assert {re.search(r'--where=(\w+)', line)[1] for line in lines} == {'slurm', 'tpu', 'k8s'}
  for line in lines:
    words = shlex.split(line)[3:]
    parse()
    own = backends.command('launch.train', words)
    assert own[:3] == shlex.split(line)[:3]
    with flagsaver.flagsaver():
      parse(*[word for word in words if word not in own])
      assert backends.elsewhere() and backends.DRY_RUN.value
      workdir, = (w.split('=')[1] for w in own if w.startswith('--workdir='))
      assert backends.submit(own, workdir) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in own[1:]), out
  assert not list(tmp_path.iterdir())


def test_a_bad_experiment_fails_before_anything_is_submitted(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'launch.train', '--experiment=rbm_digits', '--variant=pdc',
     '--where=slurm', f'--workdir={tmp_path}/a'], capture_output=True, text=True,
    env={**os.environ, 'PATH': str(tmp_path)})
  assert done.returncode == 1 and 'did you mean pcd' in done.stderr
  assert not list(tmp_path.iterdir())
