"""Pretraining of an RBM along principal directions: one training phase, a convex fit.

The phase `low_rank` leaves a machine of low rank (gen_models.models.low_rank), of which everything
is exact. The phase of the RBM begins as that machine, its chains as draws of it.
"""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax

from experiments._common import boltzmann, whole
from gen_models import data
from gen_models.domains import Interval
from gen_models.estimators.anchored import anchored, begun
from gen_models.estimators.negative import Negative
from gen_models.experiment import Phase
from gen_models.models import low_rank, rbm

Pretrain = Literal['low_rank']
Rank = Annotated[int, Interval(1, 3)]
SIZES = {1: 1024, 2: 128, 3: 32}  # rank -> points of the lattice along each direction


def log_likelihood(params: low_rank.Params, x_NV) -> jax.Array:
  """log p(v), [N] nats, exact."""
  size = SIZES[params.u_VD.shape[1]]
  return low_rank.log_likelihood(params, low_rank.lattice(params, size), x_NV)


@dataclasses.dataclass(frozen=True)
class LowRank:
  """The pretraining of one RBM.

  Attributes:
    spec, binarisation: of the data, and how the machine sees them.
    rank: principal directions.
    num_hidden: of the RBM.
  """

  spec: data.Spec
  binarisation: str
  rank: Rank
  num_hidden: int

  def negative_phase(self, name: boltzmann.AnyNegative, *, chains: int, steps: int,
                     rungs: int = 0, fast_rate: float = 0.0) -> Negative:
    """boltzmann.negative_phase; with 'ptt' the first rung is the machine of low rank itself."""
    if name == 'ptt':
      return anchored(chains, rungs, steps, rank=self.rank, size=SIZES[self.rank])
    return boltzmann.negative_phase(name, chains=chains, steps=steps, rungs=rungs,
                                    fast_rate=fast_rate)

  def phases(self, phase: Phase) -> tuple[Phase, Phase]:
    """One step on all rows, to the machine that fits them best, and the RBM's phase from there.

    The RBM begins as that machine, weights N(0, 0.01^2) added to its own; its chains begin as draws
    of that machine.
    """
    def init(key, arrays, previous_params):
      del key, arrays, previous_params
      # Of zeros, to which the step adds the fit without rounding.
      return low_rank.init(jnp.zeros(self.spec.num_visible), self.rank, self.num_hidden)

    def begin(key, arrays, previous_params):
      machine = low_rank.machine(self._left(arrays, previous_params))
      return machine._replace(w_VH=machine.w_VH + rbm.init(key, *machine.w_VH.shape).w_VH)

    def inherit(key, params, memory, arrays, previous_params):
      return begun(key, params, memory, self._left(arrays, previous_params),
                                SIZES[self.rank])

    estimator = whole.fixed_point(lambda _, rows: self.fit(rows), log_likelihood)
    first = Phase('low_rank', init, estimator, optax.sgd(1.0), self._rows, 1,
                  self.spec.rows['train'])
    return first, phase._replace(init=begin, inherit=inherit)

  def fit(self, rows: whole.Rows) -> low_rank.Params:
    """low_rank.fit with half of the hidden units: the others are free to learn what it lacks."""
    return low_rank.fit(rows.x_NV, self.rank, SIZES[self.rank], self.num_hidden,
                        num_used=-(-self.num_hidden // 2), weights_N=rows.weights_N)

  def _rows(self, key, arrays, step) -> whole.Rows:
    del key, step
    if isinstance(arrays, data.Window):
      raise ValueError('a convex fit needs all rows at once: run it without streaming')
    return whole.Rows(data.fixed(arrays, self.binarisation, self.spec, split='train'),
                      weights_N=arrays.weights)

  def _left(self, arrays, previous_params) -> low_rank.Params:
    """What the phase before has left, or would."""
    return (self.fit(self._rows(None, arrays, None)) if previous_params is None
            else previous_params)
