"""Pieces of a self-contained page: style, script, tables that sort, pictures as data."""

import base64
import html
import pathlib
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light; --back: #fdfdfc; --text: #1d1d1f; --soft: #63636b; --line: #d8d8dc;
  --tint: #f2f2ef; --link: #0b57a4; --mark: #9a5b00; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { color-scheme: dark;
  --back: #17181a; --text: #e8e8ea; --soft: #a3a3ad; --line: #38393e; --tint: #212226;
  --link: #8ab8f0; --mark: #e0a84f; } }
:root[data-theme=dark] { color-scheme: dark; --back: #17181a; --text: #e8e8ea; --soft: #a3a3ad;
  --line: #38393e; --tint: #212226; --link: #8ab8f0; --mark: #e0a84f; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
section { scroll-margin-top: 6rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .3rem 0; }
h2 { font-size: 1.2rem; margin: 3rem 0 .5rem; padding-top: .8rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 2rem 0 .4rem; }
a { color: var(--link); } a, button, summary, input, .wide { border-radius: 3px; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: .5rem; }
.soft, figcaption { color: var(--soft); font-size: .88rem; }
.mark { color: var(--mark); font-size: .88rem; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; align-items: baseline; }
header p { margin: 0; flex: 1 1 20rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .92rem; }
.tools { position: sticky; top: 0; z-index: 2; background: var(--back); padding: .6rem 0;
  display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; font-size: .92rem;
  border-bottom: 1px solid var(--line); }
.tools input[type=search] { font: inherit; padding: .25rem .6rem; width: 15rem; max-width: 100%;
  color: inherit; background: var(--tint); border: 1px solid var(--soft); }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
.tools button { border: 1px solid var(--soft); padding: .2rem .7rem; }
.wide { overflow-x: auto; margin: .2rem 0 .8rem; position: relative; }
table { border-collapse: collapse; font-size: .92rem; }
.note { margin: .8rem 0 .2rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; } thead th { border-bottom: 1px solid var(--soft); }
tbody th { font-weight: 500; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
th.number { text-align: right; }
tr.beside { color: var(--soft); font-style: italic; }
th button { font-weight: inherit; } th button::after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " \\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: " \\2193"; color: inherit; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } img { max-width: 100%; height: auto; }
.pixels { image-rendering: pixelated; width: 17rem; border: 1px solid var(--line); }
summary { cursor: pointer; padding: .2rem 0; }
pre { overflow-x: auto; background: var(--tint); padding: .8rem; font-size: .82rem; }
[hidden] { display: none; }
@media (max-width: 40rem) { .tools { position: static; } h2 { margin-top: 2rem; } }
@media print { .tools, nav, .skip { display: none; } }
"""

SCRIPT = r"""
'use strict';
const clean = s => s.trim().replace(/\u2212/g, '-');
const number = s => {
  const m = clean(s).replace(/(\d),(?=\d{3})/g, '$1').match(/^-?\d+(\.\d*)?(e[-+]?\d+)?/i);
  return m ? parseFloat(m[0]) : NaN;
};
const cell = (row, i) => row.cells[i] ? row.cells[i].textContent : '';
function compare(a, b) {
  const x = number(a), y = number(b);
  if (!isNaN(x) && !isNaN(y)) return x - y;
  return clean(a).localeCompare(clean(b), 'en');
}
const empty = s => ['', '\u2013', '-'].includes(s.trim());
document.querySelectorAll('table.sorts th button').forEach(button => {
  button.addEventListener('click', () => {
    const head = button.closest('th'), table = head.closest('table'), i = head.cellIndex;
    const down = head.getAttribute('aria-sort') === 'ascending';
    table.querySelectorAll('th[aria-sort]').forEach(x => x.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const body = table.tBodies[0], rows = [...body.rows];
    // What is not there comes last either way.
    rows.sort((a, b) => (empty(cell(a, i)) - empty(cell(b, i))) ||
      (down ? -1 : 1) * compare(cell(a, i), cell(b, i)));
    rows.forEach(row => body.append(row));
  });
});
const field = document.querySelector('#filter'), count = document.querySelector('#count');
function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0, all = 0;
  document.querySelectorAll('section[data-experiment]').forEach(section => {
    const box = document.querySelector(`input[data-of="${section.id}"]`);
    section.hidden = Boolean(box) && !box.checked;
    section.querySelectorAll('[data-row]').forEach(x => {
      const text = (section.dataset.experiment + ' ' + x.dataset.row + ' ' +
        (x.cells ? x.textContent : '')).toLowerCase();
      x.hidden = !words.every(word => text.includes(word));
      if (x.cells) { all += 1; shown += !x.hidden && !section.hidden; }
    });
  });
  count.textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
}
if (field) {
  document.querySelector('.tools').hidden = false;
  field.addEventListener('input', filter);
  document.querySelectorAll('input[data-of]').forEach(x => x.addEventListener('change', filter));
  filter();
}
const theme = document.querySelector('#theme');
if (theme) theme.addEventListener('click', () => {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === 'dark';
  root.dataset.theme = dark ? 'light' : 'dark';
});
"""


def page(title: str, body: str, tools: str = '') -> str:
  """The whole page; title is escaped here, body and tools are HTML."""
  # Whatever slips in, nothing is loaded from anywhere.
  policy = ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'")
  bar = (f'<div class="tools" hidden>{tools}'
         '<button id="theme" type="button">light / dark</button></div>')
  return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><a class="skip" href="#main">to the results</a>
{bar}<main id="main">{body}</main><script>{SCRIPT}</script></body></html>
"""


def filters(sections: Sequence[tuple[str, str]]) -> str:
  """The field that filters rows and, of several experiments, a box for each (id, name)."""
  boxes = ''.join(f'<label><input type="checkbox" checked data-of="{html.escape(i)}"> '
                  f'{html.escape(name)}</label>' for i, name in sections)
  return ('<label>filter <input type="search" id="filter" placeholder="words: all must fit">'
          '</label>'
          '<span id="count" class="soft" role="status"></span>'
          + (boxes if len(sections) > 1 else ''))


def table(cells: Sequence[Sequence[str]], caption: str, *, sorts: bool = True) -> str:
  """A table of text, its head first; the first column names the rows.

  A name between asterisks is of something set beside: a baseline.
  """
  head, *body = cells
  numeric = [all(_numeric(row[i]) for row in body) for i in range(len(head))]
  columns = ''.join(
    f'<th scope="col"{_class(n)}>' + (f'<button type="button">{html.escape(c)}</button>' if sorts
                                     else html.escape(c)) + '</th>'
    for c, n in zip(head, numeric, strict=True))
  rows = []
  for first, *rest in body:
    beside = ' class="beside"' if first.startswith('*') else ''
    name = html.escape(first.strip('*'))
    rows.append(f'<tr data-row="{name}"{beside}><th scope="row">{name}</th>' + ''.join(
      f'<td{_class(n)}>{html.escape(c)}</td>' for c, n in zip(rest, numeric[1:], strict=True))
      + '</tr>')
  text = html.escape(caption)
  # The note stands outside the box that scrolls, to be read on a narrow screen too.
  return (f'<p class="soft note">{text}</p><div class="wide" tabindex="0" role="region" '
          f'aria-label="table: {text}"><table class="{"sorts" if sorts else ""}">'
          f'<caption class="unseen">{text}</caption><thead><tr>{columns}</tr></thead>'
          f'<tbody>{"".join(rows)}</tbody></table></div>')


def _numeric(text: str) -> bool:
  return text in ('', '–', '-') or (text.lstrip('−-')[:1].isdigit() and '(' not in text)


def _class(numeric: bool) -> str:
  return ' class="number"' if numeric else ''


def image(path: pathlib.Path, css: str, caption: str) -> str:
  """A PNG as data with its caption."""
  data = base64.b64encode(path.read_bytes()).decode()
  text = html.escape(caption)
  return (f'<figure><img class="{css}" alt="{text}" src="data:image/png;base64,{data}">'
          f'<figcaption>{text}</figcaption></figure>')


def folded(summary: str, body: str) -> str:
  """What is shown when asked for."""
  return f'<details><summary>{html.escape(summary)}</summary>{body}</details>'


def markdown(cells: Sequence[Sequence[str]]) -> str:
  """The same table as Markdown."""
  head, *body = ([c.replace('|', '\\|').replace('\n', ' ') for c in row] for row in cells)
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *body))
