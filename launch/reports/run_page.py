"""One result in full, as HTML: likelihood beside baselines, other scores, draws."""

import html

from launch.reports import markup, tables
from launch.runs.result import Result


def scores(title: str, result: Result) -> str:
  """A result in full: likelihood beside baselines, what else was scored, draws."""
  score, parts = result.score, []
  images = (f'{score.num_images:,} test images, {result.dataset}, {score.binarisation} '
            'binarisation')
  likelihood = tables.likelihood_cells(title, result)
  if len(likelihood) > 1:
    parts += ['<h2>Test log-likelihood</h2>',
              markup.table(likelihood, f'nats per image; {images}', sorts=False)]
  if note := tables.remark(score):
    parts.append(f'<p class="soft">{html.escape(note)}</p>')
  parts += [f'<p class="mark">{html.escape(line)}</p>' for line in score.remarks]
  others = tables.other_cells(result)
  if len(others) > 1:
    parts += ['<h2>Scores</h2>', markup.table(others, images, sorts=False)]
  return ''.join(parts) + _samples(result)


def _samples(result: Result) -> str:
  """Sample scores beside their real-vs-real floors."""
  if not result.samples:
    return ''
  first = next(iter(result.samples.values()))
  note = (f'both sides {result.sample_space}; {first.num_sets} independent sets of {first.n} '
          'images: mean [least, greatest]')
  copied = '<p class="mark">Draws are copies of training images.</p>' if result.memorised else ''
  return ('<h2>Draws against test images</h2>'
          + markup.table(tables.sample_cells(result), note, sorts=False) + copied)
