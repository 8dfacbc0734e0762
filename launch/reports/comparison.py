"""The story's table, its page and its picture, from the results of its families."""

import html
import pathlib
from collections.abc import Sequence

from gen_models import files
from launch.reports import markup, run_page, tables
from launch.runs.result import Result

# Of a result; what table.json has besides is the family, its scores and those of its draws.
_FIELDS = ('experiment', 'variant', 'test_nats', 'kind', 'lower', 'upper', 'resolved', 'hollow',
           'standard_error', 'seed_spread', 'effective_sample_size', 'why', 'num_images',
           'binarisation', 'num_parameters', 'train_seconds', 'seeds', 'step', 'dataset',
           'sample_space', 'memorised', 'protocol')


def row(family: str, result: Result) -> dict:
  """One object of table.json: likelihood, size, cost, and the sample scores with their floors."""
  value = result.to_json()
  return {'family': family, **{k: value[k] for k in _FIELDS if k in value},
          **value.get('scores', {}), 'samples': value.get('samples', {})}


def write(workdir: pathlib.Path, name: str, lines: Sequence[tables.Line]) -> pathlib.Path:
  """Writes report.html."""
  path = workdir / 'report.html'
  files.write_text(path, report(workdir, name, lines))
  return path


def report(workdir: pathlib.Path, name: str, lines: Sequence[tables.Line]) -> str:
  """One self-contained page."""
  sections = []
  for family, result in lines:
    figures = sorted((workdir / family / 'figures').glob('*.png'), key=_order)
    pictures = ''.join(markup.image(path, 'pixels', path.stem.replace('_', ' ')) for path in figures
                       if not path.stem.startswith('curves'))
    sections.append(f'<h2>{html.escape(family)}</h2><p class="soft">'
                    f'{html.escape(result.protocol)}</p><div class="pictures">{pictures}</div>'
                    f'{run_page.scores(family, result)}')
  table = markup.table(tables.story_cells(lines, every=True), tables.story_notes(lines))
  body = f"""<h1>Every family on {html.escape(lines[0].result.dataset)}</h1>
<p>Test nats per image: exact, a bracket or a bound, as the kind says; a dash where the model has no
likelihood. Densities of real-valued pixels are in other units than probabilities of binary ones:
compare within one binarisation. Sample scores compare draws with test images; the last line is what
real training images score.</p>
<section id="families" data-experiment="families">{table}</section>
{''.join(sections)}"""
  return markup.page(name, body, markup.filters([('families', 'families')]))


def _order(path: pathlib.Path):
  """Samples first, then their neighbours, then what else there is."""
  return (not path.stem.startswith('samples'), path.stem)


def picture(workdir: pathlib.Path, families: list[str],
            path: pathlib.Path) -> pathlib.Path | None:
  """Samples of every family in a row of grids, real images first; None where there are none."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  grids = [(family, workdir / family / 'figures' / 'samples.png') for family in families]
  grids = [(family, file) for family, file in grids if file.exists()]
  real = next(workdir.glob('*/figures/data.png'), None)
  if real:
    grids.insert(0, ('test images', real))
  if not grids:
    return None
  figure, axes = plt.subplots(1, len(grids), figsize=(2.2 * len(grids), 2.5), squeeze=False,
                              layout='constrained')
  for axis, (name, file) in zip(axes.flat, grids):
    axis.imshow(plt.imread(file), cmap='gray', vmin=0, vmax=1, interpolation='nearest')
    axis.set_title(name, fontsize=10)
    axis.axis('off')
  with files.replacing(path, binary=True) as file:
    figure.savefig(file, dpi=110, format='png')
  plt.close(figure)
  return path
