"""Tables of results, each built once: for the terminal, pages, documents and CSV.

A table is a list of rows of text, its head first; launch.reports.markup makes HTML or Markdown of
it, `text` a block for the terminal.
"""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gen_models import files
from gen_models.data.grammar import is_own
from gen_models.evaluation import copies
from gen_models.evaluation.score import Score
from gen_models.experiment import Published
from launch import errors
from launch.cli import hyperparameters, registry
from launch.reports import words
from launch.runs import numbers, result as result_lib
from launch.runs.result import Result

ROOT = pathlib.Path(__file__).parents[2]  # of a checkout, or where packages are installed
RESULTS = ROOT / 'experiments' / 'results'
Cells = list[list[str]]


class Line(NamedTuple):
  """A row of a table: what it is called there, and its result."""

  name: str
  result: Result


class Story(NamedTuple):
  """Families side by side, as launch.results keeps them.

  Attributes:
    command: how they are made again.
    lines: one for each family.
  """

  command: str
  lines: list[Line]


# Committed results.


def load() -> list[Line]:
  """Every committed result of a run, best first within an experiment, data set and view of it."""
  results = [result_lib.read(path) for path in sorted(RESULTS.glob('*-*.json'))]
  results.sort(key=lambda r: (r.experiment, r.dataset, r.score.binarisation,
                               -(r.score.headline or 0)))
  return [Line(r.variant or 'defaults', r) for r in results]


def stories() -> dict[str, Story]:
  """Every committed story by its name."""
  return {path.stem: read_story(path) for path in sorted(RESULTS.glob('story_*.json'))}


def read_story(path: pathlib.Path) -> Story:
  """A committed story; raises OSError or Malformed, as result.read."""
  try:
    value = files.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get('rows'), list):
      raise result_lib.Malformed('it has no list of rows')
    return Story(str(value.get('command', '')), story_lines(value['rows']))
  except ValueError as e:
    raise result_lib.Malformed(f'{path}: {e}') from None


def story_lines(rows: Sequence[dict]) -> list[Line]:
  """The lines of a story's rows; raises Malformed."""
  return [Line(str(row.get('family', 'no name')) if isinstance(row, dict) else '',
               Result.from_json(row, f'row {i}')) for i, row in enumerate(rows)]


def of_experiment(experiment: str, lines: Sequence[Line]) -> list[Line]:
  """Those of one experiment."""
  return [line for line in lines if line.result.experiment == experiment]


def configuration(result: Result) -> list[str]:
  """The flags of launch.train that say what was trained."""
  usual = hyperparameters.resolve(registry.load(result.experiment), result.variant)
  return [f'--experiment={result.experiment}',
          *([f'--variant={result.variant}'] if result.variant else []),
          *(f'--set={k}={v}' for k, v in result.hyperparameters.items()
            if k in usual and v != usual[k])]


def train_command(result: Result) -> str:
  """How a result was trained, in one line."""
  seeds, command = result.seeds, shlex.join(['python', '-m', 'launch.train',
                                             *configuration(result)])
  if result.runs == 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
    return f'{command} --seed={seeds[0]} --seeds={len(seeds)}'
  return f'{command} with --seed={", ".join(map(str, seeds))}'


def require_public(path: pathlib.Path | str, dataset: str) -> None:
  """Raises UsageError for data of a file of the user's, which nobody else has."""
  if is_own(dataset) and not dataset.startswith('tfds:'):
    raise errors.UsageError(f'{path} is of your data {dataset}: only results of data that '
                            'everybody can have are kept')


def require_whole(directory: pathlib.Path | str, result: Result) -> None:
  """Raises UsageError for a result of parameters that are not those of a whole training.

  A command that trains and scores it again would make another one.
  """
  entry, path = registry.load(result.experiment), pathlib.Path(directory) / 'result.json'
  values = hyperparameters.recorded_values(entry, dict(result.hyperparameters), path)
  whole = sum(phase.num_steps for phase in entry.experiment(**values).phases)
  if result.checkpoint == 'last' and result.step != whole:
    raise errors.UsageError(
      f'{directory} was scored after {result.step:,} of its {whole:,} updates: train it to the '
      f'end, then python -m launch.evaluate --workdir={shlex.quote(str(directory))}')


# The table of an experiment.


