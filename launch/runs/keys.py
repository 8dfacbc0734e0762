"""The random keys of a run, of its evaluation and of its draws, all from its seed."""


def keys(config):
  """The run's key, or [S] of them when it has replicas: replica i is the run with seed + i."""
  import jax
  import jax.numpy as jnp
  if config['seeds'] == 1:
    return jax.random.key(config['seed'])
  return jax.vmap(jax.random.key)(jnp.arange(config['seed'], config['seed'] + config['seeds']))


def evaluation_key(seed: int):
  """The key of everything drawn to score the run with this seed; training never uses it."""
  import jax
  return jax.random.fold_in(jax.random.key(seed), 2**32 - 3)


def draw_key(seed: int):
  """The key of what launch.sample draws; neither training nor scoring uses it."""
  import jax
  return jax.random.fold_in(jax.random.key(seed), 2**32 - 4)
