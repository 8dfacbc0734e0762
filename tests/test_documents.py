"""README and WORKSPACE.md keep their word: their commands run, their tables are not stale."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

from gen_models.estimators import contrastive
from gen_models.evaluation import gradients
from gen_models.models import rbm, units
from launch import registry, results

ROOT = pathlib.Path(__file__).parents[1]


def blocks(name: str, language: str) -> list[str]:
  """Fenced code blocks of a document."""
  text = (ROOT / name).read_text()
  return re.findall(rf'```{language}\n(.*?)```', text, flags=re.S)


def commands(name: str) -> list[str]:
  """Lines of the shell blocks, continuation lines joined, comments dropped."""
  lines = '\n'.join(blocks(name, 'sh')).replace('\\\n', ' ').splitlines()
  return [line.split('  #')[0].strip() for line in lines if line.strip() and line[0] != '#']


def test_readme_tables_are_made_from_the_committed_results():
  readme = (ROOT / 'README.md').read_text()
  assert results.load(), 'no committed results'
  assert results.insert(readme) == readme, 'README is stale: run python -m launch.results'


def test_every_make_target_named_exists():
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), flags=re.M))
  named = {c.split()[1] for c in commands('README.md') if c.startswith('make ')}
  assert named and named <= targets


def test_readme_commands_run(tmp_path):
  """Each launch command, in order, on a shortened run; those on MNIST only have to parse."""
  lines = [c for c in commands('README.md') if c.startswith('python -m launch')]
  assert any('launch.train' in c for c in lines) and any('launch.evaluate' in c for c in lines)
  for line in lines:
    words = shlex.split(line)
    if 'mnist' in line:
      flags = dict(w[2:].split('=', 1) for w in words if w.startswith('--') and w[:5] != '--set')
      if 'experiment' in flags:
        overrides = [w[6:] for w in words if w.startswith('--set=')]
        registry.resolve(registry.load(flags['experiment']), flags.get('variant'), overrides)
      if 'story' in flags:
        registry.load_story(flags['story'])
      continue
    words = [sys.executable, *words[1:]]
    if 'launch.train' in line:
      words += ['--set=num_steps=200', '--set=num_hidden=4']
    if 'launch.story' in line:
      words += ['--set=num_steps=2', '--only=independent pixels']
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, line + done.stdout + done.stderr


def test_readme_estimator_is_contrastive_divergence():
  """README's estimator runs, is biased as CD-1 is, and has CD-1's mean gradient."""
  source, = blocks('README.md', 'python')
  names = {'jax': jax, 'rbm': rbm, 'units': units}
  exec(source, names)  # the document's own text
  params = rbm.init(jax.random.key(0), 5, 3, scale=1.5)
  v_BV = jax.random.bernoulli(jax.random.key(1), 0.4, (10, 5)).astype(float)
  exact = jax.grad(lambda p: -rbm.log_likelihood(p, v_BV).mean())(params)
  ours = contrastive.contrastive(rbm, contrastive.reconstruction(1))
  with jax.debug_key_reuse(False):  # a false alarm, see conftest.py
    found, known = (gradients.audit(jax.random.key(2), e, params, v_BV, exact, num_draws=20_000)
                    for e in (ours._replace(grad=names['cd1']), ours))
  assert found.biased
  # Standard error of each mean is below 0.003 here; 5 of them.
  for a, b in zip(found.mean, known.mean, strict=True):
    np.testing.assert_allclose(a, b, atol=0.015)


def test_workspace_examples_run(tmp_path):
  """Both walks of WORKSPACE.md: the estimator is audited, the experiment trained and scored."""
  estimator, experiment = blocks('WORKSPACE.md', 'python')
  env = {**os.environ, 'PYTHONPATH': str(ROOT)}

  def run(*words):
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True,
                          text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  (tmp_path / 'estimator.py').write_text(estimator)
  assert run('estimator.py').startswith('biased True')
  lines = [shlex.split(c) for c in commands('WORKSPACE.md')]
  path, = {w.split('=')[1] for words in lines for w in words if w.startswith('--experiment=')}
  (tmp_path / path).write_text(experiment)
  for words in lines:
    output = run(*words[1:])
  assert '"kind": "exact"' in output.splitlines()[-1]


@pytest.mark.parametrize('name', ['README.md', 'WORKSPACE.md', 'CHANGELOG.md'])
def test_files_named_in_documents_exist(name):
  text = (ROOT / name).read_text()
  rooms = 'gen_models|experiments|launch|tests|benchmarks'
  for path in re.findall(rf'`((?:{rooms})/[\w/.]+\.\w+)`', text):
    assert (ROOT / path).exists(), path
