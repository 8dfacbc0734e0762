"""The page of many runs: published beside ours, curves with bands, pictures, audits."""

import html
import json
import os
import pathlib
import re
from collections.abc import Sequence

from gen_models import files
from launch import errors
from launch.cli import jax_setup, registry
from launch.reports import collect, curves, markup, run_page, tables
from launch.runs import directory as rundir, load, pictures

LARGEST = 400_000  # bytes of a picture in the page; a larger one lies beside it
TOTAL = 30_000_000  # of all pictures


class Report:
  """A page and, in the folder beside it, every figure and table as a file.

  Args:
    out: of the page.
    data_dir: of prepared data, for pictures that have to be drawn.
    pictures: rows of each experiment whose pictures are drawn.
    metrics: patterns of the metrics whose curves are shown at once; none: the headline's.
    folder: of its files, when it is that of one run: then names need no prefix.
  """

  def __init__(self, out: pathlib.Path, data_dir: str | None = None, pictures: int = 12,
               metrics: Sequence[str] = (), folder: pathlib.Path | None = None):
    self.out, self.files = out, folder or out.with_name(f'{out.stem}_files')
    self._alone = folder is not None
    self._data_dir, self._pictures, self._room = data_dir, pictures, TOTAL
    self._metrics = metrics

  def write(self, found: collect.Found, title: str) -> pathlib.Path:
    """Writes everything and returns the path of the page."""
    files.directory(self.files)
    names = list(dict.fromkeys(row.experiment for row in found.rows))
    sections = [(f'e{i}', name) for i, name in enumerate(names)]
    body = [self._experiment(i, name, [r for r in found.rows if r.experiment == name])
            for i, name in sections]
    body += [self._story(i, path, story) for i, (path, story) in enumerate(found.stories.items())]
    body += [self._audit(i, path, audits) for i, (path, audits) in enumerate(found.audits.items())]
    seeds = sum(len(row.seeds) for row in found.rows)
    head = (f'<header><h1>{html.escape(title)}</h1><p class="soft">{len(found.rows)} '
            f'configurations, {seeds} runs. Log-likelihoods in nats per image; ± is the standard '
            'deviation over seeds. A number is of its binarisation and images: compare within one.'
            '</p></header>')
    if len(sections) > 1:
      head += '<nav aria-label="experiments">' + ''.join(
        f'<a href="#{i}">{html.escape(name)}</a>' for i, name in sections) + '</nav>'
    files.write_text(self.out, markup.page(title, head + ''.join(body), markup.filters(sections)))
    return self.out

  def _experiment(self, ident: str, name: str, rows: Sequence[collect.Row]) -> str:
    """Table, curves and pictures of one experiment."""
    parts = [f'<h2>{html.escape(name)}</h2>']
    entry = registry.load(name) if name in registry.names() else None
    if entry:
      parts.append(f'<p>{html.escape(entry.doc.strip().splitlines()[0])}</p>')
    scored = [row for row in rows if row.result]
    if scored:
      lines = [tables.Line(row.name, row.result) for row in scored]
      parts.append(self._table(f'{name}', tables.cells(lines), tables.notes(lines)))
    open_rows = [row for row in rows if not row.result]
    if open_rows:
      cells = [['run', 'seeds', 'updates', 'state'], *(
        [row.name, ', '.join(map(str, row.seeds)), f'{self._step(row):,}', self._state(row)]
        for row in open_rows)]
      parts.append(self._table(f'{name} not scored', cells, 'not scored yet: '
                               'python -m launch.evaluate --workdir=...'))
    remarks = [remark for row in rows for remark in row.remarks]
    parts += [f'<p class="mark">{html.escape(remark)}</p>' for remark in remarks[:20]]
    if len(remarks) > 20:
      parts.append(f'<p class="mark">and {len(remarks) - 20} more remarks</p>')
    headline = entry.experiment(**registry.resolve(entry)).headline if entry else None
    parts.append(self._curves(name, headline, rows))
    trained = [row for row in rows if row.directories]
    for row in trained[:self._pictures]:
      parts.append(self._row(row))
    if len(trained) > self._pictures:
      parts.append(f'<p class="soft">Pictures of the first {self._pictures} of {len(trained)} '
                   'configurations; --pictures=N draws more.</p>')
    committed = tables.of_experiment(name, tables.load()) if trained else []
    if committed:
      parts.append(markup.folded('committed results of this experiment', markup.table(
        tables.cells(committed), tables.notes(committed))))
    return (f'<section id="{ident}" data-experiment="{html.escape(name)}">{"".join(parts)}'
            '</section>')

  def _table(self, name: str, cells, caption: str) -> str:
    """In the page, and as CSV and Markdown beside it."""
    files.write_csv(self.files / f'{slug(name)}.csv', cells)
    files.write_text(self.files / f'{slug(name)}.md', f'{markup.markdown(cells)}\n\n{caption}\n')
    return markup.table(cells, caption)

  def _curves(self, name: str, headline: str | None, rows: Sequence[collect.Row]) -> str:
    """The headline, or the metrics that were named, at once; all metrics when asked for."""
    read = {row.name: curves.read(row.directories) for row in rows if row.directories}
    read = {label: found for label, found in read.items() if found}
    names = curves.order(read, headline)
    if not names:
      return ''
    stem = f'{self._stem(name)}curves'
    curves.write_csv(read, self.files / f'{stem}.csv')
    at_once = curves.matching(names, self._metrics) or names[:1]
    first = curves.draw(read, at_once, self.files / f'{stem}.png')
    what = 'a line a configuration' + (', a band from the lowest seed to the highest' if any(
      c.seeds > 1 for found in read.values() for c in found.values()) else '')
    text = self._image(first, '', f'{", ".join(at_once)} against updates: {what}')
    if len(names) > len(at_once):
      every = curves.draw(read, names, self.files / f'{stem}_all.png')
      text += markup.folded('all metrics', self._image(every, '', f'every metric: {what}'))
    return f'<h3>Training</h3>{text}'

  def _row(self, row: collect.Row) -> str:
    """Pictures and scores of one configuration; pictures are those of the first seed."""
    directory = row.directories[0]
    pictures, why = self.draw(directory, self._stem(row.experiment, row.name))
    shown = ''.join(self._image(path, 'pixels', caption) for caption, path in pictures)
    details = run_page.scores(row.name, row.result) if row.result else ''
    more = '' if len(row.seeds) == 1 else f' of seed {row.config["seed"]}, one of {len(row.seeds)}'
    return (f'<div data-row="{html.escape(row.name)}"><h3>{html.escape(row.name)}</h3>'
            + (f'<p class="soft">pictures{more}</p>' if shown and more else '')
            + (f'<p class="mark">{html.escape(why)}</p>' if why else '')
            + f'<div class="pictures">{shown}</div>'
            + (markup.folded('scores', details) if details else '')
            + markup.folded('configuration', f'<pre>{html.escape(_config(directory))}</pre>')
            + '</div>')

  def draw(self, directory: pathlib.Path, stem: str) -> tuple[list[tuple[str, pathlib.Path]], str]:
    """([(caption, file)], why there are none) of the grids of one run."""
    try:
      run = load.run(directory, 'last', self._data_dir)
    except (ValueError, OSError, RuntimeError) as e:
      return [], f'no pictures: {e}'
    return [(caption, pictures.write_png(grid, self.files / f'{stem}{slug(caption)}.png'))
            for caption, grid in pictures.grids(run).items()], ''

  def _stem(self, *names: str) -> str:
    """How the names of files about this begin."""
    return '' if self._alone else ''.join(f'{slug(name)}_' for name in names)

  def _image(self, path: pathlib.Path, css: str, caption: str) -> str:
    size = path.stat().st_size
    if size > LARGEST or size > self._room:
      where = f'{self.files.name}/{path.name}'
      return (f'<p class="soft">{html.escape(caption)}: {size // 1000} kB, in '
              f'{html.escape(where)}</p>')
    self._room -= size
    return markup.image(path, css, caption)

  def _story(self, i: int, path: pathlib.Path, story: tables.Story) -> str:
    """Families side by side, and the picture that lies beside the file."""
    title = f'Families on {story.lines[0].result.dataset}'
    shown = self._table(path.stem, tables.story_cells(story.lines),
                        tables.story_notes(story.lines))
    if path.with_suffix('.png').exists():
      files.write_bytes(self.files / path.with_suffix('.png').name,
                        files.read_bytes(path.with_suffix('.png')))
      shown += self._image(path.with_suffix('.png'), '', 'test images and samples of every family')
    return (f'<section id="s{i}" data-experiment="{html.escape(path.stem)}"><h2>'
            f'{html.escape(title)}</h2>{shown}</section>')

  def _audit(self, i: int, path: str, audits: Sequence[dict]) -> str:
    """What launch.audit --json printed, as a table."""
    def number(x):
      return 'not finite' if x is None else f'{x:.3g}'.replace('-', '−')

    cells = [['estimator', 'declared', 'found', '|bias|', 'largest |z|', 'draws', 'variance',
              'signal to noise', 'µs a step'], *(
      [a['name'], _verdict(a['declared_biased']), _verdict(a['biased'])
       + ('' if a['biased'] == a['declared_biased'] else ', disagrees'),
       number(a.get('bias_norm')), number(a['bias_z']), f'{a.get("num_draws", 0):,}',
       number(a['variance']), number(a['snr']), number(1e6 * a['seconds_per_step'])]
      for a in audits)]
    shown = self._table(f'audit {i}', cells, f'{path}: at fixed parameters, against the enumerated '
                        'gradient')
    return (f'<section id="a{i}" data-experiment="audit"><h2>Audit of estimators</h2>{shown}'
            '</section>')

  def _step(self, row: collect.Row) -> int:
    found = curves.read(row.directories[:1])
    return max((int(c.step[-1]) for c in found.values()), default=0)

  def _state(self, row: collect.Row) -> str:
    frozen = sum((d / rundir.FAILED).exists() for d in row.directories)
    return f'{frozen} of {len(row.seeds)} frozen' if frozen else 'trained or training'


