"""Monitors of a Boltzmann machine in training: whether it learns, mixes, and overfits.

  interaction_gap         E_q F - mean F(train), q = prod_i p_train(v_i) over units (a one-of-Q unit
                          is one): an upper bound in nats on mean log p(train) -
                          mean log q(train), as log Z >= H(q) - E_q F; 0 where
                          F is additive over pixels, as it is once every hidden unit is constant
  dead_units              share of Bernoulli hidden units with p(h_j = 1 | v) < 0.01 on all images,
  saturated_units         and > 0.99 on all of them: neither kind tells images apart

  free_energy_gap         mean F(valid) - mean F(train): grows as the model learns its training
                          images by heart (Hinton, 2012, A practical guide)
  free_energy_gap_chains  mean F(chains) - mean F(train): near 0 while chains look like data
  autocorrelation_time    tau = 1 + 2 sum_t rho(t), in Gibbs steps, of chains with parameters at
                          rest, rho(t) = sum_i cov(v_i(0), v_i(t)) / sum_i var(v_i)
  chain_moment_error      mean_i |<v_i>_train - <v_i>_chains|
  chain_extreme           max |v_i| over chains: of real-valued units, the first to blow up

Means over the data are weighted where rows are, as those of the chains then are too.

Covariances are taken about the mean of all chains, so chains that each stay in a mode of their own
count as not mixing. tau is at most 2 T + 1 when T steps are followed.

What is said of chains is said of Memory.chains with fields v_CV and h_CH, such as gibbs.Chains; an
estimator that keeps no chains has () there. Networks of logistic units are watched for constant
units only.

Axis suffixes: B images, C chains, V visible, H hidden.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models import data
from gen_models.data.binarise import Split
from gen_models.experiment import Alarm, Monitor
from gen_models.models import gibbs, units

SLOW = ('chains hardly move at these parameters; try more Gibbs steps an update, parallel '
        'tempering, or a smaller learning rate')
ALARMS = (
  Alarm('autocorrelation_time', above=100.0, advice=SLOW),
  Alarm('swap_acceptance', below=0.05, advice='chains at neighbouring rungs hardly ever swap; try '
        'more rungs'),
  Alarm('chain_moment_error', above=0.2, advice='chains have left the data; try more Gibbs steps '
        'an update, more chains, or a smaller learning rate'),
  Alarm('chain_extreme', above=100.0, advice='real-valued units are blowing up; normalise the '
        'data, bound the variance, or use a smaller learning rate'),
  Alarm('dead_units', above=0.5, advice='most hidden units are off on every image; try a smaller '
        'learning rate'),
  Alarm('saturated_units', above=0.5, advice='most hidden units are on for every image; try a '
        'smaller learning rate'),
  Alarm('interaction_gap', below=0.1, advice='the model is no better than independent pixels; try '
        'a smaller learning rate, or more updates'),
  Alarm('free_energy_gap', above=15.0, advice='training images have become far likelier than '
        'held-out ones; try weight decay, fewer hidden units, or stopping here'))


UNIT_ALARMS = tuple(a for a in ALARMS if a.metric in ('dead_units', 'saturated_units'))


class Model(gibbs.Model, Protocol):
  """A machine that also has a free energy, as gen_models.models.rbm has."""

  def free_energy(self, params: Any, v_BV: jax.Array, /) -> jax.Array:
    """F(v), [B] nats."""
    ...


def of_chains(model: Model, binarisation: str, levels: int, *, num_steps: int = 100) -> Monitor:
  """Phase.monitor of a machine that sees binarised images.

  Args:
    model: reads like gen_models.models.rbm.
    binarisation, levels: how the model sees images, see gen_models.data.
    num_steps: T, how far autocorrelation is followed.
  """
  return of_machine(model, lambda params, arrays, split: (
    params, data.fixed(arrays, binarisation, levels, split=split)), num_steps=num_steps)


class See(Protocol):
  """A machine and its data as it sees them, from the parameters and a split of a run."""

  def __call__(self, params: Any, arrays: Any, split: Split, /) -> tuple[Any, jax.Array]:
    """(the machine's own parameters, what it sees [B, V])."""
    ...


def of_machine(model: Model, see: See, *, num_steps: int = 100) -> Monitor:
  """Phase.monitor of a machine whose negative phase has chains (without chains, what needs none).

  Args:
    model: reads like gen_models.models.rbm.
    see: (params, arrays, split) -> (the machine's own parameters, what it sees [B, V]); split is
      'train' or 'valid'.
    num_steps: T, how far autocorrelation is followed.

  The monitor raises TypeError, when it is traced, for chains without v_CV and h_CH.
  """
  def monitor(key, params, memory, train, valid):
    (machine, v_BV), (_, u_BV) = see(params, train, 'train'), see(params, valid, 'valid')
    params = machine
    of_data_B, of_valid_B = weights_of(train), weights_of(valid)
    of_train = data.mean(model.free_energy(params, v_BV), of_data_B)
    apart_B = model.free_energy(params, shuffled(
      drawn(v_BV, of_data_B), units.unit_of(model.visible, v_BV.shape[1])))
    metrics = {'free_energy_gap': data.mean(model.free_energy(params, u_BV), of_valid_B) - of_train,
               'interaction_gap': jnp.mean(apart_B) - of_train,
               **constant_units(model, params, v_BV)}
    chains = at_model(memory.chains)
    if isinstance(chains, tuple) and not chains:
      return metrics
    if not hasattr(chains, 'v_CV') or not hasattr(chains, 'h_CH'):
      kind = 'an array' if hasattr(chains, 'dtype') else f'a {type(chains).__name__}'
      raise TypeError(f'Memory.chains is {kind}: monitors follow chains that '
                      'have v_CV and h_CH, as gen_models.models.gibbs.Chains; what is remembered '
                      'besides goes to Memory.shared')
    v_CV = chains.v_CV
    rho_T = autocorrelation(key, model, params, gibbs.Chains(chains.v_CV, chains.h_CH),
                            num_steps)
    return {
      **metrics,
      'free_energy_gap_chains': jnp.mean(model.free_energy(params, v_CV)) - of_train,
      'chain_moment_error': jnp.mean(jnp.abs(v_CV.mean(0) - data.mean(v_BV, of_data_B))),
      'chain_extreme': jnp.max(jnp.abs(v_CV)),
      'autocorrelation_time': autocorrelation_time(rho_T)}

  return monitor


class Activations(Protocol):
  """The hidden units of a network of logistic units, from the parameters and a split of a run."""

  def __call__(self, params: Any, arrays: Any, split: Split, /) -> Sequence[jax.Array]:
    """p_BH in [0, 1] of every hidden layer."""
    ...


def of_network(activations: Activations) -> Monitor:
  """Phase.monitor of a network: shares of its hidden units that are off, or on, on all images."""
  def monitor(key, params, memory, train, valid):
    del key, memory, valid
    return _constant(activations(params, train, 'train'))

  return monitor


def weights_of(arrays: Any) -> jax.Array | None:
  """Weights [B] of a split's rows, None where all are equal."""
  return getattr(arrays, 'weights', None)


def drawn(v_BV, weights_B=None) -> jax.Array:
  """Rows in proportion to their weights, [B, V]: row k at the shares (k, k + 1] / B of their sum.

  The rows themselves where all weigh the same.
  """
  if weights_B is None:
    return v_BV
  upto_B = jnp.cumsum(weights_B) / jnp.sum(weights_B)
  middle_B = (jnp.arange(len(v_BV), dtype=upto_B.dtype) + 0.5) / len(v_BV)
  return v_BV[jnp.minimum(jnp.searchsorted(upto_B, middle_B), len(v_BV) - 1)]


def shuffled(v_BV, unit_V=None) -> jax.Array:
  """Every unit from another image, with the marginals of the images as they are, [B, V].

  Unit i is turned by the fraction i / golden ratio of the rows, so that neighbours are from images
  far apart and no random number is needed. unit_V has the unit of each column, units.unit_of, those
  of a one-of-Q unit being turned together; None where every column is one.
  """
  num_rows, num_columns = v_BV.shape
  unit_V = np.arange(num_columns) if unit_V is None else unit_V
  turns_V = (0.618 * num_rows * unit_V).astype(np.int32)
  rows_BV = (np.arange(num_rows, dtype=np.int32)[:, None] + turns_V) % num_rows
  return jnp.take_along_axis(v_BV, rows_BV, axis=0)


def constant_units(model: Any, params, v_BV) -> dict[str, jax.Array]:
  """Shares of hidden units that are off, or on, on all images; {} where they are not Bernoulli."""
  if model.hidden != units.BERNOULLI:
    return {}
  return _constant([model.hidden.mean(params.c_H, v_BV @ params.w_VH)])


def _constant(layers: Sequence[jax.Array]) -> dict[str, jax.Array]:
  most_H = jnp.concatenate([jnp.max(p_BH, axis=0) for p_BH in layers])
  least_H = jnp.concatenate([jnp.min(p_BH, axis=0) for p_BH in layers])
  return {'dead_units': jnp.mean(most_H < 0.01), 'saturated_units': jnp.mean(least_H > 0.99)}


def at_model(chains):
  """The chains that are at the model itself, where there are chains at other rungs too."""
  return chains.at_model if hasattr(chains, 'at_model') else chains


def autocorrelation(key, model: gibbs.Model, params, chains, num_steps: int) -> jax.Array:
  """rho(1), .., rho(T) of chains about their common mean, [T]."""
  mean_V = chains.v_CV.mean(0)
  start_CV = chains.v_CV - mean_V

  def body(chains, key):
    chains = gibbs.step(key, model, params, chains)
    now_CV = chains.v_CV - chains.v_CV.mean(0)
    scale = jnp.sqrt(jnp.sum(start_CV**2) * jnp.sum(now_CV**2))
    return chains, jnp.sum(start_CV * now_CV) / jnp.maximum(scale, 1e-12)

  return lax.scan(body, chains, jax.random.split(key, num_steps))[1]


def autocorrelation_time(rho_T) -> jax.Array:
  """tau = 1 + 2 sum_t rho(t), summed until rho first falls below 0 (Geyer, 1992, in short)."""
  positive_T = jnp.cumprod((rho_T > 0).astype(rho_T.dtype))
  return 1 + 2 * jnp.sum(rho_T * positive_T)
