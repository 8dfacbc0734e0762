"""Two processes of one device against one process of two devices: the same program.

The bits are found equal, here and in all runs compared so far. What is promised is that two runs of
two processes have the same bits, and that one process agrees with them within rounding.
"""

import collections
import contextlib
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from gen_models.training import parallel
from tests import virtual
from tests.training import toy

# Names of the cases, each a run through `fit`; all end in the hash of every leaf and in metrics.
_SCRIPT = """
import hashlib, json, os, sys, pathlib
import jax, numpy as np
from launch.processes import distributed
distributed.join()
from experiments import rbm_digits
from gen_models import data
from gen_models.training import checkpoint, loop, parallel, position
from gen_models.training.hooks import Hooks
from tests.training import toy

folder = pathlib.Path(sys.argv[1])
assert jax.device_count() == 2
found = {}

def note(name, result, lines):
  state = jax.tree.map(lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(
    x.dtype, jax.dtypes.prng_key) else x, result.state)
  leaves = {jax.tree_util.keystr(path): checkpoint._host(x) for path, x in
            jax.tree_util.tree_flatten_with_path(state)[0]}
  found[name] = dict(
    step=result.step, lines=lines,
    leaves={k: hashlib.sha256(x.tobytes()).hexdigest() for k, x in leaves.items()},
    params={k: x.tolist() for k, x in leaves.items() if k.startswith('.params')})

def fit(name, experiment, dataset, key=None, should_stop=lambda: False, **options):
  lines = []
  result = loop.fit(
    experiment, dataset.train, dataset.valid, jax.random.key(3) if key is None else key,
    hooks=Hooks(
      on_metrics=lambda step, m: lines.append({k: np.asarray(v).tolist() for k, v in m.items()}),
      should_stop=should_stop), **options)
  note(name, result, lines)

digits = data.load('digits')
small = data.Dataset('toy', toy.arrays(), toy.arrays(12), toy.arrays(12), 255)
for variant in ('pcd', 'exact'):
  chosen = rbm_digits.VARIANTS[variant] | dict(num_steps=300, num_hidden=5)
  experiment = rbm_digits.experiment(**chosen)._replace(steps_per_dispatch=100, validate_every=100)
  fit(variant, experiment, digits)
  if variant == 'pcd':
    fit('stream', experiment, digits, stream=data.source('digits'))
phases = (toy.phase('centred', num_steps=20, name='first', average=0.9),
          toy.phase('exact', num_steps=30, name='second'))
fit('phases', toy.experiment(*phases), small)
keys = jax.vmap(jax.random.key)(np.arange(2))
fit('replicas', toy.experiment(toy.phase('pcd', num_steps=30)), small, keys)
experiment = toy.experiment(toy.phase('centred', num_steps=50))
fit('whole', experiment, small)
asked = iter(range(100))
def open_checkpoints():
  return checkpoint.Checkpoints(folder, identity={'run': 'toy'}, best_metric='valid_nats')
with open_checkpoints() as checkpoints:
  fit('stopped', experiment, small, checkpoints=checkpoints, should_stop=lambda: next(asked) == 1)
with open_checkpoints() as checkpoints:
  start = position.restore(experiment, checkpoints, jax.random.key(3), small.train)
  fit('resumed', experiment, small, checkpoints=checkpoints, start=start)
if distributed.count() > 1:
  try:
    loop.fit(experiment, small.train, small.valid, jax.random.key(0),
             layout=parallel.Layout('pmap'))
  except ValueError as e:
    found['pmap'] = str(e)
distributed.disconnect()
if distributed.is_first():
  print(json.dumps(found))
"""

CASES = ['pcd', 'exact', 'stream', 'phases', 'replicas', 'whole', 'stopped', 'resumed']


def run(folder, num_processes):
  """Runs the script in so many processes of two devices in all; what process 0 found."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  common = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PJRT_NPROC': '4'}
  if num_processes == 1:
    environments = [{**common, **virtual.devices(2)}]
  else:
    environments = [{**common, 'GEN_MODELS_COORDINATOR': address, 'GEN_MODELS_PROCESSES': '2',
                     'GEN_MODELS_PROCESS': str(i)} for i in range(2)]
  processes = [subprocess.Popen([sys.executable, '-c', _SCRIPT, str(folder)], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for environment in environments]
  try:
    ends = [process.communicate(timeout=250) for process in processes]
  finally:
    for process in processes:
      with contextlib.suppress(ProcessLookupError):
        process.kill()
  for process, (_, err) in zip(processes, ends):
    assert process.returncode == 0, err[-3000:]
  return json.loads(ends[0][0].splitlines()[-1])


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return {name: run(folder / name, n) for name, n in (('two', 2), ('again', 2), ('one', 1))}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('case', CASES)
def test_two_processes_are_one_program(runs, case):
  two, again, one = (runs[name][case] for name in ('two', 'again', 'one'))
  assert two == again
  assert two['leaves'].keys() == one['leaves'].keys() and two['step'] == one['step']
  for leaf, value in two['params'].items():
    np.testing.assert_allclose(value, one['params'][leaf], atol=1e-5)
  assert [line.keys() for line in two['lines']] == [line.keys() for line in one['lines']]
  assert two['leaves'] == one['leaves'], 'within rounding, but no longer the same bits'


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_and_resumed_and_streamed_end_in_the_same_bits(runs):
  two = runs['two']
  assert two['stopped']['step'] == 20 and two['resumed']['step'] == 50
  assert two['resumed']['leaves'] == two['whole']['leaves'] != two['stopped']['leaves']
  assert two['stream']['leaves'] == two['pcd']['leaves']
  assert "several processes need 'sharded'" in two['pmap']


def test_only_sharded_spreads_over_processes(monkeypatch):
  device = collections.namedtuple('Device', 'process_index')
  devices = [device(i) for i in (0, 0, 1, 1)]
  for how in ('pmap', 'replicas'):
    with pytest.raises(ValueError, match=f"{how}.*several processes need 'sharded'"):
      parallel.runner(toy.phase(), how, devices=devices, replicated=True)


def test_each_process_reads_its_part_of_a_batch(monkeypatch):
  device = collections.namedtuple('Device', 'process_index')
  monkeypatch.setattr(parallel.jax, 'process_index', lambda: 1)
  assert parallel._share([device(i) for i in (0, 0, 1, 1)]) == (1, 2)
  assert parallel._share([device(1)]) == (0, 1)
  with pytest.raises(ValueError, match='not next to each other'):
    parallel._share([device(i) for i in (0, 1, 0, 1)])
