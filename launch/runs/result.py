"""The result of a run, as result.json and experiments/results/ hold it: what was scored, of what.

Runs that differ only in their seeds are merged here into one result: what evaluate, results
and report call a row.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gen_models import files
from gen_models.evaluation import json_fields, score as score_lib
from gen_models.evaluation.json_fields import Malformed
from gen_models.evaluation.score import SampleScore, Score

_SAME = ('experiment', 'variant', 'estimator', 'code', 'dataset', 'hyperparameters', 'step',
         'checkpoint', 'sample_space', 'sample_network', 'num_parameters')
_SAME_SCORE = ('binarisation', 'kind', 'num_images')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
  """The machine on which a run was trained."""

  platform: str
  device_kind: str
  num_cores: int | None
  jax: str

  @property
  def name(self) -> str:
    """2 CPU cores, or the name of the accelerator."""
    return f'{self.num_cores} CPU cores' if self.platform == 'cpu' else self.device_kind

  @classmethod
  def from_json(cls, value, where: str) -> 'Machine':
    """Of what environment.json, and `made` of a committed result, say; raises Malformed."""
    fields = json_fields.Fields(value, where)
    versions = json_fields.mapping(fields.take('versions', json_fields.mapping, {}), where)
    return cls(platform=fields.take('platform', json_fields.text),
               device_kind=fields.take('device_kind', json_fields.text),
               num_cores=fields.take('num_cores', json_fields.count, None),
               jax=json_fields.text(versions.get('jax', 'unknown'), f'{where}.versions.jax'))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """One configuration, scored.

  Attributes:
    experiment, variant, dataset, protocol, hyperparameters: what was trained.
    estimator, code: of the user, see launch.runs.directory.
    seeds: of the runs in it.
    step, checkpoint: of the parameters that were scored.
    score: likelihood, other scores, every seed's own.
    num_parameters: number of trained parameters.
    samples: scores of draws, name -> score.
    sample_space: binarisation under which draws were compared with test images.
    sample_network: of draws compared in the features of a network with supplied weights: which
      weights, their sha256, how images were resized.
    memorised: whether the draws are copies of training images.
    memorised_power: which planted copies that check finds, see evaluation.copies.
    train_seconds: wall time, all seeds together.
    trained, environment: where the run was trained and where it was scored.
    made: of a committed result, where it was trained.
    command: of a committed result, how it is made again.
    runs: how many runs were merged.
  """

  experiment: str
  variant: str | None
  dataset: str
  score: Score
  protocol: str = ''
  hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seeds: tuple[int, ...] = ()
  step: int = 0
  checkpoint: str = 'last'
  num_parameters: int | None = None
  samples: Mapping[str, SampleScore] = dataclasses.field(default_factory=dict)
  sample_space: str | None = None
  sample_network: Mapping[str, Any] | None = None
  memorised: bool | None = None
  memorised_power: Mapping[str, Any] | None = None
  train_seconds: float | None = None
  trained: Mapping[str, Any] | None = None
  environment: Mapping[str, Any] | None = None
  made: Mapping[str, Any] | None = None
  command: str | None = None
  runs: int = 1
  estimator: str | None = None
  code: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @classmethod
  def from_json(cls, value, where: str = '') -> 'Result':
    """The result that an object of JSON describes.

    Raises:
      Malformed: a field is missing, of the wrong type, too large or not finite; the line names it.
    """
    fields = json_fields.Fields(value, where)
    text, known, count = json_fields.text, json_fields.known, json_fields.count
    for name in ('trained', 'environment', 'made'):
      if name in fields and value[name] is not None:
        Machine.from_json(value[name], name)
    result = cls(
      experiment=fields.take('experiment', text), variant=fields.take('variant', text, None),
      dataset=fields.take('dataset', text), protocol=fields.take('protocol', text, ''),
      hyperparameters=fields.take('hyperparameters', known, {}),
      seeds=fields.take('seeds', json_fields.sequence(count)), step=fields.take('step', count),
      checkpoint=fields.take('checkpoint', text, 'last'),
      num_parameters=fields.take('num_parameters', count, None),
      samples=fields.take('samples', json_fields.named(SampleScore.from_json), {}),
      sample_space=fields.take('sample_space', text, None),
      memorised=fields.take('memorised', json_fields.flag, None),
      train_seconds=fields.take('train_seconds', json_fields.number, None),
      **{name: fields.take(name, known, None)
         for name in ('sample_network', 'memorised_power', 'trained', 'environment', 'made')},
      command=fields.take('command', text, None), runs=fields.take('runs', count, 1),
      estimator=fields.take('estimator', text, None),
      code=fields.take('code', json_fields.named(text), {}),
      score=Score.take(fields, where))
    if result.score.per_seed and len(result.score.per_seed) != len(result.seeds):
      raise Malformed(f'per_seed has {len(result.score.per_seed)} entries for '
                      f'{len(result.seeds)} seeds')
    return result

  def to_json(self) -> dict[str, Any]:
    """As from_json read it."""
    value = {'command': self.command} if self.command is not None else {}
    value |= {
      'experiment': self.experiment, 'variant': self.variant,
      **({'estimator': self.estimator} if self.estimator else {}),
      **({'code': dict(self.code)} if self.code else {}), 'dataset': self.dataset,
      'protocol': self.protocol, 'hyperparameters': dict(self.hyperparameters),
      'seeds': list(self.seeds), 'step': self.step, 'checkpoint': self.checkpoint,
      **self.score.to_json()}
    if self.num_parameters is not None:
      value['num_parameters'] = self.num_parameters
    if self.samples:
      value['samples'] = {name: sample.to_json() for name, sample in self.samples.items()}
    for name in ('sample_space', 'sample_network', 'memorised', 'memorised_power', 'environment',
                 'trained'):
      if getattr(self, name) is not None:
        value[name] = getattr(self, name)
    value['train_seconds'] = self.train_seconds
    if self.runs > 1:
      value['runs'] = self.runs
    if self.made is not None:
      value['made'] = dict(self.made)
    return value

  @property
  def name(self) -> str:
    """Experiment, variant and the user's estimator, as a title."""
    return ' '.join(pathlib.Path(word).name for word in (
      self.experiment, self.variant, self.estimator) if word)

  @property
  def machine(self) -> Machine | None:
    """The machine that trained it; None where that was not recorded."""
    made = self.made or self.trained
    return Machine.from_json(made, 'made') if made else None


