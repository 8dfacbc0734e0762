"""Scores a run on the test split; the last line printed is one JSON object, kept as result.json.

  python -m launch.evaluate --workdir=runs/digits
"""

import json
import pathlib

import jax
import numpy as np
from absl import flags

from launch import page, rundir, runs, runtime

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory made by launch.train.')
_CHECKPOINT = flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'],
                                'The newest checkpoint, or the one with the best headline metric.')
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Prepared tfds data; default $TFDS_DATA_DIR.')
flags.mark_flag_as_required('workdir')


def main(argv):
  runtime.no_arguments(argv)
  workdir = pathlib.Path(_WORKDIR.value)
  run = runs.load(workdir, _CHECKPOINT.value, _DATA_DIR.value)
  seeds = range(run.config['seed'], run.config['seed'] + run.config['seeds'])
  scores = []
  for i, seed in enumerate(seeds):
    prefix = f'seed {seed}: ' if len(seeds) > 1 else ''
    # Accelerators round float32 products to 10 bits unless told otherwise; scores must not be.
    with jax.default_matmul_precision('highest'):
      scores.append(run.experiment.evaluate(
        runtime.evaluation_key(seed), run.params_of(i), run.dataset,
        lambda line, prefix=prefix: print(prefix + line, flush=True)))
  result = {
    'experiment': run.config['experiment'], 'variant': run.config['variant'],
    'dataset': run.experiment.dataset, 'protocol': run.experiment.protocol,
    'hyperparameters': run.config['hyperparameters'], 'seeds': list(seeds),
    'step': run.step, 'checkpoint': _CHECKPOINT.value, **combine(scores),
    'environment': rundir.environment(),
    'trained': json.loads((workdir / 'environment.json').read_text())[-1],
    'train_seconds': train_seconds(workdir)}
  rundir.write_json(workdir / 'result.json', result)
  print(table(result), flush=True)
  print(f'page: {page.write(workdir, _DATA_DIR.value)}', flush=True)
  print(json.dumps(result))


def combine(scores: list[dict]) -> dict:
  """One score for several seeds: means, with the spread of test_nats beside every seed's own."""
  if len(scores) == 1:
    return scores[0]
  nats = np.array([s['test_nats'] for s in scores])
  sizes = [s['effective_sample_size'] for s in scores]
  return {
    **scores[0], 'test_nats': float(nats.mean()), 'seed_spread': float(nats.std(ddof=1)),
    'standard_error': float(np.sqrt(np.mean([s['standard_error']**2 for s in scores])
                                    / len(scores))),
    # Means of bounds are bounds; the weakest sample size speaks for all.
    **{side: None if scores[0][side] is None else float(np.mean([s[side] for s in scores]))
       for side in ('lower', 'upper')},
    'effective_sample_size': None if sizes[0] is None else min(sizes), 'per_seed': scores}


def train_seconds(workdir: pathlib.Path) -> float | None:
  """Seconds spent between the first and the last line of every start, summed."""
  from gen_models.training import metrics
  lines = metrics.read(workdir / 'metrics.jsonl')
  return lines[-1].get('seconds') if lines else None


def table(result: dict) -> str:
  """Test nats of the run and of its baselines, for people."""
  spread = f' +- {result["seed_spread"]:.2f} over {len(result["seeds"])} seeds' \
    if 'seed_spread' in result else ''
  size = result['effective_sample_size']
  error = '' if result['kind'] == 'exact' else \
    f', standard error {result["standard_error"]:.2f}, effective sample size {size:.1f}'
  name = f'{result["experiment"]} {result["variant"] or ""}'.strip()
  rows = [(name, result['test_nats'], f'{result["kind"]}{spread}{error}')]
  rows += [(k, b['test_nats'], b['kind']) for k, b in result.get('baselines', {}).items()]
  width = max(len(row[0]) for row in rows)
  head = (f'test log-likelihood, nats per image: {result["num_images"]} images, '
          f'{result["dataset"]}, {result["binarisation"]} binarisation')
  return '\n'.join([head, *(f'  {n:{width}}  {v:9.3f}  {note}' for n, v, note in rows)])


if __name__ == '__main__':
  runtime.run(main)
