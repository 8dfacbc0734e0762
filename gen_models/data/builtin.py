"""The data sets that come with the project, and the formats of those that are prepared elsewhere.

A built-in set is made of nothing but its name, the same every time: {split: (rows, labels)}.

Axis suffixes: N rows, V pixels, K clusters, M modes, D dimensions.
"""

import gzip
import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gen_models.data.specs import Spec

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def _format(shape, levels, rows, num_classes=10) -> Spec:
  return Spec('', (*shape, 1) if len(shape) == 2 else shape, levels=levels,
              kind='real' if levels > 1 else 'binary', num_classes=num_classes,
              rows=dict(zip(('train', 'valid', 'test'), rows, strict=True)))


def _joined(spec: Spec) -> Spec:
  rows = spec.rows
  return spec._replace(rows=dict(rows, train=rows['train'] + rows['valid']),
                       repeated={'valid': rows['valid']})


_MNIST, _POINTS = (50_000, 10_000, 10_000), (100_000, 2500, 2500)
FORMATS = {
    'digits': _format((8, 8), 16, (1297, 200, 300)),
    'grid25': _format((2, 2), 255, _POINTS, 25),
    'ring8': _format((2, 2), 255, _POINTS, 8),
    'stacked_digits': _format((8, 8, 3), 16, (10_000, 1000, 1000), 1000),
    'stacked_mnist': _format((28, 28, 3), 255, (128_000, 10_000, 10_000), 1000),
    'clusters': _format((10, 10), 1, (5000, 1000, 2000), 3),
    'mnist': _format((28, 28), 255, _MNIST),
    'fashion_mnist': _format((28, 28), 255, _MNIST),
    'binarized_mnist': _format((28, 28), 1, _MNIST, None),
    'mnist_60000': _joined(_format((28, 28), 255, _MNIST)),
    'fashion_mnist_60000': _joined(_format((28, 28), 255, _MNIST)),
}
JOINED = {'mnist_60000': 'mnist',  # name -> whose train and valid are its train
          'fashion_mnist_60000': 'fashion_mnist'}
STACKS = {'stacked_digits': 'digits', 'stacked_mnist': 'mnist'}  # name -> of whose rows


class Modes(NamedTuple):
  """Means [M, D] of equally likely Gaussians, and their common standard deviation."""

  mean_MD: np.ndarray
  sigma: float


_ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = {
    'grid25': Modes(2.0 * np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]), 0.05),
    'ring8': Modes(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1), 0.01),
}


def digits() -> Splits:
  """1797 scikit-learn digits in one fixed shuffled order (RandomState streams never change)."""
  # The file that sklearn.datasets.load_digits reads: to import scikit-learn takes a second.
  package = importlib.metadata.distribution('scikit-learn')
  with gzip.open(str(package.locate_file('sklearn/datasets/data/digits.csv.gz'))) as file:
    rows = np.loadtxt(file, delimiter=',', dtype=np.int32)
  rows = rows[np.random.RandomState(0).permutation(len(rows))]
  return _cut('digits', rows[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1), rows[:, -1])


def stacked(name: str, splits: Splits) -> Splits:
  """Three pictures of one split as the channels of one, the same ones every time.

  The label is 100 y_1 + 10 y_2 + y_3: a model that has all of the data's modes draws 1000 classes
  (Che et al., 2017, made of MNIST; here of the embedded digits too).

  Args:
    name: of the stack.
    splits: of the grey pictures it is made of.
  """
  draws, found = np.random.RandomState(0), {}
  for split, num in FORMATS[name].rows.items():
    rows, labels = splits[split]
    index = draws.randint(len(rows), size=(num, 3))
    found[split] = (np.ascontiguousarray(rows[index, :, :, 0].transpose(0, 2, 3, 1)),
                    (labels[index] @ [100, 10, 1]).astype(np.int32))
  return found


def grid25() -> Splits:
  """Points N((2i, 2j), 0.05^2 I), i and j in -2 .. 2, labelled 5i + j + 12 (Lin et al., 2018)."""
  return _around('grid25')


def ring8() -> Splits:
  """Points N((cos(2 pi i / 8), sin(2 pi i / 8)), 0.01^2 I), labelled i (Lin et al., 2018)."""
  return _around('ring8')


def _around(name: str) -> Splits:
  """Points of equally likely Gaussians, labelled by their mode.

  The two rows of an "image" are the coordinates, as fixed-point numbers of two bytes that `points`
  reads: a resolution of 1.5e-4. There 7 points of grid25's test and 6 of its valid coincide with
  one of train, as 7.4 of 2,500 independent draws are expected to: the 4,000 training points of a
  mode lie among 1.3 million cells, 4 pi (sigma / resolution)^2. Of ring8 468 and 483
  coincide, because its modes are fewer and narrower. Without them a split would no longer be one of
  independent draws, and no score looks for a point again.
  """
  draws, modes = np.random.RandomState(0), MODES[name]
  labels = draws.randint(len(modes.mean_MD), size=sum(_POINTS)).astype(np.int32)
  x_ND = modes.mean_MD[labels] + modes.sigma * draws.standard_normal((len(labels), 2))
  images = np.round((x_ND + 5) / 10 * 65535).astype('>u2').view(np.uint8).reshape(-1, 2, 2, 1)
  return _cut(name, images, labels)


def points(x_NV):
  """Points [N, 2] of the images of grid25 and ring8 as vectors of bytes / 255, [N, 4]."""
  return 10 * (256 * x_NV[:, ::2] + x_NV[:, 1::2]) / 257 - 5


def clusters() -> Splits:
  """Rows of 100 bits in three clusters far apart, 60, 30 and 10 % of the rows, labelled 0 to 2.

  The centre of a cluster is a fair coin for each column; of half of its rows, twelve columns that
  are the cluster's own are the other way round; and every bit is flipped with probability 0.06. Two
  centres differ in about 50 columns, two rows of a cluster in 17: Gibbs chains of a machine that
  has learned them hardly ever cross. Of the kind on which Bereux et al. (2025), Fast training and
  sampling of restricted Boltzmann machines, show where persistent chains fail.
  """
  draws = np.random.RandomState(0)
  centres_KV = draws.randint(2, size=(3, 100))
  turned_KV = np.stack([draws.permutation(100) < 12 for _ in range(3)])
  found = {}
  for split, num in FORMATS['clusters'].rows.items():
    labels = draws.choice(3, size=num, p=[0.6, 0.3, 0.1]).astype(np.int32)
    turned_NV = turned_KV[labels] & draws.randint(2, size=(num, 1)).astype(bool)
    flipped_NV = draws.uniform(size=(num, 100)) < 0.06
    rows_NV = centres_KV[labels] ^ turned_NV ^ flipped_NV
    found[split] = rows_NV.astype(np.uint8).reshape(-1, 10, 10, 1), labels
  return found


def _cut(name: str, rows: np.ndarray, labels: np.ndarray) -> Splits:
  """Rows in the order of the splits, as many of each as the format says."""
  ends = np.cumsum(list(FORMATS[name].rows.values()))
  return {split: (rows[end - num:end], labels[end - num:end])
          for end, (split, num) in zip(ends, FORMATS[name].rows.items(), strict=True)}


SETS: dict[str, Callable[[], Splits]] = {
    'digits': digits, 'grid25': grid25, 'ring8': ring8,
    'stacked_digits': lambda: stacked('stacked_digits', digits()), 'clusters': clusters}
