"""The page of runs: published values with ours, curves with bands, pictures, audits."""

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from gen_models import files
from launch import errors
from launch.cli import hyperparameters, jax_setup, registry
from launch.reports import collect, comparison, curves, markup, run_page, tables, tradeoff, words
from launch.reports.markup import plural, tag
from launch.runs import directory as rundir, load, pictures

LARGEST = 400_000  # bytes of a picture in the page; a larger one lies beside it
TOTAL = 30_000_000  # of all pictures
_MOST_REMARKS = 20
_CAPTIONS = {'data': 'test images'}
_COMPARABLE = ('Log-likelihoods are in nats per image or row; ± is the standard deviation over '
               'seeds. Compare only numbers of the same test data under the same binarisation.')


class Report:
  """A page and, in the folder beside it, every figure and table as a file.

  Args:
    out: of the page.
    data_dir: of prepared data, for pictures that have to be drawn.
    pictures: rows of each experiment whose pictures are drawn.
    metrics: patterns of the metrics whose curves are shown at once; none: the headline's.
    folder: of its files, when it is that of one run: then names need no prefix.
    against: two scores that are drawn against one another; None: tradeoff.USUAL of a sweep.
  """

  def __init__(self, out: pathlib.Path, data_dir: str | None = None, pictures: int = 12,
               metrics: Sequence[str] = (), folder: pathlib.Path | None = None,
               against: tuple[str, str] | None = None):
    self.out, self.files = out, folder or out.with_name(f'{out.stem}_files')
    self._single = folder is not None
    self._data_dir, self._pictures, self._room = data_dir, pictures, TOTAL
    self._metrics, self._taken, self._data_shown = metrics, set(), set()
    self._against = against

  def write(self, found: collect.Found, title: str) -> pathlib.Path:
    """Writes everything and returns the path of the page."""
    files.directory(self.files)
    names = list(dict.fromkeys(row.experiment for row in found.rows))
    sections = [(f'e{i}', name) for i, name in enumerate(names)]
    body: list[markup.Node] = [tag('header', tag('h1', title),
                tag('p', f'{_summary(found.rows)} {_COMPARABLE}', class_='soft')
                if found.rows else None)]
    if len(sections) > 1:
      body.append(tag('nav', [tag('a', _short(name), href=f'#{i}') for i, name in sections],
                      aria_label='experiments'))
    body.append(_remarks(found.remarks))
    headed = len(sections) + len(found.stories) + len(found.audits) > 1
    body += [self._experiment(i, name, [r for r in found.rows if r.experiment == name], headed)
             for i, name in sections]
    body += [self._story(i, path, story) for i, (path, story) in enumerate(found.stories.items())]
    body += [self._audit(i, path, audits) for i, (path, audits) in enumerate(found.audits.items())]
    tools = markup.filters([(i, _short(name)) for i, name in sections]) if len(
      found.rows) > 1 else None
    files.write_text(self.out, markup.page(title, body, tools))
    return self.out

  def _experiment(self, ident: str, name: str, rows: Sequence[collect.Row],
                  headed: bool) -> markup.Node:
    """Table, curves and pictures of one experiment; a page of only one needs no heading."""
    known = {id(row): _known(row) for row in rows}
    about = next((k for k in known.values() if k.doc), _Known())
    remarks = [remark for row in rows for remark in row.remarks]
    scored = [tables.Line(row.name, row.result) for row in rows if row.result]
    sole = len(rows) == 1 and bool(rows[0].directories)
    shown = [self._table(name, tables.cells(scored), f'{tables.notes(scored)}.',
                         results=True)] if scored else []
    if sole and scored:  # what the table says stands below in full
      shown = [run_page.likelihood(*scored[0]), tag('p', run_page.effort(scored[0].result),
                                                    class_='soft')]
    if len(scored) < len(rows):
      cells = [['configuration', 'seeds', 'updates', 'state'], *(
        [row.name, str(len(row.seeds)), *_progress(row, known[id(row)])]
        for row in rows if not row.result)]
      shown.append(self._table(f'{name} not scored', cells, 'Not scored yet; python -m '
                               'launch.evaluate --workdir=... scores a run.'))
    drawn = self._curves(name, about.headline, rows, remarks)
    trained = [row for row in rows if row.directories]
    details = [self._row(row, sole) for row in trained[:self._pictures]]
    if len(trained) > self._pictures:
      details.append(tag('p', f'Pictures of the first {self._pictures} of {len(trained)} '
                         'configurations; --pictures=N draws more.', class_='soft'))
    committed = tables.of_experiment(name, tables.load()) if trained else []
    if committed:
      details.append(markup.folded('Committed results of this experiment', markup.table(
        run_page.in_words(tables.cells(committed)), f'{tables.notes(committed)}.')))
    return tag(
      'section', tag('h2', _short(name)) if headed else None,
      tag('p', name, class_='soft') if name != _short(name) else None,
      tag('p', about.doc) if about.doc else None,
      tag('div', tag('div', shown), drawn.first, class_='side'), drawn.rest,
      self._tradeoff(name, rows), _remarks(remarks), details, id=ident, data_experiment=name)

  def _table(self, name: str, cells: tables.Cells, caption: str,
             results: bool = False) -> markup.Node:
    """In the page, and as CSV and Markdown beside it; one of results is narrower in the page."""
    stem = self._free(slug(name))
    files.write_csv(self.files / f'{stem}.csv', cells)
    files.write_text(self.files / f'{stem}.md', f'{markup.markdown(cells)}\n\n{caption}\n')
    if not results:
      return markup.table(run_page.in_words(cells), caption, rows=True)
    whole, same = run_page.common(cells)
    shown, caption = run_page.narrow(whole), f'{caption} {same}'.strip()
    table = markup.table(run_page.in_words(shown), caption, rows=True)
    if len(shown[0]) == len(whole[0]):
      return table
    return [table, markup.folded(f'All {len(whole[0])} columns',
                                 markup.table(run_page.in_words(whole), caption))]

  def _curves(self, name: str, headline: str | None, rows: Sequence[collect.Row],
              remarks: list[str]) -> '_Drawn':
    """The headline, or the metrics that were named, at once; all metrics when asked for."""
    read = {row.name: curves.read(row.directories, remarks.append)
            for row in rows if row.directories}
    read = {label: found for label, found in read.items() if found}
    names = curves.order(read, headline)
    if not names:
      return _Drawn()
    stem = self._free(f'{self._stem(name)}curves')
    curves.write_csv(read, self.files / f'{stem}.csv')
    once = curves.measured_once(read, names)
    names = [n for n in names if n not in once]
    at_once = (curves.matching(names, self._metrics) or names[:1])[:curves.MOST_PANELS]
    rest = [_measured_once(read, once)] if once else []
    if not names:
      return _Drawn(None, rest)
    several, banded = len(read) > 1, any(
      c.seeds > 1 for found in read.values() for c in found.values())
    how = ((' One line for each configuration.' if several else '')
           + (' The band spans the lowest to the highest seed.' if banded else ''))
    first = self._image(
      curves.draw(read, at_once, self.files / f'{stem}.png'),
      'many' if several or len(at_once) > 1 else '', f'{", ".join(at_once)} during training.{how}')
    if len(names) > len(at_once):
      path = curves.draw(read, names, self.files / f'{self._free(f"{stem}_all")}.png')
      count = '' if len(names) <= curves.MOST_PANELS else (
        f', the first {curves.MOST_PANELS} of {len(names)}; the CSV file beside the page has all')
      rest.insert(0, markup.folded('All metrics of training', self._image(
        path, '', f'Every metric{count}.{how}')))
    return _Drawn(first, rest)

  def _tradeoff(self, name: str, rows: Sequence[collect.Row]) -> markup.Node:
    """Two scores against one another, where they were named or a sweep has the usual ones."""
    x, y = self._against or tradeoff.USUAL
    found = tradeoff.lines(rows, x, y)
    if not (found if self._against else tradeoff.is_curve(found)):
      return None
    stem = self._free(f'{self._stem(name)}{slug(f"{y} against {x}")}')
    tradeoff.write_csv(found, x, y, self.files / f'{stem}.csv')
    seeds = any(len(point.x_S) > 1 for line in found for point in line.points)
    how = ' A pale dot is a seed, the line leads through their means.' if seeds else ''
    return self._image(tradeoff.draw(found, x, y, self.files / f'{stem}.png'), '',
                       f'{words.score(y)} against {words.score(x)}.{how}')

  def _row(self, row: collect.Row, sole: bool) -> markup.Node:
    """Pictures and scores of one configuration; pictures are those of the first seed."""
    directory = row.directories[0]
    pictures, why = self.draw(directory, self._stem(row.experiment, row.name))
    shown = [self._image(path, 'pixels', caption) for caption, path in pictures]
    details = None
    if row.result:
      details = run_page.samples(row.result) if sole else markup.folded(
        'Scores', run_page.scores(row.name, row.result))
    return tag(
      'div', tag('h3', row.name) if not sole else tag('h3', 'Pictures') if shown else None,
      tag('p', f'Pictures are of seed {row.config["seed"]}, one of {len(row.seeds)}.',
          class_='soft') if shown and len(row.seeds) > 1 else None,
      tag('p', why, class_='mark') if why else None,
      tag('div', shown, class_='pictures') if shown else None,
      details,
      markup.folded('Configuration', tag('pre', _config(directory))), data_row=row.name)

  def draw(self, directory: pathlib.Path, stem: str) -> tuple[list[tuple[str, pathlib.Path]], str]:
    """([(caption, file)], why there are none) of the grids of one run."""
    try:
      run = load.run(directory, 'last', self._data_dir)
      grids = pictures.grids(run)
      if (data := run.experiment.dataset) in self._data_shown:
        grids.pop('data', None)  # the same images stand above
      self._data_shown.add(data)
      captions = _CAPTIONS if run.spec.is_image else {'data': 'test rows'}
      return [(captions.get(name, name), pictures.write_png(
        grid, self.files / f'{self._free(f"{stem}{slug(name)}")}.png'))
        for name, grid in grids.items()], ''
    except Exception as e:  # damage, a run still in training, a user's code
      return [], f'There are no pictures: {collect.line_of(e)}'

  def _stem(self, *names: str) -> str:
    """How the names of files about this begin."""
    return '' if self._single else ''.join(f'{slug(_short(name))}_' for name in names)

  def _free(self, stem: str) -> str:
    """The stem, numbered where another figure or table has it, in capitals or not."""
    numbered, i = stem, 2
    while numbered.lower() in self._taken:
      numbered, i = f'{stem}_{i}', i + 1
    self._taken.add(numbered.lower())
    return numbered

  def _image(self, path: pathlib.Path, css: str, caption: str) -> markup.Node:
    size = path.stat().st_size
    if size > LARGEST or size > self._room:
      return tag('p', f'{caption} The picture of {size // 1000} kB lies in '
                 f'{self.files.name}/{path.name}', class_='soft')
    self._room -= size
    return markup.image_of(path, css, caption)

  def _story(self, i: int, path: pathlib.Path, story: tables.Story) -> markup.Node:
    """Families side by side, and the picture that lies beside the file."""
    name = self._free(slug(path.stem))
    cells = tables.story_cells(story.lines)
    files.write_csv(self.files / f'{name}.csv', cells)
    files.write_text(self.files / f'{name}.md', f'{markup.markdown(cells)}\n')
    beside, picture = path.with_suffix('.png'), self.files / f'{name}.png'
    shown = None
    if files.is_regular(beside):
      files.write_bytes(picture, files.read_bytes(beside))
      shown = self._image(picture, '', 'Test images and samples of every family.')
    return tag('section', tag('h2', f'Families on {story.lines[0].result.dataset}'), shown,
               tag('h3', 'Which family is best at what'), comparison.best(story.lines),
               tag('h3', 'All families'), comparison.side_by_side(story.lines),
               id=f's{i}', data_experiment=path.stem)

  def _audit(self, i: int, path: str, audits: Sequence[dict]) -> markup.Node:
    """The output of launch.audit --json as a table."""
    def number(x):
      return 'not finite' if x is None else f'{x:.3g}'.replace('-', '−')

    cells = [['estimator', 'declared', 'found', '|bias|', 'largest |z|', 'draws', 'variance',
              'signal to noise', 'µs a step'], *(
      [a['name'], _verdict(a['declared_biased']), _verdict(a['biased'])
       + ('' if a['biased'] == a['declared_biased'] else ', disagrees'),
       number(a.get('bias_norm')), number(a['bias_z']), f'{a.get("num_draws") or 0:,}',
       number(a['variance']), number(a['snr']), number(1e6 * (a['seconds_per_step'] or 0.0))]
      for a in audits)]
    shown = self._table(f'audit {i}', cells, f'{path}: at fixed parameters, against the enumerated '
                        'gradient.')
    return tag('section', tag('h2', 'Audit of estimators'), shown, id=f'a{i}',
               data_experiment='audit')


