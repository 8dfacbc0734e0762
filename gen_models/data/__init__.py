"""Data: a batch is a pure function of the step. `stream` imports grain: import it by name."""

from gen_models.data.binarise import (
  KINDS,
  VIEWS,
  binarise,
  binarise_real,
  check_view,
  classes_of,
  clipped,
  fixed,
  fixed_split,
  mean_image,
  seen,
  split_key,
)
from gen_models.data.in_memory import from_arrays
from gen_models.data.order import row_at
from gen_models.data.pipeline import batches, check_horizon, rows_of_step
from gen_models.data.selection import densest_rows
from gen_models.data.sources import (
  Arrays,
  Dataset,
  MissingData,
  Window,
  described,
  levels,
  load,
  load_described,
  names,
  num_train,
  remember,
  shape,
  shapes,
  source,
  spec,
  with_validation,
)
from gen_models.data.specs import BadData, Spec
from gen_models.data.weights import mean

__all__ = ['KINDS', 'VIEWS', 'Arrays', 'BadData', 'Dataset', 'MissingData', 'Spec', 'Window',
           'batches', 'binarise', 'binarise_real', 'check_horizon', 'check_view', 'classes_of',
           'clipped', 'densest_rows', 'described', 'fixed', 'fixed_split', 'from_arrays', 'levels',
           'load', 'load_described', 'mean', 'mean_image', 'names', 'num_train', 'remember',
           'row_at', 'rows_of_step', 'seen', 'shape', 'shapes', 'source', 'spec', 'split_key',
           'with_validation']
