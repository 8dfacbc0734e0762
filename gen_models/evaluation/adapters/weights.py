"""Files of weights as arrays by name; no code in them is executed.

  safetensors   as any library writes them
  npz           arrays under their names, without objects
  pth, pt       a state dict that torch.save wrote, in the archive of torch 1.6 and later or in the
                stream of earlier ones

The last kind is a pickle, which is a program. It is not run: its instructions are parsed and those
that put together containers, numbers and tensors are followed here. Of the names in it four are
understood, an ordered dict and the functions that build a tensor, and they stand for data; whatever
else it asks for is refused.
"""

import hashlib
import io
import math
import os
import pickletools
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gen_models import files

LARGEST = 2**33  # bytes of a file that is read
_MAGIC, _PROTOCOL = 0x1950a86a20f9469cfc6c, 1001
_DTYPES = {'FloatStorage': np.dtype('<f4'), 'DoubleStorage': np.dtype('<f8'),
           'HalfStorage': np.dtype('<f2'), 'BFloat16Storage': np.dtype(jnp.bfloat16),
           'LongStorage': np.dtype('<i8'), 'IntStorage': np.dtype('<i4'),
           'ShortStorage': np.dtype('<i2'), 'CharStorage': np.dtype('i1'),
           'ByteStorage': np.dtype('u1'), 'BoolStorage': np.dtype('?')}


class Unreadable(ValueError):
  """A file holds no weights that could be read, or other ones than were asked for."""


class Weights(NamedTuple):
  """The arrays of a file by name, and the sha256 of the file."""

  arrays: dict[str, np.ndarray]
  sha256: str


def read(path: str | os.PathLike) -> Weights:
  """The weights of a file, which may come from anyone.

  Raises:
    Unreadable: it is no such file.
    OSError: it cannot be read, or is longer than LARGEST.
  """
  content = files.read_bytes(path, LARGEST)
  try:
    arrays = _arrays(content)
  except Unreadable:
    raise
  except Exception as e:  # damaged in any of many ways
    why = ' '.join(str(e).split())[:200] or type(e).__name__
    raise Unreadable(f'it is no file of weights ({why})') from None
  if not arrays:
    raise Unreadable('it holds no arrays')
  return Weights(arrays, hashlib.sha256(content).hexdigest())


def check(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
  """Raises Unreadable where an array is missing or of another shape; further ones are ignored."""
  if missing := [name for name in shapes if name not in arrays]:
    raise Unreadable(f'it has no {missing[0]} (and {len(missing) - 1} more are missing)')
  for name, shape in shapes.items():
    if arrays[name].shape != shape:
      raise Unreadable(f'{name} has shape {arrays[name].shape}, expected {shape}')


def _arrays(content: bytes) -> dict[str, np.ndarray]:
  if zipfile.is_zipfile(io.BytesIO(content)):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')
                 or name == 'data.pkl']
      if pickles:
        return _of_archive(archive, pickles[0].removesuffix('data.pkl'))
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      return {name: arrays[name] for name in arrays.files}
  if content[:1] == b'\x80':  # how a pickle begins
    return _of_stream(io.BytesIO(content))
  from safetensors import numpy as safetensors
  return safetensors.load(content)


def _of_archive(archive: zipfile.ZipFile, root: str) -> dict[str, np.ndarray]:
  """torch.save since 1.6: data.pkl, and a member data/KEY for the bytes of each storage."""
  names = set(archive.namelist())
  if f'{root}byteorder' in names and archive.read(f'{root}byteorder').strip() != b'little':
    raise Unreadable('its numbers are in the order of bytes of another kind of machine')
  storages: dict[str, np.ndarray] = {}

  def storage(dtype, key, count):
    if key not in storages:
      member = archive.getinfo(f'{root}data/{key}')
      if member.file_size > LARGEST:
        raise Unreadable('a storage in it is too large')
      storages[key] = np.frombuffer(archive.read(member), dtype, count)
    return storages[key]

  return _named(_unpickle(io.BytesIO(archive.read(f'{root}data.pkl')), storage))


def _of_stream(stream: io.BytesIO) -> dict[str, np.ndarray]:
  """torch.save before 1.6: five pickles, then for each storage its length and its bytes."""
  if _unpickle(stream) != _MAGIC or _unpickle(stream) != _PROTOCOL:
    raise Unreadable('it is a pickle, and none that torch.save wrote')
  if not _unpickle(stream).get('little_endian', True):
    raise Unreadable('its numbers are in the order of bytes of another kind of machine')
  lazy: dict[str, list] = {}  # where the tensors are read, the storages are not there yet

  def storage(dtype, key, count):
    return lazy.setdefault(key, [dtype, count, None])

  pending = _unpickle(stream, storage)
  for key in _unpickle(stream):
    dtype, count, _ = lazy[key]
    if int.from_bytes(stream.read(8), 'little') != count:
      raise Unreadable('its storages are of other lengths than its tensors say')
    lazy[key][2] = np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)
  return _named(pending)


