"""Pages as trees of elements that escape whatever they are given.

A page is built of `tag(name, *children, **attributes)` and text, never of strings of HTML: text and
the values of attributes are escaped by `render`, so a name that comes from a run directory stays a
name. The page carries its own style and script and a policy that lets nothing else run: both are
named there by their hash, so script that got into the page by any other way is not executed, and
nothing is loaded from or sent to anywhere.
"""

import base64
import hashlib
import html
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from gen_models import files

STYLE = """
:root { color-scheme: light; --back: #fdfdfc; --text: #1d1d1f; --soft: #63636b; --line: #d8d8dc;
  --tint: #f2f2ef; --link: #0b57a4; --mark: #9a5b00; --shade: #00000038; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { color-scheme: dark;
  --back: #17181a; --text: #e8e8ea; --soft: #a3a3ad; --line: #38393e; --tint: #212226;
  --link: #8ab8f0; --mark: #e0a84f; --shade: #ffffff48; } }
:root[data-theme=dark] { color-scheme: dark; --back: #17181a; --text: #e8e8ea; --soft: #a3a3ad;
  --line: #38393e; --tint: #212226; --link: #8ab8f0; --mark: #e0a84f; --shade: #ffffff48; }
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
.wide { overflow-x: auto; margin: .2rem 0 .8rem; position: relative; max-width: max-content;
  background:
    linear-gradient(to right, var(--back) 40%, transparent) left / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--back) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 1rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.more { color: var(--mark); font-size: .88rem; margin: 0; }
table { border-collapse: collapse; font-size: .92rem; }
td.best strong::after { content: " \\2605"; color: var(--mark); }
.side { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; align-items: flex-start; }
.side > * { min-width: 0; max-width: 100%; } .side > figure { flex: 1 1 21rem; max-width: 42rem; }
.side > figure:has(.many) { flex-basis: 40rem; max-width: 66rem; }
.side > figure > img { width: 100%; }
.note { margin: .8rem 0 .2rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
td, th { padding: .3rem 1.1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
thead th { border-bottom: 1px solid var(--soft); white-space: normal; vertical-align: bottom;
  max-width: 10rem; min-width: 4rem; overflow-wrap: normal; }
tbody th { font-weight: 500; white-space: normal; max-width: 21rem; overflow-wrap: break-word; }
td.text { white-space: normal; min-width: 11rem; max-width: 19rem; overflow-wrap: break-word; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
th.number { text-align: right; }
tr.beside { color: var(--soft); font-style: italic; }
th button { font-weight: inherit; text-align: inherit; }
th button::after { content: "\\a0\\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; color: inherit; }
.pictures { display: grid; gap: 1rem 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
figure { margin: 0; max-width: 100%; } img { max-width: 100%; height: auto; }
.pixels { image-rendering: pixelated; width: 100%; border: 1px solid var(--line); }
.title { font-weight: 600; margin-bottom: .2rem; }
summary { cursor: pointer; padding: .2rem 0; }
pre { overflow-x: auto; background: var(--tint); padding: .8rem; font-size: .82rem; }
[hidden] { display: none; }
@media (max-width: 40rem) { .tools { position: static; } h2 { margin-top: 2rem; }
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .8rem; }
  tbody th { white-space: normal; min-width: 8rem; max-width: 11rem; } }
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
      if (x.cells && !x.classList.contains('beside')) {
        all += 1; shown += !x.hidden && !section.hidden;
      }
    });
  });
  count.textContent = shown === all ? `${all} configurations` : `${shown} of ${all} configurations`;
}
if (field) {
  field.addEventListener('input', filter);
  document.querySelectorAll('input[data-of]').forEach(x => x.addEventListener('change', filter));
  filter();
}
document.querySelector('.tools').hidden = false;
// A table that is wider than its place says so.
function hints() {
  document.querySelectorAll('.wide').forEach(box => {
    let note = box.nextElementSibling;
    if (!note || note.className !== 'more') {
      note = document.createElement('p');
      note.className = 'more';
      note.textContent = 'The table continues to the right: scroll it sideways. \u2192';
      box.after(note);
    }
    note.hidden = box.scrollWidth <= box.clientWidth + 1;
  });
}
addEventListener('resize', hints);
document.querySelectorAll('details').forEach(x => x.addEventListener('toggle', hints));
hints();
const theme = document.querySelector('#theme');
if (theme) theme.addEventListener('click', () => {
  const root = document.documentElement, dark = getComputedStyle(root).colorScheme === 'dark';
  root.dataset.theme = dark ? 'light' : 'dark';
});
"""


