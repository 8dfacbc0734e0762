"""A page or a picture that cannot be made does not fail the command whose work is done."""

import os

import pytest

from gen_models import files
from launch.cli import app
from launch.reports import report
from tests.launch.reports import handmade


@pytest.mark.parametrize('error, text', [
  (ValueError('two\nlines'), 'two lines'), (KeyError('no'), 'no'), (RuntimeError(), 'RuntimeError'),
  (OSError(28, os.strerror(28), 'page.html'), 'page.html')])
def test_one_line_and_no_error(capsys, error, text):
  def fails(x):
    raise error
  assert app.extra('the page', fails, 1) is None
  line, = capsys.readouterr().err.splitlines()
  assert line.startswith('warning: the page') and text in line
  assert app.extra('the page', str, 1) == '1'


def test_what_the_user_stops_is_stopped():
  def stopped():
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    app.extra('the page', stopped)


def test_a_folder_of_figures_that_leads_elsewhere_is_not_written_to(tmp_path):
  workdir = handmade.run(tmp_path / 'run')
  (tmp_path / 'elsewhere').mkdir()
  (workdir / 'figures').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'mine').write_text('mine')
  (workdir / 'report.html').symlink_to(tmp_path / 'mine')
  with pytest.raises(OSError, match='symbolic link'):
    report.of_run(workdir)
  assert not list((tmp_path / 'elsewhere').iterdir())
  (workdir / 'figures').unlink()
  assert '<html' in files.read_text(report.of_run(workdir))
  assert (tmp_path / 'mine').read_text() == 'mine'