class _Tensor(NamedTuple):
  storage: Any
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def array(self) -> np.ndarray:
    values = self.storage if isinstance(self.storage, np.ndarray) else self.storage[2]
    last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
    if min((self.offset, *self.shape, *self.strides)) < 0 or (
        math.prod(self.shape) > len(values) or (math.prod(self.shape) and last >= len(values))):
      raise Unreadable('a tensor in it reaches beyond its storage')
    return np.array(np.lib.stride_tricks.as_strided(
      values[self.offset:], self.shape, [s * values.itemsize for s in self.strides]))


_TENSORS = ('torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_tensor')
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY: dict[str, type] = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_LITERALS = ('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE',
             'SHORT_BINUNICODE', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES')


class _Name(str):
  """A global that a pickle names, 'module name'; it is never looked up."""


def _unpickle(stream: io.BytesIO, storage=None) -> Any:
  """What one pickle of the stream describes; `storage` is called as (dtype, key, count)."""
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[Any, Any] = {}

  def marked():
    start = marks.pop()
    values = stack[start:]
    del stack[start:]
    return values

  for operation, argument, _ in pickletools.genops(stream):
    name = operation.name
    if name in ('PROTO', 'FRAME'):
      continue
    if name == 'STOP':
      return stack.pop()
    if name == 'MARK':
      marks.append(len(stack))
    elif name in _LITERALS:
      stack.append(argument)
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
      stack.append(_EMPTY[name]())
    elif name in ('BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      memo[len(memo) if argument is None else argument] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
      stack.append(memo[argument])
    elif name == 'TUPLE':
      stack.append(tuple(marked()))
    elif name in _TUPLES:
      stack[-_TUPLES[name]:] = [tuple(stack[-_TUPLES[name]:])]
    elif name in ('SETITEM', 'SETITEMS'):
      pairs = marked() if name == 'SETITEMS' else [stack.pop(-2), stack.pop()]
      stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
    elif name in ('APPEND', 'APPENDS'):
      values = marked() if name == 'APPENDS' else [stack.pop()]
      stack[-1].extend(values)
    elif name == 'GLOBAL':
      stack.append(_Name(argument))
    elif name == 'STACK_GLOBAL':
      stack.append(_Name(f'{stack.pop(-2)} {stack.pop()}'))
    elif name == 'BINPERSID':
      stack.append(_persistent(stack.pop(), storage))
    elif name == 'REDUCE':
      stack.append(_built(stack.pop(-2), stack.pop()))
    elif name == 'BUILD':
      stack.pop()  # attributes of a state dict, such as the versions of its modules
    else:
      raise Unreadable(f'its pickle has the instruction {name}, which is not executed')
  raise Unreadable('its pickle does not end')


def _built(name: Any, arguments: tuple) -> Any:
  """The data that a call in a pickle stands for."""
  if name in _TENSORS:
    storage, offset, shape, strides, *_ = arguments
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
  if name == 'torch._utils _rebuild_parameter':
    return arguments[0]
  if name == 'collections OrderedDict':
    return dict(*arguments)
  raise Unreadable(f'its pickle asks for {str(name).replace(" ", ".")}, which is not executed')


def _persistent(pid: tuple, storage) -> Any:
  """The storage of a reference ('storage', type, key, device, count, ..)."""
  module, _, kind = str(pid[1]).partition(' ')
  if storage is None or pid[0] != 'storage' or module not in ('torch', 'torch.storage') or (
      kind not in _DTYPES):
    raise Unreadable('its pickle refers to something that is no storage of numbers')
  return storage(_DTYPES[kind], str(pid[2]), int(pid[4]))


def _named(found: Any) -> dict[str, np.ndarray]:
  """The tensors of a state dict, or of one that lies under 'state_dict' or 'model'."""
  for name in ('state_dict', 'model'):
    if isinstance(found, dict) and isinstance(found.get(name), dict):
      found = found[name]
  if not isinstance(found, dict):
    raise Unreadable('it is no state dict: save model.state_dict()')
  return {str(name): one.array() for name, one in found.items() if isinstance(one, _Tensor)}
