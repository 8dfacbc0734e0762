"""DINOv2: a vision transformer with patches of 14 pixels, of which the class token is read.

  h <- h + a attention(norm(h)),    h <- h + b mlp(norm(h)),    a, b learned scales of channels

of a class token and one token for every patch, each with a learned position; 12 or 24 layers.
Names of parameters are those of the authors' state dict; those of Hugging Face's are translated.
Positions were learned on 37 x 37 patches and are resampled to the 16 x 16 of 224 pixels, by the
cubic and with the offset of 0.1 that the authors' code has.

Oquab et al. (2023); as features of generated images, Stein et al. (2023).

Axis suffixes: N images, Y X pixels, C channels, T tokens, F features, H heads, L layers.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation.adapters import pixels, weights

SIDE, PATCH, LEARNED, HEAD = 224, 14, 37, 64
DEPTHS = {384: 12, 768: 12, 1024: 24}  # S, B and L by their features
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FACE = (
  (r'embeddings\.(cls_token|mask_token)', r'\1'),
  (r'embeddings\.position_embeddings', 'pos_embed'),
  (r'embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
  (r'encoder\.layer\.(\d+)\.', r'blocks.\1.'), (r'attention\.output\.dense\.', 'attn.proj.'),
  (r'layer_scale(\d)\.lambda1', r'ls\1.gamma'), (r'^layernorm\.', 'norm.'))


def apply(params: Mapping, x_NYXC) -> tuple[jax.Array, None]:
  """Pixels in [0, 255], [N, 224, 224, 3] -> the normalised class token [N, F]; no log-odds."""
  x = (x_NYXC / 255 - jnp.asarray(MEAN)) / jnp.asarray(SD)
  num, side = len(x), x.shape[1] // PATCH
  x = x.reshape(num, side, PATCH, side, PATCH, 3).swapaxes(2, 3).reshape(num, side * side, -1)
  h_NTF = _affine(params['patch'], x)
  first = jnp.broadcast_to(params['first_F'], (num, 1, h_NTF.shape[-1]))
  h_NTF = jnp.concatenate([first, h_NTF + params['position_TF']], axis=1)
  h_NTF, _ = lax.scan(lambda h, layer: (_layer(layer, h), None), h_NTF, params['layers'])
  return _norm(params['norm'], h_NTF[:, 0]), None


def convert(arrays: Mapping[str, np.ndarray]) -> dict:
  """Parameters of `apply` from those of torch.

  Raises:
    Unreadable: one is missing or of another shape, or the network is none of S, B and L.
  """
  arrays = {name: np.asarray(x, np.float32) for name, x in _translated(arrays).items()}
  width = arrays['cls_token'].shape[-1] if 'cls_token' in arrays else 384
  if width not in DEPTHS:
    raise weights.Unreadable(f'its tokens have {width} features; S, B and L have '
                             f'{", ".join(map(str, DEPTHS))}')
  return _converted(arrays, width, DEPTHS[width])


def shapes(width: int, depth: int) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every parameter that is read."""
  def affine(name, inputs, outputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}

  def norm(name):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}

  found: dict[str, tuple[int, ...]] = {
    'cls_token': (1, 1, width), 'pos_embed': (1, 1 + LEARNED**2, width),
    'patch_embed.proj.weight': (width, 3, PATCH, PATCH), 'patch_embed.proj.bias': (width,)}
  for i in range(depth):
    at = f'blocks.{i}'
    found |= {**norm(f'{at}.norm1'), **affine(f'{at}.attn.qkv', width, 3 * width),
              **affine(f'{at}.attn.proj', width, width), f'{at}.ls1.gamma': (width,),
              **norm(f'{at}.norm2'), **affine(f'{at}.mlp.fc1', width, 4 * width),
              **affine(f'{at}.mlp.fc2', 4 * width, width), f'{at}.ls2.gamma': (width,)}
  return {**found, **norm('norm')}


