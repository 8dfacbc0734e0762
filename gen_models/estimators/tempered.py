"""Negative phases from chains that swap: over temperatures, or along the training run.

Both remember, for each chain, a state on every rung of a ladder of machines whose last rung is the
model (gen_models.samplers.tempering), and use the states of that last rung. What a rung low on the
ladder finds travels up by swaps, so the model's samples change mode long before Gibbs steps would.

Axis suffixes: C chains, R rungs, P = R - 1 pairs, V visible, H hidden.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.estimators import base
from gen_models.estimators.negative import (
  Drawn,
  Negative,
  require_binary,
  require_chains,
  require_steps,
)
from gen_models.models import gibbs, rbm
from gen_models.samplers import tempering


class Rungs(NamedTuple):
  """States of all rungs, chains leading."""

  v_CRV: jax.Array
  h_CRH: jax.Array

  @property
  def at_model(self) -> gibbs.Chains:
    """The chains of the last rung."""
    return gibbs.Chains(self.v_CRV[:, -1], self.h_CRH[:, -1])


def _rungs(ladder: tempering.Ladder) -> Rungs:
  return Rungs(*(x.swapaxes(0, 1) for x in ladder))


def _run(key, params_R, rungs: Rungs, steps: int) -> tuple[Rungs, jax.Array]:
  """`steps` Gibbs steps with swaps; also the share of swaps accepted of each pair, [P]."""
  ladder = tempering.Ladder(*(x.swapaxes(0, 1) for x in rungs))
  ladder, work = tempering.run(key, params_R, ladder, steps)
  return _rungs(ladder), tempering.acceptance(work)


def _drawn(params, rungs: Rungs, rate_P) -> Drawn:
  v_CV = rungs.at_model.v_CV
  return Drawn(v_CV, v_CV @ params.w_VH, metrics={'swap_acceptance': jnp.min(rate_P)})


def tempered(chains: int, rungs: int = 10, steps: int = 1, betas=None) -> Negative:
  """Parallel tempering: `rungs` temperatures for each chain, W and c times beta, b moving to b_0.

  The machine at beta has b_beta = (1 - beta) b_0 + beta b, b_0 the visible biases that training
  started from, the log-odds of the data's mean. An update costs the products of PCD with `rungs`
  times as many chains. Desjardins, Courville, Bengio, Vincent & Delalleau (2010), Tempered Markov
  chain Monte Carlo for training of restricted Boltzmann machines; Cho, Raiko & Ilin (2010).

  Args:
    chains: C; the negative phase has C rows.
    rungs: temperatures, evenly from 0 to 1.
    steps: Gibbs steps with swaps an update.
    betas: instead of `rungs`, increasing from something in [0, 1) to 1.
  """
  require_steps(steps)
  require_chains(chains)
  if betas is None and rungs < 2:
    raise ValueError(f'parallel tempering needs rungs >= 2, got {rungs}')
  betas = np.linspace(0, 1, rungs) if betas is None else betas
  betas = tempering.check_temperatures(betas)

  def init(key, model, params):
    require_binary(model, 'chains that swap')
    params_R = tempering.scaled(params, params.b_V, betas)
    return base.Memory(_rungs(tempering.init(key, params_R, chains)), params.b_V)

  def sample(key, model, params, memory, y_BH):
    del model, y_BH
    machines = tempering.Scaled(params, memory.shared, jnp.asarray(betas, jnp.float32))
    states, rate_P = _run(key, machines, memory.chains, steps)
    return _drawn(params, states, rate_P), memory._replace(chains=states)

  return Negative(init, sample, biased=False)


class Trajectory(NamedTuple):
  """The snapshots of the training run.

  Attributes:
    past_P: rbm.Params with a leading axis, snapshots in the order they were taken; those from
      `count` on are empty.
    count: of snapshots, float.
    rate_P: moving average of the share of swaps accepted of each pair of rungs.
  """

  past_P: rbm.Params
  count: jax.Array
  rate_P: jax.Array


_MEMORY = 0.1  # of the moving average of acceptance


def trajectory(chains: int, rungs: int = 10, steps: int = 1, threshold: float = 0.3) -> Negative:
  """Parallel trajectory tempering: the rungs are the model as it was earlier in training.

  Along temperature a machine passes abruptly through phase transitions that training passed
  gradually; along the training run neighbouring rungs stay similar. A snapshot is taken when swaps
  between the model and the last one are accepted less often than `threshold`; when all rungs are
  taken, the snapshot between the two pairs with the highest acceptance is dropped. Rungs not yet
  used are the model itself.

  Bereux, Decelle, Furtlehner, Rosset & Seoane (2025), Fast training and sampling of restricted
  Boltzmann machines.

  Args:
    chains: C; the negative phase has C rows.
    rungs: of the ladder, the model the last.
    steps: Gibbs steps with swaps an update.
    threshold: of acceptance, in (0, 1); may be traced.
  """
  require_steps(steps)
  require_chains(chains)
  if rungs < 3:
    raise ValueError(f'a trajectory needs rungs >= 3, got {rungs}')
  num_past = rungs - 1

  def init(key, model, params):
    require_binary(model, 'chains that swap')
    params_R = jax.tree.map(lambda x: jnp.broadcast_to(x, (rungs, *x.shape)), params)
    past_P = jax.tree.map(lambda x: x[:-1], params_R)
    return base.Memory(_rungs(tempering.init(key, params_R, chains)),
                       Trajectory(past_P, jnp.ones(()), jnp.ones(num_past)))

  def snapshot(operand):
    """The model becomes the last snapshot."""
    params, states, (past_P, count, rate_P) = operand
    full = count >= num_past
    # Rung j goes: the one whose two neighbours will be the most alike without it, never the first.
    through = rate_P[:-1] * rate_P[1:]
    j = jnp.where(full, 1 + jnp.argmax(through), num_past)
    slots = jnp.arange(num_past)
    kept = jnp.minimum(slots + (slots >= j).astype(slots.dtype), num_past - 1)
    last = jnp.where(full, num_past - 1, count.astype(jnp.int32))
    past_P = jax.tree.map(lambda x, new: x[kept].at[last].set(new), past_P, params)
    # States stay with their machines; the new rung's are those of the model, which it is.
    order = jnp.append(jnp.minimum(slots + (slots >= j).astype(slots.dtype), num_past), num_past)
    states = jax.tree.map(lambda x: x[:, order], states)
    merged = jnp.where(slots == j - 1, through[jnp.maximum(j - 1, 0) % len(through)], rate_P[kept])
    rate_P = jnp.where(slots >= last, 1.0, jnp.where(full, merged, rate_P))
    return states, Trajectory(past_P, jnp.minimum(count + 1, num_past), rate_P)

  def sample(key, model, params, memory, y_BH):
    del model, y_BH
    # What is decided here is decided by what all devices share.
    at = memory.shared.count.astype(jnp.int32) - 1
    states, shared = lax.cond(
      memory.shared.rate_P[at] < threshold, snapshot, lambda operand: operand[1:],
      (params, memory.chains, memory.shared))
    used_P = jnp.arange(num_past, dtype=jnp.float32) < shared.count
    params_R = jax.tree.map(
      lambda past, now: jnp.concatenate(
        [jnp.where(used_P.reshape(-1, *(1,) * now.ndim), past, now), now[None]]),
      shared.past_P, params)
    states, rate_P = _run(key, params_R, states, steps)
    shared = shared._replace(rate_P=shared.rate_P + _MEMORY * (rate_P - shared.rate_P))
    drawn = _drawn(params, states, rate_P)
    drawn.metrics['snapshots'] = shared.count
    return drawn, base.Memory(states, shared)

  return Negative(init, sample, biased=False)
