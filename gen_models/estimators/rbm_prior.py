"""Gradients of a latent-variable model whose prior is a Boltzmann machine.

  d log p(z) / d prior = -d E(z) / d prior + E_{z' ~ p(z')}[d E(z') / d prior]

The first term is a positive phase at samples z of the posterior, the second a negative phase at
samples of the machine. `rbm_prior` puts the second into the model as the gradient of log Z: then
any estimator of latent-variable models is one of this model, with the same parameters, samples and
bound, and the two terms get the same weights from it.

Axis suffixes: B batch, K samples, C chains, V visible, H hidden.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.estimators.negative import Drawn, Negative
from gen_models.models import rbm, rbm_prior as models
from gen_models.models.rows import mean_rows


class Shared(NamedTuple):
  """The part of the memory that has no chains."""

  negative: Any
  latents: Any


def rbm_prior(model: models.Model, of_model: Callable[[Any], base.Estimator],
              negative: Negative | None) -> base.Estimator:
  """of_model's gradient, in which d log Z / d prior = <(v h, v, h)> over the negative phase.

  log Z is left out of the log-weights l, which are therefore off by one constant for all samples of
  all images. Differences of l do not see it: the weights softmax(l) of the importance-weighted
  bound, the leave-one-out baselines of RLOO and VIMCO, the pairs of DisARM and ARMS. A rule that
  takes l as it is (REINFORCE) multiplies the score, whose mean is zero, by one number more, so it
  stays unbiased and gains variance, which a baseline takes away.

  At fixed parameters the bias is that of its parts. Persistent chains reach the machine, and then
  there is none; while parameters move, chains of finitely many steps lag behind, as in any machine
  trained so. Contrastive divergence starts at samples of the posterior and is biased. With
  negative=None there is no negative phase: log Z is enumerated, and so is its gradient.

  Rolfe (2017), Discrete variational autoencoders, section 5.

  Args:
    model: with log Z left out.
    of_model: model -> Estimator, such as lambda model: variational(model, rloo(4)), or discrete,
      nvil, relaxed in the place of variational.
    negative: how the negative phase is drawn, gen_models.estimators.negative; None: enumerated.

  Returns:
    an Estimator, which keeps its chains in Memory.chains; metrics are those of of_model, of which
    `elbo` and `bound` become `elbo_plus_log_z` and `bound_plus_log_z`, `moment_error`, the mean
    over the visible side of |<v>_posterior - <v>_negative|, and those of the negative phase.
  """
  if negative is None:
    return of_model(model.enumerated)
  phase, latents = negative, of_model(model)

  def init(key, params):
    key_negative, key_latents = jax.random.split(key)
    kept = phase.init(key_negative, rbm, params.prior)
    return base.Memory(kept.chains, Shared(kept.shared, latents.init(key_latents, params)))

  def grad(key, params, memory, batch):
    key_start, key_negative, key_latents = jax.random.split(key, 3)
    # Where contrastive divergence starts; other negative phases drop it.
    top = model.sample_posterior(key_start, params, model.encode(params, batch), 1)[-1][0]
    drawn, kept = phase.sample(
      key_negative, rbm, params.prior, base.Memory(memory.chains, memory.shared.negative),
      model.sides(top)[0] @ params.prior.w_VH)
    drawn_model = model._replace(log_partition=with_gradient(moments(params.prior, drawn)))
    grads, of_latents, metrics = of_model(drawn_model).grad(
      key_latents, params, memory.shared.latents, batch)
    if phase.learn is not None:
      kept = phase.learn(kept, grads.prior)
    metrics = {f'{name}_plus_log_z' if name in ('elbo', 'bound') else name: value
               for name, value in metrics.items()}
    return (grads, base.Memory(kept.chains, Shared(kept.shared, of_latents)),
            metrics | {'moment_error': jnp.mean(jnp.abs(grads.prior.b_V))} | drawn.metrics)

  return base.Estimator(init, grad, latents.biased or phase.biased)


def moments(prior: rbm.Params, drawn: Drawn) -> rbm.Params:
  """d log Z / d prior by a negative phase: means of v E[h | v], v and E[h | v] over its rows."""
  p_CH = jax.nn.sigmoid(drawn.y_CH + prior.c_H)
  found = rbm.Params(drawn.v_CV.T @ (p_CH / len(p_CH)), mean_rows(drawn.v_CV), mean_rows(p_CH))
  if drawn.correction is None:
    return found
  return rbm.Params(*(m + c for m, c in zip(found, drawn.correction, strict=True)))


def with_gradient(slope: rbm.Params) -> Callable[[rbm.Params], jax.Array]:
  """A function of a machine's parameters that is 0 wherever it is taken, with this gradient."""
  def log_partition(prior):
    here = jax.lax.stop_gradient(prior)
    return sum((jnp.vdot(s, p - p_0) for s, p, p_0 in zip(slope, prior, here, strict=True)),
               jnp.zeros(()))

  return log_partition
