"""npz and npy: arrays of NumPy, memory-mapped where they lie uncompressed, never unpickled."""

import difflib
import math
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from gen_models.data.formats.base import (
  ALIASES,
  SPLITS,
  Content,
  Table,
  checked_columns,
  existing_file,
  sha256_of,
)
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

_COLUMNS = ('labels', 'weights', 'mask', 'group')
_LARGEST_COMPRESSED = 16 * 2**30  # bytes of one compressed array, which must be held whole
_SUSPICIOUS = 2**28, 900  # bytes from which a ratio near deflate's largest, 1032, is no data


def read_npy(name: Name) -> Content:
  """One array.

  Raises:
    BadData: it is no array of numbers.
  """
  path = existing_file(name)
  with open(path, 'rb') as file:
    array = _array(file, path, path.name, 0, path.stat().st_size)
  rows = _numbers(array, f'{path}')
  return Content({'all': Table(rows)}, sha256_of(path), path)


def read_npz(name: Name) -> Content:
  """Arrays `x`, or `train`, `valid` and `test`, with labels, weights, mask and group.

  Raises:
    BadData: a damaged or suspicious archive, pickled objects, arrays that do not fit together.
  """
  path = existing_file(name)
  arrays = _members(path)
  split_of = {key: ALIASES.get(key, key) for key in arrays if ALIASES.get(key, key) in SPLITS}
  if 'x' in arrays and split_of:
    raise BadData(f'{path} has both x and {", ".join(split_of)}: keep either x or the splits')
  if 'x' in arrays:
    split_of = {'x': 'all'}
  if not split_of or set(split_of.values()) in ({'valid'}, {'test'}, {'valid', 'test'}):
    raise BadData(f'{path} has no array x, and none called train; it has '
                  f'{", ".join(sorted(arrays)) or "none"}: save the rows as x, '
                  'np.savez(path, x=rows)')
  group = name.option('group', 'group')
  tables = {}
  for key, split in split_of.items():
    prefix = '' if split == 'all' else f'{key}_'
    columns: dict[str, Any] = {column: arrays.get(prefix + (group if column == 'group' else column))
               for column in _COLUMNS}
    if 'group' in name.options and columns['group'] is None:
      raise BadData(f'{path} has no array {prefix}{group}, which group={group} names')
    where = f'{path}, array {key}'
    tables[split] = checked_columns(where, Table(_numbers(arrays[key], where), **columns))
  shapes = {key: tuple(arrays[key].shape[1:]) for key in split_of}
  if len(set(shapes.values())) > 1:
    raise BadData(f'{path}: rows of different shapes: '
                  + ', '.join(f'{key} {shape}' for key, shape in shapes.items())
                  + ': save splits of the same shape')
  return Content(tables, sha256_of(path), path, remarks=_misnamed(path, arrays, split_of, group))


def _misnamed(path, arrays, split_of, group: str) -> tuple[str, ...]:
  """A line for each array that is not read, and whose name is nearly that of one that would be."""
  columns = [group if column == 'group' else column for column in _COLUMNS]
  read = {f'{"" if split == "all" else f"{key}_"}{column}'
          for key, split in split_of.items() for column in columns} | set(split_of)
  found = []
  for key in arrays:
    if key not in read and (
        near := difflib.get_close_matches(key, sorted(read - set(arrays)), n=1, cutoff=0.8)):
      found.append(f'{path} has an array {key}, which is not read; {near[0]} would be')
  return tuple(found)


def _numbers(array, where: str):
  """The array, of rows of numbers.

  Raises:
    BadData: another type, no rows, no columns or more than three axes of a row.
  """
  if array.dtype.kind not in 'biuf':
    raise BadData(f'{where} is of type {array.dtype}: rows are numbers or booleans; '
                  'convert it, x.astype(np.float32)')
  if array.ndim == 1:
    raise BadData(f'{where} has one axis, {len(array)} numbers: give one row for each example, '
                  'x[:, None] where an example is one number')
  if not 2 <= array.ndim <= 4:
    raise BadData(f'{where} has {array.ndim} axes: the first is that of rows, and a row has one '
                  '(a vector), two (a grey picture) or three (a picture with channels last)')
  if 0 in array.shape:
    raise BadData(f'{where} is empty, of shape {array.shape}: give it rows (a split that is '
                  'left out is made of those of train)')
  return array[..., None] if array.ndim == 3 else array


