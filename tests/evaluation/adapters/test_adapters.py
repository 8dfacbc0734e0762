"""Networks with supplied weights: reading them, pixels, and blocks against NumPy."""

import collections
import io
import math
import pickle
import sys
import types
import zipfile

import jax
import numpy as np
import PIL.Image
import pytest

from gen_models.evaluation import adapters
from gen_models.evaluation.adapters import dinov2, inception, pixels, weights

RNG = np.random.default_rng(0)


# Files of weights. These write what torch.save writes, so torch need not be here.


class Storage:
  """Stands for a typed storage of torch."""

  def __init__(self, values):
    self.values = np.asarray(values)


@pytest.fixture
def torch_names(monkeypatch):
  """The names that a pickle of torch refers to, as modules that pickle finds."""
  utils, torch = types.ModuleType('torch._utils'), types.ModuleType('torch')

  def _rebuild_tensor_v2():
    raise AssertionError('only written, never called')

  class FloatStorage:
    pass

  class LongStorage:
    pass

  for module, thing in ((utils, _rebuild_tensor_v2), (torch, FloatStorage), (torch, LongStorage)):
    thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
    setattr(module, thing.__name__, thing)
  torch._utils = utils
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'torch._utils', utils)
  return torch


class Rebuilt:
  """A tensor as torch pickles it."""

  def __init__(self, torch, *arguments):
    self.torch, self.arguments = torch, arguments

  def __reduce__(self):
    return self.torch._utils._rebuild_tensor_v2, self.arguments


def dumped(thing, torch, keys, stream=False) -> bytes:
  """A pickle in which storages are references."""
  out = io.BytesIO()

  class Pickler(pickle.Pickler):

    def persistent_id(self, obj):
      if not isinstance(obj, Storage):
        return None
      kind = torch.FloatStorage if obj.values.dtype == np.float32 else torch.LongStorage
      return ('storage', kind, keys[id(obj)], 'cpu', obj.values.size, *([None] if stream else []))

  Pickler(out, 2).dump(thing)
  return out.getvalue()


def state(torch, shape=(2, 3), strides=(1, 2), offset=1):
  floats, longs = Storage(np.arange(8, dtype=np.float32)), Storage(np.arange(2))
  found = collections.OrderedDict(
    a=Rebuilt(torch, floats, offset, shape, strides, False, collections.OrderedDict()),
    b=Rebuilt(torch, floats, 0, (2,), (4,), False, collections.OrderedDict()),
    c=Rebuilt(torch, longs, 0, (), (), False, collections.OrderedDict()))
  return found, {id(floats): '0', id(longs): '1'}, [floats, longs]


def as_archive(torch, **options) -> bytes:
  found, keys, storages = state(torch, **options)
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    archive.writestr('net/data.pkl', dumped(found, torch, keys))
    archive.writestr('net/byteorder', 'little')
    for storage in storages:
      archive.writestr(f'net/data/{keys[id(storage)]}', storage.values.tobytes())
  return out.getvalue()


def as_stream(torch, **options) -> bytes:
  found, keys, storages = state(torch, **options)
  head = (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True})
  return b''.join([*(pickle.dumps(part, 2) for part in head), dumped(found, torch, keys, True),
                   pickle.dumps(['0', '1'], 2)]
                  + [s.values.size.to_bytes(8, 'little') + s.values.tobytes() for s in storages])


@pytest.mark.parametrize('write', [as_archive, as_stream])
def test_state_dicts_of_torch_are_read_without_it(write, torch_names, tmp_path):
  path = tmp_path / 'weights.pth'
  path.write_bytes(write(torch_names))
  read = weights.read(path)
  assert list(read.arrays) == ['a', 'b', 'c'] and len(read.sha256) == 64
  np.testing.assert_array_equal(read.arrays['a'], [[1, 3, 5], [2, 4, 6]])
  np.testing.assert_array_equal(read.arrays['b'], [0, 4])
  assert read.arrays['c'] == 0 and read.arrays['c'].dtype == np.int64
  for beyond in (dict(offset=4), dict(strides=(-1, 2)), dict(shape=(2, 9), strides=(0, 0))):
    path.write_bytes(write(torch_names, **beyond))
    with pytest.raises(weights.Unreadable, match='beyond its storage'):
      weights.read(path)


def test_no_code_in_a_pickle_is_executed(tmp_path):
  mark, path = tmp_path / 'mark', tmp_path / 'evil.pth'

  class Evil:

    def __reduce__(self):
      return open, (str(mark), 'w')

  evil = pickle.dumps({'a': Evil()}, 2)
  out = io.BytesIO()
  with zipfile.ZipFile(out, 'w') as archive:
    archive.writestr('data.pkl', evil)
  for content in (evil, out.getvalue()):
    path.write_bytes(content)
    with pytest.raises(weights.Unreadable, match=r'io\.open, which is not executed'):
      weights.read(path)
  np.savez(tmp_path / 'objects.npz', a=np.array([Evil()], object))
  with pytest.raises(weights.Unreadable, match='no file of weights'):
    weights.read(tmp_path / 'objects.npz')
  assert not mark.exists()


