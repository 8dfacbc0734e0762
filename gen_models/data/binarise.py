"""Stored rows as a model sees them: `seen`, under a binarisation that is part of every number.

Of a uint8 pixel x in {0, .., levels} there are five binarisations:

  real        x / levels                       in [0, 1], whose likelihoods are densities
  levels      x / levels                       the same, whose likelihoods are probabilities
  threshold   1[x / levels >= 1/2]             exactly 1/2 turns on
  dynamic     Bernoulli(x / levels)            drawn afresh at every step
  static      x                                already 0/1: levels == 1

Real values in float32 are (x - offset) / scale under `real`; they may be binarised where they lie
in [0, 1]. Categorical columns are seen as one-of-Q under `categorical`, counts as they are under
`counts`. What is missing is nan.

Likelihoods under different binarisations are not comparable: print the kind with every number.
Static is the fixed draw of Larochelle and Murray (2011), dynamic that of Salakhutdinov and Murray
(2008).
Axes: B batch, D pixels.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.data.specs import BadData, Spec
from gen_models.models.bits import bernoulli

KINDS = ('static', 'dynamic', 'threshold', 'real', 'levels')
VIEWS = (*KINDS, 'categorical', 'counts')
Levels = int | Spec  # of uint8 images, the value that stands for 1; of any data, what they are
Split = Literal['train', 'valid', 'test']
TAKERS = {  # kind of data -> who takes them
  'counts': 'vae takes counts, with --set=binarisation=counts and --set=likelihood=poisson or '
            'negative_binomial; kind=real in the name of the data makes them real values',
  'categorical': 'rbm and rbm_protein take categorical columns, and so does vae, with '
                 '--set=binarisation=categorical and --set=likelihood=categorical'}


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
  if kind in ('real', 'levels'):
    return x_BD.astype(jnp.float32) / levels
  if kind == 'threshold':
    return (2 * x_BD.astype(jnp.int32) >= levels).astype(jnp.float32)
  p_BD = x_BD.reshape(x_BD.shape[0], -1).astype(jnp.float32) / levels
  if key is None:
    raise ValueError('a dynamic binarisation is random: give it a key')
  return bernoulli(key, p_BD).reshape(x_BD.shape)


def check_view(kind: str, levels: Levels, *, missing: bool = False) -> None:
  """Raises ValueError unless `kind` of view makes sense for these data, in one line.

  Args:
    kind: one of VIEWS.
    levels: Spec of the data, or of uint8 images the value that stands for 1.
    missing: whether the model takes nan for what is missing.
  """
  if not isinstance(levels, Spec):
    check_binarisation(kind, levels)
    return
  spec = levels
  if kind not in VIEWS:
    raise ValueError(f'unknown binarisation {kind!r}; known: {", ".join(VIEWS)}')
  if spec.missing and not missing:
    raise BadData(f'data set {spec.name}: some values are missing, and this model cannot take '
                  'missing values: fill them in, remove the rows that have some, or choose rbm, '
                  'gaussian_rbm or mixture, which take them')
  if (kind in ('categorical', 'counts')) != (spec.kind in ('categorical', 'counts')) or (
      spec.kind in ('categorical', 'counts') and kind != spec.kind):
    takers = TAKERS.get(spec.kind) if kind in KINDS else None
    mend = takers or f'take another binarisation, or an experiment for {spec.kind} data'
    raise BadData(f'data set {spec.name}: its values are {spec.kind}, but this model is for '
                  f'{_of(kind)}: {mend}')
  if kind in ('dynamic', 'threshold', 'static') and not spec.intensities:
    raise BadData(f'data set {spec.name}: its values are real, {spec.low:g} to {spec.high:g}, and '
                  f'binarisation {kind!r} needs zeros and ones or intensities in [0, 1]: '
                  'choose a model of real values (rbm, gaussian, mixture with '
                  '--set=components=diagonal, vae with --set=binarisation=real), or save zeros and '
                  'ones')
  if kind == 'levels' and spec.low is not None:
    raise BadData(f'data set {spec.name}: its values are real, {spec.low:g} to {spec.high:g}, and '
                  f'binarisation {kind!r} is of whole levels, as pictures have them: choose '
                  '--set=binarisation=real')
  if kind == 'static' and spec.kind != 'binary':
    raise BadData(f'data set {spec.name}: its values are intensities in [0, 1], and binarisation '
                  f"'static' is of zeros and ones: save zeros and ones, or choose 'dynamic' or "
                  "'threshold' with an experiment that has the hyperparameter binarisation")


def classes_of(spec: Spec) -> int:
  """How many classes there are.

  Raises:
    BadData: the data have no labels.
  """
  if spec.num_classes is None:
    raise BadData(f'data set {spec.name} has no labels, and this experiment learns classes: add '
                  'labels (an array, a column, or a subfolder for each class)')
  return spec.num_classes


def _of(kind: str) -> str:
  return {'categorical': 'categorical columns', 'counts': 'counts'}.get(
    kind, f'images or vectors (binarisation {kind!r})')


def seen(key: jax.Array | None, x_BD: jax.Array, kind: str, levels: Levels) -> jax.Array:
  """Stored rows as the model sees them.

  Args:
    key: consumed by 'dynamic', ignored by the others.
    x_BD: stored rows [B, ...].
    kind: one of VIEWS.
    levels: Spec of the data, or of uint8 images the value that stands for 1.

  Returns:
    float32, shape of x; of categorical rows [B, L Q], column after column.
  """
  if not isinstance(levels, Spec):
    return binarise(key, x_BD, kind, levels)
  spec, x_BD = levels, jnp.asarray(x_BD)
  if spec.kind == 'categorical':
    x_BLQ = jax.nn.one_hot(x_BD, spec.levels, dtype=jnp.float32)
    if spec.missing:
      x_BLQ = jnp.where((x_BD == spec.levels)[..., None], jnp.nan, x_BLQ)
    return x_BLQ.reshape(len(x_BD), -1)
  if x_BD.dtype == jnp.uint8:
    return binarise(key, x_BD, kind, spec.levels)
  x_BD = x_BD.astype(jnp.float32)
  if kind == 'dynamic':
    if key is None:
      raise ValueError('a dynamic binarisation is random: give it a key')
    drawn = bernoulli(key, x_BD.reshape(len(x_BD), -1)).reshape(x_BD.shape)
    return jnp.where(jnp.isnan(x_BD), x_BD, drawn) if spec.missing else drawn
  if kind == 'threshold':
    return jnp.where(jnp.isnan(x_BD), x_BD, x_BD >= 0.5)
  if kind == 'real' and (spec.offset != 0 or spec.scale != 1):
    repeat = x_BD[0].size // np.size(spec.offset)  # channels are the last axis of a picture
    offset, scale = (jnp.asarray(np.tile(np.ravel(v), repeat if np.size(v) > 1 else 1), jnp.float32)
                     for v in (spec.offset, spec.scale))
    shape = x_BD.shape
    return ((x_BD.reshape(len(x_BD), -1) - offset) / scale).reshape(shape)
  return x_BD


def clipped(x: jax.Array, levels: Levels) -> jax.Array:
  """Real draws of a model, clipped to [0, 1] where the data lie there."""
  if isinstance(levels, Spec) and not levels.unit_interval:
    return x
  return jnp.clip(x, 0, 1)


def binarise_real(key: jax.Array, x_BD: jax.Array, kind: str) -> jax.Array:
  """Real values in [0, 1], such as a model's draws, binarised as the data are; 0 and 1 stay.

  'dynamic' draws Bernoulli(x), 'threshold' is 1[x >= 1/2], all others return x unchanged.

  Raises:
    ValueError: an unknown kind.
  """
  if kind not in VIEWS:
    check_binarisation(kind, 1)
  x_BD = jnp.asarray(x_BD, jnp.float32)
  if kind == 'dynamic':
    return bernoulli(key, x_BD)
  return (x_BD >= 0.5).astype(jnp.float32) if kind == 'threshold' else x_BD


def mean_image(arrays, levels: Levels) -> jax.Array:
  """Mean over rows of what a model sees, weighted where rows are, [D]; of what is not missing."""
  rows = arrays.rows
  if not isinstance(levels, Spec) or (levels.kind != 'categorical' and rows.dtype == np.uint8
                                      and arrays.weights is None):
    x_ND = rows.reshape(len(rows), -1)
    scale = levels.levels if isinstance(levels, Spec) else levels
    return jnp.mean(x_ND, axis=0, dtype=jnp.float32) / scale
  x_ND = seen(None, rows.reshape(len(rows), -1),
              'real' if levels.kind in ('binary', 'real') else levels.kind, levels)
  w_N = jnp.ones(len(rows)) if arrays.weights is None else jnp.asarray(arrays.weights)
  there_ND = ~jnp.isnan(x_ND)
  total_D = jnp.sum(jnp.where(there_ND, x_ND, 0) * w_N[:, None], axis=0)
  return total_D / jnp.maximum(jnp.sum(there_ND * w_N[:, None], axis=0), 1e-30)


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


def fixed(arrays, kind: str, levels: Levels, *, split: Split | None = None,
          missing: bool = False) -> jax.Array:
  """A split as vectors [N, D], float32: the one draw on which every number is reported.

  A dynamic binarisation is drawn once, with `split_key`, so all runs are scored on the same binary
  images; the others draw nothing and need no `split`.

  Args:
    arrays: Arrays of the split.
    kind: one of VIEWS.
    levels: Spec of the data, or of uint8 images the value that stands for 1.
    split: its name.
    missing: whether the model takes nan for what is missing.

  Raises:
    ValueError: 'dynamic' without a split, or see `check_view`.
  """
  check_view(kind, levels, missing=missing)
  rows = jnp.asarray(arrays.rows)
  key = split_key(split) if kind == 'dynamic' else None
  return seen(key, rows.reshape(len(rows), -1), kind, levels)


def fixed_split(dataset, split: Split, kind: str, *, missing: bool = False) -> jax.Array:
  """`fixed` of a split of a Dataset."""
  return fixed(getattr(dataset, split), kind, dataset.about, split=split, missing=missing)
