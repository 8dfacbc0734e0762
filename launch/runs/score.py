"""The score of a run: what launch.evaluate prints and keeps as result.json."""

import itertools
import json
import os
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from gen_models import files
from gen_models.training import keys
from launch.runs import directory as rundir, load, result as result_lib


def score(workdir: str | os.PathLike, which: str = 'last', data_dir: str | None = None,
          space: str = 'own', report: Callable[[str], None] = print) -> dict:
  """Scores a run on the test split and writes its result.json.

  Args:
    workdir: the run directory.
    which: 'last' or 'best' checkpoint.
    data_dir: of prepared data.
    space: binarisation under which draws are compared with test images, 'own' or 'none'.
    report: called with lines of progress.

  Returns:
    What was written.
  """
  workdir = pathlib.Path(workdir)
  run = load.run(workdir, which, data_dir)
  seeds = range(run.config['seed'], run.config['seed'] + run.config['seeds'])
  scores = []
  for i, seed in enumerate(seeds):
    prefix = f'seed {seed}: ' if len(seeds) > 1 else ''
    # Accelerators round float32 products to 10 bits unless told otherwise; scores must not be.
    with jax.default_matmul_precision('highest'):
      scores.append(run.experiment.evaluate(
        keys.evaluation(seed), run.params_of(i), run.dataset,
        lambda line, prefix=prefix: report(prefix + line)))
  reached(run, workdir, scores)
  result = {
    'experiment': run.config['experiment'], 'variant': run.config['variant'],
    **({'estimator': run.config['estimator']} if 'estimator' in run.config else {}),
    **({'code': run.code} if run.code else {}),
    'dataset': run.experiment.dataset, 'protocol': run.experiment.protocol,
    'hyperparameters': run.config['hyperparameters'], 'seeds': list(seeds),
    'step': run.step, 'checkpoint': which, **result_lib.combine(scores),
    'num_parameters': num_parameters(run.params_of(0)),
    **sample_scores(run, space),
    'environment': rundir.environment(),
    'trained': json.loads((workdir / 'environment.json').read_text(encoding='utf-8'))[-1],
    'train_seconds': train_seconds(workdir)}
  try:
    files.write_json(workdir / 'result.json', result)
  except OSError:
    report(json.dumps(result))  # it may have taken an hour
    raise
  return result


def reached(run, workdir: pathlib.Path, scores: list[dict]) -> None:
  """Adds to each seed's scores when its headline first reached the experiment's target.

  Nothing is added to any where one of the seeds never did.
  """
  target, headline = run.experiment.target, run.experiment.headline
  if target is None:
    return
  from gen_models.training import metrics
  lines = metrics.read(workdir / 'metrics.jsonl')
  first = [next((line['step'] for line in lines
                 if headline in line and np.ravel(line[headline])[i] >= target), None)
           for i in range(len(scores))]
  if None in first:
    return
  seconds = training_seconds(lines, headline)
  for score, step in zip(scores, first, strict=True):
    score['scores'] = {**score.get('scores', {}), 'seconds_to_target': seconds[step],
                       'updates_to_target': step}


def training_seconds(lines: list[dict], headline: str) -> dict[int, float]:
  """{step: seconds of training up to it}, of the lines of a metrics.jsonl, without validation.

  A line with the headline was written after a look at validation data, so its own updates count as
  many seconds as the median of the others has it; where every line is such a one, nothing tells
  the two apart and seconds are those of both.
  """
  took = [(line['step'] - before['step'], line['seconds'] - before['seconds'], headline in line)
          for before, line in itertools.pairwise([{'step': 0, 'seconds': 0.0}, *lines])]
  rates = [s / n for n, s, looked in took if not looked]
  spent = itertools.accumulate(n * float(np.median(rates)) if looked and rates else s
                               for n, s, looked in took)
  return dict(zip((line['step'] for line in lines), spent))


