"""What devices tell each other in a step, read from the compiled program of every family."""

import collections
import os
import re
import subprocess
import sys

import pytest

from tests import virtual

# One sum of all gradients and metrics over devices is needed, and suffices for most.
ONE = {'all-reduce': 1}
EXPECTED = {
  'rbm_digits': ONE, 'rbm_digits:centred': ONE, 'rbm_mnist': ONE,
  'gaussian_rbm': ONE, 'linear_rbm': ONE,
  'dbn:digits': ONE, 'autoencoder:digits': ONE, 'classifier:digits': ONE,
  'vae:digits': ONE, 'vae:iwae5': ONE, 'vae:digits_two_layers': ONE,
  'belief_net:digits_disarm': ONE, 'gan_grid': ONE,
  # Chains at neighbouring rungs swap; their axis is folded into that of the chains.
  'rbm_mnist:pt': {'all-reduce': 1, 'all-gather': 2},
  # Each sample is compared with the mean of the others.
  'belief_net:digits': {'all-reduce': 1, 'all-gather': 1},
  # Mean field ends when no unit of any row moves; discriminative gradients class by class.
  'dbm:digits': {'all-reduce': 2}, 'class_rbm:digits_hybrid': {'all-reduce': 2},
  # One in the turn of each player. Batch normalisation needs its moments besides.
  'gan:digits': {'all-reduce': 2},
  # The mean, then the covariance around it.
  'gaussian': {'all-reduce': 2}, 'mixture': {'all-reduce': 2}}
OPERATIONS = ('all-reduce', 'all-gather', 'all-to-all', 'collective-permute', 'reduce-scatter',
              'collective-broadcast')

_SCRIPT = """
import sys
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
from gen_models.training import parallel, step
from launch.cli import registry
from tests.experiments.test_variants import some_images

mesh = jax.make_mesh((2,), (parallel.AXIS,), axis_types=(jax.sharding.AxisType.Auto,))

def placed(tree, spec):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=NamedSharding(mesh, spec)), tree)

for name in sys.argv[1:]:
  experiment, _, variant = name.partition(':')
  entry = registry.load(experiment)
  made = entry.experiment(**(entry.variants[variant] if variant else {}))
  phase, arrays = made.phases[0], some_images(made.dataset)
  state = jax.eval_shape(lambda key: step.init_state(key, phase, arrays), jax.random.key(0))
  state = parallel._on_chains(state, lambda x: placed(x, P(parallel.AXIS)),
                              lambda x: placed(x, P()))
  program = parallel.runner(phase).dispatch.lower(state, placed(arrays, P()), 2).compile()
  print('PROGRAM', name, flush=True)
  print(program.as_text(), flush=True)
"""


def counted(program: str) -> dict[str, int]:
  """How often each operation between devices stands in the text of a compiled program."""
  pattern = rf' ({"|".join(OPERATIONS)})(?:-start)?\('
  return dict(collections.Counter(re.findall(pattern, program)))


@pytest.mark.slow
def test_a_step_of_every_family_has_one_sum_over_devices_or_the_reason_stands_here():
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT, *EXPECTED], capture_output=True, text=True, timeout=280,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **virtual.devices(2)})
  assert done.returncode == 0, done.stderr[-3000:]
  programs = dict(text.split('\n', 1) for text in done.stdout.split('PROGRAM ')[1:])
  assert {name: counted(text) for name, text in programs.items()} == EXPECTED


def test_operations_are_counted_where_they_stand():
  assert counted('''
    %all-reduce.1 = (f32[2,3]{1,0}, /*index=5*/f32[]) all-reduce(%x, %y), channel_id=1
    %z = f32[4]{0} all-gather-start(%all-reduce.1), metadata={op_name="all-reduce"}
    ROOT %done = f32[4]{0} all-gather-done(%z)''') == {'all-reduce': 1, 'all-gather': 1}