def read(path: pathlib.Path) -> Result:
  """The result of a file.

  Raises:
    OSError: it cannot be read.
    Malformed: it is not a result; the line names the file and the field.
  """
  try:
    return Result.from_json(files.read_json(path))
  except (Malformed, UnicodeDecodeError) as e:
    raise Malformed(f'{path}: {e}') from None
  except (ValueError, RecursionError) as e:
    raise Malformed(f'{path} is not JSON: {e}') from None


def merge(results: Sequence[Result]) -> Result:
  """The results of runs that differ only in their seeds, as the result of one run with all of them.

  `runs` says how many there were. Seconds are those of all runs; sample scores are means, with the
  least and the greatest of all sets.

  Raises:
    ValueError: they differ in anything else, or have a seed in common.
  """
  first = results[0]
  if len(results) == 1:
    return first
  for other in results[1:]:
    if difference := _difference(first, other):
      raise ValueError(f'not runs of one configuration: {difference}')
  paired = sorted(((seed, score) for r in results for seed, score in zip(
    r.seeds, _of_each_seed(r.score), strict=True)), key=lambda pair: pair[0])
  seeds = [seed for seed, _ in paired]
  if len(set(seeds)) < len(seeds):
    raise ValueError(f'seed {max(seeds, key=seeds.count)} twice: '
                     'runs are merged only if no two have a seed in common')
  merged = dataclasses.replace(
    first, score=score_lib.combine([score for _, score in paired]), seeds=tuple(seeds),
    runs=len(results), train_seconds=sum(r.train_seconds or 0 for r in results))
  if all(r.samples for r in results):
    return dataclasses.replace(merged, memorised=any(r.memorised for r in results), samples={
      name: score_lib.combine_samples([r.samples[name] for r in results])
      for name in first.samples if all(name in r.samples for r in results)})
  return merged


def _of_each_seed(score: Score) -> list[Score]:
  """One score for each seed of a run."""
  if not score.per_seed:
    return [score]
  shared = dataclasses.replace(score, per_seed=(), seed_spread=None, scores={}, scores_spread={},
                               remarks=()).to_json()
  return [Score.from_json({**shared, **seed.to_json()}) for seed in score.per_seed]


def _difference(a: Result, b: Result) -> str:
  """The first field in which two runs of one configuration may not differ, '' if none."""
  pairs = [(name, getattr(a, name), getattr(b, name)) for name in _SAME]
  pairs += [(name, getattr(a.score, name), getattr(b.score, name)) for name in _SAME_SCORE]
  for name, x, y in pairs:
    if x != y:
      if name == 'hyperparameters':
        name = next(k for k in {**x, **y} if x.get(k) != y.get(k))
        x, y = x.get(name), y.get(name)
      return f'{name} is {x!r} in one, {y!r} in the other'
  return ''