def _members(path: pathlib.Path) -> dict[str, Any]:
  """{name: array or memory map} of an npz."""
  try:
    with zipfile.ZipFile(path) as archive:
      return {info.filename.removesuffix('.npy'): _member(archive, info, path)
              for info in archive.infolist() if info.filename.endswith('.npy')}
  except (zipfile.BadZipFile, EOFError, struct.error, NotImplementedError, RuntimeError) as e:
    raise BadData(f'{path} is damaged or no npz ({_short(e)}): write it again with '
                  'np.savez') from e


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: pathlib.Path):
  if info.flag_bits & 1:
    raise BadData(f'{path}, {info.filename} is encrypted: write it again with np.savez')
  large, ratio = _SUSPICIOUS
  if info.file_size > _LARGEST_COMPRESSED and info.compress_type != zipfile.ZIP_STORED:
    raise BadData(f'{path}, {info.filename} holds {info.file_size / 2**30:,.0f} GiB compressed, '
                  'which would all have to be in memory: save it uncompressed with np.savez, or as '
                  'npy, and it is memory-mapped')
  if info.file_size > large and info.file_size > ratio * max(1, info.compress_size):
    raise BadData(f'{path}, {info.filename} says that {info.compress_size:,} bytes unpack to '
                  f'{info.file_size:,}, as a zip bomb would: if it is data, save it with np.savez, '
                  'uncompressed')
  with archive.open(info) as file:
    if info.compress_type == zipfile.ZIP_STORED:
      return _array(file, path, info.filename, _offset(path, info), info.file_size)
    return _array(file, path, info.filename, None, info.file_size)


def _offset(path: pathlib.Path, info: zipfile.ZipInfo) -> int:
  """Where the bytes of a stored member begin in the file."""
  with open(path, 'rb') as file:
    file.seek(info.header_offset)
    header = file.read(30)
  name, extra = struct.unpack('<HH', header[26:30])
  return info.header_offset + 30 + name + extra


def _array(file, path: pathlib.Path, member: str, offset: int | None, size: int):
  """The array of an npy in `file`; memory-mapped from `path` where `offset` is where it begins.

  Raises:
    BadData: no npy, Python objects, or other than `size` bytes.
  """
  where = f'{path}' if member == path.name else f'{path}, {member}'
  try:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
      raise ValueError(f'version {version}')
    shape, fortran, dtype = read(file)
  except ValueError as e:
    raise BadData(f'{where} is damaged or no npy ({_short(e)}): write it again with '
                  'np.save') from e
  if dtype.hasobject:
    raise BadData(f'{where} holds pickled Python objects, which are never unpickled: ragged rows '
                  'become such an array; save rows of one length as numbers')
  start = file.tell()
  if start + math.prod(shape) * dtype.itemsize != size:
    raise BadData(f'{where} is damaged: {size - start:,} bytes for {shape} of {dtype}: write it '
                  'again')
  order = 'F' if fortran else 'C'
  if offset is not None and math.prod(shape):
    return np.memmap(path, dtype, 'r', offset + start, shape, order)
  content = bytearray(size - start)
  view, done = memoryview(content), 0
  while done < len(view) and (n := file.readinto(view[done:done + 2**24])):
    done += n
  if done < len(view) or file.read(1):
    raise BadData(f'{where} is damaged: it is not as long as it says: write it again')
  return np.frombuffer(content, dtype).reshape(shape, order=order)


def _short(error: Exception) -> str:
  return ' '.join(str(error).split())[:120].rstrip(os.sep) or type(error).__name__
