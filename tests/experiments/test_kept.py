"""Baselines and classifiers that judge draws are computed once for the runs of a sweep."""

from experiments._common import binary, kept
from gen_models import data
from gen_models.evaluation import baselines


def counted(calls, name):
  def compute(*args, **options):
    calls.append((name, options['binarisation']))
    return {'test_nats': 0.0}

  return compute


def test_baselines_of_one_data_set_are_computed_once(monkeypatch):
  calls: list[tuple[str, str]] = []
  for name in ('independent_pixels', 'bernoulli_mixture'):
    monkeypatch.setattr(baselines, name, counted(calls, name))
  # A cache of its own: that of the module may hold what another test left there.
  scores = kept.of_data(binary.baseline_scores.__wrapped__)
  dataset = data.load('digits')
  for again in (dataset, dataset, data.load('digits')):
    scores(again, 'threshold')
  assert len(calls) == 2
  scores(dataset, 'dynamic')
  assert len(calls) == 4 and calls[-1] == ('bernoulli_mixture', 'dynamic')
  scores(dataset, 'threshold', search=False)
  assert len(calls) == 6
  scores(dataset, 'threshold')
  assert len(calls) == 6


def test_another_data_set_is_computed_anew_though_it_has_the_same_name():
  seen = []

  @kept.of_data
  def mean(dataset):
    seen.append(dataset)
    return float(dataset.train.rows.mean())

  dataset = data.load('digits')
  darker = dataset._replace(train=dataset.train._replace(rows=dataset.train.rows // 2))
  assert mean(dataset) == mean(dataset) > mean(darker) == mean(darker)
  assert mean(dataset) > mean(darker) and len(seen) == 4
