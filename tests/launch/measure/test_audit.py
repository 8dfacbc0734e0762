"""The audit of estimators by name and from files: what it takes, prints and returns.

Audits here have the error rate of the command, 10^-4, and biases far above their noise: fixed keys
decide. Ones that are compared by numbers state their tolerance.
"""

import csv
import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest

from gen_models.estimators.base import from_loss
from gen_models.evaluation import gradients
from gen_models.problems import catalogue as problems
from launch import errors
from launch.cli import estimators
from launch.measure import audit
from launch.reports import audit as report
from tests.launch.commands import ROOT, refused, run

CD1 = '''
import jax
from gen_models.models import rbm

def cd1(key, params, memory, v_BV):
  key_h, key_v = jax.random.split(key)
  p_BH = rbm.hidden_mean(params, v_BV)
  h_BH = jax.random.bernoulli(key_h, p_BH).astype(v_BV.dtype)
  r_BV = rbm.sample_visible(key_v, params, h_BH)
  q_BH = rbm.hidden_mean(params, r_BV)
  grads = rbm.Params(r_BV.T @ q_BH - v_BV.T @ p_BH, (r_BV - v_BV).sum(0), (q_BH - p_BH).sum(0))
  return jax.tree.map(lambda g: g / len(v_BV), grads), memory, {}
'''
OTHERS = '''
import jax
import jax.numpy as jnp
from gen_models.estimators.base import Estimator, Memory, from_loss
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent
from gen_models.models import rbm

def loss(key, params, batch):
  return -jnp.mean(rbm.log_likelihood(params, batch)), {}

def grad(key, params, memory, batch, scale=1.0):
  return jax.tree.map(lambda x: scale * x, jax.grad(loss, 1, has_aux=True)(key, params, batch)[0]
                      ), memory, {}

ready = from_loss(loss)
timid = from_loss(loss, biased=True)

def made(steps=1):
  return from_loss(loss)

def five_percent():
  right = contrastive(rbm, persistent(chains=4))
  def grad(key, params, memory, batch):
    grads, memory, metrics = right.grad(key, params, memory, batch)
    return jax.tree.map(lambda x: 1.05 * x, grads), memory, metrics
  return Estimator(right.init, grad)

def lost(key, params, memory, batch):
  return jax.tree.map(lambda x: x * jnp.nan, params), memory, {}

def transposed(key, params, memory, batch):
  return params._replace(w_VH=params.w_VH.T), memory, {}

def shaped(key, params, memory, batch):
  return params, memory, {'x': jnp.zeros(3)}

def bare(key, params, batch):
  return loss(key, params, batch)[0]

def vector(key, params, batch):
  return jnp.zeros(2), {}

def five(a, b, c, d, e):
  return a

def seven():
  return 7

number = 7
'''


@pytest.fixture(autouse=True)
def keys_may_be_reused():
  """Threads see no context of tests/conftest.py's kind; its false alarm is switched off whole."""
  jax.config.update('jax_debug_key_reuse', False)
  yield
  jax.config.update('jax_debug_key_reuse', True)


@pytest.fixture(scope='module')
def mine(tmp_path_factory):
  path = tmp_path_factory.mktemp('mine') / 'mine.py'
  path.write_text(CD1 + OTHERS)
  return path


def measured(references, num_draws=256, compare=False, **kwargs):
  cases = audit.cases([str(r) for r in references], None, compare=compare, **kwargs)
  return audit.measure(cases, num_draws)


def test_a_bare_gradient_that_declares_nothing_counts_as_unbiased(mine):
  row, known = measured([f'{mine}:cd1', 'cd1'], 4096)
  assert row.found.biased and not row.agrees and known.agrees
  line, = audit.disagreements([row, known])
  assert line.startswith(f'{mine}:cd1 is declared unbiased by default') and '4096 draws' in line
  # |bias| is 0.39; each has noise of about 0.01.
  assert abs(row.found.bias_norm - known.found.bias_norm) < 0.06
  assert row.seconds_per_step > 0


@pytest.mark.parametrize('name, says', [
  ('loss', False), ('grad', False), ('ready', True), ('made', True), ('timid', True)])
def test_every_way_to_write_an_estimator_is_lifted_to_one(mine, name, says):
  case = audit.case(f'{mine}:{name}')
  assert case.says == says and case.entry.problem == 'rbm'
  entry, exact = case.entry, problems.exact_grads(case.entry)
  found = gradients.audit(jax.random.key(0), entry.estimator, entry.params, entry.batch, exact,
                          num_draws=4)
  assert not found.biased and found.variance < 1e-10
  assert entry.estimator.biased == (name == 'timid')


