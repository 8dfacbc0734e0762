"""Run directories written by hand: what a report reads, without training."""

import json
import math

VALUES = None


def values():
  """Hyperparameters of rbm_digits, variant pcd."""
  global VALUES
  if VALUES is None:
    from launch.cli import hyperparameters, registry
    VALUES = hyperparameters.resolve(registry.load('rbm_digits'), 'pcd')
  return VALUES


def run(directory, seed=0, nats=-18.0, experiment='rbm_digits', variant='pcd', scored=True,
        **changes):
  """A run of one seed with metrics and, when scored, a result."""
  directory.mkdir(parents=True)
  hyperparameters = {**values(), **changes}
  config = {'experiment': experiment, 'variant': variant, 'hyperparameters': hyperparameters,
            'seed': seed, 'seeds': 1}
  (directory / 'config.json').write_text(json.dumps(config))
  with open(directory / 'metrics.jsonl', 'w') as file:
    for step in range(100, 1100, 100):
      line = {'step': step, 'time': 1e9 + step, 'seconds': step / 100,
              'valid_nats': -20 - 10 * math.exp(-step / 300) - seed / 10, 'moment_error': 1 / step}
      file.write(json.dumps(line) + '\n')
  if scored:
    (directory / 'result.json').write_text(json.dumps(result(seed, nats, config)))
  return directory


def result(seed, nats, config):
  """As launch.evaluate writes it."""
  made = {'time': '2026-01-01', 'versions': {'jax': '0.10.2'}, 'platform': 'cpu',
          'device_kind': 'cpu', 'num_cores': 2, 'git_commit': None}
  sample = {'value': 0.1 + seed, 'low': 0.05, 'high': 0.2 + seed, 'floor': 0.1, 'floor_low': 0.1,
            'floor_high': 0.1 + seed, 'better': 'lower', 'n': 300, 'num_sets': 5}
  return {
    'experiment': config['experiment'], 'variant': config['variant'], 'dataset': 'digits',
    'protocol': 'exact', 'hyperparameters': config['hyperparameters'], 'seeds': [seed],
    'step': 1000, 'checkpoint': 'last', 'test_nats': nats, 'kind': 'bracket', 'standard_error': 0.3,
    'effective_sample_size': 50.0 - seed, 'lower': nats - 0.1, 'upper': nats + 0.1,
    'resolved': seed < 2, 'image_standard_error': 0.2, 'num_images': 300, 'num_chains': 100,
    'binarisation': 'threshold', 'scores': {'error_percent': 2.0 + seed},
    'baselines': {'independent pixels': {
      'test_nats': -25.19, 'kind': 'exact', 'standard_error': 0, 'image_standard_error': 0.1,
      'num_images': 300, 'binarisation': 'threshold'}},
    'num_parameters': 1104, 'samples': {'frechet': sample}, 'sample_space': 'threshold',
    'memorised': False, 'environment': made, 'trained': made, 'train_seconds': 10.0}
