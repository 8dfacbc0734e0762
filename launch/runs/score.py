"""The score of a run: what launch.evaluate prints and keeps as result.json."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import devices, files
from gen_models.evaluation import json_fields, score as record
from gen_models.experiment import Experiment
from gen_models.training import keys
from launch import errors
from launch.runs import directory as rundir, load, result as result_lib
from launch.runs.result import Machine, Result

UNFINISHED = 'scoring ended before the draws were compared with test images'


def score(workdir: str | os.PathLike, which: str = 'last', data_dir: str | None = None,
          space: str = 'own', report: Callable[[str], None] = print,
          overrides: Sequence[str] = (), thorough: bool = False) -> Result:
  """Scores a run on the test split and writes its result.json.

  The likelihood is on disk before anything else is tried: whatever fails after it is a remark in
  the result, and costs no number that was computed.

  Args:
    workdir: the run directory.
    which: 'last' or 'best' checkpoint.
    data_dir: of prepared data.
    space: binarisation under which draws are compared with test images, 'own' or 'none'; or a
      network with weights, `inception:FILE`, `dinov2:FILE`.
    report: called with lines of progress.
    overrides: name=value words for hyperparameters that only the score reads.
    thorough: whether to score by Experiment.thorough.

  Returns:
    What was written.

  Raises:
    Malformed: the experiment's `evaluate` returned something else than a score.
    OSError: the result cannot be written; it was reported as one line of JSON.
    UsageError: the experiment has no thorough score, or `space` names no weights.
  """
  workdir, of_draws = pathlib.Path(workdir), _of_draws(space)
  network = supplied(space)
  run = load.run(workdir, which, data_dir, overrides)
  if network:
    space = 'own'
    _check_pictures(run)
  evaluate = _thorough(run) if thorough else run.experiment.evaluate
  seeds = range(run.config['seed'], run.config['seed'] + run.config['seeds'])
  scores = [_evaluate(run, evaluate, i, f'seed {seed}: ' if len(seeds) > 1 else '', report,
                      [chains_of(run, i)] if thorough else [])
            for i, seed in enumerate(seeds)]
  if thorough:
    scores = [dataclasses.replace(s, details={**s.details, 'thorough': True}) for s in scores]
  remarks: list[str] = []
  targets = _tried(lambda: reached(run, workdir), 'the time to the target', remarks, [])
  scores = [dataclasses.replace(s, scores={**s.scores, **more}) if more else s
            for s, more in itertools.zip_longest(scores, targets)]
  draws = run.experiment.sample is not None and space != 'none'
  result = Result(
    experiment=run.config['experiment'], variant=run.config['variant'],
    estimator=run.config.get('estimator'), code=run.code or {},
    dataset=run.experiment.dataset, protocol=run.experiment.protocol,
    hyperparameters=run.config['hyperparameters'], seeds=tuple(seeds), step=run.step,
    checkpoint=which, score=record.combine(scores), num_parameters=num_parameters(run.params_of(0)),
    environment=rundir.environment(),
    trained=_tried(lambda: last_start(workdir), 'where it was trained', remarks, None),
    train_seconds=_tried(lambda: train_seconds(workdir), 'the seconds of training', remarks, None))
  _write(workdir, _remarked(result, [*remarks, UNFINISHED] if draws else remarks), report)
  if draws:
    with devices.all_local():
      result = dataclasses.replace(result, **_tried(
        lambda: network_scores(run, network, report) if network else sample_scores(run, space),
        of_draws, remarks, {}))
  result = _remarked(result, remarks)
  if draws:
    _write(workdir, result, report)
  for line in result.score.remarks:
    report(f'remark: {line}')
  return result


def is_scored(workdir: pathlib.Path, experiment: Experiment, space: str) -> bool:
  """Whether a run has a result of its last parameters that `score` would only make again.

  Args:
    workdir: of the run.
    experiment: that it trained.
    space: as of `score`: draws that were compared in another one do not count.
  """
  try:
    result = result_lib.read(workdir / 'result.json')
  except (OSError, json_fields.Malformed):
    return False
  remarks = result.score.remarks
  if UNFINISHED in remarks or result.step != sum(p.num_steps for p in experiment.phases):
    return False
  if (experiment.sample is None or space == 'none'
      or any(line.startswith(_of_draws(space)) for line in remarks)):
    return True
  if ':' in space:  # a network with supplied weights
    asked, _, path = space.partition(':')
    given = result.sample_network or {}
    return (given.get('network'), given.get('weights')) == (asked, os.path.basename(path))
  wanted = experiment.binarisation if space == 'own' else space
  return result.sample_network is None and result.sample_space == wanted


def _of_draws(space: str) -> str:
  return f'the scores of draws ({space})'


def _thorough(run):
  """Experiment.thorough; UsageError where there is none."""
  found = run.experiment.thorough
  if callable(found):
    return found
  raise errors.UsageError(f'leave out --thorough: the score of {run.config["experiment"]} searches '
                          f'for nothing{f" ({found})" if found else ""}')


def chains_of(run, replica: int) -> jax.Array | None:
  """Visible states [C, V] of the persistent chains of one seed; None where it has none."""
  from gen_models import inference
  chains = inference.persistent_chains(run.memory_of(replica))
  return None if chains is None else chains.v_CV


def _evaluate(run, evaluate, replica: int, prefix: str, report: Callable[[str], None],
              more: Sequence[Any] = ()) -> record.Score:
  """The score of one seed; `more` are further arguments of `evaluate`."""
  # Accelerators round float32 products to 10 bits by default; scores must not be rounded so.
  with jax.default_matmul_precision('highest'), devices.all_local():
    params, *more = devices.everywhere((run.params_of(replica), *more))
    try:
      value = evaluate(keys.evaluation(run.config['seed'] + replica), params, run.dataset,
                       lambda line: report(prefix + line), *more)
    except (AttributeError, TypeError) as e:  # as of the parameters of a phase before the last
      *before, last = run.experiment.phases
      if run.step > sum(phase.num_steps for phase in before):
        raise
      raise errors.UsageError(f'the run has made {run.step:,} updates and has not come to its '
                              f'phase {last.name} yet: train on') from e
  value, remarks = json_fields.finite(value)
  try:
    found = record.Score.from_json(value)
  except json_fields.Malformed as e:
    report(json.dumps(value))  # it may have taken an hour
    raise json_fields.Malformed(f'evaluate of {run.config["experiment"]} returned no score: {e}; '
                           'gen_models.evaluation.likelihood makes them') from None
  return dataclasses.replace(found, remarks=(*found.remarks, *remarks))


def _tried(what: Callable, name: str, remarks: list[str], otherwise):
  """what(), or `otherwise` and a remark on why it failed."""
  try:
    return what()
  except Exception as e:  # whatever it is, the likelihood must not be lost with it
    why = ' '.join(str(e).split())[:300] or type(e).__name__
    remarks.append(f'{name} could not be had: {why}')
    return otherwise


def _remarked(result: Result, remarks: list[str]) -> Result:
  return dataclasses.replace(result, score=dataclasses.replace(
    result.score, remarks=(*result.score.remarks, *remarks)))


def _write(workdir: pathlib.Path, result: Result, report: Callable[[str], None]) -> None:
  value, _ = json_fields.finite(result.to_json())
  try:
    files.write_json(workdir / 'result.json', value)
  except OSError:
    report(json.dumps(value))  # it may have taken an hour
    raise


def last_start(workdir: pathlib.Path) -> dict[str, Any]:
  """The last entry of environment.json.

  Raises:
    ValueError, OSError: it cannot be read, or does not say on what machine the run was trained.
  """
  starts = files.read_json(workdir / 'environment.json')
  if not isinstance(starts, list) or not starts:
    raise ValueError(f'{workdir / "environment.json"} is no list of starts')
  try:
    Machine.from_json(starts[-1], 'the last start')
  except json_fields.Malformed as e:
    raise ValueError(f'{workdir / "environment.json"}: {e}') from None
  return starts[-1]


def reached(run, workdir: pathlib.Path) -> list[dict[str, float]]:
  """For each seed when its headline first reached the experiment's target.

  Nothing of any where there is no target, or one of the seeds never reached it.
  """
  target, headline = run.experiment.target, run.experiment.headline_metric
  if target is None:
    return []
  from gen_models.training import metrics
  lines = metrics.read(workdir / 'metrics.jsonl')
  first = [next((line['step'] for line in lines
                 if headline in line and np.ravel(line[headline])[i] >= target), None)
           for i in range(run.config['seeds'])]
  reached = [step for step in first if step is not None]
  if len(reached) < len(first):
    return []
  seconds = training_seconds(lines, headline)
  return [{'seconds_to_target': seconds[step], 'updates_to_target': step} for step in reached]


def training_seconds(lines: list[dict], headline: str) -> dict[int, float]:
  """{step: seconds of training up to it}, of the lines of a metrics.jsonl, without validation.

  A line with the headline was written after a validation, so its updates are taken to last as long
  as the median of the other lines; where every line has a validation, the two cannot be separated
  and the seconds include both.
  """
  took = [(line['step'] - before['step'], line['seconds'] - before['seconds'], headline in line)
          for before, line in itertools.pairwise([{'step': 0, 'seconds': 0.0}, *lines])]
  rates = [s / n for n, s, looked in took if not looked]
  spent = itertools.accumulate(n * float(np.median(rates)) if looked and rates else s
                               for n, s, looked in took)
  return dict(zip((line['step'] for line in lines), spent))


def supplied(space: str):
  """The network that `inception:FILE` or `dinov2:FILE` names, with its weights; None of others.

  Raises:
    UsageError: there is no such network, or no such weights; the line says which are expected.
  """
  name, colon, path = space.partition(':')
  if not colon:
    return None
  from gen_models.evaluation import adapters
  try:
    return adapters.load(name, path)
  except adapters.Unreadable as e:
    raise errors.UsageError(f'--sample_space={space}: {e}') from None


def _check_pictures(run) -> None:
  """UsageError where a network of photographs cannot see the data."""
  spec, draws = run.dataset.about, run.experiment.sample is not None
  equal = run.dataset.test.weights is None and run.dataset.train.weights is None
  if draws and equal and spec.is_image and spec.unit_interval and (
      spec.seen_shape[2:] in ((), (1,), (3,))):
    return
  why = ('has rows with weights, which these scores do not take' if not equal else
         'trains no model that draws' if not draws else
         f'has data that are no pictures, grey or in colour, with values in [0, 1]: {spec.name}')
  raise errors.UsageError(f'--sample_space: {run.config["experiment"]} {why}; use own or none')


def _draw_of(run, space: str) -> Callable:
  """(key, n) -> draws [n, D] as the binarisation `space` sees them, of the seeds in turn."""
  from gen_models import data
  turn = itertools.cycle(range(run.config['seeds']))

  def draw(key, num):
    key_draw, key_binarise = jax.random.split(key)
    params = devices.everywhere(run.params_of(next(turn)))
    # Whole on one device again: rows may not divide over the devices any more.
    draws = jnp.asarray(np.asarray(run.experiment.sample(key_draw, params, num, None).draws))
    return np.asarray(data.binarise_real(key_binarise, draws.reshape(num, -1), space))

  return draw


def _images(run, space: str) -> list[np.ndarray]:
  """Test and training images."""
  from gen_models import data
  return [np.asarray(data.fixed_split(run.dataset, split, space)) for split in ('test', 'train')]


def network_scores(run, network, report: Callable[[str], None] = print) -> dict[str, Any]:
  """The fields of Result in which draws are compared in the features of a network with weights."""
  from gen_models.evaluation import feature_scores
  space = run.experiment.binarisation
  test_ND, train_ND = _images(run, space)
  table = feature_scores.table(
    keys.evaluation(run.config['seed'] + run.config['seeds']), _draw_of(run, space), test_ND,
    train_ND, shape=run.dataset.about.seen_shape, space=network, report=report)
  value, _ = json_fields.finite(table)
  return {'samples': {name: record.SampleScore.from_json(v, name) for name, v in value.items()},
          'sample_space': space, 'sample_network': network.record}


def sample_scores(run, space: str) -> dict[str, Any]:
  """The fields of Result in which draws are compared with test images.

  With several seeds, the sets of draws come from the seeds cyclically, so their interval includes
  the variation between seeds. Rows that have weights are drawn in proportion to them.
  """
  from gen_models.evaluation import copies, samples
  space = run.experiment.binarisation if space == 'own' else space
  test_ND, train_ND = _images(run, space)
  train, spec = run.dataset.train.rows, run.dataset.about
  grey_ND = (np.asarray(train, np.float32).reshape(len(train), -1) / np.float32(run.dataset.levels)
             if space in ('dynamic', 'threshold') and spec.kind != 'binary' else None)
  key = keys.evaluation(run.config['seed'] + run.config['seeds'])
  shape = spec.seen_shape if spec.is_image else (spec.num_visible,)
  table = samples.table(key, _draw_of(run, space), test_ND, train_ND, shape=shape,
                        intensities_MD=grey_ND, test_weights_N=run.dataset.test.weights,
                        train_weights_M=run.dataset.train.weights)
  value, _ = json_fields.finite(table)
  power, _ = json_fields.finite(
    copies.power(jax.random.fold_in(key, 1), test_ND, train_ND, grey_ND))
  return {'samples': {name: record.SampleScore.from_json(v, name) for name, v in value.items()},
          'sample_space': space, 'memorised': copies.memorised(table), 'memorised_power': power}


def num_parameters(params) -> int:
  """The number of trained parameters, those of encoders and critics included.

  Parameters of which only a part is read have their own count, as gaussian.Full does.
  """
  leaves = jax.tree.leaves(params, is_leaf=lambda node: hasattr(node, 'num_parameters'))
  return sum(int(x.num_parameters if hasattr(x, 'num_parameters') else np.size(x)) for x in leaves)


def train_seconds(workdir: pathlib.Path) -> float | None:
  """Seconds spent between the first and the last line of every start, summed."""
  from gen_models.training import metrics
  lines = metrics.read(workdir / 'metrics.jsonl')
  return lines[-1].get('seconds') if lines else None
