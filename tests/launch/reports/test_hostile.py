"""Run directories from elsewhere: one that is bad is one remark, and the others are shown."""

import contextlib
import json
import os
import pathlib
import re
import time

import pytest

from gen_models.training import metrics
from launch import errors
from launch.reports import collect, report
from launch.runs import directory
from tests.launch.reports import handmade
from tests.launch.reports.test_markup import EVIL, Parsed


def change(path, **values):
  """A file of JSON with other values."""
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace(name, make):
  """Something else in the place of a file of the run."""
  def spoil(run):
    (run / name).unlink(missing_ok=True)
    make(run / name)
  return spoil


def text(content):
  return lambda path: path.write_text(content)


def link(target):
  return lambda path: path.symlink_to(target)


DEEP = '[' * 100_000
BAD_CONFIG = {
  'half': text('{"experiment": "rbm_di'), 'empty': text(''), 'list': text('[]'),
  'null': text('null'), 'deep': text(DEEP), 'pipe': os.mkfifo, 'zero': link('/dev/zero'),
  'dangling': link('nowhere'),
  'seeds': text(json.dumps({'experiment': 'rbm_digits', 'variant': 'pcd', 'hyperparameters': {},
                            'seed': 0, 'seeds': 10**8})),
  'types': text(json.dumps({'experiment': ['a'], 'variant': 3, 'hyperparameters': [], 'seed': 'x',
                            'seeds': None}))}
BAD_RESULT = {'directory': pathlib.Path.mkdir, **{
  name: make for name, make in BAD_CONFIG.items() if name not in ('seeds', 'types')}}


@pytest.mark.parametrize('name', BAD_CONFIG)
def test_a_run_that_cannot_be_read_is_a_remark(tmp_path, name):
  handmade.run(tmp_path / 'good')
  bad = handmade.run(tmp_path / 'bad', 1)
  replace('config.json', BAD_CONFIG[name])(bad)
  found = collect.gather([tmp_path])
  assert [row.seeds for row in found.rows] == [[0]]
  remark, = found.remarks
  assert str(bad) in remark and len(remark) < 1000
  with pytest.raises(errors.UsageError, match='bad'):
    collect.gather([bad])


@pytest.mark.parametrize('name', BAD_RESULT)
def test_a_result_that_cannot_be_read_leaves_the_run(tmp_path, name):
  handmade.run(tmp_path / 'good')
  bad = handmade.run(tmp_path / 'bad', 1, learning_rate=0.7)
  replace('result.json', BAD_RESULT[name])(bad)
  good, row = collect.gather([tmp_path]).rows
  assert good.result and not row.result and 'result.json' in row.remarks[0]


FIELDS = ('kind', 'num_images', 'binarisation', 'test_nats', 'samples', 'scores', 'baselines',
          'protocol', 'train_seconds', 'num_parameters', 'dataset', 'trained', 'seeds', 'why',
          'sample_space', 'effective_sample_size')


def test_whatever_a_field_of_a_result_holds_a_page_is_written_and_nothing_in_it_runs(tmp_path):
  evil = EVIL[1]
  values = [evil, [evil], {evil: evil}, None, 10**400, {'frechet': {'n': evil, 'better': evil}}]
  for i, field in enumerate(FIELDS):
    for j, value in enumerate(values):
      run = handmade.run(tmp_path / 'runs' / f'{field}{j}', 0, learning_rate=0.01 * i + j)
      change(run / 'result.json', **{field: value})
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html', pictures=0).read_text()
  parsed = Parsed(page)
  assert not [a for _, a in parsed.elements for key in a if key.startswith('on')]
  assert [name for name, _ in parsed.elements].count('script') == 1
  assert all(a.get('src') != 'x' for _, a in parsed.elements)


def test_a_whole_page_of_evil_names(tmp_path):
  for i, evil in enumerate(EVIL):
    run = handmade.run(tmp_path / 'runs' / str(i), experiment=evil, variant=evil)
    change(run / 'result.json', kind=evil, binarisation=evil, sample_space=evil,
           scores={evil: 1.0}, baselines={evil: json.loads(
             (run / 'result.json').read_text())['baselines']['independent pixels']})
    for name in ('warnings.txt', 'failed.txt'):
      (run / name).write_text(evil)
    (run / 'metrics.jsonl').write_text(json.dumps({'step': 1, evil: 1.0}) + '\n')
  parsed = Parsed(report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text())
  names = {name for name, _ in parsed.elements}
  assert names <= {'html', 'head', 'meta', 'title', 'link', 'style', 'body', 'a', 'div', 'label',
                   'input', 'span', 'button', 'main', 'header', 'h1', 'h2', 'h3', 'h4', 'p', 'nav',
                   'section', 'table', 'caption', 'thead', 'tr', 'th', 'tbody', 'td', 'details',
                   'summary', 'pre', 'figure', 'img', 'figcaption', 'script', 'strong'}
  assert all(a.get('href', '#').startswith(('#', 'data:,')) for _, a in parsed.elements)


