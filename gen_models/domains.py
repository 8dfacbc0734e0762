"""Domains of hyperparameters: the values that one may take, declared in its annotation.

  def experiment(*, num_hidden: PositiveInt = 16, learning_rate: NonNegative = 0.1): ...

PositiveInt is Annotated[int, Interval(1, LARGEST)]: an int to type checkers and to `experiment`.
The domain is checked where values come in, by launch.cli.hyperparameters, and never inside
`experiment`, where floats may be traced. Any object with `holds(value)` and a text that says what
it holds is a domain, so an experiment file may declare its own.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np

LARGEST = 2**20  # of counts that become sizes of arrays: above it memory ends, not patience
WIDEST = 2**16  # of layers, two of which span a matrix


class Domain(Protocol):
  """Values of one type; its text completes 'learning_rate is -1, not a float ...'."""

  def holds(self, value: Any) -> bool: ...

  def __str__(self) -> str: ...


class Interval(NamedTuple):
  """Numbers from low to high, an end left out where it is open; floats are finite in float32."""

  low: float = -math.inf
  high: float = math.inf
  open_low: bool = False
  open_high: bool = False

  def holds(self, value) -> bool:
    with np.errstate(over='ignore'):
      if isinstance(value, float) and not np.isfinite(np.float32(value)):
        return False
    above = value > self.low if self.open_low else value >= self.low
    return above and (value < self.high if self.open_high else value <= self.high)

  def __str__(self):
    low = f'{"above" if self.open_low else "at least"} {self.low:,}'
    high = f'{"below" if self.open_high else "at most"} {self.high:,}'
    ends = [end for end, bound in ((low, self.low), (high, self.high)) if math.isfinite(bound)]
    return ' and '.join(ends) or 'that is finite'


class Custom(NamedTuple):
  """Objects of a user's own: given from Python as they are, on a command line as path.py:name.

  launch turns the words into the object; the experiment gets the object, and the record the words.

  Attributes:
    take: object -> what the experiment makes of it; raises TypeError, with one line that says what
      was expected, where it can be none.
    what: the kind of object, in a few words: 'an estimator'.
  """

  take: Callable[[Any], Any]
  what: str

  def holds(self, value) -> bool:
    try:
      self.take(value)
    except TypeError:
      return False
    return True

  def __str__(self):
    return f'path.py:name of {self.what}'


class LayerSizes(NamedTuple):
  """Texts such as '500-2000', the sizes of consecutive layers.

  Attributes:
    empty: whether there may be no layer, ''.
    grouped: whether there may be several such texts with commas between.
  """

  empty: bool = False
  grouped: bool = False

  def holds(self, value) -> bool:
    groups = value.split(',') if self.grouped else [value]
    try:
      sizes = [sizes_of(group) for group in groups]
    except ValueError:
      return False
    return all((group or self.empty) and all(1 <= size <= WIDEST for size in group)
               for group in sizes)

  def __str__(self):
    example = "'200-200,100-100'" if self.grouped else "'500-2000'"
    return (f'of layer sizes such as {example}, each at least 1 and at most {WIDEST:,}'
            + (", or ''" if self.empty else ''))


class DataName(NamedTuple):
  """Names of data: sets that come with the project, or SCHEME:WHERE (data/grammar.py).

  Whether there are such data is for the experiment to say, which has near names to offer.

  Attributes:
    schemes: of one's own data.
  """

  schemes: tuple[str, ...] = ('npz', 'npy', 'folder', 'fasta', 'csv', 'parquet', 'tfds')

  def holds(self, value) -> bool:
    scheme, colon, where = value.partition(':')
    return bool(where and scheme in self.schemes if colon else value.isidentifier())

  def __str__(self):
    return 'that names data: digits, mnist, .. or ' + ', '.join(
      f'{scheme}:{"NAME" if scheme == "tfds" else "PATH"}' for scheme in self.schemes)


class Text(NamedTuple):
  """Any text.

  Attributes:
    what: the meaning of it, in a few words.
  """

  what: str = ''

  def holds(self, value) -> bool:
    return True

  def __str__(self):
    return f'that is {self.what or "any text"}'


PositiveInt = Annotated[int, Interval(1, LARGEST)]
AtLeastTwo = Annotated[int, Interval(2, LARGEST)]  # samples of which an error is to be known
NonNegativeInt = Annotated[int, Interval(0, LARGEST)]
Width = Annotated[int, Interval(1, WIDEST)]
NumUpdates = Annotated[int, Interval(1, 2**31 - 1)]  # keys of updates are folded from 31 bits
Positive = Annotated[float, Interval(0, open_low=True)]
NonNegative = Annotated[float, Interval(0)]
Fraction = Annotated[float, Interval(0, 1)]
Decay = Annotated[float, Interval(0, 1, open_high=True)]  # of a moving average; 1 never forgets
Share = Annotated[float, Interval(0, 1, open_high=True)]  # of units left out; 1 leaves none
Real = Annotated[float, Interval()]
Layers = Annotated[str, LayerSizes()]
OptionalLayers = Annotated[str, LayerSizes(empty=True)]
DatasetName = Annotated[str, DataName()]
OptionalPath = Annotated[str, Text("the path of a file, or ''")]
LayerGroups = Annotated[str, LayerSizes(empty=True, grouped=True)]


def sizes_of(text: str) -> tuple[int, ...]:
  """'500-2000' -> (500, 2000); '' -> ().

  Raises:
    ValueError: not numbers joined by dashes.
  """
  try:
    return tuple(int(size) for size in text.split('-')) if text else ()
  except ValueError as error:
    raise ValueError(f'layers are sizes joined by dashes, 500-2000, not {text!r}') from error
