"""Missing values of a latent-variable model: Metropolis-within-Gibbs between z and what is missing.

The target is p(x_miss, z | x_seen). One step proposes z' ~ q(z | x) from the model's own encoder at
the current x and accepts it with probability

  min(1, w(x, z') / w(x, z)),    w(x, z) = p(x, z) / q(z | x),

then draws x_miss ~ p(x | z), whose units are independent given z, exactly. Both halves leave the
target invariant, however poor q is; a poor q is accepted rarely, which the acceptance rate shows.
Accepting every proposal is pseudo-Gibbs (Rezende, Mohamed & Wierstra, 2014), exact only if q is
the posterior. It leaves a bad start soon, but may run away where q is poor, so only a few such
steps come first.

Mattei & Frellsen (2018), Leveraging the exact likelihood of deep latent variable models.

Axis suffixes: B rows, K draws of each row, C = B K chains, V visible. z is any tree [C, ..].
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

_WARM = 10  # steps of pseudo-Gibbs, at most a quarter of all


class SamplePosterior(Protocol):
  """The encoder."""

  def __call__(self, key: jax.Array, params: Any, x_CV: jax.Array, /) -> Any:
    """z ~ q(z | x), one of each row; the key is consumed."""
    ...


class LogWeight(Protocol):
  """The weight of a latent state, of which a constant may be left out."""

  def __call__(self, params: Any, x_CV: jax.Array, z: Any, /) -> jax.Array:
    """log p(x, z) - log q(z | x) + constant, [C] nats."""
    ...


class Visible(Protocol):
  """The conditional of x, of independent units."""

  def __call__(self, key: jax.Array, params: Any, z: Any, /) -> tuple[jax.Array, jax.Array]:
    """(x ~ p(x | z), E[x | z]), [C, V] each; the key is consumed."""
    ...


class SamplePrior(Protocol):
  """Draws without data."""

  def __call__(self, key: jax.Array, params: Any, num: int, /) -> jax.Array:
    """x, [num, V], from which chains begin; the key is consumed."""
    ...


class Latent(NamedTuple):
  """A latent-variable model, as this sampler sees it."""

  sample_prior: SamplePrior
  sample_posterior: SamplePosterior
  log_weight: LogWeight
  visible: Visible


class Imputed(NamedTuple):
  """What is missing, given what was seen.

  Attributes:
    mean_BV: E[x | x_seen], what was seen as it was.
    draws_BKV: draws of p(x | x_seen).
    acceptance_B: the share of proposals accepted.
  """

  mean_BV: jax.Array
  draws_BKV: jax.Array
  acceptance_B: jax.Array


def impute(key, model: Latent, params, x_BV, num_draws: int, num_steps: int) -> Imputed:
  """`num_draws` chains for each row, `num_steps` steps each; nan in x is missing.

  The first steps, 10 or a quarter of them, accept every proposal. The mean is that of E[x | z] over
  all chains of a row and the second half of their steps; the draws are where the chains end.

  Raises:
    ValueError: no draws, or fewer than two steps.
  """
  if num_draws < 1 or num_steps < 2:
    raise ValueError(f'chains need draws and at least two steps, got {num_draws} and {num_steps}')
  key_start, key_z, key_steps = jax.random.split(key, 3)
  rows_CV = jnp.repeat(x_BV, num_draws, axis=0)
  missing_CV, num_warm = jnp.isnan(rows_CV), min(_WARM, num_steps // 4)
  x_CV = jnp.where(missing_CV, model.sample_prior(key_start, params, len(rows_CV)), rows_CV)
  z = model.sample_posterior(key_z, params, x_CV)

  def body(carry, of_step):
    x_CV, z, sum_CV, accepted_C = carry
    step, key = of_step
    key_z, key_u, key_x = jax.random.split(key, 3)
    proposed = model.sample_posterior(key_z, params, x_CV)
    log_ratio_C = (model.log_weight(params, x_CV, proposed) - model.log_weight(params, x_CV, z))
    accept_C = jnp.log(jax.random.uniform(key_u, log_ratio_C.shape)) < log_ratio_C
    warm = step < num_warm
    accepted_C += jnp.where(warm, 0.0, accept_C.astype(jnp.float32))
    accept_C = accept_C | warm
    z = jax.tree.map(lambda new, old: jnp.where(
      accept_C.reshape(-1, *[1] * (new.ndim - 1)), new, old), proposed, z)
    drawn_CV, mean_CV = model.visible(key_x, params, z)
    x_CV = jnp.where(missing_CV, drawn_CV, rows_CV)
    sum_CV += jnp.where(step >= num_steps // 2, mean_CV, 0.0)
    return (x_CV, z, sum_CV, accepted_C), None

  start = (x_CV, z, jnp.zeros_like(x_CV), jnp.zeros(len(x_CV)))
  (x_CV, _, sum_CV, accepted_C), _ = lax.scan(
    body, start, (jnp.arange(num_steps), jax.random.split(key_steps, num_steps)))
  of_rows = (len(x_BV), num_draws, -1)
  mean_BV = jnp.mean(sum_CV.reshape(of_rows), axis=1) / (num_steps - num_steps // 2)
  acceptance_B = jnp.mean(accepted_C.reshape(of_rows[:2]), axis=1) / (num_steps - num_warm)
  return Imputed(jnp.where(jnp.isnan(x_BV), mean_BV, x_BV), x_CV.reshape(of_rows), acceptance_B)
