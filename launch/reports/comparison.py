"""The story's table, its page and its picture, from the results of its families."""

import html
import pathlib

from gen_models import files
from launch.reports import markup, run_page

_FIELDS = ('experiment', 'variant', 'test_nats', 'kind', 'lower', 'upper', 'resolved',
           'standard_error', 'seed_spread', 'effective_sample_size', 'why', 'num_images',
           'binarisation', 'num_parameters', 'train_seconds', 'seeds', 'step', 'dataset',
           'sample_space', 'memorised')


def row(family: str, result: dict) -> dict:
  """One object of table.json: likelihood, size, cost, and the sample scores with their floors."""
  return {'family': family, **{k: result[k] for k in _FIELDS if k in result},
          'protocol': result['protocol'], **result.get('scores', {}),
          'samples': result.get('samples', {})}


def nats(row: dict) -> str:
  """-18.11 +- 0.12; a dash where there is no likelihood."""
  if row['test_nats'] is None:
    return '–'
  spread = f' ± {row["seed_spread"]:.2f}' if 'seed_spread' in row else ''
  sides = f' [{row["lower"]:.2f}, {row["upper"]:.2f}]' if row['kind'] == 'bracket' else ''
  return f'{row["test_nats"]:.2f}{spread}{sides}'.replace('-', '−')


def columns(rows) -> list[str]:
  """Names of the sample scores that any family has, in the order of the first that has them."""
  return list(dict.fromkeys(name for r in rows for name in r['samples']))


def cells(rows) -> list[list[str]]:
  """The table as text, its head first."""
  names = columns(rows)
  head = ['family', 'test nats', 'kind', 'binarisation', 'parameters', 'training seconds', *names]
  body = [[r['family'], nats(r), r['kind'], r['binarisation'], f'{r["num_parameters"]:,}',
           f'{r["train_seconds"]:.0f}',
           *(f'{r["samples"][n]["value"]:.3g}' if n in r['samples'] else '–' for n in names)]
          for r in rows]
  scored = next((r for r in rows if r['samples']), None)
  if scored:
    body.append(['*real training images*', '–', '–', scored['sample_space'], '–', '–',
                 *(f'{scored["samples"][n]["floor"]:.3g}' for n in names)])
  return [head, *body]


def text(rows) -> str:
  """The table for a terminal."""
  table = cells(rows)
  widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
  return '\n'.join('  '.join(f'{c:{w}}' for c, w in zip(line, widths)) for line in table)


def write(workdir: pathlib.Path, name: str, results, rows) -> pathlib.Path:
  """Writes report.html."""
  path = workdir / 'report.html'
  files.write_text(path, report(workdir, name, results, rows))
  return path


def report(workdir: pathlib.Path, name: str, results, rows) -> str:
  """One self-contained page."""
  sections = []
  for family, result in results.items():
    figures = sorted((workdir / family / 'figures').glob('*.png'), key=_order)
    pictures = ''.join(markup.image(path, 'pixels', path.stem.replace('_', ' ')) for path in figures
                       if not path.stem.startswith('curves'))
    sections.append(f'<h2>{html.escape(family)}</h2><p class="soft">'
                    f'{html.escape(result["protocol"])}</p><div class="pictures">{pictures}</div>'
                    f'{run_page.scores(family, result)}')
  first, space = rows[0], next((r['sample_space'] for r in rows if r['samples']), '')
  caption = f'{first["num_images"]} test images; {len(first["seeds"])} seeds'
  body = f"""<h1>Every family on {html.escape(first["dataset"])}</h1>
<p>Test nats per image: exact, a bracket or a bound, as the kind says; a dash where the model has no
likelihood. Densities of real-valued pixels are in other units than probabilities of binary ones:
compare within one binarisation. Sample scores compare draws with test images, both
{html.escape(space)}; the last line is what real training images score.</p>
<section id="families" data-experiment="families">{markup.table(cells(rows), caption)}</section>
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