class _Drawn(NamedTuple):
  """The curves that are visible at first, and those that are folded."""

  first: markup.Node = None
  rest: markup.Node = None


class _Known(NamedTuple):
  """The headline, variants and alike from an experiment's code, where it is known here."""

  doc: str = ''
  headline: str | None = None
  num_steps: int | None = None


def _known(row: collect.Row) -> _Known:
  """Of experiments of the project, and of files that the user has named before."""
  try:
    if not row.directories:
      return _Known(markup.first_paragraph(registry.load_recorded(
        row.experiment, pathlib.Path('config.json')).doc))
    path = row.directories[0] / 'config.json'
    entry = registry.load_recorded(row.experiment, path)
    experiment = entry.experiment(
      **hyperparameters.recorded_values(entry, row.config['hyperparameters'], path))
    return _Known(markup.first_paragraph(entry.doc), experiment.headline,
                  sum(phase.num_steps for phase in experiment.phases))
  except Exception:  # code of a user, hyperparameters of someone: the page needs neither
    return _Known()


def _summary(rows: Sequence[collect.Row]) -> str:
  """The number of configurations and runs on the page."""
  seeds = sum(len(row.seeds) for row in rows)
  if seeds == 1:
    return f'One run, of seed {rows[0].seeds[0]}.'
  if len(rows) == 1:
    return f'One configuration with {seeds} seeds.'
  return f'{len(rows):,} configurations, {plural(seeds, "run")} in all, one for each seed.'


