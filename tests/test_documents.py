"""The documents keep their word: commands run, links lead somewhere, tables are not stale."""

import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data
from gen_models.training import checks
from launch.measure import audit
from launch.reports import documents, tables
from tests.launch.commands import run as launch

ROOT = pathlib.Path(__file__).parents[1]


def blocks(name: str, language: str) -> list[str]:
  """Fenced code blocks of a document."""
  text = (ROOT / name).read_text()
  return re.findall(rf'```{language}\n(.*?)```', text, flags=re.S)


def commands(name: str) -> list[str]:
  """Lines of the shell blocks, continuation lines joined, comments dropped."""
  lines = '\n'.join(blocks(name, 'sh')).replace('\\\n', ' ').splitlines()
  return [line.split('  #')[0].strip() for line in lines if line.strip() and line[0] != '#']


def files_of(name: str) -> dict[str, str]:
  """File name -> source of the Python blocks that a page says to save."""
  text = (ROOT / name).read_text(encoding='utf-8')
  return dict(re.findall(r'^Save[^`\n]*`(\w+\.py)`:\n\n```python\n(.*?)```', text,
                         flags=re.S | re.M))


def test_readme_tables_are_made_from_the_committed_results():
  readme = (ROOT / 'README.md').read_text()
  assert tables.load(), 'no committed results'
  assert documents.insert(readme) == readme, 'README is stale: run python -m launch.results'


def test_every_make_target_named_exists():
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), flags=re.M))
  named = {c.split()[1] for c in commands('README.md') if c.startswith('make ')}
  assert named and named <= targets


def run(words, cwd, check=True):
  """A command as a user types it, in a directory of its own."""
  if words[1] == '-m' and words[2].startswith('launch.'):
    return launch(words[2].removeprefix('launch.'), *words[3:], check=check, cwd=cwd)
  done = subprocess.run([sys.executable, *words[1:]], cwd=cwd, capture_output=True,
                        encoding='utf-8', timeout=250, env={**os.environ, 'PYTHONPATH': str(ROOT)})
  if check:
    assert done.returncode == 0, f'{words}\n{done.stdout}{done.stderr}'
  return done


def test_readme_is_read_in_three_minutes():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert len(text.encode()) <= 8000
  before = text[:text.index('--estimator=mine.py')]
  assert len(before.splitlines()) < 70, 'your own estimator is in the first screen and a half'


def test_readme_commands_run(tmp_path):
  """Each launch command, in order, on a shortened run; the estimator's file is saved first."""
  for name, source in files_of('README.md').items():
    (tmp_path / name).write_text(source)
  lines = [c for c in commands('README.md') if c.startswith('python -m launch')]
  assert {'train', 'evaluate', 'sample', 'audit'} <= {
    re.match(r'python -m launch\.(\w+)', c)[1] for c in lines}
  for line in lines:
    words = shlex.split(line)
    if 'launch.audit' in line:
      continue  # below
    if 'launch.train' in line:
      words += ['--set=num_steps=200', '--set=num_hidden=4', '--nopage']  # evaluate writes one
    run(words, tmp_path)


def test_readme_estimator_is_audited_as_readme_shows(tmp_path):
  """The file and the command of README: what is found, and CD-1 with CD-1's bias."""
  text = (ROOT / 'README.md').read_text()
  source = files_of('README.md')['mine.py']
  assert len(source.strip().splitlines()) < 15
  assert source == files_of('docs/howto/estimator.md')['mine.py']
  line, = [c for c in commands('README.md') if 'launch.audit' in c]
  name, = re.findall(r'--estimator=(\w+\.py):', line)
  (tmp_path / name).write_text(source)
  done = run([*shlex.split(line), '--nocompare', '--estimator=cd1'], tmp_path, check=False)
  assert done.returncode == 1 and 'declared unbiased by default' in done.stderr, done.stderr
  assert (tmp_path / 'runs' / 'audit.png').exists()

  def found(output):
    """Name -> (declared and found, |bias|, variance)."""
    rows = re.findall(r'^ +(\S*cd1) +(\D+?) +([\d.]+) +\[.*?\] +\S+ of \S+ +([\d.]+)', output,
                      flags=re.M)
    return {row[0]: (row[1].split(), float(row[2]), float(row[3])) for row in rows}

  shown, printed = found(text), found(done.stdout)
  assert set(printed) == {f'{name}:cd1', 'cd1'} <= set(shown)
  for key, (verdict, bias, variance) in printed.items():
    assert verdict == shown[key][0]
    # Of 2^14 draws |bias| has noise of some 0.005, the variance of some 0.005.
    np.testing.assert_allclose((bias, variance), shown[key][1:], atol=0.03)
  np.testing.assert_allclose(*(x[1:] for x in printed.values()), atol=0.04)


