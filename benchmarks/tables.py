"""Makes benchmarks/README.md of the measurements in benchmarks/results/.

  python -m benchmarks.rbm --json=benchmarks/results/rbm-mine.json
  python -m benchmarks.tables

A measurement is what a benchmark writes with --json: machine, versions, command, and of every
contender the median, the least and the greatest seconds. `transcribed` says of one that its JSON
was written later than it was measured, and from what.
"""

import ast
import json
import pathlib
from collections.abc import Callable

from absl import app

from gen_models import files

HERE = pathlib.Path(__file__).parent
RESULTS, README = HERE / 'results', HERE / 'README.md'
_ORDER = ('rbm', 'vae', 'gan', 'discrete', 'gan_grid', 'evaluation', 'target', 'seeds', 'start',
          'memory', 'growth', 'accelerator')  # what is not among them comes last
_TITLES = {'profile': 'Where an update spends its time.'}
_HEAD = """# Speed

Made by `python -m benchmarks.tables` from `benchmarks/results/`; `make bench` measures anew, and
`--json=benchmarks/results/NAME.json` of a benchmark adds to this page.

Times are medians over interleaved rounds of one process; in brackets the least and the greatest,
where they were kept. × says how many times longer something takes than ours. *The products alone*
are the matrix products of the same work with none of the work around them, in the fastest of XLA,
NumPy's BLAS and torch. *Peak memory* is by how much ours raises the memory that the process holds.
Times of one table were taken on one machine; across tables they do not compare.
"""


def load() -> list[dict]:
  """Every measurement, those of one benchmark together."""
  found = [json.loads(path.read_text(encoding='utf-8')) for path in sorted(RESULTS.glob('*.json'))]
  return sorted(found, key=lambda m: (
    _ORDER.index(m['benchmark']) if m['benchmark'] in _ORDER else len(_ORDER)))


def document(measurements: list[dict]) -> str:
  """The whole page."""
  parts, before = [_HEAD.strip()], None
  for m in measurements:
    if m['benchmark'] != before:
      parts.append(f'## {m["benchmark"]}\n\n{title(m["benchmark"])}')
      before = m['benchmark']
    shown = next(show for field, show in _SHOW.items() if field in m)
    parts += [_about(m), shown(m), *m.get('remarks', [])]
  return '\n\n'.join(parts) + '\n'


def title(benchmark: str) -> str:
  """The first line of a benchmark's docstring, which is read, not run."""
  path = HERE / f'{benchmark}.py'
  if not path.exists():
    return _TITLES.get(benchmark, '')
  return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))).splitlines()[0]


def _about(m: dict) -> str:
  """Machine, versions, protocol and command of a measurement, in two lines."""
  env = m['environment']
  machine = env.get('machine') or f'{env["cpu"]}, {env["cores"]} cores, jax on {env["device"]}'
  versions = ', '.join(f'{name} {version}' for name, version in env.get('versions', {}).items())
  busy = env.get('busy')
  if busy is not None and busy > 0.3 * env['cores']:
    machine += f', {busy:.1f} of them in use before by other work'
  noted = f' Transcribed from {m["transcribed"]}.' if m.get('transcribed') else ''
  return (f'**{machine}**' + (f'; {versions}' if versions else '') + f'. `{m["command"]}`: '
          f'{m["protocol"]}.{noted}')


def table(m: dict) -> str:
  """A row for each task, in Markdown: ours, the products alone, the peers, the peak memory."""
  ours = m.get('ours', 'ours')
  lines = [['', ours, 'the products alone', 'ours to them', 'others, and their ratio to ours',
            'peak memory']]
  for task, found in m['tables'].items():
    mine = found.get(ours, {})
    floors = {name: row for name, row in found.items() if name.startswith('floor')}
    fastest = min(floors, key=lambda name: floors[name]['median'], default=None)
    others = [f'{name} {cell(row, mine)}' for name, row in found.items()
              if name != ours and name not in floors]
    lines.append([
      task, cell(mine) if mine else '',
      f'{cell(floors[fastest])}{_library(fastest)}' if fastest else '',
      f'{mine["median"] / floors[fastest]["median"]:.2f}' if fastest else '',
      '; '.join(others), _bytes(mine['peak']) if mine.get('peak') is not None else ''])
  used = [i for i, column in enumerate(zip(*lines, strict=True)) if i == 0 or any(column[1:])]
  return _markdown([[line[i] for i in used] for line in lines])


def cell(row: dict, ours: dict | None = None) -> str:
  """214 ms [210, 220], 2.00×: the median, the range, and the ratio to ours."""
  if 'value' in row:
    return row['value']
  if 'median' not in row:
    low, high = (_time(row[end]) for end in ('min', 'max'))
    return f'{low} to {high}'
  text = _time(row['median'])
  if 'min' in row:
    scale = row['median'] / float(text.split()[0])
    text += f' [{row["min"] / scale:.3g}, {row["max"] / scale:.3g}]'
  return text + (f', {row["median"] / ours["median"]:.2f}×' if ours and 'median' in ours else '')


