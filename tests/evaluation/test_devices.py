"""Scores and draws on one device and on four virtual ones, which live in a process of their own."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import devices
from tests import virtual

_SCRIPT = """
import json
import jax, jax.numpy as jnp, numpy as np
from gen_models import devices
from gen_models.evaluation import blocks, copies, decoders, importance, samples
from gen_models.models import gibbs, rbm, vae
from gen_models.samplers import annealing, hamiltonian, thorough
from tests.training.test_collectives import counted

blocks.CELLS = 600  # so that a few rows are several blocks
key = jax.random.key
machine = rbm.init(key(0), 12, 8)._replace(w_VH=jax.random.normal(key(1), (12, 8)))
base_V, betas = jnp.zeros(12), np.linspace(0, 1, 41)
net = vae.model(12, (3,), ((6,),))
nets = net.init(key(2), jnp.full(12, 0.4))
x_NV = np.asarray(jax.random.bernoulli(key(3), 0.4, (40, 12)), np.float32)
places = {}

def bracket(params, _):
  places['chains'] = len(annealing.forward(
    key(4), params, base_V, 8, betas).v_CV.sharding.device_set)
  z = annealing.bracket(key(5), params, base_V, x_NV[:8], betas=betas, burn_in=3)
  return z.lower.log_weights_C, z.upper.log_weights_C

def population(params, _):
  estimate, v_CV = annealing.population(key(6), params, base_V, 8, betas)
  return estimate.log_weights_C, v_CV

def tour(params, _):
  found = thorough.ladder_tour(key(7), params, base_V, 8, num_rungs=4, num_steps=10, burn_in=5)
  return found.estimate.log_partition, found.ends_NV

def draws(params, _):
  v_NV, mean_NV = jax.jit(lambda params: gibbs.sample(key(8), rbm, params, 8, 20))(params)
  places['draws'] = len(v_NV.sharding.device_set)
  return v_NV, mean_NV

def bound(_, params):
  entry = importance.bound(key(9), net, params, x_NV, binarisation='threshold', num_samples=120)
  return [entry[name] for name in ('test_nats', 'standard_error', 'effective_sample_size')]

def annealed(_, params):
  path = decoders.from_prior(decoders.of_vae(net))
  return decoders.annealed(key(10), path, params, x_NV[:8], hamiltonian.Settings(
    num_temperatures=5, num_chains=4)).log_weights_CN

def scores(*_):
  found = samples.compare(x_NV + 0.01 * jax.random.uniform(key(11), x_NV.shape), x_NV, (4, 3))
  return list(found.values())

def nearest(*_):
  return copies.nearest(x_NV, np.asarray(x_NV[:30]))

found = {}
for fn in (bracket, population, tour, draws, bound, annealed, scores, nearest):
  one = jax.device_get(fn(machine, nets))
  with devices.all_local():
    four = jax.device_get(fn(*devices.everywhere((machine, nets))))
  found[fn.__name__] = float(max(np.max(np.abs(a - b)) for a, b in zip(
    jax.tree.leaves(one), jax.tree.leaves(four), strict=True)))
with devices.all_local():
  chains = devices.spread(annealing._start(key(12), rbm, base_V, 8))
  steps = annealing._temperatures(rbm, betas)
  program = annealing._anneal_chunk.lower(
    key(13), devices.everywhere(machine), base_V, chains, steps, model=rbm).compile()
print(json.dumps({'gaps': found, 'places': places, 'told': counted(program.as_text())}))
"""


@pytest.mark.slow
def test_scores_and_draws_of_four_devices_are_those_of_one():
  done = subprocess.run(
    [sys.executable, '-c', _SCRIPT], capture_output=True, text=True, timeout=280,
    env={**os.environ, 'PJRT_NPROC': '8', 'JAX_PLATFORMS': 'cpu', **virtual.devices(4)})
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['places'] == {'chains': 4, 'draws': 4}
  assert found['told'] == {}  # chains know nothing of each other
  assert max(found['gaps'].values()) < 1e-4, found['gaps']


def test_outside_a_score_nothing_is_placed():
  x_N = jnp.arange(5.0)
  assert devices.spread(x_N) is x_N
  assert devices.everywhere(x_N) is x_N
  with devices.all_local():  # one device
    made = jax.jit(lambda x_N: devices.mapped(lambda x, shared: x * shared, x_N, 2.0))(x_N)
  np.testing.assert_array_equal(made, 2 * x_N)
