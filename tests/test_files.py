"""Files are written whole or not at all, and links, pipes and devices are left alone."""

import csv
import errno
import os
import resource
import signal

import pytest

from gen_models import files

WRITERS = {
  'text': lambda path: files.write_text(path, 'new'),
  'bytes': lambda path: files.write_bytes(path, b'new'),
  'json': lambda path: files.write_json(path, 'new'),
  'csv': lambda path: files.write_csv(path, [['new']]),
  'append': lambda path: files.append_line(path, 'new'),
  'lock': lambda path: files.lock_file(path).close()}
REPLACE = ('text', 'bytes', 'json', 'csv')


@pytest.fixture
def secret(tmp_path):
  path = tmp_path / 'secret'
  path.write_text('old')
  return path


@pytest.mark.parametrize('writer', WRITERS)
@pytest.mark.parametrize('relative', [False, True])
def test_what_a_link_points_to_is_not_touched(tmp_path, secret, writer, relative):
  link = tmp_path / 'link'
  link.symlink_to('secret' if relative else secret)
  if writer in REPLACE:
    WRITERS[writer](link)
    assert 'new' in link.read_text() and not link.is_symlink()
  else:
    with pytest.raises(OSError, match='symbolic link') as error:
      WRITERS[writer](link)
    assert error.value.filename == str(link)
  assert secret.read_text() == 'old'


@pytest.mark.parametrize('writer', WRITERS)
def test_a_dangling_link_makes_no_file_elsewhere(tmp_path, writer):
  link = tmp_path / 'link'
  link.symlink_to(tmp_path / 'nowhere')
  if writer in REPLACE:
    WRITERS[writer](link)
  else:
    with pytest.raises(OSError):
      WRITERS[writer](link)
  assert not (tmp_path / 'nowhere').exists()


@pytest.mark.parametrize('writer', WRITERS)
def test_pipes_and_directories_are_refused_at_once(tmp_path, writer):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'directory').mkdir()
  for name in ('pipe', 'directory'):
    with pytest.raises(OSError) as error:
      WRITERS[writer](tmp_path / name)
    assert error.value.filename == str(tmp_path / name)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['directory', 'pipe']


@pytest.mark.parametrize('make', [
  lambda path: path.symlink_to('/dev/zero'), os.mkfifo, lambda path: path.symlink_to('secret'),
  lambda path: path.mkdir(), lambda path: path.write_bytes(bytes(101))],
  ids=['link to /dev/zero', 'pipe', 'link', 'directory', 'too long'])
def test_only_regular_files_of_a_bounded_size_are_read(tmp_path, secret, make):
  make(tmp_path / 'it')
  with pytest.raises(OSError) as error:
    files.read_text(tmp_path / 'it', largest=100)
  assert error.value.filename == str(tmp_path / 'it')
  assert files.read_text(secret, largest=3) == 'old'


def test_json_that_is_none_is_a_value_error(tmp_path):
  for text in ('', '{"a": 1', '[' * 100_000, '{"a": 1' + '0' * 5000 + '}', '\x00'):
    (tmp_path / 'it').write_text(text)
    with pytest.raises(ValueError):
      files.read_json(tmp_path / 'it')


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(secret):
  with pytest.raises(KeyError), files.replacing(secret) as file:
    file.write('half')
    raise KeyError
  assert secret.read_text() == 'old' and [p.name for p in secret.parent.iterdir()] == ['secret']


def test_a_write_that_does_not_fit_names_the_file_and_keeps_the_old_one(secret):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
  try:
    with pytest.raises(OSError) as error:
      files.write_text(secret, 'x' * 1_000_000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
  assert error.value.errno == errno.EFBIG and error.value.filename == str(secret)
  assert secret.read_text() == 'old' and [p.name for p in secret.parent.iterdir()] == ['secret']


def test_permissions_stay_and_new_files_have_the_usual_ones(secret):
  secret.chmod(0o640)
  files.write_text(secret, 'new')
  assert secret.stat().st_mode & 0o777 == 0o640
  mask = os.umask(0o027)
  try:
    files.write_text(secret.with_name('other'), 'new')
  finally:
    os.umask(mask)
  assert secret.with_name('other').stat().st_mode & 0o777 == 0o640


def test_text_is_utf8_whatever_the_locale(secret, monkeypatch):
  monkeypatch.setattr('locale.getpreferredencoding', lambda *args: 'latin-1')
  files.write_text(secret, '−18.1 nats ≥ ä \udcff\n')
  assert secret.read_bytes() == '−18.1 nats ≥ ä \\udcff\n'.encode()
  files.append_line(secret, '−')
  assert files.read_text(secret).endswith('\n−\n')


def test_numbers_stay_numbers_and_formulas_become_text(secret):
  files.write_csv(secret, [
    ['=1+1', '+cmd', '-2+3', '@sum', ' =1', '-1.5e-3', '-', '−2', 'a=b', -3]])
  with open(secret, newline='') as file:
    row, = csv.reader(file)
  assert row == ["'=1+1", "'+cmd", "'-2+3", "'@sum", "' =1", '-1.5e-3', '-', '−2', 'a=b', '-3']


def test_a_directory_that_is_a_link_is_refused(tmp_path):
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'figures').symlink_to('elsewhere')
  with pytest.raises(OSError, match='symbolic link'):
    files.directory(tmp_path / 'figures')
  assert files.directory(tmp_path / 'a' / 'b').is_dir()
