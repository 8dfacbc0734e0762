"""Flags that commands share: one definition each, and bounds that no command escapes."""

import ast
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from gen_models.training import keys
from launch import errors
from launch.cli import flags as shared, hyperparameters, registry
from launch.runs import directory as rundir, memory
from tests.launch.commands import ROOT

SHARED = {'workdir', 'data_dir', 'checkpoint', 'seed', 'seeds', 'search_seed', 'set',
          'save_every_minutes', 'accept_code', 'variant'}
PARSE = '''
import json, sys
from absl import flags
import launch.train
found = []
for words in json.loads(sys.argv[1]):
  flags.FLAGS.unparse_flags()
  for name in ('seed', 'seeds', 'workdir'):
    flags.FLAGS[name].unparse()
  try:
    flags.FLAGS(['train', '--experiment=rbm_digits', *words])
    found.append('')
  except flags.Error as e:
    found.append(str(e))
print(json.dumps(found))
'''


def test_a_flag_that_several_commands_share_is_defined_once():
  for path in (ROOT / 'launch').rglob('*.py'):
    if path == ROOT / 'launch' / 'cli' / 'flags.py':
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Call) and ast.unparse(node.func).startswith('flags.DEFINE_'):
        name = ast.literal_eval(node.args[0])
        assert name not in SHARED and 'seed' not in name, f'{path} defines --{name} itself'


def test_seeds_and_directories_that_cannot_be_are_refused():
  cases = {'--workdir=a': '', '--workdir=a --seed=4294967295': '',
           '--workdir=a --seed=4294967296': '4294967295', '--workdir=a --seed=-1': '[0, ',
           '--workdir=a --seed=9223372036854775808': '4294967295',
           '--workdir=a --seeds=1000000000': '65536', '--workdir=a --seeds=0': '[1, ',
           '--workdir=a --seed=4294967290 --seeds=6': '',
           '--workdir=a --seed=4294967290 --seeds=7': 'go beyond', '--workdir=': 'it is empty'}
  done = subprocess.run([sys.executable, '-c', PARSE, json.dumps([c.split() for c in cases])],
                        cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
  for (case, wanted), found in zip(cases.items(), json.loads(done.stdout), strict=True):
    assert wanted in found and bool(wanted) == bool(found), (case, found)


def test_no_two_seeds_are_one_run():
  seeds = [0, 1, 2**31 - 1, 2**31, shared.MAX_SEED]
  made = np.asarray(jax.random.key_data(keys.of_seeds(seeds)))
  for seed, key in zip(seeds, made, strict=True):
    np.testing.assert_array_equal(key, jax.random.key_data(jax.random.key(seed)))
  assert len(np.unique(made, axis=0)) == len(seeds)
  last = keys.of_run(shared.MAX_SEED - 1, 2)
  np.testing.assert_array_equal(jax.random.key_data(last)[1], made[-1])


def test_a_configuration_of_too_many_seeds_is_no_run(tmp_path):
  entry = registry.load('rbm_digits')
  config = rundir.configuration(entry, None, hyperparameters.resolve(entry), seeds=10**8)
  rundir.claim(tmp_path, config)
  with pytest.raises(rundir.ForeignRun, match='does not describe'):
    rundir.read_config(tmp_path)


def test_more_replicas_than_memory_holds_are_refused(monkeypatch):
  state = {'w': jax.ShapeDtypeStruct((1000,), np.float32), 'key': jax.random.key(0)}
  assert memory.num_bytes(state) == 4008
  monkeypatch.setattr(memory, 'free_memory', lambda: 100 * 2 * 4008.0)
  memory.require_replicas(100, state)
  with pytest.raises(errors.UsageError, match='--seeds=101: .* which hold 100'):
    memory.require_replicas(101, state)
  monkeypatch.setattr(memory, 'free_memory', lambda: 8000.0)
  with pytest.raises(errors.UsageError, match='a run of these sizes needs .* smaller layers'):
    memory.require_replicas(1, state)


def test_a_hyperparameter_is_set_once():
  with pytest.raises(errors.UsageError, match='--set=num_steps is given twice'):
    hyperparameters.resolve(registry.load('rbm_digits'), None, ['num_steps=1', 'num_steps=2'])
