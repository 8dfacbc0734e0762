"""A sweep as tables: a score at every point of a grid of hyperparameters.

`gather` reads the runs of a launch.sweep, `read` what launch.results keeps of them, `cells` is the
table of one score: the axis of most values down, the others across.
"""

import collections
import itertools
import json
import pathlib
import shlex
import statistics
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gen_models import files
from launch import errors
from launch.cli import hyperparameters, references, registry
from launch.reports import tables, words
from launch.runs import directory as rundir, numbers, result as result_lib
from launch.runs.result import Malformed, Result

_NATS = 'test_nats'
_OF_NO_GRID = ('--workdir', '--data_dir', '--save_every_minutes')


class Cell(NamedTuple):
  """The runs of one point.

  Attributes:
    at: axis -> its value there.
    seeds: of the runs that were scored.
    values: score -> its value for each of them.
    frozen: how many more runs met a number that is not finite.
    remarks: what has to be said of its nats: 'hollow', 'not resolved'.
  """

  at: Mapping[str, Any]
  seeds: Sequence[int]
  values: Mapping[str, Sequence[float]]
  frozen: int
  remarks: Sequence[str] = ()


class Sweep(NamedTuple):
  """A sweep as launch.results keeps it, in experiments/results/sweep_NAME.json.

  Attributes:
    experiment: of all runs.
    commands: that train and score them again.
    axes: hyperparameter (or `variant`) -> its values; those that another axis determines left out.
    scores: score -> which direction is better, '' where nothing says.
    floors: score of draws -> that of real training images.
    data: what was scored, a line for each data set.
    steps: updates of a run, least and greatest.
    seconds: of training, all runs.
    machines: on which they were trained.
    cells: the points.
  """

  experiment: str
  commands: Sequence[str]
  axes: Mapping[str, Sequence[Any]]
  scores: Mapping[str, str]
  floors: Mapping[str, float]
  data: Sequence[str]
  steps: Sequence[int]
  seconds: float
  machines: Sequence[str]
  cells: Sequence[Cell]


class _Run(NamedTuple):
  """One run of a sweep; its result, or None where it was frozen."""

  config: dict[str, Any]
  result: Result | None

  @property
  def settings(self) -> dict[str, Any]:
    """Its point: variant and hyperparameters."""
    return {'variant': self.config['variant'], **self.config['hyperparameters']}


def load() -> dict[str, Sweep]:
  """Every committed sweep by its name."""
  return {path.stem.removeprefix('sweep_'): read(path)
          for path in sorted(tables.RESULTS.glob('sweep_*.json'))}


def read(path: pathlib.Path) -> Sweep:
  """A committed sweep; raises OSError, or Malformed for what is none."""
  try:
    value: dict[str, Any] = dict(files.read_json(path))
    value['cells'] = [Cell(**cell) for cell in value['cells']]
    return Sweep(**value)
  except (TypeError, KeyError, ValueError) as e:
    raise Malformed(f'{path} is no sweep that launch.results kept: {e}') from None


def to_json(sweep: Sweep) -> dict[str, Any]:
  """As `read` reads it."""
  return {**sweep._asdict(), 'cells': [cell._asdict() for cell in sweep.cells]}


# From runs.


def gather(directory: pathlib.Path, scores: Sequence[str] = ()) -> Sweep:
  """The sweep in a directory.

  Args:
    directory: --workdir of a launch.sweep that was scored.
    scores: names of scores, of sample scores, or test_nats; () for test_nats.

  Raises:
    UsageError: no runs, some not scored or without such a score, several experiments, nothing that
      differs, or code of a user's.
  """
  runs = _once(directory, _runs(directory), scores or (_NATS,))
  scored = [run.result for run in runs if run.result is not None]
  if not scored:
    raise errors.UsageError(f'{directory}: no run of a launch.sweep that was scored')
  if len({run.config['experiment'] for run in runs}) > 1:
    raise errors.UsageError(f'{directory} holds runs of several experiments: one sweep at a time')
  experiment = scored[0].experiment
  entry = registry.load(experiment)
  axes = _axes(entry, [run.settings for run in runs], _asked(scored))
  if not axes:
    raise errors.UsageError(f'{directory}: all runs are of one point; '
                            f'python -m launch.results --add={directory}/*/seed* keeps them')
  scores = scores or (_NATS,)
  found = [_values(result, scores, directory) for result in scored]
  of_draws = {name: scored[0].samples[name] for name in scores if name in scored[0].samples}
  points: dict[str, list[_Run]] = {}
  for run in runs:
    points.setdefault(json.dumps([run.settings[axis] for axis in axes]), []).append(run)
  values = dict(zip(map(id, scored), found, strict=True))
  lines = [tables.Line(result.name, result) for result in scored]
  return Sweep(
    experiment, _commands(scored, directory.name), axes,
    {name: of_draws[name].better if name in of_draws else 'higher' if name == _NATS else ''
     for name in scores},
    {name: statistics.fmean(float(r.samples[name].floor or 0) for r in scored)
     for name in of_draws if of_draws[name].floor is not None},
    tables.images(lines).split('; '), sorted({min(r.step for r in scored),
                                              max(r.step for r in scored)}),
    round(sum(r.train_seconds or 0 for r in scored)), tables.machines(lines).split(' and '),
    [_cell(axes, members, values, scores) for members in points.values()])


