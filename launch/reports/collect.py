"""The contents of a report: runs found in directories, collected in rows.

A row is one configuration with all its seeds: a run with --seeds, or runs that differ only in their
seeds. A directory may come from someone else and hold anything: a run that cannot be read becomes a
remark, and the others are shown.
"""

import contextlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gen_models import files
from launch import errors
from launch.cli import hyperparameters, references, registry
from launch.reports import tables
from launch.runs import directory as rundir, result as result_lib
from launch.runs.result import Result

_LARGEST = 16 * 2**20  # bytes of a file of JSON
_LARGEST_REMARKS = 2**20  # of warnings.txt, failed.txt
_MOST_SEEDS = 4096  # of one run
_MOST_AUDITS = 1000  # in one file
_BAD = (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError)


class Row(NamedTuple):
  """One configuration.

  Attributes:
    experiment, name: of the table, and of the line in it: the variant, and what tells it apart.
    config: the configuration of the first seed; of a committed result, the fields it records.
    seeds: all of them.
    result: merged over seeds; None where none was scored.
    scored: seeds that were scored.
    directories: of its runs; none of a committed result.
    remarks: lines about what a reader must know: alarms, replicas that were frozen.
  """

  experiment: str
  name: str
  config: dict[str, Any]
  seeds: list[int]
  result: Result | None
  scored: list[int]
  directories: list[pathlib.Path]
  remarks: list[str]


class Found(NamedTuple):
  """All that lies below the directories of a report; remarks say what was left out and why."""

  rows: list[Row]
  audits: dict[str, list[dict]]
  stories: dict[pathlib.Path, tables.Story]
  remarks: list[str]


def gather(directories: Sequence[pathlib.Path]) -> Found:
  """Runs, committed results and audits below these directories, at any depth.

  Raises:
    UsageError: a directory that does not exist, or nothing to show in all of them.
  """
  found, groups = Found([], {}, {}, []), {}
  for folder, names in _folders(directories):
    if 'config.json' in names:
      try:
        config = read_config(folder)
        key = json.dumps([config['experiment'], config.get('variant'), config['hyperparameters'],
                          config.get('estimator'), rundir.code(config), _data_of(config)],
                         sort_keys=True)
        groups.setdefault(key, []).append((folder, config))
      except _BAD as e:
        found.remarks.append(f'{folder} is left out: {line_of(e)}')
      continue
    if 'metrics.jsonl' in names:
      found.remarks.append(f'{folder} is left out: it has the metrics of a run and no config.json')
    for name in names:
      if name.endswith(('.json', '.jsonl')):
        _add_file(found, folder / name)
  for runs in groups.values():
    found.rows.extend(_rows(runs))
  if not (found.rows or found.audits or found.stories):
    raise errors.UsageError('; '.join(found.remarks[:3]) or (
      f'no run in {", ".join(map(str, directories))}: a run directory has a config.json; '
      'python -m launch.train --workdir=... makes one'))
  return found._replace(rows=sorted(_named(found.rows), key=_order))


def _data_of(config: dict[str, Any]) -> str | None:
  """The sha256 of the user's data that a run was trained on: two files may have one name."""
  known = rundir.described(config)
  return None if known is None else known.sha256


def _folders(directories: Sequence[pathlib.Path]) -> Iterator[tuple[pathlib.Path, list[str]]]:
  """(folder, names of its files) of each folder once; what checkpoints hold is not looked at."""
  seen = set()
  for directory in directories:
    if not directory.is_dir():
      raise errors.UsageError(f'{directory} is no directory')
    # Links are not followed, and a folder that vanishes while a training tidies is passed over.
    for folder, folders, names in os.walk(directory):
      folders[:] = sorted(set(folders) - {'checkpoints'})
      real = os.path.realpath(folder)
      if real not in seen:
        seen.add(real)
        yield pathlib.Path(folder), sorted(names)


def read_config(directory: pathlib.Path) -> dict[str, Any]:
  """config.json of a run; raises OSError, or ValueError for what describes no run."""
  config = rundir.read_config(directory)
  if config['seeds'] > _MOST_SEEDS:
    raise ValueError(f'it has {config["seeds"]:,} seeds, at most {_MOST_SEEDS:,} are shown')
  return config


