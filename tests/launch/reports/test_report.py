"""Rows put together from runs, tables for people and machines, nothing from a run trusted."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from gen_models.data.specs import Spec
from launch import errors
from launch.reports import collect, curves, report
from launch.runs import result as result_lib
from tests.launch.commands import refused
from tests.launch.reports import handmade

EVIL = '<script>alert(1)</script>"\'&</td>'


def test_seeds_of_runs_apart_make_the_row_of_one_run_with_all(tmp_path):
  results = [result_lib.read(handmade.run(tmp_path / str(i), i, -18.0 - i) / 'result.json')
             for i in (2, 0, 1)]
  merged = result_lib.merge(results).to_json()
  assert merged['seeds'] == [0, 1, 2] and merged['test_nats'] == pytest.approx(-19)
  assert merged['seed_spread'] == pytest.approx(1) and merged['train_seconds'] == 30
  assert merged['effective_sample_size'] == 48 and merged['resolved'] is False
  assert merged['standard_error'] == pytest.approx(0.3 / np.sqrt(3))
  assert merged['lower'] == pytest.approx(-19.1) and merged['scores']['error_percent'] == 3
  assert [s['test_nats'] for s in merged['per_seed']] == [-18, -19, -20]
  sample = merged['samples']['frechet']
  assert (sample['value'], sample['low'], sample['high']) == (pytest.approx(1.1), 0.05, 2.2)
  assert (sample['floor_high'], sample['num_sets']) == (2.1, 15)
  # In any order, and in parts.
  again = result_lib.merge([result_lib.merge(results[:2]), results[2]]).to_json()
  for name in ('test_nats', 'seed_spread', 'standard_error', 'seeds', 'lower', 'resolved'):
    assert again[name] == pytest.approx(merged[name]), name


def test_runs_that_differ_in_more_than_seeds_are_not_put_together(tmp_path):
  one, other = (result_lib.read(path / 'result.json') for path in (
    handmade.run(tmp_path / 'a', 0), handmade.run(tmp_path / 'b', 1, learning_rate=0.5)))
  with pytest.raises(ValueError, match='learning_rate is 0.1 in one, 0.5 in the other'):
    result_lib.merge([one, other])
  with pytest.raises(ValueError, match='seed 0 twice'):
    result_lib.merge([one, one])
  with pytest.raises(ValueError, match='step'):
    result_lib.merge([one, dataclasses.replace(one, step=7, seeds=(3,))])


def test_a_score_that_one_seed_lacks_is_no_score_of_all(tmp_path):
  one, other = (json.loads((handmade.run(tmp_path / str(i), i) / 'result.json').read_text())
                for i in (0, 1))
  def scores_of_both():
    both = [result_lib.Result.from_json(value) for value in (one, other)]
    return [set(result_lib.merge(results).score.scores) for results in (both, both[::-1])]

  one['scores']['seconds_to_target'] = 7.0
  assert scores_of_both() == [{'error_percent'}] * 2
  del other['scores']
  assert scores_of_both() == [set()] * 2


def test_results_keeps_one_file_of_several_seeds(tmp_path, monkeypatch):
  from launch import results
  from launch.reports import tables
  monkeypatch.setattr(tables, 'RESULTS', tmp_path / 'kept')
  (tmp_path / 'kept').mkdir()
  paths = [str(handmade.run(tmp_path / str(i), i, -18.0 - i, num_steps=1000)) for i in (0, 1)]
  results.add(paths)
  kept, = (tmp_path / 'kept').iterdir()
  value = json.loads(kept.read_text())
  assert kept.name == 'rbm_digits-pcd.json' and value['seeds'] == [0, 1]
  assert 'with --seed=0, 1' in value['command'] and len(value['per_seed']) == 2
  second = value['per_seed'][1]
  assert (second['lower'], second['upper'], second['resolved']) == (-19.1, -18.9, True)
  with pytest.raises(errors.UsageError, match='launch.evaluate'):
    results.add([str(tmp_path / 'nothing')])
  early = handmade.run(tmp_path / 'early', num_steps=4000)
  with pytest.raises(errors.UsageError, match='was scored after 1,000 of its 4,000 updates: train'):
    results.add([str(early)])
  (early / 'checkpoints' / '4000').mkdir(parents=True)
  row, = collect.gather([early]).rows
  assert any('scored after 1,000 updates, and trained to 4,000 since' in line
             for line in row.remarks)
  path = tmp_path / '0' / 'result.json'  # as of --set=negative=chains.py:restarted
  path.write_text(json.dumps(json.loads(path.read_text()) | {'code': {'chains.py': '0' * 64}}))
  with pytest.raises(errors.UsageError, match='code in your chains.py: only results of code of'):
    results.add(paths[:1])


def test_runs_at_any_depth_become_rows(tmp_path):
  handmade.run(tmp_path / 'sweep' / 'pcd,learning_rate=0.1' / 'seed0', 0, -18.0)
  handmade.run(tmp_path / 'sweep' / 'pcd,learning_rate=0.1' / 'seed1', 1, -18.5)
  handmade.run(tmp_path / 'sweep' / 'pcd,learning_rate=0.5' / 'seed0', 0, -17.0, learning_rate=0.5)
  bad = handmade.run(tmp_path / 'bad', 4, scored=False, learning_rate=9.0)
  (bad / 'failed.txt').write_text('not finite at step 3\n')
  found = collect.gather([tmp_path, tmp_path / 'sweep'])  # twice the same changes nothing
  rate = handmade.values()['learning_rate']
  assert [(r.name, r.seeds, r.scored) for r in found.rows] == [
    ('pcd, learning_rate=0.5', [0], [0]), (f'pcd, learning_rate={rate}', [0, 1], [0, 1]),
    ('pcd, learning_rate=9.0', [4], [])]
  assert 'frozen: not finite at step 3' in found.rows[2].remarks[0]
  assert found.rows[1].result.score.test_nats == pytest.approx(-18.25)


def test_runs_on_other_data_of_the_same_name_are_other_rows(tmp_path):
  for seed, sha256 in ((0, 'a' * 64), (1, 'a' * 64), (2, 'b' * 64)):
    folder = handmade.run(tmp_path / str(seed), seed)
    config = json.loads((folder / 'config.json').read_text())
    config['data'] = Spec('npz:rows.npz', (6,), kind='binary', sha256=sha256,
                          rows={'train': 8, 'valid': 1, 'test': 1}).to_json()
    (folder / 'config.json').write_text(json.dumps(config))
  assert sorted(row.seeds for row in collect.gather([tmp_path]).rows) == [[0, 1], [2]]


def test_copies_of_a_run_are_no_seeds_and_a_run_without_its_config_is_a_remark(tmp_path):
  for name in 'abc':
    handmade.run(tmp_path / name, scored=False)
  (tmp_path / 'c' / 'config.json').unlink()
  found = collect.gather([tmp_path])
  assert [row.seeds for row in found.rows] == [[0], [0]]
  assert all('its seed is there twice' in row.remarks[-1] for row in found.rows)
  assert any('c is left out: it has the metrics of a run and no config.json' in line
             for line in found.remarks)


def test_a_seed_trained_twice_is_reported_and_shown_twice(tmp_path):
  handmade.run(tmp_path / 'a', 0)
  handmade.run(tmp_path / 'b', 0)
  found = collect.gather([tmp_path])
  assert len(found.rows) == 2 and all('twice' in r.remarks[-1] for r in found.rows)


def test_nothing_to_show_says_what_a_run_is(tmp_path):
  with pytest.raises(errors.UsageError, match='config.json'):
    collect.gather([tmp_path])
  with pytest.raises(errors.UsageError, match='no directory'):
    collect.gather([tmp_path / 'nowhere'])
  assert 'name either directories or --workdir' in refused('report')
  assert 'html' in refused('report', tmp_path, '--out=x.pdf')


def test_an_experiment_named_by_a_configuration_is_not_imported(tmp_path):
  spy = tmp_path / 'spy.py'
  spy.write_text(f'open({str(tmp_path / "was_run")!r}, "w")')
  handmade.run(tmp_path / 'run', experiment=str(spy))
  row, = collect.gather([tmp_path / 'run']).rows
  assert row.experiment == str(spy) and row.name == 'pcd'
  assert not (tmp_path / 'was_run').exists()


def test_bands_are_over_seeds_at_shared_steps(tmp_path):
  paths = [handmade.run(tmp_path / str(i), i) for i in (0, 1)]
  lines = (paths[1] / 'metrics.jsonl').read_text().splitlines()
  (paths[1] / 'metrics.jsonl').write_text('\n'.join(lines[:6]) + '\n')
  curve = curves.read(paths)['valid_nats']
  np.testing.assert_array_equal(curve.step, range(100, 700, 100))
  np.testing.assert_allclose(curve.high - curve.low, 0.1)
  assert curve.seeds == 2
  assert curves.order({'a': curves.read(paths)}, 'valid_nats') == ['valid_nats', 'moment_error']


def test_metrics_in_the_order_of_their_numbers_and_by_pattern():
  rows = {'a': dict.fromkeys(['bias_cd10', 'bias_cd1', 'seconds']), 'b': dict.fromkeys(
    ['3', 'bias_cd3', 'rbm/nats'])}
  names = curves.order(rows, 'nats')
  assert names == ['rbm/nats', '3', 'bias_cd1', 'bias_cd3', 'bias_cd10']
  assert curves.matching(names, ['*cd3', 'bias_*']) == ['bias_cd3', 'bias_cd1', 'bias_cd10']


def test_named_metrics_are_shown_at_once_and_an_unknown_one_is_refused(tmp_path):
  handmade.run(tmp_path / 'runs' / 'a')
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html',
                               metrics=['moment_*', 'valid_nats']).read_text()
  assert 'moment_error, valid_nats during training' in page and 'All metrics' not in page
  text = refused('report', tmp_path / 'runs', '--metrics=bias_*', f'--out={tmp_path}/b.html')
  assert 'bias_*' in text and 'moment_error' in text
  assert not (tmp_path / 'b.html').exists()


def test_page_and_its_files(tmp_path):
  handmade.run(tmp_path / 'runs' / 'a', 0)
  handmade.run(tmp_path / 'runs' / 'b', 1)
  audit = {'name': 'cd1', 'biased': True, 'declared_biased': True, 'bias_z': 181.0,
           'variance': 0.4, 'snr': 1.2, 'seconds_per_step': 1e-5, 'bias_norm': 0.39,
           'num_draws': 16384}
  (tmp_path / 'runs' / 'audit.json').write_text(json.dumps(audit) + '\n')
  out = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html')
  page = out.read_text()
  assert page.count('data:image/png;base64,') == 2 and 'has no checkpoint' in page
  assert '−18.00 ± 0.00' in page and '181' in page
  names = {p.name for p in (tmp_path / 'page_files').iterdir()}
  assert names == {'rbm_digits.csv', 'rbm_digits.md', 'rbm_digits_curves.csv',
                   'rbm_digits_curves.png', 'rbm_digits_curves_all.png', 'audit_0.csv',
                   'audit_0.md'}
  with open(tmp_path / 'page_files' / 'rbm_digits.csv', newline='') as file:
    head, first, *_ = csv.reader(file)
  assert dict(zip(head, first))['seeds'] == '2' and dict(zip(head, first))['bracket']
  assert '| model |' in (tmp_path / 'page_files' / 'rbm_digits.md').read_text()


def test_names_from_a_run_are_text_and_nothing_else(tmp_path):
  handmade.run(tmp_path / 'runs' / 'a', variant=EVIL, experiment=EVIL)
  (tmp_path / 'runs' / 'a' / 'warnings.txt').write_text(EVIL)
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert '<script>alert' not in page and '&lt;script&gt;alert(1)' in page
  assert page.count('<script>') == 1 and '<img src=x' not in page


def test_a_large_picture_stays_outside_the_page(tmp_path, monkeypatch):
  monkeypatch.setattr(report, 'LARGEST', 10)
  handmade.run(tmp_path / 'runs' / 'a')
  page = report.of_directories([tmp_path / 'runs'], tmp_path / 'page.html').read_text()
  assert 'data:image/png' not in page and 'kB lies in page_files/rbm_digits_curves.png' in page


