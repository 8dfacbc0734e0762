"""The grammar of names of data.

  NAME                          one that comes with the project, see sources.py
  SCHEME:WHERE[?OPTION=VALUE[&OPTION=VALUE ..]]

| name                         | data                                                           |
|------------------------------|----------------------------------------------------------------|
| digits, mnist, ..            | the sets of sources.py                                         |
| tfds:NAME[/CONFIG][:VERSION] | a prepared tfds set of array_record files: image, tensor, or   |
|                              | sequence of fixed length                                       |
| npz:PATH                     | arrays `x`, or `train`, `valid`, `test`; `labels`, `weights`,  |
|                              | `mask`, `group`, of splits `train_labels` and so on            |
| npy:PATH                     | one array, rows along its first axis                           |
| folder:PATH                  | PNG and JPEG; subfolders are classes, subfolders train, valid  |
|                              | and test are splits                                            |
| fasta:PATH                   | aligned sequences: categorical columns                         |
| csv:PATH, parquet:PATH       | columns of numbers, or of words                                |

| option   | of             | meaning                                                            |
|----------|----------------|--------------------------------------------------------------------|
| split    | all            | random, blocks, clusters or group: how splits are made that the    |
|          |                | file does not have; default random, of sequences clusters          |
| seed     | all            | of that split, default 0                                           |
| valid    | all            | share of rows in valid, default 0.1                                |
| test     | all            | share of rows in test, default 0.1                                 |
| blocks   | all            | number of blocks of consecutive rows of split=blocks, default 20   |
| cluster  | fasta          | identity from which sequences share a cluster, default 0.8         |
| group    | npz, tables    | array or column whose equal values stay together; where there is   |
|          |                | one, also an array called group, the default is split=group        |
| kind     | npz, npy, tfds,| binary, real, categorical or counts, instead of what the values    |
|          | tables         | say                                                                |
| levels   | npz, npy, tfds | the integer that stands for 1.0 in pictures, default 255           |
| scale    | of real values | range (least and greatest become 0 and 1; the default unless all   |
|          |                | values lie there), normalise (mean 0 and variance 1 of each column |
|          |                | in train) or none                                                  |
| size     | folder         | 32 or 32x24 (height x width): pictures are resized, aspect kept    |
| fit      | folder         | crop (the middle of them, the default) or pad (black around them)  |
| channels | folder         | 1 or 3; default 3 where any picture is in colour                   |
| skip     | folder         | 1: broken pictures are left out and counted                        |
| identity | fasta          | rows weigh one over the number of sequences at least so identical  |
| unknown  | fasta          | gap, missing or skip (the sequence): what unknown letters become   |
| alphabet | fasta          | protein, dna, rna or the letters; default by what the file has     |
| columns  | tables         | those to read, a,b,c; default all others                           |
| label    | tables, tfds   | column or feature of classes; of tfds by default `label`           |
| weights  | tables         | column of weights of rows                                          |
| feature  | tfds           | feature with the rows, where there are several                     |

Tables are csv and parquet. Relative paths begin where the command was started; the run directory
records the absolute one beside the name as it was given.
"""

import difflib
import pathlib
from typing import Any, NamedTuple

from gen_models.data.specs import KINDS, BadData

RULES = ('random', 'blocks', 'clusters', 'group')
SCALES = ('range', 'normalise', 'none')


class Name(NamedTuple):
  """A name of the grammar, taken apart.

  Attributes:
    text: all of it.
    scheme: what is before the colon.
    where: path, or name of a tfds set.
    options: what is after the question mark, as values.
  """

  text: str
  scheme: str
  where: str
  options: dict[str, Any]

  @property
  def path(self) -> pathlib.Path:
    """The file or folder."""
    return pathlib.Path(self.where).expanduser()

  def option(self, name: str, default: Any = None) -> Any:
    """Its value, or the default."""
    return self.options.get(name, default)


def _share(text):
  value = float(text)
  if not 0 < value < 1:
    raise ValueError
  return value


def _identity(text):
  value = float(text)
  if not 0 < value <= 1:
    raise ValueError
  return value


def _whole(least):
  def read(text):
    value = int(text)
    if value < least:
      raise ValueError
    return value
  return read


def _within(value, low, high):
  if not low <= value <= high:
    raise ValueError
  return value


