"""Every line of the grammar of data: trained on, scored, drawn from, asked; in Python and typed."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import gen_models as gm
from launch.runs import rows as rows_lib
from tests.data.conftest import _write_mnist
from tests.launch.commands import refused, run

SMALL = dict(num_hidden=3, num_steps=20, chains=10, batch_size=10)
# Name of the data, and of the rows that are asked about.
NAMES = {
  'digits': ('digits', 'digits'),
  'tfds': ('tfds:mnist', 'tfds:mnist'),
  'npz': ('npz:x.npz', 'npz:x.npz'),
  'npy': ('npy:x.npy?split=blocks', 'npy:x.npy'),
  'folder': ('folder:pictures?size=6', 'folder:pictures?size=6'),
  'fasta': ('fasta:family.fasta?identity=0.8', 'fasta:family.fasta'),
  'csv': ('csv:x.csv?label=y&scale=normalise', 'csv:x.csv?label=y'),
  'parquet': ('parquet:x.parquet?label=y&scale=normalise', 'parquet:x.parquet?label=y')}


@pytest.fixture(name='files', scope='module', autouse=True)
def fixture_files(tmp_path_factory):
  """A folder with a small file of every kind."""
  folder, draws = tmp_path_factory.mktemp('grammar'), np.random.default_rng(0)
  x_NV = (draws.random((120, 6)) < 0.4).astype(np.uint8)
  np.savez(folder / 'x.npz', x=x_NV)
  np.save(folder / 'x.npy', x_NV)
  letters = np.array(list('ACDEFGHIKLMNPQRSTVWY-'))
  family_NL = letters[draws.integers(21, size=(60, 7))]
  (folder / 'family.fasta').write_text(''.join(  # the last one many times, so weights differ
    f'>s{i}\n{"".join(family_NL[min(i, 59)])}\n' for i in range(80)))
  table = {**{name: draws.normal(size=80) for name in 'abc'}, 'y': np.arange(80) % 2}
  (folder / 'x.csv').write_text('\n'.join([','.join(table), *(
    ','.join(map(str, row)) for row in zip(*table.values(), strict=True))]))
  for name in 'cat', 'dog':
    (folder / 'pictures' / name).mkdir(parents=True)
    for i in range(25):
      Image.fromarray(draws.integers(0, 256, (7, 8), np.uint8)).save(
        folder / 'pictures' / name / f'{i}.png')
  _write_mnist(folder / 'tfds')
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
    patch.setenv('TFDS_DATA_DIR', str(folder / 'tfds'))
    yield folder


def table_of(files):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import csv, parquet
  parquet.write_table(csv.read_csv(files / 'x.csv'), files / 'x.parquet')
  return pyarrow


def walked(files, scheme):
  """Trains on these data, scores, draws and asks; from Python."""
  if scheme == 'parquet':
    table_of(files)
  name, rows = NAMES[scheme]
  trained = gm.fit('rbm', dataset=name, progress=False, workdir=files / 'runs' / scheme, **SMALL)
  spec = trained.spec
  score = trained.evaluate(lambda line: None)
  assert score['kind'] == 'exact' and np.isfinite(score['test_nats'])
  assert bool(score.get('weighted')) == spec.weighted == (scheme == 'fasta')
  draws = trained.sample(jax.random.key(0), 4).draws
  assert draws.shape == (4, *spec.seen_shape)
  asked = rows_lib.read(rows, spec)
  nats = trained.log_likelihood(asked)
  assert nats.shape == (len(asked),) and np.isfinite(nats).all()
  assert trained.features(asked).shape == (len(asked), 3)


def test_a_file_of_one_kind(files):
  walked(files, 'npy')


@pytest.mark.slow
@pytest.mark.parametrize('scheme', [scheme for scheme in NAMES if scheme != 'npy'])
def test_a_file_of_every_kind(files, scheme):
  walked(files, scheme)


@pytest.mark.slow
@pytest.mark.parametrize('scheme', list(NAMES))
def test_the_same_as_commands(files, scheme):
  if scheme == 'parquet':
    table_of(files)
  name, rows = NAMES[scheme]
  at = f'--workdir=typed/{scheme}'
  run('train', '--experiment=rbm', f'--set=dataset={name}', at,
      *(f'--set={k}={v}' for k, v in SMALL.items()), cwd=files)
  result = json.loads(run('evaluate', at, cwd=files).stdout.splitlines()[-1])
  assert result['kind'] == 'exact' and result['dataset'] == name
  run('sample', at, '--num=6', f'--out={scheme}.png', cwd=files)
  with Image.open(files / f'{scheme}.png') as picture:
    assert picture.size > (1, 1)
  if scheme == 'fasta':
    run('sample', at, '--num=6', '--out=draws.fasta', cwd=files)
    lines = (files / 'draws.fasta').read_text().split()
    assert len(lines) == 12 and set(map(len, lines[1::2])) == {np.prod(gm.data.spec(name).shape)}
  else:
    assert 'no sequences of letters' in refused('sample', at, '--out=draws.fasta', cwd=files)
  run('apply', at, '--what=features', f'--data={rows}', f'--out={scheme}.npz', cwd=files)
  assert np.load(files / f'{scheme}.npz')['features'].shape[1] == 3