@pytest.mark.parametrize('name, message', [
  ('transposed', r'mine.py:transposed: the gradient at w_VH is float32\[4, 5\], expected '
                 r'float32\[5, 4\]'),
  ('shaped', r"metric 'x' has shape \(3,\)"), ('bare', r'returns no \(scalar, metrics\)'),
  ('vector', r'the loss has shape \(2,\), expected a scalar'),
  ('five', 'it takes 5 arguments; expected an Estimator'),
  ('seven', 'seven: it returns an object of type int'),
  ('number', 'number: it is of type int'), ('cd11', "has no 'cd11'; did you mean cd1"),
  ('', 'which estimator of it.*mine.py:name.*Known: cd1, loss')])
def test_what_is_no_estimator_is_refused_by_name(mine, name, message):
  with pytest.raises(errors.UsageError, match=message):
    audit.case(f'{mine}:{name}' if name else str(mine))


@pytest.mark.parametrize('references, model, message', [
  (['cd'], None, 'did you mean cd1|cd3'), (['nowhere.py:cd1'], None, 'no estimator file nowhere'),
  ([], None, 'name what to audit'), ([], 'va', 'did you mean vae'),
  (['cd1'], 'vae', 'cd1 is an estimator of rbm, not of vae')])
def test_mistakes_are_answered_with_what_was_meant(references, model, message):
  with pytest.raises(errors.UsageError, match=message):
    audit.cases(references, model)
  with pytest.raises(errors.UsageError, match='--all is every estimator'):
    audit.cases(['cd1'], None, everything=True)


def test_the_users_estimator_is_listed_with_the_built_in_ones(mine):
  cases = audit.cases([f'{mine}:grad', 'elbo3'], None)
  asked = [c.name for c in cases if c.asked]
  assert asked == [f'{mine}:grad', 'elbo3']
  rbm = [c.name for c in cases if c.entry.problem == 'rbm']
  assert rbm[0] == f'{mine}:grad' and {'exact', 'cd1', 'pcd1'} < set(rbm)
  vae = [c.name for c in cases if c.entry.problem == 'vae']
  assert vae[0] == 'elbo3' and vae.count('elbo3') == 1 and 'elbo1' in vae
  assert len(cases) == len(rbm) + len(vae)
  assert [c.name for c in audit.cases([f'{mine}:grad'], None, compare=False)] == asked[:1]
  assert {c.name for c in audit.cases([], 'vae')} == set(vae)
  everything = audit.cases([], None, everything=True)
  assert sorted(c.name for c in everything) == sorted(problems.ENTRIES)


def test_a_model_and_a_burn_in_can_be_chosen(mine, tmp_path):
  (tmp_path / 'score.py').write_text(
    'from gen_models import estimators as v\n'
    'from gen_models.problems.variational import BELIEF\n'
    'def mine():\n  return v.variational(BELIEF, v.rloo(2))\n')
  case, = audit.cases([f'{tmp_path / "score.py"}:mine'], 'belief_net', compare=False)
  assert case.entry.problem == 'belief_net' and case.says
  assert audit.case(f'{mine}:made').entry.burn_in == problems.PROBLEMS['rbm'].burn_in > 0
  assert audit.case(f'{mine}:made', burn_in=0).entry.burn_in == 0


VIMCO = '''
import jax
import jax.numpy as jnp
from gen_models import estimators as v
from gen_models.problems.variational import BELIEF

def vimco():
  """Mnih & Rezende (2016), two samples: the bound less that of the other alone."""
  def coefficients(l_KB):
    w_KB, bound_B = jax.nn.softmax(l_KB, axis=0), jax.nn.logsumexp(l_KB, axis=0) - jnp.log(2)
    return v.Coefficients(w_KB, bound_B - l_KB[::-1] - w_KB)
  return v.variational(BELIEF, v.Rule(2, coefficients))
'''