def sample_scores(run, space: str) -> dict:
  """{'samples': scores of draws beside their real-vs-real floors, 'sample_space': ...}, or {}.

  Of several seeds, set i of the draws comes from seed i, in turn: their interval holds both.
  """
  experiment = run.experiment
  if experiment.sample is None or space == 'none':
    return {}
  from gen_models import data
  from gen_models.evaluation import copies, samples
  space = experiment.binarisation if space == 'own' else space
  test_ND, train_ND = (np.asarray(data.fixed_split(run.dataset, split, space))
                       for split in ('test', 'train'))
  seed, turn = run.config['seed'], itertools.cycle(range(run.config['seeds']))

  def draw(key, num):
    key_draw, key_binarise = jax.random.split(key)
    draws = experiment.sample(key_draw, run.params_of(next(turn)), num, None).draws
    return np.asarray(data.binarise_real(key_binarise, draws.reshape(num, -1), space))

  train = run.dataset.train.images
  grey_ND = (np.asarray(train, np.float32).reshape(len(train), -1) / np.float32(run.dataset.levels)
             if space in ('dynamic', 'threshold') else None)
  key = keys.evaluation(seed + run.config['seeds'])
  table = samples.table(key, draw, test_ND, train_ND, shape=run.dataset.test.images.shape[1:3],
                        intensities_MD=grey_ND)
  return {'samples': table, 'sample_space': space, 'memorised': copies.memorised(table),
          'memorised_power': copies.power(jax.random.fold_in(key, 1), test_ND, train_ND, grey_ND)}


def num_parameters(params) -> int:
  """Numbers that training sets, all of them: of encoders and critics too.

  Arrays that are not read whole say how much of them is, as gaussian.Full does.
  """
  leaves = jax.tree.leaves(params, is_leaf=lambda node: hasattr(node, 'num_parameters'))
  return sum(int(x.num_parameters if hasattr(x, 'num_parameters') else np.size(x)) for x in leaves)


def train_seconds(workdir: pathlib.Path) -> float | None:
  """Seconds spent between the first and the last line of every start, summed."""
  from gen_models.training import metrics
  lines = metrics.read(workdir / 'metrics.jsonl')
  return lines[-1].get('seconds') if lines else None


def table(result: dict) -> str:
  """Test nats of the run and of its baselines, and what else was scored, for people."""
  name = ' '.join(pathlib.Path(word).name for word in (
    result['experiment'], result['variant'], result.get('estimator')) if word)
  images = f'{result["num_images"]} images, {result["dataset"]}, {result["binarisation"]}'
  lines = []
  if result['test_nats'] is None:
    lines.append(f'{name}: no likelihood, {result["why"]}; {images}')
  else:
    rows = [(name, result['test_nats'], result['kind'] + remarks(result))]
    rows += [(k, b['test_nats'], b['kind']) for k, b in result.get('baselines', {}).items()]
    width = max(len(row[0]) for row in rows)
    lines.append(f'test log-likelihood, nats per image: {images} binarisation')
    lines += [f'  {n:{width}}  {v:9.3f}  {note}' for n, v, note in rows]
  spread = result.get('scores_spread', {})
  for k, v in result.get('scores', {}).items():
    lines.append(f'  {k}  {v:.4g}' + (f' +- {spread[k]:.2g}' if k in spread else ''))
  if 'samples' in result:
    first = next(iter(result['samples'].values()))
    lines.append(f'draws against test images, {result["sample_space"]}, {first["num_sets"]} sets '
                 f'of {first["n"]}: mean [least, greatest]; beside it, real training images')
    width = max(map(len, result['samples']))
    lines += [f'  {k:{width}}  {interval(v):28}  {interval(v, "floor"):28}  better: {v["better"]}'
              for k, v in result['samples'].items()]
    if result['memorised']:
      lines.append('  WARNING: draws are copies of training images')
  return '\n'.join(lines)


def interval(score: dict, side: str = 'value') -> str:
  """0.123 [0.12, 0.13]: the mean over sets, the least and the greatest."""
  before = 'floor_' if side == 'floor' else ''
  return f'{score[side]:.3g} [{score[before + "low"]:.3g}, {score[before + "high"]:.3g}]'


def remarks(result: dict) -> str:
  """Spread, sides of a bracket, error and sample size, where the number has them."""
  text = ''
  if 'seed_spread' in result:
    text += f' +- {result["seed_spread"]:.2f} over {len(result["seeds"])} seeds'
  if result['kind'] == 'exact':
    return text
  if result['kind'] == 'bracket':
    text += (f' [{result["lower"]:.2f}, {result["upper"]:.2f}] '
             + ('resolved' if result['resolved'] else 'NOT RESOLVED'))
  text += f', standard error {result["standard_error"]:.2f}'
  if result['effective_sample_size'] is not None:
    text += f', effective sample size {result["effective_sample_size"]:.1f}'
  return text
