"""Gradients of vector-quantised autoencoders: straight through the codebook, or relaxed.

  loss = -log p(x | c_z) + |held(e) - c_z|^2 + beta |e - held(c_z)|^2,    z = argmin_q |e - c_q|^2

z does not move with e, so the first term has no derivative along the encoder; it is given that
along the code which it chose, as if c_z were e (straight through). The second term moves codes to
the encoder's outputs, the third (commitment) outputs to their codes. `vector_quantised_gumbel` has
an encoder that draws z instead, through samples that lie between codes.

`model` is a gen_models.models.vq.Model. Axis suffixes: B batch, R batch times positions, L
positions, D width of a code, Q codes, V visible.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.estimators.relaxed import Relaxation, gumbel
from gen_models.models import vq
from gen_models.models.rows import mean_rows

held = jax.lax.stop_gradient
_FEWEST = 1e-6  # outputs on the average, below which a code stays where it is


class Averages(NamedTuple):
  """Moving averages over batches: how many outputs chose each code, and their sum."""

  number_Q: jax.Array
  sum_QD: jax.Array


def vector_quantised(model: vq.Model, commitment: float = 0.25,
                     decay: float | None = None) -> base.Estimator:
  """grads of the loss above, straight through; the prior gets none.

  Biased: the derivative of -log p(x | c_z) arrives at the encoder, where there is none, and does
  not reach the codes, where there is one. Along the decoder it is the gradient.

  With `decay` the codebook is a moving average instead: c_q = s_q / n_q, where n_q <- g n_q +
  (1 - g) times the number of outputs of the batch that chose q, and s_q likewise with their sum.
  The "gradient" of codes is then the way there, to be taken by optax.sgd(1.0), as that of
  maximum_likelihood.fixed_point.

  van den Oord, Vinyals & Kavukcuoglu (2017), and their appendix A.1 for the averages; Bengio,
  Leonard & Courville (2013) for the derivative.

  Args:
    model: see above.
    commitment: beta; may be traced.
    decay: g in [0, 1), 0.99 in the paper; None for the gradient of the second term.

  Returns:
    an Estimator; metrics are `distortion`, the mean of -log p(x | c_z), `code_error`, that of
    |e - c_z|^2 summed over positions, and `perplexity`, exp of the entropy of the batch's codes, at
    most Q.
  """
  def loss(params, x_BV):
    e_BLD = model.encode(params, x_BV)
    z_BL = model.quantise(params, e_BLD)
    c_BLD = params.codes_QD[z_BL]
    log_x_B = model.log_likelihood(params, x_BV, held(c_BLD) + e_BLD - held(e_BLD))
    to_outputs_B = jnp.sum((held(e_BLD) - c_BLD)**2, axis=(-2, -1))
    to_codes_B = jnp.sum((e_BLD - held(c_BLD))**2, axis=(-2, -1))
    total = mean_rows(-log_x_B + to_outputs_B + commitment * to_codes_B)
    return total, (e_BLD, z_BL, log_x_B, to_codes_B)

  def init(key, params):
    del key
    if decay is None:
      return base.Memory()
    return base.Memory(shared=Averages(jnp.ones(model.num_codes), params.codes_QD))

  def grad(key, params, memory, x_BV):
    del key
    grads, (e_BLD, z_BL, log_x_B, error_B) = jax.grad(loss, has_aux=True)(params, x_BV)
    z_RQ = jax.nn.one_hot(z_BL.ravel(), model.num_codes)
    metrics = {'distortion': -mean_rows(log_x_B), 'code_error': mean_rows(error_B),
               'perplexity': jnp.exp(jnp.sum(jax.scipy.special.entr(mean_rows(z_RQ))))}
    if decay is None:
      return grads, memory, metrics
    number_Q, sum_QD = memory.shared
    number_Q = decay * number_Q + (1 - decay) * jnp.sum(z_RQ, axis=0)
    sum_QD = decay * sum_QD + (1 - decay) * z_RQ.T @ e_BLD.reshape(-1, model.width)
    average_QD = sum_QD / jnp.maximum(number_Q, _FEWEST)[:, None]
    codes_QD = jnp.where(number_Q[:, None] > _FEWEST, average_QD, params.codes_QD)
    return (grads._replace(codes_QD=params.codes_QD - codes_QD),
            base.Memory(shared=Averages(number_Q, sum_QD)), metrics)

  return base.Estimator(init, grad, biased=True)


def vector_quantised_gumbel(model: vq.Model, relaxation: Relaxation | None = None,
                            weight: float = 1.0) -> base.Estimator:
  """grads of the bound of an encoder that draws its codes, through samples that are relaxed:

    loss = E_q[-log p(x | c_z)] + w KL(q(z | x) || uniform),
    q(z_l = k | x) = softmax_k(-|e_l - c_k|^2),

  whose most probable codes are the nearest ones. With w = 1 it is minus the ELBO under the prior
  of the first phase; the decoder sees y C, y the relaxed sample. Both encoder and codes have a
  derivative, so no commitment and no averages are needed. The prior gets none.

  Biased: the derivative of a relaxed sample is not that of the expectation.

  Jang, Gu & Poole (2017); Sonderby, Poole & Mnih (2017), Continuous relaxation training of
  discrete latent variable image models, for the distances.

  Args:
    model: see above.
    relaxation: of relaxed.py; None for Gumbel-softmax at temperature 0.5.
    weight: w; may be traced.

  Returns:
    an Estimator; metrics are `distortion` and `perplexity` as of `vector_quantised`, the latter of
    the mean of q, and `rate`, the KL in nats.
  """
  relaxation = gumbel() if relaxation is None else relaxation

  def loss(params, key, x_BV):
    t_BLQ = model.code_log_odds(params, model.encode(params, x_BV))
    log_q_BLQ = jax.nn.log_softmax(t_BLQ)
    y_BLQ = relaxation.sample(key, t_BLQ)
    log_x_B = model.log_likelihood(params, x_BV, y_BLQ @ params.codes_QD)
    kl_B = jnp.sum(jnp.exp(log_q_BLQ) * (log_q_BLQ + math.log(model.num_codes)), axis=(-2, -1))
    return mean_rows(-log_x_B + weight * kl_B), (log_q_BLQ, log_x_B, kl_B)

  def grad(key, params, memory, x_BV):
    grads, (log_q_BLQ, log_x_B, kl_B) = jax.grad(loss, has_aux=True)(params, key, x_BV)
    mean_Q = mean_rows(jnp.exp(log_q_BLQ).reshape(-1, model.num_codes))
    return grads, memory, {
      'distortion': -mean_rows(log_x_B), 'rate': mean_rows(kl_B),
      'perplexity': jnp.exp(jnp.sum(jax.scipy.special.entr(mean_Q)))}

  return base.Estimator(lambda key, params: base.Memory(), grad, biased=True)
