"""Exports: names, bits, metadata; files of other models; programs that JAX alone runs."""

import json
import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gen_models as gm
from gen_models.models import gan, gibbs, rbm
from launch.runs.load import Run
from tests.launch.commands import ROOT, refused, run as command
from tests.launch.standing import standing

PARAMS = rbm.init(jax.random.key(0), 6, 3, jnp.full(6, 0.3))


def run_of(params, seeds=(0,), model=rbm, num_phases=1, **experiment):
  """A run in memory with these parameters."""
  phases = tuple(types.SimpleNamespace(name=f'phase{i}', num_steps=7) for i in range(num_phases))
  config = {'experiment': 'mine', 'variant': None, 'hyperparameters': {'rate': 0.5},
            'seed': seeds[0], 'seeds': len(seeds)}
  experiment = types.SimpleNamespace(**({'phases': phases, 'model': model, 'sample': None,
                                         'dataset': 'digits'} | experiment))
  return Run(config, experiment, types.SimpleNamespace(params=params, average=()), 7, seeds=seeds)


def same(x, y):
  assert jax.tree.structure(x) == jax.tree.structure(y)
  for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_names_say_what_parameters_are_and_bits_come_back(tmp_path):
  path, run = tmp_path / 'new' / 'a.safetensors', run_of(PARAMS)
  gm.export.to_safetensors(run, path)
  assert set(gm.export.from_safetensors(path)) == {'rbm/w_VH', 'rbm/b_V', 'rbm/c_H'}
  same(gm.export.from_safetensors(path, run), PARAMS)
  about = gm.export.metadata(path)
  assert about['experiment'] == 'mine' and about['step'] == '7' and about['seeds'] == '0'
  assert json.loads(about['hyperparameters']) == {'rate': 0.5}


@pytest.mark.parametrize('tree', [
  PARAMS, {'a': jnp.arange(3), 'b': (jnp.zeros((0, 2)), jnp.array(True))}, jnp.float32(2),
  gan.Params({'params': {'Dense_0': {'kernel': jnp.ones((2, 3), jnp.float16)}}}, [jnp.ones(1)])])
def test_any_tree_comes_back(tree, tmp_path):
  gm.export.to_safetensors(tree, tmp_path / 'a.safetensors', metadata={'by': 'me'})
  same(gm.export.from_safetensors(tmp_path / 'a.safetensors', tree),
       jax.tree.map(jnp.asarray, tree))
  assert gm.export.metadata(tmp_path / 'a.safetensors') == {'format': 'gen_models', 'by': 'me'}


def test_seeds_have_names_of_their_own(tmp_path):
  both = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
  run = run_of(both, seeds=(3, 4))
  gm.export.to_safetensors(run, tmp_path / 'a.safetensors')
  arrays = gm.export.from_safetensors(tmp_path / 'a.safetensors')
  np.testing.assert_array_equal(arrays['seed4/rbm/w_VH'], 2 * PARAMS.w_VH)
  same(gm.export.from_safetensors(tmp_path / 'a.safetensors', run), both)


def test_other_parameters_are_refused_by_name(tmp_path):
  path = tmp_path / 'a.safetensors'
  gm.export.to_safetensors(run_of(PARAMS), path)
  larger = rbm.init(jax.random.key(1), 6, 4, jnp.full(6, 0.3))
  with pytest.raises(gm.export.Unreadable, match=r'w_VH is float32\[6,3\] there, expected .*6,4'):
    gm.export.from_safetensors(path, run_of(larger))
  with pytest.raises(gm.export.Unreadable, match='w_VH is absent there, expected float32'):
    gm.export.from_safetensors(path, PARAMS)
  with pytest.raises(ValueError, match='is of type bfloat16, which cannot be written'):
    gm.export.to_safetensors(jnp.ones(2, jnp.bfloat16), path)
  with pytest.raises(ValueError, match='cannot be written'):
    gm.export.to_safetensors({'key': jax.random.key(1)}, path)
  with pytest.raises(ValueError, match='two parameters are called a/b'):
    gm.export.to_safetensors({'a': {'b': jnp.ones(1)}, 'a/b': jnp.ones(1)}, path)


@pytest.mark.parametrize('change', [
  lambda data: b'', lambda data: data[:-1], lambda data: data + b'x', lambda data: data[:20],
  lambda data: b'\xff' * 8 + data[8:], lambda data: data.replace(b'F32', b'F99', 1),
  lambda data: data.replace(b'[6,3]', b'[9,9]'), lambda data: b'\x80\x04K\x01.'])
def test_damage_is_one_line(change, tmp_path):
  path = tmp_path / 'a.safetensors'
  gm.export.to_safetensors(PARAMS, path)
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(gm.export.Unreadable, match='export the model again') as caught:
    gm.export.from_safetensors(path)
  assert '\n' not in str(caught.value)


def test_what_is_read_is_a_regular_file_of_bounded_size(tmp_path):
  path = tmp_path / 'a.safetensors'
  gm.export.to_safetensors(PARAMS, path)
  with pytest.raises(OSError, match='longer than 100 bytes'):
    gm.export.from_safetensors(path, largest=100)
  (tmp_path / 'link').symlink_to(path)
  with pytest.raises(OSError, match='symbolic link'):
    gm.export.from_safetensors(tmp_path / 'link')
  with pytest.raises(FileNotFoundError):
    gm.export.metadata(tmp_path / 'nothing')


