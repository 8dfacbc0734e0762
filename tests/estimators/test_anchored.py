"""Chains that begin as exact draws of a machine of low rank, and the ladder that stands on one.

Tests of draws fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.estimators import base
from gen_models.estimators.anchored import Anchored, anchored, begun
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.models import gibbs, low_rank, rbm
from gen_models.problems.rbm import PARAMS
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

START = low_rank.Params(jnp.array([[1.], [-1.], [2.], [0.], [1.]]),
                        jnp.array([[0.8, -0.5, 0.3, 0.0]]), 0.5 * PARAMS.b_V, 0.5 * PARAMS.c_H)
SIZE = 6


def memory_of(negative, start, num=0):
  """What a contrastive estimator remembers once `start` has been handed over."""
  def make(key):
    key_init, key_begun = jax.random.split(key)
    memory = contrastive(rbm, negative).init(key_init, PARAMS)
    return begun(key_begun, PARAMS, memory, start, SIZE)
  return jax.jit(make)(jax.random.key(num))


@pytest.mark.slow
def test_chains_begin_as_draws_and_the_ladder_leads_to_the_model():
  num = 2**13
  p_start_A = oracle.rbm_joint(low_rank.machine(START)).p_AS.sum(1)
  memory = memory_of(persistent(num), START)
  oracle.assert_frequencies(oracle.index(memory.chains.v_CV), p_start_A)
  assert memory.chains.h_CH.shape == (num, 4)

  negative = anchored(num, rungs=3, rank=1, size=SIZE)
  memory = memory_of(negative, START, 1)
  kept = memory.shared.negative
  assert isinstance(kept, Anchored)
  for r in range(3):
    oracle.assert_frequencies(oracle.index(memory.chains.v_CRV[:, r]), p_start_A)

  @jax.jit
  def run(key, memory):
    def body(memory, key):
      drawn, memory = negative.sample(key, rbm, PARAMS, memory, jnp.zeros((1, 4)))
      return memory, drawn.v_CV
    return jax.lax.scan(body, memory, jax.random.split(key, 20))

  with jax.debug_key_reuse(False):
    memory, v_TCV = run(jax.random.key(2), base.Memory(memory.chains, kept))
  oracle.assert_frequencies(oracle.index(v_TCV[-1]), oracle.rbm_joint(PARAMS).p_AS.sum(1))
  first = jax.tree.map(lambda x: x[0], memory.shared.trajectory.past_P)
  oracle.assert_frequencies(oracle.index(memory.chains.v_CRV[:, 0]),
                            oracle.rbm_joint(first).p_AS.sum(1))
  for ours, theirs in zip(first, low_rank.machine(START), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_chains_of_one_mode_come_from_the_first_rung_to_the_other():
  # Two modes that block Gibbs never leaves: all on, all off, equally likely; W has rank 1.
  stuck = low_rank.Params(jnp.ones((6, 1)), jnp.full((1, 6), 3.0), jnp.full(6, -9.0),
                          jnp.full(6, -9.0))
  params, negative = low_rank.machine(stuck), anchored(256, rungs=3, rank=1, size=7)

  @jax.jit
  def share_on(key):
    key_init, key_begun, key_run = jax.random.split(key, 3)
    memory = contrastive(rbm, negative).init(key_init, params)
    memory = begun(key_begun, params, memory, stuck, 7)
    off = jax.tree.map(jnp.zeros_like, memory.chains)

    def body(memory, key):
      drawn, memory = negative.sample(key, rbm, params, memory, jnp.zeros((1, 6)))
      return memory, jnp.mean(drawn.v_CV)
    return jax.lax.scan(body, base.Memory(off, memory.shared.negative),
                        jax.random.split(key_run, 10))[1]

  with jax.debug_key_reuse(False):
    share_T = share_on(jax.random.key(0))
  # A chain is replaced within two updates; 256 of them have a standard error of 0.03.
  assert abs(share_T[-1] - 0.5) < 0.16


def test_what_has_no_chains_stays_and_what_has_others_is_refused():
  assert memory_of(reconstruction(), START).chains == ()
  with pytest.raises(TypeError, match='chains of a tuple cannot begin'):
    begun(jax.random.key(0), PARAMS, base.Memory((jnp.zeros(3),)), START, SIZE)
  assert isinstance(memory_of(persistent(2), START).chains, gibbs.Chains)
