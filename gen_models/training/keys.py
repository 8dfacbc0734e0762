"""Every key of a run, in one place: which number is folded into which key.

  run          k_s     = key(seed)
  phase i      k_i     = fold_in(k_s, i)
  update t     u_t     = fold_in(k_i, t)                 0 <= t < 2^31, counted within the phase
    device d   u_td    = fold_in(u_t, d)                 under `pmap` only
  start        fold_in(k_i, 2^32 - 2)                    parameters and the estimator's memory
  data         fold_in(k_i, 2^32 - 1)                    order, binarisation, augmentation
  inherited    fold_in(k_i, 2^32 - 6)                    what is drawn of the phase before
  validation   fold_in(k_i, 2^31 + s)                    s < 2^30, updates over all phases
  monitor      fold_in(k_i, 3 2^30 + s)
  evaluation   fold_in(k_s, 2^32 - 3)                    scores and pictures
  draws        w = fold_in(k_s, 2^32 - 4)                launch.sample
    batch b    fold_in(w, 2^31 + b)                      b > 0; w itself of the first
  answers      a = fold_in(k_s, 2^32 - 5)                launch.apply, and draws of clamped rows
    batch b    fold_in(a, b)

Within a phase the numbers are disjoint, and no experiment has 2^31 phases, so no key is used twice.
They never change: another number here would change the results of every run.

A key of shape [S] is that of S replicas; functions of a run's or a phase's key map over it.
"""

import jax
import jax.numpy as jnp
import numpy as np

_VALIDATION, _MONITOR, _BATCH = 2**31, 3 * 2**30, 2**31
_INHERITED, _ANSWERS, _DRAWS, _EVALUATION, _START, _DATA = (
  2**32 - n for n in (6, 5, 4, 3, 2, 1))


def of_run(seed: int, num_seeds: int = 1) -> jax.Array:
  """The key of a run; of several seeds, seed, seed + 1, .., the keys [S] of its replicas."""
  if num_seeds == 1:
    return jax.random.key(seed)
  return of_seeds(range(seed, seed + num_seeds))


def of_seeds(seeds) -> jax.Array:
  """The keys of replicas, [S]: replica i has that of the single run with seeds[i] < 2^32."""
  return jax.vmap(jax.random.key)(np.asarray(seeds, np.int64).astype(np.uint32))


def phase(key: jax.Array, index: int) -> jax.Array:
  """The key of phase `index`, of the run's."""
  return _fold(key, index)


def update(key: jax.Array, step: jax.Array) -> jax.Array:
  """The key of update `step`, of the phase's."""
  return jax.random.fold_in(key, step)


def device(key: jax.Array, index: jax.Array) -> jax.Array:
  """The key of device `index` in an update, of the update's."""
  return jax.random.fold_in(key, index)


def start(key: jax.Array) -> jax.Array:
  """The key of the state before the first update, of the phase's."""
  return _fold(key, _START)


def inherited(key: jax.Array) -> jax.Array:
  """The key of what an estimator's memory draws of the phase before, of the phase's."""
  return _fold(key, _INHERITED)


def data(key: jax.Array) -> jax.Array:
  """The key of everything random in the data, of the phase's: the same at every step."""
  return _fold(key, _DATA)


def validation(key: jax.Array, step: int) -> jax.Array:
  """The key of the validation after `step` updates over all phases, of the phase's."""
  return _fold(key, _VALIDATION + step)


def monitor(key: jax.Array, step: int) -> jax.Array:
  """The key of the monitor after `step` updates over all phases, of the phase's."""
  return _fold(key, _MONITOR + step)


def evaluation(seed: int) -> jax.Array:
  """The key of all that is drawn to score the run with this seed; training never uses it."""
  return _fold(jax.random.key(seed), _EVALUATION)


def draws(seed: int) -> jax.Array:
  """The key of what is drawn from the trained run; neither training nor scoring uses it."""
  return _fold(jax.random.key(seed), _DRAWS)


def batch_of_draws(key: jax.Array, index: int) -> jax.Array:
  """The key of batch `index` of many draws, of that of the draws, which is the first's.

  Samplers split their key; a split gives none of the high numbers.
  """
  return _fold(key, _BATCH + index) if index else key


def answers(seed: int) -> jax.Array:
  """The key of the answers to questions about rows; nothing else uses it."""
  return _fold(jax.random.key(seed), _ANSWERS)


def batch_of_answers(key: jax.Array, index: int) -> jax.Array:
  """The key of batch `index` of rows, of that of the answers."""
  return _fold(key, index)


def _fold(key: jax.Array, number: int) -> jax.Array:
  """fold_in(key, number), over replicas where the key is a batch of theirs."""
  def fold(one):
    return jax.random.fold_in(one, jnp.uint32(number))
  return jax.vmap(fold)(key) if key.ndim else fold(key)