def test_nothing_is_read_through_a_link(tmp_path):
  (tmp_path / 'private').write_text('PRIVATE\n')
  run = handmade.run(tmp_path / 'runs' / 'a')
  for name in ('failed.txt', 'warnings.txt', 'environment.json', 'b.json'):
    (run / name).symlink_to(tmp_path / 'private')
  (tmp_path / 'runs' / 'other.json').symlink_to(tmp_path / 'private')
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert 'PRIVATE' not in page and 'warnings.txt is left out: a symbolic link' in page


def test_nothing_is_written_through_a_link(tmp_path):
  (tmp_path / 'private').write_text('PRIVATE\n')
  run = handmade.run(tmp_path / 'run', scored=False)
  for name in ('.lock', 'metrics.tmp', 'environment.json', 'report.html'):
    (run / name).symlink_to(tmp_path / 'private')
  with pytest.raises(OSError, match='symbolic link'), directory.lock(run):
    pass
  with metrics.Metrics(run, resume_step=500) as writer:
    writer.write(600, {'loss': 1.0})
  with contextlib.suppress(OSError):
    directory.record_start(run)
  report.of_run(run)
  assert (tmp_path / 'private').read_text() == 'PRIVATE\n'
  assert metrics.history(run / 'metrics.jsonl')['loss'].step.tolist() == [600]


@pytest.mark.parametrize('content', ['3', '[]', '{}', 'null', '[3]', DEEP, ''])
def test_any_environment_can_be_shown_and_added_to(tmp_path, content):
  run = handmade.run(tmp_path / 'a', scored=False)
  (run / 'environment.json').write_text(content)
  assert 'learning_rate' in report._config(run)
  assert directory.other_devices(run) is None
  directory.record_start(run)
  assert json.loads((run / 'environment.json').read_text())[-1]['versions']


def test_pages_of_two_rates_of_a_users_file_lose_neither(tmp_path):
  for rate in (0.1, 0.2):
    handmade.run(tmp_path / 'runs' / str(rate), experiment=str(tmp_path / 'mine.py'),
                 learning_rate=rate)
  rows = collect.gather([tmp_path / 'runs']).rows
  assert sorted(row.name for row in rows) == ['pcd, learning_rate=0.1', 'pcd, learning_rate=0.2']
  report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html')
  lines = (tmp_path / 'page_files' / 'mine.py_curves.csv').read_text().splitlines()
  assert len({line.split('"')[1] for line in lines[1:]}) == 2


def test_rows_and_files_that_would_have_one_name_get_two(tmp_path):
  for name in ('a', 'b'):
    handmade.run(tmp_path / 'runs' / name, experiment='mine.py', variant='x')
  for variant in ('é', 'ü', 'A b', 'a_b'):
    handmade.run(tmp_path / 'runs' / variant, experiment=f'{variant}.py', variant=variant)
  names = [(row.experiment, row.name) for row in collect.gather([tmp_path / 'runs']).rows]
  assert len(names) == len(set(names)) == 6
  report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html')
  stems = [p.name for p in (tmp_path / 'page_files').glob('*curves.csv')]
  stems += [p.name for p in (tmp_path / 'page_files').glob('*curves_[0-9].csv')]
  assert len(stems) == len({stem.lower() for stem in stems}) == 5


def test_what_checkpoints_hold_is_not_looked_at(tmp_path):
  """A training beside the report makes and removes folders there at any moment."""
  run = handmade.run(tmp_path / 'a')
  (run / 'checkpoints' / '1').mkdir(parents=True)
  for name in ('config.json', 'metadata.json'):
    (run / 'checkpoints' / '1' / name).write_text('half')
  found = collect.gather([tmp_path])
  assert len(found.rows) == 1 and not found.remarks


def test_two_thousand_metrics_take_seconds(tmp_path):
  run = handmade.run(tmp_path / 'runs' / 'a')
  with open(run / 'metrics.jsonl', 'w') as file:
    for step in range(5):
      file.write(json.dumps({'step': step, **{f'm{i}': i + step for i in range(2000)}}) + '\n')
  began = time.monotonic()
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert time.monotonic() - began < 60 and 'the first 30 of 2000' in page


def test_a_single_point_is_a_number_and_no_plot(tmp_path):
  run = handmade.run(tmp_path / 'runs' / 'a')
  (run / 'metrics.jsonl').write_text('{"step": 1, "valid_nats": -18.25}\n')
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert 'Metrics measured once' in page and '−18.25' in page and 'data:image/png' not in page


def test_a_page_of_one_run_has_no_filter_and_says_one(tmp_path):
  handmade.run(tmp_path / 'runs' / 'a')
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert 'id="filter"' not in page and 'One run, of seed 0.' in page
  assert not re.search(r'\b1 (configurations|runs|seeds)', page)
  handmade.run(tmp_path / 'runs' / 'b', learning_rate=0.7, scored=False)
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert 'id="filter"' in page and '2 configurations, 2 runs' in page
  assert 'not finished' in page and '1,000 of 20,000' in page