def _verdict(biased: bool) -> str:
  return 'biased' if biased else 'unbiased'


def slug(text: str) -> str:
  """A name as part of a file's name."""
  return re.sub(r'[^A-Za-z0-9.=+]+', '_', text).strip('_')[:80]


def _config(directory: pathlib.Path) -> str:
  """config.json, and how and where the run was started last."""
  text = json.dumps(rundir.read_config(directory), indent=2)
  try:
    start = json.loads((directory / 'environment.json').read_text(encoding='utf-8'))[-1]
  except (OSError, ValueError, IndexError):
    return text
  return f'{text}\n{json.dumps(start, indent=2)}'


def of_run(workdir: str | os.PathLike, data_dir: str | None = None) -> pathlib.Path:
  """report.html and figures/ of one run; raises as collect.gather."""
  workdir = pathlib.Path(workdir)
  rundir.read_config(workdir)
  found = collect.gather([workdir])
  mine = [row for row in found.rows if workdir in row.directories]
  jax_setup.setup()
  report = Report(workdir / 'report.html', data_dir, folder=workdir / 'figures')
  return report.write(collect.Found(mine, {}, {}), f'{mine[0].experiment} {mine[0].name}')


def of_directories(directories: Sequence[str | os.PathLike], out: str | os.PathLike,
                   data_dir: str | None = None, pictures: int = 12,
                   metrics: Sequence[str] = ()) -> pathlib.Path:
  """Gathers and writes; raises as collect.gather, and UsageError for a metric that no run has."""
  directories, out = list(map(pathlib.Path, directories)), pathlib.Path(out)
  found = collect.gather(directories)
  names = curves.order({row.name: curves.read(row.directories) for row in found.rows}, None)
  for pattern in metrics:
    if not curves.matching(names, [pattern]):
      raise errors.UsageError(f'--metrics={pattern}: no run has such a metric; they have '
                              f'{", ".join(names) or "none"}')
  jax_setup.setup()
  out.parent.mkdir(parents=True, exist_ok=True)
  title = ' and '.join(dict.fromkeys(row.experiment for row in found.rows)) or 'audits'
  if len(title) > 80:
    title = f'{len({row.experiment for row in found.rows})} experiments'
  return Report(out, data_dir, pictures, metrics).write(found, title)