def test_an_estimator_of_another_loss_is_refused_with_the_list_of_losses(tmp_path):
  """VIMCO is unbiased for the bound of two samples that it is made for, and not for the ELBO."""
  path = tmp_path / 'mine.py'
  path.write_text(VIMCO)
  right, wrong = (audit.measure(audit.cases([f'{path}:vimco'], name, compare=False), 2**14)[0]
                  for name in ('belief_net_iwae2', 'belief_net'))
  assert not right.found.biased and not audit.disagreements([right])
  assert wrong.found.biased and wrong.found.bias_z > 2 * wrong.found.threshold
  line, = audit.disagreements([wrong])
  assert 'against -ELBO; if it estimates another loss' in line
  assert '--problem=belief_net_iwae2 (-IWAE of 2 samples)' in line
  head = report.table([right]).splitlines()[0]
  assert head.startswith('belief_net_iwae2: sigmoid belief net')
  assert head.endswith('; the gradient of -IWAE of 2 samples')
  assert audit.as_dict(right)['objective'] == '-IWAE of 2 samples'


PROBLEM = '''
import jax
import jax.numpy as jnp
from gen_models.problems.entry import Problem

def square(params, x_B):
  return 0.5 * jnp.mean(jnp.square(params - x_B))

MINE = Problem('mine', jnp.float32(1.0), jnp.arange(4.0), square, 'one number', 'half the square')
CROOKED = MINE._replace(loss=lambda params, batch: params @ batch)
VECTOR = MINE._replace(loss=lambda params, batch: params * batch)
number = 3

def right(key, params, memory, x_B):
  return params - jax.random.choice(key, x_B), memory, {}

def wrong(key, params, memory, x_B):
  return params - jax.random.choice(key, x_B[1:]), memory, {}
'''