DOCUMENTS = [*ROOT.glob('*.md'), *(p for p in (ROOT / 'docs').rglob('*.md')
                                   if not {'_build', 'reference', 'project'} & set(p.parts))]
every_document = pytest.mark.parametrize(
  'path', DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))


@every_document
def test_files_named_in_documents_exist(path):
  text = path.read_text(encoding='utf-8')
  rooms = 'gen_models|experiments|launch|tests|benchmarks|docs'
  for name in re.findall(rf'`((?:{rooms})/[\w/.]+\.\w+)`', text):
    assert (ROOT / name).exists(), name


@every_document
def test_links_between_documents_lead_somewhere(path):
  for target in re.findall(r'\]\((?![a-z]+:|#)([^)#\s]+)', path.read_text(encoding='utf-8')):
    made = {'reference', 'project'} & set(target.split('/'))  # by `make docs`
    assert made or (path.parent / target).exists(), target


@every_document
def test_tests_named_in_documents_exist(path):
  for name, test in re.findall(r'`([\w/]+\.py)::(\w+)`', path.read_text(encoding='utf-8')):
    source = (ROOT / 'tests' / name.removeprefix('tests/')).read_text(encoding='utf-8')
    assert f'def {test}(' in source, f'{name}::{test}'


def test_the_limits_name_a_test_for_every_kind_of_number():
  text = (ROOT / 'docs/concepts/limits.md').read_text(encoding='utf-8')
  kinds = re.findall(r'^### `(\w+)`$', text, flags=re.M)
  assert set(kinds) == {'exact', 'bracket', 'ais', 'bound', 'none'}
  assert len(re.findall(r'\.py::test_', text)) > 15


def flags_of_commands() -> set[str]:
  """Every flag that a file of launch/ defines by its name; `shared.seed` has a name by default."""
  return {'help', 'helpfull', 'seed'} | {
    name for path in (ROOT / 'launch').rglob('*.py') for name in re.findall(
      r"DEFINE_\w+\(\s*'(\w+)'", path.read_text(encoding='utf-8'))}


@every_document
def test_commands_in_documents_have_the_flags_they_are_given(path):
  known, text = flags_of_commands(), path.read_text(encoding='utf-8').replace('\\\n', ' ')
  for module, rest in re.findall(r'^!?(?:.*&& )?python -m launch\.(\w+)(.*)$', text, flags=re.M):
    assert (ROOT / 'launch' / f'{module}.py').exists(), module
    for flag in re.findall(r'(?<=\s)--(\w+)', rest.split('  #')[0]):
      assert {flag, flag.removeprefix('no')} & known, f'--{flag} of launch.{module}'


@pytest.mark.slow
@pytest.mark.parametrize('name', ['docs/howto/experiment.md'])
def test_what_a_page_says_to_save_runs(name, tmp_path):
  """The file is trained from and scored exactly, by the commands of the page that name it."""
  saved, = files_of(name).items()
  (tmp_path / saved[0]).write_text(saved[1])
  lines = [shlex.split(line) for line in commands(name) if 'launch.' in line and '&&' not in line]
  assert any(f'--experiment={saved[0]}' in words for words in lines)
  output = [run([*words, '--nopage'] if {'launch.train', 'launch.evaluate'} & {*words} else words,
                tmp_path).stdout for words in lines][-1]
  assert '"kind": "exact"' in output.splitlines()[-1]


