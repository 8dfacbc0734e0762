"""Own data by name: every line of the grammar, splits, weights, and what is refused."""

import io
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gen_models import data
from gen_models.data import own, weights
from gen_models.data.formats import arrays as arrays_lib
from gen_models.data.specs import BadData, Spec

RNG = np.random.RandomState(0)
BITS = (RNG.rand(60, 7) < 0.3).astype(np.int64)


@pytest.fixture(autouse=True)
def cache_of_the_test(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def npz(tmp_path):
  def write(compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(tmp_path / 'x.npz', **arrays)
    return f'npz:{tmp_path / "x.npz"}'
  return write


def write_pictures(root, count=12, shape=(6, 5, 3), suffix='png', seed=0):
  draws = np.random.RandomState(seed)
  root.mkdir(parents=True, exist_ok=True)
  pictures = draws.randint(0, 256, (count, *shape)).astype(np.uint8)
  for i, picture in enumerate(pictures):
    Image.fromarray(picture.squeeze()).save(root / f'{i:03d}.{suffix}')
  return pictures


def rows_of(dataset):
  return np.concatenate([a.rows for a in dataset[1:4]])


def as_set(rows):
  return sorted(np.ascontiguousarray(row).tobytes() for row in rows)


# Arrays.


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('dtype', [bool, np.uint8, np.int64, np.float64, '>f4'])
def test_zeros_and_ones_are_binary_whatever_their_type(npz, dtype, compressed):
  name = npz(compressed, x=np.asfortranarray(BITS.astype(dtype)))
  spec, dataset = data.spec(name), data.load(name)
  assert (spec.kind, spec.shape, spec.levels) == ('binary', (7,), 1)
  assert spec.rows == {'train': 48, 'valid': 6, 'test': 6}
  assert dataset.train.rows.dtype == np.uint8
  assert as_set(rows_of(dataset)) == as_set(BITS.astype(np.uint8))
  assert dataset.spec._replace(repeated={}) == spec and Spec.from_json(spec.to_json()) == spec
  # A uint8 set of zeros and ones under any binarisation is itself.
  for kind in ('static', 'dynamic', 'threshold', 'real'):
    np.testing.assert_array_equal(data.fixed_split(dataset, 'test', kind), dataset.test.rows)


def test_npy_is_an_npz_of_one_array(tmp_path, npz):
  np.save(tmp_path / 'x.npy', BITS)
  assert as_set(rows_of(data.load(f'npy:{tmp_path / "x.npy"}'))) == as_set(
    rows_of(data.load(npz(x=BITS))))


def test_splits_of_the_file_stay(npz):
  name = npz(train=BITS[:40], validation=BITS[40:45], test=BITS[45:],
             train_labels=np.arange(40) % 3, validation_labels=np.zeros(5),
             test_labels=np.zeros(15))
  dataset = data.load(name)
  np.testing.assert_array_equal(dataset.train.rows, BITS[:40])
  np.testing.assert_array_equal(dataset.valid.rows, BITS[40:45])
  np.testing.assert_array_equal(dataset.train.labels, np.arange(40) % 3)
  assert dataset.spec.split == 'as given' and dataset.spec.num_classes == 3
  assert dataset.train.labels.dtype == np.int32


def test_a_valid_split_that_is_lacking_is_made_of_train(npz):
  dataset = data.load(npz(train=BITS[:40], test=BITS[40:]) + '?valid=0.25&seed=3')
  assert [len(a.rows) for a in dataset[1:4]] == [30, 10, 20]
  np.testing.assert_array_equal(dataset.test.rows, BITS[40:])
  assert dataset.spec.split == 'test as given; random, valid 0.25, seed 3'


def test_integers_are_counts_and_floats_are_real(npz):
  counts = data.load(npz(x=BITS * 3))
  assert counts.spec.kind == 'counts' and counts.train.rows.dtype == np.int32
  np.testing.assert_array_equal(data.fixed_split(counts, 'test', 'counts'), counts.test.rows)
  real = data.load(npz(x=BITS * 3 - 1.5))
  assert (real.spec.kind, real.spec.low, real.spec.high) == ('real', -1.5, 1.5)
  x_ND = data.fixed_split(real, 'test', 'real')
  np.testing.assert_allclose(x_ND, (real.test.rows + 1.5) / 3)
  assert real.spec.unit_interval


def test_real_values_are_normalised_by_train(npz):
  x = RNG.randn(200, 5) * [1, 2, 3, 4, 0] + 7
  dataset = data.load(npz(x=x) + '?scale=normalise')
  x_ND = np.asarray(data.fixed_split(dataset, 'train', 'real'))
  np.testing.assert_allclose(x_ND.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(x_ND.std(0), [1, 1, 1, 1, 0], atol=1e-5)
  assert not dataset.spec.unit_interval
  raw = data.load(npz(x=x) + '?scale=none')
  np.testing.assert_array_equal(data.fixed_split(raw, 'test', 'real'), raw.test.rows)


def test_letters_by_number_are_one_of_q(npz):
  x = RNG.randint(0, 4, (50, 6))
  dataset = data.load(npz(x=x) + '?kind=categorical')
  assert dataset.spec.kind == 'categorical' and dataset.spec.levels == 4
  assert dataset.spec.seen_shape == (6, 4)
  x_ND = np.asarray(data.fixed_split(dataset, 'test', 'categorical'))
  np.testing.assert_array_equal(x_ND.reshape(-1, 6, 4).argmax(2), dataset.test.rows)
  assert x_ND.shape == (5, 24) and (x_ND.reshape(-1, 6, 4).sum(2) == 1).all()
  batch = data.batches(8, 'categorical', dataset.spec)(jax.random.key(0), dataset.train, 3)
  assert batch.shape == (8, 24) and batch.dtype == jnp.float32


def test_pictures_of_uint8_are_seen_as_those_of_before(npz):
  x = RNG.randint(0, 256, (40, 4, 5)).astype(np.uint8)
  dataset = data.load(npz(x=x))
  assert dataset.spec.shape == (4, 5, 1) and data.shape(dataset.name) == (4, 5)
  for kind in ('real', 'threshold', 'dynamic'):
    np.testing.assert_array_equal(data.fixed_split(dataset, 'test', kind),
                                  data.fixed(dataset.test, kind, 255, split='test'))
  np.testing.assert_array_equal(data.mean_image(dataset.train, dataset.spec),
                                data.mean_image(dataset.train, 255))


def test_uncompressed_arrays_are_memory_maps(npz):
  part = own.opened(npz(x=BITS)).parts['train']
  assert isinstance(part.table.rows, np.memmap)
  assert not isinstance(own.opened(npz(True, x=BITS)).parts['train'].table.rows, np.memmap)


def test_what_changes_on_disk_is_read_again(npz):
  before = data.spec(npz(x=BITS))
  after = data.spec(npz(x=1 - BITS))
  assert before.name == after.name and before.sha256 != after.sha256


# Pictures.


def test_a_folder_of_colour(tmp_path):
  pictures = write_pictures(tmp_path / 'p')
  name = f'folder:{tmp_path / "p"}'
  spec, dataset = data.spec(name), data.load(name)
  assert (spec.shape, spec.kind, spec.levels, spec.num_classes) == ((6, 5, 3), 'real', 255, None)
  assert as_set(rows_of(dataset)) == as_set(pictures)
  np.testing.assert_array_equal(data.fixed_split(dataset, 'test', 'real'),
                                data.fixed(dataset.test, 'real', 255))
  assert data.load(name).spec == dataset.spec  # from the cache


def test_subfolders_are_classes_and_splits(tmp_path):
  for split, count in (('train', 6), ('val', 3), ('test', 2)):
    for i, c in enumerate(('cat', 'dog')):
      write_pictures(tmp_path / 'p' / split / c, count, (4, 4), seed=i)
  dataset = data.load(f'folder:{tmp_path / "p"}')
  assert [len(a.rows) for a in dataset[1:4]] == [12, 6, 4]
  assert dataset.spec.classes == ('cat', 'dog') and dataset.spec.shape == (4, 4, 1)
  np.testing.assert_array_equal(dataset.valid.labels, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize('fit', ['crop', 'pad'])
def test_pictures_keep_their_aspect(tmp_path, fit):
  (tmp_path / 'p').mkdir()
  picture = np.zeros((20, 40), np.uint8)
  picture[:, 10:30] = 200  # a square of light in the middle
  for i in range(3):
    Image.fromarray(picture).save(tmp_path / 'p' / f'{i}.png')
  rows = data.load(f'folder:{tmp_path / "p"}?size=10&fit={fit}').train.rows
  assert rows.shape == (1, 10, 10, 1)
  if fit == 'crop':
    assert (rows[0, 1:-1, 1:-1] > 195).all()
  else:  # a wide picture between two black bars
    assert (rows[0, :2] == 0).all() and (rows[0, -2:] == 0).all() and rows[0, 5, 5] > 190


def test_broken_pictures_are_named_or_skipped(tmp_path):
  write_pictures(tmp_path / 'p', 10)
  good = (tmp_path / 'p' / '004.png').read_bytes()
  (tmp_path / 'p' / '004.png').write_bytes(good[:len(good) // 2])
  name = f'folder:{tmp_path / "p"}'
  with pytest.raises(BadData, match=r'004.png is no picture .*skip=1') as e:
    data.load(name)
  assert '\n' not in str(e.value)
  dataset = data.load(name + '?skip=1')
  assert sum(dataset.spec.rows.values()) == 9 and '1 broken' in dataset.spec.remarks[0]


def test_pictures_of_several_sizes_need_one(tmp_path):
  write_pictures(tmp_path / 'p', 5)
  write_pictures(tmp_path / 'p' , 7, (8, 8, 3))
  Image.new('RGB', (9, 4)).save(tmp_path / 'p' / '099.png')
  with pytest.raises(BadData, match=r'000.png is 8 x 8 pixels and 099.png 4 x 9: .*\?size=4'):
    data.spec(f'folder:{tmp_path / "p"}')


# Sequences and columns.


FASTA = '>a one\nACDE\nF-\n>b\nACDEF.\n>c\nacdeFG\n>d\nWWWWWW\n>e\nYYYYYY\n'


def test_aligned_sequences_are_categorical(tmp_path):
  (tmp_path / 's.fasta').write_text(FASTA)
  dataset = data.load(f'fasta:{tmp_path / "s.fasta"}')
  spec = dataset.spec
  assert (spec.kind, spec.shape, spec.levels) == ('categorical', (6,), 21)
  text = sorted(''.join(spec.alphabet[i] for i in row) for row in rows_of(dataset))
  assert text == ['ACDEF-', 'ACDEF-', 'ACDEFG', 'WWWWWW', 'YYYYYY']
  # Relatives are on one side.
  assert spec.split.startswith('clusters, identity 0.8') and not any(spec.repeated.values())


@pytest.mark.parametrize('rule, rows, remark', [
  ('gap', 3, '2 unknown letters .*gaps'), ('missing', 3, 'missing values'),
  ('skip', 2, '1 sequences with unknown letters')])
def test_unknown_letters_are_named_and_mapped_where_asked(tmp_path, rule, rows, remark):
  (tmp_path / 's.fasta').write_text('>a\nACX*\n>b\nACDE\n>c\nWWWW\n' + '>d\nYYYY\n' * (
    rule == 'skip'))
  name = f'fasta:{tmp_path / "s.fasta"}?split=random'
  with pytest.raises(BadData, match=r"line 1: sequence 1 \(a\) has the letter 'X' in column 3"):
    data.spec(name)
  dataset = data.load(f'{name}&unknown={rule}')
  assert sum(dataset.spec.rows.values()) == rows + (rule == 'skip')
  import re
  assert re.search(remark, dataset.spec.remarks[0])
  if rule == 'missing':
    assert dataset.spec.missing
    with pytest.raises(BadData, match='values are missing'):
      data.batches(2, 'categorical', dataset.spec)
    x = np.concatenate([np.asarray(data.fixed_split(dataset, s, 'categorical', missing=True))
                        for s in ('train', 'valid', 'test')])
    assert np.isnan(x).sum() == 2 * 21 and np.nansum(x) == 10


def test_columns_of_a_csv(tmp_path):
  lines = ['height,weight,kind,who'] + [f'{i},{i / 4},{"ab"[i % 2]},{i // 4}' for i in range(40)]
  (tmp_path / 't.csv').write_text('\n'.join(lines))
  name = f'csv:{tmp_path / "t.csv"}?label=kind&group=who&split=group'
  dataset = data.load(name)
  assert dataset.spec.shape == (2,) and dataset.spec.kind == 'real'
  assert dataset.spec.classes == ('a', 'b')
  groups = [set((a.rows[:, 0] // 4).astype(int)) for a in dataset[1:4]]
  assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
  np.testing.assert_array_equal(dataset.train.labels, dataset.train.rows[:, 0] % 2)


def test_words_are_categorical_and_empty_cells_missing(tmp_path):
  (tmp_path / 't.csv').write_text('a;b\n' + 'red;green\n' * 10 + ';red\n')
  spec = data.spec(f'csv:{tmp_path / "t.csv"}')
  assert (spec.kind, spec.alphabet, spec.missing) == ('categorical', ('green', 'red'), True)


@pytest.mark.parametrize('cells, kind', [
  ('3,1', 'counts'), ('3000000000,1', 'real'), ('3.0,1', 'real'), ('-3,1', 'real'),
  ('1,0', 'binary'), ('3,', 'real')])
def test_whole_numbers_of_a_csv_are_counts(tmp_path, cells, kind):
  (tmp_path / 't.csv').write_text('a,b\n' + '0,1\n' * 20 + cells + '\n')
  name = f'csv:{tmp_path / "t.csv"}'
  assert data.spec(name).kind == kind
  if kind == 'counts':
    assert data.load(name).train.rows.dtype == np.int32
    assert data.spec(f'{name}?kind=real').kind == 'real'


def test_parquet_is_a_csv_or_says_what_to_install(tmp_path, monkeypatch):
  path = tmp_path / 't.parquet'
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    path.write_bytes(b'PAR1')
    with pytest.raises(BadData, match=r'pip install .gen_models\[parquet\]'):
      data.spec(f'parquet:{path}')
    return
  pyarrow.parquet.write_table(pyarrow.table({'a': range(20), 'b': [0.5, None] * 10}), path)
  spec = data.spec(f'parquet:{path}')
  assert spec.shape == (2,) and spec.kind == 'real' and spec.missing


@pytest.fixture
def prepared(write_mnist, tmp_path, monkeypatch):
  """A small prepared tfds set, named as one of the user's."""
  write_mnist(tmp_path / 'tfds')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  return 'tfds:mnist:3.0.1'


def test_a_prepared_tfds_set_by_name(prepared, pixel):
  spec, dataset = data.spec(prepared), data.load(prepared)
  assert (spec.shape, spec.kind, spec.levels, spec.num_classes) == ((8, 8, 1), 'real', 255, 10)
  assert spec.rows == {'train': 27, 'valid': 3, 'test': 10}
  assert spec.split == 'test as given; random, valid 0.1, seed 0'
  np.testing.assert_array_equal(dataset.test.rows[:, 0, 0, 0], [pixel(row) for row in range(10)])
  np.testing.assert_array_equal(dataset.test.labels, np.arange(10))
  assert data.spec('tfds:mnist').sha256 == spec.sha256  # the newest version
  with pytest.raises(BadData, match="no feature 'picture'; it has image, label"):
    data.spec(prepared + '?feature=picture')
  with pytest.raises(FileNotFoundError, match='tfds:mnits: no prepared data in'):
    data.spec('tfds:mnits')


def test_two_that_decode_at_once_do_not_harm_each_other(tmp_path):
  """The same folder decoded into the same cache by several threads, and read back."""
  import concurrent.futures
  pictures = write_pictures(tmp_path / 'p', 20)
  opened = own.opened(f'folder:{tmp_path / "p"}')
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda _: own.decoded(opened).rows('train'), range(8)))
  for rows in found:
    np.testing.assert_array_equal(rows, found[0])
  assert as_set(found[0]) == sorted(set(as_set(pictures)) & set(as_set(found[0])))


# Splits and weights.


def test_blocks_are_consecutive_and_clusters_stay_together(npz):
  x = np.arange(200.0)[:, None]
  dataset = data.load(npz(x=x) + '?split=blocks&blocks=10&seed=4')
  for arrays in (dataset.valid, dataset.test):
    np.testing.assert_array_equal(np.diff(arrays.rows[:, 0]), 1)
    assert len(arrays.rows) == 20 and arrays.rows[0, 0] % 20 == 0
  assert dataset.spec.split == 'blocks, 10 of consecutive rows, valid 0.1 and test 0.1, seed 4'
  again = data.load(npz(x=x) + '?split=blocks&blocks=10&seed=5')
  assert again.test.rows[0, 0] != dataset.test.rows[0, 0]


@pytest.mark.parametrize('where', ['group', 'subject'])
def test_rows_of_a_group_stay_together_wherever_there_are_groups(npz, where):
  group = np.arange(120) % 12
  name = npz(x=np.stack([np.arange(120.0), group], axis=1), **{where: group})
  dataset = data.load(name + ('?group=subject' if where == 'subject' else ''))
  assert dataset.spec.split.startswith(f'group, {where}, ')
  train, valid, test = (set(a.rows[:, 1] * 11) for a in dataset[1:4])
  assert not (train & valid or train & test or valid & test)
  apart = data.load(name + '?split=random')
  assert set(apart.test.rows[:, 1]) & set(apart.train.rows[:, 1])


def test_a_run_of_before_keeps_its_split_and_its_name(npz):
  x = np.stack([np.arange(120.0), np.arange(120) % 12], axis=1)
  name = npz(x=x, group=np.arange(120) % 12) + '?seed=3&blocks=5'
  refused(name, 'blocks= is read with split=blocks')
  spec = data.spec(name.partition('?')[0] + '?split=random&seed=3')
  assert spec.split == 'random, valid 0.1 and test 0.1, seed 3'
  old = data.load_described(spec._replace(name=name))
  assert old.spec.split == spec.split
  np.testing.assert_array_equal(old.test.rows, data.load(spec.name).test.rows)


def test_a_column_of_groups_is_no_data_whatever_makes_the_splits(tmp_path):
  path = tmp_path / 'x.csv'
  path.write_text('subject,a,b\n' + ''.join(f'{i % 12},{i / 7},{i / 3}\n' for i in range(120)))
  for split in ('random', 'blocks'):
    dataset = data.load(f'csv:{path}?group=subject&split={split}')
    assert dataset.spec.shape == (2,) and dataset.spec.split.startswith(split)


def test_an_array_of_nearly_the_right_name_is_pointed_out(npz):
  remarks = data.load(npz(x=BITS, weight=np.ones(60), unrelated=BITS)).remarks
  assert sum('array weight, which is not read; weights would be' in line for line in remarks) == 1
  assert not any('unrelated' in line for line in remarks)
  assert not any('is not read' in line for line in data.load(npz(train=BITS, trains=BITS)).remarks)


def test_repeated_rows_are_counted(npz):
  x = np.eye(5)[RNG.randint(0, 5, 100)]
  assert data.load(npz(x=x)).spec.repeated == {'valid': 10, 'test': 10}


def test_neighbours_and_clusters_are_those_of_all_pairs():
  x_NL = RNG.randint(0, 2, (600, 9)).astype(np.uint8)
  same_NN = (x_NL[:, None] == x_NL[None]).mean(2)
  np.testing.assert_array_equal(weights.neighbours(x_NL, 7 / 9), (same_NN >= 7 / 9 - 1e-9).sum(1))
  x_NL = RNG.randint(0, 4, (300, 9)).astype(np.uint8)
  close_NN = (x_NL[:, None] == x_NL[None]).mean(2) >= 6 / 9 - 1e-9
  reach_NN = close_NN
  for _ in range(10):
    reach_NN = (reach_NN.astype(int) @ reach_NN) > 0
  of_row = weights.clusters(x_NL, 6 / 9)
  np.testing.assert_array_equal(of_row[:, None] == of_row[None], reach_NN)


def test_weighted_rows_are_drawn_in_proportion():
  """By enumeration: the tables give the exact law, and batches follow it (chi-square)."""
  w_N = np.array([0.0, 1, 2, 3, 10, 0.5])
  table = weights.alias_table(w_N)
  law_N = table.accept.astype(np.float64)
  np.add.at(law_N, table.alias, 1 - table.accept.astype(np.float64))
  np.testing.assert_allclose(law_N / 6, w_N / w_N.sum(), atol=1e-7)
  arrays = data.Arrays(np.arange(6, dtype=np.uint8)[:, None], weights=w_N.astype(np.float32),
                       alias=table)
  batch_at = data.batches(50, 'real', 255)
  seen = np.concatenate([np.asarray(batch_at(jax.random.key(1), arrays, step))
                         for step in range(40)])
  count_N = np.bincount(np.round(seen[:, 0] * 255).astype(int), minlength=6)
  expected_N = 2000 * w_N / w_N.sum()
  assert count_N[0] == 0
  assert ((count_N - expected_N)[1:]**2 / expected_N[1:]).sum() < 23.5  # 4 degrees: p = 1e-4


def test_equal_weights_change_nothing(npz):
  plain, equal = data.load(npz(x=BITS)), data.load(npz(x=BITS, weights=np.full(60, 0.3)))
  assert equal.train.weights is None and not equal.spec.weighted
  table = weights.alias_table(np.full(37, 0.7))
  np.testing.assert_array_equal(table.accept, 1)
  np.testing.assert_array_equal(plain.train.rows, equal.train.rows)


def test_the_mean_is_weighted(npz):
  w = np.linspace(1, 9, 60)
  dataset = data.load(npz(x=BITS, weights=w))
  rows, w = dataset.train.rows, dataset.train.weights
  np.testing.assert_allclose(data.mean_image(dataset.train, dataset.spec), w @ rows / w.sum(),
                             rtol=1e-5)


@pytest.mark.parametrize('what', ['npz', 'weighted', 'folder', 'fasta', 'masked'])
def test_streams_are_bitwise_identical_to_resident_batches(npz, tmp_path, what):
  from gen_models.data.stream import Stream
  if what == 'folder':
    write_pictures(tmp_path / 'p', 20)
    name, kind = f'folder:{tmp_path / "p"}', 'dynamic'
  elif what == 'fasta':
    (tmp_path / 's.fasta').write_text(FASTA)
    name, kind = f'fasta:{tmp_path / "s.fasta"}?identity=0.5', 'categorical'
  else:
    name, kind = npz(x=BITS * 1.0, **(
      {'weights': np.arange(60)} if what == 'weighted' else
      {'mask': RNG.rand(60, 7) < 0.1} if what == 'masked' else {})), 'static'
  dataset, key = data.load(name), jax.random.key(3)
  batch_at = data.batches(6, kind, dataset.spec, missing=True)
  with Stream(key, data.source(name), 6) as stream:
    window = stream.window(2, 5)
    for step in range(2, 5):
      np.testing.assert_array_equal(batch_at(key, window, step), batch_at(key, dataset.train, step))
  few = data.load(name, limit=1)
  np.testing.assert_array_equal(few.train.rows, dataset.train.rows[:1])


# What is refused, in one line.


def refused(name, match):
  with pytest.raises((BadData, FileNotFoundError), match=match) as e:
    data.load(name)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('arrays, match', [
  (dict(y=BITS), 'no array x'),
  (dict(x=BITS, train=BITS), 'both x and train'),
  (dict(x=BITS, labels=np.zeros(59)), 'labels has 59 rows and the data 60'),
  (dict(x=BITS, labels=np.full(60, -1)), r'label of row 0 is -1'),
  (dict(x=BITS, weights=np.full(60, np.nan)), r'weight of row 0 is nan'),
  (dict(x=BITS, mask=BITS[:, :3]), 'mask has shape'),
  (dict(x=np.array([[1, 2], [3]], object)), 'pickled Python objects, which are never unpickled'),
  (dict(x=np.array([['a', 'b']] * 5)), 'of type <U1'),
  (dict(x=BITS[:, 0]), r'one axis, 60 numbers: .*x\[:, None\]'),
  (dict(x=BITS[:0]), 'is empty'),
  (dict(x=BITS[:2]), '2 rows cannot be split'),
  (dict(train=BITS, test=BITS[:0]), 'is empty'),
  (dict(train=BITS, test=BITS[:, :3]), 'rows of different shapes'),
  (dict(x=np.where(np.arange(60)[:, None] == 7, np.inf, BITS)), 'row 7 has an infinite value'),
  (dict(x=np.where(np.arange(60)[:, None] == 7, 1e300, BITS)),
   'row 7 has a value beyond those of float32: divide'),
  (dict(x=BITS, labels=np.full(60, 2 * 10**9)), 'label of row 0 is 2000000000: .* at most 2'),
  (dict(x=BITS * np.nan), 'every value is missing')])
def test_wrong_arrays_are_refused_in_one_line(npz, arrays, match):
  refused(npz(**arrays), match)


@pytest.mark.parametrize('options, match', [
  ('?kind=binary', 'kind=binary needs zeros and ones, but row [0-9]+ has 3'),
  ('?splt=random', "no option 'splt'; did you mean split"),
  ('?seed=1&seed=2', 'seed is given twice'), ('?valid=0.5&test=0.5', 'leave nothing for train'),
  ('?size=3', "npz has no option 'size'"), ('?test=1.5', 'test=1.5 is not a share'),
  ('?split=clusters', 'split=clusters is for sequences'), ('?split=group', 'needs group='),
  ('?blocks=5', 'blocks= is read with split=blocks, not with split=random'),
  ('?split=random&group=x', 'group= is read with split=group'),
  ('?blocks=99&split=blocks', '60 rows are fewer than 99 blocks')])
def test_wrong_options_are_refused_in_one_line(npz, options, match):
  refused(npz(x=BITS * 3) + options, match)


@pytest.mark.parametrize('option', ['split=random', 'seed=1', 'valid=0.2', 'blocks=3'])
def test_options_of_splits_are_refused_where_the_file_has_its_own(npz, option):
  name = npz(train=BITS, valid=BITS[:20], test=BITS[:20])
  refused(f'{name}?{option}', f'{option}, but .* has its own splits: leave it out')
  if option == 'valid=0.2':
    refused(f'{npz(train=BITS, valid=BITS[:20])}?{option}', 'has its own valid: leave it out')


def test_damaged_and_suspicious_archives_are_refused(tmp_path):
  path = tmp_path / 'x.npz'
  path.write_bytes(b'PK\x03\x04 no')
  refused(f'npz:{path}', 'damaged or no npz')
  np.savez_compressed(path, x=BITS)
  content = bytearray(path.read_bytes())
  content[len(content) // 3] ^= 255
  path.write_bytes(content)
  refused(f'npz:{path}', 'damaged')
  refused(f'npz:{tmp_path / "absent.npz"}', 'no such file')
  refused('npz:', 'name what to read')
  # A member that says that it unpacks to far more than its bytes can hold.
  buffer = io.BytesIO()
  np.save(buffer, np.zeros((4, 4)))
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x.npy', buffer.getvalue())
  content = bytearray(path.read_bytes())
  central = content.rindex(b'PK\x01\x02')
  content[central + 24:central + 28] = struct.pack('<I', 2**32 - 2)
  path.write_bytes(content)
  refused(f'npz:{path}', 'as a zip bomb would')


def test_an_archive_of_zeros_that_honestly_says_its_size_is_a_bomb_too(tmp_path, monkeypatch):
  large, ratio = arrays_lib._SUSPICIOUS
  monkeypatch.setattr(arrays_lib, '_SUSPICIOUS', (2**20, ratio))
  assert large <= 2**28
  np.savez_compressed(tmp_path / 'zeros.npz', x=np.zeros((2**19, 16), np.uint8))
  refused(f'npz:{tmp_path / "zeros.npz"}', 'as a zip bomb would')
  sparse = np.zeros((2**19, 16), np.uint8)
  sparse[::97, 3] = 1
  np.savez_compressed(tmp_path / 'sparse.npz', x=sparse)
  assert data.spec(f'npz:{tmp_path / "sparse.npz"}').shape == (16,)


def test_sequences_of_several_lengths_are_refused(tmp_path):
  (tmp_path / 's.fasta').write_text('>a\nACD\n>b\nACDE\n')
  refused(f'fasta:{tmp_path / "s.fasta"}', 'line 3: sequence b has 4 letters and the first 3')
  (tmp_path / 's.fasta').write_text('ACD\n')
  refused(f'fasta:{tmp_path / "s.fasta"}', 'line 1: a FASTA file begins with')


@pytest.mark.parametrize('text, match', [
  ('a,b\n1,2\n3\n', 'row 2: 1 cells, but there are 2 columns'),
  ('a,b\n1,2\n3,x\n', "row 2: column 'b' has 'x'"), ('a,a\n1,2\n', "two columns are called 'a'"),
  ('', 'is empty: give it'), ('a,b\n', 'no rows below its names: give it')])
def test_wrong_tables_are_refused_in_one_line(tmp_path, text, match):
  (tmp_path / 't.csv').write_text(text)
  refused(f'csv:{tmp_path / "t.csv"}', match)


def test_models_refuse_data_of_another_kind(npz):
  real = data.spec(npz(x=BITS * 3 - 1.5))
  with pytest.raises(BadData, match=r'real, -1.5 to 1.5.*components=diagonal'):
    data.batches(5, 'dynamic', real)
  grey = data.spec(npz(x=np.full((60, 2, 2), 7, np.uint8)))
  with pytest.raises(BadData, match=r"x.npz: its values are intensities.*'static' is of zeros"):
    data.batches(5, 'static', grey)
  counts = data.spec(npz(x=BITS * 3))
  with pytest.raises(BadData, match='counts.*kind=real'):
    data.batches(5, 'threshold', counts)
  missing = data.spec(npz(x=BITS, mask=BITS == 1))
  with pytest.raises(BadData, match='missing'):
    data.batches(5, 'static', missing)
  letters = data.spec(npz(x=BITS * 3) + '?kind=categorical')
  with pytest.raises(BadData, match='categorical'):
    data.batches(5, 'dynamic', letters)


def test_a_description_stands_in_for_data_that_are_gone(npz, tmp_path):
  name = npz(x=BITS)
  spec = data.spec(name)
  (tmp_path / 'x.npz').rename(tmp_path / 'y.npz')
  with pytest.raises(FileNotFoundError):
    data.spec(name)
  data.remember(Spec.from_json(spec.to_json()))
  assert data.spec(name) == spec
  data.remember(spec._replace(path=str(tmp_path / 'y.npz')))
  assert data.load(name).spec.sha256 == spec.sha256
