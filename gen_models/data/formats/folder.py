"""folder: PNG and JPEG files; subfolders are classes, or splits, train, valid and test.

Pictures are uint8 [H, W, C] in the order [rows, columns, channels], C = 1 where all are grey. Of
another size than `size` asks for, a picture is resized with its aspect kept: `crop` fills the size
and keeps the middle, `pad` fits into it and fills up with black.
"""

import os
import pathlib
from typing import Any

import numpy as np

from gen_models.data.formats.base import (
  ALIASES,
  SPLITS,
  Content,
  Records,
  Table,
  sha256_of_files,
)
from gen_models.data.grammar import Name
from gen_models.data.specs import BadData

SUFFIXES = ('.png', '.jpg', '.jpeg')
LARGEST = 2**26  # pixels of a picture
_GREY = ('1', 'L', 'LA', 'I;16', 'I;16B', 'I', 'F')
_THREADS = 4


def read(name: Name) -> Content:
  """Opens a folder: sizes and colours come from the headers of its files.

  Raises:
    BadData: no pictures, a broken one, pictures of different sizes without `size`.
    FileNotFoundError: no such folder.
  """
  root = name.path
  if not root.is_dir():
    why = 'a file, not a folder' if root.is_file() else 'no such folder'
    raise FileNotFoundError(f'data set {name.text}: {root}: {why} (relative paths begin in '
                            f'{os.getcwd()})')
  root = root.absolute()
  found = {split: _pictures(folder) for split, folder in _splits(root).items()}
  skipped: list[str] = []
  heads: dict[pathlib.Path, tuple[int, int, bool]] = {}
  for split, paths in found.items():
    found[split] = [path for path in paths if _look(path, name, heads, skipped)]
    if not found[split]:
      raise BadData(f'{root}: no picture' + (f' in {split}' if split != 'all' else '')
                    + f': pictures are {", ".join(SUFFIXES)}')
  size = name.option('size') or _common_size(heads, root)
  colour = any(head[2] for head in heads.values())
  channels = name.option('channels') or (3 if colour else 1)
  shape = (*size, channels)
  classes = sorted({c for split, paths in found.items()
                    for c in _class_names(_splits(root)[split], paths) or ()})
  tables = {}
  for split, paths in found.items():
    names = _class_names(_splits(root)[split], paths)
    labels = (np.array([classes.index(c) for c in names], np.int32) if names else None)
    tables[split] = Table(
      Records(len(paths), shape, np.uint8, _reader(paths, shape, name.option('fit', 'crop')),
              _THREADS),
      labels, where=lambda row, paths=paths: f'picture {paths[row]}')
  remarks = ((f'{len(skipped)} broken pictures were left out, the first {skipped[0]}',) if skipped
             else ())
  return Content(tables, sha256_of_files(root, heads), root, kind='real', classes=tuple(classes),
                 remarks=remarks, decode=True)


def _splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """{split: its folder}, {'all': root} where there are none.

  Raises:
    BadData: valid or test without train, or the same split under two names.
  """
  found: dict[str, pathlib.Path] = {}
  for path in sorted(root.iterdir()):
    split = ALIASES.get(path.name, path.name)
    if path.is_dir() and split in SPLITS:
      if split in found:
        raise BadData(f'{root} has both {found[split].name} and {path.name}: keep one')
      found[split] = path
  if found and 'train' not in found:
    raise BadData(f'{root} has {", ".join(p.name for p in found.values())} but no train')
  return found or {'all': root}


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """Every picture below a folder, in order of their names; what begins with a dot is left out."""
  found = []
  for directory, folders, names in os.walk(folder):
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    found += [pathlib.Path(directory) / name for name in names
              if name.lower().endswith(SUFFIXES) and not name.startswith('.')]
  return sorted(found)


def _class_names(folder: pathlib.Path, paths) -> list[str] | None:
  """The class of every picture, its subfolder; () where none is in a subfolder.

  Raises:
    BadData: some are in subfolders and some are not.
  """
  inside = [path.relative_to(folder).parts for path in paths]
  deep = [len(parts) > 1 for parts in inside]
  if not any(deep):
    return []
  if not all(deep):
    stray = paths[deep.index(False)]
    raise BadData(f'{folder} has classes in subfolders, and {stray.name} outside of them: move it '
                  'into the folder of its class')
  return [parts[0] for parts in inside]


def _look(path: pathlib.Path, name: Name, heads: dict, skipped: list[str]) -> bool:
  """Notes (height, width, colour) of a picture by its header; False where it is left out."""
  from PIL import Image
  try:
    with Image.open(path) as picture:
      width, height = picture.size
      if width * height > LARGEST:
        raise ValueError(f'{width} x {height} pixels')
      if picture.getexif().get(274) in (5, 6, 7, 8):  # lies on its side
        width, height = height, width
      if name.option('skip'):
        picture.load()
      heads[path] = height, width, _coloured(picture)
    return True
  except Exception as e:  # of many kinds, by what is wrong in the file
    if name.option('skip'):
      skipped.append(str(path))
      return False
    raise _broken(path, e) from e


def _coloured(picture) -> bool:
  if picture.mode == 'P':
    palette = np.frombuffer(picture.getpalette('RGB') or b'', np.uint8).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())
  return picture.mode not in _GREY


def _broken(path, error: Exception) -> BadData:
  why = ' '.join(str(error).split())[:120] or type(error).__name__
  return BadData(f'{path} is no picture that can be read ({why}): repair or remove it, or add '
                 'skip=1 to the name of the data to leave such files out')


def _common_size(heads: dict, root: pathlib.Path) -> tuple[int, int]:
  """The one size of all pictures.

  Raises:
    BadData: they differ.
  """
  sizes = {path: head[:2] for path, head in heads.items()}
  first, *rest = sizes
  for path in rest:
    if sizes[path] != sizes[first]:
      (a, b), (c, d) = sizes[first], sizes[path]
      raise BadData(f'{root}: {first.relative_to(root)} is {a} x {b} pixels and '
                    f'{path.relative_to(root)} {c} x {d}: give one size, '
                    f'folder:{root}?size={min(a, b, c, d)}')
  return sizes[first]


def _reader(paths, shape, fit: str):
  """row -> its picture, uint8 of `shape`."""
  def read_row(row: int) -> np.ndarray:
    try:
      return decode(paths[row], shape, fit)
    except Exception as e:  # of many kinds, by what is wrong in the file
      raise _broken(paths[row], e) from e
  return read_row


def decode(path: str | os.PathLike, shape: tuple[int, int, int], fit: str = 'crop') -> np.ndarray:
  """A picture as uint8 [H, W, C]."""
  from PIL import Image, ImageOps
  with Image.open(path) as opened:
    if opened.size[0] * opened.size[1] > LARGEST:
      raise ValueError(f'{opened.size[0]} x {opened.size[1]} pixels')
    picture: Any = ImageOps.exif_transpose(opened)
    if picture.mode.startswith('I'):  # 16 bits, which convert('L') would clip
      picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255)
                                .astype(np.uint8))
    picture = picture.convert('L' if shape[2] == 1 else 'RGB')
    if picture.size != (shape[1], shape[0]):
      if fit == 'crop':
        picture = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.LANCZOS)
      else:
        picture = ImageOps.pad(picture, (shape[1], shape[0]), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8).reshape(shape)
