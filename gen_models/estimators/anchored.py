"""Chains that begin with exact draws of a machine of low rank, and a ladder that stands on one.

Training from small weights passes through phase transitions, one for each principal direction that
the machine takes up, and at each of them chains are slow: where clusters of the data lie far apart
it is chance how the chains divide among them, and no chain crosses later. A machine of low rank
(gen_models.models.low_rank), fitted without a chain, is beyond the first of these transitions: the
RBM starts as that machine, and its chains as draws of it.

Bereux, Decelle, Furtlehner, Rosset & Seoane (2025), Fast training and sampling of restricted
Boltzmann machines.

Axis suffixes: C chains, R rungs, V visible, H hidden.
"""

from typing import Any, NamedTuple

import jax

from gen_models.estimators import base
from gen_models.estimators.contrastive import Shared
from gen_models.estimators.negative import Negative
from gen_models.estimators.tempered import Rungs, Trajectory, trajectory
from gen_models.models import gibbs, low_rank, rbm


class Anchored(NamedTuple):
  """What `anchored` remembers beside its chains: the trajectory, and how to draw its first rung."""

  trajectory: Trajectory
  draws: low_rank.Draws


def anchored(chains: int, rungs: int = 10, steps: int = 1, threshold: float = 0.3, *,
             rank: int = 2, size: int = 128) -> Negative:
  """Parallel trajectory tempering whose first rung is drawn from exactly, afresh at every update.

  Every state that comes down to the first rung is replaced by an independent draw, so what goes up
  from there has forgotten everything. The rung is a machine of low rank: that of the training phase
  before where `begun` hands it over, else independent units with the biases that training starts
  from.

  Args:
    chains, rungs, steps, threshold: as of tempered.trajectory.
    rank: D, directions of the machine of the first rung.
    size: points of its lattice along each; V size^D numbers are remembered.
  """
  ladder = trajectory(chains, rungs, steps, threshold)

  def init(key, model, params):
    memory = ladder.init(key, model, params)
    return _on(memory, low_rank.init(params.b_V, rank, len(params.c_H)), size)

  def sample(key, model, params, memory, y_BH):
    key_v, key_h, key_ladder = jax.random.split(key, 3)
    path, of = memory.shared
    first = jax.tree.map(lambda x: x[0], path.past_P)
    v_CV = low_rank.sample(key_v, of, len(memory.chains.v_CRV))
    fresh = Rungs(memory.chains.v_CRV.at[:, 0].set(v_CV), memory.chains.h_CRH.at[:, 0].set(
      rbm.sample_hidden(key_h, first, v_CV)))
    drawn, after = ladder.sample(key_ladder, model, params, base.Memory(fresh, path), y_BH)
    return drawn, base.Memory(after.chains, Anchored(after.shared, of))

  return Negative(init, sample, biased=False)


def _on(memory: base.Memory, params: low_rank.Params, size: int) -> base.Memory:
  """The memory of a trajectory, whose first rung is this machine from now on."""
  path = memory.shared.trajectory if isinstance(memory.shared, Anchored) else memory.shared
  past_P = jax.tree.map(lambda past, new: past.at[0].set(new), path.past_P,
                        low_rank.machine(params))
  of = low_rank.draws(params, low_rank.lattice(params, size))
  return memory._replace(shared=Anchored(path._replace(past_P=past_P), of))


def begun(key, params: rbm.Params, memory: base.Memory, start: low_rank.Params,
          size: int) -> base.Memory:
  """The memory of a contrastive estimator whose chains begin as exact draws of `start`.

  Chains of all rungs do, and the first rung of `anchored` is `start`. Without chains (CD) the
  memory is what it was.

  Args:
    key: consumed.
    params: those that training begins with.
    memory: what the estimator's init returned.
    start: a machine of low rank, of which `params` are near.
    size: points of its lattice along each direction.

  Raises:
    TypeError: chains of a kind that is not known here.
  """
  chains: Any = memory.chains
  if isinstance(chains, tuple) and not chains:
    return memory
  key_v, key_h = jax.random.split(key)
  of = low_rank.draws(start, low_rank.lattice(start, size))
  shared = memory.shared
  if isinstance(chains, gibbs.Chains):
    v_CV = low_rank.sample(key_v, of, len(chains.v_CV))
    return memory._replace(chains=gibbs.Chains(v_CV, rbm.sample_hidden(key_h, params, v_CV)))
  if not isinstance(chains, Rungs):
    raise TypeError(f'chains of a {type(chains).__name__} cannot begin with draws of another '
                    'machine: gibbs.Chains and tempered.Rungs can')
  num_chains, num_rungs, num_visible = chains.v_CRV.shape
  v_CRV = low_rank.sample(key_v, of, num_chains * num_rungs).reshape(
    num_chains, num_rungs, num_visible)
  memory = memory._replace(chains=Rungs(v_CRV, rbm.sample_hidden(key_h, params, v_CRV)))
  if isinstance(shared, Shared) and isinstance(shared.negative, Anchored):
    path = _on(base.Memory(memory.chains, shared.negative), start, size)
    memory = memory._replace(shared=shared._replace(negative=path.shared))
  return memory
