"""Two scores of runs against one another, such as the rate-distortion curve of a sweep of beta.

Rows that differ in one hyperparameter, a number, are joined in the order of its values. There is
one point for each seed, and the line leads through the means over seeds.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gen_models import files
from launch import errors
from launch.reports import collect, curves, words

USUAL = ('rate', 'distortion')  # shown where runs have both and nothing was asked for
_FEWEST = 3  # points of a curve that is shown unasked
_MOST_NAMED = 12  # points with their values beside


class Point(NamedTuple):
  """One row: the value of the hyperparameter that was swept, None for none, and both scores [S]."""

  value: float | None
  x_S: np.ndarray
  y_S: np.ndarray


class Line(NamedTuple):
  """Rows that differ in the hyperparameter `swept`, in its order; a single row where it is None."""

  name: str
  swept: str | None
  points: list[Point]


def names(rows: Sequence[collect.Row]) -> list[str]:
  """The scores that some row has."""
  return list(dict.fromkeys(name for row in rows if row.result
                            for name in ('test_nats', *row.result.score.scores)))


def pair(words_given: Sequence[str], rows: Sequence[collect.Row]) -> tuple[str, str] | None:
  """The scores of --against=X,Y, None where nothing was asked for; raises UsageError."""
  if not words_given:
    return None
  known = names(rows)
  wanted = f'--against={",".join(words_given)}'
  if len(words_given) != 2 or words_given[0] == words_given[1]:
    raise errors.UsageError(f'{wanted}: name two scores, X,Y, of {", ".join(known) or "none"}')
  if missing := [name for name in words_given if name not in known]:
    raise errors.UsageError(f'{wanted}: no run has the score {missing[0]}; they have '
                            f'{", ".join(known) or "none"}')
  return words_given[0], words_given[1]


def lines(rows: Sequence[collect.Row], x: str, y: str) -> list[Line]:
  """The lines of rows that have both scores; a row that differs in more is a line of its own."""
  scored = [(row, *found) for row in rows if (found := _of_seeds(row, x, y))]
  swept = _swept([row for row, *_ in scored])
  groups: dict[str, list] = {}
  for row, x_S, y_S in scored:
    others = {k: v for k, v in row.config['hyperparameters'].items() if k != swept}
    key = json.dumps([row.config.get('variant'), row.config.get('estimator'), others],
                     sort_keys=True)
    groups.setdefault(key, []).append((row, x_S, y_S))
  found = []
  for group in groups.values():
    if len(group) == 1 or swept is None:
      found += [Line(row.name, None, [Point(None, x_S, y_S)]) for row, x_S, y_S in group]
      continue
    group.sort(key=lambda one: one[0].config['hyperparameters'][swept])
    points = [Point(float(row.config['hyperparameters'][swept]), x_S, y_S)
              for row, x_S, y_S in group]
    name = ', '.join(word for word in group[0][0].name.split(', ')
                     if not word.startswith(f'{swept}='))
    found.append(Line(name, swept, points))
  return found


def is_curve(found: Sequence[Line]) -> bool:
  """Whether a line has enough points to be shown without being asked for."""
  return any(len(line.points) >= _FEWEST for line in found)


def _of_seeds(row: collect.Row, x: str, y: str) -> tuple[np.ndarray, np.ndarray] | None:
  """Both scores of each seed, [S]; None where a seed lacks one."""
  if not row.result:
    return None
  score = row.result.score

  def of(seed, name):
    return seed.test_nats if name == 'test_nats' else seed.scores.get(name)

  pairs = [(of(seed, x), of(seed, y)) for seed in score.per_seed or (score,)]
  if any(value is None for both in pairs for value in both):
    return None
  x_S, y_S = np.array(pairs, float).T
  return x_S, y_S


def _swept(rows: Sequence[collect.Row]) -> str | None:
  """The number among the hyperparameters of which the rows have the most values."""
  values = [row.config['hyperparameters'] for row in rows]
  found = {name: {v.get(name) for v in values} for name in (values[0] if values else ())
           if all(_is_number(v.get(name)) for v in values)}
  most = max(found, key=lambda name: len(found[name]), default=None)
  return most if most is not None and len(found[most]) > 1 else None


def _is_number(value) -> bool:
  """Whether it is one, and not so large that it is no float; a directory may hold anything."""
  return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def draw(found: Sequence[Line], x: str, y: str, path: pathlib.Path) -> pathlib.Path:
  """The picture, on a transparent ground, for a light page and a dark one."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  several = len(found) > 1
  figure, axes = plt.subplots(squeeze=False, layout='constrained',
                              figsize=(8.2, 4.2) if several else (5.4, 4.2))
  axis = axes[0, 0]
  handles = {}
  for colour, line in zip(curves.colours(len(found)), found, strict=True):
    means = [(point.x_S.mean(), point.y_S.mean()) for point in line.points]
    handles[line.name], = axis.plot(*np.transpose(means), '-o', color=colour, linewidth=1.3,
                                    markersize=4)
    for point, mean in zip(line.points, means, strict=True):
      if len(point.x_S) > 1:
        axis.plot(point.x_S, point.y_S, '.', color=colour, alpha=0.4, markersize=5)
      if point.value is not None and len(line.points) <= _MOST_NAMED:
        axis.annotate(f'{point.value:g}', mean, (5, 5), textcoords='offset points', fontsize=8,
                      color=curves.INK)
  swept = dict.fromkeys(line.swept for line in found if line.swept)
  title = f'points labelled by {", ".join(swept)}' if swept else ''
  curves.dress(axis, title, _label(x), _label(y))
  if several:
    curves.legend(figure, handles)
  curves.save(figure, path, 110 if several else 150)
  return path


def _label(name: str) -> str:
  unit = words.unit(name)
  return f'{words.score(name)}, {unit}' if unit else words.score(name)


def write_csv(found: Sequence[Line], x: str, y: str, path: pathlib.Path) -> None:
  """row, hyperparameter, value, both scores: a line for each point."""
  files.write_csv(path, [('row', 'hyperparameter', 'value', x, y), *(
    (line.name, line.swept or '', '' if point.value is None else f'{point.value:.9g}',
     f'{x_value:.9g}', f'{y_value:.9g}')
    for line in found for point in line.points
    for x_value, y_value in zip(point.x_S, point.y_S, strict=True))])
