"""Vector-quantised autoencoder: latents that are entries of a codebook, and a prior fitted after.

  e = f(x) [L, D],    z_l = argmin_q |e_l - c_q|^2,    p(x, z) = p(x | c_{z_1}, .., c_{z_L}) p(z)

The encoder is a function and no distribution, so the likelihood has a lower bound without chance,
one term of the sum over all z:

  log p(x) = log sum_z p(x, z) >= log p(x | z(x)) + log p(z(x)).

It holds for every prior. While networks and codebook are trained, all codes are equally probable,
log p(z) = -L log Q; then they are held and p(z) is fitted to the codes of the training data:

  log p(z) = sum_l log softmax(b_l + sum_{m < l} w_{m z_m l})_{z_l},

independent positions where w is 0 (`fit_prior`, in closed form), a linear autoregression where it
is trained by gradient.

Axis suffixes: B batch, N samples, V visible, L positions, D width of a code, Q codes, O outputs of
a network. Nats.

van den Oord, Vinyals & Kavukcuoglu (2017), Neural discrete representation learning.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models import networks, vae
from gen_models.models.rows import over_rows


class Prior(NamedTuple):
  """p(z): log-odds of the codes of each position, and what the positions before add to them.

  w_LQLQ[m, r, l, q] is added to the log-odds of code q at l where z_m = r; read for m < l only.
  () for positions that are independent.
  """

  b_LQ: jax.Array
  w_LQLQ: Any = ()


class Params(NamedTuple):
  """Parameters of the networks, of the codebook and of the prior.

  bias_O is added to the outputs of the decoder, which start at the data's mean.
  """

  encoder: Any
  decoder: Any
  bias_O: jax.Array
  codes_QD: jax.Array
  prior: Prior


class Model(NamedTuple):
  """The networks and sizes. Build it with `model`.

  Attributes:
    encoder: x -> e, L D outputs.
    decoder: the codes of all positions, L D inputs -> the outputs of the likelihood.
    likelihood: vae.Family of x.
    num_positions: L.
    num_codes: Q.
    width: D.
    autoregressive: whether the prior has w.
  """

  encoder: nn.Module
  decoder: nn.Module
  likelihood: vae.Family
  num_positions: int
  num_codes: int
  width: int
  autoregressive: bool = False

  # Parameters.

  def init(self, key, mean_V: jax.Array) -> Params:
    """Fresh networks and codes c ~ N(0, 1); p(x | z) starts near the data's mean, p(z) uniform."""
    key_encoder, key_decoder, key_codes = jax.random.split(key, 3)
    num, codes = self.num_positions, self.num_codes
    return Params(
      networks.init(key_encoder, self.encoder, len(mean_V)),
      networks.init(key_decoder, self.decoder, num * self.width), self.likelihood.outputs(mean_V),
      jax.random.normal(key_codes, (codes, self.width)),
      Prior(jnp.zeros((num, codes)),
            jnp.zeros((num, codes, num, codes)) if self.autoregressive else ()))

  # Density.

  def log_likelihood(self, params: Params, x_BV, codes_BLD) -> jax.Array:
    """log p(x | codes), [B]."""
    return self.likelihood.log_prob(self._visible(params, codes_BLD), x_BV)

  def prior_logits(self, params: Params, z_BLQ) -> jax.Array:
    """Log-odds of the codes of each position given those before it, [B, L, Q]; z one of Q."""
    b_LQ, w_LQLQ = params.prior
    y_BLQ = over_rows(b_LQ.ravel(), len(z_BLQ)).reshape(z_BLQ.shape)
    if not self.autoregressive:
      return y_BLQ
    before_LL = jnp.asarray(np.triu(np.ones((self.num_positions,) * 2, np.float32), 1))
    return y_BLQ + jnp.einsum('bmr,mrlq->blq', z_BLQ, w_LQLQ * before_LL[:, None, :, None])

  def log_prior(self, params: Params, z_BL) -> jax.Array:
    """log p(z), [B]."""
    z_BLQ = jax.nn.one_hot(z_BL, self.num_codes)
    log_p_BLQ = jax.nn.log_softmax(self.prior_logits(params, z_BLQ))
    return jnp.sum(z_BLQ * log_p_BLQ, axis=(-2, -1))

  def log_bound(self, params: Params, x_BV) -> jax.Array:
    """log p(x | z(x)) + log p(z(x)) <= log p(x), [B]."""
    z_BL = self.quantise(params, self.encode(params, x_BV))
    return (self.log_likelihood(params, x_BV, params.codes_QD[z_BL])
            + self.log_prior(params, z_BL))

  # Conditionals.

  def encode(self, params: Params, x_BV) -> jax.Array:
    """e = f(x), [B, L, D]."""
    return networks.apply(self.encoder, params.encoder, x_BV).reshape(
      len(x_BV), self.num_positions, self.width)

  def quantise(self, params: Params, e_BLD) -> jax.Array:
    """z_l = argmin_q |e_l - c_q|^2, [B, L]; of equally near codes the first."""
    return jnp.argmin(self._distances(params, e_BLD), axis=-1)

  def code_log_odds(self, params: Params, e_BLD) -> jax.Array:
    """t_lq = -|e_l - c_q|^2 + |e_l|^2, [B, L, Q], of an encoder that draws z_l ~ softmax(t_l).

    Its most probable codes are those of `quantise`.
    """
    return -self._distances(params, e_BLD)

  def _distances(self, params, e_BLD):
    """|e_l - c_q|^2 - |e_l|^2, the last of which is the same for all codes."""
    c_QD = params.codes_QD
    return jnp.sum(c_QD**2, axis=-1) - 2 * e_BLD @ c_QD.T

  def visible_mean(self, params: Params, z_BL) -> jax.Array:
    """E[x | z], [B, V]."""
    return self.likelihood.mean(self._visible(params, params.codes_QD[z_BL]))

  def _visible(self, params, codes_BLD):
    outputs_BO = networks.apply(self.decoder, params.decoder, codes_BLD.reshape(len(codes_BLD), -1))
    return outputs_BO + over_rows(params.bias_O, len(outputs_BO))

  # Sampling.

  def sample_prior(self, key, params: Params, num_samples: int) -> jax.Array:
    """z ~ p(z), [N, L], one position after another."""
    z_NL = jnp.zeros((num_samples, self.num_positions), jnp.int32)

    def draw(i, z_NL):
      logits_NLQ = self.prior_logits(params, jax.nn.one_hot(z_NL, self.num_codes))
      return z_NL.at[:, i].set(
        jax.random.categorical(jax.random.fold_in(key, i), logits_NLQ[:, i]))

    return jax.lax.fori_loop(0, self.num_positions, draw, z_NL)

  def sample_visible(self, key, params: Params, z_BL) -> jax.Array:
    """x ~ p(x | z), [B, V]."""
    return self.likelihood.sample(key, self._visible(params, params.codes_QD[z_BL]))


