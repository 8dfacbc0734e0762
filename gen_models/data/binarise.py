"""The four binarisations of a uint8 pixel x in {0, .., levels}, which must not be confused.

  real        x / levels                       in [0, 1]
  threshold   1[x / levels >= 1/2]             exactly 1/2 turns on
  dynamic     Bernoulli(x / levels)            drawn afresh at every step
  static      x                                already 0/1: levels == 1

Likelihoods under different binarisations are not comparable: print the kind with every number.
Static is the fixed draw of Larochelle and Murray (2011), dynamic that of Salakhutdinov and Murray
(2008).
Axes: B batch, D pixels.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from gen_models.models.bits import bernoulli

KINDS = ('static', 'dynamic', 'threshold', 'real')
Split = Literal['train', 'valid', 'test']


def check_binarisation(kind: str, levels: int) -> None:
  """Raises ValueError unless `kind` is one of KINDS and makes sense for data with these levels."""
  if kind not in KINDS:
    raise ValueError(f'unknown binarisation {kind!r}; known: {", ".join(KINDS)}')
  if not 1 <= levels <= 255:
    raise ValueError(f'levels must lie in 1 .. 255, got {levels}')
  if kind == 'static' and levels != 1:
    raise ValueError(f"binarisation 'static' needs data that are 0/1 already (levels 1), "
                     f"these have levels {levels}; load 'binarized_mnist', or use 'dynamic' or "
                     "'threshold'")


def binarise(key: jax.Array | None, x_BD: jax.Array, kind: str, levels: int) -> jax.Array:
  """Pixels as the model sees them.

  Dynamic draws are those of bits.bernoulli: P(on) is x / levels to within 2^-24, exactly so at 0
  and at `levels`.

  Args:
    key: consumed by 'dynamic', ignored by the others.
    x_BD: uint8 [B, ...], values 0 .. levels.
    kind: one of KINDS.
    levels: the value that stands for 1.

  Returns:
    float32, shape of x.

  Raises:
    ValueError: see `check_binarisation`.
  """
  check_binarisation(kind, levels)
  if kind == 'static':
    return x_BD.astype(jnp.float32)
  if kind == 'real':
    return x_BD.astype(jnp.float32) / levels
  if kind == 'threshold':
    return (2 * x_BD.astype(jnp.int32) >= levels).astype(jnp.float32)
  p_BD = x_BD.reshape(x_BD.shape[0], -1).astype(jnp.float32) / levels
  if key is None:
    raise ValueError('a dynamic binarisation is random: give it a key')
  return bernoulli(key, p_BD).reshape(x_BD.shape)


def binarise_real(key: jax.Array, x_BD: jax.Array, kind: str) -> jax.Array:
  """Real values in [0, 1], such as a model's draws, binarised as the data are; 0 and 1 stay.

  'dynamic' draws Bernoulli(x), 'threshold' is 1[x >= 1/2], 'real' and 'static' return x unchanged.

  Raises:
    ValueError: an unknown kind.
  """
  check_binarisation(kind, 1)
  x_BD = jnp.asarray(x_BD, jnp.float32)
  if kind == 'dynamic':
    return bernoulli(key, x_BD)
  return (x_BD >= 0.5).astype(jnp.float32) if kind == 'threshold' else x_BD


def mean_image(arrays, levels: int) -> jax.Array:
  """Mean over images of x / levels, [D]."""
  x_ND = arrays.images.reshape(len(arrays.images), -1)
  return jnp.mean(x_ND, axis=0, dtype=jnp.float32) / levels


def split_key(split: Split | None) -> jax.Array:
  """The key of what is drawn once for a split: row i of one shares no noise with row i of another.

  Raises:
    ValueError: no such split.
  """
  if split not in get_args(Split):
    raise ValueError(f'no split {split!r}; known: {", ".join(get_args(Split))}')
  # Test images keep the key that all scores have had from the beginning.
  key = jax.random.key(0)
  return key if split == 'test' else jax.random.fold_in(key, get_args(Split).index(split))


def fixed(arrays, kind: str, levels: int, *, split: Split | None = None) -> jax.Array:
  """A split as vectors [N, D], float32: the one draw on which every number is reported.

  A dynamic binarisation is drawn once, with `split_key`, so all runs are scored on the same binary
  images; the others draw nothing and need no `split`.

  Raises:
    ValueError: 'dynamic' without a split, or see `binarise`.
  """
  images = jnp.asarray(arrays.images)
  key = split_key(split) if kind == 'dynamic' else None
  return binarise(key, images.reshape(len(images), -1), kind, levels)


def fixed_split(dataset, split: Split, kind: str) -> jax.Array:
  """`fixed` of a split of a Dataset."""
  return fixed(getattr(dataset, split), kind, dataset.levels, split=split)
