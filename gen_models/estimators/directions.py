"""Directions: linear maps of the gradient of a Boltzmann machine, by what is remembered of units.

With D_VH, d_V, d_H the plain differences of <v h>, <v>, <h> between data and model:

  plain         the gradient itself
  centred       that of E(v - mu, h - lambda), mu and lambda the data's means, written in the
                parameters of E(v, h)
  enhanced      the same with means of data and model: the average over all flips of units
  standardised  that of E((v - mu) / s, (h - lambda) / t): every unit of variance 1
  natural       centred, divided by the diagonal of the Fisher information

All but `plain` end with b: d_V' - D'.lambda, c: d_H' - mu.D', which undoes what a step in W does to
the means. They depend only on memory from before the batch, so they add no bias: E[direction] is
the direction of the exact gradient, which an estimator declares as its `target`.

Axis suffixes: B batch, C chains, V visible, H hidden.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gen_models.models import units
from gen_models.models.gibbs import Model
from gen_models.models.rows import mean_rows


class Rows(NamedTuple):
  """Both phases of an update: v, E[h | v] of data and of samples; E[h^2 | v] of samples."""

  v_BV: jax.Array
  p_BH: jax.Array
  v_CV: jax.Array
  p_CH: jax.Array
  square_CH: jax.Array


class Init(Protocol):
  """The memory of a direction before the first step."""

  def __call__(self, model: Model, params: Any, /) -> Any:
    """Arrays without chains, from the means of the layers."""
    ...


class Update(Protocol):
  """The memory of a direction after an update."""

  def __call__(self, remembered: Any, rows: Rows, /) -> Any:
    """A tree like `remembered`, moved by both phases of this update."""
    ...


class Apply(Protocol):
  """The map of the gradient."""

  def __call__(self, grads: Any, remembered: Any, /) -> Any:
    """A tree like grads, linear in them; `remembered` is from before the batch."""
    ...


class Direction(NamedTuple):
  """A map of the gradient.

  Attributes:
    init: (model, params) -> what is remembered, arrays without chains.
    update: (remembered, Rows) -> remembered.
    apply: (grads, remembered) -> grads, linear in grads.
  """

  init: Init
  update: Update
  apply: Apply


PLAIN = Direction(lambda model, params: (), lambda state, rows: (), lambda grads, state: grads)


class Offsets(NamedTuple):
  """Moving averages of v and h."""

  v_V: jax.Array
  h_H: jax.Array


def centred(rate: float | None = 0.01) -> Direction:
  """W: <(v - mu)(h - lambda)>_data - <(v - mu)(h - lambda)>_model =: D; b, c as above.

  mu <- (1 - rate) mu + rate <v>_data, lambda alike from E[h | data].

  Montavon & Mueller (2012), Deep Boltzmann machines and the centering trick; Melchior, Fischer &
  Wiskott (2016), How to center deep Boltzmann machines.

  Args:
    rate: in (0, 1], may be traced; None is the plain gradient.
  """
  if rate is None:
    return PLAIN
  return Direction(_offsets, lambda state, rows: _towards(state, _data_means(rows), rate), _centre)


def enhanced(rate: float = 0.01) -> Direction:
  """centred, with mu and lambda halfway between data and model.

  In W it is the weighted average of the gradients of all 2^(V + H) machines that exchange 0 and 1
  in some units; b and c follow as in `centred`. Cho, Raiko & Ilin (2011), Enhanced gradient and
  adaptive learning rate for training restricted Boltzmann machines; that it is a centring: Melchior
  et al. (2016).
  """
  def update(state, rows):
    data = _data_means(rows)
    model = Offsets(mean_rows(rows.v_CV), mean_rows(rows.p_CH))
    return _towards(state, jax.tree.map(lambda d, m: (d + m) / 2, data, model), rate)

  return Direction(_offsets, update, _centre)


class Scales(NamedTuple):
  """Means and mean squares of v and E[h | v] over the data."""

  mean: Offsets
  square: Offsets


def standardised(rate: float = 0.01, floor: float = 0.05) -> Direction:
  """W: D / (s^2 t^2), b: d_V / s^2, c: d_H / t^2, s and t standard deviations over the data.

  The gradient in the parameters of a machine whose units all have mean 0 and variance 1 (LeCun,
  Bottou, Orr & Mueller, 1998, Efficient backprop, for the layers of a Boltzmann machine).

  Args:
    rate: of the moving averages, in (0, 1]; may be traced.
    floor: added to the variances, so that a pixel that never changes does not take all the step.
  """
  def init(model, params):
    mean = _offsets(model, params)
    # Squares of which the variance is 1: steps start no longer than those of `centred`.
    return Scales(mean, jax.tree.map(lambda m: m**2 + 1.0, mean))

  def update(state, rows):
    square = Offsets(mean_rows(rows.v_BV**2), mean_rows(rows.p_BH**2))
    return Scales(_towards(state.mean, _data_means(rows), rate),
                  _towards(state.square, square, rate))

  def apply(grads, state):
    s, t = (sq - m**2 + floor for m, sq in zip(state.mean, state.square))
    return _centre(grads, state.mean, lambda d: d / jnp.outer(s, t), lambda d: d / s,
                   lambda d: d / t)

  return Direction(init, update, apply)


class Moments(NamedTuple):
  """First and second moments of centred units under the model, for the Fisher information."""

  mean: Offsets
  first: tuple
  second: tuple


def natural(rate: float = 0.01, damping: float = 0.01) -> Direction:
  """Centred, each component divided by its own Fisher information, Var_model of its statistic.

  F of W_ij is Var[(v_i - mu_i)(h_j - lambda_j)], of b_i Var[v_i], of c_j Var[h_j], moving averages
  over negative samples. Amari (1998), Natural gradient works efficiently in learning; the diagonal
  leaves out all that correlates parameters, of which centring is most.

  Args:
    rate: of the moving averages, in (0, 1]; may be traced.
    damping: added to the Fisher information; may be traced.
  """
  def init(model, params):
    zeros = (jnp.zeros_like(params.w_VH), jnp.zeros(params.w_VH.shape[0]),
             jnp.zeros(params.w_VH.shape[1]))
    return Moments(_offsets(model, params), zeros, jax.tree.map(lambda x: x + 1.0, zeros))

  def update(state, rows):
    v_CV = rows.v_CV - state.mean.v_V
    p_CH = rows.p_CH - state.mean.h_H
    square_CH = rows.square_CH - 2 * state.mean.h_H * rows.p_CH + state.mean.h_H**2
    first = v_CV.T @ p_CH / len(v_CV), mean_rows(v_CV), mean_rows(p_CH)
    second = ((v_CV**2).T @ square_CH / len(v_CV), mean_rows(v_CV**2),
              mean_rows(square_CH))
    return Moments(_towards(state.mean, _data_means(rows), rate),
                   _towards(state.first, first, rate), _towards(state.second, second, rate))

  def apply(grads, state):
    w, v, h = (jnp.maximum(s - f**2, 0.0) + damping for f, s in zip(state.first, state.second))
    return _centre(grads, state.mean, lambda d: d / w, lambda d: d / v, lambda d: d / h)

  return Direction(init, update, apply)


def connected(direction: Direction, connections_VH) -> Direction:
  """`direction` where W is a parameter only in part; `connections_VH` is 1 there, else 0.

  A step in W that is not taken does nothing to the means either, so b and c do without the part
  that would undo it.
  """
  if connections_VH is None or direction is PLAIN:
    return direction

  def apply(grads, state):
    moved = direction.apply(grads, state)
    offsets = state if isinstance(state, Offsets) else state.mean
    missing_VH = moved.w_VH * (1 - connections_VH)
    b_V, c_H = units.bias_of(moved.b_V), units.bias_of(moved.c_H)
    return type(moved)(moved.w_VH * connections_VH,
                       units.with_bias(moved.b_V, b_V + missing_VH @ offsets.h_H),
                       units.with_bias(moved.c_H, c_H + offsets.v_V @ missing_VH))

  return direction._replace(apply=apply)


def _offsets(model, params) -> Offsets:
  """The mean of each layer when the input from the other is 0."""
  return Offsets(model.visible.mean(params.b_V, jnp.zeros(params.w_VH.shape[0])),
                 model.hidden.mean(params.c_H, jnp.zeros(params.w_VH.shape[1])))


def _data_means(rows: Rows) -> Offsets:
  return Offsets(mean_rows(rows.v_BV), mean_rows(rows.p_BH))


def _towards(state, value, rate):
  return jax.tree.map(lambda old, new: old + rate * (new - old), state, value)


_Map = Callable[[jax.Array], jax.Array]


def _same(d):
  return d


def _centre(grads, offsets: Offsets, of_w: _Map = _same, of_v: _Map = _same,
            of_h: _Map = _same) -> Any:
  """grads = (D, d_V, d_H) in centred units, scaled by the maps, in uncentred parameters."""
  d_V, d_H = units.bias_of(grads.b_V), units.bias_of(grads.c_H)
  d_VH = of_w(grads.w_VH - jnp.outer(offsets.v_V, d_H) - jnp.outer(d_V, offsets.h_H))
  return type(grads)(d_VH, units.with_bias(grads.b_V, of_v(d_V) - d_VH @ offsets.h_H),
                     units.with_bias(grads.c_H, of_h(d_H) - offsets.v_V @ d_VH))