def _remarks(remarks: Sequence[str]) -> markup.Node:
  more = len(remarks) - _MOST_REMARKS
  return [[tag('p', remark, class_='mark') for remark in remarks[:_MOST_REMARKS]],
          tag('p', f'and {plural(more, "more remark")}', class_='mark') if more > 0 else None]


def _measured_once(read, names: Sequence[str]) -> markup.Node:
  """The numbers of metrics of which there is one a run, as a table instead of an empty plot."""
  cells = [['metric', 'update', 'value', 'configuration'], *(
    [name, f'{int(c.step[-1]):,}', f'{c.mean[-1]:.5g}'.replace('-', '−'), label]
    for label, found in read.items() for name in names if (c := found.get(name)))]
  if len(read) == 1:  # which one is clear
    cells = [line[:-1] for line in cells]
  shown = markup.table(cells[:101], 'Measured once, at the update given: means over seeds.')
  return [tag('h3', 'Metrics measured once'), shown] if len(cells) < 12 else markup.folded(
    'Metrics measured once', shown)


def _progress(row: collect.Row, known: _Known) -> tuple[str, str]:
  """(updates made, of how many; what that means) of a row without a score."""
  found = curves.read(row.directories[:1])
  step = max((int(c.step[-1]) for c in found.values()), default=0)
  frozen = sum(os.path.lexists(d / rundir.FAILED) for d in row.directories)
  if frozen:
    return f'{step:,}', f'{frozen} of {plural(len(row.seeds), "seed")} frozen'
  if known.num_steps is None:
    return f'{step:,}', 'not known here'
  done = f'{step:,} of {known.num_steps:,}'
  return done, 'trained' if step >= known.num_steps else 'not finished'