def test_arrays_of_npz_and_safetensors(tmp_path):
  from safetensors import numpy as safetensors
  arrays = {'x.weight': RNG.normal(size=(2, 3)).astype(np.float32)}
  np.savez(tmp_path / 'a.npz', **arrays)
  safetensors.save_file(arrays, tmp_path / 'a.safetensors')
  for name in ('a.npz', 'a.safetensors'):
    np.testing.assert_array_equal(weights.read(tmp_path / name).arrays['x.weight'],
                                  arrays['x.weight'])
  (tmp_path / 'b.npz').write_bytes(b'nothing of the kind')
  with pytest.raises(weights.Unreadable, match='no file of weights'):
    weights.read(tmp_path / 'b.npz')


def test_absent_or_other_weights_are_one_line_that_names_the_file_expected(tmp_path):
  with pytest.raises(adapters.Unreadable, match='91c5') as caught:
    adapters.load('inception', tmp_path / '91c5.pth')
  line = str(caught.value)
  assert '\n' not in line and '95,628,359 bytes' in line and '6726825d0af5f729' in line
  np.savez(tmp_path / 'other.npz', **{'fc.weight': np.zeros((1000, 2048))})
  with pytest.raises(adapters.Unreadable, match=r'has no Conv2d_1a_3x3\.conv\.weight .* expected'):
    adapters.load('inception', tmp_path / 'other.npz')
  with pytest.raises(adapters.Unreadable, match='no network'):
    adapters.load('vgg', tmp_path / 'other.npz')


# Pixels.


@pytest.mark.parametrize('old, new', [((28, 28), 57), ((9, 70), 32)])
def test_resizing_is_that_of_pillow(old, new):
  x_NYXC = RNG.uniform(0, 255, (2, *old, 3)).astype(np.float32)
  expected = np.stack([np.stack([np.asarray(PIL.Image.fromarray(image[..., c], mode='F').resize(
    (new, new), PIL.Image.Resampling.BICUBIC)).clip(0, 255) for c in range(3)], -1)
    for image in x_NYXC])
  np.testing.assert_allclose(pixels.resize(x_NYXC, new), expected, atol=2e-3)


def test_pixels_are_rounded_and_grey_becomes_three_channels():
  x_ND = np.array([[0, 0.5, 1, 2, -1, 0.1]], np.float32)
  seen = np.asarray(pixels.seen(np.repeat(x_ND, 6, 1), (6, 6), 6))
  assert seen.shape == (1, 6, 6, 3)
  np.testing.assert_allclose(seen[0, 0, :, 1], 0)
  np.testing.assert_allclose(seen[0, :, 0, 0], pixels.seen(
    np.repeat(np.array([[0, 128, 255, 255, 0, 26]], np.float32) / 255, 6, 1), (6, 6), 6)[
      0, :, 0, 2], atol=1e-3)
  with pytest.raises(ValueError, match='2 channels'):
    pixels.seen(np.zeros((1, 8)), (2, 2, 2), 6)


# Networks. Published numbers of parameters: torchvision's Inception-v3 without its second head,
# with 1008 instead of 1000 classes; DINOv2's with the mask token, which is not read.


def test_numbers_of_parameters_are_the_published_ones():
  trained = {k: v for k, v in inception.shapes().items() if 'running' not in k}
  assert sum(map(math.prod, trained.values())) == 23_834_568 + 8 * 2049
  assert inception.shapes()['Mixed_7c.branch_pool.conv.weight'] == (192, 2048, 1, 1)
  for width, known in ((384, 22_056_576), (768, 86_580_480), (1024, 304_368_640)):
    assert sum(map(math.prod, dinov2.shapes(width, dinov2.DEPTHS[width]).values())) + width == known


