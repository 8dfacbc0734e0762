"""Domains of hyperparameters."""

import pytest

from gen_models import domains


def test_layer_sizes_that_are_not_numbers_are_refused():
  assert domains.sizes_of('500-2000') == (500, 2000) and domains.sizes_of('') == ()
  with pytest.raises(ValueError, match="not '500,2000'"):
    domains.sizes_of('500,2000')
