"""Data: a batch is a pure function of the step. `stream` imports grain: import it by name."""

from gen_models.data.binarise import KINDS, binarise, binarise_real, fixed
from gen_models.data.order import row_at
from gen_models.data.pipeline import batches, check_horizon, rows_of_step
from gen_models.data.sources import (
  Arrays,
  Dataset,
  MissingData,
  Window,
  levels,
  load,
  names,
  source,
  with_validation,
)

__all__ = ['KINDS', 'Arrays', 'Dataset', 'MissingData', 'Window', 'batches', 'binarise',
           'binarise_real', 'check_horizon', 'fixed', 'levels', 'load', 'names', 'row_at',
           'rows_of_step', 'source', 'with_validation']
