"""Brackets of log Z on models whose Z is known, easy ones and traps.

A side may be past the exact value by 5 of its standard errors, for fewer than one key in 10^4 if
the code is right; the estimate between them must be within 0.1 nats.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.evaluation import likelihood
from gen_models.models import rbm, units
from gen_models.samplers import annealing, tempering
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion')

V, H, CHAINS = 8, 6, 100
SEARCH = annealing.refined(300)  # enough for eight units


def random_machine(scale, shift_V=0.0) -> rbm.Params:
  draws = np.random.default_rng(0)
  w_VH = scale * draws.normal(size=(V, H))
  return rbm.Params(*(jnp.asarray(x, jnp.float32) for x in (
    w_VH, 0.5 * draws.normal(size=V) + shift_V, 0.5 * draws.normal(size=H))))


def bimodal_machine() -> rbm.Params:
  """All on or all off, 0.38 to 0.62; weights of 3, and a barrier of 17 nats between."""
  w_VH = jnp.full((V, H), 3.0)
  return rbm.Params(w_VH, jnp.full(V, -9.0).at[0].add(0.5), jnp.full(H, -12.0))


MACHINES = {'weak': random_machine(0.1), 'strong': random_machine(3.0),
            'bimodal': bimodal_machine(),
            'shifted': random_machine(1.0, 8.0 * np.where(np.arange(V) % 3, 1, -1))}


def template(num_visible=30, num_hidden=4, sharpness=10.0, tolerance=1.0):
  """(RBM, s_V): hidden units at sharpness (tolerance - mismatches of v and s).

  With the defaults each of 4 hidden units knows one image of 30 pixels and nothing else; it holds
  all but e^-19 of the probability, and no image next to it is more probable than any other.
  """
  s_V = (np.random.default_rng(0).random(num_visible) < 0.5).astype(np.float32)
  w_V = sharpness * (2 * s_V - 1)
  c = sharpness * (tolerance - s_V.sum())
  return rbm.Params(jnp.asarray(np.repeat(w_V[:, None], num_hidden, 1), jnp.float32),
                    jnp.zeros(num_visible), jnp.full(num_hidden, c, jnp.float32)), s_V


def test_the_machines_are_what_they_are_called():
  p_A = oracle.rbm_joint(MACHINES['bimodal']).p_AS.sum(1)
  assert p_A[0] > 0.35 and p_A[-1] > 0.35 and p_A[0] + p_A[-1] > 0.95
  joint = oracle.rbm_joint(MACHINES['shifted'])
  mean_V = joint.p_AS.sum(1) @ joint.v_AV
  assert np.all(np.abs(mean_V - 0.5) > 0.4)
  assert np.abs(MACHINES['strong'].w_VH).max() > 3
  params, s_V = template()
  gain = float(-rbm.free_energy(params, jnp.asarray(s_V)[None])[0])
  assert abs(float(rbm.log_partition(params)) - gain) < 1e-3 and gain > 30 * np.log(2) + 19


def images(params) -> np.ndarray:
  """Exact draws, [CHAINS, V]."""
  joint = oracle.rbm_joint(params)
  draws = np.random.default_rng(1).choice(len(joint.v_AV), CHAINS, p=joint.p_AS.sum(1))
  return joint.v_AV[draws].astype(np.float32)


def growing(params, base_V, num_snapshots) -> rbm.Params:
  """Snapshots of a path that is no change of temperature: one hidden unit after the other."""
  def machine(t):
    on_H = jnp.clip(t * H - jnp.arange(float(H)), 0, 1)
    return rbm.Params(on_H * params.w_VH, base_V + on_H.mean() * (params.b_V - base_V),
                      on_H * params.c_H)
  return tempering.stacked([machine(t) for t in np.linspace(0, 1, num_snapshots + 1)[1:]])


def method_arguments(method, params, base_V) -> dict:
  return {'annealing': lambda: dict(betas=annealing.linear(1000)),
          'ladder': lambda: dict(betas=annealing.linear(20), num_steps=400, search_betas=SEARCH),
          'trajectory': lambda: dict(history_R=growing(params, base_V, 36), num_steps=400,
                                     search_betas=SEARCH),
          }[method]()


# Two machines by a method each; the others, and ladders, are slow here and quick in test_tempering.
QUICK = [('bimodal', 'trajectory'), ('shifted', 'annealing')]


@pytest.mark.parametrize('name, method', [
  pytest.param(name, method, marks=() if (name, method) in QUICK else pytest.mark.slow)
  for name in MACHINES for method in ('annealing', 'ladder', 'trajectory')])
def test_every_method_holds_the_exact_value(name, method):
  params = MACHINES[name]
  v_NV = images(params)
  base_V = units.log_odds(jnp.asarray(v_NV.mean(0)))
  score = likelihood.bracket(jax.random.key(0), params, v_NV, base_V=base_V, start_CV=v_NV,
                             binarisation='static', method=method, burn_in=200,
                             **method_arguments(method, params, base_V))
  exact = likelihood.exact(params, v_NV, binarisation='static')['test_nats']
  slack = 5 * score['standard_error'] + 1e-4  # float32 free energies
  assert score['lower'] - slack < exact < score['upper'] + slack, (score, exact)
  assert abs(score['test_nats'] - exact) < 0.1 and slack < 1
  assert score['resolved'] and score['kind'] == 'bracket' and score['method'] == method
  assert score['num_chains'] == CHAINS and 20 < score['effective_sample_size'] <= CHAINS
  assert score['num_temperatures'] == {'annealing': 1000, 'ladder': 20, 'trajectory': 37}[method]
  assert json.loads(json.dumps(score)) == score


def trained(v_NV, rate, num_updates=600, every=30):
  """(first, params, history) of ascent by the exact gradient, from nearly independent units."""
  @jax.jit
  def train(params, rate):
    def update(params, _):
      grads = jax.grad(lambda p: rbm.log_likelihood(p, v_NV).mean())(params)
      return jax.tree.map(lambda p, g: p + rate * g, params, grads), params
    return jax.lax.scan(update, params, None, length=num_updates)

  first = rbm.init(jax.random.key(0), V, H, jnp.asarray(v_NV.mean(0)), scale=0.1)
  params, past_T = train(first, rate)
  return first, params, jax.tree.map(lambda x: x[::every], past_T)


def trajectory_score(v_NV, params, history_R):
  return likelihood.bracket(
    jax.random.key(0), params, v_NV, base_V=units.log_odds(jnp.asarray(v_NV.mean(0))),
    start_CV=v_NV, binarisation='static', method='trajectory', history_R=history_R, num_steps=400,
    burn_in=200)


@pytest.mark.slow
def test_training_itself_is_a_path():
  v_NV = images(MACHINES['bimodal'])
  first, params, history_R = trained(v_NV, rate=0.1)
  score = trajectory_score(v_NV, params, history_R)
  exact = likelihood.exact(params, v_NV, binarisation='static')['test_nats']
  assert exact > likelihood.exact(first, v_NV, binarisation='static')['test_nats'] + 3
  assert score['resolved'] and abs(score['test_nats'] - exact) < 0.1


def test_a_ladder_that_does_not_mix_crosses_its_sides_and_is_unresolved():
  # Steps so long that the two modes gain and lose from snapshot to snapshot, faster than replicas
  # carry the change: log Z from below comes out nats too high, and from above too low.
  v_NV = images(MACHINES['bimodal'])
  _, params, history_R = trained(v_NV, rate=0.5)
  score = trajectory_score(v_NV, params, history_R)
  assert score['lower'] > score['upper'] + 1 and not score['resolved']


# Traps.


def template_score(method, base_V, params, s_V, **arguments):
  return likelihood.bracket(
    jax.random.key(0), params, np.tile(s_V, (2, 1)), base_V=base_V,
    start_CV=np.tile(s_V, (CHAINS, 1)), binarisation='static', method=method, burn_in=100,
    **arguments)


ARGUMENTS = {'annealing': dict(betas=annealing.linear(400)),
             'ladder': dict(betas=annealing.linear(20), num_steps=200, search_betas=SEARCH)}


def test_uniform_base_rates_miss_a_template_and_the_data_mean_finds_it():
  # 1000 temperatures from uniform base rates: log Z too low by 19 nats, every weight alike.
  params, s_V = template()
  exact = float(rbm.log_partition(params))
  blind = annealing.ais(jax.random.key(0), params, jnp.zeros(30), betas=annealing.linear(1000))
  assert exact - blind.log_partition > 5
  assert blind.standard_error < 0.05 and blind.effective_sample_size > 90
  for method, arguments in ARGUMENTS.items():
    score = template_score(method, units.log_odds(jnp.asarray(s_V)), params, s_V, **arguments)
    assert score['resolved'] and abs(score['log_partition'] - exact) < 0.1, score


@pytest.mark.parametrize('method', ARGUMENTS)
def test_a_side_that_is_confidently_wrong_leaves_the_bracket_unresolved(method):
  # The probability is bimodal along the path, the template and all the rest of the cube, and from
  # uniform base rates no chain finds the template. The images know it.
  params, s_V = template()
  exact = float(rbm.log_partition(params))
  score = template_score(method, jnp.zeros(30), params, s_V, **ARGUMENTS[method])
  assert not score['resolved']
  assert score['upper'] - score['lower'] > 5
  # upper is the floor of what was seen: an image has no probability above one.
  assert score['lower'] < -float(rbm.free_energy(params, s_V)) - exact < score['upper'] + 1e-3
  assert abs(score['upper']) < 1e-3
  assert score['test_nats'] == min(score['lower'], score['upper'])


@pytest.mark.slow
def test_a_path_along_which_the_template_appears_slowly_resolves_it():
  # From uniform base rates too: a blunt detector is drawn to the template from everywhere, and only
  # then learns to be sharp.
  params, s_V = template()
  blunt = [template(sharpness=t, tolerance=15.0)[0] for t in np.linspace(0, 1, 16)[1:]]
  sharper = [template(sharpness=a, tolerance=15 - 14 * t)[0]
             for t, a in zip(np.linspace(0, 1, 21), np.geomspace(1, 10, 21))]
  score = template_score('trajectory', jnp.zeros(30), params, s_V, num_steps=200,
                         history_R=tempering.stacked(blunt + sharper))
  assert score['resolved']
  assert abs(score['log_partition'] - float(rbm.log_partition(params))) < 0.1, score


def test_a_mode_that_one_side_misses_is_found_from_the_other_base():
  # Base rates and images at either end of a bimodal model: each side is confident of its own.
  params = bimodal_machine()
  exact = float(rbm.log_partition(params))
  for base, start in ((-6.0, np.ones), (6.0, np.zeros)):
    start_CV, base_V = start((CHAINS, V), np.float32), jnp.full(V, base)
    blind = annealing.bracket(jax.random.key(0), params, base_V, start_CV, burn_in=100,
                              betas=annealing.linear(100))
    assert abs(blind.upper.log_partition - blind.lower.log_partition) > 1
    score = likelihood.bracket(
      jax.random.key(0), params, images(params), base_V=base_V, start_CV=start_CV,
      binarisation='static', burn_in=100, betas=annealing.linear(100))
    assert score['searches']['path'] == 'uniform' and score['resolved']
    assert abs(score['log_partition'] - exact) < 3 * score['standard_error']


# Words.


def sides(lower, upper, error=0.01) -> annealing.Bracket:
  return annealing.Bracket(0.0, *(annealing.Estimate(z, error, 9.0, np.zeros(9), 1)
                                  for z in (lower, upper)))


@pytest.mark.parametrize('lower, upper, error, says', [
  (0.0, 0.9, 0.01, True), (0.0, 1.1, 0.01, False),
  (0.05, 0.0, 0.01, True), (0.06, 0.0, 0.01, False), (0.3, 0.0, 0.1, True),  # 4 sd: 0.057, 0.57
  (1.1, 0.0, 9.0, False), (0.0, 0.0, float('nan'), False), (1e-5, 0.0, 0.0, True)])
def test_resolved_means_near_and_not_crossed(lower, upper, error, says):
  assert likelihood.resolved(sides(lower, upper, error)) is says


def test_resolved_nats_are_an_argument():
  assert not likelihood.resolved(sides(0.0, 0.9), 0.5) and likelihood.resolved(sides(0.0, 1.9), 2.0)


def test_impossible_arguments_are_refused():
  def bracket(**arguments):
    return likelihood.bracket(
      jax.random.key(0), MACHINES['weak'], np.zeros((3, V)),
      **{'base_V': jnp.zeros(V), **arguments}, start_CV=np.zeros((3, V)), binarisation='static')
  with pytest.raises(ValueError, match="no method 'ais': 'annealing', 'ladder' or 'trajectory'"):
    bracket(method='ais')
  with pytest.raises(ValueError, match='needs history_R'):
    bracket(method='trajectory')
  with pytest.raises(ValueError, match=r'\(7,\).*8 visible'):
    bracket(method='trajectory', base_V=jnp.zeros(V - 1),
            history_R=tempering.stacked([MACHINES['weak']]))
  with pytest.raises(ValueError, match='a temperature ladder ends at 1'):
    bracket(method='ladder', betas=[0, 0.5])