def memory(m: dict) -> str:
  """A row for each work of which a number grows: bytes at each, in Markdown."""
  times = list(next(iter(m['memory'].values())))
  return _markdown([['', *times, 'growth of the last step']] + [
    [task, *(f'{_bytes(row["bytes"])} ({row["count"]:,})' for row in found.values()),
     f'{found[times[-1]]["bytes"] / max(found[times[-2]]["bytes"], 1):.2g}×']
    for task, found in m['memory'].items()])


def curves(m: dict) -> str:
  """t(n) = a + b n: a row for each work of which a number grows, in Markdown, and the picture."""
  lines = [['', 'least', 'greatest', 'a', 'b', 'a / b', 'farthest point from the fit']]
  for task, found in m['curves'].items():
    ends = [found['points'][i] for i in (0, -1)]
    lines.append([task, *(f'{p["count"]:,}: {cell(p)}' for p in ends), _time(found['fixed']),
                  _time(found['each']),
                  f'{found["fixed"] / found["each"]:,.0f}' if found['each'] else '',
                  f'{found["worst"]:.0%}'])
  picture = '![Time of an update against batch, width, chains and devices](results/growth.png)'
  return f't(n) = a + b n, fitted.\n\n{_markdown(lines)}\n\n{picture}'


def weak_scaling(m: dict) -> str:
  """t(n) = t(1) + 2 (n - 1) / n S / r: a row for each number of devices, in Markdown.

  t(1) is an update of a batch on one device, S the bytes of the one sum of a step, r the rate of
  the link; a ring sends 2 (n - 1) / n S through each link, after the update and not beside it.
  """
  g = m['growth']
  alone, size, lines = g['update_seconds'], g['all_reduce_bytes'], [
    ['devices', 'link', 'update', 'sum over devices', 'weak-scaling efficiency',
     'update that makes it 90 %']]
  for link in g['links']:
    n = link['devices']
    sent = 2 * (n - 1) / n * size / link['bytes_a_second']
    lines.append([f'{n:,}', link['name'], _time(alone), _time(sent),
                  f'{alone / (alone + sent):.0%}', _time(9 * sent)])
  return ('t(n) = t(1) + 2 (n - 1) / n · S / r, with '
          f't(1) = {_time(alone)} for {g["batch"]} rows a device, S = {_bytes(size)}.\n\n'
          + _markdown(lines))


def _library(floor: str) -> str:
  """' (jax)' of 'floor: jax', ' (XLA)' of 'floor: the products alone, XLA'."""
  name = floor.removeprefix('floor: ').removeprefix('the products alone').removeprefix(', ')
  return f' ({name})' if name else ''


def _bytes(number: float) -> str:
  """Three digits in the unit that suits them."""
  unit, scale = ('GB', 1e9) if number >= 1e9 else ('MB', 1e6) if number >= 1e6 else ('kB', 1e3)
  return f'{number / scale:.3g} {unit}'


def rows(m: dict) -> str:
  """A row for each task that benchmarks.accelerator measured, in Markdown, and what is missing."""
  best = {r['precision']: r['flop'] / r['median'] for r in m['rows'] if r['part'] == 'rates'}
  timed = [['task', 'time', 'products alone', 'ratio', 'TFLOP/s', 'of the large product']]
  held = [['program', 'temporary memory']]
  for r in m['rows']:
    if r['bytes'] is not None:
      held.append([r['task'], f'{r["bytes"] / 1e6:.3g} MB'])
      continue
    rate = r['flop'] / r['median'] if r['flop'] else None
    known = rate is not None and r['precision'] in best
    timed.append([
      r['task'], _seconds(r), _time(r['floor']) if r['floor'] else '',
      f'{r["median"] / r["floor"]:.2f}' if r['floor'] else '',
      f'{rate / 1e12:.3g}' if rate is not None else '',
      f'{rate / best[r["precision"]]:.0%}' if known else ''])
  parts = [_markdown(lines) for lines in (timed, held) if len(lines) > 1]
  if m['missing']:
    parts.append('Not measured: ' + '; '.join(
      f'{name}, {why}' for name, why in m['missing'].items()) + '.')
  return '\n\n'.join(parts)


_SHOW: dict[str, Callable[[dict], str]] = {
  'tables': table, 'memory': memory, 'curves': curves, 'growth': weak_scaling, 'rows': rows}


def _seconds(r: dict) -> str:
  return f'{_time(r["median"])} [{_time(r["low"])}, {_time(r["high"])}]'


def _time(seconds: float) -> str:
  """Three digits in the unit that suits them."""
  unit, scale = (('s', 1) if seconds >= 1 else ('ms', 1e3) if seconds >= 1e-3 else ('µs', 1e6))
  return f'{scale * seconds:.3g} {unit}'


def _markdown(lines: list[list[str]]) -> str:
  lines = [lines[0], ['---'] * len(lines[0]), *lines[1:]]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  files.write_text(README, document(load()))
  print(README)


if __name__ == '__main__':
  app.run(main)
