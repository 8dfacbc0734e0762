"""Environments in which JAX cannot work are one line each, before any work."""

import os
import pwd
import subprocess
import sys

import jax
import pytest

from launch import errors
from launch.cli import app, environment, jax_setup
from tests.launch.commands import ROOT


@pytest.mark.parametrize('flags, unknown', [
  ('', []), ('--xla_force_host_platform_device_count=2 --xla_cpu_enable_fast_math=true', []),
  ('--xla_no_such_flag=1 --xla_dump_to=/tmp/x', ['--xla_no_such_flag']),
  ('--xla_force_host_platform_device=2', ['--xla_force_host_platform_device']),
  (environment.defaults('gpu')['XLA_FLAGS'], []), ('flags.txt', [])])
def test_flags_that_would_end_the_process_are_found(flags, unknown):
  assert jax_setup.unknown_flags(flags) == unknown


def test_settings_that_cannot_be_are_refused(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_no_such_flag=1')
  with pytest.raises(errors.UsageError, match='XLA_FLAGS has --xla_no_such_flag, which'):
    jax_setup.setup()
  monkeypatch.delenv('XLA_FLAGS')
  with jax.enable_x64(True), pytest.raises(errors.UsageError, match='JAX_ENABLE_X64 is set'):
    jax_setup.setup()


def test_without_a_home_there_is_no_cache_and_what_needs_one_says_so(monkeypatch, tmp_path):
  def nobody(uid):
    raise KeyError(uid)
  for name in ('HOME', 'XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', nobody)
  assert jax_setup._cache() is None
  from gen_models.data import cache
  with pytest.raises(RuntimeError) as caught:
    cache.root(None)
  assert 'set HOME' in app._no_home(caught.value) and app._no_home(RuntimeError('x')) is None
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert jax_setup._cache() == str(tmp_path / 'gen_models' / 'jax')


def test_a_device_that_is_not_there_is_one_line(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'launch.train', '--experiment=rbm_digits', f'--workdir={tmp_path}/a'],
    cwd=ROOT, capture_output=True, text=True, timeout=100,
    env={**os.environ, 'JAX_PLATFORMS': 'cuda', 'CUDA_VISIBLE_DEVICES': ''})
  assert done.returncode == 1
  line, = done.stderr.splitlines()
  assert line.startswith('error: JAX_PLATFORMS=cuda: there is no such device here')
  assert not (tmp_path / 'a' / 'config.json').exists()
