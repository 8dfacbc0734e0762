"""Whether draws are copies of training images: scores relative to held-out images, and their power.

Of N draws x and N test images y, d_1 and d_2 being the distances to the nearest and to the second
nearest of all training images,

  nearest_train_z  Mann-Whitney z of d_1(x) against d_1(y): standard normal for fresh images, far
                   below 0 for a copier, far above for images unlike any training image
  copies           share of x with d_1(x) within the 1 % quantile of d_1(y): a few copies in many
  gap_z            Mann-Whitney z of d_1 / d_2 of x against that of y: a copy with changes may be
                   farther from its original than images are from each other, and still much nearer
                   to it than to any other image
  gap_grey_z       the same by distance to the intensities that the training images were drawn from,
                   of binarised images: a copier of grey images draws every pixel anew

Floors are what training images score with themselves left out.

Even a small fraction of copies matters, and none of these scores detects all of them: `power`
plants copies among held-out images and reports which are found.

Two more are of features of a trained network (`feature_scores`), where distances mean more than
between pixels:

  c_t       Mann-Whitney z as nearest_train_z within each cell of a division of space, averaged with
            the shares of test images: sees copying in one region beside underfitting in another
  auth_pct  share of x farther from its nearest training image than that one is from its own nearest

Meehan, Chaudhuri & Dasgupta (2020), A non-parametric test to detect data-copying in generative
models, whose C_T is nearest_train_z with one cell; Alaa et al. (2022), for AuthPct; Lowe (2004),
for the ratio of two distances.

Axis suffixes: N M images, D values of an image.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import devices
from gen_models.evaluation import blocks

BETTER = {'nearest_train_z': 'floor', 'copies': 'lower', 'gap_z': 'floor', 'gap_grey_z': 'floor'}
SHARES = (0.05, 0.3, 1.0)


class Near(NamedTuple):
  """Distances of N images to the nearest and to the second nearest training image."""

  first_N: np.ndarray
  second_N: np.ndarray

  @property
  def ratio_N(self) -> np.ndarray:
    """d_1 / d_2 in [0, 1]; 1 where both are 0."""
    return np.where(self.second_N > 0, self.first_N / np.maximum(self.second_N, 1e-30), 1.0)


@jax.jit
def _two_nearest(x_ND, train_MD, skip_N):
  def row(of, train_MD):
    x_D, skip = of
    # As one product; exact for binary images.
    d_M = jnp.sum(x_D**2) + jnp.sum(train_MD**2, -1) - 2 * jnp.matmul(
      train_MD, x_D, precision='highest')
    d_M = jnp.where(jnp.arange(len(train_MD)) == skip, jnp.inf, jnp.maximum(d_M, 0))
    m = jnp.argmin(d_M)
    return d_M[m], jnp.min(d_M.at[m].set(jnp.inf))

  return devices.mapped(row, (x_ND, skip_N), train_MD,
                        batch_size=min(256, blocks.rows_at_once(len(train_MD))))


def nearest(x_ND, train_MD, skip_N=None) -> Near:
  """Distances to the two nearest training images m != skip_n, for at most 256 rows at a time.

  Raises:
    ValueError: fewer than two training images beside the skipped one.
  """
  if len(train_MD) < 2 + (skip_N is not None):
    raise ValueError(f'two nearest of {len(train_MD)} training images')
  skip_N = jnp.full(len(x_ND), -1) if skip_N is None else jnp.asarray(skip_N)
  found = _two_nearest(jnp.asarray(x_ND), jnp.asarray(train_MD), skip_N)
  return Near(*(np.sqrt(np.asarray(d_N)) for d_N in found))


def references(train_MD, intensities_MD=None) -> dict[str, jax.Array]:
  """Name -> what draws may be copies of: the training images and, if given, their intensities."""
  found = {'gap_z': train_MD}
  if intensities_MD is not None:
    found['gap_grey_z'] = jnp.asarray(intensities_MD, jnp.float32)
  return found


def nearest_of(x_ND, references: dict[str, jax.Array], skip_N=None) -> dict[str, Near]:
  """Near for each reference."""
  return {name: nearest(x_ND, train_MD, skip_N) for name, train_MD in references.items()}


def mann_whitney_z(a_N, b_M) -> float:
  """(U - N M / 2) / sd(U), U the pairs with a > b and half of those with a = b; 0 if all are equal.

  Standard normal for large sets of one distribution, ties included in sd(U).
  """
  n, m = len(a_N), len(b_M)
  _, value, count = np.unique(np.concatenate([a_N, b_M]), return_inverse=True, return_counts=True)
  rank = (np.cumsum(count) - (count - 1) / 2)[value]
  ties = np.sum(count.astype(np.float64)**3 - count) / ((n + m) * (n + m - 1))
  variance = n * m / 12 * (n + m + 1 - ties)
  u = rank[:n].sum() - n * (n + 1) / 2
  return float((u - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def c_t(x_ND, y_MD, train_KD, num_cells: int = 5, least: int = 8) -> float:
  """sum_c q_c z_c / sum_c q_c over cells with enough of both sets; q_c the share of y.

  Args:
    x_ND: draws.
    y_MD: held-out images.
    train_KD: training images, whose k-means are the cells (20 steps of Lloyd from farthest points).
    num_cells: of them.
    least: rows that a cell has of x and of y; cells with fewer say nothing.

  Returns:
    About standard normal over sqrt(number of cells) for fresh draws, far below 0 for copies; nan
    where no cell has enough of both.
  """
  centres_CD = _means(np.asarray(train_KD, np.float64), num_cells)
  cell_N, cell_M = (np.argmin(_squared(np.asarray(z), centres_CD), axis=1) for z in (x_ND, y_MD))
  first_N, first_M = (nearest(z, train_KD).first_N for z in (x_ND, y_MD))
  found = [(np.mean(cell_M == c), mann_whitney_z(first_N[cell_N == c], first_M[cell_M == c]))
           for c in range(num_cells)
           if min(np.sum(cell_N == c), np.sum(cell_M == c)) >= least]
  return float(np.average([z for _, z in found], weights=[q for q, _ in found])
               if found else np.nan)


def auth_pct(x_ND, train_KD) -> float:
  """The share of draws x with |x - t| > |t - t'|, t nearest to x and t' to t among the others."""
  train_KD = np.asarray(train_KD, np.float32)
  rows_N = np.concatenate([np.argmin(_squared(part, train_KD), axis=1)
                           for part in np.array_split(np.asarray(x_ND, np.float32),
                                                      max(1, len(x_ND) // 256))])
  own_N = np.linalg.norm(np.asarray(x_ND, np.float32) - train_KD[rows_N], axis=1)
  return float(np.mean(own_N > nearest(train_KD[rows_N], train_KD, rows_N).first_N))


def _squared(x_ND, y_MD) -> np.ndarray:
  return np.sum(x_ND**2, 1)[:, None] + np.sum(y_MD**2, 1) - 2 * x_ND @ y_MD.T


def _means(x_ND, num_cells: int) -> np.ndarray:
  """Centres of k-means, [C, D]; the first is the row farthest from the mean, then from all."""
  centres = [x_ND[np.argmax(_squared(x_ND, x_ND.mean(0, keepdims=True))[:, 0])]]
  while len(centres) < num_cells:
    centres.append(x_ND[np.argmax(_squared(x_ND, np.stack(centres)).min(1))])
  centres_CD = np.stack(centres)
  for _ in range(20):
    cell_N = np.argmin(_squared(x_ND, centres_CD), axis=1)
    centres_CD = np.stack([x_ND[cell_N == c].mean(0) if np.any(cell_N == c) else centres_CD[c]
                           for c in range(num_cells)])
  return centres_CD


def scores(near_x: dict[str, Near], near_y: dict[str, Near]) -> dict[str, float]:
  """The scores above of draws x beside held-out images y, both as of `nearest_of`."""
  first_x_N, first_y_N = near_x['gap_z'].first_N, near_y['gap_z'].first_N
  return {'nearest_train_z': mann_whitney_z(first_x_N, first_y_N),
          'copies': float(np.mean(first_x_N <= np.quantile(first_y_N, 0.01))),
          **{name: mann_whitney_z(near_x[name].ratio_N, near_y[name].ratio_N) for name in near_x}}


def memorised(table: dict) -> bool:
  """Whether a table of samples.table says that draws are copies of training images."""
  return bool(causes(table))


def causes(table: dict) -> list[str]:
  """The scores of copies by which the draws of a table of samples.table are copies.

  Of such a score all sets of draws lie beyond all sets of real images, and the means are apart by
  5 standard deviations of z, or of the difference of two shares. By gap_z and gap_grey_z one
  training image is much nearer than all others; the other two also find draws near the mean of
  images that are far from each other.
  """
  def below(z):
    return z['high'] < z['floor_low'] and z['value'] < z['floor'] - 5

  share = table['copies']
  mean = (share['value'] + share['floor']) / 2
  error = np.sqrt(2 * mean * (1 - mean) / (share['n'] * share['num_sets']))
  many = share['low'] > share['floor_high'] and share['value'] > share['floor'] + 5 * error
  return ['copies'] * bool(many) + [name for name in BETTER if name != 'copies'
                                    and name in table and below(table[name])]


def power(key, held_out_ND, train_MD, intensities_MD=None, *, changes: Sequence[int] = (0, 2, 4),
          num_sets: int = 3, cap: int = 300) -> dict[str, dict[str, bool]]:
  """Which planted copies `memorised` finds: {kind: {share: found}}.

  Held-out images are halved: one half plays the draws, a share of them replaced by copies, the
  other half stays real. Kinds are copies with 0, 2, 4 pixels changed at random (v -> 1 - v) and,
  where there are intensities, copies of these binarised anew.

  Args:
    key: consumed.
    held_out_ND: images in [0, 1] that were not trained on.
    train_MD: training images.
    intensities_MD: as of samples.table.
    changes: numbers of pixels.
    num_sets: independent repetitions in one table.
    cap: most images of a half; more find more.
  """
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))
  held_out_ND, train_MD = np.asarray(held_out_ND, np.float32), np.asarray(train_MD, np.float32)
  n = min(len(held_out_ND) // 2, len(train_MD), cap)
  against = references(jnp.asarray(train_MD), intensities_MD)
  kinds = {f'{c} pixels changed': functools.partial(_changed, rng, train_MD, c) for c in changes}
  if intensities_MD is not None:
    grey_MD = np.asarray(intensities_MD, np.float32)
    kinds['binarised anew'] = lambda rows_N: (
      rng.random((len(rows_N), grey_MD.shape[1])) < grey_MD[rows_N]).astype(np.float32)
  sets = []
  for _ in range(num_sets):
    order = rng.permutation(len(held_out_ND))
    fresh_ND, real_ND = held_out_ND[order[:n]], held_out_ND[order[n:2 * n]]
    rows_N = rng.choice(len(train_MD), n, replace=False)
    near_y = nearest_of(real_ND, against)
    floor = scores(nearest_of(train_MD[rows_N], against, rows_N), near_y)
    copied = {kind: nearest_of(make(rows_N), against) for kind, make in kinds.items()}
    sets.append((near_y, nearest_of(fresh_ND, against), copied, floor))
  return {kind: {f'{share:.0%}': _found(sets, kind, round(share * n)) for share in SHARES}
          for kind in kinds}


def _changed(rng, train_MD, count: int, rows_N) -> np.ndarray:
  """Training images with `count` pixels changed."""
  x_ND = train_MD[rows_N].copy()
  where = np.argsort(rng.random(x_ND.shape), axis=1)[:, :count]
  here = np.arange(len(x_ND))[:, None]
  x_ND[here, where] = 1 - x_ND[here, where]
  return x_ND


def _found(sets, kind: str, num_copies: int) -> bool:
  """`memorised` of sets in which the first `num_copies` draws are copies of that kind."""
  rows: list[tuple[Any, ...]] = []
  for near_y, fresh, copied, floor in sets:
    mixed = {name: Near(*(np.concatenate([c_N[:num_copies], f_N[num_copies:]])
                          for c_N, f_N in zip(copied[kind][name], fresh[name], strict=True)))
             for name in fresh}
    rows.append((scores(mixed, near_y), floor, len(fresh['gap_z'].first_N)))

  def entry(name):
    values, floors = ([row[i][name] for row in rows] for i in (0, 1))
    return {'value': np.mean(values), 'low': min(values), 'high': max(values),
            'floor': np.mean(floors), 'floor_low': min(floors), 'floor_high': max(floors),
            'n': rows[0][2], 'num_sets': len(rows)}

  return memorised({name: entry(name) for name in rows[0][0]})
