"""Ladders of replicas against enumerated distributions, log Z and the balance of a swap.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE) unless
they say otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from gen_models.models import gibbs, rbm
from gen_models.samplers import annealing, tempering
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

V, H, CHAINS = 4, 3, 20_000


def evaluated(params_R, v_RCV):
  return tempering._evaluated(params_R, v_RCV, tempering._projected(params_R, v_RCV))


def machine(scale, seed=0, num_visible=V, num_hidden=H) -> rbm.Params:
  draws = np.random.default_rng(seed)
  return rbm.Params(*(jnp.asarray(scale * draws.normal(size=shape), jnp.float32)
                      for shape in ((num_visible, num_hidden), num_visible, num_hidden)))


def twins(scale) -> rbm.Params:
  """All units on or all off, alike: F(v) is even about half of them."""
  w_VH = jnp.full((V, H), scale, jnp.float32)
  return rbm.Params(w_VH, -w_VH.sum(1) / 2, -w_VH.sum(0) / 2)


def rung(params_R, r) -> rbm.Params:
  return jax.tree.map(lambda leaf: leaf[r], params_R)


def exact_ladder(params_R, num_chains, seed=0) -> tempering.Ladder:
  """Independent draws of (v, h) from each rung, by enumeration."""
  draws, v_RCV, h_RCH = np.random.default_rng(seed), [], []
  for r in range(len(params_R.b_V)):
    joint = oracle.rbm_joint(rung(params_R, r))
    a, s = np.divmod(draws.choice(joint.p_AS.size, num_chains, p=joint.p_AS.ravel()),
                     joint.p_AS.shape[1])
    v_RCV.append(joint.v_AV[a])
    h_RCH.append(joint.h_SH[s])
  return tempering.Ladder(jnp.float32(np.array(v_RCV)), jnp.float32(np.array(h_RCH)))


STRANGERS = tempering.stacked([machine(0.4, 1), machine(0.6, 2), machine(0.8, 3), machine(1.0, 4)])
LADDERS = {'scaled': tempering.scaled(machine(2.0), jnp.linspace(-1, 1, V), [0, 0.3, 0.6, 1]),
           'strangers': STRANGERS, 'two rungs': tempering.stacked([machine(0.5, 1), machine(1.5)])}
_run = jax.jit(tempering.run, static_argnames='num_steps')


# Machines.


def test_a_scaled_machine_is_the_annealing_family():
  params, base_V = machine(1.5), jnp.linspace(-2, 2, V)
  betas = [0, 0.25, 1]
  params_R = tempering.scaled(params, base_V, betas)
  v_AV = oracle.states(V)
  w_VH, b_V, c_H = oracle.float64(params)
  for r, beta in enumerate(betas):
    # log f_beta(v) as annealing._anneal states it.
    log_f_A = (v_AV @ ((1 - beta) * np.asarray(base_V, float) + beta * b_V)
               + np.logaddexp(0, beta * (c_H + v_AV @ w_VH)).sum(1))
    assert_allclose(rbm.free_energy(rung(params_R, r), jnp.float32(v_AV)), -log_f_A,
                    rtol=1e-5, atol=1e-5)
  for leaf, model in zip(rung(params_R, 2), params):
    assert_array_equal(leaf, model)


@pytest.mark.parametrize('betas', [
  [1.0], [0.0, 0.9], [0.0, 0.6, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0], [-0.1, 1.0], [0.0, 1.0, 1.1],
  [0.0, np.nan, 1.0], [[0.0, 1.0]]])
def test_what_is_no_ladder_is_refused(betas):
  with pytest.raises(ValueError, match='a temperature ladder ends at 1'):
    tempering.scaled(machine(1.0), jnp.zeros(V), betas)


def test_other_impossible_arguments_are_refused():
  with pytest.raises(ValueError, match=r'\(3,\).*4 visible'):
    tempering.scaled(machine(1.0), jnp.zeros(V - 1), [0, 1])
  for one in (machine(1.0), tempering.stacked([machine(1.0)])):
    with pytest.raises(ValueError, match='at least two machines'):
      tempering.init(jax.random.key(0), one, 3)
    with pytest.raises(ValueError, match='at least two machines'):
      tempering.bracket(jax.random.key(0), one, np.zeros((3, V)))
  with pytest.raises(ValueError, match='at least one chain, got 0'):
    tempering.init(jax.random.key(0), STRANGERS, 0)
  for steps in (dict(num_steps=0), dict(burn_in=-1)):
    with pytest.raises(ValueError, match='at least 1 and burn-in 0'):
      tempering.bracket(jax.random.key(0), STRANGERS, np.zeros((3, V)), **steps)
  far = jax.tree.map(jnp.ones_like, machine(1.0, num_visible=21, num_hidden=21))
  with pytest.raises(ValueError, match='W = 0 before it'):
    tempering.base_log_partition(tempering.stacked([far, far]))


def test_log_z_of_the_first_rung():
  independent = tempering.independent(np.linspace(-3, 3, V), H)
  for first in (independent, independent._replace(c_H=jnp.float32([2, -1, 0])), machine(1.0)):
    assert_allclose(tempering.base_log_partition(tempering.stacked([first, machine(2.0)])),
                    oracle.rbm_joint(first).log_partition, rtol=1e-6)


# Swaps.


def test_a_ladder_starts_from_the_biases_of_rung_0():
  params_R = LADDERS['scaled']
  ladder = tempering.init(jax.random.key(0), params_R, CHAINS)
  for r in range(4):
    joint = oracle.rbm_joint(rung(params_R, r))
    p_A = oracle.rbm_joint(tempering.independent(params_R.b_V[0], H)).p_AS.sum(1)
    p_AS = p_A[:, None] * joint.p_AS / joint.p_AS.sum(1, keepdims=True)
    cells = oracle.index(ladder.v_RCV[r]) * 2**H + oracle.index(ladder.h_RCH[r])
    oracle.assert_frequencies(cells, p_AS.ravel())


@pytest.mark.parametrize('down', [False, True])
def test_states_are_passed_on_from_rung_to_rung(down):
  # Started in equilibrium at one end, each rung is two of its own Gibbs steps on.
  params_R = LADDERS['strangers']
  order = [3, 2, 1, 0] if down else [0, 1, 2, 3]
  start_CV = exact_ladder(params_R, CHAINS).v_RCV[order[0]]
  ladder = tempering.passed_on(jax.random.key(0), params_R, start_CV, 2, down=down)
  p_A = oracle.rbm_joint(rung(params_R, order[0])).p_AS.sum(1)
  for r in order:
    joint = oracle.rbm_joint(rung(params_R, r))
    h_given_v_AS = joint.p_AS / joint.p_AS.sum(1, keepdims=True)
    v_given_h_SA = (joint.p_AS / joint.p_AS.sum(0)).T
    for _ in range(2):
      p_A = p_A @ h_given_v_AS @ v_given_h_SA
    cells = oracle.index(ladder.v_RCV[r]) * 2**H + oracle.index(ladder.h_RCH[r])
    oracle.assert_frequencies(cells, (p_A[:, None] * h_given_v_AS).ravel())


def test_a_swap_is_in_detailed_balance():
  # p_0(x) p_1(y) a(x, y) = p_0(y) p_1(x) a(y, x) for all pairs of states.
  params_R = LADDERS['two rungs']
  v_AV = oracle.states(V)
  x, y = (i.ravel() for i in np.meshgrid(np.arange(2**V), np.arange(2**V), indexing='ij'))
  state = evaluated(params_R, jnp.float32(np.stack([v_AV[x], v_AV[y]])))
  _, work = tempering._exchange(jax.random.key(0), params_R, state, 0)
  a = np.exp(np.minimum(0, np.asarray(work.forward_PC + work.reverse_PC, float)))[0]
  a = a.reshape(2**V, 2**V)
  p_0, p_1 = (oracle.rbm_joint(rung(params_R, r)).p_AS.sum(1) for r in (0, 1))
  flow = np.outer(p_0, p_1) * a
  assert_allclose(flow, flow.T, rtol=1e-4)
  assert a.min() < 0.1 and np.mean(a < 1) > 0.3  # swaps are refused, too
  assert_allclose(a, np.minimum(1, np.outer(p_1, p_0) / np.outer(p_0, p_1)), rtol=1e-4)


def test_a_swap_happens_as_often_as_it_says():
  params_R = LADDERS['two rungs']
  v_AV = jnp.float32(oracle.states(V))
  for x, y in ((0, 15), (6, 9), (3, 12), (12, 3)):
    v_RCV = jnp.stack([jnp.broadcast_to(v_AV[i], (CHAINS, V)) for i in (x, y)])
    before = evaluated(params_R, v_RCV)
    after, work = tempering._exchange(jax.random.key(x), params_R, before, 0)
    swapped_C = np.all(np.asarray(after.v_RCV[0] == v_AV[y]), axis=-1)
    a = float(tempering.acceptance(work)[0])
    if a < 1:
      oracle.assert_frequencies(swapped_C, [1 - a, a])
    else:
      assert swapped_C.all()
    # The partner moves with it, and what was computed for the states moves along.
    assert_array_equal(np.all(np.asarray(after.v_RCV[1] == v_AV[x]), axis=-1), swapped_C)
    again = evaluated(params_R, after.v_RCV)
    assert_allclose(after.u_RCH, again.u_RCH, rtol=1e-5, atol=1e-5)
    assert_allclose(after.f_RC, again.f_RC, rtol=1e-5, atol=1e-5)


def test_round_trips_are_those_of_the_states():
  # Names move with the states; what each of them did is counted from where its name was.
  params_R, steps, chains = LADDERS['scaled'], 60, 3
  rungs = len(params_R.b_V)

  def body(carry, key):
    ladder, name_RC, trip_RC = carry
    after, _, name_RC = tempering.step_with_labels(key, params_R, ladder, name_RC)
    _, _, trip_RC = tempering.step_with_labels(jax.random.clone(key), params_R, ladder, trip_RC)
    trip_RC, done = tempering.turned(trip_RC)
    return (after, name_RC, trip_RC), (name_RC, done)

  name_RC = jnp.broadcast_to(jnp.arange(rungs)[:, None], (rungs, chains))
  start = tempering.init(jax.random.key(0), params_R, chains), name_RC, jnp.zeros_like(name_RC)
  name_TRC, done_T = jax.jit(lambda: jax.lax.scan(
    body, start, jax.random.split(jax.random.key(1), steps)))()[1]
  expected = 0
  for c in range(chains):
    for name in range(rungs):
      way = [at for at in np.argmax(np.asarray(name_TRC)[:, :, c] == name, axis=1)
             if at in (0, rungs - 1)]
      ends = [at for i, at in enumerate(way) if i == 0 or at != way[i - 1]]
      expected += max(0, len(ends[ends.index(0):]) - 1) // 2 if 0 in ends else 0
  assert np.all(np.sort(np.asarray(name_TRC), axis=1) == np.arange(rungs)[:, None])
  assert int(done_T.sum()) == expected > chains


@pytest.mark.parametrize('rungs', [4, 5])
def test_even_pairs_and_odd_pairs_take_turns(rungs):
  # Equal machines always swap, and the first unit of each state says where it came from.
  params_R = tempering.stacked([tempering.independent(np.zeros(rungs), H)] * rungs)
  state = evaluated(params_R, jnp.eye(rungs)[:, None])
  places = []
  for parity in (0, 1):
    state, work = tempering._exchange(jax.random.key(parity), params_R, state, parity)
    assert work.forward_PC.shape == (len(range(parity, rungs - 1, 2)), 1)
    places.append(np.argmax(np.asarray(state.v_RCV[:, 0]), axis=-1).tolist())
  assert places == {4: [[1, 0, 3, 2], [1, 3, 0, 2]],
                    5: [[1, 0, 3, 2, 4], [1, 3, 0, 4, 2]]}[rungs]


def test_work_is_returned_in_the_order_of_the_pairs():
  # W = 0 and c = r: forward = H (softplus(r + 1) - softplus(r)) whatever v, and reverse = -forward.
  machines = [tempering.independent(np.zeros(V), H)._replace(c_H=jnp.full(H, float(r)))
              for r in range(5)]
  params_R = tempering.stacked(machines)
  ladder = tempering.init(jax.random.key(0), params_R, 3)
  _, work = tempering.step(jax.random.key(1), params_R, ladder)
  forward_P = H * np.diff(np.logaddexp(0, np.arange(5)))
  assert_allclose(work.forward_PC, np.repeat(forward_P[:, None], 3, 1), rtol=1e-5)
  assert_allclose(work.reverse_PC, -work.forward_PC, rtol=1e-5)
  assert_allclose(tempering.acceptance(work), np.ones(4), atol=1e-5)


@pytest.mark.parametrize('name', LADDERS)
def test_a_step_leaves_the_product_of_all_rungs_invariant(name):
  params_R = LADDERS[name]
  ladder, work = _run(jax.random.key(0), params_R, exact_ladder(params_R, CHAINS), 3)
  rungs = len(params_R.b_V)
  assert work.forward_PC.shape == work.reverse_PC.shape == (3, rungs - 1, CHAINS)
  p_RA = []
  for r in range(rungs):
    joint = oracle.rbm_joint(rung(params_R, r))
    p_RA.append(joint.p_AS.sum(1))
    cells = oracle.index(ladder.v_RCV[r]) * 2**H + oracle.index(ladder.h_RCH[r])
    oracle.assert_frequencies(cells, joint.p_AS.ravel())
  # Neighbours stay independent of each other: what one hands over the other has not kept.
  for r in range(rungs - 1):
    cells = oracle.index(ladder.v_RCV[r]) * 2**V + oracle.index(ladder.v_RCV[r + 1])
    oracle.assert_frequencies(cells, np.outer(p_RA[r], p_RA[r + 1]).ravel())
  rate_P = np.asarray(tempering.acceptance(work))
  assert rate_P.shape == (rungs - 1,) and np.all((rate_P > 0) & (rate_P < 1))
  # In equilibrium the two directions of work average to ratios of Z that are each other's inverse.
  log_z_R = np.array([oracle.rbm_joint(rung(params_R, r)).log_partition for r in range(rungs)])
  for sign, w_PC in ((1, work.forward_PC[-1]), (-1, work.reverse_PC[-1])):
    weights_CP = np.exp(np.asarray(w_PC, float).T - sign * np.diff(log_z_R))
    assert oracle.mean_p_value(weights_CP, np.ones(rungs - 1)) > oracle.SIGNIFICANCE


def test_a_ladder_mixes_where_gibbs_does_not():
  params = twins(5.0)
  params_R = tempering.scaled(params, jnp.zeros(V), np.linspace(0, 1, 12))
  all_on = tempering.Ladder(jnp.ones((12, 2000, V)), jnp.ones((12, 2000, H)))
  p_A = oracle.rbm_joint(params).p_AS.sum(1)
  assert p_A[0] > 0.49 and p_A[-1] > 0.49
  ladder, _ = _run(jax.random.key(1), params_R, all_on, 600)
  oracle.assert_frequencies(oracle.index(ladder.v_RCV[-1]), p_A)
  stuck = gibbs.run(jax.random.key(2), rbm, params, gibbs.Chains(*(x[-1] for x in all_on)), 600)
  assert np.mean(stuck.v_CV) > 0.9


def test_a_ladder_is_one_function_under_jit_and_vmap():
  def end(key, scale):
    params = jax.tree.map(lambda x: scale * x, machine(1.0))
    params_R = tempering.scaled(params, params.b_V, (0.0, 0.5, 1.0))
    key_init, key_run = jax.random.split(key)
    return tempering.run(key_run, params_R, tempering.init(key_init, params_R, 6), 20)

  keys, scales = jax.random.split(jax.random.key(0), 3), jnp.float32([0.5, 1, 2])
  with jax.debug_key_reuse(False):
    together = jax.jit(jax.vmap(end))(keys, scales)
    for i in range(3):
      alone = jax.jit(end)(keys[i], scales[i])
      for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone)):
        assert_array_equal(ours[i], theirs)


# Log Z.


def test_a_side_is_its_formulas():
  draws = np.random.default_rng(0)
  log_w_TPC = draws.normal(-700, 1, (5, 2, 30))
  found = tempering.one_sided(3.0, log_w_TPC)
  mean_PC = np.exp(log_w_TPC + 700).mean(0)
  mean_P = mean_PC.mean(1)
  assert_allclose(found.log_partition, 3 - 1400 + np.log(mean_P).sum(), rtol=1e-12)
  assert_allclose(found.log_weights_C, np.log(mean_PC).sum(0) - 1400)
  assert_allclose(found.effective_sample_size,
                  min(mean_PC.sum(1)**2 / (mean_PC**2).sum(1)), rtol=1e-9)
  # Chains are independent, so the variance is that of 30 independent terms.
  assert_allclose(found.standard_error,
                  np.std((mean_PC / mean_P[:, None]).sum(0), ddof=1) / np.sqrt(30), rtol=1e-9)
  assert found.num_temperatures == 2
  one = tempering.one_sided(0.0, np.full((2, 3, 1), 1.5))
  assert np.isnan(one.standard_error) and one.log_partition == 4.5


def test_the_standard_error_knows_of_correlation():
  # 150 estimates from 12 chains each, which hardly leave the mode they start in. Their spread is
  # known to 6 % (1 sd). An error that took 20 steps for independent would be sqrt(20) too small.
  first = twins(5.0)
  params_R = tempering.stacked([first, first._replace(b_V=first.b_V + 0.25)])
  _, work = _run(jax.random.key(0), params_R, exact_ladder(params_R, 12 * 150), 20)
  found = [tempering.one_sided(0.0, w_TPC)
           for w_TPC in np.split(np.asarray(work.forward_PC, float), 150, axis=2)]
  log_w, error = (np.array([getattr(f, name) for f in found])
                  for name in ('log_partition', 'standard_error'))
  assert log_w.std() > 0.08
  assert abs(np.sqrt(np.mean(error**2)) / log_w.std(ddof=1) - 1) < 0.3


@pytest.mark.parametrize('name', LADDERS)
def test_a_bracket_holds_the_exact_value(name):
  # 5 standard errors, each of them known to 10 %: fails for fewer than one key in 10^4.
  params_R = LADDERS[name]
  start_CV = (np.random.default_rng(1).random((60, V)) < 0.5).astype(np.float32)
  lines = []
  found = tempering.bracket(jax.random.key(0), params_R, start_CV, num_steps=200, burn_in=100,
                            report=lines.append)
  exact = oracle.rbm_joint(rung(params_R, -1)).log_partition
  for side in (found.lower, found.upper):
    assert abs(side.log_partition - exact) < 5 * side.standard_error < 0.5
    assert 30 < side.effective_sample_size <= 60 and side.log_weights_C.shape == (60,)
  assert abs(found.log_partition - exact) < 0.1
  assert found.lower.num_temperatures == len(params_R.b_V) - 1
  assert len(lines) == 6 and lines[0] == 'ladder from the base 100/100 steps of burn-in'
  assert lines[2].startswith('ladder from the base 200/200 steps, swaps accepted 0.')


def test_a_coarse_bracket_leans_to_its_sides():
  # Three rungs, 4 steps of one chain from equilibrium: in the mean over 400 both sides are off.
  params_R = tempering.scaled(machine(2.0), jnp.zeros(V), [0, 0.5, 1])
  exact, base = (oracle.rbm_joint(rung(params_R, r)).log_partition for r in (2, 0))
  _, work = _run(jax.random.key(0), params_R, exact_ladder(params_R, 400), 4)
  forward, reverse = (np.asarray(w, float) for w in work)
  for c, sign, w_TPC in ((base, 1, forward), (-base, -1, reverse)):
    gap = np.array([exact - sign * tempering.one_sided(c, w_TPC[:, :, i:i + 1]).log_partition
                    for i in range(400)]) * sign
    assert gap.mean() > 4 * gap.std(ddof=1) / np.sqrt(400) > 0.02
  assert annealing.bennett(forward[:, 0].ravel(), reverse[:, 0].ravel()) == pytest.approx(
    oracle.rbm_joint(rung(params_R, 1)).log_partition - base, abs=0.1)


def test_scaled_machines_need_not_be_written_out():
  # The same random numbers, the same states; free energies differ by rounding.
  params, base_V = strong_params(), jnp.linspace(-1, 1, 5)
  betas = np.linspace(0, 1, 5)
  written = tempering.scaled(params, base_V, betas)
  shared = tempering.Scaled(params, base_V, jnp.asarray(betas, jnp.float32))
  ladder = tempering.init(jax.random.key(0), written, 64)
  run = jax.jit(tempering.run, static_argnames='num_steps')
  (ladder_1, work_1), (ladder_2, work_2) = (
    run(jax.random.key(1), machines, ladder, num_steps=7) for machines in (written, shared))
  for a, b in zip(ladder_1, ladder_2, strict=True):
    np.testing.assert_array_equal(a, b)
  for a, b in zip(work_1, work_2, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def strong_params():
  draws = np.random.default_rng(8)
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    2 * draws.normal(size=(5, 4)), draws.normal(size=5), draws.normal(size=4))))