def cells(lines: Sequence[Line]) -> Cells:
  """A row for each result, then the baselines, after the head; empty columns left out.

  Where the rows of a data set were seen in several ways, a column says how: only numbers of the
  same one may be compared.
  """
  results = [line.result for line in lines]
  rows = [_row(line) for line in lines]
  if len({_machine(r) for r in results}) > 1:
    rows = [row | {'on': _machine(r)} for row, r in zip(rows, results, strict=True)]
  views = list(dict.fromkeys((r.dataset, r.score.binarisation) for r in results))
  for dataset, seen in views:
    baselines = _baselines([r for r in results if (r.dataset, r.score.binarisation) == (
      dataset, seen)])
    rows += [{'model': f'*{name}*', 'data': dataset, 'seen': seen, **_likelihood(score)}
             for name, score in baselines.items()]
  datasets = {dataset for dataset, _ in views}
  for row in rows:
    if len(datasets) == 1:
      row.pop('data', None)
    if len(datasets) == len(views):
      row.pop('seen', None)
  head = [name for name in dict.fromkeys(k for row in rows for k in row)
          if any(row.get(name, numbers.NONE) != numbers.NONE for row in rows)]
  head.sort(key=lambda column: column == 'published')  # it comes last
  return [head, *([row.get(name, numbers.NONE) for name in head] for row in rows)]


def _baselines(results: Sequence[Result]) -> dict[str, Score]:
  """Baselines of the first, without those that are one of the results themselves.

  A model such as independent pixels is its own baseline: it is one row and not two.
  """
  there = {r.score.test_nats for r in results if r.score.kind == 'exact'}
  return {name: score for name, score in results[0].score.baselines.items()
          if score.kind != 'exact' or score.test_nats not in there}


def _row(line: Line) -> dict[str, str]:
  """Column -> cell of one result."""
  r, score = line.result, line.result.score
  row = {'model': line.name, 'data': r.dataset, 'seen': score.binarisation}
  if score.test_nats is not None:
    row |= {**_likelihood(score), 'bracket': numbers.sides(score),
            'ESS': numbers.sample_size(score)}
  row |= {name.replace('_', ' '): numbers.other(score, name) for name in score.scores}
  row |= {'seeds': str(len(r.seeds)), 'updates': numbers.whole(r.step),
          'seconds': numbers.fixed(r.train_seconds, 0)}
  if r.variant is not None and (found := published(r.experiment)).get(r.variant):
    row['published'] = str(found[r.variant])
  return row


def published(experiment: str) -> dict[str, Published]:
  """Variant -> what the literature reports for it; nothing for a user's file, which is not run."""
  return registry.load(experiment).published if experiment in registry.names() else {}


def _likelihood(score: Score) -> dict[str, str]:
  return {'test nats': numbers.nats(score), 'kind': numbers.kind(score),
          'standard error': numbers.error(score)}


def notes(lines: Sequence[Line]) -> str:
  """The note below a table of `cells`: images, machines, the meaning of seconds."""
  return (f'{images(lines)}; {machines(lines)}. Seconds are wall time of training, all seeds '
          'together')


def head(lines: Sequence[Line]) -> str:
  """The line above a table in a document: data, binarisation, images, seeds, machine."""
  counts = sorted({len(line.result.seeds) for line in lines})
  seeds = f'{counts[0]} to {counts[-1]} seeds' if len(counts) > 1 else (
    f'{counts[0]} seed{"s" * (counts[0] > 1)}')
  return f'{images(lines)}; {seeds}; {machines(lines)}.'


def images(lines: Sequence[Line]) -> str:
  """What was scored: of each data set its name, how it was seen, how many images."""
  first_of_each = {(r.dataset, r.score.binarisation): r for _, r in reversed(lines)}.values()
  return '; '.join(f'{r.dataset}, {view_of(r)}, {r.score.num_images:,} test {words.rows(r.dataset)}'
                   for r in first_of_each)


def view_of(result: Result) -> str:
  """How the scored rows were seen: binarisation of images, the kind of others, weights."""
  return words.view(result.dataset, result.score.binarisation,
                    bool(result.score.details.get('weighted')))


def machines(lines: Sequence[Line]) -> str:
  """The machines that trained them."""
  return ' and '.join(sorted({_machine_and_jax(line.result) for line in lines}))


def _machine(r: Result) -> str:
  return r.machine.name if r.machine else 'a machine not recorded'


def _machine_and_jax(r: Result) -> str:
  return f'{_machine(r)}, jax {r.machine.jax}' if r.machine else _machine(r)


# The table of a story.