def test_own_data_are_described_as_the_page_says(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  here = {}
  for source in blocks('docs/howto/data.md', 'python'):
    exec(compile(source, 'data.md', 'exec'), here)
  spec = here['spec']
  assert (spec.shape, spec.kind) == ((12,), 'binary')
  assert spec.rows == {'train': 320, 'valid': 40, 'test': 40}
  assert here['data'].train.rows.shape == (320, 12)


def test_every_scheme_and_option_of_data_is_on_their_page():
  from gen_models.data import grammar
  text = (ROOT / 'docs/howto/data.md').read_text(encoding='utf-8')
  for scheme in grammar.SCHEMES:
    assert f'`{scheme}:' in text and f'{scheme}:' in grammar.__doc__, scheme
  for option in grammar.OPTIONS:
    assert re.search(rf'^\|.*`{option}`.*\|', text, flags=re.M), option
    assert re.search(rf'^\| {option} +\|', grammar.__doc__, flags=re.M), option


@pytest.mark.slow
def test_own_data_are_trained_from_as_the_page_says(tmp_path):
  saved, = files_of('docs/howto/data.md').items()
  (tmp_path / saved[0]).write_text(saved[1])
  run(['python', saved[0]], tmp_path)
  lines = [shlex.split(line) for line in commands('docs/howto/data.md') if 'launch.' in line]
  output = [run(words, tmp_path).stdout for words in lines][-1]
  assert '"kind": "exact"' in output.splitlines()[-1]


@pytest.mark.slow
def test_the_page_of_scripts_runs(tmp_path, monkeypatch):
  """Its blocks one after another, as in a notebook; on shortened runs."""
  sources = blocks('docs/howto/script.md', 'python')
  assert len(sources[0].splitlines()) <= 40, 'an RBM in forty lines'
  assert all(len(source.splitlines()) <= 10 for source in sources[1:]), 'ten lines each'
  monkeypatch.chdir(tmp_path)
  code = '\n'.join(sources).replace('10_000', '400').replace('num_hidden=16', 'num_hidden=5')
  here = {}
  exec(compile(code, 'script.md', 'exec'), here)
  assert here['nats'] > -40 and here['run'].step == here['result'].step == 400


@pytest.mark.slow
def test_a_trained_model_is_asked_as_the_page_says(tmp_path):
  """The commands and the Python of the page, in its order."""
  text = (ROOT / 'docs/howto/ask.md').read_text(encoding='utf-8')
  for language, block in re.findall(r'```(sh|python)\n(.*?)```', text, flags=re.S):
    if language == 'python':
      run(['python', '-c', 'import numpy as np\n' + block], tmp_path)
      continue
    for line in block.strip().splitlines():
      small = ['--set=num_hidden=4'] if 'launch.train' in line else []
      run([*shlex.split(line), *small], tmp_path)
  assert np.load(tmp_path / 'filled.npz')['draws'].shape == (5, 10, 8, 8)


@pytest.fixture
def flow(tmp_path, monkeypatch):
  """The module and the file that the page says to save."""
  saved, = files_of('docs/howto/flow.md').items()
  path = tmp_path / saved[0]
  path.write_text(saved[1])
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.delitem(sys.modules, 'flow', raising=False)
  return importlib.import_module('flow'), path


def test_the_flow_of_the_page_is_a_density_and_its_draws_are_of_it(flow):
  """Its mass is 1, and draws have the moments of the density, on a square of pixels."""
  module, _ = flow
  params = jax.tree.map(lambda x: 0.3 * x, module.init(jax.random.key(3), 2, 3, 4))
  low, high = -module.SQUEEZE / (1 - 2 * module.SQUEEZE), 1 / (1 - 2 * module.SQUEEZE)
  grid_G = np.linspace(low, low + high, 401)[:-1] + high / 800
  x_SV = jnp.float32(np.stack(np.meshgrid(grid_G, grid_G), -1).reshape(-1, 2))
  p_S = np.asarray(jnp.exp(module.log_density(params, x_SV)), np.float64) * (high / 400)**2
  np.testing.assert_allclose(p_S.sum(), 1, atol=5e-3)
  draws_NV = np.asarray(module.sample(jax.random.key(0), params, 40_000, 2))
  # Standard errors are 0.0015: 0.01 is six of them, beside what the grid leaves.
  np.testing.assert_allclose(draws_NV.mean(0), p_S @ np.asarray(x_SV), atol=0.01)
  np.testing.assert_allclose((draws_NV**2).mean(0), p_S @ np.asarray(x_SV)**2, atol=0.01)


def test_the_flow_of_the_page_fits_and_its_estimator_is_certified(flow):
  module, path = flow
  checks.check(module.experiment(couplings=2, width=4), data.shapes('digits'),
               data.shapes('digits'))
  problem = audit.problem_of(f'{path}:PROBLEM')
  case = audit.case(f'{path}:half_batch', problem)
  jax.config.update('jax_debug_key_reuse', False)  # in the threads of the audit too
  try:
    row, = audit.measure([case], num_draws=2048)
  finally:
    jax.config.update('jax_debug_key_reuse', True)
  assert row.agrees and row.found.variance > 0


@pytest.mark.slow
def test_the_flow_is_trained_scored_drawn_swept_reported_and_audited(tmp_path):
  """The commands of the page, in its order, on shorter runs."""
  saved, = files_of('docs/howto/flow.md').items()
  (tmp_path / saved[0]).write_text(saved[1])
  done = {}
  for line in commands('docs/howto/flow.md'):
    words = shlex.split(line)
    command = words[2].removeprefix('launch.')
    short = ['--set=num_steps=200', '--set=width=8'] if command in ('train', 'sweep') else []
    done[command] = run([*words, *short], tmp_path).stdout
  assert '"kind": "exact"' in done['evaluate'].splitlines()[-1]
  assert 'deep' in done['sweep'] and (tmp_path / 'runs' / 'flow.html').stat().st_size > 10_000


def test_the_divergence_and_the_selection_of_the_page_are_what_it_says(tmp_path, monkeypatch):
  """Its conjugate is the supremum, and four fifths of the rows are kept."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  page, here = 'docs/howto/games.md', {}
  exec(files_of(page)['triangular.py'], here)
  divergence, u_G = here['divergence'], np.exp(np.linspace(-9, 9, 20_001))
  for v in (-1.0, 0.0, 0.7, 1.2):
    t = float(divergence.activation(jnp.float32(v)))
    np.testing.assert_allclose(divergence.conjugate(jnp.float32(v)),
                               np.max(u_G * t - divergence.generator(u_G)), atol=1e-3)
  np.testing.assert_allclose(divergence.activation(divergence.best(2.0)), 1 - 4 / 9, rtol=1e-6)
  exec(blocks(page, 'python')[1], here)
  # 1297 rows of digits, four fifths of them split anew.
  assert len(here['kept']) == 1038 and data.spec(here['selected'].name).num_classes == 10


@pytest.mark.slow
def test_the_games_of_the_page_are_played(tmp_path):
  """The commands of the page, in its order, on shorter runs."""
  saved, = files_of('docs/howto/games.md').items()
  (tmp_path / saved[0]).write_text(saved[1])
  for line in commands('docs/howto/games.md'):
    words = shlex.split(line)
    short = ['--set=num_steps=500', '--set=width=8'] if 'launch.train' in line else []
    run([*words, *short], tmp_path)
  assert (tmp_path / 'threes.png').stat().st_size > 1000


def test_forty_lines_are_forty_lines():
  text = (ROOT / 'docs/notebooks/forty_lines.md').read_text(encoding='utf-8')
  cell, = re.findall(r'```{code-cell} ipython3\n:tags: \[forty-lines\]\n(.*?)```', text, flags=re.S)
  lines = [line for line in cell.splitlines() if line.strip()]
  assert len(lines) <= 40 and max(map(len, lines)) <= 100
