"""Objectives for Boltzmann machines that need no samples of the model; each is computed exactly.

  pseudo_likelihood   -sum_i log p(v_i | the other v)                    binary visible units
  ratio_matching      sum_i sigma(F(v) - F(v with i flipped))^2           binary visible units
  score_matching      sum_i (d_i log p)^2 / 2 + d_i^2 log p               Gaussian visible units
  discriminative      -log p(y | x)                                       a label beside features

None contains log Z. All but the last have the data's distribution as their minimum where the model
can represent it, yet none is the likelihood: as estimators of its gradient they are biased, and
declare it.

`model` reads like gen_models.models.rbm. Axis suffixes: B batch, V visible, H hidden, Q labels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.estimators import base
from gen_models.models import label_rbm, units

_BLOCK = 16  # visible units at once: B * 16 * H numbers


def pseudo_likelihood(model: Any) -> base.Estimator:
  """-mean_b sum_i log p(v_i | v_-i), with log p(v_i | v_-i) = log sigma(F(v^i) - F(v)), nats.

  v^i is v with unit i flipped. Besag (1975), Statistical analysis of non-lattice data.
  """
  return base.from_loss(_over_flips(model, lambda gap: -jax.nn.log_sigmoid(gap)), biased=True)


def ratio_matching(model: Any) -> base.Estimator:
  """mean_b sum_i sigma(F(v) - F(v^i))^2: the squared distance of every ratio p(v) / p(v^i).

  Hyvarinen (2007), Some extensions of score matching; Dauphin & Bengio (2013), Stochastic ratio
  matching of RBMs for sparse high-dimensional inputs.
  """
  return base.from_loss(_over_flips(model, lambda gap: jax.nn.sigmoid(-gap)**2), biased=True)


def _over_flips(model, of_gap):
  """loss(key, params, v_BV) = mean_b sum_i of_gap(F(v^i) - F(v))."""
  if model.visible not in (units.BERNOULLI, units.SPIN):
    raise ValueError(f'flipping a visible unit needs two states, {model.visible} have not: use '
                     'score_matching for Gaussian units')
  other = (lambda v: 1 - v) if model.visible == units.BERNOULLI else (lambda v: -v)

  def loss(key, params, v_BV):
    del key
    w_VH, b_V, c_H = params
    num_visible = len(b_V)
    y_BH = v_BV @ w_VH
    here_B = model.hidden.cumulant(c_H, y_BH)

    @jax.checkpoint
    def block(i_I):
      # A flip changes the input of the hidden units by one row of W: no new product.
      change_BI = other(v_BV[:, i_I]) - v_BV[:, i_I]
      flipped_BIH = y_BH[:, None] + change_BI[..., None] * w_VH[i_I]
      gap_BI = (here_B[:, None] - model.hidden.cumulant(c_H, flipped_BIH)
                - change_BI * b_V[i_I])
      return of_gap(gap_BI)

    padded = -(-num_visible // _BLOCK) * _BLOCK
    index = jnp.arange(padded).reshape(-1, _BLOCK)
    terms = lax.map(block, jnp.minimum(index, num_visible - 1))  # [blocks, B, I]
    counts = (index < num_visible)[:, None].astype(terms.dtype)
    return jnp.sum(terms * counts) / len(v_BV), {}

  return loss


def score_matching(model: Any) -> base.Estimator:
  """mean_b sum_i ((d_i log p)^2 / 2 + d_i^2 log p): the Fisher divergence up to a constant.

  With Gaussian visible and Bernoulli hidden units, p_j = sigma(c_j + (v.W)_j),

    d_i log p = a_i - lambda_i v_i + sum_j W_ij p_j,
    d_i^2 log p = -lambda_i + sum_j W_ij^2 p_j (1 - p_j).

  Hyvarinen (2005), Estimation of non-normalized statistical models by score matching; Swersky,
  Ranzato, Buchman, Marlin & de Freitas (2011), On autoencoders and score matching for energy based
  models.
  """
  gaussian = isinstance(model.visible, units.Gaussian)
  if not (gaussian or model.visible == units.LINEAR) or model.hidden != units.BERNOULLI:
    raise ValueError('score matching is written for Gaussian visible and Bernoulli hidden units, '
                     f'not {model.visible} and {model.hidden}')

  def loss(key, params, v_BV):
    del key
    precision_V = (model.visible.precision(params.b_V) if gaussian
                   else jnp.ones(len(params.w_VH)))
    p_BH = model.hidden_mean(params, v_BV)
    first_BV = units.bias_of(params.b_V) - precision_V * v_BV + p_BH @ params.w_VH.T
    second_BV = -precision_V + (p_BH * (1 - p_BH)) @ (params.w_VH**2).T
    return jnp.sum(first_BV**2 / 2 + second_BV) / len(v_BV), {}

  return base.from_loss(loss, biased=True)


def discriminative(num_labels: int) -> base.Estimator:
  """-mean_b log p(y_b | x_b) of a machine whose last visible units are a label, exact, nats.

  The batch is v = [x, onehot(y)] (gen_models.models.label_rbm). Larochelle & Bengio (2008),
  Classification using discriminative restricted Boltzmann machines.
  """
  def loss(key, params, v_BV):
    del key
    x_BF, y_BQ = v_BV[:, :-num_labels], v_BV[:, -num_labels:]
    log_p_BQ = jax.nn.log_softmax(label_rbm.label_log_weights(params, num_labels, x_BF))
    return -jnp.sum(y_BQ * log_p_BQ) / len(v_BV), {
      'error': jnp.mean((jnp.argmax(log_p_BQ, -1) != jnp.argmax(y_BQ, -1)).astype(jnp.float32))}

  return base.from_loss(loss)
