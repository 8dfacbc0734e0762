"""Contrastive gradients of a Boltzmann machine: a positive and a negative phase.

  d/dW (-log p(v)) = -(E[v h | data] - E[v h | model]),

the first expectation (positive phase) with h ~ p(h | v) summed exactly, the second
(negative phase) from samples. Estimators differ only in how those samples are drawn, so the
negative phase is the argument: contrastive(rbm, negative=persistent(chains=512, steps=5)).

`model` is anything that reads like gen_models.models.rbm: init_chains, hidden_mean,
visible_mean, sample_visible, gibbs, Chains, and Params(w_VH, b_V, c_H) with the energy
-b.v - c.h - v.W.h plus terms of v, of h, or of the parameters alone. Hidden units are Bernoulli
unless the model says how they are drawn, draw_hidden(key, mean), as gen_models.models.linear_rbm
does.

Axis suffixes: B batch, C chains, N = B + C, V visible, H hidden.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.models import units


class Negative(NamedTuple):
  """How the negative phase is drawn.

  Attributes:
    init: (key, model, params) -> chains, () when nothing persists.
    sample: (key, model, params, chains, p_BH) -> (v_CV, p_CH, chains): visible samples of
      the negative phase and p(h | v) of each; p_BH is p(h | v) of the data.
    biased: whether the samples stay away from p(v) however long params stand still.
  """

  init: Callable
  sample: Callable
  biased: bool


def reconstruction(steps: int = 1) -> Negative:
  """CD-k: v_1 = data; k alternations h_t ~ p(h | v_t), v_{t+1} ~ p(v | h_t).

  The negative phase is v_{k+1} with p(h_{k+1} | v_{k+1}) (Hinton, 2002).
  """
  _require_steps(steps)

  def init(key, model, params):
    del key, model, params
    return ()

  def sample(key, model, params, chains, p_BH):
    key_h, key_gibbs, key_v = jax.random.split(key, 3)
    h_BH = _draw_hidden(model)(key_h, p_BH)
    if steps > 1:
      start = model.Chains(jnp.zeros((len(h_BH), len(params.b_V))), h_BH)
      h_BH = model.gibbs(key_gibbs, params, start, steps - 1).h_CH
    v_BV = model.sample_visible(key_v, params, h_BH)
    return v_BV, model.hidden_mean(params, v_BV), chains

  return Negative(init, sample, biased=True)


def persistent(chains: int, steps: int = 1) -> Negative:
  """PCD-k: `chains` Gibbs chains that go on from one update to the next, k sweeps each.

  Also called stochastic maximum likelihood. With params held still the chains reach p(v)
  and the gradient is unbiased; while params move they lag (Younes, 1999; Tieleman, 2008).
  """
  _require_steps(steps)
  if chains < 1:
    raise ValueError(f'persistent contrastive divergence needs chains >= 1, got {chains}')

  def init(key, model, params):
    return model.init_chains(key, params, chains)

  def sample(key, model, params, chains, p_BH):
    del p_BH
    key_gibbs, key_v, key_h = jax.random.split(key, 3)
    if steps > 1:
      chains = model.gibbs(key_gibbs, params, chains, steps - 1)
    v_CV = model.sample_visible(key_v, params, chains.h_CH)
    p_CH = model.hidden_mean(params, v_CV)
    return v_CV, p_CH, model.Chains(v_CV, _draw_hidden(model)(key_h, p_CH))

  return Negative(init, sample, biased=False)


class Offsets(NamedTuple):
  """Moving averages of the data's v and p(h | v)."""

  v_V: jax.Array
  h_H: jax.Array