def _verdict(biased: bool) -> str:
  return 'biased' if biased else 'unbiased'


def _short(experiment: str) -> str:
  """The name of an experiment, of a user's file without its folders."""
  return pathlib.PurePath(experiment).name if experiment.endswith('.py') else experiment


def slug(text: str) -> str:
  """A name as part of a file's name; two names may have the same."""
  return re.sub(r'[^A-Za-z0-9.=+]+', '_', text).strip('_.')[:80] or 'unnamed'


def _config(directory: pathlib.Path) -> str:
  """config.json, and how and where the run was started last."""
  text = json.dumps(rundir.read_config(directory), indent=2)
  try:
    start = files.read_json(directory / 'environment.json')[-1]
  except (OSError, ValueError, LookupError, TypeError):
    return text
  return f'{text}\n{json.dumps(start, indent=2)}'


def of_run(workdir: str | os.PathLike, data_dir: str | None = None) -> pathlib.Path:
  """report.html and figures/ of one run; raises as directory.read_config and collect.gather."""
  workdir = pathlib.Path(workdir)
  rundir.read_config(workdir)
  found = collect.gather([workdir])
  mine = [row for row in found.rows if workdir in row.directories]
  if not mine:
    raise errors.UsageError('; '.join(found.remarks))
  jax_setup.setup()
  report = Report(workdir / 'report.html', data_dir, folder=workdir / 'figures')
  return report.write(collect.Found(mine, {}, {}, found.remarks),
                      f'{_short(mine[0].experiment)}, {mine[0].name}')


