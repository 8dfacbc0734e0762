"""Flags as a command line would set them, and programs that stand in for those of a cluster."""

import pytest
from absl import flags
from absl.testing import flagsaver

import launch.backends  # noqa: F401 its flags


@pytest.fixture
def parse():
  """Parses the flags of launch.backends in a command line; undone after the test."""
  with flagsaver.flagsaver():
    yield lambda *words: flags.FLAGS(['launch.train', *words])


@pytest.fixture
def program(tmp_path, monkeypatch):
  """Puts an executable of this name and text before all others on the PATH."""
  directory = tmp_path / 'bin'
  directory.mkdir()
  monkeypatch.setenv('PATH', str(directory), prepend=':')

  def add(name, text):
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path

  return add


@pytest.fixture
def no_programs(tmp_path, monkeypatch):
  """A PATH with nothing on it."""
  monkeypatch.setenv('PATH', str(tmp_path / 'nothing'))
