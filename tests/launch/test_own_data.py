"""Runs on own data: what a run records, what it refuses, colour and vectors through every part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gen_models as gm
from experiments import gan, gaussian, mixture, rbm, vae
from gen_models import data
from gen_models.data.specs import BadData
from gen_models.evaluation import figures, samples
from gen_models.training import checks
from launch import errors
from launch.cli import hyperparameters, registry
from launch.runs import directory as rundir, pictures
from launch.runs.directory import ForeignRun


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.chdir(tmp_path)


def write(path='x.npz', seed=0, num=60):
  rows = (np.random.RandomState(seed).rand(num, 6) < 0.4).astype(np.uint8)
  np.savez(path, x=rows)
  return rows


def fit(name, workdir=None, **changes):
  return gm.fit('mixture', variant='digits', dataset=name, num_classes=2, num_steps=10,
                workdir=workdir, progress=False, **changes)


def test_a_run_records_its_data_and_answers_without_them(tmp_path):
  write()
  run = fit('npz:x.npz', 'runs/a')
  config = rundir.read_config('runs/a')
  assert config['hyperparameters']['dataset'] == 'npz:x.npz'  # as it was given
  assert config['data']['sha256'] == data.spec('npz:x.npz').sha256
  assert config['data']['path'] == str(tmp_path / 'x.npz')
  assert config['data']['split'] == 'random, valid 0.1 and test 0.1, seed 0'
  draws = run.sample(jax.random.key(0), 3).draws
  assert draws.shape == (3, 6)

  (tmp_path / 'runs' / 'a').rename(tmp_path / 'elsewhere')
  (tmp_path / 'x.npz').rename(tmp_path / 'hidden.npz')
  read = gm.load('elsewhere')
  np.testing.assert_array_equal(read.sample(jax.random.key(0), 3).draws, draws)
  assert read.spec.shape == (6,)
  with pytest.raises(FileNotFoundError, match='neither under this name nor at .*x.npz'):
    assert read.dataset
  (tmp_path / 'hidden.npz').rename(tmp_path / 'x.npz')


def test_a_run_resumes_from_another_directory_and_refuses_other_data(tmp_path, monkeypatch):
  write()
  fit('npz:x.npz', 'runs/a')
  (tmp_path / 'other').mkdir()
  monkeypatch.chdir(tmp_path / 'other')
  rundir.remember_data(tmp_path / 'runs' / 'a')
  assert data.load('npz:x.npz').spec.rows['train'] == 48  # from the recorded absolute path
  entry = registry.load('mixture')
  values = rundir.read_config(tmp_path / 'runs' / 'a')['hyperparameters']
  config = rundir.configuration(entry, 'digits', values)
  rundir.compare(tmp_path / 'runs' / 'a', config)
  # The same file by another path is the same data; another file is not.
  same = {**values, 'dataset': f'npz:{tmp_path / "x.npz"}'}
  rundir.compare(tmp_path / 'runs' / 'a', rundir.configuration(entry, 'digits', same))
  write(seed=1)
  config = rundir.configuration(entry, 'digits', values)
  with pytest.raises(ForeignRun, match='sha256 of the data is .* there, .* here.*the data it') as e:
    rundir.compare(tmp_path / 'runs' / 'a', config)
  assert '\n' not in str(e.value)


def test_a_run_is_not_scored_on_data_that_have_changed(tmp_path):
  write()
  fit('npz:x.npz', 'runs/a')
  write(seed=1)
  with pytest.raises(BadData, match='npz:x.npz: the data have changed: sha256 was .*: bring back'):
    assert gm.load('runs/a').dataset


def test_rows_in_two_splits_are_reported():
  np.savez('x.npz', x=np.eye(4)[np.arange(80) % 4])
  remarks = data.load('npz:x.npz').remarks
  assert len(remarks) == 2 and '8 of 8 rows of valid are rows of train as well' in remarks[0]


def test_closed_forms_of_weighted_rows_are_those_of_repeated_rows():
  # A split is made of rows, so its weights are given with it, and rows are repeated within train.
  draws = np.random.RandomState(0)
  train, rest = draws.rand(30, 4), draws.rand(20, 4)
  times = draws.randint(1, 4, 30)
  np.savez('w.npz', train=train, valid=rest, test=rest, train_weights=times,
           valid_weights=np.ones(20), test_weights=np.ones(20))
  np.savez('r.npz', train=np.repeat(train, times, axis=0), valid=rest, test=rest)
  found = [[gm.fit(name, dataset=f'npz:{file}.npz', progress=False, **options)
            for file in ('w', 'r')] for name, options in (
              ('gaussian', dict(shrinkage=0.01)),
              ('mixture', dict(components='full', num_classes=1, num_steps=1)))]
  for weighted, repeated in found:
    for a, b in zip(jax.tree.leaves(weighted.params), jax.tree.leaves(repeated.params),
                    strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    last = [run.metrics()['loss'].value[-1] for run in (weighted, repeated)]
    assert last[0] == pytest.approx(last[1], rel=1e-4)


def test_counts_have_a_model_and_others_say_which(tmp_path):
  x = np.random.RandomState(0).poisson(np.array([0.5, 2.0, 30.0, 4.0]), (80, 4))
  np.savez('c.npz', x=x)
  assert data.spec('npz:c.npz').kind == 'counts'
  run = gm.fit('vae', dataset='npz:c.npz', binarisation='counts', likelihood='negative_binomial',
               hidden='8', latents='2', num_steps=20, importance_samples=20, progress=False)
  score = run.evaluate()
  assert score['kind'] == 'bound' and score['binarisation'] == 'counts'
  assert score['baselines']['independent Poisson columns']['kind'] == 'exact'
  draws = run.sample(jax.random.key(0), 50).draws
  assert draws.shape == (50, 4) and (draws == np.round(draws)).all() and draws.min() >= 0
  holes = np.where(np.arange(4) == 2, np.nan, x[:3])
  found = run.ask('imputation', holes, num_draws=2, num_steps=5)['draws']
  assert (found[..., 2] == np.round(found[..., 2])).all() and (found[..., 0] == x[:3, :1]).all()
  for name, options in (('rbm', {}), ('gaussian', {}), ('mixture', {}), ('gan', {}), ('vae', {})):
    with pytest.raises((BadData, checks.Unfit), match='its values are counts.*vae takes counts'):
      gm.fit(name, dataset='npz:c.npz', progress=False, **options)
  with pytest.raises(BadData, match="binarisation='counts' and likelihood='poisson' or"):
    gm.fit('vae', dataset='npz:c.npz', progress=False)  # arguments of Python, no flags
  with pytest.raises(BadData, match='do not go together'):
    vae.experiment(dataset='npz:c.npz', binarisation='counts')


def test_weights_reach_the_score():
  rows = write()
  np.savez('w.npz', x=rows, weights=np.linspace(0.1, 5, 60))
  dataset = data.load('npz:w.npz')
  built = mixture.experiment(dataset='npz:w.npz', binarisation='static', method='gradient',
                             num_classes=2, num_steps=1)
  params = gm.models.mixture.init(jax.random.key(0), jnp.asarray(dataset.train.rows, jnp.float32),
                                  2)
  score = built.evaluate(jax.random.key(1), params, dataset, print)
  log_p_N = gm.models.mixture.log_likelihood(params, jnp.asarray(dataset.test.rows, jnp.float32))
  w_N = dataset.test.weights
  np.testing.assert_allclose(score['test_nats'], np.sum(w_N * log_p_N) / w_N.sum(), rtol=1e-5)
  assert score['weighted'] and score['baselines']['independent pixels']['weighted']


@pytest.fixture
def colour(tmp_path):
  draws = np.random.RandomState(0)
  (tmp_path / 'p').mkdir()
  for i in range(30):
    Image.fromarray(draws.randint(0, 256, (8, 6, 3)).astype(np.uint8)).save(
      tmp_path / 'p' / f'{i}.png')
  return 'folder:p'


@pytest.mark.parametrize('make', [
  lambda name: vae.experiment(dataset=name, binarisation='real', likelihood='gaussian', hidden='4',
                              latents='2', num_steps=2),
  lambda name: vae.experiment(dataset=name, binarisation='real', likelihood='gaussian', latents='2',
                              nets='conv', num_steps=2),
  lambda name: gan.experiment(dataset=name, width=2, num_latents=2, num_steps=2),
  lambda name: gaussian.experiment(dataset=name, covariance='diagonal')])
def test_pictures_in_colour_fit_every_shape(colour, make):
  """By shapes: phases, validation and draws of pictures that are neither grey nor square."""
  built, dataset = make(colour), data.load(colour)
  checks.check(built, dataset.train, dataset.valid)
  params = jax.eval_shape(lambda key: built.phases[0].init(key, dataset.train, None),
                          jax.random.key(0))
  drawn = jax.eval_shape(lambda key, params: built.sample(key, params, 5, None),
                         jax.random.key(0), params)
  assert drawn.draws.shape == drawn.means.shape == (5, 8, 6, 3)


def test_vectors_have_dense_nets(tmp_path):
  write()
  for make in (lambda: gan.experiment(dataset='npz:x.npz'),
               lambda: vae.experiment(dataset='npz:x.npz', nets='conv', num_steps=1)):
    with pytest.raises(BadData, match='vectors of 6: --set=nets=dense'):
      make()
  built = gan.experiment(dataset='npz:x.npz', nets='dense', width=4, num_steps=2)
  dataset = data.load('npz:x.npz')
  checks.check(built, dataset.train, dataset.valid)


@pytest.mark.parametrize('values, options, kind, visible', [
  (lambda r: r.rand(50, 5) < 0.5, '', 'static', 'Bernoulli'),
  (lambda r: r.randint(0, 4, (50, 5)), '?kind=categorical', 'categorical', 'Categorical'),
  (lambda r: r.randn(50, 5), '?scale=normalise', 'real', 'Gaussian')])
def test_rbm_takes_the_units_of_its_data(values, options, kind, visible):
  np.savez('x.npz', x=values(np.random.RandomState(0)))
  name = f'npz:x.npz{options}'
  built, dataset = rbm.experiment(dataset=name, num_hidden=3, num_steps=2), data.load(name)
  assert built.binarisation == kind and type(built.model.visible).__name__ == visible
  checks.check(built, dataset.train, dataset.valid)
  params = built.phases[0].init(jax.random.key(0), dataset.train, None)
  score = built.evaluate(jax.random.key(1), params, dataset, print)
  assert score['kind'] == 'exact' and np.isfinite(score['test_nats'])


def test_models_of_other_data_say_so_before_any_work():
  np.savez('x.npz', x=np.random.RandomState(0).randn(40, 4))
  entry = registry.load('vae')
  with pytest.raises(BadData, match="binarisation 'dynamic' needs zeros and ones"):
    entry.experiment(**hyperparameters.resolve(entry, None, ['dataset=npz:x.npz']))
  with pytest.raises(BadData, match='outside .0, 1.*likelihood=gaussian'):
    vae.experiment(dataset='npz:x.npz?scale=normalise', binarisation='real', num_steps=1)
  with pytest.raises(BadData, match='has no labels'):
    registry.load('class_rbm').experiment(dataset='npz:x.npz?scale=none')
  with pytest.raises(ValueError, match="'mnits'; did you mean mnist"):
    entry.experiment(**hyperparameters.resolve(entry, None, ['dataset=mnits']))
  with pytest.raises(errors.UsageError, match='that names data: digits'):
    hyperparameters.resolve(entry, None, ['dataset=nzp:x.npz'])


def test_the_schemes_of_domains_are_those_of_the_grammar():
  from gen_models.data import grammar
  from gen_models.domains import DataName
  assert DataName().schemes == grammar.SCHEMES


# Figures and scores of draws.


@pytest.mark.parametrize('shape, tiled', [
  ((4, 3), (11, 13)), ((4, 3, 3), (11, 13, 3)), ((4, 3, 2), (11, 22)), ((7,), (8, 9))])
def test_grids_of_any_shape(shape, tiled, tmp_path):
  x_NV = np.random.RandomState(0).rand(6, int(np.prod(shape)))
  grid = figures.to_grid(x_NV, shape, 2, 3)
  image = figures.tile(grid)
  assert image.shape == tiled
  if len(shape) == 3 and shape[2] == 3:
    np.testing.assert_allclose(image[1:5, 1:4], x_NV[0].reshape(shape), rtol=1e-6)
  pictures.write_png(pictures.square(x_NV.reshape(6, *shape), 3), tmp_path / 'g.png')
  with Image.open(tmp_path / 'g.png') as picture:
    assert picture.mode == ('RGB' if len(tiled) == 3 else 'L')
    assert picture.size == (tiled[1], tiled[0])


def test_the_frechet_distance_of_few_rows_is_that_of_many():
  """More values than rows: products of rows take the place of covariances."""
  draws = np.random.RandomState(0)
  x_ND, y_MD = draws.randn(9, 40), draws.randn(12, 40) + 0.5
  mean_D = x_ND.mean(0) - y_MD.mean(0)
  s, t = np.cov(x_ND, rowvar=False), np.cov(y_MD, rowvar=False)
  scale_D, axes_DD = np.linalg.eigh(s)
  root = axes_DD * np.sqrt(np.maximum(scale_D, 0)) @ axes_DD.T
  product = np.linalg.eigvalsh(root @ t @ root)
  expected = mean_D @ mean_D + np.trace(s) + np.trace(t) - 2 * np.sqrt(
    np.maximum(product, 0)).sum()
  np.testing.assert_allclose(samples.frechet(x_ND, y_MD), expected, rtol=1e-6)


def test_vectors_are_compared_without_features():
  draws = np.random.RandomState(0).rand(2, 20, 7)
  found = samples.compare(*map(jnp.asarray, draws), (7,))
  assert all(name.endswith('_pixels') for name in found) and len(found) == 7
