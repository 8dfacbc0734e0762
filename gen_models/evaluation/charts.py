"""Charts of what is no image: sequence logos, rasters, scatter plots, distributions, costs.

Each returns a grid of one picture in colour, [1, 1, Y, X, 3] in [0, 1], as Experiment.pictures has
them, drawn by matplotlib without a screen.

Axis suffixes: T time bins, V neurons, H hidden units, L columns, Q letters, K counts.

Schneider & Stephens (1990), Sequence logos: a new way to display consensus sequences.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_INK, _ACCENT = '#1f2933', '#b4413c'
# Amino acids by what they are like: acidic, basic, polar, small, greasy.
_COLOURS = {letter: colour for letters, colour in (
  ('DE', '#b4413c'), ('KRH', '#2f6db3'), ('STNQ', '#3d8f5a'), ('GPC', '#c28a2b'),
  ('AVILMFWY', '#1f2933')) for letter in letters}


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options):
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns, squeeze=False, **options)
  for ax in axes.flat:
    ax.spines[['top', 'right']].set_visible(False)
  return figure, axes


def _picture(figure) -> np.ndarray:
  figure.canvas.draw()
  return np.asarray(figure.canvas.buffer_rgba())[None, None, :, :, :3] / np.float32(255)


def scatter(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], x_label: str = 'data',
            y_label: str = 'model', most: int = 20_000) -> np.ndarray:
  """One panel for each name, y against x with the diagonal; at most `most` points of each."""
  figure, axes = _figure(3.2 * len(panels), 3.2, columns=len(panels))
  for ax, (name, (x, y)) in zip(axes[0], panels.items(), strict=True):
    every = max(1, len(x) // most)
    ax.plot(x[::every], y[::every], '.', color=_INK, markersize=2, alpha=0.3, rasterized=True)
    ends = [min(np.min(x), np.min(y)), max(np.max(x), np.max(y))]
    ax.plot(ends, ends, color=_ACCENT, linewidth=1)
    ax.set(title=name, xlabel=x_label, ylabel=y_label)
    ax.locator_params(nbins=4)
  return _picture(figure)


def codes(panels: Mapping[str, np.ndarray], label_N=None, most: int = 5000) -> np.ndarray:
  """Rows as points of the plane, one panel for each name [N, 2], coloured by class where known.

  The axes have no ticks: a code may be stretched and turned at will.
  """
  figure, axes = _figure(4.6 * len(panels) + 0.5, 4.4, columns=len(panels))
  for ax, (name, z_N2) in zip(axes[0], panels.items(), strict=True):
    z_N2 = np.asarray(z_N2)[:most]
    of = None if label_N is None else np.asarray(label_N)[:most]
    for i, label in enumerate([None] if of is None else np.unique(of)):
      here = slice(None) if of is None else of == label
      colour = _INK if of is None else f'C{i % 10}'
      ax.plot(*z_N2[here].T, '.', color=colour, markersize=3, alpha=0.6, rasterized=True,
              label=None if of is None else str(label))
    ax.set(title=name, xticks=[], yticks=[])
  if label_N is not None:
    axes[0, -1].legend(frameon=False, markerscale=3, loc='center left', bbox_to_anchor=(1.0, 0.5))
  return _picture(figure)


def distribution(curves: Mapping[str, np.ndarray], x_label: str, least: float = 1e-4) -> np.ndarray:
  """p(k) of each name on a logarithmic scale, the first one as points, down to `least`."""
  figure, axes = _figure(5.2, 3.4)
  ax, far = axes[0, 0], 1 + max(int(np.max(np.nonzero(p_K > least)[0])) for p_K in curves.values())
  for i, (name, p_K) in enumerate(curves.items()):
    p = np.where(p_K[:far] > 0, p_K[:far], np.nan)
    style = dict(marker='o', linestyle='', color=_INK) if i == 0 else dict(
      color=(_ACCENT, '#2f6db3', '#3d8f5a', '#c28a2b')[(i - 1) % 4])
    ax.plot(np.arange(len(p)), p, label=name, **style)
  ax.set(yscale='log', xlabel=x_label, ylabel='probability')
  ax.legend(frameon=False)
  return _picture(figure)


def growth(curves: Mapping[str, tuple[Sequence[float], Sequence[float], Callable, str]]
           ) -> np.ndarray:
  """Seconds against a count, both on logarithmic scales: points, and the line of what was fitted.

  Args:
    curves: title -> (counts, seconds, count -> seconds as fitted, what is counted).
  """
  from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
  columns = min(3, len(curves))
  figure, axes = _figure(3.6 * columns, 3.0 * -(-len(curves) // columns),
                         -(-len(curves) // columns), columns)
  for ax in axes.flat[len(curves):]:
    ax.set_visible(False)
  for ax, (title, (counts, seconds, fitted, unit)) in zip(axes.flat, curves.items(), strict=False):
    n = np.geomspace(min(counts), max(counts), 100)
    ax.plot(n, 1e3 * np.vectorize(fitted)(n), color=_ACCENT, linewidth=1)
    ax.plot(counts, 1e3 * np.asarray(seconds), 'o', color=_INK, markersize=4)
    ax.set(xscale='log', yscale='log', xlabel=unit, ylabel='milliseconds')
    for axis in (ax.xaxis, ax.yaxis):
      axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
      axis.set_major_formatter(StrMethodFormatter('{x:,.6g}'))
      axis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=7)
    ax.set_title(title, fontsize=8)
  return _picture(figure)


def raster(x_TV, title: str, width: float = 8.0, *, x_label: str = 'time bin',
           y_label: str = 'neuron') -> np.ndarray:
  """Rows of zeros and ones as dots: time to the right, neurons upwards."""
  figure, axes = _figure(width, 3.2)
  t, v = np.nonzero(np.asarray(x_TV) > 0.5)
  size = float(np.clip(200 / np.shape(x_TV)[1], 2, 9))  # points: few neurons have taller marks
  axes[0, 0].plot(t, v, '|', color=_INK, markersize=size, rasterized=True)
  axes[0, 0].set(title=title, xlabel=x_label, ylabel=y_label, xlim=(-0.5, len(x_TV) - 0.5),
                 ylim=(-1, np.shape(x_TV)[1]))
  return _picture(figure)


def heat(x_NV, title: str) -> np.ndarray:
  """Rows of numbers as colours, one below the other, with their scale beside."""
  x_NV = np.asarray(x_NV)
  figure, axes = _figure(min(9.0, 3.0 + 0.12 * x_NV.shape[1]), 3.6)
  shown = axes[0, 0].imshow(x_NV, aspect='auto', interpolation='nearest', cmap='viridis')
  axes[0, 0].set(title=title, xlabel='column', ylabel='row')
  figure.colorbar(shown, ax=axes[0, 0])
  return _picture(figure)


def alignment(v_NLQ, alphabet: Sequence[str], title: str, most: int = 30) -> np.ndarray:
  """The logo of all sequences, and below it the first ones, letter by letter.

  Args:
    v_NLQ: one-of-Q columns.
    alphabet: the letters.
    title: of the logo.
    most: sequences that are written out.
  """
  v_NLQ = np.asarray(v_NLQ)
  letters_NL = v_NLQ[:most].argmax(-1)
  num, length = letters_NL.shape
  figure, axes = _figure(max(4.0, 0.16 * length), 2.0 + 0.16 * num, 2,
                         height_ratios=(1.5, 0.16 * num + 0.2))
  _logo(axes[0, 0], title, v_NLQ.mean(0), alphabet, _shapes(alphabet))
  for i, row_L in enumerate(letters_NL):
    for j, a in enumerate(row_L):
      axes[1, 0].text(j + 0.5, i, alphabet[a], ha='center', va='center', fontsize=7,
                      family='monospace', color=_COLOURS.get(alphabet[a], '#7b8794'))
  axes[1, 0].set(xlim=(0, length), ylim=(num - 0.5, -0.5), xlabel='column', ylabel='draw')
  return _picture(figure)


def assemblies(w_VH, p_TH, title: str = '') -> np.ndarray:
  """For each hidden unit its weights over neurons, and E[h | v] along time."""
  num = np.shape(w_VH)[1]
  figure, axes = _figure(9.0, 0.9 * num + 0.8, num, 2, sharex='col', width_ratios=(1, 2.2))
  for (left, right), w_V, p_T in zip(axes, np.asarray(w_VH).T, np.asarray(p_TH).T, strict=True):
    left.vlines(np.arange(len(w_V)), 0, w_V, color=np.where(w_V > 0, _INK, _ACCENT), linewidth=0.8)
    right.plot(p_T, color=_INK, linewidth=0.7)
    right.set_ylim(min(0, p_T.min()) - 0.05, max(1, p_T.max()) + 0.05)
    left.locator_params(axis='y', nbins=3)
  axes[-1, 0].set_xlabel('neuron: weight')
  axes[-1, 1].set_xlabel('time bin: activity')
  figure.suptitle(title)
  return _picture(figure)


def logos(profiles: Mapping[str, np.ndarray], alphabet: Sequence[str]) -> np.ndarray:
  """Sequence logos, one below the other: letters as high as their share of the information.

    height of a in column i = f_i(a) (log2 Q - sum_b -f_i(b) log2 f_i(b)) bits

  Args:
    profiles: name -> f_i(a), [L, Q], each row a distribution.
    alphabet: the letters.
  """
  length = max(len(f_LQ) for f_LQ in profiles.values())
  figure, axes = _figure(max(4.0, 0.16 * length), 1.5 * len(profiles) + 0.4, len(profiles))
  shapes = _shapes(alphabet)
  for ax, (name, f_LQ) in zip(axes[:, 0], profiles.items(), strict=True):
    _logo(ax, name, f_LQ, alphabet, shapes)
  axes[-1, 0].set_xlabel('column')
  return _picture(figure)


def _shapes(alphabet: Sequence[str]) -> dict:
  """The outlines of letters; of words that stand for categories their first letter."""
  from matplotlib.textpath import TextPath
  return {letter: TextPath((0, 0), str(letter)[:1], size=1) for letter in alphabet}


def _logo(ax, name: str, f_LQ, alphabet: Sequence[str], shapes: dict) -> None:
  """Letters as high as their share of the information, in one panel."""
  from matplotlib.patches import PathPatch
  from matplotlib.transforms import Affine2D
  f_LQ = np.asarray(f_LQ, np.float64)
  bits_L = np.log2(f_LQ.shape[1]) + np.sum(f_LQ * np.log2(np.maximum(f_LQ, 1e-12)), axis=1)
  for i, f_Q in enumerate(f_LQ):
    base = 0.0
    for a in np.argsort(f_Q):
      height, box = f_Q[a] * bits_L[i], shapes[alphabet[a]].get_extents()
      if height < 0.02:
        continue
      wide = 0.9 / max(box.width, 0.5)  # an I stays narrow
      move = Affine2D().translate(-box.x0, -box.y0).scale(
        wide, height / max(box.height, 1e-6)).translate(i + 0.5 - wide * box.width / 2, base)
      ax.add_patch(PathPatch(move.transform_path(shapes[alphabet[a]]), linewidth=0,
                             color=_COLOURS.get(alphabet[a], '#7b8794')))
      base += height
  ax.set(xlim=(0, len(f_LQ)), ylim=(0, np.log2(f_LQ.shape[1])), ylabel='bits', title=name)


def contact_map(s_LL, contact_LL, num: int, title: str = '') -> np.ndarray:
  """The `num` best pairs below the diagonal, red where they do not touch; contacts in grey."""
  from gen_models.evaluation.contacts import SEPARATION
  figure, axes = _figure(4.4, 4.6)
  ax, contact_LL = axes[0, 0], np.asarray(contact_LL, bool)
  i, j = np.nonzero(contact_LL)
  ax.plot(j, i, 's', color='#cbd2d9', markersize=4)
  i, j = np.triu_indices(len(s_LL), SEPARATION)
  best = np.argsort(-np.asarray(s_LL)[i, j], kind='stable')[:num]
  good = contact_LL[i[best], j[best]]
  for here, colour in ((good, _INK), (~good, _ACCENT)):
    ax.plot(i[best][here], j[best][here], 'o', color=colour, markersize=3)
  ax.set(title=title, xlabel='column', ylabel='column', aspect='equal',
         xlim=(-1, len(s_LL)), ylim=(len(s_LL), -1))
  return _picture(figure)
