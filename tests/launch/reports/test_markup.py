"""What a page is made of: elements that escape, a policy that names the page's own script."""

import base64
import hashlib
import html.parser
import re

import pytest

from launch.reports import markup, run_page
from launch.reports.markup import tag

EVIL = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)",
        '&lt;b&gt;', '</title></style><script>', '\x00<', ']]>', '{{7*7}}', 'javascript:alert(1)']


class Parsed(html.parser.HTMLParser):
  """Elements with their attributes, and all text outside of style and script."""

  def __init__(self, page):
    super().__init__()
    self.elements, self.text, self._open = [], [], []
    self.feed(page)

  def handle_starttag(self, name, attributes):
    self.elements.append((name, dict(attributes)))
    self._open.append(name)

  def handle_endtag(self, name):
    del name
    self._open.pop()

  def handle_data(self, data):
    if self._open[-1:] not in (['script'], ['style']):
      self.text.append(data)


@pytest.mark.parametrize('evil', EVIL)
def test_text_and_attributes_stay_what_they_are(evil):
  parsed = Parsed(markup.render(tag('p', evil, tag('b', [evil, None, [evil]]), title=evil)))
  assert parsed.elements == [('p', {'title': evil}), ('b', {})]
  assert ''.join(parsed.text) == 3 * evil


@pytest.mark.parametrize('make', [
  lambda: tag('a', href='https://example.org'), lambda: tag('a', href='javascript:alert(1)'),
  lambda: tag('img', src='data:text/html,x'), lambda: tag('img', src='picture.png'),
  lambda: tag('p', onclick='alert(1)'), lambda: tag('p', style='x'), lambda: tag('script', 'x'),
  lambda: tag('style', 'x'), lambda: tag('p onclick=x'), lambda: tag('p', **{'a b': 'c'})])
def test_nothing_that_runs_or_leads_away_can_be_made(make):
  with pytest.raises(ValueError, match='page'):
    make()


def test_the_policy_lets_the_style_and_script_of_the_page_run_and_nothing_else():
  page = markup.page('a', tag('p', 'b'))
  policy, = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
  policy = html.unescape(policy)
  assert 'unsafe' not in policy and "default-src 'none'" in policy
  for name in ('script', 'style'):
    content, = re.findall(f'<{name}>(.*?)</{name}>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{name}-src 'sha256-{digest}'" in policy


def test_only_a_png_becomes_a_picture(tmp_path):
  with pytest.raises(ValueError, match='PNG'):
    markup.image(b'ssh-rsa AAAA', '', 'a key')
  (tmp_path / 'key').write_text('ssh-rsa AAAA')
  (tmp_path / 'a.png').symlink_to('key')
  for name in ('a.png', 'key', 'nothing.png'):
    shown = markup.render(markup.image_of(tmp_path / name, '', 'a picture'))
    assert 'left out' in shown and 'AAAA' not in shown and base64.b64encode(
      b'ssh-rsa').decode()[:8] not in shown


def test_a_table_marks_the_best_counts_rows_and_sets_baselines_apart():
  page = markup.render(markup.table([['model', 'nats'], ['a', '−1.5'], ['*b*', '−3']], 'of digits',
                                    rows=True, best={(1, 1)}))
  assert page.count('data-row') == 2 and page.count('class="beside"') == 1
  assert '<td class="number best"><strong>−1.5</strong>' in page and '>b</th>' in page
  assert page.count('of digits') == 3


@pytest.mark.parametrize('count, text', [(0, '0 runs'), (1, '1 run'), (2000, '2,000 runs')])
def test_plurals(count, text):
  assert markup.plural(count, 'run') == text


def test_markdown_escapes_what_would_break_a_table():
  assert markup.markdown([['a'], ['x|y\nz']]).splitlines()[-1] == '| x\\|y z |'


def test_columns_that_are_the_same_in_all_rows_are_said_once():
  cells = [['model', 'test nats', 'kind', 'seeds', 'updates', 'published'],
           ['a', '−1.00', 'bracket', '3', '10', '–'], ['b', '−1.00', 'bracket', '3', '20', '–'],
           ['*independent pixels*', '−9.00', 'exact', '–', '–', '–']]
  shown, same = run_page.common(cells)
  assert shown[0] == ['model', 'test nats', 'kind', 'updates', 'published']
  assert same == 'The same in all rows: seeds 3.'
  assert run_page.common([cells[0], cells[1], cells[3]])[0] == [cells[0], cells[1], cells[3]]


def test_a_wide_table_loses_its_least_important_columns():
  head = ['model', 'test nats', 'kind', 'standard error', 'ESS', 'first score', 'second score',
          'seeds', 'updates', 'seconds', 'on', 'published']
  shown, = run_page.narrow([head])
  assert shown == ['model', 'test nats', 'kind', 'first score', 'second score', 'seeds', 'seconds',
                   'published']
  assert run_page.narrow([head[:7]]) == [head[:7]]
