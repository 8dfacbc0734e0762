"""Splits that a file does not have, made by a rule, the same every time.

  random    rows in a random order: the first share is test, the next valid
  blocks    time is cut into blocks of consecutive rows, and whole blocks are drawn
  clusters  clusters of similar sequences stay together
  group     rows of one value of a column stay together

Of clusters and groups the greatest that would not fit stay in train.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from gen_models.data.specs import BadData


def shares(num: int, valid: float, test: float) -> tuple[int, int]:
  """(rows of valid, rows of test), at least one each.

  Raises:
    BadData: train would be empty.
  """
  num_valid, num_test = (max(1, round(share * num)) if share else 0 for share in (valid, test))
  if num_valid + num_test >= num:
    raise BadData(f'{num} rows cannot be split into train, valid and test: give more rows, or a '
                  'file with the splits')
  return num_valid, num_test


def random(num: int, valid: float, test: float, seed: int) -> dict[str, np.ndarray]:
  """{split: rows, ascending}."""
  num_valid, num_test = shares(num, valid, test)
  order = np.random.RandomState(seed).permutation(num)
  return {'train': np.sort(order[num_valid + num_test:]),
          'valid': np.sort(order[num_test:num_test + num_valid]), 'test': np.sort(order[:num_test])}


def blocks(num: int, valid: float, test: float, seed: int, count: int) -> dict[str, np.ndarray]:
  """{split: rows, ascending}, of `count` blocks of consecutive rows.

  Raises:
    BadData: fewer rows than blocks, or no block left for train.
  """
  if num < count:
    raise BadData(f'{num} rows are fewer than {count} blocks: give blocks=, at most {num}')
  of_row = np.arange(num) * count // num
  return {split: np.flatnonzero(np.isin(of_row, chosen))
          for split, chosen in random(count, valid, test, seed).items()}


def together(group_N: np.ndarray, valid: float, test: float, seed: int,
             what: str) -> dict[str, np.ndarray]:
  """{split: rows, ascending}, rows of the same group in the same split.

  Args:
    group_N: number of each row's group.
    valid, test: shares of the rows.
    seed: of the order in which groups are taken.
    what: 'clusters' or 'groups', for messages.

  Raises:
    BadData: a split stays empty.
  """
  _, group_N, sizes = np.unique(group_N, return_inverse=True, return_counts=True)
  if len(sizes) < 3:
    raise BadData(f'{len(sizes)} {what} cannot be split into train, valid and test: at least 3 '
                  'are needed; split=random splits rows')
  left = dict(zip(('valid', 'test'), shares(len(group_N), valid, test), strict=True))
  left = {split: n for split, n in left.items() if n}
  of_group = np.zeros(len(sizes), int)
  order = np.random.RandomState(seed).permutation(len(sizes))
  for number, split in enumerate(('test', 'valid'), 1):
    if split not in left:
      continue
    for g in order:
      if not of_group[g] and sizes[g] <= left[split]:
        of_group[g] = number
        left[split] -= sizes[g]
    if not (of_group == number).any():
      smallest = min((g for g in order if not of_group[g]), key=lambda g: sizes[g])
      of_group[smallest] = number
  if (of_group == 0).sum() == 0:
    raise BadData(f'{len(sizes)} {what} leave nothing for train: give smaller shares')
  return {split: np.flatnonzero(of_group[group_N] == number)
          for number, split in enumerate(('train', 'test', 'valid'))
          if split == 'train' or split in left}


def repeated(rows: Callable[[str], np.ndarray], splits) -> dict[str, int]:
  """{split: how many of its rows are rows of train too}, of `rows(split)`, any arrays."""
  train = _hashes(rows('train'))
  return {split: sum(h in train for h in _each(rows(split)))
          for split in splits if split != 'train'}


def _each(rows):
  for row in rows:
    yield hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest()


def _hashes(rows) -> set[bytes]:
  return set(_each(rows))
