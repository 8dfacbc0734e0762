"""One step on 1, 2 and 4 devices. Devices are virtual and live in a process of their own."""

import functools
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

parts = {}

def digits(variant, num_devices, model=1):
  phase, train, state = digits_begun(variant)
  runner = parallel.runner(phase, devices=jax.devices()[:num_devices], model=model)
  state = runner.place(state)
  arrays = runner.place_arrays(train)
  for _ in range(20):
    state, _ = jax.block_until_ready(runner.dispatch(state, arrays, 10))
  parts[model] = [x.addressable_shards[0].data.shape for x in (
    state.params.w_VH, state.params.b_V, jax.tree.leaves(state.memory.chains)[0])]
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

n, variant = int(sys.argv[1]), sys.argv[2]
found = {}
one, many = digits(variant, 1), digits(variant, n)
found[f'digits {variant} weights'] = gap(one, many)
found[f'digits {variant} chains'] = toy.same_bits(one.memory.chains, many.memory.chains)
wide = digits(variant, n, model=2)
found['model weights'] = gap(one, wide)
found['model chains'] = toy.same_bits(one.memory.chains, wide.memory.chains)
found['model parts'] = [parts[1], parts[2]]
for estimator in ('centred', 'exact'):
  one, _ = end('sharded', estimator, 1)
  many, _ = end('sharded', estimator, n)
  found[f'{estimator} weights'] = gap(one, many)
  found[f'{estimator} chains'] = toy.same_bits(one.memory.chains, many.memory.chains)
  spread, metrics = end('pmap', estimator, n)
  found[f'{estimator} pmap'] = gap(one, spread)
  shapes = [jax.tree.map(np.shape, state) for state in (spread, one)]
  found[f'{estimator} pmap shapes'] = shapes[0] == shapes[1]
found['counted'] = [counted(k) for k in (1, n)]
found['one pmap'] = toy.same_bits(end('pmap', 'exact', 1)[0].params, one.params)
replicas, _ = end('sharded', 'centred', 2, seeds=2)
alone, _ = end('sharded', 'centred', 1, seeds=2)
found['replicas'] = gap(replicas, alone)
spread, _ = end('pmap', 'exact', 2, seeds=2)
alone, _ = end('sharded', 'exact', 1, seeds=2)
found['pmap replicas'] = gap(spread, alone)
print(json.dumps(found))
"""


@functools.cache
def found(num_devices, variant):
  """What the script finds, with digits by this variant of rbm_digits."""
  environment = {**os.environ, 'PJRT_NPROC': '8', 'JAX_PLATFORMS': 'cpu', **virtual.devices(4)}
  done = subprocess.run([sys.executable, '-c', _SCRIPT, str(num_devices), variant],
                        env=environment, capture_output=True, text=True, timeout=280)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


FOUR, TWO = (4, 'centred'), (2, 'pcd')
numbers_of_devices = pytest.mark.parametrize('devices', [
  FOUR, pytest.param(TWO, marks=pytest.mark.slow)], ids=['4', '2'])


@numbers_of_devices
def test_sharded_runs_agree_with_one_device(devices):
  this = found(*devices)
  # Centred biases of digits add 64 products of rounded weights: five times the rounding of one.
  for name, tolerance in (('centred', 2e-6), ('exact', 1e-6),
                          (f'digits {devices[1]}', 1e-5 if devices == FOUR else 1e-6)):
    assert this[f'{name} weights'] < tolerance, name
    assert this[f'{name} chains'], name


@numbers_of_devices
def test_units_split_over_devices_are_those_of_one(devices):
  this = found(*devices)
  assert this['model weights'] < 1e-5 and this['model chains']
  (w, b, chains), parts = this['model parts']
  assert parts[:2] == [[w[0], w[1] // 2], [b[0] // 2]]
  assert parts[2] == [2 * chains[0], chains[1] // 2]  # half the groups, half the units


@numbers_of_devices
def test_pmap_agrees_exactly_where_nothing_is_drawn(devices):
  this = found(*devices)
  assert this['exact pmap'] < 1e-6 and this['exact pmap shapes']


@numbers_of_devices
def test_pmap_draws_its_own_samples(devices):
  this = found(*devices)
  # Other draws, so other weights; the same law, so close ones. 0.5 is 10 times the gap seen.
  assert 1e-6 < this['centred pmap'] < 0.5 and this['centred pmap shapes']


def test_pmap_on_one_device_is_the_same_program():
  assert found(*FOUR)['one pmap']


def test_pmap_averages_what_floats_and_keeps_counters():
  """So an estimator counts in integers and need not know of devices."""
  for dtype, count, _, metric in found(*FOUR)['counted']:
    assert (dtype, count, metric) == ('int32', 5, 3.0)  # the metric: the mean of 1, .., 5
  (_, _, one, _), (_, _, many, _) = found(*FOUR)['counted']
  assert abs(one - many) < 1e-5


def test_replicas_over_devices():
  assert found(*FOUR)['replicas'] < 5e-6
  assert found(*FOUR)['pmap replicas'] < 1e-6


def test_chains_that_do_not_divide_are_refused():
  phase = toy.phase('pcd')
  state = parallel.init_states(phase, jax.random.key(0), toy.arrays())
  with pytest.raises(ValueError, match='16 chains do not divide over 3 devices'):
    parallel.check_chains(state, 0, 3)


def test_devices_that_are_no_whole_groups_are_refused():
  with pytest.raises(ValueError, match='=2 does not divide the number of devices, 1'):
    parallel.runner(toy.phase(), model=2, devices=jax.devices()[:1])
  with pytest.raises(ValueError, match="not by 'pmap'"):
    parallel.runner(toy.phase(), 'pmap', model=2)


def test_unknown_way_is_refused():
  with pytest.raises(ValueError, match='sharded'):
    parallel.runner(toy.phase(), 'horovod')