class Element(NamedTuple):
  """An element of a page; `tag` makes it, `render` writes it."""

  name: str
  attributes: tuple[tuple[str, str], ...]
  children: tuple['Node', ...]


Node: TypeAlias = 'Element | str | None | Iterable[Node]'
_NAME = re.compile(r'[a-z][a-z0-9-]*')
_EMPTY = ('br', 'img', 'input', 'link', 'meta')
_LONG = 20  # characters of text that may be broken into lines
_PNG = 'data:image/png;base64,'


def tag(name: str, /, *children: Node, **attributes: str | bool | None) -> Element:
  """<name attribute="value">children</name>.

  Args:
    name: of the element.
    *children: text, elements, lists of either; None is nothing.
    **attributes: an underscore stands for a dash, and class_ for class; False and None leave the
      attribute out, True is one without a value.

  Raises:
    ValueError: a link that leads away from the page, or a name that is none in HTML.
  """
  given = []
  for key, value in attributes.items():
    key = key.rstrip('_').replace('_', '-')
    if value is None or value is False:
      continue
    value = '' if value is True else str(value)
    if key in ('href', 'src') and not value.startswith(('#', _PNG, 'data:,')):
      raise ValueError(f'{key}={value[:40]!r} leads away from the page')
    if not _NAME.fullmatch(key) or key.startswith('on') or key == 'style':
      raise ValueError(f'no attribute of a page: {key!r}')
    given.append((key, value))
  if not _NAME.fullmatch(name) or name in ('script', 'style'):
    raise ValueError(f'no element of a page: {name!r}')
  return Element(name, tuple(given), children)


def render(node: Node) -> str:
  """HTML of a tree, all text in it escaped."""
  if node is None:
    return ''
  if isinstance(node, str):
    return html.escape(node)
  if not isinstance(node, Element):
    return ''.join(map(render, node))
  start = node.name + ''.join(f' {key}="{html.escape(value)}"' for key, value in node.attributes)
  if node.name in _EMPTY:
    return f'<{start}>'
  return f'<{start}>{"".join(map(render, node.children))}</{node.name}>'