def _one_of(*values):
  def read(text):
    if text not in values:
      raise ValueError
    return text
  return read


def _size(text):
  sides = tuple(map(int, text.lower().split('x')))
  if len(sides) not in (1, 2) or not all(1 <= side <= 2**14 for side in sides):
    raise ValueError
  return sides * 2 if len(sides) == 1 else sides


def _text(text):
  if not text:
    raise ValueError
  return text


_EVERY = ('npz', 'npy', 'folder', 'fasta', 'csv', 'parquet', 'tfds')
_TABLES = ('csv', 'parquet')
_NUMBERS = ('npz', 'npy', 'csv', 'parquet', 'tfds')
# Option -> (schemes, reader, what it takes).
OPTIONS: dict[str, tuple[tuple[str, ...], Any, str]] = {
  'split': (_EVERY, _one_of(*RULES), ' | '.join(RULES)),
  'seed': (_EVERY, _whole(0), 'a whole number'),
  'valid': (_EVERY, _share, 'a share between 0 and 1'),
  'test': (_EVERY, _share, 'a share between 0 and 1'),
  'blocks': (_EVERY, _whole(3), 'a whole number, at least 3'),
  'cluster': (('fasta',), _identity, 'an identity in (0, 1]'),
  'group': (('npz', *_TABLES), _text, 'the name of an array or column'),
  'kind': (_NUMBERS, _one_of(*KINDS), ' | '.join(KINDS)),
  'levels': (('npz', 'npy', 'tfds'), lambda text: _within(int(text), 1, 255),
             'a whole number from 1 to 255'),
  'scale': (_NUMBERS, _one_of(*SCALES), ' | '.join(SCALES)),
  'size': (('folder',), _size, 'a side such as 32, or 32x24 (height x width)'),
  'fit': (('folder',), _one_of('crop', 'pad'), 'crop | pad'),
  'channels': (('folder',), lambda text: int(_one_of('1', '3')(text)), '1 | 3'),
  'skip': (('folder',), lambda text: _one_of('0', '1')(text) == '1', '0 | 1'),
  'identity': (('fasta',), _identity, 'an identity in (0, 1]'),
  'unknown': (('fasta',), _one_of('gap', 'missing', 'skip'), 'gap | missing | skip'),
  'alphabet': (('fasta',), _text, 'protein | dna | rna, or the letters'),
  'columns': (_TABLES, lambda text: tuple(filter(None, text.split(','))), 'names such as a,b'),
  'label': ((*_TABLES, 'tfds'), _text, 'the name of a column or feature'),
  'weights': (_TABLES, _text, 'the name of a column'),
  'feature': (('tfds',), _text, 'the name of a feature'),
}
SCHEMES = _EVERY


def is_own(text: str) -> bool:
  """Whether a name has a scheme, as those of own data do."""
  return text.partition(':')[0] in SCHEMES and ':' in text


def parse(text: str) -> Name:
  """Takes a name of own data apart.

  Raises:
    BadData: it is no name of the grammar; the message says why.
  """
  scheme, _, rest = text.partition(':')
  where, _, query = rest.partition('?')
  if not where:
    raise BadData(f'data set {text!r}: name what to read, {scheme}:'
                  + ('NAME' if scheme == 'tfds' else 'PATH'))
  options: dict[str, Any] = {}
  for word in filter(None, query.split('&')):
    name, _, value = word.partition('=')
    known = [option for option, (schemes, *_) in OPTIONS.items() if scheme in schemes]
    if name not in known:
      near = difflib.get_close_matches(name, known, n=2)
      raise BadData(f'data set {text!r}: {scheme} has no option {name!r}; '
                    + (f'did you mean {" or ".join(near)}?' if near else
                       f'it has {", ".join(known)}'))
    if name in options:
      raise BadData(f'data set {text!r}: {name} is given twice: give it once')
    _, read, what = OPTIONS[name]
    try:
      options[name] = read(value)
    except ValueError:
      raise BadData(f'data set {text!r}: {name}={value} is not {what}') from None
  if options.get('valid', 0.1) + options.get('test', 0.1) >= 1:
    raise BadData(f'data set {text!r}: valid and test leave nothing for train: give shares whose '
                  'sum is below 1')
  return Name(text, scheme, where, options)
