"""One step on 1, 2 and 4 devices. Devices are virtual and live in a process of their own."""

import json
import os
import subprocess
import sys

import jax
import pytest

from gen_models.training import parallel
from tests import virtual
from tests.training import toy

_SCRIPT = """
import functools, json, sys
import jax, jax.numpy as jnp, numpy as np
from gen_models.estimators.base import Estimator, Memory
from gen_models.training import parallel
from tests.training import toy
from experiments import rbm_digits
from gen_models import data

@functools.cache
def digits_begun(variant):
  phase, = rbm_digits.experiment(**rbm_digits.VARIANTS[variant]).phases
  train = data.load('digits').train
  return phase, train, parallel.init_states(phase, jax.random.key(0), train)

def digits(variant, num_devices):
  phase, train, state = digits_begun(variant)
  runner = parallel.runner(phase, devices=jax.devices()[:num_devices])
  state = runner.place(state)
  arrays = runner.place_arrays(train)
  for _ in range(20):
    state, _ = jax.block_until_ready(runner.dispatch(state, arrays, 10))
  return jax.device_get(state)

@functools.cache
def begun(estimator, seeds):
  phase = toy.phase(estimator, num_steps=200)
  keys = jax.random.key(3) if seeds is None else jax.vmap(jax.random.key)(np.arange(seeds))
  return phase, parallel.init_states(phase, keys, toy.arrays())

def end(how, estimator, num_devices, seeds=None):
  # 200 steps, every dispatch awaited: two cores and several virtual devices can deadlock otherwise.
  phase, state = begun(estimator, seeds)
  runner = parallel.runner(phase, how, devices=jax.devices()[:num_devices],
                           replicated=seeds is not None)
  state, arrays = runner.place(state), runner.place_arrays(toy.arrays())
  for _ in range(20):
    state, metrics = jax.block_until_ready(runner.dispatch(state, arrays, 10))
  return jax.device_get(runner.collect(state)), metrics

def counting(key, params, memory, batch):
  count = memory.shared['count'] + 1
  mean = memory.shared['mean'] + jnp.mean(batch)
  grads = jax.tree.map(jnp.zeros_like, params)
  return grads, memory._replace(shared={'count': count, 'mean': mean}), {'count': count}

def counted(num_devices):
  # The shared memory and the metrics of an estimator that counts in integers, under pmap.
  init = lambda key, params: Memory((), {'count': jnp.int32(0), 'mean': jnp.float32(0)})
  phase = toy.phase('exact')._replace(estimator=Estimator(init, counting))
  runner = parallel.runner(phase, 'pmap', devices=jax.devices()[:num_devices])
  state = runner.place(parallel.init_states(phase, jax.random.key(0), toy.arrays()))
  state, metrics = runner.dispatch(state, runner.place_arrays(toy.arrays()), 5)
  shared = jax.device_get(runner.collect(state).memory.shared)
  return (str(shared['count'].dtype), int(shared['count']), float(shared['mean']),
          float(metrics['count']))

def gap(a, b):
  return float(max(np.max(np.abs(x - y)) for x, y in zip(a.params, b.params)))

found = {}
for variant in ('pcd', 'centred'):
  one, many = digits(variant, 1), digits(variant, 4)
  found[f'digits {variant} 4 weights'] = gap(one, many)
  found[f'digits {variant} 4 chains'] = toy.same_bits(one.memory.chains, many.memory.chains)
for estimator in ('centred', 'exact'):
  one, _ = end('sharded', estimator, 1)
  for n in (2, 4):
    many, _ = end('sharded', estimator, n)
    found[f'{estimator} {n} weights'] = gap(one, many)
    found[f'{estimator} {n} chains'] = toy.same_bits(one.memory.chains, many.memory.chains)
    spread, metrics = end('pmap', estimator, n)
    found[f'{estimator} {n} pmap'] = gap(one, spread)
    shapes = [jax.tree.map(np.shape, state) for state in (spread, one)]
    found[f'{estimator} {n} pmap shapes'] = shapes[0] == shapes[1]
    found[f'{estimator} {n} moment'] = float(metrics.get('moment_error', 0.0))
found['counted'] = [counted(n) for n in (1, 4)]
found['one pmap'] = toy.same_bits(end('pmap', 'exact', 1)[0].params, one.params)
replicas, _ = end('sharded', 'centred', 2, seeds=2)
alone, _ = end('sharded', 'centred', 1, seeds=2)
found['replicas'] = gap(replicas, alone)
spread, _ = end('pmap', 'exact', 2, seeds=2)
alone, _ = end('sharded', 'exact', 1, seeds=2)
found['pmap replicas'] = gap(spread, alone)
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def found():
  environment = {**os.environ, 'PJRT_NPROC': '8', 'JAX_PLATFORMS': 'cpu', **virtual.devices(4)}
  done = subprocess.run([sys.executable, '-c', _SCRIPT], env=environment, capture_output=True,
                        text=True, timeout=280)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('estimator, tolerance, num_devices', [
  ('centred', 2e-6, 2), ('centred', 2e-6, 4), ('exact', 1e-6, 2), ('exact', 1e-6, 4),
  ('digits pcd', 1e-6, 4),
  # Centred biases add 64 products of rounded weights: five times the rounding of one.
  ('digits centred', 1e-5, 4)])
def test_sharded_runs_agree_with_one_device(found, estimator, tolerance, num_devices):
  assert found[f'{estimator} {num_devices} weights'] < tolerance
  assert found[f'{estimator} {num_devices} chains']


@pytest.mark.parametrize('num_devices', [2, 4])
def test_pmap_agrees_exactly_where_nothing_is_drawn(found, num_devices):
  assert found[f'exact {num_devices} pmap'] < 1e-6
  assert found[f'exact {num_devices} pmap shapes']


@pytest.mark.parametrize('num_devices', [2, 4])
def test_pmap_draws_its_own_samples(found, num_devices):
  # Other draws, so other weights; the same law, so close ones. 0.5 is 10 times the gap seen.
  assert 1e-6 < found[f'centred {num_devices} pmap'] < 0.5
  assert found[f'centred {num_devices} pmap shapes']


def test_pmap_on_one_device_is_the_same_program(found):
  assert found['one pmap']


def test_pmap_averages_what_floats_and_keeps_counters(found):
  """So an estimator counts in integers and need not know of devices."""
  for dtype, count, _, metric in found['counted']:
    assert (dtype, count, metric) == ('int32', 5, 3.0)  # the metric: the mean of 1, .., 5
  (_, _, one, _), (_, _, many, _) = found['counted']
  assert abs(one - many) < 1e-5


def test_replicas_over_devices(found):
  assert found['replicas'] < 5e-6
  assert found['pmap replicas'] < 1e-6


def test_chains_that_do_not_divide_are_refused():
  phase = toy.phase('pcd')
  state = parallel.init_states(phase, jax.random.key(0), toy.arrays())
  with pytest.raises(ValueError, match='16 chains do not divide over 3 devices'):
    parallel.check_chains(state, 0, 3)


def test_unknown_way_is_refused():
  with pytest.raises(ValueError, match='sharded'):
    parallel.runner(toy.phase(), 'horovod')
