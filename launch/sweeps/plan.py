"""The plan of a sweep: its points, and the few compiled programs that hold them.

A point is a run: a variant, hyperparameters, a seed. Points that differ only in seeds and in floats
that can be arguments of a program are replicas of one program; a difference in anything else
(a number of units, a number of steps, a choice) is another program.
"""

import itertools
import random
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from launch import errors
from launch.cli import hyperparameters, references, registry
from launch.runs.memory import num_bytes


class Point(NamedTuple):
  """A run of the sweep.

  Attributes:
    variant: of the experiment, or None.
    swept: name -> value of the hyperparameters that --set varies.
    seed: of the run.
    values: every hyperparameter.
  """

  variant: str | None
  swept: dict[str, Any]
  seed: int
  values: dict[str, Any]

  @property
  def row(self) -> str:
    """The name of the point with all its seeds: pcd,learning_rate=0.1."""
    parts = [self.variant or 'defaults', *(f'{k}={_short(v)}' for k, v in self.swept.items())]
    # Of a name nothing but one path component is made, whatever a string in it says.
    return urllib.parse.quote(','.join(parts), safe=',=+-._').replace('..', '%2E%2E')

  @property
  def name(self) -> str:
    """Its directory below that of the sweep."""
    return f'{self.row}/seed{self.seed}'


def _short(value) -> Any:
  """mine.cd1 of a user's /path/mine.py:cd1; any other value as it is."""
  return references.short(value).replace('.py:', '.') if references.is_one(value) else value


class Program(NamedTuple):
  """Points that are replicas of one compiled program.

  Attributes:
    points: the replicas.
    floats: names of the hyperparameters that are its arguments.
    num_bytes: an estimate for one replica: state twice, gradients.
    data_bytes: of the data, shared by all.
  """

  points: list[Point]
  floats: list[str]
  num_bytes: int
  data_bytes: int

  def values(self) -> dict[str, Any]:
    """Every hyperparameter for training.hyper.bind: the floats as arrays over replicas."""
    first = self.points[0].values
    return {**first, **{k: np.array([p.values[k] for p in self.points]) for k in self.floats}}


class Range(NamedTuple):
  """low..high, or low..high:log: from where random search draws."""

  low: float
  high: float
  log: bool
  whole: bool

  def draw(self, rng: random.Random) -> float | int:
    """Uniform, or uniform in the logarithm; floats of three digits, so that names can be read."""
    if self.whole and not self.log:
      return rng.randint(int(self.low), int(self.high))
    value = rng.uniform(self.low, self.high)
    if self.log:
      value = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
    return round(value) if self.whole else float(f'{value:.3g}')


def axes(entry: registry.Entry, overrides: Sequence[str],
         ranges: bool = False) -> dict[str, list | Range]:
  """Name -> the values of `name=a,b,c`, or the Range of `name=a..b` where ranges are allowed.

  Raises:
    UsageError: unknown name, a value of the wrong type, a range where there is nothing to draw.
  """
  parameters = hyperparameters.of(entry)
  found: dict[str, list | Range] = {}
  for override in overrides:
    name, equals, text = override.partition('=')
    if not equals:
      raise errors.UsageError(f'--set={override}: write --set=name=value or name=a,b,c')
    if name not in parameters:
      raise errors.UsageError(f'{entry.name} has no hyperparameter {name!r}'
                                + errors.near(name, list(parameters)))
    if name in found:
      raise errors.UsageError(f'--set={name} twice: write --set={name}=a,b')
    annotation = parameters[name].annotation
    match = re.fullmatch(r'([^,]+?)\.\.([^,]+?)(:log)?', text)
    if match and hyperparameters.kind(annotation) in (int, float):
      if not ranges:
        raise errors.UsageError(f'--set={override}: a range is for --search=random or optuna; '
                                'for a grid write the values, a,b,c')
      low, high = (hyperparameters.parse(name, bound, annotation) for bound in match.groups()[:2])
      if low > high or (match[3] and low <= 0):
        raise errors.UsageError(f'--set={override}: the lower end comes first'
                                + (', above 0 for :log' if match[3] else ''))
      found[name] = Range(low, high, bool(match[3]), hyperparameters.kind(annotation) is int)
    else:
      # A tuple has its own commas, so a sweep takes one value of it.
      parts = [text] if hyperparameters.is_tuple(annotation) else text.split(',')
      values = [hyperparameters.parse(name, part, annotation) for part in parts]
      if len(set(values)) < len(values):
        raise errors.UsageError(f'--set={override}: the same value twice')
      found[name] = values
  return found


def grid(choices: Mapping[str, list | Range]) -> Iterator[dict[str, Any]]:
  """Every combination of lists; parsed without ranges there are no others."""
  for values in itertools.product(*(x for x in choices.values() if isinstance(x, list))):
    yield dict(zip(choices, values, strict=True))