def model(num_visible: int, num_positions: int, num_codes: int, width: int,
          hidden: tuple[int, ...] = (), *, likelihood: vae.Family = vae.BINARY,
          activation: networks.Activation = jnp.tanh, autoregressive: bool = False) -> Model:
  """Dense networks, mirrored: x - hidden - L codes of D numbers - hidden - x.

  Raises:
    ValueError: no positions, no width, or fewer than two codes.
  """
  if num_positions < 1 or width < 1 or num_codes < 2:
    raise ValueError(f'a codebook has at least two codes of a number or more, at a position or '
                     f'more; got {num_codes} codes of {width} at {num_positions}')
  decoder = networks.MLP(likelihood.num_outputs * num_visible, tuple(hidden)[::-1], activation,
                         output_bias=False)
  return Model(networks.MLP(num_positions * width, tuple(hidden), activation), decoder, likelihood,
               num_positions, num_codes, width, autoregressive)


def fit_prior(model: Model, params: Params, x_NV, pseudo_count: float = 1.0,
              weights_N=None) -> Params:
  """b_lq = log (n_lq + a / Q) - log (N + a): how often each code is used by the rows, smoothed.

  The posterior mean under a symmetric Dirichlet prior of `pseudo_count` rows in all; w becomes 0.

  Args:
    model, params: networks and codes, which stay.
    x_NV: training rows.
    pseudo_count: a, rows; above 0, so that no code is impossible.
    weights_N: of the rows; None where all are equal. Their sum counts as N.
  """
  z_NLQ = jax.nn.one_hot(model.quantise(params, model.encode(params, x_NV)), model.num_codes)
  weights_N = jnp.ones(len(x_NV)) if weights_N is None else (
    weights_N * len(x_NV) / jnp.sum(weights_N))
  n_LQ = jnp.einsum('n,nlq->lq', weights_N, z_NLQ) + pseudo_count / model.num_codes
  b_LQ = jnp.log(n_LQ) - jnp.log(len(x_NV) + pseudo_count)
  return params._replace(prior=Prior(b_LQ, jax.tree.map(jnp.zeros_like, params.prior.w_LQLQ)))
