"""The page *Estimators side by side*: every estimator of the catalogue, from a committed audit."""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from gen_models import files
from launch.measure.audit import problems as catalogue
from launch.reports.tables import ROOT

RECORD = ROOT / 'docs' / 'audit.json'
PAGE = ROOT / 'docs' / 'concepts' / 'side_by_side.md'
FIELDS = ('name', 'problem', 'declared_biased', 'biased', 'bias_norm', 'bias_interval', 'variance',
          'gradient_norm', 'num_draws', 'error_rate', 'seconds_per_step')

_HEAD = """# Estimators side by side

Every gradient estimator of this package, on a model so small that the gradient of its loss is
enumerated or integrated. The page is made from `docs/audit.json`, which
`python -m launch.audit --all --keep` writes; a test says when it is stale.

All numbers are of one gradient at fixed parameters and a fixed batch of a few rows, and relative
to the length of the exact gradient. |bias| is the length of the mean error, with an interval that
holds with probability {probability:.4f}; where no bias was found there is only what it is below.
*Noise* is the standard deviation of one gradient. The time is that of one gradient of these tiny
models on the machine of the audit, mostly overhead: compare it within a table. *Biased* estimators
say so, and the audit agrees with every declaration.
"""


def record(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Audited rows put in the place of those that are recorded, of estimators that there are still.

  Args:
    rows: as measure.audit.as_dict returns them.
  """
  kept = {row['name']: row for row in load()}
  kept |= {row['name']: {field: _rounded(row[field]) for field in FIELDS} for row in rows}
  return [kept[name] for name in catalogue.ENTRIES if name in kept]


def load() -> list[dict[str, Any]]:
  """The recorded rows; none where there is no record."""
  return json.loads(RECORD.read_text(encoding='utf-8')) if RECORD.exists() else []


def write(rows: Sequence[dict[str, Any]]) -> list[pathlib.Path]:
  """Writes the record, a line for each estimator, and the page that is made from it."""
  lines = ',\n'.join(json.dumps(row) for row in rows)
  for path, text in ((RECORD, f'[\n{lines}\n]\n'), (PAGE, page(rows))):
    with files.replacing(path) as file:
      file.write(text)
  return [RECORD, PAGE]


def page(rows: Sequence[dict[str, Any]]) -> str:
  """The page, a table for each problem."""
  parts = [_HEAD.format(probability=1 - rows[0]['error_rate'])]
  for name in dict.fromkeys(row['problem'] for row in rows):
    problem = catalogue.PROBLEMS[name]
    lines = [f'## {name}', '', f'{problem.description[0].upper()}{problem.description[1:]}; the '
             f'gradient of {problem.objective}.', '',
             '| estimator | declared | \\|bias\\| | noise | µs |',
             '| --- | --- | ---: | ---: | ---: |']
    lines += [_line(row) for row in rows if row['problem'] == name]
    parts.append('\n'.join(lines) + '\n')
  return '\n'.join(parts)


def _line(row: dict[str, Any]) -> str:
  noise, length = row['variance']**0.5, row['gradient_norm']
  low, high = (x / length for x in row['bias_interval'])
  bias = (f'{_number(row["bias_norm"] / length)} ({_number(low)} to {_number(high)})'
          if row['biased'] else f'below {_number(high)}')
  cells = (f'`{row["name"]}`', 'biased' if row['declared_biased'] else 'unbiased', bias,
           _number(noise / length), f'{1e6 * row["seconds_per_step"]:.0f}')
  return f'| {" | ".join(cells)} |'


def _number(x: float) -> str:
  return '0' if abs(x) < 1e-4 else f'{x:.2g}'


def _rounded(value: Any) -> Any:
  """Numbers to four digits: what an audit is good for."""
  if isinstance(value, list):
    return [_rounded(x) for x in value]
  return float(f'{value:.4g}') if isinstance(value, float) else value