def line_of(error: Exception) -> str:
  """An error as one line of bounded length."""
  return ' '.join(str(error).split())[:400] or type(error).__name__


def _add_file(found: Found, path: pathlib.Path) -> None:
  """The content of a JSON file, if it is something that a report shows."""
  try:
    objects = _objects(path)
    if story := _story(path, objects):
      found.stories[path] = story
    elif _audits(objects):
      found.audits[str(path)] = objects
    elif _is_result(objects):
      found.rows.append(_committed(Result.from_json(objects[0])))
  except _BAD as e:
    found.remarks.append(f'{path} is left out: {line_of(e)}')


def _committed(result: Result) -> Row:
  config = {'experiment': result.experiment, 'variant': result.variant,
            'hyperparameters': dict(result.hyperparameters), 'seeds': list(result.seeds)}
  return Row(result.experiment, '', config, list(result.seeds), result, list(result.seeds), [],
             list(result.score.remarks))


def _order(row: Row):
  """By experiment, the best first, what has no likelihood or no score last."""
  nats = row.result.score.headline if row.result else None
  return (row.experiment, row.result is None, np.inf if nats is None else -nats, row.name)


def _rows(runs: Sequence[tuple[pathlib.Path, dict]]) -> Iterator[Row]:
  """The row of runs of one configuration; one each where their results do not fit together."""
  first = runs[0][1]
  seeds = [seed for _, c in runs for seed in range(c['seed'], c['seed'] + c['seeds'])]
  if len(set(seeds)) < len(seeds) and len(runs) > 1:
    for run in runs:
      for row in _rows([run]):
        yield row._replace(remarks=[*row.remarks, f'{run[0]}: its seed is there twice'])
    return
  results, remarks = [], []
  for path, _ in runs:
    if os.path.lexists(path / 'result.json'):
      try:
        results.append(result_lib.read(path / 'result.json'))
        remarks += _since(path, results[-1])
      except _BAD as e:
        remarks.append(f'its result is left out: {line_of(e)}')
  try:
    result = result_lib.merge(results) if results else None
  except ValueError as e:
    if len(runs) == 1:
      raise
    for run in runs:
      for row in _rows([run]):
        yield row._replace(remarks=[*row.remarks, f'{run[0]}: {line_of(e)}'])
    return
  remarks += [line for path, _ in runs for line in _remarks(path)]
  if result:
    remarks += result.score.remarks
  yield Row(first['experiment'], '', first, sorted(seeds), result,
            list(result.seeds) if result else [], [path for path, _ in runs], remarks)


def _remarks(run: pathlib.Path) -> Iterator[str]:
  """The remarks of a run: that it was frozen, its alarms."""
  for name, what in ((rundir.FAILED, 'frozen: '), ('warnings.txt', '')):
    try:
      text = files.read_text(run / name, _LARGEST_REMARKS)
    except FileNotFoundError:
      continue
    except OSError as e:
      text, what = f'{name} is left out: {e.strerror}', ''
    yield from (f'{run}: {what}{line[:400]}' for line in text.splitlines()[:5])


def _since(run: pathlib.Path, result: Result) -> Iterator[str]:
  """A line where a run was trained on after its last parameters were scored."""
  if result.checkpoint != 'last':
    return
  with contextlib.suppress(OSError):
    newest = max((int(path.name) for path in (run / 'checkpoints').iterdir()
                  if path.name.isdecimal()), default=0)
    if newest > result.step:
      yield (f'{run}: scored after {result.step:,} updates, and trained to {newest:,} since: '
             'launch.evaluate scores it again')


# Names of rows.


def _named(rows: Iterable[Row]) -> list[Row]:
  """The rows, each with a name that no other of its experiment has.

  A name is the variant, the hyperparameters that are not the variant's own where its experiment is
  known here, and those in which rows of this variant differ.
  """
  rows, alike = list(rows), {}
  for row in rows:
    alike.setdefault((row.experiment, row.config.get('variant')), []).append(row)
  differing = {key: _differing([row.config['hyperparameters'] for row in group if row.directories])
               for key, group in alike.items()}
  named = [row._replace(name=_label(row, differing[row.experiment, row.config.get('variant')]))
           for row in rows]
  count = Counter((row.experiment, row.name) for row in named)
  unique = [row._replace(name=f'{row.name} ({_where(row)})')
            if count[row.experiment, row.name] > 1 else row for row in named]
  count = Counter((row.experiment, row.name) for row in unique)
  return [row._replace(name=f'{row.name} ({i})') if count[row.experiment, row.name] > 1 else row
          for i, row in enumerate(unique)]


