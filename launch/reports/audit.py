"""The output of launch.audit: tables, coordinates as CSV, the picture."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gen_models import files
from gen_models.evaluation import gradients
from launch.measure import along, audit


def table(rows: Sequence[audit.Row]) -> str:
  """A table for each problem, for people."""
  parts = []
  for name, problem in {row.case.problem.name: row.case.problem for row in rows}.items():
    head = ('', 'declared', 'found', '|bias|', 'interval', 'largest |z|', 'variance', 'snr',
            'us a step')
    cells = [head, *(_cells(row) for row in rows if row.case.problem.name == name)]
    parts.append(f'{audit.head(problem)}\n' + _aligned(cells, 3))
  found = rows[0].found
  parts.append(f'{found.num_draws} draws at fixed parameters and batch against the enumerated '
               f'gradient. All coordinates lie in their\nintervals, and |bias| in its own, with '
               f'probability {1 - audit.ERROR_RATE:.4f}; * is a disagreement, '
               'snr |gradient| / noise.')
  return '\n\n'.join(parts)


def _cells(row: audit.Row) -> tuple[str, ...]:
  found, declared = row.found, 'biased' if row.case.entry.estimator.biased else 'unbiased'
  verdict = 'biased' if found.biased else 'unbiased'
  low, high = found.bias_interval
  return (row.case.name, declared + ('' if row.case.says else ', by default'),
          verdict + ('' if row.finite else ', nan') + ('' if row.agrees else ' *'),
          _number(found.bias_norm), f'[{_number(low)}, {_number(high)}]',
          f'{found.bias_z:.1f} of {found.threshold:.1f}', _number(found.variance),
          'inf' if found.variance < 1e-8 else _number(found.snr),
          f'{1e6 * row.seconds_per_step:.1f}')


def _number(x: float) -> str:
  """Three digits; what is below the rounding of float32 is 0."""
  return '0' if abs(x) < 1e-6 else f'{x:.3g}'


def _aligned(cells: Sequence[Sequence[str]], num_words: int) -> str:
  """Lines of columns: first words, to the left, then numbers, to the right."""
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return '\n'.join('  ' + '  '.join(
    f'{cell:{"<" if i < num_words else ">"}{width}}'
    for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells)


def worst(row: audit.Row, num: int = 8) -> str:
  """The coordinates of one estimator with the largest |z|."""
  everything = audit.worst_coordinates(row.found)
  cells = [('', 'gradient', 'bias', 'interval', 'z', 'variance'), *(
    (c.name, _number(c.target), _number(c.bias), f'[{_number(c.low)}, {_number(c.high)}]',
     f'{c.z:.1f}', _number(c.variance)) for c in everything[:num])]
  return (f'{row.case.name}: {min(num, len(everything))} of {len(everything)} coordinates, by |z|\n'
          + _aligned(cells, 1))


def along_table(rows: Sequence[along.Row]) -> str:
  """A line for each estimator at each checkpoint."""
  cells = [('', 'declared', 'step', '|bias|', 'noise of it', 'variance', 'snr', 'cosine',
            'us a step')]
  cells += [(row.name, 'biased' if row.biased else 'unbiased', str(row.step),
             _number(row.found.bias_norm), _number(row.found.bias_noise),
             _number(row.found.variance), _number(row.found.snr), f'{row.found.cosine:.3f}',
             f'{1e6 * row.seconds_per_step:.1f}') for row in rows]
  return (_aligned(cells, 2) + f'\n\n{rows[0].found.num_draws} draws at fixed parameters and batch '
          f'against the mean of {along.REFERENCE_DRAWS} times as many of the\nfirst unbiased one; '
          'snr is |gradient| / noise of one draw, cosine that of one draw. An estimator of\n'
          'another bound differs from the reference by more than its bias.')


def along_json(row: along.Row) -> str:
  """One row as a JSON object."""
  return json.dumps({'name': row.name, 'declared_biased': row.biased, 'step': row.step,
                     **row.found._asdict(), 'seconds_per_step': row.seconds_per_step})


def along_picture(rows: Sequence[along.Row], path: pathlib.Path) -> None:
  """Variance, signal-to-noise and cosine of each estimator over the steps of the run."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout='constrained')
  for i, name in enumerate(dict.fromkeys(row.name for row in rows)):
    own = [row for row in rows if row.name == name]
    steps = [row.step for row in own]
    for axis, values in zip(axes, (
        [row.found.variance for row in own], [row.found.snr for row in own],
        [row.found.cosine for row in own]), strict=True):
      axis.plot(steps, values, '--o' if own[0].biased else '-o', color=f'C{i % 10}', label=name,
                markersize=4)
  for axis, label in zip(axes, ('variance of one gradient', '|gradient| / noise',
                                'cosine of one gradient'), strict=True):
    axis.set(xlabel='updates', ylabel=label)
    axis.spines[['top', 'right']].set_visible(False)
  axes[0].set_yscale('log')
  axes[1].set_yscale('log')
  figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=6,
                frameon=False, fontsize=9)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=110, format='png')
  plt.close(figure)


