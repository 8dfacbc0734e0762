"""A classifier that judges draws: which classes they are of, and how evenly they cover them.

  p(y | x) = softmax(net(x)),  trained on the training split and scored on the test split

Draws of data with classes are judged by two numbers that the field uses: the share of draws of
which the classifier says the class that was asked for, and, for stacked digits (Che et al., 2017),
the classes found among the draws with

  mode_kl = sum_m q_m log(q_m M),   q_m the share of draws of class m of M; nats.

Its floor is (M - 1) / 2N for N draws of the data themselves, and what the classifier mistakes. The
same data give the same judge: it has a key of its own.

Axis suffixes: N rows, V values of a row, Q classes.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gen_models.models import networks

BATCH, STEPS, WIDTH = 100, 4000, 256


class Judge(NamedTuple):
  """A trained classifier.

  Attributes:
    network: [N, V] -> [N, Q] log-odds.
    params: of it.
  """

  network: networks.MLP
  params: Any

  def classes(self, x_NV) -> np.ndarray:
    """The most probable class of every row, int [N]."""
    return np.concatenate([np.asarray(_classes(self.network, self.params, rows))
                           for rows in np.array_split(np.asarray(x_NV, np.float32),
                                                      max(1, len(x_NV) // 10_000))])

  def accuracy(self, x_NV, y_N) -> float:
    """The share of rows whose class is y."""
    return float(np.mean(self.classes(x_NV) == np.asarray(y_N)))


def train(x_NV, y_N, num_classes: int) -> Judge:
  """Two hidden layers of 256 rectified units, 4,000 updates of Adam on batches of 100.

  Args:
    x_NV: rows in [0, 1].
    y_N: their classes.
    num_classes: Q.

  Returns:
    Judge.
  """
  network = networks.MLP(num_classes, (WIDTH, WIDTH), jax.nn.relu)
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, STEPS))

  def loss(params, x_BV, y_B):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
      networks.apply(network, params, x_BV), y_B))

  @jax.jit
  def run(key, x_NV, y_N):
    def step(carry, key):
      params, state = carry
      rows_B = jax.random.randint(key, (BATCH,), 0, len(x_NV))
      grads = jax.grad(loss)(params, x_NV[rows_B], y_N[rows_B])
      updates, state = optimizer.update(grads, state, params)
      return (optax.apply_updates(params, updates), state), None

    key_init, key_steps = jax.random.split(key)
    params = networks.init(key_init, network, x_NV.shape[-1])
    (params, _), _ = lax.scan(step, (params, optimizer.init(params)),
                              jax.random.split(key_steps, STEPS))
    return params

  return Judge(network, run(jax.random.key(0), jnp.asarray(x_NV, jnp.float32),
                            jnp.asarray(y_N, jnp.int32)))


def coverage(y_N, num_classes: int) -> dict[str, float]:
  """{'modes', 'mode_kl'}: the classes among the draws, and the divergence above."""
  q_Q = np.bincount(y_N, minlength=num_classes) / len(y_N)
  q = q_Q[q_Q > 0]
  return {'modes': float(len(q)), 'mode_kl': float(np.sum(q * np.log(q * num_classes)))}


@functools.partial(jax.jit, static_argnums=0)
def _classes(network, params, x_NV):
  return jnp.argmax(networks.apply(network, params, x_NV), axis=-1)