_STORY_SCORES = {  # name of a score -> head of its column in documents
  'frechet_features': 'Fréchet', 'sliced_w2_pixels': 'sliced W2', 'mmd2_features': 'MMD²',
  'precision_features': 'precision', 'recall_features': 'recall', 'coverage_features': 'coverage',
  'nearest_train_z': 'nearest z'}


def story_cells(lines: Sequence[Line], every: bool = False) -> Cells:
  """The head, a row a family, and what real training images score.

  Args:
    lines: the families.
    every: all scores of draws, by their names; else the seven that documents show.
  """
  scored = [line.result.samples for line in lines if line.result.samples]
  names = list(dict.fromkeys(name for samples in scored for name in samples))
  if not every:
    names = [name for name in _STORY_SCORES if name in names]
  head = ['family', 'test nats', 'kind', 'binarisation', 'parameters', 'seconds',
          *(name if every else _STORY_SCORES[name] for name in names)]
  body = [[name, numbers.nats(r.score), numbers.kind(r.score), r.score.binarisation,
           numbers.whole(r.num_parameters), numbers.fixed(r.train_seconds, 0),
           *(_sample(r.samples, score, 'value') for score in names)] for name, r in lines]
  if scored:
    body.append(['*real training images*', *[numbers.NONE] * 5,
                 *(_sample(scored[0], score, 'floor') for score in names)])
  return [head, *body]


def columns(table: Cells, names: Sequence[str]) -> Cells:
  """The columns of a table with these heads, in this order."""
  order = [table[0].index(name) for name in names]
  return [[row[i] for i in order] for row in table]


def _sample(samples, name: str, side: str) -> str:
  """A score of draws, or its floor; a dash where it was not computed."""
  return numbers.significant(getattr(samples[name], side), 3) if name in samples else numbers.NONE


def story_notes(lines: Sequence[Line]) -> str:
  """The note below the table of a story: images, seeds, machines, binarisation of draws."""
  first = lines[0].result
  space = next((r.sample_space for _, r in lines if r.samples), None)
  compared = f'; draws compared under {space} binarisation' if space else ''
  return (f'{first.dataset}, {first.score.num_images:,} test images, {len(first.seeds)} '
          f'{"seeds" if len(first.seeds) > 1 else "seed"}; {_machine_and_jax(first)}{compared}.')


# The tables of one result.


def likelihood_cells(name: str, result: Result) -> Cells:
  """A run beside its baselines; no rows where nothing has a likelihood."""
  scores = {name: result.score, **_baselines([result])}
  return [['model', 'test nats', 'kind', 'standard error', 'over images'],
          *([name, numbers.nats(score), numbers.kind(score), numbers.error(score),
             numbers.fixed(score.image_standard_error)]
            for name, score in scores.items() if score.test_nats is not None)]


def other_cells(result: Result) -> Cells:
  """Named scores that are no likelihoods."""
  return [['score', 'value'],
          *([name.replace('_', ' '), numbers.other(result.score, name)]
            for name in result.score.scores)]


_BELOW = {'importance': 'importance-weighted bound', 'from_prior': 'annealed from the prior',
          'from_encoder': 'annealed from the encoder'}


def decoder_cells(result: Result) -> Cells:
  """Estimates of evaluation.decoders: from below of test images, both sides of drawn data.

  No rows where the record has none, or something else by that name.
  """
  found = result.score.details.get('decoder')
  found = found if isinstance(found, Mapping) else {}

  def number(name: str, *path: str) -> str:
    value: Any = found
    for key in (*path, name):
      value = value.get(key) if isinstance(value, Mapping) else None
    return numbers.fixed(value) if isinstance(value, int | float) else numbers.NONE

  images = found.get('num_images')
  given = f', {images:,} images' if isinstance(images, int) else ''
  return [[f'log p from below{given}', 'test nats', 'standard error', 'drawn data', 'from above',
           'gap', 'its error'],
          *([text, number('nats', name), number('standard_error', name),
             number('nats' if name == 'importance' else 'lower', 'drawn', name),
             *(number(column, 'drawn', name) for column in ('upper', 'gap')),
             number('standard_error', 'drawn', name) if name != 'importance' else numbers.NONE]
            for name, text in _BELOW.items() if name in found)]


def sample_cells(result: Result) -> Cells:
  """Scores of draws beside those of real training images: mean [least, greatest]."""
  return [['score', 'draws', f'real training {words.rows(result.dataset)}', 'better'],
          *([name, numbers.interval(s), numbers.interval(s, 'floor'), s.better]
            for name, s in result.samples.items())]


