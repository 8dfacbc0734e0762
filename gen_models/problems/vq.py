"""A vector-quantised autoencoder of 4 visible units, 2 positions and 3 codes of 2 numbers.

The loss is written out once more, its nearest codes found by a loop over all pairs of codes; its
derivative is the one that there is, which is none through the choice of codes. Of an encoder that
draws its codes the expectation is a sum over all pairs.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import estimators as v
from gen_models.models import vq
from gen_models.problems.entry import Problem
from gen_models.problems.variational import BINARY_BATCH, affine, bernoulli_sum

MODEL = vq.model(4, 2, 3, 2)
COMMITMENT = 0.25


def some_params(model: vq.Model, seed: int) -> vq.Params:
  """Every number N(0, 1)."""
  rng = np.random.default_rng(seed)
  fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.full(4, 0.5))
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), fresh)


PARAMS = some_params(MODEL, 3)


def vq_loss(params, x_BV):
  """mean_b -log p(x | c_z) + |held(e) - c_z|^2 + beta |e - held(c_z)|^2."""
  held = jax.lax.stop_gradient
  e_BD = affine(params.encoder, x_BV)
  pairs_SD = jnp.stack([jnp.concatenate([params.codes_QD[q] for q in pair])
                        for pair in itertools.product(range(3), repeat=2)])
  nearest_B = jnp.argmin(jnp.sum((e_BD[:, None] - pairs_SD)**2, axis=-1), axis=1)
  c_BD = pairs_SD[nearest_B]
  log_x_B = bernoulli_sum(affine(params.decoder, c_BD) + params.bias_O, x_BV)
  return jnp.mean(-log_x_B + jnp.sum((held(e_BD) - c_BD)**2, axis=1)
                  + COMMITMENT * jnp.sum((e_BD - held(c_BD))**2, axis=1))


VQ = Problem('vq', PARAMS, BINARY_BATCH, vq_loss,
             'vector-quantised autoencoder, 4 visible units, 2 of 3 codes (vq.MODEL)',
             '-log p(x | z(x)), distance of codes and commitment')

def drawn_loss(params, x_BV):
  """mean_b E_q[-log p(x | c_z)] + KL(q(z | x) || uniform), q a softmax of squared distances."""
  e_BLD = affine(params.encoder, x_BV).reshape(len(x_BV), 2, 2)
  distance_BLQ = jnp.sum((e_BLD[:, :, None] - params.codes_QD)**2, axis=-1)
  log_q_BLQ = jax.nn.log_softmax(-distance_BLQ)
  total_B = jnp.zeros(len(x_BV))
  for pair in itertools.product(range(3), repeat=2):
    log_q_B = log_q_BLQ[:, 0, pair[0]] + log_q_BLQ[:, 1, pair[1]]
    c_D = jnp.concatenate([params.codes_QD[k] for k in pair])
    log_x_B = bernoulli_sum(affine(params.decoder, c_D) + params.bias_O, x_BV)
    total_B += jnp.exp(log_q_B) * (log_q_B + 2 * jnp.log(3.0) - log_x_B)
  return jnp.mean(total_B)


VQ_DRAWN = Problem('vq_drawn', PARAMS, BINARY_BATCH, drawn_loss,
                   'vector-quantised autoencoder whose encoder draws codes (vq.MODEL)',
                   'minus the ELBO')
PROBLEMS = (VQ, VQ_DRAWN)
ENTRIES = {
  'vq_straight_through': VQ.entry(v.vector_quantised(MODEL, COMMITMENT), deterministic=True),
  'vq_gumbel': VQ_DRAWN.entry(v.vector_quantised_gumbel(MODEL))}
