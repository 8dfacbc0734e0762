"""Tables speak of rows where data are not images."""

import pytest

from launch.reports import run_page, words


@pytest.mark.parametrize('dataset, binarisation, weighted, rows, view', [
  ('mnist', 'dynamic', False, 'images', 'dynamic binarisation'),
  ('folder:pictures', 'real', False, 'images', 'real binarisation'),
  ('npz:spikes.npz?split=blocks', 'static', False, 'rows', 'binary'),
  ('fasta:family.fasta', 'categorical', True, 'rows', 'categorical, weighted')])
def test_rows_are_called_what_they_are(dataset, binarisation, weighted, rows, view):
  assert words.rows(dataset) == rows
  assert words.view(dataset, binarisation, weighted) == view


def test_heads_of_columns_follow():
  cells = [['model', 'test nats', 'over images']]
  assert run_page.in_words(cells)[0][1:] == ['nats per test image',
                                             'standard error over images']
  assert run_page.in_words(cells, 'rows')[0][1:] == ['nats per test row',
                                                     'standard error over rows']