def network_notes(result: Result) -> list[str]:
  """What the features of a network with supplied weights are, and FID beyond three small sets."""
  known = result.sample_network
  if not known:
    return []
  sums = str(known.get('sha256', ''))[:16]
  published = known.get('published_weights')
  notes = [f'in the features of {known.get("network")}, weights {known.get("weights")} '
           f'(sha256 {sums}.., {published or "no file that is published"}); resize '
           f'{known.get("resize")}, to {known.get("side")}']
  for name, score in result.samples.items():
    if 'of_all' in score.details:
      found, floor = ([score.details.get(f'{prefix}{part}') for part in (
        'of_all', 'interval', 'infinite')] for prefix in ('', 'floor_'))
      notes.append(f'{name} of all {score.details.get("n_of_all")}: {_whole(*found)}; of training '
                   f'images {_whole(*floor)}')
  return notes


def _whole(value, interval, infinite) -> str:
  """FID of all images, its interval, and its limit."""
  low, high = (numbers.significant(end, 3) for end in interval or (None, None))
  limit = 'too few images' if infinite is None else numbers.significant(infinite, 3)
  return f'{numbers.significant(value, 3)} [{low}, {high}], of infinitely many {limit}'


def remark(score: Score) -> str:
  """Sentences about the kind of number that a reader must know."""
  known = numbers.error(score)
  error = '' if known == numbers.NONE else f' Standard error {known}.'
  size = ('' if not score.effective_sample_size
          else f' Effective sample size {numbers.sample_size(score)}.')
  if score.kind == 'none':
    return f'No likelihood: {score.why or "the model has none"}.'
  if score.kind == 'ais':
    return ('Annealed importance sampling gives a log Z that is low in expectation, so a '
            f'likelihood that is high.{error}{size}')
  if score.kind == 'bracket':
    crossed = (' The sides cross: each has seen modes that the other has not; the lower one is '
               'printed.' if score.crossed else '')
    ends = score.lower, score.upper
    if score.lower is not None and score.upper is not None and not score.crossed:
      ends = sorted((score.lower, score.upper))  # that they cross by is noise
    return (f'Between {numbers.fixed(ends[0])} and {numbers.fixed(ends[1])} nats, log Z '
            f'from both sides: {"resolved" if score.resolved else "NOT RESOLVED"}.{crossed}{error}'
            f'{size}')
  if score.kind == 'bound':
    hollow = ('' if not score.hollow else ' HOLLOW: too few importance weights carry it for its '
              'error, or its distance from the likelihood, to be known.')
    inside = ('' if score.resolved is not False else ' The bracket of log Z inside it is NOT '
              'RESOLVED; the larger side is taken.')
    return f'A lower bound in expectation.{hollow}{inside}{error}{size}'
  return ''


def of_result(result: Result) -> str:
  """A result for the terminal: likelihood beside baselines, what else was scored, draws."""
  score, name = result.score, result.name
  images = (f'{score.num_images:,} test {words.rows(result.dataset)}, {result.dataset}, '
            f'{view_of(result)}')
  blocks = [f'{name}: {images}']
  for table in (likelihood_cells(name, result), decoder_cells(result), other_cells(result),
                sample_cells(result)):
    if len(table) > 1:
      blocks.append(text(table))
  if note := remark(score):
    blocks.insert(2 if score.test_nats is not None else 1, note)
  if result.samples:
    first = next(iter(result.samples.values()))
    blocks.append(f'draws against test {words.rows(result.dataset)}, {result.sample_space}, '
                  f'{first.num_sets} sets of {first.n}: mean [least, greatest]')
    blocks.extend(network_notes(result))
  if result.memorised:
    blocks.append(f'WARNING: draws are {of_copies(result)}')
  return numbers.plain('\n'.join(blocks))


def of_copies(result: Result) -> str:
  """What the draws of a result are that were judged to be copies, in words."""
  rows = words.rows(result.dataset)
  found = copies.causes({name: score.to_json() for name, score in result.samples.items()})
  if {'gap_z', 'gap_grey_z'} & set(found):  # one row is much nearer than any other
    return f'copies of training {rows}'
  return f'nearer to training {rows} than test {rows} are: copies, or near the mean of many'


# Renderings.


def text(table: Cells) -> str:
  """A table for the terminal."""
  widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
  return '\n'.join('  ' + '  '.join(f'{c:{w}}' for c, w in zip(row, widths)).rstrip()
                   for row in table)