def contrastive(model: Any, negative: Negative, *,
                last_half_step: Literal['probabilities', 'samples'] = 'probabilities',
                centring: float | None = None) -> base.Estimator:
  """grads = -(<v p(h|v)>_data - <v p(h|v)>_negative), likewise for b and c.

  Centred (centring is not None), with offsets mu of v and lambda of h,

    W: <(v - mu)(h - lambda)>_data - <(v - mu)(h - lambda)>_negative =: D
    b: <v>_data - <v>_negative - D.lambda,    c: <h>_data - <h>_negative - mu.D,

  the gradient of E(v - mu, h - lambda) written in uncentred parameters (Montavon & Mueller,
  2012; Melchior, Fischer & Wiskott, 2016). The offsets follow the data's means,
  mu <- (1 - centring) mu + centring <v>_data, lambda alike from p(h | data).

  Args:
    model: module or namespace, see above.
    negative: how the negative phase is drawn.
    last_half_step: whether the negative phase's h are p(h | v) (less variance, the same
      mean) or samples of it.
    centring: rate of the offsets in (0, 1], or None for the plain gradient. May be traced.

  Returns:
    an Estimator whose batch is v_BV in [0, 1]; its metrics are `moment_error`, the mean
    over visible units of |<v>_data - <v>_negative|, and `hidden_activity`, the mean p(h | data).
  """
  if last_half_step not in ('probabilities', 'samples'):
    raise ValueError(f"last_half_step is 'probabilities' or 'samples', not {last_half_step!r}")

  def init(key, params):
    shared = ()
    if centring is not None:
      # The mean of each layer when the other is all zeros.
      v_V, h_H = jnp.zeros_like(params.b_V), jnp.zeros_like(params.c_H)
      shared = Offsets(model.visible_mean(params, h_H), model.hidden_mean(params, v_V))
    return base.Memory(negative.init(key, model, params), shared)

  def grad(key, params, memory, v_BV):
    key_negative, key_last = jax.random.split(key)
    p_BH = model.hidden_mean(params, v_BV)
    v_CV, p_CH, chains = negative.sample(key_negative, model, params, memory.chains, p_BH)
    if last_half_step == 'samples':
      p_CH = _draw_hidden(model)(key_last, p_CH)
    # Both phases in one product, each row weighted by its share: a single pass over W.
    v_NV = jnp.concatenate([v_BV, v_CV])
    p_NH = jnp.concatenate([p_BH / len(v_BV), -p_CH / len(v_CV)])
    d_VH = v_NV.T @ p_NH
    v_V, p_H = units.mean_rows(v_BV), units.mean_rows(p_BH)
    d_V, d_H = v_V - units.mean_rows(v_CV), p_H - units.mean_rows(p_CH)
    metrics = {'moment_error': jnp.mean(jnp.abs(d_V)), 'hidden_activity': jnp.mean(p_H)}

    shared = memory.shared
    if centring is not None:
      shared = Offsets(shared.v_V + centring * (v_V - shared.v_V),
                       shared.h_H + centring * (p_H - shared.h_H))
      d_VH, d_V, d_H = _centre(d_VH, d_V, d_H, shared)
    grads = type(params)(-d_VH, -d_V, -d_H)
    return grads, base.Memory(chains, shared), metrics

  def target(grads, params, memory):
    del params
    return type(grads)(*_centre(*grads, memory.shared))

  return base.Estimator(init, grad, negative.biased, target if centring is not None else None)


def measured(estimator: base.Estimator, model: Any) -> base.Estimator:
  """`estimator` for a machine that reads v = standardise(x) and has unconstrained parameters.

  Its gradient of the machine is pulled back through model.machine. That of the map from x to v is
  exact: log Z does not depend on it, so it needs no negative phase.

  Args:
    estimator: of a machine's parameters.
    model: like gen_models.models.linear_rbm: machine(params) -> the machine's own parameters,
      standardise(params, x) -> (v, log |dv/dx|), log_likelihood(machine, v).

  Returns:
    an Estimator with the metrics of `estimator`, and `loss`, -log p(x) in nats, exact.
  """

  def init(key, params):
    return estimator.init(key, model.machine(params))

  def grad(key, params, memory, x_BV):
    machine, pull_back = jax.vjp(model.machine, params)

    def loss(params):
      v_BV, log_det = model.standardise(params, x_BV)
      return -units.mean_rows(model.log_likelihood(machine, v_BV)) - log_det, v_BV

    (value, v_BV), map_grads = jax.value_and_grad(loss, has_aux=True)(params)
    grads, memory, metrics = estimator.grad(key, machine, memory, v_BV)
    grads = jax.tree.map(jnp.add, pull_back(grads)[0], map_grads)
    return grads, memory, {**metrics, 'loss': value}

  return base.Estimator(init, grad, estimator.biased)


def _draw_hidden(model):
  return getattr(model, 'draw_hidden', units.bernoulli)


def _centre(d_VH, d_V, d_H, offsets: Offsets):
  d_VH = d_VH - jnp.outer(offsets.v_V, d_H) - jnp.outer(d_V, offsets.h_H)
  return d_VH, d_V - d_VH @ offsets.h_H, d_H - offsets.v_V @ d_VH


def _require_steps(steps: int):
  if steps < 1:
    raise ValueError(f'the negative phase needs steps >= 1, got {steps}')