def _hash(content: str) -> str:
  digest = hashlib.sha256(content.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"


def page(title: str, body: Node, tools: Node = None) -> str:
  """The whole page as a file.

  Args:
    title: of the window.
    body: everything that is read.
    tools: what stands in the bar above it beside the switch between light and dark.
  """
  policy = (f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; "
            f"script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'")
  head = render([
    tag('meta', charset='utf-8'),
    tag('meta', http_equiv='Content-Security-Policy', content=policy),
    tag('title', title), tag('link', rel='icon', href='data:,'),
    tag('meta', name='viewport', content='width=device-width, initial-scale=1')])
  shown = render([
    tag('a', 'to the results', class_='skip', href='#main'),
    tag('div', tools, tag('button', 'light / dark', id='theme', type='button'),
        class_='tools', hidden=True),
    tag('main', body, id='main')])
  # The two strings of this file, and nothing else, are written as they stand.
  return (f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n'
          f'<body>{shown}<script>{SCRIPT}</script></body></html>\n')


def filters(sections: Sequence[tuple[str, str]]) -> Node:
  """The field that filters rows and, of several experiments, a box for each (id, name)."""
  boxes = [tag('label', tag('input', type='checkbox', checked=True, data_of=ident), ' ', name)
           for ident, name in sections]
  return [tag('label', 'Show rows with ', tag('input', type='search', id='filter',
                                              placeholder='every word typed here')),
          tag('span', id='count', class_='soft', role='status'),
          boxes if len(boxes) > 1 else None]


def table(cells: Sequence[Sequence[str]], caption: str, *, sorts: bool = True,
          rows: bool = False, best: Collection[tuple[int, int]] = ()) -> Node:
  """A table of text, its head first; the first column names the rows.

  Args:
    cells: of text. A row whose name stands between asterisks is set beside the others: a baseline.
    caption: what the numbers are of.
    sorts: whether a click on a head sorts.
    rows: whether the filter of the page hides and counts rows.
    best: (row, column) of cells that are the best of their column, the head being row 0.
  """
  head, *body = cells
  numeric = [all(_numeric(row[i]) for row in body) for i in range(len(head))]

  def cell(i, j, text):
    number = 'number' if numeric[j] else 'text' if len(text) > _LONG else None
    if (i, j) not in best:
      return tag('td', text, class_=number)
    return tag('td', tag('strong', text), tag('span', ' best', class_='unseen'),
               class_=f'{number or ""} best'.strip())

  columns = [tag('th', tag('button', c, type='button') if sorts else c, scope='col',
                 class_=n and 'number') for c, n in zip(head, numeric, strict=True)]
  lines = [tag('tr', tag('th', first.strip('*'), scope='row'),
               [cell(i, j, c) for j, c in enumerate(rest, 1)],
               data_row=first.strip('*') if rows else None,
               class_='beside' if first.startswith('*') else None)
           for i, (first, *rest) in enumerate(body, 1)]
  # The note stands outside the box that scrolls, to be read on a narrow screen too.
  return [
    tag('p', caption, class_='soft note'),
    tag('div', tag('table', tag('caption', caption, class_='unseen'),
                   tag('thead', tag('tr', columns)), tag('tbody', lines),
                   class_='sorts' if sorts else None),
        class_='wide', tabindex='0', role='region', aria_label=f'table: {caption}')]


def _numeric(text: str) -> bool:
  return text in ('', '–', '-') or (text.lstrip('−-')[:1].isdigit() and '(' not in text)


def image(content: bytes, css: str, caption: str, title: Node = None) -> Node:
  """A PNG as data with its caption below it, or with `title` above it instead.

  Raises:
    ValueError: the bytes are no PNG.
  """
  if not content.startswith(b'\x89PNG\r\n\x1a\n'):
    raise ValueError(f'not a PNG: {caption}')
  return tag('figure', tag('div', title, class_='title') if title else None,
             tag('img', class_=css or None, alt=caption,
                 src=_PNG + base64.b64encode(content).decode()),
             None if title else tag('figcaption', caption))


def image_of(path: pathlib.Path, css: str, caption: str, title: Node = None,
             largest: int = 4_000_000) -> Node:
  """`image` of a regular file; a line that says why where it cannot be shown."""
  try:
    return image(files.read_bytes(path, largest), css, caption, title)
  except (OSError, ValueError) as e:
    return tag('p', f'{caption}: the picture is left out ({e})', class_='mark')


def folded(summary: str, *body: Node) -> Element:
  """Content that is folded until it is opened."""
  return tag('details', tag('summary', summary), *body)


def plural(count: int, one: str, several: str | None = None) -> str:
  """'1 run', '2 runs', '1,000 runs'."""
  return f'{count:,} {one if count == 1 else several or one + "s"}'


def first_paragraph(doc: str | None) -> str:
  """The first sentence of a docstring, on one line of bounded length."""
  return ' '.join((doc or '').strip().split('\n\n')[0].split())[:1000]


def markdown(cells: Sequence[Sequence[str]]) -> str:
  """The same table as Markdown."""
  head, *body = ([c.replace('|', '\\|').replace('\n', ' ') for c in row] for row in cells)
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *body))