def _converted(arrays: Mapping[str, np.ndarray], width: int, depth: int) -> dict:
  weights.check(arrays, shapes(width, depth))

  def affine(name):
    return arrays[f'{name}.weight'].T, arrays[f'{name}.bias']

  def norm(name):
    return arrays[f'{name}.weight'], arrays[f'{name}.bias']

  def layer(at):
    return {'norm1': norm(f'{at}.norm1'), 'qkv': affine(f'{at}.attn.qkv'),
            'out': affine(f'{at}.attn.proj'), 'scale1': arrays[f'{at}.ls1.gamma'],
            'norm2': norm(f'{at}.norm2'), 'fc1': affine(f'{at}.mlp.fc1'),
            'fc2': affine(f'{at}.mlp.fc2'), 'scale2': arrays[f'{at}.ls2.gamma']}

  position = arrays['pos_embed'][0]
  first = arrays['cls_token'][0, 0] + position[0]
  kernel = arrays['patch_embed.proj.weight'].transpose(2, 3, 1, 0).reshape(-1, width)
  layers = [layer(f'blocks.{i}') for i in range(depth)]
  return {'patch': (kernel, arrays['patch_embed.proj.bias']), 'first_F': first,
          'position_TF': positions(position[1:]), 'norm': norm('norm'),
          'layers': jax.tree.map(lambda *x: np.stack(x), *layers)}


def positions(position_TF: np.ndarray, side: int = SIDE // PATCH) -> np.ndarray:
  """Positions of 37 x 37 patches as those of side x side, [side^2, F]; not antialiased.

  Patch i of the new ones lies at (i + 1/2) 37 / (side + 0.1) - 1/2 of the old.
  """
  old = round(len(position_TF)**0.5)
  if old == side:
    return position_TF
  w_IJ = np.zeros((side, old))
  for i in range(side):
    at = (i + 0.5) * old / (side + 0.1) - 0.5
    for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
      w_IJ[i, min(max(j, 0), old - 1)] += pixels.cubic(at - j, -0.75)
  found = np.einsum('iy,jx,yxf->ijf', w_IJ, w_IJ, position_TF.reshape(old, old, -1))
  return found.reshape(side * side, -1).astype(np.float32)


def _translated(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Arrays under the authors' names, of which Hugging Face has query, key and value apart."""
  arrays = {name.removeprefix('dinov2.'): x for name, x in arrays.items()}
  if 'embeddings.cls_token' not in arrays:
    return arrays
  found, parts = {}, {}
  for name, x in arrays.items():
    for old, new in _FACE:
      name = re.sub(old, new, name)
    if match := re.fullmatch(r'(.*)attention\.attention\.(query|key|value)\.(\w+)', name):
      at, part, kind = match.groups()
      parts.setdefault(f'{at}attn.qkv.{kind}', {})[part] = x
    else:
      found[name] = x
  return found | {name: np.concatenate([three[part] for part in ('query', 'key', 'value')])
                  for name, three in parts.items() if len(three) == 3}


def _layer(layer, h_NTF) -> jax.Array:
  h_NTF = h_NTF + layer['scale1'] * _attention(layer, _norm(layer['norm1'], h_NTF))
  inner = jax.nn.gelu(_affine(layer['fc1'], _norm(layer['norm2'], h_NTF)), approximate=False)
  return h_NTF + layer['scale2'] * _affine(layer['fc2'], inner)


def _attention(layer, h_NTF) -> jax.Array:
  num, tokens, width = h_NTF.shape
  q, k, v = jnp.moveaxis(_affine(layer['qkv'], h_NTF).reshape(
    num, tokens, 3, width // HEAD, HEAD), 2, 0)
  share_NHTT = jax.nn.softmax(jnp.einsum('nthd,nshd->nhts', q, k, precision='highest') / HEAD**0.5)
  mixed = jnp.einsum('nhts,nshd->nthd', share_NHTT, v, precision='highest')
  return _affine(layer['out'], mixed.reshape(num, tokens, width))


def _affine(params, x) -> jax.Array:
  return jnp.matmul(x, params[0], precision='highest') + params[1]


def _norm(params, x) -> jax.Array:
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  return params[0] * x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) + params[1]