def test_a_problem_of_ones_own(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(PROBLEM)
  cases = audit.cases([f'{path}:right', f'{path}:wrong'], f'{path}:MINE')
  right, wrong = audit.measure(cases, 1024)
  assert not right.found.biased and wrong.found.biased
  assert right.found.bias_norm < 0.2 and abs(wrong.found.bias_norm - 0.5) < 0.2
  assert report.table([right]).splitlines()[0] == (
    f'{path}:MINE: one number; the gradient of half the square')
  line, = audit.disagreements([right, wrong])
  assert 'against half the square' in line
  for problem, message in {'CROOKED': 'CROOKED: its loss of .*Error', 'VECTOR': 'TypeError',
                           'number': 'number is of type int; a problem is',
                           'MEIN': 'mean MINE'}.items():
    with pytest.raises(errors.UsageError, match=message) as caught:
      audit.cases([f'{path}:right'], f'{path}:{problem}')
    assert '\n' not in str(caught.value)
  with pytest.raises(errors.UsageError, match='has no estimator of ours'):
    audit.cases([], f'{path}:MINE')


def test_shapes_that_do_not_fit_are_one_line(mine):
  for name in ('cd1', 'loss'):
    with pytest.raises(errors.UsageError, match=f'mine.py:{name} on vae: ') as caught:
      audit.cases([f'{mine}:{name}'], 'vae')
    assert '\n' not in str(caught.value)


def test_a_gradient_of_nan_is_reported_as_biased(mine):
  row, = measured([f'{mine}:lost'])
  assert row.found.biased and not row.finite
  line, = audit.disagreements([row])
  assert 'nan' in line and 'biased, nan *' in report.table([row])
  result = json.loads(audit.as_json(row, coordinates=True), parse_constant=pytest.fail)
  assert result['biased'] and result['bias_z'] is None and not result['finite']
  assert result['coordinates'][0]['bias'] is None


def test_a_bias_that_is_declared_but_not_there_is_a_disagreement(mine):
  row, = measured([f'{mine}:timid'])
  line, = audit.disagreements([row])
  assert 'is declared biased, but no bias is found' in line and 'more may find it' in line
  beside = row._replace(case=row.case._replace(asked=False))
  assert not audit.disagreements([beside])


@pytest.fixture(scope='module')
def rows(mine):
  jax.config.update('jax_debug_key_reuse', False)  # before the fixture of each test
  return measured([f'{mine}:cd1', 'exact', 'pcd1', 'gaussian_exact'], 1024)


def test_the_json_object_has_what_was_promised(rows):
  result = json.loads(audit.as_json(rows[0], coordinates=True))
  assert {'name', 'biased', 'declared_biased', 'bias_z', 'num_draws', 'variance', 'snr',
          'seconds_per_step'} < set(result)
  assert result['biased'] and not result['declared_biased'] and result['declared_by_default']
  assert result['num_draws'] == 1024 and result['bias_z'] > result['threshold']
  coordinates = result['coordinates']
  assert len(coordinates) == 5 * 4 + 5 + 4 and coordinates[-1]['name'] == 'c_H[3]'
  assert max(abs(c['z']) for c in coordinates) == pytest.approx(result['bias_z'], rel=1e-4)
  assert sum(c['variance'] for c in coordinates) == pytest.approx(result['variance'], rel=1e-4)
  assert math.hypot(*(c['bias'] for c in coordinates)) == pytest.approx(
    result['bias_norm'], rel=1e-4)
  assert result['bias_interval'][0] < result['bias_norm'] < result['bias_interval'][1]
  assert 'coordinates' not in json.loads(audit.as_json(rows[0]))


def test_the_table_has_a_part_for_each_model(rows):
  text = report.table(rows)
  parts = text.split('\n\n')
  assert [part.split(':')[0] for part in parts[:2]] == ['rbm', 'gaussian'] and '1024 draws' in text
  lines = parts[0].splitlines()
  assert len(lines) == 5 and 'unbiased, by default  biased *' in lines[2]
  exact, = (line for line in lines if line.startswith('  exact'))
  assert exact.split()[:3] == ['exact', 'unbiased', 'unbiased'] and ' inf ' in exact
  assert '*' not in parts[1]


def test_the_worst_coordinates_come_first(rows):
  lines = report.worst(rows[0], num=5).splitlines()
  z = [abs(float(line.split()[-2])) for line in lines[2:]]
  assert len(z) == 5 and z == sorted(z, reverse=True) and '5 of 29' in lines[0]
  assert z[0] == pytest.approx(rows[0].found.bias_z, abs=0.06)


def test_every_coordinate_of_what_was_asked_for_is_in_the_csv(rows, tmp_path):
  beside = rows[1]._replace(case=rows[1].case._replace(asked=False))
  report.write_csv([rows[0], beside, rows[2]], tmp_path / 'a.csv')
  with open(tmp_path / 'a.csv', newline='') as file:
    lines = list(csv.DictReader(file))
  assert len(lines) == 2 * 29 and {x['estimator'] for x in lines} == {rows[0].case.name, 'pcd1'}
  assert lines[1]['coordinate'] == 'w_VH[0, 1]'
  assert float(lines[1]['low']) < float(lines[1]['bias']) < float(lines[1]['high'])


def test_pictures_of_one_of_many_and_of_nothing_finite(rows, tmp_path, mine):
  from PIL import Image
  lost = measured([f'{mine}:lost'], 16)
  for name, shown in {'one': rows[:1], 'many': rows, 'nan': lost}.items():
    path = tmp_path / 'made' / f'{name}.png'
    report.picture(shown, path)
    assert len(np.unique(np.asarray(Image.open(path)))) > 10


@pytest.mark.slow
def test_the_command_finds_five_percent_at_its_usual_draws(mine, tmp_path):
  done = run('audit', f'--estimator={mine}:five_percent', '--json', check=False)
  assert done.returncode == 1, done.stdout + done.stderr
  result = json.loads(done.stdout)
  assert result['biased'] and not result['declared_biased'] and 4 < result['bias_z'] < 30
  assert done.stderr.splitlines()[-1].startswith(f'{mine}:five_percent is declared unbiased, but')


def test_the_command_prints_a_table_and_draws_a_picture(tmp_path):
  done = run('audit', '--estimator=cd1,exact', '--draws=512', '--nocompare',
             f'--out={tmp_path / "a.png"}', f'--csv={tmp_path / "a.csv"}')
  assert '512 draws' in done.stdout and str(tmp_path / 'a.png') in done.stdout
  assert (tmp_path / 'a.png').exists() and (tmp_path / 'a.csv').exists()
  assert 'did you mean cd1' in refused('audit', '--estimator=cd11')


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_estimator_is_what_it_declares(tmp_path):
  done = subprocess.run([sys.executable, '-m', 'launch.audit', '--all', '--json'], cwd=ROOT,
                        capture_output=True, text=True, timeout=1400)
  assert done.returncode == 0, done.stderr
  results = [json.loads(line) for line in done.stdout.splitlines()]
  assert [r['name'] for r in results] and {r['name'] for r in results} == set(problems.ENTRIES)
  assert all(r['biased'] == r['declared_biased'] and r['finite'] for r in results)


def test_lifting_keeps_what_an_estimator_declares():
  estimator = from_loss(lambda key, params, batch: (params, {}), biased=True)
  assert estimators.lift('x', estimator) == (estimator, True)
