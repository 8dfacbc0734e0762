"""One result in full, as elements of a page: likelihood beside baselines, other scores, draws."""

from launch.reports import markup, tables, words
from launch.reports.markup import tag
from launch.runs import numbers
from launch.runs.result import Result

_MANY = 12  # rows of a table that is folded
_WIDE = 8  # columns of a table of results
_FOLDED = ('on', 'ESS', 'standard error', 'updates')  # of a wider one, in this order
_COLUMNS = ('model', 'data', 'seen', 'test nats', 'kind', 'bracket', 'seeds', 'seconds',
            'published', *_FOLDED)


def scores(title: str, result: Result) -> markup.Node:
  """A result in full: likelihood beside baselines, what else was scored, draws."""
  return [likelihood(title, result), samples(result)]


def likelihood(title: str, result: Result) -> markup.Node:
  """The likelihood beside baselines, what it is worth, and what else was scored."""
  score = result.score
  rows = words.rows(result.dataset)
  images = f'{result.dataset}, {score.num_images:,} test {rows}, {tables.view_of(result)}.'
  cells, others = tables.likelihood_cells(title, result), tables.other_cells(result)
  decoder = tables.decoder_cells(result)
  return [
    [tag('h4', f'Log-likelihood of test {rows}'),
     markup.table(in_words(cells, rows), f'Nats per {rows[:-1]}: {images}', sorts=False)]
    if len(cells) > 1 else None,
    tag('p', note, class_='soft') if (note := tables.remark(score)) else None,
    [tag('p', line, class_='mark') for line in score.remarks],
    markup.table(decoder, 'Log-likelihoods of some images and of data drawn from the model, nats.',
                 sorts=False) if len(decoder) > 1 else None,
    long_table('Other scores', others, f'Measured on {images}') if len(others) > 1 else None]


def effort(result: Result) -> str:
  """The cost of a result: updates, parameters, seconds, machine."""
  on = f' on {result.machine.name}, jax {result.machine.jax}' if result.machine else ''
  took = f' in {result.train_seconds:,.0f} seconds' if result.train_seconds else ''
  size = f'{result.num_parameters:,} numbers trained, ' if result.num_parameters else ''
  return f'{size}{markup.plural(result.step, "update")}{took}{on}.'


def samples(result: Result) -> markup.Node:
  """Sample scores beside those of real training images."""
  if not result.samples:
    return None
  first, rows = next(iter(result.samples.values())), words.rows(result.dataset)
  note = (f'Draws and test {rows}, both under {result.sample_space} binarisation: the mean over '
          f'{markup.plural(first.num_sets, "independent set")} of {first.n:,} {rows}, and in '
          f'brackets the least and the greatest. Real training {rows} show what is attainable.'
          + ''.join(f' {line[0].upper()}{line[1:]}.' for line in tables.network_notes(result)))
  head, *body = tables.sample_cells(result)
  cells = [head, *([words.score(name), *rest, words.better(better)]
                   for name, *rest, better in body)]
  return [long_table(f'Draws compared with test {rows}', cells, note),
          tag('p', f'Draws are {tables.of_copies(result)}.', class_='mark')
          if result.memorised else None]


def long_table(title: str, cells: tables.Cells, caption: str) -> markup.Node:
  """A small table under its title; one of many rows folded."""
  shown = markup.table(in_words(cells), caption, sorts=False)
  if len(cells) > _MANY + 1:
    return markup.folded(f'{title} ({len(cells) - 1} rows)', shown)
  return [tag('h4', title), shown]


def common(cells: tables.Cells) -> tuple[tables.Cells, str]:
  """The table without the columns that are the same in every row, and a sentence that has them.

  The name, the score and what is published stay, and so does a table of a single result.
  """
  head, *body = cells
  results = [line for line in body if not line[0].startswith('*')]
  if len(results) < 2:
    return cells, ''

  def same(i: int) -> bool:
    value = results[0][i]
    return (i > 0 and head[i] not in ('test nats', 'published')
            and all(line[i] == value for line in results)
            and all(line[i] in (value, numbers.NONE) for line in body))

  moved = [i for i in range(len(head)) if same(i)]
  kept = [[line[i] for i in range(len(head)) if i not in moved] for line in cells]
  stated = ', '.join(f'{words.head(head[i])} {results[0][i]}' for i in moved)
  return kept, f'The same in all rows: {stated}.' if moved else ''


def narrow(cells: tables.Cells) -> tables.Cells:
  """At most as many columns as a page of 1280 pixels usually holds; the least important go first.

  Named scores go after the columns of _FOLDED, from the left; `cells` with all columns is to be
  shown folded where this has fewer.
  """
  head = cells[0]
  scores = [name for name in head if name not in _COLUMNS]
  spare = [name for name in (*_FOLDED, *scores) if name in head]
  left_out = spare[:max(0, len(head) - _WIDE)]
  return tables.columns(cells, [name for name in head if name not in left_out])


def in_words(cells: tables.Cells, rows: str = 'images') -> tables.Cells:
  """The same table with the heads of its columns in words, of images or of other rows."""
  head, *body = cells
  return [[words.head(column).replace('image', rows[:-1]) for column in head], *body]
