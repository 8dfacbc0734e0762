"""Estimators along a run: streamed moments against enumeration, names, the command."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import gen_models as gm
from gen_models.evaluation import gradients
from gen_models.problems import catalogue
from launch import errors
from launch.cli import registry
from launch.measure import along
from launch.reports import audit as report

ENTRY = registry.load('belief_net')


def test_streamed_moments_are_those_of_the_audit():
  unbiased, biased = (catalogue.ENTRIES[name] for name in ('rloo2', 'straight_through'))
  exact_D = ravel_pytree(catalogue.exact_grads(unbiased))[0]
  with jax.debug_key_reuse(False):  # see tests/conftest.py
    many = gradients.moments(jax.random.key(0), unbiased.estimator, unbiased.params,
                             unbiased.batch, num_draws=20_000)
    found = gradients.against(jax.random.key(1), biased.estimator, biased.params, biased.batch,
                              many, num_draws=20_000)
  noise = (many.variance / many.num_draws)**0.5
  assert np.linalg.norm(many.mean_D - exact_D) < 2 * noise
  # The audit of 4096 draws finds variance 0.36, |bias| 0.048 and snr 1.5.
  np.testing.assert_allclose(found.variance, 0.36, rtol=0.05)
  np.testing.assert_allclose(found.bias_norm, 0.05, atol=0.02)
  np.testing.assert_allclose(found.snr, np.linalg.norm(exact_D) / found.variance**0.5, rtol=0.02)
  assert 0.5 < found.cosine < 0.95


def test_estimators_are_named_by_variants_and_settings():
  values = dict(ENTRY.variants['digits'])
  values = {name: values.get(name, p.default)
            for name, p in registry_parameters().items()}
  params = jax.eval_shape(lambda: ENTRY.experiment(**values).model.init(
    jax.random.key(0), np.full(64, 0.5, np.float32)))
  named = along.estimators(ENTRY, values, ['gradient=reinmax', 'gradient=relax;samples=1'], params)
  assert [e.biased for e in named.values()] == [True, False]
  with pytest.raises(errors.UsageError, match="has no variant 'disarm'"):
    along.estimators(ENTRY, values, ['disarm'], params)
  with pytest.raises(errors.UsageError, match='none of these estimators is declared unbiased'):
    along.measure({'reinmax': named['gradient=reinmax']}, [], 2, 0)


def registry_parameters():
  from launch.cli import hyperparameters
  return hyperparameters.of(ENTRY)


def test_a_run_is_measured_at_its_checkpoints(tmp_path):
  from launch.runs import load
  run = gm.fit('belief_net', workdir=tmp_path / 'run', variant='digits', num_steps=4, latents='8')
  assert load.steps(tmp_path / 'run')[-1] == 4
  phase = run.experiment.phases[0]
  batch = phase.batch_at(jax.random.key(0), run.dataset.train, np.int32(4))
  named = along.estimators(ENTRY, run.config['hyperparameters'],
                           ['gradient=disarm', 'gradient=reinmax'], run.params)
  with jax.debug_key_reuse(False):
    rows = along.measure(named, [along.Point(4, run.params, batch)], num_draws=16, burn_in=0)
  assert [row.name for row in rows] == ['gradient=disarm', 'gradient=reinmax']
  assert all(0 < row.found.cosine < 1 and row.found.variance > 0 for row in rows)
  assert 'gradient=reinmax  biased' in report.along_table(rows)
  report.along_picture(rows, tmp_path / 'along.png')
  assert (tmp_path / 'along.png').stat().st_size > 5000
