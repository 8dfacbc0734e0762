"""Draws compared in the features of a network with supplied weights, by the command's function."""

import json

import jax
import pytest

from gen_models.evaluation import adapters
from launch import errors
from launch.reports import tables
from launch.runs import fit, result as result_lib, score


def test_weights_are_looked_for_before_anything_else(tmp_path):
  with pytest.raises(errors.UsageError, match='there is no file .* 6726825d') as caught:
    score.score(tmp_path / 'no_run', space=f'inception:{tmp_path / "weights.pth"}')
  assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_a_run_is_scored_and_its_record_says_by_which_weights(tmp_path, monkeypatch):
  space = adapters.Space('dinov2', jax.jit(lambda x: (x.reshape(len(x), -1)[:, ::24], None)), 8,
                         {'network': 'dinov2', 'weights': 'w.pth', 'sha256': 'abc' * 10,
                          'resize': 'bicubic', 'side': 8, 'published_weights': None})
  monkeypatch.setattr(adapters, 'load', lambda name, path: space)
  fit.fit('gan', variant='digits', num_steps=20, width=8, workdir=tmp_path)
  found = score.score(tmp_path, space='dinov2:w.pth', report=lambda line: None)
  read = result_lib.read(tmp_path / 'result.json')
  assert read.sample_network == space.record and read.sample_space == 'real'
  assert read.samples.keys() == found.samples.keys() >= {'frechet_dinov2', 'kid_dinov2'}
  assert 'infinite' in json.loads((tmp_path / 'result.json').read_text())[
    'samples']['frechet_dinov2']
  shown = tables.of_result(found)
  assert 'weights w.pth' in shown and 'of infinitely many' in shown
