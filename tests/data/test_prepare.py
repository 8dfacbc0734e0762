import argparse
import importlib.util

from gen_models.data import sources
from launch import prepare


def run(name, data_dir, cache_dir):
  return prepare.main(argparse.Namespace(name=name, data_dir=data_dir, cache_dir=cache_dir))


def find_everything(monkeypatch):
  """As if the extra were installed."""
  monkeypatch.setattr(importlib.util, 'find_spec', lambda module: module)


def test_a_prepared_set_is_only_cached(tiny_mnist, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(prepare, '_download', None)  # calling it would raise
  assert run('mnist', tiny_mnist, tmp_path / 'cache') == 0
  assert capsys.readouterr().out == 'mnist is ready: 20 / 10 / 10 train / valid / test images\n'
  assert (tmp_path / 'cache' / 'mnist' / '3.0.1' / 'manifest.json').exists()


def test_a_missing_set_is_downloaded_where_it_will_be_sought(
    tiny_mnist, tmp_path, capsys, monkeypatch, write_mnist):
  find_everything(monkeypatch)
  monkeypatch.setattr(prepare, '_download', lambda name, folder: write_mnist(folder))
  assert run('mnist', tmp_path / 'new', tmp_path / 'cache') == 0
  assert 'mnist was prepared in' in capsys.readouterr().out
  assert len(sources.load('mnist', tmp_path / 'new', tmp_path / 'cache').train.images) == 20


def assert_one_line_error(capsys, *parts):
  captured = capsys.readouterr()
  assert captured.out == '' and captured.err.startswith('error: ')
  assert captured.err.count('\n') == 1
  for part in parts:
    assert part in captured.err


def test_an_unknown_name_gets_near_matches(tmp_path, capsys):
  assert run('fashion_mnits', tmp_path, tmp_path) == 1
  assert_one_line_error(capsys, "'fashion_mnits'; did you mean fashion_mnist")


def test_missing_tensorflow_is_reported_with_the_remedy(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda module: None)
  assert run('mnist', tmp_path / 'data', tmp_path / 'cache') == 1
  assert_one_line_error(capsys, 'tensorflow', "pip install 'gen_models[prepare]'")


def test_a_failed_download_is_one_line(tmp_path, capsys, monkeypatch):
  def fail(name, folder):
    raise OSError('connection\nrefused ' + 'at length ' * 100)

  find_everything(monkeypatch)
  monkeypatch.setattr(prepare, '_download', fail)
  assert run('mnist', tmp_path / 'data', tmp_path / 'cache') == 1
  assert_one_line_error(capsys, 'cannot download mnist: connection refused')


def test_a_set_in_the_wrong_format_is_not_downloaded_over(
    tmp_path, capsys, monkeypatch, write_mnist):
  monkeypatch.setattr(prepare, '_download', None)
  write_mnist(tmp_path / 'data', file_format='tfrecord')
  assert run('mnist', tmp_path / 'data', tmp_path / 'cache') == 1
  assert_one_line_error(capsys, 'stored as tfrecord', '--data_dir=DIR')
