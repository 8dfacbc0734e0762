"""Block Gibbs chains of any machine of two layers: v given h, then h given v.

  v' ~ p(v | h),    h' ~ p(h | v')

leaves p(v, h) invariant, because each half draws from an exact conditional of it. One such pair is
a Gibbs step. All units of a layer are drawn at once, because given the other layer they are
independent (gen_models.models.rbm shows why).

`model` is anything that reads like gen_models.models.rbm: see `Model`.

Axis suffixes: B batch, C chains, K draws of each row, V visible, H hidden.

Geman & Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of
images.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from gen_models import devices
from gen_models.models.units import Layer


class Params(Protocol):
  """Parameters of two layers: weights [V, H], and what each layer has of its own."""

  @property
  def w_VH(self) -> jax.Array:
    """The weights W that couple the layers: v.W.h is a term of log p."""
    ...

  @property
  def b_V(self) -> Any:
    """Parameters of the visible layer: a bias, or a NamedTuple of arrays."""
    ...

  @property
  def c_H(self) -> Any:
    """Parameters of the hidden layer, likewise."""
    ...


class Model(Protocol):
  """Two layers of units and their conditionals; gen_models.models.machine makes one of any two."""

  @property
  def visible(self) -> Layer:
    """The layer of the data."""
    ...

  @property
  def hidden(self) -> Layer:
    """The layer that is summed over."""
    ...

  def hidden_mean(self, params: Any, v_BV: jax.Array, /) -> jax.Array:
    """E[h | v], [B, H]."""
    ...

  def visible_mean(self, params: Any, h_BH: jax.Array, /) -> jax.Array:
    """E[v | h], [B, V]."""
    ...

  def sample_hidden(self, key: jax.Array, params: Any, v_BV: jax.Array, /) -> jax.Array:
    """h ~ p(h | v), [B, H]."""
    ...

  def sample_visible(self, key: jax.Array, params: Any, h_BH: jax.Array, /) -> jax.Array:
    """v ~ p(v | h), [B, V]."""
    ...


class Chains(NamedTuple):
  """State of block Gibbs chains: a sample of v and of h given that v."""

  v_CV: jax.Array
  h_CH: jax.Array


def init_chains(key, model: Model, params, num_chains: int) -> Chains:
  """v from the visible layer without input from the hidden one, h ~ p(h | v)."""
  key_v, key_h = jax.random.split(key)
  v_CV = model.visible.sample(key_v, params.b_V, jnp.zeros((num_chains, len(params.w_VH))))
  return devices.spread(Chains(v_CV, model.sample_hidden(key_h, params, v_CV)))


def step(key, model: Model, params, chains: Chains) -> Chains:
  """One Gibbs step, v ~ p(v | h) then h ~ p(h | v): leaves p(v, h) invariant."""
  key_v, key_h = jax.random.split(key)
  v_CV = model.sample_visible(key_v, params, chains.h_CH)
  return Chains(v_CV, model.sample_hidden(key_h, params, v_CV))


def run(key, model: Model, params, chains: Chains, num_steps: int) -> Chains:
  """`num_steps` Gibbs steps as one lax.scan."""
  def body(chains, key):
    return step(key, model, params, chains), None
  return lax.scan(body, chains, jax.random.split(key, num_steps))[0]


# Conditionals: some visible units held, the others drawn.


def run_clamped(key, model: Model, params, chains: Chains, held_CV: jax.Array,
                num_steps: int) -> Chains:
  """`num_steps` Gibbs steps that resample all units but those held at v: one lax.scan.

    v'_i = v_i where unit i is held, else v'_i ~ p(v_i | h),    h' ~ p(h | v'),

  leaves p(v_free, h | v_held) invariant: given h the visible units are independent, so what is held
  changes the conditional of none of the others. Units that are drawn together, such as the
  categories of a one-of-Q unit, are held together or not at all.

  Args:
    key: consumed.
    model, params: the machine.
    chains: the states to begin with; v_CV has the values that are held.
    held_CV: bool, the units that keep their values.
    num_steps: Gibbs steps.
  """
  def body(chains, key):
    key_v, key_h = jax.random.split(key)
    v_CV = jnp.where(held_CV, chains.v_CV, model.sample_visible(key_v, params, chains.h_CH))
    return Chains(v_CV, model.sample_hidden(key_h, params, v_CV)), None

  return lax.scan(body, chains, jax.random.split(key, num_steps))[0]


def conditional(key, model: Model, params, v_BV: jax.Array, num_draws: int,
                num_steps: int) -> tuple[jax.Array, jax.Array]:
  """(E[v | v_seen] [B, V], draws of it [B, K, V]) by clamped chains; nan in v is missing.

  Each row has `num_draws` chains of its own, which begin with the missing units drawn from the
  visible layer without input and end, after `num_steps` Gibbs steps, in its draws. The mean is that
  of E[v | h] over all of its chains and over the second half of their steps.

  Args:
    key: consumed.
    model, params: the machine.
    v_BV: rows; one-of-Q units are missing whole.
    num_draws: K, chains for each row.
    num_steps: Gibbs steps, at least 1.

  Raises:
    ValueError: no draws, or no steps.
  """
  if num_draws < 1 or num_steps < 1:
    raise ValueError(f'clamped chains need draws and steps, got {num_draws} and {num_steps}')
  key_v, key_h, key_first, key_second = jax.random.split(key, 4)
  rows_CV = jnp.repeat(v_BV, num_draws, axis=0)
  held_CV = ~jnp.isnan(rows_CV)
  start_CV = model.visible.sample(key_v, params.b_V, jnp.zeros_like(rows_CV))
  v_CV = jnp.where(held_CV, rows_CV, start_CV)
  chains = Chains(v_CV, model.sample_hidden(key_h, params, v_CV))
  chains = run_clamped(key_first, model, params, chains, held_CV, num_steps // 2)
  counted = num_steps - num_steps // 2

  def body(carry, key):
    chains, sum_CV = carry
    sum_CV += model.visible_mean(params, chains.h_CH)
    return (run_clamped(key, model, params, chains, held_CV, 1), sum_CV), None

  (chains, sum_CV), _ = lax.scan(body, (chains, jnp.zeros_like(v_CV)),
                                 jax.random.split(key_second, counted))
  of_rows = (len(v_BV), num_draws, -1)
  mean_BV = jnp.mean(sum_CV.reshape(of_rows), axis=1) / counted
  return jnp.where(jnp.isnan(v_BV), mean_BV, v_BV), chains.v_CV.reshape(of_rows)


# Draws.


def sample(key, model: Model, params, num: int,
           num_steps: int = 1000) -> tuple[jax.Array, jax.Array]:
  """(v, E[v | h]) [num, V] of independent chains, `num_steps` Gibbs steps from `init_chains`."""
  key_init, key_gibbs, key_last = jax.random.split(key, 3)
  chains = run(key_gibbs, model, params, init_chains(key_init, model, params, num), num_steps)
  return (model.sample_visible(key_last, params, chains.h_CH),
          model.visible_mean(params, chains.h_CH))


class Draw(Protocol):
  """Draws of one model, for Experiment.sample."""

  def __call__(self, key: jax.Array, params: Any, num: int, /) -> tuple[jax.Array, jax.Array]:
    """(v, E[v | h]), [num, V]; the key is consumed."""
    ...


def sampler(model: Model, num_steps: int = 1000) -> Draw:
  """(key, params, num) -> `sample` of one model."""
  return lambda key, params, num: sample(key, model, params, num, num_steps)
