"""What the tests of checkpoints share: a state with every kind of leaf, and how to save it."""

import logging as std_logging
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models.training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
IDENTITY = {'experiment': 'rbm', 'seed': 0,
            'hyperparameters': {'learning_rate': 0.1, 'sizes': (3, 4)}}
CPU = {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}


class State(NamedTuple):
  step: Any
  key: Any
  params: Any
  opt_state: Any
  memory: Any
  extra: Any = ()


def make_state(seed=0):
  key, params_key = jax.random.split(jax.random.key(seed))
  params = {'w': jax.random.normal(params_key, (20, 30)), 'b/c': jnp.zeros(30)}
  opt_state = optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params)
  extra = {
    'bool': jnp.array([True, False]),
    'uint8': jnp.arange(7, dtype=jnp.uint8),
    'bfloat16': jnp.full((2, 3), jnp.nan, jnp.bfloat16),
    'signed zero': -jnp.zeros(5),
    'no rows': jnp.zeros((0, 3)),
    'rbg': jax.random.split(jax.random.key(seed, impl='rbg'), (2, 2)),
    'numpy': np.arange(3) / 7,
    'none': None,
  }
  return State(jnp.int32(seed), jax.random.split(key, 3), params, opt_state, (), extra)


def bits(tree):
  """Everything that has to survive, in a form that == compares."""
  def leaf(x):
    impl = None
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      impl, x = jax.random.key_impl(x), jax.random.key_data(x)
    return impl, str(x.dtype), x.shape, np.asarray(x).tobytes()
  return jax.tree.structure(tree), [leaf(x) for x in jax.tree.leaves(tree)]


def open_in(directory, **kwargs):
  return checkpoint.Checkpoints(directory, **{'identity': IDENTITY} | kwargs)


def save_steps(directory, *steps, **kwargs):
  with open_in(directory, **kwargs) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step))


@pytest.fixture(name='warnings')
def warnings_logged():
  """Warnings logged through absl, as text."""
  seen = []
  handler = std_logging.Handler()
  handler.emit = lambda record: seen.append(record.getMessage())
  logger = std_logging.getLogger('absl')
  logger.addHandler(handler)
  yield seen
  logger.removeHandler(handler)


def run(script, *args, env=None, **kwargs):
  return subprocess.run([sys.executable, '-c', script, *map(str, args)], text=True, timeout=120,
                        check=False, env=os.environ | CPU | (env or {}), **kwargs)


def files_of(step_dir):
  return sorted(p for p in step_dir.rglob('*') if p.is_file())