def _runs(directory: pathlib.Path) -> Iterator[_Run]:
  for path in sorted(directory.glob('*/seed*/config.json')):
    config, folder = rundir.read_config(path.parent), path.parent
    name = config['experiment']
    if name not in registry.names() or config.get('estimator') or rundir.code(config):
      raise errors.UsageError(f'{folder} is of code of a user: only results of code of the '
                              'repository are kept')
    if (folder / rundir.FAILED).exists():
      yield _Run(config, None)
    elif (folder / 'result.json').exists():
      result = result_lib.read(folder / 'result.json')
      tables.require_public(folder, result.dataset)
      tables.require_whole(folder, result)
      yield _Run(config, result)
    else:
      raise errors.UsageError(f'{folder} is not scored: the command of the sweep again resumes it')


def _once(directory: pathlib.Path, runs: Iterable[_Run], scores: Sequence[str]) -> list[_Run]:
  """The runs, each point and seed once: a sweep of one value trains where another looks elsewhere.

  Raises:
    UsageError: two runs of one point and seed differ in one of these scores, seconds apart.
  """
  def told(run: _Run) -> dict[str, float]:
    there = {} if run.result is None else _scores_of(run.result)
    return {name: there[name] for name in scores if name in there and 'seconds' not in name}

  found: dict[str, _Run] = {}
  for run in runs:
    key = json.dumps([run.settings, run.config['seed']], sort_keys=True)
    before = found.setdefault(key, run)
    if len(told(run)) > len(told(before)):
      found[key] = run
    if (before.result is None) != (run.result is None) or any(
        told(before)[name] != told(run)[name] for name in told(before).keys() & told(run).keys()):
      seed = run.config['seed']
      raise errors.UsageError(f'{directory} has two runs of one point and seed {seed} '
                              'whose scores differ: take one of their directories away')
  return list(found.values())


def _asked(results: Sequence[Result]) -> set[str]:
  """Hyperparameters to which the commands of the sweep gave several values, or a range of them."""
  commands = {str((result.trained or {}).get('command', '')) for result in results}
  words = [word for command in commands for word in shlex.split(command)]
  found = {name for word in words if word.startswith('--set=')
           for name, _, value in [word.removeprefix('--set=').partition('=')]
           if ',' in value or '..' in value}
  return found | {'variant' for word in words if word.startswith('--variants=') and ',' in word}


def _axes(entry: registry.Entry, settings: Sequence[dict[str, Any]],
          asked: Collection[str] = ()) -> dict[str, list]:
  """What differs, with its values in the order of its type; without what another axis determines.

  So `samples`, which a sweep has chosen for each `gradient`, is no axis beside it. What was asked
  for is one, though every axis determines all others where points are few or drawn at random.
  """
  parameters = hyperparameters.of(entry)
  columns = {name: [json.dumps(values.get(name)) for values in settings]
             for name in dict.fromkeys(itertools.chain(*settings))}
  columns = {name: column for name, column in columns.items() if len(set(column)) > 1}

  def determines(a: str, b: str) -> bool:
    return len(set(zip(columns[a], columns[b], strict=True))) == len(set(columns[a]))

  names = list(columns)
  kept = [name for i, name in enumerate(names) if name in asked or not any(
    determines(other, name) and not (determines(name, other) and i < names.index(other))
    for other in names if other != name)]
  order = {name: (list(entry.variants) if name == 'variant'
                  else _choices(parameters[name].annotation)) for name in kept}
  return {name: sorted(map(json.loads, dict.fromkeys(columns[name])),
                       key=lambda value, of=order[name]: (
                         of.index(value) if value in of else len(of),
                         value if isinstance(value, int | float) else 0))
          for name in kept}


def _choices(annotation) -> list:
  """The values of the Literals in a type, in their order."""
  if typing.get_origin(annotation) is typing.Literal:
    return list(typing.get_args(annotation))
  return [value for part in typing.get_args(annotation) for value in _choices(part)]


def _scores_of(result: Result) -> dict[str, float]:
  """Every score of a result that has a value, nats among them."""
  there = {**result.score.scores, **{name: s.value for name, s in result.samples.items()}}
  if result.score.headline is not None:
    there[_NATS] = result.score.headline
  return {name: value for name, value in there.items() if value is not None}


def _values(result: Result, scores: Sequence[str], directory: pathlib.Path) -> dict[str, float]:
  known = _scores_of(result)
  for name in scores:
    if name not in known:
      raise errors.UsageError(f'a run of {directory} has no score {name!r}; it has '
                              f'{", ".join(sorted(known))}')
  return {name: known[name] for name in scores}


def _cell(axes, members: Sequence[_Run], values, scores) -> Cell:
  ends = [(run.result.seeds[0], values[id(run.result)])
          for run in members if run.result is not None]
  ends.sort(key=lambda pair: pair[0])
  return Cell({axis: members[0].settings[axis] for axis in axes}, [seed for seed, _ in ends],
              {name: [found[name] for _, found in ends] for name in scores},
              len(members) - len(ends), sorted(_remarks(members)))


