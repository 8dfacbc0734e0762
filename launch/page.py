"""The page of a run: its score beside baselines, curves, samples, filters."""

import base64
import html
import json
import pathlib

import numpy as np

from launch import runs, runtime, tables

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .9rem .3rem 0; text-align: left;
  border-bottom: 1px solid var(--line); } td.number { text-align: right;
  font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; }
img { max-width: 100%; } .pixels { image-rendering: pixelated; width: 18rem; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
pre { overflow-x: auto; background: #8881; padding: 1rem; font-size: .85rem; }
"""


def write(workdir: pathlib.Path, data_dir: str | None = None) -> pathlib.Path:
  """Writes figures/*.png and report.html, one self-contained page; returns its path."""
  from gen_models.training import metrics
  run = runs.load(workdir, 'last', data_dir)
  figures = workdir / 'figures'
  figures.mkdir(exist_ok=True)
  history = metrics.history(workdir / 'metrics.jsonl')
  curves = _curves(history, run.experiment.headline, figures / 'curves.png')
  pictures = [(name, runs.write_png(grid, figures / f'{name.replace(" ", "_")}.png'))
              for name, grid in _grids(run).items()]
  path = workdir / 'report.html'
  path.write_text(_page(run, _result(workdir), curves, pictures))
  return path


def _grids(run) -> dict:
  """Name -> grid: draws beside what they resemble most, then what the experiment itself shows."""
  from gen_models import data
  from gen_models.evaluation import figures
  key = runtime.evaluation_key(run.config['seed'] + run.config['seeds'])
  grids, experiment = {}, run.experiment
  if experiment.sample:
    test_ND = data.fixed(run.dataset.test, experiment.binarisation, run.dataset.levels)
    grids['data'] = figures.to_grid(test_ND, run.dataset.test.images.shape[1:3], 8, 8)
    means = np.asarray(experiment.sample(runtime.draw_key(run.config['seed']), run.params_of(0), 64,
                                         None).means)
    train = run.dataset.train.images[..., 0] / np.float32(run.dataset.levels)
    grids['samples'] = means.reshape(8, 8, *means.shape[1:])
    grids['samples and their nearest training images'] = figures.neighbours(means, train)
  if experiment.pictures:
    grids |= experiment.pictures(key, run.params_of(0), run.dataset)
  return grids


def _result(workdir):
  path = workdir / 'result.json'
  return json.loads(path.read_text()) if path.exists() else None


def _curves(history, headline, path: pathlib.Path) -> pathlib.Path:
  """Every metric over the steps, the headline first; replicas as a band from lowest to highest."""
  import matplotlib
  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  names = sorted((n for n in history if n != 'seconds'), key=lambda n: (n != headline, n))
  columns = min(3, max(1, len(names)))
  rows = max(1, -(-len(names) // columns))
  figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False,
                              layout='constrained')
  for axis in axes.flat[len(names):]:
    axis.axis('off')
  for axis, name in zip(axes.flat, names):
    step, value = history[name]
    middle = value if value.ndim == 1 else value.mean(1)
    axis.plot(step, middle, linewidth=1.2)
    if value.ndim > 1:
      axis.fill_between(step, value.min(1), value.max(1), alpha=0.25, linewidth=0)
    axis.set_title(name, fontsize=10)
    axis.set_xlabel('step', fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def image(path: pathlib.Path, css: str, caption: str) -> str:
  data = base64.b64encode(path.read_bytes()).decode()
  text = html.escape(caption)
  return (f'<figure><img class="{css}" alt="{text}" src="data:image/png;base64,{data}">'
          f'<figcaption>{text}</figcaption></figure>')


def _page(run, result, curves, pictures) -> str:
  config = run.config
  title = html.escape(f'{config["experiment"]} {config["variant"] or ""}'.strip())
  seeds = f'{config["seeds"]} seeds from {config["seed"]}' if config['seeds'] > 1 else \
    f'seed {config["seed"]}'
  score = '<p>Not scored yet: <code>python -m launch.evaluate --workdir=...</code></p>'
  if result:
    score = scores(title, result)
  pages = ''.join(image(path, 'pixels', name) for name, path in pictures)
  return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><h1>{title}</h1>
<p class="soft">{html.escape(run.experiment.dataset)}, {html.escape(run.experiment.binarisation)}
binarisation, {seeds}, {run.step} steps. {html.escape(run.experiment.protocol)}.</p>
{score}
{tables.html_table(config['experiment'], result)}
<h2>Pictures</h2><div class="pictures">{pages}</div>
<h2>Training</h2>{image(curves, '', 'training metrics against the number of updates')}
<h2>Configuration</h2><pre>{html.escape(json.dumps(config, indent=2))}</pre>
</body></html>
"""


def scores(title, result) -> str:
  rows = [(title, result)] + [(html.escape(k), v) for k, v in result.get('baselines', {}).items()]
  rows = [(name, r) for name, r in rows if r['test_nats'] is not None]
  body = ''.join(
    f'<tr><td>{name}</td><td class="number">{r["test_nats"]:.2f}</td><td>{r["kind"]}</td>'
    f'<td class="number">{_spread(r)}</td><td class="number">{r["image_standard_error"]:.2f}</td>'
    '</tr>' for name, r in rows)
  text = ''
  if body:
    text = ('<h2>Test log-likelihood</h2><table><tr><th>model</th><th>nats per image</th><th>kind'
            '</th><th>spread over seeds</th><th>standard error over images</th></tr>'
            f'{body}</table>')
  return (f'{text}<p class="soft">{html.escape(_note(result))}</p>'
          f'<p class="soft">{result["num_images"]} test images, '
          f'{html.escape(result["binarisation"])} binarisation.</p>'
          f'{_others(result)}{_samples(result)}')


def _note(result) -> str:
  """What a reader must know about the kind of number."""
  if result['kind'] == 'none':
    return f'No likelihood: {result["why"]}.'
  if result['kind'] == 'ais':
    return ('Annealed importance sampling gives a log Z that is low in expectation, so a '
            'likelihood that is high; effective sample size '
            f'{result["effective_sample_size"]:.1f} of {result["num_chains"]} chains, '
            f'standard error {result["standard_error"]:.2f}.')
  if result['kind'] == 'bracket':
    return (f'Between {result["lower"]:.2f} and {result["upper"]:.2f} nats, log Z from both '
            f'sides; {"resolved" if result["resolved"] else "NOT RESOLVED"}; the smaller effective '
            f'sample size {result["effective_sample_size"]:.1f} of {result["num_chains"]} chains.')
  if result['kind'] == 'bound':
    return (f'A lower bound in expectation, standard error {result["standard_error"]:.2f}, '
            f'effective sample size {result["effective_sample_size"]:.1f}.')
  return ''


def _others(result) -> str:
  """Named scores that are no likelihoods."""
  if not result.get('scores'):
    return ''
  spread = result.get('scores_spread', {})
  body = ''.join(
    f'<tr><td>{html.escape(k)}</td><td class="number">{v:.4g}</td>'
    f'<td class="number">{f"{spread[k]:.2g}" if k in spread else "-"}</td></tr>'
    for k, v in result['scores'].items())
  return ('<h2>Scores</h2><table><tr><th>score</th><th>value</th><th>spread over seeds</th></tr>'
          f'{body}</table>')


def _samples(result) -> str:
  """Sample scores beside their real-vs-real floors."""
  if not result.get('samples'):
    return ''
  body = ''.join(
    f'<tr><td>{html.escape(k)}</td><td class="number">{v["value"]:.3g}</td>'
    f'<td>{v["low"]:.3g} to {v["high"]:.3g}</td><td class="number">{v["floor"]:.3g}</td>'
    f'<td>{v["floor_low"]:.3g} to {v["floor_high"]:.3g}</td><td>{v["better"]}</td></tr>'
    for k, v in result['samples'].items())
  first = next(iter(result['samples'].values()))
  copied = '<b>Draws are copies of training images.</b>' if result.get('memorised') else ''
  return ('<h2>Draws against test images</h2><table><tr><th>score</th><th>draws</th>'
          '<th>over sets</th><th>real training images</th><th>over sets</th><th>better</th></tr>'
          f'{body}</table><p class="soft">Both sides {html.escape(result["sample_space"])}; '
          f'{first["num_sets"]} independent sets of {first["n"]} images: mean, least and greatest. '
          f'{copied}</p>')


def _spread(score) -> str:
  return f'{score["seed_spread"]:.2f}' if 'seed_spread' in score else '-'
