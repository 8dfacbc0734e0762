"""launch.profile: products counted as by hand, time given to what spends it, a trace that opens."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from launch.measure import profile
from tests.launch.commands import refused, run


def products(size, times):
  def body(x, _):
    return jnp.tanh(x @ jnp.ones((size, size))), None
  return lambda x: jax.lax.scan(body, x, length=times)[0]


def test_a_loop_counts_as_often_as_it_runs():
  x = jnp.ones((3, 7))
  assert profile.product_flops(products(7, 5), x) == (5 * 2 * 3 * 7 * 7, 0)
  twice = jax.jit(jax.vmap(jax.jit(products(7, 5))))
  assert profile.product_flops(twice, jnp.ones((4, 3, 7))) == (4 * 5 * 2 * 3 * 7 * 7, 0)


def test_the_dearer_branch_counts_and_a_loop_of_unknown_length_is_reported():
  def branches(x):
    return jax.lax.cond(x[0, 0] > 0, products(7, 5), products(7, 2), x)

  def unknown(x):
    return jax.lax.while_loop(lambda x: x[0, 0] > 0, products(7, 1), x)

  x = jnp.ones((3, 7))
  assert profile.product_flops(branches, x) == (5 * 2 * 3 * 7 * 7, 0)
  assert profile.product_flops(unknown, x) == (2 * 3 * 7 * 7, 1)


def test_a_convolution_counts_its_kernel_for_every_output():
  def conv(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), 'SAME',
                                        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  found = profile.product_flops(conv, jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 4)))
  assert found == (2 * (2 * 8 * 8 * 4) * (5 * 5 * 3), 0)


def test_time_belongs_to_the_operation_that_spends_it(tmp_path):
  def event(name, begin, length, lane=1, **args):
    return {'ph': 'X', 'name': name, 'ts': begin, 'dur': length, 'pid': 1, 'tid': lane,
            'args': {'hlo_op': name, **args}}

  events = [event('while', 0, 100), event('dot', 10, 30), event('add', 50, 10),
            event('dot', 70, 20), event('dot', 200, 5), event('add', 0, 40, lane=2),
            {'ph': 'X', 'name': 'python', 'ts': 0, 'dur': 1e6, 'pid': 1, 'tid': 3}]
  path = tmp_path / 'x.trace.json.gz'
  with gzip.open(path, 'wt') as file:
    json.dump({'traceEvents': events}, file)
  found = {x.name: (round(1e6 * x.seconds), x.count) for x in profile.operations(path)}
  assert found == {'dot': (55, 3), 'add': (50, 2), 'while': (40, 1)}
  assert sum(x.share for x in profile.operations(path)) == pytest.approx(1)


def test_the_command_counts_pcd_as_the_formula_and_leaves_a_trace(tmp_path):
  done = run('profile', '--experiment=rbm_digits', '--variant=pcd', '--set=num_hidden=8',
             '--steps=5', f'--out={tmp_path}', '--json')
  found = json.loads(done.stdout.splitlines()[-1])
  # Five of 100 x 64 x 8: h of the data, a sweep there and back, the moments of the two phases; and
  # the means of v and h of both, which are products too.
  assert found['product_flops'] == 5 * 2 * 100 * 64 * 8 + 2 * 2 * 100 * (64 + 8)
  assert 0 < found['fraction_of_peak'] < 1 and found['seconds_per_step'] > 0
  assert found['unknown_loops'] == 0 and len(found['operations']) == 12
  with gzip.open(found['trace']) as file:
    assert json.load(file)['traceEvents']


def test_a_phase_that_is_not_there_is_refused(tmp_path):
  assert 'counted from 0' in refused('profile', '--experiment=rbm_digits', '--phase=1',
                                     f'--out={tmp_path}')
