"""Training on rows of which values are missing: nan in a batch.

Values are taken to be missing at random: that one is missing does not depend on what it would have
been. Then what is to be raised is log p(v_seen), and by Fisher's identity

  d log p(v_seen) = E[d log p(v_seen, v_miss)],    v_miss ~ p(. | v_seen),

the gradient of completed rows, averaged over completions. Mixtures and Gaussians sum or integrate
what is missing out (mixture.observed_log_likelihood under maximum_likelihood); a Boltzmann machine
draws it in the positive phase.

Axis suffixes: B batch, V visible.
"""

from typing import Any

import jax

from gen_models.estimators import base
from gen_models.estimators.negative import require_steps
from gen_models.models import gibbs


def imputed(estimator: base.Estimator, model: gibbs.Model, steps: int = 10) -> base.Estimator:
  """`estimator` on rows whose missing units are drawn anew at every update, by clamped chains.

  The chains begin at the visible layer's own biases and make `steps` Gibbs steps with what was seen
  held (gibbs.conditional), so after few steps they are not at p(v_miss | v_seen) yet: biased, by
  less with every step. Rows without missing values are left as they are.

  Args:
    estimator: of completed rows, such as contrastive(model, ...); its declarations stay.
    model: the machine, as of estimators.contrastive.
    steps: Gibbs steps of each row, at each update.
  """
  require_steps(steps)

  def grad(key: jax.Array, params: Any, memory: base.Memory, v_BV: Any):
    key_missing, key_grad = jax.random.split(key)
    _, draws_BKV = gibbs.conditional(key_missing, model, params, v_BV, 1, steps)
    return estimator.grad(key_grad, params, memory, draws_BKV[:, 0])

  return estimator._replace(grad=grad, biased=True)
