"""The package as it is installed: nothing is missing, and nothing of the user's replaces it."""

import configparser
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('gen_models', 'experiments', 'launch', 'benchmarks')


def tracked() -> list[str]:
  """Files of the packages that git knows."""
  try:
    done = subprocess.run(['git', 'ls-files', *PACKAGES, 'setup.cfg', 'pyproject.toml', 'README.md',
                           'LICENSE'], cwd=ROOT, capture_output=True, text=True, check=True)
  except (OSError, subprocess.SubprocessError):
    pytest.skip('not a checkout')
  return done.stdout.split()


def test_all_that_the_packages_read_is_package_data():
  """Whatever is no module: the committed results above all, without which pages lose their rows."""
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  globs = {package: text.split() for package, text in config['options.package_data'].items()}
  for name in tracked():
    package, _, rest = name.partition('/')
    if rest and not name.endswith('.py') and not rest.endswith('.md'):
      assert any(pathlib.PurePath(rest).match(glob) for glob in globs.get(package, ())), name


@pytest.mark.parametrize('name', ['experiments', 'gen_models'])
def test_a_package_in_the_working_directory_does_not_replace_ours_unsaid(tmp_path, name):
  (tmp_path / name).mkdir()
  (tmp_path / name / '__init__.py').write_text('raise SystemExit("ran")\n')
  done = subprocess.run([sys.executable, '-m', 'launch.list'], cwd=tmp_path, capture_output=True,
                        text=True, timeout=60, env={**os.environ, 'PYTHONPATH': str(ROOT)})
  assert done.returncode == 1 and not done.stdout
  line, = done.stderr.splitlines()
  assert line.startswith(f'error: the package {name} would be {tmp_path}')
  # A folder that is no package is in nobody's way.
  (tmp_path / name / '__init__.py').unlink()
  done = subprocess.run([sys.executable, '-c', 'import launch'], cwd=tmp_path,
                        env={**os.environ, 'PYTHONPATH': str(ROOT)}, timeout=60)
  assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_installed_it_trains_scores_and_reports_from_an_empty_directory(tmp_path):
  source, place, empty = (tmp_path / name for name in ('source', 'installed', 'empty'))
  empty.mkdir()
  for name in tracked():  # setuptools writes into the folder that it builds from
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_bytes((ROOT / name).read_bytes())
  done = subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps',
                         f'--target={place}', str(source)], capture_output=True, text=True,
                        timeout=300)
  if 'No matching distribution found for setuptools' in done.stderr:
    pytest.skip('no network, and building needs setuptools')
  assert done.returncode == 0, done.stderr

  def run(*words):
    done = subprocess.run([sys.executable, *words], cwd=empty, capture_output=True, text=True,
                          timeout=200, env={**os.environ, 'PYTHONPATH': str(place)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  number = run('-c', 'import launch; from launch.reports import tables; '
               'print(launch.__file__, len(tables.load()))')
  results = len(list((ROOT / 'experiments' / 'results').glob('*-*.json')))
  assert number.split() == [str(place / 'launch' / '__init__.py'), str(results)]
  run('-m', 'launch.train', '--experiment=rbm_digits', '--variant=cd1', '--set=num_hidden=5',
      '--set=num_steps=20', '--workdir=run')
  result = json.loads(run('-m', 'launch.evaluate', '--workdir=run').splitlines()[-1])
  assert result['test_nats'] < 0
  run('-m', 'launch.report', '--workdir=run')
  page = (empty / 'run' / 'report.html').read_text(encoding='utf-8')
  committed = json.loads((ROOT / 'experiments/results/rbm_digits-pcd.json').read_text())
  assert f'{committed["test_nats"]:.2f}'.lstrip('-') in page
  run('-m', 'launch.report', 'run', '--out=all.html')
  assert (empty / 'all.html').exists()