def test_the_command_writes_what_is_read_like_the_run(tmp_path):
  workdir = standing(tmp_path / 'run', 'rbm_digits', 20, num_hidden=5, num_steps=20)
  out = tmp_path / 'model.safetensors'
  done = command('export', f'--workdir={workdir}', f'--out={out}')
  assert done.stdout.splitlines()[-1] == str(out)
  run = gm.load(workdir)
  same(gm.export.from_safetensors(out, run), run.params)
  assert gm.export.metadata(out)['experiment'] == 'rbm_digits'
  assert 'name a .safetensors' in refused('export', f'--workdir={workdir}', '--out=model.pt')
  assert '--replica is of a .jax' in refused('export', f'--workdir={workdir}', '--replica=4',
                                             '--out=model.safetensors')


# Programs.


def test_programs_of_any_number_of_rows_and_of_draws(tmp_path):
  pytest.importorskip('flatbuffers', reason='jax.export writes with it')

  def sample(key, params, num, label):
    assert label is None
    return tuple(x.reshape(num, 2, 3) for x in gibbs.sample(key, rbm, params, num, num_steps=2))

  def features(key, params, x_BD, *, layer, num_draws):
    return {'features': rbm.hidden_mean(params, x_BD)}

  def reconstruction(key, params, x_BD):
    return {'reconstruction': rbm.visible_mean(params, rbm.hidden_mean(params, x_BD))}

  questions = types.SimpleNamespace(
    features=features, reconstruction=reconstruction, classes='it has none',
    see=lambda key, x: jnp.round(x), show=lambda x: 2 * x)
  run = run_of(PARAMS, sample=sample, questions=questions)
  run.spec = types.SimpleNamespace(num_visible=6)
  assert gm.export.to_jax(run, tmp_path / 'f.jax', 'features') == gm.export.PLATFORMS
  gm.export.to_jax(run, tmp_path / 'r.jax', 'reconstruction')
  gm.export.to_jax(run, tmp_path / 's.jax', num=4)
  for num in (1, 5):
    x_BD = jax.random.uniform(jax.random.key(1), (num, 6))
    h_BH = rbm.hidden_mean(PARAMS, jnp.round(x_BD))
    for name, expected in (('f', h_BH), ('r', 2 * rbm.visible_mean(PARAMS, h_BH))):
      found = gm.export.from_jax(tmp_path / f'{name}.jax')(jax.random.key(1), x_BD)
      np.testing.assert_allclose(found, expected, rtol=1e-6)
  drawn = gm.export.from_jax(tmp_path / 's.jax')(jax.random.key(1))
  same(drawn, sample(jax.random.key(1), PARAMS, 4, None))
  for what, why in (('classes', 'it has none'), ('nothing', 'no function .nothing.')):
    with pytest.raises(ValueError, match=why):
      gm.export.to_jax(run, tmp_path / 'x.jax', what)
  with pytest.raises(ValueError, match='trains no model that draws'):
    gm.export.to_jax(run_of(PARAMS), tmp_path / 'x.jax')
  # A model that has to know how many rows there are.
  fixed = questions.features
  questions.features = lambda key, params, x_BD, **options: fixed(
    key, params, x_BD[:int(x_BD.shape[0])], **options)
  gm.export.to_jax(run, tmp_path / 'f.jax', 'features', num=2)
  assert gm.export.from_jax(tmp_path / 'f.jax')(jax.random.key(1), jnp.ones((2, 6))).shape == (2, 3)
  # In a process without this library.
  code = ('import sys; sys.modules.update(dict.fromkeys(("gen_models", "launch", "flax"))); '
          'import jax, jax.export; data = open("s.jax", "rb").read(); '
          'f = jax.export.deserialize(bytearray(data)); '
          'print(f.call(jax.random.key(0))[1].shape, f.platforms)')
  done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
                        env=os.environ, timeout=100)
  assert done.stdout == "(4, 2, 3) ('cpu', 'cuda', 'tpu')\n", done.stderr
  content = (tmp_path / 's.jax').read_bytes()
  for damaged in (b'', content[:100], b'x' * 200):
    (tmp_path / 's.jax').write_bytes(damaged)
    with pytest.raises(gm.export.Unreadable, match='export the function again'):
      gm.export.from_jax(tmp_path / 's.jax')


def test_a_part_that_other_platforms_lack_leaves_the_first(tmp_path, monkeypatch):
  pytest.importorskip('flatbuffers', reason='jax.export writes with it')
  from jax import export
  whole = export.export

  def only_alone(function, platforms):
    if len(platforms) > 1:
      raise NotImplementedError('no lowering of it for cuda')
    return whole(function, platforms=platforms)

  monkeypatch.setattr(export, 'export', only_alone)
  assert gm.export.write(jnp.sin, tmp_path / 'a.jax', gm.export.rows(2)) == ('cpu',)
  assert gm.export.from_jax(pathlib.Path(tmp_path / 'a.jax'))(jnp.zeros((3, 2))).shape == (3, 2)


def test_the_command_offers_every_function_that_is_exported():
  # Written out there, because --help is answered without JAX.
  command = (ROOT / 'launch' / 'export.py').read_text()
  assert repr(['sample', *gm.export.QUESTIONS]) in command