def write_csv(rows: Sequence[audit.Row], path: pathlib.Path) -> None:
  """Every coordinate of what was asked for, a line each."""
  head = ('estimator', 'coordinate', 'target', 'bias', 'low', 'high', 'z', 'variance')
  files.write_csv(path, [head, *(
    [row.case.name, c.name, *(f'{x:.9g}' for x in c[1:])]
    for row in rows if row.case.asked for c in gradients.coordinates(row.found))])


def picture(rows: Sequence[audit.Row], path: pathlib.Path) -> None:
  """On one problem |bias| against noise, and of a single estimator asked for every coordinate; on
  several a line for each estimator, |bias| and noise in units of the gradient.
  """
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  asked = [row for row in rows if row.case.asked]
  several = len({row.case.entry.problem for row in rows}) > 1
  panels = 2 if several or len(asked) == 1 else 1
  figure, axes = plt.subplots(1, panels, squeeze=False, layout='constrained', sharey=several,
                              figsize=(7 * panels, 1.5 + 0.2 * len(rows) if several else 5.8))
  figure.legend(handles=_legend(), loc='outside lower center', ncols=2 * panels, frameon=False,
                fontsize=9)
  if several:
    _lines(axes[0], rows)
  else:
    marks = _scatter(axes[0, 0], rows, rows[0].case.entry.problem)
    if len(asked) == 1:
      _coordinates(axes[0, 1], asked[0])
    figure.canvas.draw()  # the layout is known from here on
    _label(axes[0, 0], marks)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=110, format='png')
  plt.close(figure)


_ASKED, _BESIDE, _WRONG = 'C0', '0.4', 'C3'
_NO_NOISE = 1e-4  # sqrt(variance) of an estimator without noise is rounding, below this


def _legend():
  from matplotlib.lines import Line2D
  shapes: dict[str, dict[str, Any]] = {
    'bias found, with its interval': dict(marker='o', color=_BESIDE),
            'none found: |bias| is below': dict(marker='v', color=_BESIDE, markerfacecolor='w'),
            'asked for': dict(marker='s', color=_ASKED),
            'not as declared, or a biased coordinate': dict(marker='s', color=_WRONG)}
  return [Line2D([], [], linestyle='', label=label, **shape) for label, shape in shapes.items()]


def _lines(axes, rows) -> None:
  """A line for each estimator: |bias| with its interval, and noise, both over |gradient|."""
  bias, noise = axes
  names = []
  for i, row in enumerate(rows):
    found, problem = row.found, row.case.entry.problem
    names.append(f'{row.case.name.rpartition("/")[2]}  ({problem})')
    if i and problem != rows[i - 1].case.entry.problem:
      for axis in axes:
        axis.axhline(i - 0.5, color='0.9', linewidth=0.8, zorder=0)
    if not row.finite:
      continue
    unit = float(np.linalg.norm(np.concatenate(
      [np.ravel(x) for x in jax.tree.leaves(found.target)])))
    low, high = (x / unit for x in found.bias_interval)
    colour = _colour(row)
    if found.biased:
      bias.plot([low, high], [i, i], color=colour, linewidth=1.2)
      bias.plot(found.bias_norm / unit, i, 'o', color=colour, markersize=4.5)
    else:
      bias.plot(high, i, '<', color=colour, markersize=4.5, markerfacecolor='w')
    if found.variance > _NO_NOISE**2:
      noise.plot(np.sqrt(found.variance) / unit, i, 'o', color=colour, markersize=4.5)
  bias.set_yticks(range(len(rows)), names, fontsize=7)
  bias.set_ylim(len(rows) - 0.5, -0.5)
  bias.set(xscale='log', xlabel='|bias| / |gradient|')
  noise.set(xscale='log', xlabel='noise of one gradient, sqrt(variance) / |gradient|; '
            'no mark: none')
  for axis in axes:
    axis.spines[['top', 'right']].set_visible(False)


