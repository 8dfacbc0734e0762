"""Trained networks whose weights the user supplies, as spaces to compare images in.

  space = adapters.load('inception', 'pt_inception-2015-12-05-6726825d.pth')
  features_NF, logits_NQ = space.read(x_ND, shape)

Nothing is downloaded, and no code in a file of weights is executed. Images become pixels as
clean-fid prepares them (Parmar, Zhang & Zhu, 2022): rounded to 8 bits, grey ones with their
channel three times, resized by Pillow's antialiased bicubic filter in float and clipped.

  inception  pool3 of Inception-v3 in the variant of FID, 2048 features, 1008 log-odds (Heusel et
             al., 2017); pixels as (x - 128) / 128 of 299 x 299
  dinov2     the class token of a DINOv2 ViT-S, B or L with patches of 14 (Oquab et al., 2023;
             Stein et al., 2023); pixels normalised as ImageNet's, 224 x 224

Axis suffixes: N images, D values of an image, F features, Q classes.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.evaluation.adapters import dinov2, inception, pixels, weights
from gen_models.evaluation.adapters.weights import Unreadable as Unreadable

BATCH = 32


class Published(NamedTuple):
  """A file of weights that others compare with."""

  name: str
  num_bytes: int
  sha256: str

  def __str__(self) -> str:
    return f'{self.name} ({self.num_bytes:,} bytes, sha256 {self.sha256})'


PUBLISHED = {
  'inception': (Published(
    'pt_inception-2015-12-05-6726825d.pth', 95_628_359,
    '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2'),),
  'dinov2': (
    Published('dinov2_vits14_pretrain.pth', 88_283_115,
              'b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9'),
    Published('dinov2_vitb14_pretrain.pth', 346_378_731,
              '0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73'),
    Published('dinov2_vitl14_pretrain.pth', 1_217_586_395,
              'd5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428')),
}
_NETS: dict[str, Any] = {'inception': inception, 'dinov2': dinov2}
RESIZE = 'bicubic (a = -0.5), antialiased, float32, clipped to [0, 255], as Pillow in clean-fid'


class Space(NamedTuple):
  """A network with its weights.

  Attributes:
    name: of the network.
    network: pixels [N, side, side, 3] in [0, 255] -> features [N, F], log-odds [N, Q] or None.
    side: of the pixels that it sees.
    record: what a score in this space says of it, JSON-able.
  """

  name: str
  network: Callable[[jax.Array], tuple[jax.Array, jax.Array | None]]
  side: int
  record: dict[str, Any]

  def read(self, x_ND, shape) -> tuple[np.ndarray, np.ndarray | None]:
    """Features [N, F], and log-odds [N, Q] where the network has any, of images in [0, 1].

    Args:
      x_ND: images as vectors in the order [Y, X, C].
      shape: (Y, X) or (Y, X, C); one channel or three.
    """
    x_ND = np.asarray(x_ND, np.float32)
    found = []
    for start in range(0, len(x_ND), BATCH):
      rows = x_ND[start:start + BATCH]
      padded = np.pad(rows, ((0, BATCH - len(rows)), (0, 0)))  # one shape, one program
      found.append(jax.tree.map(lambda z, n=len(rows): np.asarray(z)[:n],
                                self.network(pixels.seen(padded, tuple(shape), self.side))))
    features, logits = zip(*found, strict=True)
    return np.concatenate(features), None if logits[0] is None else np.concatenate(logits)


def load(name: str, path: str | os.PathLike) -> Space:
  """The network `name` with the weights of a file: safetensors, npz, or a state dict of torch.

  Raises:
    Unreadable: there is no such network or file, or it holds other weights. The line says which
      file is expected.
  """
  if name not in _NETS:
    raise Unreadable(f'{name} is no network with weights of your own: {", ".join(_NETS)}')
  net, published = _NETS[name], PUBLISHED[name]
  wanted = ' or '.join(map(str, published))
  if not os.path.exists(path):
    raise Unreadable(f'{name}: there is no file {path}; give it the path of {wanted}, or of the '
                     'same weights as safetensors or npz')
  try:
    read = weights.read(path)
    params = net.convert(read.arrays)
  except Unreadable as e:
    raise Unreadable(f'{path}: {e}; expected {wanted}, or the same weights as safetensors or '
                     'npz') from None
  known = next((one.name for one in published if one.sha256 == read.sha256), None)
  return Space(name, functools.partial(jax.jit(net.apply), jax.tree.map(jnp.asarray, params)),
               net.SIDE, {'network': name, 'weights': os.path.basename(path),
                          'sha256': read.sha256, 'published_weights': known, 'resize': RESIZE,
                          'side': net.SIDE, 'pixels': 'rounded to 8 bits'})
