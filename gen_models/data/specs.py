"""The description of a data set: a Spec, a value that JSON can hold.

| kind        | stored rows                        | what a model sees                    |
|-------------|------------------------------------|--------------------------------------|
| binary      | uint8, 0 and 1                     | the same as float32                  |
| real        | uint8, 0 .. levels (pictures)      | by binarisation, see binarise.py     |
|             | float32, low .. high               | (x - offset) / scale                 |
| categorical | uint8 or int32, a letter's number  | one-of-Q, float32 [B, L Q]           |
| counts      | int32                              | the same as float32                  |

Missing values are nan in float32 rows (rows of any kind but categorical are float32 where some are
missing), the number Q in categorical ones, and nan in all that a model sees.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Kind = Literal['binary', 'real', 'categorical', 'counts']
KINDS: tuple[str, ...] = get_args(Kind)


class BadData(ValueError):
  """Data that are not what their name says; the message names file, row and remedy."""


class Spec(NamedTuple):
  """The properties of a data set that are known before it is decoded.

  Attributes:
    name: as it was asked for.
    shape: of a row: (V,), (H, W, C) of pictures, (L,) columns of letters.
    kind: one of KINDS.
    levels: the stored value that stands for 1.0; of categorical rows Q, the number of letters.
    alphabet: of categorical rows, the letters in the order of their numbers; else ().
    low, high: least and greatest stored value of real rows and counts; None elsewhere.
    offset, scale: a float row x is seen as (x - offset) / scale; numbers, or tuples over the
      columns of vectors and over the channels of pictures.
    rows: split -> number of rows.
    num_classes: of the labels; None where there are none.
    classes: their names, where the file has some.
    weighted: whether rows have weights.
    missing: whether values are missing.
    sha256: of the content of the files; None of the sets that come with the project.
    split: the rule by which splits were made, or 'as given'.
    path: of the file or folder, absolute; None where there is none.
    repeated: split -> rows of it that are rows of train as well.
    remarks: what there is to know of how the file was read, one line each.
  """

  name: str
  shape: tuple[int, ...]
  kind: Kind = 'real'
  levels: int = 1
  alphabet: tuple[str, ...] = ()
  low: float | None = None
  high: float | None = None
  offset: float | tuple[float, ...] = 0.0
  scale: float | tuple[float, ...] = 1.0
  rows: dict[str, int] = {}
  num_classes: int | None = None
  classes: tuple[str, ...] = ()
  weighted: bool = False
  missing: bool = False
  sha256: str | None = None
  split: str = 'as given'
  path: str | None = None
  repeated: dict[str, int] = {}
  remarks: tuple[str, ...] = ()

  @property
  def dtype(self) -> np.dtype:
    """Of stored rows."""
    if self.kind == 'categorical':
      return np.dtype(np.uint8 if self.levels < 256 else np.int32)
    if self.missing or (self.kind == 'real' and self.low is not None):
      return np.dtype(np.float32)
    return np.dtype(np.int32 if self.kind == 'counts' else np.uint8)

  @property
  def is_image(self) -> bool:
    """Whether rows are pictures [H, W, C]."""
    return len(self.shape) == 3 and self.kind != 'categorical'

  @property
  def seen_shape(self) -> tuple[int, ...]:
    """Of a row as a model sees it: (H, W) of one channel, (H, W, C), (V,) or (L, Q)."""
    if self.kind == 'categorical':
      return (*self.shape, self.levels)
    return self.shape[:2] if self.is_image and self.shape[2] == 1 else self.shape

  @property
  def num_visible(self) -> int:
    """How many numbers a model sees of a row."""
    return math.prod(self.seen_shape)

  @property
  def unit_interval(self) -> bool:
    """Whether what a model sees lies in [0, 1]."""
    if self.kind == 'counts':
      return False
    if self.kind != 'real' or self.low is None or self.high is None:
      return True
    offset, scale = self.offset, self.scale
    return not isinstance(offset, tuple) and not isinstance(scale, tuple) and (
      (self.low - offset) / scale >= 0 and (self.high - offset) / scale <= 1)

  @property
  def intensities(self) -> bool:
    """Whether stored real values are intensities, which a binary image may be drawn from."""
    return self.kind == 'binary' or (self.kind == 'real' and (
      self.low is None or (self.low >= 0 and self.high is not None and self.high <= 1)))

  def to_json(self) -> dict[str, Any]:
    """The fields, as JSON can hold them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in self._asdict().items()}

  @classmethod
  def from_json(cls, value: dict[str, Any]) -> 'Spec':
    """The Spec that `to_json` gave; fields of other versions are ignored.

    Raises:
      ValueError: it is no such thing.
    """
    try:
      known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
               if k in cls._fields}
      found = cls(**known)
      if found.kind not in KINDS or not all(isinstance(n, int) and n > 0 for n in found.shape):
        raise ValueError(f'kind {found.kind!r}, shape {found.shape!r}')
      return found
    except (TypeError, AttributeError, ValueError) as e:
      raise ValueError(f'no description of a data set: {e}') from None


def text_of_shape(shape: Sequence[int]) -> str:
  """(32, 32, 3) -> '32 x 32 x 3'."""
  return ' x '.join(map(str, shape))
