"""What a report shows: runs found in directories, put together in rows.

A row is one configuration with all its seeds: a run with --seeds, or runs that differ in their
seeds alone.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from launch import errors
from launch.cli import registry
from launch.reports import tables
from launch.runs import directory as rundir, result as result_lib
from launch.runs.result import Result


class Row(NamedTuple):
  """One configuration.

  Attributes:
    experiment, name: of the table, and of the line in it: the variant and what else was set.
    config: of the first seed; of a committed result what it says of itself.
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
  """All that lies below the directories of a report."""

  rows: list[Row]
  audits: dict[str, list[dict]]
  stories: dict[pathlib.Path, tables.Story]


def gather(directories: Sequence[pathlib.Path]) -> Found:
  """Runs, committed results and audits below these directories, at any depth.

  Raises:
    UsageError: a directory that does not exist, or nothing to show in all of them.
    ForeignRun: a config.json that does not read.
  """
  groups: dict[str, list[pathlib.Path]] = {}
  committed, audits, stories = [], {}, {}
  for directory in directories:
    if not directory.is_dir():
      raise errors.UsageError(f'{directory} is no directory')
    for path in sorted(directory.rglob('*.json*')):
      if path.name == 'config.json' and (path.parent / 'config.json').is_file():
        config = rundir.read_config(path.parent)
        key = json.dumps([config['experiment'], config.get('variant'), config['hyperparameters'],
                          config.get('estimator'), rundir.code(config)], sort_keys=True)
        runs = groups.setdefault(key, [])
        if path.parent.resolve() not in [p.resolve() for p in runs]:
          runs.append(path.parent)
      elif (path.parent / 'config.json').exists() or 'checkpoints' in path.parts:
        continue  # of a run
      elif story := _story(path):
        stories[path] = story
      elif objects := _audits(path):
        audits[str(path)] = objects
      elif result := _committed(path):
        committed.append(result)
  rows = [row for runs in groups.values() for row in _rows(runs)]
  rows += [Row(r.experiment, r.variant or 'defaults', {
    'experiment': r.experiment, 'variant': r.variant, 'hyperparameters': dict(r.hyperparameters),
    'seeds': list(r.seeds)}, list(r.seeds), r, list(r.seeds), [], list(r.score.remarks))
    for r in committed]
  if not rows and not audits and not stories:
    raise errors.UsageError(
      f'no run in {", ".join(map(str, directories))}: a run directory has a config.json; '
      'python -m launch.train --workdir=... makes one')
  return Found(sorted(rows, key=_order), audits, stories)


def _order(row: Row):
  """By experiment, the best first, what has no likelihood or no score last."""
  nats = row.result.score.headline if row.result else None
  return (row.experiment, row.result is None, -np.inf if nats is None else -nats, row.name)


def _rows(runs: Sequence[pathlib.Path]) -> Iterator[Row]:
  """The row of runs of one configuration; one each where their results do not fit together."""
  configs = [rundir.read_config(p) for p in runs]
  first = configs[0]
  seeds = [seed for c in configs for seed in range(c['seed'], c['seed'] + c.get('seeds', 1))]
  results, remarks = [], []
  for path in runs:
    if (path / 'result.json').exists():
      try:
        results.append(result_lib.read(path / 'result.json'))
      except (OSError, result_lib.Malformed) as e:
        remarks.append(f'its result is left out: {e}')
  try:
    result = result_lib.merge(results) if results else None
  except ValueError as e:
    if len(runs) == 1:
      raise
    for path in runs:
      for row in _rows([path]):
        yield row._replace(remarks=[*row.remarks, f'{path}: {e}'])
    return
  for path in runs:
    for name, what in ((rundir.FAILED, 'frozen: '), ('warnings.txt', '')):
      if (path / name).exists():
        remarks += [f'{path}: {what}{line}' for line in
                    (path / name).read_text(encoding='utf-8', errors='replace').splitlines()[:5]]
  if result:
    remarks += result.score.remarks
  yield Row(first['experiment'], label(first), first, sorted(seeds), result,
            list(result.seeds) if result else [], list(runs), remarks)


def label(config: dict) -> str:
  """The variant, and the hyperparameters that are not the variant's own: pcd, learning_rate=0.1.

  A user's estimator stands before them: pcd, mine.py:cd1, learning_rate=0.1.
  """
  variant = config.get('variant') or 'defaults'
  if 'estimator' in config:
    variant += f', {pathlib.Path(config["estimator"]).name}'
  try:
    # A path in a configuration is somebody's word: only experiments of the project are imported.
    if config['experiment'] not in registry.names():
      return variant
    usual = registry.resolve(registry.load(config['experiment']), config.get('variant'))
  except errors.UsageError:
    return variant
  own = [f'{k}={v}' for k, v in config['hyperparameters'].items() if v != usual.get(k)]
  return ', '.join([variant, *own])


def _objects(path: pathlib.Path) -> list:
  """JSON objects of a file of one, of a list of them, or of one a line."""
  text = path.read_text(encoding='utf-8', errors='replace')
  try:
    value = json.loads(text)
    return value if isinstance(value, list) else [value]
  except ValueError:
    pass
  try:
    return [json.loads(line) for line in text.splitlines() if line.strip()]
  except ValueError:
    return []


def _audits(path) -> list[dict]:
  """What launch.audit --json printed, [] if it is something else."""
  objects = _objects(path)
  wanted = {'name', 'biased', 'declared_biased', 'bias_z', 'variance', 'snr'}
  fits = objects and all(isinstance(x, dict) and wanted <= set(x) for x in objects)
  return objects if fits else []


def _story(path) -> tables.Story | None:
  """What launch.results keeps of a story, None if it is something else."""
  objects = _objects(path)
  fits = (len(objects) == 1 and isinstance(objects[0], dict)
          and set(objects[0]) == {'command', 'rows'}
          and all(isinstance(r, dict) and {'family', 'samples', 'made'} <= set(r)
                  for r in objects[0]['rows']))
  try:
    return tables.read_story(path) if fits and objects[0]['rows'] else None
  except result_lib.Malformed:
    return None


def _committed(path) -> Result | None:
  """What launch.results keeps of a run, None if it is something else."""
  objects = _objects(path)
  wanted = {'experiment', 'variant', 'seeds', 'test_nats', 'kind', 'made', 'num_images'}
  if not (len(objects) == 1 and isinstance(objects[0], dict) and wanted <= set(objects[0])):
    return None
  try:
    return Result.from_json(objects[0])
  except result_lib.Malformed:
    return None