def _differing(configurations: Sequence[dict]) -> set[str]:
  """Hyperparameters that are not the same in all."""
  names = {name for values in configurations for name in values}
  return {name for name in names
          if len({json.dumps(values.get(name), sort_keys=True) for values in configurations}) > 1}


def _label(row: Row, differing: set[str]) -> str:
  """pcd, learning_rate=0.1, and a user's estimator before them: pcd, mine.py:cd1."""
  values, shown = row.config['hyperparameters'], set(differing)
  if row.directories:
    usual = _usual(row)
    shown |= {name for name in values if usual is not None and values[name] != usual.get(name)}
  else:
    shown = set()  # a committed result is its variant
  variant = str(row.config.get('variant') or 'defaults')
  estimator = row.config.get('estimator')  # a user's, mine.py:cd1
  own = [pathlib.PurePath(str(estimator)).name] if estimator else []
  return ', '.join([variant, *own, *(f'{k}={_short(v)}' for k, v in values.items() if k in shown)])


def _usual(row: Row) -> dict[str, Any] | None:
  """The hyperparameters of the row's variant; None where its experiment is not known here."""
  try:
    entry = registry.load_recorded(row.experiment, row.directories[0] / 'config.json')
    return json.loads(json.dumps(hyperparameters.resolve(entry, row.config.get('variant'))))
  except Exception:  # code of a user: whatever it does, the row has a name
    return None


def _short(value) -> str:
  text = str(references.short(value))
  return text if len(text) <= 60 else f'{text[:57]}...'


def _where(row: Row) -> str:
  return str(row.directories[0]) if row.directories else 'committed'


# What files of JSON hold.


def _objects(path: pathlib.Path) -> list:
  """JSON objects of a file of one, of a list of them, or of one a line.

  Raises:
    OSError: it is no regular file, or too long.
    ValueError: it is not JSON.
  """
  text = files.read_text(path, _LARGEST)
  try:
    value = json.loads(text)
    return value if isinstance(value, list) else [value]
  except RecursionError:
    raise ValueError('nested too deeply') from None
  except ValueError:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
      raise
    return [json.loads(line) for line in lines]


_AUDIT = {'name': str, 'biased': bool, 'declared_biased': bool}
_AUDIT_NUMBERS = ('bias_z', 'variance', 'snr', 'seconds_per_step')


def _audits(objects: list) -> bool:
  """Whether this is what launch.audit --json printed."""
  return 0 < len(objects) <= _MOST_AUDITS and all(
    isinstance(x, dict)
    and all(isinstance(x.get(name), kind) for name, kind in _AUDIT.items())
    and all(name in x and _is_number(x[name]) for name in _AUDIT_NUMBERS)
    and all(_is_number(x.get(name)) for name in ('bias_norm', 'num_draws')) for x in objects)


def _is_number(value) -> bool:
  return value is None or isinstance(value, int | float) and abs(value) < 1e300


def _story(path: pathlib.Path, objects: list) -> tables.Story | None:
  """A story as launch.results keeps it, None if it is something else; raises Malformed."""
  fits = (len(objects) == 1 and isinstance(objects[0], dict)
          and set(objects[0]) == {'command', 'rows'} and isinstance(objects[0]['rows'], list)
          and all(isinstance(r, dict) and {'family', 'samples', 'made'} <= set(r)
                  for r in objects[0]['rows']))
  return tables.read_story(path) if fits and objects[0]['rows'] else None


def _is_result(objects: list) -> bool:
  """Whether this is what launch.results keeps of a run."""
  wanted = {'experiment', 'variant', 'seeds', 'test_nats', 'kind', 'made', 'num_images'}
  return len(objects) == 1 and isinstance(objects[0], dict) and wanted <= set(objects[0])
