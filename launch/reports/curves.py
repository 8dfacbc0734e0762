"""Learning curves: a line a row, a band from the lowest to the highest seed."""

import fnmatch
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gen_models import files

_INK = '#85858c'  # read on white and on black


class Curve(NamedTuple):
  """One metric of one row: step [N], and the mean, least and greatest over seeds, each [N]."""

  step: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray
  seeds: int


def read(directories: Sequence[pathlib.Path]) -> dict[str, Curve]:
  """{metric: Curve} over the seeds of several runs, at the steps that all of them wrote."""
  from gen_models.training import metrics
  runs = [metrics.history(d / 'metrics.jsonl') for d in directories]
  curves = {}
  for name in dict.fromkeys(name for run in runs for name in run):
    series = [run[name] for run in runs if name in run]
    steps = series[0].step
    for s in series[1:]:
      steps = np.intersect1d(steps, s.step)
    if not len(steps):
      continue
    values = np.concatenate([
      s.value[np.isin(s.step, steps)].reshape(len(steps), -1) for s in series], axis=1)
    curves[name] = Curve(steps, values.mean(1), values.min(1), values.max(1), values.shape[1])
  return curves


def draw(rows: Mapping[str, Mapping[str, Curve]], names: Sequence[str], path: pathlib.Path,
         columns: int = 3) -> pathlib.Path:
  """Panels of metrics on a transparent ground, for a light page and a dark one."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  columns = min(columns, max(1, len(names)))
  lines = max(1, -(-len(names) // columns))
  one = len(names) == 1
  figure, axes = plt.subplots(lines, columns, squeeze=False, layout='constrained',
                              figsize=(9.5 if len(rows) > 1 else 6.5, 3.4) if one
                              else (3.7 * columns, 2.6 * lines))
  colours = plt.get_cmap('tab10').colors if len(rows) <= 10 else plt.get_cmap('turbo')(
    np.linspace(0.05, 0.95, len(rows)))
  for axis in axes.flat[len(names):]:
    axis.axis('off')
  for axis, name in zip(axes.flat, names):
    for colour, (label, curves) in zip(colours, rows.items()):
      if name not in curves:
        continue
      curve = curves[name]
      axis.plot(curve.step, curve.mean, linewidth=1.3, color=colour, label=label,
                marker='o' if len(curve.step) == 1 else None)
      if curve.seeds > 1:
        axis.fill_between(curve.step, curve.low, curve.high, alpha=0.22, linewidth=0, color=colour)
    axis.set_title(name, fontsize=10, color=_INK)
    axis.set_xlabel('updates', fontsize=9, color=_INK)
    axis.tick_params(labelsize=8, colors=_INK)
    for spine in axis.spines.values():
      spine.set_color(_INK)
    axis.spines[['top', 'right']].set_visible(False)
    axis.patch.set_alpha(0)
  if len(rows) > 1:
    handles = {text: line for axis in axes.flat
               for line, text in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside right upper', fontsize=8,
                  frameon=False, labelcolor=_INK)
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=110, transparent=True, format='png')
  plt.close(figure)
  return path


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
    parts = re.split(r'(\d+)', name)  # words at even places, numbers at odd ones
    return name.split('/')[-1] != headline, [int(p) if i % 2 else p for i, p in enumerate(parts)]

  return sorted(names, key=key)


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
  """The names that one of the patterns is of, pattern by pattern; * stands for any characters."""
  return list(dict.fromkeys(name for pattern in patterns
                            for name in names if fnmatch.fnmatchcase(name, pattern)))