def draws(choices: Mapping[str, list | Range], trials: int, seed: int) -> Iterator[dict[str, Any]]:
  """`trials` different combinations drawn at random; the first of them are those of fewer trials.

  Raises:
    UsageError: there are not so many.
  """
  rng, seen = random.Random(seed), set()
  for _ in range(trials):
    for _ in range(1000):
      drawn = {k: v.draw(rng) if isinstance(v, Range) else rng.choice(v)
               for k, v in choices.items()}
      if tuple(drawn.values()) not in seen:
        break
    else:
      raise errors.UsageError(f'--trials={trials}: there are only {len(seen)} different points')
    seen.add(tuple(drawn.values()))
    yield drawn


def points(entry: registry.Entry, variants: Sequence[str | None], choices, seeds: Sequence[int],
           fixed: Mapping[str, Any] | None = None) -> list[Point]:
  """variants x choices x seeds; `fixed` are values that all share and that name nothing.

  Raises:
    UsageError: as hyperparameters.resolve.
  """
  choices = list(choices)
  found = [Point(variant, swept, seed,
                 {**hyperparameters.resolve(entry, variant), **(fixed or {}), **swept})
           for variant in variants for swept in choices for seed in seeds]
  for point in found:
    hyperparameters.check_values(entry, point.values)
  names: dict[str, Point] = {}
  for point in found:
    if (other := names.setdefault(point.name, point)).values != point.values:
      files = sorted({str(v) for p in (point, other) for v in p.swept.values()
                      if references.is_one(v)})
      raise errors.UsageError(f'{" and ".join(files)} would train in one directory, '
                              f'{point.name}: give one of the files another name')
  return found


def programs(entry: registry.Entry, all_points: Sequence[Point], dataset,
             max_replicas: int | None = None, memory: int | None = None) -> list[Program]:
  """As few programs as the shapes allow, in the order of their first points.

  Args:
    entry: the experiment.
    all_points: what is to be run.
    dataset: name -> the Dataset it is trained on.
    max_replicas: of one program, whatever the memory; None for as many as that holds.
    memory: bytes of a device; None for no limit.
  """
  from gen_models.training import hyper
  alike: dict[tuple, list[Point]] = {}
  for point in all_points:
    constant = tuple((k, v) for k, v in point.values.items() if not isinstance(v, float))
    alike.setdefault(constant, []).append(point)
  found = []
  for group in alike.values():
    values = group[0].values
    data = dataset(entry.experiment(**values).dataset)
    floats = hyper.traceable(entry.experiment, values, data.train, data.valid)
    num_bytes, data_bytes = _bytes(entry.experiment(**values), data)
    most = max_replicas or len(group)
    if memory and not max_replicas:
      most = max(1, min(most, int((0.8 * memory - data_bytes) // num_bytes)))
    same: dict[tuple, list[Point]] = {}
    for point in group:
      rest = tuple(v for k, v in point.values.items() if isinstance(v, float) and k not in floats)
      same.setdefault(rest, []).append(point)
    found += [Program(members[i:i + most], floats, num_bytes, data_bytes)
              for members in same.values() for i in range(0, len(members), most)]
  return found


def _bytes(experiment, data) -> tuple[int, int]:
  """(of one replica, of the data), the largest over phases."""
  from gen_models.training import checks, step as step_lib

  def states(key, train):
    params = None
    for phase in experiment.phases:
      state = step_lib.init_state(key, phase, train, params)
      params = step_lib.final_params(state)
      yield state

  found = jax.eval_shape(lambda key, train: tuple(states(key, train)),
                         jax.eval_shape(lambda: jax.random.key(0)), checks.shapes(data.train))
  return (max(2 * num_bytes(state) + num_bytes(state.params) for state in found),
          num_bytes(checks.shapes((data.train, data.valid))))


def describe(found: Sequence[Program], num_devices: int) -> str:
  """The plan, for people."""
  replicas = sum(len(p.points) for p in found)
  lines = [f'{len(found)} {"program" if len(found) == 1 else "programs"}, {replicas} runs, '
           f'{num_devices} {"device" if num_devices == 1 else "devices"}']
  for k, program in enumerate(found):
    rows = list(dict.fromkeys(p.row for p in program.points))
    seeds = sorted({p.seed for p in program.points})
    on_device = -(-len(program.points) // num_devices)
    lines.append(
      f'  {k}: {len(program.points)} replicas, seeds {_span(seeds)}; about '
      f'{human(on_device * program.num_bytes + program.data_bytes)} a device, '
      f'{human(program.data_bytes)} of it data, without activations')
    lines += [f'       {row}' for row in rows[:12]]
    if len(rows) > 12:
      lines.append(f'       and {len(rows) - 12} more')
  return '\n'.join(lines)


def _span(seeds: list[int]) -> str:
  if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
    return f'{seeds[0]} to {seeds[-1]}'
  return ', '.join(map(str, seeds))


def human(num_bytes: float) -> str:
  """12 MB."""
  for unit in ('B', 'kB', 'MB', 'GB'):
    if num_bytes < 1000:
      return f'{num_bytes:.3g} {unit}'
    num_bytes /= 1000
  return f'{num_bytes:.3g} TB'