def _colour(row) -> str:
  return _WRONG if not row.agrees else _ASKED if row.case.asked else _BESIDE


def _scatter(axis, rows, problem) -> list[tuple]:
  """|bias| against the noise of one draw, log axes; returns (x, y, name, colour) of each."""
  shown = [row for row in rows if row.finite]
  noise = [np.sqrt(row.found.variance) for row in shown]
  noisy = [x for x in noise if x > _NO_NOISE]
  left = min(noisy, default=1.0) / 3
  # An exact gradient is off by its rounding: far below all others, and put a little below them.
  heights = [row.found.bias_norm if row.found.biased else row.found.bias_interval[1]
             for row in shown]
  bottom = min((y for x, y in zip(noise, heights) if x > _NO_NOISE), default=0.0) / 3
  marks = []
  for row, x in zip(shown, noise):
    low, high = row.found.bias_interval
    colour = _colour(row)
    x, y = max(x, left), max(row.found.bias_norm if row.found.biased else high, bottom)
    if row.found.biased:
      axis.plot([x, x], [low, high], color=colour, linewidth=1.2)
    axis.plot(x, y, 'o' if row.found.biased else 'v', color=colour, markersize=6,
              markerfacecolor=colour if row.found.biased else 'w')
    marks.append((x, y, row.case.name.rpartition('/')[2], colour))
  if len(noisy) < len(shown):
    axis.axvline(left * 1.6, color='0.85', linewidth=0.8, zorder=0)
    axis.text(left * 1.5, 0.01, 'no noise', transform=axis.get_xaxis_transform(), color='0.6',
              fontsize=8, ha='right', va='bottom')
  axis.set(xscale='log', yscale='log', title=problem, ylabel='|bias|',
           xlabel='noise of one gradient, sqrt(variance)')
  axis.margins(x=0.2, y=0.12)
  axis.set_xlim(right=2 * axis.get_xlim()[1])  # room for the last name
  axis.spines[['top', 'right']].set_visible(False)
  return marks


def _label(axis, marks) -> None:
  """Names beside their marks, each moved to a free place, with a line back to its mark."""
  from matplotlib.text import Text
  from matplotlib.transforms import Bbox
  renderer = axis.figure.canvas.get_renderer()
  places = [axis.transData.transform(mark[:2]) for mark in marks]
  taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
  moves = sorted(((right, up) for up in range(-60, 61, 10) for right in (8, 24, 60)),
                 key=lambda move: math.hypot(*move))
  for x, y, name, colour in sorted(marks, key=lambda mark: mark[1]):
    text = axis.annotate(name, (x, y), moves[0], textcoords='offset points', color=colour,
                         fontsize=8, va='center', arrowprops=dict(
                           arrowstyle='-', color='0.7', linewidth=0.5, shrinkB=3, relpos=(0, 0.5)))
    text.set_in_layout(False)
    box = None
    for move in moves:
      text.set_position(move)
      text.update_positions(renderer)
      box = Text.get_window_extent(text, renderer)  # without its line
      if not any(box.overlaps(other) for other in taken):
        break
    if box is not None:
      taken.append(box)


def _coordinates(axis, row) -> None:
  """The bias of every coordinate with its interval, in the order of the leaves."""
  found = gradients.coordinates(row.found)
  for i, c in enumerate(found):
    colour = _ASKED if c.low <= 0 <= c.high else _WRONG
    axis.plot([i, i], [c.low, c.high], color=colour, linewidth=1.2)
    axis.plot(i, c.bias, 'o', color=colour, markersize=3.5)
  axis.axhline(0, color='0.5', linewidth=0.8)
  leaves = [c.name.partition('[')[0] for c in found]
  starts = [i for i, leaf in enumerate(leaves) if i == 0 or leaves[i - 1] != leaf]
  for i in starts[1:]:
    axis.axvline(i - 0.5, color='0.85', linewidth=0.8, zorder=0)
  axis.set_xticks(starts, [leaves[i] for i in starts], rotation=30 if len(starts) > 5 else 0,
                  ha='right' if len(starts) > 5 else 'left')
  axis.set(title=f'{row.case.name.rpartition("/")[2]}: bias of each coordinate', ylabel='bias')
  axis.spines[['top', 'right']].set_visible(False)
