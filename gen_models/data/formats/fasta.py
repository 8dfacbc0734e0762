"""fasta: aligned sequences as categorical columns, letters numbered in the order of an alphabet."""

import pathlib

import numpy as np

from gen_models.data.formats.base import Content, Table, existing_file, sha256_of
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

ALPHABETS = {'protein': 'ACDEFGHIKLMNPQRSTVWY-', 'dna': 'ACGT-', 'rna': 'ACGU-'}
_LARGEST = 4 * 2**30  # bytes of a file


def read(name: Name) -> Content:
  """An alignment, uint8 [N, L] of letters' numbers; capitals, a dot is a gap.

  With unknown=missing an unknown letter is the number Q of letters.

  Raises:
    BadData: no alignment, an unknown letter, an alphabet that does not make sense.
  """
  path = existing_file(name)
  if path.stat().st_size > _LARGEST:
    raise BadData(f'{path} has {path.stat().st_size / 2**30:.0f} GiB: convert it to npz')
  letters_NL, lines, titles = _letters(path)
  alphabet = _alphabet(name, letters_NL)
  number = np.full(256, 255, np.uint8)
  number[list(alphabet.encode())] = np.arange(len(alphabet))
  rows_NL, remarks = number[letters_NL], ()
  unknown_NL = rows_NL == 255
  if unknown_NL.any():
    rule = name.option('unknown')
    kinds = ''.join(map(chr, np.unique(letters_NL[unknown_NL])))
    row, column = np.argwhere(unknown_NL)[0]
    if rule is None:
      raise BadData(f'{path}, line {lines[row]}: sequence {row + 1} ({titles[row]}) has the letter '
                    f'{chr(letters_NL[row, column])!r} in column {column + 1}, which is not in the '
                    f'alphabet {alphabet}: {np.count_nonzero(unknown_NL)} such letters ({kinds}); '
                    'add unknown=gap, unknown=missing or unknown=skip to the name of the data')
    count = int(np.count_nonzero(unknown_NL))
    if rule == 'skip':
      keep_N = ~unknown_NL.any(1)
      rows_NL, lines = rows_NL[keep_N], np.asarray(lines)[keep_N]
      if not len(rows_NL):
        raise BadData(f'{path}: every sequence has unknown letters ({kinds}): name the '
                      'letters with alphabet=')
      remarks = (f'{np.count_nonzero(~keep_N)} sequences with unknown letters ({kinds}) were left '
                 'out',)
    else:
      if rule == 'gap' and '-' not in alphabet:
        raise BadData(f'{path}: unknown=gap, but the alphabet {alphabet} has no gap -')
      rows_NL = np.where(unknown_NL, alphabet.find('-') if rule == 'gap' else len(alphabet),
                         rows_NL).astype(np.uint8)
      remarks = (f'{count} unknown letters ({kinds}) became '
                 + ('gaps' if rule == 'gap' else 'missing values'),)
  return Content({'all': Table(rows_NL, where=lambda row: f'the sequence in line {lines[row]}')},
                 sha256_of(path), path, tuple(alphabet), 'categorical', remarks=remarks)


def _letters(path: pathlib.Path) -> tuple[np.ndarray, list[int], list[str]]:
  """(bytes [N, L], line of each title, first word of each title)."""
  sequences: list[list[bytes]] = []
  lines, titles = [], []
  with open(path, 'rb') as file:
    for number, line in enumerate(file, 1):
      line = line.strip()
      if line.startswith(b'>'):
        sequences.append([])
        lines.append(number)
        words = line[1:].split()
        titles.append(words[0].decode(errors='replace') if words else '')
      elif line and not line.startswith(b';'):
        if not sequences:
          raise BadData(f'{path}, line {number}: a FASTA file begins with a line >title')
        sequences[-1].append(b''.join(line.split()))
  if not sequences:
    raise BadData(f'{path} has no sequences: a FASTA file begins with a line >title')
  rows = [b''.join(parts).upper().replace(b'.', b'-') for parts in sequences]
  length = len(rows[0])
  for row, line, title in zip(rows, lines, titles, strict=True):
    if len(row) != length or not row:
      raise BadData(f'{path}, line {line}: sequence {title} has {len(row)} letters and the first '
                    f'{length}: align the sequences, all of one length')
  return np.frombuffer(b''.join(rows), np.uint8).reshape(len(rows), length), lines, titles


def _alphabet(name: Name, letters_NL: np.ndarray) -> str:
  """The letters in order: those asked for, else of the first kind that has all of the file's."""
  asked = name.option('alphabet')
  if asked in ALPHABETS:
    return ALPHABETS[asked]
  if asked:
    if len(set(asked)) < max(2, len(asked)) or not asked.isascii() or not asked.isprintable():
      raise BadData(f'data set {name.text}: alphabet={asked}: give each letter once, or '
                    f'{", ".join(ALPHABETS)}')
    return asked.upper()
  there = set(map(chr, np.unique(letters_NL)))
  return next((ALPHABETS[kind] for kind in ('dna', 'rna') if there <= set(ALPHABETS[kind])),
              ALPHABETS['protein'])