def convolve(x_YXC, w_OIKL, stride=1, padding=(0, 0)):
  """By its definition."""
  (y, x), (high, wide) = padding, w_OIKL.shape[2:]
  padded = np.pad(x_YXC, ((y, y), (x, x), (0, 0)))
  rows, columns = ((n - m) // stride + 1 for n, m in zip(padded.shape, (high, wide)))
  return np.array([[np.einsum('klc,ockl->o', padded[stride * i:stride * i + high,
                                                    stride * j:stride * j + wide], w_OIKL)
                    for j in range(columns)] for i in range(rows)])


def test_the_last_block_of_inception_by_loops(monkeypatch):
  """One block with kernels along either axis, both kinds of pooling, and folded normalisation."""
  arrays, x = {}, RNG.normal(size=(3, 4, 5))

  def add(name, shape):
    outputs = shape[3]
    arrays[f'{name}.conv.weight'] = RNG.normal(size=(outputs, shape[2], *shape[:2]))
    arrays[f'{name}.bn.running_var'] = RNG.uniform(0.5, 2, outputs)
    arrays.update({f'{name}.bn.{part}': RNG.normal(size=outputs)
                   for part in ('weight', 'bias', 'running_mean')})

  def thin(features):  # the block's widths, small enough for loops
    return lambda unit: lambda name, x, _, *rest, **options: unit(name, x, features, *rest,
                                                                  **options)

  units = {}
  record = thin(2)(lambda *a, **k: inception._unit(
    lambda name, shape: (units.setdefault(name, shape), (np.zeros(shape), np.zeros(shape[-1])))[1],
    *a, **k))
  jax.eval_shape(lambda x: inception._block_e(record, 'b.', x, inception._average), x[None])
  for name, shape in units.items():
    add(name, shape)
  arrays['fc.weight'] = np.zeros((1, 1))
  monkeypatch.setattr(inception, '_units', lambda: units)
  monkeypatch.setattr(inception, 'FEATURES', 1)
  monkeypatch.setattr(inception, 'CLASSES', 1)
  params = inception.convert({**arrays, 'fc.bias': np.zeros(1)})
  unit = thin(2)(lambda *a, **k: inception._unit(lambda name, _: params[name], *a, **k))

  def oracle(name, x):
    w = arrays[f'b.{name}.conv.weight']
    y = convolve(x, w, padding=(w.shape[2] // 2, w.shape[3] // 2))
    gamma, beta, mean, variance = (arrays[f'b.{name}.{part}'] for part in inception._FOLDED)
    return np.maximum((y - mean) / np.sqrt(variance + 0.001) * gamma + beta, 0)

  around = [[x[max(0, i - 1):i + 2, max(0, j - 1):j + 2] for j in range(4)] for i in range(3)]
  wide, deep = oracle('branch3x3_1', x), oracle('branch3x3dbl_2', oracle('branch3x3dbl_1', x))
  for pool, pooled in ((inception._average, np.mean),
                       (lambda x: inception._largest(x, 1, 'SAME'), np.max)):
    found = inception._block_e(unit, 'b.', x[None].astype(np.float32), pool)[0]
    ours = np.array([[pooled(patch, axis=(0, 1)) for patch in row] for row in around])
    np.testing.assert_allclose(found, np.concatenate(
      [oracle('branch1x1', x), oracle('branch3x3_2a', wide), oracle('branch3x3_2b', wide),
       oracle('branch3x3dbl_3a', deep), oracle('branch3x3dbl_3b', deep),
       oracle('branch_pool', ours)], axis=-1), atol=1e-4)


def test_positions_are_those_of_the_places_that_patches_have_in_the_image():
  """Of a plane; torch's cubic reproduces it to 5 % of a patch, constants to rounding."""
  y, x = np.mgrid[:37, :37].astype(np.float32)
  found = dinov2.positions(np.stack([y.ravel(), x.ravel(), 0 * x.ravel() + 1], -1))
  y_YX, x_YX, one_YX = found.T.reshape(3, 16, 16)
  at = (np.arange(16) + 0.5) * 37 / 16.1 - 0.5
  np.testing.assert_allclose(y_YX[1:-1, 1:-1], np.repeat(at[1:-1, None], 14, 1), atol=0.05)
  np.testing.assert_allclose(x_YX[1:-1, 1:-1], np.repeat(at[None, 1:-1], 14, 0), atol=0.05)
  np.testing.assert_allclose(one_YX, 1, atol=1e-6)


def test_names_of_hugging_face_are_translated():
  ours = {name: RNG.normal(size=shape) for name, shape in dinov2.shapes(8, 1).items()}
  theirs = {'embeddings.cls_token': ours['cls_token'],
            'embeddings.position_embeddings': ours['pos_embed']}
  for name, values in ours.items():
    at = name.replace('blocks.0.', 'encoder.layer.0.')
    if 'qkv' in name:
      for part, third in zip(('query', 'key', 'value'), np.split(values, 3)):
        theirs[at.replace('attn.qkv', f'attention.attention.{part}')] = third
    elif 'embed' not in name and name != 'cls_token':
      at = at.replace('attn.proj', 'attention.output.dense')
      at = at.replace('ls1.gamma', 'layer_scale1.lambda1')
      at = at.replace('ls2.gamma', 'layer_scale2.lambda1')
      theirs[f'layer{at}' if at.startswith('norm.') else at] = values
    elif 'proj' in name:
      theirs[name.replace('patch_embed.proj', 'embeddings.patch_embeddings.projection')] = values
  translated = dinov2._translated(theirs)
  assert translated.keys() == ours.keys()
  for name, values in ours.items():
    np.testing.assert_array_equal(translated[name], values)