def _remarks(members: Sequence[_Run]) -> set[str]:
  """What keeps the nats of one of these runs from being compared."""
  scores = [run.result.score for run in members if run.result is not None]
  return ({'hollow' for score in scores if score.hollow}
          | {'not resolved' for score in scores if score.resolved is False})


def _commands(results: Sequence[Result], name: str) -> list[str]:
  """The commands of the sweep that the runs recorded, in a directory of the sweep's name."""
  found = {}
  for result in results:
    command = str((result.trained or {}).get('command', ''))
    program, *flags = shlex.split(command) or ['sweep.py']
    flags = [flag for flag in flags if flag.partition('=')[0] not in _OF_NO_GRID]
    found[shlex.join(['python', '-m', f'launch.{pathlib.Path(program).stem}', *flags,
                      f'--workdir=runs/{name}'])] = None
  return list(found)


# As text.


def cells(sweep: Sweep, score: str) -> tables.Cells:
  """The table of one score: mean +- spread over seeds, the best in bold, frozen runs counted."""
  down, *across = sorted(sweep.axes, key=lambda axis: -len(sweep.axes[axis]))
  columns = list(itertools.product(*(sweep.axes[axis] for axis in across)))
  at = {json.dumps([cell.at[axis] for axis in (down, *across)]): cell for cell in sweep.cells}
  best = _best(sweep, score)
  rows = [[_text(value), *(_shown(at.get(json.dumps([value, *column])), score, best)
                           for column in columns)] for value in sweep.axes[down]]
  title = words.score(score) if score != _NATS else 'test nats'
  heads = [', '.join(_text(value, axis) for axis, value in zip(across, column, strict=True))
           for column in columns]
  return [[down, *(heads if across else [title])], *rows]


def scores_cells(sweep: Sweep) -> tables.Cells:
  """All scores of a sweep of one axis side by side."""
  parts = [cells(sweep, score) for score in sweep.scores]
  return [[*rows[0], *(row[1] for row in rows[1:])] for rows in zip(*parts, strict=True)]


def _best(sweep: Sweep, score: str) -> dict[tuple, float]:
  """The best mean of each data set and binarisation: scores of different ones do not compare."""
  choose = {'lower': min, 'higher': max}.get(sweep.scores[score])
  if not choose or len(sweep.axes) == 1:
    return {}
  means = collections.defaultdict(list)
  for cell in sweep.cells:
    if cell.values[score] and not (score == _NATS and cell.remarks):
      means[_data_of(cell)].append(statistics.fmean(cell.values[score]))
  return {of: choose(found) for of, found in means.items()}


def _data_of(cell: Cell) -> tuple:
  return tuple(cell.at.get(axis) for axis in ('dataset', 'binarisation'))


def _shown(cell: Cell | None, score: str, best: Mapping[tuple, float]) -> str:
  if cell is None:
    return numbers.NONE
  values = cell.values[score]
  frozen = f'{cell.frozen} of {cell.frozen + len(values)} frozen' if cell.frozen else ''
  if not values:
    return frozen
  mean, in_nats = statistics.fmean(values), words.unit(score) == 'nats'
  text = numbers.fixed(mean) if in_nats else numbers.significant(mean, 4)
  if len(values) > 1:
    spread = statistics.stdev(values)
    text += f' ± {numbers.fixed(spread) if in_nats else numbers.significant(spread, 2)}'
  remarks = list(cell.remarks) if score == _NATS else []
  if mean == best.get(_data_of(cell)) and not remarks:
    text = f'**{text}**'
  return ', '.join([text, *remarks, *([frozen] if frozen else [])])


def _text(value, axis: str = '') -> str:
  """A value, with the name of its axis where it is empty or a bare number."""
  text = numbers.NONE if value in (None, '') else str(references.short(value))
  return text if isinstance(value, str) and value or not axis else f'{axis} {text}'


def head(sweep: Sweep) -> str:
  """The line above its tables: data, seeds, updates, cost, machine."""
  counts = sorted({len(cell.seeds) for cell in sweep.cells if cell.seeds})
  seeds = ' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))
  runs = sum(len(cell.seeds) + cell.frozen for cell in sweep.cells)
  steps = ' to '.join(map(numbers.whole, sweep.steps))
  return (f'{"; ".join(sweep.data)}; {seeds} seed{"s" * (counts[-1] > 1)}, {steps} updates; '
          f'{runs} runs, {sweep.seconds:,.0f} seconds of training in all; '
          f'{" and ".join(sweep.machines)}.')


def titles(sweep: Sweep) -> dict[str, str]:
  """Score -> the line above its table."""
  found = {}
  for score, better in sweep.scores.items():
    parts = [words.score(score) if score != _NATS else 'Test nats']
    if better and score != _NATS:
      parts.append(words.better(better))
    if score in sweep.floors:
      parts.append(f'training images {numbers.significant(sweep.floors[score], 3)}')
    found[score] = '; '.join(parts)
  return found
