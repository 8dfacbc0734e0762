"""Messages of errors in the words of who reads them."""

import pytest

from launch import errors


@pytest.mark.parametrize('text, expected', [
  ('leave it, or --set=nets=dense: pictures', "leave it, or nets='dense': pictures"),
  ('try --set=learning_rate=1e-3, or more', 'try learning_rate=1e-3, or more'),
  ('--set=pretrain=false trains', 'pretrain=False trains'),
  ('train with --stream', 'train with stream=True'),
  ('begin with --from=runs/a; --variant=pcd', "begin with start=runs/a; variant='pcd'"),
  ('launch.evaluate --workdir=a scores', 'launch.evaluate --workdir=a scores')])
def test_flags_become_arguments(text, expected):
  assert errors.as_arguments(text) == expected


def test_errors_keep_their_type():
  @errors.in_python()
  def fails():
    raise KeyError('--set=a=b')

  with pytest.raises(KeyError, match="a='b'"):
    fails()