def of_directories(directories: Sequence[str | os.PathLike], out: str | os.PathLike,
                   data_dir: str | None = None, pictures: int = 12,
                   metrics: Sequence[str] = (), against: Sequence[str] = ()) -> pathlib.Path:
  """Gathers and writes; raises as collect.gather, and UsageError for names that no run has.

  Args:
    directories: of runs, at any depth.
    out: the page.
    data_dir: of prepared data.
    pictures: configurations of each experiment whose pictures are drawn.
    metrics: patterns of metrics whose curves are shown at once.
    against: two scores, X and Y, that are drawn against one another.
  """
  directories, out = list(map(pathlib.Path, directories)), pathlib.Path(out)
  found = collect.gather(directories)
  if metrics:
    read = {str(i): curves.read(row.directories) for i, row in enumerate(found.rows)}
    names = curves.order(read, None)
    for pattern in metrics:
      if not curves.matching(names, [pattern]):
        raise errors.UsageError(f'--metrics={pattern}: no run has such a metric; they have '
                                f'{", ".join(names) or "none"}')
  scores = tradeoff.pair(against, found.rows)
  jax_setup.setup()
  out.parent.mkdir(parents=True, exist_ok=True)
  title = ' and '.join(dict.fromkeys(_short(row.experiment) for row in found.rows)) or (
    'Audits' if found.audits else 'Stories')
  if len(title) > 80:
    title = f'{len({row.experiment for row in found.rows})} experiments'
  return Report(out, data_dir, pictures, metrics, against=scores).write(found, title)
