"""Learning curves: a line for each row, a band from the lowest to the highest seed."""

import fnmatch
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gen_models import files
from launch.reports import words

MOST_PANELS = 30  # of one picture
_MOST_METRICS = 5000  # of one run
_MOST_NAMES = 24  # in a legend
_LARGEST = 64 * 2**20  # bytes of a metrics.jsonl
INK = '#85858c'  # read on white and on black


class Curve(NamedTuple):
  """One metric of one row: step [N], and the mean, least and greatest over seeds, each [N]."""

  step: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray
  seeds: int

  @property
  def measured(self) -> int:
    """At how many steps it has a number."""
    return int(np.isfinite(self.mean).sum())


def read(directories: Sequence[pathlib.Path],
         remark: Callable[[str], None] = lambda line: None) -> dict[str, Curve]:
  """{metric: Curve} over the seeds of several runs, at the steps that all of them wrote.

  Args:
    directories: of the runs.
    remark: called with one line about each run that is left out because its metrics do not read.
  """
  from gen_models.training import metrics
  runs = []
  for directory in directories:
    path = directory / 'metrics.jsonl'
    try:
      found = metrics.history(path, _LARGEST)
      if len(found) > _MOST_METRICS:
        raise ValueError(f'it has {len(found):,} metrics, at most {_MOST_METRICS:,} are read')
      if wrong := [name for name, series in found.items() if series.value.ndim > 2]:
        raise ValueError(f'{wrong[0][:60]!r} is neither a number nor a list of numbers over seeds')
      runs.append(found)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as e:
      remark(f'{path}: its curves are left out: {_line(e)}')
  curves = {}
  for name in dict.fromkeys(name for run in runs for name in run):
    if curve := _over_seeds([run[name] for run in runs if name in run]):
      curves[name] = curve
  return curves


def _over_seeds(series) -> Curve | None:
  """One metric of several runs at the steps that they share."""
  # Of a step written twice, after a crash, the last line counts.
  last = [{int(step): np.ravel(value) for step, value in zip(s.step, s.value)} for s in series]
  steps = sorted(set.intersection(*map(set, last)))
  if not steps:
    return None
  values = np.array([np.concatenate([s[step] for s in last]) for step in steps])
  return Curve(np.array(steps), values.mean(1), values.min(1), values.max(1), values.shape[1])


def _line(error: Exception) -> str:
  return ' '.join(str(error).split())[:300] or type(error).__name__


def draw(rows: Mapping[str, Mapping[str, Curve]], names: Sequence[str], path: pathlib.Path,
         columns: int = 3) -> pathlib.Path:
  """Panels of metrics on a transparent ground, for a light page and a dark one."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  names = names[:MOST_PANELS]
  columns = min(columns, max(1, len(names)))
  lines = max(1, -(-len(names) // columns))
  one = len(names) == 1
  figure, axes = plt.subplots(lines, columns, squeeze=False, layout='constrained',
                              figsize=(3.9 * columns, 2.8 * lines) if not one
                              else (9.5, 3.6) if len(rows) > 1 else (4.6, 3.1))
  handles = {}
  for axis in axes.flat[len(names):]:
    axis.axis('off')
  for axis, name in zip(axes.flat, names):
    for colour, (label, curves) in zip(colours(len(rows)), rows.items()):
      if name in curves:
        handles.setdefault(label, _plot(axis, curves[name], colour))
    dress(axis, name, 'parameter updates', words.unit(name))
  if len(rows) > 1:
    legend(figure, handles)
  # About as many pixels, whatever the size.
  save(figure, path, 150 if one and len(rows) == 1 else 110)
  return path


def colours(num: int) -> np.ndarray:
  """Colours that can be told from one another, [num, 4]."""
  from matplotlib import pyplot as plt
  return (plt.get_cmap('tab10')(np.arange(num)) if num <= 10
          else plt.get_cmap('turbo')(np.linspace(0.05, 0.95, num)))


def legend(figure, handles: Mapping[str, Any]) -> None:
  """Names of lines beside the panels, the first of many."""
  shown = list(handles)[:_MOST_NAMES]
  names = [_name(label) for label in shown]
  if len(handles) > len(shown):
    names[-1] += f' … and {len(handles) - len(shown)} more'
  made = figure.legend([handles[label] for label in shown], names, loc='outside right upper',
                       fontsize=8, frameon=False, labelcolor=INK)
  for text in made.get_texts():
    text.set_parse_math(False)


def save(figure, path: pathlib.Path, dpi: int) -> None:
  """Writes a figure as PNG on a transparent ground, and closes it."""
  from matplotlib import pyplot as plt
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=dpi, transparent=True, format='png')
  plt.close(figure)


def _plot(axis, curve: Curve, colour):
  """Draws one curve and returns its line; few points are marked, since a line needs two."""
  line, = axis.plot(curve.step, curve.mean, linewidth=1.3, color=colour, markersize=4,
                    marker='o' if curve.measured <= 12 else None)
  if curve.seeds > 1:
    axis.fill_between(curve.step, curve.low, curve.high, alpha=0.22, linewidth=0, color=colour)
  return line


def dress(axis, name: str, x: str, y: str) -> None:
  """Title, names of both axes, and colours that can be read on both grounds."""
  # A $ in a name would be read as mathematics, and refused where it is none.
  axis.set_title(_name(name), fontsize=10, color=INK, parse_math=False)
  axis.set_xlabel(x, fontsize=9, color=INK, parse_math=False)
  axis.set_ylabel(y, fontsize=9, color=INK, parse_math=False)
  axis.tick_params(labelsize=8, colors=INK)
  for spine in axis.spines.values():
    spine.set_color(INK)
  axis.spines[['top', 'right']].set_visible(False)
  axis.patch.set_alpha(0)


def _name(text: str) -> str:
  """A name as it is drawn in a picture: one line of bounded length."""
  text = ''.join(c if c.isprintable() else ' ' for c in text)
  return text if len(text) <= 60 else f'{text[:57]}...'


def write_csv(rows: Mapping[str, Mapping[str, Curve]], path: pathlib.Path) -> None:
  """row, metric, step, mean, low, high, seeds: what the figures show."""
  files.write_csv(path, [('row', 'metric', 'step', 'mean', 'low', 'high', 'seeds'), *(
    (label, name, step, *(f'{x:.9g}' for x in values), c.seeds)
    for label, curves in rows.items() for name, c in curves.items()
    for step, *values in zip(c.step, c.mean, c.low, c.high))])


def order(rows: Mapping[str, Mapping[str, Curve]], headline: str | None) -> list[str]:
  """Every metric, the headline first, numbers in names by value; seconds are no metric."""
  names = {name for curves in rows.values() for name in curves} - {'seconds'}

  def key(name):
    # Text at even places, numbers at odd ones; of many digits only the first are compared.
    parts = re.split(r'([0-9]{1,18})', name)
    return name.split('/')[-1] != headline, [int(p) if i % 2 else p for i, p in enumerate(parts)]

  return sorted(names, key=key)


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
  """The names that one of the patterns is of, pattern by pattern; * stands for any characters."""
  return list(dict.fromkeys(name for pattern in patterns
                            for name in names if fnmatch.fnmatchcase(name, pattern)))


def measured_once(rows: Mapping[str, Mapping[str, Curve]], names: Sequence[str]) -> list[str]:
  """The metrics that no row has more than one number of: a curve of them would be a dot."""
  return [name for name in names
          if all(curves[name].measured <= 1 for curves in rows.values() if name in curves)]
